"""A text that is not a request gets the suggestion that the user probably meant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request.request import Request, parse_requests
from pytest_pyinstall.request.suggestions import suggestions


def first(text: str) -> str:
    """The first suggestion that is a request."""
    return next((each for each in suggestions(text) if is_request(each)), "")


def is_request(text: str) -> bool:
    try:
        return bool(parse_requests([text], directory=Path("/"), origin=""))
    except InvalidRequestError:
        return False


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("'3.12'", "3.12"),
        ("[3.12]", "3.12"),
        ("pypy3.10-7.3.12", "pypy3.10"),
        ("lts", "latest"),
        ("*", "supported"),
        ("system", "current"),
        (".python-version", "pinned"),
        ("3.9-3.13", "3.9..3.13"),
        ("3.9 to 3.13", "3.9..3.13"),
        ("3.9…3.13", "3.9..3.13"),
        ("3.9 \N{EN DASH} 3.13", "3.9..3.13"),
        ("3.13-3.9", "3.9..3.13"),
        ("3.9..3.13.2", "3.9..3.13"),
        ("3.9+", ">=3.9"),
        ("3.9..", ">=3.9"),
        ("..3.13", "<3.14"),
        ("^3.10", ">=3.10,<4"),
        ("~3.10", "~=3.10.0"),
        ("=>3.12", ">=3.12"),
        ("=3.12", "3.12"),
        (">=3.12.x", ">=3.12"),
        ("python 3.12", "python3.12"),
        ("3.12 3.13", "3.12,3.13"),
        ("3.12;3.13", "3.12,3.13"),
        ("v3.12", "3.12"),
        ("3.12.x", "3.12"),
        ("3.13-nogil", "3.13t"),
        ("3.13-freethreaded", "3.13t"),
        ("3.14-dev", "3.14"),
        ("3.13.0-rc1", "3.13.0rc1"),
        ("cp312-cp312", "cp312"),
        ("12", "3.12"),
        ("3_12", "3.12"),
        ("3.l2", "3.12"),
        ("pyhton3.12", "python3.12"),
        ("suported", "supported"),
        ("3.12.4.1", "3.12.4"),
        ("python.exe", "./python.exe"),
        ("cpython-3.12.4-linux-x86-64-gnu", "cpython-3.12.4-linux-x86_64-gnu"),
        ("cpython-3.12.4-linx-x86_64-gnu", "cpython-3.12.4-linux-x86_64-gnu"),
        ("https://host/python-3.12.4.tgz", "3.12.4"),
        ("my_python", "./my_python"),
    ],
)
def test_the_first_valid_suggestion_is_the_probable_request(text: str, meant: str) -> None:
    assert first(text) == meant


def test_a_url_without_a_version_gets_no_suggestion() -> None:
    assert list(suggestions("https://user:hunter2@host/")) == []


def test_a_text_that_resembles_no_request_gets_no_suggestion() -> None:
    assert first("§§") == ""


def test_p13_suggestions_contain_no_password_of_a_url() -> None:
    assert not any("hunter2" in each for each in suggestions("https://u:hunter2@host/3.12"))


@given(st.text(max_size=60) | st.text(st.sampled_from("0123456789.abrctdpy@<=>-+~^ ;,x*"), max_size=40))
def test_any_text_gets_a_limited_number_of_suggestions(text: str) -> None:
    found = list(suggestions(text.lower()))
    assert all(isinstance(each, str) for each in found)
    assert len(found) < 60


@given(st.integers(0, 10**5))
def test_a_number_of_any_length_is_accepted(digits: int) -> None:
    list(suggestions(f"3.{'9' * (digits % 6000)}"))
    list(suggestions(f"{digits}" * 50))


@given(st.sampled_from(["3.9", "3.12", "3.13t", "pypy3.11", "3.12.4"]), st.sampled_from(["{}", " {} ", "'{}'", "({})"]))
def test_quotes_and_blanks_around_a_request_are_removed(text: str, form: str) -> None:
    assert str(Request.parse(first(form.format(text)))) == str(Request.parse(text))
