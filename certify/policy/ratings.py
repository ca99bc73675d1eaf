"""The table of ratings: read from ``configs/accelerators.yaml``, searched by what a driver reports of a device.

What a row must hold, and who adds one, stands in ``docs/ratings.md``. No float may
enter: rates are decimal text in TFLOPS and become MFLOP/s exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bench.errors import InputError
from bench.record import Document, Name, Positive, Precision, Sha256, Text, config_path, encode, parse_yaml, read_given
from bench.record.fields import in_words
from bench.units import MFLOP_PER_UNIT
from certify.policy.rating import (
    Confidence,
    Match,
    Rate,
    RatedKind,
    Rating,
    SiliconConfidence,
    least_memory_bytes,
    most_memory_bytes,
    plain,
    rating_of_part,
)

Decimals = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$(?!\n)", description="decimal text")]


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


class RatingRow(Document, frozen=True, kw_only=True):
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


class RatingTable(Document, frozen=True, kw_only=True):
    accelerators: Annotated[tuple[RatingRow, ...], Meta(min_length=1)]


def rated_in_row(row: RatingRow) -> dict[Precision, Decimals]:
    rates = row.tflops
    nominal: dict[Precision, Decimals | None] = {
        "fp16": rates.fp16,
        "bf16": rates.bf16,
        # the matrix path where there is one: the higher of the two is what a figure may reach
        "fp32": rates.fp32_matrix or rates.fp32_vector,
        "fp64": rates.fp64_matrix or rates.fp64_vector,
    }
    return {precision: tflops for precision, tflops in nominal.items() if tflops is not None}


def rating_of_row(row: RatingRow) -> Rating:
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
        # 10^9 here: `Rating.fits_memory` allows for vendors that mean 2^30
        memory_bytes=None if row.memory_gb is None else row.memory_gb * 10**9,
        tdp_mw=None if row.tdp_w is None else row.tdp_w * 1000,
        year=row.year,
        simulated=row.simulated,
        rates={precision: _rate(row, precision, tflops) for precision, tflops in rated_in_row(row).items()},
    )


def _rate(row: RatingRow, precision: Precision, tflops: str) -> Rate:
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


TABLE_MAX_BYTES = 1024 * 1024


class _StoredRow(Document, frozen=True, kw_only=True):
    match: tuple[Match, ...]
    rating: Rating


_StoredRows = Annotated[tuple[_StoredRow, ...], Meta(min_length=1)]


class Ratings:
    """The table of ratings: immutable, searched by what a driver reports, bound into a statement by its digest."""

    def __init__(self, rows: Iterable[tuple[Rating, tuple[Match, ...]]]) -> None:
        # sorted: the digest that statements bind does not depend on the order of the file
        table = sorted(rows, key=lambda row: row[0].accelerator)
        self.content = encode([_StoredRow(match=names, rating=rating) for rating, names in table])  # canonical JSON
        self.digest: Sha256 = hashlib.sha256(self.content).hexdigest()
        self.units: tuple[Rating, ...] = tuple(rating_of_part(rating, names, "unit") for rating, names in table)
        self._rows: dict[str, list[Rating]] = {}
        self._named: dict[tuple[str, str], list[Rating]] = {}
        for unit, (_, names) in zip(self.units, table, strict=True):
            parts = sorted({match.part for match in names}) or [unit.part]
            self._rows[unit.accelerator] = [rating_of_part(unit, names, part) for part in parts]
            for name, part in dict.fromkeys((plain(match.name), match.part) for match in names):
                same = [match for match in names if plain(match.name) == name]
                self._named.setdefault((plain(unit.vendor), name), []).append(rating_of_part(unit, same, part))

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
            rows = self._rows.get(plays, [])
        else:
            name = model.partition(" MIG ")[0] if count_unit == "slice" else model  # "NVIDIA H200 MIG 1g.18gb"
            rows = self._named.get((plain(vendor), plain(name)), [])
        # a real device never gets a simulated row, whatever name its driver gives
        rows = [rating for rating in rows if simulated or not rating.simulated]
        if count_unit == "slice":
            wholes = {rating.accelerator: rating.whole() for rating in rows}
            return next(iter(wholes.values())) if len(wholes) == 1 else None
        if count_unit == "die":
            rows = [rating for rating in rows if rating.part == "die"] or rows
        return _only_match(rows, memory_bytes)

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
        # a table of one's own could otherwise raise the bound of every figure (L6)
        table = self if self.is_ours else installed_ratings()
        highest: dict[Precision, int] = {}
        for unit in table.units:
            if unit.kind == "accelerator" and not unit.simulated:
                for precision, rate in unit.rates.items():
                    highest[precision] = max(rate.nominal_mflop_s, highest.get(precision, 0))
        return highest

    def ambiguous(self) -> str | None:
        """Return a name that two rows share without differing in memory, if there is one."""
        for (_, name), rows in self._named.items():
            for part in ("unit", "die"):
                same = [rating for rating in rows if rating.part == part]
                sizes = sorted((size, i) for i, rating in enumerate(same) for size in rating.memory_sizes_bytes or (0,))
                for (low, i), (high, j) in pairwise(sizes):
                    # a row without a size is like any other of its name
                    if i != j and (low == 0 or most_memory_bytes(low) >= least_memory_bytes(high)):
                        return name
        return None


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
    rows = parse_yaml(content, RatingTable, where).accelerators
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
        if unrated := row.best_known.keys() - rated_in_row(row).keys():
            what = f"{row.id} has a best known measurement in {', '.join(sorted(unrated))}, and no rating"
            raise InputError("config-invalid", what, where=where)
        if row.id in seen:
            raise InputError("duplicate-accelerator", f"{row.id} stands there twice", where=where)
        seen.add(row.id)
    ratings = Ratings((rating_of_row(row), row.match) for row in rows)
    if (name := ratings.ambiguous()) is not None:
        what = f"the device name {name!r} matches more than one rating"
        raise InputError("duplicate-match", what, where=where, fix="tell the rows apart by memory")
    return ratings


def decode_ratings(content: bytes, where: object) -> Ratings:
    """Return the ratings whose canonical JSON (`Ratings.content`) a release shipped.

    Raises:
        InputError: the text is no such table.
    """
    try:
        rows = msgspec.json.decode(content, type=_StoredRows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("config-invalid", in_words(error), where=where) from None
    return Ratings((row.rating, row.match) for row in rows)


def _only_match(rows: list[Rating], memory_bytes: int | None) -> Rating | None:
    """Return the one rating that a device can have, of those that share its name.

    Memory decides between rows, and between a unit and its dies, of which the unit goes first; where it decides
    nothing, a name of one row is that row's: the judge sees that its memory differs.
    """
    fit = [rating for rating in rows if memory_bytes is not None and rating.fits_memory(memory_bytes)]
    units = [rating for rating in rows if rating.part == "unit"]
    for candidates in ([rating for rating in fit if rating.part == "unit"], fit):
        if len(candidates) == 1:
            return candidates[0]
    return next(iter(units or rows)) if len({rating.accelerator for rating in rows}) == 1 else None
