"""Every route that changes something: rights, turns and bodies. The modules of `intake` decide and store.

Services block (a verification takes seconds) and so run in threads of their own, which readers never wait for. Each
call leaves a line in the audit log, whatever became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from bench.errors import PetasealError, RefusedError
from certify.documents.caps import CAPS
from certify.registry.api.common import ActAsk, ActDone, Beat, ChallengeAsk, Decided, Drawn
from certify.registry.base.access import operator_of
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.intake import campaigns, ingest, presence, transitions
from certify.registry.service.bodies import ENVELOPE, JSON, LINES, BodyRule, read, read_ask, read_into
from certify.registry.service.middleware import Gate
from certify.registry.service.openapi import Json, answers, decided, takes
from certify.registry.service.parameters import Digest, Holder, Platform, registry_of
from certify.registry.storage import tables
from certify.registry.storage.store import Staged, audit

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
HEARTBEAT_BYTES = 2**16
router = APIRouter(prefix="/v1", tags=["submit"], default_response_class=Response)

DECIDED = answers(Decided, 201, "Accepted", s200="The same was accepted before; nothing new was stored")


def decides(path: str) -> Callable[[F], F]:
    """Register a route that takes a signed document and answers what was decided of it."""
    return router.post(path, status_code=201, responses=DECIDED, openapi_extra=takes(ENVELOPE))


@decides("/statements")
async def submit_statement(request: Request, token: Holder) -> Response:
    """Submit a statement: its envelope, as it was signed."""
    async with _gate(request).turn(token):
        content = await _document(request, CAPS.statement_bytes)
        decision = await _call(request, token, "statement", ingest.submit_statement, content, token)
    return decided(decision, request, f"/v1/statements/{decision.payload_sha256}")


@router.put("/statements/{sha256}/records", status_code=201, responses=DECIDED, openapi_extra=takes(LINES))
async def submit_records(request: Request, sha256: Digest, token: Holder) -> Response:
    """Submit the records of a statement (``records.jsonl``): the registry recomputes the statement from them."""
    registry, gate = registry_of(request), _gate(request)
    async with gate.turn(token):
        # the statement says how many records come, which bounds the body
        centre_id, records = await to_thread.run_sync(_about, registry, sha256)
        operator_of(token, centre_id)  # before gigabytes are read
        limits = registry.settings.limits
        how = BodyRule(LINES, min(limits.upload_bytes, records * CAPS.record_bytes), limits.body_idle_s)
        with registry.store.objects.staging() as staged:
            await read_into(request, how, staged.write, gate.writers)
            decision = await _call(request, token, "records", _submit_records, sha256, staged, token)
    return decided(decision, request, f"/v1/statements/{sha256}")


@decides("/baselines")
async def submit_baseline(request: Request, token: Holder) -> Response:
    """Submit a signed baseline inventory, before the statement that binds it."""
    return await _submit_supporting(request, token, "baseline", CAPS.baseline_bytes)


@decides("/witnesses")
async def submit_witness(request: Request, token: Holder) -> Response:
    """Submit a witness's document about a statement, before the statement where a policy asks for one."""
    return await _submit_supporting(request, token, "witness", CAPS.witness_bytes)


@decides("/revocations")
async def submit_revocations(request: Request, token: Platform) -> Response:
    """Submit a signed revocation list."""
    async with _gate(request).turn(token):
        content = await _document(request, CAPS.trust_bytes)
        decision = await _call(request, token, "revocations", ingest.submit_revocations, content, token)
    return decided(decision, request)


@router.post(
    "/challenges", status_code=201, responses=answers(Drawn, 201, "Drawn"), openapi_extra=takes(JSON, ChallengeAsk)
)
async def draw_challenge(request: Request, token: Holder) -> Response:
    """Draw a challenge, which opens one campaign of a centre."""
    async with _gate(request).turn(token):
        ask = await _ask(request, ChallengeAsk)
        operator_of(token, ask.centre_id)
        drawn = await _call(request, token, "challenge", campaigns.draw_challenge, ask.centre_id, token)
    return Json(drawn, 201)


@decides("/campaigns")
async def submit_campaign(request: Request, token: Holder) -> Response:
    """Show a signed campaign, so that its records can be posted."""
    async with _gate(request).turn(token):
        content = await _document(request, CAPS.campaign_bytes)
        decision = await _call(request, token, "campaign", campaigns.submit_campaign, content, token)
    return decided(decision, request)


@decides("/campaigns/{sha256}/records")
async def submit_record(request: Request, sha256: Digest, token: Holder) -> Response:
    """Post one node's record of a campaign: one of maybe ten thousand, so that it is not counted as a submission."""
    async with _gate(request).turn(token, counted=False):
        content = await _document(request, CAPS.record_bytes)
        decision = await _call(request, token, "record", campaigns.submit_record, sha256, content, token)
    return decided(decision, request)


@router.post("/acts", status_code=201, responses=answers(ActDone, 201, "Done"), openapi_extra=takes(JSON, ActAsk))
async def act(request: Request, token: Platform) -> Response:
    """Enter a pool in the register, take it under management, or end that."""
    async with _gate(request).turn(token, counted=False):
        ask = await _ask(request, ActAsk)
        done = await _call(request, token, ask.act, transitions.apply_transition, ask, token)
    return Json(done, 201)


@router.post("/heartbeats", responses=answers(Beat, 200, "Heard"), openapi_extra=takes(ENVELOPE))
async def beat(request: Request) -> Response:
    """Send a node's heartbeat, signed by the node's own key; it needs no token, and is no line of the audit log."""
    registry, gate = registry_of(request), _gate(request)
    idle_s = registry.settings.limits.body_idle_s
    content = await read(request, BodyRule(ENVELOPE, HEARTBEAT_BYTES, idle_s, idle_s), gate.writers)
    return Json(await to_thread.run_sync(presence.beat, registry, content, limiter=gate.beats))


def _gate(request: Request) -> Gate:
    gate = request.app.state.gate
    assert isinstance(gate, Gate)
    return gate


async def _submit_supporting(request: Request, token: Token, name: str, cap_bytes: int) -> Response:
    async with _gate(request).turn(token):
        content = await _document(request, cap_bytes)
        return decided(await _call(request, token, name, ingest.submit_supporting, name, content, token), request)


async def _document(request: Request, cap_bytes: int) -> bytes:
    limits = registry_of(request).settings.limits
    how = BodyRule(ENVELOPE, min(cap_bytes, limits.upload_bytes), limits.body_idle_s)
    return await read(request, how, _gate(request).writers)


async def _ask(request: Request, kind: type[T]) -> T:
    return await read_ask(request, kind, registry_of(request).settings.limits.body_idle_s, _gate(request).writers)


async def _call(request: Request, token: Token, action: str, service: Callable[..., T], *arguments: Any) -> T:
    """Return what a service answers, called in a thread, and write what became of it."""
    registry = registry_of(request)
    path = request.url.path

    # in a transaction of its own, after the service's: a refusal must leave its line too
    def write(outcome: str, target: str) -> None:
        try:
            with registry.store.writing() as connection:
                audit(connection, registry.now, token.id, action, target, outcome, request.state.request_id)
        except (OSError, SQLAlchemyError) as error:  # what was done is done, and is answered so
            logging.getLogger("petaseal.registry").error("no line in the audit log: %s", type(error).__name__)

    def called() -> T:
        try:
            result = service(registry, *arguments)
        except PetasealError as error:
            write(error.code, path)
            raise
        if isinstance(result, Decided):
            outcome = result.code or ("repeated" if result.repeated else "accepted")
            write(outcome, result.payload_sha256 or path)
        else:
            write("done", path)
        return result

    return await to_thread.run_sync(called, limiter=_gate(request).threads)


def _submit_records(registry: Registry, sha256: str, staged: Staged, token: Token) -> Decided:
    # in the service's thread: closing flushes gigabytes to the disk
    staged.close()
    return ingest.submit_records(registry, sha256, staged, token)


def _about(registry: Registry, sha256: str) -> tuple[str, int]:
    """Return whose statement it is, and how many records it has.

    Raises:
        RefusedError: `statement-unknown`.
    """
    wanted = tables.statements.c.payload_sha256 == sha256
    with registry.store.reading() as connection:
        columns = tables.statements.c.centre_id, tables.statements.c.records
        row = connection.execute(select(*columns).where(wanted)).one_or_none()
    if row is None:
        raise RefusedError("statement-unknown", "there is no such statement here", fix="submit the statement first")
    return row.centre_id, row.records
