"""Which nodes reduce together, as the operator says it, and what no campaign is opened with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.profile import load_profile
from certify.campaign.groups import groups_asked_for
from certify.campaign.roster import RosterEntries
from certify.campaign.workloads import CreateOptions
from tests.certify.campaign.test_opening import compiled, node, pool

SMOKE = load_profile("smoke")
NODES = [node(f"gpu{number:03}") for number in range(1, 5)]


def entries(**options: Any) -> RosterEntries:
    return compiled(found=NODES, **options)


def asked(**options: Any) -> CreateOptions:
    return CreateOptions("centre.yaml", SMOKE, (), Path("out"), network=True)._replace(**options)


def grouped(text: str, tmp_path: Path, roster: RosterEntries | None = None) -> dict[str, str]:
    """Return the group of each node by the engine's name."""
    file = tmp_path / "groups"
    file.write_text(text)
    roster = roster or entries()
    groups = groups_asked_for(asked(network_groups=str(file)), roster)
    return {one.name: groups[one.node_id] for one in roster.nodes}


def test_a_file_of_groups(tmp_path: Path) -> None:
    text = "# pods\n\npod1 = gpu[001-002]\npod2=gpu003\npod2=GPU004\n"
    assert grouped(text, tmp_path) == {"gpu001": "pod1", "gpu002": "pod1", "gpu003": "pod2", "gpu004": "pod2"}


def test_nodes_by_their_ids_and_those_that_are_left_out(tmp_path: Path) -> None:
    roster = entries(exclude={"gpu004": "bad rack"})
    ids = ",".join(one.node_id for one in roster.nodes)
    assert set(grouped(f"pod1={ids},gpu004", tmp_path, roster).values()) == {"pod1"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("pod1=gpu[001-004]\npod2=gpu004\n", "has gpu004 in two groups, pod1 and pod2"),
        ("pod1=gpu[001-003]\n", "has no group for gpu004"),
        ("pod1=gpu[001-005]\n", "names the node gpu005, which is not the campaign's"),
        ("gpu[001-004]\n", "has the line 1, 'gpu[001-004]', which is not NAME=NODES"),
        ("pod1=\n", "has the line 1, 'pod1=', which is not NAME=NODES"),
        ("Pod One=gpu[001-004]\n", "has the group 'Pod One', which is no name"),
        ("=gpu[001-004]\n", "has the group '', which is no name"),
    ],
)
def test_groups_that_are_none(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        grouped(text, tmp_path)
    assert caught.value.code == "network-group-invalid"
    assert what in str(caught.value)


def test_a_list_of_nodes_that_is_none_keeps_its_code(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        grouped("pod1=gpu[001-\n", tmp_path)
    assert caught.value.code == "host-list-invalid"


def test_groups_by_partition() -> None:
    found = [node("a", partition="left"), node("b", partition="right")]
    pools = (pool("one", partition="left"), pool("two", kind="general", partition="right"))
    roster = compiled(*pools, found=found)
    groups = groups_asked_for(asked(network_groups="partition"), roster)
    assert [groups[one.node_id] for one in roster.nodes] == ["left", "right"]


def test_without_a_file_all_nodes_are_one_group() -> None:
    assert groups_asked_for(asked(), entries()) == {}


@pytest.mark.parametrize("options", [{"rails": True}, {"network_groups": "partition"}])
def test_what_belongs_to_the_network_needs_it(options: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        groups_asked_for(asked(network=False, **options), entries())
    assert caught.value.code == "usage"


def test_a_profile_that_does_not_say_how() -> None:
    from msgspec import UNSET
    from msgspec.structs import replace

    with pytest.raises(InputError) as caught:
        groups_asked_for(asked(profile=replace(SMOKE, network=UNSET)), entries())
    assert caught.value.code == "network-unplanned"
