"""Installs into a virtual environment: through uv, else through pip."""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_pyinstall.environment import clean, executable
from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.key import Key
from pytest_pyinstall.repeated_wheels import recognise, remember, write_again
from pytest_pyinstall.tool import run_tool

__all__ = ["find_uv", "install"]

# What would send an wheels elsewhere. Index, proxy, certificate and cache settings stay: they are the user's.
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
    path: Path, *requirements: str, key: Key, base_executable: Path, environ: Mapping[str, str], uv: str | None = None
) -> None:
    """Install `requirements` into the environment at `path`: through `uv`, else through the environment's own pip.

    Wheels that this process has put into such an environment before are written by ourselves.

    Requirements are what ``pip install`` takes: specifiers, paths of wheels and projects, ``-r FILE``. A pip that is
    missing is put there by the interpreter's `ensurepip`, which needs no network. Variables that would send the
    packages elsewhere are dropped, those that name an index are kept. Raises `EnvironmentCreationError` with the end of
    the installer's output. Not safe concurrently on one environment.
    """
    if not requirements:
        return
    environ = {name: value for name, value in clean(environ, key).items() if name not in _MISDIRECTING}
    environ["PIP_USER"] = "0"  # also against a pip.conf that says otherwise
    wheels = recognise(path, requirements, key=key, base_executable=base_executable, environ=environ)
    if wheels is None:
        _install(path, requirements, key=key, base_executable=base_executable, environ=environ, uv=uv)
        return
    try:
        if write_again(wheels):
            return
    except OSError as error:
        msg = f"cannot install {_listed(requirements)} into {path}: {error.filename or ''}: {error.strerror}"
        raise EnvironmentCreationError(msg, hint=f"ls -ld {wheels.site_packages}") from error
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
) -> None:
    python = executable(path, key)
    if uv is not None:
        command = [uv, "pip", "install", "--quiet", "--no-progress", "--python", str(python), *requirements]
        try:
            run_tool(command, environ=environ, what=f"cannot install {_listed(requirements)} into {path}")
        except EnvironmentCreationError:
            # uv promises nothing for Pythons older than 3.8: what it cannot do there, their own pip can.
            if key.version.release[:2] >= (3, 8):
                raise
        else:
            return
    if not _has_pip(path, key):
        _seed(path, python=python, base_executable=base_executable, environ=environ)
    # Without the check it would ask an index whether there is a newer pip.
    command = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    run_tool(command, environ=environ, what=f"cannot install {_listed(requirements)} into {path}")


_ASKING = threading.Lock()
"""uv asks `sysconfig` where it is, whose variables CPython 3.11 hands to a second thread before they are complete."""


def find_uv(environ: Mapping[str, str]) -> str | None:
    """The `uv` that is installed beside us, else the one on `PATH`, else None."""
    try:
        from uv import find_uv_bin

        with _ASKING:
            return find_uv_bin()
    except (ImportError, FileNotFoundError):
        pass
    # A shim of pyenv, asdf or mise stands for a uv that the current directory may not have chosen.
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
        # Debian and its children leave ensurepip out of their Pythons.
        if not any(words in error.message for words in ("No module named ensurepip", "ensurepip is disabled")):
            raise
        msg = (
            f"{base_executable} comes without ensurepip, so its environments get no pip; uv needs none\n{error.message}"
        )
        raise EnvironmentCreationError(msg, hint="python -m pip install uv") from error


def _listed(requirements: Sequence[str]) -> str:
    return " ".join(requirements)
