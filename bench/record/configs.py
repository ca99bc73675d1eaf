"""Strict YAML, and the installed configuration: profiles, policies, centres and the files beside them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.errors import InputError
from bench.record.files import read_bytes

T = TypeVar("T")
YAML_MAX_BYTES = 4 * 1024 * 1024
YAML_MAX_DEPTH = 32


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


@cache
def emulation_libraries() -> tuple[str, ...]:
    """Return a part of the name of each library that is known to emulate products (R1), in lower case."""
    return tuple(read_yaml(config_path("emulation.yaml"), dict[str, str]))
