"""Downloads the wheels of a lock; runs in a sandbox whose only way out is a socket of the platform.

usage: python3 -I fetch_wheels.py PIP_PYTHON SOCKET REQUIREMENTS WHEELS LOG

PIP_PYTHON is an interpreter that has pip, SOCKET the platform's gateway to the package index (an HTTP proxy on a Unix
socket), REQUIREMENTS what to download, with digests. pip is shown the gateway on a loopback port of the sandbox. Wheels
only, nothing is built: no code of a package runs.
"""

import re
import socket
import subprocess
import sys
import threading

EXIT_USAGE = 2
EXIT_FINAL = 7  # no attempt with this lock and this index can succeed
EXIT_AGAIN = 8  # the index could not be reached or did not answer as it should, or this machine is in trouble

BLOCK = 1 << 16
# What a person who waits wants to see of pip's lines.
TOLD = re.compile(r"\s*(?:Collecting|Downloading|Ignoring|Processing|ERROR|WARNING)\b")
# Where pip has it from: a path of the platform's own.
FROM = re.compile(r" \(from -r .*\)$")
MISMATCH = "THESE PACKAGES DO NOT MATCH THE HASHES"
# In pip's log: a page or file that was not got, for another reason than that the index does not have it.
TROUBLE = re.compile(
    r"Could not fetch URL (?![^\n]*(?:403|404|410) Client Error)|HTTP error (?:5\d\d|429)|Retrying \(Retry|ProxyError"
    r"|ConnectionError|ReadTimeout|Connection broken|IncompleteRead|SSLError"
)
# Of this machine: no space, quota, memory or files left, a disk that fails. Not 27, a file over the limit that it was given.
MACHINE = re.compile(r"\[Errno (?:5|12|23|24|28|30|122)\]")


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
        said = file.read()
    return EXIT_AGAIN if MISMATCH not in said and (TROUBLE.search(said) or MACHINE.search(said)) else EXIT_FINAL


def run(argv: list[str]) -> int:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout
    if said is None:
        return EXIT_USAGE
    tells = False
    for line in said:
        # What follows an error, indented, belongs to it.
        tells = TOLD.match(line) is not None or (tells and line.startswith("    "))
        if tells:
            print(FROM.sub("", line.rstrip()), flush=True)
    return process.wait()


def bridge(gateway: str) -> int:
    """Listens on a loopback port and carries every connection to the Unix socket; answers the port."""
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
                threading.Thread(target=carry, args=(source, target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while block := source.recv(BLOCK):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side has gone: the other is to hear of it.
        source.close()
        target.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
