"""Runs a program of a job's unpacked code: `python -m ocdl.run code train.py`."""

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    tree, entrypoint = sys.argv[1:3]
    folder = Path(os.environ["OCDL_INPUTS"]) / tree
    # Modules next to the program can be imported, as in a direct run.
    sys.path.insert(0, str((folder / entrypoint).parent))
    sys.argv = [str(folder / entrypoint), *sys.argv[3:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
