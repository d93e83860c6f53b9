"""A hint for a test id or a path that a worker did not find: the closest name that exists, or the Pythons' names."""

import ast
import os
import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

_NOT_FOUND = re.compile(r"^ERROR: not found: (.+?\.py)::(.+)$", re.MULTILINE)
_NO_FILE = re.compile(r"^ERROR: file or directory not found: (.+)$", re.MULTILINE)
_LABELLED = re.compile(r"(.+)\[(py(?:py)?\d[^\[\],]*)\]")


def with_hint(text: str, words: Iterable[str], labels: Collection[str], directory: Path) -> str:
    """`text`, the usage error of a worker with the arguments `words`, with a hint if there is one.

    `labels` are the Pythons of the session, and `directory` is the one in which it was started.
    """
    if match := _NOT_FOUND.search(text):
        for word in words:
            # pytest 9 does not repeat what is in the brackets.
            if (found := _LABELLED.fullmatch(word)) and found[1].rpartition("/")[2] in match[0].replace(os.sep, "/"):
                return (
                    f"ERROR: not found: {word}\n({found[2]} is not a Python of this session: {', '.join(labels)})"
                    f"\nhint: {found[1]}[{','.join(labels)}]"
                )
        path, test = Path(match[1]), match[2].partition("[")[0]
        near = get_close_matches(test, [name for name in _tests_in(path) if name != test], n=1)
        return f"{text}\nhint: {_relative(path, directory)}::{near[0]}" if near else text
    if match := _NO_FILE.search(text):
        path = directory / match[1].partition("::")[0]
        try:
            names = os.listdir(path.parent)  # noqa: PTH208  # only names
        except OSError:
            return text
        if near := get_close_matches(path.name, names, n=1):
            return f"{text}\nhint: {_relative(path.with_name(near[0]), directory)}"
    return text


def _relative(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)


def _tests_in(path: Path) -> list[str]:
    try:
        return list(_names(ast.parse(path.read_bytes()).body, ""))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _names(body: Iterable[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _names(node.body, f"{prefix}{node.name}::")
