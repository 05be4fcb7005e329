"""The rules for names of inputs and outputs: nothing that a folder, shell or URL reads as anything else."""

import re

# The platform's own rule for paths inside an area (workflows/domain/names.ts).
LONGEST = 200
LONGEST_PATH = 768
DEEPEST_PATH = 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


def checked_name(name: object) -> str:
    """Gives a plain file name back, or raises ValueError that says what one is."""
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(
            f"{name!r} is no name of an input or output: 1 to {LONGEST} of A-Z a-z 0-9 . _ - of which the first is a"
            " letter, digit or _"
        )
    return name


def checked_path(path: object) -> str:
    """Gives the name of an input back, which may lie in folders ("train/part-0.csv"), or raises ValueError."""
    parts = path.split("/") if isinstance(path, str) else []
    within = isinstance(path, str) and len(path) <= LONGEST_PATH and 1 <= len(parts) <= DEEPEST_PATH
    if not isinstance(path, str) or not within or not all(map(_is_name, parts)):
        raise ValueError(
            f"{path!r} is no name of an input or output: up to {DEEPEST_PATH} names joined by /, each 1 to {LONGEST} of"
            " A-Z a-z 0-9 . _ - of which the first is a letter, digit or _"
        )
    return path


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None
