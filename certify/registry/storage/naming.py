"""Which objects the tables name: those that something accepted rests on, and bodies of refused submissions.

A refused body may be dropped (`certify.registry.maintenance.retention`); the decision stays, and no longer names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, exists, select, union

from certify.registry.storage import tables
from certify.registry.storage.store import STREAMED
from certify.registry.storage.upkeep import dropped

_decisions = tables.decisions.c
_ACCEPTED = (
    tables.statements.c.envelope_sha256,
    tables.verifications.c.records_sha256,
    tables.campaigns.c.envelope_sha256,
    tables.campaign_records.c.envelope_sha256,
)
# The same bytes may be submitted and refused again later: only decisions of before that are covered.
_BODY_DROPPED = exists().where(
    dropped.c.object_sha256 == _decisions.object_sha256, dropped.c.decision_id >= _decisions.id
)


def accepted_objects() -> list[Select[Any]]:
    """Return queries for the objects that something accepted rests on, which are never dropped."""
    queries = [select(column.label("sha256")).where(column.is_not(None)) for column in _ACCEPTED]
    submitted = _decisions.object_sha256.label("sha256")
    return [*queries, select(submitted).where(_decisions.decision == "accepted", submitted.is_not(None))]


def is_refused_body() -> Any:
    """Return the condition of a decision that refused a body which was not dropped since."""
    return (_decisions.decision == "refused") & _decisions.object_sha256.is_not(None) & ~_BODY_DROPPED


def named(connection: Connection) -> Iterator[str]:
    """Yield the SHA-256 of every object that the tables name and that is to be there, ascending."""
    refused = select(_decisions.object_sha256.label("sha256")).where(is_refused_body())
    # UNION, not UNION ALL: an object that several rows name is checked once
    whole = union(*accepted_objects(), refused).order_by("sha256")
    for part in connection.execute(whole, execution_options=STREAMED).partitions():
        yield from (row.sha256 for row in part)
