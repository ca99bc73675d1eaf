"""Keep the tables of this version for ever: what configs/ holds now and configs/released/ does not is added to it.

`make release-tables` runs it, and a test fails where it was not run. Nothing that was released is changed or deleted:
a table under which a hole was closed gets `withdrawn: REASON` in the index, by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bench.record import write_atomic
from certify.policy.released import current, index, index_path, table_path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main() -> None:
    """Write a file and a line of the index for each table that is new."""
    (version,) = re.findall(r'^version = "(.+)"$', PROJECT.read_text(), re.M)
    for table in (table for table in current() if table.sha256 not in index()):
        write_atomic(table_path(table.sha256), table.content)
        line = f'- {{release: "{version}", kind: {table.kind}, name: {table.name}, sha256: "{table.sha256}"}}\n'
        write_atomic(index_path(), index_path().read_bytes() + line.encode())
        print(f"released {table.kind} {table.name} {table.sha256}", file=sys.stderr)


if __name__ == "__main__":
    main()
