"""Every parser against bytes that nobody means: the committed seeds, changes of them, and a short coverage-guided run.

``make fuzz`` is the same for longer, with large inputs and the time that they take.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.documents.kinds import DOCUMENTS
from tests.fuzz.fixed import CORPUS
from tests.fuzz.large import large_inputs
from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, accepts

ROOT = Path(__file__).parent.parent.parent
RUNS = 2000
SEEDS = [(target, path) for target in TARGETS for path in sorted((CORPUS / target).iterdir())]
HAS_WHEEL = (
    sys.platform == "linux"
    and platform.machine() == "x86_64"
    and platform.python_implementation() == "CPython"
    and (3, 11) <= sys.version_info < (3, 14)
)
FOUND = {  # what the fuzzer found, and must never find again
    "an X448 key of 32 bytes": (
        "private-key",
        b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VvBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
        b"-----END PRIVATE KEY-----\n",
    ),
    "ratings that are no UTF-8": ("ratings", b'[{"\xff'),
}
BROKEN = """
import sys
import tests.fuzz.__main__ as fuzz
def broken(data):
    assert b"Z" not in data
fuzz.TARGETS["time"] = broken
sys.argv = ["fuzz", "time"]
sys.exit(fuzz.main())
"""


@pytest.fixture(scope="module")
def fuzzer() -> list[str]:
    """Return the command that fuzzes; skip where there is no fuzzer for this Python, save where there must be one."""
    if importlib.util.find_spec("atheris") is None:
        assert not (os.environ.get("CI") and HAS_WHEEL), "atheris is not installed"
        pytest.skip("atheris is not installed")
    return [sys.executable, "-m", "tests.fuzz"]


@pytest.mark.parametrize(("target", "path"), SEEDS, ids=[f"{t}-{p.name}" for t, p in SEEDS])
def test_every_seed_is_accepted(target: str, path: Path) -> None:
    assert accepts(TARGETS[target], path.read_bytes()), "a format has changed: python -m tests.fuzz.seeds"


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_before(what: str) -> None:
    target, data = FOUND[what]
    assert not accepts(TARGETS[target], data)


def test_the_seeds_are_those_that_are_made_and_small() -> None:
    assert {(target, name) for target, name, _ in seeds()} == {(target, path.name) for target, path in SEEDS}
    assert {target for target, _ in SEEDS} == set(TARGETS) == {path.name for path in CORPUS.iterdir()}
    assert sum(path.stat().st_size for _, path in SEEDS) < 200_000


def test_every_document_has_a_target() -> None:
    assert {f"payload-{name}" for name in DOCUMENTS} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4), which=st.integers(0, 9))
def test_a_changed_document_is_refused_or_true_to_its_bytes(target: str, seed: int, changes: int, which: int) -> None:
    rng = random.Random(seed)
    paths = sorted((CORPUS / target).iterdir())
    data = paths[which % len(paths)].read_bytes()
    for _ in range(changes):
        data = mutated(data, rng)
    accepts(TARGETS[target], data)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_or_true_to_themselves(target: str, data: bytes) -> None:
    accepts(TARGETS[target], data)


@pytest.mark.parametrize("target", TARGETS)
def test_large_inputs_are_refused_or_true_to_themselves(target: str) -> None:
    for data in large_inputs(sorted((CORPUS / target).iterdir())[:1], 5_000):
        accepts(TARGETS[target], data)


def test_changes_reach_what_a_document_accepts() -> None:
    """Not every change is refused at the first bracket: some documents with another content are accepted."""
    for target in ("payload-campaign", "payload-trust-root", "payload-baseline", "sealed-record", "centre"):
        data = sorted((CORPUS / target).iterdir())[0].read_bytes()
        rng = random.Random(1)
        changed = (mutated(data, rng) for _ in range(5000))
        assert any(other != data and accepts(TARGETS[target], other) for other in changed), target


@pytest.mark.long
def test_a_short_run_of_the_fuzzer_finds_nothing(fuzzer: list[str], tmp_path: Path) -> None:
    done = run([*fuzzer, "--runs", str(RUNS)], tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f": {RUNS} runs, well") == len(TARGETS)


def test_the_fuzzer_would_find_something(fuzzer: list[str], tmp_path: Path) -> None:
    done = run([fuzzer[0], "-c", BROKEN], tmp_path)
    assert done.returncode == 1
    assert "runs, a defect" in done.stdout
    (kept,) = (tmp_path / "results" / "local" / "fuzz").iterdir()
    assert b"Z" in kept.read_bytes()


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
