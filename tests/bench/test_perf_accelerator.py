"""``python -m tests.perf accelerator`` at sizes that measure nothing: it runs, and the rules catch each trick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.sensors import CpuSource
from bench.telemetry import Reading
from tests.perf import accelerator, adversary, beside, costs, harness, intruder, search, tricks
from tests.perf.rig import Setup, alone

SETUP = Setup("cpu", "fp64", 0.6)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # two that wait for each other on a busy machine take forever


@pytest.mark.long
def test_the_run_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--precision", "fp64", "--seconds", "0.5", "--parts", "costs,beside"]
    assert accelerator.main([*options, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "perf.json").read_bytes())
    assert (result["device"], result["troubles"]) == ("cpu:0", [])
    made = {part["part"]: part for part in result["parts"]}
    assert list(made) == ["costs", "beside"]
    assert set(made["costs"]) == set(costs.Costs.__struct_fields__)
    assert set(made["beside"]) == set(beside.Beside.__struct_fields__)
    assert made["costs"]["verified_launches"] > 0
    assert all(one["trouble"] for one in made["beside"]["companions"].values())  # none runs on a CPU
    printed = capsys.readouterr().out
    assert all(line in printed for part in made.values() for line in part["lines"])


@pytest.mark.parametrize(
    "options",
    [["--precision", "fp8"], ["--parts", "all"], ["--seconds", "0"], ["--seconds", "x"], ["--device", "cpu:7"]],
    ids=" ".join,
)
def test_wrong_options_are_refused(options: list[str]) -> None:
    def exits() -> None:
        sys.exit(accelerator.main(options))

    with pytest.raises(SystemExit) as ended:
        exits()
    assert ended.value.code == 2


def test_a_part_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(setup: Setup) -> Any:
        raise RuntimeError("no room")

    monkeypatch.setitem(accelerator.PARTS, "costs", fails)
    result = accelerator.measure("cpu", ["fp64"], 0.5, ["costs", "beside"])
    assert [part.part for part in result.parts] == ["beside"]
    assert result.troubles == ["costs, fp64: not measured, RuntimeError: no room"]


@pytest.mark.long
def test_overhead_is_a_ratio_for_each_round() -> None:
    found = alone(harness.measure, SETUP, 256, 1)
    assert found.shape == "256 x 256 x 256"
    assert len(found.ratios) == len(found.bare_drift) == 1


@pytest.mark.long
def test_both_choices_of_shape_are_measured_as_long() -> None:
    found = search.measure(SETUP, 0.3)
    assert found.winner.tried >= 1
    assert len(found.tuned_mflop_s) == len(found.winner_mflop_s) == search.ROUNDS
    assert min(*found.tuned_mflop_s, *found.winner_mflop_s) > 0


@pytest.mark.parametrize(
    ("rate_flop_ns", "budget_s", "longest_ns", "largest", "expected"),
    [
        (600_000, 1e9, 10**9, 16384, (256, 16384)),  # as fine as it gets
        (600_000, 1200, 10**9, 16384, (576, 16128)),
        (50, 1e9, 8_000_000, 16384, (64, 576)),  # a slow device: larger shapes take too long
        (50, 0.001, 8_000_000, 16384, (576, 576)),  # no time for more than one
        (0.001, 1, 1000, 16384, (64, 64)),
    ],
)
def test_the_grid_is_as_fine_as_the_time_allows(
    rate_flop_ns: float, budget_s: float, longest_ns: int, largest: int, expected: tuple[int, int]
) -> None:
    assert search.grid(rate_flop_ns, budget_s, longest_ns, largest) == expected


@pytest.mark.long
def test_every_trick_that_can_be_tried_on_a_cpu_is_caught() -> None:
    found = adversary.measure(SETUP)
    assert not {"wrong-product", "operands-not-random"} & set(found.honest_codes)
    assert {told.name: told.outcome for told in found.told} == {
        "zeros": "caught",
        "ones": "caught",
        "hidden zeros": "caught",
        "FP64 through FP32": "caught",
        "foreign load before": "not-tried",
        "foreign load": "not-tried",
        "emulation": "caught",
        "emulation past the refusal": "not-tried",
    }
    assert all(told.seen.not_tried for told in found.told if told.outcome == "not-tried")
    assert found.missed == []


@pytest.mark.parametrize(
    ("trick", "code"), [(intruder.foreign_before, "device-busy"), (intruder.foreign_during, "foreign-process")]
)
@pytest.mark.long
def test_a_foreign_process_is_found_where_the_device_tells_of_it(
    trick: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter((0, 0))  # when the session begins, and when it is asked whether processes are told at all
    monkeypatch.setattr(CpuSource, "read", lambda self: Reading(processes=next(told, 2)))
    assert code in trick(SETUP._replace(seconds=2.4)).codes  # a neighbour's load makes even the smallest launch long


def test_a_trick_that_worked_and_was_not_caught_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {
        "works": tricks.Seen(codes={"not-steady": "hold"}, rate_mflop_s=9),
        "does nothing": tricks.Seen(without_effect=True),
    }
    table = tuple(adversary.Trick(name, "", ("wrong-product",), one) for name, one in seen.items())  # type: ignore[arg-type]
    run = alone(tricks.honestly, SETUP)
    monkeypatch.setattr(adversary, "alone", lambda what, setup: run if what is tricks.honestly else what)
    monkeypatch.setattr(adversary, "TRICKS", table)
    found = adversary.measure(SETUP)
    assert [told.outcome for told in found.told] == ["missed", "no-effect"]
    assert found.missed == ["works"]
