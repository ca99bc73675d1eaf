"""Which statements a revocation list is to revoke, and whether their records fall with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import UNSET, UnsetType

from bench.errors import InputError
from bench.record import read_given
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.trust.revocations import RevokedRecords


def named_statements(
    names: Iterable[str], checked_digest: Callable[[str], str], *, reissue: bool
) -> dict[str, RevokedRecords | UnsetType]:
    """Return the statements that were named, by payload digest, with their records where these are revoked too.

    Nothing of a statement is verified: one that contradicts itself is revoked as well as another.

    Args:
        names: files, or payload digests; whatever is no file is read as a digest, and refused as one.
        checked_digest: returns a digest that was typed, or refuses it.
        reissue: whether the records stay good, and may be stated again.

    Raises:
        InputError: `usage`, a digest alone does not say which records fall; or a file cannot be read.
        RefusedError: a file is no statement, so that its records cannot be named.
    """
    named: dict[str, RevokedRecords | UnsetType] = {}
    for name in names:
        if os.path.lexists(name):
            envelope = parse_envelope(read_given(Path(name), CAPS.statement_bytes), CAPS.statement_bytes, name)
            opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", envelope.payload, name)
            named[opened.payload_sha256] = UNSET if reissue else RevokedRecords.of(opened.predicate)
            continue
        sha256 = checked_digest(name)
        if not reissue:
            what = f"{sha256[:16]}… is a digest, which does not say what records fall with the statement"
            fix = "give its file (petaseal registry pull), or --reissue-allowed where its records are good"
            raise InputError("usage", what, where="--statement", fix=fix)
        named[sha256] = UNSET
    return named
