"""The real NVIDIA back end and the real pynvml over a fake driver compiled from C (tests/fake_nvidia)."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.devices.libraries.nvml import Gpu, bare_uuid, normal_address
from bench.devices.vendors.cuda_visible import Entry, arrange, cuda_name
from bench.devices.vendors.libcuda import Visible
from bench.devices.vendors.nvidia import Nvidia
from bench.errors import InputError
from bench.record import NodeRecord
from tests.bench.processes import readers
from tests.bench.test_run import quick
from tests.fake_nvidia import GIB, built, environment, gpu, mig, mig_uuid, uuid

TWO = gpu(0) + gpu(1)
PARTED = gpu(0, mig_mode=1) + mig(1) + mig(2)  # one GPU, two instances


def app(folder: Path, script: str, *args: object, libraries: Path | None = None, **more: str) -> Any:
    """Run a command on a node with a fake driver; return what it prints as JSON, or the error's code as text."""
    env = environment(folder, script, libraries=libraries, PETASEAL_STATE=str(folder / "state"), **more)
    command = [sys.executable, "-m", "tests.bench.app", *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 2:
        assert done.stdout == ""
        return done.stderr.rpartition("[")[2].rstrip("]\n")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def devices(folder: Path, script: str, **more: Any) -> Any:
    told = app(folder, script, "devices", "--device", "cuda", "--json", **more)
    return told if isinstance(told, str) else told["devices"]


def uuids(folder: Path, script: str, **more: Any) -> Any:
    told = devices(folder, script, **more)
    return told if isinstance(told, str) else [device["uuid"] for device in told]


def call(folder: Path, script: str, code: str, **more: Any) -> Any:
    """Run some code on a node with a fake driver and return what it prints as JSON."""
    env = environment(folder, script, **more)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- identity ---


def test_everything_that_identifies_a_gpu(tmp_path: Path) -> None:
    (told,) = devices(tmp_path, gpu(3))
    library = built() / "libnvidia-ml.so.1"
    assert told == {
        "device": "cuda:0",
        "uuid": uuid(3),
        "serial": "1650020000003",
        "die_id": None,
        "pci_address": "0000:b3:00.0",
        "parent": None,
        "numa_node": None,
        "nominal_mflop_s": told["nominal_mflop_s"],
        "expected": told["expected"],
        "source": "nvml",
        "source_version": "12.550.54.14",
        "skipped": [],
        "exposed": [],  # which the root of this test does not know
        "model": {
            "kind": "gpu",
            "vendor": "NVIDIA",
            "model": "NVIDIA Fake-1",
            "bin": None,
            "board_part": "900-21010-0300-030",
            "simulated": True,
            "plays": None,
            "count_unit": "card",
            "obtained": dict.fromkeys(
                ("vendor", "model", "board_part", "firmware", "uuid", "serial", "pci_address"), "host_attested"
            ),
            "firmware": "96.00.99.00.01",
            "driver": "petaseal-fake-1.0",
            "library": str(library),
            "library_sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
            "memory_bytes": 4 * GIB,
            "cache_bytes": 2**20,
            "units": 132,
            "max_clock_mhz": 1980,
            "locked_clock_mhz": None,
            "power_limit_mw": None,
            "power_limit_default_mw": None,
            "power_limit_max_mw": None,
            "modes": {"compute": "default", "ecc": "on", "mig": "off", "persistence": "off"},
            "instruction_set": None,
            "source": "nvml",
            "source_version": "12.550.54.14",
            "exposes": ["power", "clock", "temperature", "throttle", "ecc", "processes"],
        },
    }


@pytest.mark.parametrize(
    ("field", "change", "answer"),
    [
        ("serial", {"serial": "N/A"}, ""),
        ("serial", {"serial": "0"}, ""),
        ("serial", {}, "answer nvmlDeviceGetSerial 3\n"),
        ("serial", {}, "answer nvmlDeviceGetSerial 4\n"),
        ("board_part", {"part": "N/A"}, ""),
        ("board_part", {}, "answer nvmlDeviceGetBoardPartNumber 13\n"),
        ("firmware", {}, "answer nvmlDeviceGetVbiosVersion 999\n"),
        ("memory_bytes", {"memory": 0}, ""),
        ("max_clock_mhz", {}, "answer nvmlDeviceGetMaxClockInfo 3\n"),
        ("max_clock_mhz", {"max_clock": 2**32 - 1}, ""),
        ("cache_bytes", {"l2": 0}, ""),
        ("units", {"sms": 0}, ""),
    ],
)
def test_what_the_driver_does_not_tell_is_null(
    tmp_path: Path, field: str, change: dict[str, object], answer: str
) -> None:
    (told,) = devices(tmp_path, answer + gpu(0, **change))
    assert (told["model"] | told)[field] is None
    assert field not in told["model"]["obtained"]
    assert told["uuid"] == uuid(0)


def test_how_a_gpu_is_set_stands_in_the_record(tmp_path: Path) -> None:
    limits = {"power_limit": 500_000, "default_limit": 700_000, "max_limit": 700_000, "app_clock": 1_620}
    (told,) = devices(tmp_path, "confidential 1\n" + gpu(0, **limits, persistence=1, compute=3, ecc=0, ecc_pending=1))
    model = told["model"]
    named = ("power_limit_mw", "power_limit_default_mw", "power_limit_max_mw", "locked_clock_mhz")
    assert [model[name] for name in named] == [500_000, 700_000, 700_000, 1_620]
    assert model["modes"] == {
        "compute": "exclusive-process",
        "confidential": "on",
        "ecc": "off",
        "ecc-pending": "on",
        "mig": "off",
        "persistence": "on",
    }


def test_how_a_gpu_is_set_is_shown(tmp_path: Path) -> None:
    limits = {"power_limit": 500_000, "default_limit": 700_000, "app_clock": 1_620, "ecc": 0, "ecc_pending": 1}
    script = gpu(0, **limits)
    env = environment(tmp_path, script, PETASEAL_STATE=str(tmp_path / "state"))
    command = [sys.executable, "-m", "certify", "devices", "--device", "cuda:0"]
    printed = subprocess.run(command, env=env, capture_output=True, text=True).stdout
    assert (
        "set to: power limit 500 W (by default 700 W), clock of applications 1620 MHz, "
        "compute default, ecc off (on after a reset), mig off, persistence off"
    ) in " ".join(printed.split())


def test_a_mode_that_is_not_reported_is_left_out(tmp_path: Path) -> None:
    (told,) = devices(
        tmp_path, "answer nvmlDeviceGetComputeMode 3\nanswer nvmlDeviceGetMigMode 13\n" + gpu(0, compute=9)
    )
    assert told["model"]["modes"] == {"ecc": "on", "persistence": "off"}


def test_an_instance_has_its_gpus_modes_and_none_of_its_limits(tmp_path: Path) -> None:
    (told,) = devices(tmp_path, gpu(0, mig_mode=1, power_limit=500_000, max_limit=700_000, app_clock=1_620) + mig(0))
    model = told["model"]
    assert (model["power_limit_mw"], model["power_limit_max_mw"], model["locked_clock_mhz"]) == (None, None, 1_620)
    assert model["modes"]["mig"] == "on"


def test_an_older_driver_lists_the_same(tmp_path: Path) -> None:
    assert uuids(tmp_path, TWO, libraries=built(old=True)) == [uuid(0), uuid(1)]


def test_a_lost_gpu_takes_no_other_along(tmp_path: Path) -> None:
    assert uuids(tmp_path, gpu(0, lost=1) + gpu(1), CUDA_VISIBLE_DEVICES="1") == [uuid(1)]


LOST_AND_HEALTHY = gpu(0, lost=1) + gpu(1)
OF_CUDA = {"CUDA shows it": 0, "CUDA leaves it out": 1, "CUDA does not start beside it": 2}


@pytest.mark.parametrize("cuda_lost", OF_CUDA.values(), ids=OF_CUDA)
@pytest.mark.parametrize(
    ("wanted", "found", "lost"),
    [("cuda", [1], [0]), ("cuda:1", [1], []), ("cuda:0,cuda:1", [1], [0]), ("cuda:0", [], [0])],
)
def test_a_lost_gpu_is_listed_in_its_place_and_stops_no_other(
    tmp_path: Path, cuda_lost: int, wanted: str, found: list[int], lost: list[int]
) -> None:
    told = app(tmp_path, f"cuda_lost {cuda_lost}\n" + LOST_AND_HEALTHY, "devices", "--json", "--device", wanted)
    assert [(d["device"], d["uuid"]) for d in told["devices"]] == [(f"cuda:{index}", uuid(index)) for index in found]
    assert [(p["code"], p["devices"][0]["device"]) for p in told["problems"]] == [
        ("device-lost", f"cuda:{index}") for index in lost
    ]
    for problem in told["problems"]:
        assert "has fallen off the bus" in problem["text"]
        assert problem["devices"][0]["uuid"] is None
    for device in told["devices"]:
        assert (device["model"]["units"], device["model"]["cache_bytes"]) == (132, 2**20)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (8, "device-failed", "power cables"),
        (11, "device-failed", "interrupts"),
        (16, "device-failed", "must be reset"),
        (999, "device-failed", "unknown error"),
    ],
)
def test_whatever_nvml_says_of_one_gpu_it_stops_no_other(tmp_path: Path, answer: int, code: str, said: str) -> None:
    told = app(tmp_path, gpu(0) + gpu(1, lost=answer) + gpu(2), "devices", "--json", "--device", "cuda")
    assert [d["device"] for d in told["devices"]] == ["cuda:0", "cuda:2"]
    (problem,) = told["problems"]
    assert (problem["code"], problem["devices"][0]["device"]) == (code, "cuda:1")
    assert said in problem["text"]


@pytest.mark.parametrize(
    ("script", "value", "found", "lost"),
    [
        (LOST_AND_HEALTHY, "0,1", [("cuda:1", uuid(1))], ["cuda:0"]),
        (LOST_AND_HEALTHY, "1,0", [("cuda:0", uuid(1))], ["cuda:1"]),
        (LOST_AND_HEALTHY, "1", [("cuda:0", uuid(1))], []),
        (LOST_AND_HEALTHY, f"{uuid(0)},{uuid(1)}", [("cuda:1", uuid(1))], ["cuda:0"]),
        (LOST_AND_HEALTHY, uuid(1)[:12], [("cuda:0", uuid(1))], []),
        (gpu(7, lost=1) + PARTED, None, [("cuda:1", mig_uuid(1)), ("cuda:2", mig_uuid(2))], ["cuda:0"]),
        (gpu(7, lost=1) + PARTED, mig_uuid(2), [("cuda:0", mig_uuid(2))], []),
    ],
)
def test_visibility_beside_a_lost_gpu(
    tmp_path: Path, script: str, value: str | None, found: list[tuple[str, str]], lost: list[str]
) -> None:
    more: dict[str, Any] = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    told = app(tmp_path, script, "devices", "--json", "--device", "cuda", **more)
    assert [(d["device"], d["uuid"]) for d in told["devices"]] == found
    assert [p["devices"][0]["device"] for p in told["problems"]] == lost


def test_a_variable_that_names_nothing_beside_a_lost_gpu(tmp_path: Path) -> None:
    for value in ("7", "", "-1", "none"):
        assert uuids(tmp_path, LOST_AND_HEALTHY, CUDA_VISIBLE_DEVICES=value) == "device-not-visible"


def test_a_lost_gpu_has_the_address_that_is_left_on_the_bus(tmp_path: Path) -> None:
    for address in ("0000:b0:00.0", "0000:b1:00.0"):
        function = tmp_path / "sys/bus/pci/devices" / address
        function.mkdir(parents=True)
        (function / "vendor").write_text("0x10de\n")
        (function / "class").write_text("0x030200\n")
    code = f"""
import json
from pathlib import Path
from bench.devices.vendors.nvidia import Nvidia
print(json.dumps([f.device.pci_address for f in Nvidia(Path({str(tmp_path)!r})).find(None)]))
"""
    assert call(tmp_path, LOST_AND_HEALTHY, code) == ["0000:b0:00.0", "0000:b1:00.0"]
    assert call(tmp_path, LOST_AND_HEALTHY + gpu(2, lost=1), code) == [None, "0000:b1:00.0", None]  # which is which?


def test_the_address_and_handle_of_a_healthy_gpu_are_found_beside_a_lost_one(tmp_path: Path) -> None:
    """NVML answers "lost" to a search by uuid where any GPU of the node is."""
    code = """
import json
from bench.clock import SystemClock
from bench.devices.vendors.nvidia import Nvidia
found = Nvidia().find({index!r})[0]
read = Nvidia().watch([found]).read()[found.device.device]
opened = Nvidia().open(found, SystemClock())
print(json.dumps([found.device.uuid, read.power_mw, opened.memory_bytes()]))
"""
    told = call(tmp_path, "cuda_lost 2\n" + LOST_AND_HEALTHY, code.format(index="1"))
    assert told == [uuid(1), 650_000, 2 * GIB * 9 // 10]
    assert call(tmp_path, gpu(3, lost=1) + PARTED, code.format(index="2"))[::2] == [mig_uuid(2), GIB // 2 * 9 // 10]


# --- order and visibility ---


def test_cuda_orders_and_nvml_is_matched_by_address(tmp_path: Path) -> None:
    script = "cuda_order 2 0 1\n" + gpu(0, pci="0:17") + gpu(1, pci="1:17") + gpu(2, pci="10000:17", sms=99)
    told = devices(tmp_path, script)
    assert [(d["device"], d["uuid"], d["pci_address"], d["model"]["units"]) for d in told] == [
        ("cuda:0", uuid(2), "10000:17:00.0", 99),
        ("cuda:1", uuid(0), "0000:17:00.0", 132),
        ("cuda:2", uuid(1), "0001:17:00.0", 132),
    ]
    assert uuids(tmp_path, script, CUDA_DEVICE_ORDER="PCI_BUS_ID") == [uuid(0), uuid(1), uuid(2)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        ("0,7,1", [0]),  # CUDA takes what stands before the first that is no device
        ("0,-1,1", [0]),
        ("GPU-00000001", [1]),
        (uuid(1) + ",0", [1, 0]),
        ("", "device-not-visible"),
        ("-1", "device-not-visible"),
        ("7", "device-not-visible"),
        ("0,0", "device-not-visible"),
        ("GPU-0000000", "device-not-visible"),
        ("none", "device-not-visible"),
    ],
)
def test_cuda_decides_what_is_visible(tmp_path: Path, value: str, expected: Any) -> None:
    told = uuids(tmp_path, TWO, CUDA_VISIBLE_DEVICES=value)
    assert told == (expected if isinstance(expected, str) else [uuid(index) for index in expected])


def test_an_index_is_one_of_the_visible(tmp_path: Path) -> None:
    for index, expected in (("0", [uuid(1)]), ("1", "no-device"), ("01x", "no-device")):
        told = app(tmp_path, TWO, "devices", "--json", "--device", f"cuda:{index}", CUDA_VISIBLE_DEVICES="1")
        assert (told if isinstance(told, str) else [d["uuid"] for d in told["devices"]]) == expected


@pytest.mark.parametrize(
    ("script", "value", "expected"),
    [
        (PARTED, None, [mig_uuid(1), mig_uuid(2)]),
        (PARTED, "0", [mig_uuid(1), mig_uuid(2)]),
        (PARTED, mig_uuid(2), [mig_uuid(2)]),
        (PARTED, f"{mig_uuid(2)},{mig_uuid(1)}", [mig_uuid(2), mig_uuid(1)]),
        (PARTED, "MIG-00000009", "device-not-visible"),
        (PARTED + gpu(1), None, [mig_uuid(1), mig_uuid(2), uuid(1)]),
        (PARTED + gpu(1), "1", [uuid(1)]),
        (PARTED + gpu(1, mig_mode=1) + mig(3), None, [mig_uuid(1), mig_uuid(2), mig_uuid(3)]),
        (gpu(0, mig_mode=1), None, "device-not-visible"),
        (gpu(0, mig_mode=1) + gpu(1), None, [uuid(1)]),
    ],
)
def test_instances_stand_in_place_of_their_gpu(tmp_path: Path, script: str, value: str | None, expected: Any) -> None:
    more = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert uuids(tmp_path, script, **more) == expected


def test_an_instance_names_its_gpu_and_has_its_own_size(tmp_path: Path) -> None:
    for told in devices(tmp_path, PARTED):
        model = told["model"]
        assert (told["parent"], told["serial"], told["pci_address"]) == (uuid(0), None, "0000:b0:00.0")
        assert (model["count_unit"], model["memory_bytes"], model["units"]) == ("slice", GIB, 16)
        assert (model["cache_bytes"], model["model"]) == (2**17, "NVIDIA Fake-1 MIG 1g.1gb")
        assert model["obtained"]["parent"] == "host_attested"


WHOLE = Gpu("GPU-1", None, False, "0000:17:00.0", "x", None, None, None, None, None, None)


def test_a_device_that_nvml_does_not_know_is_refused() -> None:
    seen = Visible("11" * 16, "0000:18:00.0", None, None, None)
    with pytest.raises(InputError) as error:
        arrange([WHOLE], [seen], None)
    assert error.value.code == "driver-failed"
    assert "0000:18:00.0" in error.value.what


def test_forms_of_names() -> None:
    assert normal_address("00000000:B1:00.0") == normal_address("0000:b1:00.0") == "0000:b1:00.0"
    assert normal_address("weird") == "weird"
    assert normal_address("00000000:00:00.0") == ""
    assert bare_uuid(uuid(1)) == "00000001a5a54b4b8c8c0123456789ab"
    assert bare_uuid("MIG-GPU-00000001-a5a5-4b4b-8c8c-0123456789ab/1/0").startswith("MIG-GPU-")
    seen = Visible(bare_uuid(uuid(1)), "0000:17:00.0", None, None, None)
    assert cuda_name(Entry(WHOLE, seen)) == uuid(1)
    assert cuda_name(Entry(WHOLE._replace(parent="GPU-2", uuid=mig_uuid(1)), seen)) == mig_uuid(1)


def test_a_node_without_a_sign_of_nvidia_has_no_devices(tmp_path: Path) -> None:
    assert Nvidia(tmp_path).find(None) == []


def test_hardware_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    card = tmp_path / "sys/bus/pci/devices/0000:17:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    with pytest.raises(InputError) as error:
        Nvidia(tmp_path).find(None)
    assert error.value.code == "driver-library-missing"
    assert error.value.fix


@pytest.mark.parametrize(
    ("value", "code", "fix"),
    [
        (9, "driver-not-loaded", "modprobe"),
        (12, "driver-library-missing", "install the NVIDIA driver"),
        (18, "driver-mismatch", "restart"),
        (4, "device-permission", "/dev/nvidiactl"),
        (999, "driver-failed", "nvidia-smi"),
    ],
)
def test_what_nvml_answers_to_its_start_is_named(
    monkeypatch: pytest.MonkeyPatch, value: int, code: str, fix: str
) -> None:
    class RefusedByNvml(Exception):
        pass

    def refuse() -> None:
        error = RefusedByNvml("no")
        error.value = value  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr("bench.devices.vendors.nvidia.Nvml", refuse)
    with pytest.raises(InputError) as caught:
        Nvidia().find("0")
    assert caught.value.code == code
    assert fix in str(caught.value)


# --- opening ---

OPEN = """
import json, os
from bench.clock import SystemClock
from bench.devices.vendors.nvidia import Nvidia
from bench.errors import DeviceError
opened = Nvidia().open(Nvidia().find("{index}")[0], SystemClock())
try:
    told = [opened.unsupported("bf16"), opened.memory_bytes()]
except DeviceError as error:
    told = [error.code, error.what]
print(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"], opened.target, opened.kernel().name, *told]))
"""


def test_a_worker_sees_its_own_device_only(tmp_path: Path) -> None:
    script = "cuda_order 1 0\n" + gpu(0) + gpu(1, capability="7 5")
    told = call(tmp_path, script, OPEN.format(index=0))
    assert told[:3] == [uuid(1), "cpu", "gemm-numpy"]
    assert "7.5" in told[3]
    assert told[4] == 2 * GIB * 9 // 10
    assert call(tmp_path, script, OPEN.format(index=1))[0] == uuid(0)
    told = call(tmp_path, PARTED, OPEN.format(index=1))
    assert (told[0], told[3], told[4]) == (mig_uuid(2), None, GIB // 2 * 9 // 10)


def test_another_device_than_the_one_meant_is_refused(tmp_path: Path) -> None:
    script = "cuda_shows 1\n" + gpu(0) + gpu(1)
    told = call(tmp_path, script, OPEN.format(index=0))
    assert told[3] == "device-differs"
    assert "0000:b1:00.0" in told[4]


def test_an_all_zero_address_is_unknown_and_no_other_device(tmp_path: Path) -> None:
    script = "cuda_order 1 0\n" + gpu(0, pci="0:0") + gpu(1, pci="0:0")
    told = devices(tmp_path, script)
    assert [(device["uuid"], device["pci_address"]) for device in told] == [(uuid(1), None), (uuid(0), None)]
    assert "pci_address" not in told[0]["model"]["obtained"]
    assert call(tmp_path, script, OPEN.format(index=0))[:2] == [uuid(1), "cpu"]
    told = call(tmp_path, "cuda_shows 1\n" + gpu(0, pci="0:0") + gpu(1, pci="0:0"), OPEN.format(index=0))
    assert told[3:] == ["device-differs", f"CUDA shows {bare_uuid(uuid(1))} where {uuid(0)} was opened"]


def test_without_the_fake_driver_torch_computes(tmp_path: Path) -> None:
    """The same, up to the first use of torch: the driver calls itself as a real one does."""
    code = """
import json
from bench.clock import SystemClock
from bench.devices.vendors.nvidia import Nvidia
(found,) = Nvidia().find("0")
opened = Nvidia().open(found, SystemClock())
print(json.dumps([found.model.simulated, found.model.driver, opened.target, opened.kernel().name]))
"""
    told = call(tmp_path, "driver 550.54.15\n" + gpu(), code)
    assert told == [False, "550.54.15", "cuda:0", "gemm-torch"]


# --- runs ---


def run(
    folder: Path, script: str, *more: object, profile: Path | None = None
) -> tuple[NodeRecord, list[dict[str, str]]]:
    plan, out = profile or quick(folder), folder / "out"
    options = ("--profile", plan, "--device", "cuda", "--precision", "fp32", "--json", "--out", out)
    told = app(folder, script, "run", *options, *more)
    assert isinstance(told, dict), told
    assert told["simulated"]
    record = msgspec.convert(json.loads(Path(told["record"]).read_bytes())["record"], NodeRecord)
    with gzip.open(told["samples"], "rt", newline="") as file:
        return record, list(csv.DictReader(file))


def test_a_run_on_two_gpus_with_telemetry(tmp_path: Path) -> None:
    shared = gpu(1, processes="1 @2 2 @4 3", reasons="0 @5 8", clock="1980 @5 1300", power=300_000, ecc=0)
    record, rows = run(tmp_path, "cuda_order 1 0\n" + gpu(0, uncorrected="0 @5 2") + shared)
    assert [(device.device, device.uuid) for device in record.devices] == [("cuda:0", uuid(1)), ("cuda:1", uuid(0))]
    assert all(model.simulated and model.driver == "petaseal-fake-1.0" for model in record.models)
    assert record.failures == ()
    figures = {f.device: f for m in record.measurements for f in m.figures()}
    assert {"hw_slowdown"} == {reason for m in record.measurements for reason in m.throttle_reasons}
    busy, sound = figures["cuda:0"], figures["cuda:1"]
    assert (busy.power_mean_mw, busy.temperature_max_c, busy.foreign_processes) == (300_000, 61, 2)
    assert (busy.ecc_uncorrected, sound.ecc_uncorrected) == (None, 2)
    assert (sound.power_mean_mw, sound.foreign_processes, sound.throttled_ppm) == (650_000, 0, 0)
    assert sound.power_counter_mw == pytest.approx(650_000, rel=0.01)
    assert busy.throttled_ppm is not None
    assert busy.throttled_ppm > 0
    assert busy.samples >= 2
    quantities = {row["quantity"] for row in rows}
    assert {"power_mw", "clock_mhz", "throttled", "ecc_uncorrected", "processes", "energy_mj"} <= quantities


def test_a_gpu_that_is_lost_or_fails_in_mid_run_leaves_its_neighbours(tmp_path: Path) -> None:
    record, _ = run(tmp_path, gpu(0) + gpu(1, lost="0 @6 1") + gpu(2, xid="0 @6 48"))
    assert [f.device for m in record.measurements for f in m.figures()] == ["cuda:0"]
    assert [(failure.device, failure.code) for failure in record.failures] == [
        ("cuda:1", "device-lost"),
        ("cuda:2", "device-failed"),
    ]
    assert "XID 48" in (record.failures[1].detail or "")


@pytest.mark.long
def test_a_library_that_hangs_in_mid_run_costs_readings_and_its_reader_is_not_killed(tmp_path: Path) -> None:
    """The command writes its record and ends; the process in the library's call goes when that returns."""
    record, _ = run(tmp_path, gpu(0) + "hang nvmlDeviceGetClockInfo 0 @2 15\n" + gpu(1))
    assert record.failures == ()
    figures = [figure for m in record.measurements for figure in m.figures()]
    assert [(figure.device, figure.samples) for figure in figures] == [("cuda:0", 0), ("cuda:1", 0)]
    assert len(readers(tmp_path)) == 1
    end = time.monotonic() + 30
    while readers(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert readers(tmp_path) == []


@pytest.mark.long
def test_a_library_that_ends_its_process_in_mid_run_costs_readings_only(tmp_path: Path) -> None:
    record, _ = run(tmp_path, gpu(0) + "crash nvmlDeviceGetClockInfo 0 @2 1\n" + gpu(1))
    assert record.failures == ()
    assert len([figure for m in record.measurements for figure in m.figures()]) == 2
    assert readers(tmp_path) == []


@pytest.mark.long
def test_a_gpu_that_is_lost_at_the_start_is_recorded_and_its_neighbour_measured(tmp_path: Path) -> None:
    record, _ = run(tmp_path, "cuda_lost 2\n" + LOST_AND_HEALTHY)
    assert [(d.device, d.uuid, record.models[d.model].model) for d in record.devices] == [
        ("cuda:0", None, "unknown"),
        ("cuda:1", uuid(1), "NVIDIA Fake-1"),
    ]
    assert [f.device for m in record.measurements for f in m.figures()] == ["cuda:1"]
    assert [(failure.device, failure.precision, failure.code) for failure in record.failures] == [
        ("cuda:0", "fp32", "device-lost")
    ]
    assert "fallen off the bus" in (record.failures[0].detail or "")


def test_a_dry_run_plans_for_the_healthy_and_says_which_is_not_measured(tmp_path: Path) -> None:
    env = environment(tmp_path, LOST_AND_HEALTHY, PETASEAL_STATE=str(tmp_path / "state"))
    command = [sys.executable, "-m", "tests.bench.app", "run", "--dry-run", "--json", "--device", "cuda", "--out", "x"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["devices"] == ["cuda:1"]
    assert done.stderr == (
        "cuda:0 is not measured: NVML says that the GPU is lost: it has fallen off the bus [device-lost]\n"
    )


@pytest.mark.long
def test_the_healthy_gpu_that_is_named_is_measured_alone(tmp_path: Path) -> None:
    record, _ = run(tmp_path, LOST_AND_HEALTHY, "--device", "cuda:1")
    assert [(d.device, d.uuid) for d in record.devices] == [("cuda:1", uuid(1))]
    assert [f.device for m in record.measurements for f in m.figures()] == ["cuda:1"]
    assert record.failures == ()


def test_a_lost_gpu_alone_is_refused_in_one_sentence(tmp_path: Path) -> None:
    env = environment(tmp_path, LOST_AND_HEALTHY, PETASEAL_STATE=str(tmp_path / "state"))
    command = [sys.executable, "-m", "tests.bench.app", "run", "--device", "cuda:0", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cuda:0: NVML says that the GPU is lost: it has fallen off the bus [device-lost]\n"


@pytest.mark.long
def test_a_run_on_instances(tmp_path: Path) -> None:
    record, _ = run(tmp_path, PARTED)
    assert [(d.uuid, d.parent) for d in record.devices] == [(mig_uuid(1), uuid(0)), (mig_uuid(2), uuid(0))]
    assert {model.count_unit for model in record.models} == {"slice"}
    figures = [f for m in record.measurements for f in m.figures()]
    assert [(f.device, f.power_mean_mw, f.clock_mean_mhz) for f in figures] == [
        ("cuda:0", None, 1755),
        ("cuda:1", None, 1755),
    ]


def test_a_worker_that_gets_another_device_says_so(tmp_path: Path) -> None:
    """The list is right; what CUDA then shows to a process with one device chosen is not."""
    record, _ = run(tmp_path, "cuda_shows 1\n" + gpu(0) + gpu(1), "--device", "cuda:0")
    assert [(failure.device, failure.code) for failure in record.failures] == [("cuda:0", "device-differs")]
    assert record.measurements == ()


def test_a_busy_gpu_gives_no_figure_where_the_profile_refuses_it(tmp_path: Path) -> None:
    profile = quick(tmp_path)
    profile.write_text(profile.read_text().replace("busy: flag", "busy: refuse"))
    record, _ = run(tmp_path, gpu(0, processes="2 @2 3"), profile=profile)
    assert [(failure.device, failure.code) for failure in record.failures] == [("cuda:0", "device-busy")]


def test_a_lost_neighbour_that_was_not_named_is_listed(tmp_path: Path) -> None:
    env = environment(tmp_path, gpu(0, lost=1) + gpu(1), PETASEAL_STATE=str(tmp_path / "state"))
    out = str(tmp_path / "out")
    command = [sys.executable, "-m", "certify", "run", "--dry-run", "--device", "cuda:1", "--out", out]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "cuda:0 is not measured" in done.stderr


# Virtual machines
@pytest.mark.parametrize("name", ["GRID A100D-80C", "NVIDIA L20-48C"])
def test_a_virtual_gpu_in_a_guest_is_a_share(tmp_path: Path, name: str) -> None:
    """CUDA shows all units of the GPU that it is a share of."""
    refused = "".join(f"answer nvmlDeviceGet{name} 3\n" for name in ("Serial", "MigMode"))
    (told,) = devices(tmp_path, refused + gpu(0, name=name, virtualization=2))
    model = told["model"]
    assert (model["count_unit"], model["units"], told["serial"], told["parent"]) == ("slice", None, None, None)
    assert "power" not in model["exposes"]


@pytest.mark.parametrize("mode", [0, 1, 3, None])  # bare, passed through, a hypervisor's host, and unknown
def test_a_whole_gpu_of_a_virtual_machine_is_a_card(tmp_path: Path, mode: int | None) -> None:
    script = gpu(0, virtualization=mode)
    (told,) = devices(tmp_path, f"answer nvmlDeviceGetVirtualizationMode 3\n{script}" if mode is None else script)
    model = told["model"]
    assert (model["count_unit"], model["units"]) == ("card", 132)
    assert "power" in model["exposes"]
