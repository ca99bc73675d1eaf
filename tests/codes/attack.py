"""Run each code's test while the code's mutant is active: a test that passes all the same does not prove the check.

One process imports the product with its mutants (`mutants`) and collects the tests; for each module of tests it forks a
host, which runs the tests once as they are, and so has what the module shares, and forks again for each code.

    python -m tests.codes.attack --choose    # look for a test that notices, and write it to attacked.yaml
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.codes import homes, mutants
from tests.codes.sites import ROOT

HERE = Path(__file__).parent
CODES = frozenset(homes.reasons())
LONGEST_S = 30  # of one test under a mutant: a check that is gone may wait for ever
KILLED, SURVIVED, FAILS_WITHOUT, SKIPPED = "killed", "survived", "fails without a mutant", "skipped"
NOT_NAMED = "no test names it"


class Outcome(NamedTuple):
    """What became of a code under a test."""

    code: str
    test: str
    outcome: str
    seconds: float


def survivors() -> dict[str, str]:
    """Return the codes whose mutants no test can notice, each with the reason."""
    listed: dict[str, str] = yaml.safe_load((HERE / "survivors.yaml").read_text()) or {}
    return listed


def write_chosen(found: Iterable[Outcome]) -> None:
    """Keep which test noticed each code."""
    chosen = {**homes.chosen_tests(), **{one.code: one.test for one in found if one.outcome == KILLED}}
    head = "".join(line for line in homes.ATTACKED.read_text().splitlines(keepends=True) if line.startswith("#"))
    homes.ATTACKED.write_text(head + "".join(f'{code}: "{test}"\n' for code, test in sorted(chosen.items())))


class Loop:
    """A plug-in of pytest: in place of running what was collected, runs it under mutants."""

    def __init__(self, wanted: Mapping[str, Sequence[str]], out: Path, processes: int, choose: bool) -> None:
        self._wanted = wanted
        self._out = out
        self._processes = processes
        self._choose = choose
        self._items: dict[str, list[Any]] = {}
        self._factory: Any = None

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            name = f"{item.path.relative_to(ROOT).as_posix()}::{item.originalname}"
            self._items.setdefault(name, []).append(item)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        todo: dict[str, list[str]] = {}
        for code, tests in self._wanted.items():
            if tests:
                todo.setdefault(tests[0].partition("::")[0], []).append(code)
        self._factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        gc.collect()
        gc.freeze()
        running: dict[int, str] = {}
        for file, codes in sorted(todo.items(), key=lambda one: -len(one[1])):
            if len(running) >= self._processes:
                running.pop(os.wait()[0], None)
            running[self._forked(partial(self._host, file, codes))] = file
        while running:
            running.pop(os.wait()[0], None)
        return True

    def _host(self, file: str, codes: Sequence[str]) -> int:
        """Run the codes whose first test stands in one file."""
        cold = self._cold(codes, file)
        later = []
        passed: dict[Any, bool] = {}
        for code in codes:
            for test in self._wanted[code]:
                if not test.startswith(f"{file}::"):
                    continue
                outcome = self._warm(code, test, passed)
                if outcome.outcome == KILLED or not self._choose:
                    break
            if outcome.outcome == SURVIVED or (outcome.outcome != KILLED and self._choose):
                later.append(code)
            else:
                self._write(outcome)
        cold(later)
        return 0

    def _cold(self, codes: Sequence[str], file: str) -> Any:
        """Return what runs codes again in processes in which no test has run yet: no cache has an answer."""
        reading, writing = os.pipe()

        def again() -> int:
            os.close(writing)
            with os.fdopen(reading) as pipe:
                for line in pipe:
                    code = line.strip()
                    outcome = Outcome(code, "", SURVIVED, 0)
                    for test in self._wanted[code][: None if self._choose else 1]:
                        items = self._chosen(code, test)
                        outcome = self._under(code, code, test, items, None)
                        if outcome.outcome == KILLED and self._under(None, code, test, items, None).outcome == KILLED:
                            outcome = outcome._replace(outcome=FAILS_WITHOUT)
                        if outcome.outcome == KILLED:
                            break
                    self._write(outcome)
            return 0

        child = self._forked(again)
        os.close(reading)

        def run(later: Iterable[str]) -> None:
            with os.fdopen(writing, "w") as pipe:
                pipe.writelines(f"{code}\n" for code in later)
            os.waitpid(child, 0)

        return run

    def _chosen(self, code: str, test: str) -> list[Any]:
        """Return a test's cases that name the code, all where none does."""
        items = self._items.get(test, [])
        naming = [item for item in items if hasattr(item, "callspec") and _names(item, code)]
        return naming or items

    def _warm(self, code: str, test: str, passed: dict[Any, bool]) -> Outcome:
        items = self._chosen(code, test)
        if not items:
            return Outcome(code, test, SKIPPED, 0)
        neighbour = next((one for one in self._items[test] if one is not items[0]), None)
        if neighbour is None:
            module = items[0].parent
            neighbour = next(
                (o for all_ in self._items.values() for o in all_ if o.parent is module and o is not items[0]), None
            )
        for item in items:
            if item not in passed:
                passed[item] = _run(item, neighbour) == "passed"
        items = [item for item in items if passed[item]]
        if not items:
            return Outcome(code, test, FAILS_WITHOUT, 0)
        if threading.active_count() > 1:  # they do not live on in a fork
            return Outcome(code, test, SURVIVED, 0)
        return self._under(code, code, test, items, neighbour)

    def _under(self, active: str | None, code: str, test: str, items: Sequence[Any], neighbour: Any) -> Outcome:
        """Run the cases of a test in a process in which the code's mutant is active."""
        begun = time.monotonic()

        def mutated() -> int:
            mutants.Active.code = active
            outcomes = []
            for item in items:
                signal.alarm(LONGEST_S)
                outcomes.append(_run(item, neighbour))
                if outcomes[-1] == "failed":
                    return 3
            return 4 if "passed" in outcomes else 5

        _, status = os.waitpid(self._forked(mutated), 0)
        ended = os.waitstatus_to_exitcode(status)
        outcome = SURVIVED if ended == 4 else SKIPPED if ended == 5 else KILLED
        return Outcome(code, test, outcome, round(time.monotonic() - begun, 2))

    def _forked(self, work: Callable[[], int]) -> int:
        """Run something in a process with temporary folders of its own."""

        def apart() -> int:
            self._factory._basetemp = Path(tempfile.mkdtemp(dir=self._out.parent))
            return work()

        return _forked(apart)

    def _write(self, outcome: Outcome) -> None:
        with self._out.open("a") as file:
            file.write(json.dumps(outcome) + "\n")


def _names(item: Any, code: str) -> bool:
    return code in item.name or f"'{code}'" in repr(list(item.callspec.params.values()))


def _run(item: Any, neighbour: Any) -> str:
    """Run one test as pytest does, and return passed, failed or skipped."""
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, nextitem=neighbour, log=False)
    if any(report.failed for report in reports):
        return "failed"
    return "skipped" if any(report.skipped for report in reports) else "passed"


def _forked(work: Callable[[], int]) -> int:
    """Run something in a process of its own; its answer is the exit status."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        status = work()
    finally:
        os._exit(status)


def _draw_apart() -> None:
    """Have each PDF drawn in a process of its own: the engine's threads do not live on in a fork, which waits for them.

    Tests draw in a host, which is forked for each of its codes.
    """
    from certify.statement.paper import pdf

    compiled = pdf._compiled

    def apart(drawing: Any, inputs: dict[str, str]) -> bytes:
        reading, writing = os.pipe()

        def work() -> int:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(compiled(drawing, inputs))
            return 0

        child = _forked(work)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            drawn = pipe.read()
        _, status = os.waitpid(child, 0)
        assert status == 0, "the PDF was not drawn"
        return drawn

    pdf._compiled = apart


def outcomes(wanted: Mapping[str, Sequence[str]], processes: int = 2, choose: bool = False) -> Iterator[Outcome]:
    """Run tests under the mutants of their codes, in this process and its children, and yield what became of each.

    Args:
        wanted: the tests of each code, of which the first decides unless one is to be chosen.
        processes: at once.
        choose: look on until a test notices.
    """
    mutants.install(CODES)
    _draw_apart()
    before = set(ROOT.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcomes.jsonl"
        out.touch()
        files = sorted({test.partition("::")[0] for tests in wanted.values() for test in tests})
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        options += ["--basetemp", f"{folder}/tmp", "--rootdir", str(ROOT), "-W", "error"]
        pytest.main([*options, *files], plugins=[Loop(wanted, out, processes, choose)])
        found = [Outcome(*json.loads(line)) for line in out.read_text().splitlines()]
    # Without its check a command may write where it stands, into the root of the checkout.
    for path in set(ROOT.iterdir()) - before:
        if path.is_file():
            path.unlink()
    yield from found
    yield from (Outcome(code, "", NOT_NAMED, 0) for code in wanted.keys() - {one.code for one in found})


def main(arguments: Sequence[str]) -> int:
    """Run all codes, or those that are named, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codes", nargs="*", help="those alone")
    parser.add_argument("--all", action="store_true", help="those too that are known to survive")
    parser.add_argument("--choose", action="store_true", help="look for a test that notices each")
    parser.add_argument("--json", help="write the outcomes there")
    parser.add_argument("--most", type=int, default=6, help="tests of one code that are tried")
    asked = parser.parse_args(arguments)
    codes = asked.codes or sorted(CODES if asked.all else CODES - survivors().keys())
    wanted = {code: homes.tests_of(code)[: asked.most if asked.choose else 1] for code in codes}
    found = list(outcomes(wanted, choose=asked.choose))
    if asked.choose:
        write_chosen(found)
    if asked.json:
        Path(asked.json).write_text(json.dumps(found))
    bad = [one for one in found if one.outcome != KILLED]
    for one in sorted(bad):
        print(f"{one.outcome:24} {one.code:30} {one.test}")
    print(f"{len(found) - len(bad)} of {len(codes)} killed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
