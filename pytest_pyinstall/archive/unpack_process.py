"""Unpacks an archive in a process of its own, while its bytes arrive.

The process gets the bytes through a pipe, and checks and writes them with the same code as a thread. It has no lock and
uses no network. It reads nothing that the environment or the working directory could replace: it is started in Python's
isolated mode, and its path is the standard library and the directories of our package and of its decompressors.

On the pipe, each chunk has its length before it, in four bytes, least significant first. Length 0 means that the
archive has ended and was checked; the process answers with one line of JSON. At any other end of the pipe it gives up.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from pytest_pyinstall import errors
from pytest_pyinstall.archive.unpack import unpack_arriving
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.system.processes import end_with_us, forget, own_group

if TYPE_CHECKING:
    from pytest_pyinstall.request.identity import Build
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["UnpackProcess", "can_start_processes", "serve"]


_COMPLETE = 0


_PIPE_SIZE = 1 << 20
"""Bytes. A larger pipe lets the download go on while the process writes a large file."""


_CHILD = """\
import sys
sys.path += sys.argv[1:]
from pytest_pyinstall.archive.unpack_process import serve
serve()
"""


def can_start_processes() -> bool:
    """Whether a process of its own can be started here, and can save time."""
    is_python = Path(sys.executable or "").name.lower().startswith(("python", "pypy"))
    if not is_python or getattr(sys, "frozen", False):
        return False  # a program that contains Python would start itself
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False  # threads are as good
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1


class UnpackProcess:
    """A process that unpacks `build` into the empty directory `into`. Raises `OSError` if it cannot be started.

    The digests of the files are added to `known`. If the process ends before it has answered, `complete` returns None,
    and what it has written is worthless.
    """

    def __init__(self, build: Build, *, into: Path, known: FileDigests) -> None:
        self._into = into
        self._known = known
        self._process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            **own_group(),  # Ctrl-C must not reach it: we decide what becomes of it
        )
        self._can_write = True
        try:
            end_with_us(self._process, group=False)
            if sys.platform == "linux":
                import fcntl

                with contextlib.suppress(OSError):
                    fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            self.write(json.dumps([build.file_name, build.size, str(into)]).encode())
        except BaseException:
            self.stop()
            raise

    def write(self, chunk: bytes) -> None:
        """Send the next bytes. Waits while the process is slower."""
        if chunk:
            self._send(len(chunk))
            self._send_all(chunk)

    def complete(self) -> Path | None:
        """Wait for the tree. Returns its top folder, None if there is no answer, or raises what `unpack` raises."""
        self._send(_COMPLETE)
        text = bytearray()
        # One line, and not to the end of the pipe: a plugin can have forked, and hold the pipe too.
        while not text.endswith(b"\n") and (chunk := self._output.read(1 << 16)):
            text += chunk
        try:
            answer = json.loads(text)
        except ValueError:
            return None
        match answer:
            case {"folder": str(folder), "known": list(rows)}:
                self._known.update({inode: (size, changed, digest) for inode, size, changed, digest in rows})
                return self._into / folder
            case {"error": str(name), "message": str(message), "hint": str(hint)}:
                kind = getattr(errors, name, PyinstallError)
                raise kind(message, hint=hint)
        return None

    def stop(self) -> None:
        """Kill the process, unless it has ended, and wait for its end."""
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.kill()
            self._process.wait()
        finally:
            forget(self._process, group=False)

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        return self._process.stdout

    def _send(self, number: int) -> None:
        self._send_all(number.to_bytes(4, "little"))

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while self._can_write and view:
                view = view[self._input.write(view) :]
        except OSError:  # it has ended, and `complete` finds out whether it has answered
            self._can_write = False


def _command() -> list[str]:
    # Without `site`, whose `.pth` files can take longer than the rest of the start.
    flags = ["-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}"]
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, *flags, "-c", _CHILD, *_directories()]


def _directories() -> list[str]:
    """The directories of our package and of the decompressors, of which each is optional."""
    from importlib.util import find_spec

    found = [str(Path(__file__).parents[2])]
    for name in ("isal", "zlib_ng", "backports.zstd"):
        with contextlib.suppress(ImportError, ValueError):
            spec = find_spec(name)
            if spec is not None and spec.origin:
                found.append(str(Path(spec.origin).parents[name.count(".") + 1]))
    return list(dict.fromkeys(found))


class _Pipe:
    """The bytes of an archive from standard input."""

    def __init__(self, file: BinaryIO) -> None:
        self.given = 0
        self._file = file
        self._is_complete = False

    def read(self, _: int = -1) -> bytes:
        if self._is_complete:
            return b""
        size = int.from_bytes(self._exactly(4), "little")
        self._is_complete = size == _COMPLETE
        self.given += size
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:  # our parent has ended
            raise SystemExit(1)
        return data


def serve() -> None:
    """Unpack the archive on standard input, and write the answer to standard output."""
    with open(0, "rb", closefd=False) as file:
        name, size, into = json.loads(_Pipe(file).read())
        known: FileDigests = {}
        pipe = _Pipe(file)
        try:
            tree = unpack_arriving(pipe, name, size=size, into=Path(into), known=known)
        except PyinstallError as error:
            answer: dict[str, object] = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        else:
            rows = [(inode, *row) for inode, row in known.items()]
            answer = {"folder": tree.relative_to(into).as_posix(), "known": rows}
        while pipe.read():  # after an error, the download goes on
            pass
    with open(1, "wb", closefd=False) as output:
        output.write(json.dumps(answer).encode() + b"\n")
