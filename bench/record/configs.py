"""Strict YAML, and the installed configuration: profiles, policies, centres and the lists that they name."""

from __future__ import annotations

import codecs
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.errors import InputError
from bench.record.fields import in_words
from bench.record.plan import Profile, Shape
from bench.record.reading import SharedFile, read_bytes, read_given

T = TypeVar("T")
YAML_MAX_BYTES = 4 * 1024 * 1024
YAML_MAX_DEPTH = 32  # the parser recurses for each level, and a deep file would exhaust its stack


def parse_yaml(content: bytes, kind: type[T], where: object) -> T:
    """Return YAML text as a value of a strict type.

    Duplicate keys, aliases, tags, several documents and what `kind` does not know are refused. Dates stay text.

    Raises:
        InputError: the text is not such YAML, or does not fit `kind`.
    """
    import yaml  # late: verifying a statement reads no YAML

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
        raise _not_yaml(content, error, where) from None
    return as_config(data, kind, where)


def as_config(data: Any, kind: type[T], where: object) -> T:
    """Return what a YAML file holds as a value of a strict type.

    Raises:
        InputError: `config-invalid`.
    """
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        is_quoted = _UNQUOTED.match(str(error)) is None
        fix = None if is_quoted else "put the value in quotes: YAML takes it for something else than text"
        raise InputError("config-invalid", in_words(error), where=where, fix=fix) from None


_UNQUOTED = re.compile("Expected `str`, got `(int|float|bool)`")


def _not_yaml(content: bytes, error: Exception, where: object) -> InputError:
    try:
        content.decode("utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8")
    except UnicodeDecodeError as undecodable:
        line = content.count(b"\n", 0, undecodable.start) + 1
        what = f"is not text in UTF-8 (line {line}), but in another encoding, such as GBK"
        return InputError("yaml-invalid", what, where=where, fix="save it as UTF-8")
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    at = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    what = f"is not acceptable YAML: {problem or error or type(error).__name__}{at}"
    return InputError("yaml-invalid", what, where=where)


def read_yaml(path: Path, kind: type[T]) -> T:
    """Return a YAML file, the user's or an installed one, as a value of a strict type (see `parse_yaml`)."""
    return parse_yaml(read_given(path, YAML_MAX_BYTES), kind, path)


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

    # YAML 1.1 makes dates of text: what is signed must be what was written.
    StrictLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return StrictLoader


def config_path(*parts: str) -> Path:
    """Return a path below the installed ``configs`` folder: inside the wheel, or next to the packages in a checkout."""
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
    path = Path(name_or_file)
    if isinstance(name_or_file, SharedFile):  # others can write there: a link could lead anywhere
        return parse_yaml(read_bytes(path, YAML_MAX_BYTES), kind, path)
    return read_yaml(path, kind)


def read_profile(name_or_file: str) -> Profile:
    """Return a profile (see `read_config`). Where it names a list of shapes, that of ``shapes.yaml`` stands in it.

    What a profile's digest binds are the shapes themselves.

    Raises:
        InputError: as `read_config`, or there is no list of that name.
    """
    written = read_config("profiles", name_or_file, dict[str, Any])
    expanded = dict(written)
    for field in ("shapes", "tuned_shapes", "solve_shapes"):
        if isinstance(lists := written.get(field), dict):
            expanded[field] = {precision: _listed(named, name_or_file) for precision, named in lists.items()}
    return as_config(expanded, Profile, name_or_file)


@cache
def shape_lists() -> dict[str, tuple[Shape, ...]]:
    """Return the lists of shapes that profiles name."""
    return read_yaml(config_path("shapes.yaml"), dict[str, tuple[Shape, ...]])


def _listed(named: Any, where: str) -> Any:
    """Return the list of shapes of a name; what is no name is a list already, or is refused with the profile."""
    if not isinstance(named, str):
        return named
    known = shape_lists()
    if named not in known:
        what, fix = (
            f"there is no list of shapes named {named!r}",
            f"choose one of {', '.join(known)}, or write the list",
        )
        raise InputError("unknown-name", what, where=where, fix=fix)
    return known[named]


_installed: dict[tuple[Path, Any], Any] = {}  # frozen values, of files that do not change


@cache
def emulation_libraries() -> tuple[str, ...]:
    """Return a part of the name of each library that is known to emulate products (R1), in lower case."""
    return tuple(read_yaml(config_path("emulation.yaml"), dict[str, str]))
