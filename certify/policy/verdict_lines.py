"""A verdict in words for people: what decides it, and what each of the words met, not met ... means."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UnsetType

from bench.language import Language, text_in
from bench.units import percent_text, rate_text
from certify.policy.verdicts import BasisVerdict, Growth, Verdict


def coded(line: str, code: str) -> str:
    """Return a printed line with the code that leads to its rule."""
    return f"{line} [{code}]"


def describe_verdict(verdict: Verdict, lang: Language = "en") -> list[str]:
    """Return one verdict with what decides it."""
    reason = f": {verdict.reason}" if verdict.reason else ""
    said = f"{word_of(verdict.verdict, lang)}{reason}{draft_text(verdict, lang)}"
    first = f"{verdict.policy}/{verdict.condition}: {said}"
    lines = [
        *(coded(line, "verdict-growth") for line in growth_lines(verdict, lang)),
        *(coded(line, "verdict-bases") for line in bases_lines(verdict, lang)),
        *(coded(line, "verdict-missing") for line in missing_lines(verdict, lang)),
    ]
    return [first, *(f"  {line}" for line in lines)]


def word_of(verdict: str, lang: Language) -> str:
    """Return a verdict as one word: in English the code itself, which documents and machines have."""
    return text_in(lang, "word", verdict)


def draft_text(verdict: Verdict, lang: Language) -> str:
    """Return what is added where the policy is a draft, " (if issued as drafted)"; nothing elsewhere."""
    return text_in(lang, "statement_lines", "draft") if verdict.document_status == "draft" else ""


def meaning_lines(verdicts: Sequence[Verdict], lang: Language) -> list[str]:
    """Return what the words of these verdicts mean, a line each."""
    used = dict.fromkeys(verdict.verdict for verdict in verdicts)
    return [f"  {word_of(one, lang)} = {text_in(lang, 'meaning', one)}" for one in used]


def missing_lines(verdict: Verdict, lang: Language = "en") -> list[str]:
    """Return what nodes without a record could add to the values that a verdict compares; none where all have one."""
    if not verdict.nodes_missing:
        return []
    count = verdict.nodes_missing
    nodes = text_in(lang, "statement_lines", "one-missing" if count == 1 else "many-missing", count=count)
    if verdict.missing_at_most_mflop_s is None:
        return [text_in(lang, "statement_lines", "missing-unknown", nodes=nodes)]
    return [
        text_in(
            lang, "statement_lines", "missing-at-most", nodes=nodes, rate=rate_text(verdict.missing_at_most_mflop_s)
        )
    ]


def growth_lines(verdict: Verdict, lang: Language = "en") -> list[str]:
    """Return the lines under "newly added": the baseline, the new devices, and the net growth; none elsewhere."""
    if (growth := verdict.growth) is None:
        return []
    before = text_in(lang, "statement_lines", "no-baseline")
    if growth.baseline_devices:
        there = growth.still_present_devices
        before = text_in(lang, "statement_lines", "baseline", devices=growth.baseline_devices, there=there)
    added, new = rate_text(growth.newly_added_mflop_s), growth.new_devices
    net = f"{net_devices(growth):+}"
    return [
        text_in(lang, "statement_lines", "growth", before=before, new=new, rate=added),
        text_in(lang, "statement_lines", "net-growth", devices=net, rate=net_text(growth, lang)),
    ]


def net_devices(growth: Growth) -> int:
    """Return how many devices more there are now than the baseline lists."""
    return growth.still_present_devices + growth.new_devices - growth.baseline_devices


def net_text(growth: Growth, lang: Language = "en") -> str:
    """Return the certified capacity now less that of the baseline."""
    if (net := growth.net_mflop_s) is None:
        return text_in(lang, "statement_lines", "net-unknown")
    return f"{'-' if net < 0 else '+'}{rate_text(abs(net))}"


def demanded_text(verdict: Verdict, lang: Language) -> str | None:
    """Return what a condition demands, such as "demanded >= 2,000.000 PFLOPS"; None where it demands no number."""
    if verdict.threshold_mflop_s is not None:
        value = rate_text(verdict.threshold_mflop_s)
    elif verdict.threshold_ppm is not None:
        value = percent_text(verdict.threshold_ppm)
    else:
        return None
    what = text_in(lang, "statement_lines", "demanded", operator=verdict.operator, value=value)
    if isinstance(verdict.by_rmax, UnsetType):
        return what
    classes = ", ".join(text_in(lang, "class_code", name) for name in verdict.by_rmax)
    return text_in(lang, "statement_lines", "by-rmax", what=what, classes=classes)


def bases_lines(verdict: Verdict, lang: Language = "en") -> list[str]:
    """Return the values that a verdict compares and what comes of each, one line for each basis; none for no value."""
    against = demanded_text(verdict, lang)
    if against is None:  # shown, and no number is demanded
        of = text_in(lang, "statement_lines", "of")
        return [
            f"{text_in(lang, 'total', b.basis)}: {percent_text(b.observed_ppm)},"
            f" {rate_text(b.observed_mflop_s)} {of} {rate_text(b.whole_mflop_s)}"
            for b in verdict.bases
        ]
    return [
        f"{text_in(lang, 'total', b.basis)}: {observed_text(b, verdict, lang)}; {against}:"
        f" {word_of(b.verdict, lang)}{f' ({b.reason})' if b.reason else ''}"
        for b in verdict.bases
    ]


def observed_text(basis: BasisVerdict, verdict: Verdict, lang: Language) -> str:
    """Return the value on one basis; a missing rating is said, never shown as 0."""
    if verdict.threshold_mflop_s is None:
        return percent_text(basis.observed_ppm)
    if basis.basis != "nominal" or not verdict.without_rating:
        return rate_text(basis.observed_mflop_s)
    missing = text_in(lang, "statement_lines", "no-rating", count=verdict.without_rating)
    return f"{rate_text(basis.observed_mflop_s)} + {missing}" if basis.observed_mflop_s else missing
