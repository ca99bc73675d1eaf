"""How old a measurement may be when it is stated, and until when it holds (docs/lifecycle.md).

The end of a measurement is T0 and the campaign's last core window, which the campaign fixes beforehand; when a record
says that its node ended is the node's word and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.errors import RefusedError
from bench.record.campaign import ends_ns
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.statement import CapacityStatement
from certify.policy.lines import line
from certify.policy.policies import MAX_AGE_DAYS, MAX_VALID_DAYS, Policy


def ended_ns(statement: CapacityStatement) -> int:
    """Return when the measurement of a statement ended, UTC ns."""
    return ends_ns(statement.campaign, statement.starts_at)


def max_age_days(policies: Iterable[Policy]) -> int:
    """Return how many days after its measurement the first statement may be issued."""
    return min((policy.age_days_max for policy in policies), default=MAX_AGE_DAYS)


def valid_days(policies: Iterable[Policy]) -> int:
    """Return how many days after its measurement a statement may be valid."""
    return min((policy.valid_days_max for policy in policies), default=MAX_VALID_DAYS)


def check_validity(statement: CapacityStatement, policies: Iterable[Policy], where: object) -> None:
    """Refuse a validity beyond what the policies allow after the end of the measurement.

    Raises:
        RefusedError: `validity-too-long`.
    """
    days = valid_days(policies)
    if utc_ns(statement.issue.valid_until) - ended_ns(statement) > days * DAY_NS:
        what = f"is valid for more than the {days} days after its measurement that are allowed"
        raise RefusedError("validity-too-long", what, where=where)


def check_age(
    statement: CapacityStatement,
    earlier: Callable[[str], CapacityStatement | None],
    policies: Iterable[Policy],
    where: object,
) -> str | None:
    """Follow a statement that comes late to the first over its measurement, which must have been issued in time.

    Args:
        statement: that was issued after the end of its measurement.
        earlier: returns the statement with a payload digest, or None where it is not known.
        policies: those of the statement; the whole chain is held to them.
        where: what the statement is called in errors.

    Returns:
        The digest of the first statement on the way that is not known, or None where the age was checked to its end.

    Raises:
        RefusedError: `measurement-too-old`, or `validity-too-long` for a reissue that outlives what it reissues.
    """
    days = max_age_days(policies)
    latest_ns = ended_ns(statement) + days * DAY_NS
    # a reissue is as old as its measurement: back through the reissues to one that was issued in time
    while utc_ns(statement.issue.issued_at) > latest_ns:
        ended_at = utc_text(ended_ns(statement))
        if (sha256 := statement.issue.previous_sha256) is None:
            raise too_old(ended_at, statement.issue.issued_at, days, "", where)
        if (before := earlier(sha256)) is None:
            return sha256
        if _measurement(before) != _measurement(statement):
            why = ", and the statement before it is of another measurement"
            raise too_old(ended_at, statement.issue.issued_at, days, why, where)
        # a reissue may correct and may not prolong: else one measurement would last for ever
        if statement.issue.valid_until > before.issue.valid_until:
            what = f"is valid until {statement.issue.valid_until}, after what it reissues: {before.issue.valid_until}"
            raise RefusedError("validity-too-long", what, where=where)
        statement = before
    return None


def late_text(unknown: str | None) -> tuple[str, ...]:
    """Return what to say where a statement comes late and a statement before it is not known (`check_age`)."""
    if unknown is None:
        return ()
    return (line("first-issue-not-given", sha256=unknown[:16]),)


def too_old(ended_at: str, issued_at: str, days: int, why: str, where: object) -> RefusedError:
    """Return the error that a statement over an old measurement is."""
    what = f"is issued at {issued_at}, more than {days} days after its measurement ended at {ended_at}{why}"
    return RefusedError("measurement-too-old", what, where=where, fix="measure again")


def _measurement(statement: CapacityStatement) -> tuple[str, str, str]:
    return statement.campaign_sha256, statement.starts_at, statement.records_root
