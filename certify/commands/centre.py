"""``petaseal centre``: a template of a centre file, what the file still lacks, and the signed baseline beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, RefusedError
from certify.commands.options import Json, PassphraseFile, SignerCommand, group, utc_now
from certify.commands.output import report

if TYPE_CHECKING:
    from certify.campaign.inventory import DeviceList
    from certify.documents.kinds import Baseline

app = group()


@app.command("new", epilog="Example: petaseal centre new --out centre.yaml")
def new(out: Annotated[Path, typer.Option(help="File to make; never overwrites one.")], as_json: Json = False) -> None:
    """Write a documented template of a centre file."""
    from bench.record import config_path, replacing

    # Readable by all, as a file that colleagues fill in together; and never over one that is filled in.
    with replacing(out, mode=None, new=True, folder_mode=None) as file:
        file.write(config_path("centres", "template.yaml").read_bytes())
    report(
        as_json,
        {"centre": str(out)},
        [f"{out}: fill it in, then check it with: petaseal centre check {shlex.quote(str(out))}"],
    )


@app.command("check", epilog="Example: petaseal centre check centre.yaml --policy guangzhou-2000p")
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Centre file, or the name of an installed one.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policy name or file (default: guangzhou-2000p); exit status 1 if the file leaves it open."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a centre file with its baseline, and say which conditions of a policy it leaves open, and why.

    A template that was not filled in and a baseline that is not there are refused.
    """
    from certify.campaign.readiness import readiness_of
    from certify.statement.campaign import DEFAULT_POLICIES

    readiness = readiness_of(file, tuple(policy or DEFAULT_POLICIES))
    report(as_json, readiness.as_json(), readiness.lines())
    # Without --policy the list is advice: most centres start with conditions open.
    if policy and readiness.gaps:
        what = f"leaves {', '.join(dict.fromkeys(f'{one.policy}/{one.condition}' for one in readiness.gaps))} open"
        raise RefusedError("centre-incomplete", what, where=file)


@app.command(
    "baseline",
    epilog="Example: petaseal centre baseline inventory.yaml --key operator.pem --out baseline.dsse.json",
)
def baseline(
    out: Annotated[Path, typer.Option(help="Signed baseline to make; with --from and no --key, the inventory.")],
    inventory: Annotated[
        Path | None,
        typer.Argument(metavar="[INVENTORY]", help="YAML: centre_id, taken_at, devices [{uuid, serial, die_id}]."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Operator's private key (PEM).")] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help='What lists the devices: a file of "petaseal devices --json", a record, records.jsonl, or a folder'
            " of these; may be repeated.",
        ),
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="There was no device before: no INVENTORY.")] = False,
    centre: Annotated[str | None, typer.Option(help="Centre file, with --empty and --from.")] = None,
    date: Annotated[
        str | None, typer.Option(help="Day of the baseline (default: baseline_date of the centre file).")
    ] = None,
    evidence: Annotated[str | None, typer.Option(help="How it is known that there was nothing.")] = None,
    evidence_file: Annotated[Path | None, typer.Option(help="Paper that says so; its digest is bound.")] = None,
    passphrase_file: PassphraseFile = None,
    signer: SignerCommand = None,
    as_json: Json = False,
) -> None:
    """Sign what stood there before the project, also if that was nothing: what is listed is not newly added."""
    from bench.record import refuse_existing
    from certify.campaign.inventory import list_devices, write_inventory
    from certify.policy.centre import load_centre
    from certify.statement.baseline import empty_baseline, listed_baseline, sign_baseline

    # Typer knows single options; which of them belong together only this command does.
    given = {"--centre": centre, "--date": date, "--evidence": evidence, "--evidence-file": evidence_file}
    if problem := _usage_problem(inventory, source, empty, key, {n for n, v in given.items() if v is not None}):
        raise InputError("usage", problem, where="centre baseline")
    listed: DeviceList | None = None
    made: Baseline | Path
    if source:
        refuse_existing(out, "choose another file")  # before what may take minutes
        listed = list_devices(source, utc_now())
        made = listed_baseline(load_centre(str(centre)), date, listed.devices)
    elif inventory is None:
        made = empty_baseline(load_centre(str(centre)), date, str(evidence), evidence_file)
    else:
        made = inventory
    # Whoever lists devices need not be who signs: without a key the inventory is left to be read first.
    if key is not None:
        signed = sign_baseline(made, key, passphrase_file, out, signer)
        named = f'baseline: {out.name}, baseline_date: "{signed.taken_at[:10]}"'
        check_it = f"petaseal centre check {shlex.quote(centre or 'centre.yaml')}"
        after = f"next       write into the centre file beside it: {named}; then: {check_it}"
    else:
        assert listed is not None
        assert not isinstance(made, Path)
        signed = write_inventory(made, listed, out)
        sign = f"petaseal centre baseline {shlex.quote(str(out))} --key operator.pem --out baseline.dsse.json"
        after = f"next       read it, take out what came later, sign it: {sign}"
    day = signed.taken_at[:10]
    result: dict[str, Any] = {"baseline": str(out), "devices": len(signed.devices), "date": day}
    lines = [f"{out}: {len(signed.devices)} device(s) on {day}, {'not signed' if key is None else 'signed'}"]
    if listed is not None:
        result |= {"signed": key is not None, **listed.as_json()}
        lines += listed.lines()
    report(as_json, result, [*lines, after])


def _usage_problem(
    inventory: Path | None, source: list[Path] | None, empty: bool, key: Path | None, given: set[str]
) -> str | None:
    """Return what is wrong with the options of ``centre baseline`` together, or None."""
    if (inventory is not None) + bool(source) + empty != 1:
        return "needs one of INVENTORY, --from and --empty"
    allowed = {"--centre", "--date"} if source else {"--centre", "--date", "--evidence", "--evidence-file"}
    if excess := sorted(given - (allowed if inventory is None else set())):
        return (
            f"{excess[0]} goes with --empty{'' if source or excess[0] not in ('--centre', '--date') else ' or --from'}"
        )
    if source and "--centre" not in given:
        return "--from needs --centre"
    if empty and not {"--centre", "--evidence"} <= given:
        return "--empty needs --centre and --evidence"
    return "needs --key to sign with" if key is None and not source else None
