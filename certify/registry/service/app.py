"""The ASGI application: all routes behind one middleware. It opens nothing; an open registry is given to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
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
from certify.registry.api.common import Health, TrustStatus
from certify.registry.base.registry import Registry
from certify.registry.service import openapi, parameters
from certify.registry.service.http.packing import GzipMiddleware, PackedBodies
from certify.registry.service.http.subpath import RootPathMiddleware
from certify.registry.service.middleware import Gate, RehearsalMiddleware, RequestMiddleware
from certify.registry.service.openapi import Json, handle
from certify.registry.service.routes import cities, oversight, presence, read, submit
from certify.registry.state import listing, queries
from certify.registry.state.cache import CacheMiddleware, ResponseCache
from certify.registry.state.city.present import city_policies
from certify.registry.state.feeds.positions import FeedPosition
from certify.registry.state.metrics import Metrics
from certify.registry.state.traffic import Traffic

MAX_REQUESTS = 512  # at once
READY_S = 5.0  # a check that takes longer has failed
HEALTH = openapi.answers(Health, 200, "It is well", s503="It is not")


def create_app(
    registry: Registry,
    max_requests: int = MAX_REQUESTS,
    clock_s: Callable[[], float] = time.monotonic,
    root_path: str = "",
) -> FastAPI:
    """Return the application of a registry.

    Args:
        registry: an open one; closing it is the caller's.
        max_requests: number of requests served at once; further ones are answered with status 503.
        clock_s: for rate limits.
        root_path: what stands before every path in what the registry says of its own addresses, as ``/petaseal``.
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
        generate_unique_id_function=openapi.operation_id,
        exception_handlers={HTTPException: handle, RequestValidationError: handle},
    )
    app.state.registry = registry
    app.state.root_path = root_path
    app.state.gate = gate = Gate(settings.limits, clock_s)
    app.state.checks = CapacityLimiter(2)
    app.state.answers = answers = ResponseCache(registry)
    app.state.metrics = metrics = Metrics(registry, Traffic())
    app.add_middleware(CacheMiddleware, answers=answers)
    app.add_middleware(GzipMiddleware, bodies=PackedBodies())
    app.add_middleware(
        RequestMiddleware, registry=registry, gate=gate, max_requests=max_requests, traffic=metrics.traffic
    )
    if settings.rehearsal:
        app.add_middleware(RehearsalMiddleware)
    app.add_middleware(RootPathMiddleware, root_path=root_path)  # outermost: all others know paths without the prefix
    app.add_api_route("/healthz", check_health, responses=HEALTH, response_class=Response, tags=["service"])
    app.add_api_route("/readyz", check_readiness, responses=HEALTH, response_class=Response, tags=["service"])
    app.state.beats = presence.BeatCollector(registry)
    app.include_router(presence.router)
    app.include_router(submit.router)
    app.include_router(read.router)
    app.include_router(oversight.router)
    app.include_router(cities.router)
    document: list[Json] = []  # made when it is first asked for: nothing changes it later

    def described() -> Response:
        if not document:
            document.append(Json(openapi.document(app, settings.public_read, root_path)))
        return Response(document[0].body, media_type="application/json")

    app.add_api_route("/v1/openapi.json", described, include_in_schema=False, dependencies=parameters.STRICT)
    web.mount(app, registry, root_path)
    return app


def _prepare(registry: Registry) -> None:
    """Make all decoders while there is one thread: two that make one at once crash it (`canonical.prepare`)."""
    documents.prepare()
    for kind in (*openapi.KINDS, *listing.KINDS, *queries.KINDS, FeedPosition):
        msgspec.json.Decoder(kind)
    reasons()
    city_policies(registry.place)
    # released tables are read once here, and not by the first reader that asks for one
    for sha256 in index():
        policy_of(sha256), profile_of(sha256), ratings_of(sha256)


async def check_health() -> Response:
    """Check that the process answers."""
    return Json(Health(status="ok", checks={}))


async def check_readiness(request: Request) -> Response:
    """Check whether the database, the disk and the trust root are such that the service can be used.

    Under a trust root in its grace it can: a balancer that took the registry away would silence every node.
    """
    registry = request.app.state.registry
    outcomes = {"database": "slow", "objects": "slow", "trust": "slow"}
    statuses: list[TrustStatus] = []
    checks: dict[str, Callable[[Registry], Any]] = {
        "database": _database,
        "objects": _objects,
        "trust": partial(_trust, statuses),
    }
    with anyio.move_on_after(READY_S):
        for name, check in checks.items():
            # each check in a thread that may be abandoned: a disk that hangs must not hang the probe
            outcomes[name] = await to_thread.run_sync(
                _outcome, check, registry, limiter=request.app.state.checks, abandon_on_cancel=True
            )
    trust = statuses[0] if statuses else None
    well = {outcomes["database"], outcomes["objects"]} == {"ok"} and trust is not None and trust.serves
    if trust is not None:
        outcomes["trust"] = trust.code or "ok"
    health = Health(status="ok" if well else "unavailable", checks=outcomes, trust=trust)
    return Json(health, 200 if well else 503)


def _trust(statuses: list[TrustStatus], registry: Registry) -> None:
    statuses.append(registry.trust_status())


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
