"""Runs the project's whole suite under each Python, and merges the reports into one session.

    controller ── one environment for each Python ──> a worker: a pytest session there
          ^                                                    │ _worker_plugin.py
          └──── reports, their node ids ending in [py3.9] <────┘ a file of JSON lines

The controller is the session that the user starts, and a worker is a normal pytest session in an environment
(docs/suite.md: the outer and the inner session). The controller imports nothing of the project, neither conftest files
nor tests.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from concurrent import futures
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from pytest_pyinstall.errors import EnvironmentCreationError, PyinstallError, StoreError
from pytest_pyinstall.interpreter.interpreter import Environment
from pytest_pyinstall.progress import Notices
from pytest_pyinstall.session import PythonProvider, SessionPython, reason, reasons_of_missing
from pytest_pyinstall.store.installation import BrokenInstallation
from pytest_pyinstall.suite.cache import environments_directory
from pytest_pyinstall.suite.environment import (
    SuiteEnvironment,
    is_prepared,
    make_environment,
    mark_as_prepared,
    variables_of,
)
from pytest_pyinstall.suite.options import (
    is_interactive,
    jobs_of,
    project_directory,
    reporters_options,
    seed,
    translate_ini,
    words_of,
    worker_arguments,
)
from pytest_pyinstall.suite.recipe import Recipe, read_recipe
from pytest_pyinstall.suite.replay import (
    ReportReplayer,
    add_property,
    correct_names,
    first_error,
    has_other_reporters,
    last_failed,
)
from pytest_pyinstall.suite.report import (
    FILES,
    LABELS,
    NOT_STARTED,
    STOPPED,
    UNRUN,
    Coverage,
    Matrix,
    append_summary,
    combine,
    title_of,
    unrun_of,
)
from pytest_pyinstall.suite.run import NOT_SELECTED, InterpreterRun, WorkerSession, prepare_plugin
from pytest_pyinstall.suite.shard import Cells, describe, read_cells
from pytest_pyinstall.suite.summary import (
    grouping,
    install_hint,
    list_collected,
    project_files,
    report_path,
    write_coverage,
    write_missing,
    write_page,
    write_summaries,
    write_table,
    write_unfinished,
)
from pytest_pyinstall.suite.variants import keyword_hint
from pytest_pyinstall.system.permissions import other_writer
from pytest_pyinstall.system.processes import signal_name
from pytest_pyinstall.system.signals import end_by
from pytest_pyinstall.system.temporary import temporary_directory
from pytest_pyinstall.system.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.suite.variants import Variant

__all__ = ["Background", "Suite", "deferred_signals"]


_T = TypeVar("_T")


class Background(Generic[_T]):
    """Runs calls in order in at most `count` daemon threads.

    A `ThreadPoolExecutor` would not do: the interpreter waits for its threads before it exits.
    """

    def __init__(self, count: int) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[_T], Callable[[], _T]] | None] = queue.SimpleQueue()
        self._count = count
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """Queue `call`, and return a future for its result or its exception."""
        future: Future[_T] = Future()
        self._calls.put((future, call))
        if len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._work, name="pyinstall-suite", daemon=True))
            self._threads[-1].start()
        return future

    def close(self) -> None:
        """Cancel the queued calls. Those that run go on."""
        while True:
            try:
                waiting = self._calls.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  # raised where the result is read
                future.set_exception(error)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """Make the first Ctrl-C, SIGTERM or SIGHUP only set a flag, so that no report is lost. The second takes effect.

    The value is a function that returns the number of the signal, or 0. Only works in the main thread. A signal with
    another handler than Python's own stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    received: list[int] = []
    before: dict[int, Any] = {}

    def on_signal(number: int, frame: Any) -> None:
        if received and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        if received:
            end_by(number)
        received.append(number)

    for number in (signal.SIGINT, *_TERMINATING):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        if signal.getsignal(number) == default:
            before[number] = signal.signal(number, on_signal)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_TERMINATING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end."""


REPORTS = ("htmlpath", "report_log", "json_report", "json_report_file", "md_report", "ctrf")
"""The destinations of reporters' options. If the controller has one, it writes that report, and the workers do not."""


_PAUSE = 0.004
"""Seconds after which to look again for a worker that has ended, or an environment that is ready."""


_PERIOD = 30
"""Milliseconds between two looks at the events of the workers, if nothing else can happen in between."""


_GRACE = 0.6
"""Seconds that an interrupted worker has to end by itself."""


class Suite:
    """The plugin of the controller. `choices` are the Pythons of the session; `say` writes a line to the terminal."""

    def __init__(
        self,
        config: pytest.Config,
        choices: Sequence[SessionPython],
        pythons: PythonProvider,
        *,
        say: Callable[[str], None] | None,
        cells: Cells | None = None,
    ) -> None:
        """`choices` are the Pythons of `cells` that this session needs. Without `cells`, it needs all of them.

        Raises `PyinstallError` for invalid options, and for a project that cannot be read.
        """
        self.config = config
        self.pythons = pythons
        self.say = say or (lambda _: None)
        self.jobs = jobs_of(config)
        self.words = words_of(config)
        installs = [str(word) for word in config.getini("pyinstall_suite_install")]
        self.recipe: Recipe = read_recipe(project_directory(config), installs)
        self.cells = cells or read_cells(config, [choice.id for choice in choices])
        self._labels = list(self.cells.all)
        by_id = {choice.id: choice for choice in choices}
        rows = [
            InterpreterRun(
                label=label,
                choice=by_id[cell.python],
                variant=cell.variant,
                words=self.words.for_python(label, self._labels),
            )
            for label, cell in self.cells.all.items()
            if cell.python in by_id
        ]
        selected = self.cells.selected
        self.rows = [row for row in rows if row.label in selected]
        self._unselected = [row for row in rows if row.label not in self.cells.named]
        self._is_limited = len(self.cells.named) < len(self.cells.all)
        self._seed = seed()
        self.matrix = Matrix((row.tally for row in self.rows), when=[datetime.now(UTC)])
        self.matrix.shard = str(self.cells.shard or "")
        self.is_interactive = is_interactive(config, [(row.label, row.choice.requests[0]) for row in self.rows])
        # The scratch directory, and the leases of the environments in use.
        self._resources = contextlib.ExitStack()
        self._scratch = self._resources.enter_context(temporary_directory())
        self._emits_all = True
        self._keeps_sections = True
        self._coverage: Coverage | None = None
        self._replayer: ReportReplayer | None = None
        self._notices = Notices(self.say)
        self._waits = Notices(self.say)
        self._said_errors: set[str] = set()
        self._ended_by = 0

    # The session

    def pytest_report_header(self) -> list[str]:
        count = len({row.choice.id for row in self.rows})
        at_once = f", {min(len(self.rows), self.jobs)} at once" if len(self.rows) > 1 else ""
        found = (row.choice.interpreter for row in self.rows)
        first, *more = self.recipe.describe(interpreter for interpreter in found if interpreter is not None)
        names = ", ".join(variant.name for variant in self.cells.variants if variant)
        each = f", each with {names}" if names else ""
        under = f"{f'{count} Pythons' if count > 1 else 'one Python'}{each}{at_once}"
        lines = [first + f", under {under}", *more]
        if self.cells.shard is not None:
            lines.append(f"shard {self.cells.shard}: {describe(self.cells.parts)}")
        return [f"suite: {line}" for line in lines]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """The workers collect. The controller has no items of its own."""
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._emits_all = has_other_reporters(self.config)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        self._keeps_sections = self._emits_all or (reporter is not None and reporter.hasopt("P"))
        capture: Any = self.config.pluginmanager.get_plugin("capturemanager")
        if self.is_interactive and capture is not None:
            capture.suspend_global_capture(in_=True)  # the worker uses the terminal
        add_property(self.config, LABELS, " ".join(row.label for row in self.rows))
        try:
            self._run(session)
        finally:
            files = {test.partition("::")[0] for test in self.matrix.rows}
            add_property(self.config, FILES, json.dumps(sorted(files)))
            if unrun := unrun_of(self.matrix.tallies):
                add_property(self.config, UNRUN, json.dumps(unrun))
            correct_names(self.config)
            self._clean()
            if self.is_interactive and capture is not None:
                capture.resume_global_capture()
        if self.config.option.collectonly:
            list_collected(self.config, self.rows)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        with self.grouping(terminalreporter, [row.label for row in self.rows]):
            result = yield
        if self._replayer is not None:
            write_summaries(terminalreporter, self.rows, self._replayer.headings())
        write_coverage(terminalreporter, self._coverage, count=len(self.rows))
        if self.config.option.collectonly:
            self._hint_at_names(terminalreporter)
            return result
        if self.config.getoption("verbose", 0) >= -1:
            write_table(terminalreporter, self.matrix.tallies)
        write_unfinished(terminalreporter, self.rows)
        self._hint_at_names(terminalreporter)
        if self._replayer is not None:
            labels = [row.label for row in self.rows if row.choice.interpreter is not None]
            configured = [str(word) for word in self.config.getini("pyinstall_suite_install")]
            installs = install_hint(self.recipe, configured, self.config.inipath)
            write_missing(terminalreporter, self._replayer.missing, labels, installs=installs)
        title = title_of(self.recipe.name or self.recipe.directory.name, self.matrix.tallies)
        if warning := append_summary(self.matrix, os.environ, title=title):
            terminalreporter.write_line(warning, yellow=True)
        if self.config.getoption("pyinstall_report", None):
            write_page(terminalreporter, self.matrix, report_path(self.config), title=title)
        return result

    def grouping(self, reporter: Any, labels: Sequence[str]) -> AbstractContextManager[None]:
        """Merge equal failures of the Pythons `labels` in the summary of `reporter` while the block runs."""
        is_project = project_files(
            self.config.rootpath,
            directory=self.config.invocation_params.dir,
            excluded=self.pythons.provisioner.settings.directories,
        )
        return grouping(reporter, self.matrix, labels, is_project)

    def _hint_at_names(self, reporter: Any) -> None:
        """If ``-k`` selected no test of any Python, write how it spells the Pythons that it seems to name."""
        if all(row.exit_code == pytest.ExitCode.NO_TESTS_COLLECTED for row in self.rows):
            names = dict.fromkeys(label.partition("-")[0] for label in self._labels)
            if hint := keyword_hint(self.config.getoption("keyword", ""), list(names)):
                reporter.write_line(hint)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Any:
        return None if self._replayer is None else self._replayer.status_of(report)

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Leave out the place that pytest shows after Ctrl-C: a line of this module. The summary names the tests."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        shown = getattr(reporter, "_keyboardinterrupt_memo", None)
        if shown is not None and shown.reprcrash is not None:
            shown.reprcrash = SimpleNamespace(message=shown.reprcrash.message, toterminal=lambda _: None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Use the exit code of the workers if all have the same. A failure of the controller takes precedence."""
        if (
            session.exitstatus not in {0, 1, 5}
            or (self._coverage is not None and self._coverage.is_failed)
            or any(row.worker is None for row in self.rows)
        ):
            return
        codes = {row.exit_code for row in self.rows if row.tally.note != NOT_SELECTED}
        replayer = self._replayer
        is_of_workers = replayer is not None and not replayer.has_own_error
        is_of_workers &= session.testsfailed == sum(row.failures for row in self.rows)
        if codes == {0} and is_of_workers and not any(row.tally.note for row in self.rows):
            session.exitstatus = 0  # a plugin of the workers accepts failures, or that there are no tests
            return
        if codes <= {0, 5} and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            return  # the controller reported an error that is in no worker
        if codes <= {0, 5} and any(row.before_cut for row in self.rows):
            session.exitstatus = 0  # there are tests, but all of them are in other shards
            return
        if len(codes) == 1 and (code := codes.pop()):
            session.exitstatus = code

    # Running

    def _run(self, session: pytest.Session) -> None:
        replayer = self._replayer = ReportReplayer(session, self.rows, self.matrix, emits_all=self._emits_all)
        background: Background[SuiteEnvironment] = Background(self.jobs)
        is_finished = False
        with deferred_signals() as arrived_signal:
            try:
                self._start_preparing(self.rows, background, replayer)
                self._notices.show(happened=True)
                while not all(row.is_over for row in self.rows):
                    self._wait()
                    number = arrived_signal()
                    # A worker with the terminal handles Ctrl-C itself: in the debugger it does not end the session.
                    if number and not (self.is_interactive and number == signal.SIGINT):
                        # First of all, because the reporter raises if SIGHUP says that its terminal is gone.
                        self._ended_by = 0 if number == signal.SIGINT else number
                        self._replay_rest(replayer)
                        if number == signal.SIGINT:
                            raise KeyboardInterrupt
                        pytest.exit(f"ended by {signal_name(number)}")
                    self._explain_silence(happened=self._step(replayer))
                    if replayer.parameters and self._is_limited:
                        self._is_limited = False
                        if self.cells.shard is not None:
                            replayer.reject_parameters(self._labels)
                        else:
                            self._run_all_pythons(background, replayer)
                    if session.shouldfail or session.shouldstop:
                        break
                is_finished = True
            finally:
                background.close()
                self._end(is_finished=is_finished)
        if not (session.shouldfail or session.shouldstop):
            self._combine_coverage(session)

    def _start_preparing(
        self,
        rows: Sequence[InterpreterRun],
        background: Background[SuiteEnvironment],
        replayer: ReportReplayer,
    ) -> None:
        reasons = reasons_of_missing(row.choice for row in rows)
        for row in rows:
            if row.choice.interpreter is None:
                skips, own = self.pythons.skips(row.choice), reason(row.choice)
                replayer.report_missing(row, own if skips else reasons[row.choice.id], skips=skips, note=own)
            else:
                row.preparing = background.submit(functools.partial(self._prepare, row.choice.interpreter, row.variant))

    def _run_all_pythons(self, background: Background[SuiteEnvironment], replayer: ReportReplayer) -> None:
        """Start the other Pythons too: an argument such as ``test_a[py3.9]`` turned out to name a test's parameter."""
        more, self._unselected = self._unselected, []
        for row in more:
            row.words = self.words.for_python(row.label, self._labels, replayer.parameters)
        self.rows[:] = sorted([*self.rows, *more], key=lambda row: self._labels.index(row.label))
        self.matrix.tallies[:] = [row.tally for row in self.rows]
        self._start_preparing(more, background, replayer)

    def _replay_rest(self, replayer: ReportReplayer) -> None:
        for row in self.rows:
            if row.worker is not None and not row.is_over:
                for event in row.worker.events():
                    replayer.handle(row, event)

    def _prepare(self, interpreter: Interpreter, variant: Variant | None) -> SuiteEnvironment:
        settings = self.pythons.provisioner.settings
        environments = environments_directory(settings.cache)
        if settings.cache not in settings.trusted_stores and (other := other_writer(environments)):
            hint = f"{other.way_out}, or another cache: --python-cache DIR".removeprefix(", or ")
            raise StoreError(f"{other}, and could change what the suite runs", hint=hint)
        with self._notices.during() as say:
            return make_environment(
                interpreter,
                self.recipe,
                cache=settings.cache,
                environ=os.environ,
                leases=self._resources,
                variant=variant,
                lock_timeout=settings.lock_timeout,
                excluded=settings.directories,
                say=say if self.config.getoption("verbose", 0) >= -1 else None,
            )

    def _step(self, replayer: ReportReplayer) -> bool:
        """Process the new events of each Python, and start those that are ready. Returns whether anything happened."""
        happened = False
        for row in self._running:
            assert row.worker is not None  # noqa: S101  # it runs
            happened |= self._follow(row, row.worker, replayer)
            if replayer.session.shouldfail or replayer.session.shouldstop:
                return happened
            self._say_error(row)
        for row in self.rows:
            if row.preparing is None or row.worker is not None or row.is_over or not row.preparing.done():
                continue
            if len(self._running) >= self.jobs:
                break
            happened = True
            try:
                row.environment = row.preparing.result()
                self._call_environment_hook(row.choice.interpreter, row.environment)
                self._start(row, row.environment)
            except PyinstallError as error:
                if (
                    isinstance(error, EnvironmentCreationError)
                    and error.output
                    and self.config.getoption("verbose", 0) > 0
                ):
                    self.say(f"the output of the installer for {row.label}:\n{error.output.strip()}")
                flaw = self._flaw_of(row.choice.interpreter)
                why = f"{flaw.strip()}\n\n{error}" if flaw else str(error)
                replayer.report_missing(row, why, skips=self.pythons.skips_missing)
            if replayer.session.shouldfail or replayer.session.shouldstop:
                break
            self._say_error(row)
        return happened

    def _say_error(self, row: InterpreterRun) -> None:
        """Print the error of a Python that ran no tests, if environments of others are still being made.

        Often it holds for them too, for example if an option is misspelled. But only their own pytest knows: they can
        have other plugins, or a newer pytest. So they go on, and the user decides. An error of an installer is without
        its hint, which differs between the Pythons: it is at the end, once for all Pythons with the same cause.
        """
        is_making = any(each.preparing and not each.preparing.done() and not each.is_over for each in self.rows)
        is_of_installer = row.worker is None
        cause = row.error.partition("\n")[0] if is_of_installer else row.error
        if row.error and is_making and cause not in self._said_errors:
            self._said_errors.add(cause)
            self.say(first_error(row).partition("\n")[0] if is_of_installer else first_error(row))

    @property
    def _running(self) -> list[InterpreterRun]:
        return [row for row in self.rows if row.worker is not None and not row.is_over]

    def _wait(self) -> None:
        """Wait a moment: until a worker ends or an environment is ready, if that comes first."""
        running = self._running
        waiting = [row.preparing for row in self.rows if row.preparing and row.worker is None and not row.is_over]
        endings = [row.worker.ending for row in running if row.worker is not None]
        if waiting and len(running) < self.jobs:
            futures.wait(waiting, _PAUSE, futures.FIRST_COMPLETED)
        elif sys.platform == "win32" or None in endings:
            time.sleep(_PAUSE)
        else:
            poll = select.poll()
            for descriptor in endings:
                if descriptor is not None:
                    poll.register(descriptor, select.POLLIN)
            poll.poll(_PERIOD)

    def _explain_silence(self, *, happened: bool) -> None:
        """Print what takes long. Environments are announced at once, but not between the dots of the tests."""
        verbose = self.config.getoption("verbose", 0)
        self._notices.show(happened=happened, at_once=verbose > 0 or (verbose == 0 and not self.matrix.rows))
        self._waits.show(happened=happened)

    def _is_at_terminal(self) -> bool:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        file = getattr(getattr(reporter, "_tw", None), "_file", None)
        return file is not None and file.isatty()

    def _call_environment_hook(self, python: Interpreter | None, environment: SuiteEnvironment) -> None:
        """Let other plugins prepare a new environment before the first test runs in it.

        Called in the main thread, as other hooks of pytest are. Raises `EnvironmentCreationError` if a hook fails. In
        that case the environment is not marked, and the next session calls the hooks again.
        """
        hook = self.config.hook.pytest_pyinstall_environment
        if python is None or not hook.get_hookimpls() or is_prepared(environment.path):
            return
        own = replace(python, executable=environment.python, prefix=environment.path, source="environment")
        try:
            hook(environment=Environment(path=environment.path, python=own), python=python, config=self.config)
        except (pytest.exit.Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # pytest.fail raises a BaseException
            frames = traceback.extract_tb(error.__traceback__)
            frame = next((frame for frame in frames if frame.name == hook.name), frames[-1])
            text = error.message if isinstance(error, PyinstallError) else f"{type(error).__name__}: {error}"
            message = f"a plugin's pytest_pyinstall_environment failed: {text} ({frame.filename}:{frame.lineno})"
            raise EnvironmentCreationError(message) from error
        mark_as_prepared(environment.path)

    def _start(self, row: InterpreterRun, environment: SuiteEnvironment) -> None:
        assert row.choice.interpreter is not None  # noqa: S101  # by the order of the hooks
        row.tally.pytest = environment.pytest
        if all(each.worker is None for each in self.rows) and self._is_at_terminal():
            rows = self.rows
            self._waits.add("collecting the tests", is_over=lambda: any(each.collected is not None for each in rows))
        (self._scratch / "coverage").mkdir(exist_ok=True)
        row.worker = WorkerSession(
            directory=self._scratch / "sessions" / row.file_name, is_interactive=self.is_interactive
        )
        row.worker.start(
            environment.python,
            self._worker_document(row, environment),
            plugin=prepare_plugin(environment.path, otherwise=self._scratch),
            key=row.choice.interpreter.key,
            working_directory=self.config.invocation_params.dir,
            environ={
                **os.environ,
                **variables_of(environment, row.label, os.environ),
                "COVERAGE_FILE": str(self._scratch / "coverage" / f".coverage.{row.file_name}"),
            },
        )

    def _worker_document(self, row: InterpreterRun, environment: SuiteEnvironment) -> dict[str, Any]:
        """The document that tells the worker of `row` what to run and what to leave to the controller."""
        assert row.words is not None  # noqa: S101  # every row that is started has them
        config = self.config
        ours = worker_arguments(
            config,
            name=row.file_name,
            cache=self._caches / row.file_name,
            any_failed=any(last_failed(self._caches / each.file_name) for each in self.rows),
            ours=self.pythons.provisioner.settings.directories,
        )
        translation = self._scratch / f"{row.file_name}.toml"
        translated = translate_ini(config.inipath, environment.pytest, translation)
        if translated:
            ours += ["-c", str(translation)]
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        return {
            "arguments": row.words.arguments,
            "after_dashes": row.words.after_dashes,
            "environment": row.words.environment,
            "is_environment_changed": row.words.is_environment_changed,
            "ini": row.words.ini,
            "is_ini_changed": row.words.is_ini_changed,
            "places": row.words.places,
            "ambiguous": row.words.ambiguous,
            "ours": ours,
            "argv": self.words.raw(),
            "as_module": Path(sys.argv[0]).name == "__main__.py",
            "plugins": [name for name in self.words.plugins() if self._is_third_party(name)],
            "reporters": sorted(reporters_options(config)),
            "reports": [name for name in REPORTS if hasattr(config.option, name)],
            "translated": translated,
            "inipath": str(config.inipath) if translated else "",
            "seed": self._seed,
            "label": row.label,
            "width": reporter._tw.fullwidth if reporter is not None else 80,  # noqa: SLF001  # no other way to ask
            "keeps_sections": self._keeps_sections,
            "cut": self.cells.parts[row.label]._asdict() if row.label in self.cells.parts else None,
        }

    def _is_third_party(self, name: str) -> bool:
        """Whether the plugin with this name is not part of the project. An environment may not have such a plugin."""
        plugin = self.config.pluginmanager.get_plugin(name)
        file = getattr(plugin, "__file__", None)
        return file is not None and not Path(file).is_relative_to(self.config.rootpath)

    @functools.cached_property
    def _caches(self) -> Path:
        cache = getattr(self.config, "cache", None)
        if cache is not None:
            with contextlib.suppress(OSError):
                return Path(cache.mkdir("pyinstall"))
        return self._scratch / "cache"

    def _follow(self, row: InterpreterRun, worker: WorkerSession, replayer: ReportReplayer) -> bool:
        # The exit code first: if the worker has ended, its file is complete when we read it.
        code = worker.exit_code
        happened = False
        for event in worker.events():
            happened = True
            replayer.handle(row, event)
            if replayer.session.shouldfail or replayer.session.shouldstop:
                return True
        if code is not None:
            flaw = "" if row.has_started else self._flaw_of(row.choice.interpreter)
            replayer.report_end(row, worker, code, cache=self._caches / row.file_name, flaw=flaw)
        return happened or code is not None

    def _flaw_of(self, python: Interpreter | None) -> str:
        """What is wrong with a Python of the store that failed. Each use compares sizes of files, not content."""
        if python is None or python.source != "store":
            return ""
        found = self.pythons.provisioner.store.look(python.key, content=True)
        if not isinstance(found, BrokenInstallation):
            return ""
        return f"\n\n{found}\nhint: pytest-pyinstall verify --repair {python.key.display_name}"

    # Ending

    def _end(self, *, is_finished: bool) -> None:
        """End the workers that still run: first with an interrupt, and with a kill if they do not end in time.

        If `is_finished`, processes that tests have left running stay, as they do after plain pytest.
        """
        workers = [row.worker for row in self.rows if row.worker is not None and row.worker.exit_code is None]
        self._mark_stopped()
        for worker in workers:
            worker.interrupt()
        deadline = time.monotonic() + _GRACE
        while any(worker.exit_code is None for worker in workers) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        for worker in workers:
            worker.kill()
            worker.close()
        for row in self.rows:
            if row.worker is not None and row.worker not in workers:
                if is_finished:
                    row.worker.release()
                else:
                    row.worker.kill()

    def _mark_stopped(self) -> None:
        """Record which Pythons have not run all their tests, and for how long the current test of each has run."""
        for row in self.rows:
            if row.worker is None:
                row.tally.note = row.tally.note or NOT_STARTED
                continue
            if not row.is_over:
                row.tally.seconds = time.monotonic() - row.worker.started
                row.tally.note = STOPPED
                row.note_running_tests()
            # `pytest.exit` can set any exit code.
            is_whole = row.is_over and row.exit_code in {0, 1, 5} and not (row.interrupted or row.incomplete)
            if not is_whole and row.unfinished and not self.config.option.collectonly:
                row.tally.counts["not run"] = len(row.unfinished)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> Generator[None, None, None]:
        try:
            return (yield)
        finally:  # the reporter raises if SIGHUP says that its terminal is gone
            self._clean()  # the session may have ended before it ran anything
            if self._ended_by:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
                end_by(self._ended_by)

    def _clean(self) -> None:
        for row in self.rows:
            if row.worker is not None:
                row.worker.close()
        self._resources.close()

    def _combine_coverage(self, session: pytest.Session) -> None:
        """Combine the coverage of all Pythons with the coverage package in the newest Python's environment."""
        rows = [row for row in self.rows if row.coverage is not None and row.environment is not None]
        parts = sorted(map(str, (self._scratch / "coverage").glob(".coverage.*")))
        if not rows or not parts:
            return
        row = rows[-1]
        assert row.environment is not None  # noqa: S101  # filtered above
        assert row.coverage is not None  # noqa: S101  # filtered above
        self._coverage = combine(
            row.coverage,
            parts,
            python=row.environment.python,
            directory=self.config.invocation_params.dir,
            environ=os.environ,
        )
        session.testsfailed += self._coverage.is_failed
