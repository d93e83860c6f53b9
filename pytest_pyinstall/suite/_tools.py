"""Reads the test dependencies that poetry, PDM, uv, hatch, nox and pipenv keep outside of the standard tables."""

import ast
import configparser
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.project import specifier_of_poetry
from pytest_pyinstall.system import files

__all__ = [
    "Dependencies",
    "as_list",
    "as_table",
    "hatch",
    "nox",
    "pdm",
    "pipenv",
    "pipenv_runtime",
    "poetry",
    "poetry_runtime",
    "read_ini",
    "read_toml",
    "uv",
]

_HATCH_TEST = ("pytest-mock", "pytest-rerunfailures", "pytest-xdist[psutil]", "coverage[toml]")
"""What `hatch test` installs besides pytest if `dependencies` is not set."""


class Dependencies(NamedTuple):
    """What a tool installs for tests. `where` is its name in messages. pip has no syntax for the entries `left_out`."""

    where: str
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def poetry(document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of poetry's groups with one of `names`; None if there is none."""
    tool = as_table(as_table(document, "tool"), "poetry")
    for name in names:
        if table := as_table(as_table(as_table(tool, "group"), name), "dependencies"):
            return _poetry(f"poetry's group {name!r}", table)
        if name == "dev" and (table := as_table(tool, "dev-dependencies")):
            return _poetry("poetry's dev-dependencies", table)
    return None


def poetry_runtime(document: Mapping[str, Any]) -> Dependencies:
    """The dependencies of a project that poetry does not install as a package (``package-mode = false``)."""
    return _poetry("poetry", as_table(as_table(as_table(document, "tool"), "poetry"), "dependencies"))


def _poetry(where: str, table: Mapping[str, Any]) -> Dependencies:
    requirements: list[str] = []
    left_out: list[str] = []
    for name, value in table.items():
        if name.lower() == "python":
            continue
        for each in value if isinstance(value, list) else [value]:
            line = _requirement(name, each, specifier_of_poetry)
            (left_out if line is None else requirements).append(line if line is not None else f"{name} = {each!r}")
    return Dependencies(where, tuple(requirements), left_out=tuple(left_out))


def pdm(document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of PDM's development groups with one of `names`; None if there is none."""
    groups = as_table(as_table(as_table(document, "tool"), "pdm"), "dev-dependencies")
    for name in names:
        if lines := _strings(groups.get(name)):
            return Dependencies(f"PDM's dev-dependencies {name!r}", lines)
    return None


def uv(document: Mapping[str, Any]) -> Dependencies | None:
    """uv's own development dependencies, which are older than dependency groups; None if there are none."""
    lines = _strings(as_table(as_table(document, "tool"), "uv").get("dev-dependencies"))
    return Dependencies("uv's dev-dependencies", lines) if lines else None


def hatch(directory: Path, document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of hatch's environments with one of `names` that installs something; None if there is none.

    Raises `InvalidSettingError` if ``hatch.toml`` cannot be read.
    """
    tool = as_table(as_table(document, "tool"), "hatch")
    environments = {**as_table(tool, "envs"), **as_table(read_toml(directory / "hatch.toml"), "envs")}
    for name in names:
        table = as_table(environments, name)
        if not table:
            continue
        template = as_table(environments, "default") if name not in {"default", "hatch-test"} else {}
        merged = {**template, **table}
        own = _strings(merged.get("dependencies")) or (_HATCH_TEST if name == "hatch-test" else ())
        found = Dependencies(
            f"hatch's environment {name!r}",
            (*own, *_strings(merged.get("extra-dependencies"))),
            _strings(merged.get("features")),
            _strings(merged.get("dependency-groups")),
        )
        if any(found[1:]):
            return found
    return None


def nox(directory: Path) -> Dependencies | None:
    """What the test session in ``noxfile.py`` installs with literal arguments; None without such a session.

    The file is parsed and not run.
    """
    try:
        tree = ast.parse((directory / "noxfile.py").read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.args.args]
    sessions = {_name_of_session(node): node for node in functions if _name_of_session(node)}
    name = next((name for name in ("tests", "test", "unit", "pytest", "unit_tests") if name in sessions), None)
    if name is None:
        return None
    words: list[str] = []
    left_out: list[str] = []
    session = sessions[name].args.args[0].arg
    for node in ast.walk(sessions[name]):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "install"):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == session:
            literals = [each.value if isinstance(each, ast.Constant) else None for each in node.args]
            if all(isinstance(each, str) for each in literals):
                words += map(str, literals)
            else:
                left_out.append(ast.unparse(node))
    lines, groups = _lines_of_words(words)
    found = Dependencies(f"noxfile.py's session {name!r}", lines, groups=groups, left_out=tuple(left_out))
    return found if any(found[1:]) else None


def _name_of_session(function: ast.FunctionDef) -> str:
    for decorator in function.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")) == "session":
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            named = [each.value for each in keywords if each.arg == "name"]
            return str(named[0].value) if named and isinstance(named[0], ast.Constant) else function.name
    return ""


def _lines_of_words(words: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the arguments of ``pip install`` into lines of requirements and names of dependency groups."""
    lines: list[str] = []
    groups: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--group":
            groups.append(next(rest, ""))
        elif word.startswith("--group="):
            groups.append(word.partition("=")[2])
        elif word in {"-e", "-r", "-c", "--editable", "--requirement", "--constraint"}:
            lines.append(f"{word} {next(rest, '')}")
        elif not word.startswith("-") or word.startswith(("-e", "-r", "-c")):
            lines.append(word)
    return tuple(lines), tuple(groups)


def pipenv(directory: Path) -> Dependencies | None:
    """The development packages in ``Pipfile``; None if there are none. Raises `InvalidSettingError`."""
    table = as_table(read_toml(directory / "Pipfile"), "dev-packages")
    return _pipenv("Pipfile [dev-packages]", table) if table else None


def pipenv_runtime(directory: Path) -> Dependencies:
    """The packages in ``Pipfile``. Raises `InvalidSettingError`."""
    return _pipenv("Pipfile [packages]", as_table(read_toml(directory / "Pipfile"), "packages"))


def _pipenv(where: str, table: Mapping[str, Any]) -> Dependencies:
    lines = {name: _requirement(name, value, lambda text: "" if text == "*" else text) for name, value in table.items()}
    left_out = tuple(f"{name} = {table[name]!r}" for name, line in lines.items() if line is None)
    return Dependencies(where, tuple(line for line in lines.values() if line is not None), left_out=left_out)


def _requirement(name: str, value: object, specifier_of: Any) -> str | None:
    """An entry of a table of dependencies as a line for pip; None if pip has no syntax for it."""
    table = {"version": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        return None
    extras = f"[{','.join(map(str, as_list(table.get('extras'))))}]" if table.get("extras") else ""
    markers = list(_markers(table))
    marker = f" ; {' and '.join(markers)}" if markers else ""
    if isinstance(path := table.get("path"), str):
        if table.get("develop") is True or table.get("editable") is True:
            return f"-e {path}{extras}"
        return f"{name}{extras} @ file:{path}{marker}"
    if isinstance(git := table.get("git"), str):
        revision = next((table[key] for key in ("rev", "tag", "branch", "ref") if isinstance(table.get(key), str)), "")
        fragment = f"#subdirectory={table['subdirectory']}" if isinstance(table.get("subdirectory"), str) else ""
        url = f"https://{git.removeprefix('git@').replace(':', '/', 1)}" if git.startswith("git@") else git
        return f"{name}{extras} @ git+{url}{f'@{revision}' if revision else ''}{fragment}{marker}"
    if isinstance(place := table.get("url") or table.get("file"), str):
        return f"{name}{extras} @ {place}{marker}"
    version = table.get("version", "*")
    specifier = specifier_of(version) if isinstance(version, str) else None
    return None if specifier is None else f"{name}{extras}{specifier}{marker}"


def _markers(table: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(text := table.get("markers"), str):
        yield f"({text})"
    if isinstance(text := table.get("python"), str) and (specifier := specifier_of_poetry(text)):
        for clause in specifier.split(","):
            operator, version = re.fullmatch(r"([^\d]+)(.+)", clause.strip()).groups()  # type: ignore[union-attr]
            name = "python_full_version" if version.count(".") > 1 else "python_version"
            yield f'{name} {operator.strip()} "{version}"'
    if isinstance(text := table.get("platform"), str):
        yield f'sys_platform == "{text}"'


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in as_list(value) if isinstance(item, str))


def read_toml(path: Path) -> dict[str, Any]:
    """The document at `path`, empty if there is none. Raises `InvalidSettingError`."""
    return files.read_toml(path) if path.exists() else {}


def read_ini(path: Path) -> configparser.ConfigParser | None:
    """The sections of the file at `path`, None if there is none. Raises `InvalidSettingError`."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=None)
    try:
        return parser if parser.read(path, encoding="utf-8") else None
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError(f"{path} cannot be read: {error}") from error


def as_table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table `name` of `document`, empty if it is missing or something else."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
