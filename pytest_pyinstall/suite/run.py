"""What the outer session of a suite knows of one Python.

Starts a pytest session in an environment, and follows what it tells.
"""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.suite.report import Tally
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

__all__ = ["InterpreterRun", "WorkerSession", "label_of", "named", "prepare_plugin"]


def label_of(choice: SessionPython) -> str:
    """What node ids end in: ``py3.9``, ``py3.13t``, ``pypy3.11``."""
    return choice.id if choice.id.startswith(("py", "graalpy")) else f"py{choice.id}"


def named(nodeid: str, label: str) -> str:
    """The id of a test in the outer session."""
    return f"{nodeid}[{label}]"


@dataclass(slots=True, kw_only=True, eq=False)
class InterpreterRun:
    """One Python of the session."""

    label: str
    choice: SessionPython
    words: WorkerWords | None = None
    variant: Variant | None = None
    tally: Tally = field(init=False)
    preparing: Future[SuiteEnvironment] | None = None
    environment: SuiteEnvironment | None = None
    worker: WorkerSession | None = None
    is_over: bool = False
    items: list[tuple[str, tuple[str, int | None, str]]] = field(default_factory=list)
    collected: int | None = None
    before_cut: int = 0
    """How many tests there were before those of other shards were left out."""
    running: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    has_collect_error: bool = False
    internal_error: str = ""
    stopping: str = ""
    exit_code: int | None = None
    coverage: list[Any] | None = None
    failed_ids: list[str] = field(default_factory=list)
    nodeids: set[str] = field(default_factory=set)
    unforeseen: set[str] = field(default_factory=set)
    heading: list[str] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        interpreter = self.choice.interpreter
        asked = self.choice.asked[0]
        name = str(interpreter.key.display_name) if interpreter else asked if asked[:1].isdigit() else ""
        self.tally = Tally(label=self.label, python=f"{name} {self.variant.name}" if self.variant else name)

    @property
    def version(self) -> str:
        """What it will say that it is; empty if there is no interpreter."""
        interpreter = self.choice.interpreter
        return ".".join(map(str, interpreter.version_info[:3])) if interpreter else ""

    @property
    def file_name(self) -> str:
        """The label as the name of a file."""
        return re.sub(r"[^\w.+-]", "_", self.label)


_MAIN = b"""\
import sys

if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the directory of this file
sys.path.append(sys.argv[1])  # the last, and nothing else is in it
import _pyinstall_inner

_pyinstall_inner.main(sys.argv[2])
"""
"""What is started, because tests that look at `__main__` find a file under plain pytest too."""


_NOT_INHERITED = {"PYTHONPATH", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_PYINSTALL_PYTHON"}
"""Variables that are about the outer session."""


_TAIL = 40


_PYTEST_LINES = re.compile(
    r"=+ test session starts =+$|platform \S+ -- Python |cachedir: |rootdir: |configfile: |plugins: |collect(?:ed|ing) "
    r"|  File \"(?:.*[/\\](?:_pytest|pluggy)[/\\].*|.*_pyinstall_inner\.py|.*[/\\][0-9a-f]{16}-main\.py)\", line \d+ "
    r"in "
)


def prepare_plugin(environment: Path, *, otherwise: Path) -> Path:
    """A directory in `environment` that holds the inner plugin and nothing else but what Python compiles of it.

    It stays, so that it is compiled once. Below `otherwise` where nothing can be written there. Safe concurrently.
    """
    source = Path(__file__).with_name("_worker_plugin.py").read_bytes()
    name = hashlib.sha256(source).hexdigest()[:16]
    for place in (environment / "pytest-pyinstall" / name, otherwise / "inner" / environment.name):
        if _ensure_content(place / "_pyinstall_inner.py", source) and _ensure_content(main_of(place), _MAIN):
            return place
    raise EnvironmentCreationError(f"{otherwise} cannot be written to")


def main_of(plugin: Path) -> Path:
    """The script that starts a worker with the plugin in that directory."""
    return plugin.with_name(f"{plugin.name}-main.py")


def _ensure_content(path: Path, content: bytes) -> bool:
    """Whether that file has that content now."""
    # Compared: a power cut may have left less than the name says.
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
    """A session in the environment at `path`, and the events that it wrote.

    `directory` is for its files alone: the events, what it printed, its arguments. With `is_interactive` it has our
    terminal. It leads a process group of its own otherwise, so that ending it ends what its tests have started.
    """

    def __init__(self, *, directory: Path, is_interactive: bool = False) -> None:
        self.directory = directory
        self.started = 0.0
        self.seconds = 0.0
        self._is_interactive = is_interactive
        self._process: subprocess.Popen[bytes] | None = None
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
        """Start it. Raises `EnvironmentCreationError` if that cannot be done."""
        self.directory.mkdir(parents=True, exist_ok=True)
        stream = self.directory / "events"
        stream.touch()
        self._events = os.open(stream, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        document = {"stream": str(stream), "script": str(python.parent / "pytest"), **document}
        (self.directory / "arguments.json").write_text(json.dumps(document), encoding="ascii")
        command = [str(python), str(main_of(plugin)), str(plugin), str(self.directory / "arguments.json")]
        self.started = time.monotonic()
        try:
            if self._is_interactive:
                self._process = subprocess.Popen(
                    command, cwd=working_directory, env=_variables(environ, key, python.parent)
                )
                return
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=working_directory,
                    env=_variables(environ, key, python.parent),
                    **own_group(),
                )
            end_with_us(self._process, group=True)
        except OSError as error:
            raise EnvironmentCreationError(f"{python} cannot be started: {error.strerror or error}") from error

    def events(self) -> Iterator[list[Any]]:
        """What it has written since the last time. A line that is not whole yet comes later, or never after a crash."""
        if self._events is None:
            return
        parts = [self._rest]
        while part := os.read(self._events, 1 << 20):
            parts.append(part)
        if len(parts) == 1:
            return
        *lines, self._rest = b"".join(parts).split(b"\n")
        for line in lines:
            yield json.loads(line)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        if not self.seconds:
            forget(self._process, group=True)
            self.seconds = time.monotonic() - self.started
        return code

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        if self.exit_code is None and self._process is not None:
            with contextlib.suppress(OSError):
                self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))

    def kill(self) -> None:
        """End it, and what it has started, now."""
        process = self._process
        if process is None:
            return
        try:
            if sys.platform == "win32" or self._is_interactive:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
        _ = self.exit_code

    def close(self) -> None:
        if self._events is not None:
            os.close(self._events)
            self._events = None

    def printed(self, start: int, end: int) -> str:
        """That part of what it printed."""
        try:
            with self._log.open("rb") as log:
                log.seek(start)
                return log.read(end - start).decode("utf-8", "backslashreplace")
        except OSError:
            return ""

    def tail(self) -> str:
        """The end of what it printed."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
                text = log.read().decode("utf-8", "backslashreplace")
        except OSError:
            return ""
        # Of pytest's own heading and frames no one learns anything.
        text = text[max(0, text.find("Fatal Python error")) :]
        lines = [line for line in text.strip().splitlines() if not _PYTEST_LINES.match(line)]
        return "\n".join(lines[-_TAIL:])

    @property
    def _log(self) -> Path:
        return self.directory / "output.log"


def _variables(environ: Mapping[str, str], key: Key, scripts: Path) -> dict[str, str]:
    variables = {
        name: value
        for name, value in venv.clean_for_tests(environ, key).items()
        if name not in _NOT_INHERITED and not name.startswith("COV_CORE_")
    }
    variables["VIRTUAL_ENV"] = str(scripts.parent)
    variables["PATH"] = os.pathsep.join(filter(None, [str(scripts), environ.get("PATH", "")]))
    return variables
