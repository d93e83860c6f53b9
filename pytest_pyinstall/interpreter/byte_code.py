"""Finds byte code that an interpreter would use and cannot read.

A full disk or a power cut cuts such files off. Then the interpreter starts, but importing one module raises `EOFError`.
No record lists byte code, because each use may write more. So the interpreter itself reads it: each version has a
format of its own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.interpreter.probe import clean_environment
from pytest_pyinstall.system.processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["damaged_byte_code"]


# Any Python from 3.6 on runs it. It imports nothing that has byte code. Damaged byte code may crash the interpreter, so
# each name is printed before the file is read.
_SCRIPT = """\
import marshal, os, sys
from _frozen_importlib_external import MAGIC_NUMBER
header = 16 if sys.version_info >= (3, 7) else 12
for name in sys.stdin.read().split():
    os.write(1, name.encode() + b" ")
    whole = False
    try:
        with open(bytes.fromhex(name), "rb") as file:
            data = file.read()
        # The import system ignores a file with another magic number or an incomplete header.
        whole = data[:4] != MAGIC_NUMBER or len(data) < header or hasattr(marshal.loads(data[header:]), "co_code")
    except OSError:
        whole = True
    except Exception:
        pass
    os.write(1, b"whole\\n" if whole else b"damaged\\n")
"""


_TIMEOUT = 120.0


def damaged_byte_code(executable: Path, home: Path, *, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The byte code below `home` that `executable` cannot read, as sorted relative names with ``/``.

    Byte code that it would not use, such as that of another version, does not count. Follows no link. If the
    interpreter cannot tell, the result is empty.
    """
    names = sorted(_byte_code(home))
    damaged: list[str] = []
    while names:
        lines = _read(executable, home, names, environ)
        damaged += [name for name, line in zip(names, lines, strict=False) if not line.endswith(" whole")]
        if not lines:
            break
        names = names[len(lines) :]  # it crashed at the last line
    return tuple(damaged)


def _byte_code(home: Path) -> Iterator[str]:
    for parent, _, files in os.walk(home):
        if os.path.basename(parent) == "__pycache__":  # noqa: PTH119  # a str from os.walk
            directory = Path(parent).relative_to(home).as_posix()
            yield from (f"{directory}/{name}" for name in files if name.endswith(".pyc"))


def _read(executable: Path, home: Path, names: list[str], environ: Mapping[str, str]) -> list[str]:
    """The lines of the script, one for each name up to a crash."""
    command = [os.fspath(executable), "-I", "-B", "-S", "-c", _SCRIPT]
    text = "\n".join(os.fsencode(name).hex() for name in names)
    try:
        return run(command, input=text, env=clean_environment(environ), cwd=home, timeout=_TIMEOUT).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []
