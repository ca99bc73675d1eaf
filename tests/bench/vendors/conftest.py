"""What the tests of vendors share: no visibility variables, and a node with one vendor's devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.devices.tools.tool import VISIBILITY
from bench.devices.vendor import VendorBackend
from tests.bench.vendors.tools import Vendor, backend_of, bus, install


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VISIBILITY:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """List devices in this process, not in one that is started for it (`tests.bench.test_reader` does that)."""
    monkeypatch.setattr(VendorBackend, "find", VendorBackend.look)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Vendor], VendorBackend]:
    """Return what sets a node with one vendor's devices up: its bus and its tool."""

    def build(vendor: Vendor) -> VendorBackend:
        backend = type(backend_of(vendor.kind))
        root = bus(tmp_path, backend, vendor.pci_class, vendor.functions)
        install(tmp_path / "bin", vendor.tool, vendor.answers)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return backend(root)

    return build
