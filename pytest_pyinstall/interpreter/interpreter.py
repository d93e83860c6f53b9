"""A probed Python, and virtual environments of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system.processes import ending_of, run, tail
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from packaging.version import Version

__all__ = ["Environment", "Interpreter", "RunError"]

__tracebackhide__ = True  # a failed test shows its own line, and the message; all with --full-trace


class RunError(subprocess.CalledProcessError):
    """A `subprocess.CalledProcessError` that also shows the output of the process."""

    __module__ = "pytest_pyinstall"  # a failed test shows the name that users import

    def __str__(self) -> str:
        command = [str(part) for part in self.cmd]
        shown = subprocess.list2cmdline(command[:1]) + "".join(f" {_shortened(part)}" for part in command[1:])
        streams = (("standard output", self.stdout), ("standard error", self.stderr))
        output = "".join(f"\n--- {name} ---\n{tail(text)}" for name, text in streams if text and text.strip())
        return f"{shown}\n{ending_of(self.returncode)}{output}"


class Interpreter(Value):
    """A Python: what it reported about itself, and methods to use it.

    `executable` is the file to run. In a virtual environment, `base_executable` is the interpreter that the environment
    was made from; otherwise both are the same. `source` is where the Python was found: ``store``, ``uv``, ``pyenv``,
    ``path``, ``environment``, and so on. You can pickle an interpreter, or convert it with `to_json`.
    """

    executable: Path
    key: Key
    version_info: tuple[int, int, int, str, int]
    prefix: Path
    base_prefix: Path
    base_executable: Path
    source: str

    def __str__(self) -> str:
        return f"{self.key.display_name} ({self.executable})"

    def __repr__(self) -> str:
        # pytest shows it above each failure of a test that uses one.
        return f"<Interpreter {self.key} at {self.executable}>"

    def __fspath__(self) -> str:
        return os.fspath(self.executable)

    @property
    def version(self) -> Version:
        """The version. It includes the pre-release part, so that ``python.version >= Version("3.13")`` is exact."""
        return self.key.version

    @property
    def implementation(self) -> str:
        """``cpython``, ``pypy`` or ``graalpy``."""
        return self.key.implementation

    @property
    def free_threaded(self) -> bool:
        return self.key.is_free_threaded

    @property
    def debug(self) -> bool:
        return self.key.is_debug

    def run(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the interpreter with `args`, and return the exit code and the output, decoded as UTF-8.

        Bytes that are not UTF-8 become ``\\xNN``. Without `input`, standard input is empty. Without `env`, the process
        gets the variables of this process, except those that lead to the files of another Python (``PYTHONHOME``,
        ``VIRTUAL_ENV``, ``LD_LIBRARY_PATH``, …). With `check`, an exit code other than 0 raises `RunError`. After
        `timeout` seconds, the process is killed and `subprocess.TimeoutExpired` is raised.

        If this process ends first, even by SIGKILL, the process is killed too (not on Windows). On Linux, this includes
        its children, except daemons.
        """
        command = [os.fspath(self.executable), *(os.fspath(word) for word in args)]
        variables = _variables(self.key) if env is None else env
        done = run(command, input=input, env=variables, cwd=cwd, timeout=timeout)
        return _checked(done, check=check)

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the source of `function` in this Python, and return its value.

        The function must be self-contained: defined with `def`, not decorated, and using only its parameters, builtins
        and what it imports in its own body. Its syntax must be valid in the other Python, except for annotations, which
        are not evaluated. A default is evaluated in the other Python, or here if it needs a name of its module.

        Arguments and the value are sent as JSON: None, bool, int, float, str, list, and dict with str keys arrive
        equal, nested to any depth. A tuple arrives as a list. Anything else (bytes, set, a dict with other keys,
        subclasses of these types) is an error.

        The function's output appears on this process's standard output and error after it ends, and its standard input
        is empty. If this process ends first, the function's process is killed, as in `run`. Background processes that
        the function leaves are not ended.

        Raises `UsageError` for something that cannot be sent or run, `TypeError` for arguments that do not match the
        function, and `CallError` with the traceback if the function raises or its process dies.
        """
        from pytest_pyinstall.interpreter.call import call

        return call(function, args, kwargs, executable=self.executable, key=self.key, environ=_variables(self.key))

    def environment(self, path: str | os.PathLike[str]) -> Environment:
        """Create a virtual environment of this Python at `path`, which must not exist or be empty.

        The environment has no pip before you install something. Raises `EnvironmentCreationError`, and leaves `path` as
        it was.
        """
        where = Path(path).absolute()
        executable = venv.create(where, key=self.key, base_executable=self.base_executable, environ=os.environ)
        python = Interpreter(
            executable=executable,
            key=self.key,
            version_info=self.version_info,
            prefix=where,
            base_prefix=self.base_prefix,
            base_executable=self.base_executable,
            source="environment",
        )
        return Environment(path=where, python=python)

    def to_json(self) -> dict[str, str]:
        """All fields as strings, for `json`, execnet and xdist's ``workerinput``. `from_json` reverses it."""
        return {
            "executable": str(self.executable),
            "key": str(self.key),
            "version_info": json.dumps(self.version_info),
            "prefix": str(self.prefix),
            "base_prefix": str(self.base_prefix),
            "base_executable": str(self.base_executable),
            "source": self.source,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> Self:
        """The interpreter from a result of `to_json`. Raises `ValueError` or `KeyError` for anything else."""
        major, minor, micro, stage, serial = json.loads(document["version_info"])
        return cls(
            executable=Path(document["executable"]),
            key=Key.parse(document["key"]),
            version_info=(major, minor, micro, stage, serial),
            prefix=Path(document["prefix"]),
            base_prefix=Path(document["base_prefix"]),
            base_executable=Path(document["base_executable"]),
            source=document["source"],
        )


class Environment(Value):
    """A virtual environment. `python` is its `Interpreter`."""

    path: Path
    python: Interpreter

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def bin(self) -> Path:
        """The directory of its programs: ``bin``, or ``Scripts`` on Windows."""
        return venv.scripts(self.path, self.python.key)

    def install(self, *requirements: str | os.PathLike[str]) -> None:
        """Install `requirements`, in the syntax of ``pip install``, including paths.

        If uv is available, it installs them. Otherwise the environment's pip does, and is installed first if it is
        missing. Variables of pip and uv apply, except those that name another target directory. Raises
        `EnvironmentCreationError` with the end of the installer's output.
        """
        from pytest_pyinstall.interpreter import packages

        words = [os.fspath(requirement) for requirement in requirements]
        with _fresh_builds(words) as environ:
            packages.install(
                self.path,
                *words,
                key=self.python.key,
                base_executable=self.python.base_executable,
                environ=environ,
                uv=packages.find_uv(os.environ),
            )

    def run(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment: ``env.run("pip", "list")``, ``env.run("python", "-m", "demo")``.

        The program is looked up in `bin`, then on ``PATH``. If the first word is an option (``-m``, ``-c``), it is the
        environment's Python. Without `env`, the environment is activated for the program. The other parameters are
        those of `Interpreter.run`. Raises `EnvironmentCreationError` if there is no such program.
        """
        variables = self._variables() if env is None else dict(env)
        words = [os.fspath(word) for word in args]
        if not words or words[0].startswith("-"):
            words.insert(0, "python")
        command = [self._program(words[0], variables), *words[1:]]
        done = run(command, input=input, env=variables, cwd=cwd, timeout=timeout)
        return _checked(done, check=check)

    def _variables(self) -> dict[str, str]:
        variables = _variables(self.python.key)
        variables["VIRTUAL_ENV"] = str(self.path)
        variables["PATH"] = os.pathsep.join(filter(None, (str(self.bin), variables.get("PATH"))))
        return variables

    def _program(self, name: str, variables: Mapping[str, str]) -> str:
        path = os.pathsep.join(filter(None, (str(self.bin), variables.get("PATH"))))
        import shutil

        found = shutil.which(name, path=path)
        if found is None:
            msg = f"there is no program {name!r} in {self.bin}, nor on PATH"
            raise EnvironmentCreationError(msg, hint=f'python_env.install("{name}")')
        return found


def _variables(key: Key) -> dict[str, str]:
    # Tests call `run` and `call` directly, so the environment is read here.
    variables = venv.clean(os.environ, key)
    if sys.platform == "win32":
        variables.setdefault("PYTHONIOENCODING", "utf-8")  # else a pipe gets the ANSI code page
    return variables


def _fresh_builds(requirements: Iterable[str]) -> AbstractContextManager[Mapping[str, str]]:
    """Our variables for an installer, so that a copy of a project on this machine is not made from an earlier build."""
    names = {name for word in requirements for name in (word, word.partition("[")[0])}
    paths = [Path(name).absolute() for name in names if os.sep in name or name in {".", ".."}]
    projects = {path for path in paths for name in ("pyproject.toml", "setup.py") if (path / name).is_file()}
    if not projects:
        return nullcontext(os.environ)
    from pytest_pyinstall.interpreter.builds import fresh_builds

    return fresh_builds(projects, os.environ, directory=Path())


def _checked(done: subprocess.CompletedProcess[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    if check and done.returncode:
        raise RunError(done.returncode, done.args, done.stdout, done.stderr)
    return done


def _shortened(part: str, most: int = 200) -> str:
    text = subprocess.list2cmdline([part])
    return text if len(text) <= most else f"{text[:most]}…"
