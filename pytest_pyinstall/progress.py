"""Shows the progress of downloads and installations: bars on a terminal, otherwise lines, and nothing with ``--quiet``.

All three displays get the progress of downloads (they are a `DownloadProgress`), sentences, and the result of each
request.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.provisioner import ProvisionResult
from pytest_pyinstall.system.log import said_if_slow, start_message_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from pytest_pyinstall.request.identity import Build, Key
    from pytest_pyinstall.request.request import Request

__all__ = [
    "Bars",
    "Display",
    "Lines",
    "Notices",
    "Silence",
    "display_on",
    "has_cursor",
    "result_line",
    "showing_steps",
    "size_text",
]


class Display(Protocol):
    """The interface of `Bars`, `Lines` and `Silence`: a context manager, whose methods are thread-safe."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """Show a message."""

    def busy(self, sentence: str) -> AbstractContextManager[None]:
        """What is done in the ``with`` block. A terminal shows it after a second."""

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        """Show the result of a request, and how long it took."""

    def started(self, build: Build, total: int | None) -> None: ...

    def advanced(self, build: Build, count: int) -> None: ...

    def waiting(self, build: Build, reason: str) -> None: ...

    def finished(self, build: Build) -> None: ...


def display_on(
    stream: TextIO, *, environ: Mapping[str, str], is_quiet: bool = False, with_path: bool = False
) -> Display:
    """The display for `stream`: `Bars` if it `has_cursor`, otherwise `Lines`. ``NO_COLOR`` removes the colour of the
    bars. `with_path`: results end with the path of the executable.
    """
    if is_quiet:
        return Silence()
    if has_cursor(stream, environ):
        return Bars(stream, has_color=not environ.get("NO_COLOR"), with_path=with_path)

    def write_line(line: str) -> None:
        # One write for the line and its end, because other threads and processes write to the stream too.
        stream.write(f"{line}\n")
        stream.flush()

    return Lines(write_line, with_path=with_path)


def has_cursor(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is a terminal whose lines can be drawn again: not with ``TERM=dumb``, and not in ``CI``."""
    is_dumb = environ.get("TERM", "") in {"dumb", "unknown"}
    return stream.isatty() and not is_dumb and environ.get("CI", "").lower() in {"", "0", "false", "no", "off"}


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
            line = f"= {interpreter.key} already installed"
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


class Notices:
    """Messages about slow steps, written by the thread that writes to the terminal.

    A message is written if nothing else was written for `patience` seconds, and its step is not over.
    """

    def __init__(self, say: Callable[[str], object], *, patience: float = 1.0) -> None:
        self._say = say
        self._patience = patience
        self._last = time.monotonic()
        self._waiting: deque[tuple[str, Callable[[], bool]]] = deque()

    def add(self, sentence: str, *, is_over: Callable[[], bool]) -> None:
        """Add a message. Thread-safe."""
        self._waiting.append((sentence, is_over))

    @contextmanager
    def during(self) -> Iterator[Callable[[str], None]]:
        """A function that adds a message about the step in the ``with`` block."""
        over = threading.Event()
        try:
            yield lambda sentence: self.add(sentence, is_over=over.is_set)
        finally:
            over.set()

    def show(self, *, happened: bool, at_once: bool = False) -> None:
        """Write the messages that are due. `happened`: other lines were written. `at_once`: write all of them now."""
        now = time.monotonic()
        if happened:
            self._last = now
        if not at_once and now - self._last < self._patience:
            return
        while self._waiting:
            sentence, is_over = self._waiting.popleft()
            if at_once or not is_over():
                self._say(sentence)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass

    def busy(self, sentence: str) -> AbstractContextManager[None]:  # noqa: ARG002  # as `Bars`
        return nullcontext()

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
    """Calls `write_line` with one line for each download and one for each result.

    With `patience`, a download that takes fewer seconds than that is not mentioned.
    """

    def __init__(self, write_line: Callable[[str], object], *, with_path: bool = True, patience: float = 0.0) -> None:
        self._write_line = write_line
        self._with_path = with_path
        self._patience = patience
        self._lock = threading.Lock()
        self._pending: dict[Key, threading.Timer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for timer in list(self._pending.values()):
            timer.cancel()

    def say(self, sentence: str) -> None:
        with self._lock:
            self._write_line(sentence)

    def busy(self, sentence: str) -> AbstractContextManager[None]:  # noqa: ARG002  # as `Bars`
        return nullcontext()

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        self.say(result_line(request, result, seconds, with_path=self._with_path))

    def started(self, build: Build, total: int | None) -> None:
        size = f" ({size_text(total)})" if total is not None else ""
        sentence = f"Downloading {build.key}{size}"
        if not self._patience:
            self.say(sentence)
            return
        self._pending[build.key] = start_message_timer(self.say, sentence, patience=self._patience)

    def advanced(self, build: Build, count: int) -> None:
        pass

    def waiting(self, build: Build, reason: str) -> None:
        self.say(f"{build.key.display_name}: {reason}")

    def finished(self, build: Build) -> None:
        if (timer := self._pending.pop(build.key, None)) is not None:
            timer.cancel()


class Bars:
    """A bar for each download, one for the total of several, and results as lines above them.

    The bars appear with the first download, and disappear with the last one. `begin_line` is called before a line is
    written: it ends a line that another writer has begun. `rich` is imported with the first download.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        has_color: bool = True,
        with_path: bool = True,
        begin_line: Callable[[], object] = lambda: None,
    ) -> None:
        self._stream = stream
        self._has_color = has_color
        self._with_path = with_path
        self._begin_line = begin_line
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._tasks: dict[Key, TaskID] = {}
        self._totals: dict[Key, int | None] = {}
        self._done = 0
        self._total_task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.stop()

    def say(self, sentence: str) -> None:
        with self._lock:
            if self._progress is not None and self._tasks:
                # Soft-wrapped, so that a long line is still one line if the user copies it.
                self._progress.console.print(sentence, soft_wrap=True)
                return
            self._begin_line()
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    def busy(self, sentence: str) -> AbstractContextManager[None]:
        return said_if_slow(self.say, sentence)

    def result(self, request: Request, result: ProvisionResult | PyinstallError, seconds: float | None = None) -> None:
        if isinstance(result, ProvisionResult):
            self._hide(result.interpreter.key)
        line = result_line(request, result, seconds, with_path=self._with_path)
        color = {"+": 32, "~": 33, "-": 31}.get(line[0], 2)
        if not self._has_color:
            self.say(line)
        elif self._progress is not None and self._tasks:
            from rich.text import Text

            with self._lock:
                self._progress.console.print(Text.from_ansi(_colored(line, color)), soft_wrap=True)
        else:
            self.say(_colored(line, color))

    def started(self, build: Build, total: int | None) -> None:
        with self._lock:
            progress = self._progress = self._progress or self._new_progress()
            if not self._tasks:
                self._begin_line()
                from pytest_pyinstall.system.processes import thread_limit

                with thread_limit():
                    progress.start()
            if self._total_task is None:
                self._total_task = progress.add_task("total", total=total, visible=False)
            self._totals[build.key] = total
            self._tasks[build.key] = progress.add_task(build.key.display_name, total=total)
            totals = [size for size in self._totals.values() if size is not None]
            known = sum(totals) if len(totals) == len(self._totals) else None
            progress.update(self._total_task, total=known, visible=len(self._totals) > 1)

    def advanced(self, build: Build, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress is None:
                return
            if self._total_task is not None:
                self._progress.update(self._total_task, completed=self._done)
            if (task := self._tasks.get(build.key)) is not None:
                self._progress.update(task, advance=count)

    def waiting(self, build: Build, reason: str) -> None:
        self.say(f"{build.key.display_name}: {reason}")

    def finished(self, build: Build) -> None:
        self._hide(build.key)

    def _hide(self, key: Key) -> None:
        with self._lock:
            if self._progress is not None and (task := self._tasks.pop(key, None)) is not None:
                self._progress.remove_task(task)
                if not self._tasks and self._total_task is not None:
                    self._progress.stop()  # otherwise its thread would draw into other output
                    self._progress.remove_task(self._total_task)
                    self._total_task, self._done = None, 0
                    self._totals.clear()

    def _new_progress(self) -> Progress:
        from rich.console import Console, ConsoleDimensions
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.table import Column
        from rich.text import Text

        class SizeColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                total = "?" if task.total is None else size_text(task.total)
                return Text(f"{size_text(task.completed)} of {total}", style="progress.download", justify="right")

        class SpeedColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                text = "" if speed is None else f"{size_text(speed)}/s"
                return Text(text, style="progress.data.speed", justify="right")

        class BarConsole(Console):
            @property  # type: ignore[misc]  # nothing sets it
            def size(self) -> ConsoleDimensions:
                width, height = super().size
                # The terminal shows Ctrl-C as ^C. Behind a full line, that would begin another one, and rich would
                # delete one bar too few.
                return ConsoleDimensions(max(1, width - 2), height)

        console = BarConsole(
            file=self._stream,
            force_terminal=True,
            no_color=not self._has_color,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # On a wide terminal, keep the numbers close to the names.
        is_wide = console.width > 110
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=60 if is_wide else None),
            SizeColumn(table_column=Column(no_wrap=True)),
            *([SpeedColumn(), TimeRemainingColumn(compact=True)] if console.width > 55 else []),
            console=console,
            transient=True,
            expand=not is_wide,
            # Do not change where other code prints to.
            redirect_stdout=False,
            redirect_stderr=False,
        )


def _colored(line: str, color: int) -> str:
    """`line` with its first character in that colour of a terminal."""
    return f"\x1b[{color}m{line[:1]}\x1b[0m{line[1:]}"
