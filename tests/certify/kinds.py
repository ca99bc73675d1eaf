"""Records of real kinds of accelerators, made here: what an honest device of each row of the ratings table tells.

The frame of a record (campaign, environment, errors) is that of a simulated node; what a vendor's stack tells of its
devices stands here, written from the facts that the ratings and the table of sources bind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from bench.record import (
    Device,
    Figure,
    Measurement,
    NodeClock,
    NodeRecord,
    Precision,
    Profile,
    ReferenceFigure,
    ReferenceMeasurement,
    columns,
    throughput_bounds,
)
from bench.record.node import CountUnit
from bench.units import gemm_mflop
from certify.judge.case import VENDORS
from certify.policy.rating import Rating, plain
from certify.policy.ratings import Ratings
from tests.certify.signed import SWITCHES

SECOND_NS = 10**9
PREFIXES = {plain(vendor): prefix for prefix, vendor in VENDORS.items()}
# What each vendor's tool of today tells of power and clock, as the table of sources has it.
TOLD: dict[str, tuple[str, bool, bool]] = {
    "cuda": ("nvml", True, True),
    "rocm": ("rocm-smi", True, True),
    "npu": ("dcmi", True, True),
    "mlu": ("cnmon", True, False),
    "dcu": ("hy-smi", True, True),
    "musa": ("mthreads-gmi", True, True),
    "maca": ("mx-smi", True, False),
    "corex": ("ixsmi", True, False),
    "kunlun": ("xpu-smi", True, True),
}


@dataclass(frozen=True)
class Kind:
    """One kind of accelerator as its stack tells it."""

    prefix: str  # of its devices' names
    vendor: str
    model: str
    units: int | None
    max_clock_mhz: int | None
    clock_mhz: int | None  # under load; None where the tool tells none
    power_mw: int | None
    memory_bytes: int | None
    source: str | None
    kind: Literal["gpu", "npu"] = "gpu"
    count_unit: CountUnit = "card"
    dies: int = 1  # devices of one parent

    def dress(self, record: NodeRecord) -> NodeRecord:
        """Return a simulated record as one of this kind: names, identities, what is told, and what stands beside."""
        named = {d.device: f"{self.prefix}:{place}" for place, d in enumerate(record.devices)}
        exposes = tuple(n for n, v in (("power", self.power_mw), ("clock", self.clock_mhz)) if v is not None)
        models = tuple(
            replace(
                model,
                kind=self.kind,
                simulated=False,
                vendor=self.vendor,
                model=self.model,
                count_unit=self.count_unit,
                units=self.units,
                max_clock_mhz=self.max_clock_mhz,
                memory_bytes=self.memory_bytes,
                source=self.source,
                exposes=exposes,
                obtained=dict.fromkeys(("vendor", "model", "uuid", "serial", "die_id"), "host_attested"),
            )
            for model in record.models
        )
        devices = tuple(self._identified(record, place, d) for place, d in enumerate(record.devices))
        measurements = tuple(self._measured(m, named) for m in record.measurements)
        beside = tuple(_path(m) for m in measurements if self.prefix == "cuda" and m.choice == "fixed")
        return replace(
            record,
            models=models,
            devices=devices,
            measurements=measurements,
            companions=beside,
            clock=NodeClock(source="chrony", uncertainty_ns=1_000_000),
            environment=replace(record.environment, switches=SWITCHES),
        )

    def _identified(self, record: NodeRecord, place: int, device: Device) -> Device:
        def digits(what: str, of: int, length: int) -> str:
            return hashlib.sha256(f"{record.node_id}/{of}/{what}".encode()).hexdigest()[:length]

        parent = f"B{digits('board', place // self.dies, 15)}" if self.count_unit == "die" else None
        uuid = digits("uuid", place, 32 if self.prefix == "cuda" else 16)
        if self.prefix == "cuda":
            uuid = f"GPU-{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"
        die = " ".join(digits("die", place, 40)[i : i + 8].upper() for i in range(0, 40, 8))
        return replace(
            device,
            device=f"{self.prefix}:{place}",
            uuid=None if self.prefix == "npu" else uuid,
            serial=parent or f"S{digits('serial', place, 15)}",
            die_id=die if self.prefix == "npu" else None,
            pci_address=f"0000:{place + 1:02x}:00.0",
            parent=parent,
        )

    def _measured(self, m: Measurement, named: Mapping[str, str]) -> Measurement:
        rows = [self._figure(f)._replace(device=named[f.device]) for f in m.figures()]
        return replace(m, kernel="gemm-torch", **columns(rows))

    def _figure(self, f: Figure) -> Figure:
        told: dict[str, Any] = {
            "power_mean_mw": self.power_mw,
            "clock_mean_mhz": self.clock_mhz,
            "clock_max_mhz": self.clock_mhz,
            "power_counter_mw": None,
        }
        if self.clock_mhz is None:
            told |= {"clock_samples": 0, "clock_gap_ns": None}
        if self.power_mw is None:
            told |= {"power_samples": 0, "power_gap_ns": None}
        return f._replace(event_over_ns=None, **told)


MI300X = Kind("rocm", "AMD", "AMD Instinct MI300X", 304, 2100, 1715, 650_000, 192 * 10**9, "rocm-smi")


def _path(m: Measurement) -> ReferenceMeasurement:
    """Return a second path that agrees with the figure, as profiles want it beside NVIDIA's."""
    rows = [
        ReferenceFigure(
            f.device, 20 * SECOND_NS, f.sustained_mflop_s, None, None, f.row_error_ppm, f.rms_error_ppm, None, None
        )
        for f in m.figures()
    ]
    return ReferenceMeasurement(kernel="gemm-cupy", role="path", precision=m.precision, **columns(rows))


def kind_of(rating: Rating, name: str, load: float = 0.85) -> Kind:
    """Return the kind that an honest device of a row is, under one of the names that match it.

    Args:
        rating: as matched: of the die where the row lists dies.
        name: as the driver reports it.
        load: the share of its highest clock and rated power that the device sustains.
    """
    prefix = PREFIXES.get(plain(rating.vendor), "torch")
    source, tells_power, tells_clock = TOLD.get(prefix, (None, False, False))
    clocks = [rating.highest_clock_mhz, *(rating.rating_clock_mhz(p) for p in rating.rates)]
    most = max((mhz for mhz in clocks if mhz is not None), default=1500)
    power = (rating.tdp_mw or 300_000) * load
    return Kind(
        prefix=prefix,
        vendor=rating.vendor,
        model=name,
        units=rating.units,
        max_clock_mhz=most if tells_clock else None,
        clock_mhz=most if tells_clock else None,
        power_mw=round(power) if tells_power else None,
        memory_bytes=rating.memory_sizes_bytes[0] if rating.memory_sizes_bytes else None,
        source=source,
        kind="npu" if prefix in ("npu", "mlu") else "gpu",
        count_unit="die" if rating.part == "die" else rating.count_unit,
        dies=rating.dies_per_unit if rating.part == "die" else 1,
    )


def rows_of(ratings: Ratings) -> Iterator[tuple[Rating, str, Rating]]:
    """Yield each row of real accelerators that a driver may name: (whole unit, a name, the row as matched by it)."""
    names = {row["rating"]["accelerator"]: row["match"] for row in json.loads(ratings.content)}
    for unit in ratings.units:
        if unit.simulated or unit.kind == "cpu":
            continue
        for match in names[unit.accelerator]:
            part = match.get("part", "unit")
            sizes = [rating for rating in ratings._rows[unit.accelerator] if rating.part == part]
            memory = match.get("memory_gb")
            size = memory * 10**9 if memory else sizes[0].memory_bytes
            found = ratings.match(unit.vendor, match["name"], size, "die" if part == "die" else unit.count_unit)
            if found is not None:
                yield unit, match["name"], replace(found, memory_sizes_bytes=(size,) if size else ())
                break


def at_rates(record: NodeRecord, rates: Mapping[Precision, int], profile: Profile) -> NodeRecord:
    """Return a record whose devices each gave these rates, MFLOP/s, over nearly the whole of their windows."""
    if not rates:
        return record
    measured = tuple(_at_rate(m, rates[m.precision], profile) for m in record.measurements if m.precision in rates)
    return replace(record, measurements=measured)


def _at_rate(m: Measurement, rate_mflop_s: int, profile: Profile) -> Measurement:
    longest_ns = profile.window_ns // (30 * profile.launches_per_subwindow)
    sizes = sorted({(s.m * s.n * s.k, s.m, s.n, s.k) for s in profile.registered(m.workload)})
    short = [size for size in sizes if 2 * size[0] * 1000 <= rate_mflop_s * longest_ns // 8] or sizes[:1]
    work, rows, cols, depth = short[-1]
    launch_ns = max(1, 2 * work * 1000 // rate_mflop_s)
    each = (profile.window_ns - profile.window_ns // 300) // 30 // launch_ns
    launches = 30 * each
    total_ns = gemm_mflop(rows, cols, depth, launches) * SECOND_NS // rate_mflop_s
    figures = []
    for f in m.figures():
        least = total_ns // 30
        over = tuple(total_ns - 30 * least if i == 29 else 0 for i in range(30))
        bounds = throughput_bounds(gemm_mflop(rows, cols, depth, launches), [least + o for o in over])
        figures.append(
            f._replace(
                launches=launches,
                subwindow_min_ns=least,
                subwindow_over_ns=over,
                sustained_mflop_s=bounds.sustained_mflop_s,
                certified_mflop_s=bounds.certified_mflop_s,
                upper_mflop_s=bounds.upper_mflop_s,
                counted_until_ns=f.opened_ns + total_ns,
                covered_until_ns=max(f.opened_ns + total_ns, profile.window_ns - profile.window_ns // 500),
            )
        )
    item = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}[m.precision]
    bytes_each = (rows * depth + depth * cols) * item
    return replace(m, m=rows, n=cols, k=depth, operand_sets=2, operand_bytes=2 * bytes_each, **columns(figures))
