"""What is looked at again and again while the registry is served: the trust root, samples, refused bodies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from sqlalchemy import func, select

from bench.errors import PetasealError
from certify.registry.api.common import TrustState, TrustStatus
from certify.registry.base.registry import Registry
from certify.registry.intake.presence import take_back
from certify.registry.intake.revoking import refresh_trust
from certify.registry.maintenance.retention import drop_refused
from certify.registry.state.city.present import sample_schedulable
from certify.registry.storage.tables import decisions

TRUST_S = 60  # between two looks at the trust root
SAMPLE_S = 300  # between two looks whether an hour has begun
REFUSED_S = 60  # between two looks whether something was decided
ALL_REFUSED_S = 3600  # and where nothing was, between two looks at all refused bodies
_log = logging.getLogger("petaseal.registry")


def watch_trust(registry: Registry, ended: threading.Event) -> None:
    """End what the trust root revokes, now and every minute: its keepers may have put the next version in its place.

    What was heard in the future is taken back as often: the clock may have been set right.
    """
    said: TrustNews | None = None

    def look() -> None:
        nonlocal said
        trust = registry.trust_status()
        said = report_trust(trust, said)
        take_back(registry.store, registry.now)
        if trust.serves:
            refresh_trust(registry)

    repeat(look, TRUST_S, ended, "what was revoked could not be looked at")


def watch_samples(registry: Registry, ended: threading.Event) -> None:
    """Store hourly what is schedulable: the trend of a city shows it, and nothing else that is stored tells."""
    # not at once: nodes that beat every few minutes have not been heard of since the service began
    if not ended.wait(SAMPLE_S):
        repeat(lambda: sample_schedulable(registry), SAMPLE_S, ended, "what is schedulable was not sampled")


def watch_refused(registry: Registry, ended: threading.Event) -> None:
    """Drop bodies of refused submissions when the service begins, every hour, and within a minute of a refusal."""
    seen, quiet_s = None, 0

    def look() -> None:
        nonlocal seen, quiet_s
        with registry.store.reading() as connection:
            last = connection.scalar(select(func.max(decisions.c.id)))
        # all refused bodies are looked at: a registry where nothing happens is left alone for an hour
        quiet_s += REFUSED_S
        if last != seen or quiet_s >= ALL_REFUSED_S:
            drop_refused(registry, unfinished=seen is None)
            seen, quiet_s = last, 0

    repeat(look, REFUSED_S, ended, "bodies of refused submissions were not dropped")


def repeat(look: Callable[[], None], every_s: float, ended: threading.Event, failed: str) -> None:
    """Look now, and again and again until the service ends; a failure is logged, and ends no service.

    Args:
        look: does it once.
        every_s: seconds between two looks.
        ended: is set when the service ends.
        failed: what the log says of a failure, before its code.
    """
    while True:
        try:
            look()
        except Exception as error:  # such as the database's; the next look tries it again
            _log.warning("%s: %s", failed, error.code if isinstance(error, PetasealError) else type(error).__name__)
        if ended.wait(every_s):
            return


class TrustNews(NamedTuple):
    """What the log says of the trust root: it is written when one of these changes, and not every minute."""

    state: TrustState
    code: str | None
    version: int | None
    warn_days: int | None
    list_version: int | None
    list_warn_days: int | None


def report_trust(trust: TrustStatus, said: TrustNews | None) -> TrustNews:
    """Log how it stands with the trust root where that is news, and return what is said by now."""
    listed = trust.revocations
    list_version, list_warn_days = (None, None) if listed is None else (listed.version, listed.warn_days)
    news = TrustNews(trust.state, trust.code, trust.version, trust.warn_days, list_version, list_warn_days)
    if news != said:
        level = logging.INFO if trust.state == "good" and list_warn_days is None else logging.WARNING
        _log.log(level, "trust root %s", trust.state, extra={"fields": {"trust": msgspec.to_builtins(trust)}})
    return news
