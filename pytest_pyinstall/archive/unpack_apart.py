"""Unpacks in a process of its own, where this one is busy with another archive.

Unpacking is as much Python as it is writing, and threads share one interpreter: eight archives keep one core busy, and
let the others wait. A process of its own costs some 30 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyinstall import errors
from pytest_pyinstall.archive.unpack import unpack_file
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.system.files import children, delete

if TYPE_CHECKING:
    from pytest_pyinstall.request.identity import Archive
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["answer", "unpack_apart"]


def unpack_apart(archive: Archive, *, into: Path, known: FileDigests) -> Path:
    """As `unpack`, and by the same code, in a child process that gets the file that was checked, not its name.

    Where no child can be had, or it ends without an answer, this process does it. A child whose parent was killed comes
    to its end by itself, in a directory that is no one's any more.
    """
    reply = _asked(archive, into)
    match reply:
        case {"home": str(home), "known": list(rows)}:
            known.update((inode, (size, changed, digest)) for inode, size, changed, digest in rows)
            return into / home
        case {"error": str(name), "message": str(message), "hint": str(hint)}:
            raise _error(name)(message, hint)
    for left in children(into):
        delete(left)
    # A file of our own at the same place on disk: what this one has read ahead tells nothing after the child's reading.
    with open(os.dup(archive.file.fileno()), "rb") as file:
        file.seek(0)
        return unpack_file(file, archive.build.file_name, into=into, known=known)


def answer(name: str, into: str) -> None:
    """The child's part: unpack standard input, and tell on standard output what came of it."""
    known: FileDigests = {}
    reply: dict[str, Any]
    try:
        with open(0, "rb", closefd=False) as file:
            file.seek(0)
            home = unpack_file(file, name, into=Path(into), known=known)
    except PyinstallError as error:
        reply = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    else:
        rows = [[inode, *row] for inode, row in known.items()]
        reply = {"home": home.relative_to(into).as_posix(), "known": rows}
    json.dump(reply, sys.stdout)


# Ctrl-C reaches every process of the terminal, and it is the parent's to decide what comes of it. If we run from a
# directory of PYTHONPATH, another version of us may be installed: that is not the same code.
_CHILD = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path.append(sys.argv[1])
from pytest_pyinstall.archive import unpack_apart
if not os.path.samefile(os.path.dirname(os.path.dirname(os.path.dirname(unpack_apart.__file__))), sys.argv[1]):
    sys.exit(1)
unpack_apart.answer(*sys.argv[2:])
"""


def _asked(archive: Archive, into: Path) -> object:
    """What the child says; None if it says nothing that can be understood."""
    if not sys.executable or getattr(sys, "frozen", False):
        return None  # a frozen program is its own executable: it would start itself
    flags = ["-I", *(["-B"] if sys.dont_write_bytecode else [])]
    package = Path(__file__).parents[2]
    command = [sys.executable, *flags, "-c", _CHILD, str(package), archive.build.file_name, str(into)]
    try:
        done = subprocess.run(command, stdin=archive.file, capture_output=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError):
        return None


def _error(name: str) -> type[PyinstallError]:
    found = getattr(errors, name, PyinstallError)
    return found if isinstance(found, type) and issubclass(found, PyinstallError) else PyinstallError
