"""One run on one device: blocks of the counted products one after another, alone or with reductions between them.

A reduction goes on while the next block is computed, and is awaited after it. Ranks must agree on which one is the
last: each contributes whether it goes on, and all end after the first that not all wanted to follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bench.clock import Clock
from bench.collective.process_group import World
from bench.collective.sums import Buffer, Reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernels.base import Prepared


class RunSpan(NamedTuple):
    """A run's window on this process's monotonic clock, ns."""

    opens_ns: int
    closes_ns: int


class Products(NamedTuple):
    """What a block is."""

    prepared: Prepared
    launches: int


class RunTally:
    """The blocks and reductions that lie whole in the core window."""

    def __init__(self, span: RunSpan, launches: int) -> None:
        self._span = span
        self._of_block = launches
        self.launches = 0
        self.opened_ns: int | None = None  # monotonic
        self.ended_ns = 0
        self.reductions = 0
        self.wrong_reductions = 0
        self.wrong_places: tuple[int, ...] = ()  # whose contribution was wrong, as far as that shows
        self.was_alarmed = False  # a rank ended the run, since it had seen wrong sums

    def block(self, begun_ns: int, ended_ns: int, reductions: int) -> None:
        """Count a block, with the reductions that were awaited in it, where it lies whole in the core window."""
        if begun_ns >= self._span.opens_ns and ended_ns <= self._span.closes_ns:
            self.opened_ns = begun_ns if self.opened_ns is None else self.opened_ns
            self.ended_ns = ended_ns
            self.launches += self._of_block
            self.reductions += reductions

    def checked(self, result: Reduced) -> None:
        """Take note of what a reduction gave, in the window or not."""
        self.was_alarmed |= result.alarmed
        if not result.is_exact:
            self.wrong_reductions += 1
            self.wrong_places = self.wrong_places or result.wrong

    @property
    def elapsed_ns(self) -> int:
        """From the start of the first whole block to the end of the last one."""
        return 0 if self.opened_ns is None else self.ended_ns - self.opened_ns


def compute_alone(products: Products, span: RunSpan, clock: Clock, counted: RunTally) -> None:
    """Compute blocks until the core window closes: run A."""
    done = 0
    while (begun_ns := clock.monotonic_ns()) < span.closes_ns:
        products.prepared.launch(done, products.launches)
        products.prepared.synchronize()
        done += products.launches
        counted.block(begun_ns, clock.monotonic_ns(), 0)


class Reducing(NamedTuple):
    """Who reduces in a run, through which buffers."""

    world: World
    group: Any  # of torch
    buffers: tuple[Buffer, Buffer]  # one is reduced while the other is checked and filled
    is_wrong: Callable[[], bool] = lambda: False  # of a device that is scripted so


def compute_reducing(products: Products, span: RunSpan, clock: Clock, counted: RunTally, reducing: Reducing) -> None:
    """Compute blocks with a reduction after each, until the core window closes or sums are wrong: runs B and C.

    Raises:
        ReductionError: a reduction failed or did not end in time.
        Exception: whatever a device raises in its products.
    """
    world, prepared = reducing.world, products.prepared
    number, contributed = 0, True
    reducing.buffers[0].fill(0, contributed, alarmed=False, is_wrong=reducing.is_wrong())
    while True:
        now, after = reducing.buffers[number % 2], reducing.buffers[(number + 1) % 2]
        begun_ns = clock.monotonic_ns()
        work = world.begin(now.tensor, reducing.group)
        prepared.launch(number * products.launches, products.launches)
        # Both beside the products: an accelerator computes while the host does this.
        if number:
            counted.checked(after.check(number - 1))
        is_alarmed = bool(counted.wrong_reductions)
        goes_on = begun_ns < span.closes_ns and not is_alarmed
        after.fill(number + 1, goes_on, is_alarmed, reducing.is_wrong())
        # In this order: a device whose reduction hangs would hold the host in its synchronization for ever.
        world.wait(work)
        prepared.synchronize()
        counted.block(begun_ns, clock.monotonic_ns(), 1)
        # The second: where sums are wrong, so may be the signals, and nothing goes on then without an end.
        if not now.all_go_on() or not contributed:
            counted.checked(now.check(number))
            return
        number, contributed = number + 1, goes_on


def sweep_size(buffer: Buffer, reducing: Reducing, clock: Clock, budget_ns: int, counted: list[int]) -> int:
    """Reduce one buffer again and again for a while, without products, and return how many sums were wrong.

    Args:
        buffer: of the size.
        reducing: who reduces.
        clock: this machine's clocks.
        budget_ns: how long, about.
        counted: takes the time of each reduction that counts, ns; the first ones warm up.

    Raises:
        ReductionError: a reduction failed or did not end in time.
    """
    wrong, number, spent_ns, goes_on = 0, 0, 0, True
    while goes_on:
        goes_on = spent_ns < budget_ns and number < MOST_REDUCTIONS
        buffer.fill(number, goes_on, alarmed=False, is_wrong=reducing.is_wrong())
        begun_ns = clock.monotonic_ns()
        reducing.world.wait(reducing.world.begin(buffer.tensor, reducing.group))
        elapsed_ns = clock.monotonic_ns() - begun_ns
        result = buffer.check(number)
        wrong += not result.is_exact
        goes_on = result.all_go_on
        spent_ns += elapsed_ns
        if number >= WARMING or not goes_on:
            counted.append(elapsed_ns)
        number += 1
    return wrong


WARMING = 2  # reductions of a size that are not counted
MOST_REDUCTIONS = 50
