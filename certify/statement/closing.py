"""A campaign's closing document on its way into the statement: beside the records, and held against the campaign."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import RefusedError
from bench.record import Campaign, read_bytes
from bench.record.closing import Closing
from bench.record.folder import CLOSING
from certify.documents.canonical import decode
from certify.documents.caps import CAPS


def read_closing(folder: Path) -> Closing | None:
    """Return the closing document that lies beside records; None where nobody coordinated them.

    Raises:
        RefusedError: it is damaged.
    """
    path = folder / CLOSING
    if not os.path.lexists(path):
        return None
    return decode(read_bytes(path, CAPS.campaign_bytes).removesuffix(b"\n"), Closing, path)


def check_closing(
    closing: Closing | None, campaign: Campaign, campaign_sha256: str, starts_at: str, where: object
) -> None:
    """Refuse a closing document of another campaign or of another start.

    Raises:
        RefusedError: `closing-differs`.
    """
    problem = None if closing is None else closing.problem(campaign, campaign_sha256, starts_at)
    if problem is not None:
        raise RefusedError("closing-differs", f"the closing document {problem}", where=where)
