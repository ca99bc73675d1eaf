"""Pages in a real browser and on paper: Chromium as it is installed, and checks that nothing is cut there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (390, 900, 1200)
A4_TEXT_PX = 688  # 210 mm less two margins of 14 mm, at 96 px an inch


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; where it is missing the test is skipped, and in CI it fails."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing (Debian: chromium)")
        pytest.skip("chromium is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


def check_page(tab: Page, text: str, folder: Path, where: str) -> str:
    """Show a page at each width and print it; return the text on paper.

    Args:
        tab: of the browser.
        text: the page.
        folder: for what is printed.
        where: of the page, for what is said of a fault.
    """
    tab.set_content(text)
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        check_no_text_leaves_its_frame(tab, f"{where} at {width}")
    # Chromium prints what is too wide in smaller letters, and nothing leaves the sheet: so it is looked at before.
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": A4_TEXT_PX, "height": 900})
    check_no_text_leaves_its_frame(tab, f"{where} on A4")
    tab.emulate_media(media="null")  # as the printer asks for it
    return check_paper(tab, folder, where)


def check_no_text_leaves_its_frame(tab: Page, where: str) -> None:
    """Fail where an element scrolls sideways, or a text is not within its element or the window."""
    found: list[str] = tab.evaluate(
        """() => {
          const unseen = (one) => one.closest("svg, .watermark, title")
            || (one.closest("thead") && getComputedStyle(one.closest("thead")).position === "absolute");
          const faults = [];
          const root = document.scrollingElement;
          if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} wide`);
          for (const one of document.querySelectorAll("body *"))
            if (!unseen(one) && one.checkVisibility() && one.clientWidth > 0 && one.scrollWidth > one.clientWidth)
              faults.push(`scrolls: ${one.outerHTML.slice(0, 120)}`);
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let text = walker.nextNode(); text; text = walker.nextNode()) {
            if (!text.data.trim() || unseen(text.parentElement)) continue;
            const range = document.createRange();
            range.selectNodeContents(text);
            const frame = text.parentElement.closest("td, th, dd, dt, li, p, pre, h1, h2, h3, figcaption, main");
            const around = frame.getBoundingClientRect();
            for (const box of range.getClientRects())
              if (box.width > 0 && (box.left < around.left - 1 || box.right > around.right + 1
                || box.top < around.top - 6 || box.bottom > around.bottom + 6 || box.right > root.clientWidth))
                faults.push(`leaves its frame: ${text.data.slice(0, 60)}`);
          }
          return faults;
        }"""
    )
    assert found == [], where


WORD = re.compile(r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)">(.*?)</word>')


def check_paper(tab: Page, folder: Path, where: str) -> str:
    """Print on A4; return the text, of which no word may lie outside the page."""
    file = folder / "page.pdf"
    tab.pdf(path=file, format="A4", prefer_css_page_size=True, print_background=True)
    boxes = subprocess.run(["pdftotext", "-bbox", file, "-"], capture_output=True, timeout=60, check=True)
    pages = boxes.stdout.decode().split("<page ")[1:]
    for page in pages:
        size = re.match(r'width="(.*?)" height="(.*?)"', page)
        assert size is not None
        width, height = map(float, size.groups())
        assert (round(width), round(height)) == (595, 842), where
        words = WORD.findall(page)
        assert words, f"{where}: an empty sheet"
        for left, top, right, bottom, word in words:
            inside = float(left) >= 0 and float(right) <= width and float(top) >= 0 and float(bottom) <= height
            assert inside, f"{where}: {word}"
    told = subprocess.run(["pdftotext", "-raw", file, "-"], capture_output=True, timeout=60, check=True)
    return told.stdout.decode()
