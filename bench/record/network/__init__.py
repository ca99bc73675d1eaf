"""The network's part of a campaign and of a node record: the runs A, B and C of docs/network.md, as facts.

After its counted windows a campaign may have further ones, in which all devices compute the same products as before: by
themselves (A), while each node reduces inside itself (B), and while all nodes reduce together (C). What the runs are
worth is judged in ``certify.judge.fabric``.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, Literal, NamedTuple, get_args

from msgspec import Meta

from bench.record.fields import Count, DeviceName, Document, Name, Positive, Precision, Sha256, Signed, Text

NetworkRunName = Literal["compute", "node", "fabric"]  # A, B and C
ITEM_BYTES = 4  # of FP32, in which the sums of small integers are exact
FLOP_PER_TOKEN = 3  # for each byte that is reduced, and each token: 2 bytes of gradient for 6 T FLOP (docs/network.md)
NETWORK_RUNS: tuple[NetworkRunName, ...] = get_args(NetworkRunName)


class NetworkPlan(Document, frozen=True, kw_only=True):
    """How a profile has the network measured. All times are ns."""

    # Tokens that a device and step work through: in data-parallel training with 16-bit gradients 6 T FLOP are computed
    # for each 2 bytes that are reduced. An assumption, fixed here and never tuned.
    tokens: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=4)]
    warmup_ns: Positive  # load before a run's core window
    window_ns: Positive
    block_ns: Positive  # how long the products between two reductions are to take, about
    join_ns: Positive  # how long ranks wait for each other before the first run
    reduction_ns: Positive  # within which a reduction ends: a rank that is not back by then is lost
    sweep_bytes: Annotated[tuple[Positive, ...], Meta(max_length=32)]  # all-reduces without products, by size


class NetworkWindow(Document, frozen=True, kw_only=True):
    """The common window of one run; ns after T0, after the last counted window."""

    run: NetworkRunName
    tokens: Positive | None  # null: run A reduces nothing
    load_ns: Count
    opens_ns: Positive
    closes_ns: Positive


class RankFigure(NamedTuple):
    """One device's row of a `NetworkMeasurement`. Offsets are UTC relative to the opening of the core window, ns."""

    device: str
    rank: int | None  # among those that reduce together in this run, in run A as in C; null where it never joined
    ranks: int  # of them
    launches: int  # whole products in the core window
    opened_ns: int | None  # start of the first of them
    elapsed_ns: int  # from there to the end of the last one, waits for reductions included
    reductions: int  # that ended in the window
    wrong_reductions: int  # whose values were not exactly what all ranks together give
    nonce: str | None  # drawn by the device's worker for this run
    reduced_sha256: str | None  # of the reduced vector of this run (`bench.record.network.vector`)
    trouble: str | None  # why the run gave nothing, or ended early; it names the ranks that were lost


_columns_of = attrgetter(*RankFigure._fields)


class NetworkMeasurement(Document, frozen=True, kw_only=True):
    """One run on the devices of a node. Columns as in `RankFigure`."""

    run: NetworkRunName
    tokens: Positive | None
    group: Name | None  # of the campaign's groups; null: all nodes are one
    backend: Name | None  # that reduces: nccl, hccl, cncl, gloo; null in run A
    kernel: Name
    precision: Precision
    m: Positive
    n: Positive
    k: Positive
    block_launches: Positive  # products between two reductions
    reduction_bytes: Count  # that a device contributes to each; 0 in run A
    device: Annotated[tuple[DeviceName, ...], Meta(min_length=1, max_length=1024)]
    rank: tuple[Count | None, ...]
    ranks: tuple[Positive, ...]
    launches: tuple[Count, ...]
    opened_ns: tuple[Signed | None, ...]
    elapsed_ns: tuple[Count, ...]
    reductions: tuple[Count, ...]
    wrong_reductions: tuple[Count, ...]
    nonce: tuple[Sha256 | None, ...]
    reduced_sha256: tuple[Sha256 | None, ...]
    trouble: tuple[Text | None, ...]

    def __post_init__(self) -> None:
        if len(set(map(len, _columns_of(self)))) != 1:
            raise ValueError("the columns of a network measurement differ in length")
        if (self.run == "compute") != (self.tokens is None):
            raise ValueError("only a run that reduces has tokens")

    def figures(self) -> Iterator[RankFigure]:
        """Return the measurement's rows, one for each device."""
        return map(RankFigure._make, zip(*_columns_of(self), strict=True))


class SweepPoint(Document, frozen=True, kw_only=True):
    """All-reduces of one size over a group, without products, as one of the node's devices saw them."""

    group: Name | None
    ranks: Positive
    size_bytes: Positive  # that a device contributes
    reductions: Positive
    elapsed_ns: Positive  # of all of them
    wrong_reductions: Count
