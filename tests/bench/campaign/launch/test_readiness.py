"""Whether a campaign may start, with numbers of one node and of thousands."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.campaign.estimate import room_bytes
from bench.campaign.launch.readiness import SHOWN, go_on, least_asked, share_of, too_few, unready
from bench.campaign.opening import OpenCampaign
from bench.campaign.room import FILES, Room, free_bytes, needed_bytes, no_room, room_in
from bench.errors import InputError, RefusedError, explained
from bench.profile import load_profile
from bench.record import Campaign
from bench.record.folder import Folder
from bench.record.roster import Roster
from bench.record.status import NodeFacts
from tests.bench.campaigns import PROFILE, campaign_of, node_id, pool_of, roster_of, told
from tests.disks import small_disk

MIB = 2**20


AB = roster_of(campaign_of(6, pools="aaaabb"), (pool_of("a"), pool_of("b")))


TEN = roster_of(campaign_of(10, pools=["ai"] * 10), (pool_of("ai"),))


# --- how many ---


@pytest.mark.parametrize(
    ("nodes", "percent", "least"),
    [(1, 90, 1), (2, 90, 1), (3, 90, 2), (4, 90, 3), (10, 90, 9), (1500, 90, 1350), (1501, 90, 1350), (4, 1, 1)],
)
def test_the_share_of_a_pool(nodes: int, percent: int, least: int) -> None:
    assert share_of(nodes, percent) == least


def test_nothing_is_a_share_too() -> None:
    assert (share_of(1500, 0), share_of(1500, 100)) == (0, 1500)


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        ([], {"a": 3, "b": 1}),
        (["a=1"], {"a": 1, "b": 1}),
        (["b=0"], {"a": 3, "b": 0}),
        (["50%"], {"a": 2, "b": 1}),
        (["100%", "b=50%"], {"a": 4, "b": 1}),
        (["b=2", "50%", "b=1"], {"a": 2, "b": 1}),
    ],
)
def test_what_is_asked_of_the_pools(asked: list[str], least: dict[str, int]) -> None:
    assert least_asked(AB, asked) == least


def test_every_node_is_asked_for() -> None:
    assert least_asked(AB, [], require_all=True) == {"a": 4, "b": 2}
    with pytest.raises(InputError, match="--require-all"):
        least_asked(AB, ["a=2"], require_all=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "is none of"),
        ("a", "is none of"),
        ("a=", "is none of"),
        ("a=-1", "is none of"),
        ("a=1.5", "is none of"),
        ("a=²", "is none of"),
        ("a=5", "is more than there are: 4 nodes"),
        ("a=101%", "is more than there are: 100 %"),
        ("c=1", "there is no such pool; there are a, b"),
    ],
)
def test_what_cannot_be_asked(text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        least_asked(AB, [text])
    assert caught.value.code == "usage"


def test_each_pool_has_its_own_number() -> None:
    ready = {node_id(i) for i in range(4)}
    assert too_few(AB, ready, {}) == {"b": "0 of 2 nodes are ready (1 needed)"}
    assert too_few(AB, ready, {"b": 0}) == {}
    assert too_few(AB, ready, {"a": 4, "b": 2}) == {"b": "0 of 2 nodes are ready (2 needed)"}
    assert go_on(AB, ready, ["b"]).endswith("go on with those that are ready: --least b=0")


def test_a_mixed_node_is_one_of_each_of_its_pools() -> None:
    """The two devices of hpc stand on two of ten nodes of ai: both are lost, and a tenth of ai's at most may be."""
    mixed = tuple(replace(node, also=("hpc",)) if i < 2 else node for i, node in enumerate(TEN.nodes))
    of = replace(TEN, pools=(pool_of("ai"), pool_of("hpc", devices_per_node=1)), nodes=mixed)
    assert least_asked(of, ["hpc=2"]) == {"ai": 9, "hpc": 2}
    assert least_asked(of, []) == {"ai": 9, "hpc": 1}
    ready = {node_id(i) for i in range(2, 10)}
    assert too_few(of, ready, {"ai": 8}) == {"hpc": "0 of 2 nodes are ready (1 needed)"}
    assert go_on(of, ready, ["hpc"]).endswith("--least hpc=0")


def test_nobody_is_never_enough() -> None:
    assert set(too_few(AB, (), {"a": 0, "b": 0})) == {"a", "b"}
    assert "--least" not in go_on(AB, (), ["a", "b"])


# --- who is not, and why ---


def test_reasons_are_put_together_and_the_worst_is_first() -> None:
    of = roster_of(campaign_of(1500))
    known = {node_id(i): told(i, "failed", message="no device of kind cuda") for i in range(100, 200)}
    known |= {node_id(i): told(i, "failed", message="OSError") for i in range(3)}
    known |= {node_id(4): told(4, "preparing"), node_id(5): told(5, "preparing"), node_id(6): told(6, "aborted")}
    ready = {node_id(i) for i in range(200, 1400)}
    said = unready(of, known, ready, {node_id(5)}, {node_id(3): "is n9 too"}, {"main": "its job waits (Priority)"})
    assert said[:3] == [
        "n100, n101, n102, n103, n104 and 95 more: failed: no device of kind cuda",
        "n0, n1, n2: failed: OSError",
        "n3: not to measure: is n9 too",
    ]
    assert said[3:5] == ["n5: fell silent, preparing", "n6: was ended: without a reason"]
    assert said[5].startswith("n7, n8, n9, n10 and 189 more: has told nothing: its job waits (Priority)")
    assert said[6] == "1 more nodes for 1 more reasons: petaseal campaign status"


def test_what_is_a_node_s_own_does_not_part_reasons() -> None:
    of = roster_of(campaign_of(4))
    words = ("n0: /k/12345678abcdef.pem: full", "n1: /k/22345678abcdef.pem: full", "n0: it is the other", "n3: is 4")
    known = {node_id(i): told(i, "failed", message=text) for i, text in enumerate(words)}
    assert unready(of, known, (), (), {}, {}) == [
        "n0, n1: failed: …: /k/….pem: full",
        "n2: failed: n0: it is the other",
        "n3: failed: n3: is 4",
    ]


def test_of_thousands_with_reasons_of_their_own_some_are_named() -> None:
    of = roster_of(campaign_of(1500))
    known = {node_id(i): told(i, "failed", message=f"device {i}") for i in range(1500)}
    said = unready(of, known, (), (), {}, {})
    assert len(said) == SHOWN + 1
    assert said[-1] == f"{1500 - SHOWN} more nodes for {1500 - SHOWN} more reasons: petaseal campaign status"


# --- what went wrong with a node ---


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/shared/x"), "/shared/x: No space left on device [OSError]"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), f"{os.strerror(errno.EDQUOT)} [OSError]"),
        (FileNotFoundError(2, "No such file or directory", "lib.so"), "lib.so: No such file or directory"),
        (OSError("libcuda.so.1: cannot open shared object file"), "OSError: libcuda.so.1: cannot open"),
        (OSError(), "OSError"),
        (RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"), "RuntimeError: CUDA error: out"),
        (RuntimeError("\n\n  late\n"), "RuntimeError: late"),
        (
            RuntimeError(
                "mm: call aclnnMm failed, error code is 561107\n[ERROR] (PID:1) ERR00100 PTA\nEZ9999: Inner Error!"
            ),
            "RuntimeError: EZ9999: Inner Error! (mm: call aclnnMm failed, error code is 561107)",
        ),
        (KeyError("pool"), "KeyError: 'pool'"),
        (MemoryError(), "MemoryError"),
        (RefusedError("no-room", "is full", where="/x"), "/x: is full [no-room]"),
    ],
)
def test_an_exception_says_what_went_wrong(error: BaseException, said: str) -> None:
    assert explained(error).startswith(said)
    assert "\n" not in explained(error)
    assert len(explained(RuntimeError("x" * 10**6))) <= 500


# --- room ---


def opened(campaign: Campaign, roster: Roster | None = None) -> OpenCampaign:
    """Return a campaign as a launch reads it."""
    return OpenCampaign(Folder(Path("/shared")), campaign, PROFILE, roster or roster_of(campaign))


def test_what_a_node_writes() -> None:
    certification = load_profile("certification")
    assert room_bytes(campaign_of(1, profile=PROFILE), PROFILE, 8) < 2 * MIB
    assert MIB < room_bytes(campaign_of(1, profile=certification), certification, 8) < 4 * MIB
    known = {node_id(0): told(0, "ready")}
    assert (
        needed_bytes(opened(campaign_of(3)), {node_id(0), node_id(2)}, known)
        == [room_bytes(campaign_of(3), PROFILE, 2)] * 2
    )


def test_a_mixed_node_writes_of_all_its_devices() -> None:
    campaign = campaign_of(1, pools=["ai"])
    nodes = (replace(roster_of(campaign).nodes[0], also=("hpc",)),)
    of = replace(roster_of(campaign), pools=(pool_of("ai"), pool_of("hpc", device="fake:9", devices_per_node=9)))
    needed = needed_bytes(opened(campaign, replace(of, nodes=nodes)), {node_id(0)}, {})
    assert needed == [room_bytes(campaign, PROFILE, 11)]


@pytest.mark.parametrize(("devices", "counted"), [(2**62, 1024), (-(2**62), 0), (8, 8)])
def test_a_number_of_devices_that_no_node_has_asks_for_no_more_room_than_a_record_takes(
    devices: int, counted: int
) -> None:
    """Whoever writes a node's status would have the coordinator write 10^23 bytes on trial, and end with load on."""
    known = {node_id(0): told(0, "ready", facts=NodeFacts(devices, (), (), "fake", 1, 2**40, ()))}
    needed = needed_bytes(opened(campaign_of(1)), {node_id(0)}, known)
    assert needed == [room_bytes(campaign_of(1), PROFILE, counted)]
    assert 0 < needed[0] < 2**30


@pytest.mark.parametrize(
    ("room", "said"),
    [
        (Room(8 * 10**6, 4 * FILES), None),
        (Room(None, None), None),
        (Room(8 * 10**6 - 1, None), "has 8.0 MB left, and the records of 4 nodes need 8.0 MB"),
        (Room(10**12, 4 * FILES - 1), "takes 31 more files, and the records of 4 nodes need 32"),
        (Room(10**12, 10**6, "Disk quota exceeded"), "takes no more (Disk quota exceeded), and the records of 4 nodes"),
    ],
)
def test_whether_there_is_room(room: Room, said: str | None) -> None:
    found = no_room(room, [2 * 10**6] * 4)
    assert found == said or (found is not None and said is not None and found.startswith(said))


def test_a_small_disk_is_seen_as_it_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as folder:
        room = room_in(folder, MIB)
        assert room == Room(8 * MIB, room.free_files)
        assert free_bytes(folder) == 8 * MIB  # nothing of the try is left
        assert no_room(room, [MIB] * 8) is None
        (folder / "filler").write_bytes(bytes(7 * MIB + MIB // 2))
        room = room_in(folder, MIB)
        assert room.problem == os.strerror(errno.ENOSPC)
        assert "has 0.5 MB left" in str(no_room(room, [MIB]))


def test_a_disk_that_cannot_be_written_is_not_called_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(InputError, match="Read-only file system") as caught:
            room_in(folder, MIB)
        assert caught.value.code == "output-not-writable"


def test_a_disk_without_inodes_takes_no_files(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as folder:
        subprocess.run(["mount", "-o", "remount,nr_inodes=8", str(folder)], check=True)
        assert "more files, and the records of 4 nodes need 32" in str(no_room(room_in(folder, MIB), [1000] * 4))
