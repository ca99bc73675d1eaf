"""Taking statements and their records in: verified by `certify.verify`, compared with what is stored, and kept.

A statement comes first and is accepted at level trusted: its centre has declared something. Its records bring it to
level recomputed. Everything of one step is written in one transaction, after its objects are on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from bench.errors import PetasealError, RefusedError
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import PAYLOAD_TYPE, Opened, open_document, parse_payload
from certify.policy.released import policy_of
from certify.registry.api import Decided
from certify.registry.intake import alarms as conflicts
from certify.registry.intake.campaigns import challenge_fault
from certify.registry.intake.decisions import Submission, accepted, answer, beside, check_token, decide
from certify.registry.intake.revoking import end_revoked, refresh_trust
from certify.registry.intake.verifying import Job
from certify.registry.intake.vouching import keep_witnesses
from certify.registry.service.registry import Registry, record_change
from certify.registry.service.tokens import Token
from certify.registry.storage import tables
from certify.registry.storage.rows import store_records, store_statement
from certify.registry.storage.store import Staged
from certify.statement.age import check_age
from certify.statement.build import CapacityStatement, ClassLine, PoolLine
from certify.statement.claim import Claim
from certify.trust.store import accept_files

MOST_COUNT = 2**31 - 1  # what a column of counts holds
MOST_MFLOP_S = 10**14  # of one class of one statement: 100 EFLOPS, what a whole city wants by 2027


def submit_statement(registry: Registry, content: bytes, token: Token) -> Decided:
    """Take a statement in, at level trusted.

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
    with registry.store.reading() as connection:
        if (before := accepted(connection, "statement", parsed.payload_sha256)) is not None:
            return answer(before, repeated=True)
    sha256 = registry.store.objects.put(content)
    submission = Submission("statement", at, sha256, token, parsed.payload_sha256, centre_id)
    outcome = registry.verifier.verify(_job(registry, registry.store.objects.path(sha256), parsed))
    with registry.store.writing() as connection:
        if (before := accepted(connection, "statement", parsed.payload_sha256)) is not None:
            return answer(before, repeated=True)
        if outcome.code is not None:
            return decide(registry, connection, submission, code=outcome.code, detail=outcome.detail)
        statement = parsed.predicate
        fault = challenge_fault(connection, statement.campaign, statement.campaign_sha256)
        if fault is None and (what := _implausible(statement)) is not None:
            fault = ("statement-differs", what)
        fault = fault or _late_fault(registry, connection, statement)
        if fault is not None:
            return decide(registry, connection, submission, code=fault[0], detail=fault[1])
        claim = Claim(f"{parsed.payload_sha256[:16]}…", statement, parsed.payload_sha256)
        found = conflicts.raised(registry.store, connection, claim, at)
        conflicts.keep(connection, claim, found, at)
        if found and found[0].refuses:
            return decide(registry, connection, submission, code=found[0].code, detail=found[0].what)
        store_statement(connection, submission, claim, outcome)
        keep_witnesses(connection, registry.store.objects, parsed, registry.trust().trusted, at)
        # what was revoked meanwhile, or will be
        end_revoked(connection, registry.trust().trusted, at, claim.payload_sha256)
        return decide(registry, connection, submission, level="trusted", notes=outcome.not_checked)


def submit_records(registry: Registry, payload_sha256: str, staged: Staged, token: Token) -> Decided:
    """Take the records of a statement in, and bring it to level recomputed. Blocks while they are verified.

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
    sha256 = staged.keep()
    submission = Submission("records", at, sha256, token, payload_sha256, row.centre_id)
    with registry.store.writing() as connection:
        if (before := _before(registry, connection, submission)) is not None:
            return before
    envelope_path = registry.store.objects.path(row.envelope_sha256)
    parsed = _parse(registry.store.objects.read(row.envelope_sha256))
    job = _job(registry, envelope_path, parsed, staged.path, row.received_at)
    outcome = registry.verifier.verify(job)
    with registry.store.writing() as connection:
        if (before := _before(registry, connection, submission)) is not None:
            return before
        if outcome.code is not None or outcome.level != "recomputed":
            code = outcome.code or "level-not-reached"
            return decide(registry, connection, submission, code=code, detail=outcome.detail)
        claim = Claim(f"{payload_sha256[:16]}…", parsed.predicate, payload_sha256, outcome.holdings)
        trial = connection.begin_nested()
        store_records(connection, submission, outcome, staged.size)
        found = conflicts.raised(registry.store, connection, claim, at)
        if found and found[0].refuses:
            trial.rollback()
            conflicts.keep(connection, claim, found, at)
            return decide(registry, connection, submission, code=found[0].code, detail=found[0].what)
        trial.commit()
        conflicts.keep(connection, claim, found, at)
        record_change(connection, at, "verification", row.centre_id, row.project_id, payload_sha256)
        keep_witnesses(connection, registry.store.objects, parsed, registry.trust().trusted, at)
        end_revoked(connection, registry.trust().trusted, at, payload_sha256)  # its machines are known now
        return decide(registry, connection, submission, level="recomputed", notes=outcome.not_checked)


def _before(registry: Registry, connection: Connection, submission: Submission) -> Decided | None:
    """Return the answer to records of a statement that was recomputed before: from the same bytes, or from others."""
    assert submission.payload_sha256 is not None
    row = accepted(connection, "records", submission.payload_sha256)
    if row is None or row.object_sha256 == submission.object_sha256:
        return None if row is None else answer(row, repeated=True)
    what = "the statement was recomputed before, from other bytes"
    return decide(registry, connection, submission, code="records-differ", detail=what)


def submit_beside(registry: Registry, name: str, content: bytes, token: Token) -> Decided:
    """Take in a signed document that statements are verified with: a baseline, or a witness's.

    What a statement counts with a witness only counts from then on, where the witness holds against it.

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
    try:
        opened: Opened[Any] = open_document(name, content, registry.trust().trusted, at)
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
        for row in beside(connection, name, about):
            if row.object_sha256 == sha256:
                return answer(row, repeated=True)
        submission = Submission(name, at, sha256, token, about, opened.predicate.centre_id)
        decided = decide(registry, connection, submission, level="trusted")
        statements = tables.statements.c
        envelope = connection.scalar(select(statements.envelope_sha256).where(statements.payload_sha256 == about))
        if name == "witness" and envelope is not None:
            objects = registry.store.objects
            keep_witnesses(connection, objects, _parse(objects.read(envelope)), registry.trust().trusted, at)
        return decided


def submit_revocations(registry: Registry, content: bytes, token: Token) -> Decided:
    """Take a signed revocation list in: what it revokes ends now, or when it says so.

    Raises:
        RefusedError: `token-scope`: only the platform's token may.
    """
    if token.scope != "platform":
        raise RefusedError("token-scope", "revocations are the platform's to submit")
    at = registry.now
    sha256 = registry.store.objects.put(content)
    submission = Submission("revocations", at, sha256, token, _payload_digest(content))
    root = registry.place.path(registry.settings.trust)
    try:
        accept_files((root,), at, registry.place.state, revocations=registry.store.objects.path(sha256))
    except PetasealError as error:
        with registry.store.writing() as connection:
            return decide(registry, connection, submission, code=error.code, detail=error.what)
    ended = refresh_trust(registry)
    with registry.store.writing() as connection:
        told = (f"{ended} statement(s) ended",)
        return decide(registry, connection, submission, level="trusted", notes=told)


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


def _implausible(statement: CapacityStatement) -> str | None:
    """Return what no statement can say of itself: nobody has recomputed it yet, and its sums are shown already."""
    if (what := _misfit(statement)) is not None:
        return what
    for line in statement.classes:
        pools = [pool for pool in statement.pools if pool.pool_class == line.pool_class]
        for part in ("counted", "existing", "with_witness", "untested"):
            for field in ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"):
                whole = getattr(getattr(line, part), field, 0)
                if whole != sum(getattr(getattr(pool, part), field, 0) for pool in pools):
                    return f"the {part} {field} of {line.pool_class} is not the sum over its pools"
                if field != "devices" and whole > MOST_MFLOP_S:
                    return f"claims {whole} MFLOP/s of {line.pool_class}, more than {MOST_MFLOP_S}"
    for pool in statement.pools:
        vendors = [line for line in statement.vendors if line.pool == pool.pool]
        for field in ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"):
            if getattr(pool.counted, field) != sum(getattr(line, field) for line in vendors):
                return f"the counted {field} of {pool.pool} is not the sum over its vendors"
    if {line.pool_class for line in statement.classes} != {pool.pool_class for pool in statement.pools}:
        return "has pools of other classes than it adds up"
    return None


def _misfit(statement: CapacityStatement) -> str | None:
    """Return which lines of a statement no table takes: those of another pool than the centre's, twice, or too many."""
    pools = [(pool.pool, pool.pool_class) for pool in statement.pools]
    if pools != [(pool.pool, pool.pool_class) for pool in statement.centre.pools]:
        return "has other pools than its centre"
    lines: dict[str, list[object]] = {
        "classes": [line.pool_class for line in statement.classes],
        "steps": [(pool.pool, line.step) for pool in statement.pools for line in pool.steps],
        "vendors": [(line.pool, line.vendor) for line in statement.vendors],
    }
    for name, keys in lines.items():
        if len(set(keys)) != len(keys):
            return f"has two lines of its {name} for the same"
    if not {line.pool for line in statement.vendors} <= {name for name, _ in pools}:
        return "has vendors in pools that it does not have"
    most = max(_counts(statement))
    return f"counts {most} of something, more than {MOST_COUNT}" if most > MOST_COUNT else None


def _counts(statement: CapacityStatement) -> Iterator[int]:
    """Yield every number of devices, nodes and records that a table holds."""
    yield statement.records
    for pool in statement.pools:
        yield pool.nodes_recorded
        yield from (one.devices for one in pool.steps)
    yield from (one.devices for one in statement.vendors)
    lines: tuple[PoolLine | ClassLine, ...] = (*statement.pools, *statement.classes)
    for line in lines:
        yield from (line.untested.devices, line.untested.devices_without_rating)
        for totals in (line.counted, line.with_witness):
            yield from (totals.devices, totals.devices_without_rating)
    yield from (one.nodes_missing for one in statement.classes)


def _parse(content: bytes) -> Opened[CapacityStatement]:
    """Return a statement as it is parsed; nobody has vouched for it yet."""
    envelope = parse_envelope(content, CAPS.statement_bytes)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RefusedError("payload-type-wrong", f"has a payload of type {envelope.payload_type!r}")
    opened: Opened[CapacityStatement] = parse_payload("capacity-statement", envelope.payload)
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
    parsed: Opened[CapacityStatement],
    records: Path | None = None,
    seen_at: str | None = None,
) -> Job:
    settings, place, objects = registry.settings, registry.place, registry.store.objects
    baseline, witnesses = None, []
    with registry.store.reading() as connection:
        if (wanted := parsed.predicate.baseline_sha256) is not None:
            baseline = next((objects.path(row.object_sha256) for row in beside(connection, "baseline", wanted)), None)
        witnesses = [objects.path(row.object_sha256) for row in beside(connection, "witness", parsed.payload_sha256)]
    return Job(
        statement=statement,
        trust=place.path(settings.trust),
        state=place.state,
        at_ns=registry.clock_ns(),
        policies=_files(registry, settings.policies),
        profiles=_files(registry, settings.profiles),
        accept_simulated=settings.accept_simulated,
        records=records,
        baseline=baseline,
        witnesses=tuple(witnesses),
        seen_at=seen_at,
    )


def _files(registry: Registry, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(registry.place.path(name)) for name in names)
