"""Installs packages into a virtual environment, with uv if it is available, otherwise with pip.

Tests that use `python_env` create an environment each, and install the same wheels into each. If all requirements are
wheel files, and the installer added nothing but them, the installed files are kept in this process's memory, and
written into the next environment in a millisecond. They are copies, so a test may change them.
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter.environment import clean, executable
from pytest_pyinstall.system.processes import run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyinstall.request.identity import Key

__all__ = ["Wheels", "find_uv", "install", "recognise", "remember", "write_again"]

__tracebackhide__ = True  # a failed test shows its own line, and the message; all with --full-trace


# Variables that change where packages are installed. Index, proxy, certificate and cache settings are kept.
_MISDIRECTING = frozenset(
    {
        *("PYTHONPATH", "PYTHONUSERBASE", "CONDA_PREFIX"),
        *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"),
        *("PIP_REQUIRE_VIRTUALENV", "PIP_RESPECT_VIRTUALENV"),
        *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON_PREFERENCE", "UV_MANAGED_PYTHON"),
        *("UV_NO_MANAGED_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_PROJECT", "UV_WORKING_DIRECTORY"),
    }
)


def install(
    path: Path,
    *requirements: str,
    key: Key,
    base_executable: Path,
    environ: Mapping[str, str],
    uv: str | None = None,
    directory: Path | None = None,
    refresh: Sequence[str | None] = (),
    resolution: str = "",
) -> None:
    """Install `requirements` into the environment at `path`, with `uv`, or if it is None with the environment's pip.

    Wheels that this process has installed into an equal environment before are written without the installer.

    Requirements are what ``pip install`` takes: specifiers, paths of wheels and projects, ``-r FILE``. If pip is
    missing, the interpreter's `ensurepip` installs it, which needs no network. Variables that would install the
    packages elsewhere are dropped, those that name an index are kept. Paths are relative to `directory`, in which the
    installer runs. `refresh` names the local projects that uv must build again, because uv compares only their metadata
    with its cached build; None in it is a project with an unknown name. Raises `EnvironmentCreationError` with the end
    of the installer's output. Not safe concurrently on one environment.
    """
    if not requirements:
        return
    if resolution and uv is None:
        msg = f"the resolution {resolution!r} needs uv, which is not installed"
        raise EnvironmentCreationError(msg, hint="python -m pip install uv")
    environ = {name: value for name, value in clean(environ, key).items() if name not in _MISDIRECTING}
    environ["PIP_USER"] = "0"  # overrides a pip.conf too
    environ["PIP_NO_INPUT"] = "1"  # pip would ask for the password of an index, and nobody could answer
    wheels = recognise(path, requirements, key=key, base_executable=base_executable, environ=environ)
    if wheels is None:
        options = ["--resolution", resolution] if resolution else []
        again = [word for name in refresh for word in (("--refresh-package", name) if name else ("--refresh",))]
        _install(
            path,
            requirements,
            key=key,
            base_executable=base_executable,
            environ=environ,
            uv=uv,
            directory=directory,
            options=[*options, *again],
        )
        return
    try:
        if write_again(wheels):
            return
    except OSError as error:
        import shlex  # only for this error

        msg = f"cannot install {' '.join(requirements)} into {path}: {error.filename or ''}: {error.strerror}"
        raise EnvironmentCreationError(msg, hint=f"ls -ld {shlex.quote(str(wheels.site_packages))}") from error
    _install(path, requirements, key=key, base_executable=base_executable, environ=environ, uv=uv)
    remember(path, wheels)


def _install(
    path: Path,
    requirements: Sequence[str],
    *,
    key: Key,
    base_executable: Path,
    environ: Mapping[str, str],
    uv: str | None,
    directory: Path | None = None,
    options: Sequence[str] = (),
) -> None:
    python = executable(path, key)
    what = f"cannot install {' '.join(requirements)} into {path}"
    if uv is None:
        _install_with_pip(path, requirements, python, key, base_executable, environ, directory)
        return
    command = [uv, "pip", "install", "--quiet", "--no-progress", "--python", str(python), *options, *requirements]
    try:
        run_tool(command, environ=environ, what=what, cwd=directory)
    except EnvironmentCreationError as error:
        # uv does not support Pythons older than 3.8. If it fails there, their own pip may succeed. But pip has no
        # resolutions: it would install the newest versions in place of the lowest.
        if key.release[:2] >= (3, 8) or "--resolution" in options:
            raise
        try:
            _install_with_pip(path, requirements, python, key, base_executable, environ, directory)
        except EnvironmentCreationError:
            raise error from None  # the message of an old pip is about pip itself


def _install_with_pip(
    path: Path,
    requirements: Sequence[str],
    python: Path,
    key: Key,
    base_executable: Path,
    environ: Mapping[str, str],
    directory: Path | None,
) -> None:
    if not _has_pip(path, key):
        _seed(path, python=python, base_executable=base_executable, environ=environ)
    # pip before 20.3 rejects "pytest" together with "pytest<7". Installed separately and later, "pytest" is satisfied.
    bare = [word for word in requirements if word.isidentifier()] if key.release[:2] < (3, 8) else []
    for words in ([word for word in requirements if word not in bare], bare):
        if words:
            # The version check would ask an index for a newer pip. With --quiet, pip does not print what a conflict is
            # caused by, and so no package that is missing.
            command = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", *words]
            run_tool(command, environ=environ, what=f"cannot install {' '.join(words)} into {path}", cwd=directory)


_ASKING = threading.Lock()
"""`find_uv_bin` calls `sysconfig`, which in CPython 3.11 gives a second thread incomplete variables."""


def find_uv(environ: Mapping[str, str]) -> str | None:
    """The `uv` of our own environment, otherwise the one on `PATH`, otherwise None."""
    try:
        from uv import find_uv_bin

        with _ASKING:
            return find_uv_bin()
    except (ImportError, FileNotFoundError):
        pass
    # A shim of pyenv, asdf or mise may find no uv for the current directory.
    directories = [entry for entry in environ.get("PATH", "").split(os.pathsep) if Path(entry).name != "shims"]
    return shutil.which("uv", path=os.pathsep.join(directories))


def _has_pip(path: Path, key: Key) -> bool:
    library = "Lib" if key.target.os == "windows" else "lib/*"
    return any(path.glob(f"{library}/site-packages/pip/__main__.py"))


def _seed(path: Path, *, python: Path, base_executable: Path, environ: Mapping[str, str]) -> None:
    command = [str(python), "-I", "-m", "ensurepip", "--default-pip"]
    try:
        run_tool(command, environ=environ, what=f"cannot put pip into {path}")
    except EnvironmentCreationError as error:
        # Debian and the distributions based on it remove ensurepip from their Pythons.
        if not any(words in error.message for words in ("No module named ensurepip", "ensurepip is disabled")):
            raise
        msg = f"{base_executable} has no ensurepip, so pip cannot be installed; uv works without pip\n{error.message}"
        raise EnvironmentCreationError(msg, hint="python -m pip install uv") from error


_MOST = 8 << 20
"""Bytes of one result. All results may have four times as many. For more, the installer's links beat our copies."""


_Files = dict[str, tuple[int, bytes]]


_kept: dict[object, _Files] = {}


_guard = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Wheels to install into an empty environment. `outcome` is everything that the installed files depend on."""

    site_packages: Path
    outcome: object
    count: int
    outside: frozenset[tuple[str, int]]


def recognise(
    path: Path, requirements: Sequence[str], *, key: Key, base_executable: Path, environ: Mapping[str, str]
) -> Wheels | None:
    """The wheels, or None if the result depends on more than the requirements, or packages are installed already."""
    library = "Lib" if key.target.os == "windows" else "lib/*"
    places = list(path.glob(f"{library}/site-packages"))
    try:
        if len(places) != 1 or any(places[0].iterdir()):
            return None
        wheels = tuple([_wheel(requirement) for requirement in requirements])
        outside = _outside(path, places[0])
    except (OSError, ValueError):
        return None
    settings = tuple(sorted((name, value) for name, value in environ.items() if name.startswith(("PIP_", "UV_"))))
    outcome = (str(key), str(base_executable), wheels, settings)
    return Wheels(site_packages=places[0], outcome=outcome, count=len(wheels), outside=outside)


def write_again(wheels: Wheels) -> bool:
    """Write the files that were remembered for `wheels`. False if there are none. Raises `OSError`."""
    files = _kept.get(wheels.outcome)
    if files is None:
        return False
    made = {""}
    for name, (mode, content) in files.items():
        path = os.path.join(wheels.site_packages, name)  # noqa: PTH118  # hot
        parent = os.path.dirname(name)  # noqa: PTH120  # hot
        if parent not in made:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  # hot
            made.add(parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(content)
    return True


def remember(path: Path, wheels: Wheels) -> None:
    """Remember the files that the installer has written, if all are of the wheels and in site-packages."""
    try:
        found = [Path(parent, name) for parent, _, names in os.walk(wheels.site_packages) for name in names]
        if sum(file.name == "METADATA" for file in found) != wheels.count:
            return  # it installed dependencies, whose versions may change
        if _outside(path, wheels.site_packages) != wheels.outside:
            return  # it installed scripts, which contain the path of the environment
        if sum(file.lstat().st_size for file in found) > _MOST:
            return
        here = os.fsencode(path)
        files: _Files = {}
        for file in found:
            content = file.read_bytes()
            if file.is_symlink() or here in content:
                return
            files[file.relative_to(wheels.site_packages).as_posix()] = file.stat().st_mode & 0o777, content
    except OSError:
        return
    with _guard:
        held = sum(len(content) for each in _kept.values() for _, content in each.values())
        if held < 4 * _MOST:
            _kept[wheels.outcome] = files


def _wheel(requirement: str) -> tuple[str, int, int, int]:
    """The path of a wheel, with what changes if the file is replaced. Raises `ValueError`, `OSError`."""
    if not requirement.endswith(".whl") or "://" in requirement or requirement.startswith("-"):
        raise ValueError(requirement)
    path = os.path.realpath(requirement)
    status = os.stat(path)  # noqa: PTH116  # the path is a str
    return path, status.st_size, status.st_mtime_ns, status.st_ino


def _outside(path: Path, site_packages: Path) -> frozenset[tuple[str, int]]:
    """Every file of the environment outside site-packages, with its size."""
    found = set()
    for parent, folders, names in os.walk(path):
        if Path(parent) == site_packages:
            folders.clear()
            continue
        for name in names:
            file = Path(parent, name)
            if name == ".lock" and file.parent == path:  # uv's, and empty
                continue
            found.add((str(file), file.lstat().st_size))
    return frozenset(found)
