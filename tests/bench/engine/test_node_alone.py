"""Real workers whose times are looked at, and the load of others: what a neighbour on the machine would spoil."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench import telemetry
from bench.devices.base import Faulty
from bench.engine.node import measure_node
from bench.engine.workers import Event
from bench.errors import InputError
from bench.record import ExpectedPool, Kernels, Shape, Workload
from bench.record.campaign import LEAD_NS, windows
from certify.statement.describe import describe_record, judge_record
from tests.bench.engine.test_node import LIMITS, SHORT, campaign, failed, request, scenario
from tests.bench.processes import children

__all__ = ["scenario"]  # a fixture


@pytest.mark.long
def test_fixed_and_tuned_and_a_second_path_on_the_cpu_of_this_machine() -> None:
    """Numpy's BLAS and torch's are two libraries: both in one record, each verified."""
    both = replace(
        SHORT,
        companion_ns=400_000_000,
        kernels={"cpu": Kernels(figure="gemm-numpy", companions={"fp64": ("gemm-torch", "gemm-absent", "triad")})},
        shapes={"fp64": (Shape(m=64, n=64, k=64),)},
        tuned_shapes={"fp64": (Shape(m=64, n=64, k=64), Shape(m=128, n=96, k=160))},
    )
    record, samples = measure_node(request("cpu", "fp64", profile=both))
    assert failed(record) == []
    assert [(str(m.workload), m.kernel) for m in record.measurements] == [
        ("fp64", "gemm-numpy"),
        ("fp64-tuned", "gemm-numpy"),
    ]
    assert record.campaign is not None
    first, second = record.campaign.windows
    apart = second.load_ns - first.closes_ns
    # every path has its own time after the window, whoever needs it; ceilings and bandwidths have theirs at the end
    assert apart == both.guard_ns + 2 * both.companion_ns + LEAD_NS
    path, absent, triad = record.companions
    (figure,) = path.figures()
    assert (path.kernel, path.role, figure.trouble) == ("gemm-torch", "path", None)
    assert figure.rate_mflop_s
    assert figure.row_error_ppm
    assert 0 < figure.elapsed_ns <= both.companion_ns
    assert "there is no kernel" in str(absent.trouble[0])
    assert (triad.role, triad.rate_mb_s) == ("bandwidth", (None,))  # it needs a GPU, and says so
    assert triad.trouble[0]
    rows = gzip.decompress(samples).decode()
    assert "cpu:0,fp64-tuned,trial,0,launch_64x64x64_ns," in rows
    assert "cpu:0,fp64-tuned,trial,0,launch_128x96x160_ns," in rows


@contextlib.contextmanager
def busy_loops() -> Iterator[None]:
    """Load every CPU that may be used with a process that is none of the measurement's."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_load_of_others_on_the_cpus_is_refused_or_noted_as_the_profile_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LOOK_NS", 400_000_000)
    tiny = replace(SHORT, shapes={"fp64": (Shape(m=64, n=64, k=64),)})
    with busy_loops():
        refused, _ = measure_node(request("cpu", "fp64", profile=replace(tiny, busy="refuse")))
        record, _ = measure_node(request("cpu", "fp64", profile=replace(tiny, busy="flag")))
    assert failed(refused) == [("cpu:0", "fp64", "device-busy")]
    assert re.fullmatch(r"\d+ % of the CPUs' time is used by other processes", str(refused.failures[0].detail))
    assert refused.measurements == ()
    assert record.campaign is not None
    judged = judge_record(record, record.campaign, tiny)
    assert judged["cpu:0", "fp64"].effects["foreign-load"] == "note"
    (told,) = (line for line in describe_record(record, judged) if "of the CPUs' time" in line)
    assert re.fullmatch(r"    of the CPUs' time other processes used [\d.]+ %, the hypervisor [\d.]+ %", told)
    assert children() == []


def test_a_lost_device_keeps_its_place_in_the_ramp(scenario: Any) -> None:
    """R10 is judged by the order of the record, in which the lost one stands."""
    profile = replace(SHORT, warmup_ns=1_200_000_000, stagger_ns=400_000_000)
    asked = request("fake:3", profile=profile)
    lost = [Faulty(*one[:2], "device-lost", "is gone") for one in asked.devices[:2]]
    record, _ = measure_node(asked._replace(devices=[*lost, asked.devices[2]]))
    assert failed(record) == [(f"fake:{i}", "fp16", "device-lost") for i in range(2)]
    (figure,) = [figure for m in record.measurements for figure in m.figures()]
    assert figure.warmup_ns < (1200 - 2 * 400 + 200) * 10**6


def test_a_campaign_sets_the_window_and_is_not_copied_into_the_record(scenario: Any) -> None:
    given = campaign(SHORT, 4 * 10**9)
    record, _ = measure_node(request("fake:1", campaign=given))
    assert record.campaign is None
    assert (record.campaign_id, record.challenge, record.centre_id) == ("c1", "ab" * 16, "centre")
    assert record.clock.source == "fake"
    (figure,) = record.measurements[0].figures()
    assert 0 <= figure.opened_ns < figure.covered_until_ns <= SHORT.window_ns


def test_a_node_takes_part_in_the_windows_of_its_own_pool_alone(scenario: Any) -> None:
    """It loads from before its own slot on, while the other pool is measured: never counted as warm-up."""
    both = Workload("fp16"), Workload("fp64")
    profile = replace(SHORT, preheat_ns=300_000_000)
    pools = ExpectedPool(pool="other", workloads=("fp16",)), ExpectedPool(pool="self", workloads=("fp64",))
    given = campaign(profile, 4 * 10**9, pools=pools, windows=windows(profile, both))
    record, _ = measure_node(request("fake:2", "fp16", "fp64", profile=profile, campaign=given))
    assert (failed(record), [str(m.workload) for m in record.measurements]) == ([], ["fp64"])
    for figure in record.measurements[0].figures():
        assert 200_000_000 < figure.preheat_ns < 400_000_000
        assert figure.warmup_ns < profile.warmup_ns + 100_000_000
    later = campaign(profile, 4 * 10**9, pools=pools, windows=windows(profile, both))
    with pytest.raises(InputError) as refused:
        measure_node(request("fake:1", "fp16", profile=profile, campaign=later))
    assert refused.value.code == "unknown-precision"


class Deadly:
    """A reference kernel that ends its process, or hangs, once it is launched."""

    def __init__(self, manner: str) -> None:
        self.name, self.role, self.launch_flop, self.launch_bytes = "issue-mma", "ceiling", 1, 0
        self.manner = manner

    def supports(self, precision: str, target: str) -> None: ...

    def prepare(self, precision: str, target: str, seed: int) -> Deadly:
        return self

    def launch(self, count: int) -> None:
        if self.manner == "dies":
            os._exit(7)
        time.sleep(60)


class Dies(Deadly):
    def __init__(self) -> None:
        super().__init__("dies")


class Hangs(Deadly):
    def __init__(self) -> None:
        super().__init__("hangs")


@pytest.mark.parametrize("manner", ["Dies", pytest.param("Hangs", marks=pytest.mark.long)])
def test_a_reference_measurement_that_ends_its_process_takes_no_figure_with_it(
    manner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what every worker imports first puts the reference kernel into its table
    line = f"import kernels.base; kernels.base.REFERENCES['issue-mma'] = '{__name__}:{manner}'"
    (tmp_path / "sitecustomize.py").write_text(line)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    both = replace(
        SHORT,
        companion_ns=200_000_000,
        kernels={"cpu": Kernels(figure="gemm-numpy", companions={"fp64": ("issue-mma",)})},
        shapes={"fp64": (Shape(m=64, n=64, k=64),)},
        tuned_shapes={"fp64": (Shape(m=64, n=64, k=64),)},
    )
    told: list[Event] = []
    limits = LIMITS._replace(reference_ns=2 * 10**9)
    record, _ = measure_node(request("cpu", "fp64", profile=both)._replace(timeouts=limits), told.append)
    assert failed(record) == []
    assert [str(m.workload) for m in record.measurements] == ["fp64", "fp64-tuned"]
    (reference,) = record.companions
    assert (reference.kernel, reference.role, reference.rate_mflop_s) == ("issue-mma", "ceiling", (None,))
    assert reference.trouble == ("the process that measured it was lost or ended",)
    assert any(event.what == "remark" and "device-" in str(event.text) for event in told)
    assert children() == []
