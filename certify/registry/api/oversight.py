"""Types of what officials see and say of a registry: alarms that were acknowledged, groups of them, the audit log."""

from __future__ import annotations

from bench.record import Count, Sha256, UtcTime
from certify.policy.centre import Bilingual
from certify.registry.api.common import ApiModel, ApiRequest, PlainText


class AcknowledgementAsk(ApiRequest, frozen=True, kw_only=True):
    """Acknowledge an alarm, or withdraw what was acknowledged (`acknowledged` false)."""

    reason: PlainText
    acknowledged: bool = True


class Acknowledgement(ApiModel, frozen=True, kw_only=True):
    """The last word of the platform on an alarm."""

    alarm_id: Count
    at: UtcTime
    acknowledged: bool  # false: an earlier acknowledgement is withdrawn
    reason: str | None  # for the platform and the operators of both centres
    token_id: Count | None  # whose it was, for the platform

    def __str__(self) -> str:
        return f"{'acknowledged' if self.acknowledged else 'open'} {self.at} {self.reason or ''}".rstrip()


class AlarmGroup(ApiModel, frozen=True, kw_only=True):
    """Alarms of one code between the same two centres, or of one statement, whichever of the two came first."""

    code: str
    title: Bilingual  # of the reason code
    centre_id: str
    other_centre_id: str | None
    payload_sha256: Sha256 | None  # null where alarms are grouped by centres
    alarms: Count
    open: Count  # of these, not acknowledged
    devices: Count  # the most that one of them names
    first_at: UtcTime
    last_at: UtcTime
    last_id: Count  # the newest alarm of the group


class AuditLine(ApiModel, frozen=True, kw_only=True):
    """Who did what with the registry itself, and what became of it."""

    id: Count
    at: UtcTime
    token_id: Count | None  # null: the registry itself, or a command on its machine
    token: str | None  # its name
    action: str
    target: str
    outcome: str  # done | accepted | repeated | a reason code
    request_id: str
