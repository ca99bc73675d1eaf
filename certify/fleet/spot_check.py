"""A spot check of a claim: the drawn nodes, what re-measuring them shows, and the bound on the whole that follows.

Pure functions of values: the caller reads the statement and the new records and judges these by the run rules. All
numbers are exact integers. The formulas, an example and the limits: docs/spot-check.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from bench.errors import InputError
from bench.record import Document, digest
from bench.units import percent_text, rate_text, truncated
from certify.fleet.statistics import at_most

TAG = "petaseal/spot-check/v1"
TOLERANCE_PPM = 20_000
CONFIDENCE_PPM = 950_000
MILLION = 10**6

Outcome = Literal["good", "overstated", "not-measured"]


class NodeClaim(NamedTuple):
    """What a statement claims of one node: the sums over its counted devices, in the one workload that is checked."""

    sustained_mflop_s: int  # what the re-measurement is compared with
    certified_mflop_s: int  # what counts


class NodeCheck(Document, frozen=True, kw_only=True):
    """The stated and the re-measured sustained rate of one drawn node, MFLOP/s."""

    node_id: str
    claimed_mflop_s: int
    measured_mflop_s: int | None
    outcome: Outcome


class SpotCheck(Document, frozen=True, kw_only=True):
    """What a spot check showed, in the order of the draw."""

    nodes: int  # of the whole claim
    drawn: tuple[NodeCheck, ...]
    tolerance_ppm: int
    claimed_mflop_s: int  # sustained, sum over the drawn nodes
    measured_mflop_s: int  # the same; a node that was not re-measured adds 0
    sum_differs: bool  # by more than the tolerance, in either direction
    bad: int  # drawn nodes whose outcome is not good
    confidence_ppm: int
    bad_at_most: int  # nodes of the whole claim, with that confidence
    certified_mflop_s: int  # the whole claim
    stands_mflop_s: int  # of it, with that confidence, whichever nodes the bad ones are
    passed: bool


def draw(node_ids: Collection[str], seed: str, records_root: str, fraction_ppm: int) -> tuple[str, ...]:
    """Return the nodes to re-measure, in an order that is unknown before the seed and repeatable after it.

    Args:
        node_ids: all nodes of the claim.
        seed: the auditor's challenge, 32 to 64 lower-case hex digits, given after the statement was signed.
        records_root: the Merkle root over the statement's records, so that the draw belongs to this claim only.
        fraction_ppm: of the nodes, 1 to 1,000,000; the number is rounded up.

    Raises:
        InputError: `spot-check-invalid`.
    """
    if not re.fullmatch("[0-9a-f]{32,64}", seed):
        raise _invalid("the seed is not 32 to 64 lower-case hex digits", "take one from: openssl rand -hex 32")
    if not re.fullmatch("[0-9a-f]{64}", records_root):
        raise _invalid("the records root is not 64 lower-case hex digits", "take it from the statement")
    if not 1 <= fraction_ppm <= MILLION:
        raise _invalid("the fraction is not above 0 and at most 1", "give one such as 0.05")
    if not node_ids or len(set(node_ids)) != len(node_ids):
        raise _invalid("the claim has no node, or names one twice")
    # By a hash that needs the seed: a centre that knew the order could measure well what will be drawn, and a random
    # generator would bind the answer to one library. The root binds the draw to this claim.
    ranked = sorted(node_ids, key=lambda node_id: digest([TAG, seed, records_root, node_id]))
    return tuple(ranked[: -(-fraction_ppm * len(ranked) // MILLION)])


def exceeds(claimed: int, measured: int, tolerance_ppm: int = TOLERANCE_PPM) -> bool:
    """Return whether a claim is above a measurement by strictly more than the tolerance, exactly."""
    return claimed * MILLION > measured * (MILLION + tolerance_ppm)


def judge(
    claim: Mapping[str, NodeClaim],
    drawn: Sequence[str],
    measured: Mapping[str, int],
    *,
    tolerance_ppm: int = TOLERANCE_PPM,
    confidence_ppm: int = CONFIDENCE_PPM,
) -> SpotCheck:
    """Return what a spot check showed. A drawn node without a measurement is bad, never skipped.

    Args:
        claim: every node of the claim that counts.
        drawn: what `draw` returned for these nodes.
        measured: sustained MFLOP/s of the drawn nodes' claimed devices, where a new record gave a figure that counts.
        tolerance_ppm: by which a claim may be above its re-measurement.
        confidence_ppm: of the bounds on the whole.

    Raises:
        InputError: `spot-check-invalid`.
    """
    if not drawn or len(set(drawn)) != len(drawn) or not claim.keys() >= set(drawn):
        raise _invalid("the drawn nodes are none, or not distinct nodes of the claim", "draw from this claim")
    if undrawn := sorted(measured.keys() - set(drawn)):
        raise _invalid(f"{undrawn[0]} was re-measured and not drawn", "judge the drawn nodes only")
    if unclaimed := [node_id for node_id, one in claim.items() if min(one) <= 0]:
        raise _invalid(f"{unclaimed[0]} claims nothing", "leave out what does not count")
    if any(value < 0 for value in measured.values()) or tolerance_ppm < 0:
        raise _invalid("a rate or the tolerance is negative")
    checks = tuple(
        NodeCheck(
            node_id=node_id,
            claimed_mflop_s=(claimed := claim[node_id].sustained_mflop_s),
            measured_mflop_s=(rate := measured.get(node_id)),
            outcome=_outcome(claimed, rate, tolerance_ppm),
        )
        for node_id in drawn
    )
    claimed_sum = sum(check.claimed_mflop_s for check in checks)
    measured_sum = sum(measured.values())
    bad = {check.node_id for check in checks if check.outcome != "good"}
    differs = abs(claimed_sum - measured_sum) * MILLION > measured_sum * tolerance_ppm
    bad_at_most = most_bad(len(claim), len(drawn), len(bad), confidence_ppm)
    return SpotCheck(
        nodes=len(claim),
        drawn=checks,
        tolerance_ppm=tolerance_ppm,
        claimed_mflop_s=claimed_sum,
        measured_mflop_s=measured_sum,
        sum_differs=differs,
        bad=len(bad),
        confidence_ppm=confidence_ppm,
        bad_at_most=bad_at_most,
        certified_mflop_s=sum(one.certified_mflop_s for one in claim.values()),
        stands_mflop_s=_undisputed_mflop_s(claim, set(drawn), bad, bad_at_most),
        passed=not bad and not differs,
    )


def _outcome(claimed: int, measured: int | None, tolerance_ppm: int) -> Outcome:
    if measured is None:
        return "not-measured"
    return "overstated" if exceeds(claimed, measured, tolerance_ppm) else "good"


def _undisputed_mflop_s(claim: Mapping[str, NodeClaim], drawn: set[str], bad: set[str], bad_at_most: int) -> int:
    """Return the claim without the bad drawn nodes and the largest undrawn ones that may be bad, MFLOP/s."""
    unseen = sorted((one.certified_mflop_s for node_id, one in claim.items() if node_id not in drawn), reverse=True)
    seen = sum(claim[node_id].certified_mflop_s for node_id in drawn - bad)
    return seen + sum(unseen[bad_at_most - len(bad) :])


def most_bad(nodes: int, drawn: int, bad: int, confidence_ppm: int = CONFIDENCE_PPM) -> int:
    """Return how many nodes are bad at most, with a confidence, when so many of the drawn ones are.

    It is the largest D with P(X <= bad | nodes, D, drawn) > 1 - confidence, X hypergeometric: one less than the
    smallest D that the draw contradicts.

    Raises:
        InputError: `spot-check-invalid`.
    """
    _check(nodes, drawn, bad, confidence_ppm)
    reach = 1  # a large D makes large numbers: it is approached from below
    while bad + reach < nodes and not _contradicted(bad, nodes, bad + reach, drawn, confidence_ppm):
        reach *= 2
    candidates = range(bad, min(bad + reach, nodes) + 1)
    return (
        bad
        - 1
        + bisect_left(candidates, True, key=lambda total: _contradicted(bad, nodes, total, drawn, confidence_ppm))
    )


def nodes_to_draw(nodes: int, bad_at_most: int, confidence_ppm: int = CONFIDENCE_PPM) -> int:
    """Return how many nodes must be drawn, and all be good, to say with a confidence that so many are bad at most.

    Raises:
        InputError: `spot-check-invalid`.
    """
    _check(nodes, 0, 0, confidence_ppm)
    if not 0 <= bad_at_most < nodes:
        raise _invalid(f"{bad_at_most} bad nodes at most, of {nodes}: not a statement that a draw could support")
    return bisect_left(
        range(nodes), True, key=lambda drawn: _contradicted(0, nodes, bad_at_most + 1, drawn, confidence_ppm)
    )


def _contradicted(bad_drawn: int, nodes: int, bad: int, drawn: int, confidence_ppm: int) -> bool:
    """Return whether so few bad nodes among the drawn have a chance of at most 1 - confidence, if `bad` are in all."""
    part, whole = at_most(bad_drawn, nodes, bad, drawn)
    return part * MILLION <= whole * (MILLION - confidence_ppm)


def _check(nodes: int, drawn: int, bad: int, confidence_ppm: int) -> None:
    if not 0 <= bad <= drawn <= nodes:
        raise _invalid(f"{bad} bad of {drawn} drawn of {nodes} nodes cannot be")
    if not 0 < confidence_ppm < MILLION:
        raise _invalid("the confidence is not between 0 and 1", "give one such as 0.95")


def _invalid(what: str, fix: str | None = None) -> InputError:
    return InputError("spot-check-invalid", what, where="spot check", fix=fix)


def lines(check: SpotCheck, names: Mapping[str, str]) -> list[str]:
    """Return a spot check's result as printed lines.

    Args:
        check: the result.
        names: the engine's name of each node, where it is known.
    """
    text = [f"Drawn: {len(check.drawn):,} of {check.nodes:,} nodes; sustained rates, claimed and re-measured:"]
    width = max(len(names.get(one.node_id, one.node_id)) for one in check.drawn)
    for one in check.drawn:
        claimed, outcome = rate_text(one.claimed_mflop_s), one.outcome.replace("-", " ").upper()
        rates = f"{claimed:>16}  {_measured(one.claimed_mflop_s, one.measured_mflop_s):<38}"
        text.append(f"  {names.get(one.node_id, one.node_id):{width}}  {rates}  {outcome.replace('GOOD', 'good')}")
    total = f"{rate_text(check.claimed_mflop_s):>16}  {_measured(check.claimed_mflop_s, check.measured_mflop_s):<38}"
    text.append(f"  {'sum':{width}}  {total}  {'DIFFERS' if check.sum_differs else 'agrees'}")
    sure, most, bad = percent_text(check.confidence_ppm), f"{check.bad_at_most:,} of all {check.nodes:,}", check.bad
    undisputed, certified = rate_text(check.stands_mflop_s), rate_text(check.certified_mflop_s)
    text += [
        f"With {sure} confidence at most {most} nodes are bad ({bad:,} found). "
        f"Even if these are the largest, {undisputed} of the {certified} certified stand.",
        f"The claim {'passes' if check.passed else 'FAILS'}{_why(check)}.",
    ]
    return text


def _measured(claimed: int, measured: int | None) -> str:
    if not measured:
        return "none" if measured is None else "0"
    side = "above" if claimed > measured else "below"
    off = f"{truncated(abs(claimed - measured) * 100, measured, 2)} % {side}" if claimed != measured else "equal"
    return f"{rate_text(measured)} (claim {off})"


def _why(check: SpotCheck) -> str:
    limit = percent_text(check.tolerance_ppm)
    texts = {"overstated": f"claiming more than {limit} too much", "not-measured": "not re-measured"}
    counts = {outcome: sum(one.outcome == outcome for one in check.drawn) for outcome in texts}
    reasons = [f"{count:,} of {len(check.drawn):,} {texts[outcome]}" for outcome, count in counts.items() if count]
    if check.sum_differs:
        reasons.append(f"the sum of those drawn differs by more than {limit}")
    return f": {'; '.join(reasons)}" if reasons else ""
