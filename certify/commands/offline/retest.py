"""The command ``audit retest``: reads a statement's records and the files of today, and compares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bench.errors import InputError, RefusedError
from certify.commands.options import Json
from certify.commands.output import report

if TYPE_CHECKING:
    from bench.record import NodeRecord
    from certify.documents.kinds import OpenedDocument
    from certify.fleet.retest import Counted, NodeState, Retest

app = typer.Typer()


@app.command(epilog="Example: petaseal audit retest statement --devices today")
def retest(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a statement and its records, or of node records.")
    ],
    devices: Annotated[
        list[Path],
        typer.Option(help="NODE.json from petaseal devices --json, a folder of them, or newer records; repeatable."),
    ],
    as_json: Json = False,
) -> None:
    """Say whether the nodes are still as they were measured; exit 1 where a statement must be tested anew."""
    result = run(folder, devices)
    report(as_json, result.as_json(), result.lines())
    if result.needed:
        raise typer.Exit(1)


def run(folder: Path, devices: Sequence[Path]) -> Retest:
    """Return what has changed since a folder's records were made, by files of today.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    from dataclasses import replace

    from certify.fleet.retest import retest

    before = _read_before(folder)
    result = retest(before.states, _read_today(devices), before.counted)
    return replace(result, not_checked=(*result.not_checked, *before.not_checked))


class _Before(NamedTuple):
    states: list[NodeState]
    counted: Counted
    not_checked: tuple[str, ...]


def _read_before(folder: Path) -> _Before:
    """Return the nodes of a statement or of a folder of records as they were measured."""
    from bench.record import read_bytes
    from certify.documents.caps import CAPS
    from certify.documents.dsse import parse_envelope
    from certify.documents.kinds import parse_payload
    from certify.statement.claim import check_root

    if not folder.is_dir():
        raise InputError("records-not-folder", "is not a folder", where=folder)
    lines, file = folder / "records.jsonl", folder / "statement.dsse.json"
    read = list(_read_records(lines if lines.exists() else folder))
    states = [state for state, _ in read]
    # Records alone: each of their devices is compared, since no statement says which are claimed.
    if not file.exists():
        return _Before(states, lambda node_id, device: True, ("which devices are claimed: there is no statement",))
    envelope = parse_envelope(read_bytes(file, CAPS.statement_bytes), CAPS.statement_bytes, file)
    statement = parse_payload("capacity-statement", envelope.payload, file).predicate
    payloads = [payload for _, payload in read]
    # records.jsonl is itself in the order of the root, by digest; a folder has no order of its own.
    check_root(payloads if lines.exists() else sorted(payloads), statement, folder)
    places = statement.places
    return _Before(
        states,
        lambda node_id, device: places.pool_of(node_id, device) is not None,
        ("who signed the statement, and whether it holds: petaseal verify says so",),
    )


def _read_today(paths: Sequence[Path]) -> dict[str, NodeState]:
    """Return the nodes as they are, by node id."""
    today: dict[str, NodeState] = {}
    for path in paths:
        for state in _read_path(path):
            # Which of two states is today's could only be guessed.
            if state.node_id in today:
                raise RefusedError("node-twice", f"holds node {state.node_id}, which was given before", where=path)
            today[state.node_id] = state
    return today


def _read_path(path: Path) -> Iterator[NodeState]:
    """Yield the node states of a folder or of a file."""
    from bench.record import read_bytes
    from certify.documents.caps import CAPS
    from certify.documents.kinds import RECORD_SUFFIX
    from certify.fleet.retest import parse_listing

    if path.is_dir():
        # A statement's folder: its single records may lie beside, and would be read twice.
        if (path / "records.jsonl").exists():
            yield from _read_path(path / "records.jsonl")
            return
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        listings = [name for name in names if name.endswith(".json") and not name.endswith(".dsse.json")]
        records = [name for name in names if name.endswith(RECORD_SUFFIX)]
        if not listings and not records:
            raise InputError("devices-file-invalid", f"holds no NODE.json and no NODE{RECORD_SUFFIX}", where=path)
        for name in listings:
            yield from _read_path(path / name)
        if records:
            yield from (state for state, _ in _read_records(path))
    elif path.name.endswith(RECORD_SUFFIX) or path.name.endswith(".jsonl"):
        yield from (state for state, _ in _read_records(path))
    else:
        yield parse_listing(path.name.removesuffix(".json"), read_bytes(path, CAPS.record_bytes), path)


def _read_records(source: Path) -> Iterator[tuple[NodeState, str]]:
    """Yield the state and the payload digest of every record, each opened by its own seal."""
    from certify.statement.claim import ClaimReader, read_all
    from certify.trust.opening import Verifier
    from certify.trust.trusted_set import TrustedSet

    untrusting = TrustedSet("signature", {}, {}, (), {})  # the records' own seals are checked, and nobody's identity
    yield from read_all(ClaimReader(source, Verifier(untrusting, "9999-12-31T23:59:59.999999Z"), _keep))


def _keep(opened: OpenedDocument[NodeRecord]) -> tuple[NodeState, str]:
    from certify.fleet.retest import state_of

    return state_of(opened.predicate), opened.payload_sha256
