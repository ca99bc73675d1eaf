"""Policies as data: what a public text counts, and each of its conditions with its clause (docs/policies.md).

A policy is a YAML file and no code. Nothing may enter here that the text does not say: where it is silent (precision,
basis), the file says so, and the assumption is printed. Verdicts are computed in ``certify.policy.verdicts``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from msgspec import UNSET, Meta, UnsetType

from bench.errors import InputError, one_line
from bench.record import (
    GRADES,
    Choice,
    Document,
    Grade,
    Name,
    PoolClass,
    Positive,
    Ppm,
    Precision,
    Text,
    Workload,
    config_names,
    digest,
    read_config,
)
from bench.units import MFLOP_PER_UNIT, percent_text
from certify.policy.centre import CLASSES, Bilingual, Date, Declaration, Jurisdiction, Year, clearer, is_date
from certify.policy.reasons import effect_of, reasons

Operator = Literal[">=", ">"]  # 以上, 达到, 不少于 are >=; 突破, 超过 are >
Unit = Literal["EFLOPS", "PFLOPS", "TFLOPS", "GFLOPS", "MFLOPS"]
Basis = Literal["certified", "sustained", "nominal"]
StatedBasis = Literal["certified", "sustained", "nominal", "unstated"]
BASES: tuple[Basis, ...] = ("certified", "sustained", "nominal")
EACH_POLICY = "give each policy an option of its own: --policy A --policy B"
MAX_VALID_DAYS = 366  # after the end of the measurement
MAX_AGE_DAYS = 30  # from the end of the measurement to the first statement over it

Classes = Annotated[tuple[PoolClass, ...], Meta(min_length=1)]


class PolicySource(Document, frozen=True, kw_only=True):
    """The document that a policy is taken from. A draft is judged as if issued as drafted, and says so."""

    title: Bilingual
    issuer: Bilingual
    number: Text | None
    status: Literal["draft", "in_force"]
    date: Date | None
    guide_year: Year | None  # year of the application guide whose conditions these are; null: none is issued
    target_year: Year | None


class Counting(Document, frozen=True, kw_only=True):
    """What counts in one class, and the assumption behind it."""

    precision: Precision
    accumulate: Precision
    choice: Choice  # the fixed shape is comparable between centres, the tuned one is each device's best
    assumption: Bilingual
    # nodes: the sum over devices; rmax: the highest HPL run that was brought as evidence. Left out: nodes.
    capacity: Literal["nodes", "rmax"] | UnsetType = UNSET

    @property
    def workload(self) -> Workload:
        """What is counted."""
        return Workload(self.precision, self.choice)

    @property
    def is_by_rmax(self) -> bool:
        """Whether the capacity of the class is Rmax, and not the sum of its nodes."""
        return self.capacity == "rmax"


class Clause(Document, frozen=True, kw_only=True):
    """Where a condition stands, and its own words."""

    ref: Text
    text: Text


class _Condition(Document, frozen=True, kw_only=True, tag_field="kind"):
    condition: Name
    title: Bilingual
    clause: Clause
    attribute: Literal["expected", "binding"] | None = None  # 预期性, 约束性; null where the text does not say


class Declared(_Condition, frozen=True, kw_only=True, tag="declared"):
    """A fact that the centre declares and no verifier can check: at most `declared`."""

    fact: Declaration


class NewlyAdded(_Condition, frozen=True, kw_only=True, tag="baseline"):
    """Newly added against a signed baseline inventory: at most `declared`, with the growth shown."""

    classes: Classes


class Threshold(_Condition, frozen=True, kw_only=True, tag="threshold"):
    """A sum of capacity over classes against a value."""

    classes: Classes
    operator: Operator
    value: Positive
    unit: Unit
    basis: StatedBasis
    counted: Literal["all", "newly_added"] = "all"  # newly_added: only what is absent from the signed baseline
    requires: tuple[Declaration, ...] = ()  # without these no device is known to be eligible

    @property
    def value_mflop_s(self) -> int:
        """The threshold in MFLOP/s."""
        return self.value * MFLOP_PER_UNIT[self.unit]


class Share(_Condition, frozen=True, kw_only=True, tag="share"):
    """Part over whole of the bookkeeping sums, in ppm: it mixes precisions."""

    classes: Classes
    of: Classes
    operator: Operator
    value_ppm: Ppm
    basis: StatedBasis


class Paper(_Condition, frozen=True, kw_only=True, tag="paper"):
    """A paper that the centre names under `evidence` of its file, by its digest: at most `declared`."""

    paper: Name


class Guide(_Condition, frozen=True, kw_only=True, tag="guide"):
    """What the year's guide adds: its items, each with a verdict of its own. Without items it is not judged."""

    items: tuple[Declared | Paper | Threshold | Share, ...] | UnsetType = UNSET


class Domestic(_Condition, frozen=True, kw_only=True, tag="domestic"):
    """The share of capacity on devices of domestic vendors, shown on every basis: the text names no number."""

    classes: Classes
    vendors: Annotated[tuple[Text, ...], Meta(min_length=1)]  # as devices report them, whatever case and spaces


class NotMeasured(_Condition, frozen=True, kw_only=True, tag="not_measured"):
    """A condition that this product does not measure, or that is not a matter of computing centres."""

    reason: Literal["not-measured", "out-of-scope"]


Condition = Declared | NewlyAdded | Threshold | Share | Paper | Guide | Domestic | NotMeasured


class Policy(Document, frozen=True, kw_only=True):
    """A policy: what counts, and the conditions, each with its own verdict and none with an overall one."""

    policy: Name
    title: Bilingual
    document: PolicySource
    scope: Literal["centre", "city"]
    jurisdiction: Jurisdiction | None
    counting: dict[PoolClass, Counting]
    valid_days_max: Annotated[int, Meta(ge=1, le=MAX_VALID_DAYS)] = MAX_VALID_DAYS
    minimum_grade: Grade
    accept: tuple[Name, ...] = ()  # hold codes that count all the same; sums that rest on them are kept apart
    witnesses: Annotated[int, Meta(ge=0, le=8)] = 0  # how many must have recomputed a statement and signed so
    node_keys: Literal["any", "enrolled"] = "any"  # enrolled: a record counts under the key that the campaign names
    conditions: Annotated[tuple[Condition, ...], Meta(min_length=1)]
    # fields of later versions: where a table does not have them they are left out of its digest
    max_age_days: Annotated[int, Meta(ge=1, le=MAX_AGE_DAYS)] | UnsetType = UNSET  # to the first statement

    accept_with_witness: tuple[Name, ...] | UnsetType = UNSET  # holds that count where a witness recomputed

    @property
    def accepted_with_witness(self) -> tuple[str, ...]:
        """Holds that count in a statement that a witness recomputed."""
        return () if isinstance(self.accept_with_witness, UnsetType) else self.accept_with_witness

    @property
    def judged(self) -> tuple[Condition, ...]:
        """Everything that has a verdict: the conditions, and after a guide its items."""
        return tuple(one for condition in self.conditions for one in (condition, *items_of(condition)))

    @property
    def age_days_max(self) -> int:
        """How many days after the end of its measurement a first statement may be issued."""
        return MAX_AGE_DAYS if isinstance(self.max_age_days, UnsetType) else self.max_age_days


# The code of each kind of condition (`petaseal explain CODE`), by the tag that a policy's file writes.
CONDITION_CODES = {
    "declared": "condition-declared",
    "baseline": "condition-baseline",
    "threshold": "condition-threshold",
    "share": "condition-share",
    "paper": "condition-paper",
    "guide": "condition-guide",
    "domestic": "condition-domestic",
    "not_measured": "condition-not-measured",
}


def condition_code(condition: Condition) -> str:
    """Return the code that leads to the rule by which a condition is judged."""
    return CONDITION_CODES[str(condition.__struct_config__.tag)]


def items_of(condition: Condition) -> tuple[Condition, ...]:
    """Return the items of a guide; nothing else has any."""
    return condition.items if isinstance(condition, Guide) and not isinstance(condition.items, UnsetType) else ()


def load_policy(name_or_file: str) -> Policy:
    """Return an installed policy by its name, or one of the user's own by its file.

    Raises:
        InputError: there is no such policy, it is not acceptable, or a file bears the name of an installed policy
            and differs from it.
    """
    policy = read_policy(name_or_file)
    if is_altered(policy):
        raise altered(policy, name_or_file)
    return policy


def load_policies(names_or_files: Sequence[str]) -> tuple[Policy, ...]:
    """Return the policies that one campaign or statement is made for, each given once.

    Raises:
        InputError: `policy-twice`, several stand in one option, or a code of `load_policy`.
    """
    for name in names_or_files:
        if "," in name and not os.path.lexists(name):
            what = f"there is no policy named {one_line(name, 80)!r}"
            raise InputError("unknown-name", what, where="--policy", fix=EACH_POLICY)
    policies = tuple(load_policy(name) for name in names_or_files)
    if len({policy.policy for policy in policies}) != len(policies):
        raise InputError("policy-twice", "one policy is given twice", where="--policy")
    return policies


def read_policy(name_or_file: str) -> Policy:
    """Return a policy by its name or file, whatever name the file bears.

    Raises:
        InputError: there is no such policy, or it is not acceptable.
    """
    with clearer(_CHOICES):
        policy = read_config("policies", name_or_file, Policy)
    if (problem := policy_problem(policy)) is not None:
        raise InputError(*problem, where=name_or_file)
    return policy


def altered(policy: Policy, where: object) -> InputError:
    """Return the error that a policy under an installed policy's name is."""
    what = f"bears the name {policy.policy} and differs from the installed policy of that name"
    return InputError("policy-altered", what, where=where, fix="give it a name of its own")


def policy_problem(policy: Policy) -> tuple[str, str] | None:
    """Return the reason code and sentence of the first thing that a policy's types cannot exclude, or None."""
    if policy.document.date is not None and not is_date(policy.document.date):
        return "date-invalid", f"the date {policy.document.date} is not a day of the calendar"
    names = [condition.condition for condition in policy.judged]
    for name in names:
        if names.count(name) > 1:
            return "duplicate-condition", f"there are two conditions named {name}"
    for name, counting in policy.counting.items():
        if counting.workload.is_solve and str(counting.workload) != "fp64-solve":
            what = f"counting has {counting.workload} for {name}: of solves, those that FP64 computes may count alone"
            return "solve-not-counted", what
        if counting.is_by_rmax and counting.precision != "fp64":
            return "rmax-not-fp64", f"{name} counts by Rmax, which is of FP64, and in {counting.precision}"
    for code in policy.accept:
        if effect_of(code) != "hold":
            return "accept-not-a-hold", f"accept names {code}, which is {_effect_text(code)}"
    for code in policy.accepted_with_witness:
        if code not in reasons() or not reasons()[code].witness:
            return "accept-not-witnessed", f"accept_with_witness names {code}, for which no witness can answer"
    for condition in policy.judged:
        if items_of(condition) and policy.document.guide_year is None:
            return "guide-without-year", f"{condition.condition} has items, and guide_year does not say of which year"
        for used in _classes(condition):
            if used not in policy.counting:
                return "class-not-counted", f"{condition.condition} judges {used}, which the policy does not count"
            if _classes(condition).count(used) > 1:
                return "class-twice", f"{condition.condition} counts {used} twice"
        if isinstance(condition, Share) and not set(condition.classes) <= set(condition.of):
            return "share-not-a-part", f"{condition.condition} is a share of a whole that it is no part of"
    return None


def is_altered(policy: Policy) -> bool:
    """Return whether a policy bears the name of an installed one and differs from it."""
    if policy.policy not in config_names("policies"):
        return False
    return digest(policy) != digest(read_config("policies", policy.policy, Policy))


def in_both(text: Bilingual, lang: str | None, between: str = " / ") -> str:
    """Return a text in one language; None: in both."""
    return {"en": text.en, "zh": text.zh}.get(lang or "", f"{text.zh}{between}{text.en}")


def describe(policy: Policy, lang: str | None = None) -> list[str]:
    """Return a policy's conditions and clauses as printed lines, its titles in one language; None: in both."""
    document = policy.document
    status = "draft (if issued as drafted)" if document.status == "draft" else "in force"
    lines = [
        f"{policy.policy}: {in_both(policy.title, lang)}",
        f"  {document.title.zh}{f' {document.number}' if document.number else ''}, {document.issuer.zh}",
        f"  {document.title.en}; {status}; date {document.date or 'not issued'}; scope: {policy.scope};"
        f" minimum grade: {policy.minimum_grade}; accepted holds: {', '.join(policy.accept) or 'none'}",
        f"  witnesses demanded: {policy.witnesses}; node keys: {policy.node_keys}",
        f"  after the end of the measurement: first statement within {policy.age_days_max} days,"
        f" valid for at most {policy.valid_days_max} days",
    ]
    for name, counting in policy.counting.items():
        counts = f"{counting.precision}, accumulate {counting.accumulate}, {counting.choice} shape"
        counts += ", capacity by Rmax" if counting.is_by_rmax else ""
        lines.append(f"  counts {name}: {counts}; {in_both(counting.assumption, lang, ' ')}")
    for condition in policy.judged:
        lines.append(f"  {condition.condition} ({condition.clause.ref}): {condition.clause.text}")
        lines.append(f"    {in_both(condition.title, lang)}: {demand(condition)} [{condition_code(condition)}]")
    return lines


def demand(condition: Condition) -> str:
    """Return what a condition demands, in a few words."""
    if isinstance(condition, Threshold):
        what = f"{' + '.join(condition.classes)} {condition.operator} {condition.value} {condition.unit}"
        return f"{what}, basis {condition.basis}"
    if isinstance(condition, Share):
        what = f"{' + '.join(condition.classes)} / total {condition.operator} {percent_text(condition.value_ppm, 0)}"
        return f"{what}, basis {condition.basis}"
    if isinstance(condition, Declared):
        return f"declared by the centre ({condition.fact})"
    if isinstance(condition, NewlyAdded):
        return "declared by the centre, against its signed baseline"
    if isinstance(condition, Paper):
        return f"declared by the centre (evidence: {condition.paper})"
    if isinstance(condition, Domestic):
        return f"shown, no number is demanded; domestic vendors: {', '.join(condition.vendors)}"
    if isinstance(condition, Guide):
        names = ", ".join(item.condition for item in items_of(condition))
        return f"every item of the guide: {names}" if names else "not judged"
    return condition.reason


def _effect_text(code: str) -> str:
    return f"a {reasons()[code].effect}" if code in reasons() else "no reason code"


def _classes(condition: Condition) -> tuple[PoolClass, ...]:
    if isinstance(condition, Share):
        return condition.of
    return condition.classes if isinstance(condition, NewlyAdded | Threshold | Domestic) else ()


_CHOICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "counting": ("unknown-class", CLASSES),
    "classes": ("unknown-class", CLASSES),
    "of": ("unknown-class", CLASSES),
    "precision": ("unknown-precision", get_args(Precision)),
    "accumulate": ("unknown-precision", get_args(Precision)),
    "operator": ("unknown-operator", get_args(Operator)),
    "unit": ("unknown-unit", get_args(Unit)),
    "basis": ("unknown-basis", get_args(StatedBasis)),
    "minimum_grade": ("unknown-grade", GRADES),
    "kind": ("unknown-condition", tuple(CONDITION_CODES)),
}
