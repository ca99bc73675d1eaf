"""A node without a record: a real campaign of this machine's processes, one of them killed, and made records of cards.

The campaign's fakes decide no condition, for they are simulated; the made records are of a model that is none.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.record import Figure, NodeRecord
from bench.record.folder import Folder
from bench.units import rate_text
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.keys.signers import load_scheme
from certify.policy.policies import Policy, Threshold, load_policy
from certify.policy.reasons import effect_of
from certify.policy.verdict_lines import describe_verdict
from certify.policy.verdicts import Verdict
from tests.bad_input.command import petaseal, process, started
from tests.certify.judged import basis_of, statement_of
from tests.certify.kinds import at_rates, kind_of
from tests.certify.measured import centre_yaml, of_node, simulated, test_campaign
from tests.certify.test_honest import FP16, PROFILE, TFLOPS, matched
from tests.slurm.cluster import until
from tests.slurm.trial import BRIEF

H100 = next(row for row in FP16 if row.accelerator == "nvidia-h100-sxm5-80g")
H100_MFLOP_S = 989_400_000  # dense FP16 by the vendor's data sheet
FAKE_MFLOP_S = 460_062_720  # 128 units x 2048 FLOP a clock x 1.755 GHz
NODES = ("a1", "a2", "a3")
INSUFFICIENT = "insufficient_evidence"


def opened(path: Path) -> list[Any]:
    """Return the documents of a file, one a line."""
    envelopes = [parse_envelope(line, len(line), path) for line in path.read_bytes().splitlines(keepends=True)]
    kind = "capacity-statement" if path.name.startswith("statement") else "node-record"
    return [parse_payload(kind, envelope.payload, path).predicate for envelope in envelopes]


def scale_of(statement: CapacityStatement) -> Verdict:
    return next(verdict for verdict in statement.verdicts if verdict.condition == "scale-2000p")


def stated(nodes: int, recorded: int, policy: Policy) -> CapacityStatement:
    """Return the statement of nodes with eight H100 each of 750 TFLOPS, of which so many left a record."""
    campaign = test_campaign(PROFILE, ("fp16",), nodes)
    kind, key = kind_of(matched(H100), H100.name), load_scheme("ed25519").generate()
    frame = at_rates(simulated(8, PROFILE.profile, ("fp16",)).record, {"fp16": 750 * TFLOPS}, PROFILE)
    records = (kind.dress(of_node(frame, index, campaign, key)) for index in range(recorded))
    return statement_of(records, basis_of(campaign, PROFILE, policies=(policy,)))


def test_a_centre_far_below_2000p_is_not_met_although_nodes_are_missing() -> None:
    found = stated(5, 3, load_policy("guangzhou-2000p"))
    (line,) = found.classes
    assert (line.counted.devices, line.nodes_missing) == (24, 2)
    assert line.missing_at_most_mflop_s == 2 * 8 * H100_MFLOP_S
    scale = scale_of(found)
    assert (scale.verdict, scale.reason) == ("not_met", None)
    assert [one.verdict for one in scale.bases] == ["not_met"] * 3
    assert "  2 nodes without a record could add at most 15.830 PFLOPS [verdict-missing]" in describe_verdict(scale)


@pytest.mark.parametrize(("missing", "expected"), [(3, ("not_met", None)), (4, (INSUFFICIENT, "nodes-missing"))])
def test_the_node_with_which_the_value_could_be_reached_makes_the_difference(
    missing: int, expected: tuple[str, str | None]
) -> None:
    """Two nodes of 7.9 PFLOPS by rating are recorded; the value lies between five of them and six."""
    policy = load_policy("guangzhou-2000p")
    conditions = tuple(
        replace(one, basis="nominal", value=44, counted="all") if isinstance(one, Threshold) else one
        for one in policy.conditions
    )
    found = stated(2 + missing, 2, replace(policy, policy="mine", conditions=conditions))
    assert (scale_of(found).verdict, scale_of(found).reason) == expected


@pytest.mark.long
def test_a_node_that_is_killed_in_the_window_bounds_what_it_could_add(tmp_path: Path) -> None:
    """A real campaign of three processes of this machine; what the third could add stands in the statement."""
    pools = [{"pool": "main", "class": "intelligent", "nodes": list(NODES), "devices": "all"}]
    centre, key, profile = tmp_path / "centre.yaml", tmp_path / "operator.pem", tmp_path / "brief.yaml"
    centre.write_text(yaml.safe_dump(centre_yaml(pools=pools), allow_unicode=True))
    profile.write_text(yaml.safe_dump(msgspec.to_builtins(BRIEF)))
    folder, out = Folder(tmp_path / "c1"), tmp_path / "out"
    env = {**os.environ, "PETASEAL_STATE": str(tmp_path / "state")}
    assert petaseal("keys", "new", "--no-passphrase", "--out", key).status == 0
    create = ("--centre", centre, "--key", key, "--profile", profile, "--device", "main=fake:2", "--out", folder.root)
    assert petaseal("campaign", "create", *create).status == 0
    launch = started("campaign", "launch", folder.root, "--on", "local", "--lead", 3, env=env)
    try:
        until(lambda: (status := folder.status("a3")) is not None and status.state == "measuring", 60)
        (pid_file,) = folder.root.glob("logs/*.a3.pid")
        os.killpg(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        said, _ = launch.communicate(timeout=120)
    finally:
        launch.kill()
    assert launch.returncode == 1, said
    assert process("campaign", "collect", folder.root, env=env).status == 1
    own = ("--centre", centre, "--key", key, "--profile", profile)
    made = process("certify", folder.root, *own, "--out", out, "--all", env=env)
    assert made.status == 0, made.err
    (statement,) = opened(out / "statement.dsse.json")
    void = {(one.node_id, one.device) for one in statement.not_counted if "void" in map(effect_of, one.codes)}

    def most(record: NodeRecord, figure: Figure) -> int:  # on a busy machine the spread may lead above the rating
        upper = None if (record.node_id, figure.device) in void else figure.upper_mflop_s
        return max(upper or 0, FAKE_MFLOP_S)

    records = opened(out / "records.jsonl")
    largest = max(sum(most(one, figure) for figure in one.measurements[0].figures()) for one in records)
    (line,) = statement.classes
    assert [one.node_id for one in statement.not_counted if one.device is None] == ["a3"]
    assert (line.nodes_missing, line.missing_at_most_mflop_s) == (1, largest)
    assert f"  1 node without a record could add at most {rate_text(largest)} [verdict-missing]\n" in made.out
    given = ("--public-key", f"{key}.pub", "--records", out / "records.jsonl", "--profile", profile)
    verified = process("verify", out / "statement.dsse.json", *given, "--accept-simulated", "--require", "recomputed")
    assert verified.status == 0, verified.err
