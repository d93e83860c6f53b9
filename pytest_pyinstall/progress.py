"""Shows the progress of downloads and installations: bars on a terminal, otherwise lines, and nothing with ``--quiet``.

All three displays get the progress of downloads (they are a `DownloadProgress`), sentences, and the result of each
request.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.provisioner import ProvisionResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from rich.progress import TaskID

    from pytest_pyinstall.request.identity import Build, Key
    from pytest_pyinstall.request.request import Request

__all__ = ["Bars", "Display", "Lines", "Silence", "display_on", "result_line", "showing_steps", "size_text"]


class Display(Protocol):
    """The interface of `Bars`, `Lines` and `Silence`: a context manager, whose methods are thread-safe."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """Show a message."""

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        """Show the result of a request, and how long it took."""

    def started(self, build: Build, total: int | None) -> None: ...

    def advanced(self, build: Build, count: int) -> None: ...

    def waiting(self, build: Build, reason: str) -> None: ...

    def finished(self, build: Build) -> None: ...


def display_on(
    stream: TextIO, *, environ: Mapping[str, str], is_quiet: bool = False, with_path: bool = False
) -> Display:
    """The display for `stream`: `Bars` if it is a terminal that can move its cursor, otherwise `Lines`.

    With ``TERM=dumb``, or ``CI`` with any value that is not false, it is `Lines`. ``NO_COLOR`` removes the colour of
    the bars. `with_path`: results end with the path of the executable.
    """
    if is_quiet:
        return Silence()
    if stream.isatty() and environ.get("TERM", "") not in {"dumb", "unknown"} and not _is_ci(environ):
        return Bars(stream, has_color=not environ.get("NO_COLOR"), with_path=with_path)

    def write_line(line: str) -> None:
        # One write for the line and its end, because other threads and processes write to the stream too.
        stream.write(f"{line}\n")
        stream.flush()

    return Lines(write_line, with_path=with_path)


def result_line(
    request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None, *, with_path: bool = True
) -> str:
    """The result of `request` in one line: ``+ cpython-3.12.4-linux-x86_64-gnu installed in 0.4 s``."""
    if isinstance(result, PyinstallError):
        return f"- {request.text}: {result.message.partition(chr(10))[0]}"
    interpreter = result.interpreter
    time = "" if seconds is None else f" in {seconds:.1f} s"
    match result.how:
        case "installed":
            line = f"+ {interpreter.key} installed{time}"
        case "repaired":
            line = f"~ {interpreter.key} repaired{time}"
        case "present":
            line = f"= {interpreter.key} was there"
        case "found":
            line = f"= {interpreter.key} found ({interpreter.source})"
    return f"{line}  {interpreter.executable}" if with_path else line


def size_text(size: float) -> str:
    """``10.6 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:  # not 1024: at most three digits are easier to read
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def showing_steps(say: Callable[[str], object], *, level: int) -> Iterator[None]:
    """During the ``with`` block, call `say` with each step that the logger ``pytest_pyinstall`` gets, from `level` on.

    The steps are: which candidate was selected or skipped and why, what was downloaded and from where, waits for locks,
    and what was published.
    """
    import logging

    class Steps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"  {record.getMessage()}")

    logger = logging.getLogger("pytest_pyinstall")
    handler = Steps(level)
    before = logger.level
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > level:
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        pass

    def started(self, build: Build, total: int | None) -> None:
        pass

    def advanced(self, build: Build, count: int) -> None:
        pass

    def waiting(self, build: Build, reason: str) -> None:
        pass

    def finished(self, build: Build) -> None:
        pass


class Lines:
    """Calls `write_line` with one line for each download and one for each result."""

    def __init__(self, write_line: Callable[[str], object], *, with_path: bool = True) -> None:
        self._write_line = write_line
        self._with_path = with_path
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, sentence: str) -> None:
        with self._lock:
            self._write_line(sentence)

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        self.say(result_line(request, result, seconds, with_path=self._with_path))

    def started(self, build: Build, total: int | None) -> None:
        size = f" ({size_text(total)})" if total is not None else ""
        self.say(f"Downloading {build.key}{size}")

    def advanced(self, build: Build, count: int) -> None:
        pass

    def waiting(self, build: Build, reason: str) -> None:
        self.say(f"{build.key}: {reason}")

    def finished(self, build: Build) -> None:
        pass


class Bars:
    """A bar for each download, one for the total of several, and results as lines above them.

    The bars appear with the first download, and disappear at the end. `rich` is imported when `Bars` is created.
    """

    def __init__(self, stream: TextIO, *, has_color: bool = True, with_path: bool = True) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._with_path = with_path
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=not has_color,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # On a wide terminal, keep the numbers close to the names.
        is_wide = self._console.width > 110
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=60 if is_wide else None),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            expand=not is_wide,
            # Do not change where other code prints to.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lock = threading.RLock()
        self._tasks: dict[Key, TaskID] = {}
        self._totals: dict[Key, int | None] = {}
        self._done = 0
        self._total_task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        # Soft-wrapped, so that a long line is still one line if the user copies it.
        self._console.print(sentence, soft_wrap=True)

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        from rich.text import Text

        if isinstance(result, ProvisionResult):
            self._hide(result.interpreter.key)
        line = result_line(request, result, seconds, with_path=self._with_path)
        text = Text(line)
        text.stylize({"+": "green", "~": "yellow", "-": "red"}.get(line[0], "dim"), 0, 1)
        self._console.print(text, soft_wrap=True)

    def started(self, build: Build, total: int | None) -> None:
        with self._lock:
            self._progress.start()
            if self._total_task is None:
                self._total_task = self._progress.add_task("total", total=total, visible=False)
            self._totals[build.key] = total
            self._tasks[build.key] = self._progress.add_task(build.key.display_name, total=total)
            totals = [size for size in self._totals.values() if size is not None]
            known = sum(totals) if len(totals) == len(self._totals) else None
            self._progress.update(self._total_task, total=known, visible=len(self._totals) > 1)

    def advanced(self, build: Build, count: int) -> None:
        with self._lock:
            self._done += count
            if self._total_task is not None:
                self._progress.update(self._total_task, completed=self._done)
            if (task := self._tasks.get(build.key)) is not None:
                self._progress.update(task, advance=count)

    def waiting(self, build: Build, reason: str) -> None:
        self.say(f"{build.key}: {reason}")

    def finished(self, build: Build) -> None:
        self._hide(build.key)

    def _hide(self, key: Key) -> None:
        with self._lock:
            if (task := self._tasks.pop(key, None)) is not None:
                self._progress.remove_task(task)


def _is_ci(environ: Mapping[str, str]) -> bool:
    return environ.get("CI", "").lower() not in {"", "0", "false", "no", "off"}
