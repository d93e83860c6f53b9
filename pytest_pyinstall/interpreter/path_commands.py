"""Makes ``python3.9``, ``pypy3.11``, ``python3.13t`` of some interpreters stand in one directory, for a ``PATH``.

They are commands of two lines that start the interpreter by its own path, and not symlinks. Reached through a
symlink, a Python calls itself by the link's name: every virtual environment that tox, nox or ``python -m venv`` then
makes points into a directory that is gone when the session ends, and a virtual environment's own Python no longer
finds its ``pyvenv.cfg`` and is another one. This way it costs a millisecond, and nobody remembers the directory.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.locks import seize, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.request.identity import Key

__all__ = ["links", "names", "on_path", "temporary"]


_PREFIX = "pytest-pyinstall-"


_ALIVE = ".alive"


@contextlib.contextmanager
def temporary(parent: Path) -> Iterator[Path]:
    """A new directory in `parent` that is gone afterwards, and with it those that killed processes of ours left there.

    Raises `OSError`.
    """
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with share(directory / _ALIVE):
            _sweep(parent)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete what has no owner any more: whoever lives holds the file in it, and nobody else's is ours to judge."""
    for directory in parent.glob(f"{_PREFIX}*"):
        alive = directory / _ALIVE
        with contextlib.suppress(OSError):
            is_ours = not hasattr(os, "geteuid") or directory.lstat().st_uid == os.geteuid()
            if is_ours and not directory.is_symlink() and alive.is_file():
                with seize(alive) as is_dead:
                    if is_dead:
                        shutil.rmtree(directory, ignore_errors=True)


def links(interpreters: Iterable[Interpreter], into: Path) -> tuple[Path, ...]:
    """A command for each of `interpreters` in the directory `into`, which is made where it is missing.

    Of several with one name (3.12.1 and 3.12.4) the first has it. Only versioned names: whatever ``python`` and
    ``python3`` are, they stay. On Windows each is a ``.bat``, which ``shutil.which`` and shells find, but which
    ``subprocess`` starts only by its full name. Returns the new files; what stands in `into` under such a name is
    replaced in one step. Raises `StoreError` where it cannot be written.
    """
    made: dict[str, Path] = {}
    try:
        into.mkdir(parents=True, exist_ok=True)
        for interpreter in interpreters:
            for name in names(interpreter.key):
                if name not in made:
                    made[name] = _command(interpreter.executable, into / name)
    except OSError as error:
        message = f"cannot put Pythons on PATH in {into}: {error.strerror or error}"
        raise StoreError(message, hint="another directory for temporary files: TMPDIR=DIR") from error
    return tuple(made.values())


def names(key: Key) -> tuple[str, ...]:
    """By which names a Python is looked for: ``python3.13t``, ``pypy3.11``, ``graalpy3.12``."""
    name = "python" if key.implementation == "cpython" else key.implementation
    return (f"{name}{key.minor_version}{key.suffix}",)


def _command(executable: Path, path: Path) -> Path:
    if sys.platform == "win32":
        path = path.with_name(f"{path.name}.bat")
        text = os.fspath(executable).replace("%", "%%")
        content = f'@"{text}" %*\r\n'.encode("oem", "replace")
    else:
        # As bytes: a path need not be UTF-8.
        content = b'#!/bin/sh\nexec %s "$@"\n' % os.fsencode(shlex.quote(os.fspath(executable)))
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def on_path(
    interpreters: Iterable[Interpreter], *, environ: Mapping[str, str], cache: Path
) -> Iterator[dict[str, str]]:
    """`environ` with a new directory in front of ``PATH`` that has a command for each of `interpreters`.

    The directory lies in the system's temporary directory, or below `cache` where nothing can be started from that,
    and is gone afterwards. Raises `StoreError`.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(temporary(_place(cache)))
        except OSError as error:
            message = f"cannot make a temporary directory: {error.filename or ''}: {error.strerror or error}"
            raise StoreError(message, hint="another one: TMPDIR=DIR") from error
        links(interpreters, directory)
        yield {**environ, "PATH": os.pathsep.join([str(directory), environ.get("PATH") or os.defpath])}


def _place(cache: Path) -> Path:
    """A directory that files can be started from, which hardened machines do not allow in /tmp."""
    system = Path(tempfile.gettempdir())
    if sys.platform != "win32" and os.statvfs(system).f_flag & getattr(os, "ST_NOEXEC", 8):
        cache.mkdir(parents=True, exist_ok=True)
        return cache
    return system
