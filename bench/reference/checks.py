"""Which launches of a window are verified (R5), drawn from the campaign's challenge beforehand, and the worst of them.

Pure: an auditor draws the same ones again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from bench.record import SUBWINDOWS, encode

if TYPE_CHECKING:
    from kernels.base import Residual

# A remainder of launches at the window's end is not counted (R9): checks are drawn before it.
DRAWN_SUBWINDOWS = SUBWINDOWS - 2
PARTS = 2**16


class Check(NamedTuple):
    """One launch to verify: the first of `operand_set` at or after `at_parts` / 2^16 of the core window."""

    at_parts: int
    operand_set: int
    seed: int  # of its probe vectors: one for each operand set, so that their reference is computed once


def draw_checks(challenge: str, device: str, precision: str, operand_sets: int, per_set: int) -> list[Check]:
    """Return the checks of one window in order of time: `per_set` of each operand set.

    No two fall into one sub-window while there are at most 28, and none into neighbouring ones while there are at most
    14; more are spread evenly.

    Args:
        challenge: of the campaign, lower-case hex.
        device: its node and its name there: two devices of one campaign are not verified in one moment.
        precision: of the window.
        operand_sets: number of operand sets.
        per_set: checks of each set.
    """
    stream = _stream(challenge, device, precision)
    total = operand_sets * per_set
    if total <= DRAWN_SUBWINDOWS:
        gap = 1 if 2 * total <= DRAWN_SUBWINDOWS else 0
        room = DRAWN_SUBWINDOWS - gap * (total - 1)
        chosen = sorted(_shuffled(list(range(room)), stream)[:total])
        # the middle half of a sub-window: sub-windows of equal launch count are not exactly equal in time
        chosen = [i + gap * order for order, i in enumerate(chosen)]
        places = [i * PARTS + PARTS // 4 + next(stream) % (PARTS // 2) for i in chosen]
    else:
        places = [(order * PARTS + next(stream) % PARTS) * DRAWN_SUBWINDOWS // total for order in range(total)]
    sets = _shuffled([s for s in range(operand_sets) for _ in range(per_set)], stream)
    seeds = [probe_seed(challenge, device, precision, s) for s in range(operand_sets)]
    return [Check(place // SUBWINDOWS, s, seeds[s]) for place, s in zip(places, sets, strict=True)]


def probe_seed(challenge: str, device: str, precision: str, operand_set: int) -> int:
    """Return the seed of the probe vectors of one operand set."""
    return next(_stream(challenge, device, f"{precision}/probe/{operand_set}"))


def final_seed(challenge: str, device: str, precision: str) -> int:
    """Return the seed of the check on the host that follows the window."""
    return next(_stream(challenge, device, f"{precision}/host"))


def _stream(challenge: str, device: str, precision: str) -> Iterator[int]:
    """Yield 63-bit integers: SHA-256 of the canonical JSON of what the draw is for, and a counter."""
    counter = 0
    while True:
        seed = encode(["petaseal/checks/v1", challenge, device, precision, counter])
        words = hashlib.sha256(seed).digest()
        for at in range(0, 32, 8):
            yield int.from_bytes(words[at : at + 8], "big") >> 1
        counter += 1


def _shuffled(items: list[int], stream: Iterator[int]) -> list[int]:
    """Return the items in a drawn order (Fisher-Yates; the bias of 2^-63 modulo a small number is of no account)."""
    for last in range(len(items) - 1, 0, -1):
        other = next(stream) % (last + 1)
        items[last], items[other] = items[other], items[last]
    return items


class Worst:
    """The largest errors over many checks (R5); one that is not a number (None) is larger than any."""

    def __init__(self) -> None:
        self.row_error_ppm: int | None = 0
        self.rms_error_ppm: int | None = 0

    def add(self, residual: Residual) -> None:
        """Take the residuals of one check, where they are worse than those so far."""
        self.row_error_ppm = worse(self.row_error_ppm, residual.row_error_ppm)
        self.rms_error_ppm = worse(self.rms_error_ppm, residual.rms_error_ppm)


def worse(a: int | None, b: int | None) -> int | None:
    """Return the larger of two errors; None (NaN, Inf or a stale product) dominates."""
    return None if a is None or b is None else max(a, b)
