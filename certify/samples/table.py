"""Samples of a record: gzip-compressed CSV (``docs/formats.md``), read strictly, by columns, in bounded memory.

One node of eight devices and four windows of ten minutes leaves half a million rows. They are read in blocks of whole
lines with numpy: where commas and newlines stand, which rows share device, workload and phase, and every integer at
once. A row is refused for the same faults as by a reader that goes line by line, whose rules stand in `_Block`.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.errors import RefusedError
from bench.record import NodeRecord, read_bytes
from certify.documents.caps import CAPS
from certify.documents.kinds import Opened

SAMPLES_SUFFIX = ".samples.csv.gz"
BLOCK_BYTES = 1 << 20  # unpacked at a time
FLOOR_BYTES = 1 << 20  # unpacked; below, no ratio is looked at, as with a package
LINE_MAX_BYTES = 4096  # a row takes 120; a bomb in one line is never held whole
MAX_FIGURES = 8192  # 1,024 devices in eight workloads
MAX_DIGITS = 18
TEXT = 2**62  # beyond all integers of so many digits
MAX_NAME_BYTES = 64
LATE_RATES = 2
MANY_NAMES = 64  # in one block: from there on they are looked up one by one
MAX_NAMES = 4096  # of quantities in one file; a tuned workload of 32 operand sets has some 150
HEADER = b"device,workload,phase,offset_ns,quantity,value"
PHASES = ("prepare", "trial", "warmup", "window", "guard")
IN_TIME = (PHASES.index("warmup"), PHASES.index("window"), PHASES.index("guard"))  # one quantity is read once at a time
TRIAL = PHASES.index("trial")
OUT_OF_MEMORY = "out-of-memory"
THROTTLED = "throttled"
MARK = re.compile(r"subwindow_(0[1-9]|[12][0-9]|30)_ns")
NEWLINE, COMMA, MINUS, ZERO = b"\n,-0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELD_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/+,-\n"  # no quotes, spaces, controls
_WORD = 8
_BEFORE = b"\n" * 24  # so that the word that ends with a field can always be read
_BEHIND = b"\n" * 16  # likewise the word that begins at its last byte

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
_U = np.uint64
_HEAD = np.array([(1 << 8 * n) - 1 for n in range(8)] + [2**64 - 1], np.uint64)  # the first n bytes of a word
_TAIL = np.array([2**64 - (1 << 8 * (8 - n)) if n else 0 for n in range(9)], np.uint64)  # the last n bytes
_ZEROS = _U(0x3030303030303030)
_NONE = _U(int.from_bytes(b"none", "little"))


@dataclass(frozen=True)
class Rows:
    """All rows of one device and workload, in their order, one column a field.

    `quantity` indexes `names`. `value` is the integer; text (digests, reasons of throttling) is -TEXT less its index in
    `texts`, which no integer is.
    """

    device: str
    workload: str
    phase: NDArray[np.int8]  # index in PHASES
    offset_ns: Integers  # from the opening of the core window
    quantity: NDArray[np.int32]
    value: Integers
    names: list[str]
    texts: list[str]

    @cached_property
    def in_time(self) -> Mapping[str, Integers]:
        """The rows from the warm-up on, by quantity: their places, in their order."""
        places = np.flatnonzero(self.phase >= IN_TIME[0])
        places = places[np.argsort(self.quantity[places], kind="stable")]
        codes, begins = np.unique(self.quantity[places], return_index=True)
        ends = [*begins[1:].tolist(), len(places)]
        parts = zip(codes.tolist(), begins.tolist(), ends[: len(codes)], strict=True)
        return {self.names[code]: places[begin:end] for code, begin, end in parts}

    def series(self, name: str, phase: str | None = None) -> Integers:
        """Return (offset ns, value) of each row of a quantity from the warm-up on, or in one phase; shape (n, 2)."""
        places = self.in_time.get(name, np.empty(0, np.int64))
        if phase is not None:
            places = places[self.phase[places] == PHASES.index(phase)]
        return np.stack((self.offset_ns[places], self.value[places]), axis=1)

    def misplaced(self, length_ns: int) -> str | None:
        """Return the quantity of a row that stands in another phase than its time says, if any.

        A rate of the warm-up is reported when its launches have ended, which the last one or two do after the opening.
        """
        for name, places in self.in_time.items():
            at, phase = self.offset_ns[places], self.phase[places]
            warm, window, guard = (phase == one for one in IN_TIME)
            if MARK.fullmatch(name):  # the end of a sub-window, whose time R10 judges
                wrong = not window.all()
            else:
                late = (warm & (at >= 0)) | (window & (at >= length_ns))
                early = (window & (at < 0)) | (guard & (at < length_ns))
                wrong = early.any() or late.sum() > (LATE_RATES if name == "rate_mflop_s" else 0)
            if wrong:
                return name
        return None

    def lines(self) -> Iterator[str]:
        """Yield the rows as the file has them."""
        columns = (self.phase, self.offset_ns, self.quantity, self.value)
        for phase, at, quantity, value in zip(*(column.tolist() for column in columns), strict=True):
            name = self.names[quantity]
            yield f"{self.device},{self.workload},{PHASES[phase]},{at},{name},{self.text(value)}"

    def text(self, value: int) -> str:
        """Return a value as the file has it."""
        return str(value) if value > -TEXT else self.texts[-TEXT - value]


class Segment(NamedTuple):
    """Consecutive rows of one device, workload and phase."""

    device: str
    workload: str
    phase: int
    offset_ns: Integers
    quantity: NDArray[np.int32]
    value: Integers


def bound_samples(opened: Opened[NodeRecord], path: Path) -> bytes:
    """Return the samples in a file, which are those that a record binds.

    Raises:
        RefusedError: `samples-missing`, `samples-differ`.
    """
    if not path.exists():
        raise RefusedError("samples-missing", "there are no samples of this record", where=path)
    content = read_bytes(path, CAPS.samples_bytes)
    if hashlib.sha256(content).hexdigest() != opened.subject_digest:
        raise RefusedError("samples-differ", "are not the samples that the record binds", where=path)
    return content


def figures(content: bytes, path: Path) -> Iterator[Rows]:
    """Yield the rows of each device and workload, one after another, so that only one figure's are ever held.

    Args:
        content: the file.
        path: where it lies, for the error text.

    Raises:
        RefusedError: `samples-invalid`, `samples-too-large`.
    """
    reader = _Reader(path)
    held: list[Segment] = []
    count = 1
    for segment in reader.segments(content):
        if held and held[0][:2] != segment[:2]:
            yield reader.rows(held)
            held, count = [], count + 1
            if count > MAX_FIGURES:
                raise reader.refused(f"have more than {MAX_FIGURES} devices and workloads")
        held.append(segment)
        if reader.of_figure > CAPS.samples_rows:
            what = f"have more than {CAPS.samples_rows} rows of {segment.device}"
            raise RefusedError("samples-too-large", what, where=path)
    if held:
        yield reader.rows(held)


@dataclass
class _Numbered:
    """Texts that were met so far, each under a number: its place in `listed`."""

    listed: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """Return the number of a text, a new one where it is met first."""
        if text not in self._numbers:
            self._numbers[text] = len(self.listed)
            self.listed.append(text)
        return self._numbers[text]


@dataclass
class _Reader:
    """Reads the blocks of one file: the names and texts met so far, and the last row, which the next one follows."""

    path: Path
    names: _Numbered = field(default_factory=_Numbered)  # of quantities
    texts: _Numbered = field(default_factory=_Numbered)  # "none" is the first
    last: tuple[str, str, int, int, str, str] = ("", "", 0, 0, "", "")
    of_figure: int = 0  # rows of the present device and workload so far

    def refused(self, what: str) -> RefusedError:
        """Return the refusal of a table that is none."""
        return RefusedError("samples-invalid", what, where=self.path)

    def rows(self, held: list[Segment]) -> Rows:
        """Return the segments of one figure as one."""
        phases = np.repeat([part.phase for part in held], [len(part.offset_ns) for part in held]).astype(np.int8)
        offset_ns, quantity, value = (
            np.concatenate([getattr(part, name) for part in held]) for name in ("offset_ns", "quantity", "value")
        )
        return Rows(*held[0][:2], phases, offset_ns, quantity, value, self.names.listed, self.texts.listed)

    def segments(self, content: bytes) -> Iterator[Segment]:
        """Yield the segments of a file in their order."""
        self.texts.number("none")
        first = True
        for block in _blocks(content, self.path):
            if first:
                header, _, block = block.partition(b"\n")
                if header != HEADER:
                    raise self.refused("are not a table of samples")
                first = False
            if block:
                yield from _Block(block, self).segments()
        if first:
            raise self.refused("are not a table of samples")

    def code(self, name: str) -> int:
        """Return the number of a quantity's name."""
        number = self.names.number(name)
        if number == MAX_NAMES or len(name) > MAX_NAME_BYTES:
            raise self.refused(f"have more than {MAX_NAMES} quantities, or one of more than {MAX_NAME_BYTES} letters")
        return number


def _blocks(content: bytes, path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a gzip file in blocks, never unpacking more than the caps: a small file may hold much.

    Raises:
        RefusedError: `samples-invalid`, `samples-too-large`.
    """
    most = min(CAPS.samples_unpacked_bytes, max(CAPS.package_ratio * len(content), FLOOR_BYTES))
    unpacker = zlib.decompressobj(wbits=31)
    total, data, rest = 0, content, b""
    while data:
        try:
            unpacked = unpacker.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            raise RefusedError("samples-invalid", f"are not gzip ({error})", where=path) from None
        data = unpacker.unconsumed_tail
        total += len(unpacked)
        if total > most:
            raise RefusedError("samples-too-large", f"unpack to more than {most} bytes", where=path)
        lines, newline, rest = (rest + unpacked).rpartition(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise RefusedError("samples-invalid", f"have a line of more than {LINE_MAX_BYTES} bytes", where=path)
        if newline:
            yield lines + newline
    if not unpacker.eof or unpacker.unused_data or rest:
        raise RefusedError("samples-invalid", "are truncated, or something follows them", where=path)


class _Block:
    """Whole lines of a table as columns. What a row must be:

    six fields, none empty, of the bytes that fields have; a known phase; integers in their one spelling, below 10^18 in
    size; digests and reasons of throttling in theirs; after the row before it in the order of (device, workload, phase,
    offset, quantity, value), and from the warm-up on no quantity twice at one time.
    """

    def __init__(self, block: bytes, reader: _Reader) -> None:
        if block.translate(None, _FIELD_BYTES):
            raise reader.refused("hold a character that no row has")
        self.reader = reader
        self.raw = _BEFORE + block + _BEHIND
        self.bytes = np.frombuffer(self.raw, np.uint8)
        self.words: Words = np.ndarray((len(self.raw) - _WORD + 1,), "<u8", self.raw, 0, (1,))
        text = self.bytes[len(_BEFORE) : -len(_BEHIND)]
        self.ends = np.flatnonzero(text == NEWLINE) + len(_BEFORE)
        self.starts = np.concatenate(([len(_BEFORE)], self.ends[:-1] + 1))
        commas = np.flatnonzero(text == COMMA) + len(_BEFORE)
        if (self.ends - self.starts).max() > LINE_MAX_BYTES:
            raise reader.refused(f"have a line of more than {LINE_MAX_BYTES} bytes")
        if len(commas) != 5 * len(self.ends):
            raise reader.refused("have a row that is none")
        self.commas = commas.reshape(-1, 5)
        edges = np.column_stack((self.starts - 1, self.commas, self.ends))
        if (np.diff(edges) < 2).any():  # a field is empty, or a comma stands in another row
            raise reader.refused("have a row that is none")

    def segments(self) -> Iterator[Segment]:
        """Yield the rows of each device, workload and phase."""
        first: list[int] = [0, *(np.flatnonzero(~self._same(self.starts, self.commas[:, 2])) + 1).tolist()]
        offset_ns = self._integers(self.commas[:, 2] + 1, self.commas[:, 3])
        quantity, names = self._quantities()
        keys = [self._key(row) for row in first]
        phases = np.repeat([key[2] for key in keys], np.diff([*first, len(self.ends)]))
        value = self._values(quantity, names, phases)
        self._check_order(first, keys, offset_ns, quantity, names, phases)
        for key, begin, end in zip(keys, first, [*first[1:], len(self.ends)], strict=True):
            new = key[:2] != self.reader.last[:2]
            self.reader.of_figure = end - begin + (0 if new else self.reader.of_figure)
            self.reader.last = self._row(end - 1, key, offset_ns)
            yield Segment(*key, offset_ns[begin:end], quantity[begin:end], value[begin:end])

    def _text(self, begin: int, end: int) -> str:
        return self.raw[begin:end].decode("ascii")

    def _key(self, row: int) -> tuple[str, str, int]:
        a, b, c = self.commas[row, :3]
        phase = self._text(b + 1, c)
        if phase not in PHASES:
            raise self.reader.refused("have a row that is none")
        return self._text(self.starts[row], a), self._text(a + 1, b), PHASES.index(phase)

    def _row(self, row: int, key: tuple[str, str, int], offset_ns: Integers) -> tuple[str, str, int, int, str, str]:
        c = self.commas[row]
        return (*key, int(offset_ns[row]), self._text(c[3] + 1, c[4]), self._text(c[4] + 1, self.ends[row]))

    def _same(self, begins: Integers, ends: Integers) -> NDArray[np.bool_]:
        """Return whether the bytes of each row's span are those of the span before, for all rows but the first."""
        lengths = ends - begins
        same: NDArray[np.bool_] = lengths[1:] == lengths[:-1]
        rows, at = np.flatnonzero(same), 0
        while len(rows):
            head = _HEAD[np.minimum(lengths[rows] - at, _WORD)]
            alike = ((self.words[begins[rows] + at] ^ self.words[begins[rows + 1] + at]) & head) == 0
            same[rows[~alike]] = False
            at += _WORD
            rows = rows[alike & (lengths[rows] > at)]
        return same

    def _quantities(self) -> tuple[NDArray[np.int32], dict[int, str]]:
        """Return each row's quantity, and the names of those that occur."""
        begins, ends = self.commas[:, 3] + 1, self.commas[:, 4]
        lengths = ends - begins
        first = self.words[begins] & _HEAD[np.minimum(lengths, _WORD)]
        codes = np.full(len(begins), -1, np.int32)
        names: dict[int, str] = {}
        while len(left := np.flatnonzero(codes < 0)):
            if len(names) == MANY_NAMES:
                for row in left.tolist():
                    name = self._text(begins[row], ends[row])
                    codes[row] = code = self.reader.code(name)
                    names[code] = name
                break
            name = self._text(begins[left[0]], ends[left[0]])
            rows = np.flatnonzero(
                (first == first[left[0]]) & (lengths == len(name)) & (codes < 0)
            )  # left[0] is the first
            for at in range(_WORD, len(name), _WORD):
                word = self.words[np.minimum(begins[rows] + at, ends[rows])]
                word &= _HEAD[np.clip(lengths[rows] - at, 0, _WORD)]
                rows = rows[word == word[0]]
            code = self.reader.code(name)
            names[code] = name
            codes[rows] = code
        return codes, names

    def _integers(self, begins: Integers, ends: Integers) -> Integers:
        """Return the integers that stand between, each in its one spelling."""
        found, good = self._parsed(begins, ends)
        if not good.all():
            raise self.reader.refused("hold a number that is none")
        return found

    def _parsed(self, begins: Integers, ends: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Return the integers that stand between, and which of them are in their one spelling."""
        negative = self.bytes[begins] == MINUS
        lead = self.bytes[begins + negative]
        digits = ends - begins - negative
        good = (digits >= 1) & (digits <= MAX_DIGITS) & ~((lead == ZERO) & ((digits > 1) | negative))
        digits = np.clip(digits, 0, MAX_DIGITS)
        found = np.zeros(len(begins), np.int64)
        for place in range(0, MAX_DIGITS, _WORD):
            rows = np.flatnonzero(digits > place)
            if not len(rows):
                break
            tail = _TAIL[np.minimum(digits[rows] - place, _WORD)]
            word = (self.words[ends[rows] - place - _WORD] & tail) | (_ZEROS & ~tail)
            good[rows] &= _are_digits(word)
            found[rows] += _eight_digits(word) * np.int64(10**place)
        return np.where(negative, -found, found), good

    def _values(self, quantity: NDArray[np.int32], names: dict[int, str], phases: NDArray[np.int64]) -> Integers:
        """Return each row's value: the integer, or the number of its text."""
        begins, ends = self.commas[:, 4] + 1, self.ends
        found, good = self._parsed(begins, ends)
        textual = [code for code, name in names.items() if name == THROTTLED or name.endswith("_sha256")]
        good &= ~np.isin(quantity, textual)
        throttled = [code for code, name in names.items() if name == THROTTLED]
        none = np.isin(quantity, throttled) & (ends - begins == 4) & ((self.words[begins] & _HEAD[4]) == _NONE)
        found[none] = -TEXT  # nearly all of them, and the first of the texts
        for row in np.flatnonzero(~(good | none)):
            name, text = names[int(quantity[row])], self._text(begins[row], ends[row])
            if not _is_value(name, int(phases[row]), text):
                raise self.reader.refused(f"have a value of {name} that is none")
            found[row] = -TEXT - self.reader.texts.number(text)
        return found

    def _check_order(
        self,
        first: list[int],
        keys: list[tuple[str, str, int]],
        offset_ns: Integers,
        quantity: NDArray[np.int32],
        names: dict[int, str],
        phases: NDArray[np.int64],
    ) -> None:
        """Refuse rows that do not follow one another.

        Raises:
            RefusedError: `samples-invalid`.
        """
        last = self.reader.last
        for key, row in zip(keys, first, strict=True):
            now = self._row(row, key, offset_ns)
            self._check_pair(last, now)
            last = (*key, 0, "", "")  # of the segment that begins here only its key matters to the next one
        rank = np.zeros(max(names) + 1, np.int64)
        rank[sorted(names, key=lambda code: names[code])] = np.arange(len(names))
        place = rank[quantity]
        later = (offset_ns[1:] > offset_ns[:-1]) | ((offset_ns[1:] == offset_ns[:-1]) & (place[1:] > place[:-1]))
        later[np.array(first[1:], np.int64) - 1] = True  # looked at above
        for row in np.flatnonzero(~later).tolist():
            key = ("", "", int(phases[row]))
            self._check_pair(self._row(row, key, offset_ns), self._row(row + 1, key, offset_ns))

    def _check_pair(
        self, before: tuple[str, str, int, int, str, str], after: tuple[str, str, int, int, str, str]
    ) -> None:
        if after[:5] == before[:5] and after[2] in IN_TIME:
            raise self.reader.refused(f"have {after[4]} twice at one time")
        if after <= before:
            raise self.reader.refused("have rows out of order, or one row twice")


def _is_value(quantity: str, phase: int, text: str) -> bool:
    """Return whether a text is a value of its quantity in its only spelling; integers were looked at before."""
    if quantity == THROTTLED:
        reasons = text.split("+")
        return text == "none" or ("none" not in reasons and all(reasons) and reasons == sorted(set(reasons)))
    if quantity.endswith("_sha256"):
        return _DIGEST.fullmatch(text) is not None
    return phase == TRIAL and text == OUT_OF_MEMORY


def _are_digits(words: Words) -> NDArray[np.bool_]:
    """Return which words are eight ASCII digits."""
    high = _U(0xF0F0F0F0F0F0F0F0)
    good: NDArray[np.bool_] = ((words & high) == _ZEROS) & (((words + _U(0x0606060606060606)) & high) == _ZEROS)
    return good


def _eight_digits(words: Words) -> Integers:
    """Return the integers that eight ASCII digits make, the first byte the highest: pairs, then fours, then eights."""
    words = ((words & _U(0x0F0F0F0F0F0F0F0F)) * _U(2561)) >> _U(8)
    words = ((words & _U(0x00FF00FF00FF00FF)) * _U(6553601)) >> _U(16)
    words = ((words & _U(0x0000FFFF0000FFFF)) * _U(42949672960001)) >> _U(32)
    return words.astype(np.int64)
