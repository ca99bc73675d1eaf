"""A whole statement judged by the oracle: from raw samples to sums and verdicts, and in what the statement differs."""

from __future__ import annotations

from bench.record import NodeRecord, identifier
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import Baseline, OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy
from certify.policy.ratings import installed_ratings
from certify.statement.campaign import find_profile
from tests.certify.measured import Measured
from tests.oracle.ground import Ground, Part
from tests.oracle.node import audit_record
from tests.oracle.sums import binding, compare, holds_not_split
from tests.oracle.thresholds import judged


def judge(
    centre: Measured, statement: CapacityStatement, policies: tuple[Policy, ...], baseline: Baseline | None = None
) -> Part:
    """Return what the oracle makes of a centre's records, with every difference from its statement."""
    known = {
        found
        for device in (baseline.devices if baseline else ())
        for name in ("uuid", "serial", "die_id")
        if (found := identifier(getattr(device, name))) is not None
    }
    profile = find_profile(statement.campaign, ())
    ground = Ground(statement, profile, policies, installed_ratings(), frozenset(known))
    part = Part()
    for line in (centre.folder / "out" / "records.jsonl").read_bytes().splitlines(keepends=True):
        envelope = parse_envelope(line, len(line), "records")
        opened: OpenedDocument[NodeRecord] = parse_payload("node-record", envelope.payload, "records")
        audit_record(opened, (centre.records,), ground, part)
    for code, where, what in (*binding(ground), *compare(part, ground)):
        part.tell(code, where, what)
    for one in judged(ground, part):
        if not holds_not_split(ground) and not one.agrees:
            part.tell("verdict-differs", one.condition.condition, f"{one.answer}, and the statement says {one.told}")
    return part
