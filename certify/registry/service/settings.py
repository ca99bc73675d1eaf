"""What a registry is run with: one YAML file in its folder, ``registry.yaml``, beside which everything else lies.

registry/
  registry.yaml     these settings
  registry.db       SQLite, unless `database` names a PostgreSQL server
  objects/          envelopes and records.jsonl by SHA-256
  state/            what it remembers of its trust root
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from bench.errors import InputError
from bench.record import Document, Text, parse_yaml, read_given
from certify.policy.centre import Bilingual

FILE = "registry.yaml"
_MIB = 2**20

Seconds = Annotated[int, Meta(ge=1, le=366 * 86_400)]


class Limits(Document, frozen=True, kw_only=True):
    """What one client may take."""

    requests_per_minute: Annotated[int, Meta(ge=1)] = 20_000  # of one token, or of one address without a token
    burst: Annotated[int, Meta(ge=1)] = 1_000
    submissions_per_hour: Annotated[int, Meta(ge=1)] = 600  # of one token: each costs a verification
    upload_bytes: Annotated[int, Meta(ge=2**20)] = 4096 * _MIB  # of one body, after it is unpacked
    body_idle_s: Annotated[int, Meta(ge=1, le=600)] = 30  # between two pieces of a body
    header_s: Annotated[int, Meta(ge=1, le=600)] = 20  # until a request's headers are complete
    verifying: Annotated[int, Meta(ge=1, le=64)] = 1  # statements that are verified at once, each in a process


class Settings(Document, frozen=True, kw_only=True, dict=True):
    """The content of ``registry.yaml``. Paths are relative to its folder."""

    name: Bilingual
    trust: Text  # trust-root.json; its fingerprint was given once, to `init`, and what it accepted lies in state/
    key: Text  # the registry's own, which signs receipts (role registry)
    passphrase_file: Text | None = None
    database: Text = "sqlite"  # or a URL: postgresql+psycopg://user@host/name
    policies: tuple[Text, ...] = ()  # further policy files that statements may be judged by
    profiles: tuple[Text, ...] = ()
    cities: tuple[Text, ...] = ("guangzhou-2027", "wuhan-2025")  # policies that are rolled up
    public_read: bool = True  # False: reading needs a token
    accept_simulated: bool = False  # for trying things out; simulated statements are in no sum
    stale_after_s: Seconds = 300
    challenge_s: Seconds = 30 * 86_400
    limits: Limits = Limits()


@dataclass(frozen=True)
class Place:
    """A registry's folder and its settings."""

    root: Path
    settings: Settings

    def path(self, name: str) -> Path:
        """Return a path of the settings."""
        return self.root / name

    @property
    def objects(self) -> Path:
        """Where envelopes and records lie by their SHA-256."""
        return self.root / "objects"

    @property
    def state(self) -> Path:
        """Where accepted trust roots and revocation lists are remembered."""
        return self.root / "state"

    @cached_property
    def url(self) -> str:
        """The database as SQLAlchemy names it."""
        if self.settings.database == "sqlite":
            return f"sqlite:///{self.root / 'registry.db'}"
        return str(self.settings.database)


def load_place(root: Path) -> Place:
    """Return a registry's folder.

    Raises:
        InputError: `file-missing` there is no registry, or its settings are not acceptable (`settings-invalid`).
    """
    file = root / FILE
    if not file.exists():
        fix = "make one with: petaseal registry init"
        raise InputError("file-missing", "there is no registry here", where=file, fix=fix)
    settings = parse_yaml(read_given(file, 2**20), Settings, file)
    url = settings.database
    if url != "sqlite" and not url.startswith("postgresql"):
        what = "names a database that is neither sqlite nor a postgresql URL"
        raise InputError("settings-invalid", what, where=file, fix="use postgresql+psycopg://user@host/name")
    return Place(root.resolve(), settings)
