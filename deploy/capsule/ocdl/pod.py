"""The containers of a job's pod on Kubernetes: each step of the job as the main process of a container of its own.

usage: python3 -m ocdl.pod fetch
       python3 -m ocdl.pod upload
       python3 -m ocdl.pod run SECONDS PROGRAM [ARGUMENT ...]

`fetch` and `upload` have the job's token and its description in /ocdl/data, and all files of the job in /ocdl/work. `run`
has neither: it sees its inputs, outputs and scratch folder only, under another user. The steps meet in two folders:
`run` writes /ocdl/run/ended when the program has succeeded, `upload` answers with /ocdl/upload/answer.json, and `run`
ends with that answer. The result of the job is the container's termination message: one JSON object. Standard library
only.
"""

import ctypes
import gzip
import hashlib
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from ocdl.connection import Connection
from ocdl.failures import EXIT_API, EXIT_USAGE, Failure
from ocdl.job import fetch, fetch_one, patience_of, upload
from ocdl.manifest import Manifest, read_manifest
from ocdl.unpack import unpack

WORK = Path("/ocdl/work")
DATA = Path("/ocdl/data")
ENDED = "ended"
ANSWER = Path("/ocdl/upload/answer.json")
BEGAN = "began"
RESULT = Path("/dev/termination-log")
ENVIRONMENT = Path("/opt/ocdl/environment/bin/python")
LOCK = Path("/opt/ocdl/requirements.lock")
# Where `run` sees the environment of the job's lock, if it is not the image's. It was installed for this path.
OWN_ENVIRONMENT = Path("/ocdl/environment/bin/python")
# A package's files, and a compiled one for each module.
MOST_PACKAGE_FILES = 250_000
# Statuses of a program that was ended by SIGKILL or SIGTERM.
KILLED = (137, 143)
# Exit status of `timeout` (coreutils) for a program that took too long.
EXIT_TIMED_OUT = 124
EXIT_NOT_FOUND = 127
POLL_S = 0.1
PR_SET_DUMPABLE = 4


def fetch_inputs() -> None:
    """Makes the job's folders and fetches its inputs."""
    # The program's user writes into these; each is mounted alone into its container.
    for name, mode in (("in", 0o755), ("scratch", 0o777), ("out", 0o777), ("tmp", 0o777), ("run", 0o777), ("upload", 0o755)):
        folder = WORK / name
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    (WORK / "upload" / BEGAN).touch()
    text = gzip.decompress((DATA / "job.json.gz").read_bytes())
    (WORK / "job.json").write_bytes(text)
    described = json.loads(text)
    (WORK / "parameters.json").write_text(json.dumps(described["parameters"]), encoding="utf-8")
    manifest = read_manifest(WORK / "job.json")
    if manifest.packages is None:
        _check_lock(described["lock"])
    else:
        _make_environment(manifest)
    fetch(WORK, manifest, _connection())


def upload_outputs() -> None:
    """Waits until the program has succeeded, uploads its outputs, and answers how that went."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: os._exit(0))
    while not (WORK / "run" / ENDED).exists():
        time.sleep(POLL_S)
    answer: dict[str, Any] = {"status": "succeeded"}
    try:
        upload(WORK, read_manifest(WORK / "job.json"), _connection())
    except Failure as failure:
        reason = "upload" if failure.status == EXIT_API else "outputs"
        answer = _failed(reason, failure.status, str(failure))
    draft = ANSWER.with_suffix(".draft")
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(ANSWER)
    # Kubernetes ends this container when the program's has ended.
    while True:
        signal.pause()


def run_program(seconds: float, argv: list[str]) -> NoReturn:
    """Runs the program as this container's only other process, until its deadline; then waits for the upload."""
    # Otherwise the program could read and change this process, which has the same user.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    kills = _memory_kills()
    program = _start(argv)
    status = _wait(program, seconds)
    _end_all()
    if status is None:
        _note(f"stopped: deadline of {seconds:g} seconds exceeded (deadlineSeconds)")
        _finish({"status": "timed-out"}, EXIT_TIMED_OUT)
    if status != 0 and _memory_kills() > kills:
        _finish(_failed("memory", status, "stopped: the job used more memory than its limit"), status)
    if status in KILLED:
        note = f"stopped: killed from outside by signal {status - 128}; it had reached none of its limits"
        _finish(_failed("killed", status, note), status)
    if status != 0:
        _finish(_failed("exit", status), status)
    Path("/ocdl/run", ENDED).touch()
    while not ANSWER.exists():
        if signal.sigtimedwait((signal.SIGTERM,), POLL_S) is not None:
            _finish(_failed("killed", 143, "stopped: the pod was ended before the outputs were uploaded"), 143)
    answer = json.loads(ANSWER.read_text(encoding="utf-8"))
    if answer["status"] == "succeeded":
        _finish({"status": "succeeded", "seconds": time.time() - ANSWER.with_name(BEGAN).stat().st_mtime}, 0)
    if "note" in answer:
        _note(answer.pop("note"))
    _finish(answer, answer["exitCode"])


def _start(argv: list[str]) -> int:
    # The job's own lock replaces the image's packages: the same lock gives the same packages on every cluster.
    python = next((str(path) for path in (OWN_ENVIRONMENT, ENVIRONMENT) if path.exists()), "python3")
    words = [python if argv[0] in ("python", "python3") else argv[0], *argv[1:]]
    # Kubernetes adds the addresses of its services.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("KUBERNETES_", "HOSTNAME"))}
    env |= {"HOME": "/job", "OCDL_INPUTS": "/job/in", "OCDL_OUTPUTS": "/job/out", "OCDL_PARAMETERS": "/job/parameters.json"}
    try:
        # One stream: Kubernetes reads two of them one after another, and their lines lose their order.
        together = [(os.POSIX_SPAWN_DUP2, 1, 2)]
        return os.posix_spawnp(words[0], words, env, file_actions=together, setsigmask=())
    except OSError as error:
        note = f"{words[0]} cannot be started: {error.strerror}"
        _finish(_failed("exit", EXIT_NOT_FOUND, note), EXIT_NOT_FOUND)


def _wait(program: int, seconds: float) -> int | None:
    """The program's exit status; None after its deadline. Also takes the ends of processes that it left behind."""
    until = time.monotonic() + seconds
    while True:
        while (ended := _next_end()) is not None:
            pid, status = ended
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        left = until - time.monotonic()
        if left <= 0:
            return None
        # Asks again at times, in case a signal came before it was waited for.
        received = signal.sigtimedwait((signal.SIGCHLD, signal.SIGTERM), min(left, 1))
        if received is not None and received.si_signo == signal.SIGTERM:
            _end_all()
            _finish(_failed("killed", 143, "stopped: the pod was ended from outside"), 143)


def _next_end() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid != 0 else None


def _end_all() -> None:
    """Ends every other process of the container."""
    if os.getpid() != 1:
        return
    try:
        while True:
            os.kill(-1, signal.SIGKILL)
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _memory_kills() -> int:
    """Number of processes of this container that the kernel ended for their memory (cgroup v2, then v1)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            for line in Path(path).read_text(encoding="ascii").splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
        except (OSError, ValueError):
            continue
    return 0


def _check_lock(lock: str) -> None:
    if lock.strip() and hashlib.sha256(lock.encode()).digest() != hashlib.sha256(LOCK.read_bytes()).digest():
        note = "the image has another environment than the job's lock: build the image from this version of the platform"
        _finish(_failed("environment", EXIT_USAGE, note), EXIT_USAGE)


def _make_environment(manifest: Manifest) -> None:
    """Fetches and unpacks the packages of the job's lock, and makes them an environment of the image's interpreter."""
    entry = manifest.packages
    assert entry is not None
    archive, folder, connection = WORK / "lock.tar", WORK / "lock", _connection()
    connection.attempt(lambda: fetch_one(connection, manifest.job, entry, archive))
    unpack(archive, folder, entry.bytes, MOST_PACKAGE_FILES, programs=True)
    archive.unlink()
    misfit = _misfit(json.loads((folder / "made-for.json").read_text(encoding="utf-8")))
    if misfit:
        _finish(_failed("lock", EXIT_USAGE, f"the packages of the job's lock do not fit the image: {misfit}"), EXIT_USAGE)
    interpreter = Path(os.path.realpath(sys.executable))
    programs = folder / "environment" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (programs / name).symlink_to(interpreter)
    settings = f"home = {interpreter.parent}\ninclude-system-site-packages = false\n"
    (folder / "environment" / "pyvenv.cfg").write_text(settings, encoding="utf-8")
    print(f"installed the packages of the job's lock ({entry.bytes} bytes)", flush=True)


def _misfit(made_for: dict[str, str]) -> str | None:
    """Why packages that were made for this Python, processor and C library do not run here."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if made_for["python"] != python:
        return f"it has Python {python}, but OCDL_KUBERNETES_IMAGE_PYTHON is {made_for['python']}: set it to {python}"
    if made_for["machine"] != os.uname().machine:
        return f"its processor is {os.uname().machine}, and that of the worker which installed them is {made_for['machine']}"
    glibc = platform.libc_ver()[1]
    # A newer one runs what was made for an older one.
    if _numbers(glibc) < _numbers(made_for["glibc"]):
        return f"its glibc {glibc or '(none)'} is older than that of the worker which installed them, {made_for['glibc']}"
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _connection() -> Connection:
    manifest = read_manifest(WORK / "job.json")
    token = (DATA / "token").read_text(encoding="ascii")
    return Connection(manifest.api, token, patience_of(os.environ.get("OCDL_JOB_PATIENCE", "3")))


def _failed(reason: str, code: int, note: str | None = None) -> dict[str, Any]:
    return {"status": "failed", "reason": reason, "exitCode": code, **({"note": note[:2_000]} if note else {})}


def _note(line: str) -> None:
    print(line, flush=True)


def _finish(result: dict[str, Any], code: int) -> NoReturn:
    """Leaves the result for Kubernetes, and ends."""
    if "note" in result:
        _note(result.pop("note"))
    RESULT.write_text(json.dumps(result), encoding="utf-8")
    os._exit(code if 0 <= code <= 255 else 1)


def main(argv: list[str]) -> None:
    try:
        if argv == ["fetch"]:
            fetch_inputs()
        elif argv == ["upload"]:
            upload_outputs()
        elif len(argv) >= 3 and argv[0] == "run":
            run_program(float(argv[1]), argv[2:])
        else:
            raise Failure(EXIT_USAGE, "usage: python3 -m ocdl.pod fetch | upload | run SECONDS PROGRAM [ARGUMENT ...]")
    except Failure as failure:
        reason = "fetch" if failure.status == EXIT_API else "inputs"
        _finish(_failed(reason, failure.status, f"ocdl.pod: {failure}"), failure.status)


if __name__ == "__main__":
    main(sys.argv[1:])
