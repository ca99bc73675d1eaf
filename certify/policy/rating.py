"""The rating of one device: what its vendor says that it does, in integers, and its silicon as far as it is known.

A rating is never a measurement and never counts as capacity; it is shown with the certified figure and bounds what is
plausible (R12). The table of ratings, and how a driver's names find their row, is `certify.policy.ratings`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from msgspec.structs import replace

from bench.record import Document, Name, Positive, Precision, Text

Confidence = Literal["high", "medium", "low", "none"]
Part = Literal["unit", "die"]
RatedKind = Literal["accelerator", "cpu"]
SiliconConfidence = Literal["high", "uncertain"]

# A data sheet's gigabyte is 10^9 or 2^30 bytes; ECC and firmware take some of it, and a driver may round up.
MEMORY_LEAST = (85, 100)
MEMORY_MOST = (102 * 2**30, 100 * 10**9)


# A field with a default is one that a later release added: the canonical JSON leaves it out where it has that default,
# so that the tables of earlier releases keep their digests (ADR 19). No such default may ever change.


class Rate(Document, frozen=True, kw_only=True, omit_defaults=True):
    """What one precision of a device is rated at; null where it is not known for certain."""

    nominal_mflop_s: Positive
    flop_per_clock_per_unit: Positive | None
    rating_clock_mhz: Positive | None
    silicon_confidence: SiliconConfidence | None = None
    best_known_mflop_s: Positive | None = None  # highest public measurement, always of the whole unit


class Rating(Document, frozen=True, kw_only=True, omit_defaults=True):
    """The rating of one device as the driver lists it: a whole unit, or one die of a package or card."""

    accelerator: Name
    name: Text
    vendor: Text
    confidence: Confidence
    count_unit: Literal["card", "package"]
    dies_per_unit: Positive
    part: Part
    units: Positive | None  # SMs, CUs or AI cores
    memory_bytes: Positive | None
    tdp_mw: Positive | None
    rates: dict[Precision, Rate]
    kind: RatedKind = "accelerator"
    highest_clock_mhz: Positive | None = None  # the highest of any board that bears the name, from a source
    year: Positive | None = None  # of the announcement
    simulated: bool = False
    memory_sizes_bytes: tuple[Positive, ...] = ()  # that a device of the matched name may have; empty: not known
    undivided: Rating | None = None  # of a die: the rating of its whole unit

    def nominal_mflop_s(self, precision: Precision) -> int | None:
        """Return the dense rating in MFLOP/s, of the matrix path where native, else vector; None if there is none."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.nominal_mflop_s

    def flop_per_clock_per_unit(self, precision: Precision) -> int | None:
        """Return the most FLOP that one unit does in one clock, or None where that is not known."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.flop_per_clock_per_unit

    def rating_clock_mhz(self, precision: Precision) -> int | None:
        """Return the clock at which the rating holds, or None where that is not known."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.rating_clock_mhz

    def silicon_is_certain(self, precision: Precision) -> bool:
        """Return whether units, FLOP per clock and the highest clock are known well enough to bound a figure."""
        rate = self.rates.get(precision)
        return (
            rate is not None
            and rate.silicon_confidence == "high"
            and None not in (rate.flop_per_clock_per_unit, self.units, self.highest_clock_mhz)
        )

    def best_known_mflop_s(self, precision: Precision) -> int | None:
        """Return the highest public measurement of the whole unit; None where none is known.

        Where FP16 and BF16 are rated alike they take the same path, and the better of both stands for each.
        """
        alike = self.nominal_mflop_s("fp16") == self.nominal_mflop_s("bf16")
        precisions: tuple[Precision, ...] = (
            ("fp16", "bf16") if precision in ("fp16", "bf16") and alike else (precision,)
        )
        known = (self.rates[p].best_known_mflop_s for p in precisions if p in self.rates)
        return max((best for best in known if best is not None), default=None)

    def fits_memory(self, memory_bytes: int) -> bool:
        """Return whether a device of this name may report that much memory; always, where no size is known."""
        sizes = self.memory_sizes_bytes
        return not sizes or any(least_memory_bytes(size) <= memory_bytes <= most_memory_bytes(size) for size in sizes)

    def whole(self) -> Rating:
        """Return the rating of the whole unit."""
        return self if self.undivided is None else self.undivided

    def die(self) -> Rating:
        """Return the rating of one die of this unit: an equal share of everything but the best known measurement."""
        dies = self.dies_per_unit
        rates = {p: replace(rate, nominal_mflop_s=rate.nominal_mflop_s // dies) for p, rate in self.rates.items()}
        return replace(
            self,
            part="die",
            units=_share(self.units, dies),
            memory_bytes=_share(self.memory_bytes, dies),
            memory_sizes_bytes=tuple(size // dies for size in self.memory_sizes_bytes),
            tdp_mw=_share(self.tdp_mw, dies),
            rates=rates,
            undivided=self,
        )


class Match(Document, frozen=True, kw_only=True):
    """A device name as the driver reports it, compared whole. A row may give one name several sizes of memory."""

    name: Text
    memory_gb: Positive | None = None  # of the device that bears the name; default: the row's, shared among its dies
    part: Part = "unit"


@lru_cache(maxsize=1024)  # a centre has few models and many devices
def plain(text: str) -> str:
    """Return a vendor's or device's name without differences of case, width and spaces."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def rating_of_part(rating: Rating, names: Iterable[Match], part: Part) -> Rating:
    """Return the rating of a row's unit or die, with the sizes of memory that its devices of these names may have."""
    of_part = rating.die() if part == "die" else rating
    sizes = {
        of_part.memory_bytes if match.memory_gb is None else match.memory_gb * 10**9
        for match in names
        if match.part == part
    } or {of_part.memory_bytes}
    return replace(of_part, memory_sizes_bytes=tuple(sorted(size for size in sizes if size and None not in sizes)))


def _share(whole: int | None, dies: int) -> int | None:
    return None if whole is None else whole // dies


def least_memory_bytes(size_bytes: int) -> int:
    return size_bytes * MEMORY_LEAST[0] // MEMORY_LEAST[1]


def most_memory_bytes(size_bytes: int) -> int:
    return size_bytes * MEMORY_MOST[0] // MEMORY_MOST[1]
