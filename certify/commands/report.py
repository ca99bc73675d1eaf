"""The commands ``report ...``: what people read of a statement or of a measurement, as a file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from bench.units import size_text
from certify.commands import options
from certify.commands.output import RecordCounter, report

app = options.group()


@app.command(epilog="Example: petaseal report pdf statement/statement.dsse.json")
def pdf(
    statement: options.Statement,
    out: Annotated[Path | None, typer.Option(help="PDF to make (default: statement.pdf beside the statement).")] = None,
    policy: options.FurtherPolicies = None,
    as_json: options.Json = False,
) -> None:
    """Draw the PDF of a signed statement; it holds the statement, and verifies nothing."""
    import hashlib

    from bench.record import followed, read_given, refuse_existing, write_atomic
    from certify.documents.caps import CAPS
    from certify.statement import package
    from certify.statement.paper.opening import FILE
    from certify.statement.paper.pdf import SignedStatement, printing, statement_pdf
    from certify.verify.evidence import Evidence
    from certify.verify.statement_checks import bound_policies

    printing()  # what is not installed is said before anything is read
    given = followed(statement)
    target = out or (given if given.is_dir() else given.parent) / FILE
    refuse_existing(target, "choose another with --out")
    with package.opened(given) as place:
        evidence = Evidence(place, policies=tuple(policy or ())).in_folder(place)
        content = read_given(evidence.statement, CAPS.statement_bytes)
        signed = SignedStatement.read(content, evidence.statement)
        drawn = statement_pdf(signed, tuple(bound_policies(signed.statement, evidence)))
    write_atomic(target, drawn, new=True)
    sha256 = hashlib.sha256(drawn).hexdigest()
    value = {"pdf": str(target), "sha256": sha256, "size_bytes": len(drawn), "payload_sha256": signed.payload_sha256}
    report(as_json, value, [f"{target}: {size_text(len(drawn))}", f"  sha256 {sha256}"])


@app.command("html", epilog="Example: petaseal report html campaign --out report.html")
def html(
    folder: Annotated[Path, typer.Argument(metavar="CAMPAIGN|RECORDS", help="A campaign's folder, or one of records.")],
    out: Annotated[Path, typer.Option(help="HTML file to make, or a folder for report.html; never overwrites one.")],
    public_key: options.OperatorPublicKey = None,
    trust: options.TrustInstead = None,
    campaign: Annotated[Path | None, typer.Option(help="The centre's campaign, where it does not lie there.")] = None,
    profile: options.FurtherProfiles = None,
    node: Annotated[list[str] | None, typer.Option(help="Draw this node over time (default: up to 64).")] = None,
    lang: options.Lang = None,
    as_json: options.Json = False,
) -> None:
    """Draw a campaign or a run as one page: rates, power, clock, temperature, stragglers, roofline and why."""
    # No product is computed here: numpy's threads would only keep worker processes from being forks, which are quick.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bench.language import text
    from bench.record import followed
    from bench.terminal.show import say
    from certify.report.make import ReportRequest, make_report
    from certify.report.source import GivenFiles

    request = ReportRequest(
        followed(folder.absolute()),
        out,
        GivenFiles(followed(campaign), tuple(profile or ())),
        time.time_ns(),
        public_key,
        trust,
        tuple(node or ()),
    )
    with RecordCounter("report", as_json) as count:
        made = make_report(request, count)
    # On stderr too where the page says it: a script that only looks at the status sees what was left out.
    for problem in made.problems:
        say(f"petaseal: {problem}", aside=True)
    size = size_text(made.size)
    lines = [text("report_made", "drawn", page=made.page, size=size, records=made.records, nodes=made.drawn)]
    report(as_json, made.as_json(), lines)
    if not made.is_whole:
        raise typer.Exit(1)
