"""What ``petaseal import`` prints: each run that it read, whether it passed, its codes. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import one_line
from bench.language import Language, text_in
from bench.units import bandwidth_text, rate_text, truncated
from certify.documents.evidence import BusRun, SolveRun
from certify.evidence.output import is_refused
from certify.statement.brought.importing import Imported
from certify.statement.brought.words import codes_text


def imported_lines(imported: Imported, lang: Language) -> Iterator[str]:
    """Yield what was read of one output, run by run, and what was made of it."""
    output = imported.output
    bad = [one for one in output.buses if is_refused(one.codes)]
    good = [one for one in output.buses if not is_refused(one.codes)]
    passed: list[SolveRun | BusRun] = [*output.runs, *good]
    failed: list[SolveRun | BusRun] = [*output.failed, *bad]
    head = text_in(
        lang,
        "evidence",
        "head",
        file=imported.file,
        tool=output.tool,
        kind=output.kind,
        runs=len(passed),
        failed=len(failed),
    )
    yield one_line(head, 400)
    for runs, word in ((passed, text_in(lang, "evidence", "passed")), (failed, text_in(lang, "evidence", "failed"))):
        for run in runs:
            said = _solve_text(run, lang) if isinstance(run, SolveRun) else _bus_text(run, lang)
            yield f"  {word}  {said}{codes_text(run.codes)}"
    if output.codes:
        yield "  " + text_in(lang, "evidence", "notes", codes=", ".join(output.codes))
    if imported.path is None:
        yield text_in(lang, "evidence", "not-written")
        return
    role = text_in(lang, "evidence", "witness" if imported.document.by == "witness" else "operator")
    yield text_in(lang, "evidence", "written", path=imported.path, role=role)
    if imported.copy is None:
        yield text_in(lang, "evidence", "too-large")
    else:
        yield text_in(lang, "evidence", "copied", path=imported.copy)


def _solve_text(run: SolveRun, lang: Language) -> str:
    unknown = text_in(lang, "evidence", "unknown")
    return text_in(
        lang,
        "evidence",
        "solve",
        n=f"{run.n:,}" if run.n is not None else unknown,
        nb=run.nb or unknown,
        p=run.p or unknown,
        q=run.q or unknown,
        time=f"{truncated(run.elapsed_ms, 1000, 2)} s" if run.elapsed_ms is not None else unknown,
        rate=rate_text(run.rate_mflop_s),
        residual=truncated(run.residual_ppm, 10**6, 6) if run.residual_ppm is not None else unknown,
    )


def _bus_text(run: BusRun, lang: Language) -> str:
    return text_in(
        lang,
        "evidence",
        "bus",
        collective=run.collective,
        size=f"{run.size_bytes:,}",
        ranks=run.ranks or text_in(lang, "evidence", "unknown"),
        algorithm=bandwidth_text(run.algorithm_mb_s),
        bus=text_in(lang, "evidence", "unknown") if run.bus_mb_s is None else bandwidth_text(run.bus_mb_s),
    )
