"""Runs programs, reports how they ended, and ends them with this process.

A process given to `end_with_us` is killed when this process ends, whether it returns, crashes or is killed with
SIGKILL. The parent-death signal of Linux is not enough: it reaches only the direct child, and it is sent when the
*thread* that started the child ends. So a small shell reads a pipe, which the kernel closes when this process ends, and
then kills what is left: groups with SIGTERM, which a guard of a suite's worker needs to end what it guards, and with
SIGKILL a second later; single processes at once. On Linux their descendants are killed too, also those that have left
the group. On Windows a job object does the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import EnvironmentCreationError, StoreError
from pytest_pyinstall.system.urls import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = [
    "end_with_us",
    "ending_of",
    "execute",
    "forget",
    "kill",
    "memory_hint",
    "own_group",
    "run",
    "run_into",
    "run_tool",
    "signal_name",
    "tail",
    "thread_limit",
]


__tracebackhide__ = True  # a failed test shows its own line, and the message; all with --full-trace


def run(
    command: Sequence[str],
    *,
    input: str | None,  # noqa: A002  # as subprocess.run calls it
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command`; its exit code and output, as `Interpreter.run` describes them."""
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            env=dict(env),
            cwd=cwd,
        ) as process:
            output, errors = _communicated(process, input or "", timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        if isinstance(error, subprocess.TimeoutExpired):
            for name, printed in (("standard output", error.stdout), ("standard error", error.stderr)):
                if printed:  # bytes, although the streams are text, but for Windows
                    text = printed if isinstance(printed, str) else printed.decode("utf-8", "backslashreplace")
                    error.add_note(f"--- {name} ---\n{tail(text)}")
        raise error.with_traceback(None) from None  # without the frames of `subprocess`
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_into(
    directory: Path,
    command: Sequence[str],
    *,
    input: str,  # noqa: A002  # as above
    env: Mapping[str, str],
) -> subprocess.CompletedProcess[str]:
    """As `run`, but with output in files in `directory`.

    With pipes, a process that `command` leaves running would keep us waiting.
    """
    output, errors = directory / "stdout", directory / "stderr"
    with (
        output.open("ab") as out,
        errors.open("ab") as err,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=err, encoding="utf-8", env=dict(env)
        ) as process,
    ):
        _communicated(process, input, None)
    texts = (path.read_text("utf-8", "backslashreplace") for path in (output, errors))
    return subprocess.CompletedProcess(process.args, process.returncode, *texts)


def _communicated(process: subprocess.Popen[str], text: str, timeout: float | None) -> tuple[str, str]:
    """As `subprocess.run`, and the process and its descendants end with us. It stays in our group, with our terminal.

    After an error, and after `timeout`, they are killed too. What it leaves running when it ends is not ours.
    """
    if sys.platform != "win32":  # there is no `forget` there: what it leaves running would end with us
        end_with_us(process, group=False)
    try:
        return process.communicate(text, timeout)
    except BaseException as error:
        _kill_tree(process)
        if sys.platform == "win32" and isinstance(error, subprocess.TimeoutExpired):
            raise subprocess.TimeoutExpired(error.cmd, error.timeout, *process.communicate()) from None
        raise
    finally:
        forget(process, group=False)


def _kill_tree(process: subprocess.Popen[Any]) -> None:
    """Kill `process`, which has no group of its own, and on Linux what it has started."""
    if process.poll() is not None:
        return
    if sys.platform != "win32":
        for pid in _descendants(process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _descendants(pid: int) -> list[int]:
    """The processes below `pid`, each after those below it; they are stopped, so that they start no more.

    Only Linux can list them. Source: proc_tid_children(5).
    """
    found: list[int] = []
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # names are enough
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    children = file.read()
                for child in map(int, children.split()):
                    found += [*_descendants(child), child]
    return found


@contextlib.contextmanager
def thread_limit() -> Iterator[None]:
    """Raise `StoreError` if the block cannot start a thread, because the limit of processes counts threads too."""
    try:
        yield
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        msg = "cannot start another thread: the limit of processes, or the memory, is exhausted"
        raise StoreError(msg, hint=memory_hint() or "ulimit -u 4096") from error


def memory_hint() -> str:
    """The command that removes the limit of this process's memory. Empty if it has none."""
    if sys.platform != "win32":
        import resource

        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            return "ulimit -v unlimited"
    return ""


def tail(text: str, most: int = 4000) -> str:
    """The end of `text`, where programs usually write what went wrong."""
    text = text.rstrip()
    return text if len(text) <= most else f"…{text[-most:]}"


def ending_of(code: int) -> str:
    """How a process has ended: ``ended with exit code 3``, or ``was ended by SIGKILL`` for -9."""
    return f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"


def signal_name(number: int) -> str:
    """The name of a signal, such as ``SIGKILL`` for 9, or its number if it has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run_tool(
    command: Sequence[str], *, environ: Mapping[str, str], what: str, cwd: str | os.PathLike[str] | None = None
) -> None:
    """Run `command` to its end. Nothing that it starts outlives this process.

    Raises `EnvironmentCreationError` with `what`, a sentence about what failed, and the end of the output.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env=dict(environ),
            cwd=cwd,
            **own_group(),
        )
    except OSError as error:
        msg = f"{what}: {command[0]} cannot be started: {error.strerror or error}"
        raise EnvironmentCreationError(msg, hint=f"ls -l {shlex.quote(command[0])}") from error
    with process:
        end_with_us(process, group=True)
        try:
            output, _ = process.communicate()
        except BaseException:
            kill(process)
            raise
        finally:
            forget(process, group=True)
    if process.returncode:
        tail = "\n".join(output.strip().splitlines()[-20:])
        msg = f"{what}, exit code {process.returncode}\n{tail}".rstrip()
        failure = EnvironmentCreationError(redact_text(msg), hint=redact_text(shlex.join(command)))
        failure.output = redact_text(output)
        raise failure


def own_group() -> dict[str, Any]:
    """Arguments for `subprocess.Popen` that give the process its own group, which `kill` needs."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill `process`, which has its own group, and everything in that group, now; on Linux all that it has started."""
    # It was not waited for yet, so no other process can have its number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(process.pid)],  # noqa: S607  # found in Windows' own directory
                capture_output=True,
                check=False,
            )
        elif process.returncode is None:
            for pid in _descendants(process.pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def end_with_us(process: subprocess.Popen[Any], *, group: bool) -> None:
    """Kill `process` when this process ends, however it ends; with `group`, everything in its process group.

    On Linux, what `process` has started is killed too.
    """
    if sys.platform == "win32":
        _put_into_job(process)
    else:
        _watchdog.send(f"+ {-process.pid if group else process.pid}\n")


def forget(process: subprocess.Popen[Any], *, group: bool) -> None:
    """Undo `end_with_us` after the process was waited for, because another process may get its number."""
    if sys.platform != "win32":
        _watchdog.send(f"- {-process.pid if group else process.pid}\n")


_WATCHDOG = """\
ids=' '
while read -r what id; do
    case $what in
        +) ids="$ids$id " ;;
        -) case $ids in *" $id "*) ids="${ids%%" $id "*} ${ids#*" $id "}" ;; esac ;;
    esac
done
[ "$ids" = ' ' ] && exit
end() {
    kill -s STOP -- "$1"
    for file in /proc/"$1"/task/*/children; do
        children=
        read -r children < "$file"
        for child in $children; do end "$child"; done
    done
    kill -s KILL -- "$1"
}
begun() {
    line= begun=
    read -r line < /proc/"$1"/stat
    set -- ${line##*) }
    begun=${20}
}
list() {
    for file in /proc/"$1"/task/*/children; do
        children=
        read -r children < "$file"
        for child in $children; do
            begun "$child"
            below="$below $child:$begun"
            list "$child"
        done
    done
}
groups= below=
for id in $ids; do
    case $id in
        -*) groups="$groups $id"; list "${id#-}"; kill -s TERM -- "$id" ;;
        *) end "$id" ;;
    esac
done
[ -z "$groups" ] && exit
sleep 1
for id in $groups; do kill -s KILL -- "$id"; done
for each in $below; do
    begun "${each%:*}"
    [ "$begun" = "${each#*:}" ] && [ -n "$begun" ] && kill -s KILL -- "${each%:*}"
done
"""
"""A negative id is that of a process group. Linux lists what a process has started (proc_tid_children(5)). A single
process is stopped first, so that it starts no more. What has left a group (`setsid`) is noted with its start time, the
22nd field of proc_pid_stat(5), because a second later another process may have its number."""


class _Watchdog:
    """The shell, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None

    def send(self, line: str) -> None:
        # Without a shell, nothing kills the children.
        with self._lock, contextlib.suppress(OSError):
            if self._pipe is None:
                self._pipe = self._start()
            try:
                os.write(self._pipe, line.encode())
            except BrokenPipeError:  # the shell was killed
                os.close(self._pipe)
                self._pipe = None
                self._pipe = self._start()
                os.write(self._pipe, line.encode())

    def abandon(self) -> None:
        """In a forked child: the pipe belongs to the parent, and must be closed when the parent ends."""
        self._lock = threading.Lock()
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            self._pipe = None

    @staticmethod
    def _start() -> int:
        reading, writing = os.pipe()
        try:
            shell = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHDOG],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,  # Ctrl-C must not reach it
            )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        shell.returncode = 0  # it ends after us, so Python should not warn that it was not waited for
        return writing


_watchdog = _Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watchdog.abandon)


_KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMITS = 9


if sys.platform == "win32":  # pragma: no cover

    @functools.cache
    def _job() -> int:
        """A job object. When this process ends, its last handle is closed, and everything in it ends."""
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        job = kernel.CreateJobObjectW(None, None)
        # JOBOBJECT_EXTENDED_LIMIT_INFORMATION: LimitFlags is behind two 64-bit integers.
        size = 144 if ctypes.sizeof(ctypes.c_void_p) == 8 else 112
        limits = ctypes.create_string_buffer(size)
        ctypes.c_uint32.from_buffer(limits, 16).value = _KILL_ON_JOB_CLOSE
        kernel.SetInformationJobObject(ctypes.c_void_p(job), _EXTENDED_LIMITS, limits, size)
        return int(job or 0)

    def _put_into_job(process: subprocess.Popen[Any]) -> None:
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            handle = int(process._handle)  # type: ignore[attr-defined]  # noqa: SLF001  # there is no public one
            kernel.AssignProcessToJobObject(ctypes.c_void_p(_job()), ctypes.c_void_p(handle))


CANNOT_RUN, NOT_FOUND = 126, 127
"""The exit codes of a shell for a command that cannot be run, and for one that does not exist."""


def execute(command: Sequence[str], *, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run `command`, and return its exit code as a shell reports it, and the error that kept it from starting.

    The code is 128 plus the number of the signal that ended it, 127 if it is not found, and 126 if it cannot be run. It
    has the standard streams of this process. SIGTERM and SIGHUP are passed on to it, and SIGINT too, unless a terminal
    sent it to both processes. Always waits for it.
    """
    import shutil

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
            # It shares our group, so that it can use the terminal.
            end_with_us(process, group=False)
            try:
                code = process.wait()
            finally:
                forget(process, group=False)
    return (128 - code if code < 0 else code), ""


class _Receivers(list["subprocess.Popen[bytes]"]):
    """The command, once it runs, and the signals that arrived before."""

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
    # Functions, not SIG_IGN, which the command would inherit.
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
