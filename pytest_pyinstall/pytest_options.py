"""pytest's options and ini values, made from the table in `options`, and what the user said with them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.options import BY_NAME, OPTIONS, SETTINGS

if TYPE_CHECKING:
    from pytest_pyinstall.settings import Settings

__all__ = ["ini_value", "is_suite", "pytest_addoption", "requests_of", "settings_of", "step_level"]


_PYTHON = BY_NAME["python"]

_INI_PARSER = "pyinstall-ini-parser"

_INNER = "_pyinstall_inner"
"""Our plugin in the sessions that a suite starts, of which each has its one Python already."""


class _IniParser:
    def __init__(self, parser: pytest.Parser) -> None:
        self.parser = parser


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("pyinstall", "Pythons for the tests (pytest-pyinstall)")
    for option in OPTIONS:
        if option.flags:
            attributes: dict[str, Any] = {"dest": option.dest, "help": option.help}
            if option.kind == "flag":
                attributes["action"] = "store_true"
            else:
                attributes["metavar"] = option.metavar
                attributes["choices"] = option.words or None
            if option.is_list:
                attributes["action"] = "append"
            group.addoption(*option.flags, **attributes)
        if option.ini:
            said = f"as {option.option}" if option.option else option.help
            kind = "bool" if option.kind == "flag" else "linelist" if option.is_list else "string"
            default = {"bool": option.default, "linelist": []}.get(kind)
            parser.addini(option.ini, type=kind, default=default, help=said)  # type: ignore[arg-type]  # one of pytest's
    pluginmanager.register(_IniParser(parser), _INI_PARSER)


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
    if texts := config.getoption(_PYTHON.dest):
        return texts, _where_option_stands(config), invoked
    if text := os.environ.get(_PYTHON.variable):
        return [text], _PYTHON.variable, invoked
    if items := _in_ini(config):
        where = "" if config.inipath is None else f" in {config.inipath}"
        return items, f"{_PYTHON.ini}{where}", _ini_directory(config)
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
        value: Sequence[object] = ini_value(config, _PYTHON.ini)
    except pytest.UsageError as error:
        # pytest 9.1 has no type for one or the other: ask again, as for a string.
        parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
        parser.addini(_PYTHON.ini, type="string", help="as --python")
        try:
            return [text] if (text := str(ini_value(config, _PYTHON.ini)).strip()) else []
        except pytest.UsageError:
            raise pytest.UsageError(f'{error}\nhint: {_PYTHON.ini} = ["3.10", "3.12"]') from None
    return _as_written(config, value)


def _as_written(config: pytest.Config, value: Sequence[object]) -> Sequence[object]:
    """The items of ``ini_options``, of which pytest makes text: 3.10 without quotes has become 3.1 by then."""
    if not value or config.inipath is None or config.inipath.name != "pyproject.toml":
        return value
    from pytest_pyinstall.errors import InvalidSettingError
    from pytest_pyinstall.system.files import read_toml

    try:
        written = read_toml(config.inipath)["tool"]["pytest"]["ini_options"][_PYTHON.ini]
    except (InvalidSettingError, KeyError, TypeError):
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
    if any(name == option.ini and option.kind == "flag" for option in OPTIONS):
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
        options={option.name: config.getoption(option.dest) for option in SETTINGS},
        ini={option.name: ini_value(config, option.ini) for option in SETTINGS},
        ini_directory=_ini_directory(config),
    )
