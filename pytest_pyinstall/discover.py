"""Finds interpreters that are already here: those of other tools, then `PATH` and the Windows registry.

Names are read first and only what may fit is asked, because asking costs 10 to 20 ms each. What an interpreter answers
decides; a name never does.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pytest_pyinstall.errors import ProbeError
from pytest_pyinstall.interpreter import Interpreter
from pytest_pyinstall.key import Key
from pytest_pyinstall.probe import probe
from pytest_pyinstall.request import Request
from pytest_pyinstall.target import Target

__all__ = ["discover"]

_MOST_PATCHES = 40
"""No minor version of CPython had more patch releases; a name such as python3.12 may be any of them."""

_DIRECTORY_FORM = re.compile(
    # pyenv, asdf, mise: 3.12.1, 3.13.0t, 3.12.1-debug, 3.15.0rc1, pypy3.10-7.3.17; nox, pdm: cpython@3.12.1
    r"(?:(?P<name>cpython|python|pypy|graalpy)[@-]?)?(?P<version>\d(?:\.\d+){1,2}(?:(?:a|b|rc)\d+)?)"
    r"(?P<threaded>t?)(?P<debug>-debug)?(?:-v?[\d.]+|-dev)?"
)
_EXECUTABLE_FORM = re.compile(
    r"(?P<name>python|pypy|graalpy)(?P<version>\d(?:\.\d+)?)?(?P<threaded>t?)(?P<debug>d?)(?:\.exe)?", re.IGNORECASE
)
_SHIM_MAKERS = {"mise", "asdf", "pyenv", "rtx", "proto", "vfox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
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


def discover(
    request: Request,
    *,
    environ: Mapping[str, str],
    home: Path,
    target: Target,
    current: Path | None = None,
    allow_prereleases: bool = False,
    timeout: float = 15.0,
    on_skip: Callable[[Path, ProbeError], None] | None = None,
) -> Iterator[Interpreter]:
    """The interpreters on this machine that fit `request`, best first, each asked only when it is its turn.

    A path request gives exactly that executable, and raises `ProbeError` where it is no Python (the Python behind it
    where it is a shim). Every other request looks at, newest first, the installations of uv, pyenv, hatch, nox, mise,
    asdf and pdm and at `current`, and after them along `PATH`, and on Windows in the registry, through
    python-discovery. `environ` and `home` say where these are.

    Two names of one interpreter count once. Shims never count, and in place of a virtual environment on `PATH` counts
    the interpreter that it was made from; only `current` may be one. What does not work is passed by, after
    `on_skip(path, error)`. Nothing is written. Each iterator belongs to one thread.
    """
    if request.path is not None:
        yield _at(request.path, environ=environ, timeout=timeout)
        return
    if request.word is not None:
        return
    asked: set[Path] = set()
    seen: set[Path] = set()
    for candidate in _candidates(request, environ=environ, home=home, target=target, current=current):
        if not _may_fit(candidate, request, target, allow_prereleases):
            continue
        place = _real(candidate.executable)
        if place in asked:
            continue
        asked.add(place)
        try:
            found = probe(candidate.executable, source=candidate.source, environ=environ, timeout=timeout)
        except ProbeError as error:
            if on_skip is not None:
                on_skip(candidate.executable, error)
            continue
        base = _real(found.base_executable)
        is_environment = found.prefix != found.base_prefix
        if base in seen or (is_environment and candidate.source != "current"):
            continue
        if request.fits(found.key, target=target, allow_prereleases=allow_prereleases):
            seen.add(base)
            yield found


def _at(path: Path, *, environ: Mapping[str, str], timeout: float) -> Interpreter:
    found = probe(path, source="path", environ=environ, timeout=timeout)
    if not _is_shim(path):
        return found
    # What a shim runs depends on the directory it is started in: take what it ran now.
    is_environment = found.prefix != found.base_prefix
    behind = found.prefix / "bin" / "python" if is_environment else found.base_executable
    return probe(behind, source="path", environ=environ, timeout=timeout)


def _candidates(
    request: Request, *, environ: Mapping[str, str], home: Path, target: Target, current: Path | None
) -> Iterator[_Candidate]:
    installed = list(_installed(environ, home, target))
    if current is not None:
        installed.append(_guess_executable(current, "current"))
    # Sorting is stable: between equals the order of the tools holds, and `current` is the last of them, because the
    # others have nobody's packages in them.
    exact = [candidate for candidate in installed if candidate.is_exact]
    yield from sorted(exact, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    vague = [candidate for candidate in installed if not candidate.is_exact]
    yield from sorted(vague, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    yield from _on_path(environ)
    if target.os == "windows":
        yield from _in_registry(request, environ)


def _may_fit(candidate: _Candidate, request: Request, target: Target, allow_prereleases: bool) -> bool:
    """Whether a Python whose name says so much could fit; what the name leaves open, fits."""
    if candidate.implementation and request.implementation not in {candidate.implementation, None}:
        return False
    if candidate.version is None or candidate.version.release == (3,):
        return True
    release = candidate.version.release
    versions: Iterable[Version] = (candidate.version,)
    if not candidate.is_exact:
        versions = [Version(f"{release[0]}.{release[1]}.{patch}") for patch in range(_MOST_PATCHES)]
        allow_prereleases = True
        if request.names_prerelease:
            versions = [*versions, *_named(request)]
    wanted = candidate.target or request.target(target)
    implementation = candidate.implementation or request.implementation or "cpython"
    variant = request.variant if candidate.variant is None else candidate.variant
    return any(
        request.fits(
            Key(implementation=implementation, version=version, variant=variant, target=wanted),
            target=target,
            allow_prereleases=allow_prereleases,
        )
        for version in versions
    )


def _named(request: Request) -> Iterator[Version]:
    for specifier in request.specifier:
        try:
            version = Version(specifier.version.removesuffix(".*"))
        except InvalidVersion:  # `===` takes any text
            continue
        yield version


def _installed(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[_Candidate]:
    """What the tools that install Pythons have installed, by the names of their directories."""
    for source, directory in _directories(environ, home, target):
        for entry in _entries(directory):
            if candidate := _guess_directory(entry, source, target):
                yield candidate


def _directories(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[tuple[str, Path]]:
    """Where each tool keeps its Pythons: its own variable, else its default for this system.

    Sources: uv's and mise's documentation, pyenv's and asdf's READMEs, and the code of hatch 1.18, nox 2026.10 and pdm.
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
            yield "uv", data / "uv" / "python"  # where it was before uv 0.3
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
    """An absolute directory, or nothing: a relative one would search whatever directory we happen to be in."""
    directory = Path(environ.get(name, ""))
    return directory if directory.is_absolute() else None


def _entries(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return []
    # Links are second names: uv's minor versions, mise's `latest`.
    return [entry for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()]


def _guess_directory(directory: Path, source: str, target: Target) -> _Candidate | None:
    if source == "uv":
        return _guess_key(directory)
    if (directory / "pyvenv.cfg").is_file():  # pyenv-virtualenv puts environments among the versions
        return None
    match = _DIRECTORY_FORM.fullmatch(directory.name)
    if match is None:  # 3.13-dev, miniconda3-latest, a name of one's own: its executable may say more
        found = _first(directory, ("python3", "python"), target)
        return _guess_executable(found, source) if found else None
    implementation = {None: "cpython", "python": "cpython"}.get(match["name"], match["name"])
    variant = "+".join(filter(None, ("freethreaded" * bool(match["threaded"]), "debug" * bool(match["debug"]))))
    version = Version(match["version"])
    minor = f"{version.release[0]}.{version.release[1]}"
    stem = "python" if implementation == "cpython" else implementation
    inside = directory
    if source == "hatch":
        inside, executable = _hatch(directory)
        if executable:
            return _Candidate(executable=executable, source=source, implementation=implementation, version=version)
    names = (f"{stem}{minor}{match['threaded']}", f"{stem}3", stem or "", "python3", "python")
    found = _first(inside, names, target)
    if found is None:
        return None
    return _Candidate(executable=found, source=source, implementation=implementation, version=version, variant=variant)


def _guess_key(directory: Path) -> _Candidate | None:
    try:
        key = Key.parse(directory.name)
    except ValueError:
        return None
    executable = directory / key.executable
    return _Candidate(
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


def _guess_executable(executable: Path, source: str) -> _Candidate:
    """What its name says, or the name of what it links to: ``python`` is often ``python3.12`` in the end."""
    implementation = None
    for name in (executable.name, _real(executable).name):
        match = _EXECUTABLE_FORM.fullmatch(name)
        if match is None:
            continue
        if match["name"].lower() != "python":  # by which every implementation goes
            implementation = match["name"].lower()
        if "." in (match["version"] or ""):
            flags = ("freethreaded" * bool(match["threaded"]), "debug" * bool(match["debug"]))
            return _Candidate(
                executable=executable,
                source=source,
                implementation=implementation,
                version=Version(match["version"]),
                # A plain name says nothing: python3.13 of a free-threaded installation is free-threaded.
                variant="+".join(filter(None, flags)) or None,
            )
    return _Candidate(executable=executable, source=source, implementation=implementation)


def _on_path(environ: Mapping[str, str]) -> Iterator[_Candidate]:
    """The Pythons on `PATH`, in its order; in one directory, those whose names say more come first."""
    done: set[Path] = set()
    for entry in environ.get("PATH", "").split(os.pathsep):
        if not Path(entry).is_absolute():  # relative ones would search whatever directory we happen to be in
            continue
        directory = _without_environment(Path(entry))
        place = _real(directory)
        if place in done or directory.name == "shims":
            continue
        done.add(place)
        try:
            # Not iterdir: there are thousands of names in /usr/bin, and Path objects would cost ten times as much.
            names = [name for name in os.listdir(directory) if _EXECUTABLE_FORM.fullmatch(name)]  # noqa: PTH208
        except OSError:
            continue
        for name in sorted(names, key=_informative, reverse=True):
            executable = directory / name
            if not _is_shim(executable) and os.access(executable, os.X_OK):
                yield _guess_executable(executable, "path")


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
    match = _EXECUTABLE_FORM.fullmatch(name)
    version = match["version"] if match else None
    return (bool(match) and name.lower().startswith("python"), Version(version or "0"))


def _is_shim(executable: Path) -> bool:
    """Whether it is a stand-in that picks a Python by the directory it is started in, or offers to install one."""
    if executable.parent.name == "shims":
        return True
    if _real(executable).stem.lower() in _SHIM_MAKERS:
        return True
    # Windows: an app execution alias is an empty file that opens the store.
    return executable.parent.name == "WindowsApps" and not executable.lstat().st_size


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve, it says nothing about loops


def _in_registry(request: Request, environ: Mapping[str, str]) -> Iterator[_Candidate]:
    """What python-discovery finds; on Windows it reads the registry (PEP 514), which we do not."""
    from python_discovery import iter_interpreters

    for found in iter_interpreters(_spoken(request), env=environ):
        executable = found.system_executable or found.executable
        if executable and not _is_shim(Path(executable)):
            yield _Candidate(executable=Path(executable), source="registry")


def _spoken(request: Request) -> str | None:
    """`request` in python-discovery's words, as far as it has them; it only narrows the search, so less is no harm."""
    if request.implementation is None:
        return None
    threaded = "t" if "freethreaded" in request.variant else ""
    release = next((s.version for s in request.specifier if s.operator == "==" and s.version[-1:] == "*"), "")
    name = "python" if request.implementation == "cpython" else request.implementation
    return f"{name}{release.removesuffix('.*')}{threaded}"
