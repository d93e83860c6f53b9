"""Puts commands such as ``python3.9``, ``pypy3.11`` and ``python3.13t`` on ``PATH``, for pytest, `exec` and tox.

The commands are shell scripts that start an interpreter by its own path. Symlinks would not do: a Python that is
started through a symlink takes the link for its own path. Virtual environments that tox, nox or ``python -m venv``
create with it would point into our directory, and the Python of a virtual environment would not find ``pyvenv.cfg``.

    CACHE/commands/<digest>/python3.9   one directory for each interpreter, because 3.9.7 and 3.9.18 have one name
    CACHE/commands/.<digest>.lease      held shared by the sessions that use it

The directories stay, because virtualenv and uv cache what they know about an interpreter by its path. Their content is
checked at each use. If the cache cannot be used (read-only, writable for others, noexec, a colon in its path), the
commands are put into a new temporary directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.files import discard, make_directory, write_atomically
from pytest_pyinstall.system.locks import share
from pytest_pyinstall.system.permissions import is_noexec, other_writer
from pytest_pyinstall.system.temporary import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.request.identity import Key

__all__ = ["Commands", "commands_on_path", "links", "names", "stale_commands"]


class Commands(NamedTuple):
    """The `directories` to put in front of ``PATH``, in this order, and the `names` of the commands in them."""

    directories: tuple[str, ...]
    names: tuple[str, ...]

    def before(self, path: str) -> str:
        """The value of ``PATH`` with the directories in front of `path`, each once."""
        entries = [entry for entry in path.split(os.pathsep) if entry not in self.directories]
        return os.pathsep.join([*self.directories, *entries])


@contextlib.contextmanager
def commands_on_path(
    interpreters: Iterable[Interpreter], *, environ: Mapping[str, str], cache: Path
) -> Iterator[Commands]:
    """A context with a command for each of `interpreters`. No other process deletes the commands meanwhile.

    If several have one name (3.12.1 and 3.12.4), the command starts the first. Raises `StoreError` if no directory can
    be used, or if a command, searched on ``PATH`` and run with the variables of `environ`, starts another Python.
    """
    wanted: dict[str, Interpreter] = {}
    for interpreter in interpreters:
        for name in names(interpreter.key):
            wanted.setdefault(name, interpreter)
    with contextlib.ExitStack() as stack:
        reasons = []
        for make in (_in_cache, _in_temporary):
            try:
                directories = make(wanted, cache, stack)
                break
            except _UnusableError as error:
                reasons.append(str(error))
        else:
            message = f"cannot put {', '.join(wanted)} on PATH: {'; '.join(reasons)}"
            raise StoreError(message, hint="PYTEST_PYINSTALL_CACHE=DIR, from which programs can be started")
        commands = Commands(directories, tuple(wanted))
        if sys.platform != "win32":
            _check(wanted, commands, environ)
        yield commands


class _UnusableError(Exception):
    """A directory cannot be used for commands. The message says why."""


def _in_cache(wanted: Mapping[str, Interpreter], cache: Path, stack: contextlib.ExitStack) -> tuple[str, ...]:
    parent = cache / "commands"
    if other := other_writer(parent):
        raise _UnusableError(str(other))
    _refuse_unusable(cache)
    directories: dict[str, None] = {}
    for interpreter in wanted.values():
        text = f"{interpreter.key}\0{interpreter.executable}".encode("utf-8", "surrogateescape")
        directory = parent / hashlib.sha256(text).hexdigest()[:16]
        try:
            make_directory(parent)
            stack.enter_context(share(directory.with_name(f".{directory.name}.lease")))
            links([interpreter], directory)
        except (OSError, StoreError) as error:
            raise _UnusableError(getattr(error, "message", None) or f"{parent}: {error}") from error
        directories[str(directory)] = None
    return tuple(directories)


def _in_temporary(wanted: Mapping[str, Interpreter], _: Path, stack: contextlib.ExitStack) -> tuple[str, ...]:
    try:
        parent = Path(tempfile.gettempdir())
    except OSError as error:  # nothing can be written
        raise _UnusableError(error.strerror or str(error)) from error
    _refuse_unusable(parent)
    try:
        directory = stack.enter_context(temporary_directory(parent))
        links(wanted.values(), directory)
    except StoreError as error:
        raise _UnusableError(error.message) from error
    return (str(directory),)


def _refuse_unusable(place: Path) -> None:
    if os.pathsep in str(place):
        raise _UnusableError(f"{place} contains a {os.pathsep}, which separates the entries of PATH")
    existing = next((each for each in (place, *place.parents) if each.exists()), place)
    if is_noexec(existing):
        raise _UnusableError(f"{place} is on a volume that is mounted noexec")


_REDIRECTING = (
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH", "DYLD_INSERT_LIBRARIES"),
    *("PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "PYTHONPLATLIBDIR"),
)
"""A probe runs without these variables. A command that a test starts gets them, and may then be another Python."""

_ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.base_prefix)"


def _check(wanted: Mapping[str, Interpreter], commands: Commands, environ: Mapping[str, str]) -> None:
    path = commands.before(environ.get("PATH") or os.defpath)
    variables = [name for name in _REDIRECTING if environ.get(name)]
    for name, interpreter in wanted.items():
        found = shutil.which(name, path=path)
        if found is None or str(Path(found).parent) not in commands.directories:
            message = f"{name} on PATH is {found or 'missing'}, not {interpreter.executable}"
            raise StoreError(message, hint="PYTEST_PYINSTALL_CACHE=DIR, from which programs can be started")
        if variables:
            _ask(name, found, interpreter, variables, environ)


def _ask(name: str, found: str, interpreter: Interpreter, variables: Sequence[str], environ: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            [found, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=dict(environ),
            cwd="/",
            timeout=60,
            check=False,
        )
        lines = done.stdout.splitlines()[-2:]
    except (OSError, subprocess.TimeoutExpired):
        lines = []
    version = ".".join(map(str, interpreter.version_info[:3]))
    if (
        len(lines) == 2
        and lines[0] == version
        and os.path.realpath(lines[1]) == os.path.realpath(interpreter.base_prefix)
    ):
        return
    instead = f"is Python {lines[0]} of {lines[1]}" if len(lines) == 2 else "does not work"
    message = f"with {' and '.join(variables)} set, {name} {instead}, not {interpreter.executable}"
    raise StoreError(message, hint=f"unset {' '.join(variables)}")


def stale_commands(cache: Path, *, everything: bool = False) -> list[Path]:
    """The directories of commands in the cache whose interpreter no longer exists, or with `everything`, all."""
    found = []
    for directory in sorted((cache / "commands").glob("[0-9a-f]*")):
        if len(directory.name) == 16 and directory.is_dir() and not directory.is_symlink():
            executables = [_target(path) for path in directory.iterdir() if not path.name.startswith(".")]
            if everything or not any(each and os.path.exists(each) for each in executables):  # noqa: PTH110  # text
                found.append(directory)
    return found


def _target(command: Path) -> str | None:
    try:
        return shlex.split(os.fsdecode(command.read_bytes()).splitlines()[-1])[1]
    except (OSError, ValueError, IndexError):
        return None


def links(interpreters: Iterable[Interpreter], into: Path) -> tuple[Path, ...]:
    """Write a command for each of `interpreters` to the directory `into`, and return the files.

    If several have one name (3.12.1 and 3.12.4), the command starts the first. Only versioned names are written, so
    ``python`` and ``python3`` stay what they are. On Windows each command is a ``.bat`` file, which ``shutil.which``
    and shells find, but which ``subprocess`` starts only by its full name. A file with other content is replaced
    atomically. Raises `StoreError` if the directory cannot be written to.
    """
    made: dict[str, Path] = {}
    try:
        if into.is_symlink():
            into.unlink()
        make_directory(into)
        for interpreter in interpreters:
            for name in names(interpreter.key):
                if name not in made:
                    made[name] = _command(interpreter, into / name)
    except OSError as error:
        message = f"cannot put Pythons on PATH in {into}: {error.strerror or error}"
        raise StoreError(message, hint="another directory for temporary files: TMPDIR=DIR") from error
    return tuple(made.values())


def names(key: Key) -> tuple[str, ...]:
    """The names of the commands for a Python: ``python3.13t``, ``pypy3.11``, ``graalpy3.12``."""
    name = "python" if key.implementation == "cpython" else key.implementation
    return (f"{name}{key.minor_version}{key.suffix}",)


def _command(interpreter: Interpreter, path: Path) -> Path:
    executable = interpreter.executable
    if sys.platform == "win32":
        path = path.with_name(f"{path.name}.bat")
        text = os.fspath(executable).replace("%", "%%")
        content = f'@"{text}" %*\r\n'.encode("oem", "replace")
    else:
        # As bytes, because a path need not be UTF-8.
        content = b'#!/bin/sh\n%sexec %s "$@"\n' % (_own_libraries(interpreter), _quoted(executable))
    if _holds(path, content):
        return path
    if path.is_dir() and not path.is_symlink():
        discard(path)
    write_atomically(path, content, mode=0o755, ignore_umask=True)
    return path


def _own_libraries(interpreter: Interpreter) -> bytes:
    """A line that makes a shared build load its own libpython: ``LD_LIBRARY_PATH`` overrides its built-in path."""
    directory = interpreter.base_prefix / "lib"
    if not any(directory.glob("libpython*.so*")):
        return b""
    return b'[ -z "$LD_LIBRARY_PATH" ] || export LD_LIBRARY_PATH=%s:"$LD_LIBRARY_PATH"\n' % _quoted(directory)


def _quoted(path: Path) -> bytes:
    return os.fsencode(shlex.quote(os.fspath(path)))


def _holds(path: Path, content: bytes) -> bool:
    """Whether `path` is a file of ours or root's with that content. A power failure may have emptied it."""
    try:
        status = path.lstat()
        is_ours = not hasattr(os, "geteuid") or status.st_uid in {0, os.geteuid()}
        is_plain = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o022 and bool(status.st_mode & 0o100)
        return is_ours and (is_plain or sys.platform == "win32") and path.read_bytes() == content
    except OSError:
        return False
