"""pytest's options and ini values, created from the table in `options`, and their values in a session."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.options import (
    BY_NAME,
    OPTIONS,
    SETTINGS,
    Option,
    closest_options,
    given_with_o,
    ini_origin,
    ini_place,
    notes_on_names,
    probable_truth,
)

if TYPE_CHECKING:
    from pytest_pyinstall.settings import Settings

__all__ = [
    "check_ini_values_of_suite",
    "ignored_table",
    "ini_value",
    "is_from_command_line",
    "is_own_directory",
    "is_suite",
    "note_misspelled_options",
    "notes_on_configuration",
    "notes_without_header",
    "owner_of_python_option",
    "pytest_addoption",
    "requests_of",
    "settings_of",
    "step_level",
    "with_notes",
    "written_ini_values",
]


_PYTHON = BY_NAME["python"]

_INI_PARSER = "pyinstall-ini-parser"

_STEPS_BACK = "pyinstall-steps-back"

_INNER = "_pyinstall_inner"
"""The name of our plugin in the inner sessions of a suite. Each of them runs with its own Python."""


def note_misspelled_options(parser: pytest.Parser, args: Sequence[str]) -> None:
    """If `args` contain unknown options, add the most similar options of ours to pytest's error."""
    known = {flag for option in OPTIONS for flag in option.flags}
    unlike = [word for word in args if word.startswith("--p") and word.partition("=")[0] not in known]
    if not unlike:
        return
    from contextlib import suppress

    unknown: list[str] = []
    with suppress(pytest.UsageError):  # of another option; pytest is going to raise it again
        unknown = parser.parse_known_and_unknown_args(list(args))[1]
    if near := closest_options(word for word in unlike if word in unknown):
        parser.extra_info["did you mean"] = ", ".join(near)


def notes_on_configuration(config: pytest.Config) -> list[str]:
    """A sentence for each part of the configuration that has no effect, or not the effect that it seems to have.

    For a misspelled ini value, pytest itself only warns that it does not know it.
    """
    notes = []
    if owner := owner_of_python_option(config):
        path = Path(owner)
        name = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else path
        notes.append(f"--python is an option of {name}; use --pyinstall-python to request Pythons")
    if option := option_that_moved_rootdir(config):
        why = f"because of the path after {option}: write {option}=DIR"
        notes.append(f"pytest does not use the configuration of this directory, {why}")
    if table := ignored_table(config, pytest.version_tuple[:2]):
        notes.append(f"pytest {pytest.__version__} does not read {table}: use [tool.pytest.ini_options]")
    if not _is_inner(config):
        notes += notes_on_names(written_ini_values(config), os.environ)
    return notes


def notes_without_header(config: pytest.Config) -> list[str]:
    """`notes_on_configuration`, if pytest shows no header because of ``-q`` or ``--no-header``. With ``-qq``, none."""
    verbose = config.getoption("verbose", 0)
    has_header = verbose >= 0 and not config.getoption("no_header", False)
    return [] if has_header or verbose < -1 or _is_inner(config) else notes_on_configuration(config)


def with_notes(config: pytest.Config, error: pytest.UsageError) -> pytest.UsageError:
    """`error`, followed by what the header would say about the configuration. It ends the session before the header."""
    if _is_inner(config) or hasattr(config, "workerinput"):
        return error
    return pytest.UsageError("\n".join([str(error), *(f"note: {note}" for note in notes_on_configuration(config))]))


def written_ini_values(config: pytest.Config) -> Mapping[str, Any]:
    """All ini values, also those that pytest does not know, as they are written in the file or after ``-o``."""
    found: Mapping[str, Any] = config._inicfg if hasattr(config, "_inicfg") else config.inicfg  # noqa: SLF001  # the second is deprecated since pytest 9
    values = {name: getattr(value, "value", value) for name, value in found.items()}  # an object since pytest 9
    # Until pytest 8, those after ``-o`` are not among them.
    return values | {name: value for name, value in given_with_o(config).items() if value is not None}


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
    """Gives up ``--python`` if a conftest or another plugin defines it too.

    pytest loads them after us, and would otherwise end with "conflicting option string". ``--pyinstall-python``, the
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
        # Only on this parser. All later calls of `getgroup` and `addoption` go through us.
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
        if action is None:  # before pytest 9, which creates its parser from these options when it is needed
            ours._long_opts.remove(_PYTHON.option)  # type: ignore[attr-defined]  # noqa: SLF001
            return
        action.option_strings.remove(_PYTHON.option)
        del self._parser.optparser._option_string_actions[_PYTHON.option]  # noqa: SLF001  # argparse has no public attribute for it
        self._parser._opt2dest.pop(_PYTHON.option, None)  # noqa: SLF001  # pytest's own list of them


def _caller() -> str:
    """The file that called `addoption` of pytest."""
    frame = sys._getframe(1)  # noqa: SLF001  # `inspect` would have to be imported in every session
    while frame.f_back and (frame.f_code.co_filename == __file__ or "_pytest" in Path(frame.f_code.co_filename).parts):
        frame = frame.f_back
    return frame.f_code.co_filename


def _groups(parser: pytest.Parser) -> list[pytest.OptionGroup]:
    groups = [parser._anonymous, *parser._groups]  # noqa: SLF001  # pytest has no public attribute for them
    return list(dict.fromkeys(groups))


def owner_of_python_option(config: pytest.Config) -> str:
    """The file that defines its own ``--python``. Empty if the option is ours."""
    found = config.pluginmanager.get_plugin(_STEPS_BACK)
    return found.owner if isinstance(found, _StepsBack) else ""


def _is_inner(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin(_INNER)


def is_suite(config: pytest.Config, options: Any) -> bool:
    """Whether this is the outer session of a suite, and not an inner one."""
    if _is_inner(config) or hasattr(config, "workerinput"):
        return False
    nothing = ("showfixtures", "cacheshow", "help", "version", "markers")
    runs_nothing = any(getattr(options, name, None) for name in nothing)
    is_on = getattr(options, "pyinstall_suite", False) or getattr(options, "pyinstall_bisect", None)
    return not runs_nothing and bool(is_on or ini_value(config, "pyinstall_suite"))


def requests_of(config: pytest.Config) -> tuple[Iterable[object], str, Path] | None:
    """The requests of the session, their origin, and the directory of their relative paths. None without requests."""
    if _is_inner(config):
        return None
    invoked = config.invocation_params.dir
    if texts := config.getoption(_PYTHON.dest):
        return _typed(config) or texts, _origin_of_option(config), invoked
    if text := os.environ.get(_PYTHON.variable):
        return [text], _PYTHON.variable, invoked
    if items := _in_ini(config):
        return items, ini_place(config, _PYTHON.ini), _ini_directory(config)
    return None


def _typed(config: pytest.Config) -> Sequence[str]:
    """The requests on the command line. They replace those in ``addopts``, to which pytest would add them."""
    parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
    arguments = parser.parse_known_args([str(word) for word in config.invocation_params.args])
    return getattr(arguments, _PYTHON.dest, None) or ()


def is_from_command_line(origin: str) -> bool:
    """Whether the request is on the command line, and not in ``addopts`` or a variable."""
    return origin in _PYTHON.flags


def _origin_of_option(config: pytest.Config) -> str:
    """The option as it was written, with the place of it, unless that is the command line."""
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
        # pytest 9.1 has no type for a list or a string. Read the value again, as a string.
        parser = config.pluginmanager.get_plugin(_INI_PARSER).parser  # type: ignore[union-attr]  # we registered it
        parser.addini(_PYTHON.ini, type="string", help="as --python")
        try:
            return [text] if (text := str(ini_value(config, _PYTHON.ini)).strip()) else []
        except pytest.UsageError:
            from pytest_pyinstall.configuration import corrected_example

            written = written_ini_values(config).get(_PYTHON.ini)
            hint = corrected_example(written, origin=ini_place(config, _PYTHON.ini))
            raise pytest.UsageError(f"{error}\nhint: {hint}") from None
    return _as_written(config, value)


def _as_written(config: pytest.Config, value: Sequence[object]) -> Sequence[object]:
    """The items of ``ini_options`` as in the file. pytest converts them to text, and 3.10 without quotes to 3.1."""
    if not value or config.inipath is None or config.inipath.name != "pyproject.toml":
        return value
    from pytest_pyinstall.errors import InvalidSettingError
    from pytest_pyinstall.system.files import read_toml

    try:
        written = read_toml(config.inipath)["tool"]["pytest"]["ini_options"][_PYTHON.ini]
    except (InvalidSettingError, KeyError, TypeError):
        return value
    # If the text differs, it is from -o on the command line.
    return [written] if not isinstance(written, str | list) and list(value) == [str(written)] else value


def ini_value(config: pytest.Config, name: str) -> Any:
    """The value of our ini value `name`. Raises `pytest.UsageError`, with a hint, if it has the wrong type."""
    try:
        return config.getini(name)
    except (TypeError, ValueError) as error:  # pytest 9.1 raises them instead of its own UsageError
        failure = str(error)
    except pytest.UsageError as error:
        failure = str(error)
    option = next(option for option in OPTIONS if option.ini == name)
    if option is not _PYTHON:
        origin = ini_origin(config, name)[0]
        value = _example(config, option)
        hint = f"{origin} = {value}" if origin == name else f"{origin}={value}"
        failure = f"{failure if name in failure else f'{ini_place(config, name)}: {failure}'}\nhint: {hint}"
    raise pytest.UsageError(failure)


def _example(config: pytest.Config, option: Option) -> str:
    """The value of `option` in the ini file as it probably should be."""
    import json

    value = written_ini_values(config).get(option.ini)  # since pytest 9, it has the type of the file
    if option.kind == "flag":
        return "true" if probable_truth(str(value), default=option.default) else "false"
    if option.is_list:
        items = value if isinstance(value, list) else [value]
        return json.dumps([str(item) for item in items], ensure_ascii=False)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if option.words and value not in option.words:
        value = option.words[0]
    return json.dumps(str(value) if isinstance(value, str | int | float) else "…", ensure_ascii=False)


def check_ini_values_of_suite(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` for an ini value of the suite that has the wrong type."""
    for option in OPTIONS:
        if option.ini and not option.field and option is not _PYTHON:
            ini_value(config, option.ini)


def step_level(config: pytest.Config) -> int | None:
    """The level from which our log is shown on the terminal: that of ``--log-level``, or ``info`` with ``-v``."""
    import logging

    def value(name: str) -> Any:
        try:
            return config.getoption(name, None) or config.getini(name)
        except (KeyError, ValueError):  # -p no:logging
            return None

    if value("log_cli_level") or value("log_cli"):
        return None  # pytest itself shows it
    text = str(value("log_level") or ("info" if config.getoption("verbose", 0) > 0 else ""))
    return int(text) if text.isdecimal() else logging.getLevelNamesMapping().get(text.upper())


_INI_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")


def option_that_moved_rootdir(config: pytest.Config) -> str:
    """The option whose value made pytest look for its configuration in another directory; empty if there is none.

    pytest reads its configuration before it knows our options, and takes an existing path in ``--python-cache DIR`` for
    a place with tests. It cannot take one in ``--python-cache=DIR`` for that.
    """
    invoked, root = config.invocation_params.dir, config.rootpath
    if invoked == root or getattr(config.option, "rootdir", None):
        return ""

    def placed(word: str) -> Path:
        return Path(os.path.normpath(invoked / word.partition("::")[0]))

    if not invoked.is_relative_to(root) and any(placed(word).is_relative_to(root) for word in config.args):
        return ""  # the tests are there
    skipped = [place for place in (invoked, *invoked.parents) if not root.is_relative_to(place)]
    if not any((place / name).is_file() for place in skipped for name in _INI_FILES):
        return ""
    ours = {option.option for option in OPTIONS if option.option}
    words = [str(word) for word in config.invocation_params.args]
    for option, value in itertools.pairwise(words):
        path = placed(value)
        if option in ours and path.exists() and path.is_relative_to(root) and not path.is_relative_to(invoked):
            return option
    return ""


def ignored_table(config: pytest.Config, version: tuple[int | str, ...]) -> str:
    """The TOML table with our values that this `version` of pytest does not read; empty if there is none."""
    path = config.rootpath / "pyproject.toml"
    if int(version[0]) >= 9 or not path.is_file():
        return ""
    import tomllib

    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("pytest", {})
    except (OSError, ValueError, AttributeError):
        return ""
    return "[tool.pytest]" if isinstance(table, dict) and any(name.startswith("pyinstall_") for name in table) else ""


def _ini_directory(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


_OWN_DIRECTORIES = pytest.StashKey[frozenset[str]]()


def is_own_directory(path: Path, config: pytest.Config) -> bool:
    """Whether `path` is configured as our directory, or is a store. It is not part of a project, even inside of it."""
    found = config.stash.get(_OWN_DIRECTORIES, None)
    if found is None:
        found = config.stash[_OWN_DIRECTORIES] = frozenset(_own_directories(config))
    return str(path) in found or os.path.isdir(os.path.join(path, ".pytest-pyinstall"))  # noqa: PTH112, PTH118  # hot


def _own_directories(config: pytest.Config) -> Iterator[str]:
    """All configured directories, regardless of precedence. As text, because every session calls this, and does not
    import the settings."""
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
        ini_file=config.inipath,
        ini_options=given_with_o(config),
    )
