"""How tests read an output: its runs by what became of them."""

from __future__ import annotations

from certify.evidence.output import Family, ReaderOptions, ToolOutput, is_refused
from certify.evidence.reading import read_output


def read(content: bytes, family: Family = "hpl", options: ReaderOptions = ReaderOptions()) -> ToolOutput:  # noqa: B008
    """Return what is read of a file's content."""
    return read_output(family, content, "job.out", options)


def refusals(output: ToolOutput) -> list[set[str]]:
    """Return the codes that refuse each run and size."""
    listed = [*(run.codes for run in (*output.runs, *output.failed)), *(bus.codes for bus in output.buses)]
    return [{code for code in codes if is_refused([code])} for codes in listed]


def edited(content: bytes, old: str, new: str, times: int = 1) -> bytes:
    """Return a content with one thing changed, which must stand in it."""
    assert old.encode() in content, old
    return content.replace(old.encode(), new.encode(), times)
