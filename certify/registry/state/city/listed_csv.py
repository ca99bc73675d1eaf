"""A city's lists as CSV (RFC 4180)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.units import MFLOP_PER_UNIT, ratio_ppm
from certify.registry.api.reached import Reached, ReachedLine, Trend, TrendPoint
from certify.registry.state.feeds.sheets import csv_lines

_REACHED = (
    *("policy", "condition", "target", "target_unit", "list", "centre_id", "project_id", "statement", "level"),
    *("verdict", "reason", "basis", "basis_verdict", "basis_reason", "observed_mflop_s", "reached_ppm", "rehearsal"),
)


def trend_csv(trend: Trend) -> bytes:
    """Return a city's sums over time, a line for each class and day; rates are integers in MFLOP/s."""
    names = TrendPoint.__struct_fields__
    lines = ([*(getattr(point, name) for name in names), trend.rehearsal] for point in trend.points)
    return csv_lines((*names, "rehearsal"), lines)


def reached_csv(all_reached: Iterable[Reached]) -> bytes:
    """Return who reached a value and who did not, a line for each statement and basis."""
    return csv_lines(
        _REACHED,
        (
            line
            for one in all_reached
            for name, listed in (("met", one.met), ("declared-only", one.declared_only), ("below", one.below))
            for line in _lines(one, name, listed)
        ),
    )


def _lines(one: Reached, name: str, listed: tuple[ReachedLine, ...]) -> Iterator[Sequence[object]]:
    head = (one.policy, one.condition, one.target, one.target_unit, name)
    target_mflop_s = one.target * MFLOP_PER_UNIT[one.target_unit]
    for line in listed:
        of_line = (line.centre_id, line.project_id, line.statement, line.level, line.verdict, line.reason)
        for basis in line.bases:
            of_basis = (basis.basis, basis.verdict, basis.reason, basis.observed_mflop_s)
            yield (*head, *of_line, *of_basis, ratio_ppm(basis.observed_mflop_s, target_mflop_s), one.rehearsal)
