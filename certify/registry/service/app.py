"""The ASGI application: all routes behind one middleware. It opens nothing; an open registry is given to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import anyio
import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bench.errors import PetasealError
from certify.documents import kinds as documents
from certify.policy.reasons import reasons
from certify.policy.released import index, policy_of, profile_of, ratings_of
from certify.registry import web
from certify.registry.api.common import Health
from certify.registry.base.registry import Registry
from certify.registry.service import openapi, routes_read, routes_submit
from certify.registry.service.middleware import Gate, RequestMiddleware
from certify.registry.service.openapi import Json, handle
from certify.registry.state import cache, feed, listing, queries
from certify.registry.state.cache import CacheMiddleware, ResponseCache

MAX_REQUESTS = 512  # at once
READY_S = 5.0  # a check that takes longer has failed
HEALTH = openapi.answers(Health, 200, "It is well", s503="It is not")


def create_app(
    registry: Registry, max_requests: int = MAX_REQUESTS, clock_s: Callable[[], float] = time.monotonic
) -> FastAPI:
    """Return the application of a registry.

    Args:
        registry: an open one; closing it is the caller's.
        max_requests: number of requests served at once; further ones are answered with status 503.
        clock_s: for rate limits.
    """
    # before any thread runs
    _prepare(registry)
    settings = registry.settings
    app = FastAPI(
        title="petaseal registry",
        summary="Certified capacity of computing centres, as it stands at this moment",
        version=version("petaseal"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: handle, RequestValidationError: handle},
    )
    app.state.registry = registry
    app.state.gate = gate = Gate(settings.limits, clock_s)
    app.state.checks = CapacityLimiter(2)
    app.state.answers = answers = ResponseCache(registry)
    app.add_middleware(CacheMiddleware, answers=answers)
    app.add_middleware(RequestMiddleware, registry=registry, gate=gate, max_requests=max_requests)
    app.add_api_route("/healthz", healthz, responses=HEALTH, response_class=Response, tags=["service"])
    app.add_api_route("/readyz", readyz, responses=HEALTH, response_class=Response, tags=["service"])
    app.include_router(routes_submit.router)
    app.include_router(routes_read.router)
    document: list[Json] = []  # made when it is first asked for: nothing changes it later

    def described() -> Response:
        if not document:
            document.append(Json(openapi.document(app, settings.public_read)))
        return Response(document[0].body, media_type="application/json")

    app.add_api_route("/v1/openapi.json", described, include_in_schema=False)
    web.mount(app, registry)
    return app


def _prepare(registry: Registry) -> None:
    """Make all decoders while there is one thread: two that make one at once crash it (`canonical.prepare`)."""
    documents.prepare()
    for kind in (*openapi.KINDS, *listing.KINDS, *queries.KINDS, feed.FeedPosition):
        msgspec.json.Decoder(kind)
    reasons()
    cache.city_policies(registry.place)
    # released tables are read once here, and not by the first reader that asks for one
    for sha256 in index():
        policy_of(sha256), profile_of(sha256), ratings_of(sha256)


async def healthz() -> Response:
    """Tell that the process answers."""
    return Json(Health(status="ok", checks={}))


async def readyz(request: Request) -> Response:
    """Tell whether the database, the disk and the trust root are such that a statement can be taken in."""
    registry = request.app.state.registry
    outcomes = {"database": "slow", "objects": "slow", "trust": "slow"}
    with anyio.move_on_after(READY_S):
        for name, check in (("database", _database), ("objects", _objects), ("trust", Registry.trust)):
            # each check in a thread that may be abandoned: a disk that hangs must not hang the probe
            outcomes[name] = await to_thread.run_sync(
                _outcome, check, registry, limiter=request.app.state.checks, abandon_on_cancel=True
            )
    well = set(outcomes.values()) == {"ok"}
    return Json(Health(status="ok" if well else "unavailable", checks=outcomes), 200 if well else 503)


def _outcome(check: Callable[[Registry], Any], registry: Registry) -> str:
    """Return `ok`, or the code of what is wrong; its text could name places of this machine."""
    try:
        check(registry)
    except PetasealError as error:
        return error.code
    except Exception:
        return "unavailable"
    return "ok"


def _database(registry: Registry) -> None:
    with registry.store.reading() as connection:
        connection.execute(text("SELECT 1"))


def _objects(registry: Registry) -> None:
    with registry.store.objects.staging() as staged:
        staged.write(b"ready")
        staged.close()
