"""Run targets under the coverage-guided fuzzer atheris, each in a process of its own, two at once.

    python -m tests.fuzz [--seconds 20 | --runs 2000] [TARGET ...]

With --seconds each target is first fed with large inputs, and time is measured: more than a second of the processor for
100 kB is a defect. An input that finds a defect is kept, and its file is named.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["bench", "certify"]):
    from tests.fuzz.fixed import CORPUS
    from tests.fuzz.targets import TARGETS, accepts
from tests.fuzz.large import large_inputs
from tests.fuzz.mutate import mutated

FOUND = Path("results/local/fuzz")
MAX_LENGTH = 100_000
SLACK = 4  # instrumented code is slower, and so is a busy machine
SECONDS_PER_100_KB = 1.0


def main() -> int:
    """Run the targets that are named, or all; return 0 where no defect was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[*TARGETS, []], default=[])
    asked = parser.parse_args()
    FOUND.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")  # files are written a thousand times a second
    waiting, running, good = list(asked.targets or TARGETS), dict[int, Path](), True
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        while waiting or running:
            while waiting and len(running) < min(2, os.cpu_count() or 1):
                place = Path(scratch) / waiting.pop(0)
                (place / "corpus").mkdir(parents=True)
                child = os.fork()
                if child == 0:
                    _become(place, asked.seconds, asked.runs)
                running[child] = place
            child, status = os.wait()
            good &= tell(running.pop(child), status)
    return int(not good)


def tell(place: Path, status: int) -> bool:
    """Print what became of a target, which ran in a folder, and return whether all is well."""
    log = (place / "log").read_text(errors="replace")
    counted = [line.split()[-1] for line in log.splitlines() if line.startswith("stat::number_of_executed_units")]
    print(f"{place.name}: {counted[-1] if counted else 'no'} runs, {'a defect' if status else 'well'}", flush=True)
    if status:
        print(log[-6000:], flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return status == 0


def _become(place: Path, seconds: int, runs: int) -> None:
    """Turn this forked process into the fuzzer of the target that its folder is named after. It never returns."""
    name, log = place.name, os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    tempfile.tempdir = str(place)
    target = TARGETS[name]

    def once(data: bytes) -> None:
        begin = time.process_time()
        try:
            accepts(target, data)
            spent = time.process_time() - begin
            allowed = SLACK * SECONDS_PER_100_KB * max(1.0, len(data) / MAX_LENGTH)
            assert not seconds or spent < allowed, f"{len(data)} bytes took {spent:.2f} s"
        except BaseException:
            kept = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            print(f"the input is kept as {kept}", flush=True)
            raise

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutated(data, rng)[:max_size]

    options = [f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", "-rss_limit_mb=4096", "-verbosity=0"]
    if seconds:
        options += [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-len_control=20", "-timeout=20"]
    else:
        options += [f"-runs={runs}", "-max_len=20000", "-len_control=0", "-seed=1"]
    corpora = [str(place / "corpus"), str(CORPUS / name)]
    try:
        for data in large_inputs(sorted((CORPUS / name).iterdir()), MAX_LENGTH) if seconds else ():
            once(data)
        atheris.Setup([f"fuzz-{name}", *options, *corpora], once, custom_mutator=mutate)
        atheris.Fuzz()
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # a fuzzer that has ended well has left by itself


if __name__ == "__main__":
    sys.exit(main())
