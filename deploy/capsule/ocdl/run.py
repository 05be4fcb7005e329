"""Runs a program of a job's unpacked code: `python -m ocdl.run code train.py`, wherever the cluster put the inputs."""

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    tree, entrypoint = sys.argv[1:3]
    folder = Path(os.environ["OCDL_INPUTS"]) / tree
    # What stands beside the program can be imported, as when it is run by hand.
    sys.path.insert(0, str((folder / entrypoint).parent))
    sys.argv = [str(folder / entrypoint), *sys.argv[3:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
