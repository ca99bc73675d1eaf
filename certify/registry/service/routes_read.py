"""Every route that only reads. What is told is made in `queries`, `feed` and `sums`; here are rights and headers.

A list or figure bears a weak ETag of its content, a stored document a strong one of its bytes: who has it already is
told so, and nothing more.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import Connection
from starlette.responses import Response

from bench.errors import RefusedError
from bench.record import PoolClass, Precision
from bench.units import utc_ns, utc_text
from certify.registry.api import (
    Alarm,
    AttemptLine,
    Capacity,
    CentreDetail,
    CentreSummary,
    City,
    Decision,
    DeviceHistory,
    ExternalIdentifier,
    Lifecycle,
    NodeCapacity,
    Nonce,
    Page,
    Service,
    State,
    StatementDetail,
    StatementSummary,
)
from certify.registry.intake import presence
from certify.registry.service import routes_files
from certify.registry.service.auth import Holder, Platform, Reader, may_see, operator_of, reader, scraper
from certify.registry.service.openapi import answers, files
from certify.registry.service.problems import Json
from certify.registry.service.registry import Registry
from certify.registry.service.routes_files import Digest, registry_of
from certify.registry.state import listing, queries
from certify.registry.state.cache import DECIDED, OPENED, Basis, had, numbers_of, stands_on
from certify.registry.state.feed import Wanted, feed
from certify.registry.state.listing import WantedCentres, WantedStatements
from certify.registry.state.metrics import Metrics
from certify.registry.state.model import View
from certify.registry.state.snapshot import current, viewer
from certify.registry.state.sums import city_of, city_policies, lifecycle_of

MOST = 500  # items of a page
CSV = "text/csv"
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_PLAIN = r"^[^\x00-\x1f]*$"

router = APIRouter()
v1 = APIRouter(prefix="/v1", tags=["read"], dependencies=[Depends(reader)])

NamePart = Annotated[str, Path(pattern=_NAME)]
TextPart = Annotated[str, Path(pattern=_PLAIN, min_length=1, max_length=256)]
Centre = Annotated[str | None, Query(pattern=_NAME, description="centre id")]
Plain = Annotated[str | None, Query(pattern=_PLAIN, max_length=256)]
Class = Annotated[PoolClass | None, Query(alias="class")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="items of the page")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
Levels = Literal["trusted", "recomputed"]


def _view(registry: Registry) -> View:
    return current(registry.store, registry.now, registry.settings)


@contextlib.contextmanager
def _snapshot(registry: Registry, at: str) -> Iterator[tuple[Connection, View]]:
    """Yield a connection and the present state of what it sees."""
    with registry.store.reading() as connection:
        yield connection, viewer(registry.store).present(connection, at, registry.settings.stale_after_s)


def _answer(request: Request, value: object, tagged: object = None, basis: Basis | None = None) -> Response:
    """Return a value as JSON, or that the asker has it already.

    Args:
        tagged: what its ETag is of, where the value itself bears the present time.
        basis: what the answer stands on, where it is kept for others.
    """
    content = msgspec.json.encode(value)
    tag = hashlib.sha256(content if tagged is None else msgspec.json.encode(tagged)).hexdigest()[:32]
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "no-cache"}
    if basis is not None:
        request.app.state.answers.keep(request, content, headers, basis)
    return had(request, headers) or Response(content, 200, headers, "application/json")


# --- what stands now --------------------------------------------------------------------------------------------------


@v1.get("", responses=answers(Service), response_class=Response)
def service(request: Request) -> Response:
    """Tell what this registry is."""
    registry = registry_of(request)
    root = registry.trust().root
    assert root is not None  # it is read from a trust root
    key = registry.key.public
    told = Service(
        name=registry.settings.name,
        version=version("petaseal"),
        api="v1",
        registry_keyid=key.keyid,
        registry_spki=base64.b64encode(key.spki).decode(),
        trust_root=f"{root.root.trust_id} version {root.root.version}, {root.fingerprint}",
        accepts_simulated=registry.settings.accept_simulated,
        public_read=registry.settings.public_read,
        stale_after_s=registry.settings.stale_after_s,
    )
    return _answer(request, told)


FED = answers(Capacity) | {304: {"description": "Nothing changed"}}
FED[200]["content"]["text/csv"] = {"schema": {"type": "string"}}


@v1.get("/capacity", responses=FED, response_class=Response)
def capacity(
    request: Request,
    centre: Centre = None,
    district: Plain = None,
    pool_class: Class = None,
    precision: Precision | None = None,
    state: State | None = None,
    since: Cursor = None,
    format: Literal["json", "csv"] | None = None,
) -> Response:
    """Tell what each pool of the newest statements gives now; with `since`, of the centres where anything changed."""
    registry = registry_of(request)
    as_csv = format == "csv" or (format is None and CSV in request.headers.get("accept", ""))
    wanted = Wanted(centre, district, pool_class, precision, state)
    fed = feed(registry.store, registry.now, registry.settings.stale_after_s, wanted, since, as_csv)
    following = request.url.include_query_params(since=fed.next)
    headers = {
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "Link": f'<{following.path}?{following.query}>; rel="next"',
    }
    if fed.tag is not None:
        headers["ETag"] = f'W/"{fed.tag}"'
        if (known := had(request, headers)) is not None:
            return known
    if as_csv:
        headers["Content-Disposition"] = 'attachment; filename="capacity.csv"'
        return Response(fed.content, 200, headers, f"{CSV}; charset=utf-8; header=present")
    return Response(fed.json(), 200, headers, "application/json")


@v1.get("/lifecycle", responses=answers(Lifecycle), response_class=Response)
def lifecycle(request: Request) -> Response:
    """Tell the sums of all states, each on its own."""
    registry = registry_of(request)
    at = registry.now
    with _snapshot(registry, at) as (connection, view):
        sums = lifecycle_of(registry.store, connection, view, at)
    return _answer(request, sums, sums.lines)


@v1.get("/cities", responses=answers(tuple[City, ...]), response_class=Response)
def cities(request: Request) -> Response:
    """Tell the roll-up of every city's policy."""
    registry = registry_of(request)
    view, at = _view(registry), registry.now
    found = [city_of(policy, view, at) for policy in city_policies(registry.place).values()]
    return _answer(request, found, [(one.policy, one.conditions, one.components, one.missing) for one in found])


@v1.get("/cities/{policy}", responses=answers(City), response_class=Response)
def city(request: Request, policy: NamePart) -> Response:
    """Tell the roll-up of one policy."""
    registry = registry_of(request)
    found = city_policies(registry.place).get(policy)
    if found is None:
        raise RefusedError("city-unknown", "no such policy is rolled up here", fix="see /v1/cities")
    told = city_of(found, _view(registry), registry.now)
    return _answer(request, told, (told.conditions, told.components, told.missing))


@v1.get("/centres", responses=answers(Page[CentreSummary]), response_class=Response)
def centres(
    request: Request,
    q: Plain = None,
    district: Plain = None,
    pool_class: Class = None,
    state: State | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List centres, by their ids."""
    view = _view(registry_of(request))
    found = listing.centres_page(view, WantedCentres(q, district, pool_class, state), limit, cursor)
    return _answer(request, found, basis=stands_on(view))


@v1.get("/centres/{centre_id}", responses=answers(CentreDetail), response_class=Response)
def centre(request: Request, centre_id: NamePart) -> Response:
    """Tell one centre: its pools now, its statements, its attempts."""
    registry = registry_of(request)
    at = registry.now
    with _snapshot(registry, at) as (connection, view):
        told = queries.centre_detail(connection, view, centre_id, at)
        opened = numbers_of(connection, OPENED, centre_id)
    closing = min((end for one in told.attempts if (end := one.expires_at) is not None and end > at), default=None)
    return _answer(request, told, basis=stands_on(view, centre_id, opened, at, closing))


# --- statements -------------------------------------------------------------------------------------------------------


@v1.get("/statements", responses=answers(Page[StatementSummary]), response_class=Response)
def statements(
    request: Request,
    centre: Centre = None,
    project: Plain = None,
    pool_class: Class = None,
    district: Plain = None,
    state: State | None = None,
    level: Levels | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List statements, the newest received first."""
    registry = registry_of(request)
    wanted = WantedStatements(centre, project, pool_class, district, state, level)
    with _snapshot(registry, registry.now) as (connection, view):
        found = listing.statements_page(connection, view, wanted, limit, cursor)
    return _answer(request, found, basis=stands_on(view, centre))


@v1.get("/statements/{sha256}", responses=answers(StatementDetail), response_class=Response)
def statement(request: Request, sha256: Digest, token: Reader) -> Response:
    """Tell one statement, with what was decided of it."""
    registry = registry_of(request)
    with _snapshot(registry, registry.now) as (connection, view):
        told = queries.statement_detail(connection, view, registry.store.objects, sha256, partial(may_see, token))
        decided = numbers_of(connection, DECIDED, sha256)
    return _answer(request, told, basis=stands_on(view, told.summary.centre_id, decided))


@v1.get("/statements/{sha256}/nodes", responses=answers(Page[NodeCapacity]), response_class=Response)
def nodes(request: Request, sha256: Digest, token: Holder, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List what each node contributes: to the statement's operator and to the platform."""
    registry = registry_of(request)
    heard_after = utc_text(utc_ns(registry.now) - registry.settings.stale_after_s * 10**9)
    with registry.store.reading() as connection:
        row = queries.statement_row(connection, sha256)
        operator_of(token, row.centre_id)
        return _answer(request, listing.nodes_page(connection, row, heard_after, limit, cursor))


# --- lists ------------------------------------------------------------------------------------------------------------


@v1.get("/alarms", responses=answers(Page[Alarm]), response_class=Response)
def alarms(
    request: Request,
    token: Reader,
    centre: Centre = None,
    code: Centre = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List alarms, newest first; their sentences name nodes, and are not everybody's to read."""
    with registry_of(request).store.reading() as connection:
        found = queries.alarms_page(connection, limit, cursor, centre, code, partial(may_see, token))
    return _answer(request, found)


@v1.get("/decisions", responses=answers(Page[Decision]), response_class=Response)
def decisions(
    request: Request,
    token: Reader,
    decision: Literal["accepted", "refused"] | None = None,
    centre: Centre = None,
    kind: Centre = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List what was decided, newest first; its sentences may name devices, and are not everybody's to read."""

    def sees(centre_id: str | None) -> bool:
        return may_see(token, centre_id or "")

    with registry_of(request).store.reading() as connection:
        found = queries.decisions_page(connection, sees, limit, cursor, decision=decision, centre=centre, kind=kind)
    return _answer(request, found)


@v1.get("/attempts", responses=answers(Page[AttemptLine]), response_class=Response)
def attempts(request: Request, centre: Centre = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List measurements that were opened, submitted or not, newest first."""
    registry = registry_of(request)
    with registry.store.reading() as connection:
        return _answer(request, listing.attempts_page(connection, registry.now, limit, cursor, centre))


@v1.get("/devices/{device}", responses=answers(DeviceHistory), response_class=Response)
def device(request: Request, device: TextPart, token: Platform) -> Response:
    """Tell the platform where a uuid, serial or die id was counted."""
    registry = registry_of(request)
    view = _view(registry)
    with registry.store.reading() as connection:
        return _answer(request, queries.device_history(connection, view, device))


@v1.get("/identifiers/{scheme}/{value}", responses=answers(Page[ExternalIdentifier]), response_class=Response)
def identifiers(
    request: Request, scheme: TextPart, value: TextPart, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List what bears an identifier that was issued elsewhere."""
    with registry_of(request).store.reading() as connection:
        return _answer(request, listing.identifiers_page(connection, scheme, value, limit, cursor))


# --- without a token of readers ---------------------------------------------------------------------------------------


@router.get("/v1/nodes/{centre_id}/{node_id}/nonce", responses=answers(Nonce), response_class=Response, tags=["read"])
def nonce(request: Request, centre_id: NamePart, node_id: NamePart) -> Response:
    """Tell what the next heartbeat of a node must carry; the node's own key signs that, and no token is needed."""
    return Json(presence.nonce(registry_of(request), centre_id, node_id), 200, {"Cache-Control": "no-store"})


@router.get(
    "/metrics",
    responses=files("text/plain", "In Prometheus' text format"),
    response_class=Response,
    tags=["service"],
    dependencies=[Depends(scraper)],
)
def metrics(request: Request) -> Response:
    """Tell the figures that Prometheus reads."""
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = Metrics(registry_of(request))
    return Response(state.metrics.text(), 200, None, CONTENT_TYPE_LATEST)


v1.include_router(routes_files.router)
router.include_router(v1)
