"""What one check comes to: findings, fine, not to be read here, or of something that the node does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from bench.doctor.view import DeviceView

State = Literal["finding", "fine", "unread", "absent"]
Why = Literal[
    "not-reported", "not-shown", "no-permission", "no-reading", "hidden"
]  # keys of the area "unread" of the catalogue
Values = dict[str, str]
Judgement = list[Values] | Why | Literal["absent"]  # of one device; an empty list: it is fine


class CheckCase(NamedTuple):
    """One finding, before it is put together with equal ones of other devices."""

    values: Values
    device: str | None = None  # None: the node
    counts_0: bool | None = None  # None: as the row says


class Outcome(NamedTuple):
    """The result of a check on one node."""

    state: State
    cases: tuple[CheckCase, ...] = ()
    why: Why | None = None  # it cannot be read


FINE, ABSENT = Outcome("fine"), Outcome("absent")


def unread(why: Why) -> Outcome:
    """Return that a check cannot be made here."""
    return Outcome("unread", why=why)


def findings(cases: Iterable[CheckCase]) -> Outcome:
    """Return some findings; fine where there are none."""
    known = tuple(cases)
    return Outcome("finding", known) if known else FINE


def one_finding(is_wrong: bool, **values: object) -> Outcome:
    """Return one finding of the node, or that it is fine."""
    return findings([CheckCase({name: str(value) for name, value in values.items()})] if is_wrong else [])


def over_devices(
    devices: Iterable[DeviceView], judge: Callable[[DeviceView], Judgement], counts_0: bool | None = None
) -> Outcome:
    """Return what a check comes to over devices: a finding of any goes before what cannot be read of others.

    Args:
        devices: of the node.
        judge: says what of one device.
        counts_0: whether a finding makes the device count 0; None: as the row says.
    """
    cases, whys, fine = [], [], False
    for one in devices:
        judged = judge(one)
        if isinstance(judged, list):
            fine = fine or not judged
            cases += [CheckCase(values, one.name, counts_0) for values in judged]
        elif judged != "absent":
            whys.append(judged)
    if cases:
        return findings(cases)
    # A device of which nothing can be read must not pass as fine because its neighbour is.
    return unread(whys[0]) if whys else FINE if fine else ABSENT
