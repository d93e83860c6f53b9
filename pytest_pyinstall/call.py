"""Calls a function of this Python in another one."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_pyinstall.errors import CallError, UsageError
from pytest_pyinstall.far_side import driver
from pytest_pyinstall.key import Key
from pytest_pyinstall.parcel import parcel
from pytest_pyinstall.process import run_into, signal_name, tail

__all__ = ["call"]


def call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    executable: Path,
    key: Key,
    environ: Mapping[str, str],
) -> Any:
    """The value of `function` in the Python at `executable`, started with `environ`, as `Interpreter.call` promises."""
    __tracebackhide__ = True
    request = parcel(function, args, kwargs)
    with tempfile.TemporaryDirectory(prefix="pytest-pyinstall-", ignore_cleanup_errors=True) as directory:
        # The value comes in a file of its own: no print can touch it, not even one of C code or a child process.
        answer = Path(directory, "answer.json")
        done = run_into(
            Path(directory),
            [os.fspath(executable), "-c", driver(), os.fspath(answer)],
            input=json.dumps(request),
            env=environ,
        )
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        reply = _read(answer)
    return _unpacked(reply, name=request["name"], executable=executable, key=key, done=done)


def _read(answer: Path) -> dict[str, Any]:
    try:
        reply = json.loads(answer.read_text("ascii"))
    except (FileNotFoundError, ValueError):  # it died before it wrote, or while it did
        return {}
    return reply if isinstance(reply, dict) else {}


def _unpacked(
    reply: Mapping[str, Any], *, name: str, executable: Path, key: Key, done: subprocess.CompletedProcess[str]
) -> Any:
    __tracebackhide__ = True
    match reply:
        case {"value": value}:
            return value
        case {"unfit": reason}:
            msg = f"{name} under {key.short}: its value cannot be carried: {reason}"
            raise UsageError(msg, hint=f"return None, bool, int, float, str, list or dict from {name}")
        case {"syntax": reason}:
            msg = f"{name} cannot be read by {key.short}: {reason}"
            raise UsageError(msg, hint=f"write {name} in the syntax of Python {key.version.major}.{key.version.minor}")
        case {"exception": exception, "text": text, "traceback": traceback}:
            msg = f"{name} under {key.short} raised {text}\n--- traceback of {key.short} ---\n{traceback}"
            raise CallError(msg.rstrip(), exception=exception, traceback=traceback)
    ending = f"was ended by {signal_name(-done.returncode)}" if done.returncode < 0 else f"exit code {done.returncode}"
    said = f"\n{tail(done.stderr)}" if done.stderr.strip() else ""
    msg = f"{executable} ended without an answer to {name} ({ending}){said}"
    raise CallError(msg)
