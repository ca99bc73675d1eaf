"""Whether a campaign may start: who is awaited, who is ready, and what is wrong. Pure, from what the nodes told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from bench.campaign.launch.preflight import fleet_problems, twins
from bench.errors import InputError, one_line
from bench.launchers.base import Gang, GangState
from bench.record.roster import Roster, RosterNode
from bench.record.status import State, Status
from bench.units import shortened_list

USUAL_PERCENT = 90  # of a pool's nodes must be ready where nobody says how many
SHOWN = 15  # names of nodes, of thousands
SHOWN_OF_EACH = 5  # reason


def in_states(known: Mapping[str, Status], *states: State) -> set[str]:
    """Return the nodes that are in one of some states."""
    return {node for node, status in known.items() if status.state in states}


def unprepared(ids: Collection[str], known: Mapping[str, Status], over: Collection[str]) -> set[str]:
    """Return the nodes that have not prepared yet and still may.

    Args:
        ids: of the campaign's nodes.
        known: node -> its latest status.
        over: nodes that are lost or are not started again.
    """
    return set(ids) - set(over) - in_states(known, "prepared", "ready")


def without_devices(known: Mapping[str, Status]) -> set[str]:
    """Return the nodes that are ready to write that none of their devices gives a figure, and nothing else."""
    return {node for node in in_states(known, "ready") if not known[node].ready_devices}


def refused_twins(known: Mapping[str, Status], names: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that are not to measure, and why: no record of theirs could be collected."""
    there = in_states(known, "preparing", "prepared", "ready")
    return twins({node: facts for node in there if (facts := known[node].facts) is not None}, names)


def complaints(roster: Roster, known: Mapping[str, Status], ready: Collection[str]) -> list[str]:
    """Return what is wrong with the nodes before the start, a sentence each.

    Args:
        roster: of the campaign, for pools and names.
        known: node -> its latest status.
        ready: ids of the nodes whose own messages are added.
    """
    names = {node.node_id: node.name for node in roster.nodes}
    facts = {node_id: status.facts for node_id, status in known.items() if status.facts is not None}
    return fleet_problems(facts, roster) + [
        f"{names[node_id]}: {message}" for node_id in sorted(ready) if (message := known[node_id].message)
    ]


# --- how many ---


def share_of(nodes: int, percent: int) -> int:
    """Return a share of a pool's nodes, rounded down, and one node at least where it is not 0 %."""
    return max(nodes * percent // 100, min(percent, 1))


def _count(nodes: Iterable[RosterNode]) -> Counter[str]:
    """Return how many nodes each pool has devices on: a mixed node is one of each of its pools."""
    return Counter(pool for node in nodes for pool in node.pools)


def least_asked(roster: Roster, asked: Sequence[str], require_all: bool = False) -> dict[str, int]:
    """Return how many nodes of each pool must be ready, by the words of the command line.

    Args:
        roster: of the campaign, for its pools.
        asked: such as "ai=3", "ai=90%", or "90%" of each pool; what is said of one pool wins.
        require_all: every node of each pool.

    Raises:
        InputError: `usage`: it is no number, the pool is not known, or has fewer nodes.
    """
    nodes = _count(roster.nodes)
    if require_all and asked:
        raise InputError("usage", "asks for another number than --require-all", where="--least", fix="leave one out")
    percent = dict.fromkeys(nodes, 100 if require_all else USUAL_PERCENT)
    numbers: dict[str, int] = {}
    for text in asked:
        pool, _, value = text.rpartition("=")
        digits = value.removesuffix("%")
        where, is_percent = f"--least {one_line(text, 60)}", digits != value
        if not (digits.isascii() and digits.isdigit() and len(digits) < 7) or not (pool or is_percent):
            raise InputError("usage", "is none of POOL=NUMBER, POOL=PERCENT%, PERCENT%", where=where)
        if pool and pool not in nodes:
            raise InputError(
                "usage", f"there is no such pool; there are {shortened_list(sorted(nodes), 9)}", where=where
            )
        most = 100 if is_percent else nodes[pool]
        if int(digits) > most:
            raise InputError("usage", f"is more than there are: {most}{' %' if is_percent else ' nodes'}", where=where)
        if is_percent:
            numbers |= {name: share_of(nodes[name], int(digits)) for name in ([pool] if pool else nodes)}
        else:
            numbers[pool] = int(digits)
    return {pool: share_of(count, percent[pool]) for pool, count in nodes.items()} | numbers


def too_few(roster: Roster, ready: Collection[str], least: Mapping[str, int]) -> dict[str, str]:
    """Return the pools of which too few nodes are ready, each with how many of how many.

    Args:
        roster: of the campaign.
        ready: nodes.
        least: pool -> how many of its nodes must be ready; else the usual share.
    """
    nodes = _count(roster.nodes)
    there = _count(node for node in roster.nodes if node.node_id in ready)
    short = {}
    for pool, count in nodes.items():
        needed = least.get(pool, share_of(count, USUAL_PERCENT))
        if there[pool] < needed or not ready:
            short[pool] = f"{there[pool]} of {count} nodes are ready ({max(needed, 1)} needed)"
    return short


def go_on(roster: Roster, ready: Collection[str], short: Collection[str]) -> str:
    """Return what to do about pools of which too few nodes are ready."""
    there = _count(node for node in roster.nodes if node.node_id in ready)
    options = " ".join(f"--least {pool}={there[pool]}" for pool in short)
    return "mend them and launch again" + (f", or go on with those that are ready: {options}" if ready else "")


# --- who is not, and why ---


def waits_of(gangs: Sequence[Gang], states: Mapping[str, GangState]) -> dict[str, str]:
    """Return the pools whose gang waits in the engine's queue, and what it waits for."""
    queued = {gang.pool: state for gang in gangs if (state := states.get(gang.name)) and state.phase == "queued"}
    return {pool: f"its job waits ({state.reason or 'without a reason'})" for pool, state in queued.items()}


def unready(
    roster: Roster,
    known: Mapping[str, Status],
    ready: Collection[str],
    lost: Collection[str],
    refused: Mapping[str, str],
    waits: Mapping[str, str],
) -> list[str]:
    """Return the nodes that are not ready by reason, worst first, a few of each named.

    Args:
        roster: of the campaign.
        known: node -> its latest status.
        ready: nodes that are not to be named.
        lost: nodes that give no sign of life any more.
        refused: node -> why it is not to measure.
        waits: pool -> what its gang waits for, where it has not begun.
    """
    groups: dict[tuple[int, str], dict[str, str]] = {}  # what nodes have in common -> their names and own words
    for node in roster.nodes:
        if node.node_id not in ready:
            if (why := refused.get(node.node_id)) is not None:
                rank, reason = 0, f"not to measure: {why}"
            else:
                rank, reason = _reason(known.get(node.node_id), node.node_id in lost, waits.get(node.pool))
            groups.setdefault((rank, _in_common(reason, node)), {})[node.name] = reason
    lines: list[str] = []
    left = SHOWN
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), list(item[1])))
    for place, ((_, common), names) in enumerate(ordered):
        if left <= 0:
            left_over = sum(len(more) for _, more in ordered[place:])
            return [*lines, f"{left_over} more nodes for {len(ordered) - place} more reasons: petaseal campaign status"]
        (reason, *more_reasons) = dict.fromkeys(names.values())
        lines.append(f"{shortened_list(names, min(left, SHOWN_OF_EACH))}: {common if more_reasons else reason}")
        left -= min(len(names), SHOWN_OF_EACH)
    return lines


def _in_common(reason: str, node: RosterNode) -> str:
    """Return a reason without what is this node's alone: its names, and identities in hexadecimal digits."""
    return re.sub(rf"\b({re.escape(node.name)}|{re.escape(node.node_id)})\b|[0-9A-Fa-f]{{8,}}", "…", reason)


def _reason(status: Status | None, is_lost: bool, waits: str | None) -> tuple[int, str]:
    """Return how bad it is that a node is not ready, and why it is not."""
    if status is not None and status.state == "failed":
        return 0, f"failed: {status.message or 'without a reason'}"
    if status is not None and status.state == "aborted":
        return 1, f"was ended: {status.message or 'without a reason'}"
    if status is None or status.state == "checked":
        return 2, "has told nothing" if waits is None else f"has told nothing: {waits}"
    if is_lost:
        return 1, f"fell silent, {status.state}"
    if status.state == "ready":
        return 0, f"none of its devices is ready: {status.message or 'without a reason'}"
    return 3, f"is still {status.state}"
