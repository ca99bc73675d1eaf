"""Records against their campaign's closing document: clocks that differ (R10) and shapes that were not settled (R4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.profile import load_profile
from bench.record import NodeRecord
from bench.record.closing import Closing
from bench.record.folder import CLOSING
from bench.record.shapes import product_of
from certify.documents import dsse
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.judge.products import r4_shape_settled
from certify.judge.timing import r10_clocks_compared
from certify.policy.policies import load_policy
from certify.policy.reasons import effect_of
from tests.certify.measured import Measured, measured, test_campaign, test_closing
from tests.oracle.whole import judge

SECOND_NS = 10**9


def centre_of(place: Path, nodes: int = 3, **closing: Any) -> Measured:
    """Lay out a centre of nodes with one device each; `closing` changes columns of its closing document."""
    found = measured(place, nodes, 1, "smoke", ("fp16",))
    campaign = test_campaign(load_profile("smoke"), ("fp16",), nodes)
    found.close(campaign, **closing)
    return found


def answers(*ahead_ns: int) -> dict[str, Any]:
    """Return the column of nodes whose clocks are ahead, and answered half a second after they were asked."""
    asked_ns = test_closing(test_campaign(load_profile("smoke"), ("fp16",), 1)).asked_ns[0]
    return {"answered_ns": tuple(asked_ns + SECOND_NS // 2 + ns for ns in ahead_ns)}


def stated(centre: Measured, code: str | None = None) -> CapacityStatement:
    """Return a centre's statement, which `verify` recomputes and the second judge agrees with."""
    statement = centre.certify().statement
    report = centre.verify(require=("recomputed",))
    assert report.refusal is None, report.refusal
    assert [one.code for one in judge(centre, statement, (load_policy("guangzhou-2000p"),)).issues] == []
    assert code is None or code in {finding.code for finding in statement.findings}
    return statement


@pytest.mark.parametrize("ahead_s", [5, -5, 3600, -86_400 * 90])
def test_the_record_of_a_node_whose_clock_differs_counts_nothing(tmp_path: Path, ahead_s: int) -> None:
    centre = centre_of(tmp_path, **answers(0, ahead_s * SECOND_NS, 0))
    statement = stated(centre, "clock-differs")
    assert effect_of("clock-differs") == "void"
    assert [(one.node_id, one.codes) for one in statement.not_counted] == [("gpu-00001", ("clock-differs",))]
    assert statement.classes[0].counted.devices == 2


@pytest.mark.parametrize(("bound_ns", "counts"), [(1000, False), (SECOND_NS, False), (3 * SECOND_NS, True)])
def test_the_bound_is_the_one_that_the_record_states(bound_ns: int, counts: bool) -> None:
    """A node is ahead by 4.5 s, of which a round trip of 2 s excuses as many."""
    closing = replace(test_closing(test_campaign(load_profile("smoke"), ("fp16",), 1)), **answers(4 * SECOND_NS))
    record = a_record()
    record = replace(record, clock=replace(record.clock, uncertainty_ns=bound_ns))
    assert r10_clocks_compared(record, closing) == (() if counts else ("clock-differs",))
    unknown = replace(record, clock=replace(record.clock, uncertainty_ns=None))  # void for that already
    assert r10_clocks_compared(unknown, closing) == ("clock-differs",)


def test_the_coordinators_bound_excuses_too() -> None:
    closing = replace(test_closing(test_campaign(load_profile("smoke"), ("fp16",), 1)), **answers(4 * SECOND_NS))
    wide = replace(closing, clock=replace(closing.clock, uncertainty_ns=3 * SECOND_NS))
    nobody_knows = replace(closing, clock=replace(closing.clock, uncertainty_ns=None))
    assert [r10_clocks_compared(a_record(), one) for one in (closing, wide, nobody_knows)] == [
        ("clock-differs",),
        ("clock-not-compared",),  # a clock that may be seconds off tells nothing of others
        ("clock-differs",),
    ]


def a_record() -> NodeRecord:
    from tests.certify.measured import simulated

    return simulated(1, "smoke", ("fp16",)).record


def test_what_was_not_compared_is_noted_and_counts(tmp_path: Path) -> None:
    columns = ("node_id", "asked_ns", "answered_ns", "seen_ns")
    whole = test_closing(test_campaign(load_profile("smoke"), ("fp16",), 3))
    centre = centre_of(tmp_path, **{name: getattr(whole, name)[:2] for name in columns})
    statement = stated(centre, "clock-not-compared")
    assert effect_of("clock-not-compared") == "note"
    assert {f.code: f.devices for f in statement.findings}["clock-not-compared"] == 1
    assert (statement.classes[0].counted.devices, statement.not_counted) == (3, ())


def test_where_nobody_coordinated_no_clock_was_compared(tmp_path: Path) -> None:
    centre = centre_of(tmp_path)
    (centre.records / CLOSING).unlink()
    statement = stated(centre, "clock-not-compared")
    assert statement.closing is None
    assert {f.code: f.devices for f in statement.findings}["clock-not-compared"] == 3
    assert statement.classes[0].counted.devices == 3


def settled_for(closing: Closing, **changes: Any) -> Closing:
    """Return a closing document with the shape that the simulated device runs, or one that differs in some numbers."""
    record = a_record()
    (m,) = record.measurements
    shape = {
        "product": msgspec.to_builtins(product_of(record.models[0])),
        "precision": "fp16",
        "m": m.m,
        "n": m.n,
        "k": m.k,
        "devices": 3,
        "chosen_by": 3,
        **changes,
    }
    return msgspec.convert({**msgspec.to_builtins(closing), "shapes": [shape]}, Closing)


@pytest.mark.parametrize("other", [{}, {"m": 1024}, {"n": 1024}, {"k": 1024}])
def test_a_shape_that_was_not_settled_for_its_model_holds(tmp_path: Path, other: dict[str, int]) -> None:
    whole = test_closing(test_campaign(load_profile("smoke"), ("fp16",), 3))
    centre = centre_of(tmp_path, shapes=settled_for(whole, **other).shapes)
    statement = stated(centre, "shape-differs" if other else None)
    assert effect_of("shape-differs") == "hold"
    assert {one.codes for one in statement.not_counted} == ({("shape-differs",)} if other else set())


def test_the_tuned_shape_and_that_of_another_model_or_precision_are_never_settled() -> None:
    record = a_record()
    closing = settled_for(test_closing(test_campaign(load_profile("smoke"), ("fp16",), 1)), m=1024)
    (m,) = record.measurements
    model = record.models[0]
    assert r4_shape_settled(m, model, closing) == ("shape-differs",)
    assert r4_shape_settled(m, replace(model, driver="another", memory_bytes=1), closing) == ("shape-differs",)
    assert r4_shape_settled(m, model, None) == ()
    assert r4_shape_settled(replace(m, choice="tuned"), model, closing) == ()
    assert r4_shape_settled(replace(m, precision="fp64"), model, closing) == ()
    assert r4_shape_settled(m, replace(model, model="Another"), closing) == ()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "json-invalid"),
        (b"{}", "schema-invalid"),
        (None, "closing-differs"),
    ],
)
def test_a_closing_document_that_is_none_or_anothers_is_refused(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    centre = centre_of(tmp_path, starts_at="2026-01-01T00:00:00.000000Z", published_at="2026-01-01T00:00:00.000000Z")
    if content is not None:
        (centre.records / CLOSING).write_bytes(content)
    with pytest.raises(RefusedError) as caught:
        centre.certify()
    assert caught.value.code == code


def test_the_statement_is_signed_over_what_closes_the_campaign(tmp_path: Path) -> None:
    centre = centre_of(tmp_path, **answers(0, 5 * SECOND_NS, 0))
    centre.certify()
    file = tmp_path / "out" / "statement.dsse.json"
    payload = dsse.parse_envelope(file.read_bytes(), 2**26).payload
    statement: CapacityStatement = parse_payload("capacity-statement", payload).predicate
    assert statement.closing == stated_closing(3, **answers(0, 5 * SECOND_NS, 0))


def stated_closing(nodes: int, **changes: Any) -> Closing:
    return replace(test_closing(test_campaign(load_profile("smoke"), ("fp16",), nodes)), **changes)
