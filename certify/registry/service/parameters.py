"""What several routes take: tokens, parameters with their limits, as FastAPI documents them, and the registry.

What a token is good for is decided by `certify.registry.base.access`. Dependencies wait for nothing, and are coroutines
so that no thread is asked for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, Path, Query, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from bench.errors import RefusedError, one_line
from bench.record import PoolClass, Precision
from certify.registry.api.common import State
from certify.registry.base.access import reading, reading_token, token_of_scope
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.service.examples import VALUES
from certify.registry.state.feed import PoolFilter
from certify.registry.state.listing import WantedCentres, WantedStatements

BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="A token of the registry")  # for OpenAPI alone


async def reader(request: Request) -> Token | None:
    """Whoever may read, see `reading`."""
    return reading(request)


async def scraper(request: Request) -> Token | None:
    """Whoever may read metrics: everybody where the registry is public, else every token."""
    return reading_token(request, ("metrics", "reader", "operator", "platform"))


async def holder(request: Request, _: Annotated[object, Security(BEARER)]) -> Token:
    """Whoever has a right of their own: the platform, or the operator of some centre; see `operator_of`."""
    return token_of_scope(request, ("operator", "platform"))


async def platform(request: Request, _: Annotated[object, Security(BEARER)]) -> Token:
    """The platform."""
    return token_of_scope(request, ("platform",))


Reader = Annotated[Token | None, Depends(reader)]
Scraper = Annotated[Token | None, Depends(scraper)]
Holder = Annotated[Token, Depends(holder)]
Platform = Annotated[Token, Depends(platform)]


MOST = 500  # items of a page
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_PLAIN = r"^[^\x00-\x1f]*$"

NamePart = Annotated[str, Path(pattern=_NAME)]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256, lower-case hex")]
AlarmNumber = Annotated[int, Path(ge=1, le=2**53, description="number of an alarm")]
TextPart = Annotated[str, Path(pattern=_PLAIN, min_length=1, max_length=256)]
Centre = Annotated[str | None, Query(pattern=_NAME, description="centre id")]
Kind = Annotated[str | None, Query(pattern=_NAME, description="kind of what was submitted")]
# no control characters: PostgreSQL stores no NUL, and a log line ends at a line feed
Plain = Annotated[str | None, Query(pattern=_PLAIN, max_length=256)]
Jurisdiction = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,6})?$",
        description="code of a place, or the beginning of one: CN-440100 is the whole city, CN-44 the whole province",
    ),
]
_NAMED = "as drivers name it; case, width and spaces do not matter; * at the end stands for any ending"
Vendor = Annotated[str | None, Query(pattern=_PLAIN, max_length=256, description=f"vendor of devices, {_NAMED}")]
Model = Annotated[str | None, Query(pattern=_PLAIN, max_length=256, description=f"model of devices, {_NAMED}")]
Class = Annotated[PoolClass | None, Query(alias="class")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="items of the page")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the answer before; left out at first")]
Format = Annotated[Literal["json", "csv"] | None, Query(description="of the answer; goes before the Accept header")]
Levels = Literal["trusted", "recomputed"]


# What parameters mean whose declaration does not say it, by their names.
DESCRIPTIONS = {
    "acknowledged": "only alarms that the platform acknowledged, or only those that it did not",
    "action": "what was done, as lines of the audit log name it",
    "by": "what the alarms of a group have in common",
    "centre_id": "centre id",
    "class": "class of pools",
    "code": "reason code",
    "decision": "only what was accepted, or only what was refused",
    "device": "uuid, serial or die id of a device",
    "district": "district, as statements write it",
    "level": "level that the registry reached in verifying",
    "node_id": "node id",
    "outcome": "done, accepted, repeated or a reason code",
    "policy": "name of a policy",
    "precision": "precision that counts",
    "project": "project id",
    "q": "text in the id, a name or the operator of a centre",
    "scheme": "scheme of an identifier that was issued elsewhere",
    "state": "state of pools",
    "value": "the identifier, as it was issued",
    "which": "the first receipt, which dates a statement, or that of the highest level",
}


class PagePosition(NamedTuple):
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None


async def page_position(limit: Limit = 50, cursor: Cursor = None) -> PagePosition:
    """Return which part of a list is asked for."""
    return PagePosition(limit, cursor)


class DevicesFilter(NamedTuple):
    """Where devices are, and what they are. None: all."""

    jurisdiction: str | None
    vendor: str | None
    model: str | None


async def wanted_devices(
    jurisdiction: Jurisdiction = None, vendor: Vendor = None, model: Model = None
) -> DevicesFilter:
    """Return which devices are asked for."""
    return DevicesFilter(jurisdiction, vendor, model)


AskedDevices = Annotated[DevicesFilter, Depends(wanted_devices)]


async def wanted_statements(
    devices: AskedDevices,
    centre: Centre = None,
    project: Plain = None,
    pool_class: Class = None,
    district: Plain = None,
    state: State | None = None,
    level: Levels | None = None,
) -> WantedStatements:
    """Return which statements are asked for."""
    return WantedStatements(centre, project, pool_class, district, state, level, *devices)


async def wanted_centres(
    devices: AskedDevices,
    q: Plain = None,
    district: Plain = None,
    pool_class: Class = None,
    state: State | None = None,
) -> WantedCentres:
    """Return which centres are asked for."""
    return WantedCentres(q, district, pool_class, state, *devices)


async def wanted_pools(
    devices: AskedDevices,
    centre: Centre = None,
    district: Plain = None,
    pool_class: Class = None,
    precision: Precision | None = None,
    state: State | None = None,
) -> PoolFilter:
    """Return which pools are asked for."""
    return PoolFilter(centre, district, pool_class, precision, state, *devices)


AskedPage = Annotated[PagePosition, Depends(page_position)]
AskedStatements = Annotated[WantedStatements, Depends(wanted_statements)]
AskedPools = Annotated[PoolFilter, Depends(wanted_pools)]
AskedCentres = Annotated[WantedCentres, Depends(wanted_centres)]


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for further in dependant.dependencies:
        yield from _query_names(further)


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that a route does not take, and those that stand there twice.

    A filter that is misspelt would else answer with everything. Pages ask for none of this: links to them grow tails.

    Raises:
        RefusedError: `request-invalid`.
    """
    if not request.scope["query_string"]:
        return
    route, seen = request.scope["route"], set()
    assert isinstance(route, APIRoute)
    declared = frozenset(_query_names(route.dependant))
    for name, _ in request.query_params.multi_items():
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            what = f"takes no query parameter {one_line(name, 64)}"
            raise RefusedError("request-invalid", what, where="query", fix=f"it takes: {known}")
        if name in seen:
            raise RefusedError("request-invalid", f"takes {name} once", where="query")
        seen.add(name)


STRICT = [Depends(known_parameters)]  # of every route of the API


def registry_of(request: Request) -> Registry:
    """Return the registry whose application serves a request."""
    registry = request.app.state.registry
    assert isinstance(registry, Registry)
    return registry


def describe_parameter(parameter: dict[str, Any]) -> None:
    """Add a description and an example to a parameter in the OpenAPI document, where its declaration has none."""
    name, form = parameter["name"], parameter["schema"]
    parameter.setdefault("description", DESCRIPTIONS.get(name, name.replace("_", " ")))
    pattern = next((one["pattern"] for one in (form, *form.get("anyOf", ())) if "pattern" in one), "")
    if pattern == "" and name in ("cursor", "since"):
        return  # only the registry itself makes one: any example would be refused
    allowed = [value for one in (form, *form.get("anyOf", ())) for value in one.get("enum", ())]
    for value in VALUES.get(name, ()):
        if value is not None and (not allowed or value in allowed):
            parameter["example"] = value
            return
