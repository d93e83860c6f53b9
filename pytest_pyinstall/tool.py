"""Runs a tool that makes or fills an environment, and turns its failure into an error."""

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from pytest_pyinstall.errors import EnvironmentCreationError

__all__ = ["run_tool"]


def run_tool(command: Sequence[str], *, environ: Mapping[str, str], what: str) -> None:
    """Run `command` to its end.

    Raises `EnvironmentCreationError`, which says `what` could not be done, with the end of what it wrote.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env=dict(environ),
            check=False,
        )
    except OSError as error:
        msg = f"{what}: {command[0]} cannot be started: {error.strerror or error}"
        raise EnvironmentCreationError(msg, hint=f"ls -l {shlex.quote(command[0])}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-20:])
        msg = f"{what}, exit code {done.returncode}\n{tail}".rstrip()
        raise EnvironmentCreationError(_without_secrets(msg), hint=_without_secrets(shlex.join(command)))


def _without_secrets(text: str) -> str:
    """URLs of indexes and of requirements may carry a password or a token."""
    return re.sub(r"(?<=://)[^/@\s]+@", "****@", text)
