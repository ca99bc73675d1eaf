"""What several routes take: tokens, parameters with their limits, as FastAPI documents them, and the registry.

What a token is good for is decided by `certify.registry.base.access`. Dependencies wait for nothing, and are coroutines
so that no thread is asked for each.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import HTTPBearer

from bench.record import PoolClass
from certify.registry.api.common import State
from certify.registry.base.access import reading, reading_token, token_of_scope
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
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
TextPart = Annotated[str, Path(pattern=_PLAIN, min_length=1, max_length=256)]
Centre = Annotated[str | None, Query(pattern=_NAME, description="centre id")]
# no control characters: PostgreSQL stores no NUL, and a log line ends at a line feed
Plain = Annotated[str | None, Query(pattern=_PLAIN, max_length=256)]
Class = Annotated[PoolClass | None, Query(alias="class")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="items of the page")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
Levels = Literal["trusted", "recomputed"]


class PagePosition(NamedTuple):
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None


async def page_position(limit: Limit = 50, cursor: Cursor = None) -> PagePosition:
    """Return which part of a list is asked for."""
    return PagePosition(limit, cursor)


async def wanted_statements(
    centre: Centre = None,
    project: Plain = None,
    pool_class: Class = None,
    district: Plain = None,
    state: State | None = None,
    level: Levels | None = None,
) -> WantedStatements:
    """Return which statements are asked for."""
    return WantedStatements(centre, project, pool_class, district, state, level)


async def wanted_centres(
    q: Plain = None, district: Plain = None, pool_class: Class = None, state: State | None = None
) -> WantedCentres:
    """Return which centres are asked for."""
    return WantedCentres(q, district, pool_class, state)


AskedPage = Annotated[PagePosition, Depends(page_position)]
AskedStatements = Annotated[WantedStatements, Depends(wanted_statements)]
AskedCentres = Annotated[WantedCentres, Depends(wanted_centres)]


def registry_of(request: Request) -> Registry:
    """Return the registry whose application serves a request."""
    registry = request.app.state.registry
    assert isinstance(registry, Registry)
    return registry
