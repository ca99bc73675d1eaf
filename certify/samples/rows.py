"""The rows of one device and workload as columns, and stretches of power readings that agree by chance with no other.

A stretch is some tens of consecutive readings. Its hash is polynomial (Rabin and Karp), so that all stretches of a
series are hashed in one pass, and one that was shifted in time has the same hash."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log2, pi, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TEXT = 2**62  # beyond all integers of so many digits
LATE_RATES = 2
PHASES = ("prepare", "trial", "warmup", "window", "guard")
IN_TIME = (PHASES.index("warmup"), PHASES.index("window"), PHASES.index("guard"))  # one quantity is read once at a time
TRIAL = PHASES.index("trial")
THROTTLED = "throttled"
MARK = re.compile(r"subwindow_(0[1-9]|[12][0-9]|30)_ns")
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """All rows of one device and workload, in their order, one column a field.

    `quantity` indexes `names`. `value` is the integer; text (digests, reasons of throttling) is -TEXT less its index in
    `texts`, which no integer is.
    """

    device: str
    workload: str
    phase: NDArray[np.int8]  # index in PHASES
    offset_ns: Integers  # from the opening of the core window
    quantity: NDArray[np.int32]
    value: Integers
    names: list[str]
    texts: list[str]

    @cached_property
    def in_time(self) -> Mapping[str, Integers]:
        """The rows from the warm-up on, by quantity: their places, in their order."""
        places = np.flatnonzero(self.phase >= IN_TIME[0])
        places = places[np.argsort(self.quantity[places], kind="stable")]
        codes, begins = np.unique(self.quantity[places], return_index=True)
        ends = [*begins[1:].tolist(), len(places)]
        parts = zip(codes.tolist(), begins.tolist(), ends[: len(codes)], strict=True)
        return {self.names[code]: places[begin:end] for code, begin, end in parts}

    def series(self, name: str, phase: str | None = None) -> Integers:
        """Return (offset ns, value) of each row of a quantity from the warm-up on, or in one phase; shape (n, 2)."""
        places = self.in_time.get(name, np.empty(0, np.int64))
        if phase is not None:
            places = places[self.phase[places] == PHASES.index(phase)]
        return np.stack((self.offset_ns[places], self.value[places]), axis=1)

    def misplaced(self, length_ns: int) -> str | None:
        """Return the quantity of a row that stands in another phase than its time says, if any.

        A rate of the warm-up is reported when its launches have ended, which the last one or two do after the opening.
        """
        for name, places in self.in_time.items():
            at, phase = self.offset_ns[places], self.phase[places]
            warm, window, guard = (phase == one for one in IN_TIME)
            if MARK.fullmatch(name):  # the end of a sub-window, whose time R10 judges
                wrong = not window.all()
            else:
                late = (warm & (at >= 0)) | (window & (at >= length_ns))
                early = (window & (at < 0)) | (guard & (at < length_ns))
                wrong = early.any() or late.sum() > (LATE_RATES if name == "rate_mflop_s" else 0)
            if wrong:
                return name
        return None

    def lines(self) -> Iterator[str]:
        """Yield the rows as the file has them."""
        columns = (self.phase, self.offset_ns, self.quantity, self.value)
        for phase, at, quantity, value in zip(*(column.tolist() for column in columns), strict=True):
            name = self.names[quantity]
            yield f"{self.device},{self.workload},{PHASES[phase]},{at},{name},{self.text(value)}"

    def text(self, value: int) -> str:
        """Return a value as the file has it."""
        return str(value) if value > -TEXT else self.texts[-TEXT - value]


class Segment(NamedTuple):
    """Consecutive rows of one device, workload and phase."""

    device: str
    workload: str
    phase: int
    offset_ns: Integers
    quantity: NDArray[np.int32]
    value: Integers


# Two stretches of readings that agree by chance: so improbable that the pairs of one window (2^18), or of all devices
# of all centres (2^40), do not make it happen. Bits are counted for changes of value only: a plateau proves nothing.
GRAM_BITS = 96.0
MIN_VALUES = 8  # a regulator may swing between a few values for ever; more of them are noise
GRAMS = (30, 60, 120)  # readings in a stretch; coarse sensors need long ones to be told apart
# Readings are compared as they are, and rounded to steps in which a copy that was changed by a milliwatt is alike for
# most: of a sensor that resolves milliwatts, tenths of a watt or watts. What a step says is bounded by the noise.
GRIDS_MW = (1, 16, 100, 1000)
Hashes = NDArray[np.uint64]
_MIX = 0x9E3779B97F4A7C15
_BASE = 0xD1342543DE82EF95  # odd: it has an inverse modulo 2^64


def stretches(values: Integers) -> Iterator[tuple[int, int, Integers, Hashes]]:
    """Yield (grid, length, places, hashes) of all stretches of readings that no other series has by chance.

    Two readings agree with probability c: the larger of sum p^2 over the values that occur (two independent series),
    and of what the noise leaves to chance where all else could be foretold (a drift, a regulator's swing). A stretch
    with so many changes agrees with another one with at most c to that power.
    """
    if len(values) < GRAMS[0]:
        return
    resolution, noise_mw = int(np.gcd.reduce(np.diff(values))), _noise(values)
    for grid in GRIDS_MW:
        coarse = (values + grid // 2) // grid
        counts = np.unique(coarse, return_counts=True)[1].astype(float)
        if len(counts) < MIN_VALUES:
            continue
        foretold = max(grid, resolution) / (2 * sqrt(pi) * noise_mw) if noise_mw else 1.0
        chance = max(float((counts**2).sum()) / len(coarse) ** 2, foretold)
        if chance >= 1:
            continue
        least = GRAM_BITS / -log2(chance)
        changed = np.concatenate(([0], np.cumsum(coarse[1:] != coarse[:-1])))
        powers, inverses = _powers(len(coarse) + 1)
        mixed = _mixed(coarse.astype(np.uint64) + np.uint64(grid * _MIX % 2**64))
        sums = np.concatenate(([np.uint64(0)], np.cumsum(mixed * powers[:-1], dtype=np.uint64)))
        for length in GRAMS:
            if len(coarse) >= length:
                changes = changed[length - 1 :] - changed[: len(changed) - length + 1]
                places = np.flatnonzero(changes >= least)
                # sum of mixed[place + j] x power[j], modulo 2^64
                yield grid, length, places, _mixed((sums[places + length] - sums[places]) * inverses[places])
                if len(places) == len(changes):
                    break  # whatever agrees over a longer stretch agrees over these


def _noise(values: Integers) -> float:
    """Return the noise of one reading, mW, by second differences: a drift has none; a tenth, jumps, is left out."""
    bends = np.sort(np.abs(np.diff(values, n=2)))[: len(values) * 9 // 10].astype(float)
    return float(np.sqrt((bends**2).mean() / 6))


@lru_cache(maxsize=8)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the first powers of an odd number and of its inverse modulo 2^64."""
    bases = np.full((2, count), 1, np.uint64)
    bases[0, 1:], bases[1, 1:] = _BASE, pow(_BASE, -1, 2**64)
    powers = np.cumprod(bases, axis=1, dtype=np.uint64)
    return powers[0], powers[1]


def _mixed(values: Hashes) -> Hashes:
    """Return 64-bit values mixed well (the finaliser of SplitMix64), so that their least ones are drawn at random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
