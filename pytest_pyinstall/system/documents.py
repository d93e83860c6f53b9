"""Parses JSON documents and Python code that others may have written. No I/O."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

__all__ = ["parse_json", "parse_python"]


def parse_json(text: bytes | str) -> Any:
    """As `json.loads`. Raises `ValueError` for a document that is nested too deeply, too."""
    try:
        return json.loads(text)
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error


_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of every tree under construction in one place, so that two threads which parse at once
can end in a ``SystemError`` (gh-106905)."""


def parse_python(source: str | bytes) -> ast.Module:
    """As `ast.parse`, but without warnings about the code, which is not ours. Safe in several threads.

    Raises `SyntaxError`, `ValueError` and `RecursionError`.
    """
    import ast
    import warnings

    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
