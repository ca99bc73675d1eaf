"""Run the tests of what a change touches: ``make check``.

    python -m tests.touched [--since COMMIT] [--seconds 45]

A change is what differs from where this branch left ``origin/main`` (from HEAD where there is none): commits, what is
not committed and new files. A test file is touched where it imports a changed module, directly or through others, late
imports included; a file that is no module counts as imported by whatever names it. The nearest come first, as far as
the time goes; what is left out is printed, and for that there is ``make test``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tests import importing
from tests.conftest import part_of

ROOT = Path(__file__).resolve().parent.parent
OURS = ("kernels", "bench", "certify", "tests")
FARTHEST = 3  # imports between a test and a change: from there on nearly everything stands on everything
NO_TESTS = 5  # pytest's exit status where it ran none


def main() -> int:
    """Run the tests of a change; return 0 where none fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.touched")
    parser.add_argument("--since", help="a commit")
    parser.add_argument("--seconds", type=float, default=45, help="after which no test begins")
    asked = parser.parse_args()
    until = time.time() + asked.seconds
    since = asked.since or where_it_left("origin/main")
    changed = changed_files(since)
    found = touched(changed, {path: (ROOT / path).read_text() for path in own_files()})
    print(f"{len(changed)} files differ from {since}; imports from there to a test:", flush=True)
    for file, distance in found.items():
        print(f"{distance:5} {file}{'' if distance <= FARTHEST else ', left out: too far'}", flush=True)
    if not found:
        print("  there is none", flush=True)
    near = [file for file, distance in found.items() if distance <= FARTHEST]
    near.sort(key=lambda file: (found[file], part_of(ROOT / file) != "plain"))  # real time is long
    statuses = {run(files, options, until) for files, options in passes(near)}
    return max(statuses - {NO_TESTS}, default=0)


def where_it_left(branch: str) -> str:
    """Return the last commit that this branch has in common with another; HEAD where there is no such branch."""
    done = subprocess.run(["git", "merge-base", "HEAD", branch], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "HEAD"


def changed_files(since: str) -> list[str]:
    """Return what differs from a commit, as paths from the root; what is new and not ignored counts."""
    commands = (
        ["git", "diff", "--name-only", "--no-renames", since],
        ["git", "ls-files", "--others", "--exclude-standard"],
    )
    outputs = (subprocess.run(one, cwd=ROOT, capture_output=True, text=True, check=True).stdout for one in commands)
    return sorted({line for text in outputs for line in text.splitlines()})


def own_files() -> list[str]:
    """Return all our Python files, as paths from the root."""
    return [path.relative_to(ROOT).as_posix() for top in OURS for path in sorted((ROOT / top).rglob("*.py"))]


def touched(changed: Iterable[str], texts: Mapping[str, str]) -> dict[str, int]:
    """Return the test files that a change touches, the nearest first, and how many imports lie between.

    Args:
        changed: paths from the root, of files that are there or no longer are.
        texts: the Python files by their paths from the root.
    """
    importers: dict[str, set[str]] = {path: set() for path in texts}
    for path, text in texts.items():
        for imported in imports(path, text, texts):
            importers[imported].add(path)
    distance: dict[str, int] = {}
    reached = {path for one in changed for path in ([one] if one in texts else naming(one, texts))}
    steps = 0
    while reached:
        distance |= dict.fromkeys(reached, steps)
        reached = {path for one in reached for path in importers[one]} - distance.keys()
        steps += 1
    tests = [path for path in distance if path.startswith("tests/") and Path(path).name.startswith("test_")]
    return {path: distance[path] for path in sorted(tests, key=lambda path: (distance[path], path))}


def imports(path: str, text: str, texts: Collection[str]) -> set[str]:
    """Return the files among ours that a file imports, and the conftest.py that pytest has it import."""
    names = {one.name for one in importing.imports(text, path)}
    names |= {name.rpartition(".")[0] for name in names}
    found = {one for name in names for one in (f"{stem(name)}.py", f"{stem(name)}/__init__.py") if one in texts}
    if Path(path).name.startswith("test_"):
        found |= {one for folder in Path(path).parents if (one := f"{folder}/conftest.py") in texts}
    return found - {path}


def stem(name: str) -> str:
    """Return a module's path without its suffix."""
    return name.replace(".", "/")


def naming(path: str, texts: Mapping[str, str]) -> set[str]:
    """Return the Python files that name a file which is no module of ours, or the folder that it lies in."""
    file = Path(path)
    names = {file.name, file.stem} | ({file.parent.name} if file.suffix != ".py" else set())
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(names - {''})))})(?![\w-])")
    return {one for one, text in texts.items() if word.search(text)}


def passes(files: Iterable[str]) -> list[tuple[list[str], list[str]]]:
    """Return what is run one after another: test files, and pytest's options for them.

    Files that measure in real time run among the others and are tried again where they fail; ``alone`` runs last.
    """
    alone = {file: part_of(ROOT / file) == "alone" for file in files}
    together = [file for file in alone if not alone[file]]
    return [
        (together, ["--numprocesses", "auto", "--dist", "loadfile"]),
        ([file for file in alone if alone[file]], []),
    ]


def run(files: Collection[str], options: Iterable[str], until: float) -> int:
    """Run test files until a time, s since 1970, and return pytest's exit status."""
    if not files:
        return 0
    command = [sys.executable, "-m", "pytest", "-m", "not long", "--until", str(until), *options, *files]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
