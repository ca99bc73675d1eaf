"""One server for each SQLite registry: the caches of two would not know what the other has written.

Commands that take a moment (token, check, backup) work next to it. Servers of one PostgreSQL database are another
matter: `docs/registry-upkeep.md` says what they share.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from bench.errors import InputError, PetasealError
from bench.record import exclusive_lock, read_bytes, write_atomic
from certify.registry.base.registry import RegistryFolder

LOCK = "serve.lock"
HOLDER = "serve.process"  # who holds it
HOLDER_BYTES = 1024


@contextlib.contextmanager
def serving_alone(place: RegistryFolder, now: str) -> Iterator[None]:
    """Hold the lock of the one server of a SQLite registry; the system releases it when the process ends.

    Args:
        place: the registry's folder.
        now: the present, which a second server is going to name.

    Raises:
        InputError: `registry-served`, another process serves it.
    """
    if place.settings.database != "sqlite":
        yield
        return
    with exclusive_lock(place.root / LOCK, _served(place)):
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now}\n"
        write_atomic(place.root / HOLDER, holder.encode("ascii", "replace"), 0o600)
        yield


def _served(place: RegistryFolder) -> InputError:
    """Return what a second server says, with what the first wrote of itself; of a dead one nobody reads it."""
    try:
        holder = read_bytes(place.root / HOLDER, HOLDER_BYTES).decode("ascii", "replace").strip()
    except PetasealError:
        holder = "another process"
    fix = "end that one first, or use PostgreSQL for several"
    return InputError("registry-served", f"is served already, by {holder}", where=place.root, fix=fix)
