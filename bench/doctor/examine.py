"""All checks of one node, and their results as one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.doctor.device_checks import DEVICE_CHECKS
from bench.doctor.host_checks import HOST_CHECKS
from bench.doctor.outcomes import CheckCase, Outcome
from bench.doctor.setup_checks import SETUP_CHECKS
from bench.doctor.table import doctor_table
from bench.doctor.view import NodeView
from bench.errors import one_line
from bench.record.status import DoctorFinding, Examination

NodeCheck = Callable[[NodeView], Outcome]
COUNTS = "counts"  # the check that the verifier's own rules make beforehand: a finding of it is named by its code
MOST_VALUE = 300  # letters of one value: texts of drivers and of the system are among them


def row_id(check: Callable[..., object]) -> str:
    """Return the row of a check in the table."""
    return check.__name__.replace("_", "-")


CHECKS: Mapping[str, NodeCheck] = {row_id(check): check for check in (*DEVICE_CHECKS, *HOST_CHECKS, *SETUP_CHECKS)}
# One machine may play many nodes of scripted devices: what it is itself says nothing of them.
OF_THE_HOST = frozenset(map(row_id, HOST_CHECKS)) | {"kernel-log", "python-path", "shadowed"}


def examine(view: NodeView, without: frozenset[str] = frozenset()) -> Examination:
    """Return the results of all checks on a node.

    Args:
        view: the node as it was read.
        without: checks that are left out.
    """
    table = doctor_table().checks
    outcomes = {check: ask(view) for check, ask in CHECKS.items() if check not in without}
    return Examination(
        findings=(
            *_by_code(view),
            *(
                finding
                for check, outcome in outcomes.items()
                for finding in _together(check, outcome.cases, table[check].moves == "zero")
            ),
        ),
        fine=(
            *([COUNTS] if view.against and not any(view.against.values()) else []),
            *(check for check, outcome in outcomes.items() if outcome.state == "fine"),
        ),
        unread={check: outcome.why for check, outcome in outcomes.items() if outcome.why is not None},
        absent=tuple(check for check, outcome in outcomes.items() if outcome.state == "absent"),
    )


def _together(check: str, cases: tuple[CheckCase, ...], counts_0: bool) -> list[DoctorFinding]:
    """Return the findings of a check, those of all devices with equal values as one."""
    alike: dict[tuple[object, ...], list[CheckCase]] = {}
    for case in cases:
        alike.setdefault((*sorted(case.values.items()), case.counts_0), []).append(case)
    return [
        DoctorFinding(
            check,
            {name: one_line(value, MOST_VALUE) for name, value in same[0].values.items()},
            tuple(case.device for case in same if case.device is not None),
            counts_0 if same[0].counts_0 is None else same[0].counts_0,
        )
        for same in alike.values()
    ]


def _by_code(view: NodeView) -> list[DoctorFinding]:
    """Return the codes that will keep figures from counting, each with its devices."""
    devices: dict[str, list[str]] = {}
    for name, codes in (view.against or {}).items():
        for code in codes:
            devices.setdefault(code, []).append(name)
    return [DoctorFinding(code, {}, tuple(names), counts_0=True) for code, names in devices.items()]
