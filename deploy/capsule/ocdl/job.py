"""The data path of a job: fetches inputs before it runs and uploads outputs afterwards, through the platform's API.

usage: python3 -m ocdl.job fetch DIR
       python3 -m ocdl.job upload DIR

DIR contains job.json; inputs are stored in DIR/in, outputs are read from DIR/out. OCDL_JOB_TOKEN has the token of this
job; OCDL_JOB_PATIENCE has the seconds for which an unavailable API is retried. This program runs outside the sandbox of
the job, so it does not trust the job's outputs: it uploads only regular files and follows no links. Standard library
only.
"""

import base64
import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO, Iterator

from ocdl.connection import Connection
from ocdl.failures import EXIT_API, EXIT_MISMATCH, EXIT_OUTPUT, EXIT_USAGE, Failure, Retry
from ocdl.manifest import Input, Manifest, Output, read_manifest
from ocdl.unpack import unpack

BLOCK = 1 << 20
# A job's token is valid for a day after its deadline.
LONGEST_PATIENCE_S = 86_400.0


def fetch(folder: Path, manifest: Manifest, connection: Connection) -> None:
    """Fetches every input into DIR/in, complete and with its declared digest, or fails."""
    target = folder / "in"
    target.mkdir(exist_ok=True)
    for entry in manifest.inputs:
        path = target / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_there(path, entry):
            connection.attempt(lambda: fetch_one(connection, manifest.job, entry, path))
        if entry.unpack:
            unpack(path, target / entry.name.removesuffix(".tar"))
        print(f"fetched {entry.name} ({entry.bytes} bytes)", flush=True)


def upload(folder: Path, manifest: Manifest, connection: Connection) -> None:
    """Sends every declared output that exists; fails before sending if a required one is missing."""
    out = _open_folder(folder / "out")
    try:
        found = [(entry, _open_output(out, entry)) for entry in manifest.outputs]
        missing = [entry.name for entry, file in found if file is None and entry.required]
        if missing:
            names = ", ".join(missing)
            raise Failure(EXIT_OUTPUT, f"the job ended without required outputs: {names}; write them to OCDL_OUTPUTS")
        for entry, file in found:
            if file is None:
                continue
            with file:
                size = _upload_one(connection, manifest.job, entry, file)
            print(f"uploaded {entry.name} ({size} bytes)", flush=True)
    finally:
        os.close(out)


def _is_there(path: Path, entry: Input) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != entry.bytes:
        return False
    with path.open("rb") as file:
        return _digest(file).hex() == entry.sha256


def fetch_one(connection: Connection, job: str, entry: Input, path: Path) -> None:
    """Fetches one input once, complete and with its declared digest, or fails."""
    temporary = path.with_name(f".{path.name}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with connection.get(f"/v1/jobs/{job}/inputs/{entry.name}") as body, temporary.open("wb") as file:
            for block in body:
                size += len(block)
                if size > entry.bytes:
                    raise Failure(EXIT_MISMATCH, f"input {entry.name} is longer than its declared {entry.bytes} bytes")
                digest.update(block)
                file.write(block)
        if size < entry.bytes:
            raise Retry(EXIT_API, f"input {entry.name} ended after {size} of {entry.bytes} bytes")
        if digest.hexdigest() != entry.sha256:
            raise Failure(
                EXIT_MISMATCH, f"input {entry.name} has sha256:{digest.hexdigest()}, expected sha256:{entry.sha256}"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise Failure(EXIT_OUTPUT, f"the output folder {path} cannot be opened: {error.strerror}") from error


def _open_output(folder: int, entry: Output) -> BinaryIO | None:
    try:
        # NONBLOCK: opening a named pipe must not block.
        descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(
            EXIT_OUTPUT, f"output {entry.name} is not a regular file (links are refused): {error.strerror}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure(EXIT_OUTPUT, f"output {entry.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _upload_one(connection: Connection, job: str, entry: Output, file: BinaryIO) -> int:
    digest = base64.b64encode(_digest(file)).decode("ascii")
    size = file.tell()
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
    }

    def send() -> None:
        file.seek(0)
        connection.put(f"/v1/jobs/{job}/outputs/{entry.name}", _exactly(file, size), headers)

    connection.attempt(send)
    return size


def _exactly(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes: a file that grows during the upload must not exceed the declared length."""
    left = size
    while left > 0:
        block = file.read(min(BLOCK, left))
        if not block:
            raise Failure(EXIT_OUTPUT, "an output became shorter while it was uploaded")
        left -= len(block)
        yield block


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.digest()


def patience_of(text: str) -> float:
    """Seconds for which an unavailable API is retried, from their text."""
    try:
        return max(0.0, min(float(text), LONGEST_PATIENCE_S))
    except ValueError as error:
        raise Failure(EXIT_USAGE, f"OCDL_JOB_PATIENCE must be a number of seconds, not {text!r}") from error


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 2 or argv[0] not in ("fetch", "upload"):
            raise Failure(EXIT_USAGE, "usage: python3 -m ocdl.job fetch|upload DIR")
        token = os.environ.get("OCDL_JOB_TOKEN", "")
        if not token or not token.isascii() or not token.isprintable():
            raise Failure(EXIT_USAGE, "OCDL_JOB_TOKEN must be set to the job's token")
        folder = Path(argv[1])
        patience = patience_of(os.environ.get("OCDL_JOB_PATIENCE", "3"))
        manifest = read_manifest(folder / "job.json")
        (fetch if argv[0] == "fetch" else upload)(folder, manifest, Connection(manifest.api, token, patience))
        return 0
    except Failure as failure:
        print(f"ocdl.job: {failure}", file=sys.stderr)
        return failure.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
