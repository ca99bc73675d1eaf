"""What a token is good for: who may read, who may see what a centre keeps to itself, and who may submit for it.

The middleware finds a request's token (`certify.registry.service.middleware`); nothing here looks at a database.
"""

from __future__ import annotations

from fastapi import Request

from bench.errors import RefusedError
from certify.registry.api.common import Scope
from certify.registry.base.tokens import Token


def reading(request: Request) -> Token | None:
    """Return the token of a request that reads: any or none where the registry is public, else not one of metrics."""
    return reading_token(request, ("reader", "operator", "platform"))


def may_see(token: Token | None, centre_id: str) -> bool:
    """Return whether a centre's nodes, records and attempts are this token's to see."""
    # a reader's token sees what the public sees, and a scraper's only metrics: neither names a centre
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


def reading_token(request: Request, scopes: tuple[Scope, ...]) -> Token | None:
    """Return the token of a request that reads; where the registry is public, none is needed.

    Raises:
        RefusedError: `token-missing`, `token-scope`, or what is wrong with the token.
    """
    if request.app.state.registry.settings.public_read:
        return _given(request)
    return token_of_scope(request, scopes)


def token_of_scope(request: Request, scopes: tuple[Scope, ...]) -> Token:
    """Return the token of a request, which must be of one of these scopes.

    Raises:
        RefusedError: `token-missing`, `token-scope`, or what is wrong with the token.
    """
    token = _given(request)
    if token is None:
        raise _missing()
    if token.scope not in scopes:
        raise _scope(token)
    return token


def _given(request: Request) -> Token | None:
    """Return the token of a request, or raise why it is not good; a bad one is not the same as none."""
    token = request.state.token
    # a wrong token is refused even where none is needed: its holder should learn of it
    if isinstance(token, Exception):
        raise token
    assert token is None or isinstance(token, Token)
    return token


def _missing() -> RefusedError:
    return RefusedError("token-missing", "this needs a token", fix="send it as: Authorization: Bearer ptr_...")


def _scope(token: Token) -> RefusedError:
    return RefusedError("token-scope", f"a token of scope {token.scope} is not good for this")


def check_token(token: Token, centre_id: str | None) -> None:
    """Refuse what a token may not speak for; nothing is then stored.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`.
    """
    if token.scope not in ("operator", "platform"):
        raise RefusedError("token-scope", f"a token of the scope {token.scope} submits nothing")
    # one centre's operator must not file a statement, or burn a challenge, in the name of another
    if token.scope == "operator" and centre_id is not None and centre_id != token.centre_id:
        what = f"the token is of the centre {token.centre_id}, and what it submits of {centre_id}"
        raise RefusedError("token-centre-differs", what)
