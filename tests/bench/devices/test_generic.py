"""What torch.accelerator tells, by a torch of our own; the real one runs in tests/privateuse1."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bench.devices.generic as generic
from bench.clock import SimulatedClock
from bench.devices.generic import Torch, announced
from bench.devices.torch_device import OpenedTorch, free_bytes
from bench.errors import InputError


def raising(*args: object, **named: object) -> Any:
    raise RuntimeError("not here")


def a_torch(kind: str = "hpu", count: int = 2, *, available: bool = True, **module: object) -> SimpleNamespace:
    accelerator = SimpleNamespace(
        is_available=lambda: available,
        current_accelerator=lambda: SimpleNamespace(type=kind),
        device_count=lambda: count,
        current_stream=lambda device: f"stream of {device}",
    )

    def device(target: str) -> SimpleNamespace:
        return SimpleNamespace(type=target.partition(":")[0], index=int(target.partition(":")[2]))

    modules = {kind: SimpleNamespace(**module)}
    return SimpleNamespace(accelerator=accelerator, device=device, __version__="2.6", **modules)


@pytest.fixture(autouse=True)
def _announced(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins(monkeypatch, "habana_frameworks.torch:autoload")
    monkeypatch.setattr(generic, "find_spec", lambda name: object())
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)


def plugins(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [EntryPoint("any", value, generic.TORCH_BACKENDS) for value in values]
    monkeypatch.setattr(generic, "entry_points", lambda group: points)


def use(monkeypatch: pytest.MonkeyPatch, torch: object) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.mark.parametrize(
    ("values", "autoload", "intel", "installed", "expected"),
    [
        ((), "1", False, True, False),  # a plain CPU node: torch is not imported
        (("torch_npu:_autoload", "torch_mlu:_autoload", "torch_musa:_autoload"), "1", False, True, False),
        (("habana_frameworks:__autoload",), "1", False, True, True),
        (("torch_npu:_autoload", "new.vendor:load"), "1", False, True, True),
        (("new.vendor:load",), "0", False, True, False),
        ((), "1", True, True, True),
        (("new.vendor:load",), "1", True, False, False),
    ],
)
def test_torch_is_imported_only_where_something_announces_a_device(
    values: tuple[str, ...],
    autoload: str,
    intel: bool,
    installed: bool,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugins(monkeypatch, *values)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", autoload)
    monkeypatch.setattr(generic, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(generic, "present", lambda vendors, root: ["0000:00:02.0"] if intel else [])
    assert announced(tmp_path) is expected
    use(monkeypatch, a_torch() if expected else None)  # None: an import would fail
    assert len(Torch(tmp_path).find(None)) == (2 if expected else 0)


@pytest.mark.parametrize(
    ("torch", "code", "said"),
    [
        (None, "missing-library", "cannot be imported"),
        (SimpleNamespace(__version__="2.5"), "no-device", "torch tells of no accelerator"),
        (a_torch(available=False), "no-device", "torch tells of no accelerator"),
        (a_torch("cuda"), "no-device", "cuda devices have a back end of their own"),
        (a_torch("npu"), "no-device", "npu devices have a back end of their own"),
        (a_torch(count=0), "no-device", "torch tells of no accelerator"),
        (a_torch(count=7), "no-device", "there is no such device"),
    ],
)
def test_a_device_that_there_is_not(torch: object, code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, torch)
    with pytest.raises(InputError) as refused:
        Torch().find("7")
    assert refused.value.code == code
    assert said in str(refused.value)


@pytest.mark.parametrize("torch", [SimpleNamespace(), a_torch(available=False), a_torch("musa"), a_torch(count=0)])
def test_no_device_is_no_error_unless_it_was_named(torch: object, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, torch)
    assert Torch().find(None) == []


PROPERTIES = SimpleNamespace(
    name="Accelerator  9", vendor="Some Vendor", uuid=bytes(range(16)), total_memory=2**36, last_level_cache_size=2**27
)


def test_what_the_module_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, a_torch("xpu", get_device_properties=lambda index: PROPERTIES, get_device_name=raising))
    first, second = Torch().find(None)
    model = first.model
    assert (first.device.device, second.device.device) == ("torch:0", "torch:1")
    assert (model.kind, model.vendor, model.model) == ("gpu", "Some Vendor", "Accelerator  9")
    assert (model.memory_bytes, model.cache_bytes) == (2**36, 2**27)
    assert first.device.uuid == "000102030405060708090a0b0c0d0e0f"
    assert model.obtained == dict.fromkeys(("vendor", "model", "uuid"), "host_attested")


@pytest.mark.parametrize(
    "module",
    [
        {},
        {"get_device_properties": raising, "get_device_name": raising},
        {"get_device_properties": lambda index: None, "get_device_name": lambda index: ""},
        {
            "get_device_properties": lambda index: SimpleNamespace(
                name=7, vendor=None, uuid="00000000-0000-0000-0000-000000000000", total_memory=-1, L2_cache_size="2"
            )
        },
    ],
)
def test_what_the_module_does_not_tell_is_null(module: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, a_torch(**module))  # type: ignore[arg-type]
    (found,) = Torch().find("1")
    assert (found.model.kind, found.model.vendor, found.model.model) == ("npu", "unknown", "hpu")
    assert (found.model.memory_bytes, found.model.cache_bytes, found.model.driver) == (None, None, None)
    assert (found.device.uuid, found.device.serial, found.device.pci_address) == (None, None, None)
    assert found.model.obtained == {"vendor": "asserted", "model": "asserted"}


class Event:
    """An event whose time is the stream that it was recorded on."""

    def __init__(self, enable_timing: bool, device: object = None) -> None:
        assert enable_timing
        self.waited = False

    def record(self, stream: object) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, other: Event) -> float:
        assert other.waited
        assert self.stream == other.stream
        return 1.5


def test_events_are_recorded_on_the_stream_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[Any] = []

    def current_stream(device: SimpleNamespace) -> int:
        streams.append(device)
        return int(device.index)

    use(monkeypatch, a_torch("npu", Event=Event, current_stream=current_stream))
    timer = OpenedTorch("npu:3").timer()
    assert timer is not None
    mark = timer.mark()
    assert isinstance(mark, Event)
    assert (mark.stream, streams[0].index) == (3, 3)
    assert timer.between_ns(mark, timer.mark()) == 1_500_000


def test_a_type_without_events_of_its_own_has_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = a_torch()
    torch.Event = Event
    use(monkeypatch, torch)
    assert OpenedTorch("hpu:1").timer() is not None


@pytest.mark.parametrize(
    "broken", [{"Event": raising, "current_stream": str}, {"Event": Event, "current_stream": raising}, {}]
)
def test_without_timed_events_there_is_no_timer(broken: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, a_torch("npu", **broken))  # type: ignore[arg-type]
    assert OpenedTorch("npu:0").timer() is None


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, a_torch("npu", mem_get_info=lambda device: (1000 + device.index, 5000)))
    assert free_bytes("npu:2") == 1002
    assert OpenedTorch("npu:0").memory_bytes() == 900
    use(monkeypatch, a_torch("npu", mem_get_info=lambda device: (0, 5000)))
    assert OpenedTorch("npu:0").memory_bytes() == 0  # full: no shape fits
    for ask in (raising, lambda device: None, lambda device: (-1, 5000)):
        use(monkeypatch, a_torch("npu", mem_get_info=ask))
        assert free_bytes("npu:0") is None
        assert OpenedTorch("npu:0").memory_bytes() is None
    torch = a_torch()
    use(monkeypatch, torch)
    assert free_bytes("hpu:0") is None
    torch.accelerator.get_memory_info = lambda device: (70, 80)
    assert free_bytes("hpu:0") == 70


def test_an_opened_device_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, a_torch())
    opened = Torch().open(Torch().find("1")[0], SimulatedClock())
    assert opened.target == "hpu:1"
    assert opened.unsupported("fp64") is None
    assert opened.source().read() is None
    opened.begin("fp64", 0)
    assert opened.kernel().name == "gemm-torch"
