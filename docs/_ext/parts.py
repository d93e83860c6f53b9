"""The parts of the reference that the code itself says, as Markdown. Standard library only, for the tests' sake."""

import ast
import contextlib
import io
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import import_picture

from pytest_pyinstall.pytest_options import pytest_addoption

__all__ = ["fixtures", "text"]

_ROOT = Path(__file__).parent.parent.parent


def text(part: str, *arguments: str) -> str:
    """The Markdown of the part that a page names."""
    return "\n".join(_PARTS[part](*arguments))


def _command(name: str) -> Iterator[str]:
    """What ``pytest-pyinstall NAME --help`` says."""
    from pytest_pyinstall.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main.main([name, "--help"] if name != "help" else ["--help"])
    yield from ("```text", *said.getvalue().rstrip().splitlines(), "```")


def _errors() -> Iterator[str]:
    from pytest_pyinstall import errors

    yield from ("| class | exit code | is a | means |", "|---|---|---|---|")
    for name in _by_exit_code(errors):
        kind = getattr(errors, name)
        parents = ", ".join(f"`{parent.__name__}`" for parent in kind.__bases__)
        meaning = (kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        yield f"| `{name}` | {kind.exit_code} | {parents} | {_plain(meaning)} |"


def _by_exit_code(errors: Any) -> list[str]:
    return sorted(errors.__all__, key=lambda name: (getattr(errors, name).exit_code, errors.__all__.index(name)))


def _promises() -> Iterator[str]:
    """Which tests cite each promise, by its number in their name or in the first line of their docstring."""
    proofs: dict[int, list[str]] = {}
    for path in sorted((_ROOT / "tests").rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for number in _numbers("", module):
            proofs.setdefault(number, []).append(f"`{path.name}` as a whole")
        functions = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
        for function in functions:
            if function.name.startswith("test_"):
                for number in _numbers(function.name, function):
                    proofs.setdefault(number, []).append(f"`{path.name}::{function.name}`")
    for number, tests in sorted(proofs.items()):
        yield f"P{number}"
        yield f": {', '.join(dict.fromkeys(tests))}"
        yield ""


def _numbers(name: str, node: ast.Module | ast.FunctionDef) -> set[int]:
    said = (ast.get_docstring(node) or "").partition("\n")[0]
    words = f"{name.replace('_', ' ')} {said}"
    return {int(number) for number in re.findall(r"(?<![A-Za-z0-9])[Pp](\d{1,2})(?![0-9])", words)}


def _fixtures() -> Iterator[str]:
    from pytest_pyinstall import pytest_plugin

    for name, what in fixtures(pytest_plugin):
        yield f"`{name}`"
        for number, paragraph in enumerate(what.split("\n\n")):
            yield from (f"{':' if not number else ' '} {_plain(' '.join(paragraph.split()))}", "")


def fixtures(plugin: Any) -> Iterator[tuple[str, str]]:
    """Name and docstring of each fixture that `plugin` offers to users."""
    for value in vars(plugin).values():
        marker = getattr(value, "_fixture_function_marker", None)
        if marker is not None and not str(marker.name).startswith("_"):
            function = value._get_wrapped_function()  # noqa: SLF001  # pytest has no public way to the docstring
            yield str(marker.name), function.__doc__ or ""


def _options() -> Iterator[str]:
    """Each option of pytest that is a setting, with its ini value, its variable, and the words that it takes."""
    settings = _settings()
    for option in _parser().getgroup("pyinstall").options:
        (name,) = option.names()
        setting = "python" if name == "--python" else name.removeprefix("--python-")
        if setting not in {"python", *settings.OPTIONS}:
            continue
        attributes = option.attrs()
        metavar = f" {attributes['metavar']}" if attributes.get("metavar") else ""
        also = [f"ini `pyinstall_{setting}`", f"variable `PYTEST_PYINSTALL_{setting.upper()}`"]
        if choices := attributes.get("choices"):
            also.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
        meaning = str(attributes["help"])
        yield f"`{name}{metavar}`"
        yield from (f": {meaning[0].upper()}{meaning[1:]}.", "", f"  {'; '.join(also)}", "")


def _suite_options() -> Iterator[str]:
    """The options and ini values of the whole suite, in the words of ``--help``."""
    parser = _parser()
    yield from ("| option | ini value | what it does |", "|---|---|---|")
    told = set()
    for option in parser.getgroup("pyinstall").options:
        (name,) = option.names()
        ini = f"pyinstall_{name.removeprefix('--python-')}"
        told.add(ini)
        if name == "--python" or name.removeprefix("--python-") in _settings().OPTIONS:
            continue
        metavar = f" {option.attrs()['metavar']}" if option.attrs().get("metavar") else ""
        also = f"`{ini}`{_kind_of_ini(parser, ini)}" if ini in parser._inidict else ""  # noqa: SLF001  # as pytest's own --help
        yield f"| `{name}{metavar}` | {also} | {option.attrs()['help']} |"
    for ini, (said, *_) in parser._inidict.items():  # noqa: SLF001  # as above
        if ini.startswith("pyinstall_suite") and ini not in told:
            yield f"| | `{ini}`{_kind_of_ini(parser, ini)} | {said} |"


def _kind_of_ini(parser: Any, name: str) -> str:
    kind = str(parser._inidict[name][1])  # noqa: SLF001  # as above
    return {"bool": ": `true` or `false`", "linelist": ": a list"}.get(kind, "")


def _parser() -> Any:
    from _pytest.config import PytestPluginManager
    from _pytest.config.argparsing import Parser

    parser = Parser(_ispytest=True)
    pytest_addoption(parser, PytestPluginManager())
    return parser


def _settings() -> Any:
    from pytest_pyinstall import settings

    return settings


def _variables() -> Iterator[str]:
    """What has neither option nor ini value."""
    yield from ("| variable | means |", "|---|---|")
    for name, meaning in _settings().VARIABLES.items():
        yield f"| `{name}` | {meaning} |"


def _variables_of_uv() -> Iterator[str]:
    yield from ("| of uv | ours |", "|---|---|")
    for name, variable in _settings().UV_VARIABLES.items():
        yield f"| `{variable}` | {_UV_MEANINGS.get(name, name)} |"
    yield "| `UV_OFFLINE` | no connection is opened; what is in the cache may be used |"


_UV_MEANINGS = {
    "pypy_mirror": "mirror, for PyPy",
    "downloads": "downloads: `automatic` is `auto`; `manual` downloads only for `pytest-pyinstall install`",
}


def _modules() -> Iterator[str]:
    """The first sentence of each module's docstring, row by row, as the import contract has the rows."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    yield from ("| row | module | its one sentence |", "|---|---|---|")
    for number, row in enumerate(contract["layers"], 1):
        for name in map(str.strip, re.split(r"[|:]", row)):
            for path in import_picture.files(name):
                module = path.relative_to(_ROOT / "pytest_pyinstall").with_suffix("").as_posix()
                yield f"| {number} | `{module.removesuffix('/__init__')}` | {_sentence(module)} |"
    for name in ("__init__", *contract["exhaustive_ignores"]):
        yield f"| | `{name}` | {_sentence(name)} |"


def _sentence(module: str) -> str:
    source = (_ROOT / "pytest_pyinstall" / f"{module}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")
    return _plain(first.replace("|", "\\|"))


def _plain(sentence: str) -> str:
    """reStructuredText's marks in the way of Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", sentence)


_PARTS: Mapping[str, Callable[..., Iterator[str]]] = {
    "command": _command,
    "errors": _errors,
    "fixtures": _fixtures,
    "modules": _modules,
    "options": _options,
    "promises": _promises,
    "suite-options": _suite_options,
    "variables": _variables,
    "variables-of-uv": _variables_of_uv,
}
