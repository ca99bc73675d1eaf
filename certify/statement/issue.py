"""``petaseal certify``: from a folder of records to a signed statement, its record list and its page.

I/O only; what is computed is `certify.statement.build.build`. The files are written one by one, each whole, the
statement last: whoever finds a statement finds what it binds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, RefusedError
from bench.language import Language, text_in
from bench.record import (
    Campaign,
    NodeRecord,
    Profile,
    config_names,
    digest,
    read_bytes,
    read_given,
    refuse_existing,
    replacing,
)
from bench.record.campaign import ends_ns
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope, seal
from certify.documents.kinds import PAYLOAD_TYPE, OpenedDocument, make_document, parse_payload
from certify.documents.merkle import record_root
from certify.documents.statement import CapacityStatement, Issue
from certify.judge.identities import identities_of
from certify.judge.scope import Scope
from certify.keys.files import load_public
from certify.keys.loading import load_signing_key
from certify.keys.signers import PrivateKey
from certify.policy.centre import Centre, load_centre
from certify.policy.missing import missing
from certify.policy.policies import Policy, load_policies
from certify.policy.ratings import installed_ratings
from certify.policy.released import withdrawn
from certify.statement.age import check_age, max_age_days, too_old, valid_days
from certify.statement.attendance import read_absences
from certify.statement.baseline import baseline_facts, baseline_path, open_baseline
from certify.statement.brought.opening import Belonging, Brought, documents_in, latest, open_all, package_files
from certify.statement.build import StatementInputs, build
from certify.statement.campaign import (
    check_campaign,
    check_closing,
    check_policies,
    find_profile,
    is_installed,
    open_campaign,
    read_closing,
)
from certify.statement.claim import makers_of
from certify.statement.package import EVIDENCE
from certify.statement.paper.opening import FILE as PDF
from certify.statement.paper.page import render
from certify.statement.paper.pdf import SignedStatement, pdf_if_installed
from certify.statement.paper.view import view_of
from certify.statement.records import Examined, Examiner, RecordSummary, chunks_of, envelopes, examine
from certify.statement.summary import IssuedStatement
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet

BASELINE = "baseline.dsse.json"  # where the centre has one: whoever recomputes the statement needs it
MOST_WAIT_NS = 120 * 10**9  # for the windows of a run that ended early: longer than those of the profile smoke
OUTPUTS = ("records.jsonl", "statement.html", PDF, "statement.dsse.json")  # in the order of writing


@dataclass(frozen=True)
class IssueRequest:
    """What ``petaseal certify`` was asked for."""

    records: Path
    centre: str
    policies: tuple[str, ...]
    keys: tuple[Path, ...]  # each signs
    out: Path
    campaign: Path | None = None
    profile: str | None = None
    sequence: int = 1
    previous: Path | None = None
    valid_days: int = 366
    passphrase_file: Path | None = None  # of every key
    signer: str | None = None  # command that signs for every key; the keys are then the public ones
    evidence: tuple[Path, ...] = ()  # documents of other tools' results, or folders of them
    witness_keys: tuple[Path, ...] = ()  # public keys of witnesses who signed such documents


def next_line(request: IssueRequest, made: IssuedStatement, lang: Language) -> str:
    """Return the command that comes next, to be copied into a shell as it is."""
    (key, *_) = request.keys
    public = key if request.signer else Path(f"{key}.pub")  # of a key on a token the public one was given
    words = [str(made.out / "statement.dsse.json"), "--public-key", str(public)]
    words += ["--records", str(made.out / "records.jsonl")]
    if made.statement.baseline_sha256 is not None:
        words += ["--baseline", str(made.out / BASELINE)]
    words += ["--evidence", str(made.out / EVIDENCE)] if made.statement.evidence else []
    words += [word for name in request.policies if name not in config_names("policies") for word in ("--policy", name)]
    words += ["--profile", request.profile] if request.profile else []
    words += ["--accept-simulated"] if made.statement.simulated else []
    return text_in(lang, "summary", "next", command=f"verify {shlex.join(words)}")


class Computed(NamedTuple):
    """A statement that is not signed yet, and all that it was computed from."""

    statement: CapacityStatement
    centre: Centre
    policies: tuple[Policy, ...]
    keys: list[PrivateKey]
    inventory: Path | None  # file of the signed baseline
    examined: Examined
    order: list[int]  # of the records, by payload digest
    root: str
    basis: StatementInputs


def compute(
    request: IssueRequest,
    progress: Callable[[int], None] = lambda records: None,
    wait: Callable[[int], None] = lambda left_ns: None,
) -> Computed:
    """Judge the records and compute the statement; nothing is signed or written.

    Args:
        request: what was asked for.
        progress: called with the number of records that were judged.
        wait: called with the ns until the windows of this node's run are over, where they are nearly.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    last = request.out / OUTPUTS[-1]  # written last: what lies there without it is left of a run that was killed
    refuse_existing(last, "choose another folder")
    if os.path.lexists(request.out) and not request.out.is_dir():
        raise InputError("output-not-writable", "is not a folder", where=request.out)
    if not request.records.is_dir():
        if not os.path.lexists(request.records):
            raise InputError("file-missing", "no such folder", where=request.records)
        raise InputError("records-not-folder", "is not a folder of node records", where=request.records)
    centre = load_centre(request.centre)
    policies = load_policies(request.policies)
    keys = _signing_keys(request)
    trust = TrustedSet.named([key.public for key in keys])
    now = utc_text(time.time_ns())
    before = _before(request, centre, policies, trust, now)
    inventory = baseline_path(request.centre, centre)
    baseline = open_baseline(inventory, centre, Verifier(trust, now))
    campaign, starts_at = _campaign(request, trust, now)
    # A run of which every workload failed ends before its windows do, and nothing of it may be issued before.
    if campaign.self_issued and 0 < (left_ns := ends_ns(campaign, starts_at) - time.time_ns()) <= MOST_WAIT_NS:
        wait(left_ns)
        now = utc_text(time.time_ns())
    scope = Scope.of(
        campaign,
        starts_at,
        centre=centre,
        profile=_profile_of(campaign, request.profile),
        ratings=installed_ratings(),
        policies=policies,
        in_baseline=identities_of(baseline.predicate) if baseline else frozenset(),
    )
    scope = replace(scope, closing=read_closing(request.records))  # after what is wrong with the policies
    check_campaign(campaign, centre, starts_at, now)
    check_policies(campaign, policies)
    issue = _issue(request, ends_ns(campaign, starts_at), policies, before, now)
    for table in withdrawn((scope.ratings.digest, scope.profile_sha256, *map(digest, policies))):
        what = f"the {table.kind} {table.name} is withdrawn: {table.withdrawn}"
        raise RefusedError("table-withdrawn", what, where=campaign.campaign_id, fix="install a newer petaseal")
    basis = StatementInputs(scope, policies, *baseline_facts(baseline), read_absences(request.records, scope.campaign))
    basis = basis.bringing(_evidence(request, keys, scope, now))
    examined = examine(Examiner(request.records, basis.scope, Verifier(trust, now)), progress)
    check_closing(scope.closing, campaign, scope.campaign_sha256, starts_at, request.records)
    order = sorted(range(len(examined.seen)), key=lambda i: examined.seen[i].payload_sha256)
    root = record_root(examined.seen[i].payload_sha256 for i in order)
    statement = build(examined.tally, root, basis, issue)
    earlier = {} if before is None else {before.payload_sha256: before.predicate}
    check_age(statement, earlier.get, policies, campaign.campaign_id)
    return Computed(statement, centre, policies, keys, inventory, examined, order, root, basis)


def certify(
    request: IssueRequest,
    progress: Callable[[int], None] = lambda records: None,
    wait: Callable[[int], None] = lambda left_ns: None,
) -> IssuedStatement:
    """Make, sign and write a capacity statement.

    Args:
        request, progress, wait: as for `compute`.

    Raises:
        InputError, RefusedError: with the code of the first fault; nothing is then written.
    """
    statement, centre, policies, keys, inventory, examined, order, root, basis = compute(request, progress, wait)
    payload = make_document("capacity-statement", statement, root)
    keyids = tuple(key.public.keyid for key in keys)
    lacking = missing(centre, policies, statement.verdicts)
    _, notes = makers_of((one.signer, one.node_id, one.tool) for one in examined.seen)
    made = IssuedStatement(statement, request.out, keyids, hashlib.sha256(payload).hexdigest(), lacking, notes)
    # Signed before anything is written, and before the PDF, which holds the signed bytes.
    sealed = seal(payload, PAYLOAD_TYPE, keys)
    view = view_of(statement, policies, " ".join(keyids), made.payload_sha256)
    paper, without = pdf_if_installed(SignedStatement(sealed, statement, keyids, made.payload_sha256), policies)
    files: dict[str, Iterable[bytes] | None] = {}
    if inventory is not None:
        files[BASELINE] = [read_bytes(inventory, CAPS.baseline_bytes)]
    files |= package_files(basis.brought or (), request.out)
    # In ascending order of payload digest; each line is what was judged.
    records = (_same_bytes(examined.paths[i], examined.seen[i]) for i in order)
    parts = (records, [render(view).encode()], None if paper is None else [paper], [sealed])
    _write_outputs(request.out, files | dict(zip(OUTPUTS, parts, strict=True)))
    return replace(made, notes=(*notes, *without))


def _evidence(request: IssueRequest, keys: list[PrivateKey], scope: Scope, now: str) -> tuple[Brought, ...]:
    """Return the evidence documents that were given, by keys of the operator or of a witness that was named.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    paths = documents_in(request.evidence)
    if not paths:
        return ()
    witnesses = [load_public(path) for path in request.witness_keys]
    verifier = Verifier(TrustedSet.named([key.public for key in keys], witnesses), now)
    brought = open_all(paths, verifier, Belonging(scope.campaign, scope.campaign_sha256, scope.centre, now))
    for one in brought:
        if not one.opened.signers:
            what, fix = "is signed by a witness whose key was not given", "give the public key with --witness-key"
            raise RefusedError("key-not-trusted", what, where=one.path, fix=fix)
    return latest(brought)


def _signing_keys(request: IssueRequest) -> list[PrivateKey]:
    """Return the keys that sign, which are refused before the work rather than after it.

    Raises:
        RefusedError: `signature-duplicate`, `signature-too-many`, or a code of a key.
    """
    # A verifier would refuse the envelope after all the work.
    if len(request.keys) > CAPS.signatures:
        raise RefusedError("signature-too-many", f"more than {CAPS.signatures} keys are given", where="--key")
    keys = [load_signing_key(path, request.passphrase_file, request.signer) for path in request.keys]
    if len({key.public.keyid for key in keys}) != len(keys):
        raise RefusedError("signature-duplicate", "one key is given twice", where="--key")
    return keys


def _campaign(request: IssueRequest, trust: TrustedSet, now: str) -> tuple[Campaign, str]:
    """Return the signed campaign that was given, or that of the one record that issued its own; and T0."""
    shares, _ = chunks_of(request.records)
    where, content = next(envelopes(request.records, shares[0]))
    envelope = parse_envelope(content, CAPS.record_bytes, where)
    record: NodeRecord = parse_payload("node-record", envelope.payload, where).predicate
    if request.campaign is not None:
        return open_campaign(request.campaign, Verifier(trust, now)), record.starts_at
    if record.campaign is None:
        raise InputError(
            "campaign-missing", f"belongs to campaign {record.campaign_id}", where=where, fix="give it with --campaign"
        )
    if len(shares) > 1 or len(shares[0].paths) > 1:
        raise RefusedError(
            "self-issued-combined",
            "holds more than one record, and one of them issued its own campaign",
            where=request.records,
            fix="measure all nodes in one campaign",
        )
    if digest(record.campaign) != record.campaign_sha256 or not record.campaign.self_issued:
        raise RefusedError("campaign-differs", "binds another campaign than it holds", where=where)
    return record.campaign, record.starts_at


def _profile_of(campaign: Campaign, file: str | None) -> Profile:
    """Return the profile of a campaign; a statement names it, and a name means one profile."""
    profile = find_profile(campaign, (file,) if file else ())
    if profile.profile in config_names("profiles") and not is_installed(campaign.profile_sha256):
        what = f"bears the name {profile.profile} and differs from the installed profile of that name"
        fix = "measure with the installed one, or give it a name of its own"
        raise RefusedError("profile-altered", what, where=file, fix=fix)
    return profile


def _before(
    request: IssueRequest, centre: Centre, policies: tuple[Policy, ...], trust: TrustedSet, now: str
) -> OpenedDocument[CapacityStatement] | None:
    """Return the statement before the one that is made, if it is a further one."""
    allowed = valid_days(policies)
    if request.valid_days > allowed:
        raise InputError("validity-too-long", f"the policies allow at most {allowed} days", where="--valid-days")
    if request.previous is None:
        if request.sequence != 1:
            raise InputError("sequence-invalid", "a further statement names the one before", fix="give --previous")
        return None
    content = read_given(request.previous, CAPS.statement_bytes)
    opened: OpenedDocument[CapacityStatement] = Verifier(trust, now).open(
        "capacity-statement", content, request.previous
    )
    before = opened.predicate
    if (before.centre.centre_id, before.centre.project_id) != (centre.centre_id, centre.project_id):
        raise RefusedError("centre-differs", "is of another centre or project", where=request.previous)
    if before.issue.sequence != request.sequence - 1:
        raise InputError(
            "sequence-invalid",
            f"the statement before has number {before.issue.sequence}",
            where="--sequence",
            fix=f"give {before.issue.sequence + 1}",
        )
    return opened


def _issue(
    request: IssueRequest,
    ended_ns: int,
    policies: tuple[Policy, ...],
    before: OpenedDocument[CapacityStatement] | None,
    now: str,
) -> Issue:
    """Return number and times of a statement; what comes late is a reissue, and ends when what it reissues does.

    Raises:
        RefusedError: `measurement-too-old`, or `expired`: the validity would be over.
    """
    until = utc_text(ended_ns + request.valid_days * DAY_NS)
    # An old measurement must not come to life again by a new signature.
    if utc_ns(now) > ended_ns + max_age_days(policies) * DAY_NS:
        if before is None:
            raise too_old(utc_text(ended_ns), now, max_age_days(policies), "", request.records)
        until = min(until, before.predicate.issue.valid_until)
    if until <= now:
        what = f"the measurement ended at {utc_text(ended_ns)}, and a statement over it would be valid until {until}"
        raise RefusedError("expired", what, where=request.records, fix="measure again, or give more --valid-days")
    previous = None if before is None else before.payload_sha256
    return Issue(
        sequence=request.sequence,
        previous_sha256=previous,
        supersedes=(previous,) if previous else (),
        issued_at=now,
        valid_until=until,
    )


def _write_outputs(folder: Path, files: Mapping[str, Iterable[bytes] | None]) -> None:
    """Write files one by one, each whole; where one fails, those that this made are gone again.

    Args:
        folder: that they stand in.
        files: by name, in the order of writing, the parts of each; None: there shall be none of that name.

    Raises:
        InputError: a code of `replacing`.
    """
    # What another run left is not ours to remove, should this one fail.
    there = {name for name in files if os.path.lexists(folder / name)}  # left by a run that was killed
    try:
        for name, parts in files.items():
            if parts is None:  # of that killed run, and another statement's
                (folder / name).unlink(missing_ok=True)
                continue
            with replacing(folder / name) as file:
                for part in parts:
                    file.write(part)
    except BaseException:
        for name in files.keys() - there:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        raise


def _same_bytes(path: Path, seen: RecordSummary) -> bytes:
    content = read_bytes(path, CAPS.record_bytes)
    if hashlib.sha256(content).hexdigest() != seen.envelope_sha256:
        raise RefusedError("record-changed", "changed while it was being read", where=path)
    return content if content.endswith(b"\n") else content + b"\n"
