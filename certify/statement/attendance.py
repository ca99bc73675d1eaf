"""Expected nodes without a record: why there is none, and what they could at most add.

The reason is what ``petaseal campaign collect`` saw, and the operator's word in a statement: nothing counts either
way, and no verifier can check it; an auditor knows by it where to ask. What they could add follows from the records of
the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from types import MappingProxyType

import msgspec

from bench.errors import InputError, RefusedError
from bench.record import (
    Campaign,
    Document,
    ExpectedNode,
    Name,
    PoolClass,
    Sha256,
    Text,
    digest,
    encode,
    read_bytes,
    write_atomic,
)
from bench.record.fields import in_words
from certify.documents.caps import CAPS
from certify.documents.statement import CapacityStatement
from certify.policy.capacity import NodeMost
from certify.policy.centre import CLASSES, Centre, Pool
from certify.policy.thresholds import Unrecorded, writable

MISSING = "node-missing"
# The worst first: what is to be looked into before the campaign is measured again.
ABSENCES = ("record-refused", "node-failed", "node-lost", "node-aborted", "node-not-ready", MISSING)
FILE = "attendance.json"


class Absence(Document, frozen=True, kw_only=True):
    """One node without a record that counts."""

    node_id: Name
    code: Name
    detail: Text | None  # for the centre itself; a statement holds the code only


class Attendance(Document, frozen=True, kw_only=True):
    """The file in the folder of collected records: the nodes that have none there, and why."""

    campaign_sha256: Sha256
    absent: tuple[Absence, ...]


def write_attendance(folder: Path, attendance: Attendance) -> None:
    """Write the file that `read_absences` reads."""
    write_atomic(folder / FILE, encode(attendance) + b"\n")


def read_absences(folder: Path, campaign: Campaign) -> dict[str, str]:
    """Return the codes of `read_attendance`, by node.

    Raises:
        InputError: `attendance-invalid`.
        RefusedError: `absence-unknown`.
    """
    return {node_id: absence.code for node_id, absence in read_attendance(folder, campaign).items()}


def read_attendance(folder: Path, campaign: Campaign) -> dict[str, Absence]:
    """Return why nodes have no record, by the file in the folder of the records; empty where there is none.

    Raises:
        InputError: `attendance-invalid`: it is not such a file, or of another campaign.
        RefusedError: `absence-unknown`.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        attendance = msgspec.json.decode(read_bytes(path, CAPS.campaign_bytes), type=Attendance)
    except msgspec.MsgspecError as error:
        raise InputError("attendance-invalid", f"is not an attendance ({in_words(error)})", where=path) from None
    if attendance.campaign_sha256 != digest(campaign):
        what = "is of another campaign than these records"
        raise InputError("attendance-invalid", what, where=path, fix="collect the records again")
    absences = {absence.node_id: absence for absence in attendance.absent}
    check_absences({node_id: absence.code for node_id, absence in absences.items()})
    return absences


def check_absences(absences: Mapping[str, str]) -> None:
    """Refuse a reason that is none of `ABSENCES`.

    Raises:
        RefusedError: `absence-unknown`.
    """
    for node_id, code in absences.items():
        if code not in ABSENCES:
            raise RefusedError("absence-unknown", f"is said to be absent for {code!r}", where=node_id)


def unrecorded_in(
    centre: Centre,
    missing: Iterable[ExpectedNode],
    largest: Mapping[str, NodeMost],
    lacking: Mapping[str, Set[str]] = MappingProxyType({}),
) -> dict[PoolClass, Unrecorded]:
    """Return the nodes without a record that may have devices in each class, and what they could at most add.

    A node adds at most what the largest node of its pool with a record could give, and one that may have devices in
    several pools adds that of each. Where no node of a pool left a record, nothing that was signed says what its
    devices are, and there is no bound.

    Args:
        centre: whose classes they are.
        missing: all nodes that have no record, and those left out.
        largest: by pool; none where no device of the pool was recorded.
        lacking: by pool, the nodes whose record shows no device of it, though the campaign has them in it.
    """
    count = Counter({pool.pool: len(lacking.get(pool.pool, ())) for pool in centre.pools})  # of nodes
    named: dict[PoolClass, set[str]] = {pool.pool_class: set() for pool in centre.pools}
    for pool in centre.pools:
        named[pool.pool_class].update(lacking.get(pool.pool, ()))
    for node in missing:
        for pool in _may_have(node, centre):
            count[pool.pool] += 1
            named[pool.pool_class].add(node.node_id)
    by_class: dict[PoolClass, Unrecorded] = {}
    for kind in (kind for kind in CLASSES if kind in named):
        by_class[kind] = Unrecorded(named=frozenset(named[kind]))
        for pool in (pool for pool in centre.pools if pool.pool_class == kind and count[pool.pool]):
            # no node of the pool was measured: nothing says how large its nodes are
            most = largest.get(pool.pool, NodeMost(unbounded=True))
            at_most = None if most.unbounded else writable(count[pool.pool] * most.mflop_s)
            of_pool = Unrecorded(at_most_mflop_s=at_most, without_rating=most.without_rating)
            by_class[kind] = by_class[kind].plus(of_pool)
    return by_class


def _may_have(node: ExpectedNode, centre: Centre) -> tuple[Pool, ...]:
    """Return the pools that may have devices on a node: what is unknown is never excluded.

    They are the campaign's for it, with all others of the centre file that take it and share no device with these. Of
    a node that the campaign places where the centre file does not have it, they are all that could take it.
    """
    taking = centre.pools_of(node.node_id)
    named = frozenset(node.pools)
    placed = [pool for pool in taking if pool.pool in named]
    if not placed:
        return taking or centre.pools
    near = set[str]().union(*(centre.meeting[pool.pool] for pool in placed))
    return (*placed, *(pool for pool in taking if pool.pool not in near))


def absences_of(statement: CapacityStatement) -> dict[str, str]:
    """Return why nodes have no record, as a statement says it.

    Raises:
        RefusedError: `absence-unknown`.
    """
    left_out = {node.node_id for node in statement.campaign.left_out}
    nodes = (entry for entry in statement.not_counted if entry.device is None and entry.node_id not in left_out)
    absences = {entry.node_id: entry.codes[0] for entry in nodes}
    check_absences(absences)
    return absences
