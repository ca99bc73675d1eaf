"""Compile the fake NVIDIA driver into a folder, with a script of two GPUs: python -m tests.fake_nvidia FOLDER"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.fake_nvidia import LIBRARIES, built, gpu


def main(folder: Path) -> None:
    """Write the libraries and a script, and print how to use them."""
    folder.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        shutil.copy(built() / library, folder / library)
    script = folder / "two-gpus.txt"
    script.write_text("cuda_order 1 0\n" + gpu(0, name="NVIDIA H200") + gpu(1, name="NVIDIA H200"))
    print(f"export LD_LIBRARY_PATH={folder.absolute()} FAKE_NVIDIA={script.absolute()} OPENBLAS_NUM_THREADS=1")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
