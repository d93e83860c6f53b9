"""The same faults for uv and for pytest-pyinstall: how many were tried, how many survived, and what was left behind.

    python benchmarks/faults.py [--times 20] [--write docs/faults.md]

A fault is survived if the next run succeeds, and every file of the tree has the same digest as in an undisturbed
installation. Both tools install the same small archive from the same directory, each into its own store. Needs Linux,
the packages of the tests, ``uv``, and for some rows root and the permission to mount.
"""

import argparse
import contextlib
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import mirror
import uv
from fault_workshop import VERSION, Workshop, digest, make_mirror


@dataclass
class Tool:
    """A tool that installs, and its directories."""

    name: str
    install: list[str]
    reinstall: list[str]
    remove: list[str]
    workshop: Workshop
    environ: dict[str, str]
    rewrites: frozenset[str] = frozenset()
    reference: Mapping[str, str] = field(default_factory=dict)

    def run(self, command: list[str], *, prefix: tuple[str, ...] = (), timeout: float = 60, umask: int = -1) -> int:
        try:
            done = subprocess.run(
                [*prefix, *command], env=self.environ, cwd=self.workshop.directory, stdin=subprocess.DEVNULL,
                capture_output=True, check=False, timeout=timeout, umask=umask,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1
        return done.returncode

    def is_whole(self) -> bool:
        found = digest(self.workshop.home)
        executable = self.workshop.home / self.workshop.key.executable
        if found is None or self.plain(found) != self.reference:
            return False
        return subprocess.run([executable, "-I", "-c", ""], check=False, capture_output=True).returncode == 0

    def plain(self, found: Mapping[str, str]) -> dict[str, str]:
        return {name: said for name, said in found.items() if Path(name).name not in self.rewrites}

    def left(self) -> int:
        """Bytes that are neither an installation nor a verified archive."""
        places = [self.workshop.store / ".temp", self.workshop.store / ".pytest-pyinstall/scratch"]
        places += [self.workshop.temporary, *self.workshop.directory.glob("uv-cache/.tmp*")]
        return sum(
            path.lstat().st_size
            for place in places
            for path in place.rglob("*")
            if path.is_file() and not path.is_symlink()
        )

    def fresh(self) -> None:
        self.workshop.reset()
        shutil.rmtree(self.workshop.directory / "uv-cache", ignore_errors=True)

    def learn(self) -> None:
        assert self.run(self.install) == 0, self.name
        self.reference = self.plain(digest(self.workshop.home) or {})


@dataclass
class Row:
    tried: int = 0
    survived: int = 0
    left: int = 0
    note: str = ""

    def __str__(self) -> str:
        if not self.tried:
            return f"not tried: {self.note}"
        left = f", {self.left / 1024:.0f} KiB left" if self.left else ""
        return f"{self.survived} of {self.tried}{left}{f' ({self.note})' if self.note else ''}"


Fault = Callable[[Tool, Row, int], None]


def again(tool: Tool, row: Row) -> None:
    code = tool.run(tool.install)
    is_whole = tool.is_whole()
    if code == 0 and is_whole:
        row.survived += 1
    elif code == 0:
        lies = int(row.note.split()[0]) + 1 if row.note else 1
        row.note = f"{'once' if lies == 1 else f'{lies} times'} success was reported over a broken tree"
    if not is_whole:
        tool.fresh()
        tool.run(tool.install)


def killed(what: str) -> Fault:
    def fault(tool: Tool, row: Row, times: int) -> None:
        chance = random.Random(f"{what} 1")
        command = getattr(tool, what)
        durations = []
        for _ in range(3):
            prepare(tool, what)
            start = time.monotonic()
            tool.run(command)
            durations.append(time.monotonic() - start)
        for _ in range(times):
            prepare(tool, what)
            process = subprocess.Popen(
                command,
                env=tool.environ,
                cwd=tool.workshop.directory,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0.3 if tool.name != "uv" else 0, 1) * sorted(durations)[1])
            process.send_signal(signal.SIGKILL)
            process.wait()
            row.tried += 1
            again(tool, row)
        row.left = tool.left()

    def prepare(tool: Tool, what: str) -> None:
        if what == "install":
            tool.run(tool.remove)
        else:
            tool.run(tool.install)

    return fault


def damaged(tool: Tool, row: Row, _: int) -> None:
    library = f"lib/python{VERSION.rpartition('.')[0]}"
    kinds: list[Callable[[Path], object]] = [
        lambda home: (home / tool.workshop.key.executable).unlink(),
        lambda home: (home / tool.workshop.key.executable).write_bytes(b""),
        lambda home: (home / tool.workshop.key.executable).chmod(0o644),
        lambda home: (home / library / "os.py").unlink(),
        lambda home: (home / library / "os.py").write_bytes(b""),
        lambda home: shutil.rmtree(home / library / "package3"),
        lambda home: (home / library / "package3").rename(home / library / "moved"),
        lambda home: shutil.rmtree(home / "lib"),
        lambda home: [path.unlink() for path in home.rglob("*") if path.is_file() or path.is_symlink()],
        lambda home: (home / library / "package1/module1.py").write_bytes(b"short"),
    ]
    for damage in kinds:
        tool.run(tool.install)
        damage(tool.workshop.home)
        with contextlib.suppress(OSError):
            (tool.workshop.home / library / "moved").rename(tool.workshop.directory / f"moved{row.tried}")
        row.tried += 1
        again(tool, row)


def power_cut(tool: Tool, row: Row, times: int) -> None:
    if os.geteuid() or not shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        row.note = "needs root and mkfs.ext4"
        return
    disk, after = tool.workshop.directory / "disk", tool.workshop.directory / "after"
    for _ in range(max(2, times // 7)):
        tool.fresh()
        disk.write_bytes(b"")
        os.truncate(disk, 64 << 20)
        subprocess.run(["/sbin/mkfs.ext4", "-q", disk], check=True)
        shutil.rmtree(tool.workshop.store, ignore_errors=True)
        with mounted(tool.workshop.store, "-o", "loop,commit=300", str(disk)):
            tool.run(tool.install)
            # Other processes commit the journal: then names are on disk, but content is not.
            descriptor = os.open(tool.workshop.store / "theirs", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"x")
            os.fsync(descriptor)
            os.close(descriptor)
            shutil.copyfile(disk, after)
        with mounted(tool.workshop.store, "-o", "loop", str(after)):
            (tool.workshop.store / "theirs").unlink(missing_ok=True)
            for record in tool.workshop.store.glob(".pytest-pyinstall/records/*.json"):
                text = record.read_text("utf-8")
                record.write_text(
                    text.replace(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), "old")
                )
            row.tried += 1
            code = tool.run(tool.install)
            if code == 0 and tool.is_whole():
                row.survived += 1
            elif code == 0:
                row.note = "success was reported over a broken tree"
    tool.fresh()


def gaps(tool: Tool, row: Row, times: int) -> None:
    tool.run(tool.install)
    executable = tool.workshop.home / tool.workshop.key.executable
    failed = started = 0
    for _ in range(max(3, times // 4)):
        process = subprocess.Popen(
            tool.reinstall,
            env=tool.environ,
            cwd=tool.workshop.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            started += 1
            for _ in range(20):
                if not executable.exists():
                    failed += 1
                    break
    row.tried, row.survived = started, started - failed


def poisoned_cache(tool: Tool, row: Row, _: int) -> None:
    for poison in (b"", b"<html>", None):
        tool.fresh()
        tool.run(tool.install)
        places = [*tool.workshop.cache.rglob("*"), *(tool.workshop.directory / "uv-python-cache").rglob("*")]
        for path in places:
            if path.is_file() and "cpython-" in path.name:
                path.write_bytes(path.read_bytes()[:-100] + b"x" * 100 if poison is None else poison)
        row.tried += 1
        code = tool.run(tool.reinstall)
        row.survived += code == 0 and tool.is_whole()
    shutil.rmtree(tool.workshop.directory / "uv-python-cache", ignore_errors=True)
    tool.fresh()


def read_only(tool: Tool, row: Row, _: int) -> None:
    tool.run(tool.install)
    store = str(tool.workshop.store)
    with mounted(tool.workshop.store, "--bind", store):
        subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
        row.tried += 1
        row.survived += tool.run(tool.install) == 0


def full_disk(tool: Tool, row: Row, _: int) -> None:
    for size in ("200k", "700k", "1200k"):
        tool.fresh()
        with mounted(tool.workshop.store, "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs"):
            tool.run(tool.install)
            row.left = max(row.left, tool.left())
            subprocess.run(["mount", "-o", "remount,size=64m", str(tool.workshop.store)], check=True)
            row.tried += 1
            row.survived += tool.run(tool.install) == 0 and tool.is_whole()
    tool.fresh()


def umask(tool: Tool, row: Row, _: int) -> None:
    tool.fresh()
    tool.run(tool.install, umask=0)
    row.tried = 1
    writable = [
        path for path in tool.workshop.store.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o002 and path.suffix not in {".lock", ".lease"}
        and path.name != ".lock"
    ]  # fmt: skip
    row.survived = int(not writable)
    row.note = f"{len(writable)} files that everyone can write" if writable else ""
    tool.fresh()


def planted(tool: Tool, row: Row, _: int) -> None:
    tool.fresh()
    tool.workshop.store.mkdir()
    tool.workshop.store.chmod(0o777)
    executable = tool.workshop.home / tool.workshop.key.executable
    executable.parent.mkdir(parents=True)
    executable.write_text("#!/bin/sh\necho owned\n")
    executable.chmod(0o755)
    row.tried = 1
    tool.run(tool.install)
    code = tool.run(tool.install)
    row.survived = int(code != 0 or tool.is_whole())
    tool.fresh()


def error_on_close(tool: Tool, row: Row, _: int) -> None:
    """NFS reports lost writes only when a file is closed."""
    strace = shutil.which("strace")
    if strace is None:
        row.note = "needs strace"
        return
    for when in (50, 100, 200, 300):
        tool.fresh()
        prefix = (strace, "-f", "-qqq", "-o", "/dev/null", "-e", "trace=close")
        code = tool.run(tool.install, prefix=(*prefix, "-e", f"inject=close:error=EIO:when={when}+"))
        row.tried += 1
        is_told = code != 0
        row.survived += is_told and tool.run(tool.install) == 0 and tool.is_whole()
        if not is_told:
            row.note = "success was reported"
    tool.fresh()


def at_once(tool: Tool, row: Row, _: int) -> None:
    """Sixteen processes install the same Python: how many succeed, and how often it is downloaded."""
    tool.fresh()
    shutil.rmtree(tool.workshop.directory / "uv-python-cache", ignore_errors=True)
    with mirror.serve(tool.workshop.mirror) as server:
        environ = _from(tool, server.url)
        processes = [_started(tool, environ) for _ in range(16)]
        row.tried = len(processes)
        row.survived = sum(process.wait() == 0 for process in processes)
        asked = sum("install_only" in request.path for request in server.requests)
    row.note = f"downloaded {asked} times" if asked != 1 else "downloaded once"
    if not tool.is_whole():
        row.survived = 0
    tool.fresh()


def stalled(tool: Tool, row: Row, _: int) -> None:
    """One process hangs in a download of an installed Python, and others use that Python."""
    tool.fresh()
    tool.run(tool.install)
    for name in ("uv-cache", "uv-python-cache", "cache"):
        shutil.rmtree(tool.workshop.directory / name, ignore_errors=True)
    with mirror.serve(tool.workshop.mirror) as server:
        stall = mirror.stall(after=1000)
        server.always(f"/20261122/{tool.workshop.archive.name.replace('+', '%2B')}", stall)
        holder = _started(tool, _from(tool, server.url), tool.reinstall)
        try:
            row.tried = 3
            if not stall.reached.wait(60):
                row.note = "it never began to download"
                return
            row.survived = sum(tool.run(tool.install, timeout=10) == 0 for _ in range(row.tried))
        finally:
            holder.kill()
            holder.wait()
    tool.fresh()


def secrets(tool: Tool, row: Row, _: int) -> None:
    """A password in the mirror's URL appears in no output and no file, regardless of the mirror's response."""
    for answer in (None, mirror.status(403), mirror.status(404), mirror.reset(after=None), mirror.html()):
        tool.fresh()
        with mirror.serve(tool.workshop.mirror) as server:
            if answer is not None:
                server.always(f"/20261122/{tool.workshop.archive.name.replace('+', '%2B')}", answer)
            environ = _from(tool, server.url.replace("http://", "http://bob:s3cr3t-word@"), server.url)
            environ |= {"UV_HTTP_RETRIES": "1"}
            done = subprocess.run(
                [*tool.install, "-v"], env=environ, cwd=tool.workshop.directory, stdin=subprocess.DEVNULL,
                capture_output=True, check=False, timeout=100,
            )  # fmt: skip
        written = any(
            b"s3cr3t-word" in path.read_bytes()
            for path in tool.workshop.directory.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        row.tried += 1
        row.survived += b"s3cr3t-word" not in done.stdout + done.stderr and not written
    tool.fresh()


def passing(tool: Tool, row: Row, _: int) -> None:
    """A network fault that occurs only at the first try."""
    faults = [
        mirror.reset(after=None), mirror.reset(after=300_000), mirror.fin(after=200_000), mirror.cut(after=200_000),
        mirror.status(429, {"Retry-After": "0"}), mirror.status(500), mirror.status(503), mirror.flip(at=5000),
    ]  # fmt: skip
    for fault in faults:
        tool.fresh()
        shutil.rmtree(tool.workshop.directory / "uv-python-cache", ignore_errors=True)
        with mirror.serve(tool.workshop.mirror) as server:
            server.script(f"/20261122/{tool.workshop.archive.name.replace('+', '%2B')}", fault)
            process = _started(tool, _from(tool, server.url))
            row.tried += 1
            row.survived += process.wait(100) == 0 and tool.is_whole()
    shutil.rmtree(tool.workshop.directory / "uv-python-cache", ignore_errors=True)
    tool.fresh()


def _started(tool: Tool, environ: Mapping[str, str], command: list[str] | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command or tool.install, env=environ, cwd=tool.workshop.directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _from(tool: Tool, url: str, catalogue: str = "") -> dict[str, str]:
    """The tool's environment with a server for its mirror."""
    environ = dict(tool.environ)
    for name in ("PYTEST_PYINSTALL_MIRROR", "UV_PYTHON_INSTALL_MIRROR"):
        environ[name] = url
    for name in ("PYTEST_PYINSTALL_CATALOGUE", "UV_PYTHON_DOWNLOADS_JSON_URL"):
        environ[name] = f"{catalogue or url}/catalogue.json"
    return environ


@contextlib.contextmanager
def mounted(where: Path, *arguments: str) -> Iterator[None]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(where)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


FAULTS: dict[str, Fault] = {
    "`kill -9` while it installs": killed("install"),
    "`kill -9` while it reinstalls": killed("reinstall"),
    "`kill -9` while it removes": killed("remove"),
    "ten kinds of damage, then install again": damaged,
    "power cut after success (ext4)": power_cut,
    "looks for the executable during reinstalls": gaps,
    "a bad archive in the cache": poisoned_cache,
    "installed Pythons in a read-only store": read_only,
    "a full disk, then free space again": full_disk,
    "umask 000: no one else can write": umask,
    "a Python planted in a store that everyone can write": planted,
    "an error on close (NFS) is reported, and the next run repairs it": error_on_close,
    "sixteen processes at once": at_once,
    "one process hangs in a download; others use installed Pythons": stalled,
    "a temporary network fault": passing,
    "a password in the mirror's URL is not printed": secrets,
}


def tools(directory: Path) -> list[Tool]:
    place = make_mirror(directory / "mirror")
    ours, theirs = Workshop(directory / "ours", place), Workshop(directory / "uv", place)
    command = [sys.executable, "-m", "pytest_pyinstall"]
    binary = [uv.find_uv_bin(), "python"]
    common = {
        **theirs.environ,
        "UV_PYTHON_INSTALL_DIR": str(theirs.store),
        "UV_PYTHON_INSTALL_MIRROR": place.as_uri(),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(place / "catalogue.json"),
        "UV_PYTHON_CACHE_DIR": str(theirs.directory / "uv-python-cache"),
        "UV_CACHE_DIR": str(theirs.directory / "uv-cache"),
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_NO_CONFIG": "1",
    }
    return [
        Tool(
            name="pytest-pyinstall", workshop=ours, environ=ours.environ,
            install=[*command, "install", VERSION], reinstall=[*command, "install", "--reinstall", VERSION],
            remove=[*command, "remove", VERSION],
        ),
        Tool(
            name="uv", workshop=theirs, environ=common, rewrites=frozenset({"EXTERNALLY-MANAGED"}),
            install=[*binary, "install", VERSION], reinstall=[*binary, "install", "--reinstall", VERSION],
            remove=[*binary, "uninstall", VERSION],
        ),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="kills of each kind (default: 20)")
    parser.add_argument("--write", type=Path, help="write the table to this page, between its two marks")
    parser.add_argument("--only", default="", metavar="WORD", help="the faults with WORD in their names")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        columns = tools(Path(name))
        for tool in columns:
            tool.learn()
        lines = ["| fault | " + " | ".join(tool.name for tool in columns) + " |", "|---" * (1 + len(columns)) + "|"]
        for title, fault in FAULTS.items():
            if options.only not in title:
                continue
            cells = []
            for tool in columns:
                row = Row()
                try:
                    fault(tool, row, options.times)
                except (OSError, subprocess.SubprocessError) as error:
                    row.note = row.note or f"{type(error).__name__}"
                    tool.fresh()
                cells.append(str(row))
            lines.append(f"| {title} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    version = subprocess.run(
        [uv.find_uv_bin(), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    lines += [
        "",
        f"Measured with uv {version}, Python {platform.python_version()}, {platform.system()} {platform.release()}.",
    ]
    if options.write:
        page = options.write.read_text("utf-8")
        start, end = "<!-- table -->\n", "<!-- end of table -->"
        head, tail = page.partition(start)[0], page.partition(end)[2]
        options.write.write_text(f"{head}{start}\n" + "\n".join(lines) + f"\n\n{end}{tail}", "utf-8")


if __name__ == "__main__":
    main()
