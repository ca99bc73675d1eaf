"""What a registry is, once and for all: a registry, or a rehearsal, in which simulated centres add up.

A rehearsal proves nothing, and every view of it says so. It takes simulated statements alone, so that no real one is
ever in a sum with them, and its receipts are signed by a key that only a trust root with a name of rehearsals lists:
nobody who verifies under a real root takes one of them. The kind is a row that the database never lets go: an edited
line of the settings makes no registry of a rehearsal, and no rehearsal of a registry.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, func, select

from bench.errors import InputError, RefusedError
from certify.registry.storage.city_tables import registry_kinds
from certify.registry.storage.store import Store
from certify.registry.storage.tables import decisions

Kind = Literal["registry", "rehearsal"]
PREFIX = "rehearsal"  # of the id of every trust root under which rehearsals sign


def kind_of(connection: Connection) -> Kind | None:
    """Return what a registry is; None where nothing settled it yet."""
    kind: Kind | None = connection.execute(select(registry_kinds.c.kind)).scalar()
    return kind


def is_rehearsal(connection: Connection) -> bool:
    """Return whether simulated statements add up here, and they alone."""
    return kind_of(connection) == "rehearsal"


def settle_kind(store: Store, rehearsal: bool, at: str, where: object) -> None:
    """Write what a registry is if nothing says so yet, and refuse settings that say otherwise.

    Args:
        store: of the registry.
        rehearsal: what its settings say.
        at: the present.
        where: the file of its settings.

    Raises:
        InputError: `settings-invalid`.
    """
    wanted: Kind = "rehearsal" if rehearsal else "registry"
    with store.reading() as connection:
        kind = kind_of(connection)
    if kind is None:
        with store.writing() as connection:
            kind = kind_of(connection)
            if kind is None:
                # one of before there were rehearsals has no row, and took in what it took as a registry
                taken = connection.execute(select(func.count()).select_from(decisions)).scalar()
                kind = "registry" if taken else wanted
                connection.execute(registry_kinds.insert(), {"kind": kind, "at": at})
    if kind != wanted:
        what = f"says rehearsal: {str(rehearsal).lower()}, and its database is that of a {kind} for good"
        fix = "set it back; another kind begins with petaseal registry init in a new folder and database"
        raise InputError("settings-invalid", what, where=where, fix=fix)


def check_root_name(trust_id: str, rehearsal: bool, where: object) -> None:
    """Refuse a trust root whose id does not say what the registry under it is.

    Raises:
        RefusedError: `key-not-trusted`.
    """
    named = trust_id == PREFIX or trust_id.startswith(f"{PREFIX}-")
    if rehearsal and not named:
        what = f"has the id {trust_id}: receipts of a rehearsal must hold under no root that others take for real"
        fix = f"make one for it: petaseal trust init --id {PREFIX}-NAME, with a registry key of its own"
        raise RefusedError("key-not-trusted", what, where=where, fix=fix)
    if named and not rehearsal:
        what = f"has the id {trust_id}, which is one of rehearsals"
        raise RefusedError("key-not-trusted", what, where=where, fix="give --rehearsal, or another trust root")
