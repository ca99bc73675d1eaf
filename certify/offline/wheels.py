"""Wheels without a network: what a machine other than this one needs of them, and petaseal's own from its installation.

pip judges the conditions of requirements (PEP 508) by the interpreter that it runs in, even where it fetches for
another Python or processor. So each wheel's own list of requirements is judged here, for the machine that is meant.
"""

from __future__ import annotations

import ast
import base64
import csv
import email.parser
import hashlib
import operator
import re
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from importlib.metadata import Distribution
    from pathlib import Path

FIXED_DATE = (2020, 2, 2, 0, 0, 0)  # a file's time says nothing about its content, and would change the archive
OF_THIS_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # in .dist-info, and in no wheel
NEWEST_GLIBC, OLDEST_GLIBC = 28, 17  # 2.x: RHEL 8 and Kylin V10 have 2.28; what needs more would not start there
VERSIONS = {"python_version", "python_full_version", "implementation_version"}
OPERATORS: dict[type, Callable[[object, object], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,  # type: ignore[dict-item]
    ast.LtE: operator.le,  # type: ignore[dict-item]
    ast.Gt: operator.gt,  # type: ignore[dict-item]
    ast.GtE: operator.ge,  # type: ignore[dict-item]
}


class Target(NamedTuple):
    """A machine that wheels are for: its processor (as ``uname -m``) and the minor version of its CPython."""

    machine: str
    python: str

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python}"

    def tags(self) -> list[str]:
        """Return the platform tags that run there, the best first (PEP 600)."""
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)),
            f"manylinux2014_{self.machine}",
        ]


class Requirement(NamedTuple):
    """One requirement: a normalised name, its extras, a version specifier, and the condition that it holds under."""

    name: str
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    marker: str = ""

    def __str__(self) -> str:
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.name}{extras}{self.specifier}"


class Wheel(NamedTuple):
    """What a wheel says of itself."""

    path: Path
    name: str
    version: str
    requires: tuple[Requirement, ...]
    extras: tuple[str, ...]
    requires_python: str


def normalised(name: str) -> str:
    """Return a distribution's name in the one form that compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirement(text: str) -> Requirement:
    """Return a requirement from its text (PEP 508), such as ``numpy>=1.26; python_version < "3.12"``.

    Raises:
        InputError: it is none, or names a place to fetch from.
    """
    match = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?\s*([^;@]*?)\s*(?:;\s*(.*?))?\s*", text, re.ASCII)
    if match is None:
        raise InputError("wheel-invalid", f"has a requirement that is not understood: {text!r}")
    name, extras, specifier, marker = match.groups(default="")
    names = frozenset(normalised(extra.strip()) for extra in extras.split(",") if extra.strip())
    return Requirement(normalised(name), names, specifier.strip("() ").replace(" ", ""), marker)


def holds(marker: str, target: Target, extras: Iterable[str] = ()) -> bool:
    """Return whether a condition holds on a target, with any of the extras asked for or with none.

    Of the Python only the minor version is known: what holds on its first or on its last release holds. A condition
    that cannot be read holds: one wheel too many does no harm.
    """
    if not marker:
        return True
    try:
        tree = ast.parse(marker.strip(), mode="eval").body
        places = [_environment(target, micro, extra) for micro in (0, 99) for extra in ("", *extras)]
        return any(_value(tree, place) for place in places)
    except (SyntaxError, KeyError, TypeError, ValueError):
        return True


def _environment(target: Target, micro: int, extra: str) -> dict[str, str]:
    full = f"{target.python}.{micro}"
    return {
        "extra": extra,
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": full,
        "python_version": target.python,
        "sys_platform": "linux",
    }


def _value(node: ast.expr, place: Mapping[str, str]) -> bool:
    if isinstance(node, ast.BoolOp):
        values = [_value(one, place) for one in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        raise ValueError
    sides = (node.left, node.comparators[0])
    left, right = (place[side.id] if isinstance(side, ast.Name) else ast.literal_eval(side) for side in sides)
    how = node.ops[0]
    if isinstance(how, (ast.In, ast.NotIn)):
        return (left in right) == isinstance(how, ast.In)
    if any(isinstance(side, ast.Name) and side.id in VERSIONS for side in sides):
        return OPERATORS[type(how)](*_releases(left, right))
    if any(isinstance(side, ast.Name) and side.id == "extra" for side in sides):
        left, right = normalised(left), normalised(right)
    return OPERATORS[type(how)](left, right)


def _releases(left: str, right: str) -> tuple[list[int], list[int]]:
    """Return two versions as equally long lists; of one with a wildcard only what stands before it is compared."""
    wild = left.endswith(".*") or right.endswith(".*")
    parts = [[int(part) for part in re.findall(r"\d+", re.split(r"[a-z*]", side)[0])] for side in (left, right)]
    length = (min if wild else max)(map(len, parts))
    first, second = ((part + [0] * length)[:length] for part in parts)
    return first, second


def read_wheel(path: Path) -> Wheel:
    """Return what a wheel says of itself.

    Raises:
        InputError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as content:
            (name,) = (n for n in content.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            told = email.parser.BytesParser().parsebytes(content.read(name), headersonly=True)
    except (OSError, ValueError, zipfile.BadZipFile):
        raise InputError("wheel-invalid", "is not a wheel", where=path.name) from None
    return Wheel(
        path,
        normalised(str(told["Name"])),
        str(told["Version"]),
        tuple(parse_requirement(str(line)) for line in told.get_all("Requires-Dist", [])),
        tuple(normalised(str(extra)) for extra in told.get_all("Provides-Extra", [])),
        str(told.get("Requires-Python", "")),
    )


def runs_on(wheel: Wheel, target: Target) -> bool:
    """Return whether a wheel's ``Requires-Python`` admits the target."""
    clauses = re.findall(r"([<>=!]=?)\s*(\d+(?:\.\d+)*(?:\.\*)?)", wheel.requires_python)
    return all(holds(f"python_full_version {how} '{version}'", target) for how, version in clauses)


def closure(
    roots: Iterable[Requirement], wheels: Mapping[str, Wheel], target: Target
) -> tuple[set[str], list[Requirement]]:
    """Return what a target needs: the names of wheels that are there, and the requirements that no wheel meets."""
    needed: dict[str, frozenset[str]] = {}
    missing: dict[str, Requirement] = {}
    waiting = list(roots)
    while waiting:
        wanted = waiting.pop()
        if wanted.name not in wheels:
            missing.setdefault(str(wanted), wanted)
            continue
        known = needed.get(wanted.name)
        if known is not None and wanted.extras <= known:
            continue
        extras = wanted.extras | (known or frozenset())
        needed[wanted.name] = extras
        waiting += [one for one in wheels[wanted.name].requires if holds(one.marker, target, extras)]
    return set(needed), list(missing.values())


def rebuild_wheel(found: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed distribution anew, from the list of its files, and return where it lies.

    Raises:
        InputError: a file is missing or is not what was installed, or there is no list.
    """
    listed = found.read_text("RECORD")
    again = "install petaseal again"
    if not listed:
        raise InputError("install-damaged", "has no list of its files", where=found.metadata["Name"], fix=again)
    content: dict[str, bytes] = {}
    for name, digest, *_ in csv.reader(listed.splitlines()):
        *folders, file = name.split("/")
        info = folders[-1] if folders else ""
        if ".." in folders or not digest or (info.endswith(".dist-info") and file in OF_THIS_INSTALLATION):
            continue
        path = found.locate_file(name)
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
