"""What officials look at: alarms with the last word on each, groups of alarms, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, literal, or_, select

from bench.record.fields import filled
from certify.policy.centre import Bilingual
from certify.policy.reasons import reasons
from certify.registry.api.common import Page
from certify.registry.api.oversight import Acknowledgement, AlarmGroup, AuditLine
from certify.registry.api.views import Alarm
from certify.registry.state.listing import ById, by_id_page, unwrap, wrap
from certify.registry.storage.tables import alarms, audit, tokens
from certify.registry.storage.upkeep import acknowledgements

GroupedBy = Literal["centres", "statement"]
_ALARM = tuple(alarms.c[name] for name in Alarm.__struct_fields__ if name in alarms.c)
_LAST = (
    select(func.max(acknowledgements.c.id))
    .where(acknowledgements.c.alarm_id == alarms.c.id)
    .correlate(alarms)
    .scalar_subquery()
)
_SAID = acknowledgements.alias("said")  # the last word on an alarm
_WITH_LAST_WORD = alarms.outerjoin(_SAID, _SAID.c.id == _LAST)
_IS_ACKNOWLEDGED: ColumnElement[bool] = func.coalesce(_SAID.c.acknowledged, False)


class WantedAlarms(NamedTuple):
    """Which alarms are asked for. None: all."""

    centre: str | None = None
    code: str | None = None
    acknowledged: bool | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        """Return a query of alarms with their last words, limited to these."""
        if self.centre is not None:
            query = query.where(or_(alarms.c.centre_id == self.centre, alarms.c.other_centre_id == self.centre))
        if self.code is not None:
            query = query.where(alarms.c.code == self.code)
        if self.acknowledged is not None:
            query = query.where(_IS_ACKNOWLEDGED.is_(self.acknowledged))
        return query


def alarms_page(
    connection: Connection,
    wanted: WantedAlarms,
    limit: int,
    cursor: str | None = None,
    sees: Callable[[str], bool] = lambda centre_id: False,
    is_platform: bool = False,
) -> Page[Alarm]:
    """Return alarms, newest first, each with the last word of the platform on it.

    Args:
        sees: whether the sentences of a centre's alarms are the asker's to see: they name nodes.
        is_platform: whether it is the asker's to see whose word it was.
    """
    said = (_SAID.c.id.label("said_id"), _SAID.c.at.label("said_at"), _SAID.c.acknowledged, _SAID.c.reason)
    query = wanted.of(select(*_ALARM, *said, _SAID.c.token_id).select_from(_WITH_LAST_WORD))

    def alarm(row: Row[Any]) -> Alarm:
        # both sides of a dispute may read what it is about
        all_of_it = sees(row.centre_id) or sees(row.other_centre_id or row.centre_id)
        word = None
        if row.said_id is not None:
            word = Acknowledgement(
                alarm_id=row.id,
                at=row.said_at,
                acknowledged=row.acknowledged,
                reason=row.reason if all_of_it else None,
                token_id=row.token_id if is_platform else None,
            )
        return filled(Alarm, row, title=_title(row.code), what=row.what if all_of_it else None, acknowledgement=word)

    return by_id_page(connection, query, alarms, alarm, limit, cursor)


def alarm_groups_page(
    connection: Connection, wanted: WantedAlarms, by: GroupedBy, limit: int, cursor: str | None = None
) -> Page[AlarmGroup]:
    """Return groups of alarms, that of the newest alarm first: by code and pair of centres, or code and statement."""
    mirrored = and_(alarms.c.other_centre_id.is_not(None), alarms.c.other_centre_id < alarms.c.centre_id)
    # two centres that claim each other's devices are one dispute, whoever submitted last
    one = case((mirrored, alarms.c.other_centre_id), else_=alarms.c.centre_id)
    two = case((mirrored, alarms.c.centre_id), else_=alarms.c.other_centre_id)
    pair = (one.label("centre_id"), two.label("other_centre_id"))
    if by == "statement":
        pair = (alarms.c.centre_id.label("centre_id"), literal(None).label("other_centre_id"))
    of = alarms.c.payload_sha256 if by == "statement" else literal(None)
    part = wanted.of(
        select(
            *(alarms.c[name] for name in ("id", "at", "code", "devices")),
            *pair,
            of.label("payload_sha256"),
            case((_IS_ACKNOWLEDGED, 0), else_=1).label("is_open"),
        ).select_from(_WITH_LAST_WORD)
    ).subquery()
    keys = ("code", "centre_id", "payload_sha256") if by == "statement" else ("code", "centre_id", "other_centre_id")
    last = func.max(part.c.id)
    query = select(
        *(part.c[name] for name in keys),
        func.count().label("alarms"),
        func.sum(part.c.is_open).label("open"),
        func.max(part.c.devices).label("devices"),
        func.min(part.c.at).label("first_at"),
        func.max(part.c.at).label("last_at"),
        last.label("last_id"),
    ).group_by(*(part.c[name] for name in keys))
    if cursor is not None:
        query = query.having(last < unwrap(cursor, ById).id)
    rows = connection.execute(query.order_by(last.desc()).limit(limit + 1)).all()
    absent = {"other_centre_id": None} if by == "statement" else {"payload_sha256": None}
    items = tuple(filled(AlarmGroup, row, title=_title(row.code), **absent) for row in rows[:limit])
    return Page(items=items, next=wrap(ById(rows[limit - 1].last_id)) if len(rows) > limit else None)


class WantedAudit(NamedTuple):
    """Which lines of the audit log are asked for. None: all; times are prefixes of `UtcTime`."""

    since: str | None = None  # at this time or later
    until: str | None = None  # before this time
    token: int | None = None
    action: str | None = None
    outcome: str | None = None


def audit_page(connection: Connection, wanted: WantedAudit, limit: int, cursor: str | None = None) -> Page[AuditLine]:
    """Return lines of the audit log, newest first."""
    query = select(audit, tokens.c.name.label("token")).select_from(
        audit.outerjoin(tokens, tokens.c.id == audit.c.token_id)
    )
    for column, value in (
        (audit.c.token_id, wanted.token),
        (audit.c.action, wanted.action),
        (audit.c.outcome, wanted.outcome),
    ):
        if value is not None:
            query = query.where(column == value)
    # a Z would sort behind the fractions of the same second
    if wanted.since is not None:
        query = query.where(audit.c.at >= wanted.since.rstrip("Z"))
    if wanted.until is not None:
        query = query.where(audit.c.at < wanted.until.rstrip("Z"))
    return by_id_page(connection, query, audit, lambda row: filled(AuditLine, row), limit, cursor)


def _title(code: str) -> Bilingual:
    reason = reasons()[code]
    return Bilingual(zh=reason.zh, en=reason.en)
