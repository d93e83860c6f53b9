"""Lists the Pythons on `PATH`, shims and virtual environments aside.

Finds interpreters that are already here: those of other tools, then `PATH` and the Windows registry.

Names are read first and only what may fit is asked, because asking costs 10 to 20 ms each. What an interpreter answers
decides; a name never does.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from pytest_pyinstall.errors import ProbeError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.other_tools import (
    EXECUTABLE_FORM,
    Candidate,
    executable_in,
    guess_executable,
    is_shim,
    real,
    tool_installations,
)
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Key, Target
from pytest_pyinstall.system.log import StepLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from pytest_pyinstall.request.request import Request

__all__ = ["discover", "executables_on_path"]


def executables_on_path(environ: Mapping[str, str]) -> Iterator[Candidate]:
    """The Pythons on `PATH`, in its order; in one directory, those whose names say more come first."""
    done: set[Path] = set()
    for entry in environ.get("PATH", "").split(os.pathsep):
        if not Path(entry).is_absolute():  # a relative one would search the current directory
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


_LOGGER = StepLogger(__name__)


_MOST_PATCHES = 40
"""No minor version of CPython had more patch releases; a name such as python3.12 may be any of them."""


_PATIENCE = 1.0
"""Seconds that one candidate is waited for alone, fifty times what an answer takes, before others are asked as well."""


_MOST_AT_ONCE = 32


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
    at_once: int = 1,
) -> Iterator[Interpreter]:
    """The interpreters on this machine that fit `request`, best first, each asked only when it is its turn,
    or while one before it keeps us waiting: however many hang, that costs about `timeout` seconds in all.

    A path request gives exactly that executable, or that of the prefix which the path names, and raises `ProbeError`
    if it is no Python (the Python behind it if it is a shim). Every other request looks at, newest first, the
    installations of uv, pyenv, hatch, nox, mise, asdf and pdm and at `current`, and after them along `PATH`, and on
    Windows in the registry, through python-discovery. `environ` and `home` say where to look.

    Two names of one interpreter count once. Shims never count. In place of a virtual environment, `current` or on
    `PATH`, counts the interpreter that it was created from, which has none of its packages. What does not work is
    passed by, after `on_skip(path, error)`. For a caller that wants all of them, `at_once` are asked at a time. Nothing
    is written. Each iterator belongs to one thread.
    """
    if request.path is not None:
        executable = (executable_in(request.path, target) if request.path.is_dir() else None) or request.path
        yield _at(executable, environ=environ, timeout=timeout)
        return
    if request.word is not None:
        return
    places: set[Path] = set()
    seen: set[Path] = set()
    candidates = (
        candidate
        for candidate in _candidates(request, environ=environ, home=home, target=target, current=current)
        if _is_worth_asking(candidate, request, target, allow_prereleases) and _is_new(candidate, places)
    )
    with closing(_asked(candidates, environ, timeout, at_once)) as asked:
        for question in asked:
            candidate, found = question.candidate, question.answer
            if isinstance(found, ProbeError):
                _passed_by(request, candidate, found.message)
                if on_skip is not None:
                    on_skip(candidate.executable, found)
                continue
            base = real(found.base_executable)
            is_environment = found.prefix != found.base_prefix
            if base in seen:
                _passed_by(request, candidate, "another name of one that was taken before")
            elif is_environment and candidate.source != "current":
                _passed_by(request, candidate, "a virtual environment")
            elif not request.fits(found.key, target=target, allow_prereleases=allow_prereleases):
                _passed_by(request, candidate, f"it answers as {found.key}")
            else:
                seen.add(base)
                yield _base_of(found, environ=environ, timeout=timeout) if is_environment else found


def _base_of(environment: Interpreter, *, environ: Mapping[str, str], timeout: float) -> Interpreter:
    """The interpreter that `environment` was created from, or `environment` itself if that does not work alone."""
    try:
        return probe(environment.base_executable, source=environment.source, environ=environ, timeout=timeout)
    except ProbeError as error:
        _LOGGER.debug("%s does not work: %s", environment.base_executable, error.message)
        return environment


def _passed_by(request: Request, candidate: Candidate, reason: str) -> None:
    _LOGGER.debug("%s: passed by: %s (%s): %s", request.text, candidate.executable, candidate.source, reason)


def _is_worth_asking(candidate: Candidate, request: Request, target: Target, allow_prereleases: bool) -> bool:
    may_fit = _may_fit(candidate, request, target, allow_prereleases)
    if not may_fit:
        _passed_by(request, candidate, "its name says another Python")
    return may_fit


def _is_new(candidate: Candidate, places: set[Path]) -> bool:
    place = real(candidate.executable)
    if place in places:
        return False
    places.add(place)
    return True


class _Question:
    """A candidate that is being asked, in a thread of its own."""

    def __init__(self, candidate: Candidate, environ: Mapping[str, str], timeout: float, stop: threading.Event) -> None:
        self.candidate = candidate
        self._answer: Interpreter | BaseException | None = None
        self._thread = threading.Thread(target=self._ask, args=(environ, timeout, stop), daemon=True)
        self._thread.start()

    @property
    def answer(self) -> Interpreter | ProbeError:
        """What came of it, once it is done."""
        if isinstance(self._answer, Interpreter | ProbeError):
            return self._answer
        raise self._answer or RuntimeError("not answered yet")

    def is_done(self, within: float = 0.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()

    def _ask(self, environ: Mapping[str, str], timeout: float, stop: threading.Event) -> None:
        executable, source = self.candidate.executable, self.candidate.source
        try:
            self._answer = probe(executable, source=source, environ=environ, timeout=timeout, stop=stop)
        except BaseException as error:  # noqa: BLE001  # raised when the answer is read
            self._answer = error


def _asked(
    candidates: Iterator[Candidate], environ: Mapping[str, str], timeout: float, at_once: int
) -> Generator[_Question, None, None]:
    """The candidates in their order, each with its answer. When it is closed, nothing that was asked runs any more."""
    stop = threading.Event()
    questions: deque[_Question] = deque()
    try:
        while True:
            for candidate in islice(candidates, max(0, at_once - len(questions))):
                questions.append(_Question(candidate, environ, timeout, stop))  # each starts at once
            if not questions:
                return
            if not questions[0].is_done(_PATIENCE):
                _ask_more(questions, candidates, environ, timeout, stop)
            yield questions.popleft()
    finally:
        stop.set()
        until = time.monotonic() + 2
        for question in questions:
            question.is_done(max(0.0, until - time.monotonic()))


def _ask_more(
    questions: deque[_Question],
    candidates: Iterator[Candidate],
    environ: Mapping[str, str],
    timeout: float,
    stop: threading.Event,
) -> None:
    """Until the first of `questions` is answered, ask the candidates behind it, which may hang as well."""
    exhausted = False
    while not questions[0].is_done(0.02):
        while not exhausted and sum(not question.is_done() for question in questions) < _MOST_AT_ONCE:
            candidate = next(candidates, None)
            if candidate is None:
                exhausted = True
            else:
                questions.append(_Question(candidate, environ, timeout, stop))


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
    known = list(tool_installations(environ, home, target))
    if current is not None:
        known.append(guess_executable(current, "current"))
    # Sorting is stable: between equals the order of the tools holds, and `current` is the last of them, because the
    # others have no packages in them.
    exact = [candidate for candidate in known if candidate.is_exact]
    yield from sorted(exact, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    vague = [candidate for candidate in known if not candidate.is_exact]
    yield from sorted(vague, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    yield from executables_on_path(environ)
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
