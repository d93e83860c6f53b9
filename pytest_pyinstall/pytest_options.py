"""pytest's options and ini values, and what was asked for with them. Imports only pytest and the standard library."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_pyinstall.settings import Settings

__all__ = ["ini_value", "is_suite", "pytest_addoption", "requests_of", "settings_of", "step_level"]


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


def _is_inner(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin(_INNER)


def is_suite(config: pytest.Config, options: Any) -> bool:
    """Whether this is the outer session of a suite. Not in a session that such a one has started."""
    if _is_inner(config) or hasattr(config, "workerinput"):
        return False
    runs_nothing = any(getattr(options, name, None) for name in ("showfixtures", "cacheshow", "help", "version"))
    asked = getattr(options, "pyinstall_suite", False) or getattr(options, "pyinstall_bisect", None)
    return not runs_nothing and bool(asked or ini_value(config, "pyinstall_suite"))


def requests_of(config: pytest.Config) -> tuple[Iterable[object], str, Path] | None:
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
        value: Sequence[object] = ini_value(config, _INI)
    except pytest.UsageError as error:
        # pytest 9.1 has no type for one or the other: ask again, as for a string.
        parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
        parser.addini(_INI, type="string", help="as --python")
        try:
            return [text] if (text := str(ini_value(config, _INI)).strip()) else []
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


def ini_value(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (TypeError, ValueError) as error:  # pytest 9.1, in place of its own UsageError
        failure = str(error)
    except pytest.UsageError as error:
        failure = str(error)
    if name in _TRUTHS:
        failure = f"{failure if name in failure else f'{name}: {failure}'}\nhint: {name} = false"
    raise pytest.UsageError(failure)


def step_level(config: pytest.Config) -> int | None:
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


def settings_of(config: pytest.Config) -> "Settings":
    from pytest_pyinstall.settings import Settings

    return Settings.from_environ(
        os.environ,
        directory=config.invocation_params.dir,
        options={name: config.getoption(f"pyinstall_{name}") for name in _OPTIONS},
        ini={name: ini_value(config, f"pyinstall_{name}") for name in _OPTIONS},
        ini_directory=_ini_directory(config),
    )
