"""One running registry: its folder and settings, its database, its key and its clock, and what every service writes.

registry/
  registry.yaml     the settings
  registry.db       SQLite, unless `database` names a PostgreSQL server
  objects/          envelopes and records.jsonl by SHA-256
  state/            what it remembers of its trust root
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from bench.errors import InputError
from bench.record import Document, Text, parse_yaml, read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Level, Receipt, make_document
from certify.keys.loading import load_signing_key
from certify.keys.signers import PrivateKey
from certify.policy.centre import Bilingual
from certify.registry.base.verifying import VerificationPool
from certify.registry.storage.migrations import migrate
from certify.registry.storage.store import Store
from certify.trust.store import Accepted, accept_files

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
class RegistryFolder:
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


def load_place(root: Path) -> RegistryFolder:
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
    return RegistryFolder(root.resolve(), settings)


@dataclass(frozen=True)
class Registry:
    """A running registry: its folder, database, signing key and verifying processes. All times come from `now`."""

    place: RegistryFolder
    store: Store
    key: PrivateKey  # signs receipts
    verifier: VerificationPool
    clock_ns: Callable[[], int] = time.time_ns

    @property
    def settings(self) -> Settings:
        """The content of ``registry.yaml``."""
        return self.place.settings

    @property
    def now(self) -> str:
        """The present, in the form of `UtcTime`."""
        return utc_text(self.clock_ns())

    def trust(self) -> Accepted:
        """Return what is trusted now: the root's file as it is today, and the newest revocation list.

        Raises:
            RefusedError, InputError: the root is refused, expired or cannot be read (`certify.trust.store`).
        """
        # read anew for each use: a key that was revoked a moment ago must not count for the next statement
        file = self.place.path(self.settings.trust)
        return accept_files((file,), self.now, self.place.state)

    def receipt(self, payload_sha256: str, centre_id: str, at: str, code: str | None, level: Level | None) -> bytes:
        """Return the signed receipt of a decision."""
        decision = Receipt(
            centre_id=centre_id,
            received_at=at,
            decision="accepted" if code is None else "refused",
            code=code,
            # a refusal reached no level, and its receipt must not seem to grant one
            level=level if code is None else None,
        )
        return seal(make_document("receipt", decision, payload_sha256), PAYLOAD_TYPE, [self.key])

    def close(self) -> None:
        """End its processes and close its connections."""
        # processes first: one that still verifies reads objects of the store
        self.verifier.close()
        self.store.close()


def open_registry(root: Path, clock_ns: Callable[[], int] = time.time_ns) -> Registry:
    """Return the registry of a folder, with its database brought to this version.

    Raises:
        InputError, RefusedError: with the code of the first fault of its settings, key or database.
    """
    place = load_place(root)
    settings = place.settings
    passphrase = None if settings.passphrase_file is None else place.path(settings.passphrase_file)
    key = load_signing_key(place.path(settings.key), passphrase)
    read_given(place.path(settings.trust), CAPS.trust_bytes)  # a missing root is told now, not at the first statement
    # opened last, so that a wrong key or a missing root leaves no connection behind
    store = Store(place.url, place.objects)
    migrate(store)
    return Registry(place, store, key, VerificationPool(settings.limits.verifying), clock_ns)
