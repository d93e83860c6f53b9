"""Probes an executable by running `_probe_script.py` in it."""

import errno
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from pytest_pyinstall.errors import ProbeError, StoreError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.request.identity import Key, Target, normalized_number
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.processes import end_with_us, ending_of, forget, kill, thread_limit
from pytest_pyinstall.system.values import replace

__all__ = ["clean_environment", "probe"]


_LOGGER = StepLogger(__name__)


_START, _END = "<pytest-pyinstall-probe>", "</pytest-pyinstall-probe>"


_MOST_OUTPUT = 64 * 1024


_OLDEST = (3, 6)


_EXHAUSTED = {
    errno.EAGAIN: "raise the limit of processes: ulimit -u 4096",
    errno.EMFILE: "raise the limit for open files: ulimit -n 4096",
    errno.ENFILE: "the whole machine has too many files open; try again",
    errno.ENOMEM: "end other programs, or raise the limit of memory: ulimit -v unlimited",
}


_STAGES = {"alpha": "a", "beta": "b", "candidate": "rc"}


_KEPT = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TEMP", "TMP"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
    }
)


def probe(
    executable: Path,
    *,
    source: str = "path",
    environ: Mapping[str, str],
    timeout: float = 15.0,
    expected: Key | None = None,
    stop: threading.Event | None = None,
    write_byte_code: bool = False,
) -> Interpreter:
    """Run `executable` once, and return the interpreter that it describes, with this path made absolute.

    It runs with ``-I -B``, without standard input, in the root directory. Of `environ` it gets only `PATH`, the locale,
    the home and temporary directories and what Windows itself needs, so nothing redirects it or its loader. Nothing is
    written, unless `write_byte_code` is set: then it saves the byte code of the modules that its start imports, in
    directories that only their owner can change. After `timeout` seconds, or soon after another thread sets `stop`, its
    whole process group is killed.

    With `expected`, the interpreter must have that key's implementation, version and variant, and its target as far as
    an interpreter knows it. The result then has exactly this key.

    Raises `ProbeError` if the executable is missing, cannot be executed, hangs, fails, prints something else, is older
    than Python 3.6, or is not the `expected` one. Thread-safe.
    """
    executable = executable.absolute()
    document = _ask(executable, environ, timeout, stop, write_byte_code)
    interpreter = _understood(document, executable, source)
    if expected is not None:
        interpreter = _compared(interpreter, expected)
    _LOGGER.debug("%s was probed, and is %s", executable, interpreter.key)
    return interpreter


def _ask(
    executable: Path, environ: Mapping[str, str], timeout: float, stop: threading.Event | None, write_byte_code: bool
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    flags = ["-I"] if write_byte_code else ["-I", "-B"]
    returncode, output = _run(executable, flags, environ, deadline, timeout, stop)
    if returncode == 2 and b"Unknown option: -I" in output:  # Python 2: the error names its version
        returncode, output = _run(executable, ["-E", "-s", "-B"], environ, deadline, timeout, stop)
    if returncode != 0:
        msg = f"{executable} is broken: it {ending_of(returncode)}{_tail(output)}"
        raise ProbeError(msg, hint=_by_hand(executable))
    text = output.decode("utf-8", "replace")
    _, started, rest = text.rpartition(_START)
    document, ended, _ = rest.partition(_END)
    try:
        found = parse_json(document) if started and ended else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        msg = f"{executable} does not behave like a Python{_tail(output)}"
        raise ProbeError(msg, hint=_by_hand(executable))
    return found


def _run(
    executable: Path,
    flags: list[str],
    environ: Mapping[str, str],
    deadline: float,
    timeout: float,
    stop: threading.Event | None,
) -> tuple[int, bytes]:
    """The exit code and the first 64 KiB of both output streams."""
    # The script's text and not its path, which the interpreter may have no permission to read.
    process = _start([os.fspath(executable), *flags, "-c", _script(), _START, _END], executable, environ, deadline)
    output = bytearray()
    stream = cast("IO[bytes]", process.stdout)
    # A thread, because Windows cannot wait for a pipe with a time limit. Only the thread closes the pipe. If a process
    # that left the process group holds the other end, closing it here could close a descriptor that was reused.
    reader = threading.Thread(target=_collect, args=(stream, output), daemon=True)
    end_with_us(process, group=True)
    try:
        with thread_limit():
            reader.start()
        while reader.is_alive() and (left := deadline - time.monotonic()) > 0 and not (stop and stop.is_set()):
            reader.join(min(left, 0.05) if stop else left)
        if reader.is_alive():
            msg = f"{executable} did not answer within {timeout:g} seconds{_tail(bytes(output))}"
            raise ProbeError(msg, hint=_by_hand(executable))
        if len(output) > _MOST_OUTPUT:
            msg = f"{executable} does not behave like a Python: it prints without end{_tail(bytes(output))}"
            raise ProbeError(msg, hint=_by_hand(executable))
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            msg = f"{executable} did not end within {timeout:g} seconds{_tail(bytes(output))}"
            raise ProbeError(msg, hint=_by_hand(executable)) from error
    except BaseException:  # also after an interrupt, nothing may keep running
        kill(process)
        if reader.ident is not None:  # otherwise the interrupt came before it started
            reader.join(1.0)
        raise
    finally:
        forget(process, group=True)
    return process.returncode, bytes(output)


def _start(
    command: list[str], executable: Path, environ: Mapping[str, str], deadline: float
) -> subprocess.Popen[bytes]:
    windows = sys.platform == "win32"
    while True:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=executable.anchor,
                env=clean_environment(environ),
                umask=-1 if windows else 0o022,
                start_new_session=not windows,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            # Another thread forked while this file, just unpacked, was still open for writing. It will exec soon.
            if error.errno == errno.ETXTBSY and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            if error.filename == os.devnull:  # these two say nothing about the executable
                msg = f"cannot start {executable}: {os.devnull}: {error.strerror}"
                raise StoreError(msg, hint="a /dev for this chroot: mount --rbind /dev DIR/dev") from error
            if error.errno in _EXHAUSTED:
                msg = f"cannot start {executable}: {error.strerror}"
                raise StoreError(msg, hint=_EXHAUSTED[error.errno]) from error
            raise _unstartable(executable, error) from error
        except ValueError as error:  # a NUL in the path
            msg = f"{str(executable)!r} is not a path: {error}"
            raise ProbeError(msg) from error


@cache
def _script() -> str:
    # Like `pkgutil.get_data`, which is slower to import than the file is to read. It works in a zip file too.
    loader: Any = sys.modules[__name__].__spec__.loader  # type: ignore[union-attr]
    return cast("bytes", loader.get_data(str(Path(__file__).with_name("_probe_script.py")))).decode()


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What `environ` may tell an interpreter that is probed: nothing that redirects a Python or its loader."""
    return {name: value for name, value in environ.items() if name.upper() in _KEPT or name.upper().startswith("LC_")}


def _collect(stream: IO[bytes], output: bytearray) -> None:
    end = _END.encode()
    with stream:
        # Not until the end of the file: a background process that it started may keep the pipe open.
        while end not in output and len(output) <= _MOST_OUTPUT and (chunk := stream.read(16 * 1024)):
            output += chunk


def _unstartable(executable: Path, error: OSError) -> ProbeError:  # noqa: PLR0911  # one for each cause
    where = shlex.quote(str(executable))
    if error.errno == errno.ENOENT and not os.path.lexists(executable):
        nearest = next((parent for parent in executable.parents if parent.is_dir()), executable.parent)
        return ProbeError(f"there is no {executable}", hint=f"ls -l {shlex.quote(str(nearest))}")
    if executable.is_dir():  # if it were a prefix, its executable would have been found before
        inside = "python.exe" if os.name == "nt" else "bin/python3"
        return ProbeError(f"{executable} is a directory without {inside}", hint=f"ls {where}")
    if executable.is_symlink() and not executable.exists():
        return ProbeError(f"{executable} is a link to {executable.readlink()}, which is missing", hint=f"ls -l {where}")
    if error.errno == errno.ENOENT:
        msg = f"{executable} cannot start: the loader or interpreter that it needs is not on this machine"
        return ProbeError(f"{msg} (built for another libc?)", hint=f"file {where}")
    if error.errno == errno.EACCES:
        # The hint must not make a file executable that is no Python.
        is_python = executable.name.lower().startswith(("python", "pypy", "graalpy"))
        hint = f"chmod +x {where}" if is_python else "/usr/bin/python3"
        return ProbeError(f"{executable} is not executable ({error.strerror})", hint=hint)
    if executable.is_file() and not executable.stat().st_size:
        return ProbeError(f"{executable} is empty: {error.strerror}", hint=f"ls -l {where}")
    if error.errno in {errno.ENOEXEC, getattr(errno, "EBADARCH", -1)}:
        msg = f"{executable} cannot run on this machine, or is not a program: {error.strerror}"
        return ProbeError(msg, hint=f"file {where}")
    return ProbeError(f"{executable} cannot be started: {error.strerror or error}", hint=f"ls -l {where}")


def _tail(output: bytes, most: int = 160) -> str:
    """The last line of its output, as the end of a message, without lines that only repeat our own script."""
    text = output[-16 * 1024 :].decode("utf-8", "replace").strip()
    unreadable = sum((not char.isprintable() and not char.isspace()) or char == "\ufffd" for char in text)
    if "\0" in text or unreadable * 4 > len(text):
        return f"; its output: {len(output)} bytes that are not text"
    own = {line.strip() for line in (*_script().splitlines(), _START, _END)} - {""}
    telling = [line for line in own if len(line) > 10]
    for line in map(str.strip, reversed(text.splitlines())):
        if line and line not in own and not any(part in line for part in telling):
            shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
            return f"; its output: {shown if len(shown) <= most else shown[: most - 1] + '…'}"
    return ""


def _by_hand(executable: Path) -> str:
    return f"{shlex.quote(str(executable))} -I -B -c 'import sys; print(sys.version)'"


def _understood(document: Mapping[str, Any], executable: Path, source: str) -> Interpreter:
    try:
        major, minor, micro, stage, serial = document["version_info"]
        version_info = (int(major), int(minor), int(micro), str(stage), int(serial))
        short = f"{major}.{minor}.{micro}"
        pre = "" if stage == "final" else f"{_STAGES[stage]}{serial}"
        if version_info[:2] < _OLDEST:
            msg = f"{executable} is Python {short}{pre}; Python {'.'.join(map(str, _OLDEST))} or newer is needed"
            raise ProbeError(msg, hint="pytest-pyinstall list")
        variant = "+".join(name for name, on in _variants(document) if on)
        target = Target.of(
            system=document["system"], machine=document["machine"], bits=document["bits"], musl=document["musl"]
        )
        return Interpreter(
            executable=executable,
            key=Key(
                implementation=document["implementation"],
                number=normalized_number(short + pre),
                variant=variant,
                target=target,
            ),
            version_info=version_info,
            prefix=Path(document["prefix"]),
            base_prefix=Path(document["base_prefix"]),
            base_executable=Path(document["base_executable"]),
            source=source,
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{executable} does not behave like a Python: {error!r} in {dict(document)!r:.150}"
        raise ProbeError(msg, hint=_by_hand(executable)) from error


def _variants(document: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    return (("freethreaded", document["free_threaded"] is True), ("debug", document["debug"] is True))


def _compared(interpreter: Interpreter, expected: Key) -> Interpreter:
    if _comparable(interpreter.key) == _comparable(expected):
        return replace(interpreter, key=expected)
    msg = f"{interpreter.executable} is {interpreter.key}, not {expected}"
    raise ProbeError(msg, hint=f"pytest-pyinstall install --reinstall {expected}")


def _comparable(key: Key) -> tuple[str, str, str, str, str, str]:
    """The parts of a key that an interpreter knows, which exclude the CPU level of its build and the float ABI."""
    variant = "" if key.variant == "gil" else key.variant
    arch = re.sub(r"_v\d$", "", key.target.arch)
    libc = re.sub(r"eabi(hf)?$", "", key.target.libc)
    return (key.implementation, key.number, variant, key.target.os, arch, libc)
