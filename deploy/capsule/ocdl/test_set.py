"""Reads a test set: JSON lines, plain or gzipped, row by row; an invalid row is refused with its line number."""

import codecs
import gzip
import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

# Limit of one row, with ample room for a source file or an image.
LONGEST_LINE = 32 << 20


class TestSetError(Exception):
    """The test set is invalid; the message says where and why."""

    __test__ = False


@dataclass(frozen=True)
class Row:
    line: int
    id: str
    inputs: dict[str, Any]
    label: int


def find_test_set(folder: Path) -> Path:
    """Returns the only test set among the inputs."""
    found = [path for name in ("test.jsonl", "test.jsonl.gz") if (path := folder / name).is_file()]
    if len(found) != 1:
        raise TestSetError(f"test set: {len(found)} of test.jsonl and test.jsonl.gz exist; provide exactly one of them")
    return found[0]


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_rows(path: Path, inputs: tuple[str, ...], classes: tuple[str, ...]) -> Iterator[Row]:
    """Yields the rows in order; labels become indices into `classes`."""
    number, blank, seen = 0, 0, set[bytes]()
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise _invalid(number, f"is longer than {LONGEST_LINE} bytes")
                # Editors begin files with a byte order mark, and end them with blank lines.
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if not line.strip():
                    blank = blank or number
                    continue
                if blank:
                    raise _invalid(blank, "is blank, which is not valid JSON; only the last lines may be blank")
                row = _row(number, line, inputs, classes)
                key = hashlib.sha256(row.id.encode("utf-8", "surrogatepass")).digest()
                if key in seen:
                    raise _invalid(number, f"has the id {row.id!r} of an earlier row: each row must have a unique id")
                seen.add(key)
                yield row
    except (OSError, EOFError, zlib.error) as error:
        raise TestSetError(f"test set line {number + 1}: cannot be read: {error}") from error
    if not seen:
        raise TestSetError("test set line 1: the file has no rows")


def _row(number: int, line: bytes, inputs: tuple[str, ...], classes: tuple[str, ...]) -> Row:
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _invalid(number, f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _invalid(number, "is not a JSON object")
    if not isinstance(value.get("id"), str) or not value["id"]:
        raise _invalid(number, "has no id (a non-empty string)")
    given = value.get("inputs")
    if not isinstance(given, dict) or not given:
        raise _invalid(number, "has no inputs")
    for name in inputs:
        if name not in given:
            raise _invalid(number, f"has no value for the model's input {name!r}")
    if "label" not in value or value["label"] is None:
        raise _invalid(number, "has no label")
    return Row(number, value["id"], given, _label(number, value["label"], classes))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a name that is given twice: which value counts would be a guess."""
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"{name[:100]!r} is given twice")
        value[name] = item
    return value


def _no_number(name: str) -> None:
    """Refuses NaN and Infinity, which Python writes and JSON does not have."""
    raise ValueError(f"{name} is not a JSON value")


# A class name that a whole number may stand for: "1", "01", "1.0".
_WHOLE = re.compile(r"(-?[0-9]+)(?:\.0*)?", re.ASCII)


def _label(number: int, label: object, classes: tuple[str, ...]) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
        for position, name in enumerate(classes):
            found = _WHOLE.fullmatch(name.strip())
            if found and len(found[1]) < 20 and int(found[1]) == label and position != label:
                raise _invalid(
                    number,
                    f"has the label {label}, which may be the class {name!r} or a position in the classes"
                    f" {', '.join(classes)}: write the name of the class as text",
                )
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return label
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    raise _invalid(number, f"has the label {str(label)[:100]!r}; the model's classes are {', '.join(classes)}")


def _invalid(number: int, what: str) -> TestSetError:
    return TestSetError(f"test set line {number}: {what}")
