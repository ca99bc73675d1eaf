"""Wheels without a network: what a machine other than this one needs of them, and petaseal's own from its installation.

pip fetches them from where its user's configuration says. It judges the conditions of requirements (PEP 508) by the
interpreter that it runs in, even where it fetches for another Python or processor. So each wheel's own list of
requirements is judged here, for the machine that is meant.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import email.parser
import hashlib
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from packaging.markers import Marker, UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from bench.errors import InputError, MissingLibraryError
from bench.record import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import Distribution
    from pathlib import Path
if TYPE_CHECKING:
    from collections.abc import Sequence


FIXED_DATE = (2020, 2, 2, 0, 0, 0)  # a file's time says nothing about its content, and would change the archive
OF_THIS_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # in .dist-info, and in no wheel
NEWEST_GLIBC, OLDEST_GLIBC = 28, 17  # 2.x: RHEL 8 and Kylin V10 have 2.28; what needs more would not start there


class WheelTarget(NamedTuple):
    """A machine that wheels are for: its processor (as ``uname -m``) and the minor version of its CPython."""

    machine: str
    python: str

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python}"

    def releases(self) -> tuple[str, str]:
        """Return the first and the last release of its Python, of which only the minor version is known."""
        return f"{self.python}.0", f"{self.python}.99"

    def tags(self) -> list[str]:
        """Return the platform tags that run there, the best first (PEP 600)."""
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)),
            f"manylinux2014_{self.machine}",
        ]


class WheelRequirement(NamedTuple):
    """One requirement: a canonical name, its extras, a version specifier, and the condition that it holds under."""

    name: str
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    marker: Marker | None = None

    def __str__(self) -> str:
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.name}{extras}{self.specifier}"


class Wheel(NamedTuple):
    """A wheel's file with its metadata."""

    path: Path
    name: str
    version: str
    requires: tuple[WheelRequirement, ...]
    extras: tuple[str, ...]
    requires_python: str


def parse_requirement(text: str) -> WheelRequirement:
    """Return a requirement from its text (PEP 508), such as ``numpy>=1.26; python_version < "3.12"``.

    A condition that cannot be read is dropped, so that it holds: one wheel too many does no harm.

    Raises:
        InputError: `wheel-invalid`, it is none, or names a place to fetch from.
    """
    for form in (text, text.partition(";")[0]):
        with contextlib.suppress(InvalidRequirement):
            read = Requirement(form)
            if read.url is None:
                extras = frozenset(canonicalize_name(extra) for extra in read.extras)
                return WheelRequirement(canonicalize_name(read.name), extras, str(read.specifier), read.marker)
    raise InputError("wheel-invalid", f"has a requirement that is not understood: {text!r}")


def holds(marker: Marker | None, target: WheelTarget, extras: Iterable[str] = ()) -> bool:
    """Return whether a condition holds on a target, with any of the extras asked for or with none.

    Of the Python only the minor version is known: what holds on its first or on its last release holds.
    """
    if marker is None:
        return True
    try:
        places = environments(target)
        return any(marker.evaluate({**place, "extra": extra}) for place in places for extra in ("", *extras))
    except UndefinedComparison:  # as one that cannot be read
        return True


def environments(target: WheelTarget) -> list[dict[str, str]]:
    """Return what conditions may ask of a target (PEP 508), with the first and the last release of its Python."""
    return [
        {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": target.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": target.python,
            "sys_platform": "linux",
        }
        for full in target.releases()
    ]


def read_wheel(path: Path) -> Wheel:
    """Return a wheel with its metadata, read from its ``.dist-info/METADATA``.

    Raises:
        InputError: `wheel-invalid`.
    """
    try:
        with zipfile.ZipFile(path) as content:
            (name,) = (n for n in content.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            metadata = email.parser.BytesParser().parsebytes(content.read(name), headersonly=True)
    except (OSError, ValueError, zipfile.BadZipFile):
        raise InputError("wheel-invalid", "is not a wheel", where=path.name) from None
    return Wheel(
        path,
        canonicalize_name(str(metadata["Name"])),
        str(metadata["Version"]),
        tuple(parse_requirement(str(line)) for line in metadata.get_all("Requires-Dist", [])),
        tuple(canonicalize_name(str(extra)) for extra in metadata.get_all("Provides-Extra", [])),
        str(metadata.get("Requires-Python", "")),
    )


def runs_on(wheel: Wheel, target: WheelTarget) -> bool:
    """Return whether a wheel's ``Requires-Python`` admits the target; one that cannot be read does."""
    try:
        admitted = SpecifierSet(wheel.requires_python)
    except InvalidSpecifier:
        return True
    return any(admitted.contains(release) for release in target.releases())


def closure(
    roots: Iterable[WheelRequirement], wheels: Mapping[str, Wheel], target: WheelTarget
) -> tuple[set[str], list[WheelRequirement]]:
    """Return the names of the wheels that a target needs, and the requirements that no wheel meets."""
    needed: dict[str, frozenset[str]] = {}
    missing: dict[str, WheelRequirement] = {}
    waiting = list(roots)
    while waiting:
        wanted = waiting.pop()
        if wanted.name not in wheels:
            missing.setdefault(str(wanted), wanted)
            continue
        known = needed.get(wanted.name)
        if known is not None and wanted.extras <= known:
            continue
        # A wheel that is asked for again with another extra is looked at again: the extra may require more.
        extras = wanted.extras | (known or frozenset())
        needed[wanted.name] = extras
        waiting += [one for one in wheels[wanted.name].requires if holds(one.marker, target, extras)]
    return set(needed), list(missing.values())


def rebuild_wheel(installed: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed distribution anew, from the list of its files, and return where it lies.

    Raises:
        InputError: `install-damaged`, a file is missing or is not what was installed, or there is no list.
    """
    listed = installed.read_text("RECORD")
    again = "install petaseal again"
    if not listed:
        raise InputError("install-damaged", "has no list of its files", where=installed.metadata["Name"], fix=again)
    content: dict[str, bytes] = {}
    for name, digest, *_ in csv.reader(listed.splitlines()):
        *folders, file = name.split("/")
        info = folders[-1] if folders else ""
        # Scripts lie outside of the packages (".."), and compiled files have no digest: pip makes both anew.
        if ".." in folders or not digest or (info.endswith(".dist-info") and file in OF_THIS_INSTALLATION):
            continue
        path = installed.locate_file(name)
        try:
            data = path.read_bytes()  # type: ignore[attr-defined]
        except OSError as error:
            raise InputError("install-damaged", f"cannot be read ({error.strerror})", where=path, fix=again) from None
        if digest != _digest(data):
            raise InputError("install-damaged", "is not the file that was installed", where=path, fix=again)
        content[name] = data
    (info,) = {name.split("/")[0] for name in content if re.fullmatch(r"[^/]+\.dist-info/WHEEL", name)}
    tags = re.findall(rb"^Tag: (\S+)", content[f"{info}/WHEEL"], re.MULTILINE)
    path = folder / f"{info.removesuffix('.dist-info')}-{tags[0].decode()}.whl"
    lines = [f"{name},{_digest(data)},{len(data)}\n" for name, data in sorted(content.items())]
    content[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content, key=lambda name: (name.startswith(info), name)):  # .dist-info last (PEP 427)
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content[name])
    return path


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


HOME = Path(__file__).resolve().parents[2]
FONTS = "petaseal-fonts"
MAX_ROUNDS = 8  # each fetches what the round before brought to light; real lists need one or two


def petaseal_wheel(folder: Path) -> Wheel:
    """Build petaseal's own wheel: from its sources where they are, else from its installation.

    Raises:
        InputError: `pip-failed`, `missing-library` or `install-damaged`.
    """
    return _own_wheel("petaseal", HOME, folder)


def fonts_wheel(folder: Path) -> Wheel:
    """Build the wheel of petaseal's fonts, likewise: no index has to have it, and none is trusted to.

    Raises:
        InputError: as for `petaseal_wheel`.
    """
    return _own_wheel(FONTS, HOME / "fonts", folder)


def _own_wheel(name: str, sources: Path, folder: Path) -> Wheel:
    from importlib.metadata import PackageNotFoundError, distribution

    if (HOME / "pyproject.toml").is_file():
        what = f"the wheel of {name} cannot be built"
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(sources), what=what, work=folder)
        (path,) = folder.glob(f"{name.replace('-', '_')}-*.whl")
        return read_wheel(path)
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise MissingLibraryError(name, "for the extra report of a bundle", "report") from None
    return read_wheel(rebuild_wheel(installed, folder))


def fetch(
    petaseal: Wheel,
    roots: Sequence[WheelRequirement],
    target: WheelTarget,
    work: Path,
    own: Mapping[str, Wheel] = MappingProxyType({}),
) -> dict[str, Wheel]:
    """Let pip fetch all wheels that a target needs but those of ours, and return them by name.

    Raises:
        InputError: `wheel-missing` or `pip-failed`.
    """
    constraints = work / f"constraints-{target.machine}-{target.python}.txt"
    write_atomic(constraints, "".join(f"{line}\n" for line in pinned(target)).encode())
    asked = [root for root in roots if root.name not in own]
    # pip leaves out a requirement whose condition is false for the Python that runs it. Each round reads the wheels
    # that came, judges their conditions for the target, and asks by name for what is missing.
    for round_ in range(MAX_ROUNDS):
        folder = work / f"{target.machine}-{target.python}-{round_}"
        # No sources: they would be compiled for this machine, and there is no compiler on most nodes.
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}"]
        options += [f"--platform={tag}" for tag in target.tags()]
        options += [f"--constraint={constraints}", f"--dest={folder}"]
        what = f"wheels for {target} cannot be fetched"
        pip("download", *options, *map(str, asked), what=what, work=work, target=target)
        wheels = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))} | dict(own)
        needed, missing = closure(roots, wheels, target)
        if not missing:
            return {name: wheels[name] for name in sorted(needed)}
        asked += missing
    raise InputError("wheel-missing", f"the requirements of {asked[-1]} for {target} have no end", where=petaseal.name)


def pinned(target: WheelTarget) -> list[str]:
    """Return the versions that a checkout pins, for one target; none without a checkout."""
    file = HOME / "constraints.txt"
    if not ((HOME / "pyproject.toml").is_file() and file.is_file()):
        return []
    lines = [line.split(" #")[0].strip() for line in file.read_text().splitlines()]
    pins = [parse_requirement(line) for line in lines if line and not line.startswith("#")]
    return [str(pin) for pin in pins if holds(pin.marker, target)]


def pip(*arguments: str, what: str, work: Path, target: WheelTarget | None = None) -> None:
    """Run pip with its user's configuration, without questions, and with its temporary files in `work`.

    Raises:
        InputError: `missing-library`, `wheel-missing` or `pip-failed`.
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
        except BaseException:  # with the build back ends that it has started, which would go on
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
