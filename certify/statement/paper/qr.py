"""The text of the QR code on a statement's page, which a photocopy keeps: read strictly, compared field by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import InputError, RefusedError

if TYPE_CHECKING:
    from certify.documents.statement import CapacityStatement

# One form, every byte of it: a text that two readers may take for two codes is none.
_FORM = re.compile(r"PETASEAL1:sha256:([0-9a-f]{64}):([!-9;-~]{1,200}):([!-9;-~]{1,60})")


class QrCode(NamedTuple):
    """What the code on a page says of the statement."""

    digest: str  # SHA-256 of the payload
    number: str
    total: str

    @classmethod
    def parse(cls, text: str) -> QrCode:
        """Return what a code's text says.

        Raises:
            InputError: `qr-malformed`.
        """
        if (form := _FORM.fullmatch(text)) is None:
            what = f"{text[:120]!r} is not the text of a statement's QR code, PETASEAL1:sha256:DIGEST:NUMBER:TOTAL"
            fix = "give it exactly as it was read, in quotes"
            raise InputError("qr-malformed", what, where="--qr", fix=fix)
        return cls(*form.groups())

    def check(self, statement: CapacityStatement, payload_sha256: str, where: object) -> None:
        """Refuse a code that is not the statement's, and name everything in which it differs.

        Args:
            statement: what was signed.
            payload_sha256: of its payload.
            where: its file.

        Raises:
            RefusedError: `qr-differs`.
        """
        from certify.statement.paper.pdf import qr_text

        printed = QrCode.parse(qr_text(statement, payload_sha256))
        differences = [
            f"the {name} is {read} in the code and {said} in the statement"
            for name, read, said in zip(self._fields, self, printed, strict=True)
            if read != said
        ]
        if differences:
            what = f"the QR code is not this statement's: {'; '.join(differences)}"
            raise RefusedError("qr-differs", what, where=where)
