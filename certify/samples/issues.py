"""What is found wrong in a set of records and their samples: reason codes with their places, bounded in number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from certify.policy.reasons import effect_of

MOST_ISSUES = 1000  # kept with their text; the others are counted


class Issue(NamedTuple):
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
    """Issues in the order in which they were found; `add` merges others."""

    found: list[Issue] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    first: Issue | None = None  # that makes the answer no, however many notes stand before it

    def report(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        issue = Issue(code, where, what)
        self.counts[code] += 1
        if self.first is None and issue.weighs:
            self.first = issue
        if len(self.found) < MOST_ISSUES:
            self.found.append(issue)

    def add(self, other: Issues) -> None:
        """Merge other issues into these."""
        self.found += other.found[: MOST_ISSUES - len(self.found)]
        self.counts += other.counts
        self.first = self.first or other.first

    @property
    def weighing(self) -> int:
        """How many issues make the answer no."""
        return sum(count for code, count in self.counts.items() if Issue(code, "", "").weighs)
