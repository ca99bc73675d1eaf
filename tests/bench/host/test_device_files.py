"""Device files that this process may not use: the real errors of a mode, and of a device cgroup by a filter."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bench.host.device_files import why_forbidden, why_unusable
from tests.bench.seccomp import filtered

DAVINCI = ("dev/davinci[0-9]*", "dev/davinci_manager")
AS_OTHER = """
import os
from pathlib import Path
from bench.host.device_files import why_forbidden, why_unusable
os.setgroups([44])
os.setresgid(65532, 65532, 65532)
os.setresuid(65532, 65532, 65532)
print(why_unusable({patterns}, Path({root!r})))
print(why_forbidden({patterns}, Path({root!r})))
"""


def devices(root: Path, mode: int = 0o660, owner: int | None = None) -> Path:
    """Make the files of two processors, as character devices without a driver where that is allowed."""
    root.chmod(0o755)
    for parent in root.parents:
        if os.access(parent, os.W_OK) and parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    (root / "dev").mkdir()
    for name in ("davinci0", "davinci1", "davinci_manager"):
        path = root / "dev" / name
        path.touch()
        if owner is not None:
            os.chown(path, owner, owner)
        path.chmod(mode)
    return root


def test_files_that_can_be_opened_are_no_problem(tmp_path: Path) -> None:
    root = devices(tmp_path)
    assert why_unusable(DAVINCI, root) is None
    assert why_forbidden(DAVINCI, root) is None
    assert why_unusable((), root) is None


def test_no_file_at_all_is_said_where_nothing_works(tmp_path: Path) -> None:
    assert why_unusable(DAVINCI, tmp_path) == "no device file is here (/dev/davinci[0-9]*, /dev/davinci_manager)"
    assert why_forbidden(DAVINCI, tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives a file to another user")
def test_a_missing_group_is_named_with_who_asks(tmp_path: Path) -> None:
    root = devices(tmp_path, owner=1000)
    opened, looked_at = filtered("", AS_OTHER.format(patterns=DAVINCI, root=str(root))).splitlines()
    assert opened == looked_at
    files = "/dev/davinci0, /dev/davinci1 and 1 more cannot be opened"
    whose = "(EACCES: owner 1000, group 1000, mode 0660; this process is user 65532 of the groups 44, 65532)"
    assert opened == f"{files} {whose}: add the group 1000 (on Kubernetes the option group=1000)"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives a file to another user")
def test_a_group_that_may_nothing_is_not_advised(tmp_path: Path) -> None:
    root = devices(tmp_path, mode=0o600, owner=1000)
    opened, _ = filtered("", AS_OTHER.format(patterns=DAVINCI, root=str(root))).splitlines()
    assert opened.endswith("user 65532 of the groups 44, 65532)")


def test_what_a_device_cgroup_refuses_is_no_matter_of_groups(tmp_path: Path) -> None:
    root = devices(tmp_path)
    first = "from pathlib import Path\nfrom bench.host.device_files import why_unusable\n"
    said = filtered("openat", f"{first}print(why_unusable({DAVINCI}, Path({str(root)!r})))")
    assert "(EPERM: owner" in said
    assert said.endswith("the container was not given it, a mounted host path alone is refused by its device cgroup")
    assert "group=" not in said


def test_a_device_without_a_driver_is_named(tmp_path: Path) -> None:
    try:
        (tmp_path / "dev").mkdir()
        os.mknod(tmp_path / "dev/davinci0", stat.S_IFCHR | 0o600, os.makedev(240, 250))
    except PermissionError:
        pytest.skip("root alone makes device files")
    said = why_unusable(DAVINCI, tmp_path)
    assert said is not None
    assert said.startswith("/dev/davinci0 cannot be opened (ENXIO") or "EACCES" in said or "EPERM" in said
