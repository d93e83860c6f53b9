"""Unpacks an archive in a process of its own, while its bytes arrive.

The process gets the bytes through a pipe, and checks and writes them with the same code as a thread. It has no lock and
uses no network. It reads nothing that the environment or the working directory could replace: it is started in Python's
isolated mode, and its path is the standard library and the directories of our package and of its decompressors.

On the pipe, each chunk has its length before it, in four bytes, least significant first. Length 0 means that the
archive has ended and was checked; the process answers with one line of JSON. At any other end of the pipe it gives up.
It gives no answer either if its machine fails: the disk, its memory, or a decompressor that only our process has. Then
this process unpacks the archive, and its error counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from pytest_pyinstall import errors
from pytest_pyinstall.archive.unpack import unpack_arriving
from pytest_pyinstall.errors import PyinstallError, StoreError
from pytest_pyinstall.system.processes import end_with_us, forget, own_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyinstall.request.identity import Build
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["UnpackProcess", "can_start_processes", "serve"]


_COMPLETE = 0


_PIPE_SIZE = 1 << 20
"""Bytes. A larger pipe lets the download go on while the process writes a large file."""


_STEP = 0.1
"""Seconds between two looks whether the process still runs and is still wanted, while it neither reads nor answers."""


_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""As in `subprocess`: `select` does not take descriptors above 1023, and `epoll` needs one more."""


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
    if sys.getfilesystemencoding() != "utf-8":
        return False  # it would write other names: it can be given no encoding but UTF-8
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1


class UnpackProcess:
    """A process that unpacks `build` into the empty directory `into`. Raises `OSError` if it cannot be started.

    The digests of the files are added to `known`. If the process ends before it has answered, `complete` returns None,
    and what it has written is worthless. While we wait for it, `check` is called again and again; its error ends the
    wait.
    """

    def __init__(self, build: Build, *, into: Path, known: FileDigests, check: Callable[[], None]) -> None:
        self._into = into
        self._known = known
        self._check = check
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
            if sys.platform != "win32":  # there, only sockets can be waited for
                os.set_blocking(self._input.fileno(), False)
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
        while not text.endswith(b"\n") and self._answers() and (chunk := self._output.read(1 << 16)):
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
                written = self._input.write(view)
                if written is None:  # the pipe is full
                    # If it writes before the archive has ended, it is not the process that we wanted.
                    self._can_write = self._wait(self._input, self._output) == {self._input}
                else:
                    view = view[written:]
        except OSError:  # it has ended
            self._can_write = False

    def _answers(self) -> bool:
        """Wait until there is something to read. False if it has ended, and will write nothing more."""
        return self._can_write and (sys.platform == "win32" or bool(self._wait(self._output)))

    def _wait(self, *streams: IO[bytes]) -> set[object]:
        """Wait for one of `streams`. Returns those that can be read or written, none if the process has ended.

        The end of a pipe is not enough: if a plugin has forked meanwhile, the copy of us holds the pipe too.
        """
        with _Selector() as selector:
            for stream in streams:
                selector.register(stream, selectors.EVENT_WRITE if stream is self._input else selectors.EVENT_READ)
            while True:
                has_ended = self._process.poll() is not None
                if ready := selector.select(_STEP):
                    return {key.fileobj for key, _ in ready}
                if has_ended:
                    return set()
                self._check()


def _command() -> list[str]:
    # Without `site`, whose `.pth` files can take longer than the rest of the start.
    flags = ["-I", "-S", "-X", "utf8"]
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, *flags, "-c", _CHILD, *_directories()]


def _directories() -> list[str]:
    """The directories of our package and of the decompressors, of which each is optional.

    Decompressors are taken only from where installers put packages: another directory on our path, such as the working
    directory, can have other packages of the same names.
    """
    ours = str(Path(__file__).parents[2])
    installed = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    return list(dict.fromkeys([ours, *installed]))


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
        except StoreError as error:
            raise SystemExit(1) from error
        except PyinstallError as error:
            answer: dict[str, object] = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        else:
            rows = [(inode, *row) for inode, row in known.items()]
            answer = {"folder": tree.relative_to(into).as_posix(), "known": rows}
        while pipe.read():  # after an error, the download goes on
            pass
    with open(1, "wb", closefd=False) as output:
        output.write(json.dumps(answer).encode() + b"\n")
