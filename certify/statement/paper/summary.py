"""What a statement shows, in a few sentences for an official: the same on the page, in the PDF and on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from bench.language import LANGUAGES, Language, both, messages_of
from bench.record import PoolClass
from bench.units import rate_text
from certify.documents.statement import CapacityStatement, ClassLine
from certify.policy.policies import Policy
from certify.policy.reasons import reasons
from certify.policy.verdict_lines import observed_text
from certify.policy.verdicts import BasisVerdict, Verdict

Texts = dict[str, str]  # a text in each language
MOST_AGAINST = 8  # sentences on policies: whoever has more of them reads the table of conditions
# Reasons for which a policy's thresholds say nothing of the centre: one sentence stands for all of them.
ELSEWHERE = ("city-scope", "outside-jurisdiction")


def summary_of(statement: CapacityStatement, policies: Sequence[Policy] = ()) -> list[Texts]:
    """Return what the statement shows, how it stands to each threshold on each basis, and what it does not prove.

    Args:
        statement: as signed, or of `visible` text.
        policies: those of its verdicts, for their titles; one that lacks is called by its name.

    Returns:
        Sentences, each with ``zh`` and ``en``. None says more than a verdict does, and there is no overall one.
    """
    titles = {policy.policy: {"zh": policy.title.zh, "en": policy.title.en} for policy in policies}
    against: list[Texts] = []
    for name in dict.fromkeys(verdict.policy for verdict in statement.verdicts):
        verdicts = [verdict for verdict in statement.verdicts if verdict.policy == name]
        against += _against(titles.get(name, {"zh": name, "en": name}), verdicts, statement)
    if (more := len(against) - MOST_AGAINST) > 0:
        against[MOST_AGAINST:] = [_filled("more", count=more)]
    has_loss = statement.fabric is not None and bool(statement.fabric.losses)
    return [*_shown(statement), *against, both("statement", "not_shown_beyond_run" if has_loss else "not_shown")]


def _shown(statement: CapacityStatement) -> Iterator[Texts]:
    """Yield what the centre was shown to sustain, or that it was shown to sustain nothing, and which nodes lack."""
    counted = [line for line in statement.classes if line.counted.devices]
    waiting = [line for line in statement.classes if line.with_witness.devices]
    if statement.simulated:
        yield both("statement", "simulated")
    elif not counted:
        yield both("statement", "nothing")
    elif statement.grade == "smoke":
        yield both("statement", "smoke")
    else:
        rates = _joined("and", (_rate(line) for line in statement.classes))
        yield _filled("shown", rates=rates, grade=both("grade", statement.grade or "none"))
    for line in waiting:
        yield _filled(
            "with_witness",
            pool_class=class_in_sentence(line.pool_class),
            certified=rate_text(line.with_witness.certified_mflop_s),
            devices=line.with_witness.devices,
        )
    if absent := sum(one.device is None for one in statement.not_counted):
        yield _filled("nodes_missing", count=absent)


def _rate(line: ClassLine) -> Texts:
    """Return what counts in one class."""
    return _filled(
        "rate" if line.counted.devices else "rate_none",
        pool_class=class_in_sentence(line.pool_class),
        precision=line.precision.upper(),
        certified=rate_text(line.counted.certified_mflop_s),
        sustained=rate_text(line.counted.sustained_mflop_s),
        counted=line.counted.devices,
        devices=line.counted.devices + line.untested.devices,
    )


def _against(title: Texts, verdicts: Sequence[Verdict], statement: CapacityStatement) -> list[Texts]:
    """Return how a statement stands to one policy: each of its thresholds, then how many other conditions stand how."""
    said = [*_thresholds(title, verdicts, statement)]
    rest = [verdict for verdict in verdicts if verdict.threshold_mflop_s is None]
    if rest:
        known = {kind: sum(one.verdict == kind for one in rest) for kind in messages_of("outcome")}
        counts = (_filled("count", count=n, outcome=both("outcome", kind)) for kind, n in known.items() if n)
        total = _joined("semicolon", counts)
        # read together with the threshold before it, and alone where there is none
        said[-1:] = [
            _filled("rest", before=said[-1], counts=total)
            if said
            else _filled("conditions", policy=title, counts=total)
        ]
    return said


def _thresholds(title: Texts, verdicts: Sequence[Verdict], statement: CapacityStatement) -> Iterator[Texts]:
    thresholds = [verdict for verdict in verdicts if verdict.threshold_mflop_s is not None]
    undecided = Counter(one.reason for one in thresholds if one.reason in ELSEWHERE)
    for verdict in thresholds:
        if verdict.reason not in undecided:
            yield _threshold(title, verdict, {line.pool_class for line in statement.classes})
    for reason, count in undecided.items():
        yield _filled("undecided", policy=title, count=count, reason=_why(reason or ""))


def _threshold(title: Texts, verdict: Verdict, present: set[PoolClass]) -> Texts:
    """Return how the sums stand to one threshold, bases of one outcome together."""
    groups = [
        _filled("outcome", values=_joined("list", (_value(basis, verdict) for basis in group)), outcome=outcome)
        for outcome, group in _outcomes(verdict)
    ]
    classes = _joined("classes", map(class_in_sentence, verdict.classes))
    lacking = "" if set(verdict.classes) & present else both("statement", "no_pool")
    operator = "above" if verdict.operator == ">" else "at_least"
    disagree = len({basis.verdict for basis in verdict.bases}) > 1
    return _filled(
        "threshold",
        policy=title,
        draft=both("statement", "draft") if verdict.document_status == "draft" else "",
        what=_filled("newly_added" if verdict.counted == "newly_added" else "all", classes=classes),
        lacking=lacking,
        demand=both("statement", operator, value=rate_text(verdict.threshold_mflop_s)),
        outcomes=_joined("semicolon", groups),
        unstated=both("statement", "unstated") if disagree else "",
    )


def _outcomes(verdict: Verdict) -> Iterator[tuple[Texts, Iterable[BasisVerdict]]]:
    for (outcome, reason), group in groupby(verdict.bases, key=lambda basis: (basis.verdict, basis.reason)):
        text = both("outcome", outcome)
        if reason is not None:
            text = _filled("because", outcome=text, reason=_why(reason))
        yield text, group


def _why(reason: str) -> Texts:
    """Return a reason as a part of a sentence."""
    return {"zh": reasons()[reason].zh.rstrip("。"), "en": reasons()[reason].en.rstrip(".")}


def class_in_sentence(pool_class: PoolClass) -> Texts:
    """Return the name of a class as it stands within a sentence: English names begin with a capital elsewhere."""
    name = both("class", pool_class)
    return {**name, "en": name["en"].lower()}


def _value(basis: BasisVerdict, verdict: Verdict) -> Texts:
    return _filled(
        "value", basis=both("basis", basis.basis), value={one: observed_text(basis, verdict, one) for one in LANGUAGES}
    )


def alike(text: str) -> Texts:
    """Return a text that is the same in each language, such as a figure."""
    return {"en": text, "zh": text}


def _filled(key: str, **values: Texts | str | int) -> Texts:
    """Return a text of the area ``statement`` in each language, each with the values of its language."""
    return {
        one: both("statement", key, **{name: _in(value, one) for name, value in values.items()})[one]
        for one in LANGUAGES
    }


def _in(value: Texts | str | int, one: Language) -> str:
    if isinstance(value, dict):
        return value[one]
    return f"{value:,}" if isinstance(value, int) else value


def _joined(separator: str, parts: Iterable[Texts]) -> Texts:
    """Return several texts as one, with the separator of each language."""
    known, between = list(parts), both("statement", f"join_{separator}")
    return {one: between[one].join(part[one] for part in known) for one in LANGUAGES}
