"""A campaign's folder is diagnosed from signed records: what is planted is found, what is broken is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.errors import PetasealError
from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, columns, digest, encode, throughput_bounds
from bench.record.folder import Folder
from bench.record.roster import Roster, RosterNode, RosterPool
from bench.record.status import Published
from bench.units import gemm_mflop, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.fleet.diagnose import Diagnosed, diagnose_campaign, file_names
from certify.fleet.report import FleetReport
from certify.keys.files import load_private, new_key
from certify.policy.policies import load_policy
from certify.statement.attendance import Absence, Attendance, write_attendance
from certify.statement.campaign import read_campaign
from tests.certify.measured import BEGIN_NS, centre_yaml, node_name, of_node, seal_record, simulated
from tests.certify.measured import test_campaign as campaign_of
from tests.certify.signed import new_key as fresh_key
from tests.certify.statement.test_page import Reader

NOW_NS = BEGIN_NS + 86_400 * 10**9
POLICY = load_policy("guangzhou-2000p")
Change = Callable[[int, NodeRecord], NodeRecord]
NODE_KEY = fresh_key()


def scaled(record: NodeRecord, ppm: int, devices: tuple[str, ...] | None = None) -> NodeRecord:
    """Return a record with so much of the rate on some devices: fewer launches, and less time for what is left."""
    measurements = []
    for m in record.measurements:
        rows = []
        for f in m.figures():
            if devices is not None and f.device not in devices:
                rows.append(f)
                continue
            launches = f.launches * ppm // 10**6 // 30 * 30
            times = [x * launches * 10**6 // (f.launches * ppm) for x in f.subwindow_ns]
            bounds = throughput_bounds(gemm_mflop(m.m, m.n, m.k, launches), times)
            rows.append(
                f._replace(
                    launches=launches,
                    subwindow_min_ns=min(times),
                    subwindow_over_ns=tuple(x - min(times) for x in times),
                    sustained_mflop_s=bounds.sustained_mflop_s,
                    certified_mflop_s=bounds.certified_mflop_s,
                    upper_mflop_s=bounds.upper_mflop_s,
                    counted_until_ns=f.counted_until_ns - sum(f.subwindow_ns) + sum(times),
                )
            )
        measurements.append(replace(m, **columns(rows)))
    return replace(record, measurements=tuple(measurements))


def void(record: NodeRecord) -> NodeRecord:
    """Return a record of which the first device gave a wrong product."""
    (m,) = record.measurements
    return replace(record, measurements=(replace(m, row_error_ppm=(None, *m.row_error_ppm[1:])),))


def spot(index: int) -> int:
    """Return a little noise, the same every time."""
    return 1_000_000 - (index * 7919 % 13) * 300


def lay_out(
    folder: Path,
    key: Path,
    nodes: int = 8,
    change: Change = lambda index, record: record,
    campaign_id: str = "2026-03",
    **campaign: Any,
) -> Folder:
    """Lay out a campaign's folder as it is after ``petaseal campaign collect``: two fakes on each node, in FP16."""
    where = Folder(folder)
    one = replace(
        campaign_of(load_profile("smoke"), ("fp16",), nodes),
        campaign_id=campaign_id,
        policies={POLICY.policy: digest(POLICY)},
        **campaign,
    )
    base = simulated(2, "smoke", ("fp16",)).record
    where.collected.mkdir(parents=True)
    for index in range(nodes):
        record = change(index, scaled(of_node(base, index, one, NODE_KEY), spot(index)))
        (where.collected / f"{record.node_id}.record.dsse.json").write_bytes(seal_record(record, NODE_KEY, b"s"))
    sealed = dsse.seal(make_document("campaign", one), PAYLOAD_TYPE, [load_private(key)])
    where.campaign.write_bytes(sealed)
    where.centre.write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    where.roster_file.write_bytes(encode(roster_of(one)))
    where.start_file.write_bytes(encode(Published(one.starts_from, one.starts_from, nodes)))
    write_attendance(where.collected, Attendance(campaign_sha256=digest(one), absent=()))
    return where


def roster_of(campaign: Campaign) -> Roster:
    """Return a roster with four nodes on each switch."""
    nodes = tuple(
        RosterNode(node.node_id, f"cn{index:03d}", "main", f"switch-{index // 4}")
        for index, node in enumerate(campaign.nodes)
    )
    pool = RosterPool("main", "intelligent", "fp16", "fake:2", None, None, 2, None)
    return Roster(digest(campaign), "00" * 16, nodes, (), (pool,), (), 10**9)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "operator.pem", None)
    return tmp_path / "operator.pem"


def run(folder: Folder, key: Path, **given: Any) -> Diagnosed:
    return diagnose_campaign(folder.root, now_ns=NOW_NS, public_key=Path(f"{key}.pub"), **given)


def code(action: Callable[..., Any], *args: Any, **given: Any) -> str:
    with pytest.raises(PetasealError) as caught:
        action(*args, **given)
    return caught.value.code


def names_of(report: FleetReport, ids: list[str]) -> list[str]:
    return [report.names[node_id] for node_id in ids]


# What is found
def test_a_slow_node_and_a_slow_device_are_named_by_the_engine_s_names(tmp_path: Path, key: Path) -> None:
    def change(index: int, record: NodeRecord) -> NodeRecord:
        if index == 2:
            return scaled(record, 900_000)
        return scaled(record, 968_000, ("fake:1",)) if index == 6 else record

    made = run(lay_out(tmp_path / "c", key, 12, change), key)
    found = made.report.diagnosis
    assert names_of(made.report, [one.node_id for one in found.odd_nodes]) == ["cn002"]
    assert {(made.report.names[t.node_id], t.devices, t.reasons) for t in found.take_out} == {
        ("cn002", (), ("slow-node",)),
        ("cn006", ("fake:1",), ("slow-device",)),
    }
    assert found.sums[0].devices == 24
    assert found.sums[0].devices_without == 20
    said = "\n".join(made.lines())
    assert "cn002" in said
    assert node_name(2) not in said
    assert "SIMULATED" in said


def test_drift_is_of_each_device_against_itself(tmp_path: Path, key: Path) -> None:
    before = lay_out(tmp_path / "old", key, campaign_id="2026-02", issued_at="2026-02-01T07:00:00.000000Z")
    now = lay_out(tmp_path / "new", key, change=lambda i, r: scaled(r, 920_000 if i == 5 else 990_000))
    made = run(now, key, previous=before.root)
    assert made.report.previous == "2026-02"
    (drift,) = made.report.diagnosis.drifts
    assert drift.pairs == 16
    assert -12_000 < drift.median_ppm < -8_000
    assert names_of(made.report, [one.node_id for one in made.report.diagnosis.drifted]) == ["cn005"]
    assert made.report.remarks == ()


def test_what_cannot_be_compared_with_the_campaign_before_is_said(tmp_path: Path, key: Path) -> None:
    def renamed(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, models=(replace(record.models[0], model="Fake-0"),))

    old = lay_out(tmp_path / "old", key, 3, renamed, "2026-02", issued_at="2026-02-01T07:00:00.000000Z")
    now = lay_out(tmp_path / "new", key, 3)
    (remark,) = run(now, key, previous=old.root).report.remarks
    assert "no device in common" in remark


def test_the_campaign_before_is_an_earlier_one_of_the_same_centre(tmp_path: Path, key: Path) -> None:
    now = lay_out(tmp_path / "new", key, 2)
    assert code(run, now, key, previous=now.root) == "previous-not-earlier"
    other = lay_out(tmp_path / "old", key, 2, campaign_id="2026-02", issued_at="2026-02-01T07:00:00.000000Z")
    other.centre.write_text(yaml.safe_dump(centre_yaml(centre_id="other"), allow_unicode=True))
    assert code(run, now, key, previous=other.root) == "centre-differs"


# What is no reading
def test_void_figures_are_listed_and_are_no_readings(tmp_path: Path, key: Path) -> None:
    made = run(lay_out(tmp_path / "c", key, 8, lambda i, r: void(r) if i == 3 else r), key)
    assert made.report.diagnosis.spreads[0].devices == 15
    ((one),) = made.report.not_counted
    assert (made.report.names[one.node_id], one.device, one.codes) == ("cn003", "fake:0", ("wrong-product",))
    assert any("cn003, fake:0 fp16: wrong-product" in line for line in made.lines())


def test_broken_records_and_missing_nodes_are_listed_and_stop_nothing(tmp_path: Path, key: Path) -> None:
    where = lay_out(tmp_path / "c", key)
    campaign = read_campaign(where)

    def file(index: int) -> Path:
        return where.collected / f"{node_name(index)}.record.dsse.json"

    broken = file(1).read_bytes()
    at = broken.index(b'"sig":"') + 20
    file(1).write_bytes(broken[:at] + (b"A" if broken[at : at + 1] != b"A" else b"B") + broken[at + 1 :])
    file(2).write_bytes(b"{")
    file(3).unlink()
    file(4).unlink()
    file(5).write_bytes(file(6).read_bytes())
    (where.collected / "stranger.record.dsse.json").write_bytes(file(7).read_bytes())
    absence = Absence(node_id=node_name(4), code="node-lost", detail="gone")
    write_attendance(where.collected, Attendance(campaign_sha256=digest(campaign), absent=(absence,)))
    made = run(where, key)
    assert any(line.strip() == "cn004: node-lost (gone)" for line in made.lines())
    codes = {made.report.names[one.node_id]: one.code for one in made.report.absent}
    assert codes == {
        "cn001": "record-refused",
        "cn002": "record-refused",
        "cn003": "node-missing",
        "cn004": "node-lost",
        "cn005": "record-refused",
    }
    assert {one.file.split(".")[0]: one.code for one in made.report.refused} == {
        node_name(1): "signature-invalid",
        node_name(2): "json-invalid",
        node_name(5): "file-name-differs",
        "stranger": "file-name-differs",
    }
    assert made.report.diagnosis.spreads[0].nodes == 3
    assert any("stranger.record.dsse.json: is the record of" in line for line in made.lines())


def test_a_device_that_stands_in_two_records_is_read_once(tmp_path: Path, key: Path) -> None:
    def change(index: int, record: NodeRecord) -> NodeRecord:
        first = of_node(
            simulated(2, "smoke", ("fp16",)).record, 0, campaign_of(load_profile("smoke"), ("fp16",), 1), NODE_KEY
        )
        return replace(record, devices=first.devices) if index == 1 else record

    made = run(lay_out(tmp_path / "c", key, 3, change), key)
    assert [(one.file.split(".")[0], one.code) for one in made.report.refused] == [(node_name(1), "duplicate-device")]
    assert made.report.diagnosis.spreads[0].devices == 4


def test_nothing_but_broken_records_still_gives_a_page(tmp_path: Path, key: Path) -> None:
    where = lay_out(tmp_path / "c", key, 2)
    for path in where.collected.glob("*.record.dsse.json"):
        path.write_bytes(b"x")
    made = run(where, key)
    assert len(made.report.absent) == 2
    assert made.report.pictures == ()
    assert "No figure to compare" in (made.out / "index.html").read_text()


# Whose campaign it is
def test_a_campaign_of_somebody_else_s_key(tmp_path: Path, key: Path) -> None:
    where = lay_out(tmp_path / "c", key, 2)
    new_key(tmp_path / "thief.pem", None)
    assert code(run, where, tmp_path / "thief.pem") == "key-not-trusted"
    assert not (where.root / "diagnosis").exists()


def test_what_was_not_collected_cannot_be_diagnosed(tmp_path: Path, key: Path) -> None:
    where = lay_out(tmp_path / "c", key, 2)
    where.collected.rename(tmp_path / "elsewhere")
    assert code(run, where, key) == "no-records"
    assert code(diagnose_campaign, tmp_path, now_ns=NOW_NS, public_key=Path(f"{key}.pub")) == "campaign-folder-invalid"


@pytest.mark.parametrize("given", [{}, {"public_key": Path("a"), "trust": Path("b")}])
def test_exactly_one_kind_of_trust_is_given(tmp_path: Path, given: dict[str, Path]) -> None:
    assert code(diagnose_campaign, tmp_path, now_ns=NOW_NS, **given) == "trust-missing"


# What is written
def test_the_result_the_pictures_and_the_page(tmp_path: Path, key: Path) -> None:
    made = run(lay_out(tmp_path / "c", key, 8, lambda i, r: scaled(r, 800_000) if i == 0 else r), key)
    assert made.out == tmp_path / "c" / "diagnosis"
    assert msgspec.json.decode((made.out / "diagnosis.json").read_bytes(), type=FleetReport) == made.report
    (picture,) = made.report.pictures
    assert (made.out / picture.file).read_text().startswith("<svg")
    shown = made.as_json()
    assert shown["page"] == str(made.out / "index.html")
    assert json.loads(json.dumps(shown))["diagnosis"]["take_out"][0]["node_id"] == node_name(0)
    assert not re.search(rb"\d\.\d|NaN|Infinity", encode(made.report.diagnosis))
    before = {path.name: path.read_bytes() for path in made.out.iterdir()}
    run(Folder(tmp_path / "c"), key)
    assert {path.name: path.read_bytes() for path in made.out.iterdir()} == before


def test_the_page_is_whole_in_itself_and_hostile_names_stay_text(tmp_path: Path, key: Path) -> None:
    attack = "<script>alert(1)</script>\"'&<img onerror=x>"
    where = lay_out(
        tmp_path / "c",
        key,
        8,
        lambda i, r: scaled(
            replace(r, models=(replace(r.models[0], model=attack, plays="petaseal-fake-1"),)),
            800_000 if i == 0 else 10**6,
        ),
    )
    roster = where.roster()
    nodes = tuple(msgspec.structs.replace(node, name=f"{attack}{i}") for i, node in enumerate(roster.nodes))
    where.roster_file.write_bytes(encode(msgspec.structs.replace(roster, nodes=nodes)))
    made = run(where, key, out=tmp_path / "elsewhere")
    page = Reader((tmp_path / "elsewhere" / "index.html").read_text())
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "form"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert set(attributes) & {"src", "srcset", "action"} == set()
        assert all(
            re.fullmatch(r"[a-z0-9-]+\.svg", value or "") for name, value in attributes.items() if name == "href"
        )
    assert f"{attack}0" in page.text
    assert "机群诊断" in page.text
    assert "Fleet diagnosis" in page.text
    assert made.report.pictures[0].file.startswith("petaseal-script-alert-1")


def test_file_names_are_plain_and_no_two_alike() -> None:
    kinds = [("A/B", "fp16"), ("a b", "fp16"), ("../..", "fp64"), ("昇腾", "fp64"), ("x" * 300, "fp16-tuned")]
    names = list(file_names(kinds).values())
    assert len(set(names)) == len(kinds)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,80}\.svg", name) for name in names)
    assert list(file_names(kinds)) == kinds


def test_the_time_is_given(tmp_path: Path, key: Path) -> None:
    where = lay_out(tmp_path / "c", key, 2)
    public = Path(f"{key}.pub")
    assert utc_text(NOW_NS) > read_campaign(where).starts_until
    assert code(diagnose_campaign, where.root, now_ns=BEGIN_NS, public_key=public) == "window-invalid"
