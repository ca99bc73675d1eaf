"""Slurm: one allocation for all nodes of a pool, held from the submit host, with one task a node.

salloc asks for whole nodes and runs `slurm_hold.sh`, which starts srun in the allocation: srun alone with --exclusive
would give each task one CPU. Success is never read from what salloc or srun return.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, one_line
from bench.launchers import slurm_words as words
from bench.launchers.base import Gang, GangState, LogEnd
from bench.launchers.logs import last_line, read_end
from bench.launchers.slurm_checks import check_form, check_nodes, check_partitions, minutes
from bench.launchers.slurm_commands import ask, missing, start
from bench.record import write_atomic
from bench.record.roster import EngineNode

SUBMIT_S = 30.0  # until the controller knows a job that was handed over
GRACE_S = 5.0  # between SIGTERM and SIGKILL; Slurm's own (KillWait) is 30 s
TICK_S = 0.2
HOLD = Path(__file__).with_name("slurm_hold.sh")
USUAL = re.compile(r"salloc: |srun: cluster configuration lacks support for cpu binding")


class SlurmSurvey(NamedTuple):
    """The nodes that Slurm lists, each once, and its reservations."""

    seen: list[words.PartitionNode]
    reservations: dict[str, words.Reservation]


class SlurmLauncher:
    """The engine of most supercomputing centres."""

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        """Return every node of some partitions (all, if none is given), each once.

        Raises:
            InputError: there is no such partition, or Slurm does not answer.
        """
        survey = look(partitions)
        groups = words.groups(ask("scontrol", "show", "topology"))
        # A planned reservation holds nobody yet: only an active one makes its nodes unusable for others.
        holders = {n: name for name, held in survey.reservations.items() if held.active for n in held.nodes}
        return [
            EngineNode(one.name, one.partition, one.gres, groups.get(one.name), one.problem, holders.get(one.name))
            for one in survey.seen
        ]

    def submit(self, gang: Gang) -> None:
        """Hand a gang over to Slurm; it waits in the queue and survives the death of this process and its terminal.

        Raises:
            InputError: the gang could never start, is there already, or Slurm refuses it or does not answer.
        """
        check_form(gang)
        survey = look([gang.partition] if gang.partition else [])
        for program in ("salloc", "srun"):
            if shutil.which(program) is None:  # salloc without srun would hold the nodes for nothing, and end
                raise missing(program, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
        refuse_inside(gang)
        check_nodes(gang, survey.seen, survey.reservations)
        # An earlier job of this name is still shown for MinJobAge: the new one is told from it by another job id.
        before = self.state(gang)
        if before.phase in ("queued", "running"):
            what, fix = f"is {before.phase} already as job {before.job_id}", "watch it, or cancel it first"
            raise InputError("gang-exists", what, where=gang.name, fix=fix)
        write_atomic(node_file(gang), names_text(gang.nodes))
        log = launch_log(gang)
        process = start(hold_command(gang), log)
        ends = time.monotonic() + SUBMIT_S
        while time.monotonic() < ends:
            # Asked before the state: a salloc that ends between the two may have been given its job all the same.
            refused = process.poll() not in (None, 0)
            if self.state(gang).job_id != before.job_id:
                return
            if refused:
                raise InputError(
                    "engine-failed", f"Slurm refuses it: {last_line(log) or 'it printed nothing'}", where=gang.name
                )
            time.sleep(TICK_S)
        what = f"was handed over, and Slurm does not show it after {SUBMIT_S:g} s"
        raise InputError("engine-unreachable", what, where=gang.name, fix=f"see {log}")

    def state(self, gang: Gang) -> GangState:
        """Return how far a gang is, with one question to Slurm, which knows an ended job for some minutes (MinJobAge).

        Raises:
            InputError: Slurm does not answer.
        """
        # Without --states=all squeue shows no ended job, and one that failed at once would look as if it had never
        # been.
        which = ("--states=all", f"--name={gang.name}", f"--user={user_of(gang)}")
        return words.gang_state(ask("squeue", "--noheader", *which, f"--format={words.JOB_FORMAT}"), gang.nodes)

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        """Run the command once more on some nodes inside the running gang, and return at once.

        Raises:
            InputError: the gang does not run, or does not hold one of the nodes (any more).
        """
        check_form(gang._replace(nodes=tuple(nodes)))
        state = self.state(gang)
        if state.phase != "running" or state.job_id is None or state.reason is not None:  # completing, say
            now = state.reason if state.phase == "running" else state.phase
            raise InputError("gang-over", f"is {now}, so that nothing of it can be retried", where=gang.name)
        gone = [node for node in nodes if node in state.lost or node not in gang.nodes]
        if gone:
            raise InputError("node-unusable", f"is no longer part of the gang {gang.name}", where=gone[0])
        again = f"{gang.name}.retry-{secrets.token_hex(4)}"
        file = gang.log_dir / f"{again}.nodes"
        write_atomic(file, names_text(nodes))
        start(retry_command(gang, state.job_id, file, len(nodes)), gang.log_dir / f"{again}.log")

    def cancel(self, gang: Gang) -> None:
        """End all of a gang's load: ask its tasks to end, kill those that do not, then give the nodes back.

        The order matters: once a job is being cancelled, Slurm refuses to kill before its own KillWait is over.

        Raises:
            InputError: Slurm does not answer.
        """
        state = self.state(gang)
        if state.phase == "running" and state.job_id is not None:
            signal_steps(gang, state.job_id, "TERM")
            ends = time.monotonic() + GRACE_S
            while steps_of(state.job_id) and time.monotonic() < ends:
                time.sleep(TICK_S)
            signal_steps(gang, state.job_id, "KILL")
        if state.phase in ("queued", "running"):
            ask("scancel", "--quiet", f"--name={gang.name}", f"--user={user_of(gang)}")

    def log_ends(self, gang: Gang, state: GangState, nodes: Sequence[str]) -> dict[str, LogEnd]:
        """Return the end of the newest log of some nodes; srun says which tasks of the first step have ended."""
        if state.job_id is None:
            return {}
        logs: dict[str, list[tuple[int, Path]]] = {}
        for file in gang.log_dir.glob(f"*.{state.job_id}.*.log"):
            before, _, step = file.name.removesuffix(".log").rpartition(".")
            node = before.removesuffix(f".{state.job_id}")
            logs.setdefault(node, []).append((int(step) if step.isdigit() else 0, file))
        # Only the first step has srun's output in the launch log; that of a retry goes to a file of its own.
        over = words.ended_tasks(read_end(launch_log(gang)))
        ends = {}
        for node in nodes:
            last = max(logs[node]) if node in logs else None
            is_first = last is None or last[0] == 0
            ends[node] = LogEnd(None if last is None else last_line(last[1]), is_first and node in over)
        return ends

    def launch_words(self, gang: Gang) -> str | None:
        """Return the last line that srun or salloc printed, without what salloc says of its own coming and going."""
        text = read_end(launch_log(gang))
        said = [line for line in text.splitlines() if line.strip() and not USUAL.match(line)]
        return one_line(said[-1], 300) if said else None

    def describe(self, gang: Gang) -> list[str]:
        """Return the command line that `submit` would use, and what its file of nodes would hold."""
        check_form(gang)
        return [shlex.join(hold_command(gang)), f"# {node_file(gang)}: {','.join(gang.nodes)}"]


def look(partitions: Sequence[str]) -> SlurmSurvey:
    """Return the nodes of some partitions as Slurm lists them (all partitions, if none is given).

    Raises:
        InputError: there is no such partition, or Slurm does not answer.
    """
    seen = words.seen_nodes(ask("sinfo", "--Node", "--noheader", f"--format={words.NODE_FORMAT}"))
    check_partitions(partitions, seen)
    reservations = words.reservations(ask("scontrol", "--oneliner", "show", "reservation"))
    return SlurmSurvey(words.one_of_each(seen, partitions), reservations)


def hold_command(gang: Gang) -> list[str]:
    """Return the command line that asks for a gang's nodes, and starts it when it has them."""
    # --mem=0 takes all memory of each node, whatever DefMemPerCPU says; --no-kill keeps the rest when one node dies.
    count = len(gang.nodes)
    allocation = [
        *("salloc", "--mem=0", *gang.options),  # what the campaign decides comes last and wins
        *(f"--job-name={gang.name}", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"),
        *(f"--nodefile={node_file(gang)}", "--exclusive", "--no-kill", f"--time={minutes(gang.time_limit_s)}"),
        *([f"--gres={gang.gres}"] if gang.gres else []),
        *([f"--partition={gang.partition}"] if gang.partition else []),
        *([f"--reservation={gang.reservation}"] if gang.reservation else []),
        "--kill-command=TERM",
    ]
    step = ["srun", f"--nodes={count}", f"--ntasks={count}", *step_options(gang), *gang.command]
    return [*allocation, "/bin/sh", str(HOLD), str(count), str(gang.log_dir), *step]


def retry_command(gang: Gang, job_id: str, file: Path, count: int) -> list[str]:
    """Return the command line that runs a gang's command once more, on the nodes in a file."""
    # The first step still holds the devices of these nodes as far as Slurm knows: without --overlap this one would
    # wait.
    where = [f"--jobid={job_id}", "--overlap", f"--nodefile={file}", f"--nodes={count}", f"--ntasks={count}"]
    return ["srun", *where, *step_options(gang), *gang.command]


def step_options(gang: Gang) -> list[str]:
    """Return how a gang's tasks are started, the first time and in a retry: no task depends on another or on srun."""
    # srun replaces %N, %j and %s in a file name, and would do so in a folder whose own name has a percent sign.
    # --kill-on-bad-exit=0 and --wait=0: one node that fails must not end the others, which go on to their windows.
    logs = str(gang.log_dir).replace("%", "%%")
    return [
        *("--ntasks-per-node=1", "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--cpu-bind=none"),
        *("--propagate=NONE", "--export=ALL", "--input=none"),  # limits of a login host have no business on a node
        *(f"--chdir={gang.log_dir}", f"--output={logs}/%N.%j.%s.log"),
        *([f"--gres={gang.gres}"] if gang.gres else []),
    ]


def launch_log(gang: Gang) -> Path:
    """Return the file with what salloc and srun print."""
    return gang.log_dir / f"{gang.name}.launch.log"


def node_file(gang: Gang) -> Path:
    """Return the file that names a gang's nodes: thousands of names do not fit on a command line."""
    return gang.log_dir / f"{gang.name}.nodes"


def names_text(nodes: Sequence[str]) -> bytes:
    """Return names as Slurm reads them from a file."""
    return "".join(f"{node}\n" for node in nodes).encode()


def steps_of(job_id: str) -> list[str]:
    """Return the steps of a job that still run, such as "12.0"; none where the job is over."""
    try:
        printed = ask("squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i")
    except InputError as error:
        if error.code == "engine-failed":  # the job is over and forgotten
            return []
        raise
    return [step for step in printed.split() if step.rpartition(".")[2].isdigit()]


def signal_steps(gang: Gang, job_id: str, signal: str) -> None:
    """Send a signal to all tasks of a job; a step that ends meanwhile is no error."""
    steps = steps_of(job_id)
    if steps:
        try:
            ask("scancel", "--quiet", f"--signal={signal}", *steps)
        except InputError as error:
            if error.code != "engine-failed":
                raise


def user_of(gang: Gang) -> int:
    """Return the number of the user whose job a gang is."""
    return os.getuid() if gang.user is None else gang.user


def refuse_inside(gang: Gang) -> None:
    """Refuse to start a gang from within a job that holds its nodes: it would wait for this very job to end.

    Raises:
        InputError: `inside-allocation`, or Slurm does not answer.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        return
    try:
        printed = ask("squeue", "--noheader", f"--jobs={job}", "--states=RUNNING", "--format=%N|%j").strip()
    except InputError as error:
        if error.code == "engine-failed":  # Slurm knows no such job (any more)
            return
        raise
    hosts, _, name = printed.partition("|")
    held = set(words.expand(hosts)) & set(gang.nodes)
    if held:
        what = (
            f"this shell is inside the job {job} ({one_line(name, 80)}), which holds {len(held)} of the"
            f" {len(gang.nodes)} nodes, such as {min(held)}: the gang would wait for ever"
        )
        fix = f"leave that job (exit, or scancel {job}), and run it again from a host from which jobs are submitted"
        raise InputError("inside-allocation", what, where=gang.name, fix=fix)
