"""Keeps an environment for each project and Python, in which the project's suite runs.

CACHE/environments/<digest>             whole, or not there
                   <digest>/suite.json  what is in it; written last
                   .<digest>.lock       held while it is made
                   .<digest>.new        scratch of whoever holds the lock
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from pytest_pyinstall import environment as venv
from pytest_pyinstall import lock
from pytest_pyinstall.errors import EnvironmentCreationError, NoMatchError, StoreError
from pytest_pyinstall.installer import find_uv, install
from pytest_pyinstall.interpreter import Interpreter
from pytest_pyinstall.suite_recipe import Recipe

__all__ = ["Made", "make_environment"]

_FORM = "1"
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
    lock_timeout: float = 300.0,
    say: Callable[[str], None] | None = None,
) -> Made:
    """The environment of `interpreter` for what `recipe` says, made now where it is missing.

    It has pytest, the newest that this Python can have, what the recipe names, and the project: editable, or, on a
    Python for which that cannot be done, as it is now. Where it was there, a few files were read and nothing else. Any
    number of sessions may ask at once: one makes it, the others wait. Raises `NoMatchError` where the project does not
    support this Python, `EnvironmentCreationError` where something cannot be installed, `StoreError` for the cache.
    """
    _refuse_unsupported(interpreter, recipe)
    parent = cache / "environments"
    digest = _digest(interpreter, recipe)
    if made := _found(parent, digest, interpreter, recipe):
        return made
    uv = find_uv(environ)
    with lock.hold(
        parent / f".{digest}.lock",
        timeout=lock_timeout,
        purpose=f"for the environment of {interpreter.key.short}",
        setting="--python-cache",
        on_wait=say,
    ):
        if made := _found(parent, digest, interpreter, recipe):
            return made
        start = time.monotonic()
        if say is not None:
            say(f"making an environment of {interpreter.key.short} ({'uv' if uv else 'pip'})")
        return _make(parent, digest, interpreter, recipe, environ=environ, uv=uv, start=start)


def _refuse_unsupported(interpreter: Interpreter, recipe: Recipe) -> None:
    version = ".".join(map(str, interpreter.version_info[:3]))
    if recipe.project and recipe.requires_python and version not in SpecifierSet(recipe.requires_python):
        message = f"the project needs Python {recipe.requires_python}, and this is {version}"
        raise NoMatchError(message, hint="requires-python of the project, or another --python")


def _digest(interpreter: Interpreter, recipe: Recipe) -> str:
    parts = (_FORM, str(interpreter.key), str(interpreter.executable), str(recipe.directory), recipe.digest)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _found(parent: Path, digest: str, interpreter: Interpreter, recipe: Recipe) -> Made | None:
    """The whole environment of that digest, unless it holds a copy of sources that have changed since."""
    path = parent / digest
    try:
        record = json.loads((path / "suite.json").read_bytes())
        python = venv.scripts(path, interpreter.key) / record["executable"]
        if not python.exists() or (not record["editable"] and record["sources"] != recipe.sources_digest()):
            return None
        with contextlib.suppress(OSError):
            os.utime(path / "suite.json")  # when it was last used
        return Made(path=path, python=python, pytest=record["pytest"], editable=record["editable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(
    parent: Path,
    digest: str,
    interpreter: Interpreter,
    recipe: Recipe,
    *,
    environ: Mapping[str, str],
    uv: str | None,
    start: float,
) -> Made:
    # Holding the lock, we know that whoever left this behind is dead.
    scratch, final = parent / f".{digest}.new", parent / digest
    _removed(scratch)
    try:
        python = venv.create(scratch, key=interpreter.key, base_executable=interpreter.base_executable, environ=environ)
        sources = recipe.sources_digest() if recipe.project else ""
        editable = _fill(scratch, interpreter, recipe, environ=environ, uv=uv, projects=parent)
        record = {
            "executable": python.name,
            "pytest": _pytest_version(scratch, interpreter),
            "editable": editable,
            "sources": "" if editable else sources,
            "python": str(interpreter.key),
            "project": str(recipe.directory),
            "description": recipe.description,
        }
        _relocate(venv.scripts(scratch, interpreter.key), scratch, final)
        (scratch / "suite.json").write_text(json.dumps(record, indent=1), encoding="utf-8", errors="surrogateescape")
        _removed(final)
        scratch.rename(final)
    except OSError as error:
        message = f"cannot make an environment below {parent}: {error.strerror or error}"
        raise StoreError(message, hint="another directory: --python-cache DIR") from error
    finally:
        _removed(scratch)
    return Made(
        path=final,
        python=venv.scripts(final, interpreter.key) / python.name,
        pytest=record["pytest"] if isinstance(record["pytest"], str) else "",
        editable=editable,
        seconds=time.monotonic() - start,
    )


def _fill(
    path: Path, interpreter: Interpreter, recipe: Recipe, *, environ: Mapping[str, str], uv: str | None, projects: Path
) -> bool:
    """Install everything, and say whether the project is editable."""
    lines = list(recipe.lines(factors=_factors(interpreter)))
    others = [word for line in lines for word in _words(line, recipe.directory)]
    requirements = ["pytest", *others]

    def put(*more: str) -> None:
        words = [*requirements, *more]
        install(path, *words, key=interpreter.key, base_executable=interpreter.base_executable, environ=environ, uv=uv)

    if recipe.project is None:
        put()
        return True
    extras = f"[{','.join(recipe.extras)}]" if recipe.extras else ""
    target = f"{recipe.project}{extras}"
    # Two builds in one source tree at once get in each other's way: setuptools writes its egg-info there.
    name = hashlib.sha256(os.fsencode(recipe.project)).hexdigest()[:24]
    with lock.hold(
        projects / f".project-{name}.lock", timeout=3600, purpose="for the project's build", setting="--python-cache"
    ):
        if interpreter.version_info[:2] >= (3, 8):
            put("-e", target)
            return True
        # What builds editable wheels may not run on Pythons that old; then the project is installed as it is now.
        ways = [("-e", target), (target,)]
        first: EnvironmentCreationError | None = None
        for way in ways:
            try:
                put(*way)
            except EnvironmentCreationError as error:
                first = first or error
            else:
                return way[0] == "-e"
        raise first or AssertionError(ways)


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


def _pytest_version(path: Path, interpreter: Interpreter) -> str:
    library = "Lib" if interpreter.key.target.os == "windows" else "lib/*"
    names = [found.name for found in path.glob(f"{library}/site-packages/pytest-*.dist-info")]
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
