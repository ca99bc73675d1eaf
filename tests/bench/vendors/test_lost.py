"""One card that a vendor's tool cannot speak of: listed in its place with what is known, and no other is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.clock import SimulatedClock, SystemClock
from bench.devices import DeviceSurvey, faulty_neighbours, on_its_node, opened_vendor, select_devices, survey_devices
from bench.devices.base import Faulty
from bench.devices.vendor import VendorBackend
from bench.errors import DeviceError, InputError
from tests.bench.vendors.tools import IX_LIST, ROCM_LIST, VENDORS, Vendor, install, opened_at, sample

# What a tool prints where card 0 is lost: its arguments, and what stands there for what would be told of it.
LOST: dict[str, tuple[str, Callable[[str], str]]] = {
    "rocm": (f"{ROCM_LIST} --json", lambda text: text.replace('"Card Series"', '"Card Error"', 1)),
    "dcu": (f"{ROCM_LIST} --json", lambda text: text.replace('"Card Series"', '"Card Error"', 1)),
    "mlu": ("info", lambda text: text.replace("Product Name", "Error       ", 1)),
    "musa": ("-q --json", lambda text: text.replace('"Product Name"', '"Error"', 1)),
    "maca": ("", lambda text: text.replace("| 63C     341W / 350W             P0 |", "| ERR!     |")),
    "corex": (IX_LIST, lambda text: "0" + ", [GPU is lost]" * 6 + "\n" + text.partition("\n")[2]),
    "kunlun": ("-q", lambda text: text.replace("Product Name", "Error       ", 1)),
    "npu": ("info -t board -i 0 -c 0", lambda text: ""),  # and this run fails
}


def lose(vendor: Vendor, folder: Path) -> None:
    """Let the tool on PATH fail for card 0 from now on."""
    arguments, change = LOST[vendor.kind]
    answers = dict(vendor.answers)
    if vendor.kind == "npu":
        del answers[arguments]
    else:
        text = sample(answers[arguments])
        changed = change(text)
        assert changed != text
        (folder / "lost.txt").write_text(changed)
        answers[arguments] = str(folder / "lost.txt")
    install(folder / "bin", vendor.tool, answers)


def test_every_vendor_loses_a_card_here() -> None:
    assert LOST.keys() == VENDORS.keys()


@pytest.mark.parametrize("kind", VENDORS)
def test_a_lost_card_stops_no_other(kind: str, tmp_path: Path, node: Callable[[Vendor], VendorBackend]) -> None:
    vendor = VENDORS[kind]
    backend = node(vendor)
    before = backend.find(None)
    lose(vendor, tmp_path)
    lost, healthy = backend.find(None)
    assert isinstance(lost, Faulty)
    assert (lost.device.device, lost.code) == (f"{kind}:0", "device-failed")
    assert lost.what
    assert not isinstance(healthy, Faulty)
    same = replace(healthy.model, library_sha256=before[1].model.library_sha256)  # the tool is another file now
    assert (same, healthy.device) == before[1][:2]
    assert backend.find("1") == [healthy]
    with pytest.raises(InputError):
        backend.find("0")
    assert backend.open(healthy, SimulatedClock()).target == f"{backend.torch_type}:0"


@pytest.mark.parametrize("kind", ["rocm", "npu"])
def test_the_command_lists_it_and_measures_the_other(
    kind: str, tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = VENDORS[kind]
    backend = node(vendor)
    lose(vendor, tmp_path)
    monkeypatch.setattr("bench.devices.load_backend", lambda kind: backend)
    assert [one.device.device for one in select_devices(kind)] == [f"{kind}:0", f"{kind}:1"]
    assert [one.device.device for one in select_devices(f"{kind}:1")] == [f"{kind}:1"]
    found, problems = survey_devices(kind)
    assert [one.device.device for one in found] == [f"{kind}:1"]
    (problem,) = problems
    assert (problem.code, problem.where) == ("device-failed", f"{kind}:0")
    lost = Faulty(*backend.find(None)[0][:2], "device-lost", "is gone")
    monkeypatch.setattr(backend, "find", lambda argument: [lost])
    with pytest.raises(DeviceError) as error:
        select_devices(kind)
    assert str(error.value) == f"{kind}:0: is gone [device-lost]"


def test_a_command_lists_each_kind_once(
    tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool takes seconds for a list, and only one of them may run on a node."""
    vendor = VENDORS["musa"]
    backend = node(vendor)
    tool = tmp_path / "bin" / vendor.tool
    log = tmp_path / "log"
    tool.write_text(tool.read_text().replace("#!/bin/sh\n", f'#!/bin/sh\necho "$*" >> {log}\n'))
    monkeypatch.setattr("bench.devices.load_backend", lambda kind: backend)
    survey = DeviceSurvey()
    found = select_devices("musa:1,musa:0", survey)
    assert [one.device.device for one in found] == ["musa:1", "musa:0"]
    assert faulty_neighbours("musa:1,musa:0", found, survey) == []
    once = log.read_text().splitlines()
    log.unlink()
    backend.find(None)
    assert once == log.read_text().splitlines()
    with pytest.raises(InputError, match="no such device"):
        select_devices("musa:0,musa:2")


def test_a_lost_card_on_a_numa_node_is_still_lost(
    node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, device, *_ = node(VENDORS["rocm"]).find("0")[0]
    monkeypatch.setattr("bench.devices.numa_node", lambda address: 1)
    lost = on_its_node(Faulty(model, device, "device-lost", "is gone"))
    assert isinstance(lost, Faulty)
    assert (lost.code, lost.what) == ("device-lost", "is gone")


def test_a_card_on_a_numa_node_is_opened_by_its_worker(
    node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker's back end finds at its place has no NUMA node: that is the host's to tell."""
    backend = node(VENDORS["rocm"])
    monkeypatch.setattr("bench.devices.numa_node", lambda address: 1)
    found = on_its_node(backend.find("0")[0])
    assert found.device.numa_node == 1
    backend.open(found, SystemClock())


def test_a_tool_that_speaks_of_no_card_is_broken_itself(
    tmp_path: Path, node: Callable[[Vendor], VendorBackend]
) -> None:
    vendor = VENDORS["dcu"]
    backend = node(vendor)
    (tmp_path / "none.txt").write_text(sample(vendor.answers[f"{ROCM_LIST} --json"]).replace("Card Series", "Error"))
    install(tmp_path / "bin", vendor.tool, {**vendor.answers, f"{ROCM_LIST} --json": str(tmp_path / "none.txt")})
    with pytest.raises(InputError, match="unknown form"):
        backend.find(None)


@pytest.mark.parametrize(
    ("ids", "seen"),
    [((0, 0, 0), None), ((0, 12, 0), "0000:0c:00"), ((0, 0, 1), "0000:00:01"), ((1, 0, 0), "0001:00:00")],
)
def test_an_address_that_torch_leaves_all_zero_is_unknown(
    ids: tuple[int, int, int], seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the torch of some vendors does; the visibility variable alone then tells which device it is."""
    import torch

    properties = dict(zip(("pci_domain_id", "pci_bus_id", "pci_device_id"), ids, strict=True))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: type("Properties", (), properties))
    assert opened_vendor._torch_address("cuda") == seen
    opened = opened_at("rocm", "0000:0c:00.0")
    if seen in (None, "0000:0c:00"):
        assert opened.kernel().name == "gemm-torch"
    else:
        with pytest.raises(DeviceError, match=seen):
            opened.kernel()
