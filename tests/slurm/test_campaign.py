"""Campaigns of four nodes on a real Slurm that is made to fail: each survives, names the fault, and counts the rest."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.record.folder import Folder
from certify.documents.dsse import parse_envelope, seal
from certify.documents.kinds import PAYLOAD_TYPE
from certify.keys.loading import load_signing_key
from tests.slurm.cluster import Cluster, until
from tests.slurm.trial import BRIEF, N1, N2, N3, N4, NODES, Trial, only


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Return a campaign that was launched with a ramp, and in which nothing went wrong."""
    one = Trial(cluster, tmp_path_factory.mktemp("whole"))
    one.create("--ramp", "4")
    answer = one.launch().end()
    assert answer.status == 0, answer.out
    assert "4 of 4 nodes are ready" in answer.out
    assert "4 done" in answer.out
    return one


def test_a_campaign_of_four_nodes_from_nothing_to_a_verified_statement(whole: Trial) -> None:
    found = whole.stated()
    assert found.collected["complete"]
    assert found.not_counted == {}
    assert found.counts_exactly(only(*NODES))
    assert {record.starts_at for record in found.records.values()} == {found.statement.starts_at}
    assert len({record.signer_spki for record in found.records.values()}) == len(NODES)
    assert whole.jobs("RUNNING", "PENDING") == []
    assert whole.load() == []


def test_a_ramp_is_kept_by_every_node_and_shows_in_its_record(whole: Trial) -> None:
    found = whole.stated()
    campaign = found.statement.campaign
    for place, node in enumerate(NODES):
        due_ns = BRIEF.warmup_ns + campaign.ramp_ns - campaign.ramp_ns * place // len(NODES)
        (warmed_ns,) = found.records[node].measurements[0].warmup_ns
        assert abs(warmed_ns - due_ns) < 10**9  # a second apart from node to node
    assert {finding.code for finding in found.statement.findings}.isdisjoint({"ramp-not-kept", "late-load"})


def flip_a_byte(folder: Folder, trial: Trial) -> None:
    """Change one byte of what node2 signed."""
    path = record_of(folder, N2)
    envelope = json.loads(path.read_bytes())
    payload = bytearray(base64.b64decode(envelope["payload"]))
    at = payload.index(b'"launches":[') + len(b'"launches":[')
    payload[at] = ord("9") if payload[at] != ord("9") else ord("8")
    tampered = {**envelope, "payload": base64.b64encode(payload).decode()}
    path.write_text(json.dumps(tampered, sort_keys=True, separators=(",", ":")))


def copy_another(folder: Folder, trial: Trial) -> None:
    """Put the record of node3 in the place of node2's."""
    shutil.copyfile(record_of(folder, N3), record_of(folder, N2))


def sign_again(folder: Folder, trial: Trial) -> None:
    """Sign node2's record with another key than the one that it names."""
    path = record_of(folder, N2)
    payload = parse_envelope(path.read_bytes(), 2**26, path).payload
    path.write_bytes(seal(payload, PAYLOAD_TYPE, [load_signing_key(trial.key, None)]))


def record_of(folder: Folder, node: str) -> Path:
    """Return where a node's record lies."""
    return folder.records(node) / f"{node}.record.dsse.json"


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (flip_a_byte, "signature-invalid"),
        (copy_another, "file-name-differs"),
        (sign_again, "signer-mismatch"),
    ],
)
def test_a_record_that_was_tampered_with_counts_nothing(
    whole: Trial, tmp_path: Path, tamper: Callable[[Folder, Trial], None], code: str
) -> None:
    one = copy.copy(whole)
    one.root = tmp_path
    shutil.copytree(whole.root / "c1", tmp_path / "c1", ignore=shutil.ignore_patterns("statement", "collected"))
    tamper(one.folder(), one)
    said = one.run("collect")
    assert said.status == 1
    assert re.search(rf"^refused    .*{N2}\.record\.dsse\.json: .*\[{code}\]$", said.out, re.MULTILINE)
    assert f"absent     {N2}: record-refused" in said.out
    found = one.stated(complete=False)
    assert found.absent == {N2: "record-refused"}
    assert found.not_counted == {(N2, None): ("record-refused",)}
    assert found.counts_exactly(only(N1, N3, N4))


@pytest.mark.long
def test_a_lost_node_and_a_hung_device_stop_nobody_else(trial: Trial) -> None:
    trial.give(N1, {"1": {"hang_at_s": 1.0}})
    trial.create(device="fake:2")
    launch = trial.launch()
    trial.in_window()
    trial.cluster.kill_node(N3)
    answer = launch.end()
    assert answer.status == 1
    assert f"{N3} has told nothing for" in answer.out
    assert "3 done, 1 lost" in answer.out
    assert f"{N1}: 1 of its 2 devices count 0" in answer.out
    found = trial.stated(complete=False)
    assert found.absent == {N3: "node-lost"}
    assert found.not_counted == {(N1, "fake:1"): ("device-hung",), (N3, None): ("node-lost",)}
    assert found.counts_exactly([(N1, "fake:0"), *((node, f"fake:{i}") for node in (N2, N4) for i in (0, 1))])


@pytest.mark.long
def test_a_node_that_starts_late_says_so_and_counts_nothing(trial: Trial) -> None:
    trial.cluster.hold_tasks(N4, True)
    trial.create()
    launch = trial.launch("--ready-timeout", 6)
    trial.after_start(0.5)
    trial.cluster.hold_tasks(N4, False)
    answer = launch.end()
    assert "3 of 4 nodes are ready" in answer.out
    assert "1 void; 1 late" in answer.out
    assert f"{N4}: 1 of its 1 devices count 0" in answer.out
    found = trial.stated()
    late, starts_at = found.records[N4], found.statement.starts_at
    assert starts_at < late.ready_at < late.ended_at
    assert late.started_at < late.ready_at
    assert found.not_counted == {(N4, "fake:0"): ("late",)}
    assert found.counts_exactly(only(N1, N2, N3))


@pytest.mark.long
def test_the_controller_restarts_in_the_window_and_a_second_launch_is_refused(trial: Trial) -> None:
    trial.create()
    launch = trial.launch()
    trial.in_window()
    second = trial.launch().end()
    assert second.status == 2
    assert "is being launched by another process" in second.out
    trial.cluster.stop_controller()
    until(lambda: "does not answer" in launch.said, 60)
    trial.cluster.start_controller()
    answer = launch.end()
    assert answer.status == 0, answer.out
    found = trial.stated()
    assert found.not_counted == {}
    assert found.counts_exactly(only(*NODES))
    until(lambda: trial.jobs("RUNNING", "PENDING") == [])


@pytest.mark.long
def test_abort_ends_all_load_within_seconds_and_leaves_what_was_measured(trial: Trial) -> None:
    trial.give(N4, {"0": {"fail_at_s": -1.0}})  # its record is there before the others'
    trial.lasts(10)  # so that a slow machine does not sleep through it
    trial.create()
    launch = trial.launch()
    trial.in_window()
    trial.reach("done", nodes=[N4])
    assert len(trial.load()) == 3
    began = time.monotonic()
    assert trial.run("abort").status == 0
    until(lambda: trial.load() == [], 15)
    assert time.monotonic() - began < 20
    answer = launch.end()
    assert answer.status == 1
    assert "3 aborted" in answer.out
    trial.after_start((BRIEF.warmup_ns + BRIEF.guard_ns) / 1e9 + 10)  # no statement is made before the campaign is over
    found = trial.stated(complete=False)
    assert found.absent == dict.fromkeys((N1, N2, N3), "node-aborted")
    assert found.not_counted[N4, "fake:0"] == ("device-failed",)
    assert found.counts_exactly([])
    assert trial.jobs("RUNNING", "PENDING") == []
