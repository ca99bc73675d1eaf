"""Keep the tables of this version for ever: what configs/ holds now and configs/released/ does not is added to it.

`make release-tables` runs it, and a test fails where it was not run. Nothing that was released is changed or deleted:
a table under which a hole was closed gets `withdrawn: REASON` in the index, by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bench.record import write_atomic
from bench.record.sources import tool
from certify.policy.released import current, index, index_path, table_path
from certify.policy.tools import released_tools, tools_path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main() -> None:
    """Write a file and a line of the index for each table that is new; with ``--tool``, the digest of the sources."""
    (version,) = re.findall(r'^version = "(.+)"$', PROJECT.read_text(), re.M)
    if "--tool" in sys.argv[1:]:
        add_tool(version, tool().sha256)
        return
    for table in (table for table in current() if table.sha256 not in index()):
        write_atomic(table_path(table.sha256), table.content)
        line = f'- {{release: "{version}", kind: {table.kind}, name: {table.name}, sha256: "{table.sha256}"}}\n'
        write_atomic(index_path(), index_path().read_bytes() + line.encode())
        print(f"released {table.kind} {table.name} {table.sha256}", file=sys.stderr)


def add_tool(version: str, sha256: str) -> None:
    """Write a line of the table of tools, unless the digest has one."""
    if sha256 in released_tools():
        return
    kept = tools_path().read_text().replace("tools: []\n", "tools:\n")
    write_atomic(tools_path(), f'{kept}- {{release: "{version}", sha256: "{sha256}"}}\n'.encode())
    print(f"released tool {version} {sha256}", file=sys.stderr)


if __name__ == "__main__":
    main()
