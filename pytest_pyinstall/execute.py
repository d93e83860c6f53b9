"""Runs a command with Pythons on its ``PATH``, and is as good as absent while it does."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.interpreter import Interpreter
from pytest_pyinstall.path_directory import links, temporary

__all__ = ["execute", "on_path"]

CANNOT_RUN, NOT_FOUND = 126, 127
"""The exit codes of a shell for a command that cannot be run, and for one that is not there."""


@contextlib.contextmanager
def on_path(
    interpreters: Iterable[Interpreter], *, environ: Mapping[str, str], cache: Path
) -> Iterator[dict[str, str]]:
    """`environ` with a new directory in front of ``PATH`` that has a command for each of `interpreters`.

    The directory lies in the system's temporary directory, or below `cache` where nothing can be started from that,
    and is gone afterwards. Raises `StoreError`.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(temporary(_place(cache)))
        except OSError as error:
            message = f"cannot make a temporary directory: {error.filename or ''}: {error.strerror or error}"
            raise StoreError(message, hint="another one: TMPDIR=DIR") from error
        links(interpreters, directory)
        yield {**environ, "PATH": os.pathsep.join([str(directory), environ.get("PATH") or os.defpath])}


def execute(command: Sequence[str], *, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run `command`, and return its exit code as a shell would say it, with what kept it from starting.

    128 plus the number for a signal that ended it, 127 where it is not found, 126 where it cannot be run. It has our
    standard streams, and our signals: SIGTERM and SIGHUP are passed on, SIGINT too unless a terminal has sent it to
    both of us. It is waited for in every case.
    """
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    with _passing_signals_on() as receivers:
        try:
            process = subprocess.Popen([program, *command[1:]], env=dict(environ))
        except FileNotFoundError:
            return NOT_FOUND, f"{command[0]}: command not found"
        except OSError as error:
            return CANNOT_RUN, f"{command[0]}: {error.strerror or error}"
        except ValueError as error:  # a NUL character
            return CANNOT_RUN, f"{command[0]!r}: {error}"
        receivers.append(process)
        with process:
            code = process.wait()
    return (128 - code if code < 0 else code), ""


def _place(cache: Path) -> Path:
    """A directory that files can be started from, which hardened machines do not allow in /tmp."""
    system = Path(tempfile.gettempdir())
    if sys.platform != "win32" and os.statvfs(system).f_flag & getattr(os, "ST_NOEXEC", 8):
        cache.mkdir(parents=True, exist_ok=True)
        return cache
    return system


class _Receivers(list["subprocess.Popen[bytes]"]):
    """The command, as soon as it runs, and the signals that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[int] = []

    def append(self, process: "subprocess.Popen[bytes]") -> None:
        super().append(process)
        for number in self.early:
            process.send_signal(number)


@contextlib.contextmanager
def _passing_signals_on() -> Iterator[_Receivers]:
    receivers = _Receivers()

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and _is_of_terminal():
            return  # a Ctrl-C, which the terminal has sent to the command as well
        for process in receivers:
            process.send_signal(number)
        if not receivers:
            receivers.early.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield receivers  # Python sets handlers in the main thread only
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    # Functions, never SIG_IGN: that the command would inherit.
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield receivers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_of_terminal() -> bool:
    if sys.platform == "win32":
        return True  # the console sends Ctrl-C to all of its processes
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
