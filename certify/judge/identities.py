"""What a device must be to count in its pool: its identities, its kind, its place (`bench.record.identities`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.record import Device, DeviceModel, NodeRecord, digest, identifier
from bench.record.identities import DeviceKeys, unshared_identities
from bench.units import shortened_list
from certify.documents.kinds import Baseline
from certify.judge.case import KINDS, VENDORS, Codes, kind_of
from certify.judge.ceilings import MOST_CORES
from certify.policy.rating import Rating, plain

MOST_KEYS = 10  # that signed for several nodes, of which a line is printed
MAX_DEVICES = 64  # R12: 8 cards in 8 partitions each; no server holds more


class DriverIdentity(NamedTuple):
    """What a vendor's driver reports of every accelerator."""

    fields: tuple[str, ...]  # one of these must be there
    forms: Mapping[str, re.Pattern[str]]  # of a field where it is there, as `identifier` returns it: no leading zeros


# Only what a back end's samples or a vendor's manual show for certain; of other vendors any identity will do.
WANTED = {
    # GPU- or MIG- and 32 hex digits; drivers before 470: MIG-GPU-, 32 hex digits, and the numbers of the instances
    "nvidia": DriverIdentity(("uuid",), {"uuid": re.compile("[0-9a-f]{24,36}")}),
    # the unique id is a number of 64 bits
    "amd": DriverIdentity(("uuid", "serial"), {"uuid": re.compile("[0-9a-f]{1,16}")}),
    # a die id is words of 32 bits
    "huawei": DriverIdentity(("die_id", "uuid"), {"die_id": re.compile("[0-9a-f]+")}),
}


class SignedNodes:
    """Which nodes each key signed the records of: one that signed for several tells no machine from another."""

    def __init__(self, machines: Mapping[str, str] | None = None) -> None:
        self._nodes: dict[str, str | None] = dict(machines or {})  # None: several
        self.shared: dict[str, list[str]] = {}  # key id -> its nodes, where they are several

    def see(self, keyid: str, node_id: str) -> None:
        """Note whose record a key signed."""
        before = self._nodes.setdefault(keyid, node_id)
        if before != node_id:
            self._nodes[keyid] = None
            self.shared.setdefault(keyid, [] if before is None else [before]).append(node_id)

    @property
    def machines(self) -> dict[str, str]:
        """Key id -> node id, of the keys that identify a machine."""
        return {keyid: node_id for keyid, node_id in self._nodes.items() if node_id is not None}

    def lines(self) -> tuple[str, ...]:
        """Return a printed line for each key that signed for several nodes; of many, for the first."""
        shown = [
            f"key {keyid[:16]}… signed for {len(nodes)} nodes, so that it tells no machine:"
            f" {shortened_list(sorted(nodes))}"
            for keyid, nodes in sorted(self.shared.items())[:MOST_KEYS]
        ]
        if (rest := len(self.shared) - MOST_KEYS) > 0:
            shown.append(f"{rest} more keys signed for several nodes each")
        return tuple(f"{what} [node-key-shared]" for what in shown)


def identities_of(baseline: Baseline) -> frozenset[str]:
    """Return every identity in a baseline inventory."""
    stated = (value for device in baseline.devices for value in (device.uuid, device.serial, device.die_id))
    return frozenset(key for value in stated if (key := identifier(value)) is not None)


def devices_digest(devices: Iterable[DeviceKeys]) -> str:
    """Return the digest of a node's devices: of all that they are known by, sorted, without where they sit."""
    return digest(sorted({key for device in devices for key in device.known}))


def is_incomplete(identities: Mapping[str, str], model: DeviceModel) -> bool:
    """Return whether a real accelerator lacks the identity that its vendor's driver reports of each."""
    wanted = _wanted(model)
    return wanted is not None and identities.keys().isdisjoint(wanted.fields)


def has_other_form(identities: Mapping[str, str], model: DeviceModel) -> bool:
    """Return whether an identity of a real accelerator has a form that its vendor's driver never reports."""
    wanted = _wanted(model)
    return wanted is not None and any(
        name in identities and form.fullmatch(identities[name]) is None for name, form in wanted.forms.items()
    )


def _wanted(model: DeviceModel) -> DriverIdentity | None:
    return None if model.simulated or model.kind == "cpu" else WANTED.get(plain(model.vendor))


def identity_codes(device: Device, model: DeviceModel, shown: Mapping[str, str] | None = None) -> Codes:
    """docs/formats.md: without a stable identity of its own a device counts 0; an unverifiable one is a note.

    `shown` are the device's `unshared_identities`, where they are known.
    """
    identities = unshared_identities(device) if shown is None else shown
    if not identities:
        return ("no-identity",)
    codes: Codes = ("identity-incomplete",) if is_incomplete(identities, model) else ()
    codes += ("identity-form-differs",) if has_other_form(identities, model) else ()
    known = [model.obtained.get(name, "asserted") for name in identities]
    if "device_attested" in known:
        return (*codes, "attestation-unchecked")
    return codes if "host_attested" in known else (*codes, "identity-asserted")


def record_codes(record: NodeRecord) -> Codes:
    """What is wrong with all devices of a record: identities that are made up (R2, formats.md), or too many (R12)."""
    return (*(("identities-replaced",) if record.identities_replaced else ()), *r12_device_count(record))


def r12_device_count(record: NodeRecord) -> Codes:
    """R12: no node has more than 64 accelerators, partitions included, nor more than 64 CPUs or 2,048 cores of them."""
    cpus = [model.units or 1 for d in record.devices if (model := record.models[d.model]).kind == "cpu"]
    # One CPU alone is judged as 2,048 cores at most (L7); several together are no more.
    too_many = max(len(cpus), len(record.devices) - len(cpus)) > MAX_DEVICES or (
        len(cpus) > 1 and sum(cpus) > MOST_CORES
    )
    return ("too-many-devices",) if too_many else ()


def r12_kind(device: str, model: DeviceModel, rating: Rating | None) -> Codes:
    """R12: a device's name, kind and vendor belong together, so that no rule of another kind applies to it."""
    named = kind_of(device)
    if model.kind == "cpu":
        other = rating is not None and rating.kind != "cpu"
        differs = other or (named in VENDORS and not model.simulated)
    else:
        of_vendor = KINDS.get(plain(model.vendor))  # None: the vendor has no kind of its own, nor then the name
        differs = not model.simulated and (named == "cpu" or of_vendor != (named if named in VENDORS else None))
        differs |= rating is not None and rating.kind == "cpu"
    return ("kind-differs",) if differs else ()
