"""`petaseal audit`: agrees with every honest statement, and names each lie of a record, a statement or samples."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import Figure, NodeRecord, columns, config_path, throughput_bounds
from bench.telemetry import Reading, Sample
from bench.units import gemm_mflop, rate_text, utc_ns
from certify.audit import describe
from certify.audit.run import AuditReport, AuditRequest, audit, compare
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE
from certify.documents.statement import CapacityStatement
from certify.keys.files import load_private
from certify.policy.ratings import installed_ratings, load_ratings
from certify.policy.reasons import effect_of
from certify.statement import records
from certify.statement.bounds import bound_text
from certify.trust.store import Anchor
from certify.verify.recompute import plain
from tests.bad_input.command import petaseal
from tests.certify.audit.audited import Bend, Raw, audited, scripted
from tests.certify.measured import Measured, measured, node_name, withdraw
from tests.oracle import bounds
from tests.oracle import whole as oracle
from tests.oracle.judging import CODES

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))


def audit_of(centre: Measured, **changes: Any) -> AuditReport:
    """Audit a centre's statement as the command does."""
    wanted: dict[str, Any] = {
        "folder": centre.folder / "out",
        "samples": centre.records,
        "anchor": Anchor(public_key=centre.public_key),
        "at_ns": 1_900_000_000_000_000_000,
    }
    return audit(AuditRequest(**{**wanted, **changes}))


def found(report: AuditReport) -> set[str]:
    """Return the codes of everything that was found."""
    return {issue.code for issue in report.issues}


# Honest statements
SCRIPTS: list[dict[str, Any]] = [
    {},
    {"noise_ppm": 100_000},
    {"noise_ppm": 200_000, "noise_correlation": 0.9, "noise_interval_s": 0.3},
    {"throttle": [{"from_s": 1, "to_s": 2, "rate_ppm": 500_000}]},
    {"telemetry": False},
    {"telemetry_interval_s": 1.5},
    {"ecc_error_at_s": 1.0},
    {"foreign_before": 2},
    {"foreign_from_s": 1.0},
    {"energy_ppm": 0},
    {"energy_ppm": 300_000},
    {"event_ppm": 50_000},
    {"event_ppm": None},
    {"late_s": 2.5},
    {"late_s": 1.0},
    {"utc_step_at_s": 1.0, "utc_step_s": 0.5},
    {"wrong": "zero"},
    {"wrong": "nan", "wrong_from_s": 1.0},
    {"wrong": "bf16"},
    {"wrong": "stale", "wrong_from_s": 1.0},
    {"fail_at_s": 1.0},
    {"hang_at_s": 1.0, "only": "fp64"},
    {"rate_gflop_s": {"fp16": 300_000}},
    {"rate_gflop_s": {"fp16": 5_000_000, "fp64": 1}},
    {"identity": {"uuid": None, "serial": None}},
]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return scripted(tmp_path_factory.mktemp("troubled"), SCRIPTS)


def test_a_centre_with_every_trouble_is_judged_as_by_the_ordinary_path(troubled: Measured) -> None:
    """Two ways to the same codes, sums and verdicts, for every trouble that a fake device can have."""
    report = audit_of(troubled, nodes=(node_name(1), node_name(3)))
    assert [str(issue) for issue in report.issues] == []
    assert report.again == report.statement
    known = {f.code for f in report.statement.findings}
    assert len(known & CODES) >= 13, known & CODES
    assert len(report.examined.seen) == len(SCRIPTS)
    places = {f"{chain.judged.node_id}/{chain.judged.figure.device}" for chain in report.examined.chains}
    assert places == {f"{node_name(i)}/fake:0" for i in (1, 3)}


def test_the_oracle_judges_a_centre_with_every_trouble_alike(troubled: Measured) -> None:
    """Two rule books, written apart, come to the same codes, sums and verdicts, from the same samples."""
    report = audit_of(troubled)
    part = oracle.judge(troubled, report.statement, report.policies)
    assert [str(issue) for issue in part.issues] == []
    assert part.records == len(SCRIPTS)


def test_the_oracle_counts_nothing_of_a_record_that_is_published(tmp_path: Path) -> None:
    centre = audited(tmp_path, 2, 1, nothing, lambda index, record: replace(record, identities_replaced=index == 0))
    report = audit_of(centre)
    part = oracle.judge(centre, report.statement, report.policies)
    assert [str(issue) for issue in part.issues] == []
    assert report.statement.classes[0].counted.devices == 1


@pytest.mark.parametrize("profile", ["smoke", "standard", "certification"])
def test_every_profile(tmp_path: Path, profile: str) -> None:
    centre = measured(tmp_path, nodes=2, devices=1, profile=profile, precisions=("fp16",))
    centre.certify()
    report = audit_of(centre)
    assert [str(issue) for issue in report.issues] == []
    assert any("simulated" in line for line in report.not_checked)


def test_the_golden_statement() -> None:
    report = audit(
        AuditRequest(
            folder=GOLDEN,
            anchor=Anchor(public_key=GOLDEN / "operator.pem.pub"),
            at_ns=utc_ns("2026-03-02T08:00:00.000000Z"),
        )
    )
    assert [str(issue) for issue in report.issues] == []


def test_a_centre_with_a_missing_node_is_judged_alike_and_not_met(tmp_path: Path) -> None:
    """From samples to verdicts, with one of three nodes lost: both rule books say what it could at most add."""
    centre = audited(tmp_path, 3, 1, profile="certification")
    for file in centre.records.glob(f"{node_name(1)}.*"):
        file.unlink()
    shutil.rmtree(tmp_path / "out")
    centre.certify()
    report = audit_of(centre)
    assert [str(issue) for issue in report.issues] == []
    part = oracle.judge(centre, report.statement, report.policies)
    assert [str(issue) for issue in part.issues] == []
    scale = next(one for one in report.statement.verdicts if one.condition == "scale-2000p")
    assert (scale.verdict, scale.nodes_missing, scale.missing_at_most_mflop_s) == ("not_met", 1, 1_307_400_000)
    assert "  missing    1 node without a record could add at most 1.307 PFLOPS" in describe.lines(report)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return audited(tmp_path_factory.mktemp("honest"), nodes=3)


def test_honest_accelerators(honest: Measured) -> None:
    report = audit_of(honest)
    assert [str(issue) for issue in report.issues] == []
    assert report.statement.classes[0].counted.devices == 6
    assert not any("plausibility" in line for line in report.not_checked)


def test_the_chain_of_reasoning_is_printed(honest: Measured) -> None:
    report = audit_of(honest, nodes=(node_name(1),))
    text = "\n".join(describe.lines(report))
    judged = next(chain.judged for chain in report.examined.chains if chain.judged.counted)
    m, f = judged.setting.measurement, judged.figure
    made = bounds.interval(gemm_mflop(m.m, m.n, m.k, f.launches), f.subwindow_ns)
    for number in (made.certified_mflop_s, made.sum_ns, made.half_ns, made.work_mflop):
        assert f"{number:,}" in text
    for ratio in (made.rho, made.rho_used, made.factor):
        assert f"= {float(ratio):.9f}"[:-3] in text  # truncated
    for words in ("智能算力规模2000P以上", "二(六)", "2,000,000,000,000", "NOT CHECKED", "smallest", "grade-too-low"):
        assert words in text
    limit = judged.limit
    assert limit is not None
    assert bound_text(judged.step, limit.name, limit.mflop_s) in text
    (pool,) = report.statement.pools
    for step in pool.steps:
        assert f"{step.step:10} {rate_text(step.certified_mflop_s)} certified on this step" in text
    told = json.loads(json.dumps(describe.as_json(report)))
    assert told["agrees"] is True
    assert told["pools"][pool.pool]["steps"] == [msgspec.to_builtins(step) for step in pool.steps]
    assert [(one["step"], one["limit_mflop_s"]) for one in told["figures_of_nodes"] if one["counted_workload"]] == [
        (judged.step, limit.mflop_s)
    ] * 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s["ceilings"][0].update(least_mflop_s=1), "sums-differ"),
        (lambda s: s["ceilings"].pop(), "sums-differ"),
        (lambda s: s["pools"][0]["steps"][0].update(step="measured"), "sums-differ"),
        (lambda s: s["classes"][0]["with_witness"].update(devices=1), "sums-differ"),
        (lambda s: s["classes"][0]["counted"].update(never_scheduled_mflop_s=1), "sums-differ"),
    ],
)
def test_what_bounds_the_figures_is_compared(honest: Measured, change: Callable[[Any], object], code: str) -> None:
    statement = audit_of(honest).statement
    altered = plain(statement)
    change(altered)
    assert {one.code for one in compare(msgspec.convert(altered, CapacityStatement), statement)} == {code}


# Lies of records: the node seals what it likes
def figures_changed(record: NodeRecord, change: Callable[[Figure], Figure]) -> NodeRecord:
    return replace(
        record,
        measurements=tuple(replace(m, **columns(change(f) for f in m.figures())) for m in record.measurements),
    )


def faster(f: Figure) -> Figure:
    """Shorten every sub-window by a tenth, and everything that follows from it."""
    least = f.subwindow_min_ns * 9 // 10
    over = tuple(x * 9 // 10 for x in f.subwindow_over_ns)
    over = tuple(x - min(over) for x in over)
    b = throughput_bounds(gemm_mflop(8192, 8192, 8192, f.launches), [least + x for x in over])
    return f._replace(
        subwindow_min_ns=least,
        subwindow_over_ns=over,
        sustained_mflop_s=b.sustained_mflop_s,
        certified_mflop_s=b.certified_mflop_s,
        upper_mflop_s=b.upper_mflop_s,
    )


def throttled(node: int, device: int, raw: Raw) -> None:
    raw.samples = [Sample(s.at_ns, s.reading._replace(throttled=("thermal",))) for s in raw.samples]


def faulty(node: int, device: int, raw: Raw) -> None:
    raw.samples = [Sample(s.at_ns, s.reading._replace(ecc_uncorrected=int(s.at_ns > 10**9))) for s in raw.samples]


def crowded(node: int, device: int, raw: Raw) -> None:
    raw.samples = [Sample(s.at_ns, s.reading._replace(processes=3)) for s in raw.samples]


def unwatched(node: int, device: int, raw: Raw) -> None:
    blind = {"processes": None, "ecc_uncorrected": None}
    raw.samples = [Sample(s.at_ns, s.reading._replace(**blind)) for s in raw.samples]


def nothing(node: int, device: int, raw: Raw) -> None:
    """Leave what was drawn as it is."""


RECORD_LIES: dict[str, tuple[Bend, Callable[[Figure], Figure], str, set[str]]] = {
    "shorter times": (nothing, faster, "samples-differ", set()),
    "another power": (nothing, lambda f: f._replace(power_mean_mw=600_000), "telemetry-differs", set()),
    "another temperature": (nothing, lambda f: f._replace(temperature_max_c=40), "telemetry-differs", set()),
    "a lower clock": (nothing, lambda f: f._replace(clock_max_mhz=1_500), "telemetry-differs", set()),
    "more readings": (nothing, lambda f: f._replace(samples=900), "telemetry-differs", set()),
    "more readings of the clock": (nothing, lambda f: f._replace(clock_samples=900), "telemetry-differs", set()),
    "a shorter gap": (nothing, lambda f: f._replace(power_gap_ns=1), "telemetry-differs", set()),
    "another counter": (nothing, lambda f: f._replace(power_counter_mw=1), "telemetry-differs", set()),
    "no throttling": (throttled, lambda f: f._replace(throttled_ppm=0), "telemetry-differs", {"findings-differ"}),
    "no memory errors": (faulty, lambda f: f._replace(ecc_uncorrected=0), "telemetry-differs", set()),
    "alone on the device": (crowded, lambda f: f._replace(foreign_processes=0), "telemetry-differs", set()),
    "alone, and nobody looked": (unwatched, lambda f: f._replace(foreign_processes=0), "telemetry-differs", set()),
    "no errors, and nobody looked": (unwatched, lambda f: f._replace(ecc_uncorrected=0), "telemetry-differs", set()),
    "a longer warm-up": (nothing, lambda f: f._replace(warmup_ns=f.warmup_ns * 2), "telemetry-differs", set()),
    "another opening": (nothing, lambda f: f._replace(opened_ns=f.opened_ns + 10**9), "samples-differ", set()),
}


@pytest.mark.parametrize("lie", RECORD_LIES)
def test_a_record_that_its_samples_do_not_support(tmp_path: Path, lie: str) -> None:
    bend, change, code, more = RECORD_LIES[lie]
    centre = audited(tmp_path, 1, 1, bend, lambda index, record: figures_changed(record, change))
    codes = found(audit_of(centre))
    assert code in codes
    assert more <= codes
    assert refused_by_verify(centre) == code


def refused_by_verify(centre: Measured) -> str | None:
    """Return the code with which ``verify --require audited`` refuses a statement: it looks where the audit looks."""
    report = centre.verify(samples=centre.records, require=("audited",))
    assert report.refused
    assert report.level is None
    return report.refusal.code if report.refusal else None


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_records_that_are_swapped_while_they_are_read_are_never_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Samples are held against the very bytes that were verified: there is no second reading to prepare for."""
    (tmp_path / "lie").mkdir()
    (tmp_path / "true").mkdir()
    lie = audited(tmp_path / "lie", 1, 1, nothing, lambda index, record: figures_changed(record, faster))
    true = audited(tmp_path / "true", 1, 1)
    assert next(lie.records.glob("*.csv.gz")).read_bytes() == next(true.records.glob("*.csv.gz")).read_bytes()
    opened, opens = records._open_lines, 0

    def swapped(source: Path) -> Any:
        nonlocal opens
        opens += 1
        return opened(true.folder / "out" / "records.jsonl" if opens >= at else source)

    monkeypatch.setattr(records, "_open_lines", swapped)
    report = lie.verify(samples=lie.records)
    assert report.refused
    assert report.level is None
    assert opens == 2  # for its size, and to read it


def constant(node: int, device: int, raw: Raw) -> None:
    raw.samples = [Sample(s.at_ns, s.reading._replace(power_mw=650_123, energy_mj=None)) for s in raw.samples]


def copied(kept: dict[str, Raw]) -> Bend:
    def bend(node: int, device: int, raw: Raw) -> None:
        if (first := kept.setdefault(str(device), raw)) is not raw:
            raw.times, raw.samples = list(first.times), list(first.samples)

    return bend


def nearly_copied(kept: dict[str, Raw]) -> Bend:
    """Copy one node's times and readings to the others, each changed by a nanosecond or two and a milliwatt."""
    random = Random("near")

    def bend(node: int, device: int, raw: Raw) -> None:
        if (first := kept.setdefault(str(device), raw)) is not raw:
            raw.times = [x + random.randrange(-2, 3) for x in first.times]
            raw.samples = [
                Sample(s.at_ns + random.randrange(1000), s.reading._replace(power_mw=near(s.reading.power_mw, random)))
                for s in first.samples
            ]

    return bend


def near(value: int | None, random: Random) -> int:
    assert value is not None
    return value + random.randrange(-1, 2)


def rounded(node: int, device: int, raw: Raw) -> None:
    raw.times = [x // 10**6 * 10**6 for x in raw.times]


def looped(node: int, device: int, raw: Raw) -> None:
    readings = [s.reading for s in raw.samples]
    loop = [r._replace(energy_mj=None) for r in readings[10:50]]
    raw.samples = [Sample(s.at_ns, loop[i % 40]) for i, s in enumerate(raw.samples)]


def on_the_dot(node: int, device: int, raw: Raw) -> None:
    first = raw.samples[0].at_ns
    raw.samples = [Sample(first + i * 500_000_000, s.reading) for i, s in enumerate(raw.samples)]


def invented(node: int, device: int, raw: Raw) -> None:
    raw.rates = [(at, rate // 2) for at, rate in raw.rates]


BENT: dict[str, tuple[Bend, set[str]]] = {
    "constant power": (constant, {"power-too-smooth", "power-flat"}),
    "one node's readings for another": (copied({}), {"subwindows-copied", "telemetry-copied"}),
    "one node's readings for another, all but": (nearly_copied({}), {"subwindows-copied", "telemetry-copied"}),
    "rounded times": (rounded, {"subwindows-rounded"}),
    "readings in a loop": (looped, {"telemetry-repeated", "power-flat"}),
    "a timer without jitter": (on_the_dot, {"timestamps-regular"}),
    "a rate that its warm-up never had": (invented, {"rate-above-warmup"}),
}


@pytest.mark.parametrize("how", BENT)
def test_readings_that_no_device_gives(tmp_path: Path, how: str) -> None:
    bend, expected = BENT[how]
    centre = audited(tmp_path, 2, 1, bend)
    report = audit_of(centre)
    assert found(report) == expected
    assert report.against
    assert refused_by_verify(centre) in {code for code in expected if effect_of(code) != "note"}


# Lies of statements: the operator signs what he likes
def resealed(centre: Measured, change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    """Return a folder with a statement whose predicate was changed and signed anew, beside the true records."""
    folder.mkdir()
    content = (centre.folder / "out" / "statement.dsse.json").read_bytes()
    value = json.loads(dsse.parse_envelope(content, CAPS.statement_bytes).payload)
    change(value["predicate"])
    payload = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    (folder / "statement.dsse.json").write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(centre.key)]))
    shutil.copy(centre.folder / "out" / "records.jsonl", folder)
    return folder


def more(place: dict[str, Any], name: str, by: int = 1) -> None:
    place[name] += by


def counted_again(p: dict[str, Any]) -> None:
    p["not_counted"] = [entry for entry in p["not_counted"] if entry["node_id"] != node_name(6)]


def left_out(p: dict[str, Any]) -> None:
    entry = {"codes": ["telemetry-incomplete"], "device": "fake:0", "node_id": node_name(0), "workload": "fp16"}
    p["not_counted"].append(entry)


def newly_met(p: dict[str, Any]) -> None:
    """Say that a sum is of newly added devices, which only an inventory that is not there could show."""
    p["baseline_sha256"] = "ab" * 32
    p["verdicts"][3].update(counted="newly_added", verdict="met", reason=None)


STATEMENT_LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "certified of a pool": (lambda p: more(p["pools"][0]["counted"], "certified_mflop_s"), "sums-differ"),
    "sustained of a class": (lambda p: more(p["classes"][0]["counted"], "sustained_mflop_s"), "sums-differ"),
    "upper": (lambda p: more(p["pools"][0]["counted"], "upper_mflop_s", -1), "sums-differ"),
    "devices": (lambda p: more(p["pools"][0]["counted"], "devices"), "sums-differ"),
    "devices found": (lambda p: more(p["pools"][0], "devices_found"), "sums-differ"),
    "untested": (lambda p: more(p["pools"][0]["untested"], "devices", -1), "sums-differ"),
    "bookkeeping": (lambda p: more(p["bookkeeping"], "certified_mflop_s"), "sums-differ"),
    "grade": (lambda p: p.update(grade="certification"), "sums-differ"),
    "real devices": (lambda p: p.update(simulated=False), "sums-differ"),
    "a void device counts": (counted_again, "codes-differ"),
    "a good device does not count": (left_out, "codes-differ"),
    "fewer findings": (lambda p: more(p["findings"][0], "devices", 5), "findings-differ"),
    "a finding less": (
        lambda p: p.update(findings=[f for f in p["findings"] if f["code"] != "ecc-errors"]),
        "findings-differ",
    ),
    "met": (lambda p: p["verdicts"][3].update(verdict="met", reason=None), "verdict-differs"),
    "another reason": (lambda p: p["verdicts"][3].update(reason="within-bounds"), "verdict-differs"),
    "another observed sum": (lambda p: more(p["verdicts"][3]["bases"][0], "observed_mflop_s"), "verdict-differs"),
    "records": (lambda p: more(p, "records"), "records-count"),
    "a verdict twice": (lambda p: p["verdicts"].insert(3, p["verdicts"][3] | {"verdict": "met"}), "verdict-differs"),
    "findings in another order": (lambda p: p["findings"].reverse(), "findings-differ"),
    "a device excluded twice": (lambda p: p["not_counted"].append(p["not_counted"][0]), "codes-differ"),
    "a baseline that nobody gives": (lambda p: newly_met(p), "verdict-differs"),
    "a baseline against its centre": (lambda p: p.update(baseline_sha256="ab" * 32), "baseline-differs"),
    "another class of a pool": (lambda p: p["centre"]["pools"][0].update({"class": "edge"}), "sums-differ"),
}


@pytest.mark.parametrize("lie", STATEMENT_LIES)
def test_a_statement_that_its_samples_do_not_support(troubled: Measured, tmp_path: Path, lie: str) -> None:
    change, code = STATEMENT_LIES[lie]
    report = audit_of(troubled, folder=resealed(troubled, change, tmp_path / "lie"))
    assert code in found(report)
    assert report.against


def test_records_of_another_statement(troubled: Measured, tmp_path: Path) -> None:
    folder = resealed(troubled, lambda p: None, tmp_path / "fewer")
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").write_bytes(b"".join([*lines[1:], lines[1]]))
    assert {"records-root", "node-twice"} <= found(audit_of(troubled, folder=folder))


def test_records_in_another_order(troubled: Measured, tmp_path: Path) -> None:
    folder = resealed(troubled, lambda p: None, tmp_path / "reversed")
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").write_bytes(b"".join(reversed(lines)))
    assert "records-unsorted" in found(audit_of(troubled, folder=folder))


def one_sensor(kept: list[Raw]) -> Bend:
    """Give the second device of each workload the readings of the first."""

    def bend(node: int, device: int, raw: Raw) -> None:
        kept.append(raw)
        raw.samples = list(kept[-1 - device].samples)

    return bend


@pytest.mark.parametrize(("parents", "codes"), [(("p0", "p0"), set()), (("p0", "p1"), {"telemetry-copied"})])
def test_dies_of_one_card_may_read_one_sensor(tmp_path: Path, parents: tuple[str, str], codes: set[str]) -> None:
    def dies(index: int, record: NodeRecord) -> NodeRecord:
        devices = (replace(d, parent=f"card-{parent}") for d, parent in zip(record.devices, parents, strict=True))
        return replace(
            record, models=tuple(replace(m, count_unit="die") for m in record.models), devices=tuple(devices)
        )

    assert found(audit_of(audited(tmp_path, 1, 2, one_sensor([]), dies))) == codes


# The rim
def test_samples_that_are_missing_are_found_and_the_rest_goes_on(honest: Measured, tmp_path: Path) -> None:
    shutil.copytree(honest.records, tmp_path / "s")
    (tmp_path / "s" / f"{node_name(0)}.samples.csv.gz").unlink()
    broken = tmp_path / "s" / f"{node_name(1)}.samples.csv.gz"
    broken.write_bytes(gzip.compress(gzip.decompress(broken.read_bytes()) + b"x\n"))
    (tmp_path / "s" / f"{node_name(2)}.samples.csv.gz").write_bytes(b"")
    report = audit_of(honest, samples=tmp_path / "s")
    assert {(i.code, i.where) for i in report.issues} == {
        ("samples-missing", node_name(0)),
        ("samples-differ", node_name(1)),
        ("file-empty", node_name(2)),
    }
    assert report.examined.samples.records == 0
    assert any("their own numbers" in line for line in report.not_checked)


def test_many_nodes_are_audited_on_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    centre = measured(tmp_path, nodes=20, devices=1, profile="smoke", precisions=("fp16",))
    centre.certify()
    told: list[int] = []
    alone = audit_of(centre)
    monkeypatch.setattr(records, "PARALLEL_FROM_BYTES_WITH_SAMPLES", 0)
    monkeypatch.setattr(records, "FILES_AT_ONCE", 3)
    request = AuditRequest(centre.records, 1_900_000_000_000_000_000, Anchor(public_key=centre.public_key))
    request = dataclasses.replace(
        request, records=centre.records, statement=centre.folder / "out" / "statement.dsse.json"
    )
    spread = audit(request, told.append)
    assert told == [3, 6, 9, 12, 15, 18, 20]
    assert [str(issue) for issue in spread.issues] == []
    assert (spread.examined.tally.sums, len(spread.examined.seen)) == (alone.examined.tally.sums, 20)


def test_the_command_is_its_own_default(honest: Measured) -> None:
    plain = ("--samples", honest.records, "--public-key", honest.public_key)
    short = petaseal("audit", honest.folder / "out", *plain, "--node", node_name(0))
    assert (short.status, short.err) == (0, "")
    long = petaseal("audit", "run", honest.folder / "out", *plain, "--node", node_name(0))
    assert long.out == short.out
    options_first = petaseal("audit", *plain, honest.folder / "out", "--json")
    assert json.loads(options_first.out)["agrees"] is True
    shown = petaseal("audit", "--help")
    assert shown.status == 0
    assert all(name in shown.out for name in ("run", "prove", "check"))


def test_the_command_says_no_in_one_sentence(troubled: Measured, tmp_path: Path) -> None:
    change, _ = STATEMENT_LIES["certified of a pool"]
    folder = resealed(troubled, change, tmp_path / "lie")
    answer = petaseal("audit", folder, "--samples", troubled.records, "--public-key", troubled.public_key, "--json")
    assert (answer.status, answer.code) == (1, "audit-differs")
    assert "sums-differ" in {finding["code"] for finding in json.loads(answer.out)["findings"]}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"folder": Path("/nonexistent")}, "records-not-folder"),
    "a folder without a statement": ({"folder": GOLDEN.parent}, "file-missing"),
    "a node that is none": ({"nodes": ("nobody",)}, "unknown-name"),
    "records that are not there": ({"records": Path("/nonexistent")}, "file-missing"),
    "another's baseline": ({"baseline": GOLDEN / "statement.dsse.json"}, "key-not-trusted"),
    "samples that are not there": ({"samples": Path("/nonexistent")}, "file-missing"),
    "another key": ({"anchor": Anchor(public_key=GOLDEN / "operator.pem.pub")}, "key-not-trusted"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(honest: Measured, case: str) -> None:
    changes, code = WRONG[case]
    with pytest.raises(PetasealError) as refused:
        audit_of(honest, **changes)
    assert refused.value.code == code


def test_what_cannot_be_judged_is_not_audited(
    honest: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = resealed(honest, lambda stated: stated.update(rules="petaseal-rules/9.9"), tmp_path / "lie")
    for folder, code in ((lie, "rules-differ"), (honest.folder / "out", "table-withdrawn")):
        with pytest.raises(RefusedError) as refused:
            audit_of(honest, folder=folder)
        assert refused.value.code == code
        withdraw(monkeypatch, installed_ratings().digest, "a hole")


def test_ratings_that_are_given(honest: Measured, tmp_path: Path) -> None:
    table = tmp_path / "ratings.yaml"
    table.write_text(config_path("accelerators.yaml").read_text().replace('fp16: "312"', 'fp16: "311"'))
    ratings = load_ratings(table)
    other = resealed(honest, lambda stated: stated.update(ratings_sha256=ratings.digest), tmp_path / "other")
    with pytest.raises(RefusedError) as refused:
        audit_of(honest, folder=other)
    assert refused.value.code == "ratings-unknown"
    assert audit_of(honest, folder=other, ratings=(str(table),)).against == 0


def test_no_key_and_two_are_wrong_input(honest: Measured) -> None:
    with pytest.raises(InputError):
        audit_of(honest, anchor=Anchor())


def test_readings_that_expose_nothing_leave_no_rows(tmp_path: Path) -> None:
    """A device without sensors gives readings without a value, and nothing to count them by."""

    def blind(node: int, device: int, raw: Raw) -> None:
        raw.samples = [Sample(s.at_ns, Reading()) for s in raw.samples]

    report = audit_of(audited(tmp_path, 1, 1, blind))
    assert [str(issue) for issue in report.issues] == []
    assert any("exposes no power" in line for line in report.not_checked)
