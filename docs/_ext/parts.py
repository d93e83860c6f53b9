"""The parts of the reference that the code itself says, as Markdown. Standard library only, for the tests' sake."""

import ast
import contextlib
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import import_picture

__all__ = ["fixtures", "text"]

_ROOT = Path(__file__).parent.parent.parent


def text(part: str, *arguments: str) -> str:
    """The Markdown of the part that a page names."""
    return "\n".join(_PARTS[part](*arguments))


def _command(name: str) -> Iterator[str]:
    """What ``pytest-pyinstall NAME --help`` says."""
    from pytest_pyinstall.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main([name, "--help"] if name != "help" else ["--help"])
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
        name = path.relative_to(_ROOT / "tests").as_posix()
        module = ast.parse(path.read_text(encoding="utf-8"))
        for number in _numbers("", module):
            proofs.setdefault(number, []).append(f"`{name}` as a whole")
        functions = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
        for function in functions:
            if function.name.startswith("test_"):
                for number in _numbers(function.name, function):
                    proofs.setdefault(number, []).append(f"`{name}::{function.name}`")
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
    """Each option that is a setting, with its ini value, its variable, and the words that it takes."""
    for option in _rows():
        if option.name == _PATH:
            yield from (f"`{option.ini}`", f": {option.help[0].upper()}{option.help[1:]}.", "")
            yield from ("  only an ini value; one of `true`, `false`", "")
        if not (option.option and option.variable):
            continue
        also = [f"ini `{option.ini}`", f"variable `{option.variable}`"]
        if option.words:
            also.append("one of " + ", ".join(f"`{word}`" for word in option.words))
        yield ", ".join(f"`{flag} {option.metavar}`" for flag in option.flags)
        meaning = _with_code(f"{option.help[0].upper()}{option.help[1:]}", option.words)
        yield from (f": {meaning}.", "", f"  {'; '.join(also)}", "")


def _with_code(sentence: str, words: Iterable[str]) -> str:
    """`sentence` with each of `words` in backticks, unless it is part of a longer word."""
    return re.sub(rf"(?<![\w-])({'|'.join(words) or '(?!)'})(?![\w-])", r"`\1`", sentence)


_PATH = "path"
"""The only ini value without an option that is not about the suite."""


def _suite_options() -> Iterator[str]:
    """The options and ini values of ``--python-suite``."""
    yield from ("| option | ini value | what it does |", "|---|---|---|")
    for option in _rows():
        if (option.option or option.ini) and not option.variable and option.name != _PATH:
            name = f"`{option.option} {option.metavar}`".replace(" `", "`") if option.option else ""
            kind = {"flag": ": `true` or `false`", "list": ": a list"}.get(option.kind, "")
            yield f"| {name} | {f'`{option.ini}`{kind}' if option.ini else ''} | {option.help} |"


def _rows() -> Any:
    from pytest_pyinstall import options

    return options.OPTIONS


def _variables() -> Iterator[str]:
    """What has neither option nor ini value."""
    yield from ("| variable | means |", "|---|---|")
    for option in _rows():
        if option.variable and not (option.option or option.ini):
            yield f"| `{option.variable}` | {option.help} |"


def _variables_of_uv() -> Iterator[str]:
    yield from ("| of uv | ours |", "|---|---|")
    for option in _rows():
        if option.uv:
            meaning = _UV_MEANINGS.get(option.name, option.name if option.option else option.help)
            yield f"| `{option.uv}` | {meaning} |"


_UV_MEANINGS = {"downloads": "downloads: `automatic` is `auto`; `manual` downloads only for `pytest-pyinstall install`"}


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


def _packages() -> Iterator[str]:
    """Each package with its sentence and the names that the rest of the code uses, the highest row first."""
    for row in import_picture.rows():
        for name in row:
            if not (_ROOT / "pytest_pyinstall" / name).is_dir():
                continue
            modules = import_picture.used_outside(name)
            surface = "; ".join(
                f"`{module}`: {', '.join(f'`{each}`' for each in sorted(names))}"
                for module, names in sorted(modules.items())
            )
            yield from (f"`{name}`", f": {_sentence(f'{name}/__init__')}", "", f"  *Public*: {surface}.", "")


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
    "packages": _packages,
    "promises": _promises,
    "suite-options": _suite_options,
    "variables": _variables,
    "variables-of-uv": _variables_of_uv,
}
