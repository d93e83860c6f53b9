"""The hooks that conftests and other plugins can implement."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_pyinstall.interpreter.interpreter import Environment, Interpreter

__all__ = ["pytest_pyinstall_environment", "pytest_pyinstall_provided"]


@pytest.hookspec
def pytest_pyinstall_provided(interpreter: "Interpreter", config: pytest.Config) -> None:
    """A Python that the session or one of its tests requested is available and works.

    Called once for each Python, before a test uses it: when the session starts for those of ``--python``, during
    collection for those of marks, and during the test for those of ``install_python``. With pytest-xdist, it is called
    in the process that provided the Python. Not called if no test will run, as with ``--collect-only``. An exception
    ends the session, or the test. With ``--python-suite`` it is called in the outer session, which loads no conftest.
    """


@pytest.hookspec
def pytest_pyinstall_environment(environment: "Environment", python: "Interpreter", config: pytest.Config) -> None:
    """`environment` was created from `python`, and no test has used it yet.

    The fixture ``python_env`` or ``--python-suite`` created it. In a suite, the hook is called in the outer session,
    which loads no conftest, and once for each environment, which later sessions use too. What it installs stays. An
    exception fails the test, or becomes the error of that Python, and the next session calls the hook again.
    """
