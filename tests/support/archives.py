"""Archives packed from the real interpreters of this machine, for tests that install a Python.

Packing takes seconds, so packed archives are cached in the temporary directory of the system. Their names contain a
digest of the interpreter and of the code that packs it. Any number of workers and test runs can use them at once.
"""

import getpass
import hashlib
import json
import os
import re
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from filelock import FileLock

from pytest_pyinstall.archive import relocate
from pytest_pyinstall.cli import mirror
from pytest_pyinstall.interpreter import _elf, pack

__all__ = ["NEWEST", "OLDEST", "TAG", "extract", "interpreters", "packed"]

TAG = "20261122"

# Copied during collection, before a fixture hides the home directory from the code under test.
_ENVIRON = dict(os.environ)
_PYENV = Path(_ENVIRON.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
_CACHE = Path(tempfile.gettempdir()) / f"pytest-pyinstall-archives-{getpass.getuser()}"
_DAYS = 3


@cache
def interpreters() -> Mapping[str, Path]:
    """The real CPythons of this machine by minor version, ``{"3.12": Path(…)}``, oldest first.

    This includes the running one, except if it belongs to the operating system, because that one cannot be packed.
    """
    running = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    found = {} if sys.base_prefix == "/usr" else {sys.version_info[:2]: running}
    names = (re.fullmatch(r"3\.(\d+)\.(\d+)", path.name) for path in _PYENV.glob("3.*"))
    for match in sorted((match for match in names if match), key=lambda match: int(match[2]), reverse=True):
        version = (3, int(match[1]))
        executable = _PYENV / match[0] / "bin" / f"python3.{match[1]}"
        if version >= (3, 6) and executable.is_file():
            found.setdefault(version, executable)
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


OLDEST, *_, NEWEST = [*interpreters(), *interpreters()]
"""The oldest and the newest minor version of `interpreters`. They are equal if there is only one."""


def packed(tmp_root: Path, executables: Iterable[Path] | None = None) -> Path:
    """A mirror directory below `tmp_root` with an archive of each of `executables` (default: `interpreters`).

    It contains ``catalogue.json`` and ``<TAG>/<file>``, as `mirror.pack` makes them. The archives are hard links that
    other tests share, so never write to them. Calls with the same arguments return the same directory.
    """
    chosen = sorted({*executables} if executables is not None else {*interpreters().values()})
    name = hashlib.sha256("\0".join(map(str, chosen)).encode()).hexdigest()[:12]
    directory = tmp_root / f"archives-{name}"
    tmp_root.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not (directory / "catalogue.json").exists():
            _assemble(directory, [_cached(executable) for executable in chosen])
    return directory


def extract(opened: tarfile.TarFile, into: Path) -> None:
    """Extract `opened` without checks, because tests made its members. Python 3.11.0 to 3.11.3 have no filters."""
    filters = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    opened.extractall(into, **filters)  # type: ignore[arg-type]


def _assemble(directory: Path, parts: Iterable[Path]) -> None:
    catalogue: dict[str, object] = {}
    (directory / TAG).mkdir(parents=True, exist_ok=True)
    for part in parts:
        catalogue |= json.loads((part / "catalogue.json").read_text("utf-8"))
        for archive in (part / TAG).iterdir():
            link = directory / TAG / archive.name
            link.unlink(missing_ok=True)  # left by a run that was killed here
            try:
                link.hardlink_to(archive)
            except OSError:
                link.write_bytes(archive.read_bytes())
    new = directory / "catalogue.new"
    new.write_text(json.dumps(catalogue), "utf-8")
    new.replace(directory / "catalogue.json")


def _cached(executable: Path) -> Path:
    state = executable.stat()
    digest = hashlib.sha256(f"{executable}\0{state.st_size}\0{state.st_mtime_ns}\0{TAG}".encode())
    for module in (_elf, relocate, mirror, pack):
        assert module.__file__
        digest.update(Path(module.__file__).read_bytes())
    _CACHE.mkdir(mode=0o700, exist_ok=True)
    place = _CACHE / digest.hexdigest()[:16]
    with FileLock(f"{place}.lock"):
        if not (place / "complete").exists():
            _delete_old()
            mirror.pack(place, [executable], tag=TAG, environ=_ENVIRON)
            for archive in (place / TAG).iterdir():
                archive.chmod(0o444)
        (place / "complete").touch()
    return place


def _delete_old() -> None:
    """Delete archives that were not used for days. No process can still be linking them."""
    for marker in _CACHE.glob("*/complete"):
        if marker.stat().st_mtime < time.time() - _DAYS * 86400:
            for file in sorted(marker.parent.rglob("*"), reverse=True):
                if file.is_dir():
                    file.rmdir()
                else:
                    file.unlink(missing_ok=True)
