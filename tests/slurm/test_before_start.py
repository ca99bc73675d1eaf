"""Launches on a real Slurm that must not start as they are: each names nodes and reasons, and goes on when asked."""

from __future__ import annotations

import pytest

from tests.slurm.cluster import until
from tests.slurm.trial import N1, N2, N3, N4, NODES, Trial, only

pytestmark = pytest.mark.long
SERIAL = {"identity": {"serial": "1650123456789"}}


def test_a_pool_whose_nodes_all_failed_stops_the_launch_unless_it_is_left_out(trial: Trial) -> None:
    usual = {"class": "intelligent", "devices": "all"}
    trial.pools({"pool": "ai", "nodes": [N1, N2], **usual}, {"pool": "bad", "nodes": [N3, N4], **usual})
    trial.create("--device", "bad=cuda")
    answer = trial.launch().end()
    assert answer.status == 1
    assert "pool bad: 0 of 2 nodes are ready (1 needed)" in answer.out
    assert f"not ready: {N3}, {N4}: failed: cuda: no device was found" in answer.out
    assert answer.out.rstrip().endswith("[campaign-not-ready]")
    assert trial.folder().started() is None
    until(lambda: trial.jobs("RUNNING", "PENDING") == [])
    status = trial.run("status")
    assert status.out.startswith("did not start: ")
    assert f"{N3}: failed: cuda: no device was found" in status.out
    assert f"not ready  {N3}, {N4}: failed: cuda: no device was found" in status.out
    answer = trial.launch("--least", "bad=0").end()
    assert answer.status == 1
    assert "2 of 4 nodes are ready; all start at" in answer.out
    found = trial.stated(complete=False)
    assert found.absent == dict.fromkeys((N3, N4), "node-not-ready")
    assert found.counts_exactly(only(N1, N2))


def test_too_few_nodes_stop_the_launch_and_the_same_command_goes_on_once_they_are_mended(trial: Trial) -> None:
    """Two nodes have no place for their keys: they say so, though they cannot take part at all."""
    (trial.root / "file").write_bytes(b"")
    for node in (N2, N3):
        trial.set(node, PETASEAL_STATE=str(trial.root / "file" / "state"))
    trial.create()
    answer = trial.launch().end()
    assert answer.status == 1
    assert "pool ai: 2 of 4 nodes are ready (3 needed)" in answer.out
    assert f"not ready: {N2}, {N3}: failed: {trial.root}/file/state" in answer.out
    assert trial.folder().started() is None
    for node in (N2, N3):
        trial.set(node, PETASEAL_STATE=str(trial.root / "state"))
    answer = trial.launch().end()
    assert answer.status == 0, answer.out
    assert "4 of 4 nodes are ready" in answer.out
    found = trial.stated()
    assert found.not_counted == {}
    assert found.counts_exactly(only(*NODES))


def test_a_node_that_said_why_it_gives_no_record_is_not_lost(trial: Trial) -> None:
    for node in (N1, N2):
        trial.give(node, {"0": SERIAL})
    trial.create()
    answer = trial.launch("--least", "ai=2").end()
    assert answer.status == 1
    assert f"starts without: {N1}: not to measure: the serial of fake:0 is the serial of fake:0 of {N2}" in answer.out
    assert f"{N1} failed: " in answer.out
    found = trial.stated(complete=False)
    assert found.absent == dict.fromkeys((N1, N2), "node-failed")
    assert all("[duplicate-device]" in one["detail"] for one in found.collected["absent"])
    assert found.not_counted == {(N1, None): ("node-failed",), (N2, None): ("node-failed",)}
    assert found.counts_exactly(only(N3, N4))


def test_a_pool_on_mixed_nodes_alone_is_looked_at_too(trial: Trial) -> None:
    """One node of four holds all that another pool has: three of four are enough for the one, and not for the other."""
    (trial.root / "file").write_bytes(b"")
    trial.pools(
        {"pool": "ai", "class": "intelligent", "nodes": list(NODES), "devices": ["fake:0"]},
        {"pool": "near", "class": "edge", "nodes": [N4], "devices": ["fake:1"]},
    )
    trial.set(N4, PETASEAL_STATE=str(trial.root / "file" / "state"))
    trial.create("--device", "near=fake:2", device="fake:2")
    answer = trial.launch().end()
    assert answer.status == 1
    assert "pool near: 0 of 1 nodes are ready (1 needed); mend them and launch again, or" in answer.out
    assert "pool ai: 3 of 4" not in answer.out
    assert f"not ready  {N4}: failed: {trial.root}/file/state" in trial.run("status").out
    assert trial.folder().started() is None
    answer = trial.launch("--least", "near=0").end()
    assert "3 of 4 nodes are ready" in answer.out
    found = trial.stated(complete=False)
    assert found.absent == {N4: "node-not-ready"}
    lines = {line.pool_class: (line.counted.devices, line.nodes_missing) for line in found.statement.classes}
    assert lines == {"intelligent": (3, 1), "edge": (0, 1)}
