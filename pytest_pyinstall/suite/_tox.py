"""Reads what tox would install for each Python from tox.ini, setup.cfg, tox.toml or pyproject.toml.

For each Python this module chooses the tox environment that a user would run, and names it. It reads the files and does
not import tox.
"""

import configparser
import itertools
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.suite._tools import UNKNOWN, as_list, as_table, installs, read_ini, read_toml

__all__ = ["Tox", "ToxEnvironment", "read_tox"]

_KEYS = ("deps", "extras", "dependency_groups")
_COMMANDS = ("commands_pre", "commands")
_PLATFORM = re.compile(r"!?(linux|darwin|win32|cygwin|aix)")
_TEST_ENVIRONMENTS = ("test", "tests", "unit", "pytest")


class ToxEnvironment(NamedTuple):
    """What one environment of tox installs. `left_out` are the lines that this module does not understand.

    `commands` are the commands that install more, and `tools` names them: ``poetry install``.
    """

    name: str
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    tools: str = ""


class Tox:
    """The tox configuration of a project. `where` names the file and the section."""

    def __init__(self, where: str, directory: Path) -> None:
        self.where = where
        self._directory = directory

    def installs_something(self) -> bool:
        """Whether any environment, for any Python, has dependencies, extras or groups, or installs with a command."""
        names = ("", *self._names())
        return any(self._has_value(name) for name in names) or any(
            installs(command)
            for name in names
            if self._is_for_tests(name)
            for command in self._all_commands(name, set(name.split("-")))
        )

    def environment(self, pythons: Sequence[str]) -> ToxEnvironment:
        """The environment for a Python. `pythons` are its possible names in tox (``py39``, ``py3.9``, ``3.9``)."""
        name = self._chosen(pythons)
        own = set(name.split("-"))
        # `py3.9` has no factor `py39`. A name without a version, such as `tests`, stands for each Python.
        names = own.intersection(pythons) if any(re.search(r"\d\.?\d", each) for each in own) else ()
        factors = {*(names or pythons), *own, sys.platform}
        left_out: list[str] = []
        lines, extras, groups = (tuple(self._lines(name, key, factors, left_out)) for key in _KEYS)
        words = [[word for line in found for word in re.findall(r"[^\s,]+", line)] for found in (extras, groups)]
        commands = tuple(command for command in self._all_commands(name, factors) if installs(command))
        lines = () if self._is_locked_by_uv(name, factors) else lines  # that runner has no deps
        return ToxEnvironment(name, lines, tuple(words[0]), tuple(words[1]), tuple(dict.fromkeys(left_out)), commands)

    def _all_commands(self, name: str, factors: set[str]) -> Iterator[tuple[str, ...]]:
        """The commands of an environment, after those that the plugins tox-uv and tox-pdm run to make it."""
        if self._is_locked_by_uv(name, factors):
            only = ["--no-default-groups"] if self._words(name, "dependency_groups", factors) else []
            yield ("uv", "sync", *only, *self._words(name, "uv_sync_flags", factors))
        if groups := self._words(name, "groups", factors):
            yield ("pdm", "sync", "--prod", "-G", ",".join(groups))
        yield from self._commands(name, factors)

    def _is_locked_by_uv(self, name: str, factors: set[str]) -> bool:
        return self._words(name, "runner", factors) == ["uv-venv-lock-runner"]

    def _words(self, name: str, key: str, factors: set[str]) -> list[str]:
        return [word for line in self._lines(name, key, factors, []) for word in re.findall(r"[^\s,]+", line)]

    def _chosen(self, pythons: Sequence[str]) -> str:
        listed, known = self._listed(), self._names()
        for name in pythons:
            if name in known:
                return name
        # `py39-django42, py39-django52`: the last one, which is by convention the newest.
        of_python = [
            name for name in listed if not set(pythons).isdisjoint(name.split("-")) and self._is_for_tests(name)
        ]
        if of_python:
            return of_python[-1]
        has_pythons = any(_is_python(factor) for name in known for factor in name.split("-"))
        tests = next((name for name in _TEST_ENVIRONMENTS if name in known), None)
        return tests if tests and not has_pythons else pythons[0]

    def _listed(self) -> list[str]:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _has_value(self, name: str) -> bool:
        raise NotImplementedError

    def _is_for_tests(self, name: str) -> bool:
        raise NotImplementedError

    def _lines(self, name: str, key: str, factors: set[str], left_out: list[str]) -> Iterator[str]:
        raise NotImplementedError

    def _commands(self, name: str, factors: set[str]) -> Iterator[tuple[str, ...]]:
        raise NotImplementedError


def read_tox(directory: Path) -> Tox | None:
    """The configuration that tox would use in `directory`; None if there is none.

    Raises `InvalidSettingError` if a file cannot be read.
    """
    for name, sections in (("tox.ini", ("testenv",)), ("setup.cfg", ("tox:testenv", "testenv"))):
        parser = read_ini(directory / name)
        for section in sections:
            if parser and _sections(parser, section):
                return _Ini(f"{name} [{section}]", directory, parser, section)
    tool = as_table(as_table(read_toml(directory / "pyproject.toml"), "tool"), "tox")
    if isinstance(text := tool.get("legacy_tox_ini"), str):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise InvalidSettingError(f"{directory / 'pyproject.toml'}: legacy_tox_ini: {error}") from error
        if _sections(parser, "testenv"):
            return _Ini("tox's legacy_tox_ini", directory, parser, "testenv")
    for where, table in (("tox.toml", read_toml(directory / "tox.toml")), ("pyproject.toml [tool.tox]", tool)):
        if as_table(table, "env_run_base") or as_table(table, "env"):
            return _Toml(where, directory, table)
    return None


class _Ini(Tox):
    def __init__(self, where: str, directory: Path, parser: configparser.ConfigParser, base: str) -> None:
        super().__init__(where, directory)
        self._parser = parser
        self._base = base
        self._sections: dict[str, str] = {"": base}
        for section in _sections(parser, base):
            for name in _expanded(section.removeprefix(base).removeprefix(":")):
                self._sections.setdefault(name, section)

    def _listed(self) -> list[str]:
        for section in ("tox", "tox:tox"):
            for key in ("env_list", "envlist"):
                if text := self._parser.get(section, key, fallback=""):
                    lines = (_without_comment(line) for line in text.splitlines())
                    return list(_expanded(",".join(line for line in lines if line)))
        return []

    def _names(self) -> list[str]:
        return [*self._listed(), *(name for name in self._sections if name)]

    def _raw(self, name: str, key: str) -> str:
        own = self._sections.get(name, self._base)
        named = self._parser.get(own, "base", fallback="") if own != self._base else ""
        bases = re.findall(r"[^\s,]+", named) or [self._base]
        places = (own, *(place for place in bases if self._parser.has_section(place)))
        return next((text for place in places if (text := self._parser.get(place, key, fallback=None)) is not None), "")

    def _has_value(self, name: str) -> bool:
        return any(self._raw(name, key).strip() for key in _KEYS)

    def _is_for_tests(self, name: str) -> bool:
        section = self._sections.get(name)
        commands = self._parser.get(section, "commands", fallback=None) if section else None
        return commands is None or "test" in commands

    def _lines(self, name: str, key: str, factors: set[str], left_out: list[str]) -> Iterator[str]:
        yield from self._expand(self._raw(name, key), name, factors, left_out, seen=())

    def _commands(self, name: str, factors: set[str]) -> Iterator[tuple[str, ...]]:
        for key in _COMMANDS:
            for line in self._expand(self._raw(name, key), name, factors, None, seen=()):
                try:
                    yield tuple(shlex.split(line.lstrip("-! "), comments=True))
                except ValueError:  # an open quote
                    continue

    def _expand(
        self, text: str, name: str, factors: set[str], left_out: list[str] | None, seen: tuple[str, ...]
    ) -> Iterator[str]:
        """The lines that apply to `factors`. A line with an unknown part goes to `left_out`.

        If `left_out` is None, the line is kept, with `UNKNOWN` in place of the part.
        """
        for raw in re.sub(r"\\\n\s*", "", text).splitlines():
            line = _without_comment(raw)
            condition, line = _split_factors(line)
            if not line:
                continue
            if condition is not None and not _holds(condition, factors):
                is_of_python = any(_is_python(each) for each in re.findall(r"[\w.]+", condition))
                is_known = is_of_python or name in self._listed() or _PLATFORM.fullmatch(condition)
                if left_out is not None and "-" not in name and not is_known:
                    left_out.append(f"{condition}: {line}")
                continue
            reference = re.fullmatch(r"\{\[([^\]]+)\](\w+)\}", line)
            if reference and line not in seen and self._parser.has_option(*reference.groups()):
                text = self._parser.get(*reference.groups())
                yield from self._expand(text, name, factors, left_out, (*seen, line))
                continue
            substituted = self._substituted(line, name)
            if "{" in substituted and left_out is None:
                substituted = re.sub(r"\{posargs[^{}]*\}", "", substituted)
                while substituted != (shorter := re.sub(r"\{[^{}]*\}", UNKNOWN, substituted)):
                    substituted = shorter
            if "{" in substituted and left_out is not None:
                left_out.append(line)
            elif substituted.strip():
                yield substituted.strip()

    def _substituted(self, line: str, name: str) -> str:
        known = {
            **dict.fromkeys(("toxinidir", "tox_root"), str(self._directory)),
            **dict.fromkeys(("envname", "env_name"), name),
            **dict.fromkeys(("envpython", "env_python"), "python"),
            "/": "/",
            "posargs": "",
        }

        def value(match: re.Match[str]) -> str:
            word = match[1]
            if word.startswith("env:") and word.count(":") > 1:
                return word.split(":", 2)[2]
            if word.startswith("posargs:"):
                return word.partition(":")[2]
            section = re.fullmatch(r"\[([^\]]+)\](\w+)", word)
            if section and (text := self._parser.get(*section.groups(), fallback=None)) is not None:
                return text if "\n" not in text.strip() and word not in text else match[0]
            return known.get(word, match[0])

        return re.sub(r"\{([^{}]+)\}", value, line)


class _Toml(Tox):
    def __init__(self, where: str, directory: Path, document: Mapping[str, Any]) -> None:
        super().__init__(where, directory)
        self._document = document
        self._base = as_table(document, "env_run_base")
        self._environments = as_table(document, "env")

    def _listed(self) -> list[str]:
        return [name for name in as_list(self._document.get("env_list")) if isinstance(name, str)]

    def _names(self) -> list[str]:
        return [*self._listed(), *self._environments]

    def _raw(self, name: str, key: str) -> object:
        return as_table(self._environments, name).get(key, self._base.get(key))

    def _has_value(self, name: str) -> bool:
        return any(self._raw(name, key) for key in _KEYS)

    def _is_for_tests(self, name: str) -> bool:
        commands = as_table(self._environments, name).get("commands")
        return commands is None or "test" in str(commands)

    def _lines(self, name: str, key: str, factors: set[str], left_out: list[str]) -> Iterator[str]:
        del factors  # TOML has no conditional lines
        yield from self._expand(self._raw(name, key), left_out, depth=0)

    def _commands(self, name: str, factors: set[str]) -> Iterator[tuple[str, ...]]:
        del factors
        for key in _COMMANDS:
            for command in as_list(self._raw(name, key)):
                found = self._referred(command)
                # A reference can name a list of commands, or one command.
                for words in found if found and all(isinstance(each, list) for each in found) else [found]:
                    yield tuple(word for word in words if isinstance(word, str))

    def _referred(self, value: object) -> list[Any]:
        """`value` if it is a list, else the list that it refers to."""
        if not isinstance(value, dict):
            return as_list(value)
        found: object = self._document
        for word in as_list(value.get("of")):
            found = found.get(word) if isinstance(found, dict) else None
        return as_list(found)

    def _expand(self, value: object, left_out: list[str], depth: int) -> Iterator[str]:
        if isinstance(value, str):
            lines = filter(None, map(_without_comment, value.splitlines()))
            texts = [re.sub(r"\{(?:tox_root|toxinidir)\}", lambda _: str(self._directory), line) for line in lines]
            left_out += [text for text in texts if "{" in text]
            yield from (text for text in texts if "{" not in text)
        elif isinstance(value, list):
            for item in value:
                yield from self._expand(item, left_out, depth)
        elif (
            isinstance(value, dict) and value.get("replace") in {"env", "posargs"} and "default" in value and depth < 10
        ):
            yield from self._expand(value["default"], left_out, depth + 1)
        elif isinstance(value, dict) and value.get("replace") == "ref" and depth < 10:
            path = as_list(value.get("of")) or ["env", value.get("env"), value.get("key")]
            found: object = self._document
            for word in path:
                found = found.get(word) if isinstance(found, dict) else None
            if found is None:
                left_out.append(_shown(value))
            yield from self._expand(found, left_out, depth + 1)
        elif value is not None:
            left_out.append(_shown(value))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_shown(each)}" for name, each in value.items()) + "}"
    return repr(value).replace("'", '"')


def _sections(parser: configparser.ConfigParser, base: str) -> list[str]:
    return [name for name in parser.sections() if name == base or name.startswith(f"{base}:")]


def _without_comment(line: str) -> str:
    return "" if line.lstrip().startswith("#") else re.split(r"\s#", line, maxsplit=1)[0].strip()


def _split_factors(line: str) -> tuple[str | None, str]:
    """Split ``py39: trio`` into ``py39`` and ``trio``. The space is optional: ``py39:trio`` can mean nothing else."""
    match = re.fullmatch(r"((?:[\w.!,*-]|\{[^}]*\}|,\s*)+):(?!//)\s*(.*)", line)
    if match is None or match[1] in {"file", "http", "https"} or match[1].startswith("-"):
        return None, line
    return match[1], match[2]


def _holds(condition: str, factors: set[str]) -> bool:
    """Evaluate `condition` as tox does: ``,`` means or, ``-`` means and, ``!`` means not."""
    return any(
        all((factor[1:] not in factors) if factor.startswith("!") else factor in factors for factor in each.split("-"))
        for each in _expanded(condition)
    )


def _is_python(factor: str) -> bool:
    return re.fullmatch(r"!?(?:py|pypy|cpython|graalpy|python)?\d+(?:\.\d+)*t?|py|pypy", factor) is not None


def _expanded(text: str) -> Iterator[str]:
    """Expand ``py{38,39},pypy`` to ``py38``, ``py39`` and ``pypy``, and ``py3{8-9}`` to ``py38`` and ``py39``."""
    for part in re.findall(r"(?:[^,{}]|\{[^}]*\})+", text):
        pieces = [
            list(_alternatives(piece)) if piece.startswith("{") else [piece]
            for piece in re.findall(r"\{[^}]*\}|[^{}]+", part.strip())
        ]
        yield from ("".join(product) for product in itertools.product(*pieces) if any(product))


def _alternatives(braces: str) -> Iterable[str]:
    for word in braces.strip("{}").split(","):
        if match := re.fullmatch(r"\s*(\d+)-(\d+)\s*", word):
            first, last = int(match[1]), int(match[2])
            yield from map(str, range(first, last + 1) if first <= last else range(first, last - 1, -1))
        else:
            yield word.strip()
