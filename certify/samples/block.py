"""A block of whole lines of a table of samples, read by columns with numpy: every check of a row is here.

Eight bytes are looked at together as one word, so that half a million rows are read in a fraction of a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import RefusedError
from certify.samples.rows import IN_TIME, PHASES, TEXT, THROTTLED, TRIAL, Integers, Segment

LINE_MAX_BYTES = 4096  # a row takes 120; a bomb in one line is never held whole
MAX_DIGITS = 18
MAX_NAME_BYTES = 64
MANY_NAMES = 64  # in one block: from there on they are looked up one by one
MAX_TEXTS = 2**20  # other than integers; digests of 32 operand sets on 1,024 devices in eight workloads are half
MAX_NAMES = 4096  # of quantities in one file; a tuned workload of 32 operand sets has some 150
OUT_OF_MEMORY = "out-of-memory"
NEWLINE, COMMA, MINUS, ZERO = b"\n,-0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELD_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/+,-\n"  # no quotes, spaces, controls
_WORD = 8
_BEFORE = b"\n" * 24  # so that the word that ends with a field can always be read
_BEHIND = b"\n" * 16  # likewise the word that begins at its last byte

Words = NDArray[np.uint64]
U64 = np.uint64
_HEAD = np.array([(1 << 8 * n) - 1 for n in range(8)] + [2**64 - 1], np.uint64)  # the first n bytes of a word
_TAIL = np.array([2**64 - (1 << 8 * (8 - n)) if n else 0 for n in range(9)], np.uint64)  # the last n bytes
_ZEROS = U64(0x3030303030303030)
_NONE = U64(int.from_bytes(b"none", "little"))


@dataclass
class _Numbered:
    """Texts in the order of their first occurrence; a text's number is its place in `listed`."""

    listed: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """Return the number of a text, a new one at its first occurrence."""
        if text not in self._numbers:
            self._numbers[text] = len(self.listed)
            self.listed.append(text)
        return self._numbers[text]


@dataclass
class TableState:
    """How far one file is read: its names and texts so far, and the last row, which the next one must follow."""

    path: Path
    names: _Numbered = field(default_factory=_Numbered)  # of quantities
    texts: _Numbered = field(default_factory=_Numbered)  # "none" is the first
    last: tuple[str, str, int, int, str, str] = ("", "", 0, 0, "", "")
    reasons: _Numbered = field(default_factory=_Numbered)  # of throttling, each combination once
    of_figure: int = 0  # rows of the present device and workload so far

    def refused(self, what: str) -> RefusedError:
        """Return the refusal of a table that is none."""
        return RefusedError("samples-invalid", what, where=self.path)

    def code(self, name: str) -> int:
        """Return the number of a quantity's name."""
        number = self.names.number(name)
        if number == MAX_NAMES or len(name) > MAX_NAME_BYTES:
            raise self.refused(f"have more than {MAX_NAMES} quantities, or one of more than {MAX_NAME_BYTES} letters")
        return number

    def text(self, name: str, text: str) -> int:
        """Return the number of a text, which is the value of a quantity."""
        # Each is held and looked at: a table in which every row had one of its own would cost gigabytes and minutes.
        if name == THROTTLED and self.reasons.number(text) == MAX_NAMES:
            raise self.refused(f"have more than {MAX_NAMES} combinations of reasons of throttling")
        if (number := self.texts.number(text)) == MAX_TEXTS:
            raise self.refused(f"have more than {MAX_TEXTS} texts")
        return number


class Block:
    """Whole lines of a table as columns. What a row must be:

    six fields, none empty, of the bytes that fields have; a known phase; integers in their one spelling, below 10^18 in
    size; digests and reasons of throttling in theirs; after the row before it in the order of (device, workload, phase,
    offset, quantity, value), and from the warm-up on no quantity twice at one time.
    """

    def __init__(self, block: bytes, state: TableState) -> None:
        if block.translate(None, _FIELD_BYTES):
            raise state.refused("hold a character that no row has")
        self.state = state
        self.raw = _BEFORE + block + _BEHIND
        self.bytes = np.frombuffer(self.raw, np.uint8)
        self.words: Words = np.ndarray((len(self.raw) - _WORD + 1,), "<u8", self.raw, 0, (1,))
        text = self.bytes[len(_BEFORE) : -len(_BEHIND)]
        self.ends = np.flatnonzero(text == NEWLINE) + len(_BEFORE)
        self.starts = np.concatenate(([len(_BEFORE)], self.ends[:-1] + 1))
        commas = np.flatnonzero(text == COMMA) + len(_BEFORE)
        if (self.ends - self.starts).max() > LINE_MAX_BYTES:
            raise state.refused(f"have a line of more than {LINE_MAX_BYTES} bytes")
        if len(commas) != 5 * len(self.ends):
            raise state.refused("have a row that is none")
        self.commas = commas.reshape(-1, 5)
        edges = np.column_stack((self.starts - 1, self.commas, self.ends))
        if (np.diff(edges) < 2).any():  # a field is empty, or a comma stands in another row
            raise state.refused("have a row that is none")

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
            new = key[:2] != self.state.last[:2]
            self.state.of_figure = end - begin + (0 if new else self.state.of_figure)
            self.state.last = self._row(end - 1, key, offset_ns)
            yield Segment(*key, offset_ns[begin:end], quantity[begin:end], value[begin:end])

    def _text(self, begin: int, end: int) -> str:
        return self.raw[begin:end].decode("ascii")

    def _key(self, row: int) -> tuple[str, str, int]:
        a, b, c = self.commas[row, :3]
        phase = self._text(b + 1, c)
        if phase not in PHASES:
            raise self.state.refused("have a row that is none")
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
                    codes[row] = code = self.state.code(name)
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
            code = self.state.code(name)
            names[code] = name
            codes[rows] = code
        return codes, names

    def _integers(self, begins: Integers, ends: Integers) -> Integers:
        """Return the integers from each begin to its end, and refuse one in another spelling than its shortest."""
        integers, good = self._parsed(begins, ends)
        if not good.all():
            raise self.state.refused("hold a number that is none")
        return integers

    def _parsed(self, begins: Integers, ends: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Return the integers from each begin to its end, and which of them are in their shortest spelling."""
        negative = self.bytes[begins] == MINUS
        lead = self.bytes[begins + negative]
        digits = ends - begins - negative
        good = (digits >= 1) & (digits <= MAX_DIGITS) & ~((lead == ZERO) & ((digits > 1) | negative))
        digits = np.clip(digits, 0, MAX_DIGITS)
        integers = np.zeros(len(begins), np.int64)
        for place in range(0, MAX_DIGITS, _WORD):
            rows = np.flatnonzero(digits > place)
            if not len(rows):
                break
            tail = _TAIL[np.minimum(digits[rows] - place, _WORD)]
            word = (self.words[ends[rows] - place - _WORD] & tail) | (_ZEROS & ~tail)
            good[rows] &= _are_digits(word)
            integers[rows] += _eight_digits(word) * np.int64(10**place)
        return np.where(negative, -integers, integers), good

    def _values(self, quantity: NDArray[np.int32], names: dict[int, str], phases: NDArray[np.int64]) -> Integers:
        """Return each row's value: the integer, or the number of its text."""
        begins, ends = self.commas[:, 4] + 1, self.ends
        values, good = self._parsed(begins, ends)
        textual = [code for code, name in names.items() if name == THROTTLED or name.endswith("_sha256")]
        good &= ~np.isin(quantity, textual)
        throttled = [code for code, name in names.items() if name == THROTTLED]
        none = np.isin(quantity, throttled) & (ends - begins == 4) & ((self.words[begins] & _HEAD[4]) == _NONE)
        values[none] = -TEXT  # nearly all of them, and the first of the texts
        for row in np.flatnonzero(~(good | none)):
            name, text = names[int(quantity[row])], self._text(begins[row], ends[row])
            if not _is_value(name, int(phases[row]), text):
                raise self.state.refused(f"have a value of {name} that is none")
            values[row] = -TEXT - self.state.text(name, text)
        return values

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
        last = self.state.last
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
            raise self.state.refused(f"have {after[4]} twice at one time")
        if after <= before:
            raise self.state.refused("have rows out of order, or one row twice")


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
    high = U64(0xF0F0F0F0F0F0F0F0)
    good: NDArray[np.bool_] = ((words & high) == _ZEROS) & (((words + U64(0x0606060606060606)) & high) == _ZEROS)
    return good


def _eight_digits(words: Words) -> Integers:
    """Return the integers that eight ASCII digits make, the first byte the highest: pairs, then fours, then eights."""
    words = ((words & U64(0x0F0F0F0F0F0F0F0F)) * U64(2561)) >> U64(8)
    words = ((words & U64(0x00FF00FF00FF00FF)) * U64(6553601)) >> U64(16)
    words = ((words & U64(0x0000FFFF0000FFFF)) * U64(42949672960001)) >> U64(32)
    return words.astype(np.int64)
