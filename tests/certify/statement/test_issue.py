"""``certify`` as a whole: three files or none, one statement after another, and what must not be combined."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import InputError, PetasealError
from bench.record import NodeRecord, digest
from bench.record.campaign import ends_ns
from bench.units import utc_ns
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.keys.files import load_private, new_key
from certify.keys.signers import spki_text
from certify.statement.issue import OUTPUTS
from tests.bench.fleet import simulate_node
from tests.certify import signed
from tests.certify.measured import BEGIN_NS, Measured, measured, seal_record

DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measured(tmp_path_factory.mktemp("centre"), profile="smoke", precisions=("fp16",))


def code(run: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PetasealError) as refused:
        run(*args, **kwargs)
    assert str(refused.value).isprintable()
    return refused.value.code


def names(folder: Path) -> set[str]:
    """Return every file in a folder, hidden ones too."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_its_files_verify(centre: Measured, tmp_path: Path) -> None:
    made = centre.certify(tmp_path / "out")
    assert names(tmp_path / "out") == set(OUTPUTS)
    report = centre.verify(tmp_path / "out", samples=centre.records)
    assert (report.refusal, report.level) == (None, "audited")
    assert report.payload_sha256 == made.payload_sha256
    assert report.signers == made.keyids
    assert report.statement == made.statement
    lines = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    digests = [hashlib.sha256(dsse.parse_envelope(line, CAPS.record_bytes).payload).hexdigest() for line in lines]
    assert digests == sorted(digests)
    assert set(lines) == {path.read_bytes() for path in centre.records.glob("*.record.dsse.json")}
    for name in OUTPUTS:
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o644


def test_the_issue_follows_from_the_present(centre: Measured, tmp_path: Path) -> None:
    statement = centre.certify(tmp_path / "out", valid_days=30).statement
    issue = statement.issue
    assert utc_ns(issue.valid_until) == ends_ns(statement.campaign, statement.starts_at) + 30 * DAY_NS
    assert (issue.sequence, issue.previous_sha256, issue.supersedes) == (1, None, ())


@pytest.mark.parametrize("days", [367, 10**6])
def test_a_validity_beyond_what_the_policies_allow(centre: Measured, tmp_path: Path, days: int) -> None:
    assert code(centre.certify, tmp_path / "out", valid_days=days) == "validity-too-long"
    assert names(tmp_path / "out") == set()


# One statement after another
def test_a_further_statement_names_the_one_before(centre: Measured, tmp_path: Path) -> None:
    first = centre.certify(tmp_path / "1")
    second = centre.certify(tmp_path / "2", sequence=2, previous=tmp_path / "1" / "statement.dsse.json")
    issue = second.statement.issue
    assert (issue.sequence, issue.previous_sha256) == (2, first.payload_sha256)
    assert issue.supersedes == (first.payload_sha256,)
    assert centre.verify(tmp_path / "2").refusal is None
    third = centre.certify(tmp_path / "3", sequence=3, previous=tmp_path / "2" / "statement.dsse.json")
    assert third.statement.issue.previous_sha256 == second.payload_sha256


def test_a_number_that_does_not_follow(centre: Measured, tmp_path: Path) -> None:
    centre.certify(tmp_path / "1")
    before = tmp_path / "1" / "statement.dsse.json"
    for given in ({"sequence": 2}, {"sequence": 1, "previous": before}, {"sequence": 3, "previous": before}):
        assert code(centre.certify, tmp_path / "2", **given) == "sequence-invalid"
        assert names(tmp_path / "2") == set()


def test_the_statement_before_must_be_one_s_own(centre: Measured, tmp_path: Path) -> None:
    centre.certify(tmp_path / "1")
    before = tmp_path / "1" / "statement.dsse.json"
    new_key(tmp_path / "thief.pem", None)
    sealed = dsse.seal(
        dsse.parse_envelope(before.read_bytes(), CAPS.statement_bytes).payload,
        PAYLOAD_TYPE,
        [load_private(tmp_path / "thief.pem")],
    )
    (tmp_path / "stolen.json").write_bytes(sealed)
    given = {"sequence": 2, "previous": tmp_path / "stolen.json"}
    assert code(centre.certify, tmp_path / "2", **given) == "key-not-trusted"


@pytest.mark.parametrize("change", [{"project_id": "P-2"}, {"project_id": None}])
def test_the_statement_before_must_be_of_the_same_project(tmp_path: Path, change: dict[str, Any]) -> None:
    import yaml

    one = measured(tmp_path, nodes=1, devices=1, profile="smoke", precisions=("fp16",))
    one.certify(tmp_path / "1")
    one.centre.write_text(yaml.safe_dump({**yaml.safe_load(one.centre.read_text()), **change}))
    given = {"sequence": 2, "previous": tmp_path / "1" / "statement.dsse.json"}
    assert code(one.certify, tmp_path / "2", **given) == "centre-differs"


# Campaigns
def test_records_of_a_campaign_need_it(centre: Measured, tmp_path: Path) -> None:
    assert code(centre.certify, tmp_path / "out", campaign=None) == "campaign-missing"


def test_a_campaign_that_somebody_else_signed(centre: Measured, tmp_path: Path) -> None:
    payload = dsse.parse_envelope(centre.campaign.read_bytes(), CAPS.campaign_bytes).payload
    (tmp_path / "c.json").write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [signed.new_key()]))
    assert code(centre.certify, tmp_path / "out", campaign=tmp_path / "c.json") == "key-not-trusted"


def test_another_campaign_of_the_same_centre(centre: Measured, tmp_path: Path) -> None:
    payload = dsse.parse_envelope(centre.campaign.read_bytes(), CAPS.campaign_bytes).payload
    other = replace(parse_payload("campaign", payload).predicate, campaign_id="other")
    sealed = dsse.seal(make_document("campaign", other), PAYLOAD_TYPE, [load_private(centre.key)])
    (tmp_path / "c.json").write_bytes(sealed)
    assert code(centre.certify, tmp_path / "out", campaign=tmp_path / "c.json") == "campaign-differs"


def self_measured(folder: Path, node_id: str, **changes: Any) -> NodeRecord:
    """Write the record of a node that measured itself, and its samples."""
    key = signed.new_key()
    made = simulate_node({"identity": {"serial": node_id}}, 1, "smoke", ("fp16",), node_id, begin_ns=BEGIN_NS)
    record = replace(made.record, signer_spki=spki_text(key.public), **changes)
    folder.mkdir(exist_ok=True)
    (folder / f"{node_id}.record.dsse.json").write_bytes(seal_record(record, key, made.samples))
    (folder / f"{node_id}.samples.csv.gz").write_bytes(made.samples)
    return record


def test_a_node_that_measured_itself_is_certified_alone(centre: Measured, tmp_path: Path) -> None:
    self_measured(tmp_path / "records", "node-a")
    made = centre.certify(tmp_path / "out", records=tmp_path / "records", campaign=None)
    assert made.statement.campaign.self_issued
    assert made.statement.classes[0].counted.devices == 1
    assert centre.verify(tmp_path / "out", samples=tmp_path / "records").refusal is None


def test_nodes_that_measured_themselves_never_combine(centre: Measured, tmp_path: Path) -> None:
    for node in ("node-a", "node-b"):
        self_measured(tmp_path / "records", node)
    given = {"records": tmp_path / "records", "campaign": None}
    assert code(centre.certify, tmp_path / "out", **given) == "self-issued-combined"
    assert names(tmp_path / "out") == set()


def test_a_self_measured_node_does_not_join_a_campaign(centre: Measured, tmp_path: Path) -> None:
    shutil.copytree(centre.records, tmp_path / "records")
    self_measured(tmp_path / "records", "gpu-00001")
    assert code(centre.certify, tmp_path / "out", records=tmp_path / "records") == "campaign-differs"


def test_a_self_issued_campaign_that_the_record_does_not_bind(centre: Measured, tmp_path: Path) -> None:
    record = self_measured(tmp_path / "first", "node-a")
    assert record.campaign is not None
    longer = replace(record.campaign, campaign_id="other")
    self_measured(tmp_path / "records", "node-a", campaign=longer)
    given = {"records": tmp_path / "records", "campaign": None}
    assert code(centre.certify, tmp_path / "out", **given) == "campaign-differs"


def test_a_record_may_not_bring_the_centre_s_own_campaign(centre: Measured, tmp_path: Path) -> None:
    """Only a self-issued campaign is inside a record: a campaign of many nodes is signed by the operator."""
    record = self_measured(tmp_path / "first", "node-a")
    assert record.campaign is not None
    claimed = replace(record.campaign, self_issued=False, centre_id="gz-test")
    self_measured(
        tmp_path / "records", "node-a", campaign=claimed, campaign_sha256=digest(claimed), centre_id="gz-test"
    )
    given = {"records": tmp_path / "records", "campaign": None}
    assert code(centre.certify, tmp_path / "out", **given) == "campaign-differs"


# Where it goes
def test_a_statement_is_never_overwritten(centre: Measured, tmp_path: Path) -> None:
    centre.certify(tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in OUTPUTS}
    assert code(centre.certify, tmp_path / "out") == "output-exists"
    assert {name: (tmp_path / "out" / name).read_bytes() for name in OUTPUTS} == before


def test_a_file_is_no_folder(centre: Measured, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert code(centre.certify, tmp_path / "out") == "output-not-writable"
    assert (tmp_path / "out").read_text() == "mine"


BAD_RECORDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no records": (lambda folder: list(map(os.unlink, folder.glob("*.record.dsse.json"))), "no-records"),
    "empty": (lambda folder: (folder / "gpu-00000.record.dsse.json").write_bytes(b""), "file-empty"),
    "truncated": (lambda folder: cut(folder / "gpu-00000.record.dsse.json", 1000), "json-invalid"),
    "named after another node": (
        lambda folder: (folder / "gpu-00000.record.dsse.json").rename(folder / "gpu-00009.record.dsse.json"),
        "file-name-differs",
    ),
    "copied": (
        lambda folder: shutil.copy(folder / "gpu-00000.record.dsse.json", folder / "copy.record.dsse.json"),
        "file-name-differs",
    ),
    "no folder": (shutil.rmtree, "file-missing"),
}


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("how", BAD_RECORDS)
def test_bad_records_leave_nothing(centre: Measured, tmp_path: Path, how: str) -> None:
    shutil.copytree(centre.records, tmp_path / "records")
    harm, expected = BAD_RECORDS[how]
    harm(tmp_path / "records")
    assert code(centre.certify, tmp_path / "out", records=tmp_path / "records") == expected
    assert names(tmp_path / "out") == set()


def test_a_record_that_changes_while_it_is_read(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from certify.statement import issue

    shutil.copytree(centre.records, tmp_path / "records")
    read = issue._same_bytes

    def late(path: Path, seen: Any) -> bytes:
        path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
        return read(path, seen)

    monkeypatch.setattr(issue, "_same_bytes", late)
    assert code(centre.certify, tmp_path / "out", records=tmp_path / "records") == "record-changed"
    assert names(tmp_path / "out") == set()


# Disks that run full, and the plug that is pulled
CALLS = {"fsync": 9, "replace": 4, "fchmod": 4}  # four files; their folder after each, and the folder above it once


@pytest.mark.parametrize(("call", "number"), [(call, n + 1) for call, most in CALLS.items() for n in range(most)])
def test_a_disk_that_runs_full_leaves_nothing(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    real, calls = getattr(os, call), []

    def full(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, full)
    assert code(centre.certify, tmp_path / "out") == "output-not-writable"
    monkeypatch.undo()
    assert names(tmp_path / "out") == set()
    assert centre.certify(tmp_path / "out").statement.records == 2


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_interrupt_leaves_nothing(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real, calls = os.replace, []

    def interrupted(*args: Any) -> None:
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        centre.certify(tmp_path / "out")
    assert names(tmp_path / "out") == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.certify.measured import Measured
call, number, after = sys.argv[3], int(sys.argv[4]), sys.argv[5] == "after"
real, calls = getattr(os, call), []
def killed(*args, **kwargs):
    calls.append(args)
    last = len(calls) == number
    if last and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(*args, **kwargs)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(os, call, killed)
Measured.at(Path(sys.argv[1])).certify(Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("call", "number", "when"),
    [
        ("fsync", 1, "before"),
        ("replace", 1, "after"),
        ("replace", 2, "after"),
        ("fsync", 8, "after"),
        ("replace", 4, "after"),
    ],
)
def test_a_killed_run_leaves_no_statement_or_a_whole_one(
    centre: Measured, tmp_path: Path, call: str, number: int, when: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(centre.folder), str(out), call, str(number), when]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[3], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    if (call, number) == ("replace", 4):
        assert names(out) == set(OUTPUTS)
        assert centre.verify(out).refusal is None
    else:
        assert "statement.dsse.json" not in names(out)
        shutil.rmtree(out)
        centre.certify(out)  # nothing else of the centre was harmed


def test_a_key_that_is_not_one_leaves_nothing(centre: Measured, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        centre.certify(tmp_path / "out", keys=(centre.public_key,))
    assert names(tmp_path / "out") == set()


def test_the_result_for_people_and_for_machines(centre: Measured, tmp_path: Path) -> None:
    made = centre.certify(tmp_path / "out")
    value = made.as_json()
    assert value["statement"] == str(tmp_path / "out" / "statement.dsse.json")
    assert value["predicate"]["simulated"] is True
    text = "\n".join(made.lines())
    assert "SIMULATED" in text
    assert "SMOKE" in text
    assert made.keyids[0] in text
