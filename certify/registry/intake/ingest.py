"""Intake of statements and records: verify (`certify.verify`), compare with stored statements, decide, store.

A statement comes first and is accepted at level trusted: its centre has declared something. Its records bring it to
level recomputed. Everything of one step is written in one transaction, after its objects are on the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from bench.errors import PetasealError, RefusedError
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import PAYLOAD_TYPE, OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.lines import line
from certify.policy.released import policy_of
from certify.registry.api.common import Decided
from certify.registry.base.access import check_token
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.base.verifying import VerificationJob
from certify.registry.intake.alarms import find_alarms, store_alarms
from certify.registry.intake.campaigns import challenge_fault
from certify.registry.intake.decisions import Submission, accepted, decide, decided_of, supporting_decisions
from certify.registry.intake.revoking import end_revoked, refresh_trust, store_witnesses
from certify.registry.intake.rows import inconsistency, store_records, store_statement
from certify.registry.storage import tables
from certify.registry.storage.store import Staged, record_change
from certify.statement.age import check_age
from certify.statement.claim import Claim
from certify.trust.opening import Verifier
from certify.trust.store import accept_list


def submit_statement(registry: Registry, content: bytes, token: Token) -> Decided:
    """Decide on a statement, which reaches level trusted where it is accepted.

    Args:
        registry: that decides.
        content: the envelope.
        token: of the statement's centre, or the platform's.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`: nothing is stored.
        InputError: the registry itself is at fault, such as its trust root: nothing is decided.
    """
    at = registry.now
    try:
        parsed = _parse(content)
    except RefusedError as error:
        check_token(token, token.centre_id)
        sha256 = registry.store.objects.put(content)
        with registry.store.writing() as connection:
            unread = Submission("statement", at, sha256, token, _payload_digest(content), token.centre_id)
            return decide(registry, connection, unread, code=error.code, detail=error.what)
    centre_id = parsed.predicate.centre.centre_id
    check_token(token, centre_id)
    # without the lock: a repeated submission must cost no verification
    with registry.store.reading() as connection:
        if (before := accepted(connection, "statement", parsed.payload_sha256)) is not None:
            return decided_of(before, repeated=True)
    registry.trust()  # a claim that a root of today must judge is not stored as refused, where there is none
    sha256 = registry.store.objects.put(content)
    submission = Submission("statement", at, sha256, token, parsed.payload_sha256, centre_id)
    # outside of the transaction: the one writer's lock is not held for the seconds that this takes
    outcome = registry.verifier.verify(_job(registry, registry.store.objects.path(sha256), parsed))
    registry.trust()  # a root that went bad meanwhile is no fault of the statement, and is not decided as one
    with registry.store.writing() as connection:
        if (before := accepted(connection, "statement", parsed.payload_sha256)) is not None:
            return decided_of(before, repeated=True)
        if outcome.code is not None:
            return decide(registry, connection, submission, code=outcome.code, detail=outcome.detail)
        statement = parsed.predicate
        # under the lock from here on: what depends on other statements is decided on what is really stored
        fault = challenge_fault(connection, statement.campaign, statement.campaign_sha256)
        if registry.settings.rehearsal and not statement.simulated:
            fault = ("rehearsal-only", "was measured on real devices, and this registry is a rehearsal")
        if fault is None and (what := inconsistency(statement)) is not None:
            fault = ("statement-differs", what)
        fault = fault or _late_fault(registry, connection, statement)
        if fault is not None:
            return decide(registry, connection, submission, code=fault[0], detail=fault[1])
        claim = Claim(f"{parsed.payload_sha256[:16]}…", statement, parsed.payload_sha256)
        raised = find_alarms(registry.store, connection, claim, at)
        # of a refused statement too: an official should see that it was tried
        store_alarms(connection, claim, raised, at)
        if raised and raised[0].refuses:
            return decide(registry, connection, submission, code=raised[0].code, detail=raised[0].what)
        store_statement(connection, submission, claim, outcome)
        store_witnesses(connection, registry.store.objects, parsed, registry.trust().trusted, at)
        # what was revoked meanwhile, or will be
        end_revoked(connection, registry.trust().trusted, at, claim.payload_sha256)
        return decide(registry, connection, submission, level="trusted", notes=outcome.not_checked)


def submit_records(registry: Registry, payload_sha256: str, staged: Staged, token: Token) -> Decided:
    """Decide on the records of a statement, which brings it to level recomputed. Blocks while they are verified.

    Args:
        registry: that decides.
        payload_sha256: of a statement that was accepted.
        staged: its ``records.jsonl``, written whole.
        token: of the statement's centre, or the platform's.

    Raises:
        RefusedError: `statement-unknown`, `token-scope` or `token-centre-differs`: nothing is stored.
        InputError: the registry itself is at fault: nothing is decided.
    """
    at, statements = registry.now, tables.statements
    with registry.store.reading() as connection:
        row = connection.execute(select(statements).where(statements.c.payload_sha256 == payload_sha256)).one_or_none()
        if row is None:
            raise RefusedError("statement-unknown", f"there is no statement {payload_sha256}", fix="submit it first")
        check_token(token, row.centre_id)
    registry.trust()
    # on the disk before a row names it: a crash leaves an object too many, never one too few
    sha256 = staged.keep()
    submission = Submission("records", at, sha256, token, payload_sha256, row.centre_id)
    with registry.store.writing() as connection:
        if (before := _before(registry, connection, submission)) is not None:
            return before
    envelope_path = registry.store.objects.path(row.envelope_sha256)
    parsed = _parse(registry.store.objects.read(row.envelope_sha256))
    job = _job(registry, envelope_path, parsed, staged.path, row.received_at)
    outcome = registry.verifier.verify(job)
    registry.trust()
    with registry.store.writing() as connection:
        if (before := _before(registry, connection, submission)) is not None:
            return before
        if outcome.code is not None or outcome.level != "recomputed":
            code = outcome.code or "level-not-reached"
            return decide(registry, connection, submission, code=code, detail=outcome.detail)
        claim = Claim(f"{payload_sha256[:16]}…", parsed.predicate, payload_sha256, outcome.device_index)
        # the identities must be in the table to be compared there, and must not stay if they are claimed twice
        trial = connection.begin_nested()
        store_records(connection, submission, outcome, staged.size)
        raised = find_alarms(registry.store, connection, claim, at)
        if raised and raised[0].refuses:
            trial.rollback()
            store_alarms(connection, claim, raised, at)
            return decide(registry, connection, submission, code=raised[0].code, detail=raised[0].what)
        trial.commit()
        store_alarms(connection, claim, raised, at)
        record_change(connection, at, "verification", row.centre_id, row.project_id, payload_sha256)
        store_witnesses(connection, registry.store.objects, parsed, registry.trust().trusted, at)
        end_revoked(connection, registry.trust().trusted, at, payload_sha256)  # its machines are known now
        notes = (*outcome.notes, *outcome.not_checked)
        return decide(registry, connection, submission, level="recomputed", notes=notes)


def _before(registry: Registry, connection: Connection, submission: Submission) -> Decided | None:
    """Return the answer to records of a statement that was recomputed before: from the same bytes, or from others."""
    assert submission.payload_sha256 is not None
    row = accepted(connection, "records", submission.payload_sha256)
    if row is None or row.object_sha256 == submission.object_sha256:
        return None if row is None else decided_of(row, repeated=True)
    # same root, other bytes (such as another order): the first object is what rows point into
    what = "the statement was recomputed before, from other bytes"
    return decide(registry, connection, submission, code="records-differ", detail=what)


def submit_supporting(registry: Registry, name: str, content: bytes, token: Token) -> Decided:
    """Decide on a signed document that statements are verified with: a baseline, or a witness's.

    What a statement counts with a witness only counts from then on, where the witness holds against it. No more
    documents of witnesses are read of a statement than a package may hold, which the answer to a further one says.

    Args:
        registry: that decides.
        name: ``baseline`` or ``witness``.
        content: the envelope.
        token: of its centre, or the platform's.

    Raises:
        RefusedError: `token-scope` or `token-centre-differs`: nothing is stored.
    """
    at = registry.now
    check_token(token, token.centre_id)
    trust = registry.trust().trusted
    try:
        opened: OpenedDocument[Any] = Verifier(trust, at).open(name, content)
    except RefusedError as error:
        sha256 = registry.store.objects.put(content)
        with registry.store.writing() as connection:
            refused = Submission(name, at, sha256, token, _payload_digest(content), token.centre_id)
            return decide(registry, connection, refused, code=error.code, detail=error.what)
    check_token(token, opened.predicate.centre_id)
    # a witness's document is looked up by the statement that it is about
    about = opened.payload_sha256 if name == "baseline" else opened.subject_digest
    sha256 = registry.store.objects.put(content)
    with registry.store.writing() as connection:
        for row in supporting_decisions(connection, name, about):
            if row.object_sha256 == sha256:
                return decided_of(row, repeated=True)
        submission = Submission(name, at, sha256, token, about, opened.predicate.centre_id)
        notes = _not_read(connection, name, about, sha256)
        decided = decide(registry, connection, submission, level="trusted", notes=notes)
        statements = tables.statements.c
        envelope = connection.scalar(select(statements.envelope_sha256).where(statements.payload_sha256 == about))
        if name == "witness" and envelope is not None:
            objects = registry.store.objects
            store_witnesses(connection, objects, _parse(objects.read(envelope)), trust, at)
        return decided


def _not_read(connection: Connection, name: str, about: str, sha256: str) -> tuple[str, ...]:
    """Return the line of a witness's document that comes after as many as are read of one statement."""
    most = CAPS.package_witnesses
    if name != "witness" or len(supporting_decisions(connection, name, about)) < most:
        return ()
    return (line("witnesses-cut", count=1, most=most, names=f"{sha256[:16]}…"),)


def submit_revocations(registry: Registry, content: bytes, token: Token) -> Decided:
    """Decide on a signed revocation list: what it revokes ends now, or at the time that it names.

    Raises:
        RefusedError: `token-scope`: only the platform's token may.
    """
    if token.scope != "platform":
        raise RefusedError("token-scope", "revocations are the platform's to submit")
    at, root = registry.now, registry.last_trust().root
    assert root is not None  # of a registry, never of a key that somebody named
    sha256 = registry.store.objects.put(content)
    submission = Submission("revocations", at, sha256, token, _payload_digest(content))
    try:
        # by the version that is followed, whatever lies in its file: what is revoked must end at once
        accept_list(registry.store.objects.path(sha256), root, at, registry.place.state)
    except PetasealError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    # at once, and not at the next look at the root: a revoked key is worth nothing from now on
    ended = refresh_trust(registry)
    with registry.store.writing() as connection:
        notes = (f"{ended} statement(s) ended",)
        return decide(registry, connection, submission, level="trusted", notes=notes)


def _late_fault(registry: Registry, connection: Connection, statement: CapacityStatement) -> tuple[str, str] | None:
    """Return code and sentence of a statement that comes too late, unless those that it reissues are known here."""
    files = _files(registry, registry.settings.policies)
    policies = [policy for ref in statement.policies if (policy := policy_of(ref.sha256, files)) is not None]
    statements = tables.statements

    def stored(payload_sha256: str) -> CapacityStatement | None:
        query = select(statements.c.envelope_sha256).where(statements.c.payload_sha256 == payload_sha256)
        sha256 = connection.execute(query).scalar()
        return None if sha256 is None else _parse(registry.store.objects.read(sha256)).predicate

    try:
        unknown = check_age(statement, stored, policies, None)
    except RefusedError as error:
        return error.code, error.what
    if unknown is None:
        return None
    return "measurement-too-old", f"comes late, and {unknown[:16]}…, which it reissues, was not accepted here"


def _parse(content: bytes) -> OpenedDocument[CapacityStatement]:
    """Return a statement that is parsed and not verified."""
    envelope = parse_envelope(content, CAPS.statement_bytes)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RefusedError("payload-type-wrong", f"has a payload of type {envelope.payload_type!r}")
    opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", envelope.payload)
    return replace(opened, named=frozenset(signature.keyid for signature in envelope.signatures))


def _payload_digest(content: bytes) -> str | None:
    """Return the digest of what an envelope holds; None where it is no envelope."""
    try:
        return hashlib.sha256(parse_envelope(content, CAPS.statement_bytes).payload).hexdigest()
    except RefusedError:
        return None


def _job(
    registry: Registry,
    statement: Path,
    parsed: OpenedDocument[CapacityStatement],
    records: Path | None = None,
    seen_at: str | None = None,
) -> VerificationJob:
    settings, place, objects = registry.settings, registry.place, registry.store.objects
    baseline, witnesses = None, []
    with registry.store.reading() as connection:
        if (wanted := parsed.predicate.baseline_sha256) is not None:
            baseline = next(
                (objects.path(row.object_sha256) for row in supporting_decisions(connection, "baseline", wanted)), None
            )
        witnesses = [
            objects.path(row.object_sha256)
            for row in supporting_decisions(connection, "witness", parsed.payload_sha256)
        ]
    return VerificationJob(
        statement=statement,
        trust=place.path(settings.trust),
        state=place.state,
        at_ns=registry.clock_ns(),
        policies=_files(registry, settings.policies),
        profiles=_files(registry, settings.profiles),
        accept_simulated=settings.accept_simulated or settings.rehearsal,
        records=records,
        baseline=baseline,
        witnesses=tuple(witnesses),
        seen_at=seen_at,
    )


def _files(registry: Registry, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(registry.place.path(name)) for name in names)
