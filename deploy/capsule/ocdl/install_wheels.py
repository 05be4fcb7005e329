"""Creates a virtual environment by unpacking wheels; no code of a package runs, and no file leaves the folder.

usage: python3 -I install_wheels.py FOLDER FINAL WHEELS REQUIREMENTS MOST_BYTES

The empty FOLDER becomes the environment, which is later used at the path FINAL. The digest of each wheel must be in
REQUIREMENTS. Runs on the base interpreter, in a sandbox without network, because wheels are untrusted. Refuses paths
that leave the folder, and files that replace those of the interpreter or the environment.
"""

import configparser
import csv
import errno
import hashlib
import io
import lzma
import multiprocessing
import os
import py_compile
import re
import struct
import sys
import venv
import warnings
import zipfile
import zlib
from pathlib import Path

EXIT_USAGE = 2
EXIT_FINAL = 7  # a wheel that cannot be installed: a non-retryable failure

BLOCK = 1 << 20
MOST_FILES = 100_000
LONGEST_PATH = 1024
LONGEST_PART = 255
LONGEST_TEXT = 16 << 20
# A quarter of the time in which an environment must be ready.
COMPILE_SECONDS = 15 * 60

WHEEL_NAME = re.compile(r"([A-Za-z0-9_.]+)-([A-Za-z0-9_.!+]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl", re.ASCII)
DIGEST = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Names of interpreters, which no program of a package may have.
INTERPRETER = re.compile(r"(?:python|pypy)[wt]?[0-9.]*(?:-config|\.exe)?", re.IGNORECASE)
SCRIPT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}", re.ASCII)
REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\s*\[.*\])?")


class Refused(Exception):
    """The wheel cannot or must not be installed."""


# Errors of damaged, encrypted or unsupported archives. A ValueError may be a UnicodeError or an invalid offset. The
# memory of this step is always the same: what does not fit never will.
DAMAGED = (
    *(Refused, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, csv.Error),
    *(RuntimeError, NotImplementedError, ValueError, OverflowError, EOFError, MemoryError),
)


class Installer:
    def __init__(self, folder: Path, final: str, most_bytes: int) -> None:
        self.folder = folder
        self.final = final
        self.most_bytes = most_bytes
        self.bytes = 0
        # Files installed from wheels: a later package may replace them, as with pip.
        self.installed: set[Path] = set()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "lib" / f"python{version}" / "site-packages"
        self.headers = folder / "include" / "site" / f"python{version}"

    def install(self, wheel: Path) -> None:
        match = WHEEL_NAME.fullmatch(wheel.name)
        if match is None:
            raise Refused(f"{wheel.name[:200]} is not a valid name of a wheel")
        stem = f"{match[1]}-{match[2]}".lower()
        with zipfile.ZipFile(wheel) as archive:
            seen: set[str] = set()
            info = ""
            for entry in archive.infolist():
                parts = checked_parts(wheel, entry.filename)
                if entry.filename.endswith("/"):
                    continue
                if "/".join(parts) in seen:
                    raise Refused(f"{wheel.name}: {entry.filename[:200]!r} is a duplicate")
                seen.add("/".join(parts))
                if parts[0].lower() == f"{stem}.dist-info":
                    info = parts[0]
                target, is_script = self.place(wheel, parts)
                with archive.open(entry) as source:
                    executable = is_script or bool((entry.external_attr >> 16) & 0o111)
                    self.write(wheel, target, source, executable, is_script)
            if info == "" or f"{info}/RECORD" not in seen or f"{info}/WHEEL" not in seen:
                raise Refused(f"{wheel.name} has no folder {stem}.dist-info with WHEEL and RECORD")
            for row in csv.reader(io.StringIO(text_of(archive, f"{info}/RECORD"))):
                # Other programs treat these paths as the package's files.
                if row and row[0]:
                    checked_parts(wheel, row[0])
            if f"{info}/entry_points.txt" in seen:
                self.write_programs(wheel, text_of(archive, f"{info}/entry_points.txt"))

    def place(self, wheel: Path, parts: list[str]) -> tuple[Path, bool]:
        """Where a file of the wheel goes, and whether it is a program."""
        if not parts[0].lower().endswith(".data") or "-" not in parts[0]:
            return self.site.joinpath(*parts), False
        kind, rest = (parts[1] if len(parts) > 1 else ""), parts[2:]
        if not rest:
            raise Refused(f"{wheel.name}: {'/'.join(parts)[:200]!r} has an unknown kind of path")
        if kind in ("purelib", "platlib"):
            return self.site.joinpath(*rest), False
        if kind == "scripts" and len(rest) == 1:
            return self.folder / "bin" / rest[0], True
        if kind == "headers":
            return self.headers.joinpath(wheel.name.split("-")[0], *rest), False
        if kind == "data":
            return self.folder.joinpath(*rest), False
        raise Refused(f"{wheel.name}: {'/'.join(parts)[:200]!r} has an unknown kind of path")

    def write_programs(self, wheel: Path, text: str) -> None:
        """Writes the programs that a package declares as entry points."""
        points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        points.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            points.read_string(text)
        except configparser.Error as error:
            raise Refused(f"{wheel.name}: entry_points.txt cannot be read: {str(error)[:200]}") from error
        for section in ("console_scripts", "gui_scripts"):
            for name, value in points.items(section) if points.has_section(section) else ():
                match = REFERENCE.fullmatch(value.strip())
                if SCRIPT.fullmatch(name) is None or match is None:
                    raise Refused(f"{wheel.name}: {name[:100]!r} in entry_points.txt is not a valid program")
                module, attribute = match[1], match[2]
                first = attribute.split(".")[0]
                program = f"#!python\nimport sys\nfrom {module} import {first}\nsys.exit({attribute}())\n"
                self.write(wheel, self.folder / "bin" / name, io.BytesIO(program.encode()), True, True)

    def write(self, wheel: Path, target: Path, source: io.BufferedIOBase, executable: bool, is_script: bool) -> None:
        shown = str(target.relative_to(self.folder))[:200]
        if target.parent == self.folder / "bin" and INTERPRETER.fullmatch(target.name):
            raise Refused(f"{wheel.name} contains {shown!r}: a package must not contain an interpreter")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.parent.resolve() != target.parent:
                raise Refused(f"{wheel.name} writes {shown!r} through a link of the environment")
            if target in self.installed:
                target.unlink()
            mode = 0o755 if executable else 0o644
            # EXCL: files of the environment itself are not replaced.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise Refused(f"{wheel.name} would replace {shown!r}, a file or folder of the environment") from error
        self.installed.add(target)
        if len(self.installed) > MOST_FILES:
            raise Refused(f"the packages have more than {MOST_FILES} files in total")
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            first = source.read(len(b"#!python")) if is_script else b""
            if first == b"#!python":
                interpreter = f"#!{self.final}/bin/python".encode()
                self.count(len(interpreter))
                file.write(interpreter)
            elif first:
                self.count(len(first))
                file.write(first)
            while block := source.read(BLOCK):
                self.count(len(block))
                file.write(block)

    def count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.most_bytes:
            raise Refused(f"the packages are larger than {self.most_bytes} bytes in total")

    def compile(self) -> None:
        """Compiles the modules once instead of in every job. Compiling does not run code.

        In a process of its own: a module that crashes the compiler, or keeps it busy, costs time in jobs and does not
        fail the environment.
        """
        print("compiling the modules", flush=True)
        compiler = multiprocessing.get_context("fork").Process(target=self.compile_modules)
        compiler.start()
        compiler.join(COMPILE_SECONDS)
        compiler.kill()
        compiler.join()
        if compiler.exitcode != 0:
            print("not all modules were compiled: Python compiles the others when they are imported", flush=True)

    def compile_modules(self) -> None:
        warnings.simplefilter("ignore")
        for path in sorted(self.installed):
            if path.suffix == ".py" and self.site in path.parents:
                try:
                    # Nobody changes the environment, and its files have other times after they were unpacked elsewhere.
                    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
                    py_compile.compile(str(path), dfile=self.shown(path), doraise=True, invalidation_mode=mode, quiet=2)
                except (py_compile.PyCompileError, OSError, ValueError, RecursionError, MemoryError):
                    # Templates and code for other Python versions, which cannot be compiled.
                    continue

    def shown(self, path: Path) -> str:
        return os.path.join(self.final, path.relative_to(self.folder))


def checked_parts(wheel: Path, name: str) -> list[str]:
    parts = name.rstrip("/").split("/")
    unsafe = name.startswith("/") or "\\" in name or len(name) > LONGEST_PATH or not name.isprintable()
    if unsafe or any(part in ("", ".", "..") or len(part.encode()) > LONGEST_PART for part in parts):
        raise Refused(f"{wheel.name}: the path {name[:200]!r} leaves the package's folder or is not allowed")
    return parts


def text_of(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        text = file.read(LONGEST_TEXT + 1)
    if len(text) > LONGEST_TEXT:
        raise Refused(f"{name[:200]!r} is longer than {LONGEST_TEXT} bytes")
    return text.decode("utf-8", errors="replace")


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def main(argv: list[str]) -> int:
    if len(argv) != 5:
        print("usage: install_wheels.py FOLDER FINAL WHEELS REQUIREMENTS MOST_BYTES", file=sys.stderr)
        return EXIT_USAGE
    folder, final, wheels, requirements, most_bytes = argv
    allowed = set(DIGEST.findall(Path(requirements).read_text(encoding="ascii")))
    # Readable for the users of jobs, regardless of the platform's umask.
    os.umask(0o022)
    target = Path(folder).resolve()
    venv.EnvBuilder(symlinks=True, with_pip=False).create(target)
    installer = Installer(target, final, int(most_bytes))
    found = sorted(Path(wheels).iterdir())
    try:
        for number, wheel in enumerate(found, start=1):
            print(f"installing {wheel.name[:120]} ({number} of {len(found)})", flush=True)
            if not wheel.is_file() or wheel.is_symlink() or digest_of(wheel) not in allowed:
                raise Refused(f"the lock does not list the file {wheel.name[:200]} with this digest")
            installer.install(wheel)
    except (*DAMAGED, OSError) as error:
        # The bz2 module reports damaged data without a number, seek an offset outside the file as EINVAL. All other
        # numbers are faults of this machine, which may pass.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        print(f"refused: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_FINAL
    installer.compile()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
