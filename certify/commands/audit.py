"""The group ``petaseal audit``: ``audit DIR``, ``audit prove``, ``audit check``, and ``audit retest`` beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from typer.core import TyperGroup

from bench.errors import InputError, RefusedError
from bench.units import utc_ns, utc_text
from certify.commands.offline.retest import mount_retest

Emit = Callable[[bool, Any, list[str]], None]


class Counting(Protocol):
    """Shows how many records were done so far."""

    def __call__(self, what: str, quiet: bool) -> AbstractContextManager[Callable[[int], None]]:
        """Return what is told the number of records."""
        ...


class DefaultGroup(TyperGroup):
    """A group whose first word may be left out: what is no command of it belongs to the default one."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before what is none, and no request for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


Trust = Annotated[Path | None, typer.Option(help="Signed trust root that says whose keys count.")]
PublicKey = Annotated[Path | None, typer.Option(help="The operator's public key, obtained out of band.")]
Fingerprint = Annotated[
    str | None, typer.Option(help="The trust root's fingerprint, where no version of it was accepted before.")
]
Revoked = Annotated[Path | None, typer.Option("--revocations", help="Revocation list of the trust root.")]
Witnesses = Annotated[
    list[Path] | None,
    typer.Option("--witness", help="Witness document that dates the statement; repeatable. Those beside it are read."),
]
Receipts = Annotated[
    list[Path] | None,
    typer.Option("--receipt", help="A registry's receipt that dates the statement, likewise."),
]
At = Annotated[str | None, typer.Option(help="Answer for this UTC time, as 2026-03-01T08:00:00.000000Z.")]
Records = Annotated[Path | None, typer.Option(help="records.jsonl or a folder (default: those in DIR).")]
Statement = Annotated[Path | None, typer.Option(help="Default: statement.dsse.json in DIR.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


def mount(app: typer.Typer, emit: Emit, counting: Counting) -> None:
    """Add the commands to the root."""
    group = typer.Typer(
        cls=DefaultGroup,
        help="Hold a statement against its raw samples. `petaseal audit DIR` is short for `petaseal audit run DIR`.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="audit")
    mount_retest(group, emit)

    @group.command(
        "run", epilog="Example: petaseal audit run statement --public-key operator.pem.pub --samples records"
    )
    def run(
        folder: Annotated[
            Path, typer.Argument(metavar="DIR", help="Folder or package of the statement and its records.")
        ],
        trust: Trust = None,
        public_key: PublicKey = None,
        fingerprint: Fingerprint = None,
        revocations: Revoked = None,
        samples: Annotated[
            Path | None, typer.Option(help="Folder with NODE.samples.csv.gz (default: DIR, DIR/samples, DIR/records).")
        ] = None,
        records: Records = None,
        statement: Statement = None,
        baseline: Annotated[Path | None, typer.Option(help="The signed baseline that the statement binds.")] = None,
        policy: Annotated[list[str] | None, typer.Option(help="Further policy file to judge with.")] = None,
        profile: Annotated[list[str] | None, typer.Option(help="Further profile file to judge with.")] = None,
        ratings: Annotated[list[str] | None, typer.Option(help="Further file of ratings to judge with.")] = None,
        node: Annotated[list[str] | None, typer.Option(help="Print the whole chain for this node; repeatable.")] = None,
        witness: Witnesses = None,
        receipt: Receipts = None,
        at: At = None,
        as_json: Json = False,
    ) -> None:
        """Recompute a statement from raw samples to verdicts, and say which rule, which clause, which numbers."""
        from bench.record import followed
        from bench.record.files import state_dir
        from certify.audit import describe
        from certify.audit import run as auditing
        from certify.statement import package
        from certify.trust.store import Anchor

        request = auditing.Request(
            folder=folder,
            at_ns=_moment(at),
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
        with package.opened(followed(folder)) as place, counting("audited", as_json) as tell:
            report = auditing.audit(replace(request, folder=place), tell)
        shown, lines = describe.as_json(report), describe.lines(report)
        emit(as_json, package.named(shown, place, folder), package.named(lines, place, folder))
        if report.against:
            codes = ", ".join(sorted({issue.code for issue in report.issues if issue.weighs}))
            what = f"is not borne out by its samples: {report.against} finding(s), of {codes}"
            raise RefusedError("audit-differs", what, where=folder)

    @group.command(
        "prove", epilog="Example: petaseal audit prove statement --node gpu-00007 --out gpu-00007.proof.json"
    )
    def prove(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the statement and its records.")],
        node: Annotated[str, typer.Option(help="Whose record is proven.")],
        out: Annotated[Path | None, typer.Option(help="Proof to make (default: NODE.proof.json here).")] = None,
        records: Records = None,
        statement: Statement = None,
        as_json: Json = False,
    ) -> None:
        """Prove that one record is among those of a statement, for somebody who has no other record."""
        from certify.audit import proof
        from certify.audit.run import STATEMENT, find_records

        made = proof.make_proof(statement or folder / STATEMENT, find_records(folder, records), node)
        file = out or Path(f"{made.node_id}.proof.json")
        proof.write_proof(made, file)
        value = {"proof": str(file), "leaf_index": made.leaf_index, "tree_size": made.tree_size}
        emit(as_json, value, [f"{file}: record {made.leaf_index + 1} of {made.tree_size}"])

    @group.command(
        "check",
        epilog="Example: petaseal audit check gpu-00007.proof.json --statement statement.dsse.json --public-key k.pub",
    )
    def check(
        proof_file: Annotated[Path, typer.Argument(metavar="PROOF", help="Proof that `audit prove` made.")],
        statement: Annotated[Path, typer.Option(help="The signed statement.")],
        trust: Trust = None,
        public_key: PublicKey = None,
        fingerprint: Fingerprint = None,
        revocations: Revoked = None,
        witness: Witnesses = None,
        receipt: Receipts = None,
        at: At = None,
        as_json: Json = False,
    ) -> None:
        """Check a proof against a statement, and print what the record says. No other record is needed."""
        from bench.record.files import state_dir
        from certify.audit import proof
        from certify.trust.store import Anchor

        anchor = Anchor(public_key, trust, fingerprint, revocations, (), state_dir())
        moment, now = utc_text(_moment(at)), utc_text(time.time_ns())
        proven = proof.check_proof(
            proof_file, statement, anchor, moment, now, tuple(witness or ()), tuple(receipt or ())
        )
        emit(as_json, proof.as_json(proven), proof.describe(proven))


def _moment(at: str | None) -> int:
    try:
        return time.time_ns() if at is None else utc_ns(at)
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--at") from None
