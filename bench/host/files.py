"""Small files in which Linux states one value each. One that is missing or unreadable is as one without a value."""

from __future__ import annotations

from pathlib import Path


def line(path: Path) -> str:
    """Return the text of a file without the blanks around it; an empty text where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """Return the whole number that a file holds; None where it holds none."""
    text = line(path)  # also "max", "-1" and "<unknown>" stand in such files: none of them is a number
    return int(text) if text.isdecimal() else None


def field_number(path: Path, name: str) -> int | None:
    """Return the number of one line of the form "name value" or "name: value unit"; None where there is none."""
    for text in line(path).splitlines():
        words = text.replace(":", " ").split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None
