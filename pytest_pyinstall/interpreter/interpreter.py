"""A Python that answered, and the virtual environments made from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter import environment as venv
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system.processes import run, signal_name, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packaging.version import Version

__all__ = ["Environment", "Interpreter", "RunError"]


class RunError(subprocess.CalledProcessError):
    """A `CalledProcessError` whose text ends with what the process said last, so that a test's traceback shows it."""

    def __str__(self) -> str:
        command = [str(part) for part in self.cmd]
        shown = subprocess.list2cmdline(command[:1]) + "".join(f" {_shortened(part)}" for part in command[1:])
        ending = f"ended with exit code {self.returncode}"
        if self.returncode < 0:
            ending = f"was ended by {signal_name(-self.returncode)}"
        streams = (("standard output", self.stdout), ("standard error", self.stderr))
        said = "".join(f"\n--- {name} ---\n{tail(text)}" for name, text in streams if text and text.strip())
        return f"{shown}\n{ending}{said}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Interpreter:
    """A Python that answered: what it said about itself, and ways to use it.

    `executable` is what is run, `base_executable` the same except in a virtual environment, where it is the
    interpreter that the environment was made from. `source` says where it was found: ``store``, ``uv``, ``pyenv``,
    ``path``, ``environment``, … It can be pickled, and `to_json` makes something that JSON can carry.
    """

    executable: Path
    key: Key
    version_info: tuple[int, int, int, str, int]
    prefix: Path
    base_prefix: Path
    base_executable: Path
    source: str

    def __str__(self) -> str:
        return f"{self.key.short} ({self.executable})"

    def __repr__(self) -> str:
        # pytest shows it above each failure of a test that has one.
        return f"<Interpreter {self.key} at {self.executable}>"

    def __fspath__(self) -> str:
        return os.fspath(self.executable)

    @property
    def version(self) -> Version:
        """With its pre-release part, so that ``python.version >= Version("3.13")`` is exact."""
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
        """Run it with `args`, and get back the exit code and what it wrote, decoded as UTF-8.

        Bytes that are not UTF-8 become ``\\xNN``. Without `input`, standard input is empty. Without `env`, it gets
        the variables of this process, except those that would send it to the files of another Python
        (``PYTHONHOME``, ``VIRTUAL_ENV``, ``LD_LIBRARY_PATH``, …). With `check`, an exit code other than 0 raises
        `RunError`, a `subprocess.CalledProcessError` that shows what it wrote. After `timeout` seconds it is killed and
        `subprocess.TimeoutExpired` raised.
        """
        __tracebackhide__ = True  # a test's failure shows the test's line, and what the process said
        command = [os.fspath(self.executable), *(os.fspath(word) for word in args)]
        variables = _variables(self.key) if env is None else env
        done = run(command, input=input, env=variables, cwd=cwd, timeout=timeout)
        return _checked(done, check=check)

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the source of `function` over there, and get back its value.

        The function must be whole in itself: written with `def` and not decorated, using only its parameters, builtins
        and what it imports in its own body. Its annotations are not evaluated, so they may be newer than the other
        Python; the rest of its syntax may not. Arguments are bound here; a default is evaluated over there, or, where
        it needs a name of its module, here.

        Arguments and the value travel as JSON: None, bool, int, float, str, list, and dict with str keys, nested as you
        like, arrive equal. A tuple arrives as a list. Anything else (bytes, set, a dict with other keys, subclasses of
        these types) is refused, never changed on the way. What the function prints comes out of this process's standard
        output and error when it has ended, and standard input is empty over there.
        What it leaves running in the background is not waited for.

        Raises `UsageError` for what cannot be carried or run over there, `TypeError` for arguments that do not fit the
        function, and `CallError` with the other side's traceback where the function raised or its process died.
        """
        __tracebackhide__ = True
        from pytest_pyinstall.interpreter.call import call

        return call(function, args, kwargs, executable=self.executable, key=self.key, environ=_variables(self.key))

    def environment(self, path: str | os.PathLike[str]) -> Environment:
        """A new virtual environment of this Python at `path`, without pip until something is installed.

        `path` must be missing or empty; on failure it is so again. Raises `EnvironmentCreationError`.
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
        """All of it in strings, for `json`, execnet and xdist's ``workerinput``. `from_json` is the way back."""
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
        """What `to_json` made. Raises `ValueError` or `KeyError` for anything else."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment: `python` is its own `Interpreter`."""

    path: Path
    python: Interpreter

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def bin(self) -> Path:
        """Where its programs are: ``bin``, on Windows ``Scripts``."""
        return venv.scripts(self.path, self.python.key)

    def install(self, *requirements: str | os.PathLike[str]) -> None:
        """Install `requirements`, which are what ``pip install`` takes, paths included.

        Done by `uv` where there is one, else by the environment's own pip, put there first if it is missing. Index
        settings of the environment hold; variables that name another place to install to do not. Raises
        `EnvironmentCreationError` with the end of the installer's output.
        """
        from pytest_pyinstall.interpreter import packages

        packages.install(
            self.path,
            *(os.fspath(requirement) for requirement in requirements),
            key=self.python.key,
            base_executable=self.python.base_executable,
            environ=os.environ,
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

        The first word is looked up in `bin`, then on ``PATH``; where it is an option (``-m``, ``-c``) all words go to
        the environment's Python. Without `env`, the program gets this process's variables as for `Interpreter.run`,
        with the environment activated. The rest is as for `Interpreter.run`. Raises `EnvironmentCreationError` for a
        program that is not there.
        """
        __tracebackhide__ = True
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
        found = shutil.which(name, path=path)
        if found is None:
            msg = f"there is no program {name!r} in {self.bin}, nor on PATH"
            raise EnvironmentCreationError(msg, hint=f'python_env.install("{name}")')
        return found


def _variables(key: Key) -> dict[str, str]:
    # Tests call run and call directly, so the world comes in here and not through a door.
    variables = venv.clean(os.environ, key)
    if sys.platform == "win32":
        variables.setdefault("PYTHONIOENCODING", "utf-8")  # else a pipe gets the ANSI code page
    return variables


def _checked(done: subprocess.CompletedProcess[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    __tracebackhide__ = True
    if check and done.returncode:
        raise RunError(done.returncode, done.args, done.stdout, done.stderr)
    return done


def _shortened(part: str, most: int = 200) -> str:
    text = subprocess.list2cmdline([part])
    return text if len(text) <= most else f"{text[:most]}…"
