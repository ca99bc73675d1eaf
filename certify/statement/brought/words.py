"""How evidence that others bring is worded: on a terminal, on the page, in the PDF. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.errors import one_line
from bench.language import LANGUAGES, Language, text_in
from bench.units import bandwidth_text, percent_text, rate_text
from certify.documents.statement import BusLine, EvidenceLine
from certify.policy.verdict_lines import coded

MOST_DETAILS = 8  # bandwidths of one document that are shown; the signed document has them all


class EvidenceRow(NamedTuple):
    """One line of a statement's evidence in both languages, as page and PDF draw it."""

    zh: str
    en: str
    codes: str
    details: list[dict[str, str]]  # bandwidths, and runs that do not count


def codes_text(codes: Sequence[str]) -> str:
    """Return reason codes as they stand after a text; nothing where there is none."""
    return f" [{', '.join(codes)}]" if codes else ""


def evidence_lines_in(lines: Sequence[EvidenceLine], lang: Language) -> list[str]:
    """Return what a statement says of the evidence, as printed lines."""
    printed = []
    for line in lines:
        printed.append(one_line(coded(summary_text(line, lang), "evidence-brought"), 1000))
        printed += [f"  {one}" for one in detail_texts(line, lang)]
    return printed


def evidence_text(line: EvidenceLine, lang: Language) -> str:
    """Return who brought what of which tool: Rmax with its N and nodes, or how many sizes of a collective."""
    role = text_in(lang, "evidence", "witness" if line.by == "witness" else "operator")
    tool, nodes = one_line(line.tool, 200), f"{line.nodes:,}"
    if not line.runs:
        return text_in(lang, "evidence", "nothing", role=role, tool=tool, nodes=nodes)
    if line.rate_mflop_s is None:
        return text_in(lang, "evidence", "supporting", role=role, tool=tool, nodes=nodes, runs=line.runs)
    n = text_in(lang, "evidence", "unknown") if line.n is None else f"{line.n:,}"
    rate, what = rate_text(line.rate_mflop_s), _what(line, lang)
    return text_in(lang, "evidence", "rate", role=role, what=what, rate=rate, tool=tool, n=n, nodes=nodes)


def summary_text(line: EvidenceLine, lang: Language) -> str:
    """Return the evidence of one document in one line, with its codes."""
    return f"{evidence_text(line, lang)}{codes_text(line.codes)}"


def _what(line: EvidenceLine, lang: Language) -> str:
    """Return what the rate of a line is, so that only HPL's is ever called Rmax."""
    if line.kind == "hpl":
        return text_in(lang, "evidence", "rmax")
    return text_in(lang, "evidence", "mixed" if line.kind == "hpl-mxp" else "conjugate")


def detail_texts(line: EvidenceLine, lang: Language) -> list[str]:
    """Return the bandwidths of a line with their difference to ours, and how many runs do not count."""
    texts = [_bandwidth_text(bus, lang) for bus in line.buses[:MOST_DETAILS]]
    if (left := len(line.buses) - MOST_DETAILS) > 0:
        texts.append(text_in(lang, "evidence", "more-sizes", count=left))
    if line.failed:
        codes = ", ".join(line.failed_codes)
        texts.append(text_in(lang, "evidence", "failed-runs", count=line.failed, codes=codes))
    return texts


def _bandwidth_text(bus: BusLine, lang: Language) -> str:
    size, rate = f"{bus.size_bytes:,}", bandwidth_text(bus.bus_mb_s)
    if bus.measured_mb_s is None:
        return text_in(lang, "evidence", "bandwidth", collective=bus.collective, size=size, bus=rate)
    difference = percent_text(bus.difference_ppm)
    ours = bandwidth_text(bus.measured_mb_s)
    return text_in(
        lang, "evidence", "measured", collective=bus.collective, size=size, bus=rate, ours=ours, difference=difference
    )


def evidence_rows(lines: Sequence[EvidenceLine]) -> list[EvidenceRow]:
    """Return the evidence of a statement in both languages."""
    rows = []
    for line in lines:
        texts = {lang: detail_texts(line, lang) for lang in LANGUAGES}
        details = [{"zh": zh, "en": en} for zh, en in zip(texts["zh"], texts["en"], strict=True)]
        zh, en = evidence_text(line, "zh"), evidence_text(line, "en")
        rows.append(EvidenceRow(zh, en, ", ".join(line.codes), details))
    return rows
