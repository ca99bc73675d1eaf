"""The pages for people, in Chinese and English, rendered on the server from the types of the API.

``/`` leads to the reader's language; the language stands in the path, so that no cookie is needed. Nothing on a page
comes from anywhere else, and without scripts everything but the verification in the browser works.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from urllib.parse import quote

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from bench.errors import RefusedError
from certify.registry.base.access import reading, token_of_scope
from certify.registry.base.failures import failure_of
from certify.registry.base.registry import Registry
from certify.registry.state.cache import not_modified
from certify.registry.web import centre_list, pages
from certify.registry.web.downloads import SHEETS, download, reached
from certify.registry.web.files import assets
from certify.registry.web.lookup import Lookup
from certify.registry.web.wording import LANGS, Frame, Lang, Site

Build = Callable[[Lookup, Frame, Request], str | Response]
API = ("/v1", "/healthz", "/readyz", "/metrics")  # paths whose errors stay machines' documents
_log = logging.getLogger("petaseal.registry")


def mount(app: FastAPI, registry: Registry, root_path: str = "") -> None:
    """Add the pages to an application, and turn what is found nowhere else into a page that says so."""
    settings = registry.settings
    site = Site(
        settings.name,
        version("petaseal"),
        registry.key.public.keyid,
        settings.accept_simulated,
        root_path,
        settings.rehearsal,
    )
    app.add_route("/", _home, include_in_schema=False)
    app.add_route("/assets/{name:path}", _asset, include_in_schema=False)
    for lang in LANGS:
        app.add_route(f"/{lang}", partial(_to, f"{root_path}/{lang}/"), include_in_schema=False)
        for path, build in ROOMS.items():
            app.add_route(f"/{lang}/{path}", _room(registry, site, build), include_in_schema=False)
    otherwise = app.router.default

    async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
        # a client of the API that mistyped a path must get JSON, not a page
        if scope["type"] != "http" or scope["path"].startswith(API):
            await otherwise(scope, receive, send)
            return
        request = Request(scope)
        request.state.code = "not-found"
        page = pages.error(_frame(request, site, registry.now), 404, "not-found")
        await HTMLResponse(page, 404, {"Vary": "Accept-Language"})(scope, receive, send)

    app.router.default = nowhere


# --- what is asked for ------------------------------------------------------------------------------------------------


def _overview(lookup: Lookup, frame: Frame, request: Request) -> str:
    return pages.overview(frame, lookup.cities(), lookup.lifecycle(), lookup.reached(), lookup.trends())


def _centres(lookup: Lookup, frame: Frame, request: Request) -> str:
    return centre_list.centres(frame, lookup.centres(), lookup.pools(), centre_list.read_ask(request.query_params))


def _centre(lookup: Lookup, frame: Frame, request: Request) -> str:
    centre_id = request.path_params["centre_id"]
    return pages.centre(frame, lookup.centre(centre_id), lookup.alarms_of(centre_id))


def _statement(lookup: Lookup, frame: Frame, request: Request) -> str:
    sha256 = request.path_params["sha256"]
    detail, stated = lookup.statement(sha256), lookup.stated(sha256)
    return pages.statement(frame, detail, stated, lookup.policies(stated))


def _envelope(lookup: Lookup, frame: Frame, request: Request) -> Response:
    return Response(lookup.envelope(request.path_params["sha256"]), media_type="application/json")


def _receipt(lookup: Lookup, frame: Frame, request: Request) -> Response:
    return Response(lookup.receipt(request.path_params["sha256"]), media_type="application/json")


def _highest_receipt(lookup: Lookup, frame: Frame, request: Request) -> Response:
    return Response(lookup.receipt(request.path_params["sha256"], "highest"), media_type="application/json")


def _alarms(lookup: Lookup, frame: Frame, request: Request) -> str:
    wanted = request.query_params.get("acknowledged", "")
    page = lookup.alarms(request.query_params.get("cursor"), ACKNOWLEDGED.get(wanted))
    return pages.alarms(frame, page.items, page.next, wanted if wanted in ACKNOWLEDGED else "")


def _alarm_groups(lookup: Lookup, frame: Frame, request: Request) -> str:
    page = lookup.alarm_groups(request.query_params.get("cursor"))
    return pages.alarm_groups(frame, page.items, page.next)


def _audit(lookup: Lookup, frame: Frame, request: Request) -> str:
    token_of_scope(request, ("platform",))
    page = lookup.audit(request.query_params.get("cursor"))
    return pages.audit(frame, page.items, page.next)


def _refused(lookup: Lookup, frame: Frame, request: Request) -> str:
    page = lookup.refused(request.query_params.get("cursor"))
    return pages.refused(frame, page.items, page.next)


def _attempts(lookup: Lookup, frame: Frame, request: Request) -> str:
    return pages.attempts(frame, lookup.attempts())


ACKNOWLEDGED = {"true": True, "false": False}  # of the question; whatever else is asked is all of them
ROOMS: dict[str, Build] = {
    "": _overview,
    "centres": _centres,
    "centres/{centre_id}": _centre,
    "statements/{sha256}": _statement,
    # the same bytes as the API's, under the path for which a browser knows its reader's token
    "statements/{sha256}/statement.dsse.json": _envelope,
    "statements/{sha256}/receipt.dsse.json": _receipt,
    "statements/{sha256}/receipt-records.dsse.json": _highest_receipt,
    "alarms": _alarms,
    "alarm-groups": _alarm_groups,
    "audit": _audit,
    "refused": _refused,
    "attempts": _attempts,
    **{f"{name}.csv": partial(download, name) for name in SHEETS},
    "reached.csv": reached,
}

# --- how it is answered -----------------------------------------------------------------------------------------------


def _room(registry: Registry, site: Site, build: Build) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(_answer, registry, site, build, request)

    return answer


def _answer(registry: Registry, site: Site, build: Build, request: Request) -> Response:
    """Return a page, or the page of what failed."""
    frame = replace(_frame(request, site, registry.now), trust=registry.trust_status())
    try:
        token = reading(request)
        with Lookup.of(registry, frame.at, token) as lookup:
            made = build(lookup, frame, request)
    except Exception as error:  # told to its reader as a page, and to the log as everywhere
        return _failed(request, frame, error)
    return HTMLResponse(made) if isinstance(made, str) else made


def _failed(request: Request, frame: Frame, error: Exception) -> Response:
    failure = failure_of(error)
    request.state.code = failure.code
    if failure.logged:
        fields = {**failure.logged, "request_id": request.state.request_id}
        _log.error("page", extra={"fields": fields})
    headers = dict(failure.headers)
    if failure.status == 401:
        # Basic, so that a browser asks for the token by itself: pages have no form and no cookie
        headers["WWW-Authenticate"] = 'Basic realm="petaseal", charset="UTF-8"'
    return HTMLResponse(pages.error(frame, failure.status, failure.code), failure.status, headers)


def _frame(request: Request, site: Site, at: str) -> Frame:
    """Return the frame of a request's page: its language and path, both taken from the address."""
    _, first, *rest = request.url.path.split("/", 2)
    query = f"?{request.url.query}" if request.url.query else ""
    if first in LANGS:
        return Frame(site, first, quote("".join(rest)), query, at)
    return Frame(site, language(request.headers.get("accept-language", "")), "", "", at)


def language(accepted: str) -> Lang:
    """Return the language that a browser likes best (RFC 9110, 12.5.4); Chinese where it likes neither."""
    liked: list[tuple[float, Lang]] = []
    for part in accepted.lower().split(","):
        tag, _, weight = part.partition(";")
        for lang in LANGS:
            if tag.strip().split("-")[0] == lang:
                liked.append((_quality(weight), lang))
    best = max(liked, key=lambda one: one[0], default=(0.0, LANGS[0]))
    return best[1] if best[0] > 0 else LANGS[0]


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


async def _home(request: Request) -> Response:
    lang = language(request.headers.get("accept-language", ""))
    return RedirectResponse(f"{request.app.state.root_path}/{lang}/", 302, {"Vary": "Accept-Language"})


async def _to(target: str, request: Request) -> Response:
    return RedirectResponse(target, 308)


async def _asset(request: Request) -> Response:
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise RefusedError("not-found", "there is no such file")
    headers = {"ETag": asset.etag}
    return not_modified(request, headers) or Response(asset.content, media_type=asset.media_type, headers=headers)
