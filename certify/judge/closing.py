"""A record against its campaign's closing document: its node's clock (R10) and the shapes of its figures (R4). Pure."""

from __future__ import annotations

from bench.record import DeviceModel, Measurement, NodeRecord
from bench.record.closing import Closing, bound_ns
from certify.judge.case import SECOND_NS, Codes


def r10_clocks_compared(record: NodeRecord, closing: Closing | None) -> Codes:
    """R10: the node's clock was compared with the coordinator's, and differs by no more than both bounds and the trip.

    The bound is the one that the node signed: what it told before the start binds nobody. A coordinator whose own clock
    may be off by more than a second, as no node's may be without a word, tells nothing of others'.
    """
    exchange = None if closing is None else closing.exchanges.get(record.node_id)
    if closing is None or exchange is None:
        return ("clock-not-compared",)
    if exchange.off_ns(bound_ns(record.clock, closing.clock)):
        return ("clock-differs",)
    return ("clock-not-compared",) if bound_ns(closing.clock) > SECOND_NS else ()


def r4_shape_settled(measurement: Measurement, model: DeviceModel, closing: Closing | None) -> Codes:
    """R4: a figure of the fixed choice has the shape that was settled for its model, where one was."""
    m = measurement
    size = None if closing is None or m.choice != "fixed" else closing.size_of(model, m.precision)
    return ("shape-differs",) if size not in (None, (m.m, m.n, m.k)) else ()
