"""The tables of every release by the digest that documents bind: ratings, policies and profiles (ADR 19).

``configs/released`` keeps each table that a release shipped: its canonical JSON, in a file named after the SHA-256 of
its bytes, and an index. A statement is recomputed with the tables that it binds; a new one is made with the current
tables alone. A field that a later version gives to a table's type has the default ``msgspec.UNSET``: it is left out
of the canonical JSON, so that an earlier table keeps its digest. Only looking up and reading may enter this room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from bench.errors import InputError
from bench.record import (
    Document,
    Name,
    Profile,
    Sha256,
    Text,
    config_names,
    config_path,
    digest,
    encode,
    read_bytes,
    read_profile,
    read_yaml,
)
from bench.record.fields import in_words
from certify.policy.policies import Policy, altered, is_altered, read_policy
from certify.policy.ratings import TABLE_MAX_BYTES, Ratings, decode_ratings, installed_ratings, load_ratings

T = TypeVar("T", Policy, Profile)
Kind = Literal["ratings", "policy", "profile"]
FOLDERS: dict[Kind, str] = {"policy": "policies", "profile": "profiles"}
RATINGS = "accelerators"  # the name of the one table of ratings


class Table(Document, frozen=True, kw_only=True):
    """One line of the index: a table, the first release that shipped it, and why it was withdrawn, if it was."""

    release: Text
    kind: Kind
    name: Name
    sha256: Sha256
    withdrawn: Text | None = None


class Current(NamedTuple):
    """A rating table, policy or profile as it is installed now."""

    kind: Kind
    name: str
    content: bytes  # canonical JSON

    @property
    def sha256(self) -> str:
        """The digest that documents bind."""
        return hashlib.sha256(self.content).hexdigest()


class _Index(Document, frozen=True, kw_only=True):
    tables: tuple[Table, ...]


def table_path(sha256: str) -> Path:
    """Return the file of a released table."""
    return config_path("released", f"{sha256}.json")


def index_path() -> Path:
    """Return the index of the released tables."""
    return config_path("released", "index.yaml")


@cache
def index() -> dict[str, Table]:
    """Return the tables of every release, by digest, in the order in which they were released.

    Raises:
        InputError: the index is not acceptable.
    """
    listed = read_yaml(index_path(), _Index).tables
    tables = {table.sha256: table for table in listed}
    if len(tables) != len(listed):
        raise InputError("config-invalid", "lists a table twice", where=index_path())
    return tables


def current() -> Iterator[Current]:
    """Yield the tables that are installed now."""
    for kind in get_args(Kind):
        for name in _installed_names(kind):
            yield _installed(kind, name)


def policy_of(sha256: str, files: Sequence[str] = ()) -> Policy | None:
    """Return the policy of a digest: from the files given, else a released or installed one; None if none has it.

    Raises:
        InputError: a file that was given, or the released table, is not acceptable.
    """
    given = {digest(policy): policy for policy in map(given_policy, files)}
    return given[sha256] if sha256 in given else _read(sha256, "policy", Policy)


def given_policy(file: str) -> Policy:
    """Return a policy that the user gave; under an installed policy's name it is that one, or an earlier release's.

    Raises:
        InputError: it is not acceptable, or was altered.
    """
    policy = read_policy(file)
    # a name that a release used means its tables, and nothing that a user writes
    released = {table.name for table in index().values() if table.kind == "policy"}
    if (is_altered(policy) or policy.policy in released) and not is_ours(digest(policy)):
        raise altered(policy, file)
    return policy


def profile_of(sha256: str, files: Sequence[str] = ()) -> Profile | None:
    """Return the profile of a digest: from the files given, else a released or installed one; None if none has it.

    Raises:
        InputError: a file that was given, or the released table, is not acceptable.
    """
    given = {digest(profile): profile for profile in (read_profile(file) for file in files)}
    return given[sha256] if sha256 in given else _read(sha256, "profile", Profile)


def ratings_of(sha256: str, files: Sequence[str] = ()) -> Ratings | None:
    """Return the ratings of a digest: from the files given, else released or installed ones; None if none have it.

    Raises:
        InputError: a file that was given, or the released table, is not acceptable.
    """
    for ratings in [load_ratings(Path(file)) for file in files]:
        if ratings.digest == sha256:
            return ratings
    return _released_ratings(sha256)


def is_ours(sha256: str) -> bool:
    """Return whether a table is petaseal's, of any release or installed now."""
    return sha256 in index() or any(table.sha256 == sha256 for table in current())


def earlier(sha256s: Iterable[str]) -> tuple[Table, ...]:
    """Return those of some tables that a release shipped and that are not installed now."""
    listed = [index()[sha256] for sha256 in sha256s if sha256 in index()]
    return tuple(table for table in listed if not _is_installed(table))


def withdrawn(sha256s: Iterable[str]) -> tuple[Table, ...]:
    """Return those of some tables that were withdrawn, because a hole in them was closed."""
    return tuple(table for sha256 in sha256s if (table := index().get(sha256)) and table.withdrawn is not None)


def _installed_names(kind: Kind) -> list[str]:
    return config_names(FOLDERS[kind]) if kind in FOLDERS else [RATINGS]


def _installed(kind: Kind, name: str) -> Current:
    if kind == "ratings":
        return Current(kind, name, installed_ratings().content)
    return Current(kind, name, encode(read_policy(name) if kind == "policy" else read_profile(name)))


def _is_installed(table: Table) -> bool:
    return table.name in _installed_names(table.kind) and _installed(table.kind, str(table.name)).sha256 == table.sha256


def _read(sha256: str, kind: Kind, of: type[T]) -> T | None:
    content = _content(sha256, kind)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=of)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("config-invalid", in_words(error), where=table_path(sha256)) from None


@cache
def _released_ratings(sha256: str) -> Ratings | None:
    content = _content(sha256, "ratings")
    return None if content is None else decode_ratings(content, table_path(sha256))


def _content(sha256: str, kind: Kind) -> bytes | None:
    """Return the canonical JSON of a table, released or installed; None where there is none of that kind.

    Raises:
        InputError: `table-altered`: a released table is not what its name says.
    """
    table = index().get(sha256)
    if table is None:  # between releases
        return next((one.content for one in current() if (one.kind, one.sha256) == (kind, sha256)), None)
    if table.kind != kind:
        return None
    content = read_bytes(table_path(sha256), TABLE_MAX_BYTES)
    # the folder of an installation is writable by whoever installed it
    if hashlib.sha256(content).hexdigest() != sha256:
        what = "holds other bytes than its name says"
        raise InputError("table-altered", what, where=table_path(sha256), fix="install petaseal again")
    return content
