"""From matplotlib's SVG to one that can stand many times in one page: small, without styles or names that clash."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Text stays text: it is selected, searched and set in the reader's font, and takes a tenth of drawn letters. The salt
# makes equal plots equal bytes.
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "petaseal",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, and is wider than what pages are shown in
    "font.size": 10.0,
    "axes.edgecolor": "#8a96a6",
    "axes.labelcolor": "#16202c",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e8ee",
    "grid.linewidth": 0.8,
    "text.color": "#16202c",
    "xtick.color": "#5b6878",
    "ytick.color": "#5b6878",
    "path.simplify": False,  # lines are thinned out before, so that no peak is lost
    "lines.linewidth": 1.0,
}
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"(?:href=\"#|url\(#)([\w.-]+)")
_TAG = re.compile(r"<[^>]*>")
_FONT = re.compile(r'style="font: ([\d.]+)px [^";]*;?([^"]*)"')


def svg_of(figure: Figure, title: str, prefix: str) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: drawn under `STYLE`.
        title: says what it shows, for who cannot see it.
        prefix: of the names in it; no other SVG of the page has it.
    """
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    # The page's own rules reach into it, and its would reach out: it brings none.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' d="([^"]*)"', lambda path: f' d="{_shortened(path[1])}"', text)
    # Within tags alone: in a label it would be the figure that is rounded, and ticks of 1.60 and 1.62 read the same.
    text = _TAG.sub(lambda tag: _NUMBER.sub(lambda number: f"{float(number[0]):.1f}", tag[0]), text)
    used = set(_REFERENCE.findall(text))
    text = re.sub(r' id="([\w.-]+)"', lambda name: f' id="{prefix}{name[1]}"' if name[1] in used else "", text)
    text = re.sub(r"(href=\"#|url\(#)([\w.-]+)", lambda use: f"{use[1]}{prefix}{use[2]}", text)
    text = _FONT.sub(lambda font: f'font-size="{float(font[1]):g}" style="{font[2].strip()}"', text)
    text = text.replace(' style=""', "").replace("stroke-linejoin: miter", "stroke-linejoin:round")
    (box,) = re.findall(r'viewBox="([^"]+)"', text[:600])
    begin = text.index(">") + 1
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" '
        f'role="img" font-family="sans-serif"><title>{escape(title)}</title>'
    )
    return head + re.sub(r">\s+<", "><", text[begin:]).strip()


def _shortened(path: str) -> str:
    """Return a path of lines alone in steps of a tenth of a pixel, each from the point before; others as they are."""
    words = path.split()
    if not set(words[::3]) <= {"M", "L"} or len(words) % 3:
        return " ".join(words)
    points = np.rint(np.array([words[1::3], words[2::3]], np.float64).T * 10).astype(np.int64)
    steps = np.diff(points, axis=0, prepend=[[0, 0]])
    begins = [place for place, verb in enumerate(words[::3]) if verb == "M"]
    parts = []
    for begin, end in zip(begins, [*begins[1:], len(points)], strict=True):
        moved = steps[begin + 1 : end]
        lines = " ".join([_tenths(step) for step in moved[moved.any(axis=1)].ravel().tolist()])
        parts.append(f"M{_tenths(points[begin, 0])} {_tenths(points[begin, 1])}{'l' if lines else ''}{lines}")
    return "".join(parts).replace(" -", "-")


@lru_cache(maxsize=16384)
def _tenths(value: int) -> str:
    """Return an integer of tenths in its shortest decimal spelling."""
    sign, (whole, rest) = "-" if value < 0 else "", divmod(abs(value), 10)
    if not rest:
        return f"{sign}{whole}"
    return f"{sign}{whole or ''}.{rest}"
