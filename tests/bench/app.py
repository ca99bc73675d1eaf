"""The commands of `bench` below a small root, with a sealing that signs nothing: what a test starts as a process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer

from bench.cli import mount
from bench.errors import PetasealError
from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile, encode
from bench.record.judged import Explained, Judged


class PlainSigner:
    """Writes the record as it is, beside what it binds."""

    spki_b64 = "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

    def seal_record(self, record: NodeRecord, samples_sha256: str) -> bytes:
        return encode({"record": record, "samples_sha256": samples_sha256})


class PlainSealing:
    """Reads campaigns that nobody signed."""

    def open_campaign(self, path: Path, *, shared: bool = False) -> Campaign:
        return msgspec.json.decode(path.read_bytes(), type=Campaign)

    def signer(
        self, key_file: Path | None, passphrase_file: Path | None, state_dir: Path, machine_id: str
    ) -> PlainSigner:
        return PlainSigner()

    def judge(self, record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
        return {
            (figure.device, m.precision): Explained({}, "none", None, None)
            for m in record.measurements
            for figure in m.figures()
        }

    def describe(self, record: NodeRecord, judged: Judged) -> list[str]:
        return [f"{record.node_id}: {len(record.measurements)} measurements, {len(record.failures)} failures"]


class PlainOutlook(NamedTuple):
    """Expects nothing but a rating of fakes."""

    nominal_mflop_s: dict[str, int]
    tdp_mw: int | None = None
    exposed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return ["  nothing is expected"]

    def as_json(self) -> dict[str, object]:
        return {}


def foresee(policies: Sequence[str], ratings: Path | None) -> Callable[[DeviceModel, Device], PlainOutlook]:
    """Return what expects the same of all fakes."""
    return lambda model, device: PlainOutlook({"fp16": 312_000_000} if model.simulated else {})


app = typer.Typer(pretty_exceptions_enable=False)
mount(app, PlainSealing(), foresee)


def main() -> None:
    """Run the commands as the root does: an error is one sentence and an exit status."""
    try:
        app()
    except PetasealError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
