"""What each condition of a policy lacks, and which field of the centre file gives it: for the operator who certifies.

It follows from the centre file and the verdicts; nothing here decides anything or stands in a statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.language import Language, text_in
from certify.policy.centre import Centre, Declaration
from certify.policy.policies import (
    Condition,
    Declared,
    Domestic,
    Guide,
    NewlyAdded,
    Paper,
    Policy,
    Share,
    Threshold,
    items_of,
)
from certify.policy.reasons import reasons
from certify.policy.thresholds import INSUFFICIENT, Outcome
from certify.policy.verdicts import WEAKEST_FIRST, Verdict, lies_within

FIELDS: Mapping[Declaration, str | None] = {
    "project": "project_id",
    "park": "park",
    "facility": "facility",
    "managed": None,  # the platform's to say
}
HOW: Mapping[str, str] = {  # how a field of the centre file is filled in
    "project_id": "write the filing number of the one project (备案号)",
    "park": "write {name: ..., evidence_sha256: ...}, the digest of the paper on the park (sha256sum PAPER)",
    "facility": "write {id: ..., definition: ..., evidence_sha256: ...}: its boundary, and the paper on it",
    "jurisdiction": "write CN- and the six digits of the place, such as CN-440100",
    "guide_year": "write the year of the guide that the centre applies under",
    "lifecycle": "write in_operation once the centre is",
    "pools": "name a pool of that class",
    "baseline, baseline_date": "make it with petaseal centre baseline, and name its file and its day",
}
BASELINE = (
    "a signed list of the devices that were there before, or `petaseal centre baseline --empty` where there was nothing"
)
# What no field of the centre file mends: by the reason of the verdict.
ELSEWHERE: Mapping[str, str] = {
    "simulated": "a measurement on real devices",
    "nothing-counted": "a figure that counts: see the reasons of the devices that count 0",
    "grade-too-low": "a measurement with a profile of the grade that the policy demands",
    "nodes-missing": "the records of all expected nodes",
    "rating-missing": "a rating of every device (docs/policies.md)",
    "untested-devices": "a measurement of the devices that count 0",
    "depends-on-flagged": "figures without holds",
    "within-bounds": "a measurement with a narrower interval",
    "upper-unbounded": "a measurement with a bounded interval",
    "basis-unstated": "a basis in the text: certified, sustained and nominal disagree, and the authority decides",
    "guide-not-issued": "a policy file whose guide has items (docs/policies.md)",
    "nothing-new": "devices that do not stand in the baseline",
}


class Lack(NamedTuple):
    """A datum that one condition lacks, and the field of the centre file that gives it."""

    policy: str
    condition: str
    code: str
    field: str | None  # of the centre file; None where no field of it gives it
    what: str

    def __str__(self) -> str:
        return f"{self.policy}/{self.condition} lacks {lack_text(self, 'en')}"

    @property
    def how(self) -> str | None:
        """How the field is filled in; None where no field gives it."""
        if self.field is None:
            return None
        return HOW.get(self.field, f"write the digest of the paper under {self.field} (sha256sum PAPER)")


def lack_text(one: Lack, lang: Language) -> str:
    """Return what a condition lacks and where it is given, with its code."""
    where = "" if one.field is None else text_in(lang, "statement_lines", "centre-field", field=one.field)
    what = one.what if lang == "en" else reasons()[one.code].zh.rstrip("。")
    return f"{what}{where} [{one.code}]"


def missing_text(one: Lack, lang: Language) -> str:
    """Return the line that says what one condition lacks."""
    lacks = text_in(
        lang, "statement_lines", "lacks", condition=f"{one.policy}/{one.condition}", what=lack_text(one, lang)
    )
    return text_in(lang, "statement_lines", "missing", what=lacks)


class Reach(NamedTuple):
    """The best verdict that one condition of a policy can have for a centre, whatever is measured."""

    verdict: Outcome
    reason: str | None  # of `insufficient_evidence`
    remark: str | None = None


def reach_of(policy: Policy, condition: Condition) -> Reach:
    """Return the best verdict that a condition can have for one centre."""
    if isinstance(condition, Declared | Paper | NewlyAdded):
        return Reach("declared", None, "the centre's word")
    if isinstance(condition, Threshold):
        agree = "where certified, sustained and nominal agree: the text names no basis"
        return Reach("met", None, agree if condition.basis == "unstated" else None)
    if isinstance(condition, Share):
        return Reach(INSUFFICIENT, "city-scope") if policy.scope == "city" else Reach("met", None)
    if isinstance(condition, Guide):
        items = [reach_of(policy, item) for item in items_of(condition)]
        if not items:
            return Reach(INSUFFICIENT, "guide-not-issued", "no year's guide is policy data yet")
        return min(items, key=lambda one: WEAKEST_FIRST.index(one.verdict))
    return Reach(INSUFFICIENT, "no-number" if isinstance(condition, Domestic) else condition.reason)


def missing(centre: Centre, policies: Sequence[Policy], verdicts: Sequence[Verdict]) -> tuple[Lack, ...]:
    """Return what each condition of the policies lacks, in their order.

    Args:
        centre: whose file it is.
        policies: that the verdicts are of.
        verdicts: as they would be signed.
    """
    reasons = {(verdict.policy, verdict.condition): verdict.reason for verdict in verdicts}
    lacking = []
    for policy in policies:
        for condition in policy.judged:
            lacks = list(_lacks(centre, policy, condition))
            reason = reasons.get((policy.policy, condition.condition))
            if reason is not None and reason in ELSEWHERE:
                lacks.append((reason, None, ELSEWHERE[reason]))
            lacking += [Lack(policy.policy, condition.condition, *one) for one in lacks]
    return tuple(lacking)


def _lacks(centre: Centre, policy: Policy, condition: Condition) -> Iterator[tuple[str, str | None, str]]:
    """Yield code, field and what, of everything that the centre file does not declare."""
    facts: tuple[Declaration, ...] = ()
    if isinstance(condition, Declared):
        facts = (condition.fact,)
    elif isinstance(condition, Threshold):
        facts = condition.requires
    for fact in facts:
        if fact not in centre.declarations:
            field = FIELDS[fact]
            what = f"the declared {fact}" if field is not None else f"that the platform says it is {fact}"
            yield "not-declared", field, what
    if isinstance(condition, Paper) and condition.paper not in centre.evidence:
        yield "not-declared", f"evidence.{condition.paper}", f"the digest of the paper {condition.paper}"
    counts_new = isinstance(condition, Threshold) and condition.counted == "newly_added"
    if centre.baseline is None and (counts_new or isinstance(condition, NewlyAdded)):
        yield "no-baseline", "baseline, baseline_date", BASELINE
    guided = isinstance(condition, Guide) and items_of(condition)
    if guided and centre.guide_year != policy.document.guide_year:
        yield "guide-year-differs", "guide_year", f"the guide year {policy.document.guide_year}"
    if isinstance(condition, Threshold | Share) and not centre.in_operation:
        yield (
            "not-in-operation",
            "lifecycle",
            f"a centre in operation: it is {centre.lifecycle}, and all of it counts 0",
        )
    if isinstance(condition, Threshold | Share | NewlyAdded):
        of_class = {pool.pool_class for pool in centre.pools}
        if of_class.isdisjoint(condition.classes):
            yield "nothing-counted", "pools", f"a pool of class {' or '.join(condition.classes)}"
    asks_where = isinstance(condition, Declared | Paper | NewlyAdded | Threshold)
    if asks_where and not lies_within(policy.jurisdiction, centre.jurisdiction):
        yield "outside-jurisdiction", "jurisdiction", f"that the centre lies in {policy.jurisdiction}"
