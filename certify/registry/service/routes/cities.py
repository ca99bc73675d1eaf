"""Routes of cities: the roll-up of each policy, its history, and who reached the value of a centre's policy."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from msgspec.structs import replace
from starlette.responses import Response

from bench.errors import RefusedError
from certify.policy.policies import Policy
from certify.registry.api.cities import City
from certify.registry.api.reached import Reached, Trend
from certify.registry.base.registry import Registry
from certify.registry.service import parameters
from certify.registry.service.openapi import answers, conditional, csv_too
from certify.registry.service.reading import answer, csv_answer, snapshot_at, wants_csv
from certify.registry.state.city import present as state
from certify.registry.state.city.listed_csv import reached_csv, trend_csv
from certify.registry.state.model import Snapshot

router = APIRouter(prefix="/v1", tags=["read"], dependencies=[*parameters.STRICT, Depends(parameters.reader)])


def _policy(registry: Registry, name: str) -> Policy:
    policy = state.city_policies(registry.place).get(name)
    if policy is None:
        raise RefusedError("city-unknown", "no such policy is rolled up here", fix="see /v1/cities")
    return policy


def _city(registry: Registry, policy: Policy, snapshot: Snapshot, at: str) -> City:
    # the trust root's state changes by itself, and is no part of what is derived from the snapshot
    return replace(state.city_of(registry, policy, snapshot, at), trust=registry.trust_status())


def _tagged(city: City) -> object:
    return (city.policy, city.conditions, city.components, city.missing, city.absent, city.trust)


@router.get("/cities", responses=conditional(answers(tuple[City, ...])), response_class=Response)
def list_cities(request: Request) -> Response:
    """List the roll-up of every city's policy."""
    registry = parameters.registry_of(request)
    at = registry.now
    with snapshot_at(registry, at) as (_, snapshot):
        policies = state.city_policies(registry.place).values()
        rolled_up = [_city(registry, policy, snapshot, at) for policy in policies]
    return answer(request, rolled_up, [_tagged(one) for one in rolled_up])


@router.get("/cities/{policy}", responses=conditional(answers(City)), response_class=Response)
def get_city(request: Request, policy: parameters.NamePart) -> Response:
    """Get the roll-up of one policy."""
    registry = parameters.registry_of(request)
    wanted, at = _policy(registry, policy), registry.now
    with snapshot_at(registry, at) as (_, snapshot):
        city_now = _city(registry, wanted, snapshot, at)
    return answer(request, city_now, _tagged(city_now))


@router.get("/cities/{policy}/trend", responses=conditional(csv_too(answers(Trend))), response_class=Response)
def get_city_trend(request: Request, policy: parameters.NamePart, format: parameters.Format = None) -> Response:
    """Get the sums of a city at the end of each day on which they changed; as CSV with `format=csv` or by Accept."""
    registry = parameters.registry_of(request)
    wanted, at = _policy(registry, policy), registry.now
    with snapshot_at(registry, at) as (connection, snapshot):
        told = state.trend_of(registry.store, connection, wanted, snapshot, at)
    if wants_csv(request, format):
        return csv_answer(trend_csv(told), f"{policy}-trend.csv")
    return answer(request, told, told.points)


@router.get("/reached", responses=conditional(csv_too(answers(tuple[Reached, ...]))), response_class=Response)
def list_reached(request: Request, format: parameters.Format = None) -> Response:
    """List whose statements meet the value of a policy for single centres (2000P), by their own verdicts."""
    registry = parameters.registry_of(request)
    at = registry.now
    with snapshot_at(registry, at) as (connection, snapshot):
        told = state.reached_of(connection, registry.place, snapshot, at)
    if wants_csv(request, format):
        return csv_answer(reached_csv(told), "reached.csv")
    return answer(request, told, [(one.policy, one.met, one.below, one.declared_only) for one in told])
