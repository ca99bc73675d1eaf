"""The commands as a process, below a root that signs nothing."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from bench.errors import PetasealError
from bench.record import NodeRecord, config_path
from tests.bench.app import app
from tests.bench.processes import children, workers

SLOW = {"default": {"rate_gflop_s": {"fp16": 700, "fp64": 700}}}


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PETASEAL_SCENARIO", "")
    monkeypatch.setenv("NO_COLOR", "1")


def call(*args: object) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args: object) -> PetasealError:
    with pytest.raises(PetasealError) as error:
        CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert "\n" not in str(error.value)
    return error.value


def scenario(tmp_path: Path, content: Any = SLOW) -> Path:
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def start(tmp_path: Path, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.app", *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PETASEAL_STATE": str(tmp_path / "state")},
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def quick(tmp_path: Path) -> Path:
    """Return the file of a profile as short as its grade allows."""
    text = config_path("profiles", "smoke.yaml").read_text()
    text = text.replace("window_ns: 8_000_000_000", "window_ns: 3_400_000_000")
    file = tmp_path / "quick.yaml"
    text = text.replace("profile: smoke", "profile: quick")  # an installed name means the installed profile
    file.write_text(text.replace("warmup_ns: 2_000_000_000", "warmup_ns: 300_000_000"))
    return file


def smoke(tmp_path: Path, *more: object) -> tuple[object, ...]:
    return ("run", "--profile", "smoke", "--device", "fake:2", "--out", tmp_path / "out", "--precision", "fp16", *more)


def test_devices_for_people_and_for_machines() -> None:
    table = call("devices", "--device", "fake:2")
    assert all(text in table for text in ("Fake-1", "(simulated)", "312.000", "86 GB"))
    told = json.loads(call("devices", "--device", "cpu,fake:2", "--json"))
    assert [device["device"] for device in told["devices"]] == ["cpu:0", "fake:0", "fake:1"]
    assert told["devices"][0]["nominal_mflop_s"] == {}
    assert "no rating" in call("devices", "--device", "cpu")


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    plan = json.loads(call(*smoke(tmp_path, "--dry-run", "--json")))
    assert plan["devices"] == ["fake:0", "fake:1"]
    assert plan["counted_at_least_ns"] >= 3 * 10**9
    assert plan["shapes"]["fp16"][0] == "128x128x128"
    assert "4 s measured" in call(*smoke(tmp_path, "--dry-run"))
    assert list(tmp_path.iterdir()) == []


def planned(tmp_path: Path, *options: str) -> dict[str, Any]:
    return json.loads(call("run", "--dry-run", "--json", "--out", tmp_path / "out", *options))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("options", "workloads"),
    [
        ("--device fake:8", "fp16"),
        ("--device cpu", "fp64 fp64-solve"),
        ("--device cpu --class general", "fp32"),
        ("--device fake:8 --also fp64,fp16-tuned", "fp16 fp64 fp16-tuned"),
        ("--device fake:8 --precision fp64-tuned --also bf16", "fp64-tuned bf16"),
        ("--device fake:1 --profile smoke", "fp16 fp32 fp64"),
        ("--device cpu --profile smoke", "fp16 fp32 fp64"),
    ],
)
def test_a_run_measures_what_counts_in_the_class_of_its_devices(tmp_path: Path, options: str, workloads: str) -> None:
    assert " ".join(planned(tmp_path, *options.split())["workloads"]) == workloads


def test_a_dry_run_of_an_intelligent_node_tells_less_than_twenty_minutes(tmp_path: Path) -> None:
    plan = planned(tmp_path, "--device", "fake:8", "--profile", "certification")
    told = plan["estimate"]
    assert plan["duration_ns"] == told["duration_ns"] <= 20 * 60 * 10**9
    assert told["device_s"] == 8 * told["duration_ns"] // 10**9
    assert (told["peak_power_mw"], told["energy_j"]) == (None, None)  # nobody rates these fakes
    text = call("run", "--dry-run", "--device", "fake:8", "--profile", "certification", "--out", tmp_path / "out")
    assert "duration   about 17.3 min" in text
    assert "cards      about 2.3 card hours" in text
    assert "power      not known, nor the energy: no rating" in text


def test_help_has_an_example() -> None:
    for command in ("run", "devices"):
        assert f"Example: petaseal {command}" in call(command, "--help")


def test_a_run_writes_record_and_samples_and_is_never_overwritten(tmp_path: Path) -> None:
    told = json.loads(call(*smoke(tmp_path, "--profile", quick(tmp_path), "--scenario", scenario(tmp_path), "--json")))
    assert told["simulated"]
    assert {figure["device"] for figure in told["figures"]} == {"fake:0", "fake:1"}
    record_path, samples_path = Path(told["record"]), Path(told["samples"])
    assert sorted((tmp_path / "out").iterdir()) == sorted([record_path, samples_path])
    sealed = json.loads(record_path.read_bytes())
    record = msgspec.convert(sealed["record"], NodeRecord)
    assert (record.node_id, record.profile) == (told["node_id"], "quick")
    assert sealed["samples_sha256"] == hashlib.sha256(samples_path.read_bytes()).hexdigest()
    assert samples_path.name == f"{told['node_id']}.samples.csv.gz"
    assert b"subwindow_30_ns" in gzip.decompress(samples_path.read_bytes())
    assert refused(*smoke(tmp_path)).code == "output-exists"


def test_a_run_without_any_figure_is_written_and_exits_1(tmp_path: Path) -> None:
    broken = scenario(tmp_path, {"default": {"rate_gflop_s": {"fp64": 1000}}})
    result = CliRunner().invoke(app, [str(a) for a in smoke(tmp_path, "--scenario", broken)], catch_exceptions=False)
    assert result.exit_code == 1
    (record,) = (tmp_path / "out").glob("*.record.dsse.json")
    assert [f["code"] for f in json.loads(record.read_bytes())["record"]["failures"]] == ["unsupported-precision"] * 2
    assert result.stdout.count("unsupported\n") == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (("--device", "xpu"), "unknown-device"),
        (("--device", "cpu:1"), "no-device"),
        (("--device", "cpu,cpu:0"), "device-named-twice"),
        (("--device", "fake:0"), "no-device"),
        (("--device", "fake:1025"), "no-device"),
        (("--precision", "fp8"), "unknown-precision"),
        (("--also", "fp8"), "unknown-precision"),
        (("--class", "ai"), "usage"),
        (("--precision", "fp16,fp16"), "unknown-precision"),
        (("--profile", "quick"), "unknown-name"),
        (("--kernel", "gemm-absent"), "unknown-kernel"),
        (("--scenario", "absent.yaml"), "file-missing"),
    ],
)
def test_what_is_unknown_is_one_sentence(tmp_path: Path, changes: tuple[str, ...], code: str) -> None:
    error = refused(*smoke(tmp_path, *changes))
    assert (error.code, error.exit_status) == (code, 2)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert refused(*smoke(tmp_path)).code == "output-not-folder"
    assert refused(*smoke(tmp_path, "--out", tmp_path / "out" / "deeper")).code == "output-not-folder"


def test_an_output_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)  # root may write anywhere
    assert refused(*smoke(tmp_path)).code == "output-not-writable"


def test_an_environment_that_enables_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    error = refused(*smoke(tmp_path))
    assert error.code == "emulation-enabled"
    assert "NVIDIA_TF32_OVERRIDE" in str(error)


def test_a_variable_of_a_widely_used_image_is_taken_from_the_workers_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
    more = ("--device", "fake:1", "--precision", "fp16", "--json", "--out", tmp_path / "out")
    process = start(tmp_path, "run", "--profile", quick(tmp_path), *more)
    until(lambda: len(children(process.pid)) == 1)
    (worker,) = children(process.pid)
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"PETASEAL_STATE=" + os.fsencode(tmp_path / "state") in variables
    assert not [variable for variable in variables if variable.startswith(b"TORCH_ALLOW")]
    record = json.loads(Path(json.loads(out)["record"]).read_bytes())["record"]
    assert record["environment"]["unset"] == ["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"]


@pytest.mark.parametrize("whole_group", [False, True])
def test_ctrl_c_ends_everything_and_writes_nothing(tmp_path: Path, whole_group: bool) -> None:
    process = start(tmp_path, *smoke(tmp_path))
    until(lambda: len(workers(str(tmp_path))) == 3)
    time.sleep(0.5)
    os.kill(-process.pid if whole_group else process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted; the measurement was ended and nothing was left half-written [interrupted]\n"
    assert out == ""
    assert not (tmp_path / "out").exists()
    assert workers(str(tmp_path)) == []


def test_killing_the_parent_leaves_no_record_and_no_worker(tmp_path: Path) -> None:
    process = start(tmp_path, *smoke(tmp_path))
    until(lambda: len(workers(str(tmp_path))) == 3)
    time.sleep(1.5)
    process.kill()
    process.communicate(timeout=30)
    until(lambda: workers(str(tmp_path)) == [], 10)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".lock"] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, tests.bench.app as a; "
        "from typer.testing import CliRunner; CliRunner().invoke(a.app, ['--help']); "
        "heavy = ('numpy', 'torch', 'yaml', 'kernels', 'bench.engine.node', 'rich.live'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
