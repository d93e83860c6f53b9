"""The public names as users write them: type checkers read this file, and nothing runs it (``tox run -e types``)."""

import subprocess
from pathlib import Path
from typing import assert_type

from packaging.version import Version

from pytest_pyinstall import Environment, Interpreter, PyinstallError, Request, provision, provision_all
from pytest_pyinstall.errors import SeveralFailedError
from pytest_pyinstall.settings import Settings


def half(number: int) -> float:
    return number / 2


def use_an_interpreter(python: Interpreter) -> None:
    assert_type(python.executable, Path)
    assert_type(python.version, Version)
    assert_type(python.implementation, str)
    assert_type(python.free_threaded, bool)
    assert_type(python.source, str)
    assert_type(python.run("-c", "pass", check=False, timeout=3.0), subprocess.CompletedProcess[str])
    assert_type(python.environment(Path("env")), Environment)
    python.call(half, 1)


def use_an_environment(python_env: Environment, tmp_path: Path) -> None:
    assert_type(python_env.python, Interpreter)
    assert_type(python_env.bin, Path)
    python_env.install("attrs", "--no-deps")
    assert_type(python_env.run("python", cwd=tmp_path).stdout, str)


def use_the_functions(settings: Settings) -> None:
    assert_type(provision("3.12"), Interpreter)
    assert_type(provision(Request.parse("3.12"), settings=settings), Interpreter)
    assert_type(provision_all(["3.9", "3.13"]), list[Interpreter])
    assert_type(settings.store, Path)


def use_the_errors() -> None:
    try:
        provision("3.12")
    except SeveralFailedError as error:
        assert_type(error.errors, tuple[PyinstallError, ...])
    except PyinstallError as error:
        assert_type(error.hint, str)
        assert_type(error.exit_code, int)
