"""A statement's package as one file, for sending it: what may be in it, packing, and opening what somebody sent.

A package is a tar, plain or gzip, of exactly the files that a verifier can use (docs/formats.md). It binds nothing and
is not signed: the statement in it is. How a tar is read safely is the concern of ``certify.statement.archive``.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import refuse_existing, replacing
from certify.documents.caps import CAPS, Caps
from certify.statement.archive import BLOCK, CHUNK, GZIP_MAGIC, MAX_SIZE, RECORD, ArchiveReader, header

STATEMENT, RECORDS, SAMPLES, EVIDENCE = "statement.dsse.json", "records.jsonl", "samples", "evidence"
FOLDERS = (SAMPLES, EVIDENCE)
EVIDENCE_SUFFIX, OUTPUT_SUFFIX = ".evidence.dsse.json", ".output.txt"  # of a document, and of the tool's output
NAME = r"[a-z0-9][a-z0-9._-]{0,62}"  # of a member of a folder, without its suffix
REQUIRED = (STATEMENT, RECORDS)
T = TypeVar("T")
SUFFIXES = (".tar", ".tar.gz", ".tgz")
_FLOOR_BYTES = 1 << 20  # below, no ratio is looked at: a tar of little files is mostly zeros
_SAMPLES = re.compile(rf"{SAMPLES}/{NAME}\.samples\.csv\.gz")
_EVIDENCE = {  # documents of other tools' results, and copies of these tools' output: the field of `Caps` of each
    re.compile(f"{EVIDENCE}/{NAME}{re.escape(EVIDENCE_SUFFIX)}"): "evidence_bytes",
    re.compile(f"{EVIDENCE}/{NAME}{re.escape(OUTPUT_SUFFIX)}"): "evidence_output_bytes",
}
_DATING = {  # documents that date the statement, and the field of `Caps` that says how many
    re.compile(r"witness[a-z0-9._-]{0,32}\.dsse\.json"): "package_witnesses",
    re.compile(r"receipt[a-z0-9._-]{0,32}\.dsse\.json"): "package_receipts",
}
_CAPS = {  # of a member: the field of `Caps`
    STATEMENT: "statement_bytes",
    RECORDS: "records_bytes",
    "statement.html": "page_bytes",
    "statement.pdf": "page_bytes",
    "baseline.dsse.json": "baseline_bytes",
}


class Packed(NamedTuple):
    """A statement's package that was written."""

    path: Path
    sha256: str
    size_bytes: int
    members: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "package": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "members": list(self.members),
        }

    def lines(self) -> list[str]:
        """Return the result as printed lines."""
        samples = sum(name.startswith(f"{SAMPLES}/") for name in self.members)
        return [
            f"{self.path}: {self.size_bytes / 1e6:.1f} MB",
            *(f"  {name}" for name in self.members if not name.startswith(f"{SAMPLES}/")),
            f"  samples of {samples} node(s)" if samples else "  no samples: they stay at the centre",
            f"  sha256 {self.sha256}",
            f"check it with: petaseal verify {self.path} --public-key OPERATOR.pem.pub",
        ]


def members(folder: Path, samples: Path | None = None) -> dict[str, Path]:
    """Return the files in a folder that belong to the package, by the name that they have in it, sorted.

    Args:
        folder: with a statement and its records; whatever else lies there stays there.
        samples: folder with samples; None: the folder's own ``samples``, if it has one.

    Raises:
        InputError: a folder cannot be read.
        RefusedError: `archive-member-missing`, or `archive-too-many`.
    """
    places = {name: folder / name for name in FOLDERS if (folder / name).is_dir()}
    if samples is not None:
        places[SAMPLES] = samples
    try:
        paths = {path.name: path for path in folder.iterdir()}
        for name, place in places.items():
            paths |= {f"{name}/{path.name}": path for path in place.iterdir()}
    except OSError as error:
        where = error.filename or folder
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=where) from None
    # By name and from a closed list: a key file that lies there by mistake never leaves the house.
    files = {name: path for name, path in paths.items() if cap_of(name) is not None}
    check_whole(files, folder)
    return dict(sorted(files.items()))


def pack(folder: Path, out: Path, samples: Path | None = None) -> Packed:
    """Write a package, whole or not at all; the same files make the same bytes.

    Args:
        folder: with a statement and its records.
        out: the file to make, gzip where its name ends with ``gz``; it may not exist.
        samples: see `members`.

    Raises:
        InputError: `output-exists`, `output-not-writable`, `package-name-invalid`, or a file cannot be read.
        RefusedError: `archive-member-missing`, `archive-member-too-large` or `archive-too-many`.
    """
    refuse_existing(out, "choose another with --out")
    if not out.name.endswith(SUFFIXES):
        fix = f"end its name with {', '.join(SUFFIXES)}"
        raise InputError("package-name-invalid", "is not named as a package", where=out, fix=fix)
    files = members(folder, samples)
    with replacing(out, new=True, folder_mode=None) as file:
        with _archive(file, out) as archive:
            for name, path in files.items():
                _add(archive, name, path)
            archive.write(bytes(2 * BLOCK))
            archive.write(bytes(-archive.tell() % RECORD))
        file.seek(0)
        sha256, size_bytes = _sha256(file)
    return Packed(out, sha256, size_bytes, tuple(files))


@contextlib.contextmanager
def opened(path: Path, caps: Caps = CAPS) -> Iterator[Path]:
    """Yield the folder that a package's members lie in: a temporary one, which is gone afterwards.

    A folder is yielded as it is, and so is a file that is not named as a package. The members are not
    verified yet.

    Raises:
        InputError: the file is missing, not regular or unreadable, or there is no room to unpack it.
        RefusedError: `archive-*`.
    """
    if path.is_dir() or not path.name.endswith(SUFFIXES):
        yield path
        return
    package = _open(path)
    with tempfile.TemporaryDirectory(prefix="petaseal-", ignore_cleanup_errors=True) as folder:
        with package:
            unpack(package, Path(folder), path, caps)
        try:
            yield Path(folder)
        except PetasealError as error:  # of a file in a folder that the user never sees
            error.where = named(error.where, Path(folder), path)
            error.what = named(error.what, Path(folder), path)
            raise


def named(shown: T, place: Path, path: Path) -> T:
    """Return text, or lists and mappings of it, in which a package's members bear its name (`opened`)."""
    if isinstance(shown, str):
        return cast(T, shown.replace(f"{place}{os.sep}", f"{path}{os.sep}"))
    if isinstance(shown, dict):
        return cast(T, {key: named(value, place, path) for key, value in shown.items()})
    if isinstance(shown, list | tuple):
        return cast(T, [named(value, place, path) for value in shown])
    return shown


def unpack(file: BinaryIO, folder: Path, where: object = None, caps: Caps = CAPS) -> None:
    """Write the members of a package into an empty folder (see `opened`)."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    most = max(caps.package_ratio * size_bytes, _FLOOR_BYTES) if packed else size_bytes
    unpacking = _Unpacking(folder, where, caps)
    try:
        ArchiveReader(file, min(most, caps.package_bytes), where).unpack(unpacking.place)
    except OSError as error:
        what = f"cannot be unpacked into {tempfile.gettempdir()} ({error.strerror})"
        raise InputError("output-not-writable", what, where=where, fix="set TMPDIR to a folder with room") from None
    if unpacking.unknown is not None:
        what = f"has the member {unpacking.unknown!r}, which no package has"
        raise RefusedError("archive-member-unknown", what, where=where, fix="make it with petaseal package")
    check_whole(unpacking.names, where)


class _Unpacking:
    """Where the members of one package go."""

    def __init__(self, folder: Path, where: object, caps: Caps) -> None:
        self._folder, self._where, self._caps = folder, where, caps
        self._seen: dict[str, str] = {}  # by what a file system that knows neither case nor Unicode forms takes it for
        self._made: set[str] = set()  # folders
        self.unknown: str | None = None  # told last, since a name that collides says more

    @property
    def names(self) -> Collection[str]:
        """The members so far."""
        return self._seen.values()

    def place(self, name: str, size: int, is_folder: bool) -> BinaryIO | None:
        """Return the file that a member is written to, or None where there is nothing to write."""
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        if folded in self._seen:
            other = self._seen[folded]
            if other == name:
                raise RefusedError("archive-name-twice", f"has two members named {name!r}", where=self._where)
            what = f"has the members {other!r} and {name!r}, which some file systems take for one"
            raise RefusedError("archive-name-collides", what, where=self._where)
        if len(self._seen) >= self._caps.package_members:
            what = f"has more than {self._caps.package_members} members"
            raise RefusedError("archive-too-many", what, where=self._where)
        self._seen[folded] = name
        if is_folder:
            if name not in FOLDERS:
                raise RefusedError("archive-folder", f"has the folder {name!r}", where=self._where)
            return None
        cap = cap_of(name, self._caps)
        if cap is None:
            self.unknown = self.unknown or name
            return None
        check_size(name, size, cap, self._where)
        path = self._folder / name
        folder, divided, _ = name.partition("/")
        if divided and folder not in self._made:
            path.parent.mkdir()
            self._made.add(folder)
        return path.open("xb")


def cap_of(name: str, caps: Caps = CAPS) -> int | None:
    """Return how many bytes a member of that name may have; None where there is no such member."""
    if name in _CAPS:
        return min(cast("int", getattr(caps, _CAPS[name])), MAX_SIZE)
    if any(pattern.fullmatch(name) for pattern in _DATING):
        return caps.witness_bytes
    if (size := next((field for pattern, field in _EVIDENCE.items() if pattern.fullmatch(name)), None)) is not None:
        return cast("int", getattr(caps, size))
    return min(caps.samples_bytes, MAX_SIZE) if _SAMPLES.fullmatch(name) else None


def check_size(name: str, size: int, cap: int, where: object) -> None:
    """Refuse a member that is empty or too large.

    Raises:
        RefusedError: `archive-size-invalid` or `archive-member-too-large`.
    """
    if not size:
        raise RefusedError("archive-size-invalid", f"{name} is empty", where=where)
    if size > cap:
        what = f"{name} has {size} bytes, more than the {cap} allowed"
        raise RefusedError("archive-member-too-large", what, where=where)


def check_whole(names: Collection[str], where: object) -> None:
    """Refuse a set of members that lacks one, or has too many witnesses, receipts or evidence documents.

    Raises:
        RefusedError: `archive-member-missing` or `archive-too-many`.
    """
    for name in REQUIRED:
        if name not in names:
            raise RefusedError("archive-member-missing", f"has no {name}", where=where)
    for pattern, cap in {**_DATING, next(iter(_EVIDENCE)): "package_evidence"}.items():
        most = cast("int", getattr(CAPS, cap))
        if sum(pattern.fullmatch(name) is not None for name in names) > most:
            what = f"has more than {most} documents of {cap.removeprefix('package_')}"
            raise RefusedError("archive-too-many", what, where=where)


def file_sha256(path: Path) -> tuple[str, int]:
    """Return the hex SHA-256 of a file, and its size in bytes."""
    with path.open("rb") as file:
        return _sha256(file)


def _sha256(file: BinaryIO) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _open(path: Path) -> BinaryIO:
    """Return a regular file; a link, a FIFO or a device is refused without waiting for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("file-missing", "no such file", where=path) from None
    except OSError as error:
        code = "not-regular-file" if path.is_symlink() or path.is_socket() else "file-unreadable"
        raise InputError(code, f"cannot be read ({error.strerror})", where=path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("not-regular-file", "is not a regular file", where=path)
    return open(descriptor, "rb")


@contextlib.contextmanager
def _archive(file: BinaryIO, out: Path) -> Iterator[BinaryIO]:
    if not out.name.endswith("gz"):
        yield file
        return
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        yield cast("BinaryIO", packed)


def _add(archive: BinaryIO, name: str, path: Path) -> None:
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_size(name, size, cap_of(name) or 0, path)
        archive.write(header(name, size))
        left = size
        while left and (part := file.read(min(CHUNK, left))):
            archive.write(part)
            left -= len(part)
        if left or file.read(1):
            raise InputError("file-unreadable", "changed while it was packed", where=path)
        archive.write(bytes(-size % BLOCK))
