"""Figures above everything that was published: they count only where a witness vouches for the statement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from bench.record import NodeRecord
from certify.policy.policies import load_policy

PLAYS = "nvidia-a100-pcie"  # silicon 311.8 TFLOPS, best known 256.4: 1.15 times that is less than a fake's 300
MOST_MFLOP_S = 256_400_000 * 115 // 100


def above_best_known(index: int, record: NodeRecord) -> NodeRecord:
    """Return a node's record whose devices play a row that they exceed, with the clock and power of that row."""
    models = tuple(
        replace(model, plays=PLAYS, units=108, max_clock_mhz=1410, memory_bytes=80 * 2**30) for model in record.models
    )
    measurements = tuple(
        replace(
            one,
            clock_max_mhz=(1410,) * len(one.device),
            clock_mean_mhz=(1400,) * len(one.device),
            power_mean_mw=(300_000,) * len(one.device),
        )
        for one in record.measurements
    )
    return replace(record, models=models, measurements=measurements)


def exceptional_policy(folder: Path, **changes: Any) -> str:
    """Write guangzhou-2000p under another name, which accepts such figures with a witness, and return its file."""
    policy = msgspec.to_builtins(load_policy("guangzhou-2000p"))
    policy |= {"policy": "exceptional", "accept_with_witness": ["above-best-known"], **changes}
    file = folder / "exceptional.yaml"
    file.write_text(yaml.safe_dump(policy, allow_unicode=True))
    return str(file)
