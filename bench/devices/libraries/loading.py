"""Loading a vendor's management library by ctypes: where it is sought, what it is, which functions it has."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError, one_line

LINK_MAP = 2  # RTLD_DI_LINKMAP of dlinfo(3)


class Library(NamedTuple):
    """A loaded library.

    Args:
        handle: what its functions are asked of.
        path: of the file that the loader mapped; None where that cannot be seen.
        sha256: of that file; None where it may not be read.
    """

    handle: Any
    path: str | None
    sha256: str | None

    def function(self, name: str, *arguments: Any, result: Any = ctypes.c_int) -> Any:
        """Return a function of the library; None where this release does not have it.

        Args:
            name: of the function.
            arguments: types of its arguments, in order.
            result: type of what it returns.
        """
        try:
            function = getattr(self.handle, name)
        except AttributeError:
            return None
        function.argtypes, function.restype = arguments, result
        return function


def load_library(vendor: str, names: Sequence[str], folders: Sequence[str] = (), *, needed: Sequence[str]) -> Library:
    """Load the first of some libraries that the loader finds, else from the vendor's folders.

    Args:
        vendor: for the sentence.
        names: of the library, newest first.
        folders: where the vendor's packages put it, absolute.
        needed: functions without which it is of no use.

    Raises:
        InputError: `device-library-missing`; `device-library-unusable`: it is of another architecture, or too old.
    """
    refused: list[str] = []
    for place in (*names, *(str(Path(folder) / name) for folder in folders for name in names)):
        if "/" in place and not Path(place).exists():
            continue
        try:
            handle = ctypes.CDLL(place)
        except OSError as error:
            # the loader names the file that it misses: the library itself, or one that the library needs
            if "/" in place or not ("No such file" in str(error) and place in str(error).partition(": ")[0]):
                refused.append(one_line(str(error), 160))
            continue
        missing = [name for name in needed if not hasattr(handle, name)]
        if missing:
            refused.append(f"{place} has no {missing[0]}: it is older than petaseal can read")
            continue
        path = file_of(handle)
        return Library(handle, path, None if path is None else digest_of(path))
    if refused:
        raise InputError(
            "device-library-unusable",
            f"the management library of {vendor} cannot be used: {'; '.join(dict.fromkeys(refused))}",
            where=names[0],
            fix="install the driver's package of this machine's architecture, of a newer release",
        )
    raise InputError(
        "device-library-missing",
        f"the management library of {vendor} is not on the loader's path",
        where=names[0],
        fix="install the vendor's driver, or add its folder to LD_LIBRARY_PATH",
    )


class _LinkMap(ctypes.Structure):
    """The beginning of struct link_map (link.h)."""

    _fields_ = (("l_addr", ctypes.c_void_p), ("l_name", ctypes.c_char_p))


def file_of(handle: ctypes.CDLL) -> str | None:
    """Return the path of the file that a library was loaded from; None where the loader does not say.

    Args:
        handle: the library. Another one of the same name may be loaded too.
    """
    link_map = ctypes.POINTER(_LinkMap)()
    try:
        dlinfo = ctypes.CDLL(None).dlinfo
    except AttributeError:
        return None
    dlinfo.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    # The loader's own word: the name that was asked for may be a link, or be found in another folder of
    # LD_LIBRARY_PATH.
    if dlinfo(handle._handle, LINK_MAP, ctypes.byref(link_map)) or not link_map or not link_map.contents.l_name:
        return None
    return os.path.realpath(os.fsdecode(link_map.contents.l_name))


def digest_of(path: str) -> str | None:
    """Return a file's SHA-256, lower-case hex; None where it may not be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def alike(kind: Any, names: str) -> tuple[tuple[str, Any], ...]:
    """Return fields of a structure that follow one another and are of one type.

    Args:
        kind: their type.
        names: in order, with blanks between them.
    """
    return tuple((name, kind) for name in names.split())
