"""Real control groups of this machine for a while, of version 1 or 2, as far as it gives any."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.host.cgroup import group_folders


@contextlib.contextmanager
def limited(controller: str, limits: Mapping[str, str]) -> Iterator[Path]:
    """Give the folder of a group whose parent is limited; both are gone afterwards.

    Args:
        controller: such as "cpu".
        limits: what is written into the parent's files, those of either version; files that are not there are left out.
    """
    for top in group_folders(controller, Path("/")):
        parent = top / f"petaseal-test-{os.getpid()}"
        try:
            parent.mkdir()
        except OSError:
            continue
        child = parent / "step"
        try:
            given = {name: value for name, value in limits.items() if (parent / name).exists()}
            if not given:
                continue
            for name, value in given.items():
                (parent / name).write_text(value)
            child.mkdir()
            yield child
            return
        finally:
            for folder in (child, parent):
                with contextlib.suppress(OSError):
                    folder.rmdir()
    if os.environ.get("CI") == "true":
        pytest.fail(f"no control group can be made here for {controller}")
    pytest.skip(f"no control group can be made here for {controller}")


def inside(group: Path, code: str) -> str:
    """Return what a Python prints that runs in a group."""
    enter = f"import os, pathlib; pathlib.Path({str(group / 'cgroup.procs')!r}).write_text(str(os.getpid()))\n"
    done = subprocess.run([sys.executable, "-c", enter + code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
