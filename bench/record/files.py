"""Files at the rim: bounded reads of hostile input, strict YAML, the installed configuration, atomic writes.

What is read may be anything that somebody put there; what is written is either whole or absent.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.errors import InputError

T = TypeVar("T")
YAML_MAX_BYTES = 4 * 1024 * 1024
YAML_MAX_DEPTH = 32


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Symbolic links, FIFOs, devices and folders are refused without blocking on them.

    Raises:
        InputError: the file is missing, not regular, unreadable, empty or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("file-missing", "no such file", where=path) from None
    except OSError as error:
        if os.path.islink(path):
            raise InputError("not-regular-file", "is a symbolic link", where=path, fix="give the file itself") from None
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("not-regular-file", "is not a regular file", where=path)
        if status.st_size > max_bytes:
            raise InputError("file-too-large", f"has {status.st_size} bytes, more than {max_bytes}", where=path)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            content = file.read(min(status.st_size, max_bytes) + 1)
    except OSError as error:
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise InputError("file-too-large", f"grew beyond the {max_bytes} bytes allowed", where=path)
    if not content:
        raise InputError("file-empty", "is empty", where=path)
    return content


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return where a node keeps its own key and identity, and a verifier the trust roots that it accepted.

    It is $PETASEAL_STATE, else the user's state folder.
    """
    environ = os.environ if environ is None else environ
    if environ.get("PETASEAL_STATE"):
        return Path(environ["PETASEAL_STATE"])
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "petaseal"


def parse_yaml(content: bytes, kind: type[T], where: object) -> T:
    """Return YAML text as a value of a strict type.

    Duplicate keys, aliases, tags, several documents and what `kind` does not know are refused. Dates stay text.

    Raises:
        InputError: the text is not such YAML, or does not fit `kind`.
    """
    import yaml

    try:
        loader = _strict_loader()
        depth = 0
        for event in yaml.parse(content, loader):  # before anything is built: what is refused here could be a bomb
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
                raise yaml.YAMLError("aliases and tags are not allowed")
            if depth > YAML_MAX_DEPTH:
                raise yaml.YAMLError(f"it is nested deeper than {YAML_MAX_DEPTH} levels")
        data = yaml.load(content, loader)  # noqa: S506 (a SafeLoader, made stricter)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(
            "yaml-invalid", f"is not acceptable YAML: {error or type(error).__name__}", where=where
        ) from None
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError("config-invalid", str(error), where=where) from None


def read_yaml(path: Path, kind: type[T]) -> T:
    """Return a YAML file as a value of a strict type (see `parse_yaml`)."""
    return parse_yaml(read_bytes(path, YAML_MAX_BYTES), kind, path)


@cache
def _strict_loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class StrictLoader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            seen = set()
            for key in keys:
                if not isinstance(key, str):
                    raise yaml.YAMLError(f"key {key!r} is not text")
                if key == "<<" or key in seen:
                    raise yaml.YAMLError(f"duplicate or merge key {key!r}")
                seen.add(key)
            return super().construct_mapping(node, deep=deep)

    StrictLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return StrictLoader


def config_path(*parts: str) -> Path:
    """Return a path below the installed ``configs`` folder (inside the wheel, or beside the packages in a checkout)."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_configs"
    return (installed if installed.is_dir() else package.parent / "configs").joinpath(*parts)


def config_names(folder: str) -> list[str]:
    """Return the names of the installed profiles, policies or centres, sorted."""
    return sorted(path.stem for path in config_path(folder).glob("*.yaml"))


def read_config(folder: str, name_or_file: str, kind: type[T]) -> T:
    """Return an installed profile, policy or centre by its name, or one of the user's own by its file.

    Raises:
        InputError: there is no such name and no such file, or the content is not acceptable.
    """
    if name_or_file in config_names(folder):
        path = config_path(folder, f"{name_or_file}.yaml")
        known: T | None = _installed.get((path, kind))
        if known is None:
            known = _installed[path, kind] = read_yaml(path, kind)
        return known
    if not (os.sep in name_or_file or name_or_file.endswith((".yaml", ".yml"))):
        raise InputError(
            "unknown-name",
            f"there is none named {name_or_file!r}",
            where=folder,
            fix=f"choose one of {', '.join(config_names(folder))}, or give a .yaml file",
        )
    return read_yaml(Path(name_or_file), kind)


_installed: dict[tuple[Path, Any], Any] = {}  # frozen values, of files that do not change


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a temporary beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: the folder is missing, is a file, is not writable, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=path) from None
