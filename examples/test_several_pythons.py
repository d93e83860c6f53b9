"""What a test can do with the Pythons that were asked for: ``pytest examples --python 3.9,3.13``."""

import shutil

import pytest

from pytest_pyinstall import Environment, Interpreter


def average(*numbers):
    """Runs in the other Python: a function of this file, its source sent over, its value brought back."""
    import statistics

    return statistics.mean(numbers)


def test_every_python_runs(python: Interpreter) -> None:
    answer = python.run("-c", "import sys; print('%d.%d' % sys.version_info[:2])")

    assert answer.stdout.strip() == f"{python.version.major}.{python.version.minor}"


def test_a_function_runs_over_there(python: Interpreter) -> None:
    assert python.call(average, 1, 2, 6) == 3


def test_an_environment_is_fresh(python_env: Environment) -> None:
    assert python_env.run("python", "-c", "import sys; print(sys.prefix)").stdout.strip() == str(python_env.path)


@pytest.mark.requires_python(">=3.8")
def test_the_walrus(python: Interpreter) -> None:
    assert python.run("-c", "print(n := 8)").stdout == "8\n"


def test_each_stands_on_path(pythons: tuple[Interpreter, ...]) -> None:
    for python in pythons:
        assert shutil.which(f"python{python.version.major}.{python.version.minor}")
