"""Nominal ratings: what the vendor says a device does, read from ``configs/accelerators.yaml`` into integers.

A rating is never a measurement and never counts as capacity; it stands beside the certified figure and bounds what is
plausible (R12). No float may enter: rates are decimal text in TFLOPS and become MFLOP/s exactly.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bench.errors import InputError
from bench.record import Document, Name, Positive, Precision, Sha256, Text, config_path, encode, parse_yaml, read_bytes
from bench.units import MFLOP_PER_UNIT

Confidence = Literal["high", "medium", "low", "none"]
Part = Literal["unit", "die"]
Decimals = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$(?!\n)", description="decimal text")]

TABLE_MAX_BYTES = 1024 * 1024
MEMORY_TOLERANCE = 8  # a driver reports up to 1/8 more (binary gigabytes) or less (ECC, firmware) than the data sheet


class Rate(Document, frozen=True, kw_only=True):
    """What one precision of a device is rated at; null where it is not known for certain."""

    nominal_mflop_s: Positive
    flop_per_clock_per_unit: Positive | None = None
    rating_clock_mhz: Positive | None = None


class Rating(Document, frozen=True, kw_only=True):
    """The rating of one device as the driver lists it: a whole unit, or one die of a package or card."""

    accelerator: Name
    name: Text
    vendor: Text
    confidence: Confidence
    count_unit: Literal["card", "package"]
    dies_per_unit: Positive
    part: Part
    units: Positive | None  # SMs or CUs
    memory_bytes: Positive | None
    tdp_mw: Positive | None
    rates: dict[Precision, Rate]

    def nominal_mflop_s(self, precision: Precision) -> int | None:
        """Return the dense rating in MFLOP/s, of the matrix path where native, else vector; None if there is none."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.nominal_mflop_s

    def flop_per_clock_per_unit(self, precision: Precision) -> int | None:
        """Return the most FLOP that one unit does in one clock, or None where that is not known for certain."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.flop_per_clock_per_unit

    def rating_clock_mhz(self, precision: Precision) -> int | None:
        """Return the clock at which the rating holds, or None where that is not known for certain."""
        rate = self.rates.get(precision)
        return None if rate is None else rate.rating_clock_mhz

    def die(self) -> Rating:
        """Return the rating of one die of this unit: an equal share of everything."""
        dies = self.dies_per_unit
        return Rating(
            accelerator=self.accelerator,
            name=self.name,
            vendor=self.vendor,
            confidence=self.confidence,
            count_unit=self.count_unit,
            dies_per_unit=dies,
            part="die",
            units=_share(self.units, dies),
            memory_bytes=_share(self.memory_bytes, dies),
            tdp_mw=_share(self.tdp_mw, dies),
            rates={
                precision: Rate(
                    nominal_mflop_s=rate.nominal_mflop_s // dies,
                    flop_per_clock_per_unit=rate.flop_per_clock_per_unit,
                    rating_clock_mhz=rate.rating_clock_mhz,
                )
                for precision, rate in self.rates.items()
            },
        )


class Match(Document, frozen=True, kw_only=True):
    """A device name as the driver reports it. Names are compared whole, memory only where both sides know it."""

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
        self.units: tuple[Rating, ...] = tuple(rating for rating, _ in table)
        self.content = encode([_Rated(match=names, rating=rating) for rating, names in table])  # canonical JSON
        self.digest: Sha256 = hashlib.sha256(self.content).hexdigest()
        self._found: dict[tuple[str, str], list[tuple[int | None, Rating]]] = {}
        for rating, names in table:
            for match in names:
                part = rating.die() if match.part == "die" else rating
                memory = part.memory_bytes if match.memory_gb is None else match.memory_gb * 10**9
                self._found.setdefault((plain(rating.vendor), plain(match.name)), []).append((memory, part))

    def match(
        self, vendor: str, model: str, memory_bytes: int | None = None, count_unit: str | None = None
    ) -> Rating | None:
        """Return the rating of a device, or None where the table has none that is certainly the device's.

        Args:
            vendor, model: as the driver reports them; compared whole after case and spaces are levelled.
            memory_bytes: memory of the device, if known; without it a name that stands for several parts matches none.
            count_unit: how the device counts; a slice of a device has no rating.
        """
        if count_unit == "slice":
            return None
        found = self._found.get((plain(vendor), plain(model)), [])
        if memory_bytes is not None:
            found = [(memory, part) for memory, part in found if memory is None or _same(memory_bytes, memory)]
        return found[0][1] if len(found) == 1 else None

    def ambiguous(self) -> str | None:
        """Return a name under which two parts cannot be told apart by their memory, if there is one."""
        for (_, name), found in self._found.items():
            sizes = sorted(memory or 0 for memory, _ in found)
            for low, high in pairwise(sizes):
                if low == 0 or low * (MEMORY_TOLERANCE + 1) >= high * (MEMORY_TOLERANCE - 1):
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
    content = read_bytes(path, TABLE_MAX_BYTES)
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
        raise InputError("config-invalid", str(error), where=where) from None
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
    rating_clock_mhz: Positive


class _Silicon(Document, frozen=True, kw_only=True):
    units: Positive
    fp16: _Clock | None = None
    bf16: _Clock | None = None
    fp32: _Clock | None = None
    fp64: _Clock | None = None


class _Measured(Document, frozen=True, kw_only=True):
    precision: Literal["fp16", "bf16", "fp32", "fp64", "int8"]
    tflops: Decimals
    how: Text
    source: Text


class _Row(Document, frozen=True, kw_only=True):
    id: Name
    name: Text
    vendor: Text
    match: tuple[Match, ...] = ()
    count_unit: Literal["card", "package"]
    dies_per_unit: Positive
    tflops: _Rates
    int8_tops: Decimals | None = None
    silicon: _Silicon | None = None
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


def _rating(row: _Row) -> Rating:
    nominal: dict[Precision, Decimals | None] = {
        "fp16": row.tflops.fp16,
        "bf16": row.tflops.bf16,
        "fp32": row.tflops.fp32_matrix or row.tflops.fp32_vector,
        "fp64": row.tflops.fp64_matrix or row.tflops.fp64_vector,
    }
    clocks: dict[Precision, _Clock | None] = {}
    if (silicon := row.silicon) is not None:
        clocks = {"fp16": silicon.fp16, "bf16": silicon.bf16, "fp32": silicon.fp32, "fp64": silicon.fp64}
    return Rating(
        accelerator=row.id,
        name=row.name,
        vendor=row.vendor,
        confidence=row.confidence,
        count_unit=row.count_unit,
        dies_per_unit=row.dies_per_unit,
        part="unit",
        units=None if silicon is None else silicon.units,
        memory_bytes=None if row.memory_gb is None else row.memory_gb * 10**9,
        tdp_mw=None if row.tdp_w is None else row.tdp_w * 1000,
        rates={
            precision: _rate(tflops, clocks.get(precision))
            for precision, tflops in nominal.items()
            if tflops is not None
        },
    )


def _rate(tflops: str, clock: _Clock | None) -> Rate:
    nominal = int(Decimal(tflops) * MFLOP_PER_UNIT["TFLOPS"])  # exact: at most six decimals
    if clock is None:
        return Rate(nominal_mflop_s=nominal)
    return Rate(
        nominal_mflop_s=nominal,
        flop_per_clock_per_unit=clock.flop_per_clock_per_unit,
        rating_clock_mhz=clock.rating_clock_mhz,
    )


def _share(whole: int | None, dies: int) -> int | None:
    return None if whole is None else whole // dies


def _same(reported: int, expected: int) -> bool:
    return abs(reported - expected) * MEMORY_TOLERANCE <= expected
