"""Makes the virtual environment of a requirements lock, once, however many processes ask at the same time.

usage: python3 -I environment.py FOLDER LOCK

FOLDER becomes a complete virtual environment or the exit status is not 0. The marker `.complete` is written last, so
that a half-made environment is never taken for a whole one. The kernel's file lock on FOLDER.lock is inherited by pip
and given back when the last of them ends, so a killed maker leaves nothing that another one has to clear by hand.
"""

import fcntl
import os
import subprocess
import sys

OLDEST = (3, 10)

EXIT_USAGE = 2
EXIT_NO_VENV = 3
EXIT_INSTALL = 4


def is_complete(folder: str) -> bool:
    """Whether FOLDER is whole and its interpreter still starts (a system upgrade may have taken it away)."""
    if not os.path.exists(os.path.join(folder, ".complete")):
        return False
    try:
        answer = subprocess.run([python_of(folder), "-I", "-c", ""], stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return answer.returncode == 0


def python_of(folder: str) -> str:
    return os.path.join(folder, "bin", "python")


def run(argv: list[str], lock: int) -> int:
    """Runs a step with its output on ours, holding the file lock as long as it lives."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, pass_fds=(lock,), check=False).returncode


def make(folder: str, requirements: str, lock: int) -> int:
    if is_complete(folder):
        return 0
    version = ".".join(str(part) for part in sys.version_info[:3])
    print(f"making the Python environment with Python {version}", flush=True)
    if run([sys.executable, "-I", "-m", "venv", "--clear", folder], lock) != 0:
        print(
            f"cannot make a virtual environment with {sys.executable}: its modules venv and ensurepip are needed"
            " (on Debian and Ubuntu: the package python3-venv)",
            file=sys.stderr,
        )
        return EXIT_NO_VENV
    pip = [python_of(folder), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    install = ["install", "--only-binary=:all:", "--no-deps", "--progress-bar", "off", "-r", requirements]
    if run([*pip, *install], lock) != 0:
        print(f"pip could not install {requirements} into {folder}: see its lines above", file=sys.stderr)
        return EXIT_INSTALL
    with open(os.path.join(folder, ".complete"), "w", encoding="utf-8") as marker:
        marker.write(version + "\n")
    print("the Python environment is ready", flush=True)
    return 0


def main() -> int:
    if len(sys.argv) != 3 or sys.version_info < OLDEST:
        print("usage: environment.py FOLDER LOCK, with Python 3.10 or newer", file=sys.stderr)
        return EXIT_USAGE
    folder, requirements = (os.path.abspath(path) for path in sys.argv[1:])
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    lock = os.open(folder + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another process that makes this Python environment", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return make(folder, requirements, lock)


if __name__ == "__main__":
    sys.exit(main())
