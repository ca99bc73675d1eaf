"""The sums of the present state as the API asks for them: each is computed once for a view."""

from __future__ import annotations

from msgspec.structs import replace
from sqlalchemy import Connection

from certify.policy.policies import Policy, load_policy
from certify.registry.api import City, Lifecycle
from certify.registry.service.settings import Place
from certify.registry.state.model import View
from certify.registry.state.rollup import lifecycle, roll_up
from certify.registry.state.snapshot import viewer
from certify.registry.storage.store import Store


def lifecycle_of(store: Store, connection: Connection, view: View, at: str) -> Lifecycle:
    """Return the sums of the present state, computed once for it.

    Args:
        view: of the snapshot that `connection` sees.
    """
    if "lifecycle" not in view.answers:
        view.answers["lifecycle"] = lifecycle(view.heads, viewer(store).totals(connection), at)
    found: Lifecycle = view.answers["lifecycle"]
    return replace(found, at=at)


def city_of(policy: Policy, view: View, at: str) -> City:
    """Return the roll-up of a policy over the present state, computed once for it."""
    key = ("city", policy.policy)
    if key not in view.answers:
        view.answers[key] = roll_up(policy, view.heads, at)
    found: City = view.answers[key]
    return replace(found, at=at)


def city_policies(place: Place) -> dict[str, Policy]:
    """Return the policies that are rolled up, by name: installed ones, or files of the registry's own.

    Raises:
        InputError: there is no such policy, or it is not acceptable.
    """
    own = {policy.policy: policy for policy in (load_policy(str(place.path(file))) for file in place.settings.policies)}
    return {name: own[name] if name in own else load_policy(name) for name in place.settings.cities}
