"""Every list of the pages as CSV: whole, where a page shows a part of it, and with the words of the API.

A list that grows for ever is given up to `MOST` lines, the newest: more is the API's, page by page.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bench.errors import RefusedError
from bench.record import Count, PoolClass, Precision
from bench.record.fields import filled
from certify.documents.statement import CeilingLine
from certify.policy.verdicts import Verdict
from certify.registry.api.cities import AbsentCentre, City, Component, Missing
from certify.registry.api.common import Page, State
from certify.registry.api.oversight import AlarmGroup, AuditLine
from certify.registry.api.reached import TrendPoint
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreSummary,
    ClassCapacity,
    Decision,
    ExternalIdentifier,
    PoolCapacity,
    StatementSummary,
)
from certify.registry.base.access import token_of_scope
from certify.registry.state.city.listed_csv import reached_csv
from certify.registry.state.feeds.sheets import csv_of
from certify.registry.web import centre_list
from certify.registry.web.lookup import Lookup
from certify.registry.web.wording import Frame

MOST = 10_000


Lines = Callable[[Lookup, Frame, Request], Iterable[msgspec.Struct]]


class Sheet(NamedTuple):
    """A list that can be downloaded: the type of its lines, and the function that finds them."""

    kind: type[msgspec.Struct]
    lines: Lines


class StateSum(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the life cycle: the sum of one state, class and precision, and with that of all further states."""

    state: State
    pool_class: PoolClass
    precision: Precision
    pools: Count
    devices: Count
    certified_mflop_s: Count
    sustained_mflop_s: Count
    nominal_mflop_s: Count
    reached_mflop_s: Count


def _lifecycle(lookup: Lookup, frame: Frame, request: Request) -> Iterable[StateSum]:
    for line in lookup.lifecycle().lines:
        yield filled(
            StateSum,
            line.own,
            state=line.state,
            pool_class=line.pool_class,
            precision=line.precision,
            pools=line.pools,
            reached_mflop_s=line.reached.certified_mflop_s,
        )


def _centres(lookup: Lookup, frame: Frame, request: Request) -> Iterable[CentreSummary]:
    return centre_list.centres_asked(lookup.centres(), centre_list.read_ask(request.query_params), frame.lang)


def _city(lookup: Lookup, request: Request) -> City:
    """Return the roll-up that is asked for.

    Raises:
        RefusedError: `city-unknown`.
    """
    policy = request.path_params["policy"]
    for city in lookup.cities():
        if city.policy == policy:
            return city
    raise RefusedError("city-unknown", f"{policy} is no city of this registry")


def _trend(lookup: Lookup, frame: Frame, request: Request) -> Iterable[TrendPoint]:
    policy = _city(lookup, request).policy
    return [point for trend in lookup.trends() if trend.policy == policy for point in trend.points]


def _of_city(name: str) -> Lines:
    return lambda lookup, frame, request: getattr(_city(lookup, request), name)


def _of_centre(name: str) -> Lines:
    return lambda lookup, frame, request: getattr(lookup.centre(request.path_params["centre_id"]), name)


def _of_statement(name: str) -> Lines:
    return lambda lookup, frame, request: getattr(lookup.statement(request.path_params["sha256"]), name)


def _classes(lookup: Lookup, frame: Frame, request: Request) -> Iterable[ClassCapacity]:
    return lookup.statement(request.path_params["sha256"]).summary.classes


def _alarms_of(lookup: Lookup, frame: Frame, request: Request) -> Iterable[Alarm]:
    return lookup.alarms_of(request.path_params["centre_id"])


def _alarms(lookup: Lookup, frame: Frame, request: Request) -> Iterable[Alarm]:
    return _every(lookup.alarms)


def _alarm_groups(lookup: Lookup, frame: Frame, request: Request) -> Iterable[AlarmGroup]:
    return _every(lookup.alarm_groups)


def _audit(lookup: Lookup, frame: Frame, request: Request) -> Iterable[AuditLine]:
    token_of_scope(request, ("platform",))
    return _every(lookup.audit)


def _refused(lookup: Lookup, frame: Frame, request: Request) -> Iterable[Decision]:
    return _every(lookup.refused)


def _attempts(lookup: Lookup, frame: Frame, request: Request) -> Iterable[AttemptLine]:
    return lookup.attempts()


def _every(page_of: Callable[[str | None], Page[Any]]) -> Iterable[Any]:
    """Yield the items of all pages of a list, up to `MOST`."""
    cursor, left = None, MOST
    while left > 0:
        page = page_of(cursor)
        yield from page.items[:left]
        left -= len(page.items)
        if (cursor := page.next) is None:
            return


SHEETS = {
    "lifecycle": Sheet(StateSum, _lifecycle),
    "cities/{policy}/absent": Sheet(AbsentCentre, _of_city("absent")),
    "cities/{policy}/components": Sheet(Component, _of_city("components")),
    "cities/{policy}/missing": Sheet(Missing, _of_city("missing")),
    "cities/{policy}/trend": Sheet(TrendPoint, _trend),
    "centres": Sheet(CentreSummary, _centres),
    "centres/{centre_id}/pools": Sheet(PoolCapacity, _of_centre("pools")),
    "centres/{centre_id}/statements": Sheet(StatementSummary, _of_centre("statements")),
    "centres/{centre_id}/attempts": Sheet(AttemptLine, _of_centre("attempts")),
    "centres/{centre_id}/alarms": Sheet(Alarm, _alarms_of),
    "centres/{centre_id}/identifiers": Sheet(ExternalIdentifier, _of_centre("external_ids")),
    "statements/{sha256}/classes": Sheet(ClassCapacity, _classes),
    "statements/{sha256}/ceilings": Sheet(CeilingLine, _of_statement("ceilings")),
    "statements/{sha256}/verdicts": Sheet(Verdict, _of_statement("verdicts")),
    "statements/{sha256}/decisions": Sheet(Decision, _of_statement("decisions")),
    "alarms": Sheet(Alarm, _alarms),
    "alarm-groups": Sheet(AlarmGroup, _alarm_groups),
    "audit": Sheet(AuditLine, _audit),
    "refused": Sheet(Decision, _refused),
    "attempts": Sheet(AttemptLine, _attempts),
}


def reached(lookup: Lookup, frame: Frame, request: Request) -> Response:
    """Return who reached the value for single centres as a file: a line for each statement and basis."""
    return _file("reached", reached_csv(lookup.reached()))


def download(name: str, lookup: Lookup, frame: Frame, request: Request) -> Response:
    """Return a list as a file."""
    sheet = SHEETS[name]
    return _file(name.rpartition("/")[2], csv_of(sheet.kind, sheet.lines(lookup, frame, request)))


def _file(name: str, content: bytes) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    # a mark at its beginning: without it spreadsheets of Chinese systems read UTF-8 as GBK
    return Response(BOM_UTF8 + content, 200, headers, "text/csv; charset=utf-8; header=present")
