"""A forger who writes every number of a record so that it agrees with all others, and what the judge accepts of it.

He has the node's keys, so that no seal stops him, and no device: whatever the rules compare with each other agrees. He
chooses what to tell beside his rate (units, clocks, power, sources, companions, parents) and takes the best choice.
``python -m tests.certify.forger`` prints what he gains on each row of the ratings table.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from math import sqrt
from random import Random
from typing import Any, NamedTuple

from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import (
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Precision,
    ReferenceFigure,
    ReferenceMeasurement,
    columns,
    digest,
)
from certify.judge.tally import counted_sums
from certify.policy.policies import Counting
from certify.policy.rating import Rating
from certify.policy.ratings import Ratings, installed_ratings
from certify.statement.build import StatementInputs
from tests.bench.fleet import simulate
from tests.certify.judged import basis_of, centre_of, policy_of, tally_of
from tests.certify.kinds import Kind, at_rates, kind_of, rows_of
from tests.certify.measured import node_name, test_campaign

PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "fp32", "fp64")
GRADES: tuple[Grade, ...] = ("smoke", "standard", "certification")
TFLOPS = 10**6  # MFLOP/s
MOST_MFLOP_S = 2**50  # beyond every limit
FINE = 1.001  # how near a search comes to the largest rate that is accepted
STEEP = (1.05, 1.4, 3.0, 1000.0)  # how far beyond what he has he tries as well


class Lie(NamedTuple):
    """Something that a forger tells beside his rate: of the kind of device, or of the finished record."""

    name: str
    kind: Callable[[Kind], Kind] = lambda kind: kind
    record: Callable[[NodeRecord], NodeRecord] = lambda record: record


Story = tuple[Lie, ...]  # what he tells together


def tells(name: str, **facts: Any) -> Lie:
    """Return the lie of a kind with other facts."""
    return Lie(name, lambda kind: dataclasses.replace(kind, **facts))


def models_are(name: str, **facts: Any) -> Lie:
    """Return the lie of models with other facts."""
    return Lie(name, record=lambda record: replace(record, models=tuple(replace(m, **facts) for m in record.models)))


def figures_are(name: str, change: Callable[[Figure], Figure]) -> Lie:
    """Return the lie of other figures."""

    def changed(record: NodeRecord) -> NodeRecord:
        found = tuple(replace(m, **columns(change(f) for f in m.figures())) for m in record.measurements)
        return replace(record, measurements=found)

    return Lie(name, record=changed)


def renamed(prefix: str) -> Callable[[NodeRecord], NodeRecord]:
    """Return a change after which all devices are named as those of another kind of back end."""

    def new(name: str) -> str:
        return f"{prefix}:{name.partition(':')[2]}"

    def change(record: NodeRecord) -> NodeRecord:
        return replace(
            record,
            devices=tuple(replace(d, device=new(d.device)) for d in record.devices),
            measurements=tuple(replace(m, device=tuple(map(new, m.device))) for m in record.measurements),
            companions=tuple(replace(c, device=tuple(map(new, c.device))) for c in record.companions),
        )

    return change


def with_issued(kernel: str, times: float, *, clock: int | None = None, exact: bool = True) -> Lie:
    """Return the lie of a rate of issue beside each figure, so many times as high and at another clock."""

    def change(record: NodeRecord) -> NodeRecord:
        beside = []
        for m in record.measurements:
            if m.choice != "fixed":
                continue
            rows = [
                ReferenceFigure(
                    f.device,
                    20 * 10**9,
                    round(f.sustained_mflop_s * times),
                    None,
                    f.clock_mean_mhz if clock is None else clock,
                    None,
                    None,
                    exact,
                    None,
                )
                for f in m.figures()
            ]
            beside.append(ReferenceMeasurement(kernel=kernel, role="ceiling", precision=m.precision, **columns(rows)))
        return replace(record, companions=(*record.companions, *beside))

    return Lie(f"{kernel} at {times} of the figure, clock {clock}, exact {exact}", record=change)


def with_paths(times: float) -> Lie:
    """Return the lie of second paths that are so many times as fast as the figures."""

    def change(record: NodeRecord) -> NodeRecord:
        found = []
        for reference in record.companions:
            rows = [f._replace(rate_mflop_s=round((f.rate_mflop_s or 0) * times)) for f in reference.figures()]
            found.append(replace(reference, **columns(rows)))
        return replace(record, companions=tuple(found))

    return Lie(f"paths {times} times as fast", record=change)


def parts(name: str, count_unit: str, **facts: Any) -> Lie:
    """Return the lie that every whole device is a part of a parent of its own."""

    def change(record: NodeRecord) -> NodeRecord:
        devices = tuple(replace(d, parent=d.parent or f"P-{d.serial}") for d in record.devices)
        models = tuple(replace(m, count_unit=count_unit, **facts) for m in record.models)
        return replace(record, devices=devices, models=models)

    return Lie(name, record=change)


def _scaled(name: str, field: str, by: float) -> Lie:
    def change(kind: Kind) -> Kind:
        told = getattr(kind, field)
        return kind if told is None else dataclasses.replace(kind, **{field: max(1, round(told * by))})

    return Lie(name, change)


# What he may tell of each matter; of each he may also tell the truth.
MATTERS: tuple[tuple[Lie, ...], ...] = (
    (
        tells("no units", units=None),
        tells("0 units", units=0),
        tells("a million units", units=10**6),
        _scaled("twice the units", "units", 2),
        _scaled("a unit more", "units", 1.01),
    ),
    (
        tells("no highest clock", max_clock_mhz=None),
        tells("a highest clock of 0", max_clock_mhz=0),
        tells("a highest clock of 9 GHz", max_clock_mhz=9000),
    ),
    (
        tells("no clock", clock_mhz=None),
        tells("a clock of 9 GHz", clock_mhz=9000),
        _scaled("a clock 1 % above the board's", "clock_mhz", 1.01),
        figures_are("a clock read 59 times", lambda f: f._replace(clock_samples=59, clock_gap_ns=10**9)),
        figures_are("no readings of the clock", lambda f: f._replace(clock_samples=0, clock_gap_ns=None)),
        figures_are("a mean clock alone", lambda f: f._replace(clock_max_mhz=None)),
    ),
    (
        tells("no power", power_mw=None),
        tells("a power of 1 mW", power_mw=1),
        _scaled("1.5 times the power", "power_mw", 1.5),
        tells("a power of 10 kW", power_mw=10**7),
    ),
    (
        tells("no source", source=None),
        models_are("a source of its own, which tells nothing", source="quiet", exposes=()),
        Lie("another kind of back end", record=renamed("torch")),
        Lie("a back end that nobody knows", record=renamed("acme")),
    ),
    (
        Lie("no companions", record=lambda record: replace(record, companions=())),
        with_paths(1.5),
        with_paths(0.9),
        with_issued("issue-mma", 1.0),
        with_issued("issue-mma", 10.0),
        with_issued("issue-wgmma", 0.98),
        with_issued("issue-fma", 4.0),
        with_issued("issue-mma", 10.0, clock=1),
        with_issued("issue-mma", 10.0, exact=False),
    ),
    (
        tells("no memory", memory_bytes=None),
        models_are("a bin", bin="910B1"),
        models_are("a row that it plays", plays="nvidia-gb200"),
        models_are("an NPU", kind="npu"),
        Lie("a name in other letters", lambda kind: dataclasses.replace(kind, model=f" {kind.model.upper()} ")),
        models_are("no vendor that anybody knows", vendor="Acme"),
    ),
    (
        parts("dies", "die"),
        parts("slices of a whole", "slice"),
        parts("slices of unknown size", "slice", units=None),
        models_are("a package", count_unit="package"),
        models_are("a card", count_unit="card"),
    ),
    (
        Lie(
            "another kernel",
            record=lambda record: replace(
                record, measurements=tuple(replace(m, kernel="gemm-own") for m in record.measurements)
            ),
        ),
        figures_are("events", lambda f: f._replace(event_over_ns=0)),
        figures_are("all time for checks", lambda f: f._replace(duty_ppm=1)),
        figures_are("errors of the best", lambda f: f._replace(row_error_ppm=400_000, rms_error_ppm=390_000)),
    ),
)
TRUTH: Story = ()
ALONE: tuple[Story, ...] = (TRUTH, *((lie,) for matter in MATTERS for lie in matter))


def stories(seed: str, count: int) -> Iterator[Story]:
    """Yield so many stories, of each matter a lie or the truth, drawn alike for one seed."""
    random = Random(seed)
    for _ in range(count):
        told = (random.choice((None, *matter)) for matter in MATTERS)
        yield tuple(lie for lie in told if lie is not None)


@cache
def basis(precision: Precision, grade: Grade, ratings: Ratings | None = None) -> StatementInputs:
    """Return what a statement is computed from whose only pool counts a precision, under no accepted hold."""
    words = policy_of().counting["general"].assumption
    counting = Counting(precision=precision, accumulate=_accumulate(precision), choice="fixed", assumption=words)
    centre = centre_of(pools=[{"pool": "main", "class": "general", "nodes": "all", "devices": "all"}])
    policy = policy_of(counting={"general": counting}, conditions=policy_of().conditions[:1])
    campaign = test_campaign(load_profile(grade), (precision,), 1)
    return basis_of(campaign, grade, centre, (policy,), ratings=ratings)


def _accumulate(precision: Precision) -> Precision:
    return "fp64" if precision == "fp64" else "fp32"


def accepted_mflop_s(record: NodeRecord, precision: Precision, grade: Grade) -> int:
    """Return how much of a record counts, as certify and every verifier compute it."""
    given = basis(precision, grade)
    ((_, sums),) = counted_sums(tally_of([record], given), given.scope)
    return sums.counted.sustained_mflop_s


@cache
def _base(devices: int, precision: Precision, grade: Grade) -> NodeRecord:
    profile = load_profile(grade)
    computed: Precision = "fp16" if precision == "bf16" else precision  # the fake has no BF16, which is as wide
    script = {"rate_gflop_s": {computed: 400_000}}
    record = simulate(script, devices, grade, (computed,), node_name(0), test_campaign(profile, (computed,), 1))
    return replace(
        record,
        campaign_sha256=digest(test_campaign(profile, (precision,), 1)),
        measurements=tuple(replace(m, precision=precision) for m in record.measurements),
    )


def forged(kind: Kind, story: Story, precision: Precision, grade: Grade, rate_mflop_s: int) -> NodeRecord:
    """Return a record of one whole unit that gave so much, and all that he tells with it."""
    profile = load_profile(grade)
    for lie in story:
        kind = lie.kind(kind)
    base = _base(kind.dies, precision, grade)
    record = kind.dress(at_rates(base, {precision: max(1, rate_mflop_s // kind.dies)}, profile))
    for lie in story:
        record = lie.record(record)
    return record


class Gain(NamedTuple):
    """The most that a forger gets accepted, and what he tells with it."""

    mflop_s: int
    story: Story


def most_accepted(kind: Kind, told: Iterable[Story], precision: Precision, grade: Grade) -> Gain:
    """Return the largest rate that any of the stories gets accepted."""
    best = Gain(0, TRUTH)
    for story in told:

        def gets(rate_mflop_s: float, story: Story = story) -> int:
            return accepted_mflop_s(forged(kind, story, precision, grade, round(rate_mflop_s)), precision, grade)

        for more in _tried(best.mflop_s):
            if (got := gets(more)) > best.mflop_s * FINE:
                best = Gain(_bisected(gets, more, got), story)
    return best


def _tried(best_mflop_s: int) -> Sequence[float]:
    """Return the rates that he tries with a story that may be better: acceptance need not fall as the rate rises."""
    if best_mflop_s:
        return [best_mflop_s * FINE**2, *(best_mflop_s * by for by in STEEP)]
    return [TFLOPS * 2.0**power for power in range(-4, 13)]


def _bisected(gets: Callable[[float], int], low: float, got: int) -> int:
    """Return the most accepted between a rate that is accepted and one that is beyond every limit."""
    high = float(MOST_MFLOP_S)
    while high > low * FINE:
        middle = sqrt(low * high)
        if (now := gets(middle)) > got:
            low, got = middle, now
        else:
            high = middle
    return got


def most_allowed(unit: Rating, precision: Precision) -> int:
    """Return what the rules promise that no forger passes on a row (facts: 1.2 x best known, 0.6 x rating, L1).

    Args:
        unit: the row of a whole unit.
        precision: of the figure.
    """
    nominal, known = unit.nominal_mflop_s(precision), unit.best_known_mflop_s(precision)
    if nominal is None or unit.confidence not in ("high", "medium"):
        return 0
    silicon = None
    if unit.silicon_is_certain(precision):
        rate = unit.rates[precision]
        silicon = (unit.units or 0) * (rate.flop_per_clock_per_unit or 0) * (unit.highest_clock_mhz or 0)
    if known is not None:
        best = max(known * 120, nominal * 60) // 100
        return best if silicon is None else min(best, silicon)
    return nominal * 105 // 100 if silicon is None else silicon


def honest_mflop_s(unit: Rating, precision: Precision) -> int | None:
    """Return what an honest twin gives: 0.95 x the best known, else of what bounds it; None where nothing does."""
    known, most = unit.best_known_mflop_s(precision), most_allowed(unit, precision)
    if not most:
        return None
    return (known if known is not None else min(most, unit.nominal_mflop_s(precision) or most)) * 95 // 100


def invented(record: NodeRecord, count: int, parent: Callable[[int], str | None], **model: Any) -> NodeRecord:
    """Return a record whose one device is told as so many, each of which gave what it gave.

    Args:
        record: of one device.
        count: of devices.
        parent: of each by its place; None where it is told as a whole.
        model: facts of the devices' model.
    """
    (first,) = record.devices
    prefix = first.device.partition(":")[0]
    devices = []
    for place in range(count):
        digits = hashlib.sha256(f"{first.uuid}/{first.die_id}/{place}".encode()).hexdigest()
        whole = parent(place)
        devices.append(
            replace(
                first,
                device=f"{prefix}:{place}",
                uuid=None if first.uuid is None else f"GPU-{digits[:32]}" if prefix == "cuda" else digits[:16],
                die_id=None if first.die_id is None else digits[:40],
                serial=f"S{digits[:15]}" if whole is None else f"S{whole}",
                pci_address=None,
                parent=whole,
            )
        )
    names = [d.device for d in devices]
    measurements = tuple(
        replace(m, **columns([next(m.figures())._replace(device=name) for name in names])) for m in record.measurements
    )
    beside = tuple(
        replace(c, **columns([next(c.figures())._replace(device=name) for name in names])) for c in record.companions
    )
    models = tuple(replace(one, **model) for one in record.models)
    return replace(record, models=models, devices=tuple(devices), measurements=measurements, companions=beside)


def processor(precision: Precision, grade: Grade, rate_mflop_s: int, cores: int | None = 2, **facts: Any) -> NodeRecord:
    """Return the record of a node without accelerators, whose processor gave so much."""
    profile = load_profile(grade)
    record = at_rates(_base(1, precision, grade), {precision: rate_mflop_s}, profile)
    kind = Kind("cpu", "AMD", "AMD EPYC 9654 96-Core Processor", cores, None, None, None, None, None)
    record = kind.dress(record)
    half = precision in ("fp16", "bf16")
    told = {"kind": "cpu", "instruction_set": None, "cache_bytes": 2**20, "simulated": False} | facts
    return replace(
        record,
        models=tuple(replace(model, **told) for model in record.models),
        measurements=tuple(replace(m, method="upcast" if half else "native") for m in record.measurements),
    )


def with_more_launches(record: NodeRecord, times: int) -> NodeRecord:
    """Return a real record whose launches were multiplied, with every rate that follows from them."""

    def change(m: Measurement) -> Measurement:
        rows = [
            f._replace(
                launches=f.launches * times,
                sustained_mflop_s=f.sustained_mflop_s * times,
                certified_mflop_s=f.certified_mflop_s * times,
                upper_mflop_s=None if f.upper_mflop_s is None else f.upper_mflop_s * times,
            )
            for f in m.figures()
        ]
        return replace(m, **columns(rows))

    return replace(record, measurements=tuple(map(change, record.measurements)))


def main() -> None:
    """Print what a forger gains on each row: accepted, beside the best public measurement and the rating, TFLOPS."""
    for precision in PRECISIONS:
        for unit, name, row in rows_of(installed_ratings()):
            gain = most_accepted(kind_of(row, name), ALONE, precision, "certification")
            if gain.mflop_s:
                known, nominal = unit.best_known_mflop_s(precision), unit.nominal_mflop_s(precision)
                of_known = f"{gain.mflop_s / known:.2f}" if known else "-"
                told = " + ".join(lie.name for lie in gain.story) or "the truth"
                rate, of_nominal = gain.mflop_s / TFLOPS, gain.mflop_s / (nominal or 1)
                print(f"{precision:5}{unit.accelerator:28}{rate:10.2f}{of_known:>7}{of_nominal:7.2f}  {told}")


if __name__ == "__main__":
    main()
