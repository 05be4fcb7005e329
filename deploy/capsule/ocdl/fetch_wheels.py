"""Downloads the wheels of a lock; runs in a sandbox whose only connection is a socket of the platform.

usage: python3 -I fetch_wheels.py PIP_PYTHON SOCKET REQUIREMENTS WHEELS LOG

PIP_PYTHON is an interpreter that has pip, SOCKET the platform's gateway to the package index (an HTTP proxy on a Unix
socket), REQUIREMENTS what to download, with digests. pip reaches the gateway through a loopback port of the sandbox.
Only wheels are accepted and nothing is built, so no code of a package runs.
"""

import re
import socket
import subprocess
import sys
import threading

EXIT_USAGE = 2
EXIT_FINAL = 7  # a non-retryable failure of this lock with this index
EXIT_RETRY = 8  # a temporary failure of the index or of this machine

BLOCK = 1 << 16
# Lines of pip that are shown to the person who waits.
SHOWN = re.compile(r"\s*(?:Collecting|Downloading|Ignoring|Processing|ERROR|WARNING)\b")
# The origin in pip's lines: an internal path of the platform.
ORIGIN = re.compile(r" \(from -r .*\)$")
MISMATCH = "THESE PACKAGES DO NOT MATCH THE HASHES"
# In pip's log: a page or file that could not be fetched although the index may have it.
NETWORK_ERROR = re.compile(
    r"Could not fetch URL (?![^\n]*(?:403|404|410) Client Error)|HTTP error (?:5\d\d|429)|Retrying \(Retry|ProxyError"
    r"|ConnectionError|ReadTimeout|Connection broken|IncompleteRead|SSLError"
)
# Of this machine: no space, quota, memory or files left, or a failing disk. Not 27: a file above its given limit.
MACHINE_ERROR = re.compile(r"\[Errno (?:5|12|23|24|28|30|122)\]")


def main(argv: list[str]) -> int:
    if len(argv) != 5:
        print("usage: fetch_wheels.py PIP_PYTHON SOCKET REQUIREMENTS WHEELS LOG", file=sys.stderr)
        return EXIT_USAGE
    pip_python, gateway, requirements, wheels, log = argv
    port = bridge(gateway)
    pip = [pip_python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", "--log", log]
    download = ["download", "--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-cache-dir"]
    more = ["--progress-bar", "off", "--proxy", f"http://127.0.0.1:{port}", "--dest", wheels, "-r", requirements]
    if run([*pip, *download, *more]) == 0:
        return 0
    with open(log, encoding="utf-8", errors="replace") as file:
        logged = file.read()
    temporary = NETWORK_ERROR.search(logged) or MACHINE_ERROR.search(logged)
    return EXIT_RETRY if temporary and MISMATCH not in logged else EXIT_FINAL


def run(argv: list[str]) -> int:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = process.stdout
    if lines is None:
        return EXIT_USAGE
    shown = False
    for line in lines:
        # Indented lines after an error belong to it.
        shown = SHOWN.match(line) is not None or (shown and line.startswith("    "))
        if shown:
            print(ORIGIN.sub("", line.rstrip()), flush=True)
    return process.wait()


def bridge(gateway: str) -> int:
    """Listens on a loopback port, forwards every connection to the Unix socket, and returns the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(gateway)
            except OSError:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=forward, args=(source, target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def forward(source: socket.socket, target: socket.socket) -> None:
    try:
        while block := source.recv(BLOCK):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is closed: close the other one too.
        source.close()
        target.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
