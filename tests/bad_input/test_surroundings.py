"""What a node's surroundings get wrong: other packages on the path, no home, and an end from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.bad_input.command import Answer, process, started
from tests.bench.processes import workers
from tests.bench.test_run import quick, until

RATES = {"rate_gflop_s": {"fp16": 700, "fp64": 700}}
STRANGER = 54_321  # has no entry in the table of users
COMMANDS = (
    ("--help",),
    ("policy", "list"),
    ("run", "--device", "cpu", "--out", "out"),
    ("verify", "statement", "--public-key", "key"),
)


@pytest.mark.parametrize("content", ["", "raise ImportError('undefined symbol: PyObject_New')", "print("])
@pytest.mark.parametrize("name", ["yaml", "numpy", "msgspec"])
def test_another_package_on_the_path_is_one_sentence_at_the_start(place: Path, name: str, content: str) -> None:
    module = place / "modules" / f"{name}.py"
    module.parent.mkdir()
    module.write_text(content)
    environ = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{module.parent}"}
    for command in COMMANDS:
        answer = process(*command, env=environ, cwd=place)
        assert (answer.status, answer.out, answer.code) == (2, "", "foreign-package")
        assert f"another package {name!r} ({module})" in answer.err
        assert "unset PYTHONPATH" in answer.err


def test_a_path_that_replaces_nothing_is_as_good_as_none(place: Path) -> None:
    (place / "modules").mkdir()
    (place / "modules/own.py").write_text("")
    environ = {**os.environ, "PYTHONPATH": f"{place / 'modules'}{os.pathsep}{Path(yaml.__file__).parents[1]}"}
    assert process("policy", "list", env=environ).status == 0


@pytest.mark.parametrize(
    ("home", "code", "what"),
    [
        (None, "no-state-folder", f"the user {STRANGER} has no home folder"),
        ("", "no-state-folder", f"the user {STRANGER} has no home folder"),
        ("here", "no-state-folder", "the home folder 'here' is a relative path"),
        ("/proc", "output-not-writable", "/proc/.local/state/petaseal/node-keys"),
    ],
)
def test_a_user_without_a_home_is_told_of_the_state_folder(home: str | None, code: str, what: str) -> None:
    if os.geteuid():
        assert not os.environ.get("CI"), "another user's process needs root"
        pytest.skip("another user's process needs root")
    stranger = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", sys.executable)
    environ = {k: v for k, v in os.environ.items() if k not in ("HOME", "PETASEAL_STATE", "XDG_STATE_HOME")}
    environ |= {} if home is None else {"HOME": home}
    with TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)  # pytest's own folders are open to this user alone
        run = ("run", "--profile", quick(place), "--device", "cpu", "--precision", "fp64", "--out", place / "out")
        ran = subprocess.run(
            [*stranger, "-m", "certify", *map(str, run)], env=environ, cwd=place, capture_output=True, text=True
        )
        assert not (place / "here").exists()
    answer = Answer(ran.returncode, ran.stdout, ran.stderr)
    assert (answer.status, answer.code) == (2, code)
    assert what in answer.err
    assert "PETASEAL_STATE" in answer.err


@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_ends_a_run_with_a_sentence_and_its_workers(place: Path, whole_group: bool) -> None:
    scenario = place / "scenario.yaml"
    scenario.write_text(yaml.safe_dump({"default": RATES}))
    fakes = ("--device", "fake:2", "--precision", "fp16", "--scenario", scenario)
    run = started("run", "--profile", quick(place), *fakes, "--out", place / "out")
    until(lambda: len(workers(str(place))) == 3)
    time.sleep(0.5)
    os.kill(-run.pid if whole_group else run.pid, signal.SIGTERM)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGTERM
    assert (out, err) == ("", "petaseal: ended by SIGTERM; nothing was left half-written [interrupted]\n")
    assert workers(str(place)) == []
    assert not list(place.glob("out/*.dsse.json"))
