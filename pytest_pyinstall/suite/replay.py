"""Replays the events of the workers in the controller: calls pytest's hooks with their reports.

Also reports how each worker ended, writes what a JUnit file contains besides reports, and writes pytest's record of
failed tests for a worker that crashed.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.junitxml import xml_key

from pytest_pyinstall.suite.report import Cell, Matrix
from pytest_pyinstall.suite.run import NOT_SELECTED, InterpreterRun, WorkerSession, named
from pytest_pyinstall.suite.words import plugins_of, with_hint
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.processes import ending_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "PythonNode",
    "ReportReplayer",
    "add_attribute",
    "add_property",
    "correct_names",
    "first_error",
    "has_other_reporters",
    "last_failed",
    "remember_failures",
    "rows_by_text",
    "text_of",
]


def add_property(config: pytest.Config, name: str, value: str) -> None:
    """Add a property of ``record_testsuite_property`` to the JUnit file, once if several Pythons have the same."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None and (name, value) not in [tuple(pair) for pair in xml.global_properties]:
        xml.add_global_property(name, value)


def add_attribute(node: PythonNode, nodeid: str, name: str, value: str) -> None:
    """Add an attribute of ``record_xml_attribute`` to the test `nodeid` of the Python `node` in the JUnit file."""
    xml: Any = node.config.stash.get(xml_key, None)
    if xml is not None:
        # The JUnit writer needs a report only to find the test.
        report = pytest.TestReport(named(nodeid, node.name), ("", None, ""), {}, "passed", None, "call")
        report.__dict__["node"] = node
        xml.node_reporter(report).add_attribute(name, value)


def correct_names(config: pytest.Config) -> None:
    """Remove ``.py`` from the names of modules in the JUnit file that were skipped or not imported, as pytest does."""
    xml: Any = config.stash.get(xml_key, None)
    for reporter in getattr(xml, "node_reporters_ordered", ()):
        attributes = getattr(reporter, "attrs", {})
        if attributes.get("classname") == "":
            attributes["name"] = re.sub(r"\.py(\[[^\[\]]+\])$", r"\1", attributes["name"])


def last_failed(directory: Path) -> dict[str, bool]:
    """Read pytest's record of failed tests in the cache `directory`; empty if it cannot be read."""
    try:
        found = parse_json((directory / "v" / "cache" / "lastfailed").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember_failures(directory: Path, nodeids: Iterable[str]) -> None:
    """Add `nodeids` to pytest's record of failed tests in the cache `directory`, for a worker that crashed.

    Ignores `OSError`.
    """
    path = directory / "v" / "cache" / "lastfailed"
    failed = {**last_failed(directory), **dict.fromkeys(nodeids, True)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(failed, indent=2), encoding="utf-8")


_OF_ONE_PYTHON = re.compile("(run-last-failure|stepwise): ")
"""A line of the header that depends on the failures of one Python, and is printed with its label."""
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_CORE = {
    *("terminalreporter", "lfplugin", "nfplugin", "session", "stepwiseplugin", "terminalprogress", "faulthandler"),
    *("terminalprogress-plugin", "pyinstall", "pyinstall-suite", "github", "unraisableexception", "threadexception"),
    "logging-plugin",
}
"""Plugins that do not use the setup and teardown reports of a test that passed without output."""


def has_other_reporters(config: pytest.Config) -> bool:
    """Whether a plugin may use the setup and teardown reports of a test that passed without output."""
    if config.getoption("durations", None) is not None or config.getoption("xmlpath", None):
        return True
    implementations = config.hook.pytest_runtest_logreport.get_hookimpls()
    return any(implementation.plugin_name not in _CORE for implementation in implementations)


class _Item(pytest.Item):
    """A test of a worker, for hooks that take items."""

    def runtest(self) -> None:  # abstract
        raise NotImplementedError

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class PythonNode(pytest.Collector):
    """The node of a report: one Python. It is a collector of pytest, with the attributes of pytest-xdist's nodes."""

    gateway: _Gateway
    workerinfo: dict[str, Any]
    _workerinfocache: str

    @classmethod
    def of(cls, row: InterpreterRun, session: pytest.Session) -> PythonNode:
        found = cls.from_parent(session, name=row.label, nodeid=f"[{row.label}]")
        interpreter = row.choice.interpreter
        found.gateway = _Gateway(row.label)
        found.workerinfo = {
            "id": row.label,
            "version_info": tuple(interpreter.version_info[:3]) if interpreter else (),
            "sysplatform": sys.platform,
            "executable": str(interpreter.executable) if interpreter else "",
        }
        # pytest prints this text above each failure. Our headings name the Python already.
        found._workerinfocache = ""  # noqa: SLF001  # the name under which pytest looks for it
        return found

    def collect(self) -> list[pytest.Item]:
        """No tests: the worker collects them."""
        return []


class _Gateway:
    def __init__(self, label: str) -> None:
        self.id = label


class ReportReplayer:
    """Calls the hooks of `session` with the events of `rows`, and records the outcomes in `matrix`.

    With `emits_all`, this includes setup and teardown of a test that passed without output.
    """

    def __init__(
        self, session: pytest.Session, rows: Sequence[InterpreterRun], matrix: Matrix, *, emits_all: bool
    ) -> None:
        self.session = session
        self.config = session.config
        self.rows = rows
        self.matrix = matrix
        self.missing: dict[str, list[str]] = {}
        """Modules that tests could not import, and plugins whose options were rejected, each with the Pythons."""
        self._statuses: dict[int, tuple[str, str, Any]] = {}  # by id, because the reports of subtests cannot be hashed
        self._emits_all = emits_all
        manager = self.config.pluginmanager
        self._reporter: Any = manager.get_plugin("terminalreporter")
        # The controller has no live log.
        silent = [found for name in ("terminalreporter", "logging-plugin") if (found := manager.get_plugin(name))]
        self._tell_start = manager.subset_hook_caller("pytest_runtest_logstart", silent)
        self._tell_finish = manager.subset_hook_caller("pytest_runtest_logfinish", silent)
        self._shown: set[str] | None = None
        self._shown_of: dict[str, set[str]] = {}
        self._nodes: dict[str, PythonNode] = {}
        self.parameters: set[str] = set()
        """Arguments that seem to end in the name of a Python, but end in a parameter of a test."""
        self.has_own_error = False
        """Whether an error was reported that is in no worker's session."""
        self.before = session.testscollected
        """The number of tests that earlier Pythons of a bisection collected."""

    def handle(self, row: InterpreterRun, event: list[Any]) -> None:  # noqa: C901, PLR0912  # one case for each kind of line
        """Replay one event of `WorkerSession.events`."""
        if self._shown is None and event[0] in {"s", "c", "r"}:
            self._show_headings()
        match event:
            case ["s", index]:
                nodeid, location = row.items[index] if isinstance(index, int) else (index, _location(index, None))
                row.running[nodeid] = time.monotonic()
                self._tell_start(nodeid=named(nodeid, row.label), location=location)
            case ["p", index, start, setup, call, teardown]:
                self._passed(row, index, start, (setup, call, teardown))
            case ["r", data]:
                self._reported(row, data)
            case ["c", data]:
                self._collect_report(row, data)
            case ["collected", found, deselected]:
                self._collected(row, found, deselected)
            case ["cut", count]:
                row.before_cut = count
            case ["w", *fields]:
                self._warned(row, fields)
            case ["start", _, python, _]:
                self._started(row, python)
            case ["incomplete" | "interrupted" | "internal" | "stopping" as how, text]:
                row.end_by(how, text)
            case ["property", name, value]:
                add_property(self.config, name, value)
            case ["attribute", nodeid, name, value]:
                add_attribute(self._node(row), nodeid, name, value)
            case ["coverage", *fields]:
                row.coverage = fields
            case ["heading", lines]:
                row.heading += lines
            case ["file", name]:
                row.files.append(name)
            case ["output", start, end, nodeid]:
                self._show_output(row, start, end, nodeid)
            case ["summary", start, end] if row.worker is not None:
                if (text := row.worker.printed(start, end)).strip():
                    row.summaries.append(text)
            case ["unselected"]:
                row.tally.note = NOT_SELECTED
            case ["parameter", word]:
                self._found_parameter(word)
            case ["known", nodeids]:
                row.known = nodeids
            case ["end", code]:
                row.exit_code = code

    def _started(self, row: InterpreterRun, python: str) -> None:
        row.has_started = True
        if row.choice.interpreter and python != row.version:
            row.internal_error = f"the environment should have Python {row.version}, but has {python}"

    def _node(self, row: InterpreterRun) -> PythonNode:
        if row.label not in self._nodes:
            self._nodes[row.label] = PythonNode.of(row, self.session)
        return self._nodes[row.label]

    def _found_parameter(self, word: str) -> None:
        """Note a test whose parameter looks like the name of a Python. Every Python must run it.

        Pythons that have started without it get an error.
        """
        if word in self.parameters:
            return
        self.parameters.add(word)
        for row in self.rows:
            words = row.words
            if row.worker and words and word not in words.places and not words.ambiguous.get(word, ("", False))[1]:
                every = shlex.quote(f"{word}[{','.join(row.label for row in self.rows)}]")
                text = f"{word} is a test with that parameter, but this Python has not run it\nhint: {every}"
                self._broken(row, text, note=row.tally.note)

    def reject_parameters(self, labels: Sequence[str]) -> None:
        """Report an error for each of `parameters`: all Pythons must run them, but the shards are cut already."""
        for word in sorted(self.parameters):
            row = next(row for row in self.rows if row.words and word in row.words.places)
            text = f"{word} is a test with that parameter, but the shards run it only under {row.label}"
            every = shlex.quote(f"{word}[{','.join(labels)}]")
            self._broken(row, f"{text}\nhint: {every}", note=row.tally.note)

    def _show_headings(self) -> None:
        """Print the header lines that all workers with a header have in common."""
        started = [row for row in self.rows if row.heading]
        found = rows_by_text(started, "heading")
        self._shown = {line for line, rows in found.items() if len(rows) == len(started)}
        lines = []
        for line, rows in found.items():
            if _OF_ONE_PYTHON.match(line):
                self._shown_of[line] = {row.label for row in rows}
                lines.append(line if len(rows) == len(self.rows) else _labelled(line, rows))
            elif line in self._shown:
                lines.append(line)
        if self._reporter is not None and self.config.getoption("verbose", 0) >= 0:
            for line in lines:
                self._reporter.write_line(line)

    def headings(self) -> list[str]:
        """The header lines that have not been printed, each with its Pythons if not all have it."""
        if self._shown is None:
            self._show_headings()
        shown = self._shown or set()
        ran = [row for row in self.rows if row.worker is not None]
        lines = []
        for line, rows in rows_by_text(ran, "heading").items():
            if _OF_ONE_PYTHON.match(line):
                if others := [row for row in rows if row.label not in self._shown_of.get(line, ())]:
                    lines.append(_labelled(line, others))
            elif line not in shown or len(rows) < len(ran):
                lines.append(line if len(rows) == len(ran) else _labelled(line, rows))
        return lines

    def _show_output(self, row: InterpreterRun, start: int, end: int, nodeid: str) -> None:
        """Print a part of the worker's output for a test: a live log, or the lines of ``--setup-show``."""
        if self._reporter is not None and row.worker is not None and (text := row.worker.printed(start, end)).strip():
            self._reporter.ensure_newline()
            self._reporter.write_line(named(nodeid, row.label), bold=True)
            self._reporter.write(text.strip("\n") + "\n")

    def _collected(self, row: InterpreterRun, found: list[Any], deselected: int) -> None:
        row.collected = len(found)
        row.items = [(nodeid, _location(nodeid, location)) for nodeid, location in found]
        row.nodeids = {nodeid for nodeid, _ in row.items}
        if deselected:
            item = _Item.from_parent(self.session, name=row.label, nodeid=f"[{row.label}]")
            self.config.hook.pytest_deselected(items=[item] * deselected)
        self._count_collected()

    def _count_collected(self) -> None:
        """Update the total for the progress display. A Python that has not collected yet counts as the largest one."""
        known = [row.collected + len(row.unforeseen) for row in self.rows if row.collected is not None]
        waiting = sum(row.collected is None and not row.is_over for row in self.rows)
        self.session.testscollected = self.before + sum(known) + waiting * (max(known) if known else 0)

    def _passed(self, row: InterpreterRun, index: int, start: float, durations: Sequence[float]) -> None:
        nodeid, location = row.items[index]
        row.running.pop(nodeid, None)
        row.reported.add(nodeid)
        row.tally.count("passed")
        self.matrix.put(nodeid, row.label, Cell(outcome="passed", seconds=sum(durations)))
        name = named(nodeid, row.label)
        for when, duration in zip(("setup", "call", "teardown"), durations, strict=True):
            if when == "call" or self._emits_all:
                report = pytest.TestReport(
                    nodeid=name,
                    location=location,
                    keywords={},
                    outcome="passed",
                    longrepr=None,
                    when=when,  # type: ignore[arg-type]  # one of the three
                    duration=duration,
                    start=start,
                    stop=start + duration,
                )
                report.__dict__["node"] = self._node(row)
                self.config.hook.pytest_runtest_logreport(report=report)
            start += duration
        self._tell_finish(nodeid=name, location=location)

    def _reported(self, row: InterpreterRun, data: dict[str, Any]) -> None:
        nodeid = data["nodeid"]
        report = self._report(row, data)
        row.reported.add(nodeid)
        if data["when"] == "teardown":
            row.running.pop(nodeid, None)
        if nodeid not in row.nodeids and nodeid not in row.unforeseen:
            row.unforeseen.add(nodeid)
            self._count_collected()
        # With `-p no:terminal`, no plugin may implement the hook.
        status = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        category = status[0] if status else report.outcome
        if category in {"passed", "failed", "error", "skipped", "xfailed", "xpassed"}:
            row.tally.count(category)
            text = text_of(report) if category != "passed" else ""
            seconds = float(data.get("duration") or 0)
            self.matrix.put(nodeid, row.label, Cell(outcome=category, seconds=seconds, text=text))
        if report.failed and not hasattr(report, "wasxfail"):
            row.failures += 1
            row.failed_ids.append(nodeid)
        self.config.hook.pytest_runtest_logreport(report=report)
        if data["when"] == "teardown":
            self._tell_finish(nodeid=report.nodeid, location=report.location)

    def _collect_report(self, row: InterpreterRun, data: dict[str, Any], *, is_of_tests: bool = True) -> None:
        report = self._report(row, data)
        outcome = "error" if report.failed else "skipped"
        row.has_collect_error |= report.failed
        row.failures += report.failed
        row.tally.count(outcome)
        self.matrix.put(data["nodeid"] or "collection", row.label, Cell(outcome=outcome, text=text_of(report)))
        if is_of_tests and (match := _MISSING_MODULE.search(report.longreprtext)):
            self._is_missing(f"the module {match[1].partition('.')[0]}", row)
        with self._without_collecting():
            self.config.hook.pytest_collectreport(report=report)

    @contextlib.contextmanager
    def _without_collecting(self) -> Iterator[None]:
        """At a terminal, pytest's reporter would write "collecting 0 items / 1 error" over dots of other Pythons."""
        before = getattr(self._reporter, "isatty", None)  # a function, or until pytest 8 a bool
        if before is not None:
            self._reporter.isatty = (lambda: False) if callable(before) else False
        try:
            yield
        finally:
            if before is not None:
                self._reporter.isatty = before

    def _report(self, row: InterpreterRun, data: dict[str, Any]) -> Any:
        nodeid = data["nodeid"]
        data = _tuples(data)
        data["nodeid"] = named(nodeid, row.label)
        status = data.pop("$status", None)
        data.setdefault("start", 0)
        data.setdefault("stop", 0)
        if data["$report_type"] == "CollectReport":
            data["result"] = []
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        report.node = self._node(row)
        if status is not None:
            category, letter, word = status
            self._statuses[id(report)] = (category, letter, tuple(word) if isinstance(word, list) else word)
            weakref.finalize(report, self._statuses.pop, id(report), None).atexit = False
        return report

    def status_of(self, report: Any) -> tuple[str, str, Any] | None:
        """The status that a worker's plugins gave the report; None if they left it to pytest."""
        if getattr(report, "when", "") == "session":  # an error of a whole Python, as the summary titles it
            return "error", "E", "ERROR"
        return self._statuses.get(id(report))

    def _warned(self, row: InterpreterRun, fields: list[Any]) -> None:
        message, module, name, filename, lineno, nodeid, when = fields
        category = type(name, (Warning,), {"__module__": module})
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warnings.WarningMessage(category(message), category, filename, lineno),
                "nodeid": named(nodeid, row.label) if nodeid else "",
                "when": when,
                "location": None,
            }
        )

    def report_end(self, row: InterpreterRun, worker: WorkerSession, code: int, *, cache: Path, flaw: str = "") -> None:
        """Record the end of a worker, and report an error if it did not end normally.

        `cache` is its pytest cache directory. `flaw` is what is wrong with its Python, if that is known.
        """
        row.is_over = True
        row.tally.seconds = worker.seconds
        worker.close()
        row.collected = row.collected or 0
        self._count_collected()
        # The translation of the configuration for an old pytest is a temporary file.
        translation = worker.directory.parents[1] / f"{row.file_name}.toml"
        tail = worker.tail().replace(str(translation), str(self.config.inipath))
        if row.exit_code is None:
            self._crashed(row, code, tail, cache, flaw=flaw)
        elif row.tally.note == NOT_SELECTED:
            pass
        elif row.exit_code == pytest.ExitCode.USAGE_ERROR:
            text = self._with_hint(row, _usage_error(tail))
            for plugin, option in plugins_of(text).items():
                self._is_missing(f"{plugin} ({option})", row)
            self._broken(row, text, note=f"did not start: {text.splitlines()[0].removeprefix('ERROR: ')}")
        elif row.internal_error:
            self._broken(row, row.internal_error, note="internal error of pytest")
        elif text := _why_incomplete(row):
            self._broken(row, text, note="stopped")
        elif _is_interrupted(row):
            # The message of `pytest.exit` is the whole reason. After Ctrl-C, the output shows the place.
            text = "" if row.interrupted.startswith("Exit: ") else f"\n\n{tail}"
            how = f": {row.interrupted}" if row.interrupted else ""
            self._broken(row, f"the session was interrupted{how}{text}", note=row.interrupted or "interrupted")
        elif row.exit_code not in {0, 2, 5} and not row.failures:
            text = f"pytest ended with exit code {row.exit_code}\n\n{_exception(tail)}"
            self._broken(row, text, note=f"exit code {row.exit_code}")
        elif code not in {row.exit_code, row.exit_code & 0xFF}:
            how = f"{ending_of(code)} after pytest had ended with exit code {row.exit_code}"
            self._broken(row, f"the interpreter {how}{_end_of_output(tail)}", note=how)

    def _with_hint(self, row: InterpreterRun, text: str) -> str:
        words = [*row.words.arguments, *row.words.after_dashes] if row.words else []
        written = {base: word for word, base in row.words.places.items()} if row.words else {}
        return with_hint(
            text,
            [written.get(word, word) for word in words],
            [each.label for each in self.rows],
            self.config.invocation_params.dir,
            known=row.known,
            root=self.config.rootpath,
        )

    def _crashed(self, row: InterpreterRun, code: int, tail: str, cache: Path, *, flaw: str) -> None:
        how, output = ending_of(code), _end_of_output(tail)
        if not row.running:
            self._broken(row, f"the interpreter {how}{output}{flaw}", note=how)
            return
        remember_failures(cache, [*row.failed_ids, *row.running])
        for nodeid in row.running:
            location = next((location for name, location in row.items if name == nodeid), _location(nodeid, None))
            data = {
                "$report_type": "TestReport", "nodeid": nodeid, "location": location, "keywords": {},
                "outcome": "failed", "when": "call", "sections": [], "user_properties": [], "duration": 0.0,
                "longrepr": f"the interpreter {how} while it ran this test{output}",
            }  # fmt: skip
            self._reported(row, data)
        row.running.clear()
        row.tally.note = how

    def _is_missing(self, what: str, row: InterpreterRun) -> None:
        labels = self.missing.setdefault(what, [])
        if row.label not in labels:
            labels.append(row.label)

    def report_missing(self, row: InterpreterRun, why: str, *, skips: bool, note: str = "") -> None:
        """Report a Python without an interpreter or environment, or one that the project does not support.

        `why` is the reason, and `note` the one in the table, by default the same. With `skips` it is a skip, else an
        error.
        """
        row.is_over = True
        row.collected = 0
        row.tally.note = re.sub(r"^Python \S+: ", "", note or why.splitlines()[0])  # the table names the Python
        if skips:
            longrepr: Any = (str(self.config.rootpath), 0, f"Skipped: {why.splitlines()[0]}")
            self._collect_report(row, _collect_data("skipped", longrepr))
            row.tally.counts.clear()
            return
        self._broken(row, why, note=row.tally.note, is_of_tests=False)
        row.tally.counts.clear()

    def _broken(self, row: InterpreterRun, text: str, *, note: str, is_of_tests: bool = True) -> None:
        """Report an error of a whole Python. If it `is_of_tests`, a missing module belongs in the environment."""
        self.has_own_error = True
        row.error = row.error or text
        row.tally.note = note
        self._collect_report(row, _collect_data("failed", text), is_of_tests=is_of_tests)


def _labelled(line: str, rows: Sequence[InterpreterRun]) -> str:
    return f"{', '.join(row.label for row in rows)}: {line}"


def rows_by_text(rows: Sequence[InterpreterRun], name: str) -> dict[str, list[InterpreterRun]]:
    """The texts in the attribute `name` of `rows`, in order and without repetition, each with the rows that have it."""
    found: dict[str, list[InterpreterRun]] = {}
    for row in rows:
        for text in getattr(row, name):
            if row not in found.setdefault(text, []):
                found[text].append(row)
    return found


def first_error(row: InterpreterRun) -> str:
    """The first line of the error of `row`, and its hints."""
    first, *more = row.error.splitlines()
    hints = [line for line in more if line.startswith("hint: ")]
    return "\n".join([f"ERROR [{row.label}] - {first.removeprefix('ERROR: ')}", *hints])


def _is_interrupted(row: InterpreterRun) -> bool:
    """Whether Ctrl-C or `pytest.exit` ended the session, and no other error says so."""
    if row.exit_code == pytest.ExitCode.INTERRUPTED:
        return not row.has_collect_error and not row.stopping
    return bool(row.interrupted) and row.exit_code in {0, 5}  # `pytest.exit` can set any exit code


def _why_incomplete(row: InterpreterRun) -> str:
    """Why a session without another error ended before it had run its tests; empty if it has run them."""
    if row.incomplete and row.exit_code == 0:
        return f"pytest ended with exit code 0, but {row.incomplete}"
    return f"the session was stopped: {row.stopping}" if row.stopping and not row.failures else ""


def _end_of_output(tail: str) -> str:
    return f"\n\nThe end of its output:\n{tail}" if tail else ""


def _exception(tail: str) -> str:
    """The exception in which the last traceback of pytest's output ends; `tail` itself if there is no traceback.

    The frames before it differ between the Pythons, and one cause should be shown once.
    """
    lines = tail.splitlines()
    frames = [index for index, line in enumerate(lines) if re.match(r'  File ".*", line \d+', line)]
    rest = lines[frames[-1] + 1 :] if frames else []
    start = next((index for index, line in enumerate(rest) if line and not line[0].isspace()), None)
    return tail if start is None else "\n".join(rest[start:]).strip()


_LAST_LINE = re.compile(r"(?:=+ )?(?:no tests ran|\d+ \w+.*) in [\d.]+s(?: \([\d:]+\))?(?: =+)?$")
"""The last line of pytest's output, also with ``-q``."""


def _usage_error(tail: str) -> str:
    """The part of pytest's output that starts with the error; `tail` itself if there is no such line."""
    lines = [line for line in tail.splitlines() if not re.match(r"(ERROR: )?usage: ", line)]
    for index, line in enumerate(lines):
        if re.match(r"ERROR: |\S+: error: |\S*Error\b", line):
            text = "\n".join(line for line in lines[index:] if not _LAST_LINE.match(line)).strip()
            # The name at the start depends on the version of pytest and on how it was started.
            return re.sub(r"^(?!ERROR)\S+: error: ", "pytest: error: ", text)
    return tail or "pytest ended with a usage error"


def _location(nodeid: str, location: Sequence[Any] | None) -> tuple[str, int | None, str]:
    if location:
        return (location[0], location[1], location[2])
    path, _, rest = nodeid.partition("::")
    return (path, None, rest.replace("::", "."))


def _collect_data(outcome: str, longrepr: object) -> dict[str, Any]:
    return {"$report_type": "CollectReport", "nodeid": "", "outcome": outcome, "longrepr": longrepr, "sections": []}


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with tuples in place of lists: pytest checks some values with ``isinstance(value, tuple)``."""
    longrepr = data.get("longrepr")
    data = dict(data)
    if isinstance(longrepr, list):
        data["longrepr"] = tuple(longrepr)
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) if isinstance(pair, list) else pair for pair in data.get(name) or ()]
    if isinstance(data.get("location"), list):
        data["location"] = tuple(data["location"])
    return data


def text_of(report: Any) -> str:
    """The text of a failure with its captured output, or the reason of a skip; may be empty."""
    longrepr = report.longrepr
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        return f"{longrepr[0]}:{longrepr[1]}: {longrepr[2]}"
    sections = [f"\n--- {title} ---\n{content}" for title, content in report.sections if report.failed]
    return f"{report.longreprtext}{''.join(sections)}" or str(getattr(report, "wasxfail", "") or "")
