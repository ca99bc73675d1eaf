"""The group ``petaseal audit``: ``audit DIR``, ``audit prove``, ``audit check``, and ``audit retest`` beside them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.errors import RefusedError
from bench.units import utc_text
from certify.commands import options
from certify.commands.offline import retest
from certify.commands.output import RecordCounter, report

statement_app = typer.Typer()

Witnesses = Annotated[
    list[Path] | None,
    typer.Option("--witness", help="Witness document that dates the statement; repeatable. Those beside it are read."),
]
Receipts = Annotated[
    list[Path] | None,
    typer.Option("--receipt", help="A registry's receipt that dates the statement, likewise."),
]
StatementRecords = Annotated[Path | None, typer.Option(help="records.jsonl or a folder (default: those in DIR).")]
StatementFile = Annotated[Path | None, typer.Option(help="Default: statement.dsse.json in DIR.")]


class DefaultGroup(TyperGroup):
    """A options.group whose first word may be left out: what is no command of it belongs to the default one."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before what is none, and no request for help."""
        # Before parsing: options of `run` may come first, and the options.group has none of them.
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


@statement_app.command(
    "run", epilog="Example: petaseal audit run statement --public-key operator.pem.pub --samples records"
)
def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder or package of the statement and its records.")],
    trust: options.Trust = None,
    public_key: options.PublicKey = None,
    fingerprint: options.Fingerprint = None,
    revocations: options.Revocations = None,
    samples: Annotated[
        Path | None, typer.Option(help="Folder with NODE.samples.csv.gz (default: DIR, DIR/samples, DIR/records).")
    ] = None,
    records: StatementRecords = None,
    statement: StatementFile = None,
    baseline: options.Baseline = None,
    policy: Annotated[list[str] | None, typer.Option(help="Further policy file to judge with.")] = None,
    profile: options.FurtherProfiles = None,
    ratings: options.FurtherRatings = None,
    node: Annotated[list[str] | None, typer.Option(help="Print the whole chain for this node; repeatable.")] = None,
    witness: Witnesses = None,
    receipt: Receipts = None,
    at: options.At = None,
    as_json: options.Json = False,
) -> None:
    """Recompute a statement from raw samples to verdicts, and say which rule, which clause, which numbers."""
    from bench.record import followed
    from bench.record.files import state_dir
    from certify.audit import describe
    from certify.audit import run as auditing
    from certify.statement import package
    from certify.trust.store import Anchor

    request = auditing.AuditRequest(
        folder=folder,
        at_ns=options.moment_ns(at, "--at"),
        now_ns=time.time_ns(),
        anchor=Anchor(public_key, trust, fingerprint, revocations, (), state_dir()),
        statement=statement,
        records=followed(records),
        samples=followed(samples),
        baseline=followed(baseline),
        policies=tuple(policy or ()),
        profiles=tuple(profile or ()),
        ratings=tuple(ratings or ()),
        nodes=tuple(node or ()),
        witnesses=tuple(witness or ()),
        receipts=tuple(receipt or ()),
    )
    with package.opened(followed(folder)) as place, RecordCounter("audited", as_json) as count:
        audited = auditing.audit(replace(request, folder=place), count)
    shown, lines = describe.as_json(audited), describe.lines(audited)
    report(as_json, package.named(shown, place, folder), package.named(lines, place, folder))
    # A finding that does not weigh is listed all the same, and ends with 0.
    if audited.against:
        codes = ", ".join(sorted({issue.code for issue in audited.issues if issue.weighs}))
        what = f"is not borne out by its samples: {audited.against} finding(s), of {codes}"
        raise RefusedError("audit-differs", what, where=folder)


@statement_app.command(
    "prove", epilog="Example: petaseal audit prove statement --node gpu-00007 --out gpu-00007.proof.json"
)
def prove(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the statement and its records.")],
    node: Annotated[str, typer.Option(help="Whose record is proven.")],
    out: Annotated[Path | None, typer.Option(help="Proof to make (default: NODE.proof.json here).")] = None,
    records: StatementRecords = None,
    statement: StatementFile = None,
    as_json: options.Json = False,
) -> None:
    """Prove that one record is among those of a statement, for somebody who has no other record."""
    from certify.audit import proof
    from certify.audit.run import STATEMENT, find_records

    made = proof.make_proof(statement or folder / STATEMENT, find_records(folder, records), node)
    # Here, not in DIR: a statement's folder stays as it was signed.
    file = out or Path(f"{made.node_id}.proof.json")
    proof.write_proof(made, file)
    value = {"proof": str(file), "leaf_index": made.leaf_index, "tree_size": made.tree_size}
    report(as_json, value, [f"{file}: record {made.leaf_index + 1} of {made.tree_size}"])


@statement_app.command(
    "check",
    epilog="Example: petaseal audit check gpu-00007.proof.json --statement statement.dsse.json --public-key k.pub",
)
def check(
    proof_file: Annotated[Path, typer.Argument(metavar="PROOF", help="Proof that `audit prove` made.")],
    statement: Annotated[Path, typer.Option(help="The signed statement.")],
    trust: options.Trust = None,
    public_key: options.PublicKey = None,
    fingerprint: options.Fingerprint = None,
    revocations: options.Revocations = None,
    witness: Witnesses = None,
    receipt: Receipts = None,
    at: options.At = None,
    as_json: options.Json = False,
) -> None:
    """Check a proof against a statement, and print what the record says. No other record is needed."""
    from bench.record.files import state_dir
    from certify.audit import proof
    from certify.trust.store import Anchor

    anchor = Anchor(public_key, trust, fingerprint, revocations, (), state_dir())
    moment, now = utc_text(options.moment_ns(at, "--at")), options.utc_now()
    proven = proof.check_proof(proof_file, statement, anchor, moment, now, tuple(witness or ()), tuple(receipt or ()))
    report(as_json, proof.as_json(proven), proof.describe(proven))


app = options.group(retest.app, statement_app, cls=DefaultGroup)
