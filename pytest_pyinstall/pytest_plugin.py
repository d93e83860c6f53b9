"""The pytest plugin: hooks, markers and fixtures.

Every pytest session imports this module, so it imports only pytest and the standard library. `session`, which provides
the Pythons, is imported when one is requested.
"""

import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

for _finder in sys.meta_path:
    # Before we import more: pytest rewrites the asserts of all plugins, and reads the byte code of those modules in
    # small pieces, which takes ten times as long. None of our asserts has to be explained to a user.
    getattr(_finder, "_must_rewrite", set()).discard("pytest_pyinstall")

from pytest_pyinstall.pytest_options import (  # noqa: E402  # see above
    is_from_command_line,
    is_own_directory,
    is_suite,
    note_misspelled_options,
    notes_on_configuration,
    notes_without_header,
    pytest_addoption,
    with_notes,
)
from pytest_pyinstall.pytest_state import (  # noqa: E402  # see above
    PYTHON_FIXTURE,
    STATE,
    State,
    none_fits,
    not_fitting,
    or_fail,
    python_param,
    state_of,
    unused_sentence,
)

if TYPE_CHECKING:
    from pytest_pyinstall.interpreter.interpreter import Environment, Interpreter

__all__ = [
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_fixture_setup",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_load_initial_conftests",
    "pytest_report_header",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_pyinstall import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Adapt the arguments of a suite's outer session, so that they apply to its inner sessions only."""
    note_misspelled_options(parser, args)
    try:
        if is_suite(early_config, early_config.known_args_namespace):
            from pytest_pyinstall.suite.options import adapt_arguments

            adapt_arguments(early_config, parser, args)
    except pytest.UsageError as error:
        raise with_notes(early_config, error) from None
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if is_suite(config, config.option):
        from pytest_pyinstall.suite.options import adapt_options

        adapt_options(config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "python(*requests): run this test with these Pythons instead of the session's: python('3.12', 'pypy3.11')",
    )
    config.addinivalue_line(
        "markers",
        "requires_python(specifier): run this test only with Pythons that match: requires_python('>=3.10')",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Provide the Pythons first, because pytest's header and xdist's workers need them."""
    session.config.stash[STATE] = State(session.config)
    try:
        state_of(session.config).start()
    except pytest.UsageError as error:
        raise with_notes(session.config, error) from None
    state_of(session.config).explain_mistyped_ids()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the controller's Pythons to an xdist worker."""
    if document := state_of(node.config).to_json():
        node.workerinput["pyinstall"] = document


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", None) or {}
    if (uses := output.get("pyinstall_uses")) is not None:
        state = state_of(node.config)
        state.uses = bool(state.uses) or bool(uses)


def pytest_report_header(config: pytest.Config) -> list[str]:
    state = config.stash.get(STATE, None)
    lines = [f"pyinstall: {note}" for note in notes_on_configuration(config)]
    if state is None or not state.choices:
        return lines
    from pytest_pyinstall.session import detailed_header, header

    width = config.get_terminal_writer().fullwidth
    skips = state.pythons.skips_missing
    summary = header(state.choices, width=width, skips=skips, looks_only=state.looks_only, has_errors=state.is_suite)
    if config.getoption("verbose", 0) > 0:
        details = [detailed_header(choice) for choice in state.choices]
        if not is_from_command_line(state.origin):
            details.append(f"pythons: requested by {state.origin}")
        return [*lines, *details, *(line for line in summary if line.startswith("missing")), *state.notes]
    return [*lines, *summary, *state.notes]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore our own directories: Pythons and environments contain tests, too."""
    return True if is_own_directory(collection_path, config) else None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs after all other hooks, so that a test which already parametrizes `python` is not changed."""
    calls = metafunc._calls  # noqa: SLF001  # the only place that shows what other hooks have parametrized
    if PYTHON_FIXTURE not in metafunc.fixturenames or any("python" in call.params for call in calls):
        return
    state = state_of(metafunc.config)
    choices = state.choices_of(metafunc.definition)
    specifier = state.specifier_of(metafunc.definition)
    if choices is None:
        return
    params = [state.param(choice) for choice in choices if specifier is None or state.admits(specifier, choice)]
    if not params:
        why = none_fits(choices, specifier)
        params = [pytest.param(None, id="none-fits", marks=pytest.mark.skip(reason=why))]
    metafunc.parametrize("python", params, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """If no Python was requested, skip the tests whose ``requires_python`` excludes the running one."""
    state = state_of(config)
    if state.choices:
        return
    version = ".".join(map(str, sys.version_info[:3]))
    for item in items:
        if (
            PYTHON_FIXTURE not in getattr(item, "fixturenames", ())
            or python_param(item) is not None
            or _is_parametrized(item)
            or item.get_closest_marker("python")
        ):
            continue
        specifier = state.specifier_of(item)
        if specifier is not None and not specifier.contains(version):
            item.add_marker(pytest.mark.skip(reason=not_fitting(version, specifier)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    state_of(item.config).enter(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    if fixturedef.argname == "python" and PYTHON_FIXTURE in fixturedef.argnames:
        state_of(request.config).is_made(fixturedef, request)
    if "request" in fixturedef.argnames and request.scope != "function":
        state_of(request.config).follow(fixturedef, request)
    return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    state = state_of(session.config)
    state.end_telling_steps()
    wanted = {PYTHON_FIXTURE, "python", "pythons", "python_env"}
    if session.items:
        state.uses = any(not wanted.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
    state.fail_if_used(session.items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash.get(STATE, None)
    if state is not None and state.is_worker and state.uses is not None:
        session.config.workeroutput["pyinstall_uses"] = state.uses  # type: ignore[attr-defined]  # an attribute of xdist's


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    _shorten_names(terminalreporter.stats)
    for note in notes_without_header(config):
        terminalreporter.write_line(f"pyinstall: {note}")
    state = config.stash.get(STATE, None)
    if state is None or not state.choices or state.is_suite:
        return
    expression = config.getoption("keyword", "")
    if expression and state.uses is None and "deselected" in terminalreporter.stats:
        from pytest_pyinstall.suite.variants import keyword_hint

        if hint := keyword_hint(expression, [choice.id for choice in state.choices]):
            terminalreporter.write_line(hint)
    if state.uses is not False or state.looks_only:
        return
    # A user who forgets --python-suite must not think that the tests ran under these Pythons.
    if config.getoption("verbose", 0) >= (-1 if is_from_command_line(state.origin) else 0):
        terminalreporter.write_line(f"pyinstall: {unused_sentence(state.commands, len(state.choices))}")


def _shorten_names(stats: dict[str, list[Any]]) -> None:
    """Remove our modules from the names of our errors in the short summary, where a line is cut at the width."""
    for name in ("failed", "error"):
        for report in stats.get(name, ()):
            crash = getattr(getattr(report, "longrepr", None), "reprcrash", None)
            message = getattr(crash, "message", "")
            if message.startswith("pytest_pyinstall.") and crash is not None:
                kind, colon, rest = message.partition(":")
                crash.message = f"{kind.rpartition('.')[2]}{colon}{rest}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if (state := config.stash.get(STATE, None)) is not None:
        state.close()


# The fixtures are declared, and not registered with `pytest.register_fixture`. Of two session fixtures with one name,
# the later one wins, and since pytest 9.2, a plugin can only register fixtures after those of the root conftest.


@pytest.fixture(scope="session", name=PYTHON_FIXTURE)
def _ours() -> None:
    """Marks the `python` fixture as ours."""


@pytest.fixture(scope="session", name="python")
def _python(request: pytest.FixtureRequest, _pyinstall_python: None) -> "Interpreter":
    """A Python interpreter. The test runs once for each Python of the marker, of `--python`, or of the ini file.

    Without any of these, it is the Python that runs pytest. `python.run("-c", "…")` runs it, `python.call(function)`
    runs a function in it, and `python.environment(path)` creates a virtual environment.
    """
    state = state_of(request.config)
    return state.interpreter(request.param) if hasattr(request, "param") else state.only()


@pytest.fixture(scope="session", name="pythons")
def _pythons(request: pytest.FixtureRequest) -> "tuple[Interpreter, ...]":
    """All requested Pythons of the session, in their order. Without a request, only the Python that runs pytest."""
    return state_of(request.config).all()


@pytest.fixture(name="python_env")
def _python_env(python: "Interpreter", tmp_path: Path, request: pytest.FixtureRequest) -> "Environment":
    """A fresh virtual environment of `python`, in `tmp_path`: `python_env.install("…")`, `python_env.run("…")`."""
    from pytest_pyinstall.interpreter.interpreter import Interpreter

    if not isinstance(python, Interpreter):
        message = f"`python_env` needs pytest-pyinstall's fixture `python`, but another one returned {python!r:.60}"
        pytest.fail(f'{message}\nhint: install_python("3.12").environment(tmp_path / "env")', pytrace=False)
    environment = or_fail(lambda: python.environment(tmp_path / "python_env"))
    request.config.hook.pytest_pyinstall_environment(environment=environment, python=python, config=request.config)
    return environment


@pytest.fixture(scope="session", name="install_python")
def _install_python(request: pytest.FixtureRequest) -> "Callable[[str], Interpreter]":
    """A function: `install_python("3.12")` returns that Python, and installs it if it is missing."""
    return state_of(request.config).install


def _is_parametrized(node: pytest.Item) -> bool:
    """Whether the test's own ``parametrize`` mark sets its Pythons."""
    for mark in node.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if "python" in ([name.strip() for name in names.split(",")] if isinstance(names, str) else names):
            return True
    return False
