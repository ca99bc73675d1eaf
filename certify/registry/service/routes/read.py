"""Every route that only reads: rights and headers. Contents come from `queries`, `listing`, `feed` and `sums`.

A list or figure bears a weak ETag of its content, a stored document a strong one of its bytes: who has it already is
told so, and nothing more.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib.metadata import version
from typing import Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec.structs import replace
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from certify.registry.api import views
from certify.registry.api.cities import Lifecycle
from certify.registry.api.common import Page, Service
from certify.registry.base.access import may_see, operator_of
from certify.registry.service import parameters
from certify.registry.service.openapi import answers, conditional, csv_too, text
from certify.registry.service.reading import CSV, next_link, page_answer, wants_csv
from certify.registry.service.reading import answer as _answer
from certify.registry.service.reading import present as _present
from certify.registry.service.reading import snapshot_at as _snapshot
from certify.registry.service.routes import files as stored_files
from certify.registry.service.routes import nodes as single_nodes
from certify.registry.state import cache, listing, queries
from certify.registry.state.cache import lifecycle_of
from certify.registry.state.feed import feed
from certify.registry.state.feeds.filters import ModelNames
from certify.registry.state.feeds.nodes import nodes_page
from certify.registry.state.metrics import Metrics
from certify.registry.state.read import HeardBetween

router = APIRouter()
v1 = APIRouter(prefix="/v1", tags=["read"], dependencies=[*parameters.STRICT, Depends(parameters.reader)])


# --- what stands now --------------------------------------------------------------------------------------------------


@v1.get("", responses=conditional(answers(Service)), response_class=Response)
def get_service(request: Request) -> Response:
    """Get what this registry is."""
    registry = parameters.registry_of(request)
    key, trust = registry.key.public, registry.trust_status()
    answer = Service(
        name=registry.settings.name,
        version=version("petaseal"),
        api="v1",
        registry_keyid=key.keyid,
        registry_spki=base64.b64encode(key.spki).decode(),
        trust_root=trust.named,
        accepts_simulated=registry.settings.accept_simulated or registry.settings.rehearsal,
        rehearsal=registry.settings.rehearsal,
        public_read=registry.settings.public_read,
        stale_after_s=registry.settings.stale_after_s,
        trust=trust,
    )
    return _answer(request, answer)


@v1.get(
    "/capacity",
    responses=conditional(csv_too(answers(views.CapacityFeed))),
    response_class=Response,
)
def get_capacity(
    request: Request,
    wanted: parameters.AskedPools,
    since: parameters.Cursor = None,
    format: parameters.Format = None,
) -> Response:
    """Get what each pool of the newest statements gives now; with `since`, of the centres where anything changed."""
    registry = parameters.registry_of(request)
    as_csv = wants_csv(request, format)
    fed = feed(registry.store, registry.now, registry.settings.stale_after_s, wanted, since, as_csv)
    # RFC 8288: a client that follows links needs to know nothing of cursors
    headers = {
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "Link": next_link(request, since=fed.next),
    }
    trust = registry.trust_status()
    headers["Petaseal-Trust"] = trust.state  # for who takes CSV
    if fed.tag is not None:
        # of the trust root too: who polls must learn that the feed rests on one in its grace
        tag = hashlib.sha256(fed.tag.encode() + msgspec.json.encode(trust)).hexdigest()[:32]
        headers["ETag"] = f'W/"{tag}"'
        if (known := cache.not_modified(request, headers)) is not None:
            return known
    if as_csv:
        headers["Content-Disposition"] = 'attachment; filename="capacity.csv"'
        return Response(fed.content, 200, headers, f"{CSV}; charset=utf-8; header=present")
    return Response(fed._replace(rehearsal=registry.settings.rehearsal).json(trust), 200, headers, "application/json")


@v1.get("/lifecycle", responses=conditional(answers(Lifecycle)), response_class=Response)
def get_lifecycle(request: Request) -> Response:
    """Get the sums of all states, each on its own."""
    registry = parameters.registry_of(request)
    at = registry.now
    with _snapshot(registry, at) as (connection, snapshot):
        sums = lifecycle_of(registry.store, connection, snapshot, at)
    trust = registry.trust_status()
    return _answer(request, replace(sums, trust=trust), (sums.lines, trust))


@v1.get("/centres", responses=conditional(csv_too(answers(Page[views.CentreSummary]))), response_class=Response)
def list_centres(
    request: Request, wanted: parameters.AskedCentres, page: parameters.AskedPage, format: parameters.Format = None
) -> Response:
    """List centres, by their ids."""
    snapshot = _present(parameters.registry_of(request))
    listed = listing.centres_page(snapshot, wanted, *page)
    return page_answer(request, listed, views.CentreSummary, format, cache.basis_of(snapshot))


@v1.get("/centres/{centre_id}", responses=conditional(answers(views.CentreDetail)), response_class=Response)
def get_centre(request: Request, centre_id: parameters.NamePart) -> Response:
    """Get one centre: its pools now, its statements, its attempts."""
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


@v1.get("/statements", responses=conditional(csv_too(answers(Page[views.StatementSummary]))), response_class=Response)
def list_statements(
    request: Request, wanted: parameters.AskedStatements, page: parameters.AskedPage, format: parameters.Format = None
) -> Response:
    """List statements, the newest received first."""
    registry = parameters.registry_of(request)
    with _snapshot(registry, registry.now) as (connection, snapshot):
        listed = listing.statements_page(connection, snapshot, wanted, *page)
    return page_answer(request, listed, views.StatementSummary, format, cache.basis_of(snapshot, wanted.centre))


@v1.get("/statements/{sha256}", responses=conditional(answers(views.StatementDetail)), response_class=Response)
def get_statement(request: Request, sha256: parameters.Digest, token: parameters.Reader) -> Response:
    """Get one statement, with what was decided of it."""
    registry = parameters.registry_of(request)
    with _snapshot(registry, registry.now) as (connection, snapshot):
        detail = queries.statement_detail(connection, snapshot, registry.store.objects, sha256, partial(may_see, token))
        # a refusal of the same statement is listed here and changes no state
        decided = cache.write_counts(connection, cache.DECIDED, sha256)
    root_path: str = request.app.state.root_path
    links = {name: f"{root_path}{place}" for name, place in detail.links.items()}
    detail = msgspec.structs.replace(detail, links=links)
    return _answer(request, detail, basis=cache.basis_of(snapshot, detail.summary.centre_id, decided))


@v1.get("/statements/{sha256}/nodes", responses=conditional(answers(Page[views.NodeCapacity])), response_class=Response)
def list_statement_nodes(
    request: Request,
    sha256: parameters.Digest,
    token: parameters.Holder,
    page: parameters.AskedPage,
    vendor: parameters.Vendor = None,
    model: parameters.Model = None,
) -> Response:
    """List what each node contributes: to the statement's operator and to the platform."""
    registry = parameters.registry_of(request)
    models = None if vendor is None and model is None else ModelNames(vendor, model)
    heard = HeardBetween.at(registry.now, registry.settings.stale_after_s)
    with registry.store.reading() as connection:
        # 404 before 403: which digests exist is public
        row = queries.statement_row(connection, sha256)
        operator_of(token, row.centre_id)
        return _answer(request, nodes_page(connection, row, heard, *page, models))


# --- lists ------------------------------------------------------------------------------------------------------------


@v1.get("/decisions", responses=conditional(csv_too(answers(Page[views.Decision]))), response_class=Response)
def list_decisions(
    request: Request,
    token: parameters.Reader,
    page: parameters.AskedPage,
    decision: Literal["accepted", "refused"] | None = None,
    centre: parameters.Centre = None,
    kind: parameters.Kind = None,
    format: parameters.Format = None,
) -> Response:
    """List what was decided, newest first; its sentences may name devices, and are not everybody's to read."""

    def sees(centre_id: str | None) -> bool:
        return may_see(token, centre_id or "")

    with parameters.registry_of(request).store.reading() as connection:
        listed = queries.decisions_page(connection, sees, *page, decision=decision, centre=centre, kind=kind)
    return page_answer(request, listed, views.Decision, format)


@v1.get("/attempts", responses=conditional(csv_too(answers(Page[views.AttemptLine]))), response_class=Response)
def list_attempts(
    request: Request, page: parameters.AskedPage, centre: parameters.Centre = None, format: parameters.Format = None
) -> Response:
    """List measurements that were opened, submitted or not, newest first."""
    registry = parameters.registry_of(request)
    with registry.store.reading() as connection:
        listed = listing.attempts_page(connection, registry.now, *page, centre)
    return page_answer(request, listed, views.AttemptLine, format)


@v1.get("/devices/{device}", responses=conditional(answers(views.DeviceHistory)), response_class=Response)
def get_device(request: Request, device: parameters.TextPart, token: parameters.Platform) -> Response:
    """Get where a uuid, serial or die id was counted, as the platform."""
    registry = parameters.registry_of(request)
    snapshot = _present(registry)
    with registry.store.reading() as connection:
        return _answer(request, queries.device_history(connection, snapshot, device))


@v1.get(
    "/identifiers/{scheme}/{value}",
    responses=conditional(answers(Page[views.ExternalIdentifier])),
    response_class=Response,
)
def list_identifiers(
    request: Request, scheme: parameters.TextPart, value: parameters.TextPart, page: parameters.AskedPage
) -> Response:
    """List what bears an identifier that was issued elsewhere."""
    with parameters.registry_of(request).store.reading() as connection:
        return _answer(request, listing.identifiers_page(connection, scheme, value, *page))


# --- without a token of readers ---------------------------------------------------------------------------------------


@router.get(
    "/metrics",
    responses=text("In Prometheus' text format", "petaseal_centres 3.0\n"),
    response_class=Response,
    tags=["service"],
    dependencies=[Depends(parameters.scraper)],
)
def get_metrics(request: Request) -> Response:
    """Get the figures that Prometheus reads."""
    figures: Metrics = request.app.state.metrics
    return Response(figures.text(), 200, None, CONTENT_TYPE_LATEST)


v1.include_router(single_nodes.router)
v1.include_router(stored_files.router)
router.include_router(v1)
