"""Another process on the device that is measured: whether the harness refuses it, and the record tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from bench.errors import PetasealError
from bench.telemetry import read
from tests.perf.rig import Rig, Setup, profile_of
from tests.perf.tricks import Seen, seen_in

STARTS_WITHIN_S = 120


@contextmanager
def another_process(setup: Setup) -> Iterator[Callable[[], None]]:
    """Give a function that has another process compute on the device until the block ends.

    To be entered before this process opens the device, which changes the names that a child would know it by.
    """
    context = get_context("spawn")
    wanted, ready, ended = context.Event(), context.Event(), context.Event()
    process = context.Process(target=_compute, args=(setup, wanted, ready, ended), daemon=True)
    process.start()

    def begin() -> None:
        wanted.set()
        if not ready.wait(STARTS_WITHIN_S):
            raise RuntimeError("the other process did not start")

    try:
        yield begin
    finally:
        ended.set()
        wanted.set()
        process.join(STARTS_WITHIN_S)


def _compute(setup: Setup, wanted: Any, ready: Any, ended: Any) -> None:
    wanted.wait()
    if ended.is_set():
        return
    rig = Rig(setup, profile_of(setup))
    rig.prepare()
    while not ended.is_set():
        rig.prepared.launch(0, rig.ready.batch)
        rig.prepared.synchronize()
        ready.set()


def _uncounted(rig: Rig) -> str:
    """Return why other processes cannot be told on a device, or an empty text."""
    if rig.found.model.simulated:
        return "the device is simulated"
    reading = read(rig.opened.source())
    told = reading is not None and reading.processes is not None
    return "" if told else "the device does not tell which processes use it"


def foreign_before(setup: Setup) -> Seen:
    """Measure a device that somebody else uses, with a profile that refuses it."""
    with another_process(setup) as begin:
        if reason := _uncounted(Rig(setup, profile_of(setup))):
            return Seen(not_tried=reason)
        begin()
        try:
            Rig(setup, profile_of(setup, busy="refuse")).prepare()
        except PetasealError as error:
            return Seen(codes={error.code: "refused"}, said=f"{error.what};")
    return Seen(said="it was measured;")


def foreign_during(setup: Setup) -> Seen:
    """Let somebody else begin to use the device after the harness has looked."""
    with another_process(setup) as begin:
        rig = Rig(setup, profile_of(setup))
        if reason := _uncounted(rig):
            return Seen(not_tried=reason)
        rig.prepare()
        begin()
        return seen_in(rig.run())
