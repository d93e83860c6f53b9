"""Options, ini values, markers and fixtures.

Imported in every pytest session, so it imports only pytest and the standard library; `session` has what is behind it,
and is imported when a Python is asked for.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from pytest_pyinstall.interpreter import Environment, Interpreter
    from pytest_pyinstall.session import Choice, Pythons
    from pytest_pyinstall.settings import Settings

__all__ = [
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collection",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_fixture_setup",
    "pytest_generate_tests",
    "pytest_load_initial_conftests",
    "pytest_report_header",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]

_T = TypeVar("_T")
_OPTIONS: Mapping[str, tuple[str, tuple[str, ...] | None, str]] = {
    "missing": (
        "WHAT",
        ("fail", "skip"),
        "what to do about a Python that cannot be had: fail (default) ends the session, skip skips its tests",
    ),
    "downloads": ("WHEN", ("auto", "never"), "whether a missing Python is downloaded: auto (default) or never"),
    "preference": (
        "ORDER",
        ("managed", "only-managed", "system", "only-system"),
        "whose Python is taken first: the store's (managed, the default) or the machine's; or only one of the two",
    ),
    "store": ("DIR", None, "where the installations are"),
    "cache": ("DIR", None, "where downloaded archives and environments are kept"),
    "mirror": ("URL", None, "where archives come from in place of the release host: a URL or a directory"),
    "attestation": (
        "WHAT",
        ("ignore", "require"),
        "whether only Pythons are used whose archive has a verified build attestation: ignore (default) or require",
    ),
    "catalogue": ("URL", None, "a document with the builds that exist, in the schema of uv: a URL or a file"),
}
"""Each option with the name of its value, the words it takes, and what it is for."""

_TRUTHS = ("pyinstall_path", "pyinstall_suite")

_VARIABLE = "PYTEST_PYINSTALL_PYTHON"
_INI = "pyinstall_python"
_INI_PARSER = "pyinstall-ini-parser"
_INNER = "_pyinstall_inner"
"""Our plugin in the sessions that a suite starts, of which each has its one Python already."""
_OURS = "_pyinstall_python"
"""A fixture that only our own ``python`` asks for: a test whose fixtures include it uses ours, and not one that a user
named so too."""


class _IniParser:
    def __init__(self, parser: pytest.Parser) -> None:
        self.parser = parser


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("pyinstall", "Pythons for the tests (pytest-pyinstall)")
    group.addoption(
        "--python",
        action="append",
        dest=_INI,
        metavar="REQUEST",
        help="run the tests that use the fixture `python` with this Python, and install it where it is missing: "
        "3.12, 3.9..3.13, 3.13t, pypy3.11, '>=3.10,<3.13', ./build/python, supported, … (repeatable)",
    )
    parser.addini(_INI, type="linelist", help="as --python: a list, or a string with commas")
    for name, (metavar, words, purpose) in _OPTIONS.items():
        group.addoption(f"--python-{name}", dest=f"pyinstall_{name}", metavar=metavar, choices=words, help=purpose)
        parser.addini(f"pyinstall_{name}", type="string", help=f"as --python-{name}")
    parser.addini(
        "pyinstall_path",
        type="bool",
        default=True,
        help="put pythonX.Y of the requested Pythons on PATH while the session runs (default: true)",
    )
    pluginmanager.register(_IniParser(parser), _INI_PARSER)
    _add_suite_options(parser, group)


def _add_suite_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    group.addoption(
        "--python-suite",
        action="store_true",
        dest="pyinstall_suite",
        help="run the project's whole suite under each requested Python, in environments of its own, as one session",
    )
    parser.addini("pyinstall_suite", type="bool", default=False, help="as --python-suite")
    group.addoption(
        "--python-jobs", dest="pyinstall_jobs", metavar="N", help="as many Pythons at once (default: one for each core)"
    )
    parser.addini("pyinstall_jobs", type="string", help="as --python-jobs")
    parser.addini(
        "pyinstall_suite_install",
        type="linelist",
        default=[],
        help="what goes into each environment of the suite besides pytest (default: found in the project, and printed)",
    )
    group.addoption(
        "--python-report", dest="pyinstall_report", metavar="FILE.html", help="the suite's tests and Pythons as a page"
    )
    group.addoption(
        "--python-bisect",
        dest="pyinstall_bisect",
        metavar="NODEID",
        help="find the two neighbours in the range of --python between which the outcome of this test changes",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Keep a suite's outer session from what belongs to the inner ones."""
    if _is_suite(early_config, early_config.known_args_namespace):
        from pytest_pyinstall.suite_garbage import spare_the_search

        spare_the_search(early_config)
        from pytest_pyinstall.suite_arguments import adapt_arguments

        adapt_arguments(early_config, parser, args)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if _is_suite(config, config.option):
        from pytest_pyinstall.suite_arguments import adapt_options

        adapt_options(config)


def _is_inner(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin(_INNER)


def _is_suite(config: pytest.Config, options: Any) -> bool:
    """Whether this is the outer session of a suite. Not in a session that such a one has started."""
    if _is_inner(config) or hasattr(config, "workerinput"):
        return False
    runs_nothing = any(getattr(options, name, None) for name in ("showfixtures", "cacheshow", "help", "version"))
    asked = getattr(options, "pyinstall_suite", False) or getattr(options, "pyinstall_bisect", None)
    return not runs_nothing and bool(asked or _ini(config, "pyinstall_suite"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "python(*requests): run this test with these Pythons, in place of the session's: python('3.12', 'pypy3.11')",
    )
    config.addinivalue_line(
        "markers",
        "requires_python(specifier): leave out the Pythons that do not fit: requires_python('>=3.10')",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Provide the Pythons before anyone needs them: the terminal's header, and xdist's workers."""
    session.config.stash[_STATE] = _State(session.config)
    _state(session.config).start()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give xdist's worker what the controller has."""
    if document := _state(node.config).to_json():
        node.workerinput["pyinstall"] = document


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", None) or {}
    if (uses := output.get("pyinstall_uses")) is not None:
        state = _state(node.config)
        state.uses = bool(state.uses) or bool(uses)


def pytest_report_header(config: pytest.Config) -> list[str]:
    state = config.stash.get(_STATE, None)
    if state is None or not state.choices:
        return []
    from pytest_pyinstall.session import header

    return [header(choice) for choice in state.choices]


def pytest_collection(session: pytest.Session) -> None:
    _state(session.config).is_line_open = True


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """After the marks and the hooks of conftests and modules: a test whose author parametrizes `python` is theirs."""
    calls = metafunc._calls  # noqa: SLF001  # nothing else knows what the hooks before this one have done
    if _OURS not in metafunc.fixturenames or any("python" in call.params for call in calls):
        return
    state = _state(metafunc.config)
    choices = state.choices_of(metafunc.definition)
    specifier = state.specifier_of(metafunc.definition)
    if choices is None:
        return
    params = [state.param(choice) for choice in choices if specifier is None or state.admits(specifier, choice)]
    if not params:
        why = _none_fits(choices, specifier)
        params = [pytest.param(None, id="none-fits", marks=pytest.mark.skip(reason=why))]
    metafunc.parametrize("python", params, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a request the running interpreter is the one that has to fit."""
    state = _state(config)
    if state.choices:
        return
    version = ".".join(map(str, sys.version_info[:3]))
    for item in items:
        if (
            _OURS not in getattr(item, "fixturenames", ())
            or _param(item) is not None
            or _is_parametrized(item)
            or item.get_closest_marker("python")
        ):
            continue
        specifier = state.specifier_of(item)
        if specifier is not None and not specifier.contains(version):
            item.add_marker(pytest.mark.skip(reason=_not_fitting(version, specifier)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _state(item.config).enter(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    if fixturedef.argname == "python" and _OURS in fixturedef.argnames:
        _state(request.config).is_made(fixturedef, request)
    if "request" in fixturedef.argnames and request.scope != "function":
        _state(request.config).follow(fixturedef, request)
    return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    state = _state(session.config)
    state.end_telling_steps()
    state.is_line_open = False
    wanted = {_OURS, "python", "pythons", "python_env"}
    if session.items:
        state.uses = any(not wanted.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
    if state.failed and not state.is_worker and not state.looks_only:
        failed: dict[str, str] = {}
        for item in session.items:
            if (param := _param(item)) in state.failed:
                test = item.nodeid.partition("[")[0]
                failed.setdefault(param.id, f"{test}: @pytest.mark.python: {param.error}")
        if failed:
            raise pytest.UsageError("\n".join(failed.values()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash.get(_STATE, None)
    if state is not None and state.is_worker and state.uses is not None:
        session.config.workeroutput["pyinstall_uses"] = state.uses  # type: ignore[attr-defined]  # xdist puts it there


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    state = config.stash.get(_STATE, None)
    if state is None or not state.choices or state.uses is not False or state.looks_only:
        return
    if config.get_verbosity() >= 0:
        where = f"; {', '.join(state.commands)} on PATH" if state.commands else ""
        said = f"no test used the fixture `python`{where}; --python-suite runs the whole suite with each of them"
        terminalreporter.write_line(f"pyinstall: {said}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if (state := config.stash.get(_STATE, None)) is not None:
        state.close()


# Declared, and not registered with `pytest.register_fixture`: of two fixtures of one name at the session the later one
# wins, and since 9.2 pytest has registered those of the root conftest when a plugin can do that for the first time.


@pytest.fixture(scope="session", name=_OURS)
def _ours() -> None:
    """Says that `python` is ours."""


@pytest.fixture(scope="session", name="python")
def _python(request: pytest.FixtureRequest, _pyinstall_python: None) -> "Interpreter":
    """A Python: the test runs once for each that --python, the ini file or the test's own mark asks for.

    Without any, the one that runs the tests. `python.run("-c", "…")` runs it, `python.call(function)` runs a function
    over there, `python.environment(path)` makes a virtual environment.
    """
    state = _state(request.config)
    return state.interpreter(request.param) if hasattr(request, "param") else state.only()


@pytest.fixture(scope="session", name="pythons")
def _pythons(request: pytest.FixtureRequest) -> "tuple[Interpreter, ...]":
    """All Pythons that the session was asked for, in their order; without any, the one that runs the tests."""
    state = _state(request.config)
    if not state.choices:
        return (state.running(),)
    return tuple(choice.interpreter for choice in state.choices if choice.interpreter is not None)


@pytest.fixture(name="python_env")
def _python_env(python: "Interpreter", tmp_path: Path) -> "Environment":
    """A fresh virtual environment of `python` in tmp_path: `python_env.install("…")`, `python_env.run("…")`."""
    from pytest_pyinstall.interpreter import Interpreter

    if not isinstance(python, Interpreter):
        message = f"`python_env` is made from the fixture `python`, which here is not ours and gives {python!r:.60}"
        pytest.fail(f'{message}\nhint: install_python("3.12").environment(tmp_path / "env")', pytrace=False)
    return _or_fail(lambda: python.environment(tmp_path / "python_env"))


@pytest.fixture(scope="session", name="install_python")
def _install_python(request: pytest.FixtureRequest) -> "Callable[[str], Interpreter]":
    """A function: `install_python("3.12")` is that Python, installed where it is missing."""
    return _state(request.config).install


class _State:
    """What one session knows. `choices` are the session's Pythons, empty where none was requested."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.choices: tuple[Choice, ...] = ()
        self.commands: list[str] = []
        self.failed: set[Choice] = set()
        self.uses: bool | None = None
        self.is_line_open = False
        self.is_worker = hasattr(config, "workerinput")
        option = config.option
        looking = ("collectonly", "setupplan", "show_fixtures_per_test")
        self.looks_only = any(getattr(option, name, False) for name in looking)
        self.is_suite = _is_suite(config, option)
        self._runs_nothing = any(getattr(option, name, None) for name in ("showfixtures", "cacheshow"))
        self._pythons: Pythons | None = None
        self._marked: dict[str, tuple[Choice, ...]] = {}
        self._item: pytest.Item | None = None
        self._made: tuple[Callable[[], None], tuple[bool, object]] | None = None
        self._followers: set[pytest.FixtureDef[Any]] = set()
        self._path_directory: Path | None = None
        self._stack = ExitStack()
        self._telling = ExitStack()
        self._path_before: str | None = None

    def start(self) -> None:
        """Provide what was requested; a worker takes it from the controller. Raises `pytest.UsageError`."""
        if self.is_worker:
            self._take_over(self.config.workerinput.get("pyinstall", {}))  # type: ignore[attr-defined]  # xdist's
        elif not self._runs_nothing and (requested := _requested(self.config)) is not None:
            from pytest_pyinstall.errors import PyinstallError

            try:
                if getattr(self.config.option, "pyinstall_bisect", None):
                    self._begin_bisection(*requested)
                    return
                self._provide(*requested)
                if self.is_suite:
                    self._begin_suite()
            except PyinstallError as error:
                raise pytest.UsageError(str(error)) from None
        elif not self._runs_nothing and self.is_suite:
            message = "--python-suite: no Python was asked for\nhint: --python supported --python-suite"
            raise pytest.UsageError(message)

    def _provide(self, texts: Iterable[object], origin: str, directory: Path) -> None:
        enters_path = _ini(self.config, "pyinstall_path") and not self.looks_only  # before anything is installed
        if self.is_suite:
            # What cannot be had is a failure of that Python alone.
            self.choices = self.pythons.choose(texts, origin=origin, directory=directory)
        else:
            self.choices = self.pythons.choose_all(texts, origin=origin, directory=directory)
        if not enters_path:
            return
        from pytest_pyinstall.path_directory import links, temporary

        self._path_directory = self._stack.enter_context(temporary(Path(tempfile.gettempdir())))
        commands = links((choice.interpreter for choice in self.choices if choice.interpreter), self._path_directory)
        self.commands = [path.name.removesuffix(".bat") for path in commands]
        self._enter_path()

    def _begin_suite(self) -> None:
        from pytest_pyinstall.suite import Suite

        suite = Suite(self.config, self.choices, self.pythons, say=self._teller())
        self.config.pluginmanager.register(suite, "pyinstall-suite")

    def _begin_bisection(self, texts: Iterable[object], origin: str, directory: Path) -> None:
        """Nothing is installed before it is tried."""
        from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
        from pytest_pyinstall.request import parse_requests
        from pytest_pyinstall.retype import retyped
        from pytest_pyinstall.suite_bisect import Bisection

        texts = list(texts)
        try:
            requests = self.pythons.provisioner.parse(parse_requests(texts, directory=directory, origin=origin))
        except (InvalidRequestError, NoMatchError) as error:
            raise retyped(error, texts, origin=origin) from error
        suite = Bisection(self.config, requests, self.pythons, say=self._teller())
        self.config.pluginmanager.register(suite, "pyinstall-suite")

    def to_json(self) -> dict[str, Any]:
        """What a worker needs; empty where nothing was requested."""
        if not self.choices:
            return {}
        return {
            "choices": [choice.to_json() for choice in self.choices],
            "path": None if self._path_directory is None else str(self._path_directory),
        }

    def _take_over(self, document: Mapping[str, Any]) -> None:
        if not document:
            return
        from pytest_pyinstall.session import Choice

        self.choices = tuple(map(Choice.from_json, document["choices"]))
        if document["path"] is not None:
            self._path_directory = Path(document["path"])
            self._enter_path()

    def _enter_path(self) -> None:
        # A worker on this machine has it already, from the controller's environment.
        entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
        if str(self._path_directory) not in entries:
            self._path_before = os.environ.get("PATH", "")
            os.environ["PATH"] = os.pathsep.join([str(self._path_directory), *entries])

    def close(self) -> None:
        """Leave nothing behind of what belongs to the session."""
        self.end_telling_steps()
        if self._pythons is not None:
            self._pythons.close()
        if self._path_before is not None:
            # What else became of PATH meanwhile is not ours to undo.
            entries = os.environ.get("PATH", "").split(os.pathsep)
            os.environ["PATH"] = os.pathsep.join(entry for entry in entries if entry != str(self._path_directory))
            self._path_before = None
        self._stack.close()

    @property
    def pythons(self) -> "Pythons":
        """Raises `PyinstallError` for a setting that cannot be used."""
        if self._pythons is None:
            from pytest_pyinstall.session import Pythons

            self._tell_steps()
            self._pythons = Pythons.open(
                _settings(self.config),
                environ=os.environ,
                user_home=Path("~").expanduser(),
                directory=self.config.rootpath,
                executable=Path(sys.executable),
                looks_only=self.looks_only,
                trusts=self.is_suite,
                say=self._teller(),
                is_quiet=self.config.get_verbosity() < 0,
            )
        return self._pythons

    def _tell_steps(self) -> None:
        """Until the tests run, from when on pytest itself captures what is logged."""
        say, level = self._teller(), _step_level(self.config)
        if say is not None and level is not None:
            from pytest_pyinstall.progress import steps_told

            self._telling.enter_context(steps_told(say, level=level))

    def end_telling_steps(self) -> None:
        self._telling.close()

    def _teller(self) -> Callable[[str], None] | None:
        """Writes a line to the terminal, whatever is being captured; None in a worker, which has no terminal."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return None

        def tell(sentence: str) -> None:
            with nullcontext() if capture is None else capture.global_and_fixture_disabled():
                if self.is_line_open and (reporter.isatty() or reporter.verbosity > 0):
                    reporter.write_line("")  # after "collecting ... ", which waits there for the number of tests
                    self.is_line_open = False
                reporter.write_line(sentence)
                reporter.flush()  # what takes long is announced before, in a log too

        return tell

    def choices_of(self, node: pytest.Item) -> "tuple[Choice, ...] | None":
        """The test's own Pythons, else the session's, None where nobody requested any."""
        from pytest_pyinstall.errors import PyinstallError

        mark = node.get_closest_marker("python")
        if mark is None:
            return self.choices or None
        origin = "@pytest.mark.python"
        if mark.kwargs or not mark.args:
            said = f"takes no keywords, such as {next(iter(mark.kwargs))}" if mark.kwargs else "names no Python"
            raise _collect_error(node, f'{origin} {said}\nhint: @pytest.mark.python("3.12", "pypy3.11")')
        # By repr, because what is no string may not be hashable; parsing it will say what is wrong with it.
        known = self._marked.get(repr(mark.args))
        if known is None:
            try:
                known = self.pythons.choose(mark.args, origin=origin, directory=self.config.rootpath)
            except PyinstallError as error:
                raise _collect_error(node, error) from None
            self._marked[repr(mark.args)] = known
        return known

    def specifier_of(self, node: pytest.Item) -> Any:
        """A `SpecifierSet` of all its marks, None where there is none."""
        marks = list(node.iter_markers("requires_python"))
        if not marks:
            return None
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.session import parse_specifier

        origin = "@pytest.mark.requires_python"
        try:
            for mark in marks:
                if mark.kwargs:
                    said = f"takes no keywords, such as {next(iter(mark.kwargs))}"
                    raise _collect_error(node, f'{origin} {said}\nhint: @pytest.mark.requires_python(">=3.10")')
                parse_specifier(mark.args, origin=origin)
            return parse_specifier([text for mark in marks for text in mark.args], origin=origin)
        except PyinstallError as error:
            raise _collect_error(node, error) from None

    def admits(self, specifier: Any, choice: "Choice") -> bool:
        from pytest_pyinstall.session import admits

        return admits(specifier, choice)

    def param(self, choice: "Choice") -> Any:
        """The interpreter itself is the parameter: the session's fixtures are kept between tests with equal ones."""
        if choice.interpreter is not None:
            return pytest.param(choice.interpreter, id=choice.id)
        from pytest_pyinstall.session import reason

        # The session's own would have ended the session, were they not to be skipped.
        if self.looks_only or choice in self.choices or self.pythons.skips(choice):
            return pytest.param(choice, id=choice.id, marks=pytest.mark.skip(reason=reason(choice)))
        self.failed.add(choice)
        return pytest.param(choice, id=choice.id)

    def enter(self, item: pytest.Item) -> None:
        """From now on `item` is the test that may ask for `python`.

        pytest keeps the fixture until somebody asks for another. It goes, with what was built on it, before a test
        whose parameter or marks mean another Python: what was built on it may be asked for first.
        """
        self._item = item
        if self._made is None:
            return
        finish, made = self._made
        param = _param(item) if _OURS in getattr(item, "fixturenames", ()) else None
        wanted = (False, _marks(item)) if param is None else (True, param)
        if wanted != made and (wanted[0] or not made[0]):
            self._made = None
            finish()

    def is_made(self, fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest) -> None:
        """Remember for which parameter or marks `python` is about to be made."""
        if hasattr(request, "param"):
            made: tuple[bool, object] = True, request.param
        elif self._item is not None:
            made = False, _marks(self._item)
        else:
            self._made = None
            return
        self._made = partial(fixturedef.finish, request), made  # type: ignore[arg-type]  # it is one

    def follow(self, fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest) -> None:
        """Let what `fixturedef` is about to make go with the `python` that it asks for without naming it.

        pytest finishes with a fixture those that name it, and not one that called `getfixturevalue`, be it the first
        who asks or not.
        """
        ask = request.getfixturevalue

        def getfixturevalue(argname: str) -> Any:
            value = ask(argname)
            asked = getattr(request, "_fixture_defs", {}).get(argname)
            if asked is None or argname in fixturedef.argnames:
                return value
            if argname == "python" or "python" in asked.argnames or asked in self._followers:
                self._followers.add(fixturedef)
                asked.addfinalizer(partial(fixturedef.finish, request=request))  # type: ignore[arg-type]  # it is one
            return value

        with suppress(AttributeError):  # a pytest whose requests take nothing more: it keeps its first answer then
            request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]  # of this one request

    def only(self) -> "Interpreter":
        """For who asks for `python` while the test runs, when it is too late for one test for each."""
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
                pytest.skip(_not_fitting(version, specifier))
            return self.running()
        fitting = [choice for choice in choices if specifier is None or self.admits(specifier, choice)]
        if not fitting:
            pytest.skip(_none_fits(choices, specifier))
        if len(fitting) > 1:
            names = ", ".join(choice.id for choice in fitting)
            pytest.fail(
                f"`python` stands for {names}, and can be one of them only where a test or a fixture names it among its"
                " parameters\nhint: def test_it(python): …",
                pytrace=False,
            )
        return self.interpreter(fitting[0])

    def running(self) -> "Interpreter":
        """The one that runs the tests. Fails the test where it cannot be asked."""
        return _or_fail(lambda: self.pythons.running())  # noqa: PLW0108  # `pythons` may raise too

    def interpreter(self, asked: object) -> "Interpreter":
        """What a test was parametrized with, by us or by its author. Skips or fails the test where it is not here."""
        from pytest_pyinstall.session import Choice

        return _or_fail(lambda: self._had(asked) if isinstance(asked, Choice) else self.install(asked))

    def install(self, asked: object) -> "Interpreter":
        """The one Python that was asked for. Skips the test or raises `PyinstallError` where it cannot be had."""
        __tracebackhide__ = True
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.interpreter import Interpreter

        if isinstance(asked, Interpreter):
            return asked
        try:
            return self._had(self.pythons.one(asked, directory=self.config.rootpath))
        except PyinstallError as error:
            # Without the way it took through us, which tells the author of a test nothing.
            raise error.with_traceback(None) from None

    def _had(self, choice: "Choice") -> "Interpreter":
        from pytest_pyinstall.session import reason

        if choice.interpreter is not None:
            return choice.interpreter
        if choice.error is None or choice in self.choices or self.pythons.skips(choice):
            pytest.skip(reason(choice))
        raise choice.error


def _or_fail(get: Callable[[], _T]) -> _T:
    """What `get` returns. Fails the test with the words of a `PyinstallError`, once and without a traceback."""
    from pytest_pyinstall.errors import PyinstallError

    try:
        return get()
    except PyinstallError as error:
        failure = str(error)
    # Not in the except block, where pytest would show both exceptions.
    pytest.fail(failure, pytrace=False)


def _marks(item: pytest.Item) -> object:
    """What says which Python an item means; the same for all without marks."""
    python = item.get_closest_marker("python")
    required = [repr(mark.args) for mark in item.iter_markers("requires_python")]
    return None if python is None else repr(python.args), required


def _none_fits(choices: "Iterable[Choice]", specifier: object) -> str:
    return f"none of the Pythons {', '.join(choice.id for choice in choices)} fits {specifier}"


def _not_fitting(version: str, specifier: object) -> str:
    return f"the Python that runs the tests, {version}, does not fit {specifier}"


_STATE = pytest.StashKey[_State]()


def _state(config: pytest.Config) -> _State:
    return config.stash[_STATE]


def _requested(config: pytest.Config) -> tuple[Iterable[object], str, Path] | None:
    """What was asked for, who says so, and where its relative paths start; None where nothing was."""
    if _is_inner(config):
        return None
    invoked = config.invocation_params.dir
    if texts := config.getoption(_INI):
        return texts, _where_option_stands(config), invoked
    if text := os.environ.get(_VARIABLE):
        return [text], _VARIABLE, invoked
    if items := _in_ini(config):
        where = "" if config.inipath is None else f" in {config.inipath}"
        return items, f"{_INI}{where}", _ini_directory(config)
    return None


def _where_option_stands(config: pytest.Config) -> str:
    """``--python``, and where that was written if not on the command line, which one sees."""
    if any(str(word).partition("=")[0] == "--python" for word in config.invocation_params.args):
        return "--python"
    if any(word.partition("=")[0] == "--python" for word in os.environ.get("PYTEST_ADDOPTS", "").split()):
        return "--python in PYTEST_ADDOPTS"
    return "--python in addopts" if config.inipath is None else f"--python in addopts of {config.inipath}"


def _in_ini(config: pytest.Config) -> Sequence[object]:
    """The value in the ini file, whether it is a list or a string. Raises `pytest.UsageError`."""
    try:
        value: Sequence[object] = _ini(config, _INI)
    except pytest.UsageError as error:
        # pytest 9.1 has no type for one or the other: ask again, as for a string.
        parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
        parser.addini(_INI, type="string", help="as --python")
        try:
            return [text] if (text := str(_ini(config, _INI)).strip()) else []
        except pytest.UsageError:
            raise pytest.UsageError(f'{error}\nhint: {_INI} = ["3.10", "3.12"]') from None
    return _as_written(config, value)


def _as_written(config: pytest.Config, value: Sequence[object]) -> Sequence[object]:
    """The items of ``ini_options``, of which pytest makes text: 3.10 without quotes has become 3.1 by then."""
    if not value or config.inipath is None or config.inipath.name != "pyproject.toml":
        return value
    import tomllib

    try:
        document: Any = tomllib.loads(config.inipath.read_text(encoding="utf-8"))
        written = document["tool"]["pytest"]["ini_options"][_INI]
    except (OSError, ValueError, KeyError, TypeError):
        return value
    # Another text is from the command line's -o.
    return [written] if not isinstance(written, str | list) and list(value) == [str(written)] else value


def _ini(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (TypeError, ValueError) as error:  # pytest 9.1, in place of its own UsageError
        failure = str(error)
    except pytest.UsageError as error:
        failure = str(error)
    if name in _TRUTHS:
        failure = f"{failure if name in failure else f'{name}: {failure}'}\nhint: {name} = false"
    raise pytest.UsageError(failure)


def _step_level(config: pytest.Config) -> int | None:
    """From which level on the terminal is to have what we log: that of ``--log-level``; ``info`` with ``-v``."""
    import logging

    def value(name: str) -> Any:
        try:
            return config.getoption(name, None) or config.getini(name)
        except (KeyError, ValueError):  # -p no:logging
            return None

    if value("log_cli_level") or value("log_cli"):
        return None  # pytest writes it there
    text = str(value("log_level") or ("info" if config.get_verbosity() > 0 else ""))
    return int(text) if text.isdecimal() else logging.getLevelNamesMapping().get(text.upper())


def _ini_directory(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


def _settings(config: pytest.Config) -> "Settings":
    from pytest_pyinstall.settings import Settings

    return Settings.from_environ(
        os.environ,
        directory=config.invocation_params.dir,
        options={name: config.getoption(f"pyinstall_{name}") for name in _OPTIONS},
        ini={name: _ini(config, f"pyinstall_{name}") for name in _OPTIONS},
        ini_directory=_ini_directory(config),
    )


def _collect_error(node: pytest.Item, problem: object) -> pytest.Collector.CollectError:
    """One whose text alone is shown, where every other exception gets a traceback through pytest."""
    return pytest.Collector.CollectError(f"{node.nodeid}: {problem}")


def _param(item: pytest.Item) -> Any:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("python")


def _is_parametrized(node: pytest.Item) -> bool:
    """Whether the author of the test says with which Pythons it runs."""
    for mark in node.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if "python" in ([name.strip() for name in names.split(",")] if isinstance(names, str) else names):
            return True
    return False
