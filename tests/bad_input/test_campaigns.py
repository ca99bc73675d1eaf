"""Campaign commands and folders that are wrong: one sentence each with its code, and nothing lost or half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.record.folder import Folder
from tests.bad_input.command import Answer, contents, petaseal, process
from tests.bad_input.crash import NOT_REACHED, crashing
from tests.bench.test_run import until
from tests.certify.campaign.laid_campaign import Laid, edit_json, lay
from tests.certify.measured import centre_yaml, node_name

LONG = pytest.mark.long
NODES = ["a1", "a2"]
FULL_DISK = """
import errno, os, sys
left = int(sys.argv.pop(1))
def full(real):
    def call(*args, **options):
        global left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)
    return call
for name in ("fsync", "replace", "link", "mkdir"):
    setattr(os, name, full(getattr(os, name)))
from certify.__main__ import main
main()
"""


def centre_file(place: Path, **changes: Any) -> Path:
    """Write a centre whose one pool lists two nodes of two simulated devices each."""
    path = place / "centre.yaml"
    pool = {"pool": "main", "class": "intelligent", "nodes": NODES, "devices": "all"}
    path.write_text(yaml.safe_dump(centre_yaml(**{"pools": [pool], **changes}), allow_unicode=True))
    return path


def creating(place: Path, *more: object) -> tuple[object, ...]:
    return (
        *("campaign", "create", "--centre", place / "centre.yaml", "--key", place / "operator.pem"),
        *("--out", place / "c", "--profile", "smoke", "--precision", "fp16", "--device", "main=fake:1", *more),
    )


def prepared(place: Path) -> Path:
    """Lay out what ``create`` needs."""
    assert petaseal("keys", "new", "--out", place / "operator.pem", "--no-passphrase").status == 0
    centre_file(place)
    return place


@cache
def _template() -> Path:
    place = Path(tempfile.mkdtemp(prefix="petaseal-campaign-"))
    lay(place, 2)
    return place


@pytest.fixture
def laid(place: Path) -> Laid:
    """A campaign of two nodes that has been measured and not been collected."""
    shutil.copytree(_template(), place, dirs_exist_ok=True)
    return Laid(Folder(place / "campaign"), place / "operator.pem", 2)


def visible(place: Path) -> dict[str, bytes | str]:
    """Return what lies in a folder, but for the lock of a launch, which has nothing in it."""
    return {name: what for name, what in contents(place).items() if not name.endswith(".launch.lock")}


def refuses(place: Path, code: str, *args: object, status: int = 2) -> Answer:
    """Give a command that must say no, and leave everything as it was."""
    before = visible(place)
    answer = petaseal(*args)
    assert (answer.code, answer.status, answer.out) == (code, status, "")
    assert visible(place) == before
    return answer


# --- create ---

CREATE: dict[str, tuple[tuple[object, ...], str]] = {
    "pool without a node": (("--nodes", "local"), "node-unknown"),
    "unknown engine": (("--nodes", "pbs"), "unknown-launcher"),
    "unknown pool": (("--partition", "hpc=gpu"), "unknown-pool"),
    "watts of an unknown pool": (("--device-watts", "hpc=700"), "unknown-pool"),
    "partition without a value": (("--partition", "main"), "usage"),
    "partition twice": (("--partition", "main=a", "--partition", "main=b"), "usage"),
    "gres without a pool": (("--gres", "=gpu:8"), "usage"),
    "device of an unknown pool": (("--device", "hpc=all"), "unknown-pool"),
    "watts that are none": (("--device-watts", "main=many"), "usage"),
    "no watts": (("--device-watts", "main=0"), "usage"),
    "unknown node": (("--exclude", "a9=broken"), "node-unknown"),
    "all nodes excluded": (("--exclude", "a1", "--exclude", "a2=x"), "no-nodes"),
    "unknown precision": (("--precision", "fp12"), "unknown-precision"),
    "precision twice": (("--precision", "fp16,fp16"), "unknown-precision"),
    "nothing that counts": (("--precision", "fp64"), "nothing-counts"),
    "unknown profile": (("--profile", "quickest"), "unknown-name"),
    "missing profile": (("--profile", "nowhere.yaml"), "file-missing"),
    "unknown policy": (("--policy", "guangzhou-3000p"), "unknown-name"),
    "short challenge": (("--challenge", "abcd"), "challenge-invalid"),
    "challenge of other letters": (("--challenge", "xy" * 16), "challenge-invalid"),
    "challenge of somebody": (("--challenge", "ab" * 16, "--challenge-from", "a-friend"), "usage"),
    "wrong time": (("--starts-from", "tomorrow"), "time-invalid"),
    "30 February": (("--starts-from", "2026-02-30T00:00:00.000000Z"), "time-invalid"),
    "no hours": (("--within", "0"), "usage"),
    "hours that are no number": (("--within", "nan"), "usage"),
    "ramp that is no number": (("--ramp", "nan"), "usage"),
    "ramp without an end": (("--ramp", "inf"), "usage"),
    "previous that is none": (("--previous", "nowhere"), "campaign-folder-invalid"),
    "passphrase that is not needed": (("--passphrase-file", "nowhere"), "file-missing"),
}


@pytest.mark.parametrize("case", CREATE)
def test_create_of_what_there_is_not(place: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    arguments, code = CREATE[case]
    prepared(place)
    monkeypatch.chdir(place)
    refuses(place, code, *creating(place, *arguments))


@pytest.mark.parametrize(
    ("key", "code"),
    [("nowhere.pem", "file-missing"), ("operator.pem.pub", "public-key-given"), ("centre.yaml", "key-invalid")],
)
def test_a_wrong_key(place: Path, key: str, code: str) -> None:
    prepared(place)
    for arguments in (
        creating(place, "--key", place / key),
        ("campaign", "rerun", place, "--key", place / key, "--out", place / "c2"),
    ):
        answer = petaseal(*arguments)
        assert answer.status == 2
        assert answer.code in (code, "campaign-folder-invalid")
        assert not (place / "c").exists()
        assert not (place / "c2").exists()


@pytest.mark.parametrize("case", ["centre", "pools", "empty", "damaged", "folder"])
def test_a_wrong_centre(place: Path, case: str) -> None:
    prepared(place)
    path = place / "centre.yaml"
    code = {"centre": "file-missing", "pools": "no-pools", "empty": "file-empty", "damaged": "yaml-invalid"}.get(case)
    if case == "pools":
        centre_file(place, pools=[])
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "damaged":
        path.write_bytes(b"centre_id: [\n")
    else:
        path.unlink()
        if case == "folder":
            path.mkdir()
            code = "not-regular-file"
    assert code is not None
    refuses(place, code, *creating(place))


def test_create_never_overwrites(place: Path) -> None:
    prepared(place)
    out = place / "c"
    out.mkdir()
    refuses(place, "output-exists", *creating(place))
    out.rmdir()
    out.write_bytes(b"mine")
    refuses(place, "output-exists", *creating(place))
    out.unlink()
    out.symlink_to(place / "nowhere")
    refuses(place, "output-exists", *creating(place))


def test_create_where_nothing_can_be_written(place: Path) -> None:
    prepared(place)
    (place / "file").write_bytes(b"in the way")
    refuses(place, "output-not-writable", *creating(place, "--out", place / "file" / "c"))
    refuses(place, "output-not-writable", *creating(place, "--out", "/proc/petaseal/c"))


def test_create_and_rerun_work_at_all(place: Path) -> None:
    prepared(place)
    made = petaseal(*creating(place, "--json"))
    assert (made.status, made.err) == (0, "")
    assert [node["node_id"] for node in json.loads(made.out)["nodes"]] == NODES
    made = petaseal("campaign", "rerun", place / "c", "--key", place / "operator.pem", "--out", place / "c2")
    assert (made.status, made.err) == (0, "")
    assert "1 attempt" in made.out
    for folder in ("c", "c2"):
        for command in (("status",), ("launch", "--dry-run")):
            assert petaseal("campaign", command[0], place / folder, *command[1:]).status == 0


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_create_is_stopped_at_every_write(place: Path, name: str, every: int) -> None:
    """A folder with a signed campaign is whole; one without is no campaign, and says so."""
    prepared(place)
    with crashing() as crash:
        for step in range(0, 100, every):
            answer = crash(name, step, *creating(place))
            if answer.status == NOT_REACHED:
                break
            assert answer.status in (-signal.SIGKILL, 130)
            if (place / "c" / "campaign.dsse.json").exists():
                assert petaseal("campaign", "status", place / "c").status == 0
            else:
                assert petaseal("campaign", "status", place / "c").status == 2
            shutil.rmtree(place / "c", ignore_errors=True)
        else:
            raise AssertionError("the command never ended")
    assert step > 5
    assert petaseal("campaign", "status", place / "c").status == 0


# --- a DIR that is none ---

OF_DIR: dict[str, tuple[object, ...]] = {
    "rerun": ("--out", "c2"),
    "collect": (),
    "launch": (),
    "launch --dry-run": ("--dry-run",),
    "check": (),
    "status": (),
    "status --json": ("--json",),
    "abort": (),
    "join": ("--node", "n0"),
    "coordinate": (),
}


def commanding(laid: Laid, command: str, folder: Path | None = None) -> tuple[object, ...]:
    """Return a command over a campaign's folder."""
    more = [laid.folder.root.parent / "c2" if word == "c2" else word for word in OF_DIR[command]]
    key = ("--key", laid.key) if command == "rerun" else ()
    return "campaign", command.split()[0], folder or laid.folder.root, *key, *more


@pytest.mark.parametrize("command", OF_DIR)
@pytest.mark.parametrize("kind", ["nowhere", "file", "empty folder", "records"])
def test_a_folder_that_is_no_campaign_s(laid: Laid, command: str, kind: str) -> None:
    place = laid.folder.root.parent
    folder = {"nowhere": place / "nowhere", "file": laid.key, "empty folder": place / "empty"}.get(kind)
    if kind == "empty folder":
        (place / "empty").mkdir()
    refuses(place, "campaign-folder-invalid", *commanding(laid, command, folder or laid.folder.root / "records"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80  # no text any more: another name of a node would be as good as the first
    path.write_bytes(bytes(data))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "flipped": flipped,
    "other": lambda path: path.write_bytes(b"{}"),
    "text": lambda path: path.write_bytes(b"\xff\xfe no text"),
    "link": linked,
    "folder": a_folder,
    "fifo": a_fifo,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("thinned", [True, pytest.param(False, marks=LONG)], ids=["some", "all"])
@pytest.mark.parametrize("command", OF_DIR)
@pytest.mark.parametrize("name", ["campaign.dsse.json", "roster.json"])
def test_damaged_files_of_a_campaign(laid: Laid, command: str, name: str, thinned: bool) -> None:
    """Thinned, each command meets a third of the damages, and each damage of each file three commands at least."""
    place, path = laid.folder.root.parent, laid.folder.root / name
    whole, own = path.read_bytes(), list(OF_DIR).index(command)
    for at, (damage, spoil) in enumerate(DAMAGES.items()):
        if thinned and at % 3 != own % 3:
            continue
        spoil(path)
        before = visible(place)
        answer = petaseal(*commanding(laid, command))
        assert answer.code, (damage, command)
        assert answer.status in (1, 2)
        if command == "abort":  # it ends what it can all the same, and says what it could not read
            laid.folder.abort_file.unlink()
        assert visible(place) == before, (damage, command)
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            path.rmdir()
        path.with_name("elsewhere").unlink(missing_ok=True)
        path.write_bytes(whole)


@pytest.mark.parametrize("command", ["collect", "status", "launch", "join"])
def test_a_start_that_is_damaged(laid: Laid, command: str) -> None:
    for content, code in ((b"", "file-empty"), (b"{", "campaign-folder-invalid"), (b"{}", "campaign-folder-invalid")):
        laid.folder.start_file.write_bytes(content)
        if command == "join":  # its record is there: nothing is left to do
            assert petaseal(*commanding(laid, command)).status == 0
        else:
            refuses(laid.folder.root.parent, code, *commanding(laid, command))


@pytest.mark.parametrize("command", ["status", "collect", "abort"])
def test_a_launch_file_that_is_damaged(laid: Laid, command: str) -> None:
    laid.record_file(0).unlink()
    laid.folder.launch_file.write_bytes(b"[1]")
    answer = petaseal(*commanding(laid, command))
    assert answer.status == 2
    assert "launch.json" in answer.err
    assert answer.code == "campaign-folder-invalid"


@pytest.mark.parametrize("command", OF_DIR)
def test_a_roster_of_another_campaign(laid: Laid, command: str) -> None:
    edit_json(laid.folder.roster_file, campaign_sha256="0" * 64)
    if command == "abort":  # the jobs are named by the signed campaign
        assert petaseal(*commanding(laid, command)).code == "campaign-differs"
        assert laid.folder.aborted()
        return
    refuses(laid.folder.root.parent, "campaign-differs", *commanding(laid, command), status=1)


@pytest.mark.parametrize("command", ["collect", "rerun"])
def test_a_centre_that_is_gone(laid: Laid, command: str) -> None:
    laid.folder.centre.unlink()
    refuses(laid.folder.root.parent, "file-missing", *commanding(laid, command))


# --- collect ---


def test_collect_before_the_start(laid: Laid) -> None:
    laid.folder.start_file.unlink()
    refuses(laid.folder.root.parent, "campaign-not-started", *commanding(laid, "collect"))


def test_collect_of_posted_things_that_are_none(laid: Laid) -> None:
    place = laid.folder.root.parent
    for wrong in (place / "nowhere", laid.key):
        refuses(place, "records-not-folder", *commanding(laid, "collect"), "--posted", wrong)


def test_collect_says_what_is_missing_and_keeps_the_rest(laid: Laid) -> None:
    laid.record_file(0).write_bytes(b"x\x1b[31m")
    answer = petaseal(*commanding(laid, "collect"))
    assert (answer.status, answer.code) == (1, "campaign-incomplete")
    assert "1 of 2 records collected" in answer.out
    assert "\x1b" not in answer.out
    assert (laid.folder.collected / f"{node_name(1)}.record.dsse.json").exists()
    answer = petaseal(*commanding(laid, "collect"), "--json")
    assert answer.status == 1
    found = json.loads(answer.out)
    assert (found["collected"], found["complete"]) == (1, False)
    assert found["absent"][0]["code"] == "record-refused"


def test_what_a_node_calls_itself_never_reaches_the_terminal(laid: Laid) -> None:
    laid.record_file(0).unlink()
    laid.tell(0, "failed", message="\x1b]0;owned\x07 two\nlines")
    for command in ("collect", "status"):
        answer = petaseal(*commanding(laid, command))
        assert "\x1b" not in answer.out + answer.err
        assert "\x07" not in answer.out + answer.err


@pytest.mark.parametrize("command", ["collect", *(pytest.param(c, marks=LONG) for c in ("abort", "rerun", "launch"))])
def test_a_full_disk(laid: Laid, command: str) -> None:
    """The disk fills up at any of the first writes: one sentence, and what was there is there."""
    place = laid.folder.root.parent
    before = visible(place)
    for left in range(3):
        answer = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(left), *map(str, commanding(laid, command))],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if answer.returncode == 0:  # it wrote less than that
            assert left or command == "abort"
            break
        found = Answer(answer.returncode, answer.stdout, answer.stderr)
        assert found.status in (1, 2)
        assert found.code in ("output-not-writable", "system-error")
        assert before.items() <= visible(place).items()
        shutil.rmtree(place / "c2", ignore_errors=True)
        laid.folder.abort_file.unlink(missing_ok=True)


# --- launch, check, join, abort ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("launch", "--on", "pbs"), "unknown-launcher"),
        (("launch", "--lead", "0"), "usage"),
        (("launch", "--retries", "-1"), "usage"),
        (("launch", "--ready-timeout", "0"), "usage"),
        (("launch", "--finish", "x"), "usage"),
        (("launch", "--engine-option", "--qos=x"), "campaign-window-passed"),
        (("check", "--on", "pbs"), "unknown-launcher"),
        (("join", "--node", "n9"), "node-not-expected"),
        (("join",), "node-unknown"),
        (("coordinate",), "campaign-window-passed"),
    ],
)
def test_commands_that_cannot_be(
    laid: Laid, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str
) -> None:
    for name in ("PETASEAL_NODE", "SLURMD_NODENAME", "NODE_NAME"):
        monkeypatch.delenv(name, raising=False)
    laid.folder.start_file.unlink()  # a campaign of March 2026 whose time has passed
    place = laid.folder.root.parent
    refuses(place, code, "campaign", arguments[0], laid.folder.root, *arguments[1:])


def test_a_campaign_that_was_aborted_is_never_launched(place: Path) -> None:
    prepared(place)
    assert petaseal(*creating(place)).status == 0
    assert petaseal("campaign", "abort", place / "c").status == 0
    assert petaseal("campaign", "abort", place / "c").status == 0  # once more
    before = visible(place)
    for command in ("launch", "check"):
        answer = petaseal("campaign", command, place / "c")
        assert (answer.code, answer.status) == ("campaign-aborted", 2)
    assert visible(place) == before


def test_a_local_launch_takes_no_options(place: Path) -> None:
    prepared(place)
    assert petaseal(*creating(place)).status == 0
    answer = petaseal("campaign", "launch", place / "c", "--reservation", "x")
    assert (answer.code, answer.status) == ("usage", 2)
    assert not (place / "c" / "start.json").exists()


@pytest.mark.long
def test_a_real_campaign_of_two_nodes_on_this_machine(place: Path) -> None:
    """Launched, collected and certified through the command line; another launch finds nothing left to do."""
    prepared(place)
    assert petaseal(*creating(place)).status == 0
    folder = place / "c"
    launched = process("campaign", "launch", folder, "--lead", "1", "--finish", "60", "--json")
    assert launched.status == 0, launched.err
    assert json.loads(launched.out)["places"]["done"] == 2
    until(lambda: not list((folder / "nodes").rglob(".*.json.*")))
    assert petaseal("campaign", "launch", folder).status == 0
    collected = petaseal("campaign", "collect", folder)
    assert collected.status == 0, collected.err
    answer = petaseal("certify", folder, "--key", place / "operator.pem", "--out", place / "out")
    assert answer.status == 0, answer.err
