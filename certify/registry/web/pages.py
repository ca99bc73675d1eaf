"""Every page as a function of values: what the API tells, in words. Nothing is looked up and nothing computed here but
order and layout, so that a page can be tested without a registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode

from certify.documents.statement import CapacityStatement
from certify.policy.centre import CLASSES, Bilingual
from certify.policy.policies import Policy
from certify.policy.verdicts import Verdict
from certify.registry.api.cities import City, Lifecycle
from certify.registry.api.oversight import AlarmGroup, AuditLine
from certify.registry.api.reached import Reached, Trend
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreDetail,
    Decision,
    StatementDetail,
)
from certify.registry.web.chart import charts
from certify.registry.web.overview import groups, trend_charts
from certify.registry.web.rendering import doubt, render
from certify.registry.web.wording import Frame
from certify.statement.bounds import LIMITS, STEPS_MEAN
from certify.statement.brought.words import evidence_lines_in
from certify.statement.describe import absent_nodes
from certify.statement.paper.verdict_rows import (
    MOST_GROUPS,
    SINGLE_FACILITY,
    fabric_details,
    fabric_headline,
    headline_code,
)

_KNOWN_ERRORS = (400, 401, 403, 404, 405, 429, 500, 503)
_HELPED = (401, 404)


# --- the city ---------------------------------------------------------------------------------------------------------


def overview(
    frame: Frame,
    cities: Sequence[City],
    lifecycle: Lifecycle,
    reached: Sequence[Reached] = (),
    trends: Sequence[Trend] = (),
) -> str:
    """Return the first page: each city's targets and trend, who reached 2000P, and the life cycle."""
    drawn = {trend.policy: trend_charts(trend) for trend in trends}
    return render(
        frame, "overview", "", cities=cities, lifecycle=groups(lifecycle.lines), reached=reached, trends=drawn
    )


# --- a centre ---------------------------------------------------------------------------------------------------------


def centre(frame: Frame, detail: CentreDetail, alarms: Sequence[Alarm]) -> str:
    """Return the page of a centre."""
    doubts = [doubt(pool) for pool in detail.pools]
    return render(
        frame,
        "centre",
        "centres",
        d=detail,
        c=detail.summary,
        warnings=sorted({kind for kind in doubts if kind}),
        charts=charts(detail.statements, frame.at),
        not_submitted=[one for one in detail.attempts if one.state != "submitted"],
        alarms=alarms,
    )


# --- one statement ----------------------------------------------------------------------------------------------------


class PolicyVerdicts(NamedTuple):
    """The verdicts on one policy; without a title where the registry does not hold it."""

    policy: str
    title: Bilingual | None
    draft: bool
    lines: list[tuple[Any, Verdict]]


def statement(
    frame: Frame, detail: StatementDetail, stated: CapacityStatement | None, policies: Mapping[str, Policy]
) -> str:
    """Return the page of a statement.

    Args:
        detail: what the registry knows of it.
        stated: the signed statement, which lists what was not shown.
        policies: that it binds and the registry holds, by name.
    """
    findings = () if stated is None else stated.findings
    absent = {} if stated is None else absent_nodes(stated)
    return render(
        frame,
        "statement",
        "centres",
        d=detail,
        s=detail.summary,
        groups=[_judged(name, list(group), policies.get(name)) for name, group in _by_policy(detail.verdicts)],
        findings=findings,
        absent=[(code, len(nodes)) for code, nodes in absent.items()],
        limits=LIMITS,
        steps=[step for step in STEPS_MEAN if step in {line.step for line in detail.ceilings}],
        steps_mean=STEPS_MEAN,
        kinds=CLASSES,
        beside={SINGLE_FACILITY: (fabric_headline(detail.fabric, frame.lang), headline_code(detail.fabric))},
        evidence=evidence_lines_in(detail.evidence, frame.lang),
        fabric=[] if detail.fabric is None else fabric_details(detail.fabric, frame.lang, MOST_GROUPS),
    )


def _by_policy(verdicts: Iterable[Verdict]) -> Iterable[tuple[str, Iterable[Verdict]]]:
    return groupby(verdicts, lambda verdict: verdict.policy)


def _judged(name: str, verdicts: list[Verdict], policy: Policy | None) -> PolicyVerdicts:
    known = {} if policy is None else {condition.condition: condition for condition in policy.judged}
    return PolicyVerdicts(
        policy=name,
        title=None if policy is None else policy.title,
        draft=any(verdict.document_status == "draft" for verdict in verdicts),
        lines=[(known.get(verdict.condition), verdict) for verdict in verdicts],
    )


# --- lists, and what went wrong ---------------------------------------------------------------------------------------


def alarms(frame: Frame, lines: Sequence[Alarm], cursor: str | None, asked: str = "") -> str:
    """Return the page of duplicates and alarms. Counts only: sentences and reasons may name devices.

    Args:
        asked: which of them are listed: acknowledged ones (``true``), open ones (``false``), or all.
    """
    following = _cursor(cursor, **({"acknowledged": asked} if asked else {}))
    return render(frame, "alarms", "alarms", lines=lines, next=following, asked=asked)


def alarm_groups(frame: Frame, lines: Sequence[AlarmGroup], cursor: str | None) -> str:
    """Return the page of alarms by pair of centres."""
    return render(frame, "alarm_groups", "alarms", lines=lines, next=_cursor(cursor))


def audit(frame: Frame, lines: Sequence[AuditLine], cursor: str | None) -> str:
    """Return the page of the audit log."""
    return render(frame, "audit", "audit", lines=lines, next=_cursor(cursor))


def refused(frame: Frame, lines: Sequence[Decision], cursor: str | None) -> str:
    """Return the page of refused submissions."""
    counts = Counter(one.code for one in lines if one.code)
    return render(frame, "refused", "refused", lines=lines, counts=counts.most_common(), next=_cursor(cursor))


def attempts(frame: Frame, lines: Sequence[AttemptLine]) -> str:
    """Return the page of attempts: first those that were opened and not submitted."""
    states = ("not-submitted", "open", "submitted")
    groups = [(state, [one for one in lines if one.state == state]) for state in states]
    return render(frame, "attempts", "attempts", groups=[group for group in groups if group[1]])


def error(frame: Frame, status: int, code: str | None = None) -> str:
    """Return the page of an error."""
    title = f"error.{status if status in _KNOWN_ERRORS else 'other'}"
    help_ = f"error.{status}.help" if status in _HELPED else None
    shown = None if code in (None, "not-found") else code
    return render(frame, "error", None, status=status, title=title, help=help_, code=shown)


def _cursor(cursor: str | None, **asked: str) -> str | None:
    return None if cursor is None else f"?{urlencode({'cursor': cursor, **asked})}"
