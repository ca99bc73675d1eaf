"""Which petaseal made the records of a statement, and whether that is one that was released, or the one that asks.

``configs/tools.yaml`` keeps the digest of the sources of every release. A digest that is not in it says that the
harness was changed, or is none of a release: whoever changes it can also write another digest, so that a known one
proves nothing (docs/threat-model.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError
from bench.record import Document, Sha256, Text, config_path, read_yaml
from bench.record.sources import tool

MOST_UNKNOWN = 10  # of which a line is printed


class ReleasedTool(Document, frozen=True, kw_only=True):
    """One line of the table: a release, and the digest of its sources."""

    release: Text
    sha256: Sha256


class _ReleasedTools(Document, frozen=True, kw_only=True):
    tools: tuple[ReleasedTool, ...]


class ToolCount(NamedTuple):
    """How many records of a statement one petaseal made."""

    version: str  # as the records tell it
    sha256: str  # of its sources
    records: int

    @property
    def release(self) -> str | None:
        """The release that it is, or the version that runs here; None where neither is of this digest."""
        return release_of(self.sha256)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {**self._asdict(), "release": self.release, "known": self.release is not None}


def tools_path() -> Path:
    """Return the table of released tools."""
    return config_path("tools.yaml")


@cache
def released_tools() -> dict[str, str]:
    """Return the release of every known digest.

    Raises:
        InputError: the table is not acceptable.
    """
    listed = read_yaml(tools_path(), _ReleasedTools).tools
    known = {one.sha256: str(one.release) for one in listed}
    if len(known) != len(listed):
        raise InputError("config-invalid", "lists a digest twice", where=tools_path())
    return known


def release_of(sha256: str) -> str | None:
    """Return the release of a digest of sources, or the version of this petaseal where it is its own; else None."""
    if (release := released_tools().get(sha256)) is not None:
        return release
    running = tool()
    return running.version if running.sha256 == sha256 else None


def count_tools(tools: Iterable[tuple[str, str]]) -> tuple[ToolCount, ...]:
    """Return how many records each petaseal made, the most first.

    Args:
        tools: version and digest that each record tells.
    """
    counts = Counter(tools)
    found = [ToolCount(version, sha256, count) for (version, sha256), count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-one.records, one.sha256, one.version)))


def unknown_lines(tools: Iterable[ToolCount]) -> tuple[str, ...]:
    """Return a printed line for each petaseal that is neither a release nor this one; of many, for the first."""
    unknown = [one for one in tools if one.release is None]
    shown = [
        f"{one.records} record(s) were made by a petaseal {one.version!r} whose sources ({one.sha256[:16]}…) are of no"
        " known release"
        for one in unknown[:MOST_UNKNOWN]
    ]
    if (rest := len(unknown) - MOST_UNKNOWN) > 0:
        shown.append(f"the records of {rest} more tools are of no known release")
    return tuple(f"{what} [tool-unknown]" for what in shown)
