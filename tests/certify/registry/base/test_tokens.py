"""Tokens: shown once, stored as a hash, good for one scope and centre until they expire, are rotated or revoked."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import pytest
from sqlalchemy import select

from bench.errors import InputError
from bench.record import write_atomic
from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.api.common import Scope
from certify.registry.base import token_table, tokens
from certify.registry.base.registry import Registry
from certify.registry.base.token_table import create_tokens, read_tokens
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


def table(folder: Path, *rows: str, heading: str = "name,scope,centre,days") -> Path:
    file = folder / "tokens.csv"
    file.write_text("\n".join([heading, *rows]) + "\n", "utf-8-sig")
    return file


def test_tokens_of_a_table_are_made_together(registry: Registry, tmp_path: Path) -> None:
    rows = [f"算力中心 {i},operator,gz-{i:03d},{'30' if i % 2 else ''}" for i in range(300)]
    wanted = read_tokens(table(tmp_path, *rows, "", "platform,platform,,"), 366)
    made = create_tokens(registry.store, wanted, NOW, tmp_path / "out" / "tokens")
    assert len(made) == 301
    assert stat.S_IMODE((tmp_path / "out" / "tokens").stat().st_mode) == 0o700
    files = sorted((tmp_path / "out" / "tokens").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert files == sorted(path for _, path in made)
    with registry.store.reading() as connection:
        assert len(tokens.list_tokens(connection)) == 301
        for token, path in made[::50]:
            assert tokens.find_token(connection, path.read_text().strip(), NOW) == token
    assert [made[0][0].expires_at, made[1][0].expires_at] == [later(366), later(30)]
    assert (made[0][0].name, made[0][0].centre_id, made[-1][0].scope) == ("算力中心 0", "gz-000", "platform")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x,king,,", "row 4: the scope 'king' is none of"),
        ("x,operator,,", "row 4: a token of scope operator needs a centre"),
        ("x,reader,gz-1,", "row 4: a token of scope reader is of no centre"),
        ("x,operator,GZ 1,", "row 4: 'GZ 1' is not a name of a centre"),
        ("x,reader,,0", "row 4: the days '0' are no number"),
        ("x,reader", "row 4: has 2 values, and not 4"),
        (",reader,,", "row 4: has no name"),
        ("a,operator,gz-1,5", "row 4: is the same token as that of row 2"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_row_at_fault_makes_no_token(registry: Registry, tmp_path: Path, row: str, said: str) -> None:
    file = table(tmp_path, "a,operator,gz-1,", "b,operator,gz-2,", row)
    with pytest.raises(InputError) as caught:
        create_tokens(registry.store, read_tokens(file, 366), NOW, tmp_path / "tokens")
    assert (caught.value.code, said in str(caught.value)) == ("table-invalid", True), str(caught.value)
    assert not (tmp_path / "tokens").exists()
    with registry.store.reading() as connection:
        assert tokens.list_tokens(connection) == []


@pytest.mark.parametrize("heading", ["name,scope", "name,scope,centre,secret", "name,name,scope,centre", ""])
def test_a_table_of_other_columns_is_refused(tmp_path: Path, heading: str) -> None:
    with pytest.raises(InputError, match="table-invalid"):
        read_tokens(table(tmp_path, "a,operator,gz-1,", heading=heading), 366)


def test_where_a_file_cannot_be_written_no_token_is_made(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = read_tokens(table(tmp_path, *(f"n{i},operator,gz-{i}," for i in range(5))), 366)
    written = []

    def full(path: Path, content: bytes, mode: int, *, new: bool) -> None:
        written.append(path)
        if len(written) == 4:
            raise InputError("output-not-writable", "the disk is full", where=path)
        write_atomic(path, content, mode, new=new)

    monkeypatch.setattr(token_table, "write_atomic", full)
    with pytest.raises(InputError, match="disk is full"):
        create_tokens(registry.store, wanted, NOW, tmp_path / "new" / "tokens")
    assert list((tmp_path / "new").iterdir()) == []
    with registry.store.reading() as connection:
        assert tokens.list_tokens(connection) == []
    (tmp_path / "new" / "tokens").mkdir()
    with pytest.raises(InputError, match="output-exists"):
        create_tokens(registry.store, wanted, NOW, tmp_path / "new" / "tokens")
