"""Dependency variants: additional requirements, each set of them with environments of its own."""

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pytest_pyinstall.errors import UsageError

__all__ = ["Variant", "keyword_expression", "keyword_hint", "parse_variants"]

_RESOLUTIONS = ("lowest", "lowest-direct", "highest")
_OPERATORS = {"==": "", "~=": "", "===": "", ">=": "-ge", "<=": "-le", "<": "-lt", ">": "-gt", "!=": "-ne"}
_LONGEST = 40


class Variant(NamedTuple):
    """One set of requirements. `text` is the user's text, and `name` is part of the labels at the end of node ids.

    `resolution` is a value for uv's ``--resolution``, empty for its default.
    """

    name: str
    text: str
    requirements: tuple[str, ...] = ()
    resolution: str = ""


def parse_variants(
    texts: Iterable[str], *, option: str = "--python-with", example: Callable[[str], str] | None = None
) -> tuple[Variant, ...]:
    """Parse the values of `option`: ``django~=4.2 psycopg``, ``old: numpy<2``, ``lowest``, ``plain:``.

    `example` returns a value as it is written where they were given, by default after `option`. Raises `UsageError`.
    """
    hint = example or (lambda text: f"{option} {shlex.quote(text)}")
    found: dict[str, Variant] = {}
    for text in texts:
        variant = _parsed(text.strip(), option, hint)
        if (other := found.setdefault(variant.name.lower(), variant)) is not variant:
            message = f"{option}: {other.text!r} and {text!r} have the same name, {variant.name}"
            raise UsageError(message, hint=hint(f"NAME: {text}"))
    return tuple(found.values())


def _parsed(text: str, option: str, hint: Callable[[str], str]) -> Variant:
    named = re.fullmatch(r"([A-Za-z0-9][\w.+-]*):(?:\s+(\S.*))?", text)
    name, rest = (named[1], named[2] or "") if named else ("", text)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r}: {error}", hint=hint("django~=4.2")) from error
    if not words and not name:
        raise UsageError(f"{option}: no requirement", hint=hint("django~=4.2"))
    resolutions = [word for word in words if word in _RESOLUTIONS]
    if len(resolutions) > 1:
        raise UsageError(f"{option}: {text!r} names two resolutions", hint=hint(resolutions[0]))
    requirements = tuple(word for word in words if word not in _RESOLUTIONS)
    bad = next((word for word in requirements if not re.match(r"[A-Za-z0-9./~-](?![\w.+-]*:$)", word)), None)
    if bad is not None and bad.endswith(":") and text.partition(": ")[0].endswith(bad[:-1]):
        name, _, rest = text.partition(": ")
        message = f"{option}: {name!r} is not a name of a variant: it has a space"
        raise UsageError(message, hint=hint(f"{'-'.join(name.split())}: {rest.strip()}"))
    if bad is not None:
        raise UsageError(f"{option}: {bad!r} is not a requirement", hint=hint("django~=4.2"))
    for before, word in itertools.pairwise(["", *words]):
        if re.fullmatch(r"[^-].*\.txt", word) and not before.startswith("-"):
            message = f"{option}: {word} is a file of requirements, not a requirement"
            raise UsageError(message, hint=hint(text.replace(word, f"-r {word}")))
    return Variant(name or _name_of(requirements, resolutions), text, requirements, (resolutions or [""])[0])


def _name_of(requirements: Iterable[str], resolutions: list[str]) -> str:
    """Make a name: ``django4.2`` for ``django~=4.2``, ``numpy-lt2`` for ``numpy<2``."""
    parts = list(resolutions)
    for word in requirements:
        match = re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:(===|==|~=|>=|<=|!=|<|>)\s*([\w.*+!]+))?", word)
        if match:
            parts.append(f"{match[1]}{_OPERATORS.get(match[2] or '==', '')}{(match[3] or '').removesuffix('.*')}")
    name = re.sub(r"[^\w.+-]", "", "+".join(parts)) or "with"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip('+-.')}~"


_WORD = re.compile(r"[\w:+\-.\[\]\\/]+")
"""A word in an expression of ``-k``, by pytest's rules."""
_NOTHING = "no_test_has_this_name_a1b2c3"


def keyword_expression(expression: str, label: str) -> str:
    """Adapt an expression of ``-k`` for the worker called `label`.

    A word that is the name of its Python, of its variant, or the whole label becomes true. All other words keep their
    meaning. So ``-k "parse and django4.2"`` runs tests with one variant only. Parts of a name do not count, because a
    word such as ``3`` is part of every Python's name.
    """
    python, _, variant = label.partition("-")
    names = {name.lower() for name in (label, python, variant) if name}

    def known(match: re.Match[str]) -> str:
        return f"({match[0]} or not {_NOTHING})" if match[0].lower() in names else match[0]

    return _WORD.sub(known, expression)


_SPELLING = re.compile(r"(?:(pypy|pp)|cpython|python|cp|py)?-?3\.?(\d{1,2})(?:\.\d+)*(t?)")
"""A word in an expression of ``-k`` that may mean a Python: ``3.9``, ``py39``, ``cp3.13t``, ``pypy-3.11``."""


_WITH_PYTHON = re.compile(r"(.+)\[([^\[\]]+)\]")
"""A word in an expression of ``-k`` that is the end of an id: ``test_it[py3.9]``."""


def keyword_hint(expression: str, names: Sequence[str]) -> str:
    """A hint for an expression of ``-k`` that selected nothing, if it spells a Python otherwise than in `names`.

    `names` are those of the session's Pythons at the end of ids: ``py3.9`` in a suite, and ``3.9`` without one.
    """
    strange = []

    def corrected(word: re.Match[str]) -> str:
        if (match := _WITH_PYTHON.fullmatch(word[0])) and match[2] in names:
            strange.append(word[0])
            return f"{match[1]} and {match[2]}" if word[0] == expression else f"({match[1]} and {match[2]})"
        if word[0].lower() in names or not (match := _SPELLING.fullmatch(word[0].lower())):
            return word[0]
        version = f"{'pypy' if match[1] else ''}3.{match[2]}{match[3]}"
        found = next((name for name in names if name in {version, f"py{version}"}), "")
        if not found and word[0].isdecimal():
            return word[0]  # a number
        strange.append(word[0])
        return found or word[0]

    right = _WORD.sub(corrected, expression)
    if not strange:
        return ""
    correction = f": -k {shlex.quote(right)}" if right != expression else ""
    return f"hint: in -k, the Pythons are called {', '.join(names)}{correction}"
