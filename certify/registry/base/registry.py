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

from msgspec import Meta, field

from bench.errors import InputError
from bench.record import Document, Text, parse_yaml, read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Level, Receipt, make_document
from certify.keys.loading import load_signing_key
from certify.keys.signers import PrivateKey
from certify.policy.centre import Bilingual
from certify.registry.api.common import TrustStatus
from certify.registry.base.pool import VerificationPool
from certify.registry.base.rehearsal import settle_kind
from certify.registry.base.trusting import TrustCache, not_current, trust_status
from certify.registry.storage.opening import open_database
from certify.registry.storage.store import Store
from certify.trust.root import Root
from certify.trust.store import Accepted

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
    # by city policy: the centres that are missing there until they submit; else all with an operator in the trust root
    expected: dict[Text, tuple[Text, ...]] = field(default_factory=dict)
    closed: tuple[Text, ...] = ()  # centres that are expected nowhere any more
    public_read: bool = True  # False: reading needs a token
    accept_simulated: bool = False  # for trying things out; simulated statements are in no sum
    rehearsal: bool = False  # simulated statements alone, which add up: proves nothing; fixed by the first opening
    stale_after_s: Seconds = 300
    trust_grace_s: Annotated[int, Meta(ge=0, le=366 * 86_400)] = 30 * 86_400  # after the trust root has expired
    challenge_s: Seconds = 30 * 86_400
    refused_days: Annotated[int, Meta(ge=1, le=36_600)] = 90  # bodies of refused submissions are dropped after that,
    refused_bytes: Annotated[int, Meta(ge=0)] = 10 * 2**30  # and the oldest of them beyond so much
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
    if unknown := sorted(set(settings.expected) - set(settings.cities)):
        what, fix = f"expects centres of {unknown[0]}, which is no city here", "name one of `cities`, or leave it out"
        raise InputError("settings-invalid", what, where=file, fix=fix)
    return RegistryFolder(root.resolve(), settings)


@dataclass(frozen=True)
class Registry:
    """A running registry: its folder, database, signing key and verifying processes. All times come from `now`."""

    place: RegistryFolder
    store: Store
    key: PrivateKey  # signs receipts
    verifier: VerificationPool
    trust_cache: TrustCache
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
        """Return what new claims are judged by: the trust root's file as it is now, and the newest revocation list.

        Raises:
            InputError: `trust-not-current`, the file is missing, refused or expired.
        """
        look = self.trust_cache.look(self.now)
        if look.accepted is None:
            raise not_current(look)
        return look.accepted

    def last_trust(self) -> Accepted:
        """Return what is trusted of those that were taken in before: the newest version that was ever accepted.

        It holds for `trust_grace_s` after it expired, and while a bad file lies in the place of its successor. What was
        revoked is revoked in it too.

        Raises:
            InputError: `trust-not-current`, there is none, or its grace is over.
        """
        now = self.now
        look = self.trust_cache.look(now)
        grace_until = look.grace_until(self.settings.trust_grace_s)
        if look.last is None or grace_until is None or now >= grace_until:
            raise not_current(look)
        return look.last

    def newest_root(self) -> Root | None:
        """Return the newest trust root that was ever accepted, good or not: for what is said of it and not judged."""
        last = self.trust_cache.look(self.now).last
        return None if last is None else last.root

    def trust_status(self) -> TrustStatus:
        """Return how it stands with the trust root; it never fails for what lies in its file."""
        now = self.now
        return trust_status(self.trust_cache.look(now), now, self.settings.trust_grace_s)

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


def open_registry(root: Path, clock_ns: Callable[[], int] = time.time_ns, *, reading: bool = False) -> Registry:
    """Return the registry of a folder, with its database brought to this version.

    Args:
        root: the folder.
        clock_ns: the present, in ns since 1970.
        reading: whether nothing is going to be stored: then a folder that cannot be written will do.

    Raises:
        InputError, RefusedError: with the code of the first fault of its settings, key or database.
    """
    place = load_place(root)
    settings = place.settings
    passphrase = None if settings.passphrase_file is None else place.path(settings.passphrase_file)
    key = load_signing_key(place.path(settings.key), passphrase)
    trust_cache = TrustCache(place.path(settings.trust), place.state)
    try:
        read_given(place.path(settings.trust), CAPS.trust_chain_bytes)
    except InputError:
        # a missing root is reported now, and not at the first statement; in its grace a restart is not refused
        if trust_cache.look(utc_text(clock_ns())).last is None:
            raise
    # opened last, so that a wrong key or a missing root leaves no connection behind
    store = open_database(place.url, place.objects, place.root / FILE, reading=reading)
    if not reading:
        try:
            settle_kind(store, settings.rehearsal, utc_text(clock_ns()), place.root / FILE)
        except InputError:
            store.close()
            raise
    return Registry(place, store, key, VerificationPool(settings.limits.verifying), trust_cache, clock_ns)
