"""The whole chain on a device that torch.accelerator finds: real processes, the kernel's path for accelerators."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.command import Answer
from tests.bench.test_run import quick
from tests.privateuse1 import ended, environment, start

WORKER = """
import json
from bench.devices.torch_device import OpenedTorch, free_bytes
from kernels.base import GemmProblem

told = {}
for index in range(2):
    opened = OpenedTorch(f"petadev:{index}")
    kernel, timer = opened.kernel(), opened.timer()
    told[index] = seen = {"free": free_bytes(opened.target), "read": opened.source().read(), "timer": timer is not None}
    seen["supports"] = {p: kernel.supports(p, opened.target) for p in ("fp16", "bf16", "fp32", "fp64")}
    prepared = kernel.prepare(GemmProblem("gemm-torch", "bf16", 96, 160, 64), "ab" * 16, "torch:0", opened.target, 0)
    trial = kernel.prepare_trial(GemmProblem("gemm-torch", "bf16", 64, 64, 32), opened.target)
    trial.launch(0, 2)
    trial.synchronize()
    trial.close()
    marks = [timer.mark()] if timer else []
    prepared.launch(0, 400)
    marks += [timer.mark()] if timer else []
    prepared.synchronize()
    seen["between_ns"] = timer.between_ns(*marks) if timer else None
    seen["error"] = [prepared.check(0, 1).rms_error_ppm, prepared.check_on_host(1, 2).rms_error_ppm]
    prepared.poison(1)
    seen["poisoned"] = prepared.check(1, 1).rms_error_ppm
    prepared.close()
    seen["freed"] = free_bytes(opened.target) == seen["free"]
print(json.dumps(told))
"""


VARIABLES: dict[str, dict[str, str]] = {
    "all": {},
    "no-fp64": {"PETADEV_FAULTS": "no-fp64"},
    "fp64-cast": {"PETADEV_FAULTS": "fp64-always-as-fp32"},
    "bare": {"PETADEV_BARE": "1", "PETADEV_FAULTS": "no-events"},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Return what every process answers; they run at the same time."""
    place = tmp_path_factory.mktemp("torch")
    run = ("run", "--device", "torch:0,torch:1", "--profile", quick(place), "--precision", "fp32,fp64", "--json")
    worker = [sys.executable, "-W", "error", "-c", WORKER]
    running = {
        "run": start(*run, "--out", place / "out", state=place),
        "devices": start("devices", "--json", state=place),
        "bare devices": start("devices", "--json", state=place, PETADEV_BARE="1"),
    }
    for name, variables in VARIABLES.items():
        running[name] = subprocess.Popen(
            worker, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    return {name: ended(one) for name, one in running.items()}


def predicate(record: Path) -> Any:
    """Return what a node signed."""
    return json.loads(base64.b64decode(json.loads(record.read_bytes())["payload"]))["predicate"]


def test_devices_shows_it_with_what_it_tells(answers: dict[str, Answer]) -> None:
    shown = json.loads(answers["devices"].out)["devices"]
    assert [device["device"] for device in shown] == ["torch:0", "torch:1"]
    assert [device["uuid"][-1] for device in shown] == ["1", "2"]
    model = shown[0]["model"]
    assert (model["model"], model["vendor"], model["driver"]) == ("Petadev One", "petaseal tests", "1.0")
    assert (model["memory_bytes"], model["cache_bytes"], model["library"]) == (2**33, 2**20, None)
    assert model["obtained"] == dict.fromkeys(("model", "vendor", "uuid"), "host_attested")


def test_devices_shows_it_without_an_identity_where_it_tells_none(answers: dict[str, Answer]) -> None:
    shown = json.loads(answers["bare devices"].out)["devices"]
    assert [(device["device"], device["uuid"]) for device in shown] == [("torch:0", None), ("torch:1", None)]
    model = shown[0]["model"]
    assert (model["model"], model["vendor"], model["memory_bytes"]) == ("petadev", "unknown", None)
    assert model["obtained"] == {"model": "asserted", "vendor": "asserted"}


def test_it_is_measured_by_worker_processes(answers: dict[str, Answer]) -> None:
    answer = answers["run"]
    assert answer.out, answer.err
    result = json.loads(answer.out)
    assert result["failures"] == []
    assert {(f["device"], f["precision"]) for f in result["figures"]} == {
        (device, precision) for device in ("torch:0", "torch:1") for precision in ("fp32", "fp64")
    }
    for figure in result["figures"]:
        assert figure["sustained_mflop_s"] > 0
        assert "wrong-product" not in figure["codes"]
        assert {"clock-not-watched", "power-not-watched", "telemetry-not-exposed"} <= set(figure["codes"])
        assert "reduced-precision-switch" not in figure["codes"]
    record = predicate(Path(result["record"]))
    assert {device["uuid"][-1] for device in record["devices"]} == {"1", "2"}
    assert "torch" in record["environment"]["libraries"]
    for measured in record["measurements"]:
        assert (measured["kernel"], measured["method"]) == ("gemm-torch", "native")
        assert measured["operand_bytes"] >= 2 * 2**20  # twice the cache that it tells of
        assert None not in measured["event_over_ns"]
        assert set(measured["power_mean_mw"]) == {None}


@pytest.mark.parametrize(
    ("name", "fp64"),
    [
        ("all", None),
        ("no-fp64", "petadev does not support Double"),
        ("fp64-cast", "torch's fp64 product on petadev:{index} has another type or value"),
        ("bare", None),
    ],
)
def test_the_kernel_and_the_timer_on_it(answers: dict[str, Answer], name: str, fp64: str | None) -> None:
    answer = answers[name]
    assert answer.status == 0, answer.err
    for index, seen in json.loads(answer.out).items():
        bare = name == "bare"
        assert seen["timer"] is not bare
        assert bare or seen["between_ns"] > 0
        assert (seen["free"] is None) is bare
        assert seen["read"] is None
        assert seen["freed"]
        reason = None if fp64 is None else fp64.format(index=index)
        assert seen["supports"] == {"fp16": None, "bf16": None, "fp32": None, "fp64": reason}
        assert all(0 < error < 650_000 for error in seen["error"])  # R5: good
        assert seen["poisoned"] is None
