"""The fonts that petaseal draws PDFs with: files, and the SHA-256 that each must have.

Noto Sans SC, under the SIL Open Font License 1.1 (``OFL.txt`` beside the fonts). The bold one holds the characters of
GB 2312 and ASCII; the regular one is whole.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
SHA256 = {
    "NotoSansSC-Bold-GB2312.ttf": "faf91b23d068f38ef231e540f74c1de280581cbfc4b6ac446cbe6e833ec0f28e",
    "NotoSansSC-Regular.ttf": "d45f67f0a7c0ca3f256950777ce6a61cc7ce5f9696d02900cbbaac25f8aa7d16",
}
