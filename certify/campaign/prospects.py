"""What the devices of a campaign's pools can expect under its policies, before anything is measured.

What is known of devices comes from the nodes (``campaign check``), or from files of ``petaseal devices --json``
(``campaign create``). Only the reading of such files and of a campaign's folder is I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError
from bench.record import GRADES, Campaign, Device, DeviceModel, Profile, SharedFile, read_given
from bench.record.folder import Folder
from bench.record.status import AlikeDevices, alike_devices
from bench.units import full_name, shortened_list
from certify.documents.caps import CAPS
from certify.documents.listing import decode_listing
from certify.judge.expectation import Demand
from certify.judge.plausibility import row_of
from certify.judge.scope import accepted_holds, counting_of
from certify.policy.centre import Centre, Pool, load_centre
from certify.policy.missing import missing
from certify.policy.policies import Policy, load_policy
from certify.policy.pools import Places
from certify.policy.ratings import Ratings
from certify.policy.reasons import mending
from certify.statement.campaign import policies_of
from certify.statement.describe import SHOWN
from certify.statement.outlook import Outlook, outlook_of


class AlikeOnNode(NamedTuple):
    """Devices of one model that are alike, on one node."""

    node: str | None  # as the engine calls it; None: each node of the pool
    pool: str
    model: DeviceModel
    device: Device  # one of them
    devices: int


@dataclass
class PoolModel:
    """The devices of a pool that have the same outlook."""

    pool: str
    outlook: Outlook
    devices: int = 0
    nodes: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The vendor's and model's name."""
        return full_name(self.outlook.model.vendor, self.outlook.model.model)

    def lines(self) -> list[str]:
        """Return the model's devices and their outlook as printed lines."""
        where = f" on {len(self.nodes)} node(s)" if self.nodes else " on each node"
        return [f"pool {self.pool}: {self.devices} x {self.name}{where}", *self.outlook.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return the model as a JSON value of ``--json``."""
        return {
            "pool": self.pool,
            "vendor": self.outlook.model.vendor,
            "model": self.outlook.model.model,
            "devices": self.devices,
            "nodes": len(self.nodes),
            "can_count": not self.outlook.against,
            "expected": self.outlook.as_json(),
        }


class Prospects(NamedTuple):
    """The outlook of a campaign's devices before it starts, by pool and model."""

    models: tuple[PoolModel, ...]
    remarks: tuple[str, ...]  # about the campaign as a whole, each a sentence

    @property
    def problems(self) -> list[str]:
        """A sentence for each model of which no device can count."""
        return [
            f"pool {one.pool}: {one.devices} x {one.name} on {shortened_list(sorted(one.nodes), SHOWN) or 'each node'}"
            f" cannot count ({', '.join(one.outlook.against)})"
            for one in self.models
            if one.outlook.against
        ]

    def lines(self) -> list[str]:
        """Return the outlook as printed lines."""
        return [*_halves(self.remarks), *(line for one in self.models for line in one.lines())]

    def as_json(self) -> dict[str, Any]:
        """Return the outlook as a JSON value of ``--json``."""
        return {"models": [one.as_json() for one in self.models], "remarks": list(self.remarks)}


def _halves(remarks: Iterable[str]) -> Iterator[str]:
    """Yield each remark on two lines: what is wrong, and what to do."""
    for remark in remarks:
        what, end, fix = remark.partition("). ")
        yield f"{what}{end.rstrip()}"
        if fix:
            yield f"  {fix}"


class Terms(NamedTuple):
    """A campaign with everything that decides what counts in it."""

    centre: Centre
    policies: tuple[Policy, ...]
    campaign: Campaign
    profile: Profile

    def demand(self, pool: Pool) -> Demand:
        """Return what the policies together demand of a pool: one statement has one set of sums."""
        counting = counting_of(self.policies, self.centre)[pool.pool_class]
        return Demand(
            tuple(policy.policy for policy in self.policies),
            pool.pool_class,
            counting.precision,
            self.profile.grade,
            accepted_holds(self.policies),
            self.centre.in_operation,
            str(counting.workload) in self._measured(pool),
        )

    def _measured(self, pool: Pool) -> set[str]:
        """Return what a pool's devices measure; nothing where no node has any."""
        return {
            name for pool_plan in self.campaign.pools if pool_plan.pool == pool.pool for name in pool_plan.workloads
        }

    def remarks(self) -> tuple[str, ...]:
        """Return what keeps figures from counting or conditions from being met, whatever the devices are."""
        grade, remarks = self.profile.grade, []
        if not self.centre.in_operation:
            what = f"the centre is {self.centre.lifecycle}: all of it counts 0"
            remarks.append(f"{what} (not-in-operation). {mending()['not-in-operation'].en}")
        for pool in self.centre.pools:
            demand = self.demand(pool)
            if not demand.measured:
                what = f"pool {pool.pool} counts {demand.precision}, which is not measured: all of it counts 0"
                remarks.append(f"{what} (untested). {mending()['untested'].en}")
        for policy in self.policies:
            if GRADES.index(grade) < GRADES.index(policy.minimum_grade):
                what = f"{policy.policy} wants grade {policy.minimum_grade}, and {self.profile.profile} reaches {grade}"
                remarks.append(f"{what}: its conditions cannot be met (grade-too-low). {mending()['grade-too-low'].en}")
            lacks = missing(self.centre, (policy,), ())  # no verdict yet: what no declaration of the centre file gives
            lacks = tuple(lack for lack in lacks if lack.code != "not-in-operation")  # said above
            if fields := dict.fromkeys(lack.field for lack in lacks if lack.field is not None):
                what = f"{policy.policy} lacks in the centre file: {', '.join(fields)}"
                remarks.append(f"{what} (not-declared). The campaign binds that file: fill it in, and create it anew.")
        return tuple(remarks)


def prospects(terms: Terms, known: Iterable[AlikeOnNode], ratings: Ratings) -> Prospects:
    """Return the outlook of devices in the pools of a campaign; those with the same outlook are one entry.

    Args:
        terms: of the campaign.
        known: the devices, by node.
        ratings: to judge with.
    """
    demands = {pool.pool: terms.demand(pool) for pool in terms.centre.pools}
    models: dict[tuple[str, ...], PoolModel] = {}
    for one in known:
        outlook = outlook_of(one.model, one.device, ratings, (demands[one.pool],))
        model = PoolModel(one.pool, outlook)
        model = models.setdefault((one.pool, model.name, *outlook.lines()), model)
        model.devices += one.devices
        model.nodes |= set() if one.node is None else {one.node}
    return Prospects(tuple(models[key] for key in sorted(models)), terms.remarks())


def of_nodes(
    terms: Terms, reported: Mapping[str, Sequence[AlikeDevices]], names: Mapping[str, str], ratings: Ratings
) -> Prospects:
    """Return the outlook of the devices that the nodes of a campaign report.

    Args:
        terms: of the campaign.
        reported: node id -> its devices.
        names: node id -> what the engine calls it.
        ratings: to judge with.
    """
    known, places = [], Places(terms.centre, terms.campaign)
    for node_id, devices in reported.items():
        for one in devices:
            pools = Counter(pool.pool for name in one.names if (pool := places.pool_of(node_id, name)) is not None)
            known += [AlikeOnNode(names[node_id], pool, one.model, one.device, count) for pool, count in pools.items()]
    return prospects(terms, known, ratings)


def of_files(terms: Terms, files: Mapping[str, Sequence[AlikeDevices]], ratings: Ratings) -> Prospects:
    """Return the outlook of the devices that a node of each pool lists.

    Args:
        terms: of the campaign.
        files: pool -> what ``petaseal devices --json`` printed on one of its nodes; a pool without one is left out.
        ratings: to judge with.
    """
    pools = {pool.pool: pool for pool in terms.centre.pools}
    known = []
    for name, devices in files.items():
        listed = pools[name].devices
        for one in devices:
            count = len(one.names if listed == "all" else [each for each in one.names if each in listed])
            known += [AlikeOnNode(None, name, one.model, one.device, count)] if count else []
    return prospects(terms, known, ratings)


def power_of(
    files: Mapping[str, Sequence[AlikeDevices]], centre: Centre, ratings: Ratings
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the rated power of one device, W, and the devices of a node, of each pool that a node's file is given of.

    The power is the mean over the node's devices; a pool of which the ratings do not know it is left out.
    """
    watts, counts = {}, {}
    for pool in centre.pools:
        powers_mw = [
            (
                row_of(one.model, ratings).tdp_mw,
                len(one.names if pool.devices == "all" else set(one.names) & set(pool.devices)),
            )
            for one in files.get(pool.pool, ())
        ]
        if count := sum(number for _, number in powers_mw):
            counts[pool.pool] = count
            if all(mw is not None for mw, number in powers_mw if number):
                watts[pool.pool] = sum((mw or 0) * number for mw, number in powers_mw) // count // 1000
    return watts, counts


def terms_of(folder: Folder, campaign: Campaign, profile: Profile) -> Terms:
    """Return a campaign with the centre and the policies in its folder."""
    policies = tuple(load_policy(name) for name in policies_of(folder, campaign))
    return Terms(load_centre(SharedFile(folder.centre)), policies, campaign, profile)


def read_files(files: Mapping[str, str], centre: Centre) -> dict[str, tuple[AlikeDevices, ...]]:
    """Return the devices of each pool, from files that ``petaseal devices --json`` printed on a node of it.

    Raises:
        InputError: the centre has no such pool, or a file is none or has no device.
    """
    named = sorted(pool.pool for pool in centre.pools)
    for name in files:
        if name not in named:
            fix = f"the centre has {', '.join(named)}"
            raise InputError("unknown-pool", f"the centre has no pool {name!r}", where="--devices", fix=fix)
    return {name: read_devices(Path(file)) for name, file in files.items()}


def read_devices(path: Path) -> tuple[AlikeDevices, ...]:
    """Return the devices in a file that ``petaseal devices --json`` printed.

    Raises:
        InputError: it is none, or no device in it can be used.
    """
    listing = decode_listing(read_given(path, CAPS.record_bytes), path)
    if not listing.devices:
        raise InputError("no-device", "has no device that can be used", where=path)
    return alike_devices((one.model, one.identity) for one in listing.devices)
