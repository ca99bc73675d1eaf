"""Checks across the nodes of a campaign, of what each of them reports: who differs from the rest of its pool. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.campaign.launch.preflight import identity_problems
from bench.doctor.examine import row_id
from bench.record.roster import Roster
from bench.record.status import Examination, NodeFacts
from bench.units import full_name

DUPLICATE = "[duplicate-device]"


class FleetView(NamedTuple):
    """What the nodes of a campaign report.

    Args:
        facts: node id -> what it reported.
        roster: of the campaign, for pools and names.
        clocks: whose clocks differ, a sentence each, where they were compared.
    """

    facts: Mapping[str, NodeFacts]
    roster: Roster
    clocks: Sequence[str] = ()

    @property
    def names(self) -> dict[str, str]:
        """What the engine calls each node."""
        return {node.node_id: node.name for node in self.roster.nodes}

    @property
    def examinations(self) -> dict[str, Examination]:
        """What single nodes came to, by their names, in the order of the roster."""
        there = [node for node in self.roster.nodes if node.node_id in self.facts]
        examined = {node.name: self.facts[node.node_id].examination for node in there}
        return {name: its for name, its in examined.items() if its is not None}

    def pools(self) -> dict[str, dict[str, NodeFacts]]:
        """Return the nodes that reported, by pool: a mixed node is of none of its pools, but of both together."""
        pools: dict[str, dict[str, NodeFacts]] = {}
        for node in self.roster.nodes:
            if node.node_id in self.facts:
                pools.setdefault("+".join(node.pools), {})[node.node_id] = self.facts[node.node_id]
        return pools


class FleetCase(NamedTuple):
    """One finding, with the nodes that it is of; none: of the campaign."""

    values: dict[str, str]
    nodes: tuple[str, ...] = ()


def node_problem(view: FleetView) -> Iterator[FleetCase]:
    """What nodes say of themselves that no other check is about."""
    nodes: dict[str, list[str]] = {}
    for node in view.names:
        for what in view.facts[node].unexamined if node in view.facts else ():
            nodes.setdefault(what, []).append(node)
    for what, of_nodes in nodes.items():
        yield FleetCase({"what": what}, tuple(of_nodes))


def fleet_identity(view: FleetView) -> Iterator[FleetCase]:
    """Nodes report one device, so that no record of theirs could be collected."""
    for what in identity_problems(view.facts, view.names):
        if DUPLICATE in what:
            yield FleetCase({"what": what})


def fleet_machine(view: FleetView) -> Iterator[FleetCase]:
    """Several nodes report one machine's identity, which alone is no reason to refuse."""
    for what in identity_problems(view.facts, view.names):
        if DUPLICATE not in what:
            yield FleetCase({"what": what})


def fleet_clock(view: FleetView) -> Iterator[FleetCase]:
    """Clocks differ from the coordinator's."""
    for what in view.clocks:
        yield FleetCase({"what": what})


def fleet_devices(view: FleetView) -> Iterator[FleetCase]:
    """Nodes of a pool have different numbers of devices."""
    return _unusual(view, lambda facts: {"": str(facts.devices)})


def fleet_models(view: FleetView) -> Iterator[FleetCase]:
    """Nodes of a pool have different models."""
    return _unusual(view, lambda facts: {"": ", ".join(facts.models)})


def fleet_drivers(view: FleetView) -> Iterator[FleetCase]:
    """Nodes of a pool have different drivers."""
    return _unusual(view, lambda facts: {"": ", ".join(facts.drivers)})


def fleet_firmware(view: FleetView) -> Iterator[FleetCase]:
    """Devices of one model have different firmware."""
    return _unusual(view, lambda facts: _by_model(facts, "firmware"))


def fleet_libraries(view: FleetView) -> Iterator[FleetCase]:
    """Devices of one model are read through different libraries."""

    def libraries(facts: NodeFacts) -> dict[str, str]:
        names, digests = (_by_model(facts, field) for field in ("source_version", "library_sha256"))
        return {model: f"{names.get(model, '')} {digests.get(model, '')[:12]}".strip() for model in names | digests}

    return _unusual(view, libraries)


def fleet_tool(view: FleetView) -> Iterator[FleetCase]:
    """Nodes run different sources of petaseal."""
    return _unusual(view, lambda facts: {} if facts.tool_sha256 is None else {"": facts.tool_sha256[:12]})


def fleet_silent(view: FleetView) -> Iterator[FleetCase]:
    """Nodes report no examination."""
    silent = [node for node in view.names if node not in view.facts or view.facts[node].examination is None]
    if silent:
        yield FleetCase({"count": str(len(silent)), "expected": str(len(view.names))}, tuple(silent))


def _by_model(facts: NodeFacts, field: str) -> dict[str, str]:
    """Return the values of a field of a node's models, by model; what no device reports is left out."""
    values: dict[str, set[str]] = {}
    for one in facts.found:
        if (text := getattr(one.model, field)) is not None:
            values.setdefault(full_name(one.model.vendor, one.model.model), set()).add(text)
    return {model: ", ".join(sorted(texts)) for model, texts in values.items()}


def _unusual(view: FleetView, values_of: Callable[[NodeFacts], Mapping[str, str]]) -> Iterator[FleetCase]:
    """Yield what is not as on most nodes of a pool, with the nodes that have it.

    Args:
        view: the nodes.
        values_of: returns a node's values, by model where they are a model's.
    """
    for pool, members in view.pools().items():
        by_model: dict[str, dict[str, str]] = {}
        for node, facts in members.items():
            for model, value in values_of(facts).items():
                by_model.setdefault(model, {})[node] = value
        for model, values in by_model.items():
            counts = Counter(values.values())
            (usual, _), *others = counts.most_common()
            for value, _ in others:
                nodes = tuple(node for node, other in values.items() if other == value)
                shown = {"pool": pool, "value": value, "usual": usual}
                yield FleetCase(shown | ({"model": model} if model else {}), nodes)


FLEET_CHECKS: Mapping[str, Callable[[FleetView], Iterator[FleetCase]]] = {
    row_id(check): check
    for check in (
        node_problem,
        fleet_identity,
        fleet_machine,
        fleet_clock,
        fleet_devices,
        fleet_models,
        fleet_drivers,
        fleet_firmware,
        fleet_libraries,
        fleet_tool,
        fleet_silent,
    )
}
