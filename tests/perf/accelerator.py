"""The harness beside other ways of measuring, on one device: ``python -m tests.perf accelerator --device cuda:0``.

On an accelerator give it minutes (``--seconds 60``); on the CPU it shows that it works. Nothing of it is a figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.devices import select_devices
from bench.errors import PetasealError
from bench.record import write_atomic
from kernels.base import PRECISIONS
from tests.perf import adversary, beside, costs, harness, search
from tests.perf.rig import Part, Setup, alone

SEARCH_STRETCHES = 20  # the exhaustive search may take as long as so many stretches
CPU_SEARCH_STRETCHES = 10
PARTS: dict[str, Callable[[Setup], Part]] = {
    "overhead": lambda setup: alone(harness.measure, setup),
    "search": lambda setup: search.measure(setup, search_seconds(setup)),
    "costs": lambda setup: alone(costs.measure, setup),
    "beside": lambda setup: alone(beside.measure, setup),
    "adversary": adversary.measure,
}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to ``perf.json``."""

    device: str
    vendor: str
    model: str
    seconds: float
    parts: list[Part]
    troubles: list[str]  # parts that gave nothing, and why


def search_seconds(setup: Setup) -> float:
    """Return how long the exhaustive search may take."""
    return setup.seconds * (CPU_SEARCH_STRETCHES if setup.device.startswith("cpu") else SEARCH_STRETCHES)


def measure(device: str, precisions: list[str], seconds: float | None, parts: list[str]) -> Result:
    """Measure one device and print a line for each finding.

    Args:
        device: such as "cuda:0", "torch:0" or "cpu".
        precisions: to measure; none for fp16 and fp64, or on a CPU fp64 alone.
        seconds: of one stretch under load; None for 30, or on a CPU 1.
        parts: keys of `PARTS`; none for all.

    Raises:
        InputError: there is no such device.
    """
    (found,) = select_devices(device)
    model, name = found.model, found.device.device
    on_cpu = model.kind == "cpu"
    length = seconds or (1.0 if on_cpu else 30.0)
    done: list[Part] = []
    troubles = []
    print(f"{name} {model.vendor} {model.model}, stretches of {length:g} s")
    for precision in precisions or (["fp64"] if on_cpu else ["fp16", "fp64"]):
        setup = Setup(device, next(p for p in PRECISIONS if p == precision), length)
        for part in parts or PARTS:
            try:
                done.append(PARTS[part](setup))
            except Exception as error:  # a part that cannot be had on a device costs no other
                text = f"{part}, {precision}: not measured, {type(error).__name__}: {error}"
                troubles.append(text)
                print(text, flush=True)
            else:
                print(*done[-1].lines, sep="\n", flush=True)
    return Result(device=name, vendor=model.vendor, model=model.model, seconds=length, parts=done, troubles=troubles)


def main(arguments: list[str]) -> int:
    """Measure what the command line says; 1 where a trick had an effect and went uncaught, 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf accelerator", description=__doc__)
    parser.add_argument(
        "--device", default="all", help='such as cuda:0, torch:0 or cpu (default: the only one, or "cpu")'
    )
    parser.add_argument("--precision", default="", help="such as fp16,fp64")
    parser.add_argument("--seconds", type=float, help="of one stretch under load (default: 30; on a CPU 1)")
    parser.add_argument("--parts", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="folder for perf.json")
    given = parser.parse_args(arguments)
    precisions, parts = given.precision.split(",") if given.precision else [], [p for p in given.parts.split(",") if p]
    for value, known in ((precisions, PRECISIONS), (parts, PARTS)):
        if unknown := [one for one in value if one not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    if given.seconds is not None and given.seconds <= 0:
        parser.error("--seconds must be more than 0")
    try:
        device = given.device if given.device != "all" else select_devices("all")[0].device.device
        result = measure(device, precisions, given.seconds, parts)
    except PetasealError as error:
        print(error, file=sys.stderr)
        return 2
    if given.out is not None:
        write_atomic(given.out / "perf.json", msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    missed = [name for part in result.parts if isinstance(part, adversary.Adversary) for name in part.missed]
    return 1 if missed else 0
