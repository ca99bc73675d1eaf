"""Every route that changes something: rights, turns and bodies. The modules of `intake` decide and store.

Services block (a verification takes seconds) and so run in threads of their own, which readers never wait for. Each
call leaves a line in the audit log, whatever became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from bench.errors import PetasealError, RefusedError
from certify.documents.caps import CAPS
from certify.registry.api.common import ActAsk, ActDone, ChallengeAsk, Decided, Drawn
from certify.registry.api.nodes import Aliases, AliasesAsk
from certify.registry.api.oversight import Acknowledgement, AcknowledgementAsk
from certify.registry.base.access import operator_of
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.intake import acknowledging, aliases, campaigns, ingest, transitions
from certify.registry.service.http.bodies import ENVELOPE, JSON, LINES, BodyRule, read, read_ask, read_into
from certify.registry.service.middleware import Gate
from certify.registry.service.openapi import Json, answers, decided, takes
from certify.registry.service.parameters import (
    STRICT,
    AlarmNumber,
    Digest,
    Holder,
    NamePart,
    Platform,
    registry_of,
)
from certify.registry.storage import tables
from certify.registry.storage.store import Staged, audit

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ALIASES_BYTES = 2**24  # of tens of thousands of nodes with long names
router = APIRouter(prefix="/v1", tags=["submit"], default_response_class=Response, dependencies=STRICT)

DECIDED = answers(Decided, 201, "Accepted", s200="The same was accepted before; nothing new was stored")


def decides(path: str, document: str) -> Callable[[F], F]:
    """Register a route that takes a signed document and answers what was decided of it."""
    return router.post(path, status_code=201, responses=DECIDED, openapi_extra=takes(ENVELOPE, None, document))


@decides("/statements", "capacity-statement")
async def submit_statement(request: Request, token: Holder) -> Response:
    """Submit a statement: its envelope, as it was signed."""
    async with _gate(request).turn(token):
        content = await _document(request, CAPS.statement_bytes)
        decision = await _call(request, token, "statement", ingest.submit_statement, content, token)
    return decided(decision, request, f"/v1/statements/{decision.payload_sha256}")


@router.put(
    "/statements/{sha256}/records", status_code=201, responses=DECIDED, openapi_extra=takes(LINES, None, "node-record")
)
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


@decides("/baselines", "baseline")
async def submit_baseline(request: Request, token: Holder) -> Response:
    """Submit a signed baseline inventory, before the statement that binds it."""
    return await _submit_supporting(request, token, "baseline", CAPS.baseline_bytes)


@decides("/witnesses", "witness")
async def submit_witness(request: Request, token: Holder) -> Response:
    """Submit a witness's document about a statement, before the statement where a policy asks for one."""
    return await _submit_supporting(request, token, "witness", CAPS.witness_bytes)


@decides("/revocations", "revocations")
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


@decides("/campaigns", "campaign")
async def submit_campaign(request: Request, token: Holder) -> Response:
    """Show a signed campaign, so that its records can be posted."""
    async with _gate(request).turn(token):
        content = await _document(request, CAPS.campaign_bytes)
        decision = await _call(request, token, "campaign", campaigns.submit_campaign, content, token)
    return decided(decision, request)


@decides("/campaigns/{sha256}/records", "node-record")
async def submit_record(request: Request, sha256: Digest, token: Holder) -> Response:
    """Post one node's record of a campaign: one of maybe ten thousand, so that it is not counted as a submission."""
    async with _gate(request).turn(token, counted=False):
        content = await _document(request, CAPS.record_bytes)
        decision = await _call(request, token, "record", campaigns.submit_record, sha256, content, token)
    return decided(decision, request)


@router.post("/acts", status_code=201, responses=answers(ActDone, 201, "Done"), openapi_extra=takes(JSON, ActAsk))
async def perform_act(request: Request, token: Platform) -> Response:
    """Enter a pool in the register, take it under management, or end that."""
    async with _gate(request).turn(token, counted=False):
        ask = await _ask(request, ActAsk)
        done = await _call(request, token, ask.act, transitions.apply_transition, ask, token)
    return Json(done, 201)


@router.put("/centres/{centre_id}/aliases", responses=answers(Aliases), openapi_extra=takes(JSON, AliasesAsk))
async def replace_aliases(request: Request, centre_id: NamePart, token: Holder) -> Response:
    """Say what a centre's own scheduler calls its nodes: these names, and no others."""
    return await _set_aliases(request, centre_id, token, aliases.replace_aliases)


@router.patch("/centres/{centre_id}/aliases", responses=answers(Aliases), openapi_extra=takes(JSON, AliasesAsk))
async def change_aliases(request: Request, centre_id: NamePart, token: Holder) -> Response:
    """Change what a centre's own scheduler calls some of its nodes; null takes a name away."""
    return await _set_aliases(request, centre_id, token, aliases.change_aliases)


async def _set_aliases(
    request: Request, centre_id: str, token: Token, service: Callable[[Registry, str, AliasesAsk], Aliases]
) -> Response:
    # counted though nothing is verified: followers are told of each change of thousands of names for ever
    async with _gate(request).turn(token):
        operator_of(token, centre_id)
        idle_s = registry_of(request).settings.limits.body_idle_s
        content = await read(request, BodyRule(JSON, ALIASES_BYTES, idle_s), _gate(request).writers)
        ask = msgspec.json.decode(content, type=AliasesAsk)
        return Json(await _call(request, token, "aliases", service, centre_id, ask))


@router.post(
    "/alarms/{number}/acknowledgement",
    status_code=201,
    responses=answers(Acknowledgement, 201, "Stored"),
    openapi_extra=takes(JSON, AcknowledgementAsk),
)
async def acknowledge_alarm(request: Request, number: AlarmNumber, token: Platform) -> Response:
    """Acknowledge an alarm with a reason, or withdraw that, as the platform; all that was said stays stored."""
    async with _gate(request).turn(token, counted=False):
        ask = await _ask(request, AcknowledgementAsk)
        said = await _call(request, token, "acknowledge", acknowledging.acknowledge, number, ask, token)
    return Json(said, 201)


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
    path = request.scope["path"]

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
