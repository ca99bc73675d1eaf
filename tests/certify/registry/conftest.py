"""What the registry's tests stand on: both databases for real, a registry's folder, and a centre that was measured.

A test that asks for `database`, or for anything that stands on it, runs twice: on SQLite and on PostgreSQL. Where one
is enough: ``@pytest.mark.parametrize("database", ["sqlite"], indirect=True)``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certify.measured import Measured
from tests.certify.registry.laid import OTHER, Laid, certified, lay_keys, lay_registry
from tests.certify.registry.postgres import Postgres, binaries

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry


# Rooms that know nothing of the database below them: their tests run on the server in the long tests.
ABOVE = ("client", "service", "web", "test_commands.py", "test_picking.py", "test_rehearsal.py", "test_trust_grace.py")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is None or spec.params.get("database") != "postgresql" or not item.path.is_relative_to(here):
            continue
        # one that knows PostgreSQL alone has no other place
        alone = any(
            mark.args[0] == "database" and mark.args[1] == ["postgresql"] for mark in item.iter_markers("parametrize")
        )
        if item.path.relative_to(here).parts[0] in ABOVE and not alone:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; a test may stop and start it, and leaves it running."""
    programs = binaries()
    if programs is None:
        told = "PostgreSQL is not installed (Debian: postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    server = Postgres(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry as SQLite, to be copied: making the tables takes longer than a test."""
    folder = tmp_path_factory.mktemp("empty")
    _make_tables(f"sqlite:///{folder / 'registry.db'}", folder)
    return folder / "registry.db"


@pytest.fixture(scope="session")
def empty_database(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an empty registry's database on the server, to be copied."""
    name = postgres.new_database()
    _make_tables(postgres.url(name), tmp_path_factory.mktemp("empty"))
    return name


def _make_tables(url: str, folder: Path) -> None:
    from certify.registry.storage.migrations import migrate
    from certify.registry.storage.store import Store

    store = Store(url, folder / "objects")
    migrate(store)
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own, as the registry's settings name it."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database(request.getfixturevalue("empty_database"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everybody's keys (`laid.PEOPLE`)."""
    return lay_keys(tmp_path_factory.mktemp("people") / "keys")


@pytest.fixture
def place(tmp_path: Path, keys: Path, database: str, empty_file: Path) -> Laid:
    """A registry's folder, ready to be opened or served."""
    laid = lay_registry(tmp_path / "registry", keys, database)
    if database == "sqlite":
        shutil.copyfile(empty_file, laid.root / empty_file.name)
    return laid


@pytest.fixture
def registry(place: Laid) -> Iterator[Registry]:
    """An open registry."""
    from certify.registry.base.pool import VerificationPool
    from certify.registry.base.registry import open_registry

    # without a process of its own for verifying, which takes longer to start than a test; test_app.py has the real one
    opened = replace(open_registry(place.root), verifier=VerificationPool(0))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Measured:
    """A measured centre of one node, whose statement lies in ``out``. It is shared: change nothing in it."""
    return certified(tmp_path_factory.mktemp("centre") / "centre", keys)[0]


@pytest.fixture(scope="session")
def other_centre(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Measured:
    """Another one, of two nodes with devices of their own, elsewhere. It is shared: change nothing in it."""
    folder = tmp_path_factory.mktemp("other") / "centre"
    return certified(folder, keys, OTHER, nodes=2, first=100, jurisdiction="CN-420100")[0]
