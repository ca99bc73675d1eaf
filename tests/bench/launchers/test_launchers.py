"""Launchers without their engines: the table, what Slurm prints, and the command lines that are made of a gang."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import bench.launchers
from bench.errors import InputError
from bench.launchers import LAUNCHERS, launcher_names, load_launcher
from bench.launchers.base import Gang, GangState
from bench.launchers.local import LocalLauncher
from bench.launchers.logs import last_line, opened, read_end
from bench.launchers.slurm import SlurmLauncher, hold_command, retry_command
from bench.launchers.slurm_checks import check_form, check_nodes, offers
from bench.launchers.slurm_commands import environment
from bench.launchers.slurm_queue import OTHER_ACCOUNT, OTHER_PARTITION, explain
from bench.launchers.slurm_words import (
    PartitionNode,
    Reservation,
    expand,
    gang_state,
    gres_of,
    groups,
    limit_s,
    one_of_each,
    reservations,
    seen_nodes,
)


def a_gang(folder: Path = Path("/shared/campaign"), **changes: Any) -> Gang:
    fields: dict[str, Any] = {
        "name": "petaseal-c1-intelligent",
        "pool": "intelligent",
        "nodes": ("gpu001", "gpu002", "gpu003"),
        "command": ("/opt/petaseal/bin/petaseal", "campaign", "join", "/shared/campaign"),
        "log_dir": folder / "logs 100%",
        "time_limit_s": 3601,
        "partition": "gpu",
        "gres": "gpu:8",
    }
    return Gang(**{**fields, **changes})


AT = "2026-03-01T08:00:00"


def test_the_table_and_the_files_agree() -> None:
    files = {path.stem for path in Path(bench.launchers.__file__).parent.glob("*.py")}
    mentioned = {entry.partition(":")[0].rpartition(".")[2] for entry in LAUNCHERS.values()}
    shared = {name for name in files if name.startswith(("slurm_", "kube_"))} | {"__init__", "base", "logs"}
    assert files - shared == mentioned
    assert set(LAUNCHERS) <= set(launcher_names())


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_offers_all_that_a_campaign_needs(name: str) -> None:
    launcher = load_launcher(name)
    for method in ("discover", "submit", "state", "retry", "cancel", "describe"):
        assert callable(getattr(launcher, method))


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(InputError, match=f"choose from {', '.join(sorted(LAUNCHERS))}") as caught:
        load_launcher("pbs")
    assert caught.value.code == "unknown-launcher"


def test_one_gang_is_one_allocation_and_one_step() -> None:
    command = hold_command(a_gang(options=("--account=proj", "--qos=high"), reservation="cert"))
    hold = command.index("/bin/sh")
    allocation, step = command[:hold], command[command.index("srun") :]
    assert allocation[0] == "salloc"
    assert {"--account=proj", "--qos=high", "--reservation=cert", "--partition=gpu", "--gres=gpu:8"} <= set(allocation)
    assert {"--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--exclusive", "--no-kill", "--mem=0"} <= set(allocation)
    assert "--time=61" in allocation  # whole minutes, never less than asked for
    assert command[hold + 2 : hold + 4] == ["3", "/shared/campaign/logs 100%"]
    assert {"--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--export=ALL", "--input=none"} <= set(step)
    assert "--exclusive" not in step  # it would confine a task to one CPU
    assert "--output=/shared/campaign/logs 100%%/%N.%j.%s.log" in step
    assert step[-4:] == list(a_gang().command)
    assert not [word for word in command if "array" in word]


def test_a_retry_runs_the_same_command_inside_the_job() -> None:
    command = retry_command(a_gang(), "12", Path("/shared/again"), 2)
    assert command[0] == "srun"
    assert {"--jobid=12", "--overlap", "--nodefile=/shared/again", "--nodes=2", "--ntasks=2"} <= set(command)
    assert command[-4:] == list(a_gang().command)


def test_thousands_of_nodes_fit_on_the_command_line() -> None:
    nodes = tuple(f"a-rather-long-node-name-{index:06d}.hall-7.example.org" for index in range(100_000))
    assert len(" ".join(hold_command(a_gang(nodes=nodes)))) < 4096
    described, listed = SlurmLauncher().describe(a_gang(nodes=nodes))
    assert described.startswith("salloc ")
    assert nodes[-1] in listed


def test_every_node_is_seen_with_what_is_wrong_with_it() -> None:
    seen = seen_nodes(
        "n1|gpu*|up|infinite|idle|gpu:h100:8(S:0-1),shard:64|none\n"
        "n2|gpu*|up|1-00:00:00|drained*|gpu:8|bad DIMM | slot 3\n"
        "n3|old|down|30:00|idle|(null)|none\n"
        "n4|old|up|30:00|idle*|(null)|none\n"
        "n5|old|up|30:00|idle~|(null)|none\n"
        "n6|old|up|30:00|future|npu:8|none\n"
    )
    assert [one.problem for one in seen] == [
        None,
        "drained: bad DIMM | slot 3",
        "partition is down",
        "idle, does not answer",
        None,
        "future",
    ]
    assert [one.gres for one in seen] == ["gpu:h100:8", "gpu:8", None, None, None, "npu:8"]
    assert [one.limit_s for one in seen[:3]] == [None, 86400, 1800]
    assert seen[0].partition == "gpu"
    assert seen[0].default


@pytest.mark.parametrize("line", ["n1|gpu|up", "$(reboot)|p|up|infinite|idle|(null)|none", "-n|p|up|1:00|idle|x|none"])
def test_what_is_no_line_of_sinfo_is_refused(line: str) -> None:
    with pytest.raises(InputError) as caught:
        seen_nodes(line)
    assert caught.value.code == "engine-failed"


def test_a_node_of_two_partitions_is_one_node() -> None:
    seen = [PartitionNode(name, part, part == "b", None, None, None) for name in ("n1", "n2") for part in ("a", "b")]
    assert [(one.name, one.partition) for one in one_of_each(seen, [])] == [("n1", "b"), ("n2", "b")]
    assert [(one.name, one.partition) for one in one_of_each(seen, ["a", "b"])] == [("n1", "a"), ("n2", "a")]
    assert one_of_each(seen, ["c"]) == []


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("", []),
        ("(null)", []),
        ("n1", ["n1"]),
        ("n[1-3,07],login", ["n1", "n2", "n3", "n07", "login"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a[1]-ib,b", ["a1-ib", "b"]),
    ],
)
def test_a_list_of_nodes_is_expanded(hosts: str, names: list[str]) -> None:
    assert expand(hosts) == names


@pytest.mark.parametrize("hosts", ["n[1-]", "n[a-b]", "n[1-999999999]", "n;m", "../n"])
def test_what_is_no_list_of_nodes_is_refused(hosts: str) -> None:
    with pytest.raises(InputError):
        expand(hosts)


def test_the_leaf_switch_is_a_node_s_group() -> None:
    text = (
        "SwitchName=r1 Level=0 LinkSpeed=1 Nodes=n[1-2]\nSwitchName=top Level=1 LinkSpeed=1 Nodes=n[1-3] Switches=r1\n"
    )
    assert groups(text) == {"n1": "r1", "n2": "r1"}
    assert groups("BlockName=b1 BlockIndex=0 Nodes=n3 BlockSize=4\n") == {"n3": "b1"}
    assert groups("") == {}


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ("", GangState("absent")),
        (
            f"7|PENDING||{AT}|2026-03-02T09:00:00|Resources\n",
            GangState(
                *("queued", "7", "pending: Resources", (), f"{AT}.000000Z"),
                *("nodes that it asks for are in use by other jobs", None, "2026-03-02T09:00:00.000000Z"),
            ),
        ),
        (
            f"7|PENDING||{AT}|N/A|PartitionTimeLimit\n",
            GangState(
                *("queued", "7", "pending: PartitionTimeLimit", (), f"{AT}.000000Z"),
                *("its partition does not allow so long a job", OTHER_PARTITION),
            ),
        ),
        (f"7|RUNNING|n[1-3]|{AT}|{AT}|None\n", GangState("running", "7", since=f"{AT}.000000Z")),
        ("7|RUNNING|n[1,3]|||None\n", GangState("running", "7", None, ("n2",))),
        ("7|COMPLETING|n3|||None\n", GangState("running", "7", "completing")),
        ("7|NODE_FAIL|n[1-3]|||NodeDown\n", GangState("ended", "7", "node fail: NodeDown")),
        ("9|CANCELLED||||None\n10|CANCELLED||||None\n", GangState("ended", "10", "cancelled")),
        ("10|CANCELLED||||None\n9|RUNNING|n[1-3]|||None\n", GangState("running", "9")),
        ("7|A_STATE_OF_A_LATER_SLURM|n[1-3]|||None\n", GangState("ended", "7", "a state of a later slurm")),
    ],
)
def test_a_gang_is_found_among_the_jobs_of_its_name(lines: str, state: GangState) -> None:
    assert gang_state(lines, ("n1", "n2", "n3")) == state


@pytest.mark.parametrize(
    ("reason", "means", "advice"),
    [
        ("Priority", "jobs of higher priority wait before it", None),
        ("ReqNodeNotAvail, UnavailableNodes:n3", "a node that it asks for is down, drained or reserved", None),
        (
            "ReqNodeNotAvail,_May_be_reserved_for_other_job",
            "a node that it asks for is down, drained or reserved",
            None,
        ),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "a node that it asks for is down, drained or reserved for another partition",
            None,
        ),
        ("JobHeldUser", "its own user holds it", "let it go with: scontrol release 7"),
        (
            "launch failed requeued held",
            "Slurm could not launch it, and holds it",
            "let it go with: scontrol release 7",
        ),
        ("QOSMaxJobsPerUserLimit", "a limit of its quality of service (jobs) is reached", None),
        ("AssocGrpGRES", "a limit of its account (gres) is reached", None),
        ("QOSMaxNodePerJobLimit", "a limit of its quality of service (node) is reached", OTHER_ACCOUNT),
        ("AssocMaxWallDurationPerJobLimit", "a limit of its account (wall duration) is reached", OTHER_ACCOUNT),
        ("AReasonOfALaterSlurm", None, None),
        ("", None, None),
    ],
)
def test_a_reason_of_slurm_is_said_in_plain_words(reason: str, means: str | None, advice: str | None) -> None:
    assert explain(reason, "7") == (means, advice)


def test_reservations_are_read_with_their_nodes() -> None:
    text = "ReservationName=cert StartTime=2026-01-01T00:00:00 Nodes=n[1-2] NodeCnt=2 Flags=MAINT State=ACTIVE\n"
    assert reservations(text) == {"cert": Reservation(frozenset({"n1", "n2"}), True)}
    assert reservations("No reservations in the system\n") == {}


@pytest.mark.parametrize(
    ("text", "gres"),
    [("(null)", None), ("gpu:8", "gpu:8"), ("gpu:a:4(S:0),gpu:b:4(S:1)", "gpu:a:4,gpu:b:4"), ("x:0", None)],
)
def test_accelerators_are_asked_for_as_slurm_counts_them(text: str, gres: str | None) -> None:
    assert gres_of(text) == gres


def test_accelerators_of_any_type_satisfy_a_kind() -> None:
    assert offers("gpu:a:4,gpu:b:4", "gpu:8")
    assert offers("gpu:h100:8", "gpu:h100:8")
    assert not offers("gpu:h100:8", "gpu:a100:8")
    assert not offers("gpu:7", "gpu:8")
    assert not offers(None, "gpu:1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("infinite", None), ("2:00", 120), ("1:00:00", 3600), ("2-00:00:01", 172801)]
)
def test_time_limits_are_read(text: str, seconds: int | None) -> None:
    assert limit_s(text) == seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "two,jobs"},
        {"name": "-x"},
        {"nodes": ()},
        {"nodes": ("n1", "n1")},
        {"nodes": ("n[1-9]",)},
        {"partition": "a b"},
        {"command": ()},
        {"time_limit_s": 0},
        {"log_dir": Path("relative")},
        {"log_dir": Path("/a\\b")},
        {"options": ("-A", "proj")},
        {"options": ("--account",)},
        {"options": ("--nodes=1",)},
        {"options": ("--job-n=other",)},
        {"options": ("--immediate=1",)},
    ],
)
def test_a_gang_of_which_no_command_line_can_be_made_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        check_form(a_gang()._replace(**changes))


def test_a_good_gang_is_accepted_and_its_reserved_nodes_only_with_their_reservation() -> None:
    seen = [PartitionNode(name, "gpu", True, None, "gpu:8", None) for name in a_gang().nodes]
    check_form(a_gang())
    check_nodes(a_gang(), seen, {})
    coming = {"cert": Reservation(frozenset(a_gang().nodes), active=False)}
    check_nodes(a_gang(), seen, coming)
    check_nodes(a_gang(reservation="cert"), seen, coming)
    active = {"cert": Reservation(frozenset({"gpu002"}), active=True)}
    with pytest.raises(InputError, match="gpu002: is reserved"):
        check_nodes(a_gang(), seen, active)
    with pytest.raises(InputError, match="gpu001: is not in the reservation"):
        check_nodes(a_gang(reservation="cert"), seen, active)


def test_the_environment_of_a_job_does_not_leak_into_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SQUEUE_USERS", "nobody")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("PETASEAL_STATE", "/state")
    kept = environment()
    assert not {"SLURM_JOB_ID", "SQUEUE_USERS"} & set(kept)
    assert (kept["SLURM_CONF"], kept["PETASEAL_STATE"]) == ("/etc/slurm.conf", "/state")


def test_without_slurm_s_commands_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sinfo: cannot be started") as caught:
        SlurmLauncher().submit(a_gang(tmp_path))
    assert caught.value.code == "engine-missing"


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "engine-unreachable"),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", "engine-unreachable"),
        ("squeue: error: Invalid user: 1", "engine-failed"),
    ],
)
def test_a_silent_controller_is_told_from_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, code: str
) -> None:
    script = tmp_path / "squeue"
    script.write_text(f"#!/bin/sh\necho '{told}' >&2\nexit 1\n")
    script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError) as caught:
        SlurmLauncher().state(a_gang())
    assert caught.value.code == code


# --- files that somebody else left among the logs ---


def test_a_log_that_is_no_file_is_neither_waited_for_nor_followed(tmp_path: Path) -> None:
    """A colleague's FIFO would stop the coordinator for ever, and a link to a private file would be quoted to all."""
    secret = tmp_path / "secret"
    secret.write_text("a private line\n")
    (tmp_path / "link.log").symlink_to(secret)
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "folder.log").mkdir()
    for name in ("link", "fifo", "folder", "missing"):
        assert (read_end(tmp_path / f"{name}.log"), last_line(tmp_path / f"{name}.log")) == ("", "")
    assert last_line(secret) == "a private line"
    for name in ("link", "fifo", "folder"):
        with pytest.raises(OSError, match=r"symbolic|No such device|directory"):
            opened(tmp_path / f"{name}.log")
    with opened(tmp_path / "new.log") as log:
        log.write(b"a line")
    assert (last_line(tmp_path / "new.log"), secret.read_text()) == ("a line", "a private line\n")


def test_the_file_of_a_process_that_is_a_fifo_is_no_process(tmp_path: Path) -> None:
    gang = a_gang(tmp_path, log_dir=tmp_path)
    os.mkfifo(tmp_path / f"{gang.name}.{gang.nodes[0]}.pid")
    assert LocalLauncher().state(gang).phase == "ended"  # what left such a file no longer runs
