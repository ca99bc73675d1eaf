"""Slurm: one allocation for all nodes of a pool, held from the submit host, with one task a node.

salloc asks for whole nodes and runs `slurm_hold.sh`, which starts srun in the allocation: srun alone with --exclusive
would give each task one CPU. Success is never read from what salloc or srun return.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, one_line
from bench.launchers import slurm_words as words
from bench.launchers.base import EngineNode, Gang, GangState
from bench.launchers.slurm_checks import check_form, check_nodes, check_partitions, minutes
from bench.record import write_atomic

ANSWER_S = 60.0  # Slurm's commands give up on a silent controller after 9 to 18 s
SUBMIT_S = 30.0  # until the controller knows a job that was handed over
GRACE_S = 5.0  # between SIGTERM and SIGKILL; Slurm's own (KillWait) is 30 s
TICK_S = 0.2
HOLD = Path(__file__).with_name("slurm_hold.sh")
# A launcher that is itself started in a job must not pass for a part of it, and its user's formats are not ours.
FOREIGN = ("SLURM_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_")
KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
SILENT = ("unable to contact slurm controller", "socket timed out", "zero bytes were transmitted", "connect failure")
_STARTED: list[subprocess.Popen[bytes]] = []  # they outlive this process; Popen complains when one is let go of


class Survey(NamedTuple):
    """What Slurm tells of its nodes: each once, and what is reserved."""

    seen: list[words.Seen]
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
        check_nodes(gang, survey.seen, survey.reservations)
        before = self.state(gang)
        if before.phase in ("queued", "running"):
            what, fix = f"is {before.phase} already as job {before.job_id}", "watch it, or cancel it first"
            raise InputError("gang-exists", what, where=gang.name, fix=fix)
        write_atomic(node_file(gang), names_text(gang.nodes))
        log = gang.log_dir / f"{gang.name}.launch.log"
        process = start(hold_command(gang), log)
        ends = time.monotonic() + SUBMIT_S
        while time.monotonic() < ends:
            refused = process.poll() not in (None, 0)
            if self.state(gang).job_id != before.job_id:
                return
            if refused:
                raise InputError("engine-failed", f"Slurm refuses it: {last_line(log)}", where=gang.name)
            time.sleep(TICK_S)
        what = f"was handed over, and Slurm does not show it after {SUBMIT_S:g} s"
        raise InputError("engine-unreachable", what, where=gang.name, fix=f"see {log}")

    def state(self, gang: Gang) -> GangState:
        """Return how far a gang is, with one question to Slurm, which knows an ended job for some minutes (MinJobAge).

        Raises:
            InputError: Slurm does not answer.
        """
        which = ("--states=all", f"--name={gang.name}", f"--user={os.getuid()}")
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
            ask("scancel", "--quiet", f"--name={gang.name}", f"--user={os.getuid()}")

    def describe(self, gang: Gang) -> list[str]:
        """Return the command line that `submit` would use, and what its file of nodes would hold."""
        check_form(gang)
        return [shlex.join(hold_command(gang)), f"# {node_file(gang)}: {','.join(gang.nodes)}"]


def look(partitions: Sequence[str]) -> Survey:
    """Return what Slurm tells of the nodes of some partitions (all, if none is given).

    Raises:
        InputError: there is no such partition, or Slurm does not answer.
    """
    seen = words.seen_nodes(ask("sinfo", "--Node", "--noheader", f"--format={words.NODE_FORMAT}"))
    check_partitions(partitions, seen)
    reservations = words.reservations(ask("scontrol", "--oneliner", "show", "reservation"))
    return Survey(words.one_of_each(seen, partitions), reservations)


def hold_command(gang: Gang) -> list[str]:
    """Return the command line that asks for a gang's nodes, and starts it when it has them."""
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
    where = [f"--jobid={job_id}", "--overlap", f"--nodefile={file}", f"--nodes={count}", f"--ntasks={count}"]
    return ["srun", *where, *step_options(gang), *gang.command]


def step_options(gang: Gang) -> list[str]:
    """Return how a gang's tasks are started, the first time and in a retry: no task depends on another or on srun."""
    logs = str(gang.log_dir).replace("%", "%%")
    return [
        *("--ntasks-per-node=1", "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--cpu-bind=none"),
        *("--propagate=NONE", "--export=ALL", "--input=none"),  # limits of a login host have no business on a node
        *(f"--chdir={gang.log_dir}", f"--output={logs}/%N.%j.%s.log"),
        *([f"--gres={gang.gres}"] if gang.gres else []),
    ]


def node_file(gang: Gang) -> Path:
    """Return the file that names a gang's nodes: thousands of names do not fit on a command line."""
    return gang.log_dir / f"{gang.name}.nodes"


def names_text(nodes: Sequence[str]) -> bytes:
    """Return names as Slurm reads them from a file."""
    return "".join(f"{node}\n" for node in nodes).encode()


def steps_of(job_id: str) -> list[str]:
    """Return the steps of a job that still run, such as "12.0"; none where the job is over."""
    try:
        told = ask("squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i")
    except InputError as error:
        if error.code == "engine-failed":  # the job is over and forgotten
            return []
        raise
    return [step for step in told.split() if step.rpartition(".")[2].isdigit()]


def signal_steps(gang: Gang, job_id: str, signal: str) -> None:
    """Send a signal to all tasks of a job; a step that ends meanwhile is no error."""
    steps = steps_of(job_id)
    if steps:
        try:
            ask("scancel", "--quiet", f"--signal={signal}", *steps)
        except InputError as error:
            if error.code != "engine-failed":
                raise


def ask(*command: str) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        InputError: it is not installed, its controller does not answer, or it refuses.
    """
    try:
        done = subprocess.run(
            command,
            env=environment() | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except OSError as error:
        raise missing(command[0], error) from None
    except subprocess.TimeoutExpired:
        raise InputError("engine-unreachable", f"did not end within {ANSWER_S:g} s", where=command[0]) from None
    if done.returncode != 0:
        told = one_line(" ".join(done.stderr.split()), 300) or f"ended with status {done.returncode}"
        if any(sign in told.lower() for sign in SILENT):
            fix = "wait until slurmctld answers again; what runs goes on meanwhile"
            raise InputError("engine-unreachable", f"Slurm does not answer: {told}", where=command[0], fix=fix)
        raise InputError("engine-failed", told, where=command[0])
    return done.stdout


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start what outlives this process and its terminal: in a session of its own, with no pipe to anybody.

    Raises:
        InputError: it is not installed, or its log cannot be written.
    """
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise missing(command[0], error) from None
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=log) from None
    _STARTED.append(process)
    return process


def environment() -> dict[str, str]:
    """Return this process's environment without what would change the meaning of Slurm's commands."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) or name in KEPT}


def missing(command: str, error: OSError) -> InputError:
    """Return the refusal of a command that cannot be started."""
    fix = "run this on a host from which jobs are submitted, with Slurm's commands on PATH"
    return InputError("engine-missing", f"cannot be started ({error.strerror})", where=command, fix=fix)


def last_line(log: Path) -> str:
    """Return the last line of a log, for people."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:] if log.exists() else []
    return one_line(lines[0], 300) if lines else "it printed nothing"
