"""Tokens: shown once, stored as a hash, good for one scope and centre until they expire, are rotated or revoked."""

from __future__ import annotations

import hashlib
import re

import pytest
from sqlalchemy import select

from bench.errors import InputError
from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.api.common import Scope
from certify.registry.base import tokens
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.storage import tables
from tests.certify.registry.laid import CENTRE

NOW = "2026-03-01T00:00:00.000000Z"


def later(days: int, microseconds: int = 0) -> str:
    return utc_text(utc_ns(NOW) + days * DAY_NS + microseconds * 1000)


def test_a_token_is_found_by_its_secret_and_by_nothing_else(registry: Registry) -> None:
    with registry.store.writing() as connection:
        made, secret = tokens.create_token(connection, "push", "operator", CENTRE, NOW, 30)
        other, _ = tokens.create_token(connection, "other", "platform", None, NOW, 30)
    with registry.store.reading() as connection:
        assert tokens.find_token(connection, secret, NOW) == made
        for wrong in ("", "ptr_", secret[:-1], secret + "A", secret.upper(), secret.removeprefix("ptr_"), "x" * 10**6):
            assert tokens.find_token(connection, wrong, NOW) is None
        assert tokens.find_token(connection, hashlib.sha256(secret.encode()).hexdigest(), NOW) is None
    assert made == Token(made.id, "push", "operator", CENTRE, later(30))
    assert other.id != made.id


def test_a_secret_has_256_random_bits_and_only_its_hash_is_stored(registry: Registry) -> None:
    with registry.store.writing() as connection:
        secrets = [tokens.create_token(connection, "many", "reader", None, NOW, 1)[1] for _ in range(20)]
        rows = connection.execute(select(tables.tokens)).all()
    assert len(set(secrets)) == 20
    assert all(re.fullmatch(r"ptr_[\w-]{43}", secret) for secret in secrets)  # 43 characters of 6 bits
    assert {row.secret_sha256 for row in rows} == {hashlib.sha256(s.encode()).hexdigest() for s in secrets}
    assert not any(secret in str(row) for secret in secrets for row in rows)


def test_a_token_expires_to_the_microsecond(registry: Registry) -> None:
    with registry.store.writing() as connection:
        made, secret = tokens.create_token(connection, "short", "metrics", None, NOW, 1)
        assert made.expires_at == later(1)
        assert tokens.find_token(connection, secret, later(1, -1)) == made
        assert tokens.find_token(connection, secret, later(1)) is None


def test_a_revoked_token_is_gone_and_stays_listed(registry: Registry) -> None:
    with registry.store.writing() as connection:
        made, secret = tokens.create_token(connection, "gone", "platform", None, NOW, 30)
        tokens.revoke_token(connection, made.id, later(1))
        tokens.revoke_token(connection, made.id, later(2))  # again changes nothing
        assert tokens.find_token(connection, secret, later(1)) is None
        assert tokens.list_tokens(connection) == [tokens.TokenLine(made, NOW, later(1))]


def test_rotation_ends_the_old_secret_at_once_and_keeps_what_it_is_good_for(registry: Registry) -> None:
    with registry.store.writing() as connection:
        old, old_secret = tokens.create_token(connection, "push", "operator", CENTRE, NOW, 30)
        new, new_secret = tokens.rotate_token(connection, old.id, later(1), 60)
        assert tokens.find_token(connection, old_secret, later(1)) is None
        assert tokens.find_token(connection, new_secret, later(1)) == new
        assert (new.name, new.scope, new.centre_id, new.expires_at) == ("push", "operator", CENTRE, later(61))
        assert [line.revoked_at for line in tokens.list_tokens(connection)] == [later(1), None]
        with pytest.raises(InputError) as caught:
            tokens.rotate_token(connection, old.id, later(2), 60)
    assert caught.value.code == "token-revoked"


@pytest.mark.parametrize(
    ("scope", "centre_id", "days", "code"),
    [
        ("operator", None, 30, "token-centre"),
        ("platform", CENTRE, 30, "token-centre"),
        ("reader", CENTRE, 30, "token-centre"),
        ("reader", None, 0, "time-invalid"),
        ("reader", None, 10**6, "time-invalid"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_no_token_can_be(registry: Registry, scope: Scope, centre_id: str | None, days: int, code: str) -> None:
    with registry.store.writing() as connection, pytest.raises(InputError) as caught:
        tokens.create_token(connection, "wrong", scope, centre_id, NOW, days)
    assert caught.value.code == code


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_token_that_there_is_not(registry: Registry) -> None:
    with registry.store.writing() as connection:
        for change in (tokens.revoke_token, lambda c, i, now: tokens.rotate_token(c, i, now, 1)):
            with pytest.raises(InputError) as caught:
                change(connection, 77, NOW)
            assert caught.value.code == "token-unknown"
