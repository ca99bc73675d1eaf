"""Write a node of two Ascend processors into a folder, and print how to use it: python -m tests.fake_ascend FOLDER"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.fake_ascend import built, environment, npu

NAMED = ("LD_LIBRARY_PATH", "PYTHONPATH", "FAKE_ASCEND", "FAKE_DCMI", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH")


def main(folder: Path) -> None:
    """Write the libraries and the scripts, and print the variables that name them."""
    folder = folder.absolute()
    cann = Path(shutil.copytree(built(), folder / "cann", dirs_exist_ok=True))
    values = environment(folder, npu(0) + npu(1))
    values |= {name: value.replace(str(built()), str(cann)) for name, value in values.items()}
    print("export", *(f"{name}={values[name]}" for name in NAMED))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
