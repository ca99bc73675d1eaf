"""The centre file: what a centre declares about itself, and which of its devices count in which pool.

Everything in here is the operator's word, bound by digests of its evidence; nothing in here is a measurement. The whole
file stands in the signed statement, so that its types are those of a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bench.errors import InputError
from bench.record import DeviceName, Document, Name, PoolClass, Sha256, Text, as_config, read_config
from certify.policy.hostlists import MAX_NODES, expand

Declaration = Literal["project", "park", "facility", "managed"]
Date = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)", description="date, YYYY-MM-DD")]
Year = Annotated[int, Meta(ge=2000, le=2100)]
FileName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)", description="file name without a path")
]
Jurisdiction = Annotated[
    str,
    Meta(
        pattern=r"^[A-Z]{2}(-[0-9]{6}|-[A-Z0-9]{1,3})?$(?!\n)",
        description="ISO 3166-1 country; in China followed by the six digits of GB/T 2260, elsewhere by ISO 3166-2",
    ),
]
CLASSES: tuple[PoolClass, ...] = ("intelligent", "supercomputing", "general", "edge")
TIERS = ("node", "cluster_zone", "city_dc", "edge")
MOST_LISTED = 4 * MAX_NODES  # names of nodes in all pools of a file: a node may be in several
OWNERS = ("enterprise", "research", "public", "commercial")
LIFECYCLES = ("planned", "under_construction", "in_operation", "retired")

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_LENGTH = 18


# Beijing, Tianjin, Shanghai, Chongqing; Taiwan, Hong Kong, Macau: each is a city, or no level of cities is in it.
_CITY_PROVINCES = ("11", "12", "31", "50", "71", "81", "82")


def city_code(jurisdiction: str | None) -> str | None:
    """Return the city in which a Chinese jurisdiction lies, by its code of GB/T 2260; None where it names none."""
    country, _, code = (jurisdiction or "").partition("-")
    if country != "CN" or len(code) != 6:
        return None
    if code.startswith(_CITY_PROVINCES):
        return f"CN-{code[:2]}0000"
    if code.endswith("0000"):
        return None
    # 90: administered by the province itself, and in no city
    return f"CN-{code}" if code[2:4] == "90" else f"CN-{code[:4]}00"


class Bilingual(Document, frozen=True, kw_only=True):
    """A text in both languages."""

    zh: Text
    en: Text


class Evidenced(Document, frozen=True, kw_only=True):
    """A declared fact: its name and the digest of the paper that supports it."""

    name: Text
    evidence_sha256: Sha256


class Facility(Document, frozen=True, kw_only=True):
    """The one facility that is declared, and how its boundary is drawn: no text defines 单体."""

    id: Text
    definition: Text
    evidence_sha256: Sha256


class ExternalId(Document, frozen=True, kw_only=True):
    """An identifier that somebody else issued; never minted here."""

    scheme: Text
    value: Text | None
    issued_by: Text | None = None


class Pool(Document, frozen=True, kw_only=True):
    """A set of devices that count in one class, for as long as the statement is valid."""

    pool: Name
    pool_class: PoolClass = msgspec.field(name="class")
    nodes: Literal["all"] | tuple[Name, ...]
    devices: Literal["all"] | tuple[DeviceName, ...] = "all"
    partition: Text | None = None  # of the centre's engine: what tells pools of all nodes apart


class Centre(Document, frozen=True, kw_only=True, dict=True):
    """What a centre declares. Null means: not declared."""

    centre_id: Name
    name: Bilingual
    operator: Text
    uscc: Text | None  # null only where there is none: a demonstration, a centre abroad
    owner_type: Literal["enterprise", "research", "public", "commercial"]
    jurisdiction: Jurisdiction | None
    district: Text | None
    tier: Literal["node", "cluster_zone", "city_dc", "edge"]
    lifecycle: Literal["planned", "under_construction", "in_operation", "retired"]
    project_id: Text | None
    park: Evidenced | None
    facility: Facility | None
    domestic: bool | None = None  # withdrawn: the share is that of the devices' vendors, and nothing asks for this
    guide_year: Year | None
    baseline: FileName | None  # the signed inventory of the devices that were there before
    baseline_date: Date | None
    other_subsidies: tuple[Evidenced, ...]
    external_ids: tuple[ExternalId, ...] = ()
    evidence: dict[Name, Sha256] = msgspec.field(default_factory=dict)  # what the paper is about -> its digest
    pools: Annotated[tuple[Pool, ...], Meta(max_length=256)]

    @property
    def in_operation(self) -> bool:
        """Whether the centre's devices count at all: what is planned, being built or retired counts 0."""
        return self.lifecycle == "in_operation"

    @property
    def declarations(self) -> frozenset[Declaration]:
        """What the centre declares of that which policies ask for; `managed` is never a centre's to declare."""
        declared: dict[Declaration, object] = {
            "project": self.project_id,
            "park": self.park,
            "facility": self.facility,
        }
        return frozenset(name for name, value in declared.items() if value is not None)

    @cached_property
    def by_name(self) -> dict[str, Pool]:
        """The pools by their names."""
        return {pool.pool: pool for pool in self.pools}

    @cached_property
    def _by_node(self) -> dict[str | None, list[tuple[set[str] | None, Pool]]]:
        """The pools of each listed node, and under None those of all nodes, each with its devices (None: all)."""
        by_node: dict[str | None, list[tuple[set[str] | None, Pool]]] = {}
        for pool in self.pools:
            devices = _names(pool.devices)
            for node in (None,) if isinstance(pool.nodes, str) else pool.nodes:
                by_node.setdefault(node, []).append((devices, pool))
        return by_node

    @cached_property
    def meeting(self) -> Mapping[str, Set[str]]:
        """Of each pool those that would count one of its devices on a node that is in both, and itself."""
        everybody = frozenset(self.by_name)
        holders: dict[str, set[str]] = {}  # device -> the pools that list it
        for pool in self.pools:
            for device in _names(pool.devices) or ():
                holders.setdefault(device, set()).add(pool.pool)
        of_all = {pool.pool for pool in self.pools if pool.devices == "all"}
        return {
            pool.pool: everybody if pool.devices == "all" else of_all.union(*(holders[one] for one in pool.devices))
            for pool in self.pools
        }

    def pools_of(self, node_id: str) -> tuple[Pool, ...]:
        """Return the pools that may have devices on a node: those that list it, and those of all nodes."""
        return tuple(pool for node in (node_id, None) for _, pool in self._by_node.get(node, ()))

    def pools_for(self, node_id: str, device: str) -> tuple[Pool, ...]:
        """Return the pools that a device may count in, of a centre without a `centre_problem`.

        It is one at most, save where pools of all nodes differ by their partitions: then the campaign says which.
        """
        # a node that a pool lists is an exception to the pools of all nodes
        for node in (node_id, None):
            taking = [pool for devices, pool in self._by_node.get(node, ()) if devices is None or device in devices]
            if taking:
                return tuple(taking)
        return ()


def load_centre(name_or_file: str) -> Centre:
    """Return a centre by the name of an installed one or by its file.

    Raises:
        InputError: there is no such centre, or the file is not acceptable.
    """
    return read_centre(name_or_file)[0]


def read_centre(name_or_file: str) -> tuple[Centre, dict[str, str]]:
    """Return a centre, and the names of its nodes as the file spells them, by their ids, which are in lower case.

    Raises:
        InputError: there is no such centre, or the file is not acceptable.
    """
    with clearer(_CHOICES), _quoted_lists():
        written = read_config("centres", name_or_file, dict[str, Any])
        spelled: dict[str, str] = {}
        # before the types are checked: they know names of nodes, and no host lists
        if isinstance(pools := written.get("pools"), list):
            written = {**written, "pools": list(_all_expanded(pools, spelled, name_or_file))}
        centre = as_config(written, Centre, name_or_file)
    if (problem := centre_problem(centre)) is not None:
        raise InputError(*problem, where=name_or_file)
    return centre, spelled


def _all_expanded(pools: list[Any], spelled: dict[str, str], where: str) -> Iterator[Any]:
    """Yield the pools of a centre file (see `_expanded`); a short file cannot stand for names without end."""
    left = MOST_LISTED
    for pool in pools:
        yield (expanded := _expanded(pool, spelled, where, left))
        left -= len(expanded["nodes"]) if expanded is not pool else 0


def _expanded(pool: Any, spelled: dict[str, str], where: str, most: int) -> Any:
    """Return a pool of a centre file with the ids of its nodes in place of host lists and names in upper case."""
    nodes = pool.get("nodes") if isinstance(pool, dict) else None
    if isinstance(nodes, str) and "[" in nodes:
        nodes = [nodes]
    if not isinstance(nodes, list) or not all(isinstance(text, str) for text in nodes):
        return pool  # all nodes, or what the type refuses
    ids = []
    for name in expand(nodes, where, most):
        # host names know no case (RFC 4343), and ids are compared as texts
        ids.append(name.lower())
        if (other := spelled.setdefault(ids[-1], name)) != name:
            what = f"the nodes {other} and {name} differ in case only"
            raise InputError("device-in-two-pools", what, where=where, fix="write the name of each node in one way")
    return {**pool, "nodes": ids}


@contextmanager
def _quoted_lists() -> Iterator[None]:
    """While a centre file is read: where YAML breaks at a host list, say how to write one."""
    try:
        yield
    except InputError as error:
        if error.code != "yaml-invalid" or "',' or ']'" not in error.what:
            raise
        fix = 'put host lists in quotes: nodes: ["gpu[001-016,020]", login1]'
        raise InputError(error.code, error.what, where=error.where, fix=fix) from None


def centre_problem(centre: Centre) -> tuple[str, str] | None:
    """Return the reason code and sentence of the first thing that the types cannot exclude, or None."""
    if centre.uscc is not None and (what := uscc_problem(centre.uscc)) is not None:
        return "uscc-invalid", f"the unified social credit code {centre.uscc!r} {what}"
    if (centre.baseline is None) != (centre.baseline_date is None):
        return "baseline-incomplete", "baseline and baseline_date are given together or not at all"
    if centre.baseline_date is not None and not is_date(centre.baseline_date):
        return "date-invalid", f"baseline_date {centre.baseline_date} is not a day of the calendar"
    return _pools_problem(centre.pools)


def _pools_problem(pools: tuple[Pool, ...]) -> tuple[str, str] | None:
    if not pools:
        return "no-pools", "the centre has no pool"
    seen: list[tuple[Pool, set[str] | None, set[str] | None]] = []
    for pool in pools:
        if not pool.nodes:
            return "pool-without-nodes", f"the pool {pool.pool} has no node"
        if not pool.devices:
            return "pool-without-devices", f"the pool {pool.pool} has no device"
        nodes, devices = _names(pool.nodes), _names(pool.devices)
        for names, listed in ((nodes, pool.nodes), (devices, pool.devices)):
            if names is not None and len(names) != len(listed):
                return "device-in-two-pools", f"the pool {pool.pool} names a node or device twice"
        for other, other_nodes, other_devices in seen:
            if other.pool == pool.pool:
                return "duplicate-pool", f"there are two pools named {pool.pool}"
            if _meet(nodes, other_nodes) and _meet(devices, other_devices) and not _apart(pool, other):
                mend = "list their nodes, or give each the partition of its own: partition: NAME"
                return "device-in-two-pools", f"the pools {other.pool} and {pool.pool} share devices; {mend}"
        seen.append((pool, nodes, devices))
    return None


def _apart(pool: Pool, other: Pool) -> bool:
    """Return whether two pools have different partitions; where both list their nodes, the lists divide them."""
    both_list = pool.nodes != "all" and other.nodes != "all"
    return None not in (pool.partition, other.partition) and pool.partition != other.partition and not both_list


def devices_meet(pool: Pool, other: Pool) -> bool:
    """Return whether two pools would count one device of a node that is in both."""
    return _meet(_names(pool.devices), _names(other.devices))


def _names(listed: str | tuple[str, ...]) -> set[str] | None:
    """Return a set of names; None is the set of all names."""
    return None if isinstance(listed, str) else set(listed)


def _meet(a: set[str] | None, b: set[str] | None) -> bool:
    """Return whether two sets of names have one in common."""
    return a is None or b is None or not a.isdisjoint(b)


def uscc_problem(code: str) -> str | None:
    """Return what is wrong with a unified social credit code (GB 32100-2015, its check digit included), or None."""
    if len(code) != _USCC_LENGTH or any(letter not in _USCC_ALPHABET for letter in code):
        return f"is not {_USCC_LENGTH} digits and capital letters (without I, O, S, V, Z)"
    # weights are the powers of 3 modulo 31
    total = sum(_USCC_ALPHABET.index(letter) * pow(3, i, 31) for i, letter in enumerate(code[:-1]))
    return None if code[-1] == _USCC_ALPHABET[-total % 31] else "has a wrong check digit"


def is_date(text: str) -> bool:
    """Return whether a text of the form YYYY-MM-DD is a day of the calendar."""
    try:
        # the type's pattern has fixed the form: this alone would take others of ISO 8601
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@contextmanager
def clearer(choices: Mapping[str, tuple[str, tuple[str, ...]]]) -> Iterator[None]:
    """While a file is read: where a field names something unknown, say what it may be.

    Args:
        choices: field -> reason code and what it may be.
    """
    try:
        yield
    except InputError as error:
        field = re.search(r"`\$(?:[^`]*\.)?(\w+)(?:\[[^`]*)?`", error.what)
        value = re.search(r"^Invalid (?:enum )?value '([^']*)'", error.what)
        if field is None or value is None or field[1] not in choices:
            raise
        code, known = choices[field[1]]
        what = f"{field[1]} {value[1]!r} is not known"
        raise InputError(code, what, where=error.where, fix=f"use one of {', '.join(known)}") from None


_CHOICES = {
    "class": ("unknown-class", CLASSES),
    "tier": ("unknown-tier", TIERS),
    "owner_type": ("unknown-owner-type", OWNERS),
    "lifecycle": ("unknown-lifecycle", LIFECYCLES),
}
