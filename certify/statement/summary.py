"""The summary of a statement: at most `MOST_LINES` lines, in two languages; nothing is computed here.

Each function returns a part that can be shortened (`bench.terminal.summary`). What is left out is counted, and stands
in the whole lines of `certify.statement.describe`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.errors import one_line
from bench.language import Language, text_in
from bench.terminal.summary import Part, cells, counted, fixed, listing, padded, whole_part
from bench.units import rate_text
from certify.documents.statement import CapacityStatement, ClassLine, Totals
from certify.policy.lines import code_of, line_in
from certify.policy.missing import Lack, lack_text, missing_text
from certify.policy.thresholds import Outcome
from certify.policy.verdict_lines import coded, demanded_text, draft_text, observed_text
from certify.policy.verdicts import Verdict
from certify.statement.brought.words import summary_text
from certify.statement.describe import (
    absent_nodes,
    class_name,
    describe_statement,
    grade_line,
    names_text,
    title_line,
    warnings_of,
)
from certify.statement.paper.summary import summary_of as official_summary
from certify.statement.paper.verdict_rows import fabric_headline, headline_code

# What an applicant must mend stands before what is good.
ORDER: tuple[Outcome, ...] = ("not_met", "insufficient_evidence", "met", "declared")
CODES = 6  # that stand in one line in place of a list
WIDTH = 80  # cells that a table of figures is made for


def statement_parts(statement: CapacityStatement, witnessed: bool, lang: Language) -> list[Part]:
    """Return what a reader of a statement needs: what it is, its figures, its thresholds, what counts 0.

    Args:
        statement: to be summed up.
        witnessed: whether a witness of this statement is known, so that what needs one counts.
        lang: of the lines.
    """
    # The same sentence as on the page and in the PDF; where there is no room for it the figures say it.
    shown = official_summary(statement)[0][lang]
    warnings = [text_in(lang, "warning", kind) for kind in warnings_of(statement)]
    classes = statement.classes
    if _is_said_below(statement):  # once is enough
        classes = tuple(replace(line, nodes_missing=0) for line in classes)
    return [
        Part(((shown,), ())),
        fixed(title_line(statement, lang), grade_line(statement, lang), *warnings),
        figures_part(classes, witnessed, lang),
        _brought(statement, lang),
        *threshold_parts(statement.verdicts, lang),
        _fabric(statement, lang),
        _counts_zero(statement, lang),
        _absent(statement, lang),
    ]


# --- figures ---


def figures_part(classes: Sequence[ClassLine], witnessed: bool, lang: Language) -> Part:
    """Return the figures of each class as a table with a column for each, on a line each where that is too wide."""
    columns = [_column(line, witnessed, lang) for line in classes]
    lines = (text_in(lang, "summary", "class-head"), *(_class_line(line, lang) for line in classes))
    head = text_in(lang, "summary", "class")
    titles = [class_name(line.pool_class, line.precision, line.choice, lang) for line in classes]
    broken = [title.rpartition(" ") for title in titles]
    two = [(head, [name for name, _, _ in broken]), ("", [workload for _, _, workload in broken])]
    # Three classes and more fit with their names broken.
    for heads, gap in (([(head, titles)], 2), (two, 1)):
        table = _table(heads, columns, gap)
        if max(map(cells, table)) <= WIDTH:
            return Part((tuple(table), lines), worth=3)
    return Part((lines,))


def _table(heads: Sequence[tuple[str, Sequence[str]]], columns: Sequence[dict[str, str]], gap: int) -> list[str]:
    """Return lines of which the figures stand below each other.

    Args:
        heads: rows on top, each its name and a value for each column.
        columns: of each the value by the name of its row.
        gap: cells between columns.
    """
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [*heads, *((name, [column.get(name, "") for column in columns]) for name in names)]
    widths = [max(cells(values[index]) for _, values in rows) + gap for index in range(len(columns))]
    first = max(cells(name) for name, _ in rows)
    return [
        padded(name, first) + "".join(padded(value, width, True) for value, width in zip(values, widths, strict=True))
        for name, values in rows
    ]


def _brought(statement: CapacityStatement, lang: Language) -> Part:
    """Return what other tools measured, beside the figures and never among them."""
    lines = [one_line(summary_text(one, lang), 400) for one in statement.evidence]
    short = text_in(lang, "evidence", "short", count=len(lines))
    return listing("", lines, "evidence", lang, (short,))


def _column(line: ClassLine, witnessed: bool, lang: Language) -> dict[str, str]:
    """Return the rows of one class by their names; those that say nothing are left out."""
    sums = line.counted
    column = {
        text_in(lang, "total", "certified"): rate_text(sums.certified_mflop_s),
        text_in(lang, "total", "sustained"): rate_text(sums.sustained_mflop_s),
        text_in(lang, "total", "upper"): rate_text(sums.upper_mflop_s),
        text_in(lang, "total", "nominal"): _nominal(sums, lang),
        text_in(lang, "summary", "devices"): _coverage(line, lang),
    }
    if line.nodes_missing:
        column[text_in(lang, "summary", "nodes-missing")] = f"{line.nodes_missing:,}"
    if 0 < sums.devices_without_rating < sums.devices:
        column[text_in(lang, "summary", "no-rating")] = f"{sums.devices_without_rating:,}"
    if sums.never_scheduled_mflop_s:
        column[text_in(lang, "summary", "unscheduled")] = rate_text(sums.never_scheduled_mflop_s)
    if line.with_witness.devices:
        name = text_in(lang, "summary", "with-witness" if witnessed else "needs-witness")
        column[name] = rate_text(line.with_witness.certified_mflop_s)
    return column


def _nominal(totals: Totals, lang: Language) -> str:
    if totals.devices_without_rating == totals.devices:
        return text_in(lang, "total", "none")
    return rate_text(totals.nominal_mflop_s)


def _coverage(line: ClassLine, lang: Language) -> str:
    part, whole = line.counted.devices, line.counted.devices + line.untested.devices
    return text_in(lang, "summary", "counted-of", counted=f"{part:,}", whole=f"{whole:,}")


def _class_line(line: ClassLine, lang: Language) -> str:
    """Return all figures of a class on one line, in the order of the line above them."""
    totals = line.counted
    rates = [rate_text(rate) for rate in (totals.certified_mflop_s, totals.sustained_mflop_s, totals.upper_mflop_s)]
    rates.append(_nominal(totals, lang))
    units = [rate.rpartition(" ")[2] for rate in rates]
    # A unit is said once for rates that follow each other.
    for index, unit in enumerate(units[:-1]):
        if unit == units[index + 1]:
            rates[index] = rates[index].rpartition(" ")[0]
    what = class_name(line.pool_class, line.precision, line.choice, lang)
    devices, missing = _coverage(line, lang), line.nodes_missing
    text = text_in(lang, "summary", "class-line", what=what, rates=" / ".join(rates), devices=devices)
    return text + (text_in(lang, "summary", "line-missing", count=f"{missing:,}") if missing else "")


# --- verdicts ---


def threshold_parts(verdicts: Sequence[Verdict], lang: Language) -> list[Part]:
    """Return the verdicts of all conditions that demand a number, by verdict, and a count of the other conditions."""
    thresholds = [one for one in verdicts if demanded_text(one, lang) is not None]
    parts = [_thresholds([one for one in thresholds if one.verdict == word], word, lang) for word in ORDER]
    if not thresholds:
        parts.append(fixed(text_in(lang, "summary", "no-threshold")))
    without = Counter(one.verdict for one in verdicts if demanded_text(one, lang) is None)
    if without:
        counts = text_in(lang, "summary", "comma").join(
            text_in(lang, "summary", "other-count", count=without[word], word=text_in(lang, "verdict", word))
            for word in ORDER
            if without[word]
        )
        parts.append(fixed(text_in(lang, "summary", "conditions", counts=counts)))
    return parts


def _fabric(statement: CapacityStatement, lang: Language) -> Part:
    """Return what the network's runs show; nothing where the campaign had none."""
    if (fabric := statement.fabric) is None:
        return Part(((),))
    return fixed(coded(fabric_headline(fabric, lang), headline_code(fabric)))


def _thresholds(verdicts: Sequence[Verdict], word: Outcome, lang: Language) -> Part:
    """Return the thresholds of one verdict: what it means, and what each compares."""
    if not verdicts:
        return Part(((),))
    many = counted(len(verdicts), "threshold", lang)
    said = text_in(lang, "verdict", word)
    title = text_in(lang, "summary", "thresholds", thresholds=many, word=said, meaning=text_in(lang, "meaning", word))
    detailed = [f"  {_threshold_line(one, lang, all_bases=True)}" for one in verdicts]
    short = [f"  {_threshold_line(one, lang, all_bases=False)}" for one in verdicts]
    names = ", ".join(f"{one.policy}/{one.condition}" for one in verdicts)
    named = text_in(lang, "summary", "threshold-names", thresholds=many, word=said, names=names)
    short_most = text_in(lang, "summary", "threshold-count", thresholds=many, word=said)
    # By name as long as that is no paragraph: a condition that is cut in its name would be neither named nor counted.
    if cells(named) > 4 * WIDTH:
        first = names_text(names.split(", "), lang, shown=3)
        named = text_in(lang, "summary", "threshold-first", thresholds=many, word=said, names=first)
    return Part(((title, *detailed), (title, *short), (title, f"  {names}"), (named,), (short_most,)), worth=2)


def _threshold_line(verdict: Verdict, lang: Language, *, all_bases: bool) -> str:
    name = one_line(f"{verdict.policy}/{verdict.condition}")
    shown = verdict.bases if all_bases else verdict.bases[:1]
    values = text_in(lang, "summary", "comma").join(
        f"{text_in(lang, 'total', basis.basis)} {observed_text(basis, verdict, lang)}" for basis in shown
    )
    said = text_in(
        lang,
        "summary",
        "threshold",
        name=f"{name}{draft_text(verdict, lang)}",
        values=values,
        demanded=demanded_text(verdict, lang),
    )
    return said + (f" [{verdict.reason}]" if verdict.reason else "")


# --- what counts 0 ---


def _counts_zero(statement: CapacityStatement, lang: Language) -> Part:
    """Return what holds or voids figures, what is void and what most devices carry first."""
    bad = [one for one in statement.findings if one.effect in ("void", "hold")]
    bad.sort(key=lambda one: (one.effect != "void", -one.devices, one.code))
    lines = [
        text_in(
            lang,
            "summary",
            "void-line",
            effect=text_in(lang, "summary", "void" if one.effect == "void" else "hold"),
            code=one.code,
            devices=counted(one.devices, "device", lang),
            workload=one.workload,
        )
        for one in bad
    ]
    codes = _some_codes([one.code for one in bad], lang)
    return listing(
        text_in(lang, "summary", "counts-zero"),
        [f"  {one}" for one in lines],
        "reasons",
        lang,
        (text_in(lang, "summary", "codes-short", codes=codes),),
    )


def _absent(statement: CapacityStatement, lang: Language) -> Part:
    """Return why expected nodes have no record, the reason of the most first, and what they could add."""
    absent = sorted(absent_nodes(statement).items(), key=lambda item: -len(item[1]))
    nodes = counted(sum(len(names) for _, names in absent), "node", lang)
    entries = [(code, counted(len(names), "node", lang), names_text(names, lang, shown=3)) for code, names in absent]
    lines = [
        text_in(lang, "summary", "absent-line", code=code, nodes=many, names=names) for code, many, names in entries
    ]
    codes = _some_codes([code for code, _ in absent], lang)
    title = text_in(lang, "summary", "absent", nodes=nodes)
    if _is_said_below(statement) and (amount := _missing_amount(statement.classes, lang)):
        title = text_in(lang, "summary", "absent-adds", nodes=nodes, amount=amount)
    return listing(
        title,
        [f"  {one}" for one in lines],
        "reasons",
        lang,
        (text_in(lang, "summary", "absent-short", nodes=nodes, codes=codes),),
    )


def _is_said_below(statement: CapacityStatement) -> bool:
    """Return whether the nodes that each class lacks are those without a record, which have a part of their own."""
    absent = sum(map(len, absent_nodes(statement).values()))
    lacking = [line.nodes_missing for line in statement.classes]
    # Not where a record lacks devices of a class, which then lacks that node too. A node may have devices of several.
    return sum(lacking) == absent or set(lacking) <= {0, absent}


def _missing_amount(classes: Sequence[ClassLine], lang: Language) -> str:
    """Return what nodes without a record could add to each class in which they may have devices; "" for none."""
    amounts = []
    for line in classes:
        if line.nodes_missing:
            most = line.missing_at_most_mflop_s
            known = text_in(lang, "summary", "adds-at-most", rate=rate_text(most))
            amount = text_in(lang, "summary", "adds-unknown") if most is None else known
            what = class_name(line.pool_class, line.precision, line.choice, lang)
            amounts.append(
                amount if len(classes) == 1 else text_in(lang, "summary", "adds-to", amount=amount, what=what)
            )
    return text_in(lang, "summary", "comma").join(amounts)


# --- what stands beside it ---


def remarks_part(key: str, remarks: Sequence[str], lang: Language) -> Part:
    """Return notes, or what was not checked, as lines that end with their codes.

    Args:
        key: `note` or `not-checked`.
        remarks: in English, as reports have them.
        lang: of the lines.
    """
    lines = [one_line(text_in(lang, "statement_lines", key, what=line_in(lang, one)), 1000) for one in remarks]
    codes = _some_codes([code_of(one) for one in remarks], lang)
    count = len(remarks)
    short = text_in(lang, "summary", "notes-short" if key == "note" else "not-checked-short", count=count, codes=codes)
    return listing("", lines, key, lang, (short,))


def _some_codes(codes: Sequence[str], lang: Language) -> str:
    """Return each code once, as many as a line takes."""
    return names_text([one_line(code, 63) for code in dict.fromkeys(codes)], lang, shown=CODES)


def signers_part(keyids: Sequence[str], lang: Language) -> Part:
    """Return whose keys signed a statement."""
    short = () if not keyids else (text_in(lang, "summary", "signers-short", count=len(keyids), keyid=keyids[0][:16]),)
    lines = [text_in(lang, "statement_lines", "signed", keyid=keyid) for keyid in keyids]
    return listing("", lines, "signers", lang, short)


def missing_part(lacking: Sequence[Lack], lang: Language) -> Part:
    """Return what conditions lack: what the most of them lack first."""
    conditions: dict[str, list[str]] = {}
    for one in lacking:
        conditions.setdefault(lack_text(one, lang), []).append(f"{one.policy}/{one.condition}")
    lines = [
        text_in(lang, "summary", "missing-line", what=what, names=names_text(names, lang, shown=2))
        for what, names in sorted(conditions.items(), key=lambda item: -len(item[1]))
    ]
    short = text_in(lang, "summary", "missing-short", count=len(lines))
    return listing("", lines, "missing", lang, (short,))


@dataclass(frozen=True)
class IssuedStatement:
    """A statement that was made, for the command line to show."""

    statement: CapacityStatement
    out: Path
    keyids: tuple[str, ...]
    payload_sha256: str
    missing: tuple[Lack, ...] = ()  # what conditions lack, and which field of the centre file gives it
    notes: tuple[str, ...] = ()  # on who made and signed the records

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        import msgspec

        return {
            "statement": str(self.out / "statement.dsse.json"),
            "payload_sha256": self.payload_sha256,
            "keyids": list(self.keyids),
            "missing": [one._asdict() for one in self.missing],
            "notes": list(self.notes),
            "predicate": msgspec.to_builtins(self.statement),
        }

    def lines(self, lang: Language = "en") -> list[str]:
        """Return the whole result as printed lines."""
        signed = [text_in(lang, "statement_lines", "signed", keyid=keyid) for keyid in self.keyids]
        notes = [text_in(lang, "statement_lines", "note", what=line_in(lang, what)) for what in self.notes]
        return [
            *describe_statement(self.statement, lang=lang),
            *(missing_text(one, lang) for one in self.missing),
            *(one_line(what, 1000) for what in notes),
            text_in(lang, "statement_lines", "statement", sha256=self.payload_sha256),
            *signed,
            text_in(lang, "statement_lines", "written", place=self.out),
        ]

    def summary(self, lang: Language) -> list[Part]:
        """Return the parts of the result's summary."""
        return [
            *statement_parts(self.statement, False, lang),
            missing_part(self.missing, lang),
            remarks_part("note", self.notes, lang),
            fixed(text_in(lang, "statement_lines", "statement", sha256=self.payload_sha256)),
            signers_part(self.keyids, lang),
            whole_part(len(self.lines(lang)) + 1, lang),
            fixed(text_in(lang, "statement_lines", "written", place=self.out), is_copied=True),
        ]
