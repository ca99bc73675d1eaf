"""``petaseal run`` in a real terminal (tmux), at four sizes and in both languages: its screen, and its end."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.cells import cell_len

from tests.bench.test_run import quick

pytestmark = pytest.mark.long
SCENARIO = {
    "default": {"rate_gflop_s": {"fp16": 300_000, "fp64": 40_000}},
    "devices": {
        "3": {"wrong": "element", "only": "fp16"},
        "5": {"die_at_s": 1, "only": "fp64"},
        "7": {"throttle": [{"from_s": -9, "to_s": 99, "rate_ppm": 800_000, "reason": "power-cap"}]},
    },
}


class Pane:
    """A shell's command in a terminal of tmux, of a server of its own."""

    def __init__(self, name: str, columns: int, rows: int, command: str) -> None:
        self._tmux = ("tmux", "-L", name, "-f", "/dev/null")
        size = ("-x", str(columns), "-y", str(rows))
        subprocess.run([*self._tmux, "new-session", "-d", *size, command], check=True)

    def shown(self) -> list[str]:
        """Return the lines of the screen, without empty ones at its end."""
        capture = [*self._tmux, "capture-pane", "-p"]
        return subprocess.run(capture, check=True, capture_output=True, text=True).stdout.rstrip().splitlines()

    def until(self, *texts: str, seconds: float = 120) -> list[str]:
        end = time.monotonic() + seconds
        while not all(text in "\n".join(lines := self.shown()) for text in texts):
            assert time.monotonic() < end, "\n".join(lines)
            time.sleep(0.2)
        return lines

    def send(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=True)

    def resize(self, columns: int, rows: int) -> None:
        subprocess.run([*self._tmux, "resize-window", "-x", str(columns), "-y", str(rows)], check=True)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)


@pytest.fixture(autouse=True)
def _tmux() -> None:
    if shutil.which("tmux") is None:
        assert not os.environ.get("CI")
        pytest.skip("no tmux here")


def started(tmp_path: Path, columns: int, rows: int, environment: dict[str, str], *options: str) -> Pane:
    """Start a run of eight devices, two workloads and some faults; then what it ended with is shown, and `over`."""
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(SCENARIO))
    given = ("--profile", str(quick(tmp_path)), "--device", "fake:8", "--precision", "fp16,fp64")
    files = ("--scenario", str(tmp_path / "scenario.yaml"), "--out", "out")
    command = shlex.join([sys.executable, "-m", "certify", "run", *given, *files, *options])
    root = Path(__file__).resolve().parents[3]
    state = {"PETASEAL_STATE": str(tmp_path / "state"), "PYTHONPATH": str(root), **environment}
    variables = shlex.join(["env", "-u", "NO_COLOR", "-u", "LC_ALL", *(f"{k}={v}" for k, v in state.items())])
    script = f"cd {shlex.quote(str(tmp_path))}; {variables} {command}; echo over $?; exec sleep 600"
    return Pane(tmp_path.name, columns, rows, script)


@pytest.mark.parametrize(
    ("columns", "rows", "language", "words"),
    [
        (100, 40, "en_US.UTF-8", ("measuring", "VOID", "next")),
        (80, 24, "zh_CN.UTF-8", ("测量中", "无结果", "下一步")),
        (40, 24, "en_US.UTF-8", ("measuring", "NO FIGURE", "next")),
        (200, 50, "zh_CN.UTF-8", ("测量中", "无效", "下一步")),
    ],
)
def test_a_run_on_a_terminal(tmp_path: Path, columns: int, rows: int, language: str, words: tuple[str, ...]) -> None:
    during, verdict, following = words
    pane = started(tmp_path, columns, rows, {"LANG": "C.UTF-8", "LC_MESSAGES": language})
    try:
        screen = pane.until(during, "fake:7")
        assert max(map(cell_len, screen)) < columns
        assert sum(line.startswith("fake:") for line in screen) == 8
        assert any("power-cap" in line for line in screen) == (columns >= 80)
        end = pane.until("over 1")
    finally:
        pane.close()
    assert max(map(cell_len, end)) <= columns
    assert any(line.startswith(following) for line in end)
    if rows >= 40:
        assert sum(line.startswith("fake:") for line in end) == 16
        assert end[0].split()[0] in ("device", "设备")  # all of it is on the screen
        assert end[1].rstrip().endswith(verdict)
    assert not [line for line in end if "\\x" in line or "\\u" in line]


def test_a_terminal_that_is_resized_and_ctrl_c(tmp_path: Path) -> None:
    pane = started(tmp_path, 100, 40, {"LANG": "C.UTF-8"})
    try:
        pane.until("fake:7", "preparing")
        pane.resize(60, 12)
        narrow = pane.until("fake:0")
        time.sleep(2.5)
        narrow = pane.shown()
        assert max(map(cell_len, narrow)) < 60
        assert len(narrow) <= 12
        pane.send("C-c")
        end = pane.until("over 130")
    finally:
        pane.close()
    assert len(end) <= 4  # the sentence of the error, and nothing of the table
    assert "interrupted" in "\n".join(end)
    assert not (tmp_path / "out").exists()


def test_a_command_that_comes_next_is_the_next_one(tmp_path: Path) -> None:
    """Of a run without a terminal: no escapes, no broken lines, and what it says to type works as it is."""
    environment = {**os.environ, "PETASEAL_STATE": str(tmp_path / "state"), "LC_ALL": "C", "TERM": "xterm"}
    petaseal = [sys.executable, "-m", "certify"]

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        root = str(Path(__file__).resolve().parents[3])
        whole = environment | {"PYTHONPATH": root}
        return subprocess.run([*petaseal, *args], cwd=tmp_path, env=whole, capture_output=True, text=True, check=False)

    assert call("keys", "new", "--no-passphrase", "--out", "operator.pem").returncode == 0
    given = ("--profile", str(quick(tmp_path)), "--device", "fake:2", "--precision", "fp16", "--out", "a folder")
    run = call("run", *given)
    assert run.returncode == 0, run.stderr
    assert run.stdout.isascii()
    assert "\x1b" not in run.stdout
    lines = run.stdout.splitlines()
    commands = [shlex.split(line.removeprefix("next"))[1:] for line in lines if " petaseal " in line]
    assert [command[:2] for command in commands] == [["centre", "new"], ["certify", "a folder"]]
    for command in commands:
        done = call(*command)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a folder" / "statement" / "statement.dsse.json").exists()
