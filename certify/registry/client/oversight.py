"""What a client asks as an official: alarms and their groups, the platform's word on them, and the audit log."""

from __future__ import annotations

from collections.abc import Iterator

from certify.registry.api.oversight import Acknowledgement, AcknowledgementAsk, AlarmGroup, AuditLine
from certify.registry.api.views import Alarm
from certify.registry.client.calls import ClientCalls


class OversightCalls(ClientCalls):
    """The part of the client that looks at alarms and the audit log."""

    def alarms(
        self, centre: str | None = None, code: str | None = None, acknowledged: bool | None = None
    ) -> Iterator[Alarm]:
        """Yield alarms, newest first."""
        return self._pages("/alarms", Alarm, _filters(centre, code, acknowledged))

    def alarm_groups(
        self, centre: str | None = None, code: str | None = None, acknowledged: bool | None = None
    ) -> Iterator[AlarmGroup]:
        """Yield alarms by code and pair of centres, the group of the newest alarm first."""
        return self._pages("/alarm-groups", AlarmGroup, _filters(centre, code, acknowledged))

    def acknowledge(self, alarm: int, reason: str, acknowledged: bool = True) -> Acknowledgement:
        """Acknowledge an alarm, or withdraw that, as the platform."""
        ask = AcknowledgementAsk(reason=reason, acknowledged=acknowledged)
        return self._send("POST", f"/alarms/{alarm}/acknowledgement", ask, Acknowledgement)

    def audit(self, **filters: str | None) -> Iterator[AuditLine]:
        """Yield lines of the audit log to the platform, newest first.

        Args:
            filters: since, until, token, action, outcome.
        """
        return self._pages("/audit", AuditLine, filters)


def _filters(centre: str | None, code: str | None, acknowledged: bool | None) -> dict[str, str | None]:
    wanted = None if acknowledged is None else str(acknowledged).lower()
    return {"centre": centre, "code": code, "acknowledged": wanted}
