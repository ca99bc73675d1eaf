"""``python -m tests.perf.first_gpu`` over the fake driver: every step ends, and nothing published names the device."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environment import node_id
from tests.fake_nvidia import environment, gpu, uuid
from tests.perf.first_gpu import SILICON, ended

SECRETS = (uuid(0), "1650020000000", "0000:b0:00.0")


@pytest.mark.long
def test_the_script_measures_certifies_verifies_and_traces_without_naming_the_device(tmp_path: Path) -> None:
    out = tmp_path / "out"
    env = environment(tmp_path, gpu(0, name="NVIDIA H200", power_limit=700_000), OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-m", "tests.perf.first_gpu", "--device", "cuda:0", "--short", "--out", str(out)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {step["step"]: step for step in json.loads((out / "first-gpu.json").read_bytes())["steps"]}
    silicon = [f"{kernel} {precision}" for kernel, precision in SILICON]
    assert list(steps) == ["run", "key", "certify", "verify", *silicon, "overhead", "fp64 256 x 256 x 256"]
    assert all(step["status"] == 0 for name, step in steps.items() if name != "run"), done.stdout
    assert steps["run"]["status"] == 1  # identities that are replaced are void
    assert all(steps[name]["found"]["trouble"] for name in silicon)  # a fake driver runs no kernel
    assert steps["fp64 256 x 256 x 256"]["found"]["sustained_mflop_s"] > 0
    (record,) = out.glob("*.record.dsse.json")
    trace = gzip.decompress((out / "trace.csv.gz").read_bytes()).decode().splitlines()
    at = [int(line.partition(",")[0]) for line in trace[1:]]
    assert len(at) > 20
    assert at == sorted(at)
    assert trace[1].split(",", 1)[1] == "1755,650000,61,1000000,none"
    for path in out.iterdir():
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode(errors="replace").lower()
        assert not [secret for secret in (*SECRETS, node_id()) if secret.lower() in text], path.name
    assert record.stat().st_size > 1000


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '60'])"
    status, text = ended([sys.executable, "-c", script], 1.0, {})
    assert (status, text) == (None, "begun\n")


def test_a_folder_that_exists_is_not_written_into(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.perf.first_gpu", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "does not exist yet" in done.stderr
