"""Installs what a recipe says, and the project, into an environment of a suite."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pytest_pyinstall import environment as venv
from pytest_pyinstall import lock
from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.installer import install
from pytest_pyinstall.interpreter import Interpreter
from pytest_pyinstall.process import run
from pytest_pyinstall.suite_recipe import Recipe
from pytest_pyinstall.suite_wheel import is_alike, pack_editable

__all__ = ["fill", "packages_of", "warm"]


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
    wheels = shelf / f".wheel-{_digest(str(recipe.project), recipe.digest)}"
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
    path = shelf / f".project-{_digest(str(project))}.lock"
    return lock.hold(path, timeout=3600, purpose="for the project's build", setting="--python-cache")


def _digest(*parts: str) -> str:
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
