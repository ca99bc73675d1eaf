"""Whether this process runs in a container. It says nothing of which: no name, no id."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from bench.host.files import content

MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")  # Docker; Podman and CRI-O; systemd
GROUP = re.compile(r"[/-](?:(?:docker|libpod|crio|cri-containerd|lxc)[-/]|lxc\.payload|kubepods)")


def in_container(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool | None:
    """Return whether this process runs in a container; None where nothing says.

    Args:
        root: the file system's root (tests).
        environ: of this process.
    """
    if any((root / mark).exists() for mark in MARKS) or "KUBERNETES_SERVICE_HOST" in environ:
        return True
    groups = _bytes(root / "proc/self/cgroup")
    # Of process 1: systemd-nspawn and LXC set it for whatever they start (systemd's "Container Interface").
    if b"\0container=" in b"\0" + (_bytes(root / "proc/1/environ") or b""):
        return True
    if groups is None:
        return None
    return bool(GROUP.search(groups.decode("ascii", "replace")))


def _bytes(path: Path) -> bytes | None:
    try:
        return content(path)
    except OSError:
        return None
