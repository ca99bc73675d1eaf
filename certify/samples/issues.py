"""What is found wrong in a set of records and their samples: reason codes with their places, bounded in number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from certify.policy.reasons import effect_of

MOST_OF_A_CODE = 1000  # kept with their text; the others are counted


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
    """Issues in the order in which they were found, those of each code up to a number; `add` merges others."""

    listed: list[Issue] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def report(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        if self.counts[code] < MOST_OF_A_CODE:
            self.listed.append(Issue(code, where, what))
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
    def first(self) -> Issue | None:
        """The first issue that makes the answer no."""
        return next((issue for issue in self.listed if issue.weighs), None)

    @property
    def weighing(self) -> int:
        """How many issues make the answer no."""
        return sum(count for code, count in self.counts.items() if Issue(code, "", "").weighs)
