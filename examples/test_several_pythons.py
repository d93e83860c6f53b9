"""Tests that use several Pythons: ``pytest examples --python 3.9,3.13``."""

import shutil

import pytest

from pytest_pyinstall import Environment, Interpreter


def average(*numbers):
    """`python.call` runs this in the other Python."""
    import statistics

    return statistics.mean(numbers)


def test_run(python: Interpreter) -> None:
    answer = python.run("-c", "import sys; print('%d.%d' % sys.version_info[:2])")

    assert answer.stdout.strip() == f"{python.version.major}.{python.version.minor}"


def test_call(python: Interpreter) -> None:
    assert python.call(average, 1, 2, 6) == 3


def test_environment(python_env: Environment) -> None:
    assert python_env.run("python", "-c", "import sys; print(sys.prefix)").stdout.strip() == str(python_env.path)


@pytest.mark.requires_python(">=3.8")
def test_walrus(python: Interpreter) -> None:
    assert python.run("-c", "print(n := 8)").stdout == "8\n"


def test_path(pythons: tuple[Interpreter, ...]) -> None:
    for python in pythons:
        assert shutil.which(f"python{python.version.major}.{python.version.minor}")
