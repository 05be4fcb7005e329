"""Unpacks an untrusted tar archive: only regular files and folders, inside its own folder, within limits."""

import errno
import os
import shutil
import signal
import struct
import tarfile
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Iterator

from ocdl.failures import EXIT_API, EXIT_ARCHIVE, Failure

BLOCK = 1 << 20
# Enough for a code tree or a folder of images.
MOST_BYTES = 8 << 30
MOST_ENTRIES = 100_000
LONGEST_PATH = 1024
# Code trees are rarely deeper than 20. Each folder costs the disk a block, although the archive only names it.
DEEPEST_PATH = 64
# An entry's own header is 512 bytes; those with its long name and times take a few thousand at most.
LONGEST_HEADER = 64 << 10
MOST_HEADER_BYTES = MOST_ENTRIES * 4096
# `git archive` writes one attribute for all entries. Each entry gets a copy of them.
MOST_GLOBAL_ATTRIBUTES = 100
# Enough for the largest archive on a slow disk.
MOST_SECONDS = 3_600

# Errors of the parser for damaged archives. A ValueError may be a UnicodeError, an ArithmeticError an OverflowError, a
# LookupError a field that is missing; a chain of headers is read recursively.
_DAMAGED = (
    *(tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError),
    *(struct.error, RecursionError, MemoryError),
)
# Faults of this machine, which may pass: the archive is not to blame.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def unpack(
    archive: Path,
    target: Path,
    most_bytes: int = MOST_BYTES,
    most_entries: int = MOST_ENTRIES,
    most_seconds: float = MOST_SECONDS,
    programs: bool = False,
) -> None:
    """
    Unpacks into `target` atomically, replacing an earlier one. Only in the main thread. With `programs`, executable files remain
    executable.
    """
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        with _within(archive, most_seconds):
            _extract(archive, temporary, most_bytes, most_entries, programs)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        temporary.replace(target)
    except (*_DAMAGED, OSError) as error:
        what = f"{archive.name} cannot be unpacked: {str(error)[:500] or type(error).__name__}"
        passing = isinstance(error, OSError) and error.errno in _MACHINE
        raise Failure(EXIT_API if passing else EXIT_ARCHIVE, what) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, target: Path, most_bytes: int, most_entries: int, programs: bool) -> None:
    total = 0
    made = {target}
    with archive.open("rb") as file, archive.open("rb") as content:
        with tarfile.open(fileobj=_Headers(archive, file), mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(_members(archive, tar), start=1):
                path = target / _inside(archive, member.name)
                # Not isreg(), which is also true for sparse files, whose length costs nothing.
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
                if not plain and member.type != tarfile.DIRTYPE:
                    raise _refused(archive, member.name, "is neither a regular file nor a folder (links are refused)")
                if member.size < 0:
                    raise _refused(archive, member.name, f"has the size {member.size}")
                total += member.size
                _make_folders(path if member.isdir() else path.parent, made)
                if max(count, len(made) - 1) > most_entries or total > most_bytes:
                    limit = f"{most_entries} entries, {most_entries} folders or {most_bytes} bytes"
                    raise _refused(archive, member.name, f"exceeds the limit of {limit}")
                if member.isdir():
                    continue
                # EXCL: a duplicate name is refused instead of overwritten.
                mode = 0o755 if programs and member.mode & 0o111 else 0o644
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
                with os.fdopen(descriptor, "wb") as output:
                    content.seek(member.offset_data)
                    _copy(content, output, member.size)


def _members(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        if len(tar.pax_headers) > MOST_GLOBAL_ATTRIBUTES:
            raise _refused(archive, member.name, f"follows more than {MOST_GLOBAL_ATTRIBUTES} global attributes")
        # Otherwise all of them stay in memory.
        tar.members.clear()
        yield member


def _make_folders(folder: Path, made: set[Path]) -> None:
    """Makes a folder and those above it, up to one that was made before."""
    missing = []
    while folder not in made:
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir()
        made.add(path)


class _Headers:
    """The archive as its parser reads it: headers only, each and all of them limited in size."""

    def __init__(self, archive: Path, file: BinaryIO) -> None:
        self._archive = archive
        self._file = file
        self._bytes = 0

    def read(self, size: int) -> bytes:
        self._bytes += size
        # A negative size would read the whole archive.
        if not 0 <= size <= LONGEST_HEADER or self._bytes > MOST_HEADER_BYTES:
            limit = f"{LONGEST_HEADER} bytes each and {MOST_HEADER_BYTES} together"
            raise Failure(EXIT_ARCHIVE, f"{self._archive.name}: its headers exceed the limit of {limit}")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _within(archive: Path, seconds: float) -> Iterator[None]:
    """Ends the work after its time: some headers keep the parser busy for hours."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Failure(EXIT_ARCHIVE, f"{archive.name} was not unpacked within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    left = size
    while left > 0:
        block = source.read(min(BLOCK, left))
        if not block:
            raise EOFError(f"an entry ends after {size - left} of {size} bytes")
        left -= len(block)
        target.write(block)


def _inside(archive: Path, name: str) -> Path:
    parts = name.rstrip("/").split("/")
    while parts and parts[0] == ".":
        parts = parts[1:]
    if name.startswith("/") or len(name) > LONGEST_PATH or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise _refused(archive, name, "is outside its folder")
    if len(parts) > DEEPEST_PATH:
        raise _refused(archive, name, f"is nested deeper than the limit of {DEEPEST_PATH} folders")
    return Path(*parts)


def _refused(archive: Path, name: str, why: str) -> Failure:
    return Failure(EXIT_ARCHIVE, f"{archive.name}: entry {name[:200]!r} {why}")
