"""Checks that a user can type what a hint suggests, with the parser that reads it."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator

from pytest_pyinstall.cli.parser import arguments_of
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.options import OPTIONS

__all__ = ["problem_with"]

_OURS = re.compile(
    r"(?<![\w./-])pytest-pyinstall(?= )|(?<![\w-])--p(?:ython|yinstall)[\w-]*|PYTEST_PYINSTALL_\w+|pyinstall_\w+"
)
_FLAGS = {flag: option for option in OPTIONS for flag in option.flags}
_COMMAND = re.compile(
    r"pytest-pyinstall .+|pytest .+|-o '?\w+=.+|--p(?:ython|yinstall).+|[A-Z_]+=.+|\w+ = .+|@?[\w.]+\(.*\)"
)


def problem_with(hint: str) -> str:
    """Why `hint` cannot be typed; empty if it can."""
    for piece in _pieces(hint):
        if not _OURS.search(piece):
            continue  # a request, a system command, or advice
        if piece.startswith("/"):
            continue  # the failed command of another program
        typed = piece if _COMMAND.fullmatch(piece) else piece.rpartition(": ")[2].removeprefix("export ")
        if not _COMMAND.fullmatch(typed):
            return f"no part of {piece!r} can be typed"
        if problem := _problem(typed):
            return f"{typed!r}: {problem}"
    return ""


def _pieces(hint: str) -> Iterator[str]:
    hint = re.sub(r"\s+# .*$", "", hint)  # a comment in a shell and in TOML
    for piece in re.split(r"; (?:or )?|, or (?=--|[A-Z_]+=)", hint):
        yield piece.strip()


def _problem(typed: str) -> str:
    if match := re.match(r"-o (\w+)=|(\w+) = ", typed.replace("'", "")):
        return "" if (match[1] or match[2]) in {option.ini for option in OPTIONS} else "it is not an ini value"
    if match := re.match(r"([A-Z_]+)=", typed):
        names = {option.variable for option in OPTIONS} | {option.uv for option in OPTIONS}
        return "" if match[1] in names or not match[1].startswith("PYTEST_PYINSTALL") else "it is not a variable"
    if re.match(r"@?[\w.]+\(", typed):
        return ""
    words = shlex.split(typed)
    if words[0] == "pytest-pyinstall":
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                arguments_of(words[1:])
        except PyinstallError as error:
            return error.message
        except SystemExit:  # --help
            pass
        return ""
    return next(filter(None, map(_problem_with_option, words, [*words[1:], ""])), "")


def _problem_with_option(word: str, after: str) -> str:
    """What is wrong with `word`, if it is one of our options in a pytest command line."""
    flag, _, value = word.partition("=")
    if not flag.startswith(("--python", "--pyinstall")):
        return ""
    if flag not in _FLAGS:
        return f"there is no option {flag}"
    option, value = _FLAGS[flag], value or after
    if option.words and value not in option.words:
        return f"{flag} does not take {value!r}"
    return "" if value or option.kind == "flag" else f"{flag} needs a value"
