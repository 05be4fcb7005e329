"""The one rule for names of inputs and outputs: a plain file name that no folder, shell or URL reads as anything else."""

import re

LONGEST = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


def checked_name(name: object) -> str:
    """Gives the name back, or raises ValueError that says what a name is."""
    if not isinstance(name, str) or len(name) > LONGEST or _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name of an input or output: 1 to {LONGEST} of A-Z a-z 0-9 . _ - of which the first is a"
            " letter or digit"
        )
    return name
