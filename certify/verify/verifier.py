"""``petaseal verify``: is this statement true to its records, and who says so (docs/verification.md).

`STEPS` is the whole of it, with the numbers of that page: the first step that fails refuses with its reason code, and
whatever was not checked is reported as such. What a step checks of the statement itself stands in `statement_checks`,
what it checks of records and samples in `recompute`, which is imported only where there are any. torch is never
imported here, and numpy only where samples are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

from msgspec import UnsetType

from bench.errors import InputError, RefusedError
from bench.record import read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.policy.lines import line
from certify.policy.released import earlier
from certify.statement.age import check_age, late_text
from certify.statement.attendance import absences_of
from certify.trust.dating import check_witnesses, date_statement
from certify.trust.opening import Verifier
from certify.trust.revocations import RevokedRecords
from certify.trust.store import open_anchor
from certify.verify.evidence import VerifyRequest
from certify.verify.report import LEVELS, Verification, VerificationReport
from certify.verify.statement_checks import (
    bound_policies,
    check_contents,
    check_sequence,
    check_sums,
    check_times,
    limits,
)

PAGE = "page"  # of `--require`


def verify(request: VerifyRequest, progress: Callable[[int], None] = lambda records: None) -> VerificationReport:
    """Verify a statement as far as what was given allows.

    Args:
        request: what was asked for.
        progress: called with the number of records done so far.

    Raises:
        InputError: the request itself is wrong: a file that cannot be read, an unknown requirement.
    """
    if request.evidence.samples is not None and request.evidence.records is None:
        raise InputError("records-missing", "--samples needs --records", where="verify")
    verification = Verification(request, progress)
    report = verification.report
    try:
        for function, _ in groupby(STEPS, key=lambda step: step.function):  # once, where it does several in a row
            function(verification)
    except RefusedError as error:
        report.refusal = error
        report.level = None
    if report.refusal is None:
        report.unmet = list(_unmet(request.require, report))
    return report


def explain_steps() -> list[str]:
    """Return the steps as printed lines, in the order in which they are done."""
    return [f"{step.number:2}  {step.sentence}" for step in STEPS]


def read_statement(v: Verification) -> None:
    """Step 1: read the file, which must be within its cap; nothing larger is ever held in memory.

    What is attached to a PDF is the statement as good as its file: nothing below knows how it came.
    """
    paper = v.evidence.paper
    if paper is not None and paper.path == v.where:
        v.content = paper.statement
    else:
        v.content = read_given(v.where, CAPS.statement_bytes)


def open_trust(v: Verification) -> None:
    """Step 4: open what the verifier brings. It comes before anything of what was sent is parsed.

    A trust root must be fresh now, also where the answer is for an earlier moment: who asks about the past takes
    today's revocations with him.
    """
    now = v.at if v.request.now_ns is None else utc_text(v.request.now_ns)
    trust, root, not_checked = open_anchor(v.request.anchor, now)
    v.verifier, v.report.trusted = Verifier(trust, v.at), trust
    v.report.not_checked += not_checked
    if root is not None:
        v.report.checked.append("trust root")
        v.report.trust_root = f"{root.root.trust_id}, version {root.root.version}, fingerprint {root.fingerprint}"


def authenticate(v: Verification) -> None:
    """Steps 2, 3 and 5 to 8: envelope, signatures, payload. The bytes that are parsed are those that were signed."""
    v.opened = v.verifier.authenticate("capacity-statement", v.content, v.where)


def authorize(v: Verification) -> None:
    """Step 9: who signed it may, and enough did. Who attests it comes first, since that dates it.

    A key that was revoked since still counts for what is attested before; a thief's signature of today is not.
    """
    v.verifier = v.verifier.attesting(_date(v))
    v.opened = v.verifier.authorize("capacity-statement", v.opened, v.where)  # 9, and the keys' part of 10


def _date(v: Verification) -> str | None:
    """Return when the statement had surely been seen, and report who attests that."""
    report, files = v.report, v.evidence.attestations
    dating = date_statement(
        v.opened, files, v.verifier, lambda statement: bound_policies(statement, v.evidence), v.request.seen_at
    )
    report.witnesses, report.receipt = dating.witnesses, dating.receipt
    report.attested_before = dating.attested_before
    report.not_checked += files.not_read
    for code, skipped in (("witness-skipped", dating.skipped_witnesses), ("receipt-skipped", dating.skipped_receipts)):
        for path, reason in skipped:
            v.not_checked(code, name=path.name, reason=reason)
    return dating.attested_before


def check_time(v: Verification) -> None:
    """Step 10: at the moment of the answer the statement is issued, and neither expired nor withdrawn.

    Its policies are looked up before, for how long it may be valid is theirs to say.
    """
    trust, report = v.verifier.trust, v.report
    trust.check_withdrawn(v.opened.payload_sha256, RevokedRecords.of(v.statement), v.at, v.where)
    report.statement, report.payload_sha256 = v.statement, v.opened.payload_sha256
    report.signers, report.named = tuple(sorted(v.opened.signers)), v.opened.named
    report.notes += tuple(
        line(
            "signed-before-revocation",
            keyid=keyid,
            revoked_at=entry.revoked_at,
            reason=entry.reason,
            seen_at=v.verifier.attested_before,
        )
        for keyid in report.signers
        if (entry := trust.revoked.get(keyid)) is not None
    )
    v.policies = tuple(bound_policies(v.statement, v.evidence))
    check_times(v.statement, v.at, v.request)


def check_number(v: Verification) -> None:
    """Step 11: its number and predecessors fit, so that a chain can be followed without a hole or a fork in it."""
    check_sequence(v.statement, v.where)


def check_campaign(v: Verification) -> None:
    """Step 12: what it says of itself fits together, and enough witnesses hold where its policies demand them.

    What is left to the operator's word is reported here, with whatever else was given.
    """
    statement, report = v.statement, v.report
    check_contents(statement, v.opened.subject_digest, v.policies, v.where)
    report.checked += ["signature", "issue, validity and sequence", "campaign and windows"]
    if v.request.demand_witnesses:
        check_witnesses(report.witnesses, v.policies, v.where)
    if report.witnesses:
        report.checked.append(f"{len(report.witnesses)} witness(es)")
    if report.receipt is not None:
        report.checked.append("receipt of a registry")
    report.level, report.limits = v.verifier.trust.level, limits(statement)
    report.tables = earlier(ref.sha256 for ref in statement.policies)
    campaign = statement.campaign
    if campaign.challenge_source == "self":
        v.not_checked("challenge-self-chosen")
    else:
        v.not_checked("challenge-unproven", source=campaign.challenge_source)
    if not campaign.self_issued:
        if campaign.centre_sha256 is None or not campaign.policies:
            v.not_checked("campaign-unbound")
        v.not_checked("attempts-unproven", count=len(campaign.earlier))
    if absent := absences_of(statement):
        v.not_checked("absences-unproven", count=len(absent))


def examine_records(v: Verification) -> None:
    """Steps 13 to 15: each record is opened, judged and added up in one pass, while its bytes are at hand."""
    if v.judges_records:
        from certify.verify.recompute import examine_all

        examine_all(v)


def check_fabric(v: Verification) -> None:
    """Step 20: what the network's runs show, from the records; it comes before 16, which would name no cause."""
    if v.judges_records:
        from certify.verify.recompute import compare_fabric

        compare_fabric(v)
    elif v.statement.fabric is not None:
        v.not_checked("fabric-not-recomputed")


def check_evidence(v: Verification) -> None:
    """Step 21: what is said of evidence that others bring, from its documents; it comes before 16 as well."""
    if v.statement.evidence or v.evidence.brought is not None:
        from certify.verify.recompute import compare_evidence

        compare_evidence(v)


def recompute(v: Verification) -> None:
    """Step 16: build the statement anew and compare; without its records, see that its sums fit together."""
    if v.judges_records:
        from certify.verify.recompute import compare_anew

        compare_anew(v)
    elif v.report.limits:
        for code, what in v.report.limits:
            v.report.not_checked.append(f"records, rules, sums and verdicts: {what} [{code}]")
    else:
        check_sums(v.statement, v.where)
        v.not_checked("records-not-given")


def check_samples(v: Verification) -> None:
    """Step 17: the first fault of the samples, which were read record by record in steps 13 to 15."""
    if v.evidence.samples is None:
        v.not_checked("samples-not-given")
    elif v.judges_records:
        from certify.verify.recompute import report_samples

        report_samples(v)


def compare_statements(v: Verification) -> None:
    """Step 18: compare the statement with the others that were given; without them no double count is seen."""
    if v.evidence.others:
        _compare(v)
        return
    v.report.not_checked += late_text(check_age(v.statement, lambda sha256: None, v.policies, v.where))
    v.not_checked("others-not-given")
    if v.statement.issue.previous_sha256 is not None:
        v.not_checked("predecessor-not-given")


def _compare(v: Verification) -> None:
    from certify.statement.claim import Claim
    from certify.statement.conflicts import compare

    unread = "its records were not judged" if v.report.limits else "its records were not given"
    claim = Claim(str(v.where), v.statement, v.opened.payload_sha256, v.device_index, unread)
    # each of the others is dated by its own witnesses, not by this one's
    outcome = compare(claim, v.evidence.others, v.verifier.attesting(None), v.request.accept_simulated, v.policies)
    if outcome.refusal is not None:
        raise outcome.refusal
    v.report.checked.append("other statements")
    v.report.notes += outcome.notes
    v.report.not_checked += outcome.not_checked


def check_page(v: Verification) -> None:
    """Step 19: draw the page of a PDF anew and compare its bytes, and compare what a QR code says.

    A page shows what its reader believes: one that is not the statement's is a forgery, whoever signed the statement.
    """
    if (code := v.evidence.code) is not None:
        code.check(v.statement, v.opened.payload_sha256, v.where)
        v.report.checked.append("QR code")
    if (paper := v.evidence.paper) is None:
        if v.evidence.unread_pdf:
            v.not_checked("page-not-verified", why="statement.pdf, which lies there, was not opened (--require page)")
        return
    if paper.statement != v.content:
        raise RefusedError("page-differs", "the statement in the PDF is another one than beside it", where=paper.path)
    v.report.page = page = paper.compare(v.policies, paper.path)
    if page.status == "differs":
        what = "the page is not what petaseal draws of the statement in it: one of them was changed or exchanged"
        fix = "believe no figure on it; take the statement out (pdfdetach) and verify that"
        raise RefusedError("page-differs", what, where=paper.path, fix=fix)
    if page.status == "same":
        v.report.checked.append("page")
    elif page.status == "appended":
        v.not_checked("page-appended", count=f"{page.appended_bytes:,}")
    else:
        v.not_checked("page-not-verified", why=page.why)


class Step(NamedTuple):
    """One check: its number and sentence are those of docs/verification.md."""

    number: int
    sentence: str
    function: Callable[[Verification], None]  # the same for steps that one pass over the bytes does together


STEPS = (
    Step(1, "Every file and count is within its cap.", read_statement),
    Step(4, "The verifier's trust root and revocation list are accepted, signed by root keys and fresh.", open_trust),
    Step(2, "The envelope is strict: canonical JSON with exactly the fields of DSSE.", authenticate),
    Step(3, "Base64 re-encodes to itself.", authenticate),
    Step(5, "Distinct known keys signed these bytes.", authenticate),
    Step(6, "The payload is of the type that was signed for.", authenticate),
    Step(7, "Those bytes parse: JSON, canonical, schema, text rules.", authenticate),
    Step(8, "Predicate type, in-toto type and subject are a statement's.", authenticate),
    Step(9, "Enough keys with the role for this centre signed; witnesses and receipts are of this payload.", authorize),
    Step(10, "It is issued, and neither expired nor revoked, at the given time.", check_time),
    Step(11, "The first names no predecessor, each further one does.", check_number),
    Step(12, "Campaign, windows, centre file, policies and witnesses fit together.", check_campaign),
    Step(13, "The records are complete and exact: count, order, Merkle root, seals.", examine_records),
    Step(14, "Each record is judged by rules R1 to R13 and R15 anew.", examine_records),
    Step(15, "No device counts twice.", examine_records),
    Step(20, "The fabric is what the records' reduced vectors show.", check_fabric),
    Step(21, "Evidence that others bring is signed, of this campaign, and as stated.", check_evidence),
    Step(16, "Totals and verdicts are those that the records give.", recompute),
    Step(17, "The samples give each record's figures and telemetry, and look measured.", check_samples),
    Step(18, "No other statement that was given contradicts it.", compare_statements),
    Step(19, "The page of a PDF, and a QR code's text, are those of the statement.", check_page),
)


def _unmet(require: tuple[str, ...], report: VerificationReport) -> Iterator[str]:
    """Yield what was required and is not so: a level not reached, a condition that is not `met`."""
    assert report.statement is not None
    assert report.level is not None
    conditions = {f"{v.policy}/{v.condition}": v for v in report.statement.verdicts}
    verdicts = {name: one.verdict for name, one in conditions.items()}
    for wanted in require:
        if wanted in LEVELS:
            reached = LEVELS.index(report.level) >= LEVELS.index(wanted)
            if not reached or (wanted == "trusted" and "trust root" not in report.checked):
                yield f"level {wanted} is required, and {report.level} was reached"
        elif wanted == PAGE:
            if report.page is None or report.page.status != "same":
                yield f"{PAGE} is required, and {_page_text(report)}"
        elif wanted in verdicts:
            if LEVELS.index(report.level) < LEVELS.index("recomputed"):  # so far it is only what the signer says
                why = report.limits[0].what if report.limits else "give --records"
                if not isinstance(conditions[wanted].by_rmax, UnsetType):
                    why = "give --records, and --evidence, on which it rests"
                yield f"{wanted} is required to be met, and was not recomputed: {why}"
            elif verdicts[wanted] != "met":
                yield f"{wanted} is required to be met, and is {verdicts[wanted]}"
        else:
            known = ", ".join([*LEVELS, PAGE, *verdicts])
            raise InputError("unknown-name", f"there is no {wanted!r}", where="--require", fix=f"use one of {known}")


def _page_text(report: VerificationReport) -> str:
    """Return why the page of a statement is not shown to be its page."""
    if report.page is None:
        return "the statement was not given as a PDF"
    if report.page.appended_bytes:
        return f"{report.page.appended_bytes:,} bytes were appended to it"
    return f"it was not verified: {report.page.why}"
