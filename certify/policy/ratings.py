"""Nominal ratings: what the vendor says a device does, read from ``configs/accelerators.yaml`` into integers.

A rating is never a measurement and never counts as capacity; it stands beside the certified figure and bounds what is
plausible (R12). No float may enter: rates are decimal text in TFLOPS and become MFLOP/s exactly. What a row must hold,
and who adds one, stands in ``docs/ratings.md``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from bench.errors import InputError
from bench.record import Document, Name, Positive, Precision, Sha256, Text, config_path, encode, parse_yaml, read_given
from bench.record.fields import in_words
from bench.units import MFLOP_PER_UNIT

Confidence = Literal["high", "medium", "low", "none"]
Part = Literal["unit", "die"]
RatedKind = Literal["accelerator", "cpu"]
SiliconConfidence = Literal["high", "uncertain"]
Decimals = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$(?!\n)", description="decimal text")]

TABLE_MAX_BYTES = 1024 * 1024
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
        return not sizes or any(_least_memory(size) <= memory_bytes <= _most_memory(size) for size in sizes)

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


class _Rated(Document, frozen=True, kw_only=True):
    match: tuple[Match, ...]
    rating: Rating


_Kept = Annotated[tuple[_Rated, ...], Meta(min_length=1)]


class Ratings:
    """The table of ratings: immutable, found by what a driver reports, bound into a statement by its digest."""

    def __init__(self, rows: Iterable[tuple[Rating, tuple[Match, ...]]]) -> None:
        table = sorted(rows, key=lambda row: row[0].accelerator)
        self.content = encode([_Rated(match=names, rating=rating) for rating, names in table])  # canonical JSON
        self.digest: Sha256 = hashlib.sha256(self.content).hexdigest()
        self.units: tuple[Rating, ...] = tuple(_part(rating, names, "unit") for rating, names in table)
        self._rows: dict[str, list[Rating]] = {}
        self._named: dict[tuple[str, str], list[Rating]] = {}
        for unit, (_, names) in zip(self.units, table, strict=True):
            parts = sorted({match.part for match in names}) or [unit.part]
            self._rows[unit.accelerator] = [_part(unit, names, part) for part in parts]
            for name, part in dict.fromkeys((plain(match.name), match.part) for match in names):
                same = [match for match in names if plain(match.name) == name]
                self._named.setdefault((plain(unit.vendor), name), []).append(_part(unit, same, part))

    def match(
        self,
        vendor: str,
        model: str,
        memory_bytes: int | None = None,
        count_unit: str | None = None,
        *,
        simulated: bool = False,
        plays: str | None = None,
    ) -> Rating | None:
        """Return the rating of a device, or None where the table has none that is certainly the device's.

        Args:
            vendor, model: as the driver reports them; compared whole after case and spaces are levelled.
            memory_bytes: memory of the device, if known; it decides only between rows or parts that share a name.
            count_unit: how the device counts; a slice gets the rating of the whole, of which it is a share.
            simulated: whether the device is a fake one; only such a device may get the row of a simulated one.
            plays: the row that a simulated device stands for; never read of a real device.
        """
        if simulated and plays is not None:
            found = self._rows.get(plays, [])
        else:
            name = model.partition(" MIG ")[0] if count_unit == "slice" else model  # "NVIDIA H200 MIG 1g.18gb"
            found = self._named.get((plain(vendor), plain(name)), [])
        found = [rating for rating in found if simulated or not rating.simulated]
        if count_unit == "slice":
            wholes = {rating.accelerator: rating.whole() for rating in found}
            return next(iter(wholes.values())) if len(wholes) == 1 else None
        if count_unit == "die":
            found = [rating for rating in found if rating.part == "die"] or found
        return _only(found, memory_bytes)

    def highest_mflop_s(self, precision: Precision) -> int | None:
        """Return the highest rating of a whole unit of any accelerator that petaseal's own tables know.

        A table that the user gave takes the installed table's, so that no row of it raises what bounds every figure.
        """
        return self._highest.get(precision)

    @cached_property
    def is_ours(self) -> bool:
        """Whether the table is the installed one or one of a release: no other bounds a figure beforehand."""
        return config_path("released", f"{self.digest}.json").is_file() or self.digest == installed_ratings().digest

    @cached_property
    def _highest(self) -> dict[Precision, int]:
        table = self if self.is_ours else installed_ratings()
        highest: dict[Precision, int] = {}
        for unit in table.units:
            if unit.kind == "accelerator" and not unit.simulated:
                for precision, rate in unit.rates.items():
                    highest[precision] = max(rate.nominal_mflop_s, highest.get(precision, 0))
        return highest

    def ambiguous(self) -> str | None:
        """Return a name under which two rows cannot be told apart by their memory, if there is one."""
        for (_, name), found in self._named.items():
            for part in ("unit", "die"):
                same = [rating for rating in found if rating.part == part]
                sizes = sorted((size, i) for i, rating in enumerate(same) for size in rating.memory_sizes_bytes or (0,))
                for (low, i), (high, j) in pairwise(sizes):
                    if i != j and (low == 0 or _most_memory(low) >= _least_memory(high)):
                        return name
        return None


@lru_cache(maxsize=1024)  # a centre has few models and many devices
def plain(text: str) -> str:
    """Return a vendor's or device's name without differences of case, width and spaces."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def load_ratings(path: Path | None = None) -> Ratings:
    """Return the ratings of a file, by default the installed table.

    Args:
        path: a table in YAML, or the canonical JSON that a release keeps (`certify.policy.released`).

    Raises:
        InputError: the file is not acceptable, a row has no source, or two rows claim one device.
    """
    path = config_path("accelerators.yaml") if path is None else path
    content = read_given(path, TABLE_MAX_BYTES)
    return decode_ratings(content, path) if content.startswith(b"[") else parse_ratings(content, path)


@cache
def installed_ratings() -> Ratings:
    """Return the installed table, read once."""
    return load_ratings()


def parse_ratings(content: bytes, where: object) -> Ratings:
    """Return the ratings in the text of a table (see `load_ratings`)."""
    rows = parse_yaml(content, _Table, where).accelerators
    seen: set[str] = set()
    for row in rows:
        if not any(source.strip() for source in row.sources):
            what = f"the rating of {row.id} has no source"
            raise InputError("rating-without-source", what, where=where, fix="say where it is from")
        if not all(best.source.strip() for best in row.best_known.values()):
            what = f"the best known measurement of {row.id} has no source"
            raise InputError("rating-without-source", what, where=where, fix="say where it is from")
        if row.kind == "cpu" and (row.silicon is not None or row.best_known):
            raise InputError("config-invalid", f"{row.id} is a CPU: its row gives nominal ratings alone", where=where)
        if unrated := row.best_known.keys() - _nominal(row).keys():
            what = f"{row.id} has a best known measurement in {', '.join(sorted(unrated))}, and no rating"
            raise InputError("config-invalid", what, where=where)
        if row.id in seen:
            raise InputError("duplicate-accelerator", f"{row.id} stands there twice", where=where)
        seen.add(row.id)
    ratings = Ratings((_rating(row), row.match) for row in rows)
    if (name := ratings.ambiguous()) is not None:
        what = f"the device name {name!r} matches more than one rating"
        raise InputError("duplicate-match", what, where=where, fix="tell the rows apart by memory")
    return ratings


def decode_ratings(content: bytes, where: object) -> Ratings:
    """Return the ratings whose canonical JSON (`Ratings.content`) a release kept.

    Raises:
        InputError: the text is no such table.
    """
    try:
        rows = msgspec.json.decode(content, type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("config-invalid", in_words(error), where=where) from None
    return Ratings((row.rating, row.match) for row in rows)


class _Rates(Document, frozen=True, kw_only=True):
    fp16: Decimals | None = None
    bf16: Decimals | None = None
    fp32_vector: Decimals | None = None
    fp32_matrix: Decimals | None = None
    fp64_vector: Decimals | None = None
    fp64_matrix: Decimals | None = None


class _Clock(Document, frozen=True, kw_only=True):
    flop_per_clock_per_unit: Positive
    rating_clock_mhz: Positive | None = None
    silicon_confidence: SiliconConfidence


class _Silicon(Document, frozen=True, kw_only=True):
    units: Positive | None = None
    highest_clock_mhz: Positive | None = None
    fp16: _Clock | None = None
    bf16: _Clock | None = None
    fp32: _Clock | None = None
    fp64: _Clock | None = None


class _Measured(Document, frozen=True, kw_only=True):
    precision: Literal["fp16", "bf16", "fp32", "fp64", "int8"]
    tflops: Decimals
    how: Text
    source: Text


class _Best(Document, frozen=True, kw_only=True):
    tflops: Decimals
    source: Text


class _Row(Document, frozen=True, kw_only=True):
    id: Name
    name: Text
    vendor: Text
    match: tuple[Match, ...] = ()
    kind: RatedKind = "accelerator"
    simulated: bool = False
    year: Positive | None = None
    count_unit: Literal["card", "package"]
    dies_per_unit: Positive
    tflops: _Rates
    int8_tops: Decimals | None = None
    silicon: _Silicon | None = None
    best_known: dict[Precision, _Best] = msgspec.field(default_factory=dict)
    memory_gb: Positive | None = None
    memory_type: Text | None = None
    memory_gb_s: Decimals | None = None
    tdp_w: Positive | None = None
    confidence: Confidence
    sources: tuple[str, ...] = ()
    alternatives: dict[str, tuple[Decimals, ...]] = msgspec.field(default_factory=dict)
    measured: tuple[_Measured, ...] = ()
    notes: str


class _Table(Document, frozen=True, kw_only=True):
    accelerators: Annotated[tuple[_Row, ...], Meta(min_length=1)]


def _nominal(row: _Row) -> dict[Precision, Decimals]:
    rates = row.tflops
    nominal: dict[Precision, Decimals | None] = {
        "fp16": rates.fp16,
        "bf16": rates.bf16,
        "fp32": rates.fp32_matrix or rates.fp32_vector,
        "fp64": rates.fp64_matrix or rates.fp64_vector,
    }
    return {precision: tflops for precision, tflops in nominal.items() if tflops is not None}


def _rating(row: _Row) -> Rating:
    silicon = row.silicon
    return Rating(
        accelerator=row.id,
        name=row.name,
        vendor=row.vendor,
        kind=row.kind,
        confidence=row.confidence,
        count_unit=row.count_unit,
        dies_per_unit=row.dies_per_unit,
        part="unit",
        units=None if silicon is None else silicon.units,
        highest_clock_mhz=None if silicon is None else silicon.highest_clock_mhz,
        memory_bytes=None if row.memory_gb is None else row.memory_gb * 10**9,
        tdp_mw=None if row.tdp_w is None else row.tdp_w * 1000,
        year=row.year,
        simulated=row.simulated,
        rates={precision: _rate(row, precision, tflops) for precision, tflops in _nominal(row).items()},
    )


def _rate(row: _Row, precision: Precision, tflops: str) -> Rate:
    clock: _Clock | None = None if row.silicon is None else getattr(row.silicon, precision)
    best = row.best_known.get(precision)
    return Rate(
        nominal_mflop_s=_mflop_s(tflops),
        flop_per_clock_per_unit=None if clock is None else clock.flop_per_clock_per_unit,
        rating_clock_mhz=None if clock is None else clock.rating_clock_mhz,
        silicon_confidence=None if clock is None else clock.silicon_confidence,
        best_known_mflop_s=None if best is None else _mflop_s(best.tflops),
    )


def _mflop_s(tflops: str) -> int:
    return int(Decimal(tflops) * MFLOP_PER_UNIT["TFLOPS"])  # exact: at most six decimals


def _part(rating: Rating, names: Iterable[Match], part: Part) -> Rating:
    """Return the rating of a row's unit or die, with the sizes of memory that its devices of these names may have."""
    of_part = rating.die() if part == "die" else rating
    sizes = {
        of_part.memory_bytes if match.memory_gb is None else match.memory_gb * 10**9
        for match in names
        if match.part == part
    } or {of_part.memory_bytes}
    return replace(of_part, memory_sizes_bytes=tuple(sorted(size for size in sizes if size and None not in sizes)))


def _only(found: list[Rating], memory_bytes: int | None) -> Rating | None:
    """Return the one rating that a device can have, of those that share its name.

    Memory decides between rows, and between a unit and its dies, of which the unit goes first; where it decides
    nothing, a name of one row is that row's: the judge sees that its memory differs.
    """
    fit = [rating for rating in found if memory_bytes is not None and rating.fits_memory(memory_bytes)]
    units = [rating for rating in found if rating.part == "unit"]
    for some in ([rating for rating in fit if rating.part == "unit"], fit):
        if len(some) == 1:
            return some[0]
    return next(iter(units or found)) if len({rating.accelerator for rating in found}) == 1 else None


def _share(whole: int | None, dies: int) -> int | None:
    return None if whole is None else whole // dies


def _least_memory(size_bytes: int) -> int:
    return size_bytes * MEMORY_LEAST[0] // MEMORY_LEAST[1]


def _most_memory(size_bytes: int) -> int:
    return size_bytes * MEMORY_MOST[0] // MEMORY_MOST[1]
