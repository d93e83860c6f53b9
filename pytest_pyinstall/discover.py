"""Finds interpreters that are already here: those of other tools, then `PATH` and the Windows registry.

Names are read first and only what may fit is asked, because asking costs 10 to 20 ms each. What an interpreter answers
decides; a name never does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pytest_pyinstall.candidate import Candidate, guess_executable, is_shim, real
from pytest_pyinstall.errors import ProbeError
from pytest_pyinstall.installed import installed
from pytest_pyinstall.interpreter import Interpreter
from pytest_pyinstall.key import Key
from pytest_pyinstall.probe import probe
from pytest_pyinstall.request import Request
from pytest_pyinstall.search_path import on_path
from pytest_pyinstall.target import Target

__all__ = ["discover"]

_MOST_PATCHES = 40
"""No minor version of CPython had more patch releases; a name such as python3.12 may be any of them."""


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
        place = real(candidate.executable)
        if place in asked:
            continue
        asked.add(place)
        try:
            found = probe(candidate.executable, source=candidate.source, environ=environ, timeout=timeout)
        except ProbeError as error:
            if on_skip is not None:
                on_skip(candidate.executable, error)
            continue
        base = real(found.base_executable)
        is_environment = found.prefix != found.base_prefix
        if base in seen or (is_environment and candidate.source != "current"):
            continue
        if request.fits(found.key, target=target, allow_prereleases=allow_prereleases):
            seen.add(base)
            yield found


def _at(path: Path, *, environ: Mapping[str, str], timeout: float) -> Interpreter:
    found = probe(path, source="path", environ=environ, timeout=timeout)
    if not is_shim(path):
        return found
    # What a shim runs depends on the directory it is started in: take what it ran now.
    is_environment = found.prefix != found.base_prefix
    behind = found.prefix / "bin" / "python" if is_environment else found.base_executable
    return probe(behind, source="path", environ=environ, timeout=timeout)


def _candidates(
    request: Request, *, environ: Mapping[str, str], home: Path, target: Target, current: Path | None
) -> Iterator[Candidate]:
    known = list(installed(environ, home, target))
    if current is not None:
        known.append(guess_executable(current, "current"))
    # Sorting is stable: between equals the order of the tools holds, and `current` is the last of them, because the
    # others have nobody's packages in them.
    exact = [candidate for candidate in known if candidate.is_exact]
    yield from sorted(exact, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    vague = [candidate for candidate in known if not candidate.is_exact]
    yield from sorted(vague, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    yield from on_path(environ)
    if target.os == "windows":
        yield from _in_registry(request, environ)


def _may_fit(candidate: Candidate, request: Request, target: Target, allow_prereleases: bool) -> bool:
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


def _in_registry(request: Request, environ: Mapping[str, str]) -> Iterator[Candidate]:
    """What python-discovery finds; on Windows it reads the registry (PEP 514), which we do not."""
    from python_discovery import iter_interpreters

    for found in iter_interpreters(_spoken(request), env=environ):
        executable = found.system_executable or found.executable
        if executable and not is_shim(Path(executable)):
            yield Candidate(executable=Path(executable), source="registry")


def _spoken(request: Request) -> str | None:
    """`request` in python-discovery's words, as far as it has them; it only narrows the search, so less is no harm."""
    if request.implementation is None:
        return None
    threaded = "t" if "freethreaded" in request.variant else ""
    release = next((s.version for s in request.specifier if s.operator == "==" and s.version[-1:] == "*"), "")
    name = "python" if request.implementation == "cpython" else request.implementation
    return f"{name}{release.removesuffix('.*')}{threaded}"
