"""The commands ``certify`` and ``verify``: a statement is made, and a statement is checked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, RefusedError
from bench.terminal.show import print_lines
from bench.terminal.summary import fixed
from certify.commands import options
from certify.commands.output import RecordCounter, in_short, report

if TYPE_CHECKING:
    from certify.statement.paper.opening import PageCheck, StatementPdf
    from certify.statement.paper.qr import QrCode

app = typer.Typer()


@app.command(epilog="Example: petaseal certify results/run1 --centre centre.yaml --key operator.pem --out statement")
def certify(
    records: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with the node records of one campaign, or of the campaign itself."),
    ],
    key: Annotated[list[Path], typer.Option(help="Operator's private key (PEM); may be repeated, and each signs.")],
    out: Annotated[Path, typer.Option(help="Folder for the statement, its records and its page.")],
    centre: Annotated[str | None, typer.Option(help="Centre file, or the name of an installed one (demo).")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policy name or file; may be repeated.")] = None,
    campaign: Annotated[Path | None, typer.Option(help="Signed campaign; not for self-issued runs.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile file, if the run used one of its own.")] = None,
    sequence: Annotated[int, typer.Option(min=1, help="Number of this statement for the centre and project.")] = 1,
    previous: Annotated[Path | None, typer.Option(help="The statement before this one, which it supersedes.")] = None,
    valid_days: Annotated[int, typer.Option(min=1, help="Validity after the end of the measurement, days.")] = 366,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(help="Evidence document, or folder of them (petaseal import); DIR/evidence is always taken."),
    ] = None,
    witness_key: Annotated[
        list[Path] | None, typer.Option(help="Public key of a witness who signed evidence; may be repeated.")
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Sign nothing: show the verdicts as if the devices were real. Proves nothing."),
    ] = False,
    times: Annotated[
        int | None, typer.Option(min=1, help="With --rehearse: how many nodes each node stands for.")
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    signer: options.SignerCommand = None,
    show_all: options.All = False,
    lang: options.Lang = None,
    as_json: options.Json = False,
) -> None:
    """Judge the records of one campaign, add them up and sign the capacity statement."""
    from bench.clock import check_clock
    from bench.language import language  # which reads documents: --help imports none
    from bench.record import write_atomic
    from bench.record.folder import Folder
    from certify.statement import issue
    from certify.statement.campaign import of_campaign

    check_clock()
    # A statement has one set of verdicts for each policy: twice the same is a typing error.
    if len(set(policy or ())) != len(policy or ()):
        raise InputError("usage", "a policy is named twice", where="--policy")
    if times is not None and not rehearse:
        raise InputError("usage", "goes with --rehearse: a statement never extrapolates", where="--times")
    # DIR may be the folder of a campaign, which knows its centre, profile and policies itself.
    source = of_campaign(records, campaign, centre, profile, tuple(policy or ()))
    request = issue.IssueRequest(
        records=source.records,
        centre=source.centre,
        policies=source.policies,
        campaign=source.campaign,
        profile=source.profile,
        sequence=sequence,
        previous=previous,
        valid_days=valid_days,
        keys=tuple(key),
        passphrase_file=passphrase_file,
        signer=signer,
        out=out,
        evidence=(*(evidence or ()), *((lying,) if (lying := records / "evidence").is_dir() else ())),
        witness_keys=tuple(witness_key or ()),
    )
    # A path of its own: nothing here may sign.
    if rehearse:
        from certify.campaign import rehearsal

        with RecordCounter("judged", as_json) as count:
            rehearsed = rehearsal.rehearse(request, times or 1, count)
        shown = in_short(rehearsed.summary(language()), rehearsed.lines(language()), show_all)
        report(as_json, rehearsed.as_json(), shown)
        return
    with RecordCounter("judged", as_json) as count:
        issued = issue.certify(request, count, _wait_for_windows)
    if source.records != records:  # a campaign's folder remembers what became of it
        write_atomic(Folder(records).submitted_file, f"{issued.payload_sha256}\n".encode())
    after = issue.next_line(request, issued, language())
    parts = [*issued.summary(language()), fixed(after, is_copied=True)]
    report(as_json, issued.as_json(), in_short(parts, [*issued.lines(language()), after], show_all))


def _wait_for_windows(left_ns: int) -> None:
    """Wait until the windows of a run that ended early are over: a statement over windows to come is refused."""
    from bench.terminal.show import say

    say(f"petaseal: the run ended before its last window did: waiting {left_ns / 1e9:.0f} s for that", aside=True)
    time.sleep(left_ns / 1e9 + 0.001)


def _explain(value: bool) -> None:
    if value:
        from certify.verify.verifier import explain_steps

        print_lines(explain_steps())
        raise typer.Exit


@app.command(
    epilog="Example: petaseal verify statement.dsse.json --public-key operator.pem.pub --records records.jsonl"
)
def verify(
    statement: options.StatementIfAny = None,
    trust: options.Trust = None,
    public_key: options.PublicKey = None,
    fingerprint: options.Fingerprint = None,
    revocations: options.Revocations = None,
    witness: Annotated[list[Path] | None, typer.Option(help="Witness document; may be repeated.")] = None,
    witness_key: Annotated[
        list[Path] | None, typer.Option(help="A witness's public key, beside --public-key; may be repeated.")
    ] = None,
    receipt: Annotated[list[Path] | None, typer.Option(help="A registry's receipt; may be repeated.")] = None,
    records: options.Records = None,
    samples: Annotated[Path | None, typer.Option(help="Folder with the records' samples (level audited).")] = None,
    at: options.At = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="Level (signature, trusted, recomputed, audited), page or condition POLICY/ID; may be repeated."
        ),
    ] = None,
    original: Annotated[
        Path | None, typer.Option(help="Of a PDF: write the page as it was drawn, without what was appended.")
    ] = None,
    qr: Annotated[str | None, typer.Option(help="Text of a page's QR code, to compare with the statement.")] = None,
    given: Annotated[
        Path | None, typer.Option("--statement", metavar="STATEMENT", help="The statement, named by an option.")
    ] = None,
    baseline: options.Baseline = None,
    brought: options.Evidence = None,
    policy: options.FurtherPolicies = None,
    profile: options.FurtherProfiles = None,
    ratings: options.FurtherRatings = None,
    compared: Annotated[
        list[Path] | None,
        typer.Option("--others", help="Other statements, or their folders, to compare with; may be repeated."),
    ] = None,
    accept_simulated: options.AcceptSimulated = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", is_eager=True, callback=_explain, help="Print the steps of verification and exit."),
    ] = False,
    show_all: options.All = False,
    lang: options.Lang = None,
    as_json: options.Json = False,
) -> None:
    """Check a statement: signature, trust, records, rules, sums, verdicts, and the page of a PDF."""
    from bench.language import language
    from bench.record import followed, refuse_existing
    from bench.record.files import state_dir
    from certify.statement import package
    from certify.trust.dating import Attestations
    from certify.trust.store import Anchor
    from certify.verify import verifier as checking
    from certify.verify.describe import describe_report, summary_of
    from certify.verify.evidence import Evidence, VerifyRequest

    # Before any file is read: so that all that is read is judged for one moment.
    at_ns = options.moment_ns(at, "--at")
    known = options.checked_fingerprint(fingerprint)
    statement = _given_once(statement, given)
    code = _read_code(qr)
    if code is not None and not (trust or public_key or records or samples or require or original):
        _compare_code(code, statement, as_json)
        return
    wants_page = original is not None or "page" in (require or ())
    if original is not None:
        refuse_existing(original, "choose another file for --original")
    evidence = Evidence(
        statement,
        records=followed(records),
        samples=followed(samples),
        baseline=followed(baseline),
        brought=brought,
        attestations=Attestations(tuple(witness or ()), tuple(receipt or ())),
        policies=tuple(policy or ()),
        profiles=tuple(profile or ()),
        ratings=tuple(ratings or ()),
        others=tuple(compared or ()),
        code=code,
    )
    # An archive is unpacked where nobody chose: texts name the user's file in its place (`package.named`).
    with package.opened(followed(statement)) as place:
        paper = _paper_in(place, original, wants_page)
        request = VerifyRequest(
            replace(evidence.in_folder(place), paper=paper),
            Anchor(public_key, trust, known, revocations, tuple(witness_key or ()), state_dir()),
            at_ns,
            at_present=at is None,
            now_ns=time.time_ns(),
            require=tuple(require or ()),
            accept_simulated=accept_simulated,
        )
        with RecordCounter("checked", as_json) as count:
            checked = checking.verify(request, count)
        options.name_way_on(checked.refusal)
        lines = in_short(summary_of(checked, language()), describe_report(checked, language()), show_all)
        shown = checked.as_json()
        report(as_json, package.named(shown, place, statement), package.named(lines, place, statement))
        # Raised after the report: it says which steps held, and a refusal alone does not.
        if checked.refusal is not None:
            raise checked.refusal
        if original is not None and paper is not None and checked.page is not None:
            _write_original(original, paper, checked.page)
    if checked.unmet:
        raise RefusedError("requirement-unmet", "; ".join(checked.unmet), where=statement)


def _paper_in(place: Path, original: Path | None, wants_page: bool) -> StatementPdf | None:
    """Return the PDF of a statement that lies at a place, as far as it is asked for; `--original` needs one."""
    from certify.statement.paper.opening import open_paper

    paper = open_paper(place, in_folder=wants_page)
    if original is not None and paper is None:
        raise InputError("usage", "goes with a PDF of a statement", where="--original")
    return paper


def _given_once(argument: Path | None, option: Path | None) -> Path:
    """Return the statement, which is named by its place or by `--statement`."""
    if (argument is None) == (option is None):
        what = "Missing argument 'STATEMENT'" if option is None else "the statement is given twice"
        raise InputError("usage", what, fix="see petaseal verify --help")
    path = argument or option
    assert path is not None
    return path


def _read_code(text: str | None) -> QrCode | None:
    if text is None:
        return None
    from certify.statement.paper.qr import QrCode

    return QrCode.parse(text)


def _compare_code(code: QrCode, path: Path, as_json: bool) -> None:
    """Compare a QR code with a statement, of which nothing else is checked: whoever reads a page may have no key."""
    from bench.language import language, text_in
    from bench.record import followed, read_given
    from certify.documents.caps import CAPS
    from certify.policy.lines import line, line_in
    from certify.statement import package
    from certify.statement.paper.opening import open_paper
    from certify.statement.paper.pdf import SignedStatement
    from certify.verify.evidence import Evidence

    with package.opened(followed(path)) as place:
        paper = open_paper(place)
        file = Evidence(place).in_folder(place).statement
        content = read_given(file, CAPS.statement_bytes) if paper is None else paper.statement
        signed = SignedStatement.read(content, path)
    code.check(signed.statement, signed.payload_sha256, path)
    chosen, unchecked = language(), line("qr-unsigned")
    shown = {"qr": {"agrees": True, **code._asdict()}, "statement": str(path), "not_checked": [unchecked]}
    report(
        as_json,
        shown,
        [
            text_in(chosen, "verify", "qr-agrees", place=path),
            *(f"{name} {value}" for name, value in code._asdict().items()),
            text_in(chosen, "statement_lines", "not-checked", what=line_in(chosen, unchecked)),
        ],
    )


def _write_original(out: Path, paper: StatementPdf, page: PageCheck) -> None:
    """Write the part of a PDF that is the drawing of its statement."""
    from bench.record import write_atomic

    # Where the drawing ends is known by drawing it, and by nothing that the file says.
    if page.drawn_bytes is None:
        what = f"where the drawing ends is not known, since the page was not verified: {page.why}"
        raise RefusedError("requirement-unmet", what, where="--original")
    write_atomic(out, paper.content[: page.drawn_bytes], new=True)
