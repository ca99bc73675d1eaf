"""The documented example of a third party's back end works as its page says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.clock import SimulatedClock
from bench.devices import DEVICES, load_backend
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import (
    VENDORS,
    backend_of,
    script,
)

# The documented example
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "vendor_example.py"
ACME = """
case "$1" in
list) echo "0 | Acme A1 | A1-0017 | 0000:17:00.0 | 64 GiB"; echo "1 | Acme A1 | N/A | N/A | N/A" ;;
watch) echo "351.5 W | 64 C | 1450 MHz | N/A" ;;
esac
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the example as a distribution of its own, and its vendor's tool."""
    info = tmp_path / "site" / "petaseal_acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: petaseal-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[petaseal.devices]\nacme = vendor_example:Acme\n")
    shutil.copy(EXAMPLE, tmp_path / "site")
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "acme-tool", ACME)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return tmp_path


def test_the_documented_example_is_a_vendor(acme: Path) -> None:
    command = [sys.executable, "-m", "certify", "devices", "--device", "acme:0,acme:1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE.parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)["devices"]
    assert (first["device"], first["serial"], first["pci_address"]) == ("acme:0", "A1-0017", "0000:17:00.0")
    assert (first["model"]["vendor"], first["model"]["model"]) == ("Acme", "Acme A1")
    assert first["model"]["memory_bytes"] == 64 * 2**30
    assert first["model"]["library"] == str(acme / "bin" / "acme-tool")
    assert (second["serial"], second["pci_address"], second["model"]["memory_bytes"]) == (None, None, None)


def test_the_documented_example_is_opened_and_read(acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(acme / "site"))
    backend: Any = load_backend("acme")
    opened = backend.open(backend.find("0")[0], SimulatedClock())
    assert (opened.target, os.environ["ACME_VISIBLE_DEVICES"]) == ("acme:0", "0")
    assert opened.source().read() == Reading(power_mw=351_500, temperature_c=64, clock_mhz=1450)
    assert opened.unsupported("fp64")
    script(acme / "bin" / "acme-tool", "echo 'Acme 2.0: nothing here'")
    with pytest.raises(InputError, match="unknown form"):
        backend.find("0")


def test_the_page_shows_the_entry_point_that_works(acme: Path) -> None:
    page = (EXAMPLE.parents[1] / "devices.md").read_text(encoding="utf-8")
    assert 'acme = "vendor_example:Acme"' in page
    for kind in DEVICES:
        assert kind == "fake" or f"| {kind} |" in page
    for vendor in VENDORS:
        assert f"| {backend_of(vendor).vendor} |" in page
