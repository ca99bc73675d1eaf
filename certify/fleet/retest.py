"""Whether a statement still describes its machines: each node as it was measured against its state of today.

`changes` is a pure function of two states of a node. What a change does is in the table of reason codes: ``refuse`` is
a trigger, after which the statement must be measured anew; ``note`` is for the reader (docs/lifecycle.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.errors import InputError, one_line
from bench.record import Device, DeviceModel, NodeRecord, identifier
from bench.record.identities import device_keys, identities
from certify.documents.listing import decode_listing
from certify.fleet.spot_check_run import same_device
from certify.policy.reasons import effect_of

# A fact of the model -> the code of its change.
FACTS = {
    "driver": "driver-changed",
    "firmware": "firmware-changed",
    "library_sha256": "library-changed",
    "memory_bytes": "memory-changed",
    "count_unit": "partition-changed",
}
MEMORY_PART = 50  # drivers and kernels reserve more or less: a change of less than 1/50 is none of the memory's
MISSING_NAMED = 20  # nodes without a file that people are told by name


class RetestDevice(NamedTuple):
    """A device of a node and its model."""

    device: Device
    model: DeviceModel
    trouble: str | None = None  # why it cannot be used, where it is there and cannot

    @property
    def keys(self) -> Mapping[str, str]:
        """Its identities by field; its name, where it reports none: a name says the slot and not the device."""
        return identities(self.device) or {"device": self.device.device}

    @property
    def family(self) -> set[str]:
        """The identities of the device and of the card that it is a part of."""
        return {*self.keys.values(), *device_keys(self.device).wholes}

    @property
    def text(self) -> str:
        """The model and an identity of the device."""
        known = self.device.uuid or self.device.serial or self.device.die_id or self.device.device
        return f"{self.model.model} {known}"


class NodeState(NamedTuple):
    """A node at some time: from its record, or from what ``petaseal devices`` prints on it."""

    node_id: str
    parts: tuple[RetestDevice, ...]
    kernel: str | None = None
    ended_at: str | None = None  # of the record; what is printed bears no time


class Change(NamedTuple):
    """A difference between a node as it was measured and as it is."""

    code: str
    node_id: str
    device: str
    before: str
    after: str

    @property
    def is_trigger(self) -> bool:
        """Whether the statement must be measured anew for it."""
        return effect_of(self.code) == "refuse"


@dataclass(frozen=True)
class Retest:
    """The result of comparing a statement's nodes with their state of today."""

    compared: int
    changes: tuple[Change, ...]
    missing: tuple[str, ...]  # nodes of the statement of which nothing is known today
    not_checked: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        """Whether a change demands that the statement is measured anew."""
        return any(change.is_trigger for change in self.changes)

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "retest_needed": self.needed,
            "nodes_compared": self.compared,
            "nodes_not_checked": list(self.missing),
            "triggers": [change._asdict() for change in self.changes if change.is_trigger],
            "notes": [change._asdict() for change in self.changes if not change.is_trigger],
            "not_checked": list(self.not_checked),
        }

    def lines(self) -> list[str]:
        """Return the result as printed lines."""
        triggers = [change for change in self.changes if change.is_trigger]
        notes = [change for change in self.changes if not change.is_trigger]
        text = [f"STILL AS MEASURED: {self.compared} node(s) compared"]
        if triggers:
            counts = ", ".join(f"{count} {code}" for code, count in sorted(Counter(c.code for c in triggers).items()))
            nodes = len({change.node_id for change in triggers})
            text = [f"MUST BE TESTED ANEW: {nodes} of {self.compared} node(s) compared have changed ({counts})"]
        text += [_line(change) for change in triggers] + [f"NOTE: {_line(change).strip()}" for change in notes]
        text += [f"NOT CHECKED: node {node_id}: nothing of today was given" for node_id in self.missing[:MISSING_NAMED]]
        if (more := len(self.missing) - MISSING_NAMED) > 0:
            text.append(f"NOT CHECKED: {more} further node(s), which --json names")
        return text + [f"NOT CHECKED: {one_line(what)}" for what in self.not_checked]


def _line(change: Change) -> str:
    what = f"{change.node_id} {change.device}: {change.before} -> {change.after}"
    return f"  {change.code:<17} {one_line(what)}"


Counted = Callable[[str, str], bool]  # whether a device of a node (its id, its name) is the statement's


def changes(before: NodeState, now: NodeState, counted: Counted = lambda node_id, device: True) -> Iterator[Change]:
    """Yield every difference between a node as it was measured and as it is, in the order of its devices.

    Args:
        before: from the node's record.
        now: today.
        counted: which devices are the statement's; the others may change as they like.
    """
    node_id = before.node_id
    there, strangers = _matched(before.parts, now.parts)
    for part, current in zip(before.parts, there, strict=True):
        name = part.device.device
        if not counted(node_id, name):
            continue
        if current is not None:
            yield from _facts(node_id, part, current)
        # From the surest sign to the weakest: an identity, the card that was cut anew, the slot.
        elif replacement := strangers.contradicting(part):
            known, today = (
                " ".join(f"{field}:{key}" for field, key in one.keys.items()) for one in (part, replacement)
            )
            yield Change("device-replaced", node_id, name, known, today)
        elif related := strangers.related(part):
            yield Change("partition-changed", node_id, name, _unit([part]), _unit(related))
        elif replacement := strangers.in_place_of(part):
            yield Change("device-replaced", node_id, name, part.text, replacement.text)
        else:
            yield Change("device-gone", node_id, name, part.text, "not there")
    kinds = {part.model.kind for part in before.parts}
    for one in strangers.left():
        # without accelerators a node shows its CPU: that is no new device of a node of accelerators
        if not (one.model.kind == "cpu" and "cpu" not in kinds) and counted(node_id, one.device.device):
            yield Change("device-new", node_id, one.device.device, "not in the record", one.text)
    if before.kernel is not None and now.kernel is not None and before.kernel != now.kernel:
        yield Change("kernel-changed", node_id, "-", before.kernel, now.kernel)


def _matched(
    before: Sequence[RetestDevice], now: Sequence[RetestDevice]
) -> tuple[list[RetestDevice | None], _Strangers]:
    """Return for each device of the record the same device of today, None where it is gone, and the devices left over.

    Two are the same where they share an identity and none contradicts. A serial number under the uuid of another card
    shows neither of the two.
    """
    by_key: dict[str, list[int]] = {}
    for index, part in enumerate(now):
        for key in part.keys.values():
            by_key.setdefault(key, []).append(index)
    taken: set[int] = set()
    current: list[RetestDevice | None] = []
    for part in before:
        fits = (i for key in part.keys.values() for i in by_key.get(key, ()))
        index = next((i for i in fits if i not in taken and same_device(part.keys, now[i].keys)), -1)
        taken.add(index)
        current.append(None if index < 0 else now[index])
    return current, _Strangers(part for index, part in enumerate(now) if index not in taken)


class _Strangers:
    """The devices of today that the record does not have; each is taken once, as the replacement of a device."""

    def __init__(self, parts: Iterable[RetestDevice]) -> None:
        self._all = list(parts)
        self._taken: set[int] = set()  # by place in the list: two may bear one name
        self._cut: set[int] = set()  # reported as parts of a card; each device that was cut from it may report them too
        self._keys: dict[str, list[int]] = {}
        self._families: dict[str, list[int]] = {}
        self._places: dict[str, list[int]] = {}
        for index, part in enumerate(self._all):
            for key in part.keys.values():
                self._keys.setdefault(key, []).append(index)
            for key in part.family:
                self._families.setdefault(key, []).append(index)
            self._places.setdefault(_place(part), []).append(index)

    def contradicting(self, part: RetestDevice) -> RetestDevice | None:
        """Return and take the device that shares an identity with a device of the record and contradicts another."""
        sharing = (index for key in part.keys.values() for index in self._keys.get(key, ()))
        unit = part.model.count_unit  # of another unit it is the same card, cut or made whole
        return self._take(index for index in sharing if self._all[index].model.count_unit == unit)

    def related(self, part: RetestDevice) -> list[RetestDevice]:
        """Return and take the parts of the card that a device was, or was a part of."""
        parts_of_whole = {index for key in part.family for index in self._families.get(key, ())} - self._taken
        self._cut |= parts_of_whole
        return [self._all[index] for index in sorted(parts_of_whole)]

    def in_place_of(self, part: RetestDevice) -> RetestDevice | None:
        """Return and take the device that sits where another sat."""
        return self._take(self._places.get(_place(part), ()))

    def left(self) -> list[RetestDevice]:
        """Return the devices that replaced none."""
        gone = self._taken | self._cut
        return [part for index, part in enumerate(self._all) if index not in gone]

    def _take(self, indices: Iterable[int]) -> RetestDevice | None:
        index = next((index for index in indices if index not in self._taken and index not in self._cut), None)
        if index is None:
            return None
        self._taken.add(index)
        return self._all[index]


def _place(part: RetestDevice) -> str:
    """Return where a device sits: its PCI address, or its name where none is known."""
    return identifier(part.device.pci_address) or part.device.device


def _facts(node_id: str, part: RetestDevice, there: RetestDevice) -> Iterator[Change]:
    name = part.device.device
    if there.trouble is not None:
        yield Change("device-gone", node_id, name, part.text, f"there, and cannot be used: {there.trouble}")
    for field, code in FACTS.items():
        was, now = getattr(part.model, field), getattr(there.model, field)
        if was is None or was == now or (code == "memory-changed" and now is not None and _alike(was, now)):
            continue
        if now is None:
            yield Change("fact-unreadable", node_id, name, f"{field} {was}", "not told")
        else:
            yield Change(code, node_id, name, str(was), str(now))


def _alike(was: int, now: int) -> bool:
    return abs(was - now) * MEMORY_PART < was


def _unit(parts: Iterable[RetestDevice]) -> str:
    counts = Counter(part.model.count_unit for part in parts)
    return ", ".join(f"{count} {unit}" for unit, count in sorted(counts.items()))


def retest(
    before: Iterable[NodeState], today: Mapping[str, NodeState], counted: Counted = lambda node_id, device: True
) -> Retest:
    """Return what has changed on a statement's nodes.

    Args:
        before: the nodes as they were measured.
        today: the nodes as they are, by node id.
        counted: which devices are the statement's (see `changes`).

    Raises:
        InputError: `node-unknown`, nothing of today is of any of these nodes; `previous-not-earlier`, a record of today
            is not newer.
    """
    changed: list[Change] = []
    missing: list[str] = []
    seen: set[str] = set()
    for state in before:
        now = today.get(state.node_id)
        if now is None:
            missing.append(state.node_id)
            continue
        if state.ended_at is not None and now.ended_at is not None and now.ended_at <= state.ended_at:
            raise InputError("previous-not-earlier", "its record of today is not newer", where=state.node_id)
        seen.add(state.node_id)
        changed += changes(state, now, counted)
    if not seen:
        fix = "save what petaseal devices --json prints on each node as NODE.json, NODE being its name in the records"
        raise InputError("node-unknown", "nothing of today is of a node of these records", where="--devices", fix=fix)
    strange = sorted(today.keys() - seen)
    not_checked = (f"node {node_id}: it has no record here" for node_id in strange)
    return Retest(len(seen), tuple(changed), tuple(sorted(missing)), tuple(not_checked))


def parse_listing(node_id: str, content: bytes, where: object = None) -> NodeState:
    """Return a node's state from what ``petaseal devices --json`` printed on it.

    Raises:
        InputError: `devices-file-invalid`.
    """
    listing = decode_listing(content, where)
    usable = [RetestDevice(one.identity, one.model) for one in listing.devices]
    broken = [
        RetestDevice(one.identity, one.model, problem.code) for problem in listing.problems for one in problem.devices
    ]
    return NodeState(node_id, (*usable, *broken))


def state_of(record: NodeRecord) -> NodeState:
    """Return a node's state from its record."""
    parts = tuple(RetestDevice(device, record.models[device.model]) for device in record.devices)
    return NodeState(record.node_id, parts, record.environment.kernel, record.ended_at)
