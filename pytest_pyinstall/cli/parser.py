"""Reads the words of a command line of ours, and has what ``--help`` says.

Subparsers of argparse would take options only on their own side of the command, and none between requests, so every
command has a parser of its own, and the options that all of them take are read before.

Completes words in a shell, through argcomplete, where that is installed: ``pytest-pyinstall[completion]``.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyinstall.cli.ci import exec_parser, matrix_parser, report_parser
from pytest_pyinstall.cli.install import find_parser, install_parser, list_parser
from pytest_pyinstall.cli.maintain import remove_parser, verify_parser
from pytest_pyinstall.cli.mirror import mirror_parser
from pytest_pyinstall.cli.places import cache_parser, dir_parser
from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.errors import PyinstallError, UsageError
from pytest_pyinstall.options import SETTINGS
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.request.request import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["arguments_of", "command_of", "complete", "completed_parser"]


_HELP = """\
usage: pytest-pyinstall [options] COMMAND ...        (COMMAND --help says more)
Pythons
  install [REQUEST...]           install what the store lacks
  list [--all]                   what is installed; --all: and what could be
  find REQUEST...                print the executable; never downloads
  remove REQUEST... | --all      remove installations
  verify [REQUEST...] --repair   compare with what was published, put in order
with other tools
  exec --python R... -- COMMAND  run a command with those Pythons on its PATH
  matrix [REQUEST...]            a CI matrix; alone: what the project declares
  report DIR [--html FILE]       junit files of several jobs as a table, a page
  mirror pull|pack DIR PYTHON    fill a directory for machines without network
places
  dir [NAME] | --cache-key       where everything lies, why, on which volume
  cache list|prune|clear         downloaded archives, and environments
options
  --python-store DIR   --python-cache DIR   --python-mirror URL
  --python-catalogue URL   --python-downloads auto|never   --python-missing ...
  --python-preference managed|only-managed|system|only-system
  --python-attestation ignore|require
  --json   -q, --quiet   -v, --verbose: each step and its reason   --version
examples
  pytest-pyinstall install 3.9..3.13 pypy3.11
  pytest-pyinstall exec --python 3.9 3.13t -- nox
"""


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    """The command with its options and ours, wherever these stand. `text` is what is to be printed instead.

    `run` takes a `Session` and the namespace, but for ``exec``, whose command is `tail`. Raises `UsageError`, and
    `SystemExit` after ``COMMAND --help``.
    """
    end = words.index("--") if "--" in words else len(words)
    head, tail = words[:end], words[end + 1 :]
    shared, rest = _shared_parser().parse_known_args(head)
    if shared.version:
        from importlib.metadata import version as version_of

        return argparse.Namespace(text=f"pytest-pyinstall {version_of('pytest-pyinstall')}")
    if rest[:1] in (["-h"], ["--help"], ["help"]):
        return argparse.Namespace(text=_HELP.rstrip())
    if not rest:
        raise UsageError("which command?", hint="pytest-pyinstall --help")
    name = rest[0]
    if name not in _COMMANDS:
        from difflib import get_close_matches

        kind = "option" if name.startswith("-") else "command"
        near = get_close_matches(name, _COMMANDS if kind == "command" else _options(), n=1)
        meant = f", did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name} is no {kind} of ours{meant}", hint="pytest-pyinstall --help")
    command_parser = _command_parser(name)
    if name == "exec":
        arguments = command_parser.parse_intermixed_args(rest[1:], argparse.Namespace(**vars(shared)))
        if shared.json:
            raise UsageError("exec: the output is the command's, there is no --json")
        if not tail:
            raise UsageError(
                "exec: no command; it stands behind two dashes", hint="pytest-pyinstall exec --python 3.13 -- COMMAND"
            )
        arguments.tail = tail
    else:
        more = ["--", *tail] if tail else []
        arguments = command_parser.parse_intermixed_args([*rest[1:], *more], argparse.Namespace(**vars(shared)))
    arguments.command, arguments.text = name, None
    return arguments


def command_of(words: Sequence[str]) -> str:
    """The command that `words` ask for, empty where they ask for none of ours."""
    head = words[: words.index("--") if "--" in words else len(words)]
    with suppress(UsageError):
        _, head = _shared_parser().parse_known_args(head)
    return next((word for word in head[:1] if word in _COMMANDS), "")


def completed_parser() -> argparse.ArgumentParser:
    """One parser with all of it, as those want it that complete words in a shell; nothing is read with it."""
    parser = argparse.ArgumentParser(prog="pytest-pyinstall", allow_abbrev=False)
    _add_shared(parser)
    subparsers = parser.add_subparsers()
    for name, add in _COMMANDS.items():
        subparser = subparsers.add_parser(name, allow_abbrev=False)
        add(subparser)
        _add_shared(subparser)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help"
        if "required" in message and self.epilog:
            hint = self.epilog.splitlines()[1].strip()  # who forgot something wants to see it whole
        raise UsageError(f"{self.prog.rpartition(' ')[2]}: {message}", hint=hint)


def _shared_parser() -> _Parser:
    parser = _Parser(prog="pytest-pyinstall", add_help=False, allow_abbrev=False)
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


def _command_parser(name: str) -> _Parser:
    parser = _Parser(
        prog=f"pytest-pyinstall {name}",
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _COMMANDS[name](parser)
    parser.add_argument("-h", "--help", action="help", help="show this; options for every command: pytest-pyinstall -h")
    return parser


_COMMANDS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "install": install_parser,
    "list": list_parser,
    "find": find_parser,
    "exec": exec_parser,
    "matrix": matrix_parser,
    "remove": remove_parser,
    "verify": verify_parser,
    "dir": dir_parser,
    "cache": cache_parser,
    "mirror": mirror_parser,
    "report": report_parser,
}


def complete() -> None:
    """Answer the shell that asks, and end the process. Does nothing where argcomplete is not installed."""
    try:
        import argcomplete
        from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter
    except ImportError:
        return
    completers: dict[object, Any] = {
        "REQUEST": _requests,
        "PYTHON": _requests,
        "DIR": DirectoriesCompleter(),
        "URL": FilesCompleter(),
        "FILE": FilesCompleter(),
    }
    parser = completed_parser()
    for action in _actions(parser):
        if action.metavar in completers:
            action.completer = completers[action.metavar]  # type: ignore[attr-defined]  # argcomplete looks there
        elif isinstance(action.metavar, str) and "|" in action.metavar and not action.choices:
            action.choices = action.metavar.split("|")
    argcomplete.autocomplete(parser, default_completer=SuppressCompleter())


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from chain.from_iterable(map(_actions, action.choices.values()))
        else:
            yield action


def _requests(prefix: str, **_: object) -> list[str]:
    """What is installed, each minor version that there is a build of, and the words, without any network."""
    directory = Path.cwd()
    names = set(WORDS)
    try:
        configuration = read_configuration(directory)
        settings = configuration.make_settings(os.environ, directory=directory)
        provisioner = open_provisioner(settings, directory=directory)
        names |= {key.short for key in provisioner.store.keys() if key.target == provisioner.target}  # noqa: SIM118  # no dict
        if settings.catalogue is None or Path(settings.catalogue).is_file():
            keys = (build.key for build in provisioner.catalogue.builds if build.key.target == provisioner.target)
            names |= {key.short.replace(str(key.version), f"{key.version.major}.{key.version.minor}") for key in keys}
    except PyinstallError:
        pass  # a shell that completes is no place for messages
    return sorted(name for name in names if name.startswith(prefix))
