"""A city's total has four parts: one centre with a pool of each class, from its records to the city's page."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace as replaced
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import NodeRecord, Precision
from bench.units import rate_text
from certify.documents.statement import CapacityStatement
from certify.registry.base.pool import VerificationPool
from certify.registry.base.registry import open_registry
from certify.registry.service.app import create_app
from certify.statement.describe import describe_statement
from tests.bench.fleet import simulate_node
from tests.certify.measured import Measured, node_name, test_campaign
from tests.certify.registry.intake.test_ingest import OTHERS, submit_whole
from tests.certify.registry.laid import OTHER, lay_centre, lay_registry
from tests.certify.registry.within import Within

ALL: tuple[Precision, ...] = ("fp16", "fp32", "fp64")
POOLS = {"ai": ("intelligent", [0]), "hpc": ("supercomputing", [1]), "host": ("general", [2]), "edge": ("edge", [3, 4])}
COUNTED = {"intelligent": "fp16", "supercomputing": "fp64", "general": "fp32", "edge": "fp16"}
PROCESSORS = (2, 4)  # the numbers of the nodes whose device is a processor
CPU = {"kind": "cpu", "vendor": "AMD", "model": "AMD EPYC 9654", "instruction_set": "avx512", "cache_bytes": 2**20}
# Of 128 cores of AVX-512: up-cast FP16 is no faster than FP32.
SCRIPT = {"rate_gflop_s": {"fp16": 14_000, "fp32": 15_000, "fp64": 7_000}}
NAMES = {
    "zh": ("智能算力 fp16", "超算算力 fp64", "通用算力 fp32", "边缘算力 fp16"),
    "en": ("intelligent fp16", "supercomputing fp64", "general fp32", "edge fp16"),
}


def of_processor(number: int, record: NodeRecord) -> NodeRecord:
    """Return the record of a node whose processor was measured, where the number is of such a one."""
    if number not in PROCESSORS:
        return record
    profile = load_profile("certification")
    measured = simulate_node(SCRIPT, 1, profile, ALL, node_name(0), test_campaign(profile, ALL, 1)).record
    upcast = tuple(replace(m, method="upcast") if m.precision == "fp16" else m for m in measured.measurements)
    return replace(record, models=(replace(measured.models[0], **CPU),), measurements=upcast)


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Measured:
    """A centre of five nodes in pools of all four classes; the edge pool has an accelerator and a processor."""
    pools = [
        {"pool": pool, "class": kind, "nodes": [node_name(n) for n in numbers], "devices": "all"}
        for pool, (kind, numbers) in POOLS.items()
    ]
    folder = tmp_path_factory.mktemp("four") / "centre"
    return lay_centre(
        folder,
        keys,
        OTHER,
        nodes=5,
        change=of_processor,
        profile="certification",
        precisions=ALL,
        pools=pools,
        jurisdiction="CN-420111",
    )


@pytest.fixture(scope="module")
def statement(centre: Measured) -> CapacityStatement:
    return centre.certify(policies=("wuhan-2025",)).statement


def test_each_class_counts_its_precision_and_the_sum_names_its_parts(statement: CapacityStatement) -> None:
    lines = {line.pool_class: line for line in statement.classes}
    assert {name: line.precision for name, line in lines.items()} == COUNTED
    assert [line.counted.devices for line in statement.classes] == [1, 1, 1, 2]  # a processor in `edge` counts
    rates = [round(line.counted.sustained_mflop_s / 10**6) for line in statement.classes]
    assert rates == [300, 40, 15, 300 + 14]
    assert statement.not_counted == ()
    (upcast,) = (finding for finding in statement.findings if (finding.code, finding.workload) == ("upcast", "fp16"))
    assert (upcast.effect, upcast.devices) == ("note", len(PROCESSORS))
    book, whole = statement.bookkeeping, sum(line.counted.certified_mflop_s for line in statement.classes)
    assert book.certified_mflop_s == whole
    assert book.intelligent_share_ppm == lines["intelligent"].counted.certified_mflop_s * 10**6 // whole
    total = next(one for one in statement.verdicts if one.condition == "total-annex")
    assert (total.classes, total.operator, total.threshold_mflop_s) == (tuple(COUNTED), ">=", 5000 * 10**9)
    assert total.bases[0].observed_mflop_s == whole


def test_terminal_and_page_show_the_total_with_its_parts(statement: CapacityStatement, centre: Measured) -> None:
    rates = [rate_text(line.counted.certified_mflop_s) for line in statement.classes]
    total = rate_text(statement.bookkeeping.certified_mflop_s)
    parts = " + ".join(f"{name} {rate}" for name, rate in zip(NAMES["en"], rates, strict=True))
    line = f"total of 4 classes, a bookkeeping sum across precisions and not a rate: {total} certified = {parts} [mixed"
    assert any(one.startswith(line) for one in describe_statement(statement, lang="en"))
    parts = " + ".join(f"{name} {rate}" for name, rate in zip(NAMES["zh"], rates, strict=True))
    line = f"4 个类别合计（跨精度记账，非物理速率）：可核验下限 {total} = {parts} [mixed"
    assert any(one.startswith(line) for one in describe_statement(statement, lang="zh"))
    row = (centre.folder / "out/statement.html").read_text().partition("合计（跨精度记账")[2].partition("</tr>")[0]
    assert "Bookkeeping sum across precisions, not a rate" in row
    assert total in row


def test_the_city_adds_up_the_four_classes(
    centre: Measured, statement: CapacityStatement, tmp_path: Path, keys: Path
) -> None:
    """At a rehearsal, whose centres are simulated: each class is a component, and the total names them."""
    place = lay_registry(tmp_path / "registry", keys, rehearsal=True, accept_simulated=False)
    opened = replaced(open_registry(place.root), verifier=VerificationPool(0))
    with closing(opened) as registry:
        assert submit_whole(registry, centre, OTHERS).decision == "accepted"
        client = Within(create_app(registry))
        city = client.get("/v1/cities/wuhan-2025").json()
        pages = {lang: client.get(f"/{lang}/").text for lang in ("zh", "en")}
    counted = {line.pool_class: line.counted for line in statement.classes}
    shown = {one["pool_class"]: one for one in city["components"]}
    assert {name: one["precision"] for name, one in shown.items()} == COUNTED
    for basis in ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"):
        assert {name: one["counted"][basis] for name, one in shown.items()} == {
            name: getattr(totals, basis) for name, totals in counted.items()
        }
        assert city["bookkeeping"][basis] == sum(getattr(totals, basis) for totals in counted.values())
    (total,) = (one["verdict"] for one in city["conditions"] if one["verdict"]["condition"] == "total-annex")
    assert total["bases"][0]["observed_mflop_s"] == statement.bookkeeping.certified_mflop_s
    for lang, label in (("zh", "跨类别记账，精度不同"), ("en", "bookkeeping across classes of different precision")):
        foot = pages[lang].rpartition("<tfoot>")[2].partition("</tfoot>")[0]  # of the last city, which is Wuhan
        assert label in foot
        assert f"{statement.bookkeeping.certified_mflop_s // 10**5 / 10:.1f}" in foot  # truncated
