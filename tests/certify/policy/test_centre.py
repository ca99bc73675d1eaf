"""The centre file: strict, and no device ever counts twice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.record import config_path, encode
from certify.policy.centre import Centre, centre_problem, load_centre, read_centre, uscc_problem

TEMPLATE = config_path("centres", "template.yaml").read_text(encoding="utf-8")
POOLS = TEMPLATE[TEMPLATE.index("pools:\n") :]
SHA = "0" * 64


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "centre.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def with_pools(*pools: str) -> str:
    return TEMPLATE.replace(POOLS, "pools:\n" + "".join(f"  - {{{pool}}}\n" for pool in pools))


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as error:
        load_centre(written(tmp_path, text))
    assert "\n" not in str(error.value)
    return error.value.code


def counting_in(centre: Centre, node_id: str, device: str) -> list[str]:
    return [pool.pool for pool in centre.pools_for(node_id, device)]


def test_demo_and_template_load() -> None:
    demo = load_centre("demo")
    assert [(p.pool, p.pool_class, p.nodes, p.devices) for p in demo.pools] == [("cpu", "supercomputing", "all", "all")]
    assert demo.declarations == frozenset()
    assert demo.in_operation
    assert load_centre("template").centre_id == "my-centre"


def test_the_template_explains_every_field() -> None:
    for field in msgspec.structs.fields(Centre):
        if field.encode_name == "domestic":  # withdrawn: it is read, and nothing rests on it
            continue
        lines = [line for line in TEMPLATE.splitlines() if line.startswith(f"{field.encode_name}:")]
        assert lines, field.encode_name
        if field.encode_name not in ("pools", "name"):
            assert "#" in lines[0]


def test_a_centre_is_a_document() -> None:
    centre = load_centre("template")
    assert msgspec.json.decode(encode(centre), type=Centre) == centre
    assert b'"class":"intelligent"' in encode(centre)


@pytest.mark.parametrize(
    ("line", "declared"),
    [
        ("project_id: X-1", "project"),
        (f'park: {{name: P, evidence_sha256: "{SHA}"}}', "park"),
        (f'facility: {{id: F, definition: one hall, evidence_sha256: "{SHA}"}}', "facility"),
    ],
)
def test_what_is_declared(tmp_path: Path, line: str, declared: str) -> None:
    field = line.split(":")[0]
    text = "\n".join(line if old.startswith(f"{field}: null") else old for old in TEMPLATE.splitlines())
    assert load_centre(written(tmp_path, text)).declarations == {declared}


@pytest.mark.parametrize("lifecycle", ["planned", "under_construction", "retired"])
def test_only_what_is_in_operation_counts(tmp_path: Path, lifecycle: str) -> None:
    text = TEMPLATE.replace("lifecycle: in_operation", f"lifecycle: {lifecycle}")
    assert not load_centre(written(tmp_path, text)).in_operation


def test_the_pool_of_a_device(tmp_path: Path) -> None:
    centre = load_centre(
        written(
            tmp_path,
            with_pools(
                'pool: ai, class: intelligent, nodes: [n1, n2], devices: ["cuda:0", "cuda:1"]',
                'pool: hpc, class: supercomputing, nodes: [n1], devices: ["cuda:2"]',
                "pool: edge, class: edge, nodes: [n3]",
                'pool: host, class: general, nodes: [n1, n2], devices: ["cpu:0"]',
            ),
        )
    )
    places = {
        ("n1", "cuda:0"): "ai",
        ("n2", "cuda:1"): "ai",
        ("n1", "cuda:2"): "hpc",
        ("n2", "cuda:2"): None,
        ("n3", "cuda:7"): "edge",
        ("n1", "cpu:0"): "host",
        ("n4", "cpu:0"): None,
    }
    for place, expected in places.items():
        assert counting_in(centre, *place) == ([expected] if expected else [])


def test_all_nodes_may_be_split_by_device(tmp_path: Path) -> None:
    pools = with_pools(
        'pool: a, class: edge, nodes: all, devices: ["npu:0"]', 'pool: b, class: edge, nodes: all, devices: ["npu:1"]'
    )
    centre = load_centre(written(tmp_path, pools))
    assert [counting_in(centre, "any", f"npu:{i}") for i in range(3)] == [["a"], ["b"], []]


def test_pools_of_all_nodes_are_told_apart_by_their_partitions(tmp_path: Path) -> None:
    pools = with_pools(
        "pool: a, class: edge, nodes: all, partition: gpu",
        "pool: b, class: edge, nodes: all, partition: cpu",
        "pool: c, class: edge, nodes: [login1], partition: login",
    )
    centre = load_centre(written(tmp_path, pools))
    assert [pool.partition for pool in centre.pools] == ["gpu", "cpu", "login"]
    assert counting_in(centre, "any", "npu:0") == ["a", "b"]  # a campaign says which
    assert counting_in(centre, "login1", "npu:0") == ["c"]  # a list is never in doubt


# --- how nodes are listed ---


@pytest.mark.parametrize(
    ("nodes", "ids"),
    [
        ('["gpu[001-003,020]", login1]', ["gpu001", "gpu002", "gpu003", "gpu020", "login1"]),
        ("gpu[1-2]", ["gpu1", "gpu2"]),  # not in brackets itself: no quotes are needed
        ("\n      - r[1-2]n[09-10]", ["r1n09", "r1n10", "r2n09", "r2n10"]),
        ("[GPU-Node01, Login_1]", ["gpu-node01", "login_1"]),
        ('["n1,n[2-3]"]', ["n1", "n2", "n3"]),
    ],
)
def test_host_lists_and_names_in_upper_case(tmp_path: Path, nodes: str, ids: list[str]) -> None:
    text = TEMPLATE.replace("nodes: all ", f"nodes: {nodes}\n    # ")
    centre, spelled = read_centre(written(tmp_path, text))
    assert list(centre.pools[0].nodes) == ids == list(spelled)
    assert [name.lower() for name in spelled.values()] == ids
    assert msgspec.json.decode(encode(centre), type=Centre) == centre  # what is signed has plain ids


@pytest.mark.long
def test_a_short_file_does_not_stand_for_names_without_end(tmp_path: Path) -> None:
    """Whoever writes a campaign's folder could fill the memory of who collects: a line for each 200,000 names."""
    pools = [f'pool: p{i}, class: edge, nodes: "n{i}x[1-200000]"' for i in range(50_000)]
    with pytest.raises(InputError, match="more than 0 nodes that other lists of the file leave") as error:
        load_centre(written(tmp_path, with_pools(*pools)))
    assert error.value.code == "host-list-invalid"
    assert "n4x[1-200000]" in error.value.what


def test_a_host_list_without_quotes_is_said_how_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_centre(written(tmp_path, TEMPLATE.replace("nodes: all ", "nodes: [gpu[001-016,020], login1]\n    # ")))
    assert error.value.code == "yaml-invalid"
    assert 'nodes: ["gpu[001-016,020]", login1]' in str(error.value)


@pytest.mark.parametrize("nodes", ["n[3-1]", "n[]", "n[a-b]", "n[1-2", "n[1-2]]", "n[1-9999999]"])
def test_a_bad_host_list_is_refused(tmp_path: Path, nodes: str) -> None:
    assert problem(tmp_path, TEMPLATE.replace("nodes: all ", f'nodes: ["{nodes}"]\n    # ')) == "host-list-invalid"


@pytest.mark.parametrize(
    ("pools", "code"),
    [
        (["pool: a, class: edge, nodes: all", "pool: b, class: edge, nodes: [n1]"], "device-in-two-pools"),
        (["pool: a, class: edge, nodes: [n1, n2]", "pool: b, class: edge, nodes: [n2]"], "device-in-two-pools"),
        (
            ['pool: a, class: edge, nodes: [n1], devices: ["npu:0"]', "pool: b, class: edge, nodes: [n1]"],
            "device-in-two-pools",
        ),
        (
            [
                'pool: a, class: edge, nodes: [n1], devices: ["npu:0"]',
                'pool: b, class: edge, nodes: all, devices: ["npu:1", "npu:0"]',
            ],
            "device-in-two-pools",
        ),
        (["pool: a, class: edge, nodes: [n1, n1]"], "device-in-two-pools"),
        (['pool: a, class: edge, nodes: [n1], devices: ["npu:0", "npu:0"]'], "device-in-two-pools"),
        (["pool: a, class: edge, nodes: [n1]", "pool: a, class: edge, nodes: [n2]"], "duplicate-pool"),
        (["pool: a, class: edge, nodes: []"], "pool-without-nodes"),
        (["pool: a, class: edge, nodes: [n1], devices: []"], "pool-without-devices"),
        (["pool: a, class: quantum, nodes: [n1]"], "unknown-class"),
        (["pool: a, class: edge, nodes: some"], "config-invalid"),
        (["pool: a, class: edge, nodes: [N1, n1]"], "device-in-two-pools"),  # a different case is no other node
        (
            [
                'pool: a, class: edge, nodes: [N1], devices: ["npu:0"]',
                'pool: b, class: edge, nodes: [n1], devices: ["npu:1"]',
            ],
            "device-in-two-pools",
        ),
        (["pool: a, class: edge, nodes: all, partition: x", "pool: b, class: edge, nodes: all"], "device-in-two-pools"),
        (
            ["pool: a, class: edge, nodes: all, partition: x", "pool: b, class: edge, nodes: all, partition: x"],
            "device-in-two-pools",
        ),
        (
            ["pool: a, class: edge, nodes: [n1], partition: x", "pool: b, class: edge, nodes: [n1], partition: y"],
            "device-in-two-pools",
        ),
        (["pool: a, class: edge, nodes: [n 1]"], "config-invalid"),
        (["pool: a, class: edge, nodes: [n_ü]"], "config-invalid"),
        (['pool: a, class: edge, nodes: ["n1\\n"]'], "config-invalid"),
        (['pool: a, class: edge, nodes: ["../n1"]'], "config-invalid"),
        (["pool: a, class: edge, nodes: [n1], devices: [gpu0]"], "config-invalid"),
        (["pool: a, class: edge, nodes: [n1], score: 1"], "config-invalid"),
    ],
)
def test_bad_pools_are_refused(tmp_path: Path, pools: list[str], code: str) -> None:
    assert problem(tmp_path, with_pools(*pools)) == code


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (POOLS, "pools: []\n", "no-pools"),
        (POOLS, "", "config-invalid"),
        ("uscc: null", 'uscc: "914403001922038217"', "uscc-invalid"),
        ("uscc: null", "uscc: 914403001922038216", "config-invalid"),  # a number
        ("baseline: null", "baseline: old.dsse.json", "baseline-incomplete"),
        ("baseline_date: null", 'baseline_date: "2025-06-30"', "baseline-incomplete"),
        ("baseline: null", "baseline: ../old.dsse.json", "config-invalid"),
        ("baseline: null", "baseline: /etc/passwd", "config-invalid"),
        ("tier: city_dc", "tier: huge", "unknown-tier"),
        ("owner_type: enterprise", "owner_type: nobody", "unknown-owner-type"),
        ("lifecycle: in_operation", "lifecycle: dreaming", "unknown-lifecycle"),
        ("jurisdiction: null", "jurisdiction: Guangzhou", "config-invalid"),
        ("guide_year: null", "guide_year: null\ndomestic: 1", "config-invalid"),
        ("guide_year: null", 'guide_year: "2026"', "config-invalid"),
        ("park: null", "park: {name: P}", "config-invalid"),
        ("park: null", "park: {name: P, evidence_sha256: abc}", "config-invalid"),
        ("centre_id: my-centre", "centre_id: My-Centre", "config-invalid"),
        ("centre_id: my-centre", "centre_id: my-centre\ncentre_id: other", "yaml-invalid"),
        ("centre_id: my-centre", "centre_id: my-centre\ncapacity: 5", "config-invalid"),
        ("centre_id: my-centre", "centre_id: &a my-centre\nx: *a", "yaml-invalid"),
    ],
)
def test_a_bad_centre_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert TEMPLATE.count(old) >= 1
    assert problem(tmp_path, TEMPLATE.replace(old, new, 1)) == code


def test_a_baseline_has_a_real_date(tmp_path: Path) -> None:
    text = TEMPLATE.replace("baseline: null", "baseline: old.dsse.json")
    assert problem(tmp_path, text.replace("baseline_date: null", 'baseline_date: "2025-02-29"')) == "date-invalid"
    good = load_centre(written(tmp_path, text.replace("baseline_date: null", 'baseline_date: "2025-06-30"')))
    assert good.baseline_date == "2025-06-30"


@pytest.mark.parametrize("code", ["914403001922038216", "9144030071526726XG"])  # public companies
def test_real_social_credit_codes_pass(code: str) -> None:
    assert uscc_problem(code) is None


@given(st.integers(0, 17), st.sampled_from("0123456789ABCDEFGHJKLMNPQRTUWXY"))
def test_one_wrong_digit_is_always_found(place: int, letter: str) -> None:
    good = "914403001922038216"
    changed = good[:place] + letter + good[place + 1 :]
    assert (uscc_problem(changed) is None) == (changed == good)


@pytest.mark.parametrize(
    "code", ["", "91440300192203821", "9144030019220382160", "91440300192203821o", "91440300I922038216"]
)
def test_malformed_social_credit_codes(code: str) -> None:
    assert uscc_problem(code) is not None
    assert uscc_problem("914403001922038216\n") is not None


def test_ten_thousand_nodes_are_looked_up_fast() -> None:
    """Linear in the nodes: a look-up in a list of 20,000 nodes would need minutes here."""
    pool = {"pool": "a", "class": "edge", "nodes": [f"n{i}" for i in range(20_000)]}
    centre = msgspec.convert({**msgspec.to_builtins(load_centre("template")), "pools": [pool]}, Centre)
    assert centre_problem(centre) is None
    assert all(centre.pools_for(f"n{i}", "npu:0") == centre.pools for i in range(20_000))
