"""Rules for names of inputs and outputs, which are safe in paths, shells and URLs."""

import re

# The platform's rule for paths inside an area (workflows/domain/names.ts).
LONGEST = 200
LONGEST_PATH = 768
DEEPEST_PATH = 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


def checked_name(name: object) -> str:
    """Returns a valid file name, or raises ValueError with the rule."""
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(
            f"{name!r} is not a valid name of an input or output: use 1 to {LONGEST} of A-Z a-z 0-9 . _ -"
            " and start with a letter, a digit or _"
        )
    return name


def checked_path(path: object) -> str:
    """Returns the valid name of an input, which may contain folders ("train/part-0.csv"), or raises ValueError."""
    parts = path.split("/") if isinstance(path, str) else []
    within = isinstance(path, str) and len(path) <= LONGEST_PATH and 1 <= len(parts) <= DEEPEST_PATH
    if not isinstance(path, str) or not within or not all(map(_is_name, parts)):
        raise ValueError(
            f"{path!r} is not a valid name of an input: use up to {DEEPEST_PATH} names joined by /, each with"
            f" 1 to {LONGEST} of A-Z a-z 0-9 . _ - and a letter, a digit or _ at its start"
        )
    return path


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None
