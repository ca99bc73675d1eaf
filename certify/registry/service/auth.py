"""Who asks: the dependencies of routes. The middleware finds a token; here is decided what it is good for.

They wait for nothing, and are coroutines so that no thread is asked for each.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from bench.errors import RefusedError
from certify.registry.api import Scope
from certify.registry.service.tokens import Token

BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="A token of the registry")  # for OpenAPI alone


def reading(request: Request) -> Token | None:
    """Return the token of whoever may read: everybody where the registry is public, else all but one of metrics."""
    return _reading(request, ("reader", "operator", "platform"))


async def reader(request: Request) -> Token | None:
    """Whoever may read, see `reading`."""
    return reading(request)


async def scraper(request: Request) -> Token | None:
    """Whoever may read metrics: everybody where the registry is public, else every token."""
    return _reading(request, ("metrics", "reader", "operator", "platform"))


async def holder(request: Request, _: Annotated[object, Security(BEARER)]) -> Token:
    """Whoever has a right of their own: the platform, or the operator of some centre; see `operator_of`."""
    return _of_scope(request, ("operator", "platform"))


async def platform(request: Request, _: Annotated[object, Security(BEARER)]) -> Token:
    """The platform."""
    return _of_scope(request, ("platform",))


Reader = Annotated[Token | None, Depends(reader)]
Scraper = Annotated[Token | None, Depends(scraper)]
Holder = Annotated[Token, Depends(holder)]
Platform = Annotated[Token, Depends(platform)]


def may_see(token: Token | None, centre_id: str) -> bool:
    """Return whether a centre's nodes, records and attempts are this token's to see."""
    return token is not None and (
        token.scope == "platform" or (token.scope, token.centre_id) == ("operator", centre_id)
    )


def operator_of(token: Token | None, centre_id: str) -> None:
    """Let the platform and the operator of one centre pass.

    Raises:
        RefusedError: `token-missing`, `token-scope`, `token-centre-differs`.
    """
    if token is None:
        raise _missing()
    if token.scope not in ("operator", "platform"):
        raise _scope(token)
    if not may_see(token, centre_id):
        raise RefusedError("token-centre-differs", f"the token is of centre {token.centre_id}, not of {centre_id}")


def _reading(request: Request, scopes: tuple[Scope, ...]) -> Token | None:
    if request.app.state.registry.settings.public_read:
        return _given(request)
    return _of_scope(request, scopes)


def _of_scope(request: Request, scopes: tuple[Scope, ...]) -> Token:
    token = _given(request)
    if token is None:
        raise _missing()
    if token.scope not in scopes:
        raise _scope(token)
    return token


def _given(request: Request) -> Token | None:
    """Return the token of a request, or raise why it is not good; a bad one is not the same as none."""
    found = request.state.token
    if isinstance(found, Exception):
        raise found
    assert found is None or isinstance(found, Token)
    return found


def _missing() -> RefusedError:
    return RefusedError("token-missing", "this needs a token", fix="send it as: Authorization: Bearer ptr_...")


def _scope(token: Token) -> RefusedError:
    return RefusedError("token-scope", f"a token of scope {token.scope} is not good for this")
