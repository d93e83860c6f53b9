"""What other tools know about Pythons: where uv, pyenv, hatch, nox, mise, asdf and pdm install them, and how tox and
virtualenv name them.

`tool_installations` lists the installed Pythons by the names of their directories, without running them. To discover
the Pythons of a further tool (conda, Homebrew, …), add its directories to `_directories`. Each directory in them is an
installation; if the tool is laid out in another way, `tool_installations` must know that.

`request_from_spec` turns a spec of tox and virtualenv (``py39``, ``python3.9-64``, ``>=3.10``) into a request. Both use
python-discovery, whose grammar differs from ours: ``cpython-3.12`` is a CPython for the machine "3.12", and everything
unknown is a file name. So python-discovery parses the spec, and the result is translated.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version
from python_discovery import PythonSpec

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request.identity import ARCHITECTURE_WORDS, Key, Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.values import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "EXECUTABLE_FORM",
    "Candidate",
    "executable_in",
    "explain",
    "guess_directory",
    "guess_executable",
    "is_shim",
    "real",
    "request_from_spec",
    "tool_installations",
]


_DIRECTORY_FORM = re.compile(
    # pyenv, asdf, mise: 3.12.1, 3.13.0t, 3.12.1-debug, 3.15.0rc1, pypy3.10-7.3.17; nox, pdm: cpython@3.12.1
    r"(?:(?P<name>cpython|python|pypy|graalpy)[@-]?)?(?P<version>\d(?:\.\d+){1,2}(?:(?:a|b|rc)\d+)?)"
    r"(?P<threaded>t?)(?P<debug>-debug)?(?:-v?[\d.]+|-dev)?"
)


EXECUTABLE_FORM = re.compile(
    r"(?P<name>python|pypy|graalpy)(?P<version>\d(?:\.\d+)?)?(?P<threaded>t?)(?P<debug>d|-dbg)?(?:\.exe)?",
    re.IGNORECASE,
)


_SHIM_MAKERS = {"mise", "asdf", "pyenv", "rtx", "proto", "vfox"}


class Candidate(Value):
    """A file that may be an interpreter, and what its name says about it. None means that the name does not say."""

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
    """The candidate by the executable's name, or by the name of its link's target: ``python`` may be ``python3.12``."""
    implementation = None
    for name in (executable.name, real(executable).name):
        match = EXECUTABLE_FORM.fullmatch(name)
        if match is None:
            continue
        if match["name"].lower() != "python":  # every implementation has an executable of that name
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
    """Whether it is a shim: a program that selects a Python by the current directory, or offers to install one."""
    if executable.parent.name == "shims":
        return True
    if real(executable).stem.lower() in _SHIM_MAKERS:
        return True
    # Windows: an app execution alias is an empty file that opens the Microsoft Store.
    return executable.parent.name == "WindowsApps" and not executable.lstat().st_size


def real(path: Path) -> Path:
    """`path` with all links resolved."""
    return Path(os.path.realpath(path))  # unlike `Path.resolve`, it does not raise for loops


def executable_in(directory: Path, target: Target) -> Path | None:
    """The interpreter of the installation or environment with the prefix `directory`. None if there is none."""
    places = ("Scripts/python.exe", "bin/python.exe", "python.exe")  # a venv, MSYS2, an installation, in uv's order
    names = places if target.os == "windows" else ("bin/python3", "bin/python", "bin/pypy3", "bin/graalpy")
    return next((place for name in names if (place := directory / name).is_file()), None)


def guess_directory(directory: Path, source: str, target: Target) -> Candidate | None:
    """The Python that the tool `source` has installed in `directory`. None if there is none."""
    if source == "uv":
        return _guess_key(directory)
    if (directory / "pyvenv.cfg").is_file():  # pyenv-virtualenv puts environments among the versions
        return None
    match = _DIRECTORY_FORM.fullmatch(directory.name)
    if match is None:  # 3.13-dev, miniconda3-latest, a custom name: the executable's name may say more
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
    """hatch keeps the archive's layout, and writes the path of the executable to a file next to the interpreter."""
    try:
        noted = parse_json((directory / "hatch-dist.json").read_bytes())["python_path"]
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


def tool_installations(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[Candidate]:
    """The Pythons that other tools have installed, by the names of their directories."""
    for source, directory in _directories(environ, home, target):
        for entry in _entries(directory):
            if candidate := guess_directory(entry, source, target):
                yield candidate


def _directories(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[tuple[str, Path]]:
    """Each tool, and a directory in which it installs Pythons: from its own variable, or its default for this system.

    Sources: the documentation of uv and mise, the READMEs of pyenv and asdf, the code of hatch 1.18, nox 2026.10, pdm.
    """
    windows, macos = target.os == "windows", target.os == "macos"
    local = _variable(environ, "LOCALAPPDATA") or home / "AppData" / "Local"
    xdg = _variable(environ, "XDG_DATA_HOME") or home / ".local" / "share"
    data = local if windows else home / "Library" / "Application Support" if macos else xdg  # as platformdirs says
    if uv := _variable(environ, "UV_PYTHON_INSTALL_DIR"):
        yield "uv", uv
    elif windows:
        roaming = _variable(environ, "APPDATA") or home / "AppData" / "Roaming"
        yield "uv", roaming / "uv" / "python"
        yield "uv", roaming / "uv" / "data" / "python"
    else:
        yield "uv", xdg / "uv" / "python"
        if macos:
            yield "uv", data / "uv" / "python"  # before uv 0.3
    pyenv = _variable(environ, "PYENV_ROOT") or home / ".pyenv"
    yield "pyenv", pyenv / "versions"
    if windows:
        yield "pyenv", pyenv / "pyenv-win" / "versions"
    hatch = _variable(environ, "HATCH_DATA_DIR") or data / "hatch"
    yield "hatch", hatch / "pythons"
    yield "hatch", hatch / "env" / "virtual" / ".pythons"
    yield "nox", home / ".local" / "share" / "nox" / "pythons"
    mise = _variable(environ, "MISE_DATA_DIR") or (local if windows else xdg) / "mise"
    yield "mise", mise / "installs" / "python"
    asdf = _variable(environ, "ASDF_DATA_DIR") or home / ".asdf"
    yield "asdf", asdf / "installs" / "python"
    yield "pdm", data / "pdm" / "python"
    if windows:
        yield "pdm", data / "pdm" / "pdm" / "python"


def _variable(environ: Mapping[str, str], name: str) -> Path | None:
    """The directory in a variable. None if it is relative, because that would search the current directory."""
    directory = Path(environ.get(name, ""))
    return directory if directory.is_absolute() else None


def _entries(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return []
    inside = real(directory)
    # A link to an entry of the same directory is a second name (uv's minor versions, mise's `latest`). A link to
    # somewhere else is a Python that `mise sync`, `mise link` or `brew pyenv-sync` registered.
    return [
        entry
        for entry in entries
        if not entry.name.startswith(".") and not (entry.is_symlink() and inside in real(entry).parents)
    ]


_IMPLEMENTATIONS = {"cpython", "pypy", "graalpy"}


_ALIKE = 0.5


_HALVED = {"x86_64": "x86", "aarch64": "armv7"}


_DOUBLED = {half: whole for whole, half in _HALVED.items()}


def request_from_spec(spec: str, *, target: Target) -> Request | None:
    """The request for `spec`. None if pytest-pyinstall does not provide such a Python.

    That is the case for a path, or a word that python-discovery takes for a path; for an implementation without builds;
    and for ``py``, ``python`` and ``python3``, which the Python that runs tox or virtualenv already satisfies. `target`
    is used for whatever `spec` leaves open.
    """
    try:
        parsed = PythonSpec.from_string_spec(spec)
    except ValueError:
        return None
    implementation = (parsed.implementation or "cpython").lower()
    architecture = _architecture(parsed, target)
    if parsed.path is not None or implementation not in _IMPLEMENTATIONS or architecture == "":
        return None
    variant = ("t" if parsed.free_threaded else "") + ("d" if parsed.debug else "")
    if parsed.version_specifier is not None:
        version = ",".join(f"{clause}{variant}" for clause in str(parsed.version_specifier).split(","))
    else:
        numbers = (parsed.major, parsed.minor, parsed.micro)
        version = ".".join(str(number) for number in numbers if number is not None) + variant
    if implementation == "cpython" and version in {"", "3"}:
        return None
    try:
        request = Request.parse(version if implementation == "cpython" else f"{implementation}{version}")
    except InvalidRequestError:
        return None
    return replace(request, arch=architecture)


def explain(spec: str, *, path: str) -> str | None:
    """Why there cannot be such a Python, in one line. None if `spec` alone does not show it.

    `path` is the ``PATH`` to search for executables.
    """
    try:
        parsed = PythonSpec.from_string_spec(spec)
    except ValueError as error:
        return f"{spec!r} does not name a Python: {error}{_meant(spec)}"
    if parsed.path is not None and shutil.which(spec, path=path) is None:
        return f"{spec!r} does not name a Python: it is neither a version nor an executable on PATH{_meant(spec)}"
    implementation = (parsed.implementation or "cpython").lower()
    if implementation not in _IMPLEMENTATIONS and _meant(spec) and shutil.which(implementation, path=path) is None:
        return f"{spec!r} does not name a Python: the implementation {implementation!r} is unknown{_meant(spec)}"
    machine = (parsed.machine or "").lower()
    if machine and machine not in ARCHITECTURE_WORDS and machine != platform.machine().lower():
        return f"{spec!r} is not available: the architecture {parsed.machine!r} is unknown"
    return None


def _meant(spec: str) -> str:
    """A suggestion for `spec`, which is not a request, as the end of a sentence. Empty if there is none."""
    try:
        Request.parse(spec)
    except InvalidRequestError as error:
        is_alike = SequenceMatcher(None, spec.lower(), error.hint).ratio() > _ALIKE
        return f"; did you mean {error.hint}?" if is_alike and "/" not in error.hint else ""
    return ""


def _architecture(parsed: PythonSpec, target: Target) -> str | None:
    """The architecture as in keys. None if the spec leaves it open, empty if it is unknown."""
    if parsed.machine is not None:
        return ARCHITECTURE_WORDS.get(parsed.machine.lower(), "")
    if parsed.architecture is None:
        return None
    return (_HALVED if parsed.architecture == 32 else _DOUBLED).get(target.arch)
