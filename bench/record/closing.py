"""What closes the opening of a campaign: the ready list with its clocks, and the shapes that were settled. Pure.

The coordinator writes it once T0 is published, and the operator signs it in the statement. Every verifier compares the
nodes' clocks (R10) and shapes (R4) with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, NamedTuple

from msgspec import Meta

from bench.record.campaign import Campaign
from bench.record.fields import Document, Name, Positive, Precision, Sha256, Signed, UtcTime
from bench.record.node import DeviceModel, NodeClock
from bench.record.shapes import Product, SettledShape, product_of
from bench.units import MAX_INTEGER, utc_ns

MOST_ROUND_TRIP_NS = 2 * 10**9  # a slower folder hides no more of a clock's error than this
Size = tuple[int, int, int]  # m, n, k


class Exchange(NamedTuple):
    """One comparison of a node's clock with the coordinator's: three readings, ns from one common moment."""

    asked_ns: int  # the coordinator's clock when it asked
    answered_ns: int  # the node's clock when it answered
    seen_ns: int  # the coordinator's clock when it first saw the answer

    def off_ns(self, bound_ns: int, most_trip_ns: int = MOST_ROUND_TRIP_NS) -> int:
        """Return by how much the node's clock differs at least, ns: above 0 is ahead, below 0 behind, 0 may be right.

        Args:
            bound_ns: the sum of what both clocks may be off by.
            most_trip_ns: how much of the time from asking to seeing may have passed before the node answered.
        """
        trip_ns = min(self.seen_ns - self.asked_ns, most_trip_ns)
        if self.answered_ns < self.asked_ns - bound_ns:
            return self.answered_ns - (self.asked_ns - bound_ns)
        return max(0, self.answered_ns - (self.asked_ns + trip_ns + bound_ns))


def bound_ns(*clocks: NodeClock) -> int:
    """Return what clocks may be off by together, ns; an unknown bound adds nothing."""
    return sum(clock.uncertainty_ns or 0 for clock in clocks)


class ModelShape(Document, frozen=True, kw_only=True):
    """The fixed shape that every device of a model was to run in a campaign."""

    product: Product
    precision: Precision
    m: Positive
    n: Positive
    k: Positive
    devices: Positive  # that reported a choice
    chosen_by: Positive  # those of them that chose this shape


class Closing(Document, frozen=True, kw_only=True, dict=True):
    """A campaign's closing document. Columns belong together: the i-th of each is of node `node_id[i]`, ns from T0."""

    campaign_sha256: Sha256
    starts_at: UtcTime  # T0
    published_at: UtcTime  # when T0 was published
    clock: NodeClock  # the coordinator's, which all others are compared with
    node_id: Annotated[tuple[Name, ...], Meta(max_length=200_000)]  # ascending
    asked_ns: Annotated[tuple[Signed, ...], Meta(max_length=200_000)]
    answered_ns: Annotated[tuple[Signed, ...], Meta(max_length=200_000)]
    seen_ns: Annotated[tuple[Signed, ...], Meta(max_length=200_000)]
    shapes: tuple[ModelShape, ...]

    def __post_init__(self) -> None:
        if len({len(self.node_id), len(self.asked_ns), len(self.answered_ns), len(self.seen_ns)}) != 1:
            raise ValueError("the columns are not of one length")

    @cached_property
    def exchanges(self) -> dict[str, Exchange]:
        """The exchange of each node whose clock was compared."""
        rows = zip(self.asked_ns, self.answered_ns, self.seen_ns, strict=True)
        return {node_id: Exchange(*row) for node_id, row in zip(self.node_id, rows, strict=True)}

    @cached_property
    def _sizes(self) -> dict[tuple[Product, Precision], Size]:
        return {(one.product, one.precision): (one.m, one.n, one.k) for one in self.shapes}

    def size_of(self, model: DeviceModel, precision: Precision) -> Size | None:
        """Return the fixed shape that was settled for a model, as (m, n, k); None where none was."""
        return self._sizes.get((product_of(model), precision))

    def problem(self, campaign: Campaign, campaign_sha256: str, starts_at: str) -> str | None:
        """Return what is wrong with it as the closing document of a campaign that started at T0."""
        if campaign.self_issued:
            return "is of a campaign that a node issued for itself"
        if self.campaign_sha256 != campaign_sha256:
            return "is of another campaign"
        if self.starts_at != starts_at:
            return f"is of a start at {self.starts_at}, not {starts_at}"
        if self.published_at > starts_at:
            return f"says that the start was published at {self.published_at}, after it"
        if list(self.node_id) != sorted(set(self.node_id)):
            return "names a node twice, or not in ascending order"
        if unknown := set(self.node_id) - {node.node_id for node in campaign.nodes}:
            return f"names the node {min(unknown)}, which the campaign does not expect"
        if len(self._sizes) != len(self.shapes):
            return "settles two shapes for one model and precision"
        return None


def closing_of(
    campaign_sha256: str,
    starts_at: str,
    published_at: str,
    clock: NodeClock,
    exchanges: Mapping[str, Exchange],
    settled: Iterable[SettledShape],
) -> Closing:
    """Return the closing document of what a coordinator knows.

    Args:
        campaign_sha256: of the signed campaign.
        starts_at: T0.
        published_at: when T0 was published.
        clock: the coordinator's.
        exchanges: by node, UTC ns.
        settled: the shapes of the campaign.
    """
    t0_ns, nodes = utc_ns(starts_at), sorted(exchanges)

    def column(place: int) -> tuple[int, ...]:
        # A clock may say anything: what does not fit a document's integers differs by more than any bound all the same.
        readings = (exchanges[node][place] - t0_ns for node in nodes)
        return tuple(max(-MAX_INTEGER, min(ns, MAX_INTEGER)) for ns in readings)

    return Closing(
        campaign_sha256=campaign_sha256,
        starts_at=starts_at,
        published_at=published_at,
        clock=clock,
        node_id=tuple(nodes),
        asked_ns=column(0),
        answered_ns=column(1),
        seen_ns=column(2),
        shapes=tuple(
            ModelShape(
                product=one.product,
                precision=one.precision,
                m=one.shape.m,
                n=one.shape.n,
                k=one.shape.k,
                devices=one.devices,
                chosen_by=one.chosen_by,
            )
            for one in settled
        ),
    )
