"""``campaign hpl`` with wrong words, nodes and folders: one sentence with its code, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bench.record import ExpectedNode, ExpectedPool, encode
from bench.record.status import AlikeDevices, NodeFacts
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.files import load_private
from tests.bad_input.command import Answer, contents, petaseal
from tests.certify.campaign.laid_campaign import Laid, campaign_of, edit_json, lay, roster_of, simulated
from tests.certify.evidence.outputs import Row, hpl
from tests.certify.measured import node_name

GPU_BYTES = (80 * 2**30, 64 * 2**30, 96 * 2**30)


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    """Return a campaign of three nodes, of which no report is there yet."""
    return lay(tmp_path, 3, measured=False, started=False)


def reported(laid: Laid, index: int, memory: int | None) -> None:
    """Let a node report its eight accelerators."""
    record = simulated(0).record
    model = msgspec.structs.replace(record.models[0], kind="gpu", memory_bytes=memory)
    names = tuple(f"fake:{i}" for i in range(8))
    found = (AlikeDevices(model, record.devices[0], names),)
    laid.tell(index, "done", facts=NodeFacts(8, ("x",), (), "chrony", 1, 0, (), found))


def rows(*pools: str, name: str = "n{}") -> list[dict[str, object]]:
    """Return a roster's nodes by their pools."""
    return [
        {"node_id": node_name(i), "name": name.format(i), "pool": pool, "group": None} for i, pool in enumerate(pools)
    ]


def asked(laid: Laid, *more: object, ranks: int = 8) -> Answer:
    """Ask for a run of all nodes."""
    own = ("--binary", "xhpl", "--ranks-per-node", ranks, "--out", laid.folder.root.parent / "run")
    return petaseal("campaign", "hpl", laid.folder.root, *own, *more)


def test_n_comes_from_the_memory_of_the_smallest_node(laid: Laid) -> None:
    for index, memory in enumerate(GPU_BYTES):
        reported(laid, index, memory)
    answer = asked(laid, "--library", "nvidia", "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert (said["nodes"], said["ranks"], said["nb"], said["p"], said["q"]) == (3, 24, 1024, 4, 6)
    most = 3 * 8 * min(GPU_BYTES) * 80 // 100
    assert said["matrix_bytes"] == 8 * said["n"] ** 2 <= most < 8 * (said["n"] + 1024) ** 2
    run = laid.folder.root.parent / "run"
    assert {path.name for path in run.iterdir()} == {"HPL.dat", "job.sh"}
    script = (run / "job.sh").read_text()
    assert "--nodelist=n0,n1,n2\n" in script  # as the engine names them
    some = asked(laid, "--library", "nvidia", "--nodes", "n[0,2]", "--out", run.parent / "two", "--json")
    assert json.loads(some.out)["ranks"] == 16
    assert 8 * json.loads(some.out)["n"] ** 2 > said["matrix_bytes"] * 2 // 3  # without the node that has least


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--benchmark", "hpcg"), "unknown-name", "use hpl, hpcc"),
        (("--library", "blis"), "unknown-name", "use openblas, mkl, nvidia, rocm"),
        (("--launch", "ssh"), "unknown-name", "use mpirun, srun"),
        (("--nodes", "n[0-9]"), "node-not-expected", "'n3'"),
        (("--nodes", "n[0-"), "host-list-invalid", "n[0-"),
        (("--nodes", "n0,n0"), "usage", "twice"),
        (("--pool", "other"), "unknown-name", "'other'"),
        (("--memory", "a lot"), "usage", "512GiB"),
        ((), "hpl-memory-unknown", "n0"),
        (("--memory", "100M", "--ranks-per-node", 1000), "hpl-memory-too-small", "50 x 60"),
        (("--memory", "64G", "--binary", "--x"), "usage", "--binary"),
        (("--memory", "64G", "--memory-share", 96), "usage", "memory-share"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(laid: Laid, more: tuple[object, ...], code: str, said: str) -> None:
    before = contents(laid.folder.root.parent)
    answer = asked(laid, *more)
    assert (answer.status, answer.code) == (2, code)
    assert said in answer.err
    assert contents(laid.folder.root.parent) == before


def test_one_node_without_a_report_leaves_the_smallest_unknown(laid: Laid) -> None:
    reported(laid, 0, 2**36)
    reported(laid, 1, None)
    assert "n1" in asked(laid, "--library", "nvidia").err
    assert asked(laid, "--library", "nvidia", "--nodes", "n0").status == 0


def test_an_earlier_runs_folder_is_never_written_into(laid: Laid) -> None:
    assert asked(laid, "--memory", "64G").status == 0
    before = contents(laid.folder.root.parent)
    answer = asked(laid, "--memory", "32G")
    assert (answer.status, answer.code) == (2, "output-exists")
    assert contents(laid.folder.root.parent) == before


def test_a_node_whose_name_no_directive_holds_is_refused(laid: Laid) -> None:
    edit_json(laid.folder.roster_file, nodes=rows("main", "main", "main", name="n {}"))
    answer = asked(laid, "--memory", "64G")
    assert (answer.status, answer.code) == (2, "hpl-node-name")


def test_nodes_of_two_pools_are_no_one_job(laid: Laid) -> None:
    pools = ("main", "main", "other")
    expected = tuple(ExpectedNode(node_id=node_name(i), pool=pool) for i, pool in enumerate(pools))
    measured = tuple(ExpectedPool(pool=pool, workloads=("fp16",)) for pool in ("main", "other"))
    campaign = msgspec.structs.replace(campaign_of(3), nodes=expected, pools=measured)
    payload = make_document("campaign", campaign)
    laid.folder.campaign.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(laid.key)]))
    (pool,) = roster_of(campaign).pools
    other = msgspec.structs.replace(pool, pool="other")
    laid.folder.roster_file.write_bytes(encode(msgspec.structs.replace(roster_of(campaign), pools=(pool, other))))
    edit_json(laid.folder.roster_file, nodes=rows(*pools))
    memory = ("--memory", "64G")
    assert "--pool: is needed" in asked(laid, *memory).err
    assert "one partition" in asked(laid, *memory, "--nodes", "n[0-2]").err
    assert "not of the pool main" in asked(laid, *memory, "--nodes", "n[0-2]", "--pool", "main").err
    assert asked(laid, *memory, "--pool", "main").status == 0


def test_what_is_no_campaign_is_refused(tmp_path: Path) -> None:
    given = ("--binary", "xhpl", "--ranks-per-node", 1, "--memory", "1G", "--out", tmp_path / "run")
    assert petaseal("campaign", "hpl", tmp_path, *given).code == "campaign-folder-invalid"


def test_import_takes_the_nodes_by_the_names_that_the_run_was_written_with(laid: Laid, tmp_path: Path) -> None:
    output, given = tmp_path / "hpl.txt", ("--campaign", laid.folder.root, "--key", laid.key, "--json")
    output.write_bytes(hpl(Row()))
    answer = petaseal("import", "hpl", output, *given, "--nodes", "N[0,2]", "--out", tmp_path / "e")
    assert answer.status == 0, answer.err
    (document,) = json.loads(answer.out)["documents"]
    assert document["predicate"]["nodes"] == [node_name(0), node_name(2)]
    by_id = petaseal("import", "hpl", output, *given, "--nodes", node_name(1), "--out", tmp_path / "f")
    assert by_id.status == 0, by_id.err
    unknown = petaseal("import", "hpl", output, *given, "--nodes", "n3", "--out", tmp_path / "g")
    assert (unknown.code, (tmp_path / "g").exists()) == ("evidence-node-unknown", False)
    edit_json(laid.folder.roster_file, campaign_sha256="0" * 64)
    assert (
        petaseal("import", "hpl", output, *given, "--nodes", "n0", "--out", tmp_path / "g").code == "campaign-differs"
    )
