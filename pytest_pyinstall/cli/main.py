# PYTHON_ARGCOMPLETE_OK
"""The command line: runs a command, prints its result, and turns an error into an exit code.

Results go to standard output, and messages, progress and errors to standard error.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from pytest_pyinstall.cli.parser import arguments_of, command_of
from pytest_pyinstall.errors import PyinstallError, SeveralFailedError, UsageError, printable, texts_of
from pytest_pyinstall.system.signals import Terminated, raising_at_termination

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_pyinstall.cli.context import CommandContext, CommandResult

__all__ = ["main", "run_and_exit"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the arguments of this process), and return the exit code.

    0 success; 2 usage; 3 no such Python; 4 network; 5 integrity; 6 store; 7 an interpreter that does not work; 1 other
    errors; 130 after Ctrl-C, 143 after SIGTERM. `exec` returns the exit code of its command.
    """
    if "_ARGCOMPLETE" in os.environ and argv is None:
        from pytest_pyinstall.cli.completion import complete

        complete()
    words = list(sys.argv[1:] if argv is None else argv)
    # If the process that started us closed them (`>&-`), drop the output.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it stays open
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        with raising_at_termination():
            code = _run(words)
            _flush()
            return code
    except BrokenPipeError:
        # The reader of our output has closed it. Drop what is still buffered, or the flush at exit fails again.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it stays open
        return 128 + 13
    except _OutputError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as above
        with suppress(_OutputError, BrokenPipeError):
            _print(f"error: cannot write the output: {error}", sys.stderr)
        return 6  # as for a full disk
    except (KeyboardInterrupt, Terminated) as end:
        return _interrupted(end)
    except Exception as error:
        # An interrupted cleanup can fail in another way, and hide the interruption. argparse's does.
        interruption = _interruption(error)
        if interruption is None:
            raise
        return _interrupted(interruption)


def run_and_exit() -> NoReturn:
    """The script ``pytest-pyinstall``: run `main`, and end this process with its exit code.

    At the end, Python deletes each module and its objects, one after another. That is a tenth of the time of every
    command, and the system frees their memory anyway. So only what others rely on is done here: the functions of
    `atexit` are called, the output is flushed, and a running thread is waited for. ``python -m pytest_pyinstall`` ends
    as Python does, because a profiler or coverage may wait for its end.
    """
    code = main()
    if not _has_threads():
        atexit._run_exitfuncs()  # noqa: SLF001  # as Python does, which has no other name for it
        with suppress(OSError, ValueError, OverflowError):  # Windows has exit codes above 2**31
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def _has_threads() -> bool:
    """Whether there is a thread that Python's exit would wait for."""
    threading: Any = sys.modules.get("threading")
    return bool(threading) and any(
        not thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()
    )


def _interrupted(end: KeyboardInterrupt | Terminated) -> int:
    if isinstance(end, Terminated):
        return 128 + end.number
    _print("interrupted", sys.stderr)
    return 128 + signal.SIGINT


def _interruption(error: BaseException | None) -> KeyboardInterrupt | Terminated | None:
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, Terminated)):
            return error
        error = error.__context__
    return None


def _run(words: list[str]) -> int:
    is_json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        arguments = arguments_of(words)
    except UsageError as error:
        from pytest_pyinstall.cli.context import CommandResult

        return _finish(CommandResult(errors=(error,)), command=command_of(words), is_json=is_json)
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)
    if arguments.text is not None:
        _print(arguments.text, sys.stdout)
        return 0
    # Imported only now: usage errors, --help and --version do not need it.
    from pytest_pyinstall.cli.context import CommandResult
    from pytest_pyinstall.progress import display_on
    from pytest_pyinstall.system.values import replace

    display = display_on(sys.stderr, environ=os.environ, is_quiet=arguments.quiet)
    try:
        steps = _steps(display) if arguments.verbose else nullcontext()
        with steps, _session(arguments, display) as session, display:
            outcome = arguments.run(session, arguments)
    except PyinstallError as error:
        outcome = CommandResult(errors=(error,))
    except MemoryError:
        outcome = CommandResult(errors=(_out_of_memory(),))
    if arguments.quiet and outcome.is_log:
        outcome = replace(outcome, lines=())
    own = _finish(outcome, command=arguments.command, is_json=arguments.json)
    return own if outcome.code is None else outcome.code


def _out_of_memory() -> PyinstallError:
    from pytest_pyinstall.errors import StoreError
    from pytest_pyinstall.system.processes import memory_hint

    return StoreError(
        "there is not enough memory", hint=memory_hint() or "end other programs, or ask for fewer Pythons"
    )


def _steps(display: Any) -> Any:
    import logging

    from pytest_pyinstall.progress import showing_steps

    return showing_steps(display.say, level=logging.DEBUG)


@contextmanager
def _session(arguments: argparse.Namespace, display: Any) -> Iterator[CommandContext]:
    from pathlib import Path

    from pytest_pyinstall.cli.context import CommandContext
    from pytest_pyinstall.configuration import read_configuration
    from pytest_pyinstall.options import SETTINGS
    from pytest_pyinstall.provisioner import open_provisioner

    try:
        directory = Path.cwd()
    except OSError as error:
        raise UsageError(f"the working directory does not exist: {error.strerror}", hint="cd") from error
    configuration = read_configuration(directory)
    for note in configuration.notes(os.environ):
        display.say(note)
    options = {option.name: getattr(arguments, option.dest) for option in SETTINGS}
    settings = configuration.make_settings(os.environ, directory=directory, options=options)
    provisioner = open_provisioner(
        settings._replace(offline=True) if arguments.command == "find" else settings,
        directory=directory,
        progress=display,
        warn=display.say,
        # Errors are printed at the end, with their hints.
        on_result=lambda request, result, seconds: (
            None if isinstance(result, PyinstallError) else display.result(request, result, seconds)
        ),
    )
    with provisioner:
        yield CommandContext(
            provisioner=provisioner,
            configuration=configuration,
            display=display,
            command=arguments.command,
            is_verbose=arguments.verbose,
        )


def _finish(outcome: CommandResult, *, command: str, is_json: bool) -> int:
    """Print the result of a command, and return its exit code."""
    first = outcome.errors[0] if outcome.errors else None
    if is_json:
        import json

        from pytest_pyinstall.cli.context import error_json

        document = {
            "command": command,
            "exit_code": outcome.exit_code,
            "error": first and error_json(first),
            **outcome.document,
        }
        _print(json.dumps(document, indent=2), sys.stdout)
    else:
        for line in _lines_that_fit(outcome):
            # Commands whose paths are read by scripts print them unchanged.
            _print(line if command in {"install", "find", "dir"} else printable(line), sys.stdout)
    _flush()  # before the errors, in case both streams are the same
    errors = [
        each
        for error in outcome.errors
        for each in (error.errors if isinstance(error, SeveralFailedError) else (error,))
    ]
    # Several requests can fail for the same reason.
    for text in texts_of((f"error: {error.message}" for error in errors), (error.hint for error in errors)):
        _print(text, sys.stderr)
    return outcome.exit_code


def _lines_that_fit(outcome: CommandResult) -> tuple[str, ...]:
    if outcome.short_lines and sys.stdout.isatty():
        from shutil import get_terminal_size

        if max(map(len, outcome.lines)) > get_terminal_size().columns:
            return outcome.short_lines
    return outcome.lines


class _OutputError(Exception):
    """The output cannot be written, for example because the disk is full."""


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _OutputError(error.strerror or error) from error


def _flush() -> None:
    with _writing():
        sys.stdout.flush()


def _print(text: str, stream: TextIO) -> None:
    with _writing():
        try:
            stream.write(f"{text}\n")
        except UnicodeEncodeError:  # undecodable bytes in a name, or a terminal without UTF-8
            encoding = stream.encoding or "ascii"
            stream.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
