"""What ranks contribute to a reduction, and what must come out of it, to the last bit.

FP32 adds integers exactly as long as sums stay below 2^24. The first values are the ranks' signals; then each rank has
a place of its own, which only it fills, so that one whose contribution is stale or wrong is named; the rest is a
pattern that changes with each reduction, so that no buffer of an earlier one passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.record.network import ITEM_BYTES

SIGNALS = 2  # of each rank: it goes on; it has seen wrong sums
PERIOD = 1024  # of the pattern
PATTERN_MASK = 63
RANK_SHARES = 61  # numbers that ranks add to the pattern: one that is missing, or comes twice, changes the sum


class Reduced(NamedTuple):
    """What one reduction gave."""

    all_go_on: bool
    alarmed: bool  # a rank has seen wrong sums
    is_exact: bool
    wrong: tuple[int, ...]  # places of the ranks whose contribution was not what it had to be, as far as that shows


class Pattern(NamedTuple):
    """The numbers of one reduction, the same on all ranks."""

    tag: int  # in each rank's own place
    row: tuple[int, ...]


def pattern(seed: str, number: int) -> Pattern:
    """Return the numbers of a reduction.

    Args:
        seed: of the run.
        number: of the reduction in it.
    """
    stream = hashlib.shake_128(f"petaseal/reduction/{seed}/{number}".encode()).digest(PERIOD + 2)
    return Pattern(1 + int.from_bytes(stream[:2], "little"), tuple(value & PATTERN_MASK for value in stream[2:]))


class Buffer:
    """The memory that is reduced, and the check of what comes back.

    Args:
        size_bytes: that a device contributes; more where the signals of all ranks need it.
        place: of this rank among those that reduce together.
        ranks: of them.
        seed: of the run.
        device: torch's name of the device in whose memory it lies.
    """

    def __init__(self, size_bytes: int, place: int, ranks: int, seed: str, device: str) -> None:
        import torch

        self._place, self._ranks, self._seed = place, ranks, seed
        self._shares = sum(1 + rank % RANK_SHARES for rank in range(ranks))
        self._head = SIGNALS + ranks
        self.tensor = torch.zeros(max(size_bytes // ITEM_BYTES, self._head), dtype=torch.float32, device=device)
        self._own = torch.zeros(self._head, dtype=torch.float32, device="cpu")

    @property
    def size_bytes(self) -> int:
        """What a device contributes."""
        return int(self.tensor.numel()) * ITEM_BYTES

    def fill(self, number: int, goes_on: bool, alarmed: bool, is_wrong: bool = False) -> None:
        """Put this rank's contribution into the buffer.

        Args:
            number: of the reduction.
            goes_on: whether this rank wants another reduction after it.
            alarmed: whether it has seen wrong sums.
            is_wrong: contribute that of the reduction before: a device that is scripted so.
        """
        numbers = pattern(self._seed, number - is_wrong)
        self._own.zero_()
        self._own[0], self._own[1] = float(goes_on), float(alarmed)
        self._own[SIGNALS + self._place] = float(numbers.tag)
        self.tensor[: self._head].copy_(self._own)
        self._over_rows(self._row(numbers, 1, 1 + self._place % RANK_SHARES), lambda part, row: part.copy_(row))

    def all_go_on(self) -> bool:
        """Return whether all ranks wanted another reduction after the one that was just awaited."""
        return bool(self.tensor[0].item() == self._ranks)

    def check(self, number: int) -> Reduced:
        """Return what a reduction gave."""
        import torch

        numbers = pattern(self._seed, number)
        head = self.tensor[: self._head].tolist()
        wrong = tuple(place for place, tag in enumerate(head[SIGNALS:]) if tag != numbers.tag)
        differing: list[Any] = []
        expected = self._row(numbers, self._ranks, self._shares)
        self._over_rows(expected, lambda part, row: differing.append(torch.ne(part, row).any()))
        is_exact = not wrong and not any(bool(one) for one in differing)
        return Reduced(head[0] == self._ranks, head[1] != 0, is_exact, wrong)

    def _row(self, numbers: Pattern, times: int, plus: int) -> Any:
        import torch

        row = torch.tensor(numbers.row, dtype=torch.float32) * times + plus
        return row.to(self.tensor.device)

    def _over_rows(self, row: Any, call: Callable[[Any, Any], object]) -> None:
        """Call with the pattern's repetitions as rows, and with what is left behind them."""
        rest = self.tensor[self._head :]
        whole = int(rest.numel()) // PERIOD * PERIOD
        if whole:
            call(rest[:whole].view(-1, PERIOD), row)
        if whole < int(rest.numel()):
            call(rest[whole:], row[: int(rest.numel()) - whole])


def integers(tensor: Any) -> tuple[int, ...]:
    """Return a tensor of whole numbers as such; one that is none, such as NaN, as 0."""
    return tuple(int(value) if value == value and 0 <= value < 2**24 else 0 for value in tensor.tolist())
