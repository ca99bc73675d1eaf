"""Who reached the value that a policy names for one centre (2000P): the statements' own verdicts, listed.

Nothing is judged here: a verdict is as the operator signed it and as the registry recomputed it with the statement.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, select

from bench.record.fields import filled
from bench.units import ratio_ppm
from certify.policy.policies import Policy, Threshold
from certify.policy.verdicts import Verdict
from certify.registry.api.reached import OtherCondition, Reached, ReachedLine
from certify.registry.state.model import LatestStatement, Snapshot
from certify.registry.storage.city_tables import verdict_lines
from certify.registry.storage.tables import chains

NEAREST = 20

Verdicts = dict[str, dict[str, tuple[Verdict, ...]]]  # by statement and policy


def read_verdicts(connection: Connection, policies: Iterable[str]) -> Verdicts:
    """Return the verdicts of all newest statements on some policies."""
    columns = (verdict_lines.c.statement, verdict_lines.c.policy, verdict_lines.c.content)
    query = (
        select(*columns)
        .select_from(chains.join(verdict_lines, verdict_lines.c.statement == chains.c.statement))
        .where(verdict_lines.c.policy.in_(list(policies)))
        .order_by(verdict_lines.c.statement, verdict_lines.c.number)
    )
    decoder = msgspec.json.Decoder(Verdict)
    found: Verdicts = {}
    for statement, policy, content in connection.execute(query):
        of_statement = found.setdefault(statement, {})
        of_statement[policy] = (*of_statement.get(policy, ()), decoder.decode(content))
    return found


def reached(policy: Policy, snapshot: Snapshot, verdicts: Verdicts, at: str) -> tuple[Reached, ...]:
    """Return who met each threshold of a policy for single centres, and who is nearest below.

    Args:
        policy: whose scope is one centre.
        snapshot: the present state.
        verdicts: of its newest statements.
        at: the present.
    """
    in_force = [one for one in snapshot.latest_statements if one.end is None and not one.in_no_sum]
    return tuple(
        _reached(policy, condition, in_force, verdicts, at)
        for condition in policy.judged
        if isinstance(condition, Threshold)
    )


def _reached(
    policy: Policy, condition: Threshold, in_force: list[LatestStatement], verdicts: Verdicts, at: str
) -> Reached:
    lines = []
    for latest in in_force:
        own = verdicts.get(latest.facts.payload_sha256, {}).get(policy.policy, ())
        lines += [_line(policy, latest, verdict, own) for verdict in own if verdict.condition == condition.condition]
    lines.sort(key=lambda one: (-one.certified_mflop_s, one.centre_id, one.project_id or ""))
    met = [one for one in lines if one.verdict == "met"]
    below = [one for one in lines if one.verdict != "met"]
    return Reached(
        policy=policy.policy,
        title=policy.title,
        document_status=policy.document.status,
        condition=condition.condition,
        condition_title=condition.title,
        target=condition.value,
        target_unit=condition.unit,
        at=at,
        met=tuple(one for one in met if one.level == "recomputed"),
        declared_only=tuple(one for one in met if one.level != "recomputed"),
        below=tuple(below[:NEAREST]),
        below_count=len(below),
        not_judged=len(in_force) - len(lines),
    )


def _line(policy: Policy, latest: LatestStatement, verdict: Verdict, own: tuple[Verdict, ...]) -> ReachedLine:
    titles = {one.condition: one.title for one in policy.judged}
    certified = next((line.observed_mflop_s for line in verdict.bases if line.basis == "certified"), None)
    # a text that names one basis is judged on that one alone
    observed = verdict.bases[0].observed_mflop_s if certified is None and verdict.bases else certified or 0
    summary = latest.summary()
    return filled(
        ReachedLine,
        verdict,
        centre_id=latest.facts.centre_id,
        project_id=latest.facts.project_id or None,
        name=summary.name,
        statement=latest.facts.payload_sha256,
        level=latest.level,
        state=latest.state,
        certified_mflop_s=observed,
        reached_ppm=ratio_ppm(observed, verdict.threshold_mflop_s or 0) or 0,
        conditions=tuple(
            filled(OtherCondition, one, title=titles.get(one.condition))
            for one in own
            if one.condition != verdict.condition
        ),
    )
