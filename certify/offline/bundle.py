"""Bundles: one archive of wheels that installs petaseal on nodes without a network.

pip fetches from where its user's configuration says. torch is left out unless asked for by its own extra:
accelerators need their vendor's.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import secrets
import shutil
import signal
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from bench.errors import InputError
from bench.record import refuse_existing, replacing
from certify.offline.wheels import (
    FONTS,
    Wheel,
    WheelRequirement,
    WheelTarget,
    fetch,
    fonts_wheel,
    holds,
    petaseal_wheel,
    runs_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    ShowProgress = Callable[[str], None]

SCRIPT = Path(__file__).with_name("install.sh")
MACHINES = ("x86_64", "aarch64")
FIXED_TIME_S = 1_580_601_600  # 2020-02-02: the same wheels make the same archive
CHUNK_BYTES = 1 << 20
README = """\
{name}: petaseal for nodes without a network.

    ./install.sh                    # with python3; --help shows how to name another Python
    venv-$(uname -m)/bin/petaseal devices

It needs nothing but {have}.
The environment sees the packages of the Python that it is made with, so that the vendor's own torch is used;
./install.sh --isolated makes one that does not.
SHA256SUMS is checked first. It tells damage, not a forger: compare the digest of the archive with its maker's.
"""


class MadeBundle(NamedTuple):
    """An offline bundle that was written."""

    path: Path
    sha256: str
    size_bytes: int
    version: str
    wheels: tuple[str, ...]
    targets: tuple[WheelTarget, ...]

    def as_json(self) -> dict[str, object]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "bundle": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "version": self.version,
            "wheels": list(self.wheels),
            "targets": [target._asdict() for target in self.targets],
        }

    def lines(self) -> list[str]:
        """Return the result as printed lines."""
        return [
            f"{self.path}: petaseal {self.version}, {len(self.wheels)} wheels, {self.size_bytes / 1e6:.1f} MB",
            *(f"  for {target}" for target in self.targets),
            f"  sha256 {self.sha256}",
            f"On a node: tar -xf {self.path.name} && {folder_name(self.version)}/install.sh",
        ]


def running_python() -> str:
    """Return the minor version of this Python."""
    return "{}.{}".format(*sys.version_info)


def targets_of(machines: Sequence[str], pythons: Sequence[str]) -> tuple[WheelTarget, ...]:
    """Return every machine that is asked for, each once.

    Raises:
        InputError: a name is unknown.
    """
    for machine in machines:
        if machine not in MACHINES:
            fix = f"choose from {', '.join(MACHINES)}"
            raise InputError("unknown-name", f"there is no platform {machine!r}", where="--platform", fix=fix)
    for python in pythons:
        if not re.fullmatch(r"3\.[0-9]{1,3}", python):
            raise InputError("unknown-name", f"there is no Python {python!r}", where="--python", fix="such as 3.11")
    ordered = sorted(set(pythons), key=lambda python: int(python[2:]))
    return tuple(WheelTarget(machine, python) for machine in dict.fromkeys(machines) for python in ordered)


def make_bundle(out: Path, targets: Sequence[WheelTarget], extras: Sequence[str], report: ShowProgress) -> MadeBundle:
    """Fetch and build all wheels and write the archive, whole or not at all.

    Raises:
        InputError: `output-exists`, `output-not-writable`, `unknown-name` (an extra) or a code of `fetch`.
    """
    refuse_existing(out, "choose another with --out")
    # Beside the archive and not in /tmp, which is often small or held in memory: wheels take hundreds of megabytes.
    work = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        work.mkdir(parents=True)
        report("building petaseal's own wheel")
        wheel = petaseal_wheel(work)
        roots = {target: roots_of(wheel, target, extras) for target in targets}
        wants_fonts = any(one.name == FONTS for wanted in roots.values() for one in wanted)
        own = {FONTS: fonts_wheel(work)} if wants_fonts else {}
        fetched: dict[WheelTarget, dict[str, Wheel]] = {}
        for number, target in enumerate(targets, 1):
            report(f"fetching wheels for {target} ({number} of {len(targets)})")
            fetched[target] = fetch(wheel, roots[target], target, work, own)
        report("packing")
        files = staged(wheel, roots, fetched)
        with replacing(out, mode=None, new=True, folder_mode=None) as archive:
            write_archive(archive, folder_name(wheel.version), files)
        digest, size_bytes = file_sha256(out), out.stat().st_size
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=out) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    wheels = tuple(sorted(name.removeprefix("wheels/") for name in files if name.startswith("wheels/")))
    return MadeBundle(out, digest, size_bytes, wheel.version, wheels, tuple(targets))


def roots_of(wheel: Wheel, target: WheelTarget, extras: Sequence[str]) -> list[WheelRequirement]:
    """Return what is installed by name on a target: what petaseal and its extras require, and pip to install it with.

    Raises:
        InputError: there is no such extra, or petaseal does not run on that Python.
    """
    for extra in extras:
        if extra not in wheel.extras:
            fix = f"choose from {', '.join(wheel.extras)}"
            raise InputError("unknown-name", f"there is no extra {extra!r}", where="--extra", fix=fix)
    if not runs_on(wheel, target):
        raise InputError("unknown-name", f"petaseal needs Python {wheel.requires_python}", where="--python")
    wanted = [one for one in wheel.requires if holds(one.marker, target, extras)]
    return [WheelRequirement("pip"), *(one for one in wanted if one.name != "torch" or "torch" in extras)]


def staged(
    petaseal: Wheel, roots: dict[WheelTarget, list[WheelRequirement]], fetched: dict[WheelTarget, dict[str, Wheel]]
) -> dict[str, bytes | Path]:
    """Return every file of the bundle by its name; wheels that several targets share are there once."""
    files: dict[str, bytes | Path] = {f"wheels/{petaseal.path.name}": petaseal.path}
    for wheels in fetched.values():
        files |= {f"wheels/{wheel.path.name}": wheel.path for wheel in wheels.values()}
    have = [f"{target.python} {target.machine} wheels/{wheels['pip'].path.name}" for target, wheels in fetched.items()]
    text = " or ".join(f"Python {target.python} on {target.machine}" for target in fetched)
    files["targets.txt"] = "".join(f"{line}\n" for line in have).encode()
    files["constraints.txt"] = "".join(f"{line}\n" for line in constraints_of(petaseal, fetched)).encode()
    named = sorted({str(root) for wanted in roots.values() for root in wanted})
    files["requirements.txt"] = "".join(f"{line}\n" for line in named).encode()
    files["install.sh"] = SCRIPT.read_bytes()
    files["README.txt"] = README.format(name=folder_name(petaseal.version), have=text).encode()
    sums = [f"{file_sha256(content)}  {name}\n" for name, content in sorted(files.items())]
    files["SHA256SUMS"] = "".join(sums).encode()
    return files


def constraints_of(wheel: Wheel, fetched: dict[WheelTarget, dict[str, Wheel]]) -> Iterator[str]:
    """Yield the exact version of each package, with the targets that it is for where they differ."""
    yield f"{wheel.name}=={wheel.version}"
    for name in sorted({name for wheels in fetched.values() for name in wheels}):
        versions = {target: wheels[name].version for target, wheels in fetched.items() if name in wheels}
        if len(set(versions.values())) == 1:
            yield f"{name}=={next(iter(versions.values()))}"
            continue
        for target, version in versions.items():
            place = f'python_version == "{target.python}" and platform_machine == "{target.machine}"'
            yield f"{name}=={version}; {place}"


def folder_name(version: str) -> str:
    """Return the name of the one folder in the archive."""
    return f"petaseal-{version}-bundle"


def file_sha256(content: bytes | Path) -> str:
    """Return the SHA-256 of a file or of bytes, hexadecimal."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_archive(file: BinaryIO, folder: str, files: dict[str, bytes | Path]) -> None:
    """Write a tar.gz; the same files make the same bytes."""
    import io

    with (
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,  # wheels are compressed already
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        # Sorted, and every time, owner and mode fixed: two makers can compare the digests of their archives.
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.mtime = FIXED_TIME_S
            entry.mode = 0o755 if name == SCRIPT.name else 0o644
            entry.size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                archive.addfile(entry, source)


@contextlib.contextmanager
def ended_like_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the body as Ctrl-C does, so that no half-made bundle is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Python lets only the main thread set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[ShowProgress]:
    """Yield a function that shows on a terminal what is being done, and does nothing elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda text: shown.update(task, description=text)
