"""A node whose accelerators no back end knows: they are named, and its processors are not measured in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import bench.devices
from bench.devices import select_devices, survey_devices
from bench.devices.base import LocalDevice
from bench.devices.fake import Fake
from bench.devices.pci import unknown_accelerators
from bench.errors import InputError
from tests.bench.app import app

Bus = Callable[[dict[str, str]], None]


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Return what puts processing accelerators of some vendors on this node's bus, by their addresses."""

    def put(vendors: dict[str, str]) -> None:
        for address, vendor in vendors.items():
            folder = tmp_path / "sys/bus/pci/devices" / address
            folder.mkdir(parents=True)
            for name, text in (("vendor", vendor), ("class", "0x120000"), ("device", "0x6001")):
                (folder / name).write_text(f"{text}\n")
        monkeypatch.setattr(bench.devices, "unknown_accelerators", partial(unknown_accelerators, root=tmp_path))

    return put


@pytest.mark.parametrize(
    ("vendor", "name"),
    [
        ("0x1ded", "T-Head (PCI vendor 0x1ded)"),
        ("0x1e36", "Enflame (PCI vendor 0x1e36)"),
        ("0x1ee0", "Biren (PCI vendor 0x1ee0)"),
        ("0xfff0", "PCI vendor 0xfff0"),
    ],
)
def test_all_refuses_to_measure_the_processors_in_their_place(bus: Bus, vendor: str, name: str) -> None:
    bus({"0000:a8:00.0": vendor})
    with pytest.raises(InputError) as error:
        select_devices("all")
    assert str(error.value) == (
        f"0000:a8:00.0: an accelerator of {name}, which petaseal has no back end for; install a plug-in for that "
        "vendor, or the vendor's own for torch (--device torch:0), or name the devices to measure with --device "
        "[accelerator-unknown]"
    )
    assert [one.device.device for one in select_devices("cpu")] == ["cpu:0"]


def test_the_command_names_each_vendor_once_and_ends_with_1(bus: Bus) -> None:
    bus({f"0000:{bus_number:02x}:00.0": "0x1ded" for bus_number in range(8)} | {"0000:b0:00.0": "0x1ee0"})
    shown = CliRunner().invoke(app, ["devices"])
    assert shown.exit_code == 1
    assert "cpu:0" in shown.stdout
    assert "0000:00:00.0, 0000:01:00.0, 0000:02:00.0 and 5 more: 8 accelerators of T-Head" in shown.stderr
    assert "0000:b0:00.0: an accelerator of Biren" in shown.stderr
    assert "name the devices" not in shown.stderr  # which is what a measurement needs
    told = json.loads(CliRunner().invoke(app, ["devices", "--json"]).stdout)
    assert [problem["code"] for problem in told["problems"]] == ["accelerator-unknown", "accelerator-unknown"]
    assert len(told["unknown_accelerators"]) == 9
    assert told["unknown_accelerators"][-1] == {
        "pci_address": "0000:b0:00.0",
        "vendor_id": 0x1EE0,
        "device_id": 0x6001,
        "pci_class": 0x1200,
        "is_virtual": False,
        "vendor": "Biren",
    }
    named = CliRunner().invoke(app, ["devices", "--device", "cpu", "--json"])
    assert (named.exit_code, json.loads(named.stdout)["unknown_accelerators"]) == (0, [])


def test_a_run_is_refused_before_anything_is_measured(bus: Bus, tmp_path: Path) -> None:
    bus({"0000:a8:00.0": "0x1e36"})
    with pytest.raises(InputError, match="Enflame") as error:
        CliRunner().invoke(app, ["run", "--profile", "smoke", "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert error.value.code == "accelerator-unknown"
    assert not (tmp_path / "out").exists()


class Known:
    """A back end of a plug-in, which finds one device."""

    vendor_ids: frozenset[int] = frozenset()

    def __init__(self, kind: str, pci_address: str | None) -> None:
        self.kind = kind
        self.pci_address = pci_address

    def find(self, argument: str | None) -> list[LocalDevice]:
        model, device = Fake().find("1")[0][:2]
        own = replace(device, device=f"{self.kind}:0", pci_address=self.pci_address)
        return [LocalDevice(replace(model, kind="npu", simulated=False), own)]


@pytest.mark.parametrize(
    ("kind", "pci_address", "vendor_ids", "vendors", "unknown"),
    [
        ("acme", "0000:a8:00.0", set(), ["0x1ded"], 0),  # found, whoever found it
        ("acme", None, {0x1DED}, ["0x1ded"], 0),
        ("acme", None, set(), ["0x1ded"], 1),
        ("torch", None, set(), ["0x1ded"], 0),  # torch shows no address: they are that vendor's
        ("torch", None, set(), ["0x1ded", "0x1ee0"], 2),  # of which of both?
    ],
)
def test_what_a_plug_in_or_torch_found_is_not_unknown(
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    pci_address: str | None,
    vendor_ids: set[int],
    vendors: list[str],
    unknown: int,
) -> None:
    bus({f"0000:a{8 + index}:00.0": vendor for index, vendor in enumerate(vendors)})
    backend = Known(kind, pci_address)
    backend.vendor_ids = frozenset(vendor_ids)
    monkeypatch.setattr(bench.devices, "backend_names", lambda: {kind: ""})
    monkeypatch.setattr(bench.devices, "load_backend", lambda kind: backend)
    found, problems = survey_devices("all")
    assert [one.device.device for one in found] == [f"{kind}:0"]
    assert [problem.code for problem in problems] == ["accelerator-unknown"] * unknown
