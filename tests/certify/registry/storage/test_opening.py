"""Where a registry's database may lie: alone with its tables, on a local disk, served once, or only to be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from bench.errors import InputError
from certify.registry.base.registry import load_place, open_registry
from certify.registry.base.serving import HOLDER, LOCK, serving_alone
from certify.registry.maintenance.integrity import check
from certify.registry.maintenance.refill import refill
from certify.registry.service.init import open_store
from certify.registry.storage import filesystems, opening
from certify.registry.storage.filesystems import network_file_system, network_of_number, network_of_type, type_of
from certify.registry.storage.upkeep import refills
from tests.bad_input.command import petaseal, process
from tests.certify.registry.laid import Laid
from tests.certify.registry.maintenance.test_retention import flood
from tests.certify.registry.rows import PoolOf, add_statement
from tests.certify.registry.serving import serving

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

Fixed = Callable[[], AbstractContextManager[Path]]
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NOW = "2026-03-01T08:00:00.000000Z"


REFUSED = {  # what is done to a registry's database or folder -> the code that refuses it
    "a second server": "registry-served",
    "a network file system": "database-on-network",
    "a database of something else": "database-foreign",
}


# --- one server


@SQLITE
def test_a_second_server_is_refused(place: Laid) -> None:
    """Attack: a second server on one SQLite folder. It names the first; commands work next to that one."""
    with serving(place.root):
        again = process("registry", "serve", place.root, "--port", "0")
        assert (again.status, again.code) == (2, REFUSED["a second server"])
        assert "is served already, by process " in again.err
        assert petaseal("registry", "token", "list", place.root).status == 0
        assert petaseal("registry", "check", place.root).status == 0
        assert petaseal("registry", "backup", place.root, "--out", place.root.parent / "kept").status == 0


@SQLITE
def test_a_dead_server_holds_nothing(place: Laid) -> None:
    folder = load_place(place.root)
    child = os.fork()
    if child == 0:
        with serving_alone(folder, NOW):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert "process" in (place.root / HOLDER).read_text()
    with serving_alone(folder, NOW):
        holder = (place.root / HOLDER).read_text()
        with pytest.raises(InputError, match=f"process {os.getpid()} on "), serving_alone(folder, NOW):
            pass
    assert holder.endswith(f"since {NOW}\n")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_servers_of_one_postgresql_database(place: Laid) -> None:
    with serving_alone(load_place(place.root), NOW), serving_alone(load_place(place.root), NOW):
        assert not (place.root / LOCK).exists()


# --- file systems


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0x6969, "NFS"),
        (0xFF534D42, "CIFS"),
        (0xFF534D42 - 2**32, "CIFS"),  # as a 32-bit system has it
        (0xFE534D42, "SMB2"),
        (0x01021997, "9p"),
        (0x0BD00BD0, "Lustre"),
        (0x47504653, "GPFS"),
        (0x19830326, "BeeGFS"),
        (0x00C36400, "Ceph"),
        (0x5346414F, "AFS"),
        (0xEF53, None),  # ext4
        (0x58465342, None),  # XFS
        (0x9123683E, None),  # btrfs
        (0x01021994, None),  # tmpfs
        (0x65735546, None),  # FUSE: its name says which
    ],
)
def test_network_file_systems_by_number(number: int, name: str | None) -> None:
    assert network_of_number(number) == name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("nfs4", "NFS"),
        ("cifs", "CIFS"),
        ("smb3", "SMB"),
        ("9p", "9p"),
        ("fuse.sshfs", "sshfs"),
        ("fuse.glusterfs", "GlusterFS"),
        ("lustre", "Lustre"),
        ("gpfs", "GPFS"),
        ("beegfs", "BeeGFS"),
        ("ceph", "Ceph"),
        ("afs", "AFS"),
        ("ext4", None),
        ("overlay", None),
        ("fuse.fuse-overlayfs", None),
        ("fuseblk", None),
    ],
)
def test_network_file_systems_by_type(kind: str, name: str | None) -> None:
    assert network_of_type(kind) == name


MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw shared:2 - xfs /dev/sdb1 rw
31 30 0:41 / /srv/our\040data rw shared:3 master:1 - nfs4 10.0.0.1:/export rw,vers=4.2
32 22 0:42 / /mnt rw - ext4 /dev/sdc1 rw
33 22 0:43 / /mnt rw - fuse.sshfs somebody@there:/ rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/a", "ext4"),
        ("/srv/registry", "xfs"),
        ("/srv/our data/registry", "nfs4"),
        ("/srv/our", "xfs"),
        ("/mnt", "fuse.sshfs"),  # the later of two at one place
    ],
)
def test_the_type_of_a_path(path: str, kind: str) -> None:
    assert type_of(Path(path), MOUNTS) == kind


def test_a_path_without_mounts() -> None:
    assert type_of(Path("/srv"), "") is None


@SQLITE
def test_sqlite_on_a_network_file_system_is_refused(
    place: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(place.root).close()
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.replace("/srv/our\\040data", str(place.root)))
    monkeypatch.setattr(filesystems, "MOUNTS", table)
    for command in (("serve",), ("migrate",), ("token", "list")):
        answer = petaseal("registry", *command, place.root)
        assert (answer.status, answer.code) == (2, REFUSED["a network file system"]), answer
        assert "(NFS)" in answer.err
        assert "PostgreSQL" in answer.err
    # what leads away from there still works
    assert petaseal("registry", "backup", place.root, "--out", tmp_path / "kept").status == 0


def test_this_machine_says_what_a_folder_lies_on(tmp_path: Path) -> None:
    """The real call: of a mount that is there, it says the number that the kernel's own command says."""
    said = subprocess.run(["stat", "-f", "-c", "%t", str(tmp_path)], check=True, capture_output=True, text=True).stdout
    number = filesystems._number_of(tmp_path)
    assert number is not None
    assert number & 0xFFFFFFFF == int(said, 16)
    assert network_file_system(tmp_path / "not" / "there") == network_of_number(int(said, 16))


# --- tables of something else


@pytest.fixture
def foreign(bare: str, place: Laid) -> str:
    """A database with tables of something else, as the registry's settings name it."""
    url = f"sqlite:///{place.root / 'registry.db'}" if bare == "sqlite" else bare
    (place.root / "registry.db").unlink(missing_ok=True)
    settings = place.root / "registry.yaml"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("database:")]
    settings.write_text("\n".join([*lines, f"database: {bare}", ""]))
    _execute(url, "CREATE TABLE orders (id INTEGER)", "CREATE TABLE tokens (id INTEGER)")
    return url


@pytest.fixture
def bare(request: pytest.FixtureRequest, database: str) -> Iterator[str]:
    """A database without tables."""
    if database == "sqlite":
        yield database
        return
    server = request.getfixturevalue("postgres")
    name = server.new_database()
    yield server.url(name)
    server.drop(name)


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_a_database_of_something_else_is_refused(foreign: str, place: Laid) -> None:
    for command in (("serve",), ("check",), ("token", "list")):
        answer = petaseal("registry", *command, place.root)
        assert (answer.status, answer.code) == (2, REFUSED["a database of something else"]), answer
        assert "(orders, tokens)" in answer.err
    # the same library counts another program's versions as it does ours
    _execute(
        foreign, "CREATE TABLE alembic_version (version_num VARCHAR(32))", "INSERT INTO alembic_version VALUES ('0002')"
    )
    assert petaseal("registry", "token", "list", place.root).code == "database-foreign"


def test_a_table_of_something_else_is_named(registry: Registry, place: Laid, capfd: pytest.CaptureFixture[str]) -> None:
    with registry.store.writing() as connection:
        for number in range(7):
            connection.execute(text(f"CREATE TABLE other_{number} (id INTEGER)"))
    checked = check(registry)
    assert checked.ok
    (note,) = checked.findings
    assert (note.code, note.what.endswith("other_0, other_1, other_2, other_3, other_4 and 2 more")) == (
        "stored-table-foreign",
        True,
    )
    from certify.commands.registry.registry_admin import say_foreign

    say_foreign(registry.store)
    assert "NOTE: the database holds tables of something else as well: other_0" in capfd.readouterr().err


# --- a folder that cannot be written


@pytest.fixture
def fixed(place: Laid, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Fixed:
    """Returns the registry's folder where nobody can write it, not even root: mounted read-only.

    Where nothing can be mounted, the folder itself says that it cannot be written.
    """

    @contextlib.contextmanager
    def mounted() -> Iterator[Path]:
        point = place.root.parent / "mounted"
        point.mkdir()
        mounting = ["mount", "-o", "bind,ro", str(place.root), str(point)]
        if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
            real = os.access
            with monkeypatch.context() as patch:
                patch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
                yield place.root
            return
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)

    registry.store.close()
    return mounted


def test_what_cannot_be_written_is_checked_and_backed_up(fixed: Fixed, registry: Registry, tmp_path: Path) -> None:
    flood(registry, 2)
    registry.store.close()
    with fixed() as root:
        checked = petaseal("registry", "check", root)
        assert (checked.status, "0 fault(s)" in checked.out) == (0, True), checked
        assert petaseal("registry", "backup", root, "--out", tmp_path / "kept").status == 0


@SQLITE
def test_what_cannot_be_written_is_not_served(fixed: Fixed) -> None:
    with fixed() as root:
        for command in (("migrate",), ("token", "list"), ("prune",), ("serve",)):
            answer = petaseal("registry", *command, root)
            assert (answer.status, answer.code) == (2, "output-not-writable"), answer


@SQLITE
def test_what_is_served_is_checked_from_where_it_cannot_be_written(place: Laid, fixed: Fixed) -> None:
    """The log of a served database counts; who reads it there must not believe the main file alone."""
    with serving(place.root):
        secret = petaseal("registry", "token", "new", place.root, "--name", "a", "--scope", "platform", "--json")
        assert secret.status == 0
        with fixed() as root:
            checked = petaseal("registry", "check", root)
            assert (checked.status, "0 fault(s)" in checked.out) == (0, True), checked


@SQLITE
def test_an_older_database_is_not_upgraded_where_it_cannot_be_written(fixed: Fixed, registry: Registry) -> None:
    with registry.store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    registry.store.close()
    with fixed() as root:
        answer = petaseal("registry", "check", root)
        assert (answer.status, answer.code) == (2, "database-older"), answer


@SQLITE
def test_what_is_still_to_be_filled_is_said(fixed: Fixed, registry: Registry) -> None:
    with registry.store.writing() as connection:
        connection.execute(refills.insert(), {"statement": add_statement(connection, "gz-a", (PoolOf(),))})
    registry.store.close()
    with fixed() as root, contextlib.closing(open_registry(root, reading=True)) as opened:
        with pytest.raises(InputError) as refused:
            refill(opened.store)
        assert refused.value.code == "database-older"


def test_a_url_that_is_no_file() -> None:
    assert opening.sqlite_file("postgresql+psycopg://a@b/c") is None
    assert opening.sqlite_file("sqlite://") is None
    assert opening.sqlite_file("::") is None
