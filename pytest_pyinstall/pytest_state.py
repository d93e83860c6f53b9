"""The plugin's state during a session: its Pythons, its suite, and the choice of a test's Pythons by its marks."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_pyinstall.options import ini_origin, ini_place
from pytest_pyinstall.pytest_options import (
    check_ini_values_of_suite,
    ini_value,
    is_from_command_line,
    is_suite,
    owner_of_python_option,
    requests_of,
    settings_of,
    step_level,
    written_ini_values,
)

if TYPE_CHECKING:
    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.progress import Display
    from pytest_pyinstall.session import PythonProvider, SessionPython
    from pytest_pyinstall.suite.shard import Cells

__all__ = [
    "PYTHON_FIXTURE",
    "STATE",
    "State",
    "none_fits",
    "not_fitting",
    "or_fail",
    "python_param",
    "state_of",
    "unused_sentence",
]


_T = TypeVar("_T")


PYTHON_FIXTURE = "_pyinstall_python"
"""A fixture that only our ``python`` fixture requests. So a test that uses it uses our ``python``, and not a user's
fixture of that name."""


_TOO_MANY = 10
"""Pythons that do not exist. Fewer are one error each in a suite."""


class State:
    """The state of one session. `choices` are its Pythons, empty if none was requested."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.choices: tuple[SessionPython, ...] = ()
        self.commands: list[str] = []
        self.failed: set[SessionPython] = set()
        self.origin = ""
        self.notes: list[str] = []
        self._announced: set[Interpreter] = set()
        self.uses: bool | None = None
        self.is_worker = hasattr(config, "workerinput")
        option = config.option
        looking = ("collectonly", "setupplan", "show_fixtures_per_test")
        self.looks_only = any(getattr(option, name, False) for name in looking)
        self.is_suite = is_suite(config, option)
        self._runs_nothing = any(getattr(option, name, None) for name in ("showfixtures", "cacheshow"))
        self._pythons: PythonProvider | None = None
        self._cells: Cells | None = None
        self._marked: dict[str, tuple[SessionPython, ...]] = {}
        self._item: pytest.Item | None = None
        self._made: tuple[Callable[[], None], tuple[bool, object]] | None = None
        self._followers: set[pytest.FixtureDef[Any]] = set()
        self._path_directories: tuple[str, ...] = ()
        self._stack = ExitStack()
        self._telling = ExitStack()
        self._path_before: str | None = None

    def start(self) -> None:
        """Provide the requested Pythons. A worker gets them from the controller. Raises `pytest.UsageError`."""
        self._reject_options()
        if self.is_suite:
            check_ini_values_of_suite(self.config)
        report = getattr(self.config.option, "pyinstall_report", None)
        if report and not self.is_suite and not self.looks_only:
            self._begin_report()
        if self.is_worker:
            self._take_over(self.config.workerinput.get("pyinstall", {}))  # type: ignore[attr-defined]  # xdist's
        elif not self._runs_nothing and (requested := requests_of(self.config)) is not None:
            from pytest_pyinstall.errors import PyinstallError

            try:
                test = getattr(self.config.option, "pyinstall_bisect", None)
                if self.is_suite or test:
                    self._reject_mistyped_words(test or "")
                if test:
                    self._begin_bisection(*requested)
                    return
                self._provide(*requested)
                if self.is_suite:
                    self._begin_suite()
            except PyinstallError as error:
                raise pytest.UsageError(str(error)) from None
        elif not self._runs_nothing and self.is_suite:
            raise self._no_request()

    def explain_mistyped_ids(self) -> None:
        """Add hints to pytest's errors for ids that do not exist. A suite explains the ids itself."""
        if self.is_suite or not any("[" in str(word) for word in self.config.args):
            return
        from pytest_pyinstall.suite.words import MistypedIds

        plugin = MistypedIds(
            self.config,
            pythons=[choice.id for choice in self.choices],
            requests=self.config.getoption("pyinstall_python") or (),
            is_ours=lambda item: PYTHON_FIXTURE in getattr(item, "fixturenames", ()),
        )
        self.config.pluginmanager.register(plugin, "pyinstall-mistyped-ids")

    def _reject_mistyped_words(self, test: str) -> None:
        """Raise `pytest.UsageError` for words that are wrong under each Python, before Pythons are installed for them.

        These are paths that do not exist, and the expressions of ``-k`` and ``-m``. `test` is that of a bisection.
        """
        from pytest_pyinstall.suite.options import words_of
        from pytest_pyinstall.suite.words import Piece, mistyped_place, wrong_expression

        words = words_of(self.config)
        if test:
            words = words._replace(arguments=[*words.arguments, Piece((test,))])
        # With `--pyargs`, a word can be the name of a module.
        text = "" if self.config.option.pyargs else mistyped_place(words, self.config.invocation_params.dir)
        if text := text or wrong_expression(self.config):
            raise pytest.UsageError(text)

    def _reject_versions(self) -> None:
        """Raise `pytest.UsageError` for an argument that should be a value of ``--python``: ``--python 3.9 3.10``."""
        version = r"3(?:\.\d+)+t?"
        values: set[str] = set()
        if self.is_suite:
            from pytest_pyinstall.suite.options import words_of

            values = {piece.words[0] for piece in words_of(self.config).all if piece.may_be_value}
        found = [
            each
            for each in self.config.args
            if each.startswith("3.")
            and re.fullmatch(rf"{version}(?:(?:,|\.\.){version})*", each)
            and each not in values
            and not self.config.invocation_params.dir.joinpath(each).exists()
        ]
        if found and not self.config.option.pyargs:
            flag = self._flag
            given = self.config.getoption("pyinstall_python") or ()
            more = f"; a comma separates the values of {flag}" if given else ""
            hint = f"{flag} {shlex.quote(','.join([*given, *found]))}{' --python-suite' if self.is_suite else ''}"
            raise pytest.UsageError(f"file or directory not found: {found[0]}{more}\nhint: {hint}")

    def _no_request(self) -> pytest.UsageError:
        from pytest_pyinstall.configuration import reason_without_requests, unread_configuration, unused_requests

        config = self.config
        places = [config.invocation_params.dir]
        if config.inipath is not None:
            places.insert(0, config.inipath.parent)
        unread = unread_configuration(config.inipath, *places)
        texts = unused_requests(written_ini_values(config), os.environ, unread)
        if test := getattr(config.option, "pyinstall_bisect", None):
            option, default, use = "--python-bisect", "3.9..3.13", f" --python-bisect {shlex.quote(test)}"
        else:
            option, default, use = "--python-suite", self._default_python(), " --python-suite"
            if not config.option.pyinstall_suite:
                option = ini_place(config, "pyinstall_suite")
                _, file = ini_origin(config, "pyinstall_suite")
                use = " -o pyinstall_suite=true" if file is None else ""
        why = reason_without_requests(config.inipath, unread)
        hint = f"{self._flag} {shlex.quote(','.join(texts) or default)}{use}"
        return pytest.UsageError(f"{option}: no Python was requested{f'; {why}' if why else ''}\nhint: {hint}")

    @property
    def _flag(self) -> str:
        """The option for requests, for a hint."""
        return "--pyinstall-python" if owner_of_python_option(self.config) else "--python"

    def _default_python(self) -> str:
        """The value of ``--python`` for a hint."""
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.project import directory_of_project

        try:
            return "supported" if directory_of_project(self.config.invocation_params.dir) else "3.13"
        except PyinstallError:  # a broken file, which `supported` reports
            return "supported"

    def _option_of_suite(self) -> str:
        """The used option that means nothing without a suite: a shard, or a variant that is not in ``addopts``."""
        if shard := getattr(self.config.option, "pyinstall_shard", None):
            return f"--python-shard {shard}"
        words = [str(word) for word in self.config.invocation_params.args]
        if not any(word.partition("=")[0] == "--python-with" for word in words):
            return ""
        return " ".join(f"--python-with {shlex.quote(text)}" for text in self.config.option.pyinstall_with or ())

    def _provide(self, texts: Iterable[object], origin: str, directory: Path) -> None:
        enters_path = ini_value(self.config, "pyinstall_path") and not self.looks_only  # before anything is installed
        self.origin = origin
        texts = list(texts)
        is_strict = is_from_command_line(origin)
        if self.is_suite:
            # A Python that cannot be provided fails only its own part of the suite.
            self.choices = self._choices_of_suite(texts, origin, directory)
        elif is_strict:
            self.choices = self.pythons.choose_all(texts, origin=origin, directory=directory)
        else:
            # Perhaps no selected test uses a missing Python: `fail_if_used` checks that after the collection.
            self.choices = self.pythons.choose_configured(texts, origin=origin, directory=directory)
        notes = self.pythons.notes_on_supported(self.choices, texts, origin=origin, directory=directory)
        self.notes += [f"pyinstall: {note}" for note in notes]
        self._announce(self.choices)
        if not enters_path:
            return
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.interpreter.path_commands import commands_on_path

        interpreters = [choice.interpreter for choice in self.choices if choice.interpreter]
        cache = self.pythons.provisioner.settings.cache
        try:
            commands = self._stack.enter_context(commands_on_path(interpreters, environ=os.environ, cache=cache))
        except PyinstallError as error:
            if is_strict or self.is_suite:
                raise
            self.notes.append(f"pyinstall: no commands on PATH: {error.message.splitlines()[0]}")
            return
        self.commands = list(commands.names)
        self._path_directories = commands.directories
        self._enter_path()

    def _choices_of_suite(self, texts: Iterable[object], origin: str, directory: Path) -> "tuple[SessionPython, ...]":
        from importlib import import_module
        from threading import Thread

        from pytest_pyinstall.system.processes import thread_limit

        pythons = self.pythons
        with thread_limit():  # it imports while the Pythons are probed, for which this process only waits
            Thread(target=import_module, args=("pytest_pyinstall.suite.controller",), daemon=True).start()
        if not self.config.option.pyinstall_shard:
            choices = pythons.choose(texts, origin=origin, directory=directory)
            self._reject_many(choices, origin)
            return choices
        from pytest_pyinstall.suite.shard import read_cells

        # The cut needs all names, and the session only the Pythons of its own shard.
        planned = self.pythons.plan(texts, origin=origin, directory=directory)
        self._cells = read_cells(self.config, [each.id for each in planned])
        return self.pythons.provide([each for each in planned if each.id in self._cells.pythons])

    def _reject_many(self, choices: "Sequence[SessionPython]", origin: str) -> None:
        """Raise `PyinstallError` if so many Pythons do not exist that the request is a mistake: ``3.9..3.99``."""
        from pytest_pyinstall.errors import NoMatchError, OfflineError
        from pytest_pyinstall.session import failure_of

        unknown = [choice for choice in choices if isinstance(choice.error, NoMatchError | OfflineError)]
        if len(unknown) >= _TOO_MANY and not any(map(self.pythons.skips, unknown)):
            raise failure_of(unknown, count=len(choices), origin=origin)

    def _begin_suite(self) -> None:
        from pytest_pyinstall.suite.controller import Suite

        suite = Suite(self.config, self.choices, self.pythons, say=self._teller(), cells=self._cells)
        self.config.pluginmanager.register(suite, "pyinstall-suite")

    def _reject_options(self) -> None:
        """Raise `pytest.UsageError` for options that need a suite, and for a page that cannot be written."""
        if self.is_worker:
            return
        self._reject_versions()
        if not self.is_suite and (option := self._option_of_suite()):
            pythons = f"{self._flag} {self._default_python()} " if requests_of(self.config) is None else ""
            raise pytest.UsageError(f"{option} needs --python-suite\nhint: {pythons}--python-suite {option}")
        if not getattr(self.config.option, "pyinstall_report", None):
            return
        from pytest_pyinstall.suite.summary import report_path

        path = place = report_path(self.config)
        while not os.path.lexists(place):
            place = place.parent
        if path.is_dir():
            why = "it is a directory"
        elif place != path and not place.is_dir():
            why = f"{place} is not a directory"
        elif not os.access(place, os.W_OK):
            why = f"{place} is not writable"
        else:
            return
        raise pytest.UsageError(f"--python-report: cannot write {path}: {why}\nhint: --python-report matrix.html")

    def _begin_report(self) -> None:
        from pytest_pyinstall.pytest_report import FixtureReport

        def columns() -> Iterable[tuple[str, str]]:
            for choice in self.choices:
                yield choice.id, choice.interpreter.key.display_name if choice.interpreter else choice.id

        report = FixtureReport(self.config, label_of=self._label_of, columns=columns)
        self.config.pluginmanager.register(report, "pyinstall-fixture-report")

    def _label_of(self, item: pytest.Item) -> str | None:
        """The id of the Python that `item` runs with. None if it does not use our `python`."""
        if PYTHON_FIXTURE not in getattr(item, "fixturenames", ()):
            return None
        param = python_param(item)
        if param is None:
            return ".".join(map(str, sys.version_info[:2]))
        for choices in (self.choices, *self._marked.values()):
            for choice in choices:
                if param in {choice, choice.interpreter}:
                    return choice.id
        return str(getattr(param, "version", param))

    def _begin_bisection(self, texts: Iterable[object], origin: str, directory: Path) -> None:
        """Start a bisection, which installs a Python only when it tries it."""
        from pytest_pyinstall.configuration import corrected_at_origin
        from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
        from pytest_pyinstall.request.request import parse_requests
        from pytest_pyinstall.suite.bisection import Bisection

        texts = list(texts)
        try:
            requests = self.pythons.provisioner.parse(parse_requests(texts, directory=directory, origin=origin))
        except (InvalidRequestError, NoMatchError) as error:
            raise corrected_at_origin(error, texts, origin=origin) from error
        suite = Bisection(self.config, requests, self.pythons, say=self._teller())
        self.config.pluginmanager.register(suite, "pyinstall-suite")

    def _announce(self, choices: "Iterable[SessionPython]") -> None:
        """Call `pytest_pyinstall_provided` for each Python, once, before a test uses it."""
        for choice in choices:
            interpreter = choice.interpreter
            # The session's Pythons are announced where they were provided, and not again in each xdist worker.
            if interpreter is None or self.looks_only or (self.is_worker and choice in self.choices):
                continue
            if interpreter not in self._announced:
                self._announced.add(interpreter)
                self.config.hook.pytest_pyinstall_provided(interpreter=interpreter, config=self.config)

    def to_json(self) -> dict[str, Any]:
        """The state that a worker needs. Empty if no Python was requested."""
        if not self.choices:
            return {}
        return {
            "choices": [choice.to_json() for choice in self.choices],
            "path": list(self._path_directories),
        }

    def _take_over(self, document: Mapping[str, Any]) -> None:
        if not document:
            return
        from pytest_pyinstall.session import SessionPython

        self.choices = tuple(map(SessionPython.from_json, document["choices"]))
        if document["path"]:
            self._path_directories = tuple(document["path"])
            self._enter_path()

    def _enter_path(self) -> None:
        # A worker on this machine inherits PATH from the controller, so it may contain the directories already.
        entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
        if not {*self._path_directories} <= {*entries}:
            self._path_before = os.environ.get("PATH", "")
            os.environ["PATH"] = os.pathsep.join([*self._path_directories, *entries])

    def close(self) -> None:
        """Close connections and leases, and restore PATH."""
        self.end_telling_steps()
        if self._pythons is not None:
            self._pythons.close()
        if self._path_before is not None:
            # Remove only our directories: other code may have changed PATH too.
            entries = os.environ.get("PATH", "").split(os.pathsep)
            os.environ["PATH"] = os.pathsep.join(entry for entry in entries if entry not in self._path_directories)
            self._path_before = None
        self._stack.close()

    @property
    def pythons(self) -> "PythonProvider":
        """Raises `PyinstallError` for an invalid setting."""
        if self._pythons is None:
            from pytest_pyinstall.session import PythonProvider

            display = self._display()
            say = self._teller() if display is None else display.say  # above the bars, if there are any
            self._tell_steps(say)
            self._pythons = PythonProvider.open(
                settings_of(self.config),
                directory=self.config.rootpath,
                looks_only=self.looks_only,
                say=say,
                display=display,
            )
        return self._pythons

    def _tell_steps(self, say: Callable[[str], None] | None) -> None:
        """Show the steps until the tests run. From then on, pytest itself captures the log."""
        level = step_level(self.config)
        if say is not None and level is not None:
            from pytest_pyinstall.progress import showing_steps

            self._telling.enter_context(showing_steps(say, level=level))

    def end_telling_steps(self) -> None:
        self._telling.close()

    def _display(self) -> "Display | None":
        """Shows downloads: bars on a terminal, else lines; with ``-q`` only lines of slow ones, with ``-qq`` none.

        None in a worker, which has no terminal.
        """
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        say = self._teller()
        verbose = self.config.getoption("verbose", 0)
        if reporter is None or say is None or verbose < -1:
            return None
        from pytest_pyinstall.progress import Bars, Lines, has_cursor

        file = getattr(getattr(reporter, "_tw", None), "_file", None)  # a plugin's reporter may have neither
        if file is None or not has_cursor(file, os.environ):
            return Lines(say, patience=0.0 if verbose >= 0 else 1.0)

        def begin_line() -> None:
            with self._uncaptured():
                self._begin_line(reporter)
                reporter.flush()

        # A copy of the descriptor, because pytest redirects the terminal's own to a file while a test runs.
        with self._uncaptured():
            stream = open(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace")  # noqa: SIM115  # as below
        self._stack.callback(stream.close)
        return Bars(stream, has_color=not os.environ.get("NO_COLOR"), begin_line=begin_line)

    def _uncaptured(self) -> AbstractContextManager[None]:
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()

    @staticmethod
    def _begin_line(reporter: Any) -> None:
        """End a line that pytest has begun: the dots of the tests, or ``collecting ...``."""
        reporter.ensure_newline()
        if getattr(getattr(reporter, "_tw", None), "width_of_current_line", 0):
            reporter.write("\n")

    def _teller(self) -> Callable[[str], None] | None:
        """A function that writes a line to the terminal, even during capturing. None in a worker without terminal."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return None

        def report(sentence: str) -> None:
            with self._uncaptured():
                self._begin_line(reporter)
                reporter.write_line(sentence)
                reporter.flush()  # so that the line appears before a long step, also in a log file

        return report

    def choices_of(self, node: pytest.Item) -> "tuple[SessionPython, ...] | None":
        """The Pythons of the test's mark, otherwise the session's. None if none were requested."""
        from pytest_pyinstall.errors import PyinstallError

        mark = node.get_closest_marker("python")
        if mark is None:
            return self.choices or None
        origin = "@pytest.mark.python"
        if mark.kwargs or not mark.args:
            mistake = f"does not accept the keyword {next(iter(mark.kwargs))}" if mark.kwargs else "has no request"
            raise _collect_error(node, f'{origin} {mistake}\nhint: @pytest.mark.python("3.12", "pypy3.11")')
        # By repr, because an argument that is not a string may not be hashable. The parser reports it.
        known = self._marked.get(repr(mark.args))
        if known is None:
            try:
                known = self.pythons.choose(mark.args, origin=origin, directory=self.config.rootpath)
            except PyinstallError as error:
                raise _collect_error(node, error) from None
            self._marked[repr(mark.args)] = known
            self._announce(known)
        return known

    def specifier_of(self, node: pytest.Item) -> Any:
        """The `SpecifierSet` of all ``requires_python`` marks of the test. None if there are none."""
        marks = list(node.iter_markers("requires_python"))
        if not marks:
            return None
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.session import parse_specifier

        origin = "@pytest.mark.requires_python"
        try:
            for mark in marks:
                if mark.kwargs:
                    mistake = f"does not accept the keyword {next(iter(mark.kwargs))}"
                    raise _collect_error(node, f'{origin} {mistake}\nhint: @pytest.mark.requires_python(">=3.10")')
                parse_specifier(mark.args, origin=origin)
            return parse_specifier([text for mark in marks for text in mark.args], origin=origin)
        except PyinstallError as error:
            raise _collect_error(node, error) from None

    def admits(self, specifier: Any, choice: "SessionPython") -> bool:
        from pytest_pyinstall.session import admits

        return admits(specifier, choice)

    def param(self, choice: "SessionPython") -> Any:
        """The parameter of `python`. It is the interpreter itself, so that pytest keeps fixtures of equal ones."""
        if choice.interpreter is not None:
            return pytest.param(choice.interpreter, id=choice.id)
        from pytest_pyinstall.session import reason

        if self.looks_only or choice.error is None or self.pythons.skips(choice):
            return pytest.param(choice, id=choice.id, marks=pytest.mark.skip(reason=reason(choice)))
        self.failed.add(choice)
        return pytest.param(choice, id=choice.id)

    def enter(self, item: pytest.Item) -> None:
        """Make `item` the current test.

        pytest keeps the value of `python` until a test requests it with another parameter. If `item` needs another
        Python, finish `python` and everything that depends on it now, because the test may request a fixture that
        depends on `python` before it requests `python` itself.
        """
        self._item = item
        if self._made is None:
            return
        finish, made = self._made
        param = python_param(item) if PYTHON_FIXTURE in getattr(item, "fixturenames", ()) else None
        wanted = (False, _marks(item)) if param is None else (True, param)
        if wanted != made and (wanted[0] or not made[0]):
            self._made = None
            finish()

    def is_made(self, fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest) -> None:
        """Remember the parameter or the marks for which `python` is being set up."""
        if hasattr(request, "param"):
            made: tuple[bool, object] = True, request.param
        elif self._item is not None:
            made = False, _marks(self._item)
        else:
            self._made = None
            return
        self._made = partial(fixturedef.finish, request), made  # type: ignore[arg-type]  # it is one

    def follow(self, fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest) -> None:
        """If `fixturedef` gets `python` with `getfixturevalue`, finish it together with `python`.

        When pytest finishes a fixture, it also finishes the fixtures that have it as a parameter, but not those that
        called `getfixturevalue`.
        """
        get = request.getfixturevalue

        def getfixturevalue(argname: str) -> Any:
            value = get(argname)
            definition = getattr(request, "_fixture_defs", {}).get(argname)
            if definition is None or argname in fixturedef.argnames:
                return value
            if argname == "python" or "python" in definition.argnames or definition in self._followers:
                self._followers.add(fixturedef)
                definition.addfinalizer(partial(fixturedef.finish, request=request))  # type: ignore[arg-type]  # it is one
            return value

        with suppress(AttributeError):  # in a pytest whose requests have no further attributes, nothing changes
            request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]  # only of this request

    def only(self) -> "Interpreter":
        """The Python for `getfixturevalue("python")`, when it is too late to run the test once for each Python."""
        if self._item is None:
            choices, specifier = self.choices or None, None
        else:
            try:
                choices, specifier = self.choices_of(self._item), self.specifier_of(self._item)
                failure = ""
            except pytest.Collector.CollectError as error:
                failure = str(error)
            if failure:
                pytest.fail(failure, pytrace=False)
        if choices is None:
            version = ".".join(map(str, sys.version_info[:3]))
            if specifier is not None and not specifier.contains(version):
                pytest.skip(not_fitting(version, specifier))
            return self.running()
        fitting = [choice for choice in choices if specifier is None or self.admits(specifier, choice)]
        if not fitting:
            pytest.skip(none_fits(choices, specifier))
        if len(fitting) > 1:
            names = ", ".join(choice.id for choice in fitting)
            pytest.fail(
                f"`python` means {names}; to run once for each, a test or a fixture must have it as a parameter"
                "\nhint: def test_it(python): …",
                pytrace=False,
            )
        return self.interpreter(fitting[0])

    def all(self) -> "tuple[Interpreter, ...]":
        """The session's Pythons, without those whose tests are skipped. Fails the test if another one is missing."""
        if not self.choices:
            return (self.running(),)
        return tuple(
            self.interpreter(choice)
            for choice in self.choices
            if choice.interpreter is not None or not (choice.error is None or self.pythons.skips(choice))
        )

    def fail_if_used(self, items: "Iterable[pytest.Item]") -> None:
        """End the session if one of the tests runs with a Python that is missing. Raises `pytest.UsageError`."""
        if not self.failed or self.is_worker or self.looks_only:
            return
        configured: dict[SessionPython, None] = {}
        marked: dict[str, str] = {}
        for item in items:
            if (param := python_param(item)) not in self.failed:
                continue
            if param in self.choices:
                configured[param] = None
            else:
                test = item.nodeid.partition("[")[0]
                marked.setdefault(param.id, f"{test}: @pytest.mark.python: {param.error}")
        messages = list(marked.values())
        if configured:
            from pytest_pyinstall.session import failure_of

            message = str(failure_of(list(configured), count=len(self.choices), origin=self.origin))
            if any(choice.is_missing for choice in configured):
                message += f"\nhint: pytest --python-missing skip\nhint: pytest {self._flag} current"
            messages.append(message)
        if messages:
            raise pytest.UsageError("\n".join(messages))

    def running(self) -> "Interpreter":
        """The Python that runs pytest. Fails the test if it cannot be probed."""
        return or_fail(lambda: self.pythons.running())  # noqa: PLW0108  # `pythons` may raise too

    def interpreter(self, wanted: object) -> "Interpreter":
        """The Python that a test was parametrized with, by us or by its author. Skips or fails if it is missing."""
        from pytest_pyinstall.session import SessionPython

        return or_fail(lambda: self._had(wanted) if isinstance(wanted, SessionPython) else self.install(wanted))

    def install(self, wanted: object) -> "Interpreter":
        """The one Python for a request. If it is missing, skips the test or raises `PyinstallError`."""
        __tracebackhide__ = True
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.interpreter.interpreter import Interpreter

        if isinstance(wanted, Interpreter):
            return wanted
        try:
            return self._had(self.pythons.one(wanted, directory=self.config.rootpath))
        except PyinstallError as error:
            # Without our own frames, which do not help the author of a test.
            raise error.with_traceback(None) from None

    def _had(self, choice: "SessionPython") -> "Interpreter":
        from pytest_pyinstall.session import reason

        if choice.interpreter is not None:
            self._announce([choice])
            return choice.interpreter
        if choice.error is None or self.pythons.skips(choice):
            pytest.skip(reason(choice))
        raise choice.error


def or_fail(get: Callable[[], _T]) -> _T:
    """The result of `get`. If it raises a `PyinstallError`, fails the test with its message, without a traceback."""
    from pytest_pyinstall.errors import PyinstallError

    try:
        return get()
    except PyinstallError as error:
        failure = str(error)
    # Not in the except block, because pytest would show both exceptions.
    pytest.fail(failure, pytrace=False)


def _marks(item: pytest.Item) -> object:
    """The marks that decide which Python a test uses. Equal for all tests without marks."""
    python = item.get_closest_marker("python")
    required = [repr(mark.args) for mark in item.iter_markers("requires_python")]
    return None if python is None else repr(python.args), required


def none_fits(choices: "Iterable[SessionPython]", specifier: object) -> str:
    return f"none of the Pythons {', '.join(choice.id for choice in choices)} fits {specifier}"


def not_fitting(version: str, specifier: object) -> str:
    return f"the Python that runs the tests, {version}, does not fit {specifier}"


def unused_sentence(commands: "Sequence[str]", count: int) -> str:
    """Says that no test used one of the `count` Pythons, except perhaps the `commands` on PATH."""
    which = "this Python" if count == 1 else "each of these Pythons"
    names = commands[0] if len(commands) == 1 else f"{', '.join(commands[:-1])} and {commands[-1]}" if commands else ""
    on_path = f"{names} {'was' if len(commands) == 1 else 'were'} on PATH, but " if commands else ""
    return f"{on_path}no test used the fixture `python`; to run the whole suite with {which}, add --python-suite"


STATE = pytest.StashKey[State]()


def state_of(config: pytest.Config) -> State:
    return config.stash[STATE]


def _collect_error(node: pytest.Item, problem: object) -> pytest.Collector.CollectError:
    """A `CollectError`, of which pytest shows only the message. Of other exceptions it shows a traceback."""
    return pytest.Collector.CollectError(f"{node.nodeid}: {problem}")


def python_param(item: pytest.Item) -> Any:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("python")
