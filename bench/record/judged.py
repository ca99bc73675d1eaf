"""What a judge says of figures, in values for whoever prints them: nothing here is part of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.record.fields import Precision


class Explained(NamedTuple):
    """One figure's reason codes with their effects, and what bounds it (run rules, R12)."""

    effects: Mapping[str, str]  # reason code -> effect
    step: str  # the strongest evidence
    limit: str | None  # the lowest limit that exists
    limit_mflop_s: int | None

    def as_json(self) -> dict[str, object]:
        """Return the JSON value of ``--json``."""
        return {
            "codes": dict(self.effects),
            "step": self.step,
            "limit": self.limit,
            "limit_mflop_s": self.limit_mflop_s,
        }


Judged = dict[tuple[str, str], Explained]  # by device and workload


class DeviceOutlook(NamedTuple):
    """What a device's figures can come to, as known before they are measured."""

    nominal_mflop_s: Mapping[Precision, int]
    tdp_mw: int | None  # the device's rated power; None where it is not known
    exposed: Sequence[str]  # what the table of sources says that readings of the device have
    lines: Sequence[str]  # the outlook as printed lines
    as_json: Mapping[str, object]  # the outlook as the JSON value of ``--json``
