"""The way to 2000P as a fresh reader of docs/centre-guide.md goes it: every command, in its order, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from certify.campaign.rehearsal import WATERMARK

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "centre-guide.md"
SECTIONS = ("", "Project, park, facility", "The baseline", "Check", "Rehearse")
MARK = f"{WATERMARK.en} / {WATERMARK.zh}"


def sections() -> dict[str, str]:
    """Return the sections of the way by title; its beginning under ''."""
    way = GUIDE.read_text().partition("# The way to 2000P\n")[2]
    first, *others = way.split("\n## ")
    return {"": first, **{part.partition("\n")[0]: part for part in others}}


def commands(section: str) -> list[str]:
    """Return the commands of a section, without their remarks."""
    joined = re.sub(r"\\\n\s*", "", section)
    found = [line.partition("  #")[0].strip() for line in joined.splitlines() if line.startswith("    ")]
    return [line for line in found if not line.startswith("#")]


class Newcomer:
    """Who types what stands there, and puts digests where the guide says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "bin" / "petaseal").symlink_to(Path(sys.executable).parent / "petaseal")
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PETASEAL_STATE": str(folder / "state")}

    def run(self, line: str, status: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == status, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout if status == 0 else done.stderr

    def fill_in(self, section: str) -> None:
        """Change the lines of the centre file that the section's first block of YAML shows."""
        self.run(re.findall(r"`(echo [^`]+)`", section)[0])
        file = self.folder / "centre.yaml"
        text = file.read_text()
        for line in section.split("```yaml\n")[1].split("```")[0].splitlines():
            field = line.partition(":")[0]
            for name in re.findall(r"DIGEST OF ([\w.]+)", line):
                digest = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
                line = line.replace(f"DIGEST OF {name}", digest)
            assert re.search(rf"^{field}:", text, re.MULTILINE), field
            text = re.sub(rf"^{field}:.*$", line, text, flags=re.MULTILINE)
        file.write_text(text)


def on_this_machine(line: str) -> str:
    """Return what an `srun` of the guide does on each node, done here for two nodes of fakes."""
    if not line.startswith("srun "):
        return line
    command = shlex.join(shlex.split(line)[shlex.split(line).index("petaseal") :])
    assert "--output=inventory/%N.json" in line
    one = f"PETASEAL_NODE={{0}} {command} --device fake:2 > inventory/{{0}}.json"
    return " && ".join(one.format(node) for node in ("n1", "n2"))


@pytest.mark.long
def test_the_way(tmp_path: Path) -> None:
    """From an empty folder to a rehearsed verdict on each of the five conditions, `met` and `not_met` among them."""
    newcomer, way = Newcomer(tmp_path), sections()
    for line in commands(way[""]):
        newcomer.run(line)
    assert "[centre-template]" in newcomer.run("petaseal centre check centre.yaml", status=2)
    newcomer.fill_in(way["Project, park, facility"])
    assert "[baseline-missing]" in newcomer.run("petaseal centre check centre.yaml", status=2)
    empty, *listed = commands(way["The baseline"])
    newcomer.run(empty)
    (check,) = commands(way["Check"])
    told = newcomer.run(check)
    assert "complete " in told
    assert "next       petaseal campaign create --centre centre.yaml --policy guangzhou-2000p" in told
    rehearsing = [f"{line} --all" if "--rehearse" in line else line for line in commands(way["Rehearse"])]
    said = [newcomer.run(line) for line in rehearsing]
    conditions = {
        "park": "declared",
        "newly-added": "declared",
        "single-facility": "declared",
        "guide": "insufficient_evidence: guide-not-issued",
    }
    for text, scale, bases in (
        (said[-2], "insufficient_evidence: basis-unstated", ("not_met", "not_met", "met")),
        (said[-1], "met", ("met", "met", "met")),
    ):
        lines = text.splitlines()
        assert lines[0] == lines[-1] == MARK
        assert all(line.startswith("rehearsal: ") for line in lines[1:-2])
        for condition, verdict in {**conditions, "scale-2000p": scale}.items():
            assert f"rehearsal: guangzhou-2000p/{condition}: {verdict} (if issued as drafted)" in lines
        for basis, verdict in zip(("certified", "sustained", "nominal"), bases, strict=True):
            assert any(re.search(rf"  {basis}: .*: {verdict} \[verdict-bases\]$", line) for line in lines), (
                basis,
                verdict,
            )
        assert "rehearsal:   baseline: nothing, as is declared; " in text
        assert "rehearsal:   net growth: +" in text
    assert not list(tmp_path.rglob("statement*"))
    assert not (tmp_path / "rehearsal-campaign" / "submitted").exists()

    for line in listed:  # a centre that had something
        newcomer.run(on_this_machine(line.replace("baseline.dsse.json", "listed.dsse.json")))
    made = (tmp_path / "inventory.yaml").read_text()
    assert made.count("uuid: ") == 4
    assert "n2.json/fake:1" in made
    assert (tmp_path / "listed.dsse.json").exists()
    page = (tmp_path / "rehearsal-6000" / "rehearsal.html").read_text()
    assert page.count(WATERMARK.zh) > 5
    refused = "petaseal verify rehearsal-6000/rehearsal.json --public-key operator.pem.pub"
    assert "petaseal: rehearsal-6000/rehearsal.json: " in newcomer.run(refused, status=1)


def test_the_sections_that_are_followed_are_there() -> None:
    assert set(SECTIONS) <= set(sections())
    assert len(commands(sections()["Rehearse"])) == 5
    example = sections()["The baseline"].split("```yaml\n")[1].split("```")[0]
    assert "taken_at" in example


def test_the_inventory_of_the_guide_is_one_that_can_be_signed(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    (tmp_path / "by-hand.yaml").write_text(sections()["The baseline"].split("```yaml\n")[1].split("```")[0])
    newcomer.run("petaseal keys new --no-passphrase --out operator.pem")
    signed = newcomer.run("petaseal centre baseline by-hand.yaml --key operator.pem --out b.dsse.json --json")
    assert json.loads(signed) == {"baseline": "b.dsse.json", "devices": 2, "date": "2025-12-31"}


@pytest.mark.parametrize("code", ["centre-template", "centre-incomplete", "baseline-missing", "digest-of-nothing"])
def test_the_guide_names_what_check_refuses(code: str) -> None:
    assert f"`{code}`" in sections()["Check"]
