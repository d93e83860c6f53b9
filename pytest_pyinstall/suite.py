"""Runs the project's whole suite under each Python, and merges the reports into one session.

    outer session ── one environment for each Python ──> an inner pytest session there
          ^                                                    │ _inner_plugin.py
          └──── reports, their node ids ending in [py3.9] <────┘ a file of JSON lines

Nothing of the project is imported here: neither its conftest files nor its tests. See docs/suite.md.
"""

import contextlib
import copy
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_pyinstall.errors import InvalidSettingError, PyinstallError, UsageError
from pytest_pyinstall.session import Choice, Pythons, reason
from pytest_pyinstall.suite_environment import Made, make_environment
from pytest_pyinstall.suite_process import Inner, prepare_plugin
from pytest_pyinstall.suite_recipe import Recipe, read_recipe
from pytest_pyinstall.suite_report import Cell, Matrix, Tally, page, table

__all__ = ["Suite", "adapt_arguments", "adapt_options", "label_of"]

_PAUSE = 0.01
"""Seconds between two looks at what the sessions wrote, when there was nothing new."""
_GRACE = 0.6
"""Seconds that an interrupted session has to end by itself."""
_CORE = {
    *("terminalreporter", "lfplugin", "nfplugin", "session", "stepwiseplugin", "terminalprogress", "faulthandler"),
    *("terminalprogress-plugin", "pyinstall", "pyinstall-suite", "github", "unraisableexception", "threadexception"),
}
"""Plugins that have no use for the setup and teardown of a test that simply passed."""


def label_of(choice: Choice) -> str:
    """What node ids end in: ``py3.9``, ``py3.13t``, ``pypy3.11``."""
    return choice.id if choice.id.startswith(("py", "graalpy")) else f"py{choice.id}"


def adapt_arguments(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Keep the outer session from everything that is the inner sessions': conftests, their options, their plugins'.

    For `pytest_load_initial_conftests`. What this session's plugins do not know is taken out of `args`.
    """
    namespace = config.known_args_namespace
    namespace.noconftest = True
    namespace.pythonwarnings = []
    if hasattr(namespace, "cov_source"):
        namespace.cov_source = []
    _, unknown = parser.parse_known_and_unknown_args(list(args), copy.copy(config.option))
    for word in unknown:
        if word in args:
            args.remove(word)
    found = getattr(config, "_inicfg", None) or config.inicfg
    # Categories of warnings would be imported, out of the project.
    found.pop("filterwarnings", None)
    for name in list(found):
        with contextlib.suppress(ValueError, AssertionError):
            if name not in parser._inidict and name not in getattr(parser, "_ini_aliases", ()):  # noqa: SLF001  # no other way to ask
                parser.addini(name, help="for the inner sessions")


def adapt_options(config: pytest.Config) -> None:
    """Take from the outer session the options that the inner sessions obey, each for itself."""
    option = config.option
    values: dict[str, Any] = {
        "numprocesses": None, "dist": "no", "tx": [], "looponfail": False, "distload": False,
        "cov_source": [], "no_cov": True,
        "stepwise": False, "stepwise_skip": False, "lf": False, "failedfirst": False, "newfirst": False,
        "usepdb": False, "trace": False,
    }  # fmt: skip
    for name, value in values.items():
        if hasattr(option, name):
            setattr(option, name, value)


class _Gateway:
    def __init__(self, label: str) -> None:
        self.id = label


class _Node:
    """What pytest's reporters ask of a report that comes from elsewhere; they know it from xdist."""

    def __init__(self, label: str) -> None:
        self.gateway = _Gateway(label)
        # The line above each failure's text; ours say where they are from in their heading.
        self._workerinfocache = ""


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    """One Python of the session."""

    label: str
    choice: Choice
    tally: Tally
    node: _Node
    arguments: list[str] = field(default_factory=list)
    preparing: Future[Made] | None = None
    made: Made | None = None
    inner: Inner | None = None
    is_over: bool = False
    items: list[tuple[str, tuple[str, int | None, str]]] = field(default_factory=list)
    collected: int | None = None
    running: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    has_collect_error: bool = False
    internal_error: str = ""
    stopping: str = ""
    exit_code: int | None = None
    coverage: list[Any] | None = None
    failed_ids: list[str] = field(default_factory=list)


class _Deselected:
    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


class Suite:
    """The plugin of an outer session. `say` writes a line to the terminal."""

    def __init__(
        self,
        config: pytest.Config,
        choices: Sequence[Choice],
        pythons: Pythons,
        *,
        say: Callable[[str], None] | None,
    ) -> None:
        """Raises `PyinstallError` for options that cannot be meant, and a project that cannot be read."""
        self.config = config
        self.pythons = pythons
        self.say = say or (lambda _: None)
        self.session: pytest.Session | None = None
        self.jobs = _jobs(config)
        self.given = list(map(str, config.invocation_params.args))
        self.rows = [self.row_of(choice, label=label_of(choice)) for choice in choices]
        self.matrix = Matrix(row.tally for row in self.rows)
        installs = [str(word) for word in config.getini("pyinstall_suite_install")]
        self.recipe: Recipe = read_recipe(_project_directory(config), installs)
        self.is_interactive = _is_interactive(self.given, config)
        self._select()
        if self.is_interactive and len(self.rows) > 1:
            names = ", ".join(row.label for row in self.rows)
            word = "--pdb, --trace and -s show"
            message = f"{word} one Python at a time, and these are {len(self.rows)}: {names}"
            raise UsageError(message, hint=f"--python {self.rows[-1].choice.asked[0]}")
        self._scratch = Path(tempfile.mkdtemp(prefix="pytest-pyinstall-suite-"))
        self._emits_all = True
        self._keeps_sections = True
        self._said: deque[str] = deque()

    def row_of(self, choice: Choice, *, label: str, arguments: Sequence[str] | None = None) -> _Row:
        """What this session knows of one Python. With `arguments` it is asked for these beside the user's."""
        tally = Tally(label=label, python=_version(choice))
        words = [] if arguments is None else [*_without_ours(self.given), *arguments]
        return _Row(label=label, choice=choice, tally=tally, node=_Node(label), arguments=words)

    # Selecting

    def _select(self) -> None:
        """What each Python is asked: node ids that name Pythons are for these alone."""
        words = _without_ours(self.given)
        labels = {row.label for row in self.rows}
        chosen: dict[str, list[str]] = {row.label: [] for row in self.rows}
        is_chosen = False
        for word in words:
            match = re.fullmatch(r"(.+::.+)\[((?:py|graalpy)[^\[\]]*)\]", word)
            named = set(match[2].split(",")) if match else set()
            if match and named and named <= labels:
                is_chosen = True
                for label in named:
                    chosen[label].append(match[1])
            else:
                for row in self.rows:
                    row.arguments.append(word)
        if is_chosen:
            for row in self.rows:
                row.arguments += chosen[row.label]
            self.rows = [row for row in self.rows if chosen[row.label]]
            self.matrix.tallies = [row.tally for row in self.rows]

    def _full_arguments(self, row: _Row) -> list[str]:
        config = self.config
        name = re.sub(r"[^\w.+-]", "_", row.label)
        words = [f"--rootdir={config.rootpath}", "-o", f"cache_dir={self._cache_directory(row)}"]
        if basetemp := config.getoption("basetemp", None):
            words.append(f"--basetemp={Path(basetemp) / name}")
            Path(basetemp).mkdir(parents=True, exist_ok=True)
        is_last_failed = _asks(self.given, "--lf", "--last-failed")
        is_decided = _asks(self.given, "--lfnf", "--last-failed-no-failures")
        # With failures on one Python, the others have nothing to run again.
        if is_last_failed and not is_decided and any(_last_failed(self._cache_directory(row)) for row in self.rows):
            words.append("--lfnf=none")
        words += self._translated_ini(row)
        # What stands last wins.
        return [*row.arguments, *words]

    def _translated_ini(self, row: _Row) -> list[str]:
        """The settings of a file that this Python's pytest cannot read: native TOML came with pytest 9."""
        path = self.config.inipath
        if path is None or path.suffix != ".toml" or row.made is None or int(row.made.pytest.partition(".")[0]) >= 9:
            return []
        import tomllib

        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        native = document.get("tool", {}).get("pytest") if path.name == "pyproject.toml" else document.get("pytest")
        if not isinstance(native, dict) or "ini_options" in native:
            return []
        words = []
        for name, value in native.items():
            if (
                name.startswith("pyinstall_")
                or name in {"minversion", "cache_dir", "strict"}
                or isinstance(value, dict)
            ):
                continue
            text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
            if name in {"addopts", "testpaths", "pythonpath", "norecursedirs"} and isinstance(value, list):
                import shlex

                text = shlex.join(map(str, value))
            words += ["-o", f"{name}={text.lower() if isinstance(value, bool) else text}"]
        return words

    @functools.cached_property
    def _caches(self) -> Path:
        cache = getattr(self.config, "cache", None)
        if cache is not None:
            with contextlib.suppress(OSError):
                return Path(cache.mkdir("pyinstall"))
        return self._scratch / "cache"

    def _cache_directory(self, row: _Row) -> Path:
        return self._caches / re.sub(r"[^\w.+-]", "_", row.label)

    # The session

    def pytest_report_header(self) -> list[str]:
        install = self.recipe.description
        return [f"suite: {install}, under {len(self.rows)} Pythons, {self.jobs} at once"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """The inner sessions collect; this one has no items of its own."""
        self.session = session
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._emits_all = self._has_curious_reporters()
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        self._keeps_sections = self._emits_all or (reporter is not None and reporter.hasopt("P"))
        try:
            self._run()
        except BaseException:
            self._end()
            raise
        finally:
            self._clean()
        if self.config.option.collectonly:
            self._list_collected()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _has_curious_reporters(self) -> bool:
        if self.config.getoption("durations", None) is not None or self.config.getoption("xmlpath", None):
            return True
        implementations = self.config.hook.pytest_runtest_logreport.get_hookimpls()
        return any(implementation.plugin_name not in _CORE for implementation in implementations)

    def _run(self) -> None:
        plugin = prepare_plugin(self._scratch)
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="pyinstall-suite") as executor:
            try:
                for row in self.rows:
                    if row.choice.interpreter is None:
                        self._missing(row, reason(row.choice))
                    else:
                        row.preparing = executor.submit(self._prepare, row)
                while not all(row.is_over for row in self.rows):
                    if not self._step(plugin):
                        time.sleep(_PAUSE)
                    if self._is_stopping:
                        break
            finally:
                executor.shutdown(wait=False, cancel_futures=True)
                self._end()
        self._combine_coverage()

    @property
    def _is_stopping(self) -> bool:
        assert self.session is not None  # noqa: S101  # by the order of the hooks
        return bool(self.session.shouldfail or self.session.shouldstop)

    def _prepare(self, row: _Row) -> Made:
        assert row.choice.interpreter is not None  # noqa: S101  # by the order of the hooks
        settings = self.pythons.provisioner.settings
        return make_environment(
            row.choice.interpreter,
            self.recipe,
            cache=settings.cache,
            environ=os.environ,
            lock_timeout=settings.lock_timeout,
            say=self._said.append if self.config.get_verbosity() >= 0 else None,
        )

    def _step(self, plugin: Path) -> bool:
        """Look at every Python once, and say whether anything happened."""
        happened = bool(self._said)
        while self._said:
            self.say(self._said.popleft())  # here, because threads would write into each other's lines
        active = sum(row.inner is not None and not row.is_over for row in self.rows)
        for row in self.rows:
            if row.is_over:
                continue
            if row.inner is not None:
                happened |= self._follow(row)
            elif row.preparing is not None and row.preparing.done() and active < self.jobs:
                happened = True
                try:
                    row.made = row.preparing.result()
                    self._start(row, plugin)
                    active += 1
                except PyinstallError as error:
                    self._missing(row, str(error))
            if self._is_stopping:
                break
        return happened

    def _start(self, row: _Row, plugin: Path) -> None:
        assert row.made is not None  # noqa: S101  # by the order of the hooks
        assert row.choice.interpreter is not None  # noqa: S101  # by the order of the hooks
        row.tally.pytest = row.made.pytest
        name = re.sub(r"[^\w.+-]", "_", row.label)
        environ = {**os.environ, "COVERAGE_FILE": str(self._scratch / "coverage" / f".coverage.{name}")}
        (self._scratch / "coverage").mkdir(exist_ok=True)
        row.inner = Inner(directory=self._scratch / "sessions" / name, is_interactive=self.is_interactive)
        row.inner.start(
            row.made.python,
            self._full_arguments(row),
            plugin=plugin,
            key=row.choice.interpreter.key,
            working_directory=self.config.invocation_params.dir,
            environ=environ,
            # As `python -m pytest` does, and `pytest` does not.
            with_directory=Path(sys.argv[0]).name == "__main__.py",
            keeps_sections=self._keeps_sections,
        )

    def _follow(self, row: _Row) -> bool:
        assert row.inner is not None  # noqa: S101  # by the order of the hooks
        # In this order: what it wrote before it ended is there when we have seen that it ended.
        code = row.inner.exit_code
        happened = False
        for event in row.inner.events():
            happened = True
            self._hear(row, event)
            if self._is_stopping:
                return True
        if code is not None:
            self._ended(row, code)
        return happened or code is not None

    def _hear(self, row: _Row, event: list[Any]) -> None:  # noqa: C901  # one case for each kind of line
        match event:
            case ["s", index]:
                row.running[row.items[index][0] if isinstance(index, int) else index] = time.monotonic()
            case ["p", index, start, setup, call, teardown]:
                self._passed(row, index, start, (setup, call, teardown))
            case ["r", data]:
                self._reported(row, data)
            case ["c", data]:
                self._collect_report(row, data)
            case ["collected", found, deselected]:
                self._collected(row, found, deselected)
            case ["w", *fields]:
                self._warned(row, fields)
            case ["internal", text]:
                row.internal_error = text
            case ["stopping", text]:
                row.stopping = text
            case ["coverage", *fields]:
                row.coverage = fields
            case ["end", code]:
                row.exit_code = code

    def _collected(self, row: _Row, found: list[Any], deselected: int) -> None:
        row.collected = len(found)
        row.items = [(nodeid, _location(nodeid, location)) for nodeid, location in found]
        if deselected:
            self.config.hook.pytest_deselected(items=[_Deselected(row.label)] * deselected)
        self._count_collected()

    def _count_collected(self) -> None:
        """One total over all Pythons; those that have not collected yet are taken to have as many as the others."""
        assert self.session is not None  # noqa: S101  # by the order of the hooks
        known = [row.collected for row in self.rows if row.collected is not None]
        waiting = sum(row.collected is None and not row.is_over for row in self.rows)
        self.session.testscollected = sum(known) + waiting * (max(known) if known else 0)

    def _passed(self, row: _Row, index: int, start: float, durations: Sequence[float]) -> None:
        nodeid, location = row.items[index]
        row.running.pop(nodeid, None)
        row.tally.count("passed")
        self.matrix.put(nodeid, row.label, Cell(outcome="passed", seconds=sum(durations)))
        for when, duration in zip(("setup", "call", "teardown"), durations, strict=True):
            if when == "call" or self._emits_all:
                report = pytest.TestReport(
                    nodeid=_named(nodeid, row.label),
                    location=location,
                    keywords={},
                    outcome="passed",
                    longrepr=None,
                    when=when,  # type: ignore[arg-type]  # one of the three
                    duration=duration,
                    start=start,
                    stop=start + duration,
                )
                report.__dict__["node"] = row.node
                self.config.hook.pytest_runtest_logreport(report=report)
            start += duration

    def _reported(self, row: _Row, data: dict[str, Any]) -> None:
        nodeid = data["nodeid"]
        report = self._report(row, data)
        if data["when"] == "teardown":
            row.running.pop(nodeid, None)
        category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        if category in {"passed", "failed", "error", "skipped", "xfailed", "xpassed"}:
            row.tally.count(category)
            text = _text_of(report) if category != "passed" else ""
            seconds = float(data.get("duration") or 0)
            self.matrix.put(nodeid, row.label, Cell(outcome=category, seconds=seconds, text=text))
        if report.failed and not hasattr(report, "wasxfail"):
            row.failures += 1
            row.failed_ids.append(nodeid)
        self.config.hook.pytest_runtest_logreport(report=report)

    def _collect_report(self, row: _Row, data: dict[str, Any]) -> None:
        report = self._report(row, data)
        outcome = "error" if report.failed else "skipped"
        row.has_collect_error |= report.failed
        row.failures += report.failed
        row.tally.count(outcome)
        self.matrix.put(data["nodeid"] or "collection", row.label, Cell(outcome=outcome, text=_text_of(report)))
        self.config.hook.pytest_collectreport(report=report)

    def _report(self, row: _Row, data: dict[str, Any]) -> Any:
        nodeid = data["nodeid"]
        data = _tuples(data)
        data["nodeid"] = _named(nodeid, row.label)
        data.setdefault("start", 0)
        data.setdefault("stop", 0)
        if data["$report_type"] == "CollectReport":
            data["result"] = []
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        report.node = row.node
        return report

    def _warned(self, row: _Row, fields: list[Any]) -> None:
        message, module, name, filename, lineno, nodeid, when = fields
        category = type(name, (Warning,), {"__module__": module})
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warnings.WarningMessage(category(message), category, filename, lineno),
                "nodeid": _named(nodeid, row.label) if nodeid else "",
                "when": when,
                "location": None,
            }
        )

    # How a session may end

    def _ended(self, row: _Row, code: int) -> None:
        assert row.inner is not None  # noqa: S101  # by the order of the hooks
        row.is_over = True
        row.tally.seconds = row.inner.seconds
        row.inner.close()
        row.collected = row.collected or 0
        self._count_collected()
        tail = row.inner.tail()
        if row.exit_code is None:
            self._crashed(row, code, tail)
        elif row.exit_code == pytest.ExitCode.USAGE_ERROR:
            self._broken(row, tail or "pytest ended with a usage error", note="did not start")
        elif row.internal_error:
            self._broken(row, row.internal_error, note="internal error of pytest")
        elif row.exit_code == pytest.ExitCode.INTERRUPTED and not row.has_collect_error and not row.stopping:
            self._broken(row, f"the session was interrupted\n\n{tail}", note="interrupted")
        elif row.exit_code not in {0, 2, 5} and not row.failures:
            self._broken(
                row, f"pytest ended with exit code {row.exit_code}\n\n{tail}", note=f"exit code {row.exit_code}"
            )

    def _crashed(self, row: _Row, code: int, tail: str) -> None:
        how = f"ended with exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        said = f"\n\nThe end of what it printed:\n{tail}" if tail else ""
        if not row.running:
            self._broken(row, f"the interpreter {how}{said}", note=how)
            return
        self._remember_failures(row)
        for nodeid in row.running:
            location = next((location for name, location in row.items if name == nodeid), _location(nodeid, None))
            data = {
                "$report_type": "TestReport", "nodeid": nodeid, "location": location, "keywords": {},
                "outcome": "failed", "when": "call", "sections": [], "user_properties": [], "duration": 0.0,
                "longrepr": f"the interpreter {how} while it ran this test{said}",
            }  # fmt: skip
            self._reported(row, data)
        row.running.clear()
        row.tally.note = how

    def _remember_failures(self, row: _Row) -> None:
        """For --lf: a session that died did not write down what had failed."""
        path = self._cache_directory(row) / "v" / "cache" / "lastfailed"
        failed = {**_last_failed(self._cache_directory(row)), **dict.fromkeys([*row.failed_ids, *row.running], True)}
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(failed, indent=2), encoding="utf-8")

    def _missing(self, row: _Row, why: str) -> None:
        """No interpreter, no environment, or a project that is not for this Python: as --python-missing says."""
        row.is_over = True
        row.collected = 0
        row.tally.note = why.splitlines()[0]
        if self.pythons.skips_missing:
            longrepr: Any = (str(self.config.rootpath), 0, f"Skipped: {why.splitlines()[0]}")
            self._collect_report(row, _collect_data("skipped", longrepr))
            row.tally.counts.clear()
            return
        self._broken(row, why, note=row.tally.note)
        row.tally.counts.clear()

    def _broken(self, row: _Row, text: str, *, note: str) -> None:
        row.tally.note = note
        self._collect_report(row, _collect_data("failed", text))

    # Ending

    def _end(self) -> None:
        """End what still runs: first asked, then told."""
        inners = [row.inner for row in self.rows if row.inner is not None and row.inner.exit_code is None]
        for inner in inners:
            inner.interrupt()
        deadline = time.monotonic() + _GRACE
        while any(inner.exit_code is None for inner in inners) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        for inner in inners:
            inner.kill()
            inner.close()
        for row in self.rows:
            if row.inner is not None and not row.is_over:
                row.tally.seconds = row.inner.seconds
                row.tally.note = "stopped"

    def _clean(self) -> None:
        for row in self.rows:
            if row.inner is not None:
                row.inner.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _list_collected(self) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        for row in self.rows:
            if self.config.get_verbosity() < -1:
                counts = Counter(nodeid.partition("::")[0] for nodeid, _ in row.items)
                for name, count in sorted(counts.items()):
                    reporter.write_line(f"{name}[{row.label}]: {count}")
                continue
            for nodeid, _ in row.items:
                reporter.write_line(_named(nodeid, row.label))
        deselected = len(reporter.stats.get("deselected", []))
        reporter._numcollected = sum(len(row.items) for row in self.rows) + deselected  # noqa: SLF001  # its last line

    def _combine_coverage(self) -> None:  # noqa: C901  # one step after the other
        """One report over the data of all Pythons, made with the coverage of the newest one's environment."""
        rows = [row for row in self.rows if row.coverage is not None and row.made is not None]
        if not rows or self._is_stopping:
            return
        row = rows[-1]
        assert row.made is not None  # noqa: S101  # by the order of the hooks
        assert row.coverage is not None  # noqa: S101  # by the order of the hooks
        reports, fail_under, config_file = row.coverage
        data_file = Path(os.environ.get("COVERAGE_FILE") or self.config.invocation_params.dir / ".coverage")
        rc = [f"--rcfile={config_file}"] if isinstance(config_file, str) and Path(config_file).is_file() else []
        parts = sorted(map(str, (self._scratch / "coverage").glob(".coverage.*")))
        if not parts:
            return

        def coverage(*words: str) -> subprocess.CompletedProcess[str]:
            assert row.made is not None  # noqa: S101  # by the order of the hooks
            return subprocess.run(
                [str(row.made.python), "-m", "coverage", *words],
                cwd=self.config.invocation_params.dir,
                env={**os.environ, "COVERAGE_FILE": str(data_file)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="backslashreplace",
                check=False,
            )

        self._coverage_lines = []
        done = coverage("combine", "--keep", *rc, *parts)
        wanted = dict(reports) or {"term": None}
        for kind, value in wanted.items():
            if done.returncode:
                break
            if kind in {"term", "term-missing"}:
                more = ["--show-missing"] if kind == "term-missing" else []
                more += ["--skip-covered"] if value == "skip-covered" else []
                done = coverage("report", *rc, *more)
                self._coverage_lines += done.stdout.rstrip().splitlines()
            elif kind in {"html", "xml", "json", "lcov", "annotate"}:
                target = ["-d" if kind in {"html", "annotate"} else "-o", str(value)] if value else []
                done = coverage(kind, *rc, *target)
                self._coverage_lines += done.stdout.rstrip().splitlines()
        if fail_under and not done.returncode:
            done = coverage("report", *rc, f"--fail-under={fail_under}")
            if done.returncode:
                self._coverage_lines.append(done.stdout.rstrip().splitlines()[-1])
        if done.returncode:
            assert self.session is not None  # noqa: S101  # by the order of the hooks
            self.session.testsfailed += 1
            self._coverage_lines = self._coverage_lines or done.stdout.rstrip().splitlines()

    _coverage_lines: Sequence[str] = ()

    # What a person sees at the end

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        stats = terminalreporter.stats
        before = {name: stats[name] for name in ("failed", "error", "xfailed", "xpassed") if name in stats}
        labels = [row.label for row in self.rows]
        ran = self._ran()
        for name, reports in before.items():
            stats[name] = _grouped(reports, labels, ran, Path(str(self.config.rootpath)))
        try:
            result = yield
        finally:
            stats.update(before)
        if self._coverage_lines:
            terminalreporter.write_sep("-", f"coverage: {len(self.rows)} Pythons combined")
            for line in self._coverage_lines:
                terminalreporter.write_line(line)
        if self.config.get_verbosity() >= -1 and not self.config.option.collectonly:
            self._write_table(terminalreporter)
        self._write_page(terminalreporter)
        return result

    def _write_table(self, terminalreporter: Any) -> None:
        terminalreporter.write_sep("-", "Pythons")
        for line, tally in zip(table(self.matrix.tallies), [None, *self.matrix.tallies], strict=True):
            bad = tally is not None and (tally.counts.get("failed") or tally.counts.get("error"))
            good = tally is not None and tally.counts.get("passed") and not bad
            terminalreporter.write_line(line, red=bool(bad), green=bool(good))

    def _ran(self) -> dict[str, set[str]]:
        return {test: set(cells) for test, cells in self.matrix.rows.items()}

    def _write_page(self, terminalreporter: Any) -> None:
        target = self.config.getoption("pyinstall_report", None)
        if not target or self.config.option.collectonly:
            return
        path = self.config.invocation_params.dir / Path(target).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            title = f"{self.recipe.name or self.recipe.directory.name} on {len(self.rows)} Pythons"
            path.write_text(page(self.matrix, title=title), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            terminalreporter.write_line(f"cannot write {path}: {error.strerror or error}", red=True)
            return
        terminalreporter.write_line(f"the matrix as a page: {path}")


def _grouped(reports: Sequence[Any], labels: Sequence[str], ran: Mapping[str, set[str]], root: Path) -> list[Any]:
    """The same failure of one test under several Pythons as one report, which names them."""
    groups: dict[tuple[object, ...], list[Any]] = {}
    for report in reports:
        groups.setdefault(_signature(report, root), []).append(report)
    failing: dict[str, set[str]] = {}
    for report in reports:
        if test := _base(report):
            failing.setdefault(test, set()).add(report.node.gateway.id)
    grouped = []
    for group in groups.values():
        test = _base(group[0])
        own = sorted({report.node.gateway.id for report in group}, key=labels.index) if test is not None else []
        if test is None:
            grouped += group
            continue
        shown = copy.copy(group[-1])  # of the newest Python, whose tracebacks say most
        others = [label for label in labels if label in ran.get(test, ()) and label not in own]
        if len(own) == 1 and not others:
            where = own[0]
        elif not others:
            where = f"every Python: {', '.join(own)}" if len(own) > 1 else own[0]
        else:
            elsewhere = [label for label in others if label in failing.get(test, ())]
            fine = [label for label in others if label not in elsewhere]
            where = f"on {', '.join(own)}"
            where += f"; otherwise on {', '.join(elsewhere)}" if elsewhere else ""
            where += f"; not on {', '.join(fine)}" if fine else ""
        _rename(shown, f"{test}[{','.join(own)}]", where)
        grouped.append(shown)
    return grouped


def _rename(report: Any, nodeid: str, where: str) -> None:
    if hasattr(type(report), "nodeid") and "_id" in report.__dict__:
        report.__dict__["_id"] = type(report.__dict__["_id"]).parse(nodeid)
    else:
        report.nodeid = nodeid
    if "location" in report.__dict__:
        path, line, domain = report.location
        report.location = (path, line, f"{domain} — {where}")


def _base(report: Any) -> str | None:
    """The test's own id; None for a report that is not one of ours."""
    node = getattr(report, "node", None)
    if node is None:
        return None
    return str(report.nodeid).removesuffix(f"[{node.gateway.id}]")


def _signature(report: Any, root: Path) -> tuple[object, ...]:
    """What is equal for what a person would call the same failure: message and places in the project."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    places: list[tuple[str, int]] = []
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
    for entry in entries:
        where = getattr(entry, "reprfileloc", None)
        if where is not None and "site-packages" not in where.path and not _is_elsewhere(where.path, root):
            places.append((where.path, where.lineno))
    message = str(getattr(crash, "message", longrepr))
    message = re.sub(r"0x[0-9a-fA-F]+", "0x…", message)
    message = re.sub(r"\S*/environments/[0-9a-f]{24}/", "", message)
    message = re.sub(
        r"python\d\.\d+|sys\.version_info\([^)]*\)|\(3, \d+(?:, \d+)?(?:, '\w+', \d+)?\)", "python", message
    )
    return (_base(report), report.when, message, tuple(places))


def _is_elsewhere(path: str, root: Path) -> bool:
    return os.path.isabs(path) and not path.startswith(f"{root}{os.sep}")  # noqa: PTH117  # text of another Python


def _named(nodeid: str, label: str) -> str:
    return f"{nodeid}[{label}]"


def _location(nodeid: str, location: Sequence[Any] | None) -> tuple[str, int | None, str]:
    if location:
        return (location[0], location[1], location[2])
    path, _, rest = nodeid.partition("::")
    return (path, None, rest.replace("::", "."))


def _collect_data(outcome: str, longrepr: object) -> dict[str, Any]:
    return {"$report_type": "CollectReport", "nodeid": "", "outcome": outcome, "longrepr": longrepr, "sections": []}


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """JSON made lists of what pytest tests for being a tuple."""
    longrepr = data.get("longrepr")
    data = dict(data)
    if isinstance(longrepr, list):
        data["longrepr"] = tuple(longrepr)
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) if isinstance(pair, list) else pair for pair in data.get(name) or ()]
    if isinstance(data.get("location"), list):
        data["location"] = tuple(data["location"])
    return data


def _text_of(report: Any) -> str:
    longrepr = report.longrepr
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        return f"{longrepr[0]}:{longrepr[1]}: {longrepr[2]}"
    sections = [f"\n--- {title} ---\n{content}" for title, content in report.sections if report.failed]
    return f"{report.longreprtext}{''.join(sections)}" or str(getattr(report, "wasxfail", "") or "")


def _version(choice: Choice) -> str:
    if choice.interpreter is None:
        return ""
    key = choice.interpreter.key
    return str(key.short)


def _jobs(config: pytest.Config) -> int:
    text = config.getoption("pyinstall_jobs") or config.getini("pyinstall_jobs")
    if not text:
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < 1:
        raise InvalidSettingError(f"--python-jobs: {text!r} is no number of Pythons", hint="--python-jobs 2")
    return jobs


def _project_directory(config: pytest.Config) -> Path:
    """The nearest directory with a project, from the root directory upward to that of the invocation's."""
    for directory in (config.rootpath, config.invocation_params.dir, *config.invocation_params.dir.parents):
        if any((directory / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg")):
            return directory
    return config.rootpath


def _is_interactive(words: Sequence[str], config: pytest.Config) -> bool:
    return _asks(words, "--pdb", "--trace") or config.getoption("capture", "fd") == "no"


def _asks(words: Iterable[str], *options: str) -> bool:
    return any(word.partition("=")[0] in options for word in words)


def _without_ours(words: Iterable[str]) -> list[str]:
    """The arguments less `--python…`: the inner sessions may have no plugin that knows them."""
    kept = []
    iterator: Iterator[str] = iter(words)
    for word in iterator:
        name, equals, _ = word.partition("=")
        if name == "--python-suite":
            continue
        if name == "--python" or name.startswith("--python-"):
            if not equals:
                next(iterator, None)
            continue
        kept.append(word)
    return kept


def _last_failed(directory: Path) -> dict[str, bool]:
    try:
        found = json.loads((directory / "v" / "cache" / "lastfailed").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
