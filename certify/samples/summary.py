"""Summaries of samples and their issues in plain values: they are pickled between processes, merged without numpy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from certify.policy.reasons import effect_of

MOST_OF_A_CODE = 1000  # listed with their text; the rest are counted: a forger may make millions


class SampleIssue(NamedTuple):
    """A disagreement, or something implausible: a reason code, where and what."""

    code: str
    where: str
    what: str

    @property
    def weighs(self) -> bool:
        """Whether it makes the answer no: all but notes do."""
        return effect_of(self.code) != "note"

    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.code}]"


@dataclass
class Issues:
    """Issues in the order of their report, of each code up to a number; `add` merges those of another reader."""

    listed: list[SampleIssue] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def report(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        if self.counts[code] < MOST_OF_A_CODE:
            self.listed.append(SampleIssue(code, where, what))
        self.counts[code] += 1

    def add(self, other: Issues) -> None:
        """Merge other issues into these."""
        room = {code: MOST_OF_A_CODE - self.counts[code] for code in other.counts}
        for issue in other.listed:
            if room[issue.code] > 0:
                room[issue.code] -= 1
                self.listed.append(issue)
        self.counts += other.counts

    @property
    def first(self) -> SampleIssue | None:
        """The first issue that makes the answer no."""
        return next((issue for issue in self.listed if issue.weighs), None)

    @property
    def weighing(self) -> int:
        """How many issues make the answer no."""
        return sum(count for code, count in self.counts.items() if SampleIssue(code, "", "").weighs)


class TelemetrySummary(NamedTuple):
    """The telemetry of one figure, computed from the readings in its core window; fields as in a record's figure."""

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
    """Times and power hashes that no two devices share; empty where a series holds too little for that."""

    times_ns: tuple[int, ...]  # the 30 times
    power: tuple[int, ...]  # hashes of stretches of readings


class FigureFingerprint(NamedTuple):
    """A figure's place with the fingerprint by which a copy of its samples is recognised."""

    place: str  # node, device and workload
    fingerprint: Fingerprint
    board: str | None  # what it shares a power sensor with: the dies of one card may read one value


@dataclass
class Samples:
    """Result of reading the samples of a share of records; `add` merges another share's."""

    records: int = 0  # with samples of theirs
    figures: int = 0
    issues: Issues = field(default_factory=Issues)
    not_checked: Counter[str] = field(default_factory=Counter)  # what -> how many figures or records
    fingerprints: list[FigureFingerprint] = field(default_factory=list)

    def add(self, other: Samples) -> None:
        """Merge the result of another share into this one."""
        self.records += other.records
        self.figures += other.figures
        self.issues.add(other.issues)
        self.not_checked += other.not_checked
        self.fingerprints += other.fingerprints
