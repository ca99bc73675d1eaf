"""What Slurm's commands print, as values. Pure functions of text: what has another form is refused, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.errors import InputError, one_line
from bench.launchers.base import GangState, Phase
from bench.launchers.slurm_queue import explain

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NODE_FORMAT = "%N|%P|%a|%l|%T|%G|%E"  # the reason last: it is free text
JOB_FORMAT = "%i|%T|%N|%V|%S|%r"  # with TZ=UTC0; the reason last: it is free text
STATE_FLAGS = "*~#!%$@^-+"
USABLE = frozenset({"idle", "mixed", "allocated", "allocated+", "completing", "planned", "maint", "reserved"})
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
HOLDING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"})
SHARED = frozenset({"shard", "mps"})  # parts of a GPU: whoever asks for them does not get the GPU
MOST_NODES = 1_000_000


class PartitionNode(NamedTuple):
    """A node in a partition, as `sinfo` prints it."""

    name: str
    partition: str
    default: bool
    limit_s: int | None  # how long a job may take there; None where there is no limit
    gres: str | None
    problem: str | None


def seen_nodes(text: str) -> list[PartitionNode]:
    """Return every node of every partition from ``sinfo --Node --format=NODE_FORMAT``.

    Raises:
        InputError: a line has another form, or a name has characters that no node's name has.
    """
    return [_seen(line) for line in text.splitlines() if line.strip()]


def _seen(line: str) -> PartitionNode:
    parts = line.split("|", 6)
    if len(parts) != 7 or not NODE_NAME.fullmatch(parts[0]):
        raise _not_understood("sinfo", line)
    name, partition, available, limit, state, gres, reason = parts
    return PartitionNode(
        name=name,
        partition=partition.rstrip("*"),
        default=partition.endswith("*"),
        limit_s=limit_s(limit),
        gres=gres_of(gres),
        problem=_problem(state, reason) or (None if available == "up" else f"partition is {available}"),
    )


def _problem(state: str, reason: str) -> str | None:
    """Return why a node cannot take part: its state and, where there is one, the reason that was given for it."""
    # sinfo adds flags to a state: "*" for a node that does not answer, "~" and "#" for one that is powered down or up.
    base = state.rstrip(STATE_FLAGS).lower()
    if base in USABLE:
        return f"{base}, does not answer" if "*" in state else None
    text = one_line(reason.strip(), 200)
    return base if text in ("", "none", "(null)") else f"{base}: {text}"


def gres_of(text: str) -> str | None:
    """Return what to ask of a node to get all its accelerators: "gpu:h100:8(S:0-1)" gives "gpu:h100:8"."""
    wanted = []
    # "(S:0-1)" names the sockets that the devices hang on, which no request may repeat.
    for part in re.sub(r"\([^)]*\)", "", text).split(","):
        if re.fullmatch(r"[A-Za-z_][\w-]*(:[\w.-]+)?:[1-9][0-9]*", part) and part.split(":")[0] not in SHARED:
            wanted.append(part)
    return ",".join(wanted) or None


def limit_s(text: str) -> int | None:
    """Return a time limit, s: Slurm writes [days-]hours:minutes:seconds, minutes:seconds or "infinite"."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class Reservation(NamedTuple):
    """A reservation of nodes, as `scontrol` prints it."""

    nodes: frozenset[str]
    active: bool  # whether it holds them at present, or is yet to come


def reservations(text: str) -> dict[str, Reservation]:
    """Return every reservation by its name, from ``scontrol --oneliner show reservation``."""
    by_name = {}
    for fields in map(_fields, text.splitlines()):
        if "ReservationName" in fields:
            nodes = frozenset(expand(fields.get("Nodes", "")))
            by_name[fields["ReservationName"]] = Reservation(nodes, fields.get("State") == "ACTIVE")
    return by_name


def groups(text: str) -> dict[str, str]:
    """Return the leaf switch or block of every node from ``scontrol show topology``."""
    group_of: dict[str, str] = {}
    for fields in map(_fields, text.splitlines()):
        name = fields.get("BlockName") or (fields.get("SwitchName") if fields.get("Level") == "0" else None)
        if name:
            group_of |= dict.fromkeys(expand(fields.get("Nodes", "")), name)
    return group_of


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", line))


def gang_state(text: str, nodes: tuple[str, ...]) -> GangState:
    """Return how far a gang is from ``squeue --states=all --format=JOB_FORMAT`` of its name.

    Of several jobs (a launcher that was killed while it submitted may have made two) one that runs is meant, else the
    newest that has not ended, else the newest. A node that failed is no longer among those of the running job: it is
    lost.
    """
    # Job ids grow, so that the largest is the newest; of a text "9" would come after "10".
    jobs = sorted((_job(line) for line in text.splitlines() if line.strip()), key=lambda job: int(job.job_id))
    if not jobs:
        return GangState("absent")
    running = [job for job in jobs if _phase(job.state) == "running"]
    alive = [job for job in jobs if _phase(job.state) != "ended"]
    job = (running or alive or jobs)[-1]
    phase = _phase(job.state)
    state_text = job.state.lower().replace("_", " ")
    state_text += "" if job.reason in ("", "None") else f": {one_line(job.reason, 200)}"
    if phase == "queued":
        why = explain(job.reason, job.job_id)
        expected_at = _utc(job.start)
        return GangState(phase, job.job_id, state_text, (), _utc(job.submit), why.means, why.advice, expected_at)
    if phase == "ended" or job.state == "COMPLETING":
        return GangState(phase, job.job_id, state_text)
    # With --no-kill a job goes on without a node that failed, and its node list gets shorter.
    held = set(expand(job.nodes))
    lost = tuple(node for node in nodes if node not in held)
    return GangState(phase, job.job_id, None if job.state == "RUNNING" else state_text, lost, _utc(job.start))


class _Job(NamedTuple):
    job_id: str
    state: str
    nodes: str
    submit: str
    start: str  # of one that waits: when Slurm expects it to start
    reason: str


def _job(line: str) -> _Job:
    parts = line.split("|", 5)
    if len(parts) != 6 or not parts[0].isascii() or not parts[0].isdigit():
        raise _not_understood("squeue", line)
    job_id, state, nodes, submit, start, reason = parts
    return _Job(job_id, state, nodes, submit, start, reason.strip())


def _utc(text: str) -> str | None:
    """Return a time that Slurm prints under TZ=UTC0 in the form of documents; None for "N/A" and "Unknown"."""
    return f"{text}.000000Z" if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text) else None


def ended_tasks(text: str) -> set[str]:
    """Return the nodes whose task has ended badly by what srun prints: "srun: error: n[1-3]: tasks 0-2: Exited"."""
    # srun puts tasks that ended alike into one line, with their nodes as a compressed list.
    hosts = re.findall(r"^srun: error: (\S+): tasks? [0-9,-]+: ", text, re.MULTILINE)
    return {name for part in hosts for name in expand(part)}


def _phase(state: str) -> Phase:
    return "queued" if state in WAITING else "running" if state in HOLDING else "ended"


def expand(hosts: str) -> list[str]:
    """Return the names in a list as Slurm compresses it: "a[01-03,7],b" gives a01, a02, a03, a7, b.

    Raises:
        InputError: it is no such list, or has more than `MOST_NODES` names.
    """
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", hosts.strip()):
        if part != "(null)":
            for name in _expanded(part, hosts):
                names.append(name)
                # A few letters such as n[0-999999999] would else be a list that fills the memory.
                if not NODE_NAME.fullmatch(name) or len(names) > MOST_NODES:
                    raise _not_understood("a list of nodes", hosts)
    return names


def _expanded(part: str, hosts: str) -> Iterator[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        yield head
        return
    inside, _, tail = rest.partition("]")
    tails = list(_expanded(tail, hosts))
    for piece in inside.split(","):
        first, dash, last = piece.partition("-")
        if not re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?", piece):
            raise _not_understood("a list of nodes", hosts)
        for number in range(int(first), int(last if dash else first) + 1):
            for end in tails:
                yield f"{head}{number:0{len(first)}d}{end}"


def one_of_each(seen: list[PartitionNode], partitions: Sequence[str]) -> list[PartitionNode]:
    """Return each node once: in the first of the partitions that has it, or in the default one before the others."""
    order = {name: index for index, name in enumerate(partitions)}
    asked = [one for one in seen if not partitions or one.partition in order]
    asked.sort(key=lambda one: order[one.partition] if partitions else not one.default)
    first: dict[str, PartitionNode] = {}
    for one in asked:
        first.setdefault(one.name, one)
    return list(first.values())


def _not_understood(command: str, line: str) -> InputError:
    what = f"Slurm prints what is not understood: {one_line(line, 120)!r}"
    return InputError("engine-failed", what, where=command, fix="report it, with the version of Slurm")
