"""What anyone who mistyped a request is told to type, where it was written."""

from pathlib import Path

import pytest

from pytest_pyinstall.configuration import corrected_at_origin, with_origin
from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
from pytest_pyinstall.request.request import parse_requests


def hint(*texts: object, origin: str) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        parse_requests(texts, directory=Path(), origin=origin)
    said = corrected_at_origin(caught.value, texts, origin=origin)
    assert said.message == caught.value.message
    return said.hint


@pytest.mark.parametrize(
    ("origin", "typed"),
    [
        ("--python", "pytest --python 3.9,3.11"),
        ("--python in PYTEST_ADDOPTS", "--python 3.9,3.11"),
        ("PYTEST_PYINSTALL_PYTHON", "PYTEST_PYINSTALL_PYTHON=3.9,3.11"),
        ("pyinstall_python in /p/pyproject.toml", 'pyinstall_python = ["3.9", "3.11"]'),
        ("pyinstall_python in /p/tox.ini", "pyinstall_python = 3.9, 3.11"),
        ("@pytest.mark.python", '@pytest.mark.python("3.9", "3.11")'),
        ("install", "pytest-pyinstall install 3.9 3.11"),
        ("exec", "pytest-pyinstall exec --python 3.9 3.11 -- COMMAND"),
        ("dir", "pytest-pyinstall dir --cache-key --python 3.9 3.11"),
        ("elsewhere", "3.9,3.11"),
    ],
)
def test_the_hint_is_all_of_it_corrected_as_it_stands_there(origin: str, typed: str) -> None:
    assert hint("3.9", "3.1l", origin=origin) == typed


def test_within_an_item_the_rest_stays() -> None:
    assert hint("3.9,cpytohn3.12,>=3.10,<3.13", origin="PYTEST_PYINSTALL_PYTHON") == (
        "PYTEST_PYINSTALL_PYTHON='3.9,cpython3.12,>=3.10,<3.13'"
    )


def test_a_number_gets_its_quotes() -> None:
    assert hint("3.9", 3.1, 3.11, origin="pyinstall_python") == 'pyinstall_python = ["3.9", "3.10", "3.11"]'


def test_of_nothing_something_is_made() -> None:
    assert hint(",", origin="--python") == "pytest --python 3.12"


def test_a_word_that_means_nothing_gets_what_would_mean_something() -> None:
    error = InvalidRequestError("'supported' needs a project", hint="latest")

    said = corrected_at_origin(error, ["3.9,supported"], origin="--python")

    assert str(said) == "--python: 'supported' needs a project\nhint: pytest --python latest"


def test_a_hint_that_is_no_request_stays() -> None:
    error = NoMatchError("no build of Python 3.99", hint="pytest-pyinstall list --all")

    assert str(corrected_at_origin(error, ["3.99"], origin="x")) == f"x: {error}"


def test_nobody_is_blamed_twice() -> None:
    error = with_origin(NoMatchError("no build"), origin="pyinstall_python")

    assert with_origin(error, origin="pyinstall_python").message == "pyinstall_python: no build"
