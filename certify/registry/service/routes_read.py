"""Every route that only reads: rights and headers. Contents come from `queries`, `listing`, `feed` and `sums`.

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
from typing import Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import Connection
from starlette.responses import Response

from bench.errors import RefusedError
from bench.record import Precision
from bench.units import utc_ns, utc_text
from certify.registry.api import views
from certify.registry.api.common import Nonce, Page, Service, State
from certify.registry.base.access import may_see, operator_of
from certify.registry.base.registry import Registry
from certify.registry.intake import presence
from certify.registry.service import parameters, routes_files
from certify.registry.service.openapi import Json, answers, files
from certify.registry.state import cache, listing, queries
from certify.registry.state.cache import city_of, city_policies, lifecycle_of
from certify.registry.state.feed import PoolFilter, feed
from certify.registry.state.metrics import Metrics
from certify.registry.state.model import Snapshot

CSV = "text/csv"

router = APIRouter()
v1 = APIRouter(prefix="/v1", tags=["read"], dependencies=[Depends(parameters.reader)])


def _present(registry: Registry) -> Snapshot:
    """Return the present state, for an answer that reads nothing else."""
    return cache.current_snapshot(registry.store, registry.now, registry.settings)


@contextlib.contextmanager
def _snapshot(registry: Registry, at: str) -> Iterator[tuple[Connection, Snapshot]]:
    """Yield a connection and the present state of what it sees."""
    with registry.store.reading() as connection:
        yield connection, cache.reader_of(registry.store).present(connection, at, registry.settings.stale_after_s)


def _answer(
    request: Request, value: object, tagged: object = None, basis: cache.ResponseBasis | None = None
) -> Response:
    """Return a value as JSON, or 304 where the client's copy is current.

    Args:
        tagged: what its ETag is of, where the value itself bears the present time.
        basis: what the answer rests on; None where it is not stored in the response cache.
    """
    content = msgspec.json.encode(value)
    # of what does not change with the clock: else no poll would ever be answered by 304
    tag = hashlib.sha256(content if tagged is None else msgspec.json.encode(tagged)).hexdigest()[:32]
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "no-cache"}
    if basis is not None:
        request.app.state.answers.keep(request, content, headers, basis)
    return cache.not_modified(request, headers) or Response(content, 200, headers, "application/json")


# --- what stands now --------------------------------------------------------------------------------------------------


@v1.get("", responses=answers(Service), response_class=Response)
def service(request: Request) -> Response:
    """Tell what this registry is."""
    registry = parameters.registry_of(request)
    root = registry.trust().root
    assert root is not None  # it is read from a trust root
    key = registry.key.public
    answer = Service(
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
    return _answer(request, answer)


FED = answers(views.CapacityFeed) | {304: {"description": "Nothing changed"}}
FED[200]["content"]["text/csv"] = {"schema": {"type": "string"}}


@v1.get("/capacity", responses=FED, response_class=Response)
def capacity(
    request: Request,
    centre: parameters.Centre = None,
    district: parameters.Plain = None,
    pool_class: parameters.Class = None,
    precision: Precision | None = None,
    state: State | None = None,
    since: parameters.Cursor = None,
    format: Literal["json", "csv"] | None = None,
) -> Response:
    """Tell what each pool of the newest statements gives now; with `since`, of the centres where anything changed."""
    registry = parameters.registry_of(request)
    as_csv = format == "csv" or (format is None and CSV in request.headers.get("accept", ""))
    wanted = PoolFilter(centre, district, pool_class, precision, state)
    fed = feed(registry.store, registry.now, registry.settings.stale_after_s, wanted, since, as_csv)
    # RFC 8288: a client that follows links needs to know nothing of cursors
    following = request.url.include_query_params(since=fed.next)
    headers = {
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "Link": f'<{following.path}?{following.query}>; rel="next"',
    }
    if fed.tag is not None:
        headers["ETag"] = f'W/"{fed.tag}"'
        if (known := cache.not_modified(request, headers)) is not None:
            return known
    if as_csv:
        headers["Content-Disposition"] = 'attachment; filename="capacity.csv"'
        return Response(fed.content, 200, headers, f"{CSV}; charset=utf-8; header=present")
    return Response(fed.json(), 200, headers, "application/json")


@v1.get("/lifecycle", responses=answers(views.Lifecycle), response_class=Response)
def lifecycle(request: Request) -> Response:
    """Tell the sums of all states, each on its own."""
    registry = parameters.registry_of(request)
    at = registry.now
    with _snapshot(registry, at) as (connection, snapshot):
        sums = lifecycle_of(registry.store, connection, snapshot, at)
    return _answer(request, sums, sums.lines)


@v1.get("/cities", responses=answers(tuple[views.City, ...]), response_class=Response)
def cities(request: Request) -> Response:
    """Tell the roll-up of every city's policy."""
    registry = parameters.registry_of(request)
    snapshot, at = _present(registry), registry.now
    all_cities = [city_of(policy, snapshot, at) for policy in city_policies(registry.place).values()]
    tagged = [(one.policy, one.conditions, one.components, one.missing) for one in all_cities]
    return _answer(request, all_cities, tagged)


@v1.get("/cities/{policy}", responses=answers(views.City), response_class=Response)
def city(request: Request, policy: parameters.NamePart) -> Response:
    """Tell the roll-up of one policy."""
    registry = parameters.registry_of(request)
    city_policy = city_policies(registry.place).get(policy)
    if city_policy is None:
        raise RefusedError("city-unknown", "no such policy is rolled up here", fix="see /v1/cities")
    city_now = city_of(city_policy, _present(registry), registry.now)
    return _answer(request, city_now, (city_now.conditions, city_now.components, city_now.missing))


@v1.get("/centres", responses=answers(Page[views.CentreSummary]), response_class=Response)
def centres(request: Request, wanted: parameters.AskedCentres, page: parameters.AskedPage) -> Response:
    """List centres, by their ids."""
    snapshot = _present(parameters.registry_of(request))
    return _answer(request, listing.centres_page(snapshot, wanted, *page), basis=cache.basis_of(snapshot))


@v1.get("/centres/{centre_id}", responses=answers(views.CentreDetail), response_class=Response)
def centre(request: Request, centre_id: parameters.NamePart) -> Response:
    """Tell one centre: its pools now, its statements, its attempts."""
    registry = parameters.registry_of(request)
    at = registry.now
    with _snapshot(registry, at) as (connection, snapshot):
        detail = queries.centre_detail(connection, snapshot, centre_id, at)
        # attempts stand outside of the state: a challenge that was drawn changes this answer, and no change number
        opened = cache.write_counts(connection, cache.OPENED, centre_id)
    # an open attempt becomes one that was not submitted without anything being written
    closing = min((end for one in detail.attempts if (end := one.expires_at) is not None and end > at), default=None)
    return _answer(request, detail, basis=cache.basis_of(snapshot, centre_id, opened, at, closing))


# --- statements -------------------------------------------------------------------------------------------------------


@v1.get("/statements", responses=answers(Page[views.StatementSummary]), response_class=Response)
def statements(request: Request, wanted: parameters.AskedStatements, page: parameters.AskedPage) -> Response:
    """List statements, the newest received first."""
    registry = parameters.registry_of(request)
    with _snapshot(registry, registry.now) as (connection, snapshot):
        listed = listing.statements_page(connection, snapshot, wanted, *page)
    return _answer(request, listed, basis=cache.basis_of(snapshot, wanted.centre))


@v1.get("/statements/{sha256}", responses=answers(views.StatementDetail), response_class=Response)
def statement(request: Request, sha256: parameters.Digest, token: parameters.Reader) -> Response:
    """Tell one statement, with what was decided of it."""
    registry = parameters.registry_of(request)
    with _snapshot(registry, registry.now) as (connection, snapshot):
        detail = queries.statement_detail(connection, snapshot, registry.store.objects, sha256, partial(may_see, token))
        # a refusal of the same statement is listed here and changes no state
        decided = cache.write_counts(connection, cache.DECIDED, sha256)
    return _answer(request, detail, basis=cache.basis_of(snapshot, detail.summary.centre_id, decided))


@v1.get("/statements/{sha256}/nodes", responses=answers(Page[views.NodeCapacity]), response_class=Response)
def nodes(
    request: Request, sha256: parameters.Digest, token: parameters.Holder, page: parameters.AskedPage
) -> Response:
    """List what each node contributes: to the statement's operator and to the platform."""
    registry = parameters.registry_of(request)
    heard_after = utc_text(utc_ns(registry.now) - registry.settings.stale_after_s * 10**9)
    with registry.store.reading() as connection:
        # 404 before 403: which digests exist is public
        row = queries.statement_row(connection, sha256)
        operator_of(token, row.centre_id)
        return _answer(request, listing.nodes_page(connection, row, heard_after, *page))


# --- lists ------------------------------------------------------------------------------------------------------------


@v1.get("/alarms", responses=answers(Page[views.Alarm]), response_class=Response)
def alarms(
    request: Request,
    token: parameters.Reader,
    page: parameters.AskedPage,
    centre: parameters.Centre = None,
    code: parameters.Centre = None,
) -> Response:
    """List alarms, newest first; their sentences name nodes, and are not everybody's to read."""
    with parameters.registry_of(request).store.reading() as connection:
        listed = queries.alarms_page(connection, *page, centre, code, partial(may_see, token))
    return _answer(request, listed)


@v1.get("/decisions", responses=answers(Page[views.Decision]), response_class=Response)
def decisions(
    request: Request,
    token: parameters.Reader,
    page: parameters.AskedPage,
    decision: Literal["accepted", "refused"] | None = None,
    centre: parameters.Centre = None,
    kind: parameters.Centre = None,
) -> Response:
    """List what was decided, newest first; its sentences may name devices, and are not everybody's to read."""

    def sees(centre_id: str | None) -> bool:
        return may_see(token, centre_id or "")

    with parameters.registry_of(request).store.reading() as connection:
        listed = queries.decisions_page(connection, sees, *page, decision=decision, centre=centre, kind=kind)
    return _answer(request, listed)


@v1.get("/attempts", responses=answers(Page[views.AttemptLine]), response_class=Response)
def attempts(request: Request, page: parameters.AskedPage, centre: parameters.Centre = None) -> Response:
    """List measurements that were opened, submitted or not, newest first."""
    registry = parameters.registry_of(request)
    with registry.store.reading() as connection:
        return _answer(request, listing.attempts_page(connection, registry.now, *page, centre))


@v1.get("/devices/{device}", responses=answers(views.DeviceHistory), response_class=Response)
def device(request: Request, device: parameters.TextPart, token: parameters.Platform) -> Response:
    """Tell the platform where a uuid, serial or die id was counted."""
    registry = parameters.registry_of(request)
    snapshot = _present(registry)
    with registry.store.reading() as connection:
        return _answer(request, queries.device_history(connection, snapshot, device))


@v1.get("/identifiers/{scheme}/{value}", responses=answers(Page[views.ExternalIdentifier]), response_class=Response)
def identifiers(
    request: Request, scheme: parameters.TextPart, value: parameters.TextPart, page: parameters.AskedPage
) -> Response:
    """List what bears an identifier that was issued elsewhere."""
    with parameters.registry_of(request).store.reading() as connection:
        return _answer(request, listing.identifiers_page(connection, scheme, value, *page))


# --- without a token of readers ---------------------------------------------------------------------------------------


@router.get("/v1/nodes/{centre_id}/{node_id}/nonce", responses=answers(Nonce), response_class=Response, tags=["read"])
def nonce(request: Request, centre_id: parameters.NamePart, node_id: parameters.NamePart) -> Response:
    """Tell what the next heartbeat of a node must carry; the node's own key signs that, and no token is needed."""
    return Json(presence.nonce(parameters.registry_of(request), centre_id, node_id), 200, {"Cache-Control": "no-store"})


@router.get(
    "/metrics",
    responses=files("text/plain", "In Prometheus' text format"),
    response_class=Response,
    tags=["service"],
    dependencies=[Depends(parameters.scraper)],
)
def metrics(request: Request) -> Response:
    """Tell the figures that Prometheus reads."""
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = Metrics(parameters.registry_of(request))
    return Response(state.metrics.text(), 200, None, CONTENT_TYPE_LATEST)


v1.include_router(routes_files.router)
router.include_router(v1)
