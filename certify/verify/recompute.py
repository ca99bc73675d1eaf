"""From records, samples and evidence to the statement that they give: steps 13 to 17, 20, 21 (docs/verification.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import UnsetType

from bench.errors import RefusedError
from bench.record import encode
from certify.documents.kinds import Baseline, OpenedDocument
from certify.documents.statement import CapacityStatement, EvidenceLine, Fabric
from certify.policy.released import earlier, is_ours
from certify.statement.baseline import open_baseline
from certify.statement.brought.opening import Brought
from certify.statement.build import StatementInputs, build
from certify.statement.campaign import find_profile
from certify.statement.claim import DeviceIndex, Shown, makers_of
from certify.statement.records import Examiner, RecordSummary, check_record_set, examine, inspector_of
from certify.verify.report import Verification
from certify.verify.statement_checks import bound_ratings, bound_tables

OF_THE_DOCUMENT = ("kind", "by", "tool", "file_sha256")  # of a line of evidence: all else depends on records too
MOST_NOTES = 30  # on samples, of thousands: who wants them all runs an audit


def examine_all(v: Verification) -> None:
    """Open, judge and add up all records, and compare each with its samples: steps 13 to 15.

    Profile, ratings and baseline are looked up first: without them no record could be judged.

    Raises:
        RefusedError: with the code of the first fault.
    """
    evidence, statement = v.evidence, v.statement
    assert evidence.records is not None
    profile = find_profile(statement.campaign, evidence.profiles)
    ratings = bound_ratings(statement, evidence)
    baseline = _bound_baseline(v)
    v.inputs = StatementInputs.of_statement(statement, v.policies, profile, ratings, baseline)
    # before the records, which are asked for what the nodes of the evidence can hold
    if (brought := _brought(v)) is not None:
        v.inputs = v.inputs.bringing(brought)
    scope = v.inputs.scope
    collect = v.request.collect
    v.device_index = DeviceIndex(statement.places) if evidence.others else None

    def see(record: RecordSummary) -> None:
        if v.device_index is not None:
            shown = Shown(record.payload_sha256, record.samples_sha256, record.node_id, record.signer, record.devices)
            v.device_index.see(shown)
        if collect is not None:
            collect(record)

    # Samples are read with their record: they are a hundred times its size and are held for one node at a time.
    inspector = None if evidence.samples is None else inspector_of((evidence.samples,), scope)
    examiner = Examiner(evidence.records, scope, v.verifier, collect is not None, inspector)
    v.examined = examine(examiner, v.progress, see)  # 13, 14, 15
    check_record_set(v.examined, statement, v.where, in_order=not evidence.records.is_dir())  # 13


def _bound_baseline(v: Verification) -> OpenedDocument[Baseline] | None:
    """Return the baseline that the statement binds, if it binds one.

    Raises:
        RefusedError: `baseline-differs`, or a code of `open_baseline`.
    """
    baseline, wanted = open_baseline(v.evidence.baseline, v.statement.centre, v.verifier), v.statement.baseline_sha256
    if wanted == (baseline.payload_sha256 if baseline else None):
        return baseline
    given = "no baseline was given" if baseline is None else "the one given is another"
    raise RefusedError(
        "baseline-differs",
        f"binds the baseline {wanted[:16]}…, and {given}" if wanted else "binds no baseline, and one was given",
        where=v.where,
        fix="give that file with --baseline" if wanted else "leave --baseline out",
    )


def compare_fabric(v: Verification) -> None:
    """Make the reduced vectors of the network's runs anew, and compare what the statement says of them: step 20.

    Raises:
        RefusedError: with the code of what its records show, or `fabric-differs`.
    """
    v.again = build(v.examined.tally, v.statement.records_root, v.inputs, v.statement.issue)
    if (problem := fabric_problem(v.statement.fabric, v.again.fabric)) is not None:  # 20
        raise RefusedError(*problem, where=v.where)
    if v.statement.fabric is not None:
        v.report.checked.append("fabric")


def fabric_problem(stated: Fabric | None, computed: Fabric | None) -> tuple[str, str] | None:
    """Return the code and words of what a statement says of the fabric against its records; None where it is right."""
    if stated == computed:
        return None
    if stated is None or computed is None:
        what = "does not say what the network's runs show" if stated is None else "has no run of the network"
        return "fabric-differs", what
    causes = [code for code in computed.codes if code not in stated.codes]
    said = f"says {stated.state} of {stated.devices} devices, and its records show {computed.state} of"
    return (causes or ["fabric-differs"])[0], f"{said} {computed.devices} in run C"


def _brought(v: Verification) -> tuple[Brought, ...] | None:
    """Return the evidence documents that were given, opened once; None where none were."""
    if v.brought is None:
        v.brought = v.evidence.open_brought(v.statement, v.verifier)
    return v.brought


def compare_evidence(v: Verification) -> None:
    """Compare the lines of a statement with the documents, and report what could not be.

    Raises:
        RefusedError: `evidence-missing`, `evidence-extra`, `evidence-differs`, or a code of `Evidence.open_brought`.
    """
    stated, brought = v.statement.evidence, _brought(v)
    if brought is None:
        v.not_checked("evidence-not-given", count=len(stated))
        return
    given = {one.sha256: one for one in brought}
    named = [line.evidence_sha256 for line in stated]
    if named != sorted(set(named)):
        raise RefusedError("evidence-differs", "names evidence twice, or not by its digest", where=v.where)
    if lacking := sorted(set(named) - given.keys()):
        what = f"binds the evidence {lacking[0][:16]}…, and its document does not lie there"
        raise RefusedError("evidence-missing", what, where=v.evidence.brought)
    if further := sorted(given.keys() - set(named)):
        what = f"is evidence ({further[0][:16]}…) that the statement does not bind"
        raise RefusedError("evidence-extra", what, where=given[further[0]].path)
    if (problem := next(_evidence_problems(v, given), None)) is not None:
        raise RefusedError("evidence-differs", problem, where=v.where)
    if not brought:
        return
    v.report.checked.append("evidence")
    if not v.judges_records:
        v.not_checked("evidence-nodes-not-compared")
    if without := sum(one.output is None for one in brought):
        v.not_checked("evidence-output-not-given", count=without)
    if unsigned := sum(not one.opened.signers for one in brought):
        v.not_checked("evidence-key-not-given", count=unsigned)


def _evidence_problems(v: Verification, given: dict[str, Brought]) -> Iterator[str]:
    """Yield what a statement says of evidence and its documents do not."""
    if v.judges_records:
        for line, computed in zip(v.statement.evidence, v.again.evidence, strict=True):
            for name in line.__struct_fields__:
                if (said := getattr(line, name)) != (right := getattr(computed, name)):
                    yield f"says of the evidence {line.evidence_sha256[:16]}… {name} {said!r}, computed {right!r}"
        return
    for line in v.statement.evidence:
        document = given[line.evidence_sha256].document
        pairs = [(name, getattr(line, name), getattr(document, name)) for name in OF_THE_DOCUMENT]
        pairs.append(("nodes", line.nodes, len(document.nodes)))
        for name, said, right in pairs:
            if said != right:
                yield f"says of the evidence {line.evidence_sha256[:16]}… {name} {said!r}, and its document {right!r}"
        if (problem := _figure_problem(line, given[line.evidence_sha256])) is not None:
            yield problem


def _figure_problem(line: EvidenceLine, brought: Brought) -> str | None:
    """Return which figure of a line its document cannot give, whatever the records say of the runs."""
    document = brought.document
    rates = {run.rate_mflop_s for run in document.runs}
    for figure in (line.rate_mflop_s, line.native_mflop_s):
        if figure is not None and figure not in rates:
            return f"says of the evidence {line.evidence_sha256[:16]}… the rate {figure}, which its document has not"
    if line.runs + line.failed != len(document.runs) + len(document.failed) + len(document.buses):
        return f"counts {line.runs + line.failed} runs of the evidence {line.evidence_sha256[:16]}…"
    return None


def _rests_on_unseen(v: Verification) -> bool:
    """Return whether a verdict rests on evidence whose documents were not given, so that it was not recomputed."""
    decided = any(not isinstance(one.by_rmax, UnsetType) for one in v.statement.verdicts)
    return decided and bool(v.statement.evidence) and v.brought is None


def compare_anew(v: Verification) -> None:
    """Build the statement anew from its records, and refuse it where one byte differs: step 16.

    Raises:
        RefusedError: `statement-differs`.
    """
    statement, report, seen = v.statement, v.report, v.examined.seen
    again = v.again
    # Bytes, not fields: a field that is forgotten in a comparison would be one that nobody checks.
    if encode(again) != encode(statement):  # 16
        what = f"says something else than its records: {_difference(statement, again)}"
        raise RefusedError("statement-differs", what, where=v.where)
    report.self_asserted = sum(record.self_asserted for record in seen)
    report.signers_of_records = len({record.signer for record in seen})
    report.tools, notes = makers_of((one.signer, one.node_id, one.tool) for one in seen)
    report.notes += notes
    report.tables = earlier(bound_tables(statement))
    report.checked += ["records", "run rules", "devices", "sums and verdicts"]
    for name in foreign_tables(statement):
        v.not_checked("table-given", name=name)
    if not _rests_on_unseen(v):
        report.level = "recomputed"


def report_samples(v: Verification) -> None:
    """Refuse the first fault of the samples, and report what they cannot show: step 17.

    Raises:
        RefusedError: with the code of the first issue that weighs.
    """
    samples, report = v.examined.samples, v.report
    if (issue := samples.issues.first) is not None:  # 17
        raise RefusedError(issue.code, issue.what, where=issue.where)
    report.checked.append("samples (their digests, the 30 numbers, telemetry)")
    v.not_checked("samples-blind")
    for what, count in sorted(samples.not_checked.items()):
        v.not_checked("samples-partly", what=what, count=count)
    report.notes += tuple(str(issue) for issue in samples.issues.listed[:MOST_NOTES])
    if (count := samples.issues.counts.total()) > MOST_NOTES:
        v.not_checked("notes-shortened", most=MOST_NOTES, count=count)
    if report.level == "recomputed":
        report.level = "audited"


def foreign_tables(statement: CapacityStatement) -> Iterator[str]:
    """Yield the tables that a statement binds and no release of petaseal shipped: the user gave them."""
    tables = {f"the policy {ref.policy}": ref.sha256 for ref in statement.policies}
    tables |= {
        f"the profile {statement.profile}": statement.profile_sha256,
        "the table of ratings": statement.ratings_sha256,
    }
    yield from (name for name, sha256 in tables.items() if not is_ours(sha256))


class Difference(NamedTuple):
    """One field of a statement that is not what its records give."""

    path: tuple[str | int, ...]
    stated: Any
    computed: Any

    def __str__(self) -> str:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")
        if isinstance(self.stated, list) and isinstance(self.computed, list):
            return f"{path} has {len(self.stated)} entries, computed {len(self.computed)}"
        return f"{path} is {self.stated!r}, computed {self.computed!r}"


def differences(stated: Any, computed: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Yield every field in which two plain values differ; of lists of different length, the lists."""
    if isinstance(stated, dict) and isinstance(computed, dict):
        for key in sorted(stated.keys() | computed.keys()):
            yield from differences(stated.get(key), computed.get(key), (*path, key))
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        for i, (a, b) in enumerate(zip(stated, computed, strict=True)):
            yield from differences(a, b, (*path, i))
    elif stated != computed or type(stated) is not type(computed):
        yield Difference(path, stated, computed)


def plain(statement: CapacityStatement) -> Any:
    """Return a statement as plain dictionaries, lists and values."""
    return msgspec.json.decode(encode(statement))


def _difference(stated: CapacityStatement, computed: CapacityStatement) -> Difference | str:
    """Return the first field that differs."""
    return next(differences(plain(stated), plain(computed)), "nothing")
