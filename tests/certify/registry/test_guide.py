"""docs/platform-guide.md as a platform engineer follows it: every command of its first sections, in their order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from certify.registry.web.overview import in_unit, unit_of
from tests.certify.registry.serving import serving

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "platform-guide.md"
SECTIONS = ("From nothing to a page", "What can be scheduled", "Following the feed")
DEMO = (  # what `make certify` does, in one precision
    "keys new --no-passphrase --out results/local/operator.pem",
    "run --profile smoke --device cpu --precision fp64 --out results/local",
    "certify results/local --centre demo --key results/local/operator.pem --out results/local",
)


def sections() -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in GUIDE.read_text().split("\n## ")}


def commands() -> list[str]:
    """Return the commands of the sections, without their remarks."""
    lines = [line for name in SECTIONS for line in sections()[name].splitlines() if line.startswith("    ")]
    found = [line.partition("  #")[0].strip() for line in lines]
    return [line for line in found if line.startswith(("petaseal", "curl", "PETASEAL_STATE"))]


class Engineer:
    """Who types what stands there, with what only he can know in the place of the words in capitals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        (folder / "bin").mkdir()
        (folder / "bin" / "petaseal").symlink_to(Path(sys.executable).parent / "petaseal")
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PETASEAL_STATE": str(folder / "state"), "NO_PROXY": "*"}

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    def filled(self, line: str) -> str:
        """Return a line with its words in capitals replaced."""
        line = line.replace("http://127.0.0.1:8600", self.url)
        if "FINGERPRINT" in line:
            line = line.replace(
                "FINGERPRINT", json.loads(self.run("petaseal trust show trust-root.json --json"))["fingerprint"]
            )
        if " NODE" in line:
            (record,) = (self.folder / "results" / "local").glob("*.record.dsse.json")
            line = line.replace(" NODE", f" {record.name.removesuffix('.record.dsse.json')}")
        if "CURSOR" in line:
            line = line.replace("CURSOR", json.loads(self.run(f"curl -s {self.url}/v1/capacity"))["next"])
        if "SHA256" in line:
            (item,) = json.loads(self.run(f"curl -s {self.url}/v1/statements"))["items"]
            line = line.replace("SHA256", item["payload_sha256"])
        return line.replace("TOKEN", self.read("operator.token")) if "TOKEN" in line else line

    def run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def first_line(self, command: list[str]) -> str:
        """Return the first line of what goes on for ever."""
        with subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True) as on:
            assert on.stdout is not None
            try:
                return on.stdout.readline()
            finally:
                on.kill()


@pytest.mark.long
def test_the_guide(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        assert os.environ.get("CI") != "true", "curl is not installed"
        pytest.skip("curl is not installed")
    engineer = Engineer(tmp_path)
    for line in DEMO:
        engineer.run(f"PETASEAL_STATE=results/local/state petaseal {line} || [ $? -eq 1 ]")  # 1: a void figure
    lines = commands()
    assert len(lines) > 20
    told: dict[str, str] = {}
    with ExitStack() as stack:
        for line in lines:
            if line.startswith("petaseal registry serve"):
                engineer.url = stack.enter_context(serving(tmp_path / "registry"))
            elif line.endswith("--follow"):
                told[line] = engineer.first_line(["bash", "-c", f"exec {engineer.filled(line)}"])
            else:
                told[line] = engineer.run(engineer.filled(line))
        code = re.findall(r"```python\n(.*?)```", sections()["Following the feed"], re.S)[0]
        told["python"] = engineer.first_line([sys.executable, "-u", "-c", engineer.filled(code)])
        feed = json.loads((tmp_path / "feed" / "capacity.json").read_text())
        page = engineer.run(f"curl -s {engineer.url}/en/centres/demo")
        overview = engineer.run(f"curl -s {engineer.url}/en/")
    (pool,) = feed["items"]
    assert (pool["centre_id"], pool["pool"], pool["level"]) == ("demo", "cpu", "recomputed")
    assert pool["state"] == ("schedulable" if pool["certified_mflop_s"] else "managed")
    assert pool["nodes_online"] == 1
    # the overview has a row for each state that the one pool reached; its own has its sums (0 where this machine was
    # too busy), the rows before it have no pool of their own
    lifecycle = overview.partition('id="lifecycle"')[2]
    rows = re.findall(r'<tr[^>]*><th[^>]*><span class="state .*?</tr>', lifecycle, re.S)
    row = rows.pop()
    assert all(re.findall(r'class="n">([^<]*)</td>', before)[:2] == ["0", "0"] for before in rows)
    unit = unit_of([pool["sustained_mflop_s"]])
    figures = [in_unit(pool[f"{name}_mflop_s"], unit, bare=True) for name in ("certified", "sustained")]
    assert f'class="state state-{pool["state"]}"' in row
    assert re.findall(r'class="n">([^<]*)</td>', row) == ["1", f"{pool['devices']}", *figures]
    assert f'class="state state-{pool["state"]}"' in page
    answers = [
        json.loads(text)
        for line, text in told.items()
        if line.startswith("curl") and "/v1/capacity" in line and "csv" not in line
    ]
    assert [len(answer["items"]) for answer in answers] == [1, 1, 0]
    submitted = [json.loads(text) for line, text in told.items() if "TOKEN" in line]
    assert [answer["repeated"] for answer in submitted] == [True, True]
    assert any("received by registry" in text for text in told.values())
    assert told["python"].startswith("demo cpu fp64 ")
    assert "Demonstration centre" in page
