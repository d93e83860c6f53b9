"""pytest's options and ini values, made from the table in `options`, and what the user said with them."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.options import BY_NAME, OPTIONS, SETTINGS

if TYPE_CHECKING:
    from pytest_pyinstall.settings import Settings

__all__ = [
    "ini_value",
    "is_from_command_line",
    "is_own_directory",
    "is_suite",
    "owner_of_python_option",
    "pytest_addoption",
    "requests_of",
    "settings_of",
    "step_level",
]


_PYTHON = BY_NAME["python"]

_INI_PARSER = "pyinstall-ini-parser"

_STEPS_BACK = "pyinstall-steps-back"

_INNER = "_pyinstall_inner"
"""Our plugin in the sessions that a suite starts, of which each has its one Python already."""


class _IniParser:
    def __init__(self, parser: pytest.Parser) -> None:
        self.parser = parser


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("pyinstall", "Pythons for the tests (pytest-pyinstall)")
    taken = {name for other in _groups(parser) for option in other.options for name in option.names()}
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
            flags = [flag for flag in option.flags if option is not _PYTHON or flag not in taken]
            group.addoption(*flags, **attributes)
        if option.ini:
            said = f"as {option.option}" if option.option else option.help
            kind = "bool" if option.kind == "flag" else "linelist" if option.is_list else "string"
            default = {"bool": option.default, "linelist": []}.get(kind)
            parser.addini(option.ini, type=kind, default=default, help=said)  # type: ignore[arg-type]  # one of pytest's
    pluginmanager.register(_IniParser(parser), _INI_PARSER)
    pluginmanager.register(_StepsBack(parser, group, is_taken=_PYTHON.option in taken), _STEPS_BACK)


class _StepsBack:
    """Leaves ``--python`` to a conftest or another plugin that defines it, too.

    pytest loads those after us, and would end with "conflicting option string" otherwise. ``--pyinstall-python``, the
    ini value and the variable stay ours.
    """

    def __init__(self, parser: pytest.Parser, group: pytest.OptionGroup, *, is_taken: bool) -> None:
        self.owner = "another plugin" if is_taken else ""
        self._parser = parser
        self._group = group
        if not is_taken:
            self._watch()

    def _watch(self) -> None:
        parser = self._parser
        getgroup = parser.getgroup

        def watched_group(*args: Any, **kwargs: Any) -> pytest.OptionGroup:
            group = getgroup(*args, **kwargs)
            self._watch_group(group)
            return group

        for group in _groups(parser):
            self._watch_group(group)
        # On this one parser; anyone who is asked for a group or an option from now on asks here.
        parser.getgroup = watched_group  # type: ignore[method-assign]

    def _watch_group(self, group: pytest.OptionGroup) -> None:
        if "addoption" in vars(group):
            return
        addoption = group.addoption

        def watched_addoption(*names: str, **attributes: Any) -> None:
            if _PYTHON.option in names and not self.owner:
                self.owner = _caller()
                self._step_back()
            addoption(*names, **attributes)

        group.addoption = watched_addoption  # type: ignore[method-assign]

    def _step_back(self) -> None:
        [ours] = [option for option in self._group.options if _PYTHON.option in option.names()]
        action = getattr(ours, "_action", None)
        if action is None:  # before pytest 9, whose parser is made from these options when it is needed
            ours._long_opts.remove(_PYTHON.option)  # type: ignore[attr-defined]  # noqa: SLF001
            return
        action.option_strings.remove(_PYTHON.option)
        del self._parser.optparser._option_string_actions[_PYTHON.option]  # noqa: SLF001  # argparse has no public way
        self._parser._opt2dest.pop(_PYTHON.option, None)  # noqa: SLF001  # pytest's own list of them


def _caller() -> str:
    """The file that called pytest, and through it us."""
    frame = sys._getframe(1)  # noqa: SLF001  # the inspect module would be imported in every session
    while frame.f_back and (frame.f_code.co_filename == __file__ or "_pytest" in Path(frame.f_code.co_filename).parts):
        frame = frame.f_back
    return frame.f_code.co_filename


def _groups(parser: pytest.Parser) -> list[pytest.OptionGroup]:
    groups = [parser._anonymous, *parser._groups]  # noqa: SLF001  # pytest has no public way to them
    return list(dict.fromkeys(groups))


def owner_of_python_option(config: pytest.Config) -> str:
    """Which file defines a ``--python`` of its own; empty if it is ours."""
    found = config.pluginmanager.get_plugin(_STEPS_BACK)
    return found.owner if isinstance(found, _StepsBack) else ""


def _is_inner(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin(_INNER)


def is_suite(config: pytest.Config, options: Any) -> bool:
    """Whether this is the outer session of a suite. Not in a session that such a one has started."""
    if _is_inner(config) or hasattr(config, "workerinput"):
        return False
    nothing = ("showfixtures", "cacheshow", "help", "version", "markers")
    runs_nothing = any(getattr(options, name, None) for name in nothing)
    asked = getattr(options, "pyinstall_suite", False) or getattr(options, "pyinstall_bisect", None)
    return not runs_nothing and bool(asked or ini_value(config, "pyinstall_suite"))


def requests_of(config: pytest.Config) -> tuple[Iterable[object], str, Path] | None:
    """What was asked for, who says so, and where its relative paths start; None if nothing was."""
    if _is_inner(config):
        return None
    invoked = config.invocation_params.dir
    if texts := config.getoption(_PYTHON.dest):
        return _typed(config) or texts, _where_option_stands(config), invoked
    if text := os.environ.get(_PYTHON.variable):
        return [text], _PYTHON.variable, invoked
    if items := _in_ini(config):
        where = "" if config.inipath is None else f" in {config.inipath}"
        return items, f"{_PYTHON.ini}{where}", _ini_directory(config)
    return None


def _typed(config: pytest.Config) -> Sequence[str]:
    """What the command line alone asks for: it replaces what ``addopts`` asks for, and pytest would add the two."""
    parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
    arguments = parser.parse_known_args([str(word) for word in config.invocation_params.args])
    return getattr(arguments, _PYTHON.dest, None) or ()


def is_from_command_line(origin: str) -> bool:
    """Whether the user typed the request just now; ``addopts`` and variables are configuration."""
    return origin in _PYTHON.flags


def _where_option_stands(config: pytest.Config) -> str:
    """The option as it was written, and where, if not on the command line, which one sees."""
    flags = _PYTHON.aliases if owner_of_python_option(config) else _PYTHON.flags
    written = {
        "": config.invocation_params.args,
        " in PYTEST_ADDOPTS": os.environ.get("PYTEST_ADDOPTS", "").split(),
    }
    for where, words in written.items():
        for word in words:
            if (flag := str(word).partition("=")[0]) in flags:
                return f"{flag}{where}"
    return f"{flags[0]} in addopts" if config.inipath is None else f"{flags[0]} in addopts of {config.inipath}"


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
    text = str(value("log_level") or ("info" if config.option.verbose > 0 else ""))
    return int(text) if text.isdecimal() else logging.getLevelNamesMapping().get(text.upper())


def _ini_directory(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


_OWN_DIRECTORIES = pytest.StashKey[frozenset[str]]()


def is_own_directory(path: Path, config: pytest.Config) -> bool:
    """Whether `path` was configured to be ours, or is a store: no part of a project, even if it is in one."""
    found = config.stash.get(_OWN_DIRECTORIES, None)
    if found is None:
        found = config.stash[_OWN_DIRECTORIES] = frozenset(_own_directories(config))
    return str(path) in found or os.path.isdir(os.path.join(path, ".pytest-pyinstall"))  # noqa: PTH112, PTH118  # hot


def _own_directories(config: pytest.Config) -> Iterator[str]:
    """All that was said, whatever takes precedence. As text: every session asks, and has not imported the settings."""
    invoked = config.invocation_params.dir
    home = os.environ.get("PYTEST_PYINSTALL_HOME")
    for name in ("store", "cache", "mirror"):
        option = BY_NAME[name]
        variables = (os.environ.get(variable) for variable in (option.variable, option.uv) if variable)
        given = [(invoked, text) for text in (config.getoption(option.dest, None), *variables)]
        given += [(_ini_directory(config), ini_value(config, option.ini))]
        given += [(invoked, os.path.join(home, name))] if home and name != "mirror" else []  # noqa: PTH118  # text
        for directory, text in given:
            if text and (text.startswith("file:") or "://" not in text):
                place = os.path.expanduser(text.removeprefix("file://"))  # noqa: PTH111  # raises nothing
                yield os.path.abspath(directory / place)  # noqa: PTH100  # not resolved


def settings_of(config: pytest.Config) -> "Settings":
    from pytest_pyinstall.settings import Settings

    return Settings.from_environ(
        os.environ,
        directory=config.invocation_params.dir,
        options={option.name: config.getoption(option.dest) for option in SETTINGS},
        ini={option.name: ini_value(config, option.ini) for option in SETTINGS},
        ini_directory=_ini_directory(config),
    )
