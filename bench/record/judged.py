"""What a judge says of figures, in values for whoever prints them: nothing here is part of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Explained(NamedTuple):
    """One figure's reason codes with their effects, and what bounds it (run rules, R12)."""

    effects: Mapping[str, str]  # reason code -> effect
    step: str  # the strongest evidence
    limit: str | None  # the lowest limit that exists
    limit_mflop_s: int | None

    def as_json(self) -> dict[str, object]:
        """Return it for machines."""
        return {
            "codes": dict(self.effects),
            "step": self.step,
            "limit": self.limit,
            "limit_mflop_s": self.limit_mflop_s,
        }


Judged = dict[tuple[str, str], Explained]  # by device and workload


class Outlook(Protocol):
    """What is known of a device's figures before they are measured."""

    @property
    def nominal_mflop_s(self) -> Mapping[Any, int]:
        """The device's nominal ratings by precision."""
        ...

    @property
    def tdp_mw(self) -> int | None:
        """The device's rated power; None where it is not known."""
        ...

    @property
    def exposed(self) -> Sequence[str]:
        """What the table of sources says that readings of the device have."""
        ...

    def lines(self) -> list[str]:
        """Return it for people."""
        ...

    def as_json(self) -> dict[str, object]:
        """Return it for machines."""
        ...
