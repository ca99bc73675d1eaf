"""The test that is named for a code fails where its check is gone; and the mutants are what they are said to be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.codes import attack, homes, mutants
from tests.codes.attack import KILLED, Outcome, survivors
from tests.codes.sites import ROOT


def attacked(out: Path, *words: str) -> dict[str, Outcome]:
    """Return what became of codes, in a process of its own."""
    command = [sys.executable, "-m", "tests.codes.attack", *words, "--json", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {one.code: one for one in (Outcome(*line) for line in json.loads(out.read_text()))}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_each_codes_test_fails_where_its_check_is_gone(tmp_path: Path) -> None:
    found = attacked(tmp_path / "outcomes.json", "--all")
    assert found.keys() == homes.reasons().keys()
    left = {code: one for code, one in found.items() if one.outcome != KILLED}
    unexpected = sorted(left.keys() - survivors().keys())
    # A test that failed without a mutant failed by what its neighbours left, or by the machine's load: by itself again.
    again = attacked(tmp_path / "again.json", *unexpected) if unexpected else {}
    assert {code: one for code, one in again.items() if one.outcome != KILLED} == {}
    assert survivors().keys() - left.keys() == set(), "no longer survivors"


def test_each_survivor_is_a_code_and_has_a_reason() -> None:
    assert survivors().keys() <= homes.reasons().keys()
    assert all(len(reason) > 20 for reason in survivors().values())


SOURCE = """
TABLE = {"high": "too-high"}

def raises(value):
    if value > 1:
        raise InputError("too-high", "is too high")
    return value

def finds(value):
    codes = []
    if value > 1:
        codes.append("too-high" if value < 9 else "far-too-high")
    return (*codes, "noted")

def looks(value):
    return TABLE["high"] if value > 1 else None

def yields(value):
    for holds, code, what in ((value <= 1, "too-high", "is too high"), (value >= 0, "too-low", "is too low")):
        if not holds:
            yield code, what

def judges(value):
    return ("met", None) if value < 1 else ("open", "too-high")

def refuses(value):
    problem = problem_of(value)
    if problem:
        raise InputError(*problem)
    return value

def problem_of(value):
    return ("too-high", "is too high") if value > 1 else None
"""


def test_where_a_codes_mutant_is_active_nothing_yields_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.errors import InputError

    for name, one in mutants.BUILTINS.items():
        monkeypatch.setattr("builtins." + name, one, raising=False)
    made: dict[str, object] = {"InputError": InputError}
    exec(mutants.rewritten(SOURCE, "<mutants>", frozenset({"too-high", "far-too-high", "too-low"})), made)

    def call(name: str, value: int) -> object:
        try:
            answer = made[name](value)  # type: ignore[operator]
            return list(answer) if name == "yields" else answer
        except InputError as error:
            return error.code

    names = ("raises", "finds", "looks", "yields", "judges", "refuses")
    as_written = [call(name, 5) for name in names]
    assert as_written == [
        "too-high",
        ("too-high", "noted"),
        "too-high",
        [("too-high", "is too high")],
        ("open", "too-high"),
        "too-high",
    ]
    monkeypatch.setattr(mutants.Active, "code", "far-too-high")
    assert [call(name, 5) for name in names] == as_written
    monkeypatch.setattr(mutants.Active, "code", "too-high")
    assert [call(name, 5) for name in names] == [5, ("noted",), None, [], ("open", None), 5]
    assert call("finds", 10) == ("far-too-high", "noted")
    assert call("yields", -1) == [("too-low", "is too low")]


def test_outcomes_are_written_as_they_are_read() -> None:
    one = Outcome("too-high", "tests/x.py::test_x", KILLED, 0.5)
    assert Outcome(*json.loads(json.dumps(one))) == one
    assert homes.reasons().keys() == attack.CODES
