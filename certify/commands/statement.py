"""The commands ``certify`` and ``verify``: a statement is made, and a statement is checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import InputError, RefusedError
from bench.show import print_lines
from certify.commands import options
from certify.commands.output import RecordCounter, report

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
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Sign nothing: show the verdicts as if the devices were real. Proves nothing."),
    ] = False,
    times: Annotated[
        int | None, typer.Option(min=1, help="With --rehearse: how many nodes each node stands for.")
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Judge the records of one campaign, add them up and sign the capacity statement."""
    from bench.clock import check_clock
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
    )
    # A path of its own: nothing here may sign.
    if rehearse:
        from certify.campaign import rehearsal

        with RecordCounter("judged", as_json) as count:
            rehearsed = rehearsal.rehearse(request, times or 1, count)
        report(as_json, rehearsed.as_json(), rehearsed.lines())
        return
    with RecordCounter("judged", as_json) as count:
        issued = issue.certify(request, count)
    if source.records != records:  # a campaign's folder remembers what became of it
        write_atomic(Folder(records).submitted_file, f"{issued.payload_sha256}\n".encode())
    report(as_json, issued.as_json(), [*issued.lines(), issue.next_line(request, issued)])


def _explain(value: bool) -> None:
    if value:
        from certify.verify.verifier import explain_steps

        print_lines(explain_steps())
        raise typer.Exit


@app.command(
    epilog="Example: petaseal verify statement.dsse.json --public-key operator.pem.pub --records records.jsonl"
)
def verify(
    statement: options.Statement,
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
        typer.Option(help="Level (signature, trusted, recomputed, audited) or condition POLICY/ID; may be repeated."),
    ] = None,
    baseline: options.Baseline = None,
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
    as_json: options.Json = False,
) -> None:
    """Check a statement: signature, trust, records, rules, sums and verdicts."""
    from bench.record import followed
    from bench.record.files import state_dir
    from certify.statement import package
    from certify.trust.dating import Attestations
    from certify.trust.store import Anchor
    from certify.verify import verifier as checking
    from certify.verify.describe import describe_report
    from certify.verify.evidence import Evidence, VerifyRequest

    # Before any file is read: so that all that is read is judged for one moment.
    at_ns = options.moment_ns(at, "--at")
    known = options.checked_fingerprint(fingerprint)
    evidence = Evidence(
        statement,
        records=followed(records),
        samples=followed(samples),
        baseline=followed(baseline),
        attestations=Attestations(tuple(witness or ()), tuple(receipt or ())),
        policies=tuple(policy or ()),
        profiles=tuple(profile or ()),
        ratings=tuple(ratings or ()),
        others=tuple(compared or ()),
    )
    # An archive is unpacked where nobody chose: texts name the user's file in its place (`package.named`).
    with package.opened(followed(statement)) as place:
        request = VerifyRequest(
            evidence.in_folder(place),
            Anchor(public_key, trust, known, revocations, tuple(witness_key or ()), state_dir()),
            at_ns,
            at_present=at is None,
            now_ns=time.time_ns(),
            require=tuple(require or ()),
            accept_simulated=accept_simulated,
        )
        with RecordCounter("checked", as_json) as count:
            checked = checking.verify(request, count)
        shown, lines = checked.as_json(), describe_report(checked)
        report(as_json, package.named(shown, place, statement), package.named(lines, place, statement))
        # Raised after the report: it says which steps held, and a refusal alone does not.
        if checked.refusal is not None:
            raise checked.refusal
    if checked.unmet:
        raise RefusedError("requirement-unmet", "; ".join(checked.unmet), where=statement)
