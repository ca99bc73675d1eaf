"""Data for pages, by the same functions as the API's routes, all in one snapshot.

A page shows what anybody may see; sentences of decisions, which may name devices, to those alone whose they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy
from certify.policy.released import given_policy
from certify.registry.api.common import Page
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreDetail,
    CentreSummary,
    City,
    Decision,
    Lifecycle,
    PoolCapacity,
    StatementDetail,
)
from certify.registry.base.access import may_see
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.state import attempts, cache, queries
from certify.registry.state.cache import reader_of
from certify.registry.state.model import Snapshot
from certify.statement.claim import known_policies

LINES = 100  # of a list on a page
ATTEMPTS = 1000


@dataclass(frozen=True, eq=False)
class Lookup:
    """Everything that the pages read of a registry, in one snapshot of its database."""

    registry: Registry
    connection: Connection
    at: str
    token: Token | None

    @classmethod
    @contextlib.contextmanager
    def of(cls, registry: Registry, at: str, token: Token | None) -> Iterator[Lookup]:
        """Yield a lookup in one snapshot of the registry."""
        with registry.store.reading() as connection:
            yield cls(registry, connection, at, token)

    @property
    def snapshot(self) -> Snapshot:
        """The state of all centres at the time `at`."""
        return reader_of(self.registry.store).present(self.connection, self.at, self.registry.settings.stale_after_s)

    def cities(self) -> tuple[City, ...]:
        """Return the roll-up of each city."""
        named = cache.city_policies(self.registry.place).values()
        return tuple(cache.city_of(policy, self.snapshot, self.at) for policy in named)

    def lifecycle(self) -> Lifecycle:
        """Return the sums of capacity by life-cycle state."""
        return cache.lifecycle_of(self.registry.store, self.connection, self.snapshot, self.at)

    def policies(self, stated: CapacityStatement) -> dict[str, Policy]:
        """Return the policies that a statement binds, as far as the registry holds them, by name."""
        place = self.registry.place
        given = [given_policy(str(place.path(name))) for name in place.settings.policies]
        return {policy.policy: policy for policy in known_policies(stated, given)}

    def centres(self) -> tuple[CentreSummary, ...]:
        """Return a summary of every centre."""
        return tuple(self.snapshot.centres.values())

    def pools(self) -> tuple[PoolCapacity, ...]:
        """Return the present capacity of every pool."""
        return self.snapshot.pools

    def centre(self, centre_id: str) -> CentreDetail:
        """Return one centre.

        Raises:
            RefusedError: `centre-unknown`.
        """
        return queries.centre_detail(self.connection, self.snapshot, centre_id, self.at)

    def alarms_of(self, centre_id: str) -> tuple[Alarm, ...]:
        """Return the newest alarms that name a centre."""
        return queries.alarms_page(self.connection, LINES, centre=centre_id).items

    def statement(self, payload_sha256: str) -> StatementDetail:
        """Return one statement.

        Raises:
            RefusedError: `statement-unknown`.
        """
        objects = self.registry.store.objects
        # pages are everybody's: sentences that may name devices are left out even for who may see them
        return queries.statement_detail(self.connection, self.snapshot, objects, payload_sha256, lambda _: False)

    def envelope(self, payload_sha256: str) -> bytes:
        """Return a statement as it was signed.

        Raises:
            RefusedError: `statement-unknown`.
        """
        row = queries.statement_row(self.connection, payload_sha256)
        return self.registry.store.objects.read(row.envelope_sha256)

    def receipt(self, payload_sha256: str) -> bytes:
        """Return the first receipt that a statement was accepted: the one that dates it.

        Raises:
            RefusedError: `statement-unknown`.
        """
        return queries.receipt_of(self.connection, payload_sha256)

    def stated(self, payload_sha256: str) -> CapacityStatement:
        """Return the signed statement, which was verified before it was stored.

        Raises:
            RefusedError: `statement-unknown`.
        """
        envelope = parse_envelope(self.envelope(payload_sha256), CAPS.statement_bytes)
        statement = parse_payload("capacity-statement", envelope.payload).predicate
        assert isinstance(statement, CapacityStatement)
        return statement

    def alarms(self, cursor: str | None) -> Page[Alarm]:
        """Return alarms, the newest first."""
        return queries.alarms_page(self.connection, LINES, cursor)

    def refused(self, cursor: str | None) -> Page[Decision]:
        """Return refused submissions, the newest first."""

        def sees(centre_id: str | None) -> bool:
            return centre_id is not None and may_see(self.token, centre_id)

        return queries.decisions_page(self.connection, sees, LINES, cursor, decision="refused")

    def attempts(self) -> list[AttemptLine]:
        """Return the newest attempts at campaigns."""
        return attempts.list_attempts(self.connection, self.at, limit=ATTEMPTS)
