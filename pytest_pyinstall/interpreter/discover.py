"""Discovers the Pythons on this machine: those that pyenv, uv and other tools installed, `PATH`, the Windows registry.

The name of a file or directory only tells which candidates are worth probing, because a probe costs 10 to 20 ms. The
probe decides.
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
from pytest_pyinstall.system.processes import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from pytest_pyinstall.request.request import Request

__all__ = ["discover", "executables_on_path"]


def executables_on_path(environ: Mapping[str, str]) -> Iterator[Candidate]:
    """The Pythons on `PATH`, in its order, without shims. In one directory, more specific names come first.

    For a directory of a virtual environment, yields the Pythons that the environment was made from.
    """
    done: set[Path] = set()
    for entry in environ.get("PATH", "").split(os.pathsep):
        if not Path(entry).is_absolute():  # a relative entry would search the current directory
            continue
        directory = _without_environment(Path(entry))
        place = real(directory)
        if place in done or directory.name == "shims":
            continue
        done.add(place)
        try:
            # Not iterdir: /usr/bin has thousands of names, and Path objects would cost ten times as much.
            names = [name for name in os.listdir(directory) if EXECUTABLE_FORM.fullmatch(name)]  # noqa: PTH208
        except OSError:
            continue
        for name in sorted(names, key=_informative, reverse=True):
            executable = directory / name
            if not is_shim(executable) and os.access(executable, os.X_OK):
                yield guess_executable(executable, "path")


def _without_environment(directory: Path) -> Path:
    """`directory`, or if it belongs to a virtual environment, the directory of the Python that it was made from."""
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
"""No minor version of CPython has had more patch releases. ``python3.12`` may be any of them."""


_PATIENCE = 1.0
"""Seconds to wait for one probe, fifty times what it usually takes, before other candidates are probed as well."""


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
    """The interpreters on this machine that fit `request`, best first. Each is probed only when it is its turn.

    If a probe hangs, the next candidates are probed meanwhile, so all that hang together cost about `timeout` seconds.

    A path request yields exactly that executable, or the executable of that prefix. If it is a shim, it yields the
    Python that the shim runs. It raises `ProbeError` if the path is not a Python. Any other request looks, newest
    first, at the installations of uv, pyenv, hatch, nox, mise, asdf and pdm and at `current`, then at `PATH`, and on
    Windows at the registry, through python-discovery. `environ` and `home` say where to look.

    An interpreter with two names is yielded once. Shims are never yielded. If `current` or an entry of `PATH` belongs
    to a virtual environment, the interpreter that it was created from is yielded, which has none of its packages.
    Interpreters that do not work are skipped after `on_skip(path, error)`. A caller that wants all of them sets
    `at_once`, the number of probes at a time. Nothing is written. Each iterator belongs to one thread.
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
        if _is_worth_probing(candidate, request, target, allow_prereleases) and _is_new(candidate, places)
    )
    with closing(_probe_in_order(candidates, environ, timeout, at_once)) as probed:
        for thread in probed:
            candidate, found = thread.candidate, thread.result
            if isinstance(found, ProbeError):
                _report_skipped(request, candidate, found, on_skip)
                continue
            base = real(found.base_executable)
            is_environment = found.prefix != found.base_prefix
            if base in seen:
                _log_skipped(request, candidate, "another name of an earlier one")
            elif is_environment and candidate.source != "current":
                _log_skipped(request, candidate, "a virtual environment")
            elif not request.fits(found.key, target=target, allow_prereleases=allow_prereleases):
                _log_skipped(request, candidate, f"it is {found.key}")
            else:
                seen.add(base)
                try:
                    chosen = _base_of(found, environ=environ, timeout=timeout) if is_environment else found
                except ProbeError as error:
                    _report_skipped(request, candidate, error, on_skip)
                    continue
                yield chosen


def _base_of(environment: Interpreter, *, environ: Mapping[str, str], timeout: float) -> Interpreter:
    """The interpreter that `environment` was created from, or `environment` itself if that one does not work.

    Raises `ProbeError` if it is another Python now: it was replaced, and `environment` contains a copy of the old one.
    """
    try:
        base = probe(environment.base_executable, source=environment.source, environ=environ, timeout=timeout)
    except ProbeError as error:
        _LOGGER.debug("%s does not work: %s", environment.base_executable, error.message)
        return environment
    if base.key != environment.key:
        was, now = environment.key.display_name, base.key.display_name
        msg = f"{environment.executable} is Python {was}, but {base.executable}, which it was created from, is {now}"
        raise ProbeError(msg, hint=str(base.executable))
    return base


def _report_skipped(
    request: Request, candidate: Candidate, error: ProbeError, on_skip: Callable[[Path, ProbeError], None] | None
) -> None:
    _log_skipped(request, candidate, error.message)
    if on_skip is not None:
        on_skip(candidate.executable, error)


def _log_skipped(request: Request, candidate: Candidate, reason: str) -> None:
    _LOGGER.debug("%s: skipped: %s (%s): %s", request.text, candidate.executable, candidate.source, reason)


def _is_worth_probing(candidate: Candidate, request: Request, target: Target, allow_prereleases: bool) -> bool:
    may_fit = _may_fit(candidate, request, target, allow_prereleases)
    if not may_fit:
        _log_skipped(request, candidate, "its name is that of another Python")
    return may_fit


def _is_new(candidate: Candidate, places: set[Path]) -> bool:
    place = real(candidate.executable)
    if place in places:
        return False
    places.add(place)
    return True


class _ProbeThread:
    """A candidate that is being probed, in a thread of its own."""

    def __init__(self, candidate: Candidate, environ: Mapping[str, str], timeout: float, stop: threading.Event) -> None:
        self.candidate = candidate
        self._result: Interpreter | BaseException | None = None
        self._thread = threading.Thread(target=self._probe, args=(environ, timeout, stop), daemon=True)
        with thread_limit():
            self._thread.start()

    @property
    def result(self) -> Interpreter | ProbeError:
        """The result of the probe, once it is done."""
        if isinstance(self._result, Interpreter | ProbeError):
            return self._result
        raise self._result or RuntimeError("the probe is not done yet")

    def is_done(self, within: float = 0.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()

    def _probe(self, environ: Mapping[str, str], timeout: float, stop: threading.Event) -> None:
        executable, source = self.candidate.executable, self.candidate.source
        try:
            self._result = probe(executable, source=source, environ=environ, timeout=timeout, stop=stop)
        except BaseException as error:  # noqa: BLE001  # raised when `result` is read
            self._result = error


def _probe_in_order(
    candidates: Iterator[Candidate], environ: Mapping[str, str], timeout: float, at_once: int
) -> Generator[_ProbeThread, None, None]:
    """The candidates in their order, each with its result. Closing the generator ends the probes that still run."""
    stop = threading.Event()
    threads: deque[_ProbeThread] = deque()
    try:
        while True:
            for candidate in islice(candidates, max(0, at_once - len(threads))):
                threads.append(_ProbeThread(candidate, environ, timeout, stop))  # starts immediately
            if not threads:
                return
            if not threads[0].is_done(_PATIENCE):
                _probe_more(threads, candidates, environ, timeout, stop)
            yield threads.popleft()
    finally:
        stop.set()
        deadline = time.monotonic() + 2
        for thread in threads:
            thread.is_done(max(0.0, deadline - time.monotonic()))


def _probe_more(
    threads: deque[_ProbeThread],
    candidates: Iterator[Candidate],
    environ: Mapping[str, str],
    timeout: float,
    stop: threading.Event,
) -> None:
    """Until the first of `threads` is done, probe the candidates after it, which may hang as well."""
    exhausted = False
    while not threads[0].is_done(0.02):
        while not exhausted and sum(not thread.is_done() for thread in threads) < _MOST_AT_ONCE:
            candidate = next(candidates, None)
            if candidate is None:
                exhausted = True
            else:
                threads.append(_ProbeThread(candidate, environ, timeout, stop))


def _at(path: Path, *, environ: Mapping[str, str], timeout: float) -> Interpreter:
    found = probe(path, source="path", environ=environ, timeout=timeout)
    is_environment = found.prefix != found.base_prefix
    if is_shim(path):
        # What a shim runs depends on the current directory: take what it ran now.
        behind = found.prefix / "bin" / "python" if is_environment else found.base_executable
        found = probe(behind, source="path", environ=environ, timeout=timeout)
    if is_environment:
        _base_of(found, environ=environ, timeout=timeout)  # environments are made with it
    return found


def _candidates(
    request: Request, *, environ: Mapping[str, str], home: Path, target: Target, current: Path | None
) -> Iterator[Candidate]:
    known = list(tool_installations(environ, home, target))
    if current is not None:
        known.append(guess_executable(current, "current"))
    # Sorting is stable: equal versions keep the order of the tools, with `current` last, because it may be the only one
    # with packages installed.
    exact = [candidate for candidate in known if candidate.is_exact]
    yield from sorted(exact, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    vague = [candidate for candidate in known if not candidate.is_exact]
    yield from sorted(vague, key=lambda candidate: candidate.version or Version("0"), reverse=True)
    yield from executables_on_path(environ)
    if target.os == "windows":
        yield from _in_registry(request, environ)


def _may_fit(candidate: Candidate, request: Request, target: Target, allow_prereleases: bool) -> bool:
    """Whether a Python of that name could fit. What the name leaves open, fits."""
    if candidate.implementation and request.implementation not in {candidate.implementation, None}:
        return False
    if candidate.version is None or candidate.version.release == (3,):
        return True
    release = candidate.version.release
    numbers = [_number_of(candidate.version)]
    if not candidate.is_exact:
        numbers = [f"{release[0]}.{release[1]}.{patch}" for patch in range(_MOST_PATCHES)]
        allow_prereleases = True
        if request.names_prerelease:
            numbers += map(_number_of, _named_versions(request))
    wanted = candidate.target or request.target(target)
    implementation = candidate.implementation or request.implementation or "cpython"
    variant = request.variant if candidate.variant is None else candidate.variant
    return any(
        request.fits(
            Key(implementation=implementation, number=number, variant=variant, target=wanted),
            target=target,
            allow_prereleases=allow_prereleases,
        )
        for number in numbers
    )


def _number_of(version: Version) -> str:
    """The number of a key for `version`, which can lack the patch: ``3.15rc1`` is ``3.15.0rc1``."""
    prerelease = "".join(map(str, version.pre or ()))
    return f"{version.major}.{version.minor}.{version.micro}{prerelease}"


def _named_versions(request: Request) -> Iterator[Version]:
    for specifier in request.specifier:
        try:
            version = Version(specifier.version.removesuffix(".*"))
        except InvalidVersion:  # `===` takes any text
            continue
        yield version


def _in_registry(request: Request, environ: Mapping[str, str]) -> Iterator[Candidate]:
    """What python-discovery finds. On Windows it reads the registry (PEP 514)."""
    from python_discovery import iter_interpreters

    for found in iter_interpreters(_discovery_spec(request), env=environ):
        executable = found.system_executable or found.executable
        if executable and not is_shim(Path(executable)):
            yield Candidate(executable=Path(executable), source="registry")


def _discovery_spec(request: Request) -> str | None:
    """`request` as a spec of python-discovery, which may be less specific: it only narrows the search."""
    if request.implementation is None:
        return None
    threaded = "t" if "freethreaded" in request.variant else ""
    release = next((s.version for s in request.specifier if s.operator == "==" and s.version[-1:] == "*"), "")
    name = "python" if request.implementation == "cpython" else request.implementation
    return f"{name}{release.removesuffix('.*')}{threaded}"
