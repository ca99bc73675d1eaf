"""A torch device that computes wrongly, or that cannot be had: the record says so, and nothing counts."""

from __future__ import annotations

import json

import pytest

from tests.bad_input.command import Answer
from tests.bench.test_run import quick
from tests.privateuse1 import ended, start


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Return what every command answers; they run at the same time, but for the one that measures."""
    place = tmp_path_factory.mktemp("torch")
    broken = place / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[torch.backends]\nbroken = not_there:autoload\n")
    faults = {"PETADEV_FAULTS": "fp16-accumulate,fp32-stale,fp64-as-fp32,memory-hidden", "PETADEV_BYTES": "1000000"}
    run = ("run", "--profile", quick(place), "--json", "--precision")
    running = {
        "refused": start(
            *(*run, "fp64", "--device", "torch:0", "--out", place / "refused"), state=place, PETADEV_FAULTS="no-fp64"
        ),
        "index": start("devices", "--device", "torch:2", state=place),
        "none": start("devices", "--device", "torch:0", state=place, TORCH_DEVICE_BACKEND_AUTOLOAD="0"),
        "broken": start("devices", "--device", "torch:0", state=place, PYTHONPATH=str(place)),
    }
    told = {name: ended(one) for name, one in running.items()}
    wrong = (*run, "fp16,fp32,fp64", "--device", "torch:0,torch:1", "--out", place / "wrong")
    return told | {"wrong": ended(start(*wrong, state=place, **faults))}


def test_wrong_products_and_too_little_memory_are_seen(answers: dict[str, Answer]) -> None:
    """Sums in FP16, stale FP32 products and FP64 computed in FP32 on one device; a neighbour without memory."""
    answer = answers["wrong"]
    assert answer.status == 1
    assert answer.out, answer.err
    result = json.loads(answer.out)
    assert {f["detail"] for f in result["failures"] if f["device"] == "torch:0"} == set()
    assert {f["precision"]: f["codes"]["wrong-product"] for f in result["figures"] if f["device"] == "torch:0"} == {
        "fp16": "void",
        "fp32": "void",
        "fp64": "void",
    }
    failed = {(f["device"], f["precision"]): f["code"] for f in result["failures"]}
    assert set(failed) == {("torch:1", precision) for precision in ("fp16", "fp32", "fp64")}
    assert set(failed.values()) <= {"out-of-memory", "no-shape"}


def test_a_precision_that_the_device_refuses_is_told(answers: dict[str, Answer]) -> None:
    answer = answers["refused"]
    assert answer.status == 1  # nothing was measured at all
    (failure,) = json.loads(answer.out)["failures"]
    assert (failure["code"], failure["detail"]) == ("unsupported-precision", "petadev does not support Double")


def test_an_index_that_there_is_not(answers: dict[str, Answer]) -> None:
    assert (answers["index"].status, answers["index"].code) == (2, "no-device")


def test_no_accelerator(answers: dict[str, Answer]) -> None:
    assert (answers["none"].status, answers["none"].code) == (2, "no-device")
    assert "torch tells of no accelerator" in answers["none"].err


def test_a_plug_in_of_torch_that_fails_to_load(answers: dict[str, Answer]) -> None:
    assert (answers["broken"].status, answers["broken"].code) == (2, "missing-library")
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in answers["broken"].err
