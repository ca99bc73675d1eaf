"""Mounts of a pod: what is gone with it, and what lxcfs hides."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.host.mounts import is_fleeting, lxcfs_files
from tests.bench.devices.test_devices import tree

STATE = Path("/var/lib/petaseal")
POD = "/var/lib/kubelet/pods/0a1b/volumes"
OVERLAY = "812 700 0:95 / / ro,relatime - overlay overlay rw,lowerdir=/a"


def mount(root: str, point: str, kind: str = "ext4") -> str:
    return f"900 812 8:1 {root} {point} rw,relatime shared:1 - {kind} /dev/sda1 rw"


@pytest.mark.parametrize(
    ("mounts", "fleeting"),
    [
        ([OVERLAY], True),
        ([OVERLAY, mount(f"{POD}/kubernetes.io~empty-dir/state", str(STATE))], True),
        ([OVERLAY, mount("/", str(STATE), "tmpfs")], True),
        ([OVERLAY, mount("/var/lib/petaseal", str(STATE))], False),
        ([OVERLAY, mount(f"{POD}/kubernetes.io~empty-dir/x", "/var/lib"), mount("/state", str(STATE))], False),
        ([OVERLAY, mount("/state", str(STATE)), mount("/", str(STATE), "tmpfs")], True),
        ([OVERLAY, mount("/x", "/var/lib/petaseal2")], True),
        ([mount("/", "/")], False),
        ([], False),
    ],
)
def test_what_is_gone_with_a_pod(tmp_path: Path, mounts: list[str], fleeting: bool) -> None:
    assert is_fleeting(STATE, tree(tmp_path, {"proc/self/mountinfo": "\n".join(mounts)})) is fleeting


def test_what_lxcfs_hides(tmp_path: Path) -> None:
    lines = [OVERLAY, mount("/proc/stat", "/proc/stat", "fuse.lxcfs"), mount("/", "/var/lib/lxcfs", "fuse.lxcfs")]
    assert lxcfs_files(tree(tmp_path, {"proc/self/mountinfo": "\n".join(lines)})) == ["/proc/stat"]
    assert lxcfs_files(tmp_path / "nowhere") == []
