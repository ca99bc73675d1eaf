"""From a statement's records and samples to the statement that they give: steps 13 to 17 of docs/verification.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from bench.errors import RefusedError
from bench.record import encode
from certify.documents.kinds import Baseline, OpenedDocument
from certify.documents.statement import CapacityStatement
from certify.policy.released import earlier, is_ours
from certify.statement.baseline import open_baseline
from certify.statement.build import StatementInputs, build
from certify.statement.campaign import find_profile
from certify.statement.claim import DeviceIndex, Shown, makers_of
from certify.statement.records import Examiner, RecordSummary, check_record_set, examine, inspector_of
from certify.verify.report import Verification
from certify.verify.statement_checks import bound_ratings, bound_tables

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


def compare_anew(v: Verification) -> None:
    """Build the statement anew from its records, and refuse it where one byte differs: step 16.

    Raises:
        RefusedError: `statement-differs`.
    """
    statement, report, seen = v.statement, v.report, v.examined.seen
    again = build(v.examined.tally, statement.records_root, v.inputs, statement.issue)  # 16
    # Bytes, not fields: a field that is forgotten in a comparison would be one that nobody checks.
    if encode(again) != encode(statement):
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
