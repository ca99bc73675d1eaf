"""How petaseal starts a Python of its own, which imports what this one does and nothing of the working folder."""

from __future__ import annotations

import os
import sys


def start_code(module: str) -> str:
    """Return the code for ``python -c`` that calls `main` of a module with this process's search path for modules.

    Args:
        module: its full name.
    """
    # Python puts the working folder first for `-c`, and a downloaded folder may hold a json.py: until the path is
    # replaced, nothing is imported but sys, which is built in.
    return f"import sys; sys.path[:] = {sys.path!a}; from {module} import main; main()"


def no_folder_first() -> None:
    """Have each Python that this process starts from here on leave the working folder out of its search path.

    It is for what starts one itself, such as `multiprocessing`; Python 3.10 does not know the variable.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
