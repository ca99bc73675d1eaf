"""The commands `devices` and `run` with a key that signs nothing and a judge that expects nothing.

It is what a test starts as a process: records can be read as they are, and what is printed depends on no table.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from bench.errors import PetasealError
from bench.output import NodeSigner
from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile, encode
from bench.record.judged import DeviceOutlook, Explained, Judged
from certify.commands import run


def plainly_signed(record: NodeRecord, samples_sha256: str) -> bytes:
    """Return the record as it is, beside what it binds."""
    return encode({"record": record, "samples_sha256": samples_sha256})


def plain_signer(key_file: Path | None, passphrase_file: Path | None, machine_id: str) -> NodeSigner:
    return NodeSigner("MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", plainly_signed)


def judge(record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
    """Find nothing wrong with any figure."""
    return {
        (figure.device, m.precision): Explained({}, "none", None, None)
        for m in record.measurements
        for figure in m.figures()
    }


def describe(record: NodeRecord, judged: Judged) -> list[str]:
    return [f"{record.node_id}: {len(record.measurements)} measurements, {len(record.failures)} failures"]


def foresee(policies: Sequence[str], ratings: Path | None) -> Callable[[DeviceModel, Device], DeviceOutlook]:
    """Return what expects the same of all fakes, and of nothing else anything."""

    def outlook(model: DeviceModel, device: Device) -> DeviceOutlook:
        return DeviceOutlook({"fp16": 312_000_000} if model.simulated else {}, None, (), ["  nothing is expected"], {})

    return outlook


PLAIN = {
    "certify.commands.run.node_signer": plain_signer,
    "certify.statement.describe.judge_record": judge,
    "certify.statement.describe.describe_record": describe,
    "certify.statement.outlook.foresee": foresee,
}


def plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that meets the plain key and judge while it runs."""

    @wraps(command)
    def call(*args: Any, **options: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for name, stand_in in PLAIN.items():
                stack.enter_context(mock.patch(name, stand_in))
            return command(*args, **options)

    return call


app = typer.Typer(pretty_exceptions_enable=False)
for info in run.app.registered_commands:
    assert info.callback is not None
    app.command(info.name, epilog=info.epilog)(plainly(info.callback))


def main() -> None:
    """Run the commands as the root does: an error is one sentence and an exit status."""
    try:
        app()
    except PetasealError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
