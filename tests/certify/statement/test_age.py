"""How late a statement may come, and until when it holds: from the end of the measurement, not from the issue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from bench.errors import PetasealError, RefusedError
from bench.record.campaign import ends_ns
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy, load_policy
from certify.statement.age import check_age, check_validity
from certify.statement.campaign import check_campaign
from certify.statement.summary import IssuedStatement
from tests.certify.judged import policy_of
from tests.certify.measured import Measured, measured

AGED = (policy_of(max_age_days=30),)
NONE: dict[str, CapacityStatement] = {}  # no earlier statement is known


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("centre"), nodes=1, devices=1, profile="smoke", precisions=("fp16",))
    found.certify()
    return found


@pytest.fixture(scope="module")
def made(centre: Measured) -> CapacityStatement:
    """Return a statement that was issued in time."""
    found = centre.verify().statement
    assert found is not None
    return found


@contextmanager
def on_day(made: CapacityStatement, days: int, ns: int = 0) -> Iterator[None]:
    """Let the machine's clock stand so long after the end of a measurement."""
    with mock.patch("time.time_ns", return_value=ended_ns(made) + days * DAY_NS + ns):
        yield


def ended_ns(made: CapacityStatement) -> int:
    return ends_ns(made.campaign, made.starts_at)


def issued(made: CapacityStatement, after_ns: int, until_ns: int = 366 * DAY_NS, **changes: Any) -> CapacityStatement:
    """Return a statement over the same measurement with other times, counted from its end."""
    times = {"issued_at": utc_text(ended_ns(made) + after_ns), "valid_until": utc_text(ended_ns(made) + until_ns)}
    return replace(made, issue=replace(made.issue, **{**times, **changes}))


def code(act: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PetasealError) as refused:
        act(*args, **kwargs)
    assert str(refused.value).isprintable()
    return refused.value.code


@pytest.mark.parametrize("days", [30, 1])
@pytest.mark.parametrize("late_ns", [0, 1000])
def test_the_first_statement_comes_within_so_many_days(made: CapacityStatement, days: int, late_ns: int) -> None:
    policies = (*AGED, policy_of(max_age_days=days))  # the strictest of them holds
    one = issued(made, days * DAY_NS + late_ns)
    if late_ns:
        assert code(check_age, one, NONE.get, policies, "s") == "measurement-too-old"
    else:
        assert check_age(one, NONE.get, policies, "s") is None


@pytest.mark.parametrize("policy", [load_policy("guangzhou-2000p"), policy_of(valid_days_max=9)])
def test_the_validity_counts_from_the_end_of_the_measurement(made: CapacityStatement, policy: Policy) -> None:
    longest = policy.valid_days_max * DAY_NS
    for after_ns in (0, 8 * DAY_NS):
        check_validity(issued(made, after_ns, longest), (policy,), "s")
        assert code(check_validity, issued(made, after_ns, longest + 1000), (policy,), "s") == "validity-too-long"


def test_nothing_is_issued_before_the_measurement_is_over(made: CapacityStatement) -> None:
    for after_ns, expected in ((0, None), (-1000, "issued-before-measured")):
        given = (made.campaign, made.centre, made.starts_at, utc_text(ended_ns(made) + after_ns))
        if expected is None:
            check_campaign(*given)
        else:
            assert code(check_campaign, *given) == expected


# A chain of reissues counts from its first
FIRST, SECOND, THIRD = ("1" * 64, "2" * 64, "3" * 64)


def chain(made: CapacityStatement, *days: int) -> dict[str, CapacityStatement]:
    """Return statements over one measurement, each of which names the one before, issued on these days."""
    names = (None, FIRST, SECOND, THIRD)
    return {
        str(name): issued(made, day * DAY_NS, 300 * DAY_NS, sequence=place + 1, previous_sha256=names[place])
        for place, (name, day) in enumerate(zip(names[1:], days, strict=False))
    }


def test_a_chain_of_reissues_counts_from_its_first(made: CapacityStatement) -> None:
    known = chain(made, 29, 60, 200)
    assert check_age(known[THIRD], known.get, AGED, "s") is None
    late = chain(made, 31, 60, 200)
    assert code(check_age, late[THIRD], late.get, AGED, "s") == "measurement-too-old"
    assert check_age(known[THIRD], {FIRST: known[FIRST]}.get, AGED, "s") == SECOND  # not known, and said
    assert check_age(known[THIRD], {SECOND: known[SECOND]}.get, AGED, "s") == FIRST


@pytest.mark.parametrize(
    "change",
    [{"campaign_sha256": "ab" * 32}, {"records_root": "ab" * 32}, {"starts_at": "2026-01-01T00:00:00.000000Z"}],
)
def test_a_reissue_is_of_the_same_measurement(made: CapacityStatement, change: dict[str, Any]) -> None:
    known = chain(made, 29, 60)
    other = {FIRST: replace(known[FIRST], **change)}
    assert code(check_age, known[SECOND], other.get, AGED, "s") == "measurement-too-old"
    in_time = issued(made, 2 * DAY_NS, sequence=2, previous_sha256=FIRST)  # a new measurement in its own time
    assert check_age(in_time, other.get, AGED, "s") is None


def test_a_reissue_ends_when_what_it_reissues_does(made: CapacityStatement) -> None:
    known = chain(made, 29, 60)
    for more_ns, expected in ((0, None), (1000, "validity-too-long")):
        late = issued(made, 60 * DAY_NS, 300 * DAY_NS + more_ns, sequence=2, previous_sha256=FIRST)
        if expected is None:
            assert check_age(late, known.get, AGED, "s") is None
        else:
            assert code(check_age, late, known.get, AGED, "s") == expected


# As the command does it
def test_certify_refuses_an_old_measurement_and_one_that_is_not_over(
    centre: Measured, made: CapacityStatement, tmp_path: Path
) -> None:
    for days, ns, expected in (
        (30, 0, None),
        (30, 1000, "measurement-too-old"),
        (20_000, 0, "measurement-too-old"),
        (0, -1000, "issued-before-measured"),
        (0, 0, None),
    ):
        out = tmp_path / f"{days}-{ns}"
        with on_day(made, days, ns):
            if expected is not None:
                assert code(centre.certify, out) == expected
                assert not out.exists()
            else:
                assert centre.certify(out).statement.issue.valid_until == utc_text(ended_ns(made) + 366 * DAY_NS)


def test_a_validity_that_is_over_is_not_signed(centre: Measured, made: CapacityStatement, tmp_path: Path) -> None:
    with on_day(made, 5):
        assert code(centre.certify, tmp_path / "out", valid_days=5) == "expired"
        assert centre.certify(tmp_path / "out", valid_days=6)


def reissued(
    centre: Measured, made: CapacityStatement, out: Path, before: Path, days: int, sequence: int = 2
) -> IssuedStatement:
    with on_day(made, days):
        return centre.certify(out, sequence=sequence, previous=before / "statement.dsse.json", policies=("wuhan-2025",))


def test_a_late_reissue_and_its_chain(centre: Measured, made: CapacityStatement, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    with on_day(made, 1):
        centre.certify(one, valid_days=200)
    second = reissued(centre, made, two, one, 60).statement
    assert second.issue.valid_until == utc_text(ended_ns(made) + 200 * DAY_NS)
    third = reissued(centre, made, three, two, 100, 3).statement
    assert third.issue.valid_until == second.issue.valid_until
    at_ns = ended_ns(made) + 110 * DAY_NS
    for others, unchecked in (((), True), ((two,), True), ((one,), True), ((one, two), False)):
        report = centre.verify(three, at_ns=at_ns, others=others)
        assert report.refusal is None
        said = [what for what in report.not_checked if "issued in time" in what]
        assert bool(said) is unchecked, (others, report.not_checked)


def test_a_late_statement_over_other_records(tmp_path: Path) -> None:
    one = measured(tmp_path, nodes=2, devices=1, profile="smoke", precisions=("fp16",))
    first = one.certify(tmp_path / "one").statement
    one.record(1).unlink()
    with on_day(first, 60):
        given = {"sequence": 2, "previous": tmp_path / "one" / "statement.dsse.json"}
        assert code(one.certify, tmp_path / "two", **given) == "measurement-too-old"
    assert not (tmp_path / "two").exists()


def test_the_present_is_in_time() -> None:
    """The centre of these tests was measured yesterday, whenever they are run."""
    from tests.certify.measured import BEGIN_NS

    assert 0 < time.time_ns() - BEGIN_NS < 2 * DAY_NS
    assert utc_ns(utc_text(BEGIN_NS)) == BEGIN_NS


def test_a_refusal_says_when_the_measurement_ended(made: CapacityStatement) -> None:
    with pytest.raises(RefusedError, match="measure again") as refused:
        check_age(issued(made, 40 * DAY_NS), NONE.get, AGED, "s")
    assert utc_text(ended_ns(made)) in str(refused.value)
