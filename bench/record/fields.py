"""The field types that every signed document is made of, and the one way to turn a document into bytes.

Documents are frozen msgspec structs: unknown fields, wrong types and out-of-range numbers are refused while parsing.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Meta

from bench.units import MAX_INTEGER, SOLVES, TIME_FORMAT

S = TypeVar("S", bound=msgspec.Struct)
Precision = Literal["fp16", "bf16", "fp32", "fp64"]
# A product in the fixed or the tuned shape (R4), or a solve (R15): in FP64, or with FP16 factors that FP64 refines.
Choice = Literal["fixed", "tuned", "solve", "mixed"]
PoolClass = Literal["intelligent", "supercomputing", "general", "edge"]
Grade = Literal["smoke", "standard", "certification"]
GRADES: tuple[Grade, ...] = ("smoke", "standard", "certification")  # ascending

# `$` alone would let a trailing newline pass in Python; `$(?!\n)` means the end in every regular-expression dialect.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$(?!\n)", description="lower-case identifier")]
DeviceName = Annotated[
    str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}:[0-9]{1,5}$(?!\n)", description="kind:index on its node")
]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="SHA-256, lower-case hex")]
Challenge = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{32,64}$(?!\n)", description="nonce, lower-case hex, at least 16 bytes")
]
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$(?!\n)"
UtcTime = Annotated[
    str,
    Meta(
        pattern=TIME_PATTERN,
        description=f"UTC, exactly {TIME_FORMAT}",
    ),
]
FORMS = {  # what a type's pattern says, for people
    Name: "lower-case letters and digits, and . _ - between them (at most 63)",
    DeviceName: "KIND:INDEX, such as cuda:0",
    Sha256: "64 hex digits in lower case, as sha256sum prints them",
    Challenge: "32 to 64 hex digits in lower case",
    UtcTime: "a time as 2026-03-01T08:00:00.000000Z",
}
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Signed = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Ppm = Annotated[int, Meta(ge=0, le=10**6)]


_WORDS = {repr(get_args(kind)[1].pattern): words for kind, words in FORMS.items()}
_PATTERN = re.compile(r"`str` matching regex (.*?)(?= - at `|$)", re.DOTALL)


def in_words(error: Exception) -> str:
    """Return what a decoder says is wrong with a document, without the patterns that it quotes."""
    return _PATTERN.sub(lambda match: _WORDS.get(match[1], "text of another form"), str(error))


class Workload(NamedTuple):
    """What is measured in one window: products of a precision, or solves in FP64. Its text: fp16-tuned, fp64-solve."""

    precision: Precision
    choice: Choice = "fixed"

    def __str__(self) -> str:
        return self.precision if self.choice == "fixed" else f"{self.precision}-{self.choice}"

    @property
    def is_solve(self) -> bool:
        """Whether a launch is a solve (R15) and no product."""
        return self.choice in SOLVES

    @property
    def launched(self) -> Workload:
        """The workload that has the same launches: a tuned product is one of the fixed choice's in another shape."""
        return self if self.is_solve else Workload(self.precision)

    @property
    def computed(self) -> Precision:
        """The precision of nearly all its arithmetic, whose silicon bounds it (R12)."""
        return "fp16" if self.choice == "mixed" else self.precision


WorkloadName = Annotated[
    str,
    Meta(
        pattern=r"^((fp16|bf16|fp32|fp64)(-tuned)?|fp64-(solve|mixed))$(?!\n)",
        description="text of a workload, such as fp16-tuned",
    ),
]


def workload_of(name: WorkloadName) -> Workload:
    """Return the workload of a text that has the form of `WorkloadName`."""
    precision, _, choice = name.partition("-")
    return msgspec.convert((precision, choice or "fixed"), Workload)


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every type in a signed document: frozen, keyword-only, strict."""


def filled(kind: type[S], source: object, /, **others: Any) -> S:
    """Return a struct with the fields of a source, such as a row of a table, where `others` gives no other."""
    names = (name for name in kind.__struct_fields__ if name not in others)
    return kind(**{name: getattr(source, name) for name in names}, **others)


def encode(value: Any) -> bytes:
    """Return the canonical JSON of a document or of plain values: RFC 8785 limited to integers and ASCII keys.

    Keys are sorted, nothing is omitted, text is UTF-8 and unescaped but for ``"`` and ``\\``. The strictness of what
    may be inside (no floats, no control characters, NFC) is enforced where documents are read:
    ``certify.documents.dsse``.
    """
    return msgspec.json.encode(value, order="sorted")


def digest(value: Any) -> str:
    """Return the hex SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(encode(value)).hexdigest()
