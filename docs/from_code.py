"""Writes into the pages what the code itself says: ``python docs/from_code.py``.

A part is between ``<!-- from code: NAME -->`` and ``<!-- end of NAME -->``. A test compares it with the code.
"""

import ast
import contextlib
import io
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest.mock import patch

__all__ = ["PAGES", "fixtures", "layers", "text", "updated"]

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT / "pytest_pyinstall"
PAGES = sorted(_ROOT.glob("docs/**/*.md"))
_PART = re.compile(r"^( *)<!-- from code: (.+) -->\n.*?^ *<!-- end of \2 -->$", re.MULTILINE | re.DOTALL)


def updated(page: str) -> str:
    """`page` with the current text of each part."""

    def current(match: re.Match[str]) -> str:
        lines = [f"<!-- from code: {match[2]} -->", "", *text(*match[2].split()).splitlines(), ""]
        return "\n".join(f"{match[1]}{line}".rstrip() for line in [*lines, f"<!-- end of {match[2]} -->"])

    return _PART.sub(current, page)


def main() -> None:
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (new := updated(page)) != page:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(_ROOT))


def text(part: str, *arguments: str) -> str:
    """The Markdown of a part."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_PARTS[part](*arguments))).strip()


def _command(name: str) -> Iterator[str]:
    """What ``pytest-pyinstall NAME --help`` says."""
    from pytest_pyinstall.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"):
        main([name, "--help"] if name != "help" else ["--help"])
    yield from ("```text", *said.getvalue().rstrip().splitlines(), "```")


def _errors() -> Iterator[str]:
    from pytest_pyinstall import errors

    yield from ("| class | exit code | meaning | base classes |", "|---|---|---|---|")
    for name in _by_exit_code(errors):
        kind = getattr(errors, name)
        parents = ", ".join(f"`{parent.__name__}`" for parent in kind.__bases__)
        meaning = (kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        yield f"| `{name}` | {kind.exit_code} | {_plain(meaning)} | {parents} |"


def _by_exit_code(errors: Any) -> list[str]:
    return sorted(errors.__all__, key=lambda name: (getattr(errors, name).exit_code, errors.__all__.index(name)))


_API: Mapping[str, tuple[str, ...]] = {"Settings": ("from_environ",)}
"""The members that the reference shows of a class, if not all public ones."""


def _api() -> Iterator[str]:
    """Each public name with its signature and docstring."""
    import pytest_pyinstall

    for name in _BY_USE:
        path = _PACKAGE / f"{pytest_pyinstall._HOMES[name].replace('.', '/')}.py"  # noqa: SLF001  # to read its source
        source = path.read_text(encoding="utf-8")
        [node] = (each for each in ast.parse(source).body if getattr(each, "name", "") == name)
        yield from (f"## `{name}`", "")
        if isinstance(node, ast.FunctionDef):
            yield from _function(node, source)
        elif isinstance(node, ast.ClassDef):
            yield from _class(node, source)


_BY_USE = (
    "provision",
    "provision_all",
    "Interpreter",
    "Environment",
    "Request",
    "Settings",
    "PyinstallError",
    "RunError",
)


def _class(node: ast.ClassDef, source: str) -> Iterator[str]:
    public = [each for each in node.body if not getattr(each, "name", "_").startswith("_")]
    methods = [each for each in public if isinstance(each, ast.FunctionDef)]
    fields = [ast.get_source_segment(source, each) for each in node.body if isinstance(each, ast.AnnAssign)]
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if "Error" in node.name else ""
    head = f"class {node.name}{bases}:"
    yield from ("```python", *([head, *(f"    {each}" for each in fields)] if fields else [f"{head} ..."]), "```", "")
    yield from (*_paragraphs(node), "")
    for method in methods:
        if method.name not in _API.get(node.name, (method.name,)):
            continue
        yield from (f"### `{node.name}.{method.name}`", "", *_function(method, source))


def _function(node: ast.FunctionDef, source: str) -> Iterator[str]:
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    lines = source.splitlines()[first - 1 : node.body[0].lineno - 1]
    code = dedent("\n".join(re.sub(r"  # noqa.*", "", line) for line in lines)).removesuffix(":")
    yield from ("```python", *code.splitlines(), "```", "", *_paragraphs(node), "")


def _paragraphs(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
        if paragraph.startswith(">>> "):
            yield from ("```pycon", *paragraph.splitlines(), "```", "")
        else:
            yield from (_plain(paragraph), "")


def _fixtures() -> Iterator[str]:
    from pytest_pyinstall import pytest_plugin

    for name, what in fixtures(pytest_plugin):
        first, *others = (_plain(" ".join(paragraph.split())) for paragraph in what.split("\n\n"))
        yield f"- `{name}`: {first}"
        for paragraph in others:
            yield from ("", f"  {paragraph}")


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
            yield from (f"- `{option.ini}`: {option.help}.", "")
            yield from ("  Ini value only. Values: `true`, `false`.", "")
        if not (option.option and option.variable):
            continue
        places = [f"Ini value: `{option.ini}`.", f"Variable: `{option.variable}`."]
        if option.words:
            places.append(f"Values: {', '.join(f'`{word}`' for word in option.words)}.")
        flags = ", ".join(f"`{flag} {option.metavar}`" for flag in option.flags)
        yield from (f"- {flags}: {_with_code(option.help, option.words)}.", "", f"  {' '.join(places)}", "")


def _with_code(sentence: str, words: Iterable[str]) -> str:
    """`sentence` with each of `words` in backticks, unless it is part of a longer word."""
    return re.sub(rf"(?<![\w-])({'|'.join(words) or '(?!)'})(?![\w-])", r"`\1`", sentence)


_PATH = "path"
"""The only ini value without an option that is not about the suite."""


def _suite_options() -> Iterator[str]:
    """The options and ini values of ``--python-suite``."""
    for option in _rows():
        if (option.option or option.ini) and not option.variable and option.name != _PATH:
            kind = {"flag": " (`true` or `false`)", "list": " (a list)"}.get(option.kind, "")
            if option.option:
                yield f"- `{option.option} {option.metavar}`: {option.help}.".replace(" `:", "`:")
                if option.ini:
                    yield from ("", f"  Ini value: `{option.ini}`{kind}.")
            else:
                yield f"- `{option.ini}`{kind}: {option.help}."
            yield ""


def _rows() -> Any:
    from pytest_pyinstall import options

    return options.OPTIONS


def _variables() -> Iterator[str]:
    """What has neither option nor ini value."""
    for option in _rows():
        if option.variable and not (option.option or option.ini):
            yield f"- `{option.variable}`: {option.help}"


def _variables_of_uv() -> Iterator[str]:
    yield from ("| of uv | ours |", "|---|---|")
    for option in _rows():
        if option.uv:
            meaning = _UV_MEANINGS.get(option.name, option.name if option.option else option.help)
            yield f"| `{option.uv}` | {meaning} |"


_UV_MEANINGS = {"downloads": "downloads: `automatic` is `auto`; `manual` downloads only for `pytest-pyinstall install`"}


def _layers() -> Iterator[str]:
    """The rows of the import contract."""
    yield from ("| row | packages and modules |", "|---|---|")
    for number, row in enumerate(layers(), 1):
        names = (f"**`{name}`**" if (_PACKAGE / name).is_dir() else f"`{name}`" for name in row)
        yield f"| {number} | {', '.join(names)} |"


def layers() -> list[list[str]]:
    """The packages and modules of each row of the import contract, the doors first."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    return [[name.strip() for name in re.split(r"[|:]", row)] for row in contract["layers"]]


def _modules() -> Iterator[str]:
    """The first sentence of each module's docstring, row by row."""
    yield from ("| row | module | its one sentence |", "|---|---|---|")
    for number, row in enumerate(layers(), 1):
        for name in row:
            paths = sorted((_PACKAGE / name).glob("*.py")) or [_PACKAGE / f"{name}.py"]
            for path in paths:
                module = path.relative_to(_PACKAGE).with_suffix("").as_posix()
                yield f"| {number} | `{module.removesuffix('/__init__')}` | {_sentence(module)} |"
    for name in ("__init__", "__main__"):
        yield f"| | `{name}` | {_sentence(name)} |"


def _sentence(module: str) -> str:
    source = (_PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")
    return _plain(first.replace("|", "\\|"))


def _plain(sentence: str) -> str:
    """reStructuredText's marks in the way of Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", sentence)


_PARTS: Mapping[str, Callable[..., Iterator[str]]] = {
    "command": _command,
    "api": _api,
    "errors": _errors,
    "fixtures": _fixtures,
    "layers": _layers,
    "modules": _modules,
    "options": _options,
    "suite-options": _suite_options,
    "variables": _variables,
    "variables-of-uv": _variables_of_uv,
}


if __name__ == "__main__":
    main()
