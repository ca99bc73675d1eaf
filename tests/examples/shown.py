"""The texts of the examples: each README is its template, filled in with what the signed documents say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import msgspec

from bench.record import NodeRecord
from bench.units import percent_text, pflops_text, rate_text
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.policies import load_policy
from certify.policy.reasons import reasons
from certify.statement.paper.page import render
from certify.statement.paper.view import view_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
STATEMENT, RECORDS, PUBLIC_KEY = "statement.dsse.json", "records.jsonl", "operator.pem.pub"
README, PAGE, PDF, REPORT = "README.md", "statement.html", "statement.pdf", "report.html"
SCREENS = re.compile(r"```console\n.*?```", re.S)  # what was printed once: a later version may say it in other words
WIDTH = 110  # columns of a screen in a README


class Opened(NamedTuple):
    """A signed document of an example, as its file says it; nothing is verified."""

    payload_sha256: str
    keyids: tuple[str, ...]
    predicate: Any


def opened(kind: Any, content: bytes) -> Opened:
    """Return what a signed document says."""
    envelope = parse_envelope(content, CAPS.records_bytes)
    document = parse_payload(kind, envelope.payload)
    return Opened(document.payload_sha256, tuple(one.keyid for one in envelope.signatures), document.predicate)


def statement_of(folder: Path) -> CapacityStatement:
    """Return the statement in a folder."""
    found: CapacityStatement = opened("capacity-statement", (folder / STATEMENT).read_bytes()).predicate
    return found


def record_of(file: Path) -> NodeRecord:
    """Return the record in a file."""
    found: NodeRecord = opened("node-record", file.read_bytes()).predicate
    return found


def petaseal(*words: str, status: int = 0) -> list[str]:
    """Run a command of petaseal in the checkout and return the lines that it printed.

    Args:
        words: after ``petaseal``.
        status: with which it must end.
    """
    command = [sys.executable, "-m", "certify", *words]
    environment = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LC_MESSAGES", "LANG")}
    with tempfile.TemporaryDirectory() as state:  # what a verifier remembers is no part of an example
        environment |= {"PETASEAL_STATE": state, "COLUMNS": str(WIDTH)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.splitlines()


def screen(*words: str, most: int | None = None) -> str:
    """Run a command of petaseal and return it with what it printed, or its first lines, as a block of a README."""
    lines = petaseal(*words)
    return block(shlex.join(words), lines if most is None else [*lines[:most], "..."])


def block(command: str, lines: Iterable[str]) -> str:
    """Return a command and what it printed as a block of a README."""
    return "\n".join(["```console", f"$ petaseal {command}", *lines, "```"])


def page_of(file: Path) -> str:
    """Return the page of a signed statement, as ``certify`` writes it."""
    found = opened("capacity-statement", file.read_bytes())
    policies = tuple(load_policy(one.policy) for one in found.predicate.policies)
    return render(view_of(found.predicate, policies, " ".join(found.keyids), found.payload_sha256))


def sized(path: Path) -> str:
    """Return how large a file is, or all files of a folder are."""
    files = [path] if path.is_file() else [one for one in path.iterdir() if one.is_file()]
    size = sum(one.stat().st_size for one in files)
    return f"{size / 1e6:.1f} MB" if size >= 10**6 else f"{max(1, round(size / 1e3))} KB"


def filled(template: str, values: dict[str, Any]) -> str:
    """Return a README: a template of this folder, filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "rate": rate_text,
        "pflops": lambda value: pflops_text(value, 3),
        "percent": percent_text,
        "thousands": "{:,}".format,
    }
    return environment.get_template(template).render(values)


def without_screens(text: str) -> str:
    """Return a README without what commands printed."""
    return SCREENS.sub("", text)


def meanings(codes: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return reason codes with their effect and their meaning."""
    table = reasons()
    return [(code, str(table[code].effect), table[code].en) for code in codes]


def builtins(document: Any) -> Any:
    """Return a document as plain values, which a template reads."""
    return msgspec.to_builtins(document)
