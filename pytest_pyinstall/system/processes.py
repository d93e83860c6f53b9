"""Runs a program to its end, and says how it ended.

Runs a tool that makes or fills an environment, and turns its failure into an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import EnvironmentCreationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = ["execute", "run", "run_into", "run_tool", "signal_name", "tail"]


def run(
    command: Sequence[str],
    *,
    input: str | None,  # noqa: A002  # as subprocess.run calls it
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """The exit code of `command` and what it wrote, as `Interpreter.run` says."""
    __tracebackhide__ = True
    return subprocess.run(
        command,
        input="" if input is None else input,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=dict(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def run_into(
    directory: Path,
    command: Sequence[str],
    *,
    input: str,  # noqa: A002  # as above
    env: Mapping[str, str],
) -> subprocess.CompletedProcess[str]:
    """The same by way of files in `directory`: what `command` leaves running cannot keep us waiting, as with pipes."""
    __tracebackhide__ = True
    output, errors = directory / "stdout", directory / "stderr"
    with output.open("ab") as out, errors.open("ab") as err:
        done = subprocess.run(
            command, input=input, stdout=out, stderr=err, encoding="utf-8", env=dict(env), check=False
        )
    done.stdout, done.stderr = (path.read_text("utf-8", "backslashreplace") for path in (output, errors))
    return done


def tail(text: str, most: int = 4000) -> str:
    """The end of `text`, which is where programs say what went wrong."""
    text = text.rstrip()
    return text if len(text) <= most else f"…{text[-most:]}"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9, also for a number that has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run_tool(command: Sequence[str], *, environ: Mapping[str, str], what: str) -> None:
    """Run `command` to its end.

    Raises `EnvironmentCreationError`, which says `what` could not be done, with the end of what it wrote.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env=dict(environ),
            check=False,
        )
    except OSError as error:
        msg = f"{what}: {command[0]} cannot be started: {error.strerror or error}"
        raise EnvironmentCreationError(msg, hint=f"ls -l {shlex.quote(command[0])}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-20:])
        msg = f"{what}, exit code {done.returncode}\n{tail}".rstrip()
        raise EnvironmentCreationError(_without_secrets(msg), hint=_without_secrets(shlex.join(command)))


def _without_secrets(text: str) -> str:
    """URLs of indexes and of requirements may carry a password or a token."""
    return re.sub(r"(?<=://)[^/@\s]+@", "****@", text)


CANNOT_RUN, NOT_FOUND = 126, 127
"""The exit codes of a shell for a command that cannot be run, and for one that is not there."""


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


class _Receivers(list["subprocess.Popen[bytes]"]):
    """The command, as soon as it runs, and the signals that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[int] = []

    def append(self, process: subprocess.Popen[bytes]) -> None:
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
