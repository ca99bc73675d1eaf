"""What a registry trusts: verified once for each version, expiry and list, and trusted on for a grace."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from bench.errors import InputError
from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.base import trusting
from certify.registry.base.trusting import TrustCache
from certify.registry.intake import ingest
from certify.trust.root import read_root
from certify.trust.store import accept_files
from certify.trust.trusted_set import TrustRoot
from tests.certify.registry.intake.test_ingest import PLATFORM
from tests.certify.registry.laid import Laid

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def root_of(place: Laid) -> TrustRoot:
    return read_root(place.trust.read_bytes()).root


def renew(place: Laid, **changes: Any) -> TrustRoot:
    """Put the next version of the trust root in its place, and return it."""
    root = root_of(place)
    made = structs.replace(root, version=root.version + 1, issued_at=utc_text(time.time_ns()), **changes)
    place.new_root(made)
    return made


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The moments at which a root was verified."""
    moments: list[str] = []

    def counted(roots: Any, now: str, state: Path | None, **named: Any) -> Any:
        if named.get("fresh", True):
            moments.append(now)
        return accept_files(roots, now, state, **named)

    monkeypatch.setattr(trusting, "accept_files", counted)
    return moments


@SQLITE
def test_a_root_is_verified_once_for_each_version_list_and_expiry(
    registry: Registry, place: Laid, verified: list[str]
) -> None:
    def asked(times: int = 50) -> int:
        before = len(verified)
        threads = [threading.Thread(target=registry.trust) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(times):
            assert registry.trust().root is not None
        for thread in threads:
            thread.join()
        return len(verified) - before

    assert [asked(), asked()] == [1, 0]
    renew(place)
    assert [asked(), asked()] == [1, 0]
    assert registry.trust().root.root.version == 2  # type: ignore[union-attr]
    # a list is verified when it is submitted, and what the root trusts with it once after that
    listed = place.revocations(keyids=(place.keyid("witness"),))
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    assert place.keyid("witness") in registry.trust().trusted.revoked
    assert [asked(), asked()] == [0, 0]
    # the same bytes in another file are the same root
    place.trust.write_bytes(place.trust.read_bytes())
    os.utime(place.trust, ns=(time.time_ns() + DAY_NS,) * 2)
    assert asked() == 0
    # expiry of the list and of the root: each is one more
    list_ends = utc_ns(utc_text(time.time_ns())) + 30 * DAY_NS
    root_ends = utc_ns(root_of(place).expires_at)
    for moment, count in ((list_ends, 1), (root_ends, 1)):
        later = replace(registry, clock_ns=partial(int, moment))
        before = len(verified)
        for _ in range(20):
            later.last_trust()
        assert len(verified) - before == count


def cache_of(place: Laid, wall_ns: Callable[[], int] = time.time_ns) -> TrustCache:
    return TrustCache(place.trust, place.root / "state", wall_ns)


@SQLITE
def test_a_file_that_is_written_twice_within_one_tick_is_read_twice(
    place: Laid, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_text(time.time_ns())
    cache = cache_of(place)
    assert cache.look(now).accepted is not None
    good, status = place.trust.read_bytes(), place.trust.stat()
    # same size, same inode, same times: only its content says that it is another one
    place.trust.write_bytes(good[:-10] + b"x" * 10)
    os.utime(place.trust, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.look(now).accepted is None
    place.trust.write_bytes(good)
    assert cache.look(now).accepted is not None
    assert len(verified) == 3
    # long after the last change a look costs no more than the files' status
    settled = cache_of(place, lambda: time.time_ns() + 60 * 10**9)
    settled.look(now)
    with monkeypatch.context() as patched:
        patched.setattr(trusting, "_digest", pytest.fail)
        for _ in range(10):
            settled.look(now)


@SQLITE
def test_what_another_process_accepts_counts_at_the_next_look(registry: Registry, place: Laid) -> None:
    assert registry.trust().trusted.revoked == {}
    listed = place.root / "listed.json"
    listed.write_bytes(place.revocations(keyids=(place.keyid("operator"),)))
    accept_files((place.trust,), registry.now, place.root / "state", revocations=listed)
    assert set(registry.trust().trusted.revoked) == {place.keyid("operator")}


@SQLITE
def test_a_root_whose_own_keys_have_expired_is_in_its_grace(registry: Registry, place: Laid) -> None:
    """The keeper's key ends before the version that it signed: from then on that version is not accepted any more."""
    ends_ns = time.time_ns() + 3 * DAY_NS
    root, keyid = root_of(place), place.keyid("root")
    ending = structs.replace(root.keys[keyid], valid_until=utc_text(ends_ns))
    renew(place, keys={**root.keys, keyid: ending})
    assert (registry.trust_status().state, registry.trust_status().warn_days) == ("expiring", 7)
    assert registry.trust_status().expires_at == utc_text(ends_ns)
    later = replace(registry, clock_ns=partial(int, ends_ns))
    assert (later.trust_status().state, later.trust_status().code) == ("in-grace", "trust-root-signatures")
    assert later.last_trust().root is not None
    over = replace(registry, clock_ns=partial(int, ends_ns + 30 * DAY_NS))
    with pytest.raises(InputError, match="trust-not-current"):
        over.last_trust()
