"""Reads a test set: JSON lines, plain or gzipped, row by row, each refused with its line number when it is not sound."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

# One row of a test set: a file of source text or an image as numbers fits many times over.
LONGEST_LINE = 32 << 20


class TestSetError(Exception):
    """The test set is not usable; the message says where and why."""

    __test__ = False


@dataclass(frozen=True)
class Row:
    line: int
    id: str
    inputs: dict[str, Any]
    label: int


def find_test_set(folder: Path) -> Path:
    """The one test set among the inputs."""
    found = [path for name in ("test.jsonl", "test.jsonl.gz") if (path := folder / name).is_file()]
    if len(found) != 1:
        raise TestSetError(f"test set: {len(found)} of test.jsonl and test.jsonl.gz are there, exactly one is needed")
    return found[0]


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_rows(path: Path, inputs: tuple[str, ...], classes: tuple[str, ...]) -> Iterator[Row]:
    """Gives the rows in their order; labels become indices into `classes`."""
    number, seen = 0, set[bytes]()
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise _wrong(number, f"longer than {LONGEST_LINE} bytes")
                row = _row(number, line, inputs, classes)
                key = hashlib.sha256(row.id.encode("utf-8", "surrogatepass")).digest()
                if key in seen:
                    raise _wrong(number, f"the id {row.id!r} stands there twice: a row counted twice makes figures wrong")
                seen.add(key)
                yield row
    except (OSError, EOFError) as error:
        raise TestSetError(f"test set line {number + 1}: cannot be read: {error}") from error
    if number == 0:
        raise TestSetError("test set line 1: the file is empty")


def _row(number: int, line: bytes, inputs: tuple[str, ...], classes: tuple[str, ...]) -> Row:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(number, f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong(number, "is no JSON object")
    if not isinstance(value.get("id"), str) or not value["id"]:
        raise _wrong(number, "has no id (a text that is not empty)")
    given = value.get("inputs")
    if not isinstance(given, dict):
        raise _wrong(number, "has no inputs")
    for name in inputs:
        if name not in given:
            raise _wrong(number, f"lacks the model's input {name!r}")
    if "label" not in value or value["label"] is None:
        raise _wrong(number, "has no label")
    return Row(number, value["id"], given, _label(number, value["label"], classes))


def _label(number: int, label: object, classes: tuple[str, ...]) -> int:
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return label
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    raise _wrong(number, f"has the label {str(label)[:100]!r}; the model's classes are {', '.join(classes)}")


def _wrong(number: int, what: str) -> TestSetError:
    return TestSetError(f"test set line {number}: {what}")
