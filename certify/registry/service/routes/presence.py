"""Routes of nodes that say they are there: nonces, single heartbeats and batches of a rack. No token is needed.

Heartbeats of all requests that wait are decided together (`BeatCollector`). None is a line of the audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from bench.errors import RefusedError
from certify.registry.api.common import Beat, Nonce
from certify.registry.api.heartbeats import BATCH_NODES, BeatLine, BeatLines, NonceLine, Nonces, NoncesAsk
from certify.registry.base.failures import failure_of
from certify.registry.base.registry import Registry
from certify.registry.intake import presence
from certify.registry.service.http.bodies import ENVELOPE, JSON, LINES, BodyRule, read, read_ask
from certify.registry.service.middleware import Gate
from certify.registry.service.openapi import Json, answers, takes
from certify.registry.service.parameters import STRICT, NamePart, registry_of

HEARTBEAT_BYTES = 2**14  # an envelope has about 1 KB; 64 of them are held at once
TOGETHER = 256  # heartbeats of one transaction
THREADS = 2  # while one waits for the disk, the other checks signatures
UNSTORED = {"Cache-Control": "no-store"}
router = APIRouter(prefix="/v1", tags=["presence"], default_response_class=Response, dependencies=STRICT)


class _Waiting(NamedTuple):
    contents: Sequence[bytes]
    answers: asyncio.Future[list[Beat | Exception]]


class BeatCollector:
    """Decides the heartbeats that wait together: a flush of the disk costs as much for one as for hundreds."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._busy = 0  # threads that decide
        self._threads = ThreadPoolExecutor(THREADS, "beats")  # their own: no verification delays them

    async def take(self, contents: Sequence[bytes]) -> list[Beat | Exception]:
        """Return what becomes of heartbeats, in their order (`presence.beats`)."""
        waiting = _Waiting(contents, asyncio.get_running_loop().create_future())
        with self._lock:
            self._waiting.append(waiting)
            # none is woken for what a busy one takes next: to wake one costs as much as to check a signature
            begin = self._busy < THREADS
            self._busy += begin
        if begin:
            self._threads.submit(self._work)
        return await waiting.answers

    def _work(self) -> None:
        """Decide what waits until nothing does."""
        while taken := self._take():
            # a client that went away meanwhile is passed over: its heartbeat was not acknowledged
            taken = [waiting for waiting in taken if not waiting.answers.cancelled()]
            outcome: list[list[Beat | Exception]] | Exception
            try:
                flat = presence.beats(self._registry, [one for waiting in taken for one in waiting.contents])
                left = iter(flat)
                outcome = [list(islice(left, len(waiting.contents))) for waiting in taken]
            except Exception as error:
                outcome = error
            # one call for all that wait in one event loop: each would write to the loop's own socket
            for loop in {waiting.answers.get_loop() for waiting in taken}:
                with contextlib.suppress(RuntimeError):  # a loop that is closed waits for nothing
                    loop.call_soon_threadsafe(_settle, loop, taken, outcome)

    def _take(self) -> list[_Waiting]:
        """Return what waits, up to `TOGETHER` heartbeats; without any the thread is no longer busy."""
        taken: list[_Waiting] = []
        count = 0
        with self._lock:
            while self._waiting and (not taken or count + len(self._waiting[0].contents) <= TOGETHER):
                count += len(self._waiting[0].contents)
                taken.append(self._waiting.popleft())
            self._busy -= not taken
        return taken


def _settle(
    loop: asyncio.AbstractEventLoop, taken: Sequence[_Waiting], outcome: list[list[Beat | Exception]] | Exception
) -> None:
    """Answer those that wait in a loop."""
    for number, waiting in enumerate(taken):
        if waiting.answers.get_loop() is not loop or waiting.answers.done():
            continue
        if isinstance(outcome, Exception):
            waiting.answers.set_exception(outcome)
        else:
            waiting.answers.set_result(outcome[number])


@router.get("/nodes/{centre_id}/{node_id}/nonce", responses=answers(Nonce), tags=["read"])
def get_nonce(request: Request, centre_id: NamePart, node_id: NamePart) -> Response:
    """Get what the next heartbeat of a node must carry; the node's own key signs that, and no token is needed."""
    return Json(presence.nonce(registry_of(request), centre_id, node_id), 200, UNSTORED)


@router.post(
    "/nonces", responses=answers(Nonces, 200, "Each node's, or its code"), openapi_extra=takes(JSON, NoncesAsk)
)
async def get_nonces(request: Request) -> Response:
    """Get what the next heartbeats of up to 64 nodes of a centre must carry; no token is needed."""
    registry, gate = registry_of(request), _gate(request)
    ask = await read_ask(request, NoncesAsk, registry.settings.limits.body_idle_s, gate.writers)
    _count(request, len(ask.node_ids), "nodes")
    call = partial(presence.nonces, registry, ask.centre_id, ask.node_ids)
    found = await to_thread.run_sync(call, limiter=gate.writers)
    lines = [_nonce_line(ask.centre_id, node_id, one) for node_id, one in zip(ask.node_ids, found, strict=True)]
    return Json(Nonces(lines=tuple(lines)), 200, UNSTORED)


@router.post("/heartbeats", responses=answers(Beat, 200, "Heard"), openapi_extra=takes(ENVELOPE, None, "heartbeat"))
async def send_heartbeat(request: Request) -> Response:
    """Send a node's heartbeat, signed by the node's own key; it needs no token, and is no line of the audit log."""
    content = await _read(request, ENVELOPE, HEARTBEAT_BYTES)
    (answer,) = await _take(request, (content,))
    if isinstance(answer, Exception):
        raise answer
    return Json(answer)


@router.post(
    "/heartbeats/batch",
    responses=answers(BeatLines, 200, "Read; each line says whether its node was heard"),
    openapi_extra=takes(LINES, None, "heartbeat"),
)
async def send_heartbeats(request: Request) -> Response:
    """Send the heartbeats of up to 64 nodes, one envelope a line; a refused one changes nothing for the others."""
    content = await _read(request, LINES, BATCH_NODES * HEARTBEAT_BYTES)
    envelopes = content.removesuffix(b"\n").split(b"\n")
    _count(request, len(envelopes), "heartbeats")
    found = await _take(request, envelopes)
    return Json(BeatLines(lines=tuple(_beat_line(number, one) for number, one in enumerate(found, 1))), 200, UNSTORED)


def _gate(request: Request) -> Gate:
    gate = request.app.state.gate
    assert isinstance(gate, Gate)
    return gate


def _collector(request: Request) -> BeatCollector:
    collector = request.app.state.beats
    assert isinstance(collector, BeatCollector)
    return collector


async def _take(request: Request, contents: Sequence[bytes]) -> list[Beat | Exception]:
    """Return what becomes of heartbeats, and count each of them."""
    found = await _collector(request).take(contents)
    for one in found:
        request.app.state.metrics.traffic.beat(failure_of(one).code if isinstance(one, Exception) else None)
    return found


async def _read(request: Request, kinds: tuple[str, ...], cap_bytes: int) -> bytes:
    idle_s = registry_of(request).settings.limits.body_idle_s
    return await read(request, BodyRule(kinds, cap_bytes, idle_s, idle_s), _gate(request).writers)


def _count(request: Request, number: int, what: str) -> None:
    """Refuse a batch that is too large, and count it as the requests that it stands for.

    Raises:
        RefusedError: `batch-too-large`, `rate-limited`.
    """
    if number > BATCH_NODES:
        fix = f"send at most {BATCH_NODES} in one request"
        raise RefusedError("batch-too-large", f"the batch has {number} {what}, more than {BATCH_NODES}", fix=fix)
    address = request.client.host if request.client else None
    if number > 1:
        # each costs a check of a signature: in a batch nobody may ask for more of them than without
        _gate(request).request(None, address, number - 1)


def _nonce_line(centre_id: str, node_id: str, answer: Nonce | RefusedError) -> NonceLine:
    if isinstance(answer, Nonce):
        return NonceLine(centre_id=centre_id, node_id=node_id, nonce=answer.nonce)
    return NonceLine(centre_id=centre_id, node_id=node_id, nonce=None, code=answer.code, detail=answer.what)


def _beat_line(number: int, answer: Beat | Exception) -> BeatLine:
    if isinstance(answer, Beat):
        return BeatLine(
            line=number,
            accepted=True,
            centre_id=answer.centre_id,
            node_id=answer.node_id,
            online=answer.online,
            code=answer.code,
            seen_at=answer.seen_at,
            nonce=answer.nonce,
            stale_at=answer.stale_at,
        )
    known = answer if isinstance(answer, presence.RefusedBeatError) else None
    # an error of the program itself is said as for a request of its own
    failure = failure_of(answer)
    return BeatLine(
        line=number,
        accepted=False,
        centre_id=known.heartbeat.centre_id if known else None,
        node_id=known.heartbeat.node_id if known else None,
        code=failure.code,
        detail=failure.detail,
        nonce=known.nonce if known else None,
    )
