"""Figures whose times or power readings are copies of another figure's, in one statement or across its nodes.

Pure functions of arrays. Ten thousand figures are compared at once, so each search sorts and looks at neighbours, and
`MOST_PAIRS` bounds what a statement made for the purpose can make it compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from operator import itemgetter

import numpy as np

from bench.record import SUBWINDOWS
from certify.samples.observed import Observed
from certify.samples.rows import Integers, stretches
from certify.samples.summary import FigureFingerprint, Fingerprint, Samples
from certify.samples.telemetry import ROUND_NS, Implausible

SKETCH = 6  # stretches kept of one series and grid: those of the least hashes, which a shifted or cut copy has too
NEAR_NS = 2
NEAR_PPM = 1  # 30 times of two devices that all agree within a millionth: each does so by chance once in hundreds
SPREAD_NS = 1_000_000  # between the shortest and the longest of 30 times: of closer ones, coarse clocks give equal ones
SHARED_TIMES = 10  # of 30 that two devices share within 2 ns: one number in thousands does by chance
MOST_PAIRS = 20_000_000  # compared at the most, the closest first: copies stand among them


def fingerprint_of(seen: Observed, length_ns: int) -> Fingerprint:
    """Return what a copy of one figure's samples would share with it.

    Of the power these are the least hashes of any stretch, so that a copy that was shifted or cut has them too; in each
    grid a few, so that one that was changed by some milliwatts has some of them.
    """
    sketch: dict[int, list[int]] = {}
    for grid, _, _, hashes in stretches(seen.inside("power_mw", length_ns)[:, 1]):
        if len(hashes):
            sketch.setdefault(grid, np.unique(hashes)[:SKETCH].tolist())  # of the shortest stretches that say enough
    return Fingerprint(
        times_ns=seen.times_ns if len(set(seen.times_ns)) > 1 else (),
        power=tuple(one for hashes in sketch.values() for one in hashes),
    )


def report_copies(samples: Samples) -> None:
    """Report each figure whose times or telemetry are those of another one."""
    for place, finding in copies(samples.fingerprints):
        samples.issues.report(finding.code, place, finding.detail)


def copies(figures: Sequence[FigureFingerprint]) -> Iterator[tuple[str, Implausible]]:
    """Yield each figure whose times or readings of power are those of one that stands before it, and whose."""
    for figure, other in sorted(_copied_power(figures).items()):
        yield (
            figures[figure].place,
            Implausible("telemetry-copied", f"readings of power are those of {figures[other].place}"),
        )
    timed = [figure for figure in figures if len(figure.fingerprint.times_ns) == SUBWINDOWS]
    times = np.array([figure.fingerprint.times_ns for figure in timed], np.int64).reshape(-1, SUBWINDOWS)
    whole, first, where = np.unique(times, axis=0, return_index=True, return_inverse=True)
    fine = np.flatnonzero((np.gcd.reduce(whole, axis=1) < ROUND_NS) & (np.ptp(whole, axis=1) >= SPREAD_NS))
    near = [*near_pairs(whole), *((int(fine[a]), int(fine[b])) for a, b in shared_times(whole[fine]))]
    pairs = [(int(first[a]), int(first[b])) for a, b in near]
    pairs += [(int(one), i) for i, one in enumerate(first[where.reshape(-1)].tolist()) if one != i]
    for figure, other in sorted(_first_of_each(pairs).items()):
        yield timed[figure].place, Implausible("subwindows-copied", f"the 30 times are those of {timed[other].place}")


def _first_of_each(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return for each figure of a group of copies, all but the first, which that is."""
    first: dict[int, int] = {}

    def root(one: int) -> int:
        while (above := first.get(one, one)) != one:
            first[one] = one = first.get(above, above)
        return one

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        if low != high:
            first[high] = low
    return {one: root(one) for one in first}


def _copied_power(figures: Sequence[FigureFingerprint]) -> dict[int, int]:
    """Return each figure that shares a hash with an earlier one, with which it stands on no board."""
    hashes = np.array([one for figure in figures for one in figure.fingerprint.power], np.uint64)
    of = np.repeat(np.arange(len(figures)), [len(figure.fingerprint.power) for figure in figures])
    order = np.argsort(hashes, kind="stable")  # figures ascend within one hash
    hashes, of = hashes[order], of[order]
    copied: dict[int, int] = {}
    begin = 0
    for i in (np.flatnonzero(hashes[1:] == hashes[:-1]) + 1).tolist():
        begin = begin if hashes[begin] == hashes[i] else i - 1
        figure, first = int(of[i]), int(of[begin])
        if figure != first and (figures[figure].board is None or figures[figure].board != figures[first].board):
            copied.setdefault(figure, first)
    return copied


def near_pairs(rows: Integers) -> list[tuple[int, int]]:
    """Return pairs (a < b) of rows that agree in every column within `NEAR_PPM`, so many that every such row has one.

    Rows, shape (n, columns), are sorted by the column in which fewest pairs are near, and only those pairs are looked
    at, the closest first and `MOST_PAIRS` at the most; two rows that both have a pair already are not compared.
    """
    if len(rows) < 2:
        return []
    _, order, until = min(map(_candidates, rows.T), key=itemgetter(0))
    pairs: list[tuple[int, int]] = []
    unpaired = np.full(len(rows), True)  # by place in the order
    ahead, looked = np.arange(len(rows)), 0
    for step in count(1):
        ahead = ahead[until[ahead] > ahead + step]
        ahead_unpaired = ahead[unpaired[ahead] | unpaired[np.minimum(ahead + step, len(rows) - 1)]]
        looked += len(ahead_unpaired)
        if not len(ahead) or looked > MOST_PAIRS:
            return sorted(pairs)
        here, there = order[ahead_unpaired], order[ahead_unpaired + step]
        alike = (np.abs(rows[here] - rows[there]) <= _near(np.minimum(rows[here], rows[there]))).all(axis=1)
        unpaired[ahead_unpaired[alike]] = unpaired[ahead_unpaired[alike] + step] = False
        pairs += [(min(pair), max(pair)) for pair in zip(here[alike].tolist(), there[alike].tolist(), strict=True)]
    raise AssertionError


def shared_times(rows: Integers) -> list[tuple[int, int]]:
    """Return the pairs (a < b) of rows of which `SHARED_TIMES` numbers agree within `NEAR_NS`, wherever they stand.

    Numbers are looked at in their order, the closest first, `MOST_PAIRS` pairs at the most.
    """
    if len(rows) < 2:
        return []
    order = np.argsort(rows, axis=None, kind="stable")
    numbers, of = rows.reshape(-1)[order], order // rows.shape[1]
    until = np.searchsorted(numbers, numbers + NEAR_NS, side="right")
    ahead, agreeing, looked = np.arange(len(numbers)), [np.empty(0, np.int64)], 0
    for step in count(1):
        ahead = ahead[until[ahead] > ahead + step]
        looked += len(ahead)
        if not len(ahead) or looked > MOST_PAIRS:
            break
        a, b = of[ahead], of[ahead + step]
        agreeing.append((np.minimum(a, b) * len(rows) + np.maximum(a, b))[a != b])
    pairs, counts = np.unique(np.concatenate(agreeing), return_counts=True)
    return [divmod(pair, len(rows)) for pair in pairs[counts >= SHARED_TIMES].tolist()]


def _candidates(column: Integers) -> tuple[int, Integers, Integers]:
    """Return how many pairs of a column are near, its order, and up to where in it each one's near ones stand."""
    order = np.argsort(column, kind="stable")
    value = column[order]
    until = np.searchsorted(value, value + _near(value), side="right")
    return int(until.sum()) - len(value) * (len(value) + 1) // 2, order, until


def _near(values: Integers) -> Integers:
    return np.maximum(NEAR_NS, values * NEAR_PPM // 10**6)
