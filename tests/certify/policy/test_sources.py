"""The table of sources, the back ends that read them, and the page that says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.devices import DEVICES, load_backend
from certify.policy.sources import SourceRow, source_table

PAGE = (Path(__file__).parents[3] / "docs/devices.md").read_text(encoding="utf-8")
KINDS = sorted(DEVICES.keys() - {"cpu", "torch", "fake"})
HOW_TESTED = {"fake library", "sample output", "real plug-in", "hardware"}
_NAMED = re.compile(r"`([a-z_-]+)`")
_EXPOSED = re.compile(r"`([a-z_-]+)`: ([a-z, ]+)")


def rows_of(kind: str) -> list[SourceRow]:
    return [row for row in source_table() if row.kind == kind]


def cells_of(kind: str) -> list[str]:
    """Return the line of a kind in the page's table of sources."""
    (line,) = [line for line in PAGE.splitlines() if line.split("|")[2:3] == [f" {kind} "]]
    return [cell.strip() for cell in line.strip("|").split("|")]


def names_in(source: Any) -> tuple[str, ...]:
    """Return the names of a source: a tool may have several, a library has the one of its class."""
    tools: tuple[str, ...] | None = getattr(source, "tools", None)
    return tools or (getattr(source, "source", source.__name__.removesuffix("Source").lower()),)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_of_each_kind_what_the_table_says(kind: str) -> None:
    vendor, _, library, behind, exposed, _, tested = cells_of(kind)
    assert vendor
    said = {name: tuple(text.strip() for text in what.split(",")) for name, what in _EXPOSED.findall(exposed)}
    assert said == {row.source: row.exposes for row in rows_of(kind)}
    named = [name for cell in (library, behind) for name in _NAMED.findall(cell)]
    assert named == list(said) == [row.source for row in rows_of(kind)]
    ways = [way.partition(" (")[0].strip() for way in tested.split(";")]
    assert set(ways) <= HOW_TESTED
    assert "hardware" not in ways  # until a result under results/ says so
    if "none" not in library:
        assert "fake library" in ways
    assert ("sample output" in ways) == bool(behind)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cuda"}))
def test_a_back_end_reads_the_sources_of_the_table_in_its_order(kind: str) -> None:
    """Libraries come before tools: the first of a kind judges a record that names none of them."""
    backend: Any = load_backend(kind)
    read = {name: tuple(sorted(source.exposes)) for source in backend.sources for name in names_in(source)}
    assert list(read) == [row.source for row in rows_of(kind)]
    assert read == {row.source: tuple(sorted(row.exposes)) for row in rows_of(kind)}
