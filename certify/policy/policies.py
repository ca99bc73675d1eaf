"""Policies as data: what a public text counts, and each of its conditions with its clause (docs/policies.md).

A policy is a YAML file and no code. Nothing may enter here that the text does not say: where it is silent (precision,
basis), the file says so, and the assumption is printed. Verdicts are computed in ``certify.policy.verdicts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from msgspec import Meta

from bench.errors import InputError
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

Operator = Literal[">=", ">"]  # 以上, 达到, 不少于 are >=; 突破, 超过 are >
Unit = Literal["EFLOPS", "PFLOPS", "TFLOPS", "GFLOPS", "MFLOPS"]
Basis = Literal["certified", "sustained", "nominal"]
StatedBasis = Literal["certified", "sustained", "nominal", "unstated"]
BASES: tuple[Basis, ...] = ("certified", "sustained", "nominal")
MAX_VALID_DAYS = 366

Classes = Annotated[tuple[PoolClass, ...], Meta(min_length=1)]


class Source(Document, frozen=True, kw_only=True):
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

    @property
    def workload(self) -> Workload:
        """What is counted."""
        return Workload(self.precision, self.choice)


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
    """A fact that the centre declares and nobody here can check: at most `declared`."""

    fact: Declaration


class NewlyAdded(_Condition, frozen=True, kw_only=True, tag="baseline"):
    """Newly added against a signed baseline inventory: at most `declared`, with the growth beside it."""

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


class Guide(_Condition, frozen=True, kw_only=True, tag="guide"):
    """What the year's guide adds: not judged until its items stand in the policy as conditions of their own."""


class NotMeasured(_Condition, frozen=True, kw_only=True, tag="not_measured"):
    """A condition that this product does not measure, or that is not a matter of computing centres."""

    reason: Literal["not-measured", "out-of-scope"]


Condition = Declared | NewlyAdded | Threshold | Share | Guide | NotMeasured


class Policy(Document, frozen=True, kw_only=True):
    """A policy: what counts, and the conditions, each with its own verdict and none with an overall one."""

    policy: Name
    title: Bilingual
    document: Source
    scope: Literal["centre", "city"]
    jurisdiction: Jurisdiction | None
    counting: dict[PoolClass, Counting]
    valid_days_max: Annotated[int, Meta(ge=1, le=MAX_VALID_DAYS)] = MAX_VALID_DAYS
    minimum_grade: Grade
    accept: tuple[Name, ...] = ()  # hold codes that count all the same; sums that rest on them are kept apart
    witnesses: Annotated[int, Meta(ge=0, le=8)] = 0  # how many must have recomputed a statement and signed so
    node_keys: Literal["any", "enrolled"] = "any"  # enrolled: a record counts under the key that the campaign names
    conditions: Annotated[tuple[Condition, ...], Meta(min_length=1)]


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
    names = [condition.condition for condition in policy.conditions]
    for name in names:
        if names.count(name) > 1:
            return "duplicate-condition", f"there are two conditions named {name}"
    for condition in policy.conditions:
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


def describe(policy: Policy) -> list[str]:
    """Return what a policy says, in lines for people."""
    document = policy.document
    status = "draft (if issued as drafted)" if document.status == "draft" else "in force"
    lines = [
        f"{policy.policy}: {policy.title.zh} / {policy.title.en}",
        f"  {document.title.zh}{f' {document.number}' if document.number else ''}, {document.issuer.zh}",
        f"  {document.title.en}; {status}; date {document.date or 'not issued'}; scope: {policy.scope};"
        f" minimum grade: {policy.minimum_grade}; accepted holds: {', '.join(policy.accept) or 'none'}",
        f"  witnesses demanded: {policy.witnesses}; node keys: {policy.node_keys}",
    ]
    for name, counting in policy.counting.items():
        counts = f"{counting.precision}, accumulate {counting.accumulate}, {counting.choice} shape"
        lines.append(f"  counts {name}: {counts}; {counting.assumption.zh} {counting.assumption.en}")
    for condition in policy.conditions:
        lines.append(f"  {condition.condition} ({condition.clause.ref}): {condition.clause.text}")
        lines.append(f"    {condition.title.zh} / {condition.title.en}: {demand(condition)}")
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
    return "not judged" if isinstance(condition, Guide) else condition.reason


def _classes(condition: Condition) -> tuple[PoolClass, ...]:
    if isinstance(condition, Share):
        return condition.of
    return condition.classes if isinstance(condition, NewlyAdded | Threshold) else ()


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
    "kind": ("unknown-condition", ("declared", "baseline", "threshold", "share", "guide", "not_measured")),
}
