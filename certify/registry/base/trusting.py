"""The trust of a registry: verified once for each version, expiry and revocation list, and not for each request.

The file of the trust root, and what was accepted before, are looked at for each request by their `stat`, and read and
verified again where that changed or where a time passed that can change the answer. What was accepted last is trusted
on for a grace where the file is missing, refused or expired: a keeper's mistake must not end the operation of a city.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import read_given
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.registry.api.common import WARN_DAYS, RevocationsStatus, TrustState, TrustStatus
from certify.trust.revocations import Revocations
from certify.trust.root import holds_until, read_versions
from certify.trust.store import Accepted, accept_files, last_accepted
from certify.trust.trusted_set import TrustRoot

# A file that was written twice within one tick of its file system's clock bears one time: until that is past, the
# content is compared too. Two seconds are the coarsest clock in use.
SETTLED_NS = 2 * 10**9


@dataclass(frozen=True)
class TrustLook:
    """What one look at the trust root's file and at what was accepted before gave."""

    accepted: Accepted | None  # by the file; None where it is refused
    refusal: PetasealError | None  # why
    last: Accepted | None  # the newest version that was ever accepted, with all that was revoked
    good_until: str | None  # when that one is good no more by itself
    listed: Revocations | None

    def grace_until(self, grace_s: int) -> str | None:
        """Return the first moment at which the last good version is trusted no more."""
        return None if self.good_until is None else utc_text(utc_ns(self.good_until) + grace_s * 10**9)


class _Files(NamedTuple):
    """The trust root's file, and those of the memory with their folders, at one moment."""

    paths: tuple[Path, ...]
    stats: tuple[tuple[int, ...], ...]
    digests: tuple[str, ...]

    def unchanged(self) -> bool:
        """Return whether no status changed; a file that is new in a folder changes that of the folder."""
        return tuple(_stat(path) for path in self.paths) == self.stats

    def settled(self, wall_ns: int) -> bool:
        """Return whether a change after a time must change `stats`."""
        return all(len(one) == 1 or one[-1] + SETTLED_NS < wall_ns for one in self.stats)


class _Seen(NamedTuple):
    """A look, with what it rests on."""

    look: TrustLook
    files: _Files
    settled: bool
    since: str
    until: str | None

    def holds(self, now: str) -> bool:
        """Return whether no time has passed that can change the look."""
        return self.since <= now and (self.until is None or now < self.until)


class TrustCache:
    """Looks at one trust root's file and one memory of accepted versions; any number of threads may ask."""

    def __init__(self, file: Path, state: Path, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._file = file
        self._state = state
        self._wall_ns = wall_ns  # of the file system's times, whatever clock the registry has
        self._lock = threading.Lock()
        self._seen: _Seen | None = None

    def look(self, now: str) -> TrustLook:
        """Return what is trusted now; a change of the files counts from the next call on."""
        seen = self._seen
        if seen is not None and seen.settled and seen.holds(now) and seen.files.unchanged():
            return seen.look
        with self._lock:  # one verifies, the others wait for that
            self._seen = seen = self._look_again(self._seen, now)
            return seen.look

    def _look_again(self, seen: _Seen | None, now: str) -> _Seen:
        wall_ns, files = self._wall_ns(), self._files()
        if seen is None or not seen.holds(now) or files.digests != seen.files.digests:
            look, files = self._verify(now, files)
            since, until = _between(self._moments(look), now)
            seen = _Seen(look, files, False, since, until)
        return seen._replace(files=files, settled=files.settled(wall_ns))

    def _verify(self, now: str, before: _Files) -> tuple[TrustLook, _Files]:
        """Return a new look, and the files that gave it; where they changed meanwhile, as they were, to look again."""
        given: Accepted | None = None
        refusal: PetasealError | None = None
        try:
            given = accept_files((self._file,), now, self._state)
        except PetasealError as error:
            refusal = error
            if error.code == "trust-root-expired":
                self._learn_expired(now)
        between = self._files()  # what was accepted just now is in the memory
        try:
            last = last_accepted(self._state)
        except (PetasealError, OSError):
            last = None
        newest = given if last is None else last.accepted
        # one trust for all: what is remembered has the newest revocation list
        accepted = newest if given is not None and newest is not None and newest.root == given.root else given
        if refusal is not None and refusal.code == "trust-root-unpinned" and newest is not None:
            assert newest.root is not None
            what = f"is not the one that is followed here, {newest.root.root.trust_id}"
            refusal = RefusedError("trust-root-other", what, where=self._file)
        good_until = None if newest is None or newest.root is None else holds_until(newest.root)
        look = TrustLook(accepted, refusal, newest, good_until, None if last is None else last.listed)
        unchanged = between.digests[0] == before.digests[0] and self._files().digests == between.digests
        return look, between if unchanged else before

    def _learn_expired(self, now: str) -> None:
        """Accept versions that were missed and have expired since: what they revoke holds in the grace too."""
        try:
            accept_files((self._file,), now, self._state, fresh=False)
        except PetasealError:
            return  # the refusal of the whole is what is reported

    def _moments(self, look: TrustLook) -> Iterator[str]:
        """Yield every time at which the same files may give another look."""
        if look.last is not None and look.last.root is not None:
            yield from _root_moments(look.last.root.root)
        if look.listed is not None:
            yield look.listed.expires_at
        if look.accepted is not None:
            return
        try:
            for one in read_versions(read_given(self._file, CAPS.trust_chain_bytes), self._file):
                yield from _root_moments(one.root)
        except PetasealError:
            return  # no time makes a trust root of it

    def _paths(self) -> Iterator[Path]:
        yield self._file
        for name in ("roots", "revocations"):
            folder = self._state / "trust" / name
            yield folder
            try:
                yield from sorted(Path(one.path) for one in os.scandir(folder))
            except OSError:
                continue

    def _files(self) -> _Files:
        paths = tuple(self._paths())
        # the status first: what is written before the content is read is seen at the next look
        stats = tuple(_stat(path) for path in paths)
        return _Files(paths, stats, tuple(_digest(path) for path in paths))


def _stat(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_given(path, CAPS.trust_chain_bytes)).hexdigest()
    except InputError as error:
        return error.code


def _root_moments(root: TrustRoot) -> Iterator[str]:
    """Yield the times at which a root, or the keys that sign it, begin or cease to be valid."""
    # a clock may be behind by the skew that every document is granted
    yield utc_text(utc_ns(root.issued_at) - CAPS.time_skew_s * 10**9)
    yield root.expires_at
    for held in root.roles:
        for keyid in held.keys if held.role == "root" else ():
            yield root.keys[keyid].valid_from
            yield root.keys[keyid].valid_until


def _between(moments: Iterable[str], now: str) -> tuple[str, str | None]:
    """Return the last of some times up to now, and the first after it."""
    times = list(moments)
    past, future = [one for one in times if one <= now], [one for one in times if one > now]
    return max(past, default=""), min(future, default=None)


def trust_status(look: TrustLook, now: str, grace_s: int) -> TrustStatus:
    """Return how it stands with the trust root, for answers, pages, metrics and the log."""
    root = None if look.last is None or look.last.root is None else look.last.root
    code = None if look.refusal is None else look.refusal.code
    grace_until = look.grace_until(grace_s)
    warn_days = None if look.good_until is None else _warn_days(look.good_until, now)
    return TrustStatus(
        state=_state(look, now, grace_until, warn_days),
        code=code,
        trust_id=None if root is None else root.root.trust_id,
        version=None if root is None else root.root.version,
        fingerprint=None if root is None else root.fingerprint,
        last_good_since=None if root is None else root.root.issued_at,
        expires_at=look.good_until,
        grace_until=grace_until,
        warn_days=warn_days,
        revocations=None if look.listed is None else _revocations_status(look.listed, now),
    )


def _state(look: TrustLook, now: str, grace_until: str | None, warn_days: int | None) -> TrustState:
    if look.good_until is None or grace_until is None:
        return "none"
    if look.accepted is not None:
        return "good" if warn_days is None else "expiring"
    if now < look.good_until:
        return "file-refused"
    return "in-grace" if now < grace_until else "ended"


def _revocations_status(listed: Revocations, now: str) -> RevocationsStatus:
    warn_days = _warn_days(listed.expires_at, now)
    state: Literal["good", "expiring", "expired"] = (
        "good" if warn_days is None else "expiring" if warn_days else "expired"
    )
    return RevocationsStatus(version=listed.version, expires_at=listed.expires_at, state=state, warn_days=warn_days)


def _warn_days(expires_at: str, now: str) -> int | None:
    """Return the smallest of the days of warning within which something expires; 0 where it has expired."""
    left_ns = utc_ns(expires_at) - utc_ns(now)
    if left_ns <= 0:
        return 0
    return min((days for days in WARN_DAYS if left_ns <= days * DAY_NS), default=None)


def not_current(look: TrustLook) -> InputError:
    """Return the error of what needs a trust root that is good now."""
    code = "none" if look.refusal is None else look.refusal.code
    what = f"the trust root of this registry is not current ({code}), and nothing new is judged by an older one"
    fix = "submit it again once its keepers have put the next version in place; see /readyz"
    return InputError("trust-not-current", what, fix=fix)
