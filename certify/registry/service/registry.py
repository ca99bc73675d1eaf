"""One running registry: its folder, its database, its key and its clock, and what every service writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from bench.record import read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Level, Receipt, make_document
from certify.keys.loading import load_signing_key
from certify.keys.signers import PrivateKey
from certify.registry.intake.verifying import Verifier
from certify.registry.service.settings import Place, Settings, load_place
from certify.registry.storage import tables
from certify.registry.storage.migrations import migrate
from certify.registry.storage.store import Store
from certify.trust.store import Accepted, accept_files


@dataclass(frozen=True)
class Registry:
    """What every service works with. Times come from `now` alone."""

    place: Place
    store: Store
    key: PrivateKey  # signs receipts
    verifier: Verifier
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
        file = self.place.path(self.settings.trust)
        return accept_files((file,), self.now, self.place.state)

    def receipt(self, payload_sha256: str, centre_id: str, at: str, code: str | None, level: Level | None) -> bytes:
        """Return the signed receipt of a decision."""
        decision = Receipt(
            centre_id=centre_id,
            received_at=at,
            decision="accepted" if code is None else "refused",
            code=code,
            level=level if code is None else None,
        )
        return seal(make_document("receipt", decision, payload_sha256), PAYLOAD_TYPE, [self.key])

    def close(self) -> None:
        """End its processes and close its connections."""
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
    store = Store(place.url, place.objects)
    migrate(store)
    return Registry(place, store, key, Verifier(settings.limits.verifying), clock_ns)


def project_key(project_id: str | None) -> str:
    """Return a project as the tables hold it."""
    return project_id or ""


def record_change(
    connection: Connection, now: str, kind: str, centre_id: str, project_id: str, statement: str | None = None
) -> None:
    """Tell the followers of the feed that something of a chain changed."""
    row = {"at": now, "kind": kind, "centre_id": centre_id, "project_id": project_id, "statement": statement}
    connection.execute(tables.changes.insert(), row)


def audit(
    connection: Connection, now: str, token_id: int | None, action: str, target: str, outcome: str, request_id: str
) -> None:
    """Write who did what with the registry itself."""
    row = {
        "at": now,
        "token_id": token_id,
        "action": action,
        "target": target,
        "outcome": outcome,
        "request_id": request_id,
    }
    connection.execute(tables.audit.insert(), row)
