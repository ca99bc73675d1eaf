"""Samples read in two ways, by columns and line by line: what they come to is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certify.samples import observed as product
from certify.samples import table
from tests.bench.fleet import simulate_node
from tests.certify.audit.audited import audited
from tests.oracle import observed as oracle

SCRIPTS: tuple[dict[str, Any], ...] = (
    {},
    {"throttle": [{"from_s": 1, "to_s": 2, "rate_ppm": 500_000}]},
    {"telemetry_interval_s": 1.5},
    {"telemetry": False},
    {"energy_ppm": 300_000},
)


def compared(content: bytes) -> int:
    """Compare every figure of a sidecar, and return how many there are."""
    count = 0
    lines = {key: list(rows) for key, rows in oracle.figures(content)}
    for rows in table.figures(content, Path("samples")):
        mine, theirs = product.observe(rows), oracle.observe(lines.pop((rows.device, rows.workload)))
        assert mine.times_ns == theirs.times_ns
        assert {k: [tuple(pair) for pair in mine.whole(k).tolist()] for k in mine.readings} == {
            k: list(series) for k, series in theirs.readings.items()
        }
        for length_ns in (3 * 10**9, 66 * 10**9, 10**12):
            made = product.watched(mine, length_ns)._asdict()
            told = oracle.watched(theirs, length_ns)._asdict()
            assert {name: made[name] for name in told} == told
        count += 1
    assert not lines
    return count


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_simulated_devices(script: dict[str, Any]) -> None:
    assert compared(simulate_node(script, 2, "smoke", ("fp16", "fp64")).samples) == 4


def test_accelerators_with_noise(tmp_path: Path) -> None:
    (file,) = audited(tmp_path, 1, 2).records.glob("*.csv.gz")
    assert compared(file.read_bytes()) == 4  # two devices, both choices of shape
