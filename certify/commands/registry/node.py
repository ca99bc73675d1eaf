"""What a certified node says to others: ``registry heartbeat`` to a registry, ``registry textfile`` to Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, RefusedError
from certify.commands.options import Json, RegistryPassphraseFile
from certify.commands.output import report
from certify.commands.registry.show import Ca, Timeout, Url, connected, libraries, say_outlived

if TYPE_CHECKING:
    from bench.record import Device

app = typer.Typer()


@app.command(
    epilog="Example: petaseal registry heartbeat --url https://registry.example --centre gz-park-1 --node node17"
    " --every 120"
)
def heartbeat(
    url: Url,
    centre: Annotated[str | None, typer.Option(help="Centre of the node.")] = None,
    node: Annotated[str | None, typer.Option(help="The node's name in the records.")] = None,
    rack: Annotated[
        Path | None, typer.Option(help="In place of a node: YAML file of many nodes, with their keys and devices.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Key that signed its record (default: this node's own).")] = None,
    passphrase_file: RegistryPassphraseFile = None,
    device: Annotated[str, typer.Option(help='Devices that are certified, as for "petaseal run".')] = "all",
    listing: Annotated[
        Path | None,
        typer.Option("--devices", help="What petaseal devices --json printed, read for each heartbeat."),
    ] = None,
    max_age: Annotated[
        float, typer.Option(min=1, max=86_400, help="With --rack: seconds after which a node's devices are too old.")
    ] = 300.0,
    every: Annotated[
        float | None, typer.Option(min=1, max=86_400, help="Seconds between two; goes on for ever.")
    ] = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Tell the registry that a certified node, or a rack of them, is there with its devices; exit 1 where it is not."""
    if (rack is None) == (node is None):
        raise InputError("usage", "give exactly one of --node and --rack")
    if rack is not None:
        # each of these stands in the rack file, for each node of its own
        for option, value in (("--centre", centre), ("--key", key), ("--devices", listing)):
            if value is not None:
                raise InputError("usage", "is for --node: a rack file names it itself", where=option)
        _beat_rack(url, rack, passphrase_file, max_age, every, (ca, timeout), as_json)
        return
    if centre is None or node is None:
        raise InputError("usage", "--node is a node of a centre", fix="give --centre")

    import msgspec

    from bench.environment import machine_id
    from bench.record.files import state_dir
    from certify.keys import files as keys
    from certify.keys.loading import load_signing_key

    signing = load_signing_key(key, passphrase_file) if key else keys.node_key(state_dir(), machine_id())

    # Read anew for each heartbeat: a card that is swapped between two must not go on being certified.
    def present() -> Sequence[Device]:
        return _survey(device) if listing is None else _listed(listing, node)

    with connected(url, None, ca, timeout) as there:
        from certify.registry.client.heartbeat import Heart

        heart = Heart(there, centre, node, signing, present)
        beats = [heart.beat()] if every is None else heart.keep_beating(every, report=say_outlived)
        for beat in beats:
            state = "on-line" if beat.online else f"NOT ON-LINE [{beat.code}]"
            lines = [f"{beat.seen_at} {beat.node_id} {state}; the next one before {beat.stale_at}"]
            report(as_json, msgspec.to_builtins(beat), lines)
    # With --every it goes on: a registry may take the node back once its devices are there again.
    if every is None and not beat.online:
        raise RefusedError(beat.code or "devices-differ", "its devices are not those that were certified", where=node)


def _beat_rack(
    url: str,
    rack: Path,
    passphrase_file: Path | None,
    max_age_s: float,
    every_s: float | None,
    connection: tuple[Path | None, float],
    as_json: bool,
) -> None:
    """Send the heartbeats of all nodes of a rack file, once or for ever."""
    with connected(url, None, *connection) as there:
        import msgspec

        from certify.registry.client.rack import RackHeart, read_rack

        centre_id, nodes = read_rack(rack, passphrase_file, max_age_s)
        heart = RackHeart(there, centre_id, nodes)
        rounds = [heart.beat()] if every_s is None else heart.keep_beating(every_s, report=say_outlived)
        for beats in rounds:
            missing = [beat for beat in beats if not beat.online]
            before = min((beat.stale_at for beat in beats if beat.stale_at is not None), default=None)
            text = f"{len(beats) - len(missing)} of {len(beats)} nodes of {centre_id} on-line"
            lines = [text if before is None else f"{text}; the next ones before {before}"]
            lines += [f"  {beat.node_id} NOT ON-LINE [{beat.code}] {beat.detail or ''}".rstrip() for beat in missing]
            report(as_json, {"centre_id": centre_id, "lines": [msgspec.to_builtins(beat) for beat in beats]}, lines)
    if every_s is None and missing:
        what = f"{len(missing)} of {len(beats)} nodes are not on-line"
        raise RefusedError(missing[0].code or "devices-differ", what, where=centre_id)


@app.command(
    epilog="Example: petaseal registry textfile statement --node node17 --out /var/lib/node_exporter/petaseal.prom"
)
def textfile(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a statement and its records.")],
    node: Annotated[str, typer.Option(help="The node's name in the records.")],
    out: Annotated[Path, typer.Option(help="File for the node exporter (*.prom); it is replaced.")],
    identities: Annotated[
        bool, typer.Option("--identities", help="Tell uuid, serial, die id and PCI address of devices too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a node's certified figures for Prometheus' node exporter."""
    with libraries("to write metrics"):
        from certify.registry.client.textfile import write_textfile

        made = write_textfile(folder, node, out, identities)
    shown = {"out": str(made.path), "statement": made.statement, "figures": made.figures}
    lines = [f"{made.path}: {made.figures} figure(s) of {node}", f"statement {made.statement}"]
    lines += [f"NOT CHECKED: {what}" for what in made.not_checked]
    report(as_json, {**shown, "not_checked": list(made.not_checked)}, lines)


def _survey(wanted: str) -> list[Device]:
    """Return the usable devices of this node."""
    from bench.devices import survey_devices

    usable, _ = survey_devices(wanted)
    return [one.device for one in usable]


def _listed(file: Path, node_id: str) -> list[Device]:
    """Return the usable devices that ``petaseal devices --json`` printed."""
    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.fleet.retest import parse_listing

    state = parse_listing(node_id, read_given(file, CAPS.record_bytes), file)
    return [part.device for part in state.parts if part.trouble is None]
