"""Reads the words of a command line of ours, and has what ``--help`` says.

Subparsers of argparse would take options only on their own side of the command, and none between requests, so every
command has a parser of its own, and the options that all of them take are read before.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

from pytest_pyinstall import commands
from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.settings import OPTIONS, Attestations, Missing, Preference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyinstall.commands import Outcome, Session

__all__ = ["arguments_of", "command_of", "completed_parser"]

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

_SYNOPSES = {"store": "DIR", "cache": "DIR", "mirror": "URL", "catalogue": "URL"}
_WORDS = {
    "missing": get_args(Missing),
    "downloads": ("auto", "never"),
    "preference": get_args(Preference),
    "attestation": get_args(Attestations),
}


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
    for name in OPTIONS:
        metavar = _SYNOPSES.get(name) or "|".join(_WORDS[name])
        parser.add_argument(f"--python-{name}", metavar=metavar)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--version", action="store_true")


def _options() -> list[str]:
    return [*(f"--python-{name}" for name in OPTIONS), "--json", "--quiet", "--verbose", "--version", "--help"]


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


# The commands.

_REQUEST = "3.12, 3.13t, pypy3.11, '>=3.10,<3.13', 3.9..3.13, supported, …"


def _examples(*examples: str) -> str:
    return "\n".join(["examples:", *(f"  pytest-pyinstall {example}" for example in examples)])


def _install(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Install into the store what it lacks, whatever else the machine has, and print\n"
        "the executables. Without a request: what PYTEST_PYINSTALL_PYTHON or the\n"
        "project's pytest configuration asks for."
    )
    parser.epilog = _examples("install 3.12 pypy3.11", "install supported", "install --reinstall 3.13")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=_REQUEST)
    parser.add_argument("--reinstall", action="store_true", help="also what is there, without a gap for who uses it")
    _require_attestation(parser)
    parser.set_defaults(run=lambda session, args: commands.install(session, args.requests, reinstall=args.reinstall))


def _require_attestation(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--require-attestation",
        dest="python_attestation",
        action="store_const",
        const="require",
        help=f"{more}only what has a verified build attestation; as --python-attestation require",
    )


def _list(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "What is installed, newest first: its name, its key, its state, its executable.\n"
        "States: store (ours), uv (put there by somebody else), broken (with what\n"
        "differs), available."
    )
    parser.epilog = _examples("list", "list --all | grep 3.13", "list --json")
    parser.add_argument("--all", action="store_true", help="also every build of the catalogue for this machine")
    parser.set_defaults(run=lambda session, args: commands.list_pythons(session, with_available=args.all))


def _find(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the executable that answers a request, in the store or on the machine.\n"
        "No network; -v says what was passed by, and why."
    )
    parser.epilog = _examples("find 3.12", "find -v 3.9", "find supported --json")
    parser.add_argument("requests", nargs="+", metavar="REQUEST", help=_REQUEST)
    parser.set_defaults(run=lambda session, args: commands.find(session, args.requests))


def _dir(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Each directory, which setting decided it, its volume, and whether they share\n"
        "one. With a NAME, that path alone."
    )
    parser.epilog = _examples("dir", "dir store", "dir --cache-key --python 3.12")
    parser.add_argument("name", nargs="?", choices=commands.PLACES, metavar="NAME", help=", ".join(commands.PLACES))
    parser.add_argument("--cache-key", action="store_true", help="print one key for a CI cache of the store")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="REQUEST",
        help="what the key stands for (default: the project's)",
    )

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        if args.cache_key:
            return commands.cache_key(session, args.python)
        if args.python:
            raise UsageError("dir: --python goes with --cache-key", hint="pytest-pyinstall dir --cache-key")
        return commands.places(session, args.name)

    parser.set_defaults(run=run)


def _remove(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Remove every installation that fits, and print their keys. What uv put into a\n"
        "shared store is removed only when its whole key is given. What a test session\n"
        "or `exec` uses stays."
    )
    parser.epilog = _examples("remove 3.9", "remove 3.12.4", "remove --all")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=_REQUEST)
    parser.add_argument("--all", action="store_true", help="all of ours")

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        if bool(args.requests) == args.all:
            raise UsageError("remove: either requests or --all", hint="pytest-pyinstall list")
        return commands.remove(session, args.requests, everything=args.all)

    parser.set_defaults(run=run)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare installations with what was published, file by file, and run each of\n"
        "them once. What was added is reported, and is no damage."
    )
    parser.epilog = _examples("verify", "verify --repair 3.12", "verify -v --json")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{_REQUEST} (default: all)")
    parser.add_argument("--repair", action="store_true", help="put back what differs; what was added stays")
    parser.set_defaults(run=lambda session, args: commands.verify(session, args.requests, repair=args.repair))


def _cache(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "list: verified archives and environments. prune: throw away dead downloads,\n"
        "archives that fail their check, and environments without Python. clear: throw\n"
        "away all of it. Losing it costs downloads, and nothing else."
    )
    parser.epilog = _examples("cache list", "cache prune")
    actions = {"list": commands.cache_list, "prune": commands.cache_prune, "clear": commands.cache_clear}
    parser.add_argument("action", choices=actions)
    parser.set_defaults(run=lambda session, args: actions[args.action](session))


def _mirror(parser: argparse.ArgumentParser) -> None:
    parser.usage = "pytest-pyinstall mirror pull|pack DIR PYTHON... [OPTION]"
    parser.description = (
        "pull: archives and catalogue for a site without network. pack: the same out of\n"
        "Pythons that are on this machine, by path or by request. Use it with\n"
        "--python-mirror DIR --python-catalogue DIR/catalogue.json. Where attestations\n"
        "are required, pull verifies them and puts them beside the archives."
    )
    parser.epilog = _examples("mirror pull DIR 3.9..3.13", "mirror pack DIR 3.9 /opt/python/bin/python3.12")
    parser.add_argument("action", choices=("pull", "pack"), metavar="pull|pack")
    parser.add_argument("directory", metavar="DIR", help="is made, and added to")
    parser.add_argument("requests", nargs="+", metavar="PYTHON", help=_REQUEST)
    _require_attestation(parser, "pull: ")
    parser.add_argument("--tag", metavar="YYYYMMDD", help="pack: the release that the archives belong to (today)")

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        directory = session.provisioner.directory / Path(args.directory).expanduser()
        if args.action == "pack":
            if args.python_attestation == "require":
                raise UsageError(
                    "mirror pack: nobody attests what is packed here; --require-attestation is for mirror pull",
                    hint=f"pytest-pyinstall mirror pack {args.directory} {' '.join(args.requests)}",
                )
            return commands.mirror_pack(session, directory, args.requests, tag=args.tag)
        if args.tag:
            raise UsageError(
                "mirror pull: --tag is for mirror pack; an archive keeps the release that it came with",
                hint=f"pytest-pyinstall mirror pull {args.directory} {' '.join(args.requests)}",
            )
        return commands.mirror_pull(session, directory, args.requests)

    parser.set_defaults(run=run)


def _matrix(parser: argparse.ArgumentParser) -> None:
    from pytest_pyinstall.matrix import FORMATS

    parser.description = "A CI matrix of the requests, or of what the project declares that it supports."
    parser.epilog = _examples("matrix", "matrix supported 3.14t pypy3.11 --format lines")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{_REQUEST} (default: supported)")
    parser.add_argument("--format", choices=FORMATS, default="github", help="default: github, for fromJSON")
    parser.set_defaults(run=lambda session, args: commands.matrix(session, args.requests, form=args.format))


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.usage = "pytest-pyinstall exec [--python REQUEST...] -- COMMAND..."
    parser.description = (
        "Run COMMAND with pythonX.Y, pythonX.Yt, pypyX.Y of the Pythons on its PATH, and\n"
        "return its exit code. What is missing is installed first. Without --python:\n"
        "what the project asks for."
    )
    parser.epilog = _examples("exec --python 3.9 3.13 -- nox", "exec --python 3.12 -- python3.12 -m build")
    parser.add_argument("--python", action="extend", nargs="+", default=[], metavar="REQUEST", help=_REQUEST)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The junit files below DIR, one for each job of a matrix, as one table: what\n"
        "passed and failed under each Python, and the tests that failed. The Python is\n"
        "what a test's id ends in ([py3.9]), else what the name of the file or of its\n"
        "directory says (junit-py39.xml). Ends with 1 where a test failed."
    )
    parser.epilog = _examples("report artifacts", "report artifacts --html matrix.html")
    parser.add_argument("directory", metavar="DIR", help="where the junit files are, at any depth")
    parser.add_argument("--html", metavar="FILE", help="also the matrix as one self-contained page")

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        directory = session.provisioner.directory
        page = None if args.html is None else directory / Path(args.html).expanduser()
        return commands.report(session, directory / Path(args.directory).expanduser(), page=page)

    parser.set_defaults(run=run)


_COMMANDS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "install": _install,
    "list": _list,
    "find": _find,
    "exec": _exec,
    "matrix": _matrix,
    "remove": _remove,
    "verify": _verify,
    "dir": _dir,
    "cache": _cache,
    "mirror": _mirror,
    "report": _report,
}
