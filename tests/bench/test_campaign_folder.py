"""The campaign's folder: T0 is published once, a survey opens few files, and what is half-written is not there yet."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError, RefusedError
from bench.record.folder import SHARDS, Folder, check_belongs, read_status, shard_of, survey
from bench.record.status import Launched, Published, Status
from bench.units import utc_ns, utc_text
from tests.bench.campaigns import at, campaign_of, done, lay, node_id, roster_of, told
from tests.bench.fleet import BEGIN_NS

SURVEY = """
import json, os, sys
from pathlib import Path
from bench.record.folder import Folder, survey
from bench.units import utc_ns
utc_ns("2026-03-01T08:00:00.000000Z")  # imports what it needs
folder, ids, known, counts = Folder(Path(sys.argv[1])), frozenset(sys.argv[2].split(",")), {}, []
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
for refresh in range(3):
    opened.clear()
    survey(folder, known, ids)
    counts.append(sorted(Path(path).stem for path in opened))
print(json.dumps({"opened": counts, "known": {node: status.state for node, status in known.items()}}))
"""


def test_a_survey_opens_each_node_s_file_at_most_once_and_none_of_what_is_done(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    states = ("arrived", "preparing", "ready", "measuring", "concluding", "checked", "failed", "aborted", "done")
    for i in range(45):
        folder.write_status(told(i, states[i % len(states)]))  # type: ignore[arg-type]
    folder.write_status(told(99, "ready"))  # not expected
    ids = ",".join(node_id(i) for i in range(50))  # five never told anything
    answer = subprocess.run(
        [sys.executable, "-c", SURVEY, str(tmp_path), ids], capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(answer.stdout)
    first, *later = found["opened"]
    assert first == [node_id(i) for i in range(45)]
    assert later == [[node_id(i) for i in range(45) if states[i % len(states)] != "done"]] * 2
    assert found["known"] == {node_id(i): states[i % len(states)] for i in range(45)}


def test_a_node_that_is_started_again_is_seen(tmp_path: Path) -> None:
    folder, known = Folder(tmp_path), {}  # type: tuple[Folder, dict[str, Status]]
    folder.write_status(told(0, "failed"))
    survey(folder, known, {node_id(0)})
    folder.write_status(told(0, "ready", 5, 5))
    survey(folder, known, {node_id(0)})
    assert known[node_id(0)].state == "ready"


def test_half_written_and_foreign_files_are_not_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_status(told(0, "ready"))
    whole = folder.status_file(node_id(0)).read_bytes()
    names = [node_id(i) for i in range(1, 9)]
    paths = [folder.status_file(name) for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    paths[0].write_bytes(whole[: len(whole) // 2])
    paths[1].write_bytes(b"")
    paths[2].write_bytes(whole)  # of another node
    paths[3].symlink_to(folder.status_file(node_id(0)))
    os.mkfifo(paths[4])
    paths[5].mkdir()
    paths[6].write_bytes(whole.replace(b'"ready"', b'"asleep"'))
    paths[7].write_bytes(b"\xff\x00" * 100)
    paths[7].with_name(".hidden.json").write_bytes(whole)
    paths[7].with_name(f".{node_id(0)}.json.123").write_bytes(b"half")
    (tmp_path / "nodes" / "stray").write_bytes(b"no folder")
    known: dict[str, Status] = {}
    survey(folder, known, {node_id(0), *names})
    assert set(known) == {node_id(0)}
    assert all(folder.status(name) is None for name in names if name != names[2])
    assert read_status(str(tmp_path / "nowhere")) is None


def test_what_was_known_stays_known_while_a_file_is_away(tmp_path: Path) -> None:
    folder, known = Folder(tmp_path), {node_id(0): told(0, "ready")}
    survey(folder, known, {node_id(0)})
    assert known[node_id(0)].state == "ready"


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=63))
def test_every_node_has_one_shard(name: str) -> None:
    assert 0 <= int(shard_of(name), 16) < SHARDS
    assert len(shard_of(name)) == 2


def test_shards_are_even() -> None:
    counts: dict[str, int] = {}
    for i in range(10_000):
        counts[shard_of(node_id(i))] = counts.get(shard_of(node_id(i)), 0) + 1
    assert len(counts) == SHARDS
    assert max(counts.values()) < 3 * 10_000 / SHARDS


# --- T0 ---

PUBLISH = """
import sys
from pathlib import Path
from bench.record.folder import Folder, Published
from bench.units import utc_ns, utc_text
folder, own = Folder(Path(sys.argv[1])), int(sys.argv[2])
print("here", flush=True)
sys.stdin.readline()
found = folder.publish(Published(utc_text(own * 10**9), utc_text(0), own))
print(found.starts_at, found.ready, flush=True)
"""


def test_of_many_that_publish_at_once_one_wins_and_all_see_the_same(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(tmp_path), str(1_800_000_000 + i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(6)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    answers = [run.communicate(timeout=60)[0] for run in runs]
    assert len(set(answers)) == 1
    assert answers[0] in {f"{utc_text((1_800_000_000 + i) * 10**9)} {1_800_000_000 + i}\n" for i in range(6)}
    published = Folder(tmp_path).started()
    assert published is not None
    assert answers[0].startswith(published.starts_at)
    assert [path.name for path in tmp_path.iterdir()] == ["start.json"]


def test_t0_never_changes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.started() is None
    first = folder.publish(Published(at(10), at(0), 4))
    assert folder.publish(Published(at(20), at(5), 5)) == first == folder.started()
    assert utc_ns(first.starts_at) == BEGIN_NS + 10 * 10**9


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    folder = Folder(tmp_path)
    first = folder.publish(Published(at(10), at(0), 4))
    assert folder.publish(Published(at(20), at(5), 5)) == first == folder.started()
    assert [path.name for path in tmp_path.iterdir()] == ["start.json"]


# --- the other files ---


def test_a_launch_is_remembered(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.launched() is None
    launched = Launched("slurm", ("--qos=high",), "cert", ("petaseal", "campaign", "join"), at(0))
    folder.write_launched(launched)
    assert folder.launched() == launched


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"starts_at":"yesterday"}', b"\xff"])
@pytest.mark.parametrize("name", ["roster.json", "start.json", "launch.json"])
def test_damaged_files_are_said(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    folder = Folder(tmp_path)
    read = {"roster.json": folder.roster, "start.json": folder.started, "launch.json": folder.launched}[name]
    with pytest.raises(InputError) as caught:
        read()
    assert caught.value.code == ("campaign-folder-invalid" if content else "file-empty")
    assert name in str(caught.value)


def test_a_roster_with_a_node_in_no_pool_is_damaged(tmp_path: Path) -> None:
    campaign = campaign_of(2)
    folder = lay(tmp_path, campaign)
    assert folder.roster() == roster_of(campaign)
    text = json.loads(folder.roster_file.read_bytes())
    text["nodes"][1]["pool"] = "elsewhere"
    folder.roster_file.write_text(json.dumps(text))
    with pytest.raises(InputError, match="elsewhere") as caught:
        folder.roster()
    assert caught.value.code == "campaign-folder-invalid"


def test_a_roster_belongs_to_its_campaign(tmp_path: Path) -> None:
    campaign = campaign_of(2)
    folder, roster = lay(tmp_path, campaign), roster_of(campaign)
    check_belongs(folder, roster, campaign)
    with pytest.raises(RefusedError) as caught:
        check_belongs(folder, roster, campaign_of(3))
    assert caught.value.code == "campaign-differs"


def test_nodes_are_known_by_either_name() -> None:
    roster = roster_of(campaign_of(3))
    assert roster.node_named("n2") == roster.node_named(node_id(2)) == roster.nodes[2]
    with pytest.raises(InputError, match="3 nodes, such as n0") as caught:
        roster.node_named("n3")
    assert caught.value.code == "node-not-expected"
    with pytest.raises(InputError, match="knows no node"):
        msgspec.structs.replace(roster, nodes=()).node_named("n0")


def test_a_status_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_bytes(b"in the way")
    with pytest.raises(InputError) as caught:
        Folder(tmp_path).write_status(done(0, 1))
    assert caught.value.code == "output-not-writable"


def test_a_command_on_a_folder_can_be_pasted() -> None:
    assert Folder(Path("/lustre/two words/c1")).command("collect") == "petaseal campaign collect '/lustre/two words/c1'"
