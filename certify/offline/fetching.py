"""Where a bundle's wheels come from: pip fetches them, from where the user's own configuration of pip says.

petaseal's own is built from its sources where they are, else from its installation.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError
from bench.record import write_atomic
from certify.offline.wheels import (
    Requirement,
    Target,
    Wheel,
    closure,
    holds,
    parse_requirement,
    read_wheel,
    rebuild_wheel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOME = Path(__file__).resolve().parents[2]
MAX_ROUNDS = 8  # each fetches what the round before brought to light; real lists need one or two


def own_wheel(folder: Path) -> Wheel:
    """Build petaseal's own wheel: from its sources where they are, else from its installation.

    Raises:
        InputError: it cannot be built.
    """
    if (HOME / "pyproject.toml").is_file():
        pip(
            *("wheel", "--no-deps", "--wheel-dir", str(folder), str(HOME)),
            what="petaseal's own wheel cannot be built",
            work=folder,
        )
        (path,) = folder.glob("petaseal-*.whl")
        return read_wheel(path)
    from importlib.metadata import distribution

    return read_wheel(rebuild_wheel(distribution("petaseal"), folder))


def fetch(own: Wheel, roots: Sequence[Requirement], target: Target, work: Path) -> dict[str, Wheel]:
    """Let pip fetch all wheels that a target needs, and return them by name.

    Raises:
        InputError: one cannot be had.
    """
    constraints = work / f"constraints-{target.machine}-{target.python}.txt"
    write_atomic(constraints, "".join(f"{line}\n" for line in pinned(target)).encode())
    asked = list(roots)
    for round_ in range(MAX_ROUNDS):
        folder = work / f"{target.machine}-{target.python}-{round_}"
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}"]
        options += [f"--platform={tag}" for tag in target.tags()]
        options += [f"--constraint={constraints}", f"--dest={folder}"]
        what = f"wheels for {target} cannot be fetched"
        pip("download", *options, *map(str, asked), what=what, work=work, target=target)
        wheels = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))}
        needed, missing = closure(roots, wheels, target)
        if not missing:
            return {name: wheels[name] for name in sorted(needed)}
        asked += missing
    raise InputError("wheel-missing", f"the requirements of {asked[-1]} for {target} have no end", where=own.name)


def pinned(target: Target) -> list[str]:
    """Return the versions that a checkout pins, for one target; none without a checkout."""
    file = HOME / "constraints.txt"
    if not ((HOME / "pyproject.toml").is_file() and file.is_file()):
        return []
    lines = [line.split(" #")[0].strip() for line in file.read_text().splitlines()]
    pins = [parse_requirement(line) for line in lines if line and not line.startswith("#")]
    return [str(pin) for pin in pins if holds(pin.marker, target)]


def pip(*arguments: str, what: str, work: Path, target: Target | None = None) -> None:
    """Run pip as its user has configured it; it asks nothing, and what it makes meanwhile lies in `work`.

    Raises:
        InputError: it fails.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-input"]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": str(work.absolute())},
        start_new_session=True,
    ) as running:
        try:
            _, errors = running.communicate()
        except BaseException:  # with what it has started
            os.killpg(running.pid, signal.SIGKILL)
            raise
    if running.returncode == 0:
        return
    if "No module named pip" in errors:
        fix = f"install it with: {sys.executable} -m ensurepip"
        raise InputError("missing-library", "pip is not installed; it is needed to fetch wheels", fix=fix)
    missing = re.search(r"No matching distribution found for ([^\s;(]+)|Cannot install (\S+) because", errors)
    if missing and target:
        text = f"pip finds no wheel of {missing[1] or missing[2]} for {target}, where its configuration lets it look"
        raise InputError("wheel-missing", text, fix="see pip config list, or leave out that platform or Python")
    said = re.findall(r"^\s*ERROR: (.+)", errors, re.MULTILINE) or [f"pip ended with status {running.returncode}"]
    raise InputError("pip-failed", f"{what}: {said[-1].rstrip('.')}", fix="see pip config list")
