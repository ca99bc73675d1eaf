"""Opening campaigns: who takes part, under which ids, and the folder that is made, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.errors import InputError, PetasealError
from bench.profile import load_profile
from bench.record import Campaign, digest
from bench.record.folder import Folder
from bench.record.roster import EngineNode
from bench.units import utc_ns, utc_text
from certify.campaign.opening import CreatedCampaign, open_folder, reopen
from certify.campaign.roster import RosterEntries, RosterOptions, compile_roster, discovered, node_id_of
from certify.campaign.workloads import CreateOptions
from certify.keys.files import load_private, new_key
from certify.policy.centre import Pool, load_centre
from certify.statement.baseline import empty_baseline, sign_baseline
from certify.statement.campaign import read_campaign
from tests.bad_input.command import contents
from tests.bench.fleet import BEGIN_NS
from tests.certify.measured import centre_yaml

SALT = "5a" * 16
COUNTED = {"intelligent": "fp16", "supercomputing": "fp64", "general": "fp32"}
HOUR_NS = 3600 * 10**9


def pool(
    name: str = "ai", nodes: Any = "all", kind: Any = "intelligent", devices: Any = "all", partition: str | None = None
) -> Pool:
    return Pool(pool=name, pool_class=kind, nodes=nodes, devices=devices, partition=partition)


def node(name: str, **changes: Any) -> EngineNode:
    return EngineNode(name, "gpu", "gpu:8", "switch-1", None)._replace(**changes)


NODES = [node(f"gpu{i}") for i in (10, 2, 1)]


def compiled(*pools: Pool, found: list[EngineNode] | None = NODES, salt: str = SALT, **options: Any) -> RosterEntries:
    return compile_roster(pools or (pool(),), found, RosterOptions(**options), salt, COUNTED)  # type: ignore[arg-type]


def names(found: RosterEntries) -> dict[str, list[str]]:
    """Return pool -> the engine's names, in order."""
    result: dict[str, list[str]] = {one.pool: [] for one in found.pools}
    for one in found.nodes:
        result[one.pool].append(one.name)
    return result


# --- who takes part ---


def test_a_pool_of_all_takes_the_engine_s_nodes_in_their_natural_order() -> None:
    found = compiled()
    assert names(found) == {"ai": ["gpu1", "gpu2", "gpu10"]}
    assert {one.group for one in found.nodes} == {"switch-1"}
    assert all(one.node_id == node_id_of(one.name, SALT) and one.name not in one.node_id for one in found.nodes)
    (line,) = found.pools
    assert (line.workload, line.device, line.gres, line.devices_per_node) == ("fp16", "all", "gpu:8", 8)


def test_a_pool_that_lists_its_nodes_shows_their_names() -> None:
    for known in (None, NODES):
        found = compiled(pool(nodes=("gpu2", "gpu1")), found=known)
        assert [(one.node_id, one.name) for one in found.nodes] == [("gpu2", "gpu2"), ("gpu1", "gpu1")]


def test_pools_by_partition() -> None:
    both = [*NODES, node("cpu1", partition="cpu", gres=None), node("cpu2", partition="cpu", gres=None)]
    pools = pool("ai", devices=("cuda:0", "cuda:1")), pool("hpc", kind="supercomputing", devices=("cpu:0",))
    found = compiled(*pools, found=both, partitions={"ai": "gpu", "hpc": "cpu"})
    assert names(found) == {"ai": ["gpu1", "gpu2", "gpu10"], "hpc": ["cpu1", "cpu2"]}
    assert [(p.workload, p.device, p.partition, p.devices_per_node) for p in found.pools] == [
        ("fp16", "cuda:0,cuda:1", "gpu", 2),
        ("fp64", "cpu:0", "cpu", 1),
    ]


def test_a_listed_pool_and_the_rest() -> None:
    pools = pool("a", nodes=("gpu2",), devices=("cuda:1",)), pool("b", devices=("cuda:0",))
    assert names(compiled(*pools)) == {"a": ["gpu2"], "b": ["gpu1", "gpu10"]}
    for order in (pools, pools[::-1]):  # the listed name is the id, whichever pool comes first
        both = next(one for one in compiled(*order).nodes if one.name == "gpu2")
        assert (both.node_id, {both.pool, *both.also}) == ("gpu2", {"a", "b"})


@pytest.mark.parametrize("key", ["gpu2", node_id_of("gpu2", SALT)])
def test_who_is_excluded_by_either_name(key: str) -> None:
    found = compiled(exclude={key: "bad DIMM"})
    assert names(found) == {"ai": ["gpu1", "gpu10"]}
    assert [(one.name, one.reason) for one in found.left_out] == [("gpu2", "bad DIMM")]


def test_one_node_with_accelerators_leaves_out_no_pool_of_cpus() -> None:
    cpus = [node(f"cpu{index}", gres=None) for index in range(3)]
    found = compiled(found=[*cpus, node("odd", gres="gpu:1")])
    assert names(found) == {"ai": ["cpu0", "cpu1", "cpu2", "odd"]}
    assert [pool.gres for pool in found.pools] == [None]


def test_who_is_drained_or_has_other_devices_is_left_out_and_why() -> None:
    odd = [*NODES, node("gpu3", problem="drained: bad DIMM"), node("gpu4", gres="gpu:4"), node("gpu5", gres=None)]
    found = compiled(found=odd)
    assert names(found) == {"ai": ["gpu1", "gpu2", "gpu10"]}
    assert {one.name: one.reason for one in found.left_out} == {
        "gpu3": "drained: bad DIMM",
        "gpu4": "has gpu:4, and most of its pool gpu:8",
        "gpu5": "has no accelerators, and most of its pool gpu:8",
    }


def test_what_the_operator_says_of_accelerators_is_taken() -> None:
    found = compiled(found=[*NODES, node("gpu4", gres="gpu:4")], gres={"ai": "gpu:4"}, watts={"ai": 700})
    assert len(found.nodes) == 4
    assert (found.pools[0].gres, found.pools[0].devices_per_node, found.pools[0].power_mw) == ("gpu:4", 4, 700_000)


@pytest.mark.parametrize(
    ("devices", "gres", "count"),
    [("all", None, None), ("all", "gpu:a100:4", 4), ("fake:3", None, 3), ("fake", None, 1), ("cuda:0,cuda:1", None, 2)],
)
def test_how_many_devices_a_node_has(devices: str, gres: str | None, count: int | None) -> None:
    found = compiled(found=[node("a", gres=gres)], devices={"ai": devices})
    assert found.pools[0].devices_per_node == count


def test_a_machine_that_is_split_by_device_is_one_node_that_measures_all_of_it() -> None:
    ai, hpc = pool("ai", devices=("cuda:0", "cuda:1")), pool("hpc", kind="supercomputing", devices=("cuda:2",))
    found = compiled(ai, hpc)
    assert names(found) == {"ai": ["gpu1", "gpu2", "gpu10"], "hpc": []}
    assert {(node.pool, node.also) for node in found.nodes} == {("ai", ("hpc",))}
    listed = compiled(pool("ai", ("gpu1",), devices=("cuda:0",)), pool("hpc", ("gpu1", "gpu2"), devices=("cuda:1",)))
    assert [(node.name, node.pool, node.also) for node in listed.nodes] == [
        ("gpu1", "ai", ("hpc",)),
        ("gpu2", "hpc", ()),
    ]


# --- pools of all nodes, told apart by partition ---

BOTH = [*NODES, node("cpu1", partition="cpu", gres=None), node("cpu2", partition="cpu", gres=None)]
APART = pool("ai", partition="gpu"), pool("hpc", kind="supercomputing", partition="cpu")


def test_two_pools_of_all_nodes_take_those_of_their_partitions() -> None:
    found = compiled(*APART, found=BOTH)
    assert names(found) == {"ai": ["gpu1", "gpu2", "gpu10"], "hpc": ["cpu1", "cpu2"]}
    assert [(one.pool, one.partition) for one in found.pools] == [("ai", "gpu"), ("hpc", "cpu")]
    assert not any(one.also for one in found.nodes)


def test_a_node_in_both_partitions_is_refused_by_its_name_or_left_out() -> None:
    twice = [*BOTH, node("gpu2", partition="cpu")]
    with pytest.raises(InputError, match="gpu2 in the partitions gpu and cpu would count in both pools") as caught:
        compiled(*APART, found=twice)
    assert caught.value.code == "node-in-two-pools"
    found = compiled(*APART, found=twice, exclude={"gpu2": "shared"})
    assert names(found) == {"ai": ["gpu1", "gpu10"], "hpc": ["cpu1", "cpu2"]}
    assert [(one.name, one.pool) for one in found.left_out] == [("gpu2", "ai")]


def test_a_node_in_both_partitions_whose_pools_share_no_device_is_a_mixed_one() -> None:
    pools = pool("ai", partition="gpu", devices=("cuda:0",)), pool("hpc", partition="cpu", devices=("cpu:0",))
    found = compiled(*pools, found=[*BOTH, node("gpu2", partition="cpu")])
    assert {one.name: (one.pool, one.also) for one in found.nodes if one.also} == {"gpu2": ("ai", ("hpc",))}


def test_an_option_does_not_contradict_the_centre_file() -> None:
    assert compiled(*APART, found=BOTH, partitions={"ai": "gpu"}) == compiled(*APART, found=BOTH)
    with pytest.raises(InputError, match="says all for the pool ai, and the centre file gpu") as caught:
        compiled(*APART, found=BOTH, partitions={"ai": "all"})
    assert caught.value.code == "partition-differs"


def test_the_engine_is_asked_for_one_partition_after_the_other_and_for_all_where_a_pool_names_none() -> None:
    asked = []

    def discover(engine: str, partitions: Any) -> list[EngineNode]:
        asked.append((engine, list(partitions)))
        return [node(f"n{len(asked)}")]

    pools = *APART, pool("c", nodes=("n3",)), pool("d", nodes=("n4",), partition="gpu")
    assert [one.name for one in discovered(discover, "slurm", pools, RosterOptions())] == ["n1", "n2", "n3"]
    assert asked == [("slurm", ["gpu"]), ("slurm", ["cpu"]), ("slurm", [])]


def test_a_listed_node_that_is_not_in_the_partition_of_its_pool() -> None:
    with pytest.raises(InputError) as caught:
        compiled(pool("ai", nodes=("cpu1",), partition="gpu"), found=BOTH)
    assert caught.value.code == "node-unknown"


# --- names in upper case ---


def test_names_are_the_engine_s_in_whatever_case_the_centre_file_has_them() -> None:
    engine = [node("GPU-Node01"), node("GPU-Node02")]
    listed = pool(nodes=("gpu-node01", "gpu-node02"))
    spelled = {"gpu-node01": "Gpu-node01", "gpu-node02": "GPU-Node02"}
    found = compile_roster((listed,), engine, RosterOptions(exclude={"gpu-NODE02": "bad DIMM"}), SALT, COUNTED, spelled)  # type: ignore[arg-type]
    assert [(one.node_id, one.name) for one in found.nodes] == [("gpu-node01", "GPU-Node01")]
    assert [(one.node_id, one.name) for one in found.left_out] == [("gpu-node02", "GPU-Node02")]
    alone = compile_roster((listed,), None, RosterOptions(), SALT, COUNTED, spelled)  # type: ignore[arg-type]
    assert [(one.node_id, one.name) for one in alone.nodes] == [
        ("gpu-node01", "Gpu-node01"),
        ("gpu-node02", "GPU-Node02"),
    ]


def test_a_roster_knows_a_node_by_a_name_in_another_case(tmp_path: Path) -> None:
    measured(tmp_path, {**AI, "nodes": ["Node[1-2]", "node3"]})
    roster = Folder(tmp_path / "campaign").roster()
    assert [(one.node_id, one.name) for one in roster.nodes] == [
        ("node1", "Node1"),
        ("node2", "Node2"),
        ("node3", "node3"),
    ]
    assert [roster.node_named(name).node_id for name in ("Node1", "node2", "NODE3")] == ["node1", "node2", "node3"]
    centre = load_centre(str(tmp_path / "campaign" / "centre.yaml"))
    assert digest(centre) == read_campaign(Folder(tmp_path / "campaign")).centre_sha256


def test_two_nodes_of_the_engine_that_differ_in_case_only() -> None:
    with pytest.raises(InputError, match="the nodes gpu1 and GPU1, which differ in case only") as caught:
        compiled(pool(nodes=("gpu1",)), found=[node("gpu1"), node("GPU1")])
    assert caught.value.code == "node-twice"
    assert len(compiled(found=[node("gpu1"), node("GPU1")]).nodes) == 2  # where nobody lists them they are two


@pytest.mark.parametrize(
    "reason", ["two\nlines", "tab\there \x1b[31m", "", "x" * 1000, "坏内存", "e\u0301\u200b\u202e"]
)
def test_whatever_was_typed_as_a_reason_can_be_signed(tmp_path: Path, reason: str) -> None:
    found = [*NODES, node("gpu3", problem=reason)]
    campaign = opened(tmp_path, found, roster=RosterOptions(exclude={"gpu2": reason})).campaign
    assert {one.reason for one in campaign.left_out} == {campaign.left_out[0].reason}
    assert 0 < len(campaign.left_out[0].reason) <= 256
    assert read_campaign(Folder(tmp_path / "campaign")) == campaign
    if reason == "坏内存":
        assert campaign.left_out[0].reason == reason


REFUSED: dict[str, tuple[tuple[Pool, ...], dict[str, Any], str]] = {
    "unknown pool, partition": ((), {"partitions": {"x": "gpu"}}, "unknown-pool"),
    "unknown pool, gres": ((), {"gres": {"x": "gpu:8"}}, "unknown-pool"),
    "unknown pool, device": ((), {"devices": {"x": "all"}}, "unknown-pool"),
    "unknown pool, watts": ((), {"watts": {"x": 1}}, "unknown-pool"),
    "unknown node in the centre": ((pool(nodes=("gpu9",)),), {}, "node-unknown"),
    "unknown node excluded": ((), {"exclude": {"gpu9": "x"}}, "node-unknown"),
    "nobody knows the nodes": ((), {"found": None}, "nodes-unknown"),
    "no nodes": ((), {"found": []}, "no-nodes"),
    "all left out": ((), {"exclude": {n.name: "x" for n in NODES}}, "no-nodes"),
    "unknown partition": ((), {"partitions": {"ai": "cpu"}}, "no-nodes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_cannot_be_in_a_roster(case: str) -> None:
    pools, options, code = REFUSED[case]
    with pytest.raises(InputError) as caught:
        compiled(*pools, **options)
    assert caught.value.code == code


@given(st.lists(st.text("abcdefghij0123456789-.", min_size=1, max_size=20), min_size=1, max_size=30, unique=True))
def test_every_node_is_there_exactly_once_under_an_id_of_its_own(given_names: list[str]) -> None:
    found = compiled(found=[node(name) for name in given_names])
    assert sorted(one.name for one in found.nodes) == sorted(given_names)
    assert len({one.node_id for one in found.nodes}) == len(given_names)
    again = compiled(found=[node(name) for name in reversed(given_names)])
    assert again == found  # whatever the engine's order
    other = compiled(found=[node(name) for name in given_names], salt="a5" * 16)
    assert {one.node_id for one in other.nodes}.isdisjoint(one.node_id for one in found.nodes)


# --- what is measured ---

AI, HPC = {"pool": "ai", "class": "intelligent"}, {"pool": "hpc", "class": "supercomputing"}


def measured(place: Path, *pools: dict[str, Any], **changes: Any) -> tuple[dict[str, str], str]:
    """Return what each pool of a campaign measures, and the windows in their order."""
    (place / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=list(pools)), allow_unicode=True))
    new_key(place / "operator.pem", None)
    changes = {"profile": load_profile("certification"), "found": None, **changes}
    campaign = opened(place, **changes).campaign
    assert campaign.windows_problem() is None
    pools_of = {pool.pool: " ".join(pool.workloads) for pool in campaign.pools}
    return pools_of, " ".join(str(window.workload) for window in campaign.windows)


def test_a_campaign_has_windows_for_what_counts_in_the_classes_of_its_nodes_and_no_others(tmp_path: Path) -> None:
    told = measured(tmp_path, {**AI, "nodes": ["n1"]})
    assert told == ({"ai": "fp16"}, "fp16")


def test_in_a_mixed_centre_each_pool_measures_what_counts_in_it(tmp_path: Path) -> None:
    general = {"pool": "cpu", "class": "general", "nodes": ["n3"]}
    told = measured(tmp_path, general, {**HPC, "nodes": ["n2"]}, {**AI, "nodes": ["n1"]})
    assert told == ({"ai": "fp16", "hpc": "fp64 fp64-solve", "cpu": "fp32"}, "fp16 fp64 fp64-solve fp32")


def test_more_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    also = (("ai", "fp64"), (None, "fp16-tuned"))
    told = measured(tmp_path, {**AI, "nodes": ["n1"]}, {**HPC, "nodes": ["n2"]}, also=also)
    workloads = {"ai": "fp16 fp64 fp16-tuned", "hpc": "fp64 fp64-solve fp16-tuned"}
    assert told == (workloads, "fp16 fp64 fp16-tuned fp64-solve")


def test_a_mixed_node_measures_what_its_pools_do_and_the_campaign_says_which_devices_are_whose(tmp_path: Path) -> None:
    split = {**AI, "nodes": ["n1"], "devices": ["cuda:0"]}, {**HPC, "nodes": ["n1", "n2"], "devices": ["cuda:1"]}
    assert measured(tmp_path, *split) == ({"ai": "fp16", "hpc": "fp64 fp64-solve"}, "fp16 fp64 fp64-solve")
    campaign = read_campaign(Folder(tmp_path / "campaign"))
    assert {one.node_id: one.pools for one in campaign.nodes} == {"n1": ("ai", "hpc"), "n2": ("hpc",)}
    assert {one.pool: one.devices for one in campaign.pools} == {"ai": ("cuda:0",), "hpc": ("cuda:1",)}
    windows_of = {one.node_id: [str(w.workload) for w in campaign.windows_of(one.node_id)] for one in campaign.nodes}
    assert windows_of == {"n1": ["fp16", "fp64", "fp64-solve"], "n2": ["fp64", "fp64-solve"]}
    devices = ["cuda:0", "cuda:1", "cuda:2"]
    assert [campaign.pool_of("n1", device) for device in devices] == ["ai", "hpc", None]
    roster = Folder(tmp_path / "campaign").roster()
    assert [roster.pool_of(one).device for one in roster.nodes] == ["cuda:0,cuda:1", "cuda:1"]


def test_what_a_policy_counts_is_measured_though_the_profile_does_not_name_it(tmp_path: Path) -> None:
    profile = replace(load_profile("certification"), profile="own", measured={"intelligent": ("bf16",)})
    told = measured(tmp_path, {**AI, "nodes": ["n1"]}, {**HPC, "nodes": ["n2"]}, profile=profile)
    assert told == ({"ai": "fp16 bf16", "hpc": "fp64"}, "fp16 bf16 fp64")


def test_a_pool_whose_nodes_are_all_left_out_opens_no_window(tmp_path: Path) -> None:
    options = RosterOptions(exclude={"n2": "bad DIMM"})
    told = measured(tmp_path, {**AI, "nodes": ["n1"]}, {**HPC, "nodes": ["n2"]}, roster=options)
    assert told == ({"ai": "fp16"}, "fp16")


def test_a_pool_for_which_the_profile_has_no_shapes_is_refused_by_its_name(tmp_path: Path) -> None:
    usual = load_profile("certification")
    shapes, tuned = ({"fp16": all_of["fp16"]} for all_of in (usual.shapes, usual.tuned_shapes))
    own = replace(usual, profile="own", measured={"intelligent": ("fp16",)}, shapes=shapes, tuned_shapes=tuned)
    with pytest.raises(InputError, match="nothing to measure in the pool hpc") as caught:
        measured(tmp_path, {**AI, "nodes": ["n1"]}, {**HPC, "nodes": ["n2"]}, profile=own)
    assert caught.value.code == "nothing-counts"
    assert not (tmp_path / "campaign").exists()


@pytest.mark.parametrize(("also", "code"), [(("x", "fp64"), "unknown-pool"), (("ai", "fp8"), "unknown-precision")])
def test_more_that_there_is_not(tmp_path: Path, also: tuple[str, str], code: str) -> None:
    with pytest.raises(InputError) as caught:
        measured(tmp_path, {**AI, "nodes": ["n1"]}, also=(also,))
    assert caught.value.code == code


# --- the folder ---


def opened(
    place: Path, found: list[EngineNode] | None = NODES, now_ns: int = BEGIN_NS, **changes: Any
) -> CreatedCampaign:
    key, centre = place / "operator.pem", place / "centre.yaml"
    if not key.exists():
        new_key(key, None)
        centre.write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    opening = CreateOptions(
        centre=str(centre), profile=load_profile("smoke"), policies=("guangzhou-2000p",), out=place / "campaign"
    )
    return open_folder(opening._replace(**changes), load_private(key), found, now_ns)


def again(
    place: Path, before: CreatedCampaign, name: str = "again", now_ns: int = BEGIN_NS, **changes: Any
) -> CreatedCampaign:
    key = load_private(place / "operator.pem")
    profile = changes.pop("profile", before.profile)
    challenge = changes.pop("challenge", None)
    return reopen(before.folder, before.campaign, profile, place / name, key, challenge, now_ns)


def test_the_folder_holds_what_is_needed(tmp_path: Path) -> None:
    found = opened(tmp_path)
    folder = found.folder
    campaign, roster = read_campaign(folder), folder.roster()
    assert campaign == found.campaign
    assert roster == found.roster
    assert roster.campaign_sha256 == digest(campaign)
    assert [one.node_id for one in campaign.nodes] == [one.node_id for one in roster.nodes]
    assert stat.S_IMODE(folder.roster_file.stat().st_mode) == 0o600  # it names the nodes
    assert b"gpu10" not in folder.campaign.read_bytes()
    assert campaign.windows_problem() is None
    assert (campaign.issued_at, campaign.starts_from) == (utc_text(BEGIN_NS), utc_text(BEGIN_NS))
    assert utc_ns(campaign.starts_until) == BEGIN_NS + 24 * HOUR_NS
    assert (campaign.challenge_source, campaign.earlier, campaign.series) == ("self", (), campaign.campaign_id)
    assert roster.targets
    assert sorted(contents(folder.root)) == ["campaign.dsse.json", "centre.yaml", "roster.json"]


def test_a_challenge_that_was_given(tmp_path: Path) -> None:
    campaign = opened(tmp_path, challenge="ab" * 32, challenge_source="registry").campaign
    assert (campaign.challenge, campaign.challenge_source) == ("ab" * 32, "registry")


def test_challenges_and_salts_are_drawn_anew(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path, out=tmp_path / "two")
    assert one.campaign.challenge != two.campaign.challenge
    assert one.roster.salt != two.roster.salt
    assert {n.node_id for n in one.roster.nodes}.isdisjoint(n.node_id for n in two.roster.nodes)


def test_node_ids_stay_the_same_over_campaigns(tmp_path: Path) -> None:
    one = opened(tmp_path)
    two = opened(tmp_path, [*NODES, node("gpu3")], out=tmp_path / "two", previous=one.folder.root)
    assert {n.name: n.node_id for n in one.roster.nodes}.items() <= {
        n.name: n.node_id for n in two.roster.nodes
    }.items()
    assert len(two.roster.nodes) == 4


def test_a_later_start(tmp_path: Path) -> None:
    later = utc_text(BEGIN_NS + 5 * HOUR_NS)
    campaign = opened(tmp_path, starts_from=later, within_ns=HOUR_NS).campaign
    assert (campaign.starts_from, campaign.starts_until) == (later, utc_text(BEGIN_NS + 6 * HOUR_NS))


def test_a_heartbeat_is_rarer_with_more_nodes(tmp_path: Path) -> None:
    few = opened(tmp_path).roster
    many = opened(tmp_path, [node(f"g{i}") for i in range(10_000)], out=tmp_path / "many").roster
    assert few.heartbeat_ns == 5 * 10**9
    assert len(many.nodes) * 10**9 <= 200 * many.heartbeat_ns  # 200 files a second


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"centre": "atlantis"}, "unknown-name"),
        ({"policies": ("atlantis",)}, "unknown-name"),
        ({"policies": ("guangzhou-2000p,wuhan-2025",)}, "unknown-name"),
        ({"policies": ("guangzhou-2000p", "guangzhou-2000p")}, "policy-twice"),
        ({"precisions": ("fp16", "fp16")}, "unknown-precision"),
        ({"precisions": ("fp8",)}, "unknown-precision"),
        ({"precisions": ("fp64",)}, "nothing-counts"),
        ({"previous": Path("nowhere")}, "campaign-folder-invalid"),
        ({"found": None}, "nodes-unknown"),
        ({"out": Path(".")}, "output-exists"),
    ],
)
def test_what_cannot_be_opened_leaves_nothing(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(PetasealError) as caught:
        opened(tmp_path, **changes)
    assert caught.value.code == code
    assert not (tmp_path / "campaign").exists()


@pytest.mark.parametrize(
    ("day", "changes", "expected"),
    [
        ("2026-01-01", {}, None),
        ("2025-12-31", {}, "baseline-differs"),
        ("2026-01-01", {"centre_id": "another"}, "centre-differs"),
        (None, {}, "file-missing"),
    ],
)
def test_a_baseline_that_no_statement_would_take_is_refused_before_the_load(
    tmp_path: Path, day: str | None, changes: dict[str, Any], expected: str | None
) -> None:
    new_key(tmp_path / "operator.pem", None)
    told = centre_yaml(baseline="baseline.dsse.json", baseline_date="2026-01-01")
    (tmp_path / "centre.yaml").write_text(yaml.safe_dump(told, allow_unicode=True))
    if day is not None:
        empty = replace(empty_baseline(load_centre(str(tmp_path / "centre.yaml")), day, "empty hall"), **changes)
        sign_baseline(empty, tmp_path / "operator.pem", None, tmp_path / "baseline.dsse.json")
    if expected is None:
        folder = opened(tmp_path).folder.root
        assert (folder / "baseline.dsse.json").read_bytes() == (tmp_path / "baseline.dsse.json").read_bytes()
        return
    with pytest.raises(PetasealError) as caught:
        opened(tmp_path)
    assert caught.value.code == expected
    assert not (tmp_path / "campaign").exists()


@pytest.mark.parametrize(("days", "expected"), [(0, None), (1, "baseline-differs")])
def test_a_baseline_of_a_day_after_the_campaign_may_start(tmp_path: Path, days: int, expected: str | None) -> None:
    """On that day all that is measured stood there; said before the load, and not when it is certified."""
    new_key(tmp_path / "operator.pem", None)
    day = utc_text(BEGIN_NS + days * 24 * HOUR_NS)[:10]
    told = centre_yaml(baseline="baseline.dsse.json", baseline_date=day)
    (tmp_path / "centre.yaml").write_text(yaml.safe_dump(told, allow_unicode=True))
    empty = empty_baseline(load_centre(str(tmp_path / "centre.yaml")), day, "empty hall")
    sign_baseline(empty, tmp_path / "operator.pem", None, tmp_path / "baseline.dsse.json")
    if expected is None:
        assert opened(tmp_path).campaign.centre_id == "gz-test"
        return
    with pytest.raises(PetasealError, match=day) as caught:
        opened(tmp_path)
    assert caught.value.code == expected
    assert not (tmp_path / "campaign").exists()


# --- once more ---


def test_rerun_is_the_next_attempt_of_the_series(tmp_path: Path) -> None:
    one = opened(tmp_path)
    two = again(tmp_path, one, now_ns=BEGIN_NS + 48 * HOUR_NS)
    a, b = one.campaign, two.campaign
    assert b.series == a.series == a.campaign_id != b.campaign_id
    assert [(e.campaign_id, e.campaign_sha256, e.issued_at, e.outcome) for e in b.earlier] == [
        (a.campaign_id, digest(a), a.issued_at, "not-submitted")
    ]
    assert b.nodes == a.nodes
    assert b.challenge != a.challenge
    assert (b.issued_at, b.starts_from) == (utc_text(BEGIN_NS + 48 * HOUR_NS),) * 2
    assert utc_ns(b.starts_until) - utc_ns(b.starts_from) == 24 * HOUR_NS
    assert two.folder.roster().campaign_sha256 == digest(b)
    assert two.folder.roster().salt == one.roster.salt
    assert two.folder.started() is None
    third = again(tmp_path, two, "third")
    assert [e.campaign_id for e in third.campaign.earlier] == [a.campaign_id, b.campaign_id]


@pytest.mark.parametrize("outcome", ["submitted", "aborted"])
def test_rerun_says_what_became_of_the_attempt_before(tmp_path: Path, outcome: str) -> None:
    one = opened(tmp_path)
    one.folder.abort_file.write_bytes(b"aborted\n")
    if outcome == "submitted":  # in spite of the abort
        one.folder.submitted_file.write_text("ab" * 32)
    assert again(tmp_path, one).campaign.earlier[0].outcome == outcome


@pytest.mark.parametrize(("source", "expected"), [("registry", "registry"), ("witness", "witness"), (None, "witness")])
def test_who_gave_the_new_challenge(tmp_path: Path, source: Any, expected: str) -> None:
    given_before: dict[str, Any] = {} if source is None else {"challenge": "ab" * 32, "challenge_source": source}
    one = opened(tmp_path, **given_before)
    assert again(tmp_path, one, challenge="cd" * 32).campaign.challenge_source == expected
    assert again(tmp_path, one, "drawn").campaign.challenge_source == "self"


def test_rerun_of_what_does_not_belong_together(tmp_path: Path) -> None:
    one = opened(tmp_path)
    other = msgspec.structs.replace(one.profile, guard_ns=one.profile.guard_ns + 1)
    for changes, code in (({"profile": other}, "campaign-profile-differs"), ({"campaign": None}, "campaign-differs")):
        before = one
        if "campaign" in changes:
            differs: Campaign = msgspec.structs.replace(one.campaign, challenge="00" * 32)
            before = one._replace(campaign=differs)
            changes = {}
        with pytest.raises(PetasealError) as caught:
            again(tmp_path, before, **changes)
        assert caught.value.code == code
        assert not (tmp_path / "again").exists()
    with pytest.raises(InputError) as caught:
        again(tmp_path, one, "campaign")
    assert caught.value.code == "output-exists"
