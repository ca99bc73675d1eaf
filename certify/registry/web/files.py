"""What the pages load, all of it from this server: styles, scripts, the verifier itself, schemas and reason texts."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import certify
from certify.policy.reasons import reasons
from certify.registry.web.wording import LANGS

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
PACKAGE = Path(certify.__file__).resolve().parent


class Asset(NamedTuple):
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str


def schemas_path() -> Path:
    """Return the folder of JSON Schemas (inside the wheel, or in the documentation of a checkout)."""
    installed = PACKAGE / "_schemas"
    return installed if installed.is_dir() else PACKAGE.parent / "docs" / "schemas"


@cache
def assets() -> dict[str, Asset]:
    """Return every file by its name below ``/assets/``."""
    files = {path.name: path.read_bytes() for path in Path(__file__).with_name("assets").iterdir()}
    files["verifier.mjs"] = (PACKAGE / "verifier.mjs").read_bytes()
    files |= {f"schemas/{path.name}": path.read_bytes() for path in schemas_path().glob("*.schema.json")}
    for lang in LANGS:
        wording = {code: entry.zh if lang == "zh" else entry.en for code, entry in reasons().items()}
        files[f"reasons.{lang}.json"] = json.dumps(wording, ensure_ascii=False).encode()
    return {name: _asset(name, content) for name, content in files.items()}


def _asset(name: str, content: bytes) -> Asset:
    return Asset(content, _TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
