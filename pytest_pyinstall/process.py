"""Runs a program to its end, and says how it ended."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["run", "run_into", "signal_name", "tail"]


def run(
    command: Sequence[str],
    *,
    input: str | None,  # noqa: A002  # as subprocess.run calls it
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """The exit code of `command` and what it wrote, as `Interpreter.run` says."""
    __tracebackhide__ = True
    return subprocess.run(
        command,
        input="" if input is None else input,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=dict(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def run_into(
    directory: Path,
    command: Sequence[str],
    *,
    input: str,  # noqa: A002  # as above
    env: Mapping[str, str],
) -> subprocess.CompletedProcess[str]:
    """The same by way of files in `directory`: what `command` leaves running cannot keep us waiting, as with pipes."""
    __tracebackhide__ = True
    output, errors = directory / "stdout", directory / "stderr"
    with output.open("ab") as out, errors.open("ab") as err:
        done = subprocess.run(
            command, input=input, stdout=out, stderr=err, encoding="utf-8", env=dict(env), check=False
        )
    done.stdout, done.stderr = (path.read_text("utf-8", "backslashreplace") for path in (output, errors))
    return done


def tail(text: str, most: int = 4000) -> str:
    """The end of `text`, which is where programs say what went wrong."""
    text = text.rstrip()
    return text if len(text) <= most else f"…{text[-most:]}"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9, also for a number that has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
