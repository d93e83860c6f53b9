"""Makes the environments in which a project's suite runs, one for each Python, and finds those that exist."""

import hashlib
import json
import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from packaging.specifiers import SpecifierSet

from pytest_pyinstall.errors import EnvironmentCreationError, NoMatchError, PyinstallError, StoreError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.interpreter.builds import fresh_builds
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.packages import find_uv, install
from pytest_pyinstall.suite._integrity import find_damage, record_contents
from pytest_pyinstall.suite.cache import (
    OF_PYTHON,
    environments_directory,
    install_as_editable,
    keep_wheel,
    lease,
    move_unused_aside,
    note_use,
    orphans,
    wheel_directory,
)
from pytest_pyinstall.suite.inputs import OPTION, Inputs, changes, explicit_packages, lines_of
from pytest_pyinstall.suite.recipe import EnvironmentSpec, Recipe, local_target
from pytest_pyinstall.suite.variants import Variant
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import children, delete, discard, is_abandoned, scratch_name
from pytest_pyinstall.system.processes import run
from pytest_pyinstall.system.temporary import temporary_directory
from pytest_pyinstall.system.values import Value

__all__ = ["SuiteEnvironment", "is_prepared", "make_environment", "mark_as_prepared", "variables_of"]

_FORMAT = "4"
"""Change it if an environment of the same inputs gets other contents, so that existing ones are not used."""
_MOST_REASONS = 3


class SuiteEnvironment(Value):
    """A complete environment. `editable` is whether the project is installed editable in it.

    `seconds` is the time that it took to make it, 0 if it existed.
    """

    path: Path
    python: Path
    pytest: str
    editable: bool
    seconds: float = 0.0


class _Plan(Value):
    """What goes into an environment, and its place in `parent`.

    The directory is called ``<slot>-<state>``, as in `suite.cache`: a new state finds the environments that it replaces
    by their slot.
    """

    parent: Path
    interpreter: Interpreter
    spec: EnvironmentSpec
    inputs: Inputs
    slot: str
    state: str
    variant: str = ""
    excluded: Sequence[Path] = ()

    def places(self) -> Iterator[tuple[Path, bool]]:
        """The possible directories of the environment, each with whether the project is editable in it.

        If the project cannot be installed editable, the name of the directory includes a digest of its sources.
        """
        yield self.parent / f"{self.slot}-{self.state}", self.spec.editable
        if self.spec.project and self.spec.editable and self.interpreter.version_info[:2] < (3, 8):
            yield self.parent / f"{self.slot}-{self.state}-{self.inputs.sources(self.spec.project)[:12]}", False


def make_environment(
    interpreter: Interpreter,
    recipe: Recipe,
    *,
    cache: Path,
    environ: Mapping[str, str],
    leases: ExitStack,
    variant: Variant | None = None,
    lock_timeout: float = 300.0,
    excluded: Sequence[Path] = (),
    say: Callable[[str], None] | None = None,
) -> SuiteEnvironment:
    """Return the environment for `recipe` under `interpreter`. Make it first if it is missing, damaged or out of date.

    It contains the newest pytest that supports this Python, the requirements of the recipe and of `variant`, and the
    project. Safe in any number of sessions at once: one makes it, the others wait up to `lock_timeout` seconds. It is
    not deleted before `leases` is closed. `excluded` are directories inside the project that are no part of it. `say`
    gets a line for each step that takes time.

    Raises `NoMatchError` if the project does not support this Python, `EnvironmentCreationError` if something cannot be
    installed, `LockTimeoutError`, `StoreError` if the cache cannot be read or written, and `InvalidSettingError` if a
    file of the project cannot be read. The directory is complete when it gets its name. The next session deletes what a
    killed one leaves.
    """
    _reject_unsupported(interpreter, recipe)
    parent = environments_directory(cache)
    spec = recipe.spec(interpreter, variant)
    inputs = Inputs(spec, environ=environ, excluded=excluded)
    # The executable can be a link, which may lead to another build of the same version later.
    inputs.parts[OF_PYTHON] = str(interpreter.base_prefix)
    name = variant.name if variant else ""
    slot = _digest(str(interpreter.key), str(interpreter.executable), str(spec.directory), name)
    plan = _Plan(
        parent=parent,
        interpreter=interpreter,
        spec=spec,
        inputs=inputs,
        slot=slot,
        state=_digest(_FORMAT, inputs.digest()),
        variant=name,
        excluded=excluded,
    )
    found = _find_existing(plan, leases)
    if isinstance(found, SuiteEnvironment):
        return found
    with locks.hold(
        parent / f".{slot}.lock",
        timeout=lock_timeout,
        purpose=f"for the environment of {interpreter.key.display_name}",
        setting="--python-cache",
        note=parent / f".{slot}.holder",
        on_wait=say,
    ):
        found = _find_existing(plan, leases)
        if isinstance(found, SuiteEnvironment):
            return found
        start = time.monotonic()
        uv = find_uv(environ)
        why = found or _what_changed(plan)
        if say is not None:
            label = f"{interpreter.key.display_name} {name}".rstrip()
            line = f"making an environment for {label} ({'uv' if uv else 'pip; faster with uv'})"
            say(f"{line}; {why}" if why else line)
        final, editable = _make(plan, environ=environ, uv=uv, lock_timeout=lock_timeout, say=say, why=why)
        leases.enter_context(lease(final))
        _delete_older(plan, final)
    return _read(final, interpreter, editable=editable, seconds=time.monotonic() - start)


def variables_of(environment: SuiteEnvironment, label: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that separate the sessions of several Pythons.

    Tests can read ``PYTEST_PYINSTALL_SUITE``, the label. pytest-django appends ``TOX_PARALLEL_ENV`` to the names of its
    test databases, so that sessions at the same time have databases of their own. Two sessions of pytest-testmon that
    open the same file at once fail.
    """
    variables = {"PYTEST_PYINSTALL_SUITE": label}
    plugins = {path.name.partition("-")[0] for path in environment.path.glob("[Ll]ib/*/site-packages/pytest_*-*")}
    if "pytest_testmon" in plugins:
        name = re.sub(r"[^\w.+-]", "_", label)
        variables["TESTMON_DATAFILE"] = f"{environ.get('TESTMON_DATAFILE') or '.testmondata'}-{name}"
    if "pytest_django" in plugins:
        name = re.sub(r"\W", "_", label)
        variables["TOX_PARALLEL_ENV"] = "_".join(filter(None, (environ.get("TOX_PARALLEL_ENV"), name)))
    return variables


_PREPARED = Path("pytest-pyinstall", "prepared")
"""This file in an environment means that the hooks of other plugins have prepared it."""


def is_prepared(environment: Path) -> bool:
    """Whether `mark_as_prepared` was called for `environment`."""
    return (environment / _PREPARED).exists()


def mark_as_prepared(environment: Path) -> None:
    """Accept the present content of `environment`, with the changes by hooks of other plugins. Raises `StoreError`."""
    try:
        record_contents(environment)
        (environment / _PREPARED).parent.mkdir(exist_ok=True)
        (environment / _PREPARED).touch()
    except OSError as error:
        message = f"cannot write into the environment {environment}: {error.strerror or error}"
        raise StoreError(message, hint="another directory: --python-cache DIR") from error


def _reject_unsupported(interpreter: Interpreter, recipe: Recipe) -> None:
    version = ".".join(map(str, interpreter.version_info[:3]))
    if recipe.project and recipe.requires_python and version not in SpecifierSet(recipe.requires_python):
        message = f"the project needs Python {recipe.requires_python}, but this is {version}"
        raise NoMatchError(message, hint="--python supported")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# Existing environments


def _find_existing(plan: _Plan, leases: ExitStack) -> SuiteEnvironment | str | None:
    """The existing environment, with a lease; a description of its damage, if it is damaged; None if there is none."""
    for final, editable in plan.places():
        if not final.is_dir():
            continue
        with ExitStack() as stack:
            stack.enter_context(lease(final))
            try:
                found = _read(final, plan.interpreter, editable=editable)
                damage = find_damage(final, found.python) if found.python.exists() else "its Python is missing"
            except (OSError, ValueError, KeyError, TypeError) as error:
                return f"the existing one is damaged: {error}"
            if damage:
                return f"the existing one is damaged: {damage}"
            leases.enter_context(stack.pop_all())
            note_use(final)
            return found
    return None


def _read(path: Path, interpreter: Interpreter, *, editable: bool, seconds: float = 0.0) -> SuiteEnvironment:
    record = parse_json((path / "suite.json").read_bytes())
    python = venv.scripts(path, interpreter.key) / record["executable"]
    return SuiteEnvironment(path=path, python=python, pytest=record["pytest"], editable=editable, seconds=seconds)


def _what_changed(plan: _Plan) -> str:
    """Describe what changed since the last environment of the slot was made; empty if there is none."""
    records = []
    for path in plan.parent.glob(f"{plan.slot}-*/suite.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            parts = parse_json(path.read_bytes())["parts"]
            records.append((path.stat().st_mtime, {str(name): str(value) for name, value in parts.items()}))
    if not records:
        return ""
    parts = dict(plan.inputs.parts)
    if plan.spec.project and plan.interpreter.version_info[:2] < (3, 8):
        parts["the sources"] = plan.inputs.sources(plan.spec.project)
    names = changes({"the sources": parts.get("the sources", ""), **max(records, key=lambda row: row[0])[1]}, parts)
    names = [name for name in names if name != "the sources"] or names
    more = f" and {len(names) - _MOST_REASONS} more" if len(names) > _MOST_REASONS else ""
    return f"changed: {', '.join(names[:_MOST_REASONS])}{more}" if names else ""


def _delete_older(plan: _Plan, final: Path) -> None:
    """Delete the environments of earlier states, and those of the project whose Python is gone, unless in use."""
    older = [path for path in plan.parent.glob(f"{plan.slot}-*") if path != final]
    for path in (*older, *orphans(plan.parent, plan.spec.directory)):
        with suppress(OSError):
            if aside := move_unused_aside(path, is_locked=path in older):
                delete(aside)


# Making


def _make(
    plan: _Plan,
    *,
    environ: Mapping[str, str],
    uv: str | None,
    lock_timeout: float,
    say: Callable[[str], None] | None,
    why: str,
) -> tuple[Path, bool]:
    # A private name: the installer of a killed session may still run, and write into its own directory.
    scratch = plan.parent / scratch_name()
    interpreter, spec = plan.interpreter, plan.spec
    try:
        for left in children(plan.parent):
            if is_abandoned(left):  # of other projects too: their next session may never come
                discard(left)
        python = venv.create(scratch, key=interpreter.key, base_executable=interpreter.base_executable, environ=environ)
        places = {editable: final for final, editable in plan.places()}
        editable = _Installer(plan, scratch, environ=environ, uv=uv, lock_timeout=lock_timeout, say=say).run()
        final = places[editable]
        parts = dict(plan.inputs.parts)
        if not editable and spec.project and spec.editable:
            parts["the sources"] = plan.inputs.sources(spec.project)
        record = {
            "executable": python.name,
            "pytest": _pytest_version(scratch, interpreter),
            "python": str(interpreter.key),
            "project": str(spec.directory),
            "variant": plan.variant,
            "why": why or "new",
            "parts": parts,
        }
        _relocate(venv.scripts(scratch, interpreter.key), scratch, final)
        _precompile(scratch, interpreter, environ=environ)
        (scratch / "suite.json").write_text(json.dumps(record, indent=1), encoding="utf-8", errors="surrogateescape")
        record_contents(scratch)
        discard(final)
        scratch.rename(final)
        return final, editable
    except EnvironmentCreationError as error:
        raise _without_scratch(error, scratch, interpreter) from error
    except OSError as error:
        raise _unwritable(plan.parent, error.strerror or str(error)) from error
    finally:
        discard(scratch)


def _unwritable(directory: Path, why: str, *, other_ways: str = "") -> StoreError:
    message = f"cannot make an environment below {directory}: {why}"
    return StoreError(message, hint=f"another directory: --python-cache DIR{other_ways}")


def _without_scratch(error: EnvironmentCreationError, scratch: Path, interpreter: Interpreter) -> PyinstallError:
    """The same error with one line of the installer's output, and a hint that works without `scratch`, now deleted.

    Pythons with the same cause get the same message, so that a session shows it once.
    """
    name = interpreter.key.display_name
    first, *output = error.message.splitlines()
    what = first.partition(", exit code ")[0].replace(f" into {scratch}", "")
    what = "cannot install" if what.startswith("cannot install ") else what.replace(str(scratch), "an environment")
    from pytest_pyinstall.interpreter.reasons import NO_SPACE, reason_of  # only for errors

    line = reason_of(error.output.splitlines() or output)
    if line == NO_SPACE:  # pip does not say where
        return _unwritable(scratch.parent, NO_SPACE, other_ways=", or TMPDIR=DIR")
    if line.startswith(NO_SPACE) and str(scratch) in line:
        return _unwritable(scratch.parent, NO_SPACE)
    line = line.replace(str(scratch), "an environment")
    message = f"{what}: {line}" if line else what
    hint = error.hint.replace(str(scratch), f"env-{name}")
    with suppress(ValueError):  # not a command
        words = shlex.split(error.hint)
        if str(venv.executable(scratch, interpreter.key)) in words and "install" in words:
            hint = _command_with_environment(words, scratch, f"env-{name}", interpreter)
    shown = type(error)(message, hint=hint)
    shown.output = error.output
    return shown


def _command_with_environment(words: Sequence[str], scratch: Path, place: str, interpreter: Interpreter) -> str:
    """The command `words` of an installer, with another one before it that makes the environment.

    Without one it would fail: the base Python is externally managed, and may have no pip.
    """
    base = str(interpreter.base_executable)
    is_pip = words[0] == str(venv.executable(scratch, interpreter.key))
    first = [base, "-m", "venv", place] if is_pip else [words[0], "venv", "--quiet", "--python", base, place]
    second: list[str] = []
    for word in words:
        if second[-1:] == ["-c"] and not Path(word).exists():
            second.pop()  # constraints in a temporary directory
        else:
            second.append(word.replace(str(scratch), place))
    return f"{shlex.join(first)} && {shlex.join(second)}"


def _pytest_version(path: Path, interpreter: Interpreter) -> str:
    packages = _packages_of(path, interpreter)
    names = [found.name for found in packages.glob("pytest-*.dist-info")] if packages else []
    if not names:
        message = f"pytest was not installed into the environment for {interpreter.key.display_name}"
        raise EnvironmentCreationError(message)
    return names[0].removeprefix("pytest-").removesuffix(".dist-info")


def _packages_of(path: Path, interpreter: Interpreter) -> Path | None:
    """The site-packages of the environment at `path`."""
    library = "Lib" if interpreter.key.target.os == "windows" else "lib/*"
    return next(path.glob(f"{library}/site-packages"), None)


def _relocate(directory: Path, scratch: Path, final: Path) -> None:
    """Replace the path `scratch` in scripts, which contain the absolute path of their environment, by `final`."""
    before, after = os.fsencode(scratch), os.fsencode(final)
    for path in directory.iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if before in content and not content.startswith((b"\x7fELF", b"MZ")):
            path.write_bytes(content.replace(before, after))


# Installing


class _Installer:
    """Installs the contents of `plan` into the environment at `path`."""

    def __init__(
        self,
        plan: _Plan,
        path: Path,
        *,
        environ: Mapping[str, str],
        uv: str | None,
        lock_timeout: float,
        say: Callable[[str], None] | None,
    ) -> None:
        self._plan = plan
        self._path = path
        # With links, a test that writes into its environment would change uv's cache, and with it all environments.
        self._environ = {"UV_LINK_MODE": "copy", **environ}
        self._uv = uv
        self._lock_timeout = lock_timeout
        self._say = say
        self._words: list[str] = []

    def run(self) -> bool:
        """Install everything, and return whether the project is editable. Raises what `_run` raises.

        Prepares what `_run` needs: requirement files with paths that pip resolves as their author meant, and the names
        of the project's packages, if directories of ours would confuse setuptools.
        """
        spec = self._plan.spec
        with temporary_directory() as scratch:
            words = (word for line in spec.requirements for word in pip_arguments(line, spec.directory, scratch))
            pytest = self._pytest()
            self._words = [*words] if pytest in spec.requirements else [pytest, *words]
            if spec.constraints:
                (scratch / "constraints.txt").write_text("\n".join(spec.constraints), encoding="utf-8")
                self._words += ["-c", str(scratch / "constraints.txt")]
            copied = {project for project, _ in self._plan.inputs.copied}
            if spec.project and self._plan.interpreter.version_info[:2] < (3, 8):
                copied.add(spec.project)
            more = explicit_packages(spec.project, self._plan.excluded) if spec.project else ""
            with fresh_builds(copied, self._environ, directory=spec.directory, more=more) as self._environ:
                return self._run()

    def _pytest(self) -> str:
        """The requirement for pytest. With the resolution ``lowest`` it needs a bound: the oldest pytest is too old.

        The project's own bounds count, but a plain ``pytest`` has none. pytest 8.2.0 and 8.2.1 look for packages in
        each directory up to the root, and fail if they may not.
        """
        spec = self._plan.spec
        is_bounded = any(re.match(r"pytest(?:\[[^]]*\])?\s*[^\s;\w.-]", line) for line in spec.requirements)
        if not spec.resolution.startswith("lowest") or is_bounded:
            return "pytest"
        return "pytest>=8.2.2" if self._plan.interpreter.version_info[:2] >= (3, 8) else "pytest>=6.2.5"

    def _run(self) -> bool:
        """Install everything, and return whether the project is editable.

        Only one Python at a time builds the project. If the result is the same for all Pythons, it is kept as a wheel,
        which the other Pythons install. Raises `EnvironmentCreationError`, `LockTimeoutError`.
        """
        spec = self._plan.spec
        project = spec.project
        if project is None or project in self._plan.inputs.named:
            with self._building(project) if self._plan.inputs.named else ExitStack():
                self._install()
            return spec.editable
        extras = f"[{','.join(spec.extras)}]" if spec.extras else ""
        target = f"{project}{extras}"
        if not spec.editable:
            with self._building(project):
                self._install(target)
            return False
        if self._plan.interpreter.version_info[:2] < (3, 8):
            return self._install_on_old_python(target, project)
        wheels = wheel_directory(self._plan.parent, project, self._plan.inputs)
        # For uv the dependencies of a wheel are indirect, and `lowest-direct` applies to direct ones only.
        wheel = next(wheels.glob("*.whl"), None) if not spec.resolution else None
        if wheel is None:
            with self._building(project):
                wheel = next(wheels.glob("*.whl"), None) if not spec.resolution else None
                if wheel is None:
                    self._install("-e", target)
                    keep_wheel(self._packages(), project, into=wheels)
                    return True
        try:
            name = wheel.name.partition("-")[0]
            self._install(f"{name}{extras} @ {wheel.as_uri()}")
            install_as_editable(self._packages(), wheel)
        except (EnvironmentCreationError, OSError, ValueError):
            # So that an error names the project itself, and not a wheel that its author has never seen.
            with self._building(project):
                self._install("-e", target)
        return True

    def _install(self, *more: str) -> None:
        """Install the requirements of the plan, and `more`. Raises what `install` raises.

        If pip fails, its only reason can be a wheel that does not support this Python. Without that wheel, pip names
        what it cannot find. Each round excludes the wheels that pip has named, because it does not look at all of them.
        """
        interpreter = self._plan.interpreter
        version = ".".join(map(str, interpreter.version_info[:3]))
        excluded: dict[str, str] = {}
        first: EnvironmentCreationError | None = None
        while True:
            try:
                self._install_without(excluded, *more)
            except EnvironmentCreationError as error:
                from pytest_pyinstall.interpreter.reasons import undecodable_file, unusable_wheels  # only for errors

                first = first or error
                found = unusable_wheels(error.output, self._plan.spec.directory, version)
                words = " ".join([*self._words, *more])
                new = {wheel for wheel in found.keys() - excluded.keys() if wheel.replace("!=", "-") not in words}
                if new:
                    excluded |= {wheel: found[wheel] for wheel in new}
                    continue
                first.output = error.output
                for wheel, requires in excluded.items():
                    fact = f"{wheel.replace('!=', ' ')} requires Python {requires}"
                    first.output = first.output.replace(f"The user requested (constraint) {wheel}\n", f"{fact}\n")
                if file := undecodable_file(first.output, self._words, self._plan.spec.directory):
                    first.output = f"{first.output.rstrip()}\nin {file}"
                raise first from None
            return

    def _install_without(self, excluded: Iterable[str], *more: str) -> None:
        interpreter = self._plan.interpreter
        with temporary_directory() if excluded else nullcontext() as scratch:
            words = list(more)
            if scratch is not None:
                (scratch / "unusable.txt").write_text("\n".join(excluded), encoding="utf-8")
                words += ["-c", str(scratch / "unusable.txt")]
            install(
                self._path,
                *self._words,
                *words,
                key=interpreter.key,
                base_executable=interpreter.base_executable,
                environ=self._environ,
                uv=self._uv,
                directory=self._plan.spec.directory,
                refresh=[name for _, name in self._plan.inputs.copied],
                resolution=self._plan.spec.resolution,
            )

    def _install_on_old_python(self, target: str, project: Path) -> bool:
        """Install the project editable if that is possible, else as a copy. Returns whether it is editable.

        Build backends that can build editable wheels may not support Pythons before 3.8.
        """
        first: EnvironmentCreationError | None = None
        with self._building(project):
            for way in (("-e", target), (target,)):
                try:
                    self._install(*way)
                except EnvironmentCreationError as error:
                    first = first or error
                else:
                    return way[0] == "-e"
        raise first or AssertionError(target)

    def _packages(self) -> Path:
        packages = _packages_of(self._path, self._plan.interpreter)
        if packages is None:
            raise EnvironmentCreationError(f"{self._path} has no site-packages")
        return packages

    @contextmanager
    def _building(self, project: Path | None) -> Iterator[None]:
        """Hold the source tree exclusively: setuptools, for example, writes its egg-info there."""
        name = _digest(str(project or self._plan.spec.directory))
        # The timeout is for builds of other sessions. The Pythons of this session wait for each other without one.
        with _LOCKS_GUARD:
            ours = _LOCKS.setdefault(name, threading.Lock())
        with (
            ours,
            locks.hold(
                self._plan.parent / f".project-{name}.lock",
                timeout=self._lock_timeout,
                purpose=f"for the build of {project or self._plan.spec.directory}",
                setting="--python-cache",
                note=self._plan.parent / f".project-{name}.holder",
                on_wait=self._say,
            ),
        ):
            yield


_LOCKS: dict[str, threading.Lock] = {}
_LOCKS_GUARD = threading.Lock()


def pip_arguments(line: str, directory: Path, scratch: Path) -> list[str]:
    """A line of requirements as arguments for pip, which is started in `directory`. `scratch` is for adapted files."""
    if not line.startswith("-"):
        return [_absolute(line, directory)]
    if (option := OPTION.match(line)) and not option[1].endswith(("f", "links")) and "://" not in option[2]:
        path = directory / option[2].strip().strip("'\"")
        return [option[1], str(_with_absolute_paths(path, directory, scratch))]
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    return [_absolute(word, directory) for word in words]


def _with_absolute_paths(path: Path, directory: Path, scratch: Path) -> Path:
    """The requirement file at `path`, or a copy of it with absolute paths if pip would not find the relative ones.

    pip resolves paths in it relative to `directory`, in which it is started; some authors mean the file's directory.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return path  # the installer reports what is wrong with it
    is_changed = False
    lines = []
    for line in lines_of(text):
        option = OPTION.match(line)
        target = None if option else local_target(line, directory, path.parent)
        if option and not option[1].endswith(("f", "links")) and "://" not in option[2]:
            inner = path.parent / option[2].strip().strip("'\"")
            meant = _with_absolute_paths(inner, directory, scratch)
            is_changed |= meant != inner
            lines.append(f"{option[1]} {meant}")
        elif target and target != local_target(line, directory):
            is_changed = True
            extras = f"[{','.join(target.extras)}]" if target.extras else ""
            place = f"{target.name}{extras} @ {target.path.as_uri()}" if target.name else f"{target.path}{extras}"
            marker = f" ; {target.marker}" if target.marker else ""
            lines.append(f"{'-e ' if target.editable else ''}{place}{marker}")
        else:
            lines.append(line)
    if not is_changed:
        return path
    copy = scratch / f"{len(list(scratch.iterdir()))}-{path.name}"
    copy.write_text("\n".join(lines), encoding="utf-8")
    return copy


def _absolute(word: str, directory: Path) -> str:
    """Make the path of ``file:`` in `word` absolute, because pip accepts no other."""
    match = re.fullmatch(r"(.*?)\bfile:(?!/)([^\[\s]+)(.*)", word)
    if match is None:
        return word
    path = (directory / match[2]).resolve()
    return f"{match[1]}{path.as_uri() if match[1].rstrip().endswith('@') else path}{match[3]}"


_PRECOMPILE = """\
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


def _precompile(path: Path, interpreter: Interpreter, *, environ: Mapping[str, str]) -> None:
    """Write the byte code of what pytest imports, if ``PYTHONDONTWRITEBYTECODE`` is set.

    Without it, each session would compile these modules again. The user sets the variable to keep byte code out of the
    project. We write it only into the environment and into our store.
    """
    if not environ.get("PYTHONDONTWRITEBYTECODE"):
        return  # the first session will write it
    roots = [str(path), *([str(interpreter.base_prefix)] if interpreter.source == "store" else [])]
    variables = {name: value for name, value in environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
    python = venv.executable(path, interpreter.key)
    with suppress(OSError):
        run(
            [str(python), "-I", "-c", _PRECOMPILE, *roots],
            input=None,
            env=venv.clean(variables, interpreter.key),
            cwd=path,
        )
