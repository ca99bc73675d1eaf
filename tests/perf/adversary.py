"""Tricks for a higher figure that is not true, tried on the device, and what the harness and the rules said of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from bench.record import Precision
from bench.units import rate_text
from tests.perf import intruder, tricks
from tests.perf.rig import Part, Setup, alone
from tests.perf.tricks import Seen

ALL: tuple[Precision, ...] = ("fp16", "bf16", "fp32", "fp64")
WRONG = ("wrong-product", "operands-not-random")


class Trick(NamedTuple):
    """One trick: it is caught by any of the codes that are wanted."""

    name: str
    tried: str
    wanted: tuple[str, ...]
    run: Callable[[Setup], Seen]
    precisions: tuple[Precision, ...] = ALL


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One trick and its outcome: caught, missed, no-effect or not-tried."""

    name: str
    tried: str
    outcome: str
    seen: Seen


class Adversary(Part, frozen=True, kw_only=True):
    """All tricks beside the honest figure."""

    honest_mflop_s: int
    honest_codes: dict[str, str]
    told: tuple[Told, ...]

    @property
    def missed(self) -> list[str]:
        """The tricks that had an effect and went uncaught."""
        return [told.name for told in self.told if told.outcome == "missed"]


def measure(setup: Setup) -> Adversary:
    """Try every trick that is one in the precision."""
    honest = alone(tricks.honestly, setup)
    told = [_told(trick, setup) for trick in TRICKS if setup.precision in trick.precisions]
    lines = [f"honest, {setup.precision} {honest.text()}; the rules say {_codes(honest.codes)}"]
    for one in told:
        seen, rate = one.seen, one.seen.rate_mflop_s
        beside = "" if rate is None else f" {rate_text(rate)}, {rate / honest.rate:.2f} of honest;"
        more = {code: effect for code, effect in seen.codes.items() if code not in honest.codes}
        said = seen.not_tried or f"{seen.said or 'the rules add'} {_codes(more)}"
        lines.append(f"  {one.name}: {one.tried};{beside} {said} -> {one.outcome.upper().replace('-', ' ')}")
    return Adversary(
        part="adversary",
        precision=setup.precision,
        lines=tuple(lines),
        honest_mflop_s=honest.rate,
        honest_codes=honest.codes,
        told=tuple(told),
    )


def _told(trick: Trick, setup: Setup) -> Told:
    try:
        seen = alone(trick.run, setup)
    except Exception as error:  # a library or a device that cannot do it, said as it is
        seen = Seen(not_tried=f"{type(error).__name__}: {error}")
    if seen.not_tried:
        outcome = "not-tried"
    elif set(trick.wanted) & set(seen.codes):
        outcome = "caught"
    else:
        outcome = "no-effect" if seen.without_effect else "missed"
    return Told(name=trick.name, tried=trick.tried, outcome=outcome, seen=seen)


def _codes(codes: dict[str, str]) -> str:
    return ", ".join(f"{code} ({effect})" for code, effect in codes.items() if effect != "note") or "nothing"


TRICKS: tuple[Trick, ...] = (
    Trick("zeros", "operands are zeros", WRONG, tricks.zeros),
    Trick("ones", "operands are ones", WRONG, tricks.ones),
    Trick("hidden zeros", "zeros, and no check on the host", ("operands-not-random",), tricks.hidden_zeros),
    Trick("FP64 through FP32", "operands are cast", ("wrong-product",), tricks.fp64_through_fp32, ("fp64",)),
    Trick(
        "reduced precision",
        "torch's own switches are turned on",
        ("reduced-precision-switch", "reduced-precision-reduction", "wrong-product"),
        tricks.torch_switch,
        ("fp16", "bf16", "fp32"),
    ),
    Trick("foreign load before", "another process computes at first", ("device-busy",), intruder.foreign_before),
    Trick("foreign load", "another process computes in the window", ("foreign-process",), intruder.foreign_during),
    Trick("emulation", "a variable enables it", ("emulation-enabled",), tricks.emulation_variable, ("fp64",)),
    Trick(
        "emulation past the refusal",
        "cuBLAS is told to emulate FP64",
        ("reduced-precision-switch", "wrong-product"),
        tricks.emulation_in_library,
        ("fp64",),
    ),
)
