"""What certify, verify, status and diagnose print, by real processes: on terminals, into pipes, in two languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.language import choose_language
from bench.terminal.summary import MOST_LINES, cells
from tests.bad_input.command import petaseal
from tests.certify.measured import Measured, measured
from tests.test_cli import certifying, on_terminal, plain, verifying

CHINESE = re.compile("[一-鿿]")
ENGLISH = "ACCEPTED: level recomputed, at "


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    yield
    choose_language(None)  # a process has one; this one runs many commands


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A simulated centre of two nodes, with its statement."""
    folder = tmp_path_factory.mktemp("stated")
    made = measured(folder)
    assert petaseal(*certifying(made)).status == 0
    return made


def piped(*args: object, encoding: str = "utf-8", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose output nobody sees, under a locale."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-m", "certify", *map(str, args)],
        env={**known, "PYTHONIOENCODING": encoding, **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(80, {}), (120, {"NO_COLOR": "1"}), (200, {"LC_ALL": "zh_CN.UTF-8"}), (40, {"LC_ALL": "zh_CN.UTF-8"}), (40, {})],
)
def test_a_terminal_of_any_width_gets_one_screen(
    stated: Measured, columns: int, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status, shown = on_terminal(*verifying(stated), columns=columns)
    assert status == 0, shown
    progress, wiped, lines = shown.rpartition("\x1b[2K")  # how the progress goes away
    assert wiped, progress
    assert "\x1b" not in lines  # no colour, with NO_COLOR and without
    text = [line for line in plain(lines) if line.strip()]
    assert max(map(cells, text)) <= columns
    assert columns < 80 or len(text) <= MOST_LINES
    whole = "".join(text)
    assert ("接受" in whole) == bool(environment.get("LC_ALL"))
    assert ("ACCEPTED" in whole) != bool(environment.get("LC_ALL"))


def test_a_pipe_gets_the_same_summary_unbroken(stated: Measured) -> None:
    for encoding, environment, first in (
        ("utf-8", {"LANG": "C"}, ENGLISH),
        ("ascii", {"LC_ALL": "zh_CN.UTF-8"}, ENGLISH),  # escapes in place of Chinese could be read by nobody
        ("utf-8", {"LC_ALL": "zh_CN.UTF-8"}, "接受：级别 recomputed"),
        ("gbk", {"LANG": "zh_CN.GBK"}, "接受：级别 recomputed"),
    ):
        done = piped(*verifying(stated), encoding=encoding, **environment)
        assert (done.returncode, done.stderr) == (0, b"")
        lines = done.stdout.decode(encoding).splitlines()
        assert lines[0].startswith(first)
        assert len(lines) <= MOST_LINES
        assert not any(line.startswith("    ") for line in lines)
        assert b"\x1b" not in done.stdout


def test_the_whole_and_the_language_are_options(stated: Measured) -> None:
    short, whole = petaseal(*verifying(stated)).out, petaseal(*verifying(stated, "--all")).out
    assert f"the whole, {len(whole.splitlines())} lines: --all" in short
    assert "guangzhou-2000p/park: " in whole
    assert "guangzhou-2000p/park: " not in short
    chinese = petaseal(*verifying(stated, "--lang", "zh"))
    assert [line for line in chinese.out.splitlines() if not CHINESE.search(line)] == []
    at = ("--at", "2026-03-02T08:00:00.000000Z", "--json")  # what machines read knows no language
    assert petaseal(*verifying(stated, "--lang", "zh", *at)).out == petaseal(*verifying(stated, *at)).out
    wrong = petaseal(*verifying(stated, "--lang", "fr"))
    assert (wrong.code, wrong.status) == ("usage", 2)


@pytest.mark.parametrize("more", [(), ("--all",), ("--json",)])
def test_a_pipe_that_is_closed_in_the_middle_ends_the_command_quietly(stated: Measured, more: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-m", "certify", *map(str, verifying(stated, *more))], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")  # as other tools end, and no answer of verify's


def test_standard_output_may_be_closed(stated: Measured) -> None:
    script = 'exec "$@" >&-'
    arguments = [sys.executable, "-m", "certify", *map(str, verifying(stated))]
    done = subprocess.run(["sh", "-c", script, "sh", *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_has_the_meaning_of_its_code_in_chinese_below_it(stated: Measured, tmp_path: Path) -> None:
    sentence, meaning = petaseal("verify", tmp_path / "nothing", "--lang", "zh").err.splitlines()
    assert sentence.endswith("[trust-missing]")
    assert CHINESE.search(meaning)
    (alone,) = petaseal("verify", tmp_path / "nothing").err.splitlines()
    assert alone == sentence


def test_what_holds_both_languages_shows_one_where_it_is_asked_for() -> None:
    for arguments in (("explain", "not-steady"), ("policy", "show", "guangzhou-2000p"), ("policy", "list")):
        both, english, chinese = (petaseal(*arguments, *more).out for more in ((), ("--lang", "en"), ("--lang", "zh")))
        assert CHINESE.search(both)
        assert len(english) < len(both)
        assert len(chinese) < len(both)
        if arguments[0] == "explain":
            assert not CHINESE.search(english)
