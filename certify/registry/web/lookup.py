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
from certify.registry.api.cities import City, Lifecycle
from certify.registry.api.common import Page, WhichReceipt
from certify.registry.api.oversight import AlarmGroup, AuditLine
from certify.registry.api.reached import Reached, Trend
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreDetail,
    CentreSummary,
    Decision,
    PoolCapacity,
    StatementDetail,
)
from certify.registry.base.access import may_see
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.state import attempts, cache, oversight, queries
from certify.registry.state.cache import reader_of
from certify.registry.state.city import present
from certify.registry.state.model import Snapshot
from certify.registry.state.oversight import WantedAlarms, WantedAudit
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
        named = present.city_policies(self.registry.place).values()
        return tuple(present.city_of(self.registry, policy, self.snapshot, self.at) for policy in named)

    def reached(self) -> tuple[Reached, ...]:
        """Return who reached the value of each policy for single centres."""
        return present.reached_of(self.connection, self.registry.place, self.snapshot, self.at)

    def trends(self) -> tuple[Trend, ...]:
        """Return the sums of each city over time."""
        named = present.city_policies(self.registry.place).values()
        return tuple(
            present.trend_of(self.registry.store, self.connection, policy, self.snapshot, self.at) for policy in named
        )

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
        return oversight.alarms_page(self.connection, WantedAlarms(centre=centre_id), LINES).items

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

    def receipt(self, payload_sha256: str, which: WhichReceipt = "first") -> bytes:
        """Return the first receipt that a statement was accepted, which dates it, or that of the highest level.

        Raises:
            RefusedError: `statement-unknown`.
        """
        return queries.receipt_of(self.connection, payload_sha256, which)

    def stated(self, payload_sha256: str) -> CapacityStatement:
        """Return the signed statement, which was verified before it was stored.

        Raises:
            RefusedError: `statement-unknown`.
        """
        envelope = parse_envelope(self.envelope(payload_sha256), CAPS.statement_bytes)
        statement = parse_payload("capacity-statement", envelope.payload).predicate
        assert isinstance(statement, CapacityStatement)
        return statement

    def alarms(self, cursor: str | None, acknowledged: bool | None = None) -> Page[Alarm]:
        """Return alarms, the newest first. None for `acknowledged`: all."""
        return oversight.alarms_page(self.connection, WantedAlarms(acknowledged=acknowledged), LINES, cursor)

    def alarm_groups(self, cursor: str | None) -> Page[AlarmGroup]:
        """Return alarms by pair of centres, that of the newest alarm first."""
        return oversight.alarm_groups_page(self.connection, WantedAlarms(), "centres", LINES, cursor)

    def audit(self, cursor: str | None) -> Page[AuditLine]:
        """Return lines of the audit log, the newest first. Only the platform may see them."""
        return oversight.audit_page(self.connection, WantedAudit(), LINES, cursor)

    def refused(self, cursor: str | None) -> Page[Decision]:
        """Return refused submissions, the newest first."""

        def sees(centre_id: str | None) -> bool:
            return centre_id is not None and may_see(self.token, centre_id)

        return queries.decisions_page(self.connection, sees, LINES, cursor, decision="refused")

    def attempts(self) -> list[AttemptLine]:
        """Return the newest attempts at campaigns."""
        return attempts.list_attempts(self.connection, self.at, limit=ATTEMPTS)
