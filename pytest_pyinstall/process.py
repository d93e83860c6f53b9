"""Runs a program to its end, and says how it ended."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["run", "signal_name", "tail"]


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
