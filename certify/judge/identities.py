"""What a device's identities must be, and those of a baseline; `bench.record.identities` says how they are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.record import DeviceModel, digest, identifier
from bench.record.identities import DeviceKeys
from certify.documents.kinds import Baseline
from certify.policy.ratings import plain


class Wanted(NamedTuple):
    """What a vendor's driver reports of every accelerator."""

    fields: tuple[str, ...]  # one of these must be there
    forms: Mapping[str, re.Pattern[str]]  # of a field where it is there, as `identifier` returns it: no leading zeros


# Only what a back end's samples or a vendor's manual show for certain; of other vendors any identity will do.
WANTED = {
    # GPU- or MIG- and 32 hex digits; drivers before 470: MIG-GPU-, 32 hex digits, and the numbers of the instances
    "nvidia": Wanted(("uuid",), {"uuid": re.compile("[0-9a-f]{24,36}")}),
    # the unique id is a number of 64 bits
    "amd": Wanted(("uuid", "serial"), {"uuid": re.compile("[0-9a-f]{1,16}")}),
    # a die id is words of 32 bits
    "huawei": Wanted(("die_id", "uuid"), {"die_id": re.compile("[0-9a-f]+")}),
}


def identities_of(baseline: Baseline) -> frozenset[str]:
    """Return every identity in a baseline inventory."""
    told = (value for device in baseline.devices for value in (device.uuid, device.serial, device.die_id))
    return frozenset(key for value in told if (key := identifier(value)) is not None)


def devices_digest(devices: Iterable[DeviceKeys]) -> str:
    """Return the digest of a node's devices: of all that they are known by, sorted, without where they sit."""
    return digest(sorted({key for device in devices for key in device.known}))


def is_incomplete(own: Mapping[str, str], model: DeviceModel) -> bool:
    """Return whether a real accelerator lacks the identity that its vendor's driver reports of each."""
    wanted = _wanted(model)
    return wanted is not None and own.keys().isdisjoint(wanted.fields)


def has_other_form(own: Mapping[str, str], model: DeviceModel) -> bool:
    """Return whether an identity of a real accelerator has a form that its vendor's driver never reports."""
    wanted = _wanted(model)
    return wanted is not None and any(
        name in own and form.fullmatch(own[name]) is None for name, form in wanted.forms.items()
    )


def _wanted(model: DeviceModel) -> Wanted | None:
    return None if model.simulated or model.kind == "cpu" else WANTED.get(plain(model.vendor))
