"""The first ten minutes on an accelerator: ``python -m tests.perf.first_gpu --device cuda:0 --out results/NAME``.

One command of at most 570 s. Each step is a process of its own with a limit of its own: one that hangs or dies costs no
other, and what is there so far is on the disk. No identity of the device is written: uuid, serial and PCI address are
replaced before the record is signed, and in every text.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import yaml

from bench.clock import SystemClock
from bench.devices import select_devices
from bench.devices.base import LocalDevice
from bench.errors import PetasealError
from bench.profile import load_profile
from bench.record import Shape, write_atomic
from bench.record.fields import Precision
from kernels.base import load_reference
from tests.perf.rig import SECOND_NS, Rig, Setup, only, open_device

LIMIT_S = 570.0
TRACE_NS = 100_000_000
ME = (sys.executable, "-m", "tests.perf.first_gpu")
PETASEAL = (sys.executable, "-m", "certify")
SILICON: tuple[tuple[str, Precision], ...] = (
    ("issue-mma", "fp16"),
    ("issue-wgmma", "fp16"),
    ("issue-mma", "fp64"),
    ("issue-fma", "fp64"),
    ("issue-fma", "fp32"),
    ("triad", "fp64"),
)
SHAPES: tuple[tuple[Precision, int, int, int], ...] = (
    ("fp16", 8192, 8192, 8192),
    ("fp16", 8448, 8192, 8192),
    ("fp16", 4096, 4096, 4096),
    ("fp16", 16384, 16384, 16384),
    ("fp64", 8192, 8192, 8192),
    ("bf16", 8192, 8192, 8192),
)
SHORT_SHAPES: tuple[tuple[Precision, int, int, int], ...] = (("fp64", 256, 256, 256),)


class Lengths(NamedTuple):
    """How long each step loads the device, and may take, s."""

    grade: str = "standard"
    warmup: float = 25.0
    window: float = 66.0
    reference: float = 5.0
    run_limit: float = 240.0
    kernel: float = 4.0
    kernel_limit: float = 15.0
    stretch: float = 8.0  # of perf's overhead part
    shape: float = 5.0
    step_limit: float = 90.0


SHORT = Lengths("smoke", 0.5, 4.0, 0.2, 60.0, 0.2, 15.0, 0.5, 0.5, 60.0)  # shows that it works, and nothing else


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One process: when it ran, how it ended, and what it printed last."""

    step: str
    begun_ns: int  # after the start of the trace
    ended_ns: int
    status: int | None  # null: it was ended at its limit
    found: dict[str, Any] | None
    tail: tuple[str, ...]


class Script:
    """The steps, one after another, within one budget of time.

    Args:
        found: the device.
        out: folder for what is to be published.
        lengths: of the steps.
        limit_s: of all together.
    """

    def __init__(self, found: LocalDevice, out: Path, lengths: Lengths, limit_s: float) -> None:
        self.found, self.out, self.lengths = found, out, lengths
        self.device = found.device.device
        self.begun_ns = time.monotonic_ns()
        self.deadline_ns = self.begun_ns + round(limit_s * SECOND_NS)
        self.steps: list[Step] = []
        own = found.device
        self.secrets = [text for text in (own.uuid, own.serial, own.pci_address, own.die_id, own.parent) if text]

    def left_s(self) -> float:
        """Return what is left of the budget, s."""
        return (self.deadline_ns - time.monotonic_ns()) / SECOND_NS

    def run(self, step: str, command: Sequence[str], limit_s: float, environ: Mapping[str, str] | None = None) -> Step:
        """Run one process, note what it gave, and write everything that there is so far."""
        limit_s = min(limit_s, self.left_s() - 5)
        begun_ns = time.monotonic_ns()
        if limit_s < 1:
            status, text = None, "no time is left"
        else:
            status, text = ended(command, limit_s, {**os.environ, **(environ or {})})
        for secret in self.secrets:
            text = text.replace(secret, "<replaced>")
        lines = [line for line in text.splitlines() if line.strip()]
        found = None
        if lines and lines[-1].startswith("{"):
            with contextlib.suppress(ValueError):
                found = json.loads(lines.pop())
        made = Step(
            step=step,
            begun_ns=begun_ns - self.begun_ns,
            ended_ns=time.monotonic_ns() - self.begun_ns,
            status=status,
            found=found,
            tail=tuple(line[:300] for line in lines[-15:]),
        )
        self.steps.append(made)
        self.write()
        took = (made.ended_ns - made.begun_ns) / SECOND_NS
        print(f"{step}: {'ended at its limit' if status is None else f'status {status}'}, {took:.1f} s", flush=True)
        for line in (*made.tail[-4:], *([str(found)] if found else [])):
            print(f"    {line}", flush=True)
        return made

    def write(self) -> None:
        """Write what there is so far."""
        content = {
            "device": self.device,
            "model": msgspec.to_builtins(self.found.model),
            "lengths_s": self.lengths._asdict(),
            "steps": msgspec.to_builtins(self.steps),
        }
        write_atomic(self.out / "first-gpu.json", json.dumps(content, indent=1).encode() + b"\n")

    def measure(self, state: Path) -> None:
        """Measure FP16 in its fixed shape, certify it and verify the statement."""
        profile, environ, own = self.out / "first-gpu.yaml", {"PETASEAL_STATE": str(state)}, str(self.out)
        profile.write_text(yaml.safe_dump(short_profile(self.lengths), sort_keys=False), encoding="utf-8")
        key = str(state / "operator.pem")
        run = ("run", "--profile", str(profile), "--device", self.device, "--precision", "fp16", "--replace-identities")
        self.run("run", (*PETASEAL, *run, "--out", own), self.lengths.run_limit, environ)
        self.run("key", (*PETASEAL, "keys", "new", "--no-passphrase", "--out", key), 20, environ)
        centre = ("--centre", "demo", "--profile", str(profile))
        certify = ("certify", own, *centre, "--key", key, "--out", own)
        self.run("certify", (*PETASEAL, *certify), 30, environ)
        statement, records = str(self.out / "statement.dsse.json"), str(self.out / "records.jsonl")
        given = ("--public-key", f"{key}.pub", "--records", records, "--samples", own, "--profile", str(profile))
        simulated = ("--accept-simulated",) if self.found.model.simulated else ()
        self.run("verify", (*PETASEAL, "verify", statement, *given, *simulated), 30, environ)

    def look_closer(self) -> None:
        """Run each silicon kernel, perf's overhead part and a handful of shapes."""
        named = ("--device", self.device)
        for kernel, precision in SILICON:
            command = (*ME, *named, "--kernel", kernel, "--precision", precision, "--seconds", str(self.lengths.kernel))
            self.run(f"{kernel} {precision}", command, self.lengths.kernel_limit)
        stretch = ("--seconds", str(self.lengths.stretch), "--parts", "overhead", "--precision", "fp16")
        self.run(
            "overhead", (sys.executable, "-m", "tests.perf", "accelerator", *named, *stretch), self.lengths.step_limit
        )
        for precision, m, n, k in SHORT_SHAPES if self.lengths is SHORT else SHAPES:
            shape = ("--shape", f"{m},{n},{k}", "--precision", precision, "--seconds", str(self.lengths.shape))
            self.run(f"{precision} {m} x {n} x {k}", (*ME, *named, *shape), self.lengths.step_limit)


def ended(command: Sequence[str], limit_s: float, environ: Mapping[str, str]) -> tuple[int | None, str]:
    """Run a process; return its status, None if it was ended at its limit with all it started, and what it printed."""
    process = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return None, text
    return process.returncode, text


def short_profile(lengths: Lengths) -> dict[str, Any]:
    """Return the profile ``certification`` with FP16 alone, and with the lengths of the first ten minutes."""
    base = msgspec.to_builtins(load_profile("certification"))
    window_ns = round(lengths.window * SECOND_NS)
    return dict(base) | {
        "profile": "first-gpu",
        "grade": lengths.grade,
        "measured": {"intelligent": ["fp16"]},
        "warmup_ns": round(lengths.warmup * SECOND_NS),
        "window_ns": window_ns,
        "guard_ns": window_ns // 60,
        "companion_ns": round(lengths.reference * SECOND_NS),
        "busy": "flag",
    }


@contextlib.contextmanager
def traced(device: str, path: Path) -> Iterator[None]:
    """Write ten readings a second to a file while this holds, from a process that has no context on the device."""
    raw = path.with_suffix("")  # compressed at the end: a process that is killed leaves whole lines
    with raw.open("wb") as file:
        process = subprocess.Popen([*ME, "--device", device, "--trace"], stdin=subprocess.PIPE, stdout=file)
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    with raw.open("rb") as source, gzip.GzipFile(path, "wb", mtime=0) as packed:
        shutil.copyfileobj(source, packed)
    raw.unlink()


def trace(device: str) -> int:
    """Print a reading each 100 ms, as CSV, until the standard input is closed."""
    import select

    (found,) = select_devices(device)
    source = open_device(found, SystemClock()).source()
    begun = at = time.monotonic_ns()
    print("at_ns,clock_mhz,power_mw,temperature_c,utilisation_ppm,throttled", flush=True)
    while source is not None:
        try:
            reading = source.read()
        except PetasealError as error:
            print(f"# {error.what}", flush=True)  # what failed with the device stands where it happened
            return 1
        if reading is not None:
            reasons = "" if reading.throttled is None else "+".join(reading.throttled) or "none"
            values = (reading.clock_mhz, reading.power_mw, reading.temperature_c, reading.utilisation_ppm)
            row = ",".join("" if value is None else str(value) for value in values)
            print(f"{time.monotonic_ns() - begun},{row},{reasons}", flush=True)
        at += TRACE_NS
        if select.select([sys.stdin], [], [], max(0, at - time.monotonic_ns()) / SECOND_NS)[0]:
            return 0
    return 0


def issue(device: str, kernel: str, precision: Precision, seconds: float) -> int:
    """Load a device with one silicon kernel, and print its rate and whether its result was exact."""
    (found,) = select_devices(device)
    opened, reference = open_device(found, SystemClock()), load_reference(kernel)
    source = opened.source()
    if (reason := reference.supports(precision, opened.target)) is not None:
        print(json.dumps({"trouble": reason}))
        return 0
    begun = time.perf_counter()
    prepared = reference.prepare(precision, opened.target, 7)
    prepared.launch(1)
    prepared.synchronize()
    first_s = time.perf_counter() - begun
    launches, count, begun = 0, 1, time.perf_counter()
    clocks: list[int] = []
    while (elapsed := time.perf_counter() - begun) < seconds:
        prepared.launch(count)
        prepared.synchronize()
        launches += count
        count = min(2 * count, 64)
        reading = source.read() if source is not None else None
        if reading is not None and reading.clock_mhz is not None:
            clocks.append(reading.clock_mhz)
    gflop_s, gb_s = (launches * each / elapsed / 1e9 for each in (prepared.launch_flop, prepared.launch_bytes))
    found_here = {"gflop_s": round(gflop_s, 1), "gb_s": round(gb_s, 1), "exact": prepared.verify()}
    mean = sum(clocks) // len(clocks) if clocks else None
    print(json.dumps({**found_here, "first_launch_s": round(first_s, 3), "clock_mean_mhz": mean}))
    return 0


def product(device: str, shape: Shape, precision: Precision, seconds: float) -> int:
    """Measure one shape in a short window, and print its rate as a JSON object."""
    setup = Setup(device, precision, seconds)
    rig = Rig(setup, only(setup, shape))
    rig.prepare()
    run = rig.run()
    print(run.text())
    named = ("sustained_mflop_s", "first_launch_ns", "clock_mean_mhz", "power_mean_mw", "rms_error_ppm")
    print(json.dumps({name: getattr(run.figure, name) for name in named} | {"codes": run.codes}))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the whole script, or one of its steps; 1 where there is no record, 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.first_gpu", description=__doc__)
    parser.add_argument("--device", required=True, help="such as cuda:0")
    parser.add_argument("--out", type=Path, help="folder for what is to be published; it must not exist")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, help=f"of everything together, s (default: {LIMIT_S:g})"
    )
    parser.add_argument("--short", action="store_true", help="as short as can be: it shows that the script works")
    step = parser.add_argument_group("one step alone, as the script calls it")
    step.add_argument("--trace", action="store_true")
    step.add_argument("--kernel")
    step.add_argument("--shape")
    step.add_argument("--precision", default="fp16")
    step.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args(arguments)
    precision: Precision = given.precision
    try:
        if given.trace:
            return trace(given.device)
        if given.kernel:
            return issue(given.device, given.kernel, precision, given.seconds)
        if given.shape:
            m, n, k = map(int, given.shape.split(","))
            return product(given.device, Shape(m=m, n=n, k=k), precision, given.seconds)
        if given.out is None or given.out.exists():
            parser.error("--out names a folder that does not exist yet")
        (found,) = select_devices(given.device)
    except PetasealError as error:
        print(error, file=sys.stderr)
        return 2
    given.out.mkdir(parents=True)
    script = Script(found, given.out, SHORT if given.short else Lengths(), given.limit)
    with TemporaryDirectory() as state, traced(given.device, given.out / "trace.csv.gz"):
        script.measure(Path(state))
        script.look_closer()
    return 0 if any(given.out.glob("*.record.dsse.json")) else 1


if __name__ == "__main__":
    sys.exit(main())
