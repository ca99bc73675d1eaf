"""How the outcome of a verification travels to the service: in parts, each of which is soon read.

The outcome of 10,000 nodes is a million objects. Read as one pickle it would hold the interpreter for half a second, in
which no reader is answered; between two parts the other threads have their turn.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from certify.registry.base.verifying import VerificationJob, VerificationOutcome, run
from certify.statement.claim import DeviceIndex

ITEMS = 200  # of a part: some milliseconds
LISTS = ("nodes", "lines", "models")


def run_in_parts(job: VerificationJob) -> list[bytes]:
    """Return what `run` does, in parts."""
    return packed(run(job))


def packed(outcome: VerificationOutcome) -> list[bytes]:
    """Return an outcome as parts of bytes: first all that is small, then what each node adds."""
    index = outcome.device_index
    parts: list[object] = [replace(outcome, device_index=None, nodes=(), lines=(), models=())]
    parts += [(name, part) for name in LISTS for part in _sliced(getattr(outcome, name))]
    for name, value in {} if index is None else vars(index).items():
        kind = type(value)
        if kind is dict:
            parts += [(name, dict(part)) for part in _sliced(value.items())]
        elif kind is set:
            parts += [(name, set(part)) for part in _sliced(value)]
        else:
            parts.append((name, value))
    return [pickle.dumps(part, pickle.HIGHEST_PROTOCOL) for part in parts]


def unpacked(parts: Sequence[bytes]) -> VerificationOutcome:
    """Return the outcome whose parts these are."""
    outcome: VerificationOutcome = pickle.loads(parts[0])  # noqa: S301 - of a process of this service
    lists: dict[str, list[Any]] = {name: [] for name in LISTS}
    of_index: dict[str, Any] = {}
    for part in parts[1:]:
        name, value = pickle.loads(part)  # noqa: S301
        if name in lists:
            lists[name] += value
        elif isinstance(value, dict | set):
            of_index.setdefault(name, type(value)()).update(value)
        else:
            of_index[name] = value
    index = None
    if of_index:
        index = object.__new__(DeviceIndex)
        vars(index).update(of_index)
    whole: dict[str, Any] = {name: tuple(values) for name, values in lists.items()}
    return replace(outcome, device_index=index, **whole)


def _sliced(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the values by `ITEMS`; of none one empty part, so that what is empty is there too."""
    left = iter(values)
    yield list(islice(left, ITEMS))
    while part := list(islice(left, ITEMS)):
        yield part
