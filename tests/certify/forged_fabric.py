"""Forgeries of run C by name: how the records of a centre are changed, and the code of what they show then.

`judge.test_fabric` has them judged; in `verify.test_fabric` an operator claims `connected` over them, and step 20
refuses it by the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from bench.record import NodeRecord
from bench.record.network import NetworkMeasurement
from tests.certify.networked import TOKENS, changed_row, changed_run

Records = list[NodeRecord]
Forgery = tuple[Callable[[Records], Records], str]
OTHER = "ab" * 32


def runs(run: str, row: int = 0, tokens: int | None = None, nodes: slice = slice(None), **changes: Any) -> Any:
    """Return a forgery of one row in the runs of some nodes."""

    def change(records: Records) -> Records:
        chosen = {record.node_id for record in records[nodes]}
        return [
            changed_run(record, run, lambda m: changed_row(m, row, **changes), tokens)
            if record.node_id in chosen
            else record
            for record in records
        ]

    return change


def whole(run: str, change: Callable[[NodeRecord, NetworkMeasurement], NetworkMeasurement]) -> Any:
    """Return a forgery of a run's measurements on all nodes."""
    return lambda records: [changed_run(one, run, lambda m, one=one: change(one, m)) for one in records]  # type: ignore[misc]


def columns(m: NetworkMeasurement, **values: Any) -> NetworkMeasurement:
    """Return a measurement with one value in all of its rows."""
    return replace(m, **{name: (value,) * len(m.device) for name, value in values.items()})


def run_of(record: NodeRecord, run: str, tokens: int | None) -> NetworkMeasurement:
    (found,) = (m for m in record.network if (m.run, m.tokens) == (run, tokens))
    return found


def copied(*names: str, of: str = "fabric") -> Any:
    """Return a forgery that takes columns of the last run C from the run before it."""

    def change(record: NodeRecord, m: NetworkMeasurement) -> NetworkMeasurement:
        source = run_of(record, of, TOKENS[0])
        return replace(m, **{name: getattr(source, name) for name in names}) if m.tokens == TOKENS[1] else m

    return whole("fabric", change)


def only_last(forgery: Any) -> Any:
    """Return a forgery of records whose first run C failed, so that the last one is all there is."""
    failed = whole("fabric", lambda _, m: columns(m, trouble="lost") if m.tokens == TOKENS[0] else m)
    return lambda records: failed(forgery(records))


def without_device(records: Records) -> Records:
    """A device's row is left out of run C."""

    def cut(m: NetworkMeasurement) -> NetworkMeasurement:
        names = [name for name in m.__struct_fields__ if isinstance(getattr(m, name), tuple)]
        return replace(m, **{name: getattr(m, name)[:-1] for name in names})

    return [changed_run(records[0], "fabric", cut), *records[1:]]


def twice(**changes: Any) -> Any:
    """Return a forgery in which the first row of the first node stands a second time, changed."""

    def double(m: NetworkMeasurement) -> NetworkMeasurement:
        names = [name for name in m.__struct_fields__ if isinstance(getattr(m, name), tuple)]
        longer = replace(m, **{name: (*getattr(m, name), getattr(m, name)[0]) for name in names})
        return changed_row(longer, -1, **changes)

    return lambda records: [changed_run(records[0], "fabric", double), *records[1:]]


def other_identity(records: Records) -> Records:
    """A device of another centre is listed in place of the one that reduced."""
    first, *rest = records[0].devices
    return [replace(records[0], devices=(replace(first, serial="990000000001"), *rest)), *records[1:]]


def one_more(records: Records) -> Records:
    """All rows say that one more rank took part, and every node of the campaign has its record."""
    return [changed_run(one, "fabric", lambda m: replace(m, ranks=tuple(n + 1 for n in m.ranks))) for one in records]


FORGERIES: dict[str, Forgery] = {
    "a forged reduced vector": (
        only_last(runs("fabric", reduced_sha256=OTHER, tokens=TOKENS[1])),
        "fabric-vector-differs",
    ),
    "one forged reduced vector for all": (
        whole("fabric", lambda _, m: columns(m, reduced_sha256=OTHER if m.tokens == TOKENS[0] else "cd" * 32)),
        "fabric-vector-differs",
    ),
    "a rank is missing": (without_device, "fabric-rank-missing"),
    "a device of another centre in place of its own": (other_identity, "fabric-vector-differs"),
    "a device of another centre reduced with them": (one_more, "fabric-device-foreign"),
    "a row of a device that is not in the record": (runs("fabric", device="fake:99"), "fabric-device-foreign"),
    "one device twice": (twice(), "fabric-device-twice"),
    "one device twice, with two ranks": (twice(rank=8, nonce=OTHER), "fabric-device-twice"),
    "two devices of one rank": (runs("fabric", row=1, nodes=slice(1), rank=0), "fabric-device-twice"),
    "a vector of an earlier window": (only_last(copied("reduced_sha256")), "fabric-vector-copied"),
    "a vector and its nonces of an earlier window": (
        only_last(copied("reduced_sha256", "nonce")),
        "fabric-vector-copied",
    ),
    "nonces of run B": (only_last(copied("nonce", of="node")), "fabric-vector-copied"),
    "a vector of run B": (only_last(copied("reduced_sha256", of="node")), "fabric-vector-copied"),
    "another nonce": (only_last(runs("fabric", nonce=OTHER, tokens=TOKENS[1])), "fabric-vector-differs"),
    "wrong sums": (runs("fabric", row=1, wrong_reductions=1), "fabric-sums-wrong"),
    "no reduction": (runs("fabric", reductions=0), "fabric-sums-wrong"),
    "another number of ranks on one node": (runs("fabric", ranks=9), "fabric-vector-differs"),
    "ranks from 1": (
        whole("fabric", lambda _, m: replace(m, rank=tuple((r or 0) + 1 for r in m.rank))),
        "fabric-vector-differs",
    ),
    "opened before the window": (runs("fabric", opened_ns=-1), "fabric-outside-window"),
    "ended after the window": (runs("fabric", opened_ns=2_500_000_000), "fabric-outside-window"),
    "a run for a T that the campaign has not": (
        whole("fabric", lambda _, m: replace(m, tokens=(m.tokens or 0) + 1)),
        "fabric-outside-window",
    ),
    "no library that reduces": (whole("fabric", lambda _, m: replace(m, backend=None)), "fabric-backend-missing"),
    "a group that the campaign does not name": (
        whole("fabric", lambda _, m: replace(m, group="pod-9")),
        "fabric-group-differs",
    ),
    "a run that failed": (runs("fabric", trouble="rank 3, gpu-00001 fake:1, was lost"), "fabric-run-failed"),
    "a node without runs": (lambda records: [replace(records[0], network=()), *records[1:]], "fabric-rank-missing"),
}
