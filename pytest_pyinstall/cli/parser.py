"""Parses the command line. Contains the text of ``--help``.

The subparsers of argparse do not accept options before the command, or between requests. So the common options are
parsed first, and each command has a parser of its own in the file of its body. Only that file is imported.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.options import OPTIONS, SETTINGS, closest_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["COMMANDS", "arguments_of", "command_of", "completed_parser"]

COMMANDS: Mapping[str, str] = {
    "install": "install",
    "list": "install",
    "find": "install",
    "upgrade": "install",
    "exec": "ci",
    "matrix": "ci",
    "remove": "maintain",
    "verify": "maintain",
    "dir": "places",
    "cache": "places",
    "mirror": "mirror",
    "report": "ci",
}
"""Each command, and the module in this package with its parser and its body."""

_OTHER_NAMES = {
    "uninstall": "remove",
    "delete": "remove",
    "update": "upgrade",
    "ls": "list",
    "which": "find",
    "run": "exec",
    "clean": "cache prune",
    "prune": "cache prune",
    "clear": "cache clear",
    "pack": "mirror pack",
    "pull": "mirror pull",
    "version": "--version",
}
"""Our commands, by the names that they have in other tools."""

_HELP = """\
usage: pytest-pyinstall [options] COMMAND ...     (more: COMMAND --help)
Pythons
  install [REQUEST...]           install Pythons that are missing
  list [REQUEST...] [--all]      list Pythons; --all: also available builds
  find REQUEST...                print the executable; never downloads
  upgrade [REQUEST...] [--keep]  install newer patches, remove the older ones
  remove REQUEST... | --all      remove installations
  verify [REQUEST...] --repair   check every file; --repair restores them
Other tools
  exec --python R... -- COMMAND  run a command with these Pythons on its PATH
  matrix [REQUEST...]            print a CI matrix (default: supported)
  report DIR [--html FILE]       merge the JUnit files of several CI jobs
  mirror pull|pack DIR PYTHON    fill a mirror for machines without a network
Directories
  dir [NAME] | --cache-key       show directories and the settings behind them
  cache list|prune|clear         manage downloaded archives and environments
Options
{settings}
  --json   -q, --quiet   -v, --verbose: show each step   --version
Example: pytest-pyinstall exec --python 3.9 3.13t -- nox
"""


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command and its options, in any order. If `text` is set, print it and run no command.

    `run` takes a `CommandContext` and the namespace. For ``exec``, `tail` is the command to run. Raises `UsageError`,
    and `SystemExit` after ``COMMAND --help``.
    """
    end = words.index("--") if "--" in words else len(words)
    head, tail = words[:end], words[end + 1 :]
    if command_of(words) == "exec":
        _check_exec(words)
    shared_parser = _shared_parser()
    shared_parser.words = words
    shared, rest = shared_parser.parse_known_args(head)
    if shared.version:
        return argparse.Namespace(text=f"pytest-pyinstall {_own_version()}")
    if rest[:1] == ["help"] and rest[1:]:
        rest = [_command(words, rest[1:]), "--help"]
    if rest[:1] in (["-h"], ["--help"], ["help"]):
        return argparse.Namespace(text=_HELP.format(settings="\n".join(_settings_help())).rstrip())
    name = _command(words, rest)
    command_parser = _command_parser(name)
    command_parser.words = words
    if name == "exec":
        arguments = command_parser.parse_intermixed_args(rest[1:], argparse.Namespace(**vars(shared)))
        if shared.json:
            raise UsageError("exec: the output is the command's, so there is no --json")
        if not tail:
            raise _no_command(*_without_dashes(head))
        arguments.tail = tail
    else:
        own = rest[1:]
        if command_parser.has_requests:  # ``--python 3.9`` is the request 3.9, as for pytest and `exec`
            if any(word == "--python" and after.startswith("-") for word, after in pairwise([*own, "-"])):
                command_parser.error("argument --python: expected at least one argument")
            own = [word.removeprefix("--python=") for word in own if word != "--python"]
        more = ["--", *tail] if tail else []
        arguments = command_parser.parse_intermixed_args([*own, *more], argparse.Namespace(**vars(shared)))
    arguments.command, arguments.text = name, None
    return arguments


def _own_version() -> str:
    """Like `importlib.metadata.version`, whose imports cost more than everything else that `--version` does."""
    for place in sys.path:
        with suppress(OSError):
            for name in os.listdir(place or "."):  # noqa: PTH208  # names, and `pathlib` is not imported yet
                if name.startswith("pytest_pyinstall-") and name.endswith(".dist-info"):
                    return name.removeprefix("pytest_pyinstall-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("pytest-pyinstall")


def _command(words: Sequence[str], rest: Sequence[str]) -> str:
    """The command in `words`, of which `rest` remains without the common options and the command of ``exec``."""
    if not rest:
        raise UsageError("no command given", hint="pytest-pyinstall --help")
    if (name := rest[0]) in COMMANDS:
        return name
    plain = name.lstrip("-").lower()
    if name.startswith("-") and plain not in COMMANDS:
        raise UsageError(f"there is no option {name}{_meant([name], _options())}", hint="pytest-pyinstall --help")
    import shlex
    from difflib import get_close_matches

    meant = _OTHER_NAMES.get(name) or next(iter(get_close_matches(plain, COMMANDS, n=1)), "")
    if not meant:
        raise UsageError(f"there is no command {name}", hint="pytest-pyinstall --help")
    at = words.index(name)
    corrected = [*words[:at], *meant.split(), *words[at + 1 :]]
    hint = f"pytest-pyinstall {shlex.join(corrected)}"
    if meant == "exec":
        try:
            _check_exec(corrected)
        except UsageError as error:
            hint = error.hint
    raise UsageError(f"there is no command {name}; did you mean {meant}?", hint=hint)


def _check_exec(words: Sequence[str]) -> None:
    """Raise `UsageError` if `words`, a command line of ``exec``, have a command before the dashes, or no dashes."""
    if "--" not in words:
        options, command = _without_dashes(words)
        if command[:1] not in (["-h"], ["--help"]):
            # Before parsing: in ``exec python3.9 --version``, the option belongs to python3.9.
            raise _no_command(options, command)
        return
    end = words.index("--")
    options, [*early, _] = _without_dashes([*words[:end], "COMMAND"])
    known = {*_options(), "--python", "-q", "-v"}
    flags = {word.partition("=")[0] for word in options if word.startswith("-")}
    if early and not early[0].startswith("-") and flags <= known:
        hint = _no_command(options, [*early, *words[end + 1 :]]).hint
        raise UsageError(f"exec: unrecognized arguments: {' '.join(early)}", hint=hint)


def _no_command(options: Sequence[str], command: Sequence[str]) -> UsageError:
    import shlex

    while command and command[0][:1].isdigit():  # `exec 3.9 nox` and `--python 3.9 3.13`: a Python, not a command
        last = [word for word in options if word.startswith("-")][-1:]
        options = [*options, *([] if last == ["--python"] else ["--python"]), command[0]]
        command = command[1:]
    if options[-1:] == ["--python"]:
        options = [*options, "3.13"]
    words = [*(options or ["--python", "3.13"]), "--", *(command or ["COMMAND"])]
    return UsageError("exec: no command given; put it after --", hint=f"pytest-pyinstall exec {shlex.join(words)}")


def _without_dashes(head: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split ``exec --python 3.9 3.12 nox -s tests`` into our options and the command."""
    words = list(head)
    words.remove("exec")
    with_value = {option.option for option in SETTINGS}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--python":
            at += 2
            # The last word, and one before an option, is the command, even if it could be a request: python3.9 -m …
            while at + 1 < len(words) and not words[at + 1].startswith("-") and _is_request(words[at]):
                at += 1
        elif word.startswith("--python") or word in {"-q", "--quiet", "-v", "--verbose"}:
            at += 2 if word in with_value else 1
        else:
            break
    return words[:at], words[at:]


def _is_request(word: str) -> bool:
    from pathlib import Path

    from pytest_pyinstall.request.request import parse_requests

    try:
        return bool(parse_requests([word], directory=Path(), origin=""))
    except UsageError:
        return False


def command_of(words: Sequence[str]) -> str:
    """The command in `words`. Empty if there is none."""
    head = words[: words.index("--") if "--" in words else len(words)]
    with suppress(UsageError):
        _, head = _shared_parser().parse_known_args(head)
    return next((word for word in head[:1] if word in COMMANDS), "")


def completed_parser() -> argparse.ArgumentParser:
    """One parser with all commands and options, for shell completion only."""
    parser = argparse.ArgumentParser(prog="pytest-pyinstall", allow_abbrev=False)
    _add_shared(parser)
    subparsers = parser.add_subparsers()
    for name in COMMANDS:
        subparser = subparsers.add_parser(name, allow_abbrev=False)
        _add_command(name)(subparser)
        _add_shared(subparser)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Sets the width itself: argparse creates a formatter for each option, and would import `shutil` for the width."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **options})


def _columns() -> int:
    """Like `shutil.get_terminal_size`."""
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    with suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    return 80


class _Parser(argparse.ArgumentParser):
    words: Sequence[str] = ()
    """What was typed, for hints."""

    @property
    def has_requests(self) -> bool:
        """Whether the arguments of the command are requests."""
        return any(action.dest == "requests" for action in self._actions)

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help"
        if "required" in message and self.epilog:
            hint = self._completed()
        if message.startswith("unrecognized arguments: "):
            unknown = message.partition(": ")[2].split()
            flags = [*self._option_string_actions, *_options(), *(["--python"] if self.has_requests else [])]
            known = [flag for flag in flags if flag.startswith("--")]
            message += _meant([word for word in unknown if word.startswith("-")], known)
            hint = self._corrected(unknown, known) or hint
        if match := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message):
            near = closest_names([match[1]], match[2].replace("'", "").split(", "), cutoff=0.5)
            message += f"; did you mean {near[0]}?" if near else ""
        if match := re.match(r"argument (\S+): ignored explicit argument ", message):
            import shlex

            message = f"{match[1]} has no value"
            names = match[1].split("/")
            corrected = [name if (name := word.partition("=")[0]) in names else word for word in self.words]
            hint = f"pytest-pyinstall {shlex.join(corrected)}"
        raise UsageError(f"{self.prog.rpartition(' ')[2]}: {message}", hint=hint)

    def _completed(self) -> str:
        """What was typed, completed from an example of the help; the first example if none begins like it."""
        import shlex

        examples = [line.split()[1:] for line in (self.epilog or "").splitlines()[1:]]
        words = next((example for example in examples if example[:2] == [*self.words[:2]]), examples[0])
        fits = [
            given == word or (word.isupper() and given[:1] != "-" and not _is_request(given))
            for given, word in zip(self.words, words, strict=False)
        ]
        if all(fits) and len(fits) < len(words):
            words = [*self.words, *words[len(fits) :]]
        return f"pytest-pyinstall {shlex.join(words)}"

    def _corrected(self, unknown: Sequence[str], known: Sequence[str]) -> str:
        """The command line with the closest option for each unknown one, and without other unknown words."""
        meant: dict[str, list[str]] = {}
        needs_value = False
        for word in unknown:
            near = _closest(word, known)
            if word.startswith("-") and near not in known:
                return ""
            if near:
                meant[word] = ["".join([near, *word.partition("=")[1:]])]
            else:
                meant[word] = [word] if needs_value else []
            needs_value = "=" not in word and self._takes_value(near)
        import shlex

        corrected = [new for word in self.words for new in meant.get(word, [word])]
        return f"pytest-pyinstall {shlex.join(corrected)}"

    def _takes_value(self, flag: str) -> bool:
        if action := self._option_string_actions.get(flag):
            return action.nargs != 0
        return flag == "--python" or flag in {option.option for option in SETTINGS}


def _meant(words: Sequence[str], known: Sequence[str]) -> str:
    """What the options in `words` probably mean, for the end of a message."""
    found = list(dict.fromkeys(filter(None, (_closest(word, known) for word in words))))
    of_pytest = {flag for option in OPTIONS for flag in option.flags} - {*known}
    only_there = [name for name in found if name in of_pytest]
    near = [name for name in found if name not in of_pytest]
    text = f"; did you mean {', '.join(near)}?" if near else ""
    return f"{text}; only pytest has {', '.join(only_there)}" if only_there else text


def _closest(word: str, known: Sequence[str]) -> str:
    """The option of this command or of pytest that `word` probably means. Empty if there is none."""
    if not word.startswith("-") or word.partition("=")[0] == "--python":  # others have it: it is not misspelled
        return ""
    of_pytest = [flag for option in OPTIONS for flag in option.flags if flag not in known]
    return next(iter(closest_names([word], [*known, *of_pytest], cutoff=0.6)), "")


def _shared_parser() -> _Parser:
    parser = _Parser(prog="pytest-pyinstall", add_help=False, allow_abbrev=False, formatter_class=_Formatter)
    _add_shared(parser)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    for option in SETTINGS:
        parser.add_argument(*option.flags, dest=option.dest, metavar="|".join(option.words) or option.metavar)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--version", action="store_true")


def _options() -> list[str]:
    return [*(option.option for option in SETTINGS), "--json", "--quiet", "--verbose", "--version", "--help"]


def _add_command(name: str) -> Callable[[argparse.ArgumentParser], None]:
    module = import_module(f"pytest_pyinstall.cli.{COMMANDS[name]}")
    add: Callable[[argparse.ArgumentParser], None] = getattr(module, f"{name}_parser")
    return add


def _settings_help() -> list[str]:
    """The options that are settings, in lines of at most 80 columns."""
    lines = [" "]
    for option in SETTINGS:
        usage = f" {option.option} {'|'.join(option.words) or option.metavar}"
        if lines[-1].strip() and len(lines[-1]) + 2 + len(usage) > 80:
            lines.append(" ")
        lines[-1] += f"  {usage}" if lines[-1].strip() else usage
    return lines


def _command_parser(name: str) -> _Parser:
    parser = _Parser(
        prog=f"pytest-pyinstall {name}",
        allow_abbrev=False,
        add_help=False,
        formatter_class=_Formatter,
    )
    _add_command(name)(parser)
    parser.add_argument("-h", "--help", action="help", help="show this help; for common options: pytest-pyinstall -h")
    return parser
