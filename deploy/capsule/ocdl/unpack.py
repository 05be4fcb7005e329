"""Unpacks an untrusted tar archive: only regular files and folders, inside its own folder, within limits."""

import os
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

from ocdl.failures import EXIT_ARCHIVE, Failure

BLOCK = 1 << 20
# Enough for a code tree or a folder of images.
MOST_BYTES = 8 << 30
MOST_ENTRIES = 100_000
LONGEST_PATH = 1024


def unpack(
    archive: Path,
    target: Path,
    most_bytes: int = MOST_BYTES,
    most_entries: int = MOST_ENTRIES,
    programs: bool = False,
) -> None:
    """Unpacks into `target` atomically, replacing an earlier one. With `programs`, executable files remain executable."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _extract(archive, temporary, most_bytes, most_entries, programs)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        temporary.replace(target)
    except (tarfile.TarError, OSError, EOFError, UnicodeError) as error:
        raise Failure(EXIT_ARCHIVE, f"{archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, target: Path, most_bytes: int, most_entries: int, programs: bool) -> None:
    total = 0
    with tarfile.open(archive, "r:") as tar:
        for count, member in enumerate(tar, start=1):
            path = target / _inside(archive, member.name)
            # Not isreg(), which is also true for sparse files, whose length costs nothing.
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not plain and member.type != tarfile.DIRTYPE:
                raise _refused(archive, member.name, "is neither a regular file nor a folder (links are refused)")
            total += member.size
            if count > most_entries or total > most_bytes:
                limit = f"{most_entries} entries or {most_bytes} bytes"
                raise _refused(archive, member.name, f"exceeds the limit of {limit}")
            if member.type == tarfile.DIRTYPE:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            if content is None:
                raise _refused(archive, member.name, "has no content")
            # EXCL: a duplicate name is refused instead of overwritten.
            mode = 0o755 if programs and member.mode & 0o111 else 0o644
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "wb") as file:
                _copy(content, file, member.size)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    copied = 0
    while block := source.read(BLOCK):
        copied += len(block)
        target.write(block)
    if copied != size:
        raise EOFError(f"an entry ends after {copied} of {size} bytes")


def _inside(archive: Path, name: str) -> Path:
    parts = name.rstrip("/").split("/")
    while parts and parts[0] == ".":
        parts = parts[1:]
    if name.startswith("/") or len(name) > LONGEST_PATH or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise _refused(archive, name, "is outside its folder")
    return Path(*parts)


def _refused(archive: Path, name: str, why: str) -> Failure:
    return Failure(EXIT_ARCHIVE, f"{archive.name}: entry {name[:200]!r} {why}")
