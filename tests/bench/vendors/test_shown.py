"""What ``petaseal devices`` says of where a device's facts and readings are from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import pytest
from typer.testing import CliRunner

import bench.devices
from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools.mthreads_gmi import MthreadsGmi
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.mthreads import MooreThreads
from bench.errors import InputError
from tests.bench.app import app
from tests.bench.vendors.tools import VENDORS, Vendor


class TooOld(DeviceSource):
    """A library that cannot be used."""

    @classmethod
    def open(cls, root: Path) -> Self:
        """Refuse."""
        what = "version 1.9 has no function mtmlDeviceGetPowerUsage"
        raise InputError("device-library-unusable", what, where="/usr/lib/libmtml.so")


class NewGmi(MthreadsGmi):
    """The tool, which reports its version."""

    def devices(self) -> list[ListedDevice]:
        """Return the GPUs of the report."""
        rows = super().devices()
        self.version = "2.1.0"
        return rows


class TwoSources(MooreThreads):
    """A back end whose first source cannot be used."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (TooOld, NewGmi)


@pytest.fixture
def _two_sources(
    tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> TwoSources:
    node(VENDORS["musa"])
    backend = TwoSources(tmp_path)
    monkeypatch.setattr(bench.devices, "load_backend", lambda kind: backend)
    return backend


@pytest.mark.usefixtures("_two_sources")
def test_the_source_is_named_and_why_an_earlier_one_was_skipped(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["devices", "--device", "musa:0"], catch_exceptions=False)
    assert f"read through mthreads-gmi 2.1.0 ({tmp_path}/bin/mthreads-gmi, sha256 " in shown.stdout
    assert "not through /usr/lib/libmtml.so: version 1.9 has no function mtmlDeviceGetPowerUsage\n" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["devices", "--device", "musa:0", "--json"]).stdout)
    (device,) = told["devices"]
    assert (device["source"], device["source_version"]) == ("mthreads-gmi", "2.1.0")
    assert (device["model"]["source"], device["model"]["source_version"]) == ("mthreads-gmi", "2.1.0")
    assert device["skipped"] == ["/usr/lib/libmtml.so: version 1.9 has no function mtmlDeviceGetPowerUsage"]
