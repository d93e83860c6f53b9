"""What the name of an executable, or of the directory that a tool has installed it to, says about a Python."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from pytest_pyinstall.key import Key
from pytest_pyinstall.target import Target

__all__ = ["EXECUTABLE_FORM", "Candidate", "executable_in", "guess_directory", "guess_executable", "is_shim", "real"]

_DIRECTORY_FORM = re.compile(
    # pyenv, asdf, mise: 3.12.1, 3.13.0t, 3.12.1-debug, 3.15.0rc1, pypy3.10-7.3.17; nox, pdm: cpython@3.12.1
    r"(?:(?P<name>cpython|python|pypy|graalpy)[@-]?)?(?P<version>\d(?:\.\d+){1,2}(?:(?:a|b|rc)\d+)?)"
    r"(?P<threaded>t?)(?P<debug>-debug)?(?:-v?[\d.]+|-dev)?"
)
EXECUTABLE_FORM = re.compile(
    r"(?P<name>python|pypy|graalpy)(?P<version>\d(?:\.\d+)?)?(?P<threaded>t?)(?P<debug>d?)(?:\.exe)?", re.IGNORECASE
)
_SHIM_MAKERS = {"mise", "asdf", "pyenv", "rtx", "proto", "vfox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that may be an interpreter, and what its name says: None where it says nothing."""

    executable: Path
    source: str
    implementation: str | None = None
    version: Version | None = None
    variant: str | None = None
    target: Target | None = None

    @property
    def is_exact(self) -> bool:
        return self.version is not None and len(self.version.release) == 3  # major, minor, patch


def guess_executable(executable: Path, source: str) -> Candidate:
    """What its name says, or the name of what it links to: ``python`` is often ``python3.12`` in the end."""
    implementation = None
    for name in (executable.name, real(executable).name):
        match = EXECUTABLE_FORM.fullmatch(name)
        if match is None:
            continue
        if match["name"].lower() != "python":  # by which every implementation goes
            implementation = match["name"].lower()
        if "." in (match["version"] or ""):
            flags = ("freethreaded" * bool(match["threaded"]), "debug" * bool(match["debug"]))
            return Candidate(
                executable=executable,
                source=source,
                implementation=implementation,
                version=Version(match["version"]),
                # A plain name says nothing: python3.13 of a free-threaded installation is free-threaded.
                variant="+".join(filter(None, flags)) or None,
            )
    return Candidate(executable=executable, source=source, implementation=implementation)


def is_shim(executable: Path) -> bool:
    """Whether it is a stand-in that picks a Python by the directory it is started in, or offers to install one."""
    if executable.parent.name == "shims":
        return True
    if real(executable).stem.lower() in _SHIM_MAKERS:
        return True
    # Windows: an app execution alias is an empty file that opens the store.
    return executable.parent.name == "WindowsApps" and not executable.lstat().st_size


def real(path: Path) -> Path:
    """Where `path` leads, through all links."""
    return Path(os.path.realpath(path))  # unlike resolve, it says nothing about loops


def executable_in(directory: Path, target: Target) -> Path | None:
    """The interpreter of the installation or environment whose prefix `directory` is; None where it has none."""
    places = ("Scripts/python.exe", "bin/python.exe", "python.exe")  # a venv, MSYS2, an installation: as uv looks
    names = places if target.os == "windows" else ("bin/python3", "bin/python", "bin/pypy3", "bin/graalpy")
    return next((place for name in names if (place := directory / name).is_file()), None)


def guess_directory(directory: Path, source: str, target: Target) -> Candidate | None:
    """The Python that the tool `source` has installed to `directory`; None where there is none."""
    if source == "uv":
        return _guess_key(directory)
    if (directory / "pyvenv.cfg").is_file():  # pyenv-virtualenv puts environments among the versions
        return None
    match = _DIRECTORY_FORM.fullmatch(directory.name)
    if match is None:  # 3.13-dev, miniconda3-latest, a name of one's own: its executable may say more
        found = _first(directory, ("python3", "python"), target)
        return guess_executable(found, source) if found else None
    implementation = {None: "cpython", "python": "cpython"}.get(match["name"], match["name"])
    variant = "+".join(filter(None, ("freethreaded" * bool(match["threaded"]), "debug" * bool(match["debug"]))))
    version = Version(match["version"])
    minor = f"{version.release[0]}.{version.release[1]}"
    stem = "python" if implementation == "cpython" else implementation
    inside = directory
    if source == "hatch":
        inside, executable = _hatch(directory)
        if executable:
            return Candidate(executable=executable, source=source, implementation=implementation, version=version)
    names = (f"{stem}{minor}{match['threaded']}", f"{stem}3", stem or "", "python3", "python")
    found = _first(inside, names, target)
    if found is None:
        return None
    return Candidate(executable=found, source=source, implementation=implementation, version=version, variant=variant)


def _guess_key(directory: Path) -> Candidate | None:
    try:
        key = Key.parse(directory.name)
    except ValueError:
        return None
    executable = directory / key.executable
    return Candidate(
        executable=executable,
        source="uv",
        implementation=key.implementation,
        version=key.version,
        variant=key.variant,
        target=key.target,
    )


def _hatch(directory: Path) -> tuple[Path, Path | None]:
    """hatch notes the path of the executable beside the Python, and unpacks archives as they are."""
    try:
        noted = json.loads((directory / "hatch-dist.json").read_text("utf-8"))["python_path"]
        executable = directory / noted
    except (OSError, ValueError, KeyError, TypeError):
        return directory / "python", None
    return directory, executable if executable.is_file() else None


def _first(directory: Path, names: Iterable[str], target: Target) -> Path | None:
    windows = target.os == "windows"
    for name in names:
        places = (
            (directory / f"{name}.exe", directory / "bin" / f"{name}.exe") if windows else (directory / "bin" / name,)
        )
        for place in places:
            if place.is_file():
                return place
    return None
