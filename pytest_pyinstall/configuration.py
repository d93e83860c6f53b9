"""Reads our values from the project's pytest configuration, for the command line, tox and virtualenv.

Also writes the corrected form of an invalid request for the place that it came from: option, variable, ini value, mark
or command.

Source: ``_pytest/config/findpaths.py`` of pytest 9. Only the first file that configures pytest counts, in the directory
or above it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_pyinstall.errors import InvalidRequestError, InvalidSettingError, PyinstallError
from pytest_pyinstall.options import BY_NAME, SETTINGS, misspelled_names, notes_on_names
from pytest_pyinstall.request.request import parse_requests
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.system.files import read_toml
from pytest_pyinstall.system.values import Value

__all__ = [
    "Configuration",
    "corrected_at_origin",
    "corrected_example",
    "read_configuration",
    "reason_without_requests",
    "unread_configuration",
    "unused_requests",
    "with_origin",
    "written",
]


class Configuration(Value):
    """The ``pyinstall_*`` values of one file, and our options among its ``addopts``.

    `path` is the file, None if nothing configures pytest. Relative paths in it start from `directory`. `ini` holds
    every value as written whose name begins with ``py``, also a misspelled one. `requests` are the items of
    ``pyinstall_python``, not parsed, because TOML values need not be strings: pass them to `parse_requests` with
    `origin`. `settings` has the other values by their names in `options.SETTINGS`. `option_requests` and `options` are
    the values of ``--python`` and ``--python-*`` in ``addopts``; like all options, they take precedence over the
    environment.
    """

    directory: Path
    path: Path | None = None
    ini: Mapping[str, object] = MappingProxyType({})
    requests: tuple[object, ...] = ()
    settings: Mapping[str, str] = MappingProxyType({})
    option_requests: tuple[str, ...] = ()
    options: Mapping[str, str] = MappingProxyType({})
    has_both_tables: bool = False
    """Whether it is a ``pyproject.toml`` with both tables of pytest."""

    def notes(self, environ: Mapping[str, str]) -> list[str]:
        """A sentence for each misspelled name in it and in `environ`, and for two tables, which pytest rejects."""
        notes = notes_on_names(self.ini, environ)
        if self.has_both_tables:
            both = "[tool.pytest] and [tool.pytest.ini_options]"
            notes.append(f"{self.path} has both {both}, which pytest 9 rejects; only [tool.pytest] is read here")
        return notes

    @property
    def origin(self) -> str:
        """The name of `requests` in a message."""
        return f"pyinstall_python in {self.path}"

    def make_settings(
        self, environ: Mapping[str, str], *, directory: Path, options: Mapping[str, str | None] | None = None
    ) -> Settings:
        """The settings of the command line, tox or virtualenv.

        `options` take precedence over ``addopts``. Relative paths in both start from `directory`. Raises
        `InvalidSettingError`.
        """
        given = {name: value for name, value in (options or {}).items() if value}
        return Settings.from_environ(
            environ,
            directory=directory,
            options={**self.options, **given},
            ini=self.settings,
            ini_directory=self.directory,
            ini_file=self.path,
        )


def read_configuration(directory: Path) -> Configuration:
    """The configuration that pytest would use if it were started in `directory` without arguments.

    The project is neither run nor imported. Raises `InvalidSettingError`, which names the file, if a file cannot be
    read or a setting is not a string.
    """
    for path in _files_from(directory):
        if (found := _read(path)) is not None:
            return found
    return Configuration(directory=directory)


def _files_from(directory: Path) -> Iterator[Path]:
    """The files of pytest in `directory` and above it, the nearest first."""
    paths = (place / name for place in (directory, *directory.parents) for name in _FILES)
    return (path for path in paths if path.is_file())


def _read(path: Path) -> Configuration | None:
    """The configuration in `path`. None if it does not configure pytest. Raises `InvalidSettingError`."""
    try:
        table = _FILES[path.name](path)
    except InvalidSettingError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        message = f"{path} cannot be read: {reason}" if str(path) not in reason else reason
        raise InvalidSettingError(message) from error
    return None if table is None else _understood(path, table)


def unread_configuration(read: Path | None, *directories: Path) -> Configuration | None:
    """The nearest file with requests in or above `directories`, other than `read`, which pytest reads instead.

    None if there is none. A file that cannot be read counts as one without requests.
    """
    for path in dict.fromkeys(path for directory in directories for path in _files_from(directory)):
        with suppress(InvalidSettingError):
            if path != read and (found := _read(path)) is not None and (found.requests or found.option_requests):
                return found
    return None


def reason_without_requests(read: Path | None, unread: Configuration | None) -> str:
    """Why there are no requests, although the files `read` or `unread` exist. Empty if neither does."""
    if unread is not None:
        name = "pyinstall_python" if unread.requests else "--python in addopts"
        reads = "does not read" if read is None else f"reads {read}, and not"
        return f"pytest {reads} {unread.path}, which has {name}"
    return "" if read is None else f"{read} has no pyinstall_python"


def unused_requests(
    ini: Mapping[str, object], environ: Mapping[str, str], unread: Configuration | None
) -> tuple[str, ...]:
    """The requests, for a hint, that have a misspelled name in `ini` or `environ`, or are in the file `unread`."""
    values = {"ini value": ini, "variable": environ}
    names = {BY_NAME["python"].ini, BY_NAME["python"].variable}
    found = [values[kind][name] for kind, name, meant in misspelled_names(ini, environ) if meant in names]
    if not found and unread is not None:
        found = [*(unread.requests or unread.option_requests)]
    texts = [text for value in found for item in _items(value) if (text := _corrected(item))]
    return tuple(texts) if all(map(_is_request, texts)) else ()


Table = Mapping[str, Any]


def _pytest_toml(path: Path) -> Table | None:
    table = read_toml(path).get("pytest", {})
    return table if isinstance(table, dict) else {}


def _pyproject(path: Path) -> Table | None:
    """``[tool.pytest]``, which may contain ``ini_options``, or that table alone."""
    tool = read_toml(path).get("tool", {})
    table = tool.get("pytest", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        return None
    ini = table.get("ini_options")
    if any(name != "ini_options" for name in table):
        return table
    return ini if isinstance(ini, dict) else None


def _pytest_ini(path: Path) -> Table | None:
    return _section(path, "pytest") or {}


def _tox_ini(path: Path) -> Table | None:
    return _section(path, "pytest")


def _setup_cfg(path: Path) -> Table | None:
    return _section(path, "tool:pytest")


def _section(path: Path, name: str) -> Table | None:
    import configparser

    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as in configparser's documentation
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
"""The files that pytest reads, in its order."""


def _understood(path: Path, table: Table) -> Configuration:
    ini = {name: value for name, value in table.items() if name.startswith("py") and value is not None}
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
        has_both_tables=isinstance(table.get("ini_options"), dict),
    )


def _items(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _settings(path: Path, ini: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for option in SETTINGS:
        value = ini.get(option.ini, "")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str):
            message = f"{option.ini} in {path}: must be one string, not {value!r:.60}"
            raise InvalidSettingError(message, hint=f'{option.ini} = "…"')
        if value.strip():
            yield option.name, value.strip()


def _words(addopts: object) -> list[str]:
    if isinstance(addopts, str):
        try:
            import shlex

            return shlex.split(addopts)
        except ValueError:  # an unclosed quote, which pytest rejects itself
            return []
    return [word for word in addopts if isinstance(word, str)] if isinstance(addopts, list) else []


def _our_options(words: list[str]) -> Iterator[tuple[str, str]]:
    names = {flag: option.name for option in (BY_NAME["python"], *SETTINGS) for flag in option.flags}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in names:
            yield names[option], value if equals else next(rest, "")


def with_origin(error: PyinstallError, *, origin: str, hint: str = "") -> PyinstallError:
    """`error` with a message that begins with `origin`: the option, variable, ini value or mark of the request."""
    message = error.message if error.message.startswith(origin) else f"{origin}: {error.message}"
    located = type(error)(message, hint=hint or error.hint)
    located.__cause__ = error
    return located


def corrected_at_origin(error: PyinstallError, texts: Iterable[object], *, origin: str) -> PyinstallError:
    """Like `with_origin`. A hint that is a request becomes all of `texts`, corrected, in the form used at `origin`."""
    hint = error.hint.strip('"')
    if not _is_request(hint):
        return with_origin(error, origin=origin)
    texts = list(texts)
    corrected = [text for item in texts if (text := _corrected(item))]
    if corrected == texts or not corrected or not all(map(_is_request, corrected)):
        # The error has another cause: for example, "supported" in a project that declares no versions.
        corrected = [hint]
    return with_origin(error, origin=origin, hint=written(corrected, origin))


def corrected_example(value: object, *, origin: str) -> str:
    """`value` of ``pyinstall_python`` with valid requests, in the form used at `origin`."""
    texts = [text for item in _items(value) if (text := _corrected(item))]
    return written(texts if texts and all(map(_is_request, texts)) else ["3.10", "3.12"], origin)


def _corrected(item: object) -> str:
    """`item` with each invalid request replaced by the closest valid one."""
    if not isinstance(item, str):
        return _closest(item)
    if "{" in item:
        item = re.sub(r"([^\s,{}]*)\{([^{}]*)\}", _unfolded, item)
    item = re.sub(_DECIMAL_COMMA, r"\1.\2", item)
    pieces = (piece.strip() for piece in item.replace("\n", ",").split(","))
    return ",".join(_closest(piece) for piece in pieces if re.search(r"\w", piece))


_DECIMAL_COMMA = r"(?:^|(?<=,))(\s*[a-z]*@?3),\s*([0-9]{1,2}t?)(?=\s*(?:,\s*[a-z]*@?3,\s*[0-9]{1,2}t?\s*)*$)"
"""``3,9``, and ``3,9,3,13``: two versions. In ``3,9,13``, each number is one."""


def _unfolded(match: re.Match[str]) -> str:
    """``py{39,310}`` of tox as ``py39,py310``, and ``3.{9..13}`` of a shell as ``3.9..3.13``."""
    start, separator = match[1], ".." if ".." in match[2] else ","
    return separator.join(f"{start}{part.strip()}" for part in match[2].split(separator))


def _closest(item: object) -> str:
    try:
        parse_requests([item], directory=Path(), origin="")
    except InvalidRequestError as error:
        return error.hint.strip('"')
    return str(item)


def _is_request(text: str) -> bool:
    try:
        return bool(parse_requests([text], directory=Path(), origin=""))
    except InvalidRequestError:
        return False


def written(texts: Sequence[str], origin: str) -> str:  # noqa: C901, PLR0911  # one for each place
    """The requests `texts` in the form used at `origin`: an option, variable, ini value, mark or command."""
    quoted = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    match origin.split(maxsplit=1)[0]:
        case ("--python" | "--pyinstall-python") as flag:
            pytest = "pytest " if origin == flag else ""
            return f"{pytest}{flag} {shlex.quote(','.join(texts))}"
        case "-o":
            return f"-o {shlex.quote('pyinstall_python=' + ','.join(texts))}"
        case "pyinstall_python":
            is_ini = origin.endswith((".ini", ".cfg"))
            return f"pyinstall_python = {', '.join(texts) if is_ini else f'[{quoted}]'}"
        case "PYTEST_PYINSTALL_PYTHON":
            return f"PYTEST_PYINSTALL_PYTHON={shlex.quote(','.join(texts))}"
        case "@pytest.mark.python":
            return f"@pytest.mark.python({quoted})"
        case "install_python":
            return f"install_python({quoted})"
        case "exec":
            return f"pytest-pyinstall exec --python {shlex.join(texts)} -- COMMAND"
        case "dir":
            return f"pytest-pyinstall dir --cache-key --python {shlex.join(texts)}"
        case "install" | "list" | "find" | "upgrade" | "remove" | "verify" | "matrix" as command:
            return f"pytest-pyinstall {command} {shlex.join(texts)}"
        case "mirror":
            return f"pytest-pyinstall {origin} {shlex.join(texts)}"
    return ",".join(texts)
