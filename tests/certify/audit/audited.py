"""A centre of accelerators with telemetry as real ones give it: noise, jitter and idle power, different on each device.

The frame of a record (environment, shapes, errors, campaign) is that of a simulated node; times and readings are drawn
here, and put into figures and samples by the code that does so on a real node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml
from msgspec.structs import replace

from bench.engine.assemble import samples_gz
from bench.engine.measure import READINGS, SampleRow
from bench.profile import load_profile
from bench.record import (
    Campaign,
    Figure,
    Measurement,
    NodeRecord,
    Precision,
    Profile,
    columns,
    throughput_bounds,
)
from bench.telemetry import Reading, Sample, summary
from bench.units import gemm_mflop
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.files import load_private, new_key
from certify.keys.signers import load_scheme
from tests.bench.fleet import simulate_node
from tests.certify.kinds import MI300X, Kind, at_rates
from tests.certify.measured import Measured, centre_yaml, node_name, of_node, seal_record, simulated, test_campaign

SECOND_NS = 10**9
PROFILE = "standard"


@dataclass
class Raw:
    """What one device gives in one workload; ns from the opening of the core window."""

    times: list[int]
    opened_ns: int
    samples: list[Sample]
    rates: list[tuple[int, int]]


Bend = Callable[[int, int, Raw], None]  # node, device: changes what was drawn, before anything is made of it


def honest_raw(
    seed: str, opened_ns: int, sub_ns: int, rate_mflop_s: int, idle: bool, profile: Profile, kind: Kind = MI300X
) -> Raw:
    """Return what an honest device gives: a power with a noise of some watts, a timer that is late by 50 to 300 us."""
    random = Random(seed)
    times = [round(random.gauss(sub_ns, sub_ns / 3000)) for _ in range(30)]
    at, energy, drift, samples = -profile.warmup_ns + random.randrange(200_000), 0.0, 0.0, []
    told = kind.power_mw or 0
    power = told / 7 if idle else told - 50_000.0
    while at < profile.window_ns + profile.guard_ns:
        drift = 0.8 * drift + random.gauss(0, 2500)
        samples.append(
            Sample(
                at,
                Reading(
                    power_mw=None if kind.power_mw is None else round(power),
                    temperature_c=62 + (random.random() < 0.3),
                    clock_mhz=None if kind.clock_mhz is None else kind.clock_mhz - 5 * random.randrange(4),
                    utilisation_ppm=10**6,
                    throttled=(),
                    ecc_uncorrected=0,
                    processes=1,
                    energy_mj=None if kind.power_mw is None else round(energy),
                ),
            )
        )
        step = SECOND_NS // 2 + random.randrange(50_000, 300_000)
        power = told + drift + random.gauss(0, 1500)
        energy += power * step / SECOND_NS
        at += step
    rates = [(s.at_ns + 900, round(rate_mflop_s * random.uniform(0.99, 1.01))) for s in samples[1:] if s.at_ns < 0]
    return Raw(times, opened_ns, samples, rates)


def node_of(
    index: int, base: NodeRecord, bend: Bend, rows: list[SampleRow], profile: str = PROFILE, kind: Kind = MI300X
) -> NodeRecord:
    """Return a node's record with readings of its own, and put its samples into `rows`."""
    dressed = kind.dress(base)
    measurements = tuple(
        _measured(index, order, m, bend, rows, load_profile(profile), kind)
        for order, m in enumerate(dressed.measurements)
    )
    return replace(dressed, measurements=measurements)


def _measured(
    index: int, order: int, m: Measurement, bend: Bend, rows: list[SampleRow], profile: Profile, kind: Kind
) -> Measurement:
    figures = []
    for place, figure in enumerate(m.figures()):
        device, workload = figure.device, str(m.workload)
        sub_ns = sum(figure.subwindow_ns) // 30 - 500_000
        seed, rate = f"{index}/{place}/{workload}", figure.sustained_mflop_s
        raw = honest_raw(seed, figure.opened_ns, sub_ns, rate, order == 0, profile, kind)
        bend(index, place, raw)
        figures.append(_figure(figure, device, raw, m, profile))
        rows += [SampleRow(device, workload, "prepare", 0, f"operand_{i}/a_sha256", "ab" * 32) for i in range(2)]
        at = raw.opened_ns
        for number, elapsed in enumerate(raw.times):
            at += elapsed
            rows.append(SampleRow(device, workload, "window", at, f"subwindow_{number + 1:02d}_ns", elapsed))
        rows += [SampleRow(device, workload, "warmup", at, "rate_mflop_s", rate) for at, rate in raw.rates]
        for sample in raw.samples:
            phase = "warmup" if sample.at_ns < 0 else "window" if sample.at_ns < profile.window_ns else "guard"
            values = {name: getattr(sample.reading, name) for name in READINGS}
            if sample.reading.throttled is not None:
                values["throttled"] = "+".join(sample.reading.throttled) or "none"
            found = [SampleRow(device, workload, phase, sample.at_ns, n, v) for n, v in values.items() if v is not None]
            rows += found
    return replace(m, **columns(figures))


def _figure(figure: Figure, device: str, raw: Raw, m: Measurement, profile: Profile) -> Figure:
    least, total = min(raw.times), sum(raw.times)
    bounds = throughput_bounds(gemm_mflop(m.m, m.n, m.k, figure.launches), raw.times)
    watch = summary(raw.samples, Reading(processes=0, ecc_uncorrected=0), 0, profile.window_ns)
    told = {name: value for name, value in watch._asdict().items() if name != "throttle_reasons"}
    return figure._replace(
        device=device,
        subwindow_min_ns=least,
        subwindow_over_ns=tuple(x - least for x in raw.times),
        sustained_mflop_s=bounds.sustained_mflop_s,
        certified_mflop_s=bounds.certified_mflop_s,
        upper_mflop_s=bounds.upper_mflop_s,
        counted_until_ns=raw.opened_ns + total,
        covered_until_ns=max(figure.covered_until_ns, raw.opened_ns + total),
        event_over_ns=None,
        **told,
    )


def audited(
    folder: Path,
    nodes: int = 2,
    devices: int = 2,
    bend: Bend = lambda node, device, raw: None,
    change: Callable[[int, NodeRecord], NodeRecord] = lambda index, record: record,
    profile: str = PROFILE,
    precisions: tuple[Precision, ...] = ("fp16",),
    kind: Kind = MI300X,
    rates: Mapping[Precision, int] | None = None,
    policies: tuple[str, ...] = ("guangzhou-2000p",),
) -> Measured:
    """Lay out a centre of honest accelerators with its statement.

    Args:
        folder: where.
        nodes, devices: how many.
        bend: changes what a device gave, so that record and samples agree on it.
        change: changes a record after its samples were made, before it is signed.
        profile, precisions: as it was measured.
        kind: of the devices.
        rates: of each device by precision, MFLOP/s; those of a simulated one by default.
        policies: that the statement is judged by.
    """
    new_key(folder / "operator.pem", None)
    key = load_scheme("ed25519").generate()
    base = simulated(devices, profile, precisions).record
    campaign = test_campaign(load_profile(profile), precisions, nodes)
    found = Measured.at(folder)
    found.records.mkdir()
    for index in range(nodes):
        rows: list[SampleRow] = []
        frame = at_rates(of_node(base, index, campaign, key), rates or {}, load_profile(profile))
        record = change(index, node_of(index, frame, bend, rows, profile, kind))
        content = samples_gz(rows)
        (found.records / f"{node_name(index)}.record.dsse.json").write_bytes(seal_record(record, key, content))
        (found.records / f"{node_name(index)}.samples.csv.gz").write_bytes(content)
    return _concluded(found, campaign, policies)


def scripted(folder: Path, scripts: Sequence[Mapping[str, Any]], profile: str = "smoke") -> Measured:
    """Lay out a centre of simulated nodes that each follow a script of their own, with its statement."""
    new_key(folder / "operator.pem", None)
    key = load_scheme("ed25519").generate()
    campaign = test_campaign(load_profile(profile), ("fp16", "fp64"), len(scripts))
    found = Measured.at(folder)
    found.records.mkdir()
    for index, script in enumerate(scripts):
        one = simulate_node(script, 1, profile, ("fp16", "fp64"), node_name(index), campaign)
        record = of_node(one.record, index, campaign, key)
        (found.records / f"{node_name(index)}.record.dsse.json").write_bytes(seal_record(record, key, one.samples))
        (found.records / f"{node_name(index)}.samples.csv.gz").write_bytes(one.samples)
    return _concluded(found, campaign)


def _concluded(found: Measured, campaign: Campaign, policies: tuple[str, ...] = ("guangzhou-2000p",)) -> Measured:
    sealed = dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [load_private(found.key)])
    found.campaign.write_bytes(sealed)
    found.close(campaign)
    found.centre.write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    found.certify(policies=policies)
    return found
