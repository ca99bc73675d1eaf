"""The page of all centres: what a reader looks for among them, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from certify.policy.centre import CLASSES, city_code
from certify.registry.api.common import ENDED, REACHED
from certify.registry.api.views import CentreSummary, PoolCapacity
from certify.registry.web import wording
from certify.registry.web.overview import unit_of
from certify.registry.web.rendering import doubt, render
from certify.registry.web.wording import Frame, Lang

ROWS = 200  # centres on a page
STATES = (*REACHED, *ENDED)
SORTS = ("name", "district", "operator", "tier", "state", "certified", "schedulable", "valid", "alarms")
TIERS = ("node", "cluster_zone", "city_dc", "edge")


@dataclass(frozen=True)
class CentresAsk:
    """What a reader looks for among the centres. What is empty or unknown asks for nothing."""

    q: str = ""
    city: str = ""  # GB/T 2260: CN-440100, and what lies within
    district: str = ""
    pool_class: str = ""
    state: str = ""
    sort: str = "name"
    descending: bool = False
    page: int = 1


class CentreRow(NamedTuple):
    """A centre, with what it is found by and what each column is sorted by."""

    centre: CentreSummary
    city: str  # by its code of GB/T 2260; empty where it lies in none
    text: str
    order: Mapping[str, str | int]
    proves_nothing: str | None


def read_ask(query: Mapping[str, str]) -> CentresAsk:
    """Return what the query of an address asks for; nothing in it is an error."""
    sort, page = query.get("sort", ""), query.get("page", "")
    return CentresAsk(
        q=query.get("q", "").strip()[:100],
        city=query.get("city", ""),
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
        if pool.state not in ENDED and (kind := doubt(pool)) is not None:
            doubts.setdefault(pool.centre_id, set()).add(kind)
    rows = [_row(centre, doubts.get(centre.centre_id, set()), ask, frame.lang) for centre in listed]
    fitting = _fitting(rows, ask)
    shown = fitting[(ask.page - 1) * ROWS : ask.page * ROWS]
    more = ask_query(_but(ask, page=ask.page + 1)) if len(fitting) > ask.page * ROWS else None

    def sorted_by(column: str) -> str:
        return ask_query(_but(ask, sort=column, descending=column == ask.sort and not ask.descending, page=1))

    return render(
        frame,
        "centres",
        "centres",
        ask=ask,
        rows=shown,
        total=len(rows),
        cities=sorted({row.city for row in rows if row.city}),
        districts=sorted({row.centre.district for row in rows if row.centre.district}),
        kinds=CLASSES,
        states=STATES,
        next=more,
        unit=unit_of(line.certified_mflop_s for row in rows for line in row.centre.classes),
        csv=ask_query(_but(ask, page=1)),
        sorted_by=sorted_by,
    )


def centres_asked(listed: Iterable[CentreSummary], ask: CentresAsk, lang: Lang) -> list[CentreSummary]:
    """Return the centres that are looked for, in the order that is asked for."""
    return [row.centre for row in _fitting([_row(centre, set(), ask, lang) for centre in listed], ask)]


def _fitting(rows: Iterable[CentreRow], ask: CentresAsk) -> list[CentreRow]:
    # stable, and sorted by id before: equal rows stand in one order on every page
    by_id = sorted((row for row in rows if _fits(row, ask)), key=lambda row: row.centre.centre_id)
    return sorted(by_id, key=lambda row: row.order[ask.sort], reverse=ask.descending)


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
    words = " ".join((centre.centre_id, centre.name.zh, centre.name.en, centre.operator)).casefold()
    city = city_code(centre.jurisdiction) or ""
    return CentreRow(centre, city, words, order, max(doubts, default=None))


def _fits(row: CentreRow, ask: CentresAsk) -> bool:
    return (
        all(word in row.text for word in ask.q.casefold().split())
        and ask.city in ("", row.city)
        and ask.district in ("", row.centre.district)
        and (not ask.pool_class or ask.pool_class in {line.pool_class for line in row.centre.classes})
        and ask.state in ("", row.centre.state)
    )
