"""How the report of a verification is printed: the answer first, then what was checked and what was not."""

from __future__ import annotations

from bench.errors import one_line
from certify.policy.lines import line
from certify.statement.describe import describe_statement
from certify.verify.report import VerificationReport


def describe_report(report: VerificationReport) -> list[str]:
    """Return a verification's answer first, then what was checked and what was not."""
    if report.refusal is not None:
        return [f"REFUSED: {report.refusal.code}, at {report.at}"]  # the sentence goes to stderr
    assert report.statement is not None
    answer = "REQUIREMENT NOT MET" if report.unmet else "ACCEPTED"
    lines = [f"{answer}: level {report.level}, at {report.at}"]
    lines += [f"table of an earlier release: {one.kind} {one.name} ({one.release})" for one in report.tables]
    if report.level in ("signature", "trusted"):
        lines.append("The figures are as claimed: NOT RECOMPUTED from their records.")
    lines += [one_line(f"NOTE: {what}", 1000) for what in report.notes]  # file names are anybody's words
    lines += describe_statement(report.statement, bool(report.witnesses))
    lines.append(f"statement {report.payload_sha256}")
    lines.append(f"signed by {', '.join(report.signers)}")
    if report.trust_root is not None:
        lines.append(f"trust root {report.trust_root}")
    lines += [f"witnessed by {one.keyid} at {one.witnessed_at}, level {one.level}" for one in report.witnesses]
    if (receipt := report.receipt) is not None:
        lines.append(f"received by registry {receipt.keyid} at {receipt.received_at}, level {receipt.level}")
    if report.self_asserted:
        lines.append(line("self-asserted", count=report.self_asserted))
    if report.signers_of_records is not None and report.signers_of_records < report.statement.records:
        lines.append(f"{report.statement.records} records were signed with {report.signers_of_records} key(s)")
    for tool in report.tools:
        release = f"petaseal {tool.release}" if tool.release else "of no known release"
        lines.append(one_line(f"{tool.records} record(s) by tool {tool.version} {tool.sha256}, {release}"))
    lines.append(f"checked: {', '.join(report.checked)}")
    lines += [one_line(f"NOT CHECKED: {what}", 1000) for what in report.not_checked]
    lines.append(
        "A signature proves who claims, not that the harness was unmodified: only a witness or a spot check does."
    )
    return lines
