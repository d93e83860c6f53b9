"""What the project's pytest configuration says about us, for the doors that are not pytest.

Source: ``_pytest/config/findpaths.py`` of pytest 9. The first file that configures pytest counts, in the directory or
above it, and all others are left alone, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.settings import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Configuration", "read_configuration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The ``pyinstall_*`` values of one file, and our options among its ``addopts``.

    `path` is the file, None where nothing configures pytest; `directory` is where its relative paths start. `ini` holds
    every ``pyinstall_*`` value as the file has it. `requests` are the items of ``pyinstall_python``, unparsed, since
    TOML may hold things that are no text: hand them to `parse_requests` with `origin`. `settings` are the values of
    the other settings by the words of `settings.OPTIONS`. `option_requests` and `options` are what ``addopts`` says in
    ``--python`` and ``--python-*``: they are options, and go before the environment.
    """

    directory: Path
    path: Path | None = None
    ini: Mapping[str, object] = field(default_factory=dict)
    requests: tuple[object, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    option_requests: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """What to call `requests` in a message."""
        return f"pyinstall_python in {self.path}"


def read_configuration(directory: Path) -> Configuration:
    """The configuration that pytest would use when it is started in `directory` without arguments.

    Nothing of the project is run or imported. Raises `InvalidSettingError`, which names the file, for one that cannot
    be read, and for a setting that is no text.
    """
    for place in (directory, *directory.parents):
        for name, read in _FILES.items():
            path = place / name
            if not path.is_file():
                continue
            try:
                table = read(path)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())
                message = f"{path} cannot be read: {reason}" if str(path) not in reason else reason
                raise InvalidSettingError(message) from error
            if table is not None:
                return _understood(path, table)
    return Configuration(directory=directory)


Table = Mapping[str, Any]


def _pytest_toml(path: Path) -> Table | None:
    table = _toml(path).get("pytest", {})
    return table if isinstance(table, dict) else {}


def _pyproject(path: Path) -> Table | None:
    tool = _toml(path).get("tool", {})
    table = tool.get("pytest", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        return None
    native = {name: value for name, value in table.items() if name != "ini_options"}
    ini = table.get("ini_options")
    return native or (ini if isinstance(ini, dict) else None)


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text(encoding="utf-8"))


def _pytest_ini(path: Path) -> Table | None:
    return _section(path, "pytest") or {}


def _tox_ini(path: Path) -> Table | None:
    return _section(path, "pytest")


def _setup_cfg(path: Path) -> Table | None:
    return _section(path, "tool:pytest")


def _section(path: Path, name: str) -> Table | None:
    import configparser

    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as configparser's documentation does it
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=str(path))
    except configparser.Error as error:
        raise ValueError(str(error)) from error
    return dict(parser[name]) if parser.has_section(name) else None


_FILES: Mapping[str, Callable[[Path], Table | None]] = {
    "pytest.toml": _pytest_toml,
    ".pytest.toml": _pytest_toml,
    "pytest.ini": _pytest_ini,
    ".pytest.ini": _pytest_ini,
    "pyproject.toml": _pyproject,
    "tox.ini": _tox_ini,
    "setup.cfg": _setup_cfg,
}
"""In the order in which pytest looks."""


def _understood(path: Path, table: Table) -> Configuration:
    ini = {name: value for name, value in table.items() if name.startswith("pyinstall_") and value is not None}
    options: dict[str, str] = {}
    option_requests: list[str] = []
    for name, value in _our_options(_words(table.get("addopts"))):
        if name == "python":
            option_requests.append(value)
        else:
            options[name] = value
    return Configuration(
        directory=path.parent,
        path=path,
        ini=ini,
        requests=_items(ini.get("pyinstall_python", ())),
        settings=dict(_settings(path, ini)),
        option_requests=tuple(option_requests),
        options=options,
    )


def _items(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _settings(path: Path, ini: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in OPTIONS:
        value = ini.get(f"pyinstall_{name}", "")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str):
            message = f"pyinstall_{name} in {path}: one string is needed, and not {value!r:.60}"
            raise InvalidSettingError(message, hint=f'pyinstall_{name} = "…"')
        if value.strip():
            yield name, value.strip()


def _words(addopts: object) -> list[str]:
    if isinstance(addopts, str):
        try:
            import shlex

            return shlex.split(addopts)
        except ValueError:  # an open quote, which pytest itself will refuse
            return []
    return [word for word in addopts if isinstance(word, str)] if isinstance(addopts, list) else []


def _our_options(words: list[str]) -> Iterator[tuple[str, str]]:
    names = {"--python": "python"} | {f"--python-{name}": name for name in OPTIONS}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in names:
            yield names[option], value if equals else next(rest, "")
