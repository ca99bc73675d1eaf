"""How long a command takes to start, against importing the library that it is made with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROUNDS = 15
PETASEAL = Path(sys.executable).with_name("petaseal")


def measure() -> None:
    """Print the ratio of ``petaseal --help`` to ``python -c "import typer"``, interleaved."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds([str(PETASEAL), "--help"]))
        theirs.append(seconds([sys.executable, "-c", "import typer"]))
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"petaseal --help / import typer: median {ratio:.2f} (limit 2), {median(ours):.2f} s")


def seconds(command: list[str]) -> float:
    """Return how long a command took."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
    return time.perf_counter() - begin
