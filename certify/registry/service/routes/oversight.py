"""Routes for officials, and for whoever is accused: alarms, groups of them, and the audit log of the platform."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from certify.registry.api import views
from certify.registry.api.common import Page
from certify.registry.api.oversight import AlarmGroup, AuditLine
from certify.registry.base.access import may_see
from certify.registry.service import parameters
from certify.registry.service.openapi import answers, conditional, csv_too
from certify.registry.service.reading import answer, page_answer
from certify.registry.state import oversight
from certify.registry.state.oversight import WantedAlarms, WantedAudit

_TIME = r"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,6})?)?Z?)?$"
_WORD = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Moment = Annotated[str | None, Query(pattern=_TIME, description="UTC, such as 2026-03-01 or 2026-03-01T08:00:00Z")]
Word = Annotated[str | None, Query(pattern=_WORD)]
TokenNumber = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="number of a token")]

router = APIRouter(prefix="/v1", tags=["oversight"], dependencies=[*parameters.STRICT, Depends(parameters.reader)])


async def wanted_alarms(
    centre: parameters.Centre = None, code: Word = None, acknowledged: bool | None = None
) -> WantedAlarms:
    """Return which alarms are asked for."""
    return WantedAlarms(centre, code, acknowledged)


async def wanted_audit(
    since: Moment = None,
    until: Moment = None,
    token: TokenNumber = None,
    action: Word = None,
    outcome: Word = None,
) -> WantedAudit:
    """Return which lines of the audit log are asked for."""
    return WantedAudit(since, until, token, action, outcome)


AskedAlarms = Annotated[WantedAlarms, Depends(wanted_alarms)]
AskedAudit = Annotated[WantedAudit, Depends(wanted_audit)]


@router.get("/alarms", responses=conditional(csv_too(answers(Page[views.Alarm]))), response_class=Response)
def list_alarms(
    request: Request,
    token: parameters.Reader,
    wanted: AskedAlarms,
    page: parameters.AskedPage,
    format: parameters.Format = None,
) -> Response:
    """List alarms, newest first; their sentences name nodes, and are not everybody's to read."""
    is_platform = token is not None and token.scope == "platform"
    with parameters.registry_of(request).store.reading() as connection:
        listed = oversight.alarms_page(connection, wanted, *page, partial(may_see, token), is_platform)
    return page_answer(request, listed, views.Alarm, format)


@router.get("/alarm-groups", responses=conditional(answers(Page[AlarmGroup])), response_class=Response)
def list_alarm_groups(
    request: Request, wanted: AskedAlarms, page: parameters.AskedPage, by: oversight.GroupedBy = "centres"
) -> Response:
    """List alarms in groups, that of the newest alarm first: by code and pair of centres, or code and statement."""
    with parameters.registry_of(request).store.reading() as connection:
        return answer(request, oversight.alarm_groups_page(connection, wanted, by, *page))


@router.get("/audit", responses=conditional(csv_too(answers(Page[AuditLine]))), response_class=Response)
def list_audit_lines(
    request: Request,
    token: parameters.Platform,
    wanted: AskedAudit,
    page: parameters.AskedPage,
    format: parameters.Format = None,
) -> Response:
    """List for the platform who did what with the registry, newest first, as JSON or CSV."""
    with parameters.registry_of(request).store.reading() as connection:
        listed = oversight.audit_page(connection, wanted, *page)
    return page_answer(request, listed, AuditLine, format)
