"""One stored statement verified anew, as at the time when it was received, and its rows made anew and compared.

The rows are made by the same functions that stored them, in an empty registry in memory, so that there is no second
opinion here of what they should be.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, Table, create_engine, select

from bench.errors import PetasealError, RefusedError
from bench.units import utc_ns
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument
from certify.documents.statement import CapacityStatement
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.base.verifying import VerificationJob, VerificationOutcome, run
from certify.registry.intake.decisions import Submission, supporting_decisions
from certify.registry.intake.revoking import witnesses_of
from certify.registry.intake.rows import store_records, store_statement
from certify.registry.storage import city_tables, node_tables, tables
from certify.registry.storage.columns import metadata
from certify.registry.storage.store import STREAMED
from certify.statement.claim import Claim
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet

OF_STATEMENT = (
    tables.signers,
    tables.class_lines,
    tables.pool_lines,
    tables.step_lines,
    tables.vendor_lines,
    city_tables.missing_lines,
    city_tables.verdict_lines,
    city_tables.fabric_lines,
    node_tables.inventory_lines,
    node_tables.model_step_lines,
    node_tables.evidence_lines,
    tables.verifications,
    tables.external_ids,
)
OF_RECORDS = (
    tables.node_lines,
    node_tables.node_models,
    node_tables.model_lines,
    tables.record_lines,
    tables.identities,
    node_tables.tool_lines,
    node_tables.key_lines,
)
# this petaseal is newer
LATER = frozenset({"rules-differ", "table-withdrawn", "policy-unknown", "ratings-unknown", "profile-unknown"})
ENDED = frozenset({"key-revoked", "statement-revoked", "records-revoked"})
_CHECK_TOKEN = Token(0, "check", "platform", None, "")  # no row holds whose token it was

Fault = tuple[str, str]  # reason code, and what


class Recheck:
    """Statements verified anew; `records` counts those that were opened."""

    def __init__(self, registry: Registry, trust: TrustedSet, connection: Connection) -> None:
        self.registry = registry
        self.trust = trust
        self.connection = connection
        self.records = 0
        # in memory, whatever database the registry has: types are compared as Python reads them
        self.scratch = create_engine("sqlite://")
        metadata.create_all(self.scratch)
        settings, place = registry.settings, registry.place
        self.policies = tuple(str(place.path(name)) for name in settings.policies)
        self.profiles = tuple(str(place.path(name)) for name in settings.profiles)

    def __enter__(self) -> Recheck:
        return self

    def __exit__(self, *_: object) -> None:
        self.scratch.dispose()

    def statement(self, row: Row[Any], content: bytes) -> Iterator[Fault]:
        """Yield what is wrong with one statement.

        Args:
            row: of the table `statements`.
            content: its envelope, whose SHA-256 is right.
        """
        sha256, at = row.payload_sha256, row.received_at
        stored = {keyid for (keyid,) in self._of(tables.signers, tables.signers.c.keyid, sha256)}
        try:
            opened: OpenedDocument[CapacityStatement] = Verifier(self.trust, at, attested_before=at).open(
                # as of then: a key that expired since signed it rightly
                "capacity-statement",
                content,
            )
        except RefusedError as error:
            yield self._refused(error, sha256)
            return
        if not self._accepted("statement", sha256, at):
            yield "stored-rows-differ", f"no decision accepted it at {at}"
        named = {signature.keyid for signature in parse_envelope(content, len(content)).signatures}
        # a key may have left the root since (stored, not verified now), none may have come
        if not opened.signers <= stored <= named:
            yield "stored-rows-differ", "the rows of signers name others than its envelope"
            return
        claim = Claim(sha256, opened.predicate, opened.payload_sha256)
        outcome = VerificationOutcome(
            None, None, "trusted", opened.payload_sha256, opened.predicate, tuple(sorted(stored))
        )
        submission = Submission("statement", at, row.envelope_sha256, _CHECK_TOKEN, opened.payload_sha256)
        checked: tuple[Table, ...] = (tables.statements, *OF_STATEMENT)
        with self.scratch.connect() as again:
            store_statement(again, submission, claim, outcome)
            verified = self._verified(sha256)
            if verified is not None:
                outcome_of_records = self._records(row, verified, opened)
                if isinstance(outcome_of_records, VerificationOutcome):
                    records = Submission("records", verified.at, verified.records_sha256, _CHECK_TOKEN, sha256)
                    size = self.registry.store.objects.path(verified.records_sha256).stat().st_size
                    store_records(again, records, outcome_of_records, size)
                    checked += OF_RECORDS
                else:
                    yield outcome_of_records
                    checked = tuple(table for table in checked if table is not tables.verifications)
            for table in checked:
                if (count := self._differing(again, table, sha256)) > 0:
                    yield "stored-rows-differ", f"{count} row(s) of {table.name} are not what its documents say"
            # the next statement begins with empty tables: what is compared are the rows of one
            again.rollback()
        yield from self._witnesses(row, opened)

    def _witnesses(self, row: Row[Any], opened: OpenedDocument[CapacityStatement]) -> Iterator[Fault]:
        """Yield whether others vouched for a statement when it or they came; a key that left the root says nothing."""
        objects, sha256 = self.registry.store.objects, opened.payload_sha256
        query = select(tables.witnesses.c.keyid, tables.witnesses.c.at).where(tables.witnesses.c.statement == sha256)
        stored: dict[str, str] = {one.keyid: one.at for one in self.connection.execute(query)}
        documents = supporting_decisions(self.connection, "witness", sha256)
        moments = {max(one.at, row.received_at) for one in documents}
        vouching = {
            one.keyid
            for at in sorted(moments.union(stored.values()))
            for one in witnesses_of(self.connection, objects, opened, self.trust, at)
        }
        named: set[str] = set()
        for one in documents:
            with contextlib.suppress(KeyError, PetasealError):  # missing or damaged: a finding of its own
                envelope = parse_envelope(objects.read(one.object_sha256), CAPS.witness_bytes)
                named.update(signature.keyid for signature in envelope.signatures)
        if not stored.keys() <= named or (stored.keys() & self.trust.keys.keys()) != vouching:
            yield "stored-rows-differ", "the rows of witnesses name others than its witnesses' documents"

    def _records(
        self, row: Row[Any], verified: Row[Any], opened: OpenedDocument[CapacityStatement]
    ) -> VerificationOutcome | Fault:
        """Return what a statement's records give, recomputed as at the time when they were received."""
        if not self._accepted("records", row.payload_sha256, verified.at):
            return "stored-rows-differ", f"no decision accepted its records at {verified.at}"
        place, settings, objects = self.registry.place, self.registry.settings, self.registry.store.objects
        records, baseline = objects.path(verified.records_sha256), None
        if (wanted := opened.predicate.baseline_sha256) is not None:
            baselines = supporting_decisions(self.connection, "baseline", wanted)
            baseline = next((objects.path(one.object_sha256) for one in baselines), None)
        witnesses = supporting_decisions(self.connection, "witness", row.payload_sha256)
        job = VerificationJob(
            statement=objects.path(row.envelope_sha256),
            trust=place.path(settings.trust),
            state=place.state,
            at_ns=utc_ns(verified.at),
            now_ns=self.registry.clock_ns(),
            policies=self.policies,
            profiles=self.profiles,
            accept_simulated=True,
            records=records,
            baseline=baseline,
            witnesses=tuple(objects.path(one.object_sha256) for one in witnesses),
            seen_at=row.received_at,
        )
        try:
            outcome = run(job)
        except PetasealError as error:  # a file that cannot be read, which is a finding of its own
            return "stored-document-refused", str(error)
        if outcome.code is not None:
            return self._refused(RefusedError(outcome.code, outcome.detail or ""), row.payload_sha256)
        self.records += len(outcome.lines)
        return outcome

    def _refused(self, error: PetasealError, sha256: str) -> Fault:
        """Return what a refusal amounts to: a note where the statement ended, or where today's verifier is another."""
        revocations = tables.revocations
        if error.code in ENDED and list(self._of(revocations, revocations.c.id, sha256)):
            return "stored-not-recomputed", f"it ended, and is no longer recomputed: {error}"
        if error.code in LATER:
            return "stored-not-recomputed", str(error)
        if error.code == "key-not-trusted":
            return "stored-key-left", "the trust root of today no longer lists its key: its signature was not checked"
        return "stored-document-refused", str(error)

    def _differing(self, again: Connection, table: Any, sha256: str) -> int:
        """Return how many rows of a statement are not there, or are there and should not be."""
        key = table.c.payload_sha256 if table is tables.statements else table.c.statement
        # serial numbers differ by design; everything else must be the same
        query = select(*(column for column in table.c if column.name != "id")).where(key == sha256)
        rows = Counter(tuple(row) for row in again.execute(query))
        for part in self.connection.execute(query, execution_options=STREAMED).partitions():
            rows.subtract(tuple(row) for row in part)
        return max(sum(count for count in rows.values() if count > 0), -sum(c for c in rows.values() if c < 0))

    def _accepted(self, kind: str, sha256: str, at: str) -> bool:
        decisions = tables.decisions.c
        query = select(decisions.id).where(
            decisions.payload_sha256 == sha256,
            decisions.kind == kind,
            decisions.decision == "accepted",
            decisions.at == at,
        )
        return self.connection.execute(query.limit(1)).one_or_none() is not None

    def _verified(self, sha256: str) -> Row[Any] | None:
        verifications = tables.verifications
        query = select(verifications).where(verifications.c.statement == sha256, verifications.c.level == "recomputed")
        return self.connection.execute(query).one_or_none()

    def _of(self, table: Any, column: Any, sha256: str) -> Iterator[Row[Any]]:
        yield from self.connection.execute(select(column).where(table.c.statement == sha256))
