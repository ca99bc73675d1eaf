"""A torch device of our own (PrivateUse1), compiled once for a version of torch and of its source.

On PYTHONPATH, the folder that `site` returns makes torch load the device by itself, as it loads any vendor's. Only
processes of their own do so: a device type is registered for good.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.bad_input.command import Answer, started

HERE = Path(__file__).parent
FILES = ("device.cpp", "petadev.py")
COMPILER = "g++"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process whose torch has the device; skip where it cannot be compiled, save in CI.

    Args:
        variables: more of them, such as PETADEV_FAULTS (see ``device.cpp``).
    """
    if shutil.which(COMPILER) is None:
        reason = f"{COMPILER} is not installed: the PrivateUse1 device cannot be compiled"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    paths = [str(site()), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | variables


def start(*arguments: object, state: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a command of petaseal with the device; several at once, since most of their time is spent importing torch.

    Args:
        arguments: of the command.
        state: folder for what petaseal keeps.
        variables: as of `environment`.
    """
    place = environment(PETASEAL_STATE=str(state), NO_COLOR="1", **variables)
    place.pop("PETASEAL_SCENARIO", None)
    return started(*arguments, env=place)


def ended(running: subprocess.Popen[str]) -> Answer:
    """Return what a started command leaves."""
    out, err = running.communicate(timeout=240)
    return Answer(running.returncode, out, err)


def site() -> Path:
    """Return the folder with the compiled device; compile it once for a version of these files and of torch."""
    import torch

    digest = hashlib.sha256(f"{torch.__version__} {sys.version}".encode())
    for name in FILES:
        digest.update((HERE / name).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"petaseal-petadev-{os.getuid()}" / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    assert folder.parent.stat().st_uid == os.getuid()
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be at it
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as made:
                whole = Path(made) / "site"
                _make(whole, Path(torch.__file__).parent)
                whole.rename(folder)
    return folder


def _make(folder: Path, torch_folder: Path) -> None:
    info = folder / "petadev-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: petadev\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[torch.backends]\npetadev = petadev:autoload\n")
    shutil.copy(HERE / "petadev.py", folder)
    include, lib = torch_folder / "include", torch_folder / "lib"
    subprocess.run(
        [
            COMPILER,
            *("-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"),
            *("-isystem", str(include), "-isystem", str(include / "torch/csrc/api/include")),
            *("-o", str(folder / "libpetadev.so"), str(HERE / "device.cpp")),
            *(f"-L{lib}", "-ltorch_cpu", "-lc10"),
        ],
        check=True,
        timeout=240,
    )
