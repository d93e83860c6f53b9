"""The run of a suite under one Python: its state in the controller, and the process of its worker."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.options import OPTIONS
from pytest_pyinstall.suite.report import Tally
from pytest_pyinstall.system import processes
from pytest_pyinstall.system.files import write_atomically
from pytest_pyinstall.system.processes import end_with_us, forget, own_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from pytest_pyinstall.request.identity import Key
    from pytest_pyinstall.session import SessionPython
    from pytest_pyinstall.suite.environment import SuiteEnvironment
    from pytest_pyinstall.suite.variants import Variant
    from pytest_pyinstall.suite.words import WorkerWords

__all__ = [
    "NOT_SELECTED",
    "InterpreterRun",
    "WorkerSession",
    "is_locale_coerced",
    "named",
    "plugin_source",
    "prepare_plugin",
]

NOT_SELECTED = "not selected"
"""The note of a Python that none of the node ids on the command line names."""


def named(nodeid: str, label: str) -> str:
    """The node id in the controller of the worker's test `nodeid`."""
    return f"{nodeid}[{label}]"


class InterpreterRun:
    """The state of one Python, with one variant, in the controller. The replayer updates it.

    `before_cut` is the number of collected tests before those of other shards were deselected.
    """

    def __init__(
        self, *, label: str, choice: SessionPython, words: WorkerWords | None = None, variant: Variant | None = None
    ) -> None:
        self.label = label
        self.choice = choice
        self.words = words
        self.variant = variant
        interpreter = choice.interpreter
        request = choice.requests[0]
        name = str(interpreter.key.display_name) if interpreter else request if request[:1].isdigit() else ""
        self.tally = Tally(label=label, python=f"{name} {variant.name}" if variant else name)
        self.preparing: Future[SuiteEnvironment] | None = None
        self.environment: SuiteEnvironment | None = None
        self.worker: WorkerSession | None = None
        self.is_over = False
        self.items: list[tuple[str, tuple[str, int | None, str]]] = []
        self.collected: int | None = None
        self.before_cut = 0
        self.running: dict[str, float] = {}  # the time at which each test began
        self.stopped_in: dict[str, float] = {}  # the seconds that each had run when the session was stopped
        self.failures = 0
        self.has_started = False
        self.has_collect_error = False
        self.error = ""  # why there is no result of a whole session
        self.internal_error = ""
        self.interrupted = ""  # the exception: of Ctrl-C, of `pytest.exit`, or of errors during collection
        self.stopping = ""
        self.incomplete = ""  # why pytest has not run its tests, whatever its exit code
        self.exit_code: int | None = None
        self.coverage: list[Any] | None = None
        self.failed_ids: list[str] = []
        self.nodeids: set[str] = set()
        self.known: list[str] = []  # the tests in the files that the arguments name, if one was not found
        self.reported: set[str] = set()
        self.unforeseen: set[str] = set()
        self.heading: list[str] = []
        self.summaries: list[str] = []
        self.files: list[str] = []

    @property
    def version(self) -> str:
        """The version that the worker must report; empty if there is no interpreter."""
        interpreter = self.choice.interpreter
        return ".".join(map(str, interpreter.version_info[:3])) if interpreter else ""

    def end_by(self, how: str, text: str) -> None:
        """Record what ends the session: an interrupt, an internal error, a loop without tests, or ``-x`` and others."""
        if how == "interrupted":
            self.interrupted = text.removeprefix("_pytest.outcomes.")
            self.note_running_tests()
        elif how == "incomplete":
            self.incomplete = text
        elif how == "internal":
            self.internal_error = text
        else:
            self.stopping = text

    def note_running_tests(self) -> None:
        """Keep the running tests, each with its seconds so far, because the session is stopped now."""
        now = time.monotonic()
        self.stopped_in = {nodeid: now - start for nodeid, start in self.running.items()}

    @property
    def unfinished(self) -> set[str]:
        """The ids of the selected tests that have not run to their end."""
        return self.nodeids - (self.reported - self.running.keys())

    @property
    def file_name(self) -> str:
        """The label without characters that file names cannot contain."""
        return re.sub(r"[^\w.+-]", "_", self.label)


_MAIN = b"""\
import sys

if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the directory of this file
sys.path.append(sys.argv[1])  # last, and that directory contains nothing else
if len(sys.argv) > 3:
    import _pyinstall_guard

    pipe = _pyinstall_guard.fork(int(sys.argv[3]), int(sys.argv[4]))
import _pyinstall_inner

if len(sys.argv) > 3:
    _pyinstall_guard.wait(pipe)
    del sys.modules["_pyinstall_guard"], _pyinstall_guard, pipe
_pyinstall_inner.main(sys.argv[2])
"""
"""The script that starts a worker. It is a file and not ``-c``, because tests may look at the file of `__main__`."""


_GUARD = Path(processes.__file__).with_name("_guard.py")
_NOT_INHERITED = {"PYTHONPATH", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_PYINSTALL_PYTHON"}
"""Variables of the controller that a worker must not see."""


_TAIL = 40


_GUARD_TIMEOUT = 3.0
"""Seconds that a guard has to kill all processes."""


_PYTEST_LINES = re.compile(
    r"=+ test session starts =+$|platform \S+ -- Python |cachedir: |rootdir: |configfile: |plugins: |collect(?:ed|ing) "
    r"|  File \"(?:.*[/\\](?:_pytest|pluggy)[/\\].*|.*_pyinstall_inner\.py|.*[/\\][0-9a-f]{16}-main\.py)\", line \d+ "
    r"in "
)


def prepare_plugin(environment: Path, *, otherwise: Path) -> Path:
    """Write the modules of a worker into `environment`. Returns their directory, which else has only their byte code.

    The directory stays, so that Python compiles them once. It is below `otherwise` if `environment` cannot be written
    to. Safe in several processes at once. Raises `EnvironmentCreationError`.
    """
    sources = {"_pyinstall_inner.py": plugin_source(), "_pyinstall_guard.py": _GUARD.read_bytes()}
    digest = hashlib.sha256(b"".join(sources.values())).hexdigest()[:16]
    for place in (environment / "pytest-pyinstall" / digest, otherwise / "inner" / environment.name):
        are_written = all(_ensure_content(place / name, source) for name, source in sources.items())
        if are_written and _ensure_content(main_of(place), _MAIN):
            return place
    raise EnvironmentCreationError(f"{otherwise} cannot be written to")


def plugin_source() -> bytes:
    """The source of the worker's plugin, followed by the names in the table of options."""
    options = tuple(option.option for option in OPTIONS if option.option and option.kind not in {"requests", "flag"})
    inis = tuple(option.ini for option in OPTIONS if option.ini)
    source = Path(__file__).with_name("_worker_plugin.py").read_bytes()
    return source + f"\n\n_OPTIONS = {options!r}\n_INIS = {inis!r}\n".encode()


def main_of(plugin: Path) -> Path:
    """The path of the script that starts a worker with the plugin in the directory `plugin`."""
    return plugin.with_name(f"{plugin.name}-main.py")


def _ensure_content(path: Path, content: bytes) -> bool:
    """Write `content` to `path` if it is not there yet. Returns whether it is there now."""
    # The content is compared, because a power cut can leave a file that is empty or cut off.
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError:
        return False
    return True


class WorkerSession:
    """The process of a worker, and the events that it writes.

    `directory` is for its files: the events, its output, its arguments. With `is_interactive` it uses our terminal.
    Killing it also kills the processes that its tests started. On Linux its guard does that (`system/_guard.py`), and
    elsewhere the worker leads a process group of its own.
    """

    def __init__(self, *, directory: Path, is_interactive: bool = False) -> None:
        self.directory = directory
        self.started = 0.0
        self.seconds = 0.0
        self._is_interactive = is_interactive
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: _Guard | None = None
        self._code: int | None = None
        self._is_watched = False
        self._events: int | None = None
        self._rest = b""

    def start(
        self,
        python: Path,
        document: Mapping[str, Any],
        *,
        plugin: Path,
        key: Key,
        working_directory: Path,
        environ: Mapping[str, str],
    ) -> None:
        """Start `python` with the `plugin` and the arguments in `document`. Raises `EnvironmentCreationError`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        stream = self.directory / "events"
        stream.touch()
        self._events = os.open(stream, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        document = {"stream": str(stream), "script": str(python.parent / "pytest"), **document}
        (self.directory / "arguments.json").write_text(json.dumps(document), encoding="ascii")
        command = [str(python), str(main_of(plugin)), str(plugin), str(self.directory / "arguments.json")]
        self.started = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                how: dict[str, Any] = {}
                if not self._is_interactive:
                    log = stack.enter_context(self._log.open("wb"))
                    how = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **own_group()}
                if sys.platform == "linux":
                    self._guard, theirs = _Guard.open(stack)
                    command += map(str, theirs)
                    how["pass_fds"] = theirs
                variables = _variables(environ, key, python.parent)
                self._process = subprocess.Popen(command, cwd=working_directory, env=variables, **how)
            end_with_us(self._process, group=not self._is_interactive)
            self._is_watched = True
        except OSError as error:
            if self._guard is not None:
                self._guard.close()
            raise EnvironmentCreationError(f"{python} cannot be started: {error.strerror or error}") from error

    def events(self) -> Iterator[list[Any]]:
        """The events since the last call. An incomplete line is returned when the rest of it has been written."""
        if self._events is None:
            return
        parts = [self._rest]
        while part := os.read(self._events, 1 << 20):
            parts.append(part)
        if len(parts) == 1:
            return
        *lines, self._rest = b"".join(parts).split(b"\n")
        yield from json.loads(b"[%b]" % b",".join(lines))

    @property
    def exit_code(self) -> int | None:
        """None while the process runs; the negative number of the signal if one ended it."""
        if self._code is None and (code := self._poll()) is not None:
            self._code = code
            self.seconds = time.monotonic() - self.started
        return self._code

    def _poll(self) -> int | None:
        if self._process is None:
            return None
        if self._guard is not None and self._guard.exit_code is not None:
            return self._guard.exit_code
        if (code := self._process.poll()) is None:
            return None
        self._forget()
        if self._guard is None:
            return code
        if self._guard.exit_code is None:  # the guard was killed, and has left the worker alone
            self._guard.kill_worker()
        return code if self._guard.exit_code is None else self._guard.exit_code

    @property
    def ending(self) -> int | None:
        """A descriptor that can be read when the worker has ended. None if there is none, or if that is known."""
        return None if self._guard is None else self._guard.answers

    def interrupt(self) -> None:
        """Send the signal of Ctrl-C."""
        if self.exit_code is not None or self._process is None:
            return
        if self._guard is None or not self._guard.send(b"i"):
            with contextlib.suppress(OSError):
                self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))

    def kill(self) -> None:
        """Kill the process and those that it started, and wait for its end."""
        process = self._process
        if process is None:
            return
        if self._guard is not None and self._guard.send(b"k"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GUARD_TIMEOUT)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32" or self._is_interactive:
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _ = self.exit_code
        self._forget()

    def release(self) -> None:
        """Let the processes that tests started run on, as plain pytest does. Call it after the worker has ended."""
        if self._process is None:
            return
        if self._guard is not None:
            self._guard.send(b"q")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GUARD_TIMEOUT)
        self._forget()

    def _forget(self) -> None:
        if self._is_watched and self._process is not None and self._process.returncode is not None:
            self._is_watched = False
            forget(self._process, group=not self._is_interactive)
            if self._guard is not None:
                self._guard.close()

    def close(self) -> None:
        """Close the file of events. Safe to call twice."""
        if self._events is not None:
            os.close(self._events)
            self._events = None

    def printed(self, start: int, end: int) -> str:
        """A part of its output, from and to a position in bytes; empty if the file is gone."""
        try:
            with self._log.open("rb") as log:
                log.seek(start)
                return log.read(end - start).decode("utf-8", "backslashreplace")
        except OSError:
            return ""

    def tail(self) -> str:
        """The last lines of its output, without pytest's header and frames; empty if the file is gone."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
                text = log.read().decode("utf-8", "backslashreplace")
        except OSError:
            return ""
        text = text[max(0, text.find("Fatal Python error")) :]
        lines = [line for line in text.strip().splitlines() if not _PYTEST_LINES.match(line)]
        return "\n".join(lines[-_TAIL:])

    @property
    def _log(self) -> Path:
        return self.directory / "output.log"


class _Guard:
    """The controller's side of the pipes to the guard of a worker: see `system/_guard.py`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands: int | None = commands
        self.answers: int | None = answers
        self._received = b""

    @classmethod
    def open(cls, stack: contextlib.ExitStack) -> tuple[_Guard, tuple[int, int]]:
        """Make the pipes. Returns this side, and the descriptors for the guard, which `stack` closes here."""
        reading, commands = os.pipe()
        answers, writing = os.pipe()
        for descriptor in (reading, writing):
            stack.callback(os.close, descriptor)
        if sys.platform != "win32":
            os.set_blocking(answers, False)
        return cls(commands, answers), (reading, writing)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the worker; None if the guard has not seen its end."""
        return self._value(b"ended")

    def send(self, command: bytes) -> bool:
        """Send `command`. Returns whether there is a guard that can read it, or a process that will have one."""
        if self._commands is None:
            return False
        try:
            os.write(self._commands, command)
        except OSError:
            return False
        return True

    def kill_worker(self) -> None:
        """Kill a worker whose guard has ended."""
        if sys.platform != "win32" and (worker := self._value(b"worker")) is not None:
            with contextlib.suppress(OSError):
                os.kill(worker, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.killpg(worker, signal.SIGKILL)

    def close(self) -> None:
        self._receive()
        for descriptor in (self._commands, self.answers):
            if descriptor is not None:
                os.close(descriptor)
        self._commands = self.answers = None

    def _value(self, word: bytes) -> int | None:
        self._receive()
        match = re.search(rb"^%b (-?\d+)\n" % word, self._received, re.MULTILINE)
        return int(match[1]) if match else None

    def _receive(self) -> None:
        if self.answers is not None:
            with contextlib.suppress(BlockingIOError):
                self._received += os.read(self.answers, 4096)


def is_locale_coerced(environ: Mapping[str, str]) -> bool:
    """Whether this Python has set ``LC_CTYPE`` in `environ`, its own variables, at its start.

    Without a locale, each Python sets it (PEP 538) and turns its UTF-8 mode on. A worker that inherits the variable
    would have a locale, and so another mode and another encoding than plain pytest.
    """
    is_c = not environ.get("LC_ALL") and environ.get("LANG", "") in {"", "C", "POSIX"}
    if not is_c or environ.get("LC_CTYPE") not in {"C.UTF-8", "C.utf8", "UTF-8"}:
        return False
    with contextlib.suppress(OSError):  # Linux: the variables with which this process was started
        return b"\0LC_CTYPE=" not in b"\0" + Path("/proc/self/environ").read_bytes()
    is_by_default = sys.version_info >= (3, 15) or "PYTHONUTF8" in environ or "utf8" in sys._xoptions  # noqa: SLF001
    return bool(sys.flags.utf8_mode) and not is_by_default


def _variables(environ: Mapping[str, str], key: Key, scripts: Path) -> dict[str, str]:
    not_inherited = {*_NOT_INHERITED, *(["LC_CTYPE"] if is_locale_coerced(environ) else [])}
    variables = {
        name: value
        for name, value in venv.clean_for_tests(environ, key).items()
        if name not in not_inherited and not name.startswith("COV_CORE_")
    }
    variables["VIRTUAL_ENV"] = str(scripts.parent)
    variables["PATH"] = os.pathsep.join(filter(None, [str(scripts), environ.get("PATH", "")]))
    return variables
