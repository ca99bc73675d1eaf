"""How the report of a verification is printed: the answer first, then what was checked and what was not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.errors import one_line
from bench.language import Language, said_in, text_in
from bench.terminal.summary import Part, fixed, listing, whole_part
from certify.policy.lines import line, line_in
from certify.statement.describe import describe_statement
from certify.statement.summary import remarks_part, signers_part, statement_parts
from certify.verify.report import VerificationReport

if TYPE_CHECKING:
    from certify.statement.paper.opening import PageCheck


def describe_report(report: VerificationReport, lang: Language = "en") -> list[str]:
    """Return a verification's answer first, then what was checked and what was not."""
    if report.refusal is not None:
        return list(_answer(report, lang))
    assert report.statement is not None
    lines = [
        *_answer(report, lang),
        *_of_tables(report, lang),
        *(one_line(text_in(lang, "statement_lines", "note", what=line_in(lang, what)), 1000) for what in report.notes),
        *describe_statement(report.statement, bool(report.witnesses), lang),
        text_in(lang, "statement_lines", "statement", sha256=report.payload_sha256),
        text_in(lang, "statement_lines", "signed", keyid=", ".join(report.signers)),
        *_attested(report, lang),
        *(line_in(lang, one) for one in _on_records(report)),
    ]
    if (fewer := _few_keys(report, lang)) is not None:
        lines.append(fewer)
    for tool in report.tools:
        known = text_in(lang, "verify", "release" if tool.release else "no-release", **_release(tool.release))
        made = text_in(
            lang,
            "verify",
            "tool",
            records=tool.records,
            version=tool.version,
            sha256=tool.sha256,
            release=known,
        )
        lines.append(one_line(made))
    lines.append(
        text_in(lang, "verify", "checked", steps=", ".join(said_in(lang, "checked", one) for one in report.checked))
    )
    not_checked = [
        text_in(lang, "statement_lines", "not-checked", what=line_in(lang, what)) for what in report.not_checked
    ]
    lines += [one_line(what, 1000) for what in not_checked]
    return [*lines, text_in(lang, "verify", "proves")]


def summary_of(report: VerificationReport, lang: Language) -> list[Part]:
    """Return the parts of a verification's summary: the answer, the statement, what was not checked, who signed."""
    if report.refusal is not None:
        return [fixed(*_answer(report, lang))]
    assert report.statement is not None
    notes = [*_of_tables(report, lang), *report.notes, *_on_records(report)]
    if (fewer := _few_keys(report, lang)) is not None:
        notes.append(fewer)
    return [
        fixed(*_answer(report, lang)),
        *statement_parts(report.statement, bool(report.witnesses), lang),
        remarks_part("note", notes, lang),
        remarks_part("not-checked", report.not_checked, lang),
        fixed(text_in(lang, "statement_lines", "statement", sha256=report.payload_sha256)),
        signers_part(report.signers, lang),
        _witnesses(report, lang),
        fixed(text_in(lang, "verify", "proves")),
        whole_part(len(describe_report(report, lang)), lang),
    ]


def _answer(report: VerificationReport, lang: Language) -> Iterator[str]:
    """Yield the answer, and what the reader must know with it."""
    if report.refusal is not None:
        yield text_in(lang, "verify", "refused", code=report.refusal.code, at=report.at)  # the sentence goes to stderr
        return
    level = text_in(lang, "verify", report.level or "signature")
    yield text_in(lang, "verify", "unmet" if report.unmet else "accepted", level=level, at=report.at)
    if (page := report.page) is not None:
        yield _page_line(page, lang)
    if report.level in ("signature", "trusted"):
        yield text_in(lang, "verify", "not-recomputed")


def _page_line(page: PageCheck, lang: Language) -> str:
    """Return how far the page that somebody looks at is the statement's; `NOT CHECKED` says it once more below."""
    if page.status == "same":
        return text_in(lang, "verify", "page-same", count=f"{page.drawn_bytes:,}")
    if page.status == "appended":
        return text_in(lang, "verify", "page-appended", count=f"{page.appended_bytes:,}")
    # The reason may quote the PDF, which anybody wrote.
    return one_line(text_in(lang, "verify", "page-not-verified", why=page.why), 400)


def _of_tables(report: VerificationReport, lang: Language) -> list[str]:
    """Return with which tables of earlier releases it was verified."""
    return [
        text_in(lang, "verify", "table", kind=one.kind, name=one.name, release=one.release) for one in report.tables
    ]


def _attested(report: VerificationReport, lang: Language) -> Iterator[str]:
    """Yield by whose word the statement is what it is, beside its signers."""
    if report.trust_root is not None:
        yield text_in(lang, "verify", "trust-root", root=report.trust_root)
    for one in report.witnesses:
        yield text_in(lang, "verify", "witness", keyid=one.keyid, at=one.witnessed_at, level=one.level)
    if (receipt := report.receipt) is not None:
        yield text_in(lang, "verify", "received", keyid=receipt.keyid, at=receipt.received_at, level=receipt.level)


def _witnesses(report: VerificationReport, lang: Language) -> Part:
    short = text_in(lang, "verify", "witnesses-short", count=len(report.witnesses))
    lines = list(_attested(report, lang))
    return listing("", lines, "witnesses", lang, (short,))


def _on_records(report: VerificationReport) -> list[str]:
    """Return what must be known of the records' keys, as reports have it."""
    return [line("self-asserted", count=report.self_asserted)] if report.self_asserted else []


def _few_keys(report: VerificationReport, lang: Language) -> str | None:
    if report.signers_of_records is None or report.statement is None:
        return None
    records, keys = report.statement.records, report.signers_of_records
    return text_in(lang, "verify", "few-keys", records=records, keys=keys) if keys < records else None


def _release(release: str | None) -> dict[str, str]:
    return {} if release is None else {"release": release}
