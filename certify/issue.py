"""``petaseal certify``: from a folder of records to a signed statement, its record list and its page.

I/O only; what is computed is `certify.statement.build`. The three files are written one by one, each whole, the
statement last: whoever finds a statement finds what it binds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError, RefusedError
from bench.record import Campaign, Profile, config_names, digest, read_bytes, read_config, write_atomic
from bench.units import utc_ns, utc_text
from certify.aggregate import Scope, accepted_holds, counting_of, identities_of
from certify.caps import CAPS
from certify.centre import Centre, load_centre
from certify.documents import PAYLOAD_TYPE, Baseline, Opened, make_document, open_document, parse_payload
from certify.dsse import parse_envelope, seal
from certify.merkle import record_root
from certify.policy import Policy, load_policy
from certify.ratings import installed_ratings
from certify.records import Examined, Examiner, Seen, chunks_of, envelopes, examine
from certify.report import render
from certify.sealing import load_signing_key
from certify.statement import Basis, CapacityStatement, Issue, build
from certify.trust import TrustedSet

DEFAULT_POLICIES = ("guangzhou-2000p",)
OUTPUTS = ("records.jsonl", "statement.html", "statement.dsse.json")  # in the order of writing
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Request:
    """What ``petaseal certify`` was asked for."""

    records: Path
    centre: str
    policies: tuple[str, ...]
    key: Path
    out: Path
    campaign: Path | None = None
    profile: str | None = None
    sequence: int = 1
    previous: Path | None = None
    valid_days: int = 366
    passphrase_file: Path | None = None


@dataclass(frozen=True)
class Made:
    """A statement that was made, for the command line to show."""

    statement: CapacityStatement
    out: Path
    keyid: str
    payload_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return the result for machines."""
        import msgspec

        return {
            "statement": str(self.out / "statement.dsse.json"),
            "payload_sha256": self.payload_sha256,
            "keyid": self.keyid,
            "predicate": msgspec.to_builtins(self.statement),
        }

    def lines(self) -> list[str]:
        """Return the result for people."""
        from certify.describe import describe_statement

        return [*describe_statement(self.statement), f"signed by {self.keyid}", f"written to {self.out}"]


def certify(request: Request, progress: Callable[[int], None] = lambda records: None) -> Made:
    """Make, sign and write a capacity statement.

    Raises:
        InputError, RefusedError: with the code of the first fault; nothing is then written.
    """
    last = request.out / OUTPUTS[-1]  # written last: what lies there without it is left of a run that was killed
    if os.path.lexists(last):
        raise InputError("output-exists", "exists already", where=last, fix="choose another folder")
    if os.path.lexists(request.out) and not request.out.is_dir():
        raise InputError("output-not-writable", "is not a folder", where=request.out)
    if not request.records.is_dir():
        if not os.path.lexists(request.records):
            raise InputError("file-missing", "no such folder", where=request.records)
        raise InputError("records-not-folder", "is not a folder of node records", where=request.records)
    centre = load_centre(request.centre)
    policies = tuple(load_policy(name) for name in request.policies)
    if len({policy.policy for policy in policies}) != len(policies):
        raise InputError("policy-twice", "one policy is given twice", where="--policy")
    key = load_signing_key(request.key, request.passphrase_file)
    trust = TrustedSet.single(key.public)
    now = utc_text(time.time_ns())
    issue = _issue(request, centre, policies, trust, now)
    baseline = open_baseline(baseline_path(request.centre, centre), centre, trust, now)
    campaign = _campaign(request, trust, now)
    scope = Scope(
        centre=centre,
        campaign=campaign,
        campaign_sha256=digest(campaign),
        profile=_own_profile(campaign, request.profile),
        profile_sha256=campaign.profile_sha256,
        ratings=installed_ratings(),
        counting=counting_of(policies, centre),
        accept=accepted_holds(policies),
        existing=identities_of(baseline.predicate) if baseline else frozenset(),
    )
    check_campaign(campaign, centre, now)
    examined = examine(Examiner(request.records, scope, trust, now), progress)
    order = sorted(range(len(examined.seen)), key=lambda i: examined.seen[i].payload_sha256)
    root = record_root(examined.seen[i].payload_sha256 for i in order)
    basis = Basis(scope, policies, *baseline_facts(baseline))
    statement = build(examined.tally, root, basis, issue)
    payload = make_document("capacity-statement", statement, root)
    made = Made(statement, request.out, key.public.keyid, hashlib.sha256(payload).hexdigest())
    page = render(statement, policies, made.keyid, made.payload_sha256)
    there = {name for name in OUTPUTS if os.path.lexists(request.out / name)}  # left by a run that was killed
    try:
        _write_records(request, examined, order)
        write_atomic(request.out / "statement.html", page.encode())
        write_atomic(request.out / "statement.dsse.json", seal(payload, PAYLOAD_TYPE, [key]))
    except BaseException:
        for name in set(OUTPUTS) - there:
            with contextlib.suppress(OSError):
                (request.out / name).unlink()
        raise
    return made


def _campaign(request: Request, trust: TrustedSet, now: str) -> Campaign:
    """Return the signed campaign that was given, or that of the one record that issued its own."""
    if request.campaign is not None:
        content = read_bytes(request.campaign, CAPS.campaign_bytes)
        opened: Opened[Campaign] = open_document("campaign", content, trust, now, request.campaign)
        if opened.predicate.self_issued:
            raise RefusedError("campaign-self-issued", "is self-issued, not the centre's", where=request.campaign)
        return opened.predicate
    shares, _ = chunks_of(request.records)
    where, content = next(envelopes(request.records, shares[0]))
    envelope = parse_envelope(content, CAPS.record_bytes, where)
    record = parse_payload("node-record", envelope.payload, where).predicate
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
    campaign: Campaign = record.campaign
    return campaign


def check_campaign(campaign: Campaign, centre: Centre, issued_at: str) -> None:
    """Refuse a campaign of another centre, or whose windows are reversed, overlap or were not over at `issued_at`.

    Raises:
        RefusedError: `centre-differs`, `campaign-invalid` or `window-invalid`.
    """
    if not campaign.self_issued and campaign.centre_id != centre.centre_id:
        raise RefusedError(
            "centre-differs", f"the campaign is of the centre {campaign.centre_id}", where=centre.centre_id
        )
    if campaign.self_issued and len(campaign.nodes) != 1:
        raise RefusedError("campaign-invalid", "a self-issued campaign is of one node", where=campaign.campaign_id)
    pools = {pool.pool for pool in centre.pools}
    if not campaign.self_issued and not {node.pool for node in campaign.nodes} <= pools:
        raise RefusedError("pool-differs", "the campaign names a pool that the centre has not", where=centre.centre_id)
    nodes = [node.node_id for node in campaign.nodes]
    if len(set(nodes)) != len(nodes):
        raise RefusedError("campaign-invalid", "the campaign names a node twice", where=campaign.campaign_id)
    problem = campaign.windows_problem()
    if problem is None and campaign.windows[-1].closes_at > issued_at:
        problem = "the campaign was not over at the time of issue"
    if problem is not None:
        raise RefusedError("window-invalid", problem, where=campaign.campaign_id)


def check_windows(campaign: Campaign, profile: Profile) -> None:
    """Refuse windows that are not as long as the profile says.

    Raises:
        RefusedError: `window-invalid`.
    """
    for window in campaign.windows:
        load, opens, closes = map(utc_ns, (window.load_at, window.opens_at, window.closes_at))
        if opens - load < profile.warmup_ns or closes - opens != profile.window_ns:
            raise RefusedError(
                "window-invalid",
                f"the {window.workload} window is not as long as the profile {profile.profile} says",
                where=campaign.campaign_id,
            )


def _own_profile(campaign: Campaign, file: str | None) -> Profile:
    """Return the profile of a campaign; a statement names it, and a name means one profile."""
    profile = find_profile(campaign, (file,) if file else ())
    if profile.profile in config_names("profiles") and not is_installed(campaign.profile_sha256):
        what = f"bears the name {profile.profile} and differs from the installed profile of that name"
        raise RefusedError("profile-altered", what, where=file, fix="give it a name of its own")
    return profile


def is_installed(profile_sha256: str) -> bool:
    """Return whether a profile is one of those that come with petaseal."""
    return any(digest(read_config("profiles", name, Profile)) == profile_sha256 for name in config_names("profiles"))


def find_profile(campaign: Campaign, files: tuple[str, ...]) -> Profile:
    """Return the profile that a campaign binds, from the installed ones and the files given.

    Raises:
        RefusedError: none of them has the digest.
    """
    for name in (*files, *config_names("profiles")):
        profile = read_config("profiles", name, Profile)
        if digest(profile) == campaign.profile_sha256:
            check_windows(campaign, profile)
            return profile
    raise RefusedError(
        "profile-unknown",
        f"the profile {campaign.profile!r} of the campaign is not among the known ones",
        where=campaign.campaign_id,
        fix="give its file with --profile",
    )


def baseline_path(centre_name: str, centre: Centre) -> Path | None:
    """Return the file of the signed baseline that a centre file names, relative to itself."""
    return Path(centre_name).parent / centre.baseline if centre.baseline is not None else None


def open_baseline(path: Path | None, centre: Centre, trust: TrustedSet, at: str) -> Opened[Baseline] | None:
    """Return the signed baseline inventory of a centre, if there is one.

    Raises:
        RefusedError: `centre-differs`, `baseline-differs` (another date), or a code of `open_document`.
    """
    if path is None:
        return None
    opened: Opened[Baseline] = open_document("baseline", read_bytes(path, CAPS.baseline_bytes), trust, at, path)
    if opened.predicate.centre_id != centre.centre_id:
        raise RefusedError("centre-differs", f"is of the centre {opened.predicate.centre_id}", where=path)
    if opened.predicate.taken_at[:10] != centre.baseline_date:
        what = f"was taken on {opened.predicate.taken_at[:10]}, and the centre says {centre.baseline_date}"
        raise RefusedError("baseline-differs", what, where=path)
    return opened


def baseline_facts(baseline: Opened[Baseline] | None) -> tuple[str | None, int]:
    """Return the digest and the number of devices of a baseline, as `Basis` takes them."""
    return (baseline.payload_sha256, len(baseline.predicate.devices)) if baseline else (None, 0)


def _issue(request: Request, centre: Centre, policies: tuple[Policy, ...], trust: TrustedSet, now: str) -> Issue:
    allowed = min(policy.valid_days_max for policy in policies)
    if request.valid_days > allowed:
        raise InputError("validity-too-long", f"the policies allow at most {allowed} days", where="--valid-days")
    previous = None
    if request.previous is not None:
        content = read_bytes(request.previous, CAPS.statement_bytes)
        opened = open_document("capacity-statement", content, trust, now, request.previous)
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
        previous = opened.payload_sha256
    elif request.sequence != 1:
        raise InputError("sequence-invalid", "a further statement names the one before", fix="give --previous")
    return Issue(
        sequence=request.sequence,
        previous_sha256=previous,
        supersedes=(previous,) if previous else (),
        issued_at=now,
        valid_until=utc_text(utc_ns(now) + request.valid_days * DAY_NS),
    )


def _write_records(request: Request, examined: Examined, order: list[int]) -> None:
    """Write ``records.jsonl`` in ascending order of payload digest; each line is what was judged."""
    target = request.out / "records.jsonl"
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=request.out, prefix=".records.", suffix=".tmp", delete=False) as file:
            try:
                for i in order:
                    file.write(_same_bytes(examined.paths[i], examined.seen[i]))
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=target) from None


def _same_bytes(path: Path, seen: Seen) -> bytes:
    content = read_bytes(path, CAPS.record_bytes)
    if hashlib.sha256(content).hexdigest() != seen.envelope_sha256:
        raise RefusedError("record-changed", "changed while it was being read", where=path)
    return content if content.endswith(b"\n") else content + b"\n"
