"""Capacity by Rmax: the highest HPL run that is shown takes the place of the nodes' sum, and is never mixed with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from msgspec import UNSET
from msgspec.structs import replace

from bench.errors import InputError
from bench.record import PoolClass, config_path, digest
from certify.policy.capacity import Capacity
from certify.policy.policies import Policy, Share, StatedBasis, Threshold, load_policy, read_policy
from certify.policy.thresholds import ClassEvidence, PolicyEvidence, Rmax, Unrecorded
from certify.policy.verdict_lines import describe_verdict
from certify.policy.verdicts import Verdict, evaluate
from tests.certify.policy.test_verdicts import ALL, CLAUSE, TEXT, P, brief

CLASS: PoolClass = "supercomputing"
VALUE = 400
INSUFFICIENT = "insufficient_evidence"


def policy(*conditions: Threshold | Share, by_rmax: bool = True) -> Policy:
    base = load_policy("wuhan-2025")
    counting = dict(base.counting)
    if by_rmax:
        counting[CLASS] = replace(counting[CLASS], capacity="rmax")
    return replace(base, policy="mine", scope="centre", jurisdiction=None, counting=counting, conditions=conditions)


def threshold(basis: StatedBasis = "certified", classes: tuple[PoolClass, ...] = (CLASS,)) -> Threshold:
    return Threshold(
        condition="scale",
        title=TEXT,
        clause=CLAUSE,
        classes=classes,
        operator=">=",
        value=VALUE,
        unit="PFLOPS",
        basis=basis,
    )


def found(rmax: Rmax, rating: int = 600, unrecorded: Unrecorded = Unrecorded()) -> PolicyEvidence:  # noqa: B008
    """Return a class whose nodes sum up to 500 PFLOPS and are rated at more."""
    nodes = Capacity(10, 500 * P, 500 * P, 500 * P, rating * P)
    general = ClassEvidence(clean=Capacity(1, 300 * P, 300 * P, 300 * P, 300 * P))
    return PolicyEvidence(
        classes={CLASS: ClassEvidence(clean=nodes, unrecorded=unrecorded, rmax=rmax), "general": general},
        grade="certification",
        simulated=False,
        jurisdiction=None,
        declarations=frozenset(),
        baseline=None,
        newly_added={},
    )


def judged(rmax: Rmax, condition: Threshold | Share | None = None, rating: int = 600) -> Verdict:
    (verdict,) = evaluate(policy(condition or threshold()), found(rmax, rating))
    return verdict


@pytest.mark.parametrize(
    ("rmax", "rating", "expected"),
    [
        (Rmax(400 * P, 400 * P), 600, ("met", None)),
        (Rmax(400 * P - 1, 400 * P - 1), 600, (INSUFFICIENT, "untested-devices")),  # another run may give more
        (Rmax(300 * P, 300 * P), 399, ("not_met", None)),  # no run can give more than the rating
        (Rmax(300 * P, 450 * P), 600, (INSUFFICIENT, "depends-on-flagged")),  # which may be emulated
        (Rmax(None, 450 * P), 600, (INSUFFICIENT, "depends-on-flagged")),
        (Rmax(), 600, (INSUFFICIENT, "rmax-not-shown")),
    ],
)
def test_the_highest_run_is_compared(rmax: Rmax, rating: int, expected: tuple[str, str | None]) -> None:
    verdict = judged(rmax, rating=rating)
    assert brief(verdict) == expected
    assert verdict.by_rmax == (CLASS,)


def test_the_nodes_sum_never_stands_in_for_rmax_nor_is_added() -> None:
    assert judged(Rmax()).bases[0].observed_mflop_s == 0
    assert judged(Rmax(100 * P, 100 * P)).bases[0].observed_mflop_s == 100 * P


def test_a_policy_by_nodes_does_not_look_at_rmax() -> None:
    (verdict,) = evaluate(policy(threshold(), by_rmax=False), found(Rmax(1, 1)))
    assert brief(verdict) == ("met", None)
    assert verdict.bases[0].observed_mflop_s == 500 * P
    assert verdict.by_rmax is UNSET


def test_every_basis_lacks_what_is_not_shown() -> None:
    verdict = judged(Rmax(), threshold("unstated"))
    assert {brief_of.reason for brief_of in verdict.bases} == {"rmax-not-shown"}
    assert brief(verdict) == (INSUFFICIENT, "rmax-not-shown")


def test_other_classes_keep_the_sum_of_their_nodes() -> None:
    verdict = judged(Rmax(200 * P, 200 * P), threshold(classes=(CLASS, "general")))
    assert verdict.bases[0].observed_mflop_s == 500 * P
    assert brief(verdict) == ("met", None)


def test_a_share_takes_rmax_too() -> None:
    share = Share(
        condition="share",
        title=TEXT,
        clause=CLAUSE,
        classes=(CLASS,),
        of=ALL,
        operator=">=",
        value_ppm=250_000,
        basis="certified",
    )
    verdict = judged(Rmax(100 * P, 100 * P), share)
    assert (verdict.bases[0].observed_mflop_s, verdict.bases[0].whole_mflop_s) == (100 * P, 400 * P)
    assert brief(verdict) == ("met", None)
    assert brief(judged(Rmax(), share)) == (INSUFFICIENT, "rmax-not-shown")


def test_a_verdict_says_that_it_is_of_rmax() -> None:
    said = "\n".join(describe_verdict(judged(Rmax(400 * P, 400 * P))))
    assert "Rmax" in said
    (by_nodes,) = evaluate(policy(threshold(), by_rmax=False), found(Rmax(1, 1)))
    assert "Rmax" not in "\n".join(describe_verdict(by_nodes))


def test_policies_that_do_not_say_keep_their_digest(tmp_path: Path) -> None:
    content = yaml.safe_load(config_path("policies", "wuhan-2025.yaml").read_text())
    content["policy"] = "mine"
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    plain = read_policy(str(file))
    assert not any("capacity" in counting for counting in content["counting"].values())
    content["counting"][CLASS]["capacity"] = "nodes"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    stated = read_policy(str(file))
    assert digest(plain) != digest(stated)
    assert plain.counting[CLASS].is_by_rmax is stated.counting[CLASS].is_by_rmax is False


def test_rmax_is_of_fp64(tmp_path: Path) -> None:
    content = yaml.safe_load(config_path("policies", "wuhan-2025.yaml").read_text())
    content["policy"] = "mine"
    content["counting"]["intelligent"]["capacity"] = "rmax"
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    with pytest.raises(InputError) as refused:
        read_policy(str(file))
    assert refused.value.code == "rmax-not-fp64"
