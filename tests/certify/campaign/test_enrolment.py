"""Node keys that the campaign names: a record under another key counts 0, and the statement says why."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, NodeRecord
from bench.record.roster import RosterNode
from certify.campaign.enrolment import enrolled_keys, read_node_keys
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import CapacityStatement
from certify.judge.scope import Scope
from certify.keys.files import load_private, new_key
from certify.policy.policies import load_policy
from tests.bad_input.command import petaseal
from tests.certify import measured as m
from tests.certify.measured import Measured, centre_yaml, measured
from tests.certify.signed import new_key as fresh_key
from tests.certify.verify.test_verifier import code


def demanding(centre: Measured) -> dict[str, Any]:
    """Write a policy that demands enrolled keys, and return what to certify and verify with."""
    policy: Any = msgspec.to_builtins(load_policy("guangzhou-2000p"))
    policy |= {"policy": "enrolled", "node_keys": "enrolled"}
    (centre.folder / "enrolled.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    return {"policies": (str(centre.folder / "enrolled.yaml"),)}


def laid(folder: Path, signer_of: dict[int, Any], enrolled: dict[int, str]) -> Measured:
    """Lay out a centre of three nodes whose campaign names keys, and whose records are signed by others or these."""
    base = measured(folder, nodes=3, devices=1, precisions=("fp16",))
    campaign = m.test_campaign(load_profile("standard"), ("fp16",), 3)
    nodes = tuple(ExpectedNode(node_id=m.node_name(i), pool="main", keyid=enrolled.get(i)) for i in range(3))
    campaign = replace(campaign, nodes=nodes)
    base.campaign.write_bytes(dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [load_private(base.key)]))
    base.close(campaign)
    simulated = m.simulated(1, "standard", ("fp16",))
    for index in range(3):
        key = signer_of[index]
        record: NodeRecord = m.of_node(simulated.record, index, campaign, key)
        base.record(index).write_bytes(m.seal_record(record, key, simulated.samples))
    return base


def counted(statement: CapacityStatement) -> tuple[int, dict[str, str]]:
    (line,) = statement.classes
    return line.counted.devices, {entry.node_id: entry.codes[0] for entry in statement.not_counted}


def test_a_record_counts_under_its_nodes_own_key_only(tmp_path: Path) -> None:
    own = {i: fresh_key() for i in range(3)}
    thief = fresh_key()
    enrolled = {i: key.public.keyid for i, key in own.items()}
    centre = laid(tmp_path, {0: own[0], 1: own[0], 2: thief}, enrolled)  # node 1's record is by node 0's key
    statement = centre.certify().statement
    assert counted(statement) == (1, {m.node_name(1): "node-key-differs", m.node_name(2): "node-key-differs"})
    whole = statement.classes[0]
    assert whole.untested.devices == 2
    report = centre.verify()
    assert code(report) is None
    assert report.self_asserted == 2


def test_where_no_key_is_named_any_key_signs_unless_a_policy_demands_otherwise(tmp_path: Path) -> None:
    own = {i: fresh_key() for i in range(3)}
    centre = laid(tmp_path, own, {0: own[0].public.keyid})
    assert counted(centre.certify().statement)[0] == 3
    assert centre.verify().self_asserted == 2
    strict = demanding(centre)
    statement = centre.certify(out=tmp_path / "strict", **strict).statement
    without = {m.node_name(i): "node-key-not-enrolled" for i in (1, 2)}
    assert counted(statement) == (1, without)
    assert code(centre.verify(tmp_path / "strict", **strict)) is None


def test_enrolment_is_the_campaigns_and_cannot_be_added_later(tmp_path: Path) -> None:
    """A campaign with other keys has another digest, which the records do not bind."""
    own = {i: fresh_key() for i in range(3)}
    centre = laid(tmp_path, own, {})
    campaign: Campaign = m.test_campaign(load_profile("standard"), ("fp16",), 3)
    nodes = tuple(replace(node, keyid=own[i].public.keyid) for i, node in enumerate(campaign.nodes))
    other = make_document("campaign", replace(campaign, nodes=nodes))
    centre.campaign.write_bytes(dsse.seal(other, PAYLOAD_TYPE, [load_private(centre.key)]))
    with pytest.raises(RefusedError, match="campaign-differs"):
        centre.certify()


def test_one_key_for_two_nodes_is_no_enrolment(tmp_path: Path) -> None:
    key = fresh_key()
    centre = laid(tmp_path, {0: key, 1: key, 2: fresh_key()}, {0: key.public.keyid, 1: key.public.keyid})
    with pytest.raises(RefusedError, match="campaign-invalid"):
        centre.certify()


def test_what_a_node_issues_for_itself_enrols_nobody() -> None:
    campaign = m.test_campaign(load_profile("standard"), ("fp16",), 1)
    own = replace(campaign.nodes[0], keyid=fresh_key().public.keyid)
    for self_issued, expected in ((False, {own.node_id: own.keyid}), (True, {})):
        scope: Any = Scope.__new__(Scope)
        object.__setattr__(scope, "campaign", replace(campaign, self_issued=self_issued, nodes=(own,)))
        assert scope.enrolled == expected


# --- gathering the keys ---


def folder_of_keys(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        new_key(folder / name, None)
        (folder / name).unlink()  # NAME.pub stays
    return folder


def test_keys_are_read_by_the_names_of_their_files(tmp_path: Path) -> None:
    folder = folder_of_keys(tmp_path / "keys", "n1", "n2")
    found = read_node_keys(folder)
    assert sorted(found) == ["n1", "n2"]
    (folder / "n3.pub").write_bytes((folder / "n1.pub").read_bytes())
    with pytest.raises(InputError, match="node-keys-invalid"):
        read_node_keys(folder)
    for bad in (tmp_path / "nowhere", folder / "n1.pub"):
        with pytest.raises(InputError, match="node-keys-invalid"):
            read_node_keys(bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="node-keys-invalid"):
        read_node_keys(tmp_path / "empty")


def test_keys_belong_to_nodes() -> None:
    nodes = [RosterNode("node-1", "n1", "main", None), RosterNode("node-2", "n2", "main", None)]
    any_key, strict = load_policy("guangzhou-2000p"), replace(load_policy("guangzhou-2000p"), node_keys="enrolled")
    assert enrolled_keys(nodes, {"n1": "a", "node-2": "b"}, (), [strict]) == {"node-1": "a", "node-2": "b"}
    assert enrolled_keys(nodes, {"n1": "a", "n3": "c"}, ("n3",), [any_key]) == {"node-1": "a"}
    with pytest.raises(InputError, match="node-keys-missing"):
        enrolled_keys(nodes, {"n1": "a"}, (), [any_key, strict])
    with pytest.raises(InputError, match="node-unknown"):
        enrolled_keys(nodes, {"n9": "a"}, (), [any_key])


def test_a_campaign_of_enrolled_keys_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    new_key(tmp_path / "operator.pem", None)
    pool = {"pool": "main", "class": "intelligent", "nodes": ["n1", "n2"], "devices": "all"}
    (tmp_path / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=[pool])))
    keys = folder_of_keys(tmp_path / "keys", "n1")
    made = petaseal("keys", "node", "--out", keys / "n2.pub", "--json")
    assert made.status == 0, made.err
    told = ("--centre", tmp_path / "centre.yaml", "--key", tmp_path / "operator.pem", "--profile", "smoke")
    out = tmp_path / "campaign"
    answer = petaseal("campaign", "create", *told, "--node-keys", keys, "--out", out)
    assert answer.status == 0, answer.err
    payload = json.loads(base64.b64decode(json.loads((out / "campaign.dsse.json").read_bytes())["payload"]))
    assert payload["predicate"]["nodes"][1]["keyid"] == json.loads(made.out)["keyid"]
    again = petaseal("keys", "node", "--out", keys / "n2.pub")
    assert (again.code, again.status) == ("output-exists", 2)
    (keys / "n9.pub").write_bytes((keys / "n1.pub").read_bytes())
    (keys / "n1.pub").unlink()
    refused = petaseal("campaign", "create", *told, "--node-keys", keys, "--out", tmp_path / "no")
    assert (refused.code, refused.status) == ("node-unknown", 2)
    assert not (tmp_path / "no").exists()
