"""Every page as a function of values: what the API tells, in words. Nothing is looked up and nothing computed here but
order and layout, so that a page can be tested without a registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.record import PoolClass
from bench.units import full_name, truncated
from certify.documents.statement import CapacityStatement
from certify.policy.centre import CLASSES, Bilingual
from certify.policy.policies import Policy
from certify.policy.verdicts import Verdict
from certify.registry.api.common import ENDED, REACHED
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreDetail,
    CentreSummary,
    City,
    CityCondition,
    Decision,
    Gap,
    Lifecycle,
    LifecycleLine,
    PoolCapacity,
    StatementDetail,
    StatementSummary,
)
from certify.registry.web import wording
from certify.registry.web.chart import charts
from certify.registry.web.wording import Frame, Lang
from certify.statement.bounds import LIMITS, STEPS_MEAN
from certify.statement.describe import absent_nodes

ROWS = 200  # centres on a page
STATES = (*REACHED, *ENDED)
SORTS = ("name", "district", "operator", "tier", "state", "certified", "schedulable", "valid", "alarms")
TIERS = ("node", "cluster_zone", "city_dc", "edge")
_KNOWN_ERRORS = (400, 401, 403, 404, 405, 429, 500, 503)
_HELPED = (401, 404)


@cache
def environment(lang: Lang) -> Environment:
    """Return the templates with the words of a language."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        said=lambda text: wording.said(text, lang),
        reason=lambda code: wording.reason_text(code, lang),
        missing=lambda code: wording.missing_text(code, lang),
        full_name=full_name,
        known=lambda value, prefix: wording.known(prefix, value, lang),
        rate=wording.rate,
        percent=wording.percent,
        points=lambda ppm: truncated(ppm, 10_000, 1 if ppm >= 1000 else 4),
        moment=wording.moment,
        count=wording.count,
        operator=lambda sign: "≥" if sign == ">=" else sign,
    )
    made.globals.update(t=wording.wording(lang), tags=wording.TAGS, doubt=_doubt, gaps=_gaps)
    return made


def _page(frame: Frame, template: str, room: str | None, **values: Any) -> str:
    return environment(frame.lang).get_template(f"{template}.html.j2").render(frame=frame, room=room, **values)


def _doubt(one: StatementSummary | PoolCapacity) -> str | None:
    return wording.proves_nothing(one.simulated, one.grade)


def _gaps(condition: CityCondition) -> Mapping[str, Gap]:
    return {gap.basis: gap for gap in condition.gaps}


# --- the city ---------------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """The life cycle of one class in one precision."""

    pool_class: PoolClass
    precision: str
    reached: tuple[LifecycleLine, ...]
    ended: tuple[LifecycleLine, ...]

    @property
    def top_mflop_s(self) -> int:
        """What stands in force altogether."""
        return max((line.reached.certified_mflop_s for line in self.reached), default=0)


def overview(frame: Frame, cities: Sequence[City], lifecycle: Lifecycle) -> str:
    """Return the first page: each city's targets, and the life cycle."""
    return _page(frame, "overview", "", cities=cities, lifecycle=_groups(lifecycle.lines))


def _groups(lines: Iterable[LifecycleLine]) -> list[Group]:
    def kind(line: LifecycleLine) -> tuple[int, PoolClass, str]:
        return CLASSES.index(line.pool_class), line.pool_class, line.precision

    groups = []
    for (_, pool_class, precision), group in groupby(sorted(lines, key=kind), kind):
        by_state = {line.state: line for line in group}
        reached, ended = (tuple(by_state[s] for s in states if s in by_state) for states in (REACHED, ENDED))
        groups.append(Group(pool_class, precision, reached, ended))
    return groups


# --- centres ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CentresAsk:
    """What a reader looks for among the centres. What is empty or unknown asks for nothing."""

    q: str = ""
    district: str = ""
    pool_class: str = ""
    state: str = ""
    sort: str = "name"
    descending: bool = False
    page: int = 1


class CentreRow(NamedTuple):
    """A centre, with what it is found by and what each column is sorted by."""

    centre: CentreSummary
    text: str
    order: Mapping[str, str | int]
    proves_nothing: str | None


def read_ask(query: Mapping[str, str]) -> CentresAsk:
    """Return what the query of an address asks for; nothing in it is an error."""
    sort, page = query.get("sort", ""), query.get("page", "")
    return CentresAsk(
        q=query.get("q", "").strip()[:100],
        district=query.get("district", ""),
        pool_class=query.get("class", "") if query.get("class") in CLASSES else "",
        state=query.get("state", "") if query.get("state") in STATES else "",
        sort=sort if sort in SORTS else "name",
        descending=query.get("order") == "desc",
        page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 and int(page) else 1,
    )


def ask_query(ask: CentresAsk) -> str:
    """Return the query of an address that asks so."""
    plain = CentresAsk()
    values = {key: value for key, value in asdict(ask).items() if value != getattr(plain, key)}
    if ask.descending:
        values |= {"order": "desc"}
        del values["descending"]
    if ask.pool_class:
        values |= {"class": values.pop("pool_class")}
    return f"?{urlencode(values)}" if values else ""


def centres(frame: Frame, listed: Iterable[CentreSummary], pools: Iterable[PoolCapacity], ask: CentresAsk) -> str:
    """Return the table of centres.

    Args:
        listed: all of them.
        pools: the present pools, by which what proves nothing is marked.
        ask: what is looked for.
    """
    doubts: dict[str, set[str]] = {}
    for pool in pools:
        if pool.state not in ENDED and (doubt := _doubt(pool)) is not None:
            doubts.setdefault(pool.centre_id, set()).add(doubt)
    rows = [_row(centre, doubts.get(centre.centre_id, set()), ask, frame.lang) for centre in listed]
    fitting = sorted((row for row in rows if _fits(row, ask)), key=lambda row: row.centre.centre_id)
    # stable, and sorted by id before: equal rows stand in one order on every page
    fitting.sort(key=lambda row: row.order[ask.sort], reverse=ask.descending)
    shown = fitting[(ask.page - 1) * ROWS : ask.page * ROWS]
    more = ask_query(_but(ask, page=ask.page + 1)) if len(fitting) > ask.page * ROWS else None

    def sorted_by(column: str) -> str:
        return ask_query(_but(ask, sort=column, descending=column == ask.sort and not ask.descending, page=1))

    return _page(
        frame,
        "centres",
        "centres",
        ask=ask,
        rows=shown,
        total=len(rows),
        districts=sorted({row.centre.district for row in rows if row.centre.district}),
        kinds=CLASSES,
        states=STATES,
        next=more,
        sorted_by=sorted_by,
    )


def _but(ask: CentresAsk, **changes: Any) -> CentresAsk:
    return CentresAsk(**{**asdict(ask), **changes})


def _row(centre: CentreSummary, doubts: set[str], ask: CentresAsk, lang: Lang) -> CentreRow:
    rates = {line.pool_class: line.certified_mflop_s for line in centre.classes}
    order: dict[str, str | int] = {
        "name": wording.said(centre.name, lang),
        "district": centre.district or "",
        "operator": centre.operator,
        "tier": TIERS.index(centre.tier) if centre.tier in TIERS else len(TIERS),
        "state": REACHED.index(centre.state) if centre.state in REACHED else -1,
        "certified": rates.get(ask.pool_class or "intelligent", 0),  # type: ignore[call-overload]
        "schedulable": centre.schedulable_mflop_s,
        "valid": centre.valid_until or "",
        "alarms": centre.alarms,
    }
    words = (centre.centre_id, centre.name.zh, centre.name.en, centre.operator)
    return CentreRow(centre, " ".join(words).casefold(), order, max(doubts, default=None))


def _fits(row: CentreRow, ask: CentresAsk) -> bool:
    return (
        all(word in row.text for word in ask.q.casefold().split())
        and ask.district in ("", row.centre.district)
        and (not ask.pool_class or ask.pool_class in {line.pool_class for line in row.centre.classes})
        and ask.state in ("", row.centre.state)
    )


def centre(frame: Frame, detail: CentreDetail, alarms: Sequence[Alarm]) -> str:
    """Return the page of a centre."""
    doubts = [_doubt(pool) for pool in detail.pools]
    return _page(
        frame,
        "centre",
        "centres",
        d=detail,
        c=detail.summary,
        warnings=sorted({doubt for doubt in doubts if doubt}),
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
    return _page(
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


def alarms(frame: Frame, lines: Sequence[Alarm], cursor: str | None) -> str:
    """Return the page of duplicates and alarms. Counts only: sentences may name devices and are not shown."""
    return _page(frame, "alarms", "alarms", lines=lines, next=_cursor(cursor))


def refused(frame: Frame, lines: Sequence[Decision], cursor: str | None) -> str:
    """Return the page of refused submissions."""
    counts = Counter(one.code for one in lines if one.code)
    return _page(frame, "refused", "refused", lines=lines, counts=counts.most_common(), next=_cursor(cursor))


def attempts(frame: Frame, lines: Sequence[AttemptLine]) -> str:
    """Return the page of attempts: first those that were opened and not submitted."""
    states = ("not-submitted", "open", "submitted")
    groups = [(state, [one for one in lines if one.state == state]) for state in states]
    return _page(frame, "attempts", "attempts", groups=[group for group in groups if group[1]])


def error(frame: Frame, status: int, code: str | None = None) -> str:
    """Return the page of an error."""
    title = f"error.{status if status in _KNOWN_ERRORS else 'other'}"
    help_ = f"error.{status}.help" if status in _HELPED else None
    shown = None if code in (None, "not-found") else code
    return _page(frame, "error", None, status=status, title=title, help=help_, code=shown)


def _cursor(cursor: str | None) -> str | None:
    return None if cursor is None else f"?{urlencode({'cursor': cursor})}"
