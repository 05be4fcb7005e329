"""Reads and validates job.json, the description of a job's inputs and outputs."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ocdl.failures import EXIT_USAGE, Failure
from ocdl.names import checked_name, checked_path

# Enough for fifty data sets of five hundred files each with the longest names.
LARGEST_MANIFEST = 32 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Input:
    name: str
    sha256: str
    bytes: int
    unpack: bool


@dataclass(frozen=True)
class Output:
    name: str
    required: bool


@dataclass(frozen=True)
class Manifest:
    job: str
    api: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    # The archive of the packages of the job's lock, if the environment of the image is another one.
    packages: Input | None = None


def read_manifest(path: Path) -> Manifest:
    """Parses job.json, or fails and names the invalid field."""
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError(f"larger than {LARGEST_MANIFEST} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(
            job=checked_name(_field(value, "job", str)),
            api=_address(_field(value, "api", str)),
            inputs=_unique(tuple(_input(entry) for entry in _field(value, "inputs", list)), "input"),
            outputs=_unique(tuple(_output(entry) for entry in _field(value, "outputs", list)), "output"),
            packages=_input(_field(value, "packages", dict) | {"unpack": True}) if "packages" in value else None,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(EXIT_USAGE, f"{path}: {error}") from error


def _input(value: object) -> Input:
    name = checked_path(_field(value, "name", str))
    sha256 = _field(value, "sha256", str)
    size = _field(value, "bytes", int)
    unpack = _field(value, "unpack", bool, False)
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"input {name}: sha256 must be 64 lower-case hexadecimal digits")
    if size < 0:
        raise ValueError(f"input {name}: bytes must not be negative")
    if unpack and not name.endswith(".tar"):
        raise ValueError(f"input {name}: only NAME.tar can be unpacked")
    return Input(name, sha256, size, unpack)


def _output(value: object) -> Output:
    return Output(checked_name(_field(value, "name", str)), _field(value, "required", bool, False))


def _field(value: object, key: str, kind: type, default: object = None) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object with {key}, found {type(value).__name__}")
    found = value.get(key, default)
    # In Python, a bool is an int.
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise ValueError(f"{key} is missing or not of type {kind.__name__}")
    return found


def _unique(entries: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    taken: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        names = {entry.name}
        if getattr(entry, "unpack", False):
            names.add(entry.name.removesuffix(".tar"))
        above = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
        clash = (taken & names) | (folders & names) | (taken & above)
        if clash:
            raise ValueError(f"two {what}s use the path {sorted(clash)[0]}")
        taken |= names
        folders |= above
    return entries


def _address(api: str) -> str:
    parts = urlsplit(api)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"api must be an address such as http://127.0.0.1:8470, not {api!r}")
    _ = parts.port  # raises ValueError if it is not a number
    return api.rstrip("/")
