"""``petaseal registry check``: verify everything that is stored anew, on the assumption that the disk was altered.

Objects are checked by their SHA-256, receipts and documents by their signatures, and rows by storing the same documents
once more in an empty registry in memory (`Recheck`). Across statements, each chain must have one latest statement, and
each device one statement. What a later version of petaseal can no longer recompute is reported as a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, exists, func, select, text

from bench.errors import RefusedError
from bench.record import digest
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope, verify_signatures
from certify.documents.kinds import OpenedDocument, Receipt, parse_payload
from certify.policy.reasons import effect_of
from certify.registry.base.registry import Registry
from certify.registry.intake.decisions import RECEIPTED
from certify.registry.maintenance.replay import Recheck
from certify.registry.storage import tables
from certify.registry.storage.migrations import current, foreign_tables, head, listed
from certify.registry.storage.naming import named
from certify.registry.storage.store import BATCH, STREAMED, Progress, Store, sha256_of
from certify.registry.storage.upkeep import dropped
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet

LISTED = 100  # unreferenced objects that are named; of the others there is a count


class IntegrityFinding(NamedTuple):
    """Something that is not as it was, or a note."""

    code: str
    where: str
    what: str

    @property
    def is_note(self) -> bool:
        """Whether the finding is a note, and no fault of the store."""
        return effect_of(self.code) == "note"

    def line(self) -> str:
        """Return the finding as one printed line."""
        return f"{'note' if self.is_note else 'FAULT'}: {self.where}: {self.what} [{self.code}]"


class IntegrityReport(NamedTuple):
    """What was checked, how many of each, and what was found."""

    findings: tuple[IntegrityFinding, ...]
    counts: dict[str, int]

    @property
    def problems(self) -> tuple[IntegrityFinding, ...]:
        """The findings that are faults."""
        return tuple(finding for finding in self.findings if not finding.is_note)

    @property
    def ok(self) -> bool:
        """Whether no finding is a fault."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {"ok": self.ok, "counts": self.counts, "findings": [one._asdict() for one in self.findings]}

    def lines(self) -> list[str]:
        """Return the report as printed lines."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        return [*(finding.line() for finding in self.findings), f"checked: {counts}; {len(self.problems)} fault(s)"]


def check(registry: Registry, progress: Progress = lambda what, done: None) -> IntegrityReport:
    """Verify everything that is stored, in one snapshot, while the service may run.

    Args:
        registry: the open registry.
        progress: called now and then.

    Raises:
        InputError: `trust-not-current`, no trust root is good or in its grace; nothing is checked without one.
    """
    # once, so that all of a check that takes hours is held against one trust
    trust = registry.last_trust().trusted
    checking = _Checking(registry, trust, progress)
    with registry.store.reading() as connection:
        findings = tuple(finding for part in checking.parts() for finding in part(connection))
    return IntegrityReport(findings, checking.counts)


class _Checking:
    """One run over everything."""

    def __init__(self, registry: Registry, trust: TrustedSet, progress: Progress) -> None:
        self.registry = registry
        self.trust = trust
        self.progress = progress
        self.counts: dict[str, int] = {}

    def parts(self) -> tuple[Callable[[Connection], Iterator[IntegrityFinding]], ...]:
        """Return all parts in their order."""
        return (self.schema, self.objects, self.decisions, self.statements, self.campaigns, self.chains, self.devices)

    def count(self, what: str) -> None:
        """Count one more."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if self.counts[what] % BATCH == 0:
            self.progress(what, self.counts[what])

    def read(self, sha256: str) -> bytes | None:
        """Return an object; None where it is missing or damaged, which the check of objects reports."""
        try:
            content = self.registry.store.objects.read(sha256)
        except KeyError:
            return None
        # bytes that are not what their name says must not reach a parser as if they had been verified
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def schema(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """The tables are of this version, and still refuse what would alter them."""
        code = "stored-schema-differs"
        if (revision := current(connection)) != head():
            yield IntegrityFinding(code, "database", f"is of revision {revision}, not {head()}")
        if others := foreign_tables(connection):
            what = f"holds tables of something else as well: {listed(others)}"
            yield IntegrityFinding("stored-table-foreign", "database", what)
        # without its trigger a table could have been altered since the last check
        wanted = _triggers(self.registry.store)
        for name in sorted(wanted - set(_triggers_in_place(self.registry.store, connection))):
            yield IntegrityFinding(code, name, "is missing or switched off: the table could be altered")
        if self.registry.store.is_sqlite:
            for (line,) in connection.execute(text("PRAGMA integrity_check")):
                if line != "ok":
                    yield IntegrityFinding(code, "database", str(line))

    def objects(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """Every object that a row names is there and is what its name says."""
        objects = self.registry.store.objects
        wanted = named(connection)
        there = iter(sorted(path.name for path in objects.folder.glob("[0-9a-f][0-9a-f]/*")))
        spare, extra = next(there, None), 0
        for sha256 in wanted:
            self.count("objects")
            # two sorted lists side by side: neither is held in memory as a whole
            while spare is not None and spare < sha256:
                extra += 1
                if extra <= LISTED:
                    yield _unreferenced(spare)
                spare = next(there, None)
            if spare == sha256:
                spare = next(there, None)
            path = objects.path(sha256)
            if not path.is_file():
                yield IntegrityFinding("object-missing", str(path), "is named in the tables and is not there")
            elif sha256_of(path) != sha256:
                yield IntegrityFinding("object-differs", str(path), "is not what its name says")
        for name in () if spare is None else (spare, *there):
            extra += 1
            if extra <= LISTED:
                yield _unreferenced(name)
        if extra > LISTED:
            yield IntegrityFinding("object-unreferenced", "objects", f"{extra - LISTED} more are named by no row")

    def decisions(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """Every receipt is the registry's, and says what the decision says; what was accepted is there."""
        for row in _all(connection, tables.decisions):
            self.count("decisions")
            where = f"decision {row.id}"
            if row.receipt is not None:
                try:
                    fault = self._receipt_fault(row)
                except RefusedError as error:
                    fault = str(error)
                if fault is not None:
                    yield IntegrityFinding("stored-receipt-refused", where, fault)
            # `decide` gives one in just these cases
            elif row.kind in RECEIPTED and row.payload_sha256 is not None and row.centre_id is not None:
                yield IntegrityFinding("stored-receipt-refused", where, "has no receipt")
        covers = tables.decisions.c.id == dropped.c.decision_id
        refused = (tables.decisions.c.decision == "refused") & (
            tables.decisions.c.object_sha256 == dropped.c.object_sha256
        )
        # a made-up row would hide that somebody deleted a body by hand
        made_up = select(dropped.c.id).where(~exists().where(covers, refused))
        for (number,) in connection.execute(made_up):
            yield IntegrityFinding("stored-rows-differ", f"dropped {number}", "names no refused submission")
        decisions, statements, verified = tables.decisions.c, tables.statements.c, tables.verifications.c
        for kind, key, more in (
            ("statement", statements.payload_sha256, None),
            ("records", verified.statement, verified.level == "recomputed"),
        ):
            there = select(key) if more is None else select(key).where(more)
            accepted = and_(decisions.kind == kind, decisions.decision == "accepted")
            # the other way round: whoever deletes a statement leaves its decision, or must delete that too
            lost = select(decisions.id).where(accepted, decisions.payload_sha256.not_in(there))
            for (number,) in connection.execute(lost):
                yield IntegrityFinding(
                    "stored-rows-differ", f"decision {number}", f"accepted {kind} that no row tells of"
                )

    def _receipt_fault(self, row: Row[Any]) -> str | None:
        envelope = parse_envelope(row.receipt, CAPS.witness_bytes)
        key = self.registry.key.public  # a root may list another one by now
        signers = verify_signatures(envelope, {**self.trust.keys, key.keyid: key})
        opened: OpenedDocument[Receipt] = parse_payload("receipt", envelope.payload)
        receipt = opened.predicate
        if not any(keyid == key.keyid or self.trust.role_of(keyid) == "registry" for keyid in signers):
            return "its receipt is signed by no registry that is known"
        said = (receipt.centre_id, receipt.received_at, receipt.decision, receipt.code, opened.subject_digest)
        if said != (row.centre_id, row.at, row.decision, row.code, row.payload_sha256):
            return "its receipt says something else"
        return "its receipt tells another level" if row.level not in (None, receipt.level) else None

    def statements(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """Every statement holds as dated by its receipt, and every row is what its documents say."""
        with Recheck(self.registry, self.trust, connection) as again:
            for row in _all(connection, tables.statements):
                self.count("statements")
                content = self.read(row.envelope_sha256)
                if content is None:
                    continue
                for code, what in again.statement(row, content):
                    yield IntegrityFinding(code, f"statement {row.payload_sha256}", what)
                self.counts["records"] = again.records
                self.progress("records", again.records)

    def campaigns(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """Every campaign and every record that was posted for one is what it was."""
        for name, table in (("campaign", tables.campaigns), ("record", tables.campaign_records)):
            for row in _all(connection, table):
                self.count("campaigns" if name == "campaign" else "posted records")
                content = self.read(row.envelope_sha256)
                if content is None:
                    continue
                where = f"{name} {row.campaign_sha256 if name == 'campaign' else row.payload_sha256}"
                try:
                    differing_columns = _campaign if name == "campaign" else _record
                    differs = differing_columns(content, self.trust, row)
                except RefusedError as error:
                    code = "stored-key-left" if error.code == "key-not-trusted" else "stored-document-refused"
                    yield IntegrityFinding(code, where, str(error))
                    continue
                if differs:
                    yield IntegrityFinding("stored-rows-differ", where, f"its row has another {', '.join(differs)}")

    def chains(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """Every chain points to its statement of the highest sequence number."""
        statements, chains = tables.statements.c, tables.chains
        key = (statements.centre_id, statements.project_id)
        last = select(*key, func.max(statements.sequence).label("sequence")).group_by(*key).subquery()
        of_last = and_(*(column == last.c[column.name] for column in (*key, statements.sequence)))
        highest = select(*key, statements.payload_sha256).join(last, of_last)
        wanted = {(row[0], row[1]): row[2] for row in connection.execute(highest)}
        stored = {(row.centre_id, row.project_id): row.statement for row in connection.execute(select(chains))}
        self.counts["chains"] = len(wanted)
        for chain in sorted(wanted.keys() | stored.keys()):
            if wanted.get(chain) != stored.get(chain):
                what = f"its head is {stored.get(chain)}, and its highest number {wanted.get(chain)}"
                yield IntegrityFinding("stored-chain-differs", f"chain {chain[0]} {chain[1]}".rstrip(), what)

    def devices(self, connection: Connection) -> Iterator[IntegrityFinding]:
        """No device is claimed by two statements in force."""
        at = self.registry.now
        statements, revocations, identities = tables.statements.c, tables.revocations.c, tables.identities
        in_force = select(statements.payload_sha256).where(
            statements.payload_sha256.in_(select(tables.chains.c.statement)),
            statements.valid_until > at,
            statements.payload_sha256.not_in(select(revocations.statement).where(revocations.effective_at <= at)),
        )
        # a part (a GPU instance) and its whole (the card) are the same silicon, and so both kinds are joined
        one, two = identities.alias("one"), identities.alias("two")
        cards = ("device", "parent")
        both = (
            select(one.c.statement, two.c.statement, func.count(one.c.value.distinct()))
            .join(two, and_(one.c.value == two.c.value, two.c.kind.in_(cards), two.c.claimed))
            .where(one.c.kind.in_(cards), one.c.claimed, one.c.statement < two.c.statement)
            .where(one.c.statement.in_(in_force), two.c.statement.in_(in_force))
            .group_by(one.c.statement, two.c.statement)
        )
        for first, second, devices in connection.execute(both):
            what = f"claims {devices} identities of devices that {second} claims too, and both are in force"
            yield IntegrityFinding("device-claimed-twice", f"statement {first}", what)


def _all(connection: Connection, table: Any) -> Iterator[Row[Any]]:
    result = connection.execute(select(table).order_by(*table.primary_key), execution_options=STREAMED)
    for part in result.partitions():
        yield from part


def _unreferenced(sha256: str) -> IntegrityFinding:
    what = "is named by no row: a submission ended before it was decided, or is being decided now"
    return IntegrityFinding("object-unreferenced", f"object {sha256}", what)


def _triggers(store: Store) -> set[str]:
    changes = ("update", "delete") if store.is_sqlite else ("update", "delete", "truncate")
    return {f"{table.name}_no_{change}" for table in tables.APPEND_ONLY for change in changes}


def _triggers_in_place(store: Store, connection: Connection) -> Iterator[str]:
    """Yield the names of the triggers that are on, each on the table that its name says."""
    if store.is_sqlite:
        query = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE(ABORT%'"
    else:
        query = (
            "SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgenabled = 'O' AND p.proname = 'petaseal_append_only'"
        )
    for name, table in connection.execute(text(query)):
        if name.rpartition("_no_")[0] == table:
            yield str(name)


def _campaign(content: bytes, trust: TrustedSet, row: Row[Any]) -> list[str]:
    """Return the columns of a campaign's row that are not what the document says."""
    opened = Verifier(trust, row.received_at, attested_before=row.received_at).open("campaign", content)
    campaign = opened.predicate
    names = ("campaign_id", "centre_id", "series", "challenge", "challenge_source", "issued_at")
    said = {name: getattr(campaign, name) for name in names}
    said |= {"campaign_sha256": digest(campaign), "nodes": len(campaign.nodes)}
    return [name for name, value in said.items() if getattr(row, name) != value]


def _record(content: bytes, trust: TrustedSet, row: Row[Any]) -> list[str]:
    """Return the columns of a posted record's row that are not what the document says."""
    opened = Verifier(trust, row.received_at, attested_before=row.received_at).record(content)
    said = {"payload_sha256": opened.payload_sha256, "node_id": opened.predicate.node_id}
    said["campaign_sha256"] = opened.predicate.campaign_sha256
    return [name for name, value in said.items() if getattr(row, name) != value]
