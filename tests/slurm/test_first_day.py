"""docs/first-day.md is a day on a real Slurm: its commands are run in their order, and its screens are what they print.

    python -m tests.slurm.test_first_day        runs the day and writes its screens into the page

A block with ``$ `` lines is typed into a shell. Words after ``console`` say what the test does besides:

``window=NAME``  the command goes on while the next blocks are typed; its screen is compared when it has ended
``when=said``    wait until the launch says that a job waits; ``when=over``: until it has ended
``status=1``     the exit status that the last command leaves

A comment ``<!-- meanwhile: lose NODE ... -->`` is what happens to the centre and nobody types.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.record.folder import Folder
from bench.units import utc_ns
from certify.statement.campaign import read_campaign
from tests.slurm.cluster import Cluster, private_slurm, until

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "first-day.md"
HOME = "/lustre/gz"  # where the page works
GPU_NODES = ("gpu01", "gpu02", "gpu03", "gpu04")
CPU_NODES = ("cpu01", "cpu02")
LIMIT_S = 240
BLOCK = re.compile(
    r"^```(?P<kind>console|yaml)(?P<words>[^\n]*)\n(?P<text>.*?)^```$|^<!-- meanwhile: (?P<event>.*?) -->$", re.M | re.S
)
WORST_NODE = re.compile(r"^(  (?:clocks|disk): .*)\((?:gpu|cpu)\d+")  # all are alike: any may be the worst
# What a screen passes through, for longer or not at all, and what depends on this machine's clock.
PASSING = re.compile(
    r"no node has told|waiting (for|in) |warming up for|measuring |windows are over|the error of the coordinator's own"
)
VARIABLE = re.compile(
    r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?|\b[cs][0-9]{8}-[0-9a-f]{8}\b|\b[0-9a-f]{12,64}\b|\b[0-9][0-9,.]*"
)


class Block(NamedTuple):
    """A part of the page that the test acts on."""

    kind: str  # console, yaml or meanwhile
    words: dict[str, str]
    text: str
    span: tuple[int, int]  # of `text` in the page

    @property
    def commands(self) -> str:
        """What is typed, one command after another."""
        lines = self.text.splitlines()
        typed, going_on = [], False
        for line in lines:
            if going_on or line.startswith("$ "):
                typed.append(line.removeprefix("$ "))
                going_on = line.endswith("\\")
        return "\n".join(typed)


def blocks(page: str) -> Iterator[Block]:
    """Yield the parts of a page that the test acts on, in their order."""
    for match in BLOCK.finditer(page):
        if match["event"] is not None:
            yield Block("meanwhile", {}, match["event"], match.span("event"))
            continue
        words = dict(word.partition("=")[::2] for word in match["words"].split())
        yield Block(match["kind"], words, match["text"], match.span("text"))


class Screen:
    """What a shell printed that has typed a block's commands."""

    def __init__(self, block: Block, root: Path, env: dict[str, str], log: Path) -> None:
        self.block = block
        self._log = log
        self._root = root
        typed = []
        for command in commands_of(block):
            shown = "\n".join(f"{'$ ' if i == 0 else ''}{line}" for i, line in enumerate(command.splitlines()))
            typed.append(f"cat <<'TYPED'\n{shown}\nTYPED\n{command}")
        script = "\n".join(["set -e", *typed]).replace(HOME, str(root))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What stands on the screen, with the page's own folder."""
        return self._log.read_text().replace(str(self._root), HOME)

    def end(self) -> None:
        """Wait for the end of the last command, and see that its exit status is the one that the page names."""
        status = self.process.wait(timeout=LIMIT_S)
        assert status == int(self.block.words.get("status", 0)), f"{status}: {self.text}"


def commands_of(block: Block) -> list[str]:
    """Return each command of a block, one that goes on over several lines as it stands."""
    found: list[str] = []
    going_on = False
    for line in block.commands.splitlines():
        if going_on:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
        going_on = line.endswith("\\")
    return found


def masked(screen: str) -> list[str]:
    """Return a screen's lines without what differs from day to day: times, ids, digests, numbers, the worst node."""
    lines = (WORST_NODE.sub(r"\1(#", line) for line in screen.splitlines() if not PASSING.match(line))
    return [" ".join(VARIABLE.sub("#", line).split()) for line in lines]


class Day:
    """The page's day on one cluster.

    Args:
        cluster: with the partitions gpu and cpu.
        root: the folder that stands for `HOME`.
    """

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        beside = Path(sys.executable).parent
        self.env = {
            **os.environ,
            **cluster.env,
            "PATH": f"{beside}:{os.environ['PATH']}",
            "PETASEAL_STATE": str(root / ".state"),
            "LC_ALL": "C.UTF-8",
        }
        self.windows: dict[str, Screen] = {}
        self.screens: list[Screen] = []

    def live(self, page: str) -> None:
        """Go through the page."""
        for index, block in enumerate(blocks(page)):
            if block.kind == "meanwhile":
                self.meanwhile(block.text)
            elif block.kind == "yaml":
                (self.root / block.words["file"]).write_text(block.text)
            else:
                if "when" in block.words:
                    until(self.comes_about(block.words["when"]), 120)
                screen = Screen(block, self.root, self.env, self.root.parent / f"screen-{index}")
                self.screens.append(screen)
                if "window" in block.words:
                    self.windows[block.words["window"]] = screen
                else:
                    screen.end()
        for screen in self.windows.values():
            screen.end()

    def folder(self) -> Folder:
        """Return the folder of the day's campaign."""
        return Folder(self.root / "2026-11")

    def comes_about(self, what: str) -> Callable[[], bool]:
        """Return what tells whether something has come about in the window of the launch."""
        launch = self.windows["launch"]
        if what == "said":
            return lambda: " waits " in launch.text and self.prepared() == len(CPU_NODES)
        assert what == "over"
        return lambda: launch.process.poll() is not None

    def prepared(self) -> int:
        """Return how many nodes have prepared."""
        statuses = (self.folder().status(node.node_id) for node in self.folder().roster().nodes)
        return sum(status is not None and status.state == "prepared" for status in statuses)

    def meanwhile(self, event: str) -> None:
        """Let something happen to the centre: `lose NODE ...`, a second after the first core window has opened."""
        verb, *names = event.split()
        assert verb == "lose"
        until(lambda: self.folder().started() is not None, 120)
        published, campaign = self.folder().started(), read_campaign(self.folder())
        assert published is not None
        opens_ns = utc_ns(published.starts_at) + campaign.windows[0].opens_ns
        time.sleep(max(0, (opens_ns - time.time_ns()) / 1e9 + 1))
        for name in names:
            self.cluster.kill_node(name)

    def end(self) -> None:
        """End what still runs."""
        for screen in self.windows.values():
            screen.process.kill()


def lived(page: str, root: Path) -> list[Screen]:
    """Return the screens of a page's day."""
    home = root / "gz"
    home.mkdir()
    partitions = {"gpu": GPU_NODES, "cpu": CPU_NODES}
    names = (*GPU_NODES, *CPU_NODES)
    with private_slurm(names, partitions=partitions, gpus=2, slurmd_timeout_s=3) as cluster:
        day = Day(cluster, home)
        try:
            day.live(page)
        finally:
            day.end()
        return day.screens


def test_the_page_holds_the_commands_and_screens_of_a_day(tmp_path: Path) -> None:
    page = PAGE.read_text()
    screens = lived(page, tmp_path)
    assert len(screens) >= 10
    for screen in screens:
        held, seen = masked(screen.block.text), masked(screen.text)
        if "window" in screen.block.words:  # what it says while others go on comes in any order
            held, seen = sorted(set(held)), sorted(set(seen))
        assert seen == held, "run: python -m tests.slurm.test_first_day"


def test_the_mask_leaves_words() -> None:
    assert masked("gpu01 failed  at 2026-11-30T08:00:00.000000Z: 3 of 12") == ["gpu01 failed at #: # of #"]


def write() -> None:
    """Live the day and write its screens into the page."""
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as root:
        for screen in sorted(lived(page, Path(root)), key=lambda one: one.block.span, reverse=True):
            start, end = screen.block.span
            page = page[:start] + screen.text.rstrip("\n") + "\n" + page[end:]
    PAGE.write_text(page)


if __name__ == "__main__":
    write()
