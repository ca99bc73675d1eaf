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
from tests.bench.vendors.nvml_copies import NVML, chip
from tests.bench.vendors.tools import (
    VENDORS,
    backend_of,
    script,
)
from tests.fake_libraries import compile_library, write_script

# The documented example
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "vendor_example.py"
NVML_LIKE = EXAMPLE.with_name("nvml_like_example.py")
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
    (found,) = backend.find("0")
    read = backend.watch([found]).read()["acme:0"]
    opened = backend.open(found, SimulatedClock())
    assert (opened.target, os.environ["ACME_VISIBLE_DEVICES"]) == ("acme:0", "0")
    assert read == Reading(power_mw=351_500, temperature_c=64, clock_mhz=1450)
    assert opened.unsupported("fp64")
    script(acme / "bin" / "acme-tool", ACME.replace("351.5 W | 64 C | 1450 MHz", "65535 W | 64 C"))
    with pytest.raises(InputError, match="unknown form"):
        backend.watch([found]).read()
    script(acme / "bin" / "acme-tool", "echo 'Acme 2.0: nothing here'")
    with pytest.raises(InputError, match="unknown form"):
        backend.find("0")


def test_a_back_end_that_names_no_pci_vendor_is_found_by_its_name_alone(acme: Path, tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().splitlines(keepends=True)
    left_out = ("vendor_ids =", 'folder = "')
    text = "".join(line for line in lines if not line.strip().startswith(left_out))
    (acme / "site" / EXAMPLE.name).write_text(text)
    for device, status in (("acme:0", 0), ("all", 0)):
        command = [sys.executable, "-m", "certify", "devices", "--device", device, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE.parents[2])
        assert (done.returncode, done.stderr) == (status, "")
        kinds = {one["device"].partition(":")[0] for one in json.loads(done.stdout)["devices"]}
        assert ("acme" in kinds) == (device != "all")


@pytest.fixture
def boreal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the example of a library as a distribution of its own, and a library that copies NVML with its prefix."""
    info = tmp_path / "site" / "petaseal_boreal-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: petaseal-boreal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[petaseal.devices]\nboreal = nvml_like_example:Boreal\n")
    shutil.copy(NVML_LIKE, tmp_path / "site")
    library = compile_library(NVML, "libborealml.so.2", prefixes=("nvml", "bnml"))
    script_path = write_script(tmp_path, chip(0, name="Boreal B1") + chip(1, name="Boreal B1", virtualization=2))
    monkeypatch.setenv("FAKE_NVIDIA", str(script_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return library


def test_the_documented_example_of_a_library_is_a_vendor(boreal: Path) -> None:
    assert len(NVML_LIKE.read_text().splitlines()) < 40
    command = [sys.executable, "-m", "certify", "devices", "--device", "boreal:0,boreal:1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE.parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)["devices"]
    assert (first["device"], first["pci_address"], first["serial"]) == ("boreal:0", "0000:31:00.0", "310000000")
    model = first["model"]
    assert (model["vendor"], model["model"], model["count_unit"]) == ("Boreal", "Boreal B1", "card")
    assert (model["source"], model["library"], model["power_limit_mw"]) == ("bnml", str(boreal), 250_000)
    assert model["exposes"] == ["power", "clock", "temperature", "throttle", "ecc", "processes"]
    assert model["simulated"]
    assert second["model"]["count_unit"] == "slice"


def test_the_page_shows_the_entry_point_that_works(acme: Path) -> None:
    page = (EXAMPLE.parents[1] / "devices.md").read_text(encoding="utf-8")
    assert 'acme = "vendor_example:Acme"' in page
    assert 'boreal = "nvml_like_example:Boreal"' in page
    for kind in DEVICES:
        assert kind == "fake" or f"| {kind} |" in page
    for vendor in VENDORS:
        assert f"| {backend_of(vendor).vendor} |" in page
