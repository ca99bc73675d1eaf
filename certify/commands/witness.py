"""``petaseal witness``: recompute a statement, and sign what was checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import RefusedError
from certify.commands.trust import (
    Emit,
    Json,
    Out,
    PassphraseFile,
    SignerCommand,
    checked_digest,
    private_keys,
)

if TYPE_CHECKING:
    from bench.record import Tool

Counting = Callable[[str, bool], Any]


def mount(app: typer.Typer, emit: Emit, counting: Counting, tool: Callable[[], Tool]) -> None:
    """Add ``petaseal witness``."""

    @app.command(
        epilog="Example: petaseal witness statement.dsse.json --records records.jsonl --trust trust-root.json"
        " --key witness.pem --out witness.dsse.json"
    )
    def witness(
        statement: Annotated[
            Path, typer.Argument(metavar="STATEMENT", help="statement.dsse.json, or a folder or package of its files.")
        ],
        key: Annotated[Path, typer.Option(help="The witness's private key (PEM): another than the operator's.")],
        out: Out,
        records: Annotated[Path | None, typer.Option(help="records.jsonl, or a folder of record envelopes.")] = None,
        trust: Annotated[Path | None, typer.Option(help="Signed trust root.")] = None,
        public_key: Annotated[Path | None, typer.Option(help="The operator's public key.")] = None,
        fingerprint: Annotated[str | None, typer.Option(help="Fingerprint of the trust root.")] = None,
        revocations: Annotated[Path | None, typer.Option(help="Revocation list of the trust root.")] = None,
        samples: Annotated[Path | None, typer.Option(help="Folder with the samples (level audited).")] = None,
        baseline: Annotated[Path | None, typer.Option(help="The signed baseline that the statement binds.")] = None,
        policy: Annotated[list[str] | None, typer.Option(help="Further policy file to recompute with.")] = None,
        profile: Annotated[list[str] | None, typer.Option(help="Further profile file to judge with.")] = None,
        ratings: Annotated[list[str] | None, typer.Option(help="Further file of ratings to judge with.")] = None,
        accept_simulated: Annotated[bool, typer.Option(help="Do not refuse a simulated statement.")] = False,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Recompute a statement, and sign what was checked.

        The document says how far it was recomputed, and when; "verify --witness" takes it.
        """
        from bench.record import followed, refuse_existing, write_atomic
        from bench.record.files import state_dir
        from bench.units import utc_text
        from certify.statement import package
        from certify.trust.witness import make_witness
        from certify.verify import verifier as checking

        refuse_existing(out)
        (signing,) = private_keys([key], passphrase_file, signer)
        now_ns = time.time_ns()
        request = checking.Request(
            statement=statement,
            at_ns=now_ns,
            now_ns=now_ns,
            trust=trust,
            public_key=public_key,
            fingerprint=None if fingerprint is None else checked_digest(fingerprint, "--fingerprint"),
            state=state_dir(),
            revocations=revocations,
            records=followed(records),
            samples=followed(samples),
            baseline=followed(baseline),
            policies=tuple(policy or ()),
            profiles=tuple(profile or ()),
            ratings=tuple(ratings or ()),
            accept_simulated=accept_simulated,
            demand_witnesses=False,
        )
        with package.opened(followed(statement)) as place:
            with counting("recomputed", as_json) as tell:
                report = checking.verify(checking.in_folder(request, place), tell)
            not_checked = package.named(report.not_checked, place, statement)
            if report.refusal is not None:
                raise report.refusal
        assert report.statement is not None
        assert report.payload_sha256 is not None
        assert report.trusted is not None
        keyid = signing.public.keyid
        held = report.trusted.role_of(keyid)
        if keyid in report.named or held not in (None, "witness"):
            what = f"is the key of {f'a {held}' if held else 'who signed it'}: a witness is somebody else"
            raise RefusedError("key-two-roles", what, where=key)
        if held is None and trust is not None:
            fix = "petaseal trust add --role witness"
            raise RefusedError("key-not-trusted", "is no witness's in the trust root", where=key, fix=fix)
        now = utc_text(time.time_ns())
        checks = checking.steps_of(report)
        content = make_witness(report.statement, report.payload_sha256, report.level, checks, tool(), signing, now)
        write_atomic(out, content, new=True)
        shown = {
            "witness": str(out),
            "payload_sha256": report.payload_sha256,
            "level": report.level,
            "checks": list(checks),
            "not_checked": not_checked,
            "keyid": keyid,
            "witnessed_at": now,
        }
        lines = [
            f"{out}: witnessed at {now}, level {report.level}",
            f"statement {report.payload_sha256}",
            f"checked: {', '.join(report.checked)}",
            *(f"NOT CHECKED: {what}" for what in not_checked),
        ]
        emit(as_json, shown, lines)
