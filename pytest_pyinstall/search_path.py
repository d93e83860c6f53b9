"""Lists the Pythons on `PATH`, shims and virtual environments aside."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.version import Version

from pytest_pyinstall.candidate import EXECUTABLE_FORM, Candidate, guess_executable, is_shim, real

__all__ = ["on_path"]


def on_path(environ: Mapping[str, str]) -> Iterator[Candidate]:
    """The Pythons on `PATH`, in its order; in one directory, those whose names say more come first."""
    done: set[Path] = set()
    for entry in environ.get("PATH", "").split(os.pathsep):
        if not Path(entry).is_absolute():  # relative ones would search whatever directory we happen to be in
            continue
        directory = _without_environment(Path(entry))
        place = real(directory)
        if place in done or directory.name == "shims":
            continue
        done.add(place)
        try:
            # Not iterdir: there are thousands of names in /usr/bin, and Path objects would cost ten times as much.
            names = [name for name in os.listdir(directory) if EXECUTABLE_FORM.fullmatch(name)]  # noqa: PTH208
        except OSError:
            continue
        for name in sorted(names, key=_informative, reverse=True):
            executable = directory / name
            if not is_shim(executable) and os.access(executable, os.X_OK):
                yield guess_executable(executable, "path")


def _without_environment(directory: Path) -> Path:
    """For the executables of a virtual environment, the directory of those that it was made from."""
    try:
        lines = (directory.parent / "pyvenv.cfg").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return directory
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == "home" and Path(value.strip()).is_absolute():
            return Path(value.strip())
    return directory


def _informative(name: str) -> tuple[bool, Version]:
    match = EXECUTABLE_FORM.fullmatch(name)
    version = match["version"] if match else None
    return (bool(match) and name.lower().startswith("python"), Version(version or "0"))
