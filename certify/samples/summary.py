"""What the samples of records come to, in values that need no numpy: they travel, and add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from certify.samples.issues import Issues


class Watched(NamedTuple):
    """What the readings within the core window come to, under the names that a figure gives them."""

    samples: int
    clock_samples: int
    clock_gap_ns: int | None
    power_samples: int
    power_gap_ns: int | None
    power_mean_mw: int | None
    power_counter_mw: int | None
    temperature_max_c: int | None
    clock_mean_mhz: int | None
    clock_max_mhz: int | None
    throttled_ppm: int | None
    ecc_seen: int | None  # new errors from the first reading under load on; a figure may know of earlier ones
    others_seen: int | None  # processes besides one; a figure may know of some that were there before
    reasons: frozenset[str]  # of throttling


class Fingerprint(NamedTuple):
    """What two devices never share; empty where there is too little to tell them apart by."""

    times_ns: tuple[int, ...]  # the 30 times
    power: tuple[int, ...]  # hashes of stretches of readings


class FigureFingerprint(NamedTuple):
    """What shows a copy of one figure's samples."""

    place: str  # node, device and workload
    own: Fingerprint
    board: str | None  # what it shares a power sensor with: the dies of one card may read one value


@dataclass
class Samples:
    """What the samples of some records said; `add` merges those of others."""

    records: int = 0  # with samples of theirs
    figures: int = 0
    issues: Issues = field(default_factory=Issues)
    not_checked: Counter[str] = field(default_factory=Counter)  # what -> how many figures or records
    prints: list[FigureFingerprint] = field(default_factory=list)

    def add(self, other: Samples) -> None:
        """Merge others into these."""
        self.records += other.records
        self.figures += other.figures
        self.issues.add(other.issues)
        self.not_checked += other.not_checked
        self.prints += other.prints
