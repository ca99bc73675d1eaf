"""Print every ratio: ``make perf`` (some minutes); one alone, and larger: ``python -m tests.perf records 100000``."""

from __future__ import annotations

import sys

from tests.perf import commands, harness, records


def main(arguments: list[str]) -> None:
    """Run all parts, or the one that is named."""
    wanted = arguments[0] if arguments else "all"
    if wanted in ("all", "commands"):
        commands.measure()
    if wanted in ("all", "harness"):
        for n in (1024, 2048):
            harness.measure(n)
    if wanted in ("all", "records"):
        records.measure(int(arguments[1]) if len(arguments) > 1 else 10_000, runs=3)


if __name__ == "__main__":
    main(sys.argv[1:])
