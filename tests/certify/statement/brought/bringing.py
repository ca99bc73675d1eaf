"""A measured supercomputing centre, and evidence documents for its campaign by keys of several roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.record import Tool, digest
from bench.units import utc_text
from certify.documents import dsse
from certify.documents.evidence import ImportedEvidence
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.evidence.output import Family, ReaderOptions
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import PrivateKey
from certify.statement.brought.importing import Imported, ImportRequest, import_files
from tests.certify.attacks import campaign_of
from tests.certify.evidence.outputs import Row, hpl
from tests.certify.measured import BEGIN_NS, CENTRE_ID, Measured, measured
from tests.certify.signed import sha

POOLS: list[dict[str, Any]] = [{"pool": "main", "class": "supercomputing", "nodes": "all", "devices": "all"}]
IMPORTED_AT = utc_text(BEGIN_NS + 8 * 3600 * 10**9)
IMPORTER = Tool(version="0.2.0", sha256=sha("importer"))
FAST = Row(n=60_000, seconds=41.5, p=2, q=2, start=None)  # on four devices: 3.470 TFLOPS
SLOW = Row(n=40_000, seconds=30.0, p=2, q=2, start=None)


@dataclass(frozen=True)
class Bringing:
    """A measured centre, and the keys of those who bring evidence."""

    centre: Measured
    witness: Path

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.centre.folder

    @property
    def evidence(self) -> Path:
        """Where evidence documents are written."""
        return self.folder / "evidence"

    def bring(
        self,
        content: bytes,
        name: str = "hpl",
        family: Family = "hpl",
        key: PrivateKey | None = None,
        **changes: Any,
    ) -> Imported:
        """Import one output as ``petaseal import`` does."""
        file = self.folder / f"{name}.out"
        file.write_bytes(content)
        options = changes.pop("options", ReaderOptions())
        request = ImportRequest(family, (file,), self.centre.campaign, self.evidence, options=options)
        request = ImportRequest(**{**request.__dict__, **changes})
        (made,) = import_files(request, [key or load_private(self.centre.key)], IMPORTER, IMPORTED_AT)
        return made

    def certify(self, out: str = "out", **changes: Any) -> Path:
        """Make a statement with all evidence that was brought, and return its folder."""
        place = self.folder / out
        self.centre.certify(place, **{"evidence": (self.evidence,), **changes})
        return place


def bringing(folder: Path, **changes: Any) -> Bringing:
    """Lay out a measured supercomputing centre of two nodes with two devices each."""
    centre = measured(folder, **{"pools": POOLS, **changes})
    witness = folder / "witness.pem"
    new_key(witness, None)
    return Bringing(centre, witness)


def document_of(path: Path) -> ImportedEvidence:
    """Return what an evidence document says, without its signature."""
    document: ImportedEvidence = parse_payload(
        "evidence", dsse.parse_envelope(path.read_bytes(), 2**26).payload
    ).predicate
    return document


def resealed(
    path: Path, key: PrivateKey, change: Callable[[ImportedEvidence], ImportedEvidence] = lambda one: one
) -> None:
    """Put another document in the place of one, signed by some key."""
    document = change(document_of(path))
    path.write_bytes(dsse.seal(make_document("evidence", document, document.file_sha256), PAYLOAD_TYPE, [key]))


def campaign_sha256(of: Bringing) -> str:
    """Return the digest of the centre's campaign."""
    return digest(campaign_of(of.centre))


__all__ = [
    "CENTRE_ID",
    "FAST",
    "SLOW",
    "Bringing",
    "bringing",
    "document_of",
    "hpl",
    "public_path",
    "replace",
    "resealed",
]
