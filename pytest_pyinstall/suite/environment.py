"""Installs what a recipe says, and the project, into an environment of a suite.

Makes the environment for a project and a Python, in which the project's suite runs, where it is not there yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from pytest_pyinstall.errors import EnvironmentCreationError, NoMatchError, StoreError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.interpreter.packages import find_uv, install
from pytest_pyinstall.suite.cache import directory_of, is_alike, lease, pack_editable, touch
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.processes import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.suite.recipe import Recipe

__all__ = ["Made", "fill", "make_environment", "packages_of", "warm"]


def fill(
    path: Path, interpreter: Interpreter, recipe: Recipe, *, environ: Mapping[str, str], uv: str | None, shelf: Path
) -> bool:
    """Install everything into the environment at `path`, and say whether the project is editable.

    One Python at a time builds the project; what it builds is kept below `shelf`, and the other Pythons take it from
    there where it is the same for all of them. Raises `EnvironmentCreationError`, `LockTimeoutError`.
    """
    lines = recipe.lines(factors=_factors(interpreter))
    requirements = ["pytest", *(word for line in lines for word in _words(line, recipe.directory))]

    def put(*more: str) -> None:
        words = [*requirements, *more]
        install(path, *words, key=interpreter.key, base_executable=interpreter.base_executable, environ=environ, uv=uv)

    if recipe.project is None:
        put()
        return True
    extras = f"[{','.join(recipe.extras)}]" if recipe.extras else ""
    target = f"{recipe.project}{extras}"
    if interpreter.version_info[:2] < (3, 8):
        return _put_old(put, target, shelf, recipe.project)
    wheels = shelf / f".wheel-{_digest_of(str(recipe.project), recipe.digest)}"
    wheel = _packed(wheels)
    if wheel is None:
        # Two builds in one source tree at once get in each other's way: setuptools writes its egg-info there.
        with _building(shelf, recipe.project):
            wheel = _packed(wheels)
            if wheel is None:
                put("-e", target)
                _keep(path, interpreter, recipe.project, wheels)
                return True
    try:
        name = wheel.name.partition("-")[0]
        put(f"{name}{extras} @ {wheel.as_uri()}")
    except EnvironmentCreationError:
        # What went wrong is told of the project itself, and not of a file that its author has never seen.
        with _building(shelf, recipe.project):
            put("-e", target)
    return True


def _put_old(put: Callable[..., None], target: str, shelf: Path, project: Path) -> bool:
    """What builds editable wheels may not run on Pythons before 3.8; then the project is installed as it is now."""
    first: EnvironmentCreationError | None = None
    with _building(shelf, project):
        for way in (("-e", target), (target,)):
            try:
                put(*way)
            except EnvironmentCreationError as error:
                first = first or error
            else:
                return way[0] == "-e"
    raise first or AssertionError(target)


def _building(shelf: Path, project: Path) -> AbstractContextManager[None]:
    path = shelf / f".project-{_digest_of(str(project))}.lock"
    return locks.hold(path, timeout=3600, purpose="for the project's build", setting="--python-cache")


def _digest_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _packed(wheels: Path) -> Path | None:
    return next(wheels.glob("*.whl"), None)


def _keep(path: Path, interpreter: Interpreter, project: Path, wheels: Path) -> None:
    if is_alike(project) and (packages := packages_of(path, interpreter)) is not None:
        with suppress(OSError):
            pack_editable(packages, project, into=wheels)


def packages_of(path: Path, interpreter: Interpreter) -> Path | None:
    """The site-packages of the environment at `path`."""
    library = "Lib" if interpreter.key.target.os == "windows" else "lib/*"
    return next(path.glob(f"{library}/site-packages"), None)


def _words(line: str, directory: Path) -> Iterator[str]:
    """A line of requirements as words of a command line; paths start from the project."""
    option, _, value = line.partition(" ")
    if option in {"-r", "-c", "-e", "--requirement", "--constraint", "--editable"} and value:
        yield option
        yield str(directory / value.strip())
    elif option.startswith("-"):
        yield from line.split()
    elif line.startswith((".", "/")):
        yield str(directory / line)
    else:
        yield line


def _factors(interpreter: Interpreter) -> frozenset[str]:
    major, minor = interpreter.version_info[:2]
    name = "py" if interpreter.implementation == "cpython" else interpreter.implementation
    suffix = "t" if interpreter.free_threaded else ""
    return frozenset({"py", f"{name}{major}{minor}{suffix}", f"{name}{major}.{minor}{suffix}", name, "tests", "test"})


_WARMING = """\
import os, sys
from importlib.machinery import SourceFileLoader
ours = tuple(sys.argv[1:])
put = SourceFileLoader.set_data
def put_ours(self, path, *more, **named):
    if path.startswith(ours):
        put(self, path, *more, **named)
SourceFileLoader.set_data = put_ours
sys.dont_write_bytecode = False
import pytest
pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ours[0], ours[0]])
"""


def warm(path: Path, interpreter: Interpreter, *, environ: Mapping[str, str]) -> None:
    """Compile what the start of pytest imports, where ``PYTHONDONTWRITEBYTECODE`` would have it compiled every time.

    That variable is about directories that are not ours: what is compiled lies in the environment and in our store.
    """
    if not environ.get("PYTHONDONTWRITEBYTECODE"):
        return  # the first session will leave it behind
    roots = [str(path), *([str(interpreter.base_prefix)] if interpreter.source == "store" else [])]
    variables = {name: value for name, value in environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
    python = venv.executable(path, interpreter.key)
    with suppress(OSError):
        run(
            [str(python), "-I", "-c", _WARMING, *roots],
            input=None,
            env=venv.clean(variables, interpreter.key),
            cwd=path,
        )


_FORM = "2"
"""Changes when what we put into an environment does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An environment that is whole. `seconds` is what making it took now, 0 where it was there."""

    path: Path
    python: Path
    pytest: str
    editable: bool
    seconds: float = 0.0


def make_environment(
    interpreter: Interpreter,
    recipe: Recipe,
    *,
    cache: Path,
    environ: Mapping[str, str],
    held: ExitStack,
    lock_timeout: float = 300.0,
    say: Callable[[str], None] | None = None,
) -> Made:
    """The environment of `interpreter` for what `recipe` says, made now where it is missing.

    It has pytest, the newest that this Python can have, what the recipe names, and the project: editable, or, on a
    Python for which that cannot be done, as it is now. Where it was there, a few files were read and nothing else. Any
    number of sessions may ask at once: one makes it, the others wait. Until `held` is closed, nobody throws it away.
    Raises `NoMatchError` where the project does not support this Python, `EnvironmentCreationError` where something
    cannot be installed, `StoreError` for the cache.
    """
    _refuse_unsupported(interpreter, recipe)
    parent = directory_of(cache)
    digest = _digest(interpreter, recipe)
    if made := _found(parent, digest, interpreter, recipe, held):
        return made
    uv = find_uv(environ)
    with locks.hold(
        parent / f".{digest}.lock",
        timeout=lock_timeout,
        purpose=f"for the environment of {interpreter.key.short}",
        setting="--python-cache",
        on_wait=say,
    ):
        if made := _found(parent, digest, interpreter, recipe, held):
            return made
        start = time.monotonic()
        if say is not None:
            say(f"making an environment of {interpreter.key.short} ({'uv' if uv else 'pip'})")
        final, editable = _make(parent, digest, interpreter, recipe, environ=environ, uv=uv)
        held.enter_context(lease(final))
    return _read(final, interpreter, editable=editable, seconds=time.monotonic() - start)


def _refuse_unsupported(interpreter: Interpreter, recipe: Recipe) -> None:
    version = ".".join(map(str, interpreter.version_info[:3]))
    if recipe.project and recipe.requires_python and version not in SpecifierSet(recipe.requires_python):
        message = f"the project needs Python {recipe.requires_python}, and this is {version}"
        raise NoMatchError(message, hint="requires-python of the project, or another --python")


def _digest(interpreter: Interpreter, recipe: Recipe) -> str:
    parts = (_FORM, str(interpreter.key), str(interpreter.executable), str(recipe.directory), recipe.digest)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _found(parent: Path, digest: str, interpreter: Interpreter, recipe: Recipe, held: ExitStack) -> Made | None:
    """The whole environment of that digest, and, where it holds a copy of the sources, of those that there are now."""
    for final, editable in _places(parent, digest, interpreter, recipe):
        if not final.is_dir():
            continue
        with ExitStack() as stack:
            stack.enter_context(lease(final))
            try:
                made = _read(final, interpreter, editable=editable)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if made.python.exists():
                held.enter_context(stack.pop_all())
                touch(final)
                return made
    return None


def _places(parent: Path, digest: str, interpreter: Interpreter, recipe: Recipe) -> Iterator[tuple[Path, bool]]:
    """Where it may be, and whether the project is editable in what is there."""
    yield parent / digest, True
    if recipe.project and interpreter.version_info[:2] < (3, 8):
        # A name of its own for each state of the sources: another session may run in that of an earlier one.
        yield parent / f"{digest}-{recipe.sources_digest()[:12]}", False


def _read(path: Path, interpreter: Interpreter, *, editable: bool, seconds: float = 0.0) -> Made:
    record = json.loads((path / "suite.json").read_bytes())
    python = venv.scripts(path, interpreter.key) / record["executable"]
    return Made(path=path, python=python, pytest=record["pytest"], editable=editable, seconds=seconds)


def _make(
    parent: Path, digest: str, interpreter: Interpreter, recipe: Recipe, *, environ: Mapping[str, str], uv: str | None
) -> tuple[Path, bool]:
    # Holding the lock, we know that whoever left this behind is dead.
    scratch = parent / f".{digest}.new"
    _removed(scratch)
    try:
        python = venv.create(scratch, key=interpreter.key, base_executable=interpreter.base_executable, environ=environ)
        places = {editable: final for final, editable in _places(parent, digest, interpreter, recipe)}
        editable = fill(scratch, interpreter, recipe, environ=environ, uv=uv, shelf=parent)
        final = places[editable]
        record = {
            "executable": python.name,
            "pytest": _pytest_version(scratch, interpreter),
            "python": str(interpreter.key),
            "project": str(recipe.directory),
            "description": recipe.description,
        }
        _relocate(venv.scripts(scratch, interpreter.key), scratch, final)
        warm(scratch, interpreter, environ=environ)
        (scratch / "suite.json").write_text(json.dumps(record, indent=1), encoding="utf-8", errors="surrogateescape")
        _removed(final)
        scratch.rename(final)
        return final, editable
    except OSError as error:
        message = f"cannot make an environment below {parent}: {error.strerror or error}"
        raise StoreError(message, hint="another directory: --python-cache DIR") from error
    finally:
        _removed(scratch)


def _pytest_version(path: Path, interpreter: Interpreter) -> str:
    packages = packages_of(path, interpreter)
    names = [found.name for found in packages.glob("pytest-*.dist-info")] if packages else []
    if not names:
        message = f"no pytest came into the environment of {interpreter.key.short}"
        raise EnvironmentCreationError(message)
    return names[0].removeprefix("pytest-").removesuffix(".dist-info")


def _relocate(directory: Path, scratch: Path, final: Path) -> None:
    """Let scripts, which say with a whole path whose they are, say the final one."""
    before, after = os.fsencode(scratch), os.fsencode(final)
    for path in directory.iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if before in content and not content.startswith((b"\x7fELF", b"MZ")):
            path.write_bytes(content.replace(before, after))


def _removed(path: Path) -> None:
    if not os.path.lexists(path):
        return
    # Aside first: what is half gone must not be found under its name.
    aside = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.gone")
    try:
        path.rename(aside)
    except OSError:
        aside = path
    shutil.rmtree(aside, ignore_errors=True)
