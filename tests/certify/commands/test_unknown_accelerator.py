"""A node with an accelerator that no back end knows, by the real commands over a bus of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certify.commands.test_prospects import AI, created, place

__all__ = ["place"]


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """Return a PCI bus with two of T-Head's; skip where nothing can be mounted over the real one, save in CI."""
    for address in ("0000:a8:00.0", "0000:a9:00.0"):
        folder = tmp_path / "bus" / address
        folder.mkdir(parents=True)
        for name, text in (("vendor", "0x1ded"), ("class", "0x120000"), ("device", "0x6001")):
            (folder / name).write_text(f"{text}\n")
    tried = command(tmp_path / "bus", "true")
    if tried.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(tried.stderr)
        pytest.skip(tried.stderr)
    return tmp_path / "bus"


def command(bus: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command with another PCI bus, in a namespace of its own."""
    line = f"mount --bind {shlex.quote(str(bus))} /sys/bus/pci/devices && exec {shlex.join(map(str, words))}"
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return subprocess.run(
        ["unshare", *as_root, "--mount", "sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def petaseal(bus: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return command(bus, sys.executable, "-m", "certify", *words)


def test_no_command_measures_the_processors_in_their_place(bus: Path, place: Path) -> None:
    what = "0000:a8:00.0, 0000:a9:00.0: 2 accelerators of T-Head (PCI vendor 0x1ded)"
    shown = petaseal(bus, "devices")
    assert shown.returncode == 1
    assert f"cannot be used: {what}" in shown.stderr
    run = petaseal(bus, "run", "--profile", "smoke", "--out", place / "out")
    assert run.returncode == 2
    assert what in run.stderr
    assert "or name the devices to measure with --device [accelerator-unknown]" in run.stderr
    assert created(place, pools=({**AI, "nodes": ["a1"]},), device="all").status == 0
    check = petaseal(bus, "campaign", "check", place / "c")
    assert check.returncode == 1
    assert what in check.stdout
