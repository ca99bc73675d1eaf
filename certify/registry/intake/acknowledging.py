"""The platform's last word on an alarm: acknowledged with a reason, or an acknowledgement that is withdrawn."""

from __future__ import annotations

from sqlalchemy import select

from bench.errors import RefusedError
from certify.registry.api.oversight import Acknowledgement, AcknowledgementAsk
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.storage.tables import alarms
from certify.registry.storage.upkeep import acknowledgements


def acknowledge(registry: Registry, alarm_id: int, ask: AcknowledgementAsk, token: Token) -> Acknowledgement:
    """Store what the platform says of an alarm; what it said before stays in the table.

    Raises:
        RefusedError: `token-scope`; `alarm-unknown`; `alarm-not-acknowledged`, there is nothing to withdraw.
    """
    # an operator who could acknowledge alarms about himself would be his own judge
    if token.scope != "platform":
        raise RefusedError("token-scope", "alarms are the platform's to acknowledge")
    at = registry.now
    with registry.store.writing() as connection:
        if connection.execute(select(alarms.c.id).where(alarms.c.id == alarm_id)).first() is None:
            raise RefusedError("alarm-unknown", f"there is no alarm {alarm_id}", fix="see /v1/alarms")
        last = (
            select(acknowledgements.c.acknowledged)
            .where(acknowledgements.c.alarm_id == alarm_id)
            .order_by(acknowledgements.c.id.desc())
        )
        if not ask.acknowledged and not connection.execute(last.limit(1)).scalar():
            raise RefusedError("alarm-not-acknowledged", f"the alarm {alarm_id} is open: nothing can be withdrawn")
        row = {
            "at": at,
            "alarm_id": alarm_id,
            "acknowledged": ask.acknowledged,
            "reason": ask.reason,
            "token_id": token.id,
        }
        connection.execute(acknowledgements.insert(), row)
    return Acknowledgement(
        alarm_id=alarm_id, at=at, acknowledged=ask.acknowledged, reason=ask.reason, token_id=token.id
    )
