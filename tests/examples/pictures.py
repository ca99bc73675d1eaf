"""The screenshots of both examples in docs/images: ``python -m tests.examples --pictures``.

The pages are opened in chromium as a reader's browser opens them, the paper is drawn by poppler, and what a terminal
shows is drawn by rich. A picture has at most 256 colours: text and plots lose nothing by that, and stay small.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.text import Text

from tests.examples import city, cpu
from tests.examples.shown import PAGE, PDF, PUBLIC_KEY, REPORT, ROOT, petaseal

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1_200, 1_400  # px of a page: what a reader sees first
COLUMNS, LINES = 110, 40  # of a terminal
COLOURS = 256
MOST_BYTES = 200_000


def make() -> None:
    """Make all pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for folder in (city.FOLDER, cpu.FOLDER):
            keep(f"{folder.name}-page", opened(browser, folder / PAGE))
            section = "Nodes over time" if folder == cpu.FOLDER else "Node x device"
            keep(f"{folder.name}-report", opened(browser, folder / REPORT, section=section))
            keep(f"{folder.name}-paper", paper(folder / PDF))
        place = f"results/{city.FOLDER.name}"
        words = ("verify", f"{place}/{city.PACKAGE}", "--public-key", f"{place}/{PUBLIC_KEY}", "--accept-simulated")
        keep("example-2000p-terminal", terminal(browser, words, petaseal(*words, "--at", city.AT)))
        keep("example-cpu-terminal", terminal(browser, tuple(cpu.RUN.split()), cpu.run_screen()))
        browser.close()


def opened(browser: Browser, file: Path, height: int | None = HEIGHT, section: str | None = None) -> bytes:
    """Return how a browser shows a page.

    Args:
        browser: to open it in.
        file: the page.
        height: of what is shown, px; None for the whole page.
        section: words that stand on top; None for the top of the page.
    """
    page = browser.new_page(viewport={"width": WIDTH, "height": height or 100})
    page.goto(file.as_uri())
    if section is not None:
        page.get_by_text(section).first.evaluate("words => words.scrollIntoView()")
    shot = page.screenshot(full_page=height is None)
    page.close()
    return shot


def paper(file: Path) -> bytes:
    """Return the first page of a PDF as it is printed."""
    command = ["pdftoppm", "-r", "90", "-f", "1", "-l", "1", "-png", str(file)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def terminal(browser: Browser, words: tuple[str, ...], lines: list[str]) -> bytes:
    """Return how a terminal shows a command and what it printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    if words:
        console.print(Text(f"$ petaseal {' '.join(words)}", style="bold"))
    for line in lines[:LINES]:
        console.print(Text(line))
    with tempfile.TemporaryDirectory() as root:
        drawn = Path(root) / "terminal.svg"
        drawn.write_text(console.export_svg(title="petaseal"), encoding="utf-8")
        page = Path(root) / "terminal.html"
        page.write_text(f'<body style="margin:0"><img src="{drawn.name}" width="{WIDTH}"></body>', encoding="utf-8")
        return opened(browser, page, height=None)


def keep(name: str, shot: bytes) -> None:
    """Write a picture, with few colours."""
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    path = IMAGES / f"{name}.png"
    image.save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path.name} has {size} bytes"
    print(f"{path.relative_to(ROOT)}: {size / 1e3:.0f} KB")
