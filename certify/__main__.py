"""The entry point of the command: nothing is imported from ``kernels`` and ``bench`` before they are known to be ours.

Another distribution's package of the same name may stand earlier on the path (ADR 1), and may hold anything.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

HOME = Path(__file__).resolve().parent.parent


def foreign_package() -> str | None:
    """Return what stands in for one of petaseal's own packages, as a sentence, or None."""
    for name in ("kernels", "bench"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            return f"the package {name!r} of petaseal is missing; install petaseal again"
        if Path(spec.origin).resolve() != HOME / name / "__init__.py":
            return (
                f"the package {name!r} is not petaseal's own but {spec.origin};"
                " install petaseal into a virtual environment of its own"
            )
    return None


def main() -> NoReturn:
    """Run the command line if all its packages are petaseal's own."""
    if (problem := foreign_package()) is not None:
        sys.exit(refused(problem, "foreign-package"))
    try:
        from certify.commands.root import main as command
    except KeyboardInterrupt:
        print("petaseal: interrupted; nothing was done [interrupted]", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    command()


def refused(sentence: str, code: str) -> int:
    """Print a sentence as `certify.commands.root` does, which cannot be imported yet, and return the exit status."""
    flat = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in sentence)
    print(f"petaseal: {flat} [{code}]", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
