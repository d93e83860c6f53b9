"""What each fault test needs: a small Python to install, processes to kill, and an independent check of the result.

The Python is a tree of a few hundred files whose executable starts the running one, so that an installation takes tens
of milliseconds and a test can make a hundred of them. `benchmarks/faults.py` does the same to uv.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_pyinstall.cli.mirror import RELEASES
from pytest_pyinstall.request.identity import Key, Target

__all__ = ["FILES", "RUNNING", "TAG", "Driver", "Ended", "Workshop", "digest", "distribution", "make_mirror"]

TAG = "20261122"
FILES = 250
RUNNING = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
VERSION = ".".join(map(str, sys.version_info[:3]))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) if sys.platform != "win32" else ()


@dataclass(frozen=True)
class Ended:
    """How a process ended. `seconds` counts from the signal if one was sent, and else from the start."""

    code: int
    output: str
    orphans: int = 0
    seconds: float = 0.0
    signal: int = 0


def make_mirror(directory: Path, pythons: Mapping[str, Path] | None = None) -> Path:
    """A mirror with a small archive for each version, and its ``catalogue.json`` in the schema of uv.

    `pythons` has the executables that the small Pythons start, by version (default: the running one).
    """
    target = Target.current()
    rows = {}
    (directory / TAG).mkdir(parents=True)
    for version, executable in (pythons or {VERSION: RUNNING}).items():
        major, minor, patch = version.split(".")
        name = f"cpython-{version}+{TAG}-{target.arch}-unknown-{target.os}-{target.libc}-install_only.tar.gz"
        data = _archive(f"{major}.{minor}", executable)
        (directory / TAG / name).write_bytes(data)
        rows[f"cpython-{version}-{target}"] = {
            "name": "cpython",
            "arch": {"family": target.arch, "variant": None},
            "os": target.os,
            "libc": target.libc,
            "major": int(major),
            "minor": int(minor),
            "patch": int(patch),
            "prerelease": "",
            "url": f"{RELEASES}/{TAG}/{name.replace('+', '%2B')}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "variant": None,
            "build": TAG,
        }
    (directory / "catalogue.json").write_text(json.dumps(rows), "utf-8")
    return directory


_SYSCONFIG = b"""\
# system configuration generated and used by the sysconfig module
build_time_vars = {'prefix': '/install'}
"""


def _archive(minor: str, executable: Path) -> bytes:
    chance = random.Random(minor)
    files: dict[str, tuple[bytes, int]] = {
        f"bin/python{minor}": (f'#!/bin/sh\nexec {executable} "$@"\n'.encode(), 0o755),
        f"lib/python{minor}/os.py": (b"# the landmark\n", 0o644),
        f"lib/python{minor}/_sysconfigdata__linux_x86_64-linux-gnu.py": (_SYSCONFIG, 0o644),
        f"lib/pkgconfig/python-{minor}.pc": (b"prefix=/install\n", 0o644),
    }  # fmt: skip
    for number in range(FILES):
        files[f"lib/python{minor}/package{number % 9}/module{number}.py"] = (chance.randbytes(2500), 0o644)
    for name, content in distribution("demo", "1.0", minor=minor, modules=3).items():
        files[name] = (content, 0o755 if name.startswith("bin/") else 0o644)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        folders = sorted({str(parent) for name in files for parent in Path("python", name).parents} - {"."})
        folders.append("python/share")
        for folder in [*folders, "python/share/empty"]:
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(f"python/{name}")
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        for name, target in (("bin/python3", f"python{minor}"), (f"lib/python{minor}/linked", "package1")):
            member = tarfile.TarInfo(f"python/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return gzip.compress(stream.getvalue(), 1, mtime=0)


def distribution(name: str, version: str, *, minor: str, modules: int) -> dict[str, bytes]:
    """The files of a distribution with `modules` modules and a script, as pip installs them."""
    site = f"lib/python{minor}/site-packages"
    files = {f"{site}/{name}/part{number}.py": f"VERSION = {version!r}\n".encode() for number in range(modules)}
    files[f"{site}/{name}/__init__.py"] = f"VERSION = {version!r}\n".encode()
    files[f"{site}/{name}-{version}.dist-info/METADATA"] = f"Name: {name}\nVersion: {version}\n".encode()
    files[f"bin/{name}"] = f"#!/install/bin/python{minor}\nprint({version!r})\n".encode()
    rows = []
    for path, content in sorted(files.items()):
        state = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{os.path.relpath(path, site)},sha256={state},{len(content)}\n")
    record = f"{name}-{version}.dist-info/RECORD"
    return {**files, f"{site}/{record}": "".join([*rows, f"{record},,\n"]).encode()}


def digest(tree: Path) -> Mapping[str, str] | None:
    """Each entry below `tree` with its kind, mode and content; None if there is no such directory."""
    if not tree.is_dir():
        return None
    found = {}
    for parent, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in (*folders, *names):
            path = Path(parent, name)
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if path.is_symlink():
                state = f"link {path.readlink()}"
            elif path.is_dir():
                state = f"directory {mode:o}"
            else:
                state = f"file {mode:o} {hashlib.sha1(path.read_bytes()).hexdigest()}"
            found[str(path.relative_to(tree))] = state
    return found


class Driver:
    """Runs the command line in forked processes; see `fault_driver`."""

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output.txt"
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fault_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *argv: str,
        environ: Mapping[str, str],
        directory: Path,
        after: float | None = None,
        number: int = signal.SIGTERM,
    ) -> Ended:
        """Run the command line, and send it the signal `number` after `after` seconds."""
        order = {"argv": argv, "environ": dict(environ), "directory": str(directory), "output": str(self._output)}
        self._send(json.dumps(order))
        pid = self._receive()["pid"]
        start = time.monotonic()
        sent = 0
        if after is not None:
            time.sleep(after)  # the fault itself: a random moment
            start = time.monotonic()
            sent = number
            os.kill(pid, number)
        reply = self._receive()
        seconds = time.monotonic() - start
        self._send("")
        with contextlib.suppress(OSError):
            return Ended(reply["code"], self._output.read_text("utf-8"), reply["orphans"], seconds, sent)
        return Ended(reply["code"], "", reply["orphans"], seconds, sent)

    def close(self) -> None:
        assert self._process.stdin is not None
        with self._process:  # ends the process even after an exception
            try:
                self._process.stdin.close()
                self._process.wait(30)
            finally:
                self._process.kill()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, int]:
        assert self._process.stdout is not None
        reply: dict[str, int] = json.loads(self._process.stdout.readline())
        return reply


@dataclass
class Workshop:
    """A store, a cache and a small Python, with a digest of its undamaged installation."""

    directory: Path
    mirror: Path
    url: str = ""
    version: str = VERSION
    store: Path = field(init=False)
    cache: Path = field(init=False)
    temporary: Path = field(init=False)
    reference: Mapping[str, str] = field(init=False, default_factory=dict)
    seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.store, self.cache = self.directory / "store", self.directory / "cache"
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        (self.directory / "home").mkdir(exist_ok=True)

    @property
    def key(self) -> Key:
        return Key.parse(f"cpython-{self.version}-{Target.current()}")

    @property
    def home(self) -> Path:
        return self.store / str(self.key)

    @property
    def archive(self) -> Path:
        return next((self.mirror / TAG).glob(f"cpython-{self.version}+*.tar.gz"))

    @property
    def environ(self) -> dict[str, str]:
        place = self.url or str(self.mirror)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.temporary),
            "PYTEST_PYINSTALL_STORE": str(self.store),
            "PYTEST_PYINSTALL_CACHE": str(self.cache),
            "PYTEST_PYINSTALL_MIRROR": place,
            "PYTEST_PYINSTALL_CATALOGUE": f"{place}/catalogue.json",
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
            "PYTEST_PYINSTALL_LOCK_TIMEOUT": "30",
        }

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> Ended:
        """Run the command line in a separate process."""
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest_pyinstall", *words],
            env={**self.environ, **(environ or {})},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            timeout=100,
        )
        return Ended(done.returncode, done.stdout + done.stderr, seconds=time.monotonic() - start)

    def is_whole(self) -> bool:
        """Compare the digest of each file, and start the interpreter."""
        if digest(self.home) != self.reference:
            return False
        executable = self.home / self.key.executable
        return subprocess.run([executable, "-I", "-c", ""], check=False, capture_output=True).returncode == 0

    def leftovers(self) -> list[str]:
        """Files that no installation needs: scratch, temporary names and partial downloads."""
        found = [*self.temporary.glob("*")]
        private = self.store / ".pytest-pyinstall"
        found += (private / "scratch").glob("*/*")
        found += (private / "records").glob(".*")
        found += (path for path in private.glob("*") if path.name not in {"locks", "scratch", "records"})
        known = {str(self.key), self.key.minor_link, ".lock", ".gitignore", ".pytest-pyinstall"}
        found += (path for path in self.store.glob("*") if path.name not in known)
        found += (path for path in self.cache.glob("archives/*/*") if self._is_left(path))
        return sorted(os.path.relpath(path, self.directory) for path in found)

    def _is_left(self, path: Path) -> bool:
        if path.name.endswith((".lock", "lock")):
            return False
        return ".part" in path.name or path.name.startswith(".")

    def reset(self) -> None:
        """Delete the store, the cache and the temporary files."""
        for directory in (self.store, self.cache, self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self.temporary.mkdir()

    def install_reference(self) -> None:
        """Install once without a fault, and remember the digest of the result."""
        done = self.run("install", self.version)
        assert done.code == 0, done.output
        found = digest(self.home)
        assert found is not None
        assert len(found) > FILES
        self.reference = found


@contextlib.contextmanager
def started_driver(directory: Path) -> Iterator[Driver]:
    driver = Driver(directory)
    try:
        yield driver
    finally:
        driver.close()
