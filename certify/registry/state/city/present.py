"""What is shown of cities now: roll-ups, trends and who reached a value, each derived once from a snapshot."""

from __future__ import annotations

import threading
import weakref

from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from bench.record import config_names
from certify.policy.policies import Policy, Threshold, load_policy
from certify.registry.api.cities import City
from certify.registry.api.reached import Reached, Trend
from certify.registry.base.registry import Registry, RegistryFolder
from certify.registry.state.cache import reader_of
from certify.registry.state.city.evidence import Expected
from certify.registry.state.city.reached import reached, read_verdicts
from certify.registry.state.city.trend import History, derive_trend, read_history, read_samples
from certify.registry.state.model import Snapshot
from certify.registry.state.read import change_digest
from certify.registry.state.rollup import roll_up
from certify.registry.storage.city_tables import schedulable_samples
from certify.registry.storage.store import Store
from certify.registry.storage.tables import changes

_HOUR = len("2027-03-01T08")  # of a time as a text


def city_policies(place: RegistryFolder) -> dict[str, Policy]:
    """Return the policies that are rolled up, by name: installed ones, or files of the registry's own.

    Raises:
        InputError: there is no such policy, or it is not acceptable.
    """
    of_files = _of_files(place)
    return {name: of_files[name] if name in of_files else load_policy(name) for name in place.settings.cities}


def _of_files(place: RegistryFolder) -> dict[str, Policy]:
    files = (load_policy(str(place.path(file))) for file in place.settings.policies)
    return {policy.policy: policy for policy in files}


def city_of(registry: Registry, policy: Policy, snapshot: Snapshot, at: str) -> City:
    """Return the roll-up of a policy over the present state, computed once for it."""
    expected = expected_in(registry, policy)
    city = snapshot.derive(
        ("city", policy.policy, expected), lambda: roll_up(policy, snapshot.latest_statements, at, expected)
    )
    return replace(city, at=at, rehearsal=registry.settings.rehearsal)


def reached_of(connection: Connection, place: RegistryFolder, snapshot: Snapshot, at: str) -> tuple[Reached, ...]:
    """Return who reached the value of each policy for single centres that this registry holds.

    Args:
        connection: that sees the snapshot.
        place: of the registry.
        snapshot: the present state.
        at: the present.
    """

    def make() -> tuple[Reached, ...]:
        policies = _of_centres(place)
        verdicts = read_verdicts(connection, [policy.policy for policy in policies])
        return tuple(one for policy in policies for one in reached(policy, snapshot, verdicts, at))

    return tuple(replace(one, at=at, rehearsal=place.settings.rehearsal) for one in snapshot.derive("reached", make))


def _of_centres(place: RegistryFolder) -> list[Policy]:
    """Return the policies for single centres that name a value."""
    known = {name: load_policy(name) for name in config_names("policies")} | _of_files(place)
    return [
        policy
        for _, policy in sorted(known.items())
        if policy.scope == "centre" and any(isinstance(one, Threshold) for one in policy.judged)
    ]


def trend_of(store: Store, connection: Connection, policy: Policy, snapshot: Snapshot, at: str) -> Trend:
    """Return how a city's sums became what they are, derived once for the present state and hour.

    Args:
        store: of the registry.
        connection: that sees the snapshot.
        policy: of the city.
        snapshot: the present state.
        at: the present.
    """

    def make() -> Trend:
        history = _history(store, connection, snapshot.revision.change)
        return derive_trend(policy, history, read_samples(connection, policy), at)

    trend = snapshot.derive(("trend", policy.policy, at[:_HOUR]), make, limit=64)
    # the sums of now: no sum of this snapshot changes before it does
    points = tuple(replace(one, at=at) if one.at == trend.at else one for one in trend.points)
    return replace(trend, at=at, points=points)


_lock = threading.Lock()
_histories: weakref.WeakKeyDictionary[Store, tuple[int, str, History]] = weakref.WeakKeyDictionary()


def _history(store: Store, connection: Connection, change: int) -> History:
    """Return what sums followed from; read anew unless nothing but nodes that came and went was written since."""
    with _lock:
        before = _histories.get(store)
    digest = change_digest(connection, change)
    if before is not None and before[0] <= change and change_digest(connection, before[0]) == before[1]:
        further = changes.c.id > before[0], changes.c.id <= change, changes.c.kind != "presence"
        if connection.execute(select(changes.c.id).where(*further).limit(1)).scalar() is None:
            return before[2]
    history = read_history(connection)
    with _lock:
        _histories[store] = change, digest, history
    return history


# --- what was schedulable ---------------------------------------------------------------------------------------------


def sample_schedulable(registry: Registry) -> None:
    """Store what is schedulable in each city now, unless that was stored within this hour: nobody stores heartbeats."""
    at = registry.now
    sampled = schedulable_samples.c
    with registry.store.reading() as connection:
        snapshot = reader_of(registry.store).present(connection, at, registry.settings.stale_after_s)
        last = {
            row[0]: row[1]
            for row in connection.execute(select(sampled.policy, func.max(sampled.at)).group_by(sampled.policy))
        }
    rows = [
        {
            "at": at,
            "policy": policy.policy,
            "pool_class": one.pool_class,
            "schedulable_mflop_s": one.schedulable_mflop_s,
        }
        for policy in city_policies(registry.place).values()
        if last.get(policy.policy, "")[:_HOUR] < at[:_HOUR]
        for one in city_of(registry, policy, snapshot, at).components
        if one.counted.devices
    ]
    if rows:
        with registry.store.writing() as connection:
            connection.execute(schedulable_samples.insert(), rows)


# --- who is expected --------------------------------------------------------------------------------------------------


def expected_in(registry: Registry, policy: Policy) -> Expected:
    """Return which centres are expected in a city besides those that ever had a statement there.

    They are those that the settings list for it, and where these list none, all whose operators have a key in the trust
    root: in which city one lies that never submitted, nobody knows.
    """
    settings = registry.settings
    listed = settings.expected.get(policy.policy)
    centres = _with_operators(registry) if listed is None else frozenset(listed)
    return Expected(centres, frozenset(settings.closed))


def _with_operators(registry: Registry) -> frozenset[str]:
    """Return the centres whose operators have a key in the trust root; of the last good one where the file is bad."""
    root = registry.newest_root()
    if root is None:
        return frozenset()
    operators = (one for one in root.root.roles if one.role == "operator")
    return frozenset(centre_id for one in operators for centre_id in one.centre_ids or ())
