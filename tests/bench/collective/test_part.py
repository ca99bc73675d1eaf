"""One device's part without others: what keeps it from reducing is a text, and its products are computed anyway."""

from __future__ import annotations

import sys
import time

import pytest

from bench.clock import SystemClock
from bench.collective import orders
from bench.collective.part import DeviceOperands, NetworkPart
from bench.record import Workload
from bench.record.network import NetworkWindow
from bench.units import utc_text
from tests.bench.collective.ranks import BLOCK_NS, LAUNCH_NS, MS, Player, TimedProducts, device_of

ALONE = NetworkWindow(run="compute", tokens=None, load_ns=1, opens_ns=50 * MS, closes_ns=250 * MS)
TOGETHER = NetworkWindow(run="fabric", tokens=4096, load_ns=1, opens_ns=50 * MS, closes_ns=250 * MS)


def part_of_one(products: TimedProducts, starts_ns: int) -> NetworkPart:
    order = orders.OpenNetwork(
        workload=Workload("fp16"),
        node=0,
        place=0,
        node_id="node-0",
        device=device_of(Player(0, 0)),
        campaign_sha256="c1",
        starts_at=utc_text(starts_ns),
        block_ns=BLOCK_NS,
        interface="lo",
    )
    operands = DeviceOperands(products, LAUNCH_NS, "fake", "fp16", lambda: False)  # type: ignore[arg-type]
    return NetworkPart(order, operands, SystemClock())


def nowhere(starts_ns: int) -> orders.JoinGroup:
    """Return an order to join at a store that is not there."""
    there = orders.Rendezvous("c1", utc_text(starts_ns), None, "node-1", "fake:0", "127.0.0.1", 9, "token")
    return orders.JoinGroup(there, orders.Timing(starts_ns, 100 * MS, 100 * MS), False)


def test_a_node_without_torch_says_so_and_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    starts_ns = time.time_ns() // MS * MS
    part = part_of_one(TimedProducts(None), starts_ns)
    opened = part.open()
    assert "torch is not installed" in (opened.trouble or "")
    joined = part.answer(nowhere(starts_ns))
    assert isinstance(joined, orders.GroupJoined)
    assert (joined.rank, joined.trouble) == (None, opened.trouble)
    alone, together = (part.answer(orders.MeasureRun(window, starts_ns)) for window in (ALONE, TOGETHER))
    assert isinstance(alone, orders.RunMeasured)
    assert isinstance(together, orders.RunMeasured)
    assert (alone.figure.trouble, alone.figure.rank, alone.figure.ranks) == (None, None, 1)
    assert alone.figure.launches > 0
    assert (together.figure.trouble, together.figure.launches) == (opened.trouble, 0)
    sweep = part.answer(orders.MeasureSweep((4096,)))
    assert sweep == orders.SweepMeasured((), opened.trouble)


def test_a_store_that_is_not_there_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("bench.collective.meeting.CONNECT_NS", 100 * MS)
    starts_ns = time.time_ns() // MS * MS
    joined = part_of_one(TimedProducts(None), starts_ns).join(nowhere(starts_ns))
    assert joined.rank is None
    assert (joined.trouble or "").startswith("could not join the others: ")
    assert len(joined.trouble or "") <= 250


def test_a_device_that_fails_alone_says_why() -> None:
    products = TimedProducts("error")
    products.misbehaves = True
    starts_ns = time.time_ns() // MS * MS
    figure = part_of_one(products, starts_ns).run(orders.MeasureRun(ALONE, starts_ns)).figure
    assert figure.trouble == "RuntimeError: an illegal memory access"
