"""The command line: reads it, prints, and turns an error into an exit code.

Data goes to standard output; talk, progress and errors go to standard error.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import version as version_of
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from pytest_pyinstall import commands
from pytest_pyinstall.commands import Outcome, Session
from pytest_pyinstall.configuration import Configuration, read_configuration
from pytest_pyinstall.errors import PyinstallError, SeveralFailedError, UsageError
from pytest_pyinstall.matrix import FORMATS
from pytest_pyinstall.progress import display_on
from pytest_pyinstall.provisioner import Provisioner
from pytest_pyinstall.settings import OPTIONS, Settings

__all__ = ["main"]

_HELP = """\
usage: pytest-pyinstall [options] COMMAND ...

Installs Pythons into a store of their own, finds them, and takes them away.

  install [REQUEST...]           install what the store lacks; alone: what the project asks for
  list [--all]                   what is installed; with --all, also what could be
  find REQUEST...                print the executable; never downloads
  exec --python R... -- COMMAND  run a command with those Pythons on its PATH
  matrix [REQUEST...]            a CI matrix; alone: of what the project supports
  remove REQUEST... | --all      remove installations
  verify [REQUEST...] --repair   compare with what was published, and put in order
  dir [NAME] | --cache-key       where everything lies, and why
  cache list | prune | clear     archives and environments
  mirror pull | pack DIR ...     fill a directory for machines without network
  report DIR [--html FILE]       junit files of several jobs as one table, and as a page

options: --python-store DIR, --python-cache DIR, --python-mirror URL, --python-catalogue URL,
  --python-downloads auto|never, --python-preference managed|only-managed|system|only-system,
  --json, -q (--quiet), -v (--verbose), --version; COMMAND --help says more

  pytest-pyinstall install 3.9..3.13 pypy3.11
  pytest-pyinstall exec --python 3.9 3.13t -- nox
"""

_SYNOPSES = {"store": "DIR", "cache": "DIR", "mirror": "URL", "catalogue": "URL"}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words of the command line say (default: those of this process), and return the exit code.

    0 done; 2 usage; 3 no such Python; 4 network; 5 integrity; 6 store; 7 an interpreter that does not work; 1 anything
    else of ours; `exec` returns the command's. 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with _ending_in_order():
            code = _run(words)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not fail again at the end.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it is to stay open
        return 128 + 13
    except (KeyboardInterrupt, _Ended) as end:
        return _interrupted(end)
    except Exception as error:
        # What cleans up may fail because it was interrupted, as argparse's own does, and hide why.
        interruption = _interruption(error)
        if interruption is None:
            raise
        return _interrupted(interruption)


def _interrupted(end: "KeyboardInterrupt | _Ended") -> int:
    if isinstance(end, _Ended):
        return 128 + end.number
    _print("interrupted", sys.stderr)
    return 128 + signal.SIGINT


def _interruption(error: BaseException | None) -> "KeyboardInterrupt | _Ended | None":
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, _Ended)):
            return error
        error = error.__context__
    return None


def _run(words: list[str]) -> int:
    is_json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        arguments = _arguments(words)
    except UsageError as error:
        return _finish(Outcome(errors=(error,)), command=_named(words), is_json=is_json)
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)
    if arguments.text is not None:
        _print(arguments.text, sys.stdout)
        return 0
    display = display_on(sys.stderr, environ=os.environ, is_quiet=arguments.quiet)
    code: int | None = None
    try:
        with _session(arguments, display) as session:
            if arguments.command == "exec":
                code, outcome = commands.run_command(session, arguments.python, arguments.tail)
            else:
                with display:
                    outcome = arguments.run(session, arguments)
    except PyinstallError as error:
        outcome = Outcome(errors=(error,))
    own = _finish(outcome, command=arguments.command, is_json=arguments.json)
    return own if code is None else code


@contextmanager
def _session(arguments: argparse.Namespace, display: Any) -> Iterator[Session]:
    try:
        directory = Path.cwd()
    except OSError as error:
        raise UsageError(f"the working directory is gone: {error.strerror}", hint="cd") from error
    configuration = read_configuration(directory)
    settings = _settings(arguments, configuration, directory)
    provisioner = Provisioner(
        settings=replace(settings, offline=True) if arguments.command == "find" else settings,
        environ=os.environ,
        user_home=Path("~").expanduser(),
        directory=directory,
        executable=Path(sys.executable),
        progress=display,
        warn=display.say,
        # Failures are told at the end, with their hints.
        on_result=lambda request, result, seconds: (
            None if isinstance(result, PyinstallError) else display.result(request, result, seconds)
        ),
    )
    with provisioner:
        yield Session(
            provisioner=provisioner,
            configuration=configuration,
            display=display,
            command=arguments.command,
            is_verbose=arguments.verbose,
        )


def _settings(arguments: argparse.Namespace, configuration: Configuration, directory: Path) -> Settings:
    given: Mapping[str, str | None] = {name: getattr(arguments, f"python_{name}") for name in OPTIONS}
    options = {name: given[name] or configuration.options.get(name) for name in OPTIONS}
    return Settings.from_environ(
        os.environ,
        directory=directory,
        options=options,
        ini=dict(configuration.settings),
        ini_directory=configuration.directory,
    )


def _finish(outcome: Outcome, *, command: str, is_json: bool) -> int:
    """Print what a command came to."""
    first = outcome.errors[0] if outcome.errors else None
    if is_json:
        document = {
            "command": command,
            "exit_code": outcome.exit_code,
            "error": first and commands.error_json(first),
            **outcome.document,
        }
        _print(json.dumps(document, indent=2), sys.stdout)
    else:
        for line in outcome.lines:
            _print(line, sys.stdout)
    sys.stdout.flush()  # before the errors, where both go to one place
    for error in outcome.errors:
        for each in error.errors if isinstance(error, SeveralFailedError) else (error,):
            _print(f"error: {each.message}", sys.stderr)
            if each.hint:
                _print(f"hint: {each.hint}", sys.stderr)
    return outcome.exit_code


def _print(text: str, stream: TextIO) -> None:
    try:
        stream.write(f"{text}\n")
    except UnicodeEncodeError:  # a name that is no text, or a terminal without UTF-8
        encoding = stream.encoding or "ascii"
        stream.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")


# Ending


class _Ended(BaseException):
    """A signal that asks us to end. No Exception: nobody between here and there may take it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does: children are gone, and scratch is, before we are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise _Ended(number)

    numbers = [signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    # Who ignores one of them (nohup) goes on ignoring it.
    before = {number: signal.signal(number, end) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Reading


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.rpartition(' ')[2]}: {message}", hint=f"{self.prog} --help")


def _arguments(words: list[str]) -> argparse.Namespace:
    """The command with its options and ours, wherever these stand. `text` is what is to be printed instead.

    Subparsers of argparse would take options only on their own side of the command, and none between requests.
    """
    end = words.index("--") if "--" in words else len(words)
    head, tail = words[:end], words[end + 1 :]
    shared, rest = _shared_parser().parse_known_args(head)
    if shared.version:
        return argparse.Namespace(text=f"pytest-pyinstall {version_of('pytest-pyinstall')}")
    if rest[:1] in (["-h"], ["--help"], ["help"]):
        return argparse.Namespace(text=_HELP.rstrip())
    if not rest:
        raise UsageError("which command?", hint="pytest-pyinstall --help")
    name = rest[0]
    if name not in _COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        near = get_close_matches(name, _COMMANDS if kind == "command" else _options(), n=1)
        meant = f", did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name} is no {kind} of ours{meant}", hint="pytest-pyinstall --help")
    command_parser = _Parser(
        prog=f"pytest-pyinstall {name}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Options for every command: pytest-pyinstall --help",
    )
    _COMMANDS[name](command_parser)
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


def _named(words: list[str]) -> str:
    """The command that `words` ask for, empty where they ask for none of ours."""
    head = words[: words.index("--") if "--" in words else len(words)]
    with suppress(UsageError):
        _, head = _shared_parser().parse_known_args(head)
    return next((word for word in head[:1] if word in _COMMANDS), "")


def _shared_parser() -> _Parser:
    parser = _Parser(prog="pytest-pyinstall", add_help=False, allow_abbrev=False)
    for name in OPTIONS:
        parser.add_argument(f"--python-{name}", metavar=_SYNOPSES.get(name, "WORD"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--version", action="store_true")
    return parser


def _options() -> list[str]:
    return [*(f"--python-{name}" for name in OPTIONS), "--json", "--quiet", "--verbose", "--version", "--help"]


_REQUEST = "3.12, 3.13t, pypy3.11, '>=3.10,<3.13', 3.9..3.13, supported, …"


def _install(parser: _Parser) -> None:
    parser.description = (
        "Install into the store what it lacks, whatever else the machine has, and print the executables.\n"
        "Without a request: what PYTEST_PYINSTALL_PYTHON or the project's pytest configuration asks for."
    )
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=_REQUEST)
    parser.add_argument("--reinstall", action="store_true", help="also what is there, without a gap for who uses it")
    parser.set_defaults(run=lambda session, args: commands.install(session, args.requests, reinstall=args.reinstall))


def _list(parser: _Parser) -> None:
    parser.description = (
        "What is installed, newest first: its name, its key, its state, its executable.\n"
        "States: store (ours), uv (put there by somebody else), broken (with what differs), available."
    )
    parser.add_argument("--all", action="store_true", help="also every build of the catalogue for this machine")
    parser.set_defaults(run=lambda session, args: commands.list_pythons(session, with_available=args.all))


def _find(parser: _Parser) -> None:
    parser.description = "Print the executable that answers a request, in the store or on the machine. No network."
    parser.add_argument("requests", nargs="+", metavar="REQUEST", help=_REQUEST)
    parser.set_defaults(run=lambda session, args: commands.find(session, args.requests))


def _dir(parser: _Parser) -> None:
    parser.description = "Each directory, which setting decided it, its volume, and whether they share one."
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


def _remove(parser: _Parser) -> None:
    parser.description = (
        "Remove every installation that fits, and print their keys. What uv put into a shared store is removed\n"
        "only when its whole key is given."
    )
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=_REQUEST)
    parser.add_argument("--all", action="store_true", help="all of ours")

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        if bool(args.requests) == args.all:
            raise UsageError("remove: either requests or --all", hint="pytest-pyinstall list")
        return commands.remove(session, args.requests, everything=args.all)

    parser.set_defaults(run=run)


def _verify(parser: _Parser) -> None:
    parser.description = (
        "Compare installations with what was published, file by file, and run each of them once.\n"
        "What was added is reported, and is no damage."
    )
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{_REQUEST} (default: all)")
    parser.add_argument("--repair", action="store_true", help="put back what differs; what was added stays")
    parser.set_defaults(run=lambda session, args: commands.verify(session, args.requests, repair=args.repair))


def _cache(parser: _Parser) -> None:
    parser.description = (
        "list: verified archives and environments. prune: throw away dead downloads, archives that fail\n"
        "their check, and environments without Python. clear: throw away all of it."
    )
    actions = {"list": commands.cache_list, "prune": commands.cache_prune, "clear": commands.cache_clear}
    parser.add_argument("action", choices=actions)
    parser.set_defaults(run=lambda session, args: actions[args.action](session))


def _mirror(parser: _Parser) -> None:
    parser.description = (
        "pull: archives and catalogue for a site without network. pack: the same out of Pythons that are on\n"
        "this machine, by path or by request. Use it with --python-mirror DIR --python-catalogue DIR/catalogue.json."
    )
    parser.add_argument("action", choices=("pull", "pack"))
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("requests", nargs="+", metavar="PYTHON", help=_REQUEST)
    parser.add_argument(
        "--tag", metavar="YYYYMMDD", help="pack: the release that the archives belong to (default: today)"
    )

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        directory = session.provisioner.directory / Path(args.directory).expanduser()
        if args.action == "pack":
            return commands.mirror_pack(session, directory, args.requests, tag=args.tag)
        if args.tag:
            raise UsageError("mirror pull: --tag is for mirror pack; an archive keeps the release that it came with")
        return commands.mirror_pull(session, directory, args.requests)

    parser.set_defaults(run=run)


def _matrix(parser: _Parser) -> None:
    parser.description = "A CI matrix of the requests, or of what the project supports."
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{_REQUEST} (default: supported)")
    parser.add_argument("--format", choices=FORMATS, default="github", help="default: github, for fromJSON")
    parser.set_defaults(run=lambda session, args: commands.matrix(session, args.requests, form=args.format))


def _exec(parser: _Parser) -> None:
    parser.usage = "pytest-pyinstall exec --python REQUEST... -- COMMAND..."
    parser.description = (
        "Run COMMAND with pythonX.Y, pythonX.Yt, pypyX.Y of the Pythons on its PATH, and return its exit code.\n"
        "What is missing is installed first. Without --python: what the project asks for."
    )
    parser.add_argument("--python", action="extend", nargs="+", default=[], metavar="REQUEST", help=_REQUEST)


def _report(parser: _Parser) -> None:
    parser.description = (
        "The junit files below DIR, one for each job of a matrix, as one table: what passed and failed under each\n"
        "Python, and the tests that failed. The Python is what a test's id ends in ([py3.9]), else what the name\n"
        "of the file or of its directory says (junit-py39.xml). Ends with 1 where a test failed."
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--html", metavar="FILE", help="also the matrix as one self-contained page")

    def run(session: Session, args: argparse.Namespace) -> Outcome:
        directory = session.provisioner.directory
        page = None if args.html is None else directory / Path(args.html).expanduser()
        return commands.report(session, directory / Path(args.directory).expanduser(), page=page)

    parser.set_defaults(run=run)


_COMMANDS: Mapping[str, Callable[[_Parser], None]] = {
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
