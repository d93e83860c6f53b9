"""Requests are parsed, match the right builds, and mistakes get a correction."""

import pickle
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request.identity import Key, Target
from pytest_pyinstall.request.request import WORDS, Request, parse_requests

LINUX = Target(os="linux", arch="x86_64", libc="gnu")
MAC = Target(os="macos", arch="aarch64", libc="none")


def parsed(*texts: object) -> list[str]:
    return [request.text for request in parse_requests(texts, directory=Path("/d"), origin="--python")]


def fits(text: str, key: str, *, target: Target = LINUX, allow_prereleases: bool = False) -> bool:
    return Request.parse(text).fits(Key.parse(key), target=target, allow_prereleases=allow_prereleases)


def cpython(version: str) -> str:
    return f"cpython-{version}-{LINUX}"


@pytest.mark.parametrize(
    ("text", "implementation", "specifier", "variant"),
    [
        ("3", "cpython", "==3.*", ""),
        ("3.12", "cpython", "==3.12.*", ""),
        ("3.12.3", "cpython", "==3.12.3", ""),
        ("3.1", "cpython", "==3.1.*", ""),
        ("312", "cpython", "==3.12.*", ""),
        ("310", "cpython", "==3.10.*", ""),
        ("39", "cpython", "==3.9.*", ""),
        ("27", "cpython", "==2.7.*", ""),
        ("py3", "cpython", "==3.*", ""),
        ("py312", "cpython", "==3.12.*", ""),
        ("py3.12", "cpython", "==3.12.*", ""),
        ("cp312", "cpython", "==3.12.*", ""),
        ("python3", "cpython", "==3.*", ""),
        ("python3.12", "cpython", "==3.12.*", ""),
        ("python3.12.4", "cpython", "==3.12.4", ""),
        ("python@3.12", "cpython", "==3.12.*", ""),
        ("cpython3.12", "cpython", "==3.12.*", ""),
        ("cpython@3.12", "cpython", "==3.12.*", ""),
        ("cpython-3.12", "cpython", "==3.12.*", ""),
        ("cpython", "cpython", "", ""),
        ("python", "cpython", "", ""),
        (" 3.12 ", "cpython", "==3.12.*", ""),
        ("3.15.0rc1", "cpython", "==3.15.0rc1", ""),
        ("3.15.0a2", "cpython", "==3.15.0a2", ""),
        ("3.15rc1", "cpython", "==3.15rc1", ""),
        ("3.15.0b1t", "cpython", "==3.15.0b1", "freethreaded"),
        ("3.13t", "cpython", "==3.13.*", "freethreaded"),
        ("3.13+freethreaded", "cpython", "==3.13.*", "freethreaded"),
        ("py313t", "cpython", "==3.13.*", "freethreaded"),
        ("3.13.2t", "cpython", "==3.13.2", "freethreaded"),
        ("cpython-3.13t", "cpython", "==3.13.*", "freethreaded"),
        ("3.13d", "cpython", "==3.13.*", "debug"),
        ("3.13+debug", "cpython", "==3.13.*", "debug"),
        ("3.13td", "cpython", "==3.13.*", "freethreaded+debug"),
        ("3.13+freethreaded+debug", "cpython", "==3.13.*", "freethreaded+debug"),
        ("3.13+debug+freethreaded", "cpython", "==3.13.*", "freethreaded+debug"),
        ("3.14+gil", "cpython", "==3.14.*", "gil"),
        ("pypy3.11", "pypy", "==3.11.*", ""),
        ("PyPy3.11", "pypy", "==3.11.*", ""),
        ("pypy@3.11", "pypy", "==3.11.*", ""),
        ("pypy-3.10", "pypy", "==3.10.*", ""),
        ("pypy311", "pypy", "==3.11.*", ""),
        ("pp311", "pypy", "==3.11.*", ""),
        ("pypy", "pypy", "", ""),
        ("graalpy3.12", "graalpy", "==3.12.*", ""),
        ("graalpy", "graalpy", "", ""),
        (">=3.10,<3.13", "cpython", ">=3.10,<3.13", ""),
        (">= 3.10 , < 3.13", "cpython", ">=3.10,<3.13", ""),
        ("~=3.12.0", "cpython", "~=3.12.0", ""),
        ("==3.12.*", "cpython", "==3.12.*", ""),
        ("!=3.12.1,>=3.12", "cpython", "!=3.12.1,>=3.12", ""),
        ("===3.12.1", "cpython", "===3.12.1", ""),
        (">3.12", "cpython", ">3.12", ""),
        ("pypy>=3.10", "pypy", ">=3.10", ""),
        ("cpython>=3.11,<3.13", "cpython", ">=3.11,<3.13", ""),
        (">=3.14t", "cpython", ">=3.14", "freethreaded"),
        (">=3.13,<3.15+debug", "cpython", ">=3.13,<3.15", "debug"),
        ("any", None, "", ""),
        ("any-3.12-any-any-any", None, "==3.12.*", ""),
    ],
)
def test_each_form_of_a_request_is_parsed(text: str, implementation: str | None, specifier: str, variant: str) -> None:
    request = Request.parse(text)

    assert request.text == text.strip()
    assert request.implementation == implementation
    assert request.specifier == SpecifierSet(specifier)
    assert request.variant == variant
    assert (request.os, request.arch, request.libc, request.path, request.word) == (None,) * 5


@pytest.mark.parametrize(
    ("text", "specifier", "variant", "parts"),
    [
        ("cpython-3.12.3-linux-x86_64-gnu", "==3.12.3", "", ("linux", "x86_64", "gnu")),
        ("cpython-3.12-linux-x86_64-musl", "==3.12.*", "", ("linux", "x86_64", "musl")),
        ("cpython-3.13+freethreaded-linux-x86_64-gnu", "==3.13.*", "freethreaded", ("linux", "x86_64", "gnu")),
        ("cpython-3.16.0a2-windows-x86_64-none", "==3.16.0a2", "", ("windows", "x86_64", "none")),
        ("cpython-3.12-linux-x86_64_v3-gnu", "==3.12.*", "", ("linux", "x86_64_v3", "gnu")),
        ("cpython-3.12-darwin-arm64", "==3.12.*", "", ("macos", "aarch64", None)),
        ("cpython-3.12-any-i686-any", "==3.12.*", "", (None, "x86", None)),
        ("cpython-3.12-musl", "==3.12.*", "", (None, None, "musl")),
        ("cpython-linux", "", "", ("linux", None, None)),
        ("3.12-linux", "==3.12.*", "", ("linux", None, None)),
    ],
)
def test_a_full_or_partial_key_is_parsed(
    text: str, specifier: str, variant: str, parts: tuple[str | None, str | None, str | None]
) -> None:
    request = Request.parse(text)

    assert request.specifier == SpecifierSet(specifier)
    assert request.variant == variant
    assert (request.os, request.arch, request.libc) == parts


def test_a_key_is_a_request_for_itself() -> None:
    for text in ("cpython-3.12.4-linux-x86_64-gnu", "cpython-3.13.1+freethreaded-linux-x86_64-gnu"):
        assert fits(text, text)
        assert fits(text, text, target=MAC)


def test_a_relative_path_is_relative_to_the_directory() -> None:
    request = Request.parse("./build/python", directory=Path("/project"))

    assert request.path == Path("/project/build/python")
    assert request.text == "./build/python"
    assert request.implementation is None


def test_an_absolute_path_is_not_changed() -> None:
    assert Request.parse("/opt/Python 3/bin/python3.12", directory=Path("/d")).path == Path(
        "/opt/Python 3/bin/python3.12"
    )
    assert Request.parse("/opt/\udcff/ü/python").path == Path("/opt/\udcff/ü/python")


def test_a_tilde_is_the_home_directory() -> None:
    path = Request.parse("~/bin/python").path

    assert path is not None
    assert path.is_absolute()
    assert "~" not in str(path)


@pytest.mark.parametrize("text", ["./~nosuchuser/python", "a/~/python", "../~root/python", "./~"])
def test_a_tilde_inside_a_path_is_not_expanded(text: str) -> None:
    assert Request.parse(text, directory=Path("/d")).path == Path("/d", text)


@pytest.mark.parametrize("text", ["~nosuchuser/python", "~no one/bin/python", "3.12,~nosuchuser/python"])
def test_the_home_directory_of_an_unknown_user_is_an_error(text: str) -> None:
    user = text.partition("~")[2].partition("/")[0]
    with pytest.raises(InvalidRequestError, match=f"there is no user '{user}'"):
        parse_requests(text, directory=Path(), origin="find")


def test_without_a_home_directory_a_tilde_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda text: text)

    with pytest.raises(InvalidRequestError, match="there is no home directory for ~"):
        Request.parse("~/bin/python")


def test_a_path_that_looks_like_another_request_is_a_path() -> None:
    assert Request.parse("./3.12").path == Path("3.12")
    assert Request.parse("../supported").path == Path("../supported")


@pytest.mark.parametrize("word", WORDS)
def test_a_keyword_is_parsed_and_matches_no_build(word: str) -> None:
    request = Request.parse(word)

    assert request.word == word
    assert not request.fits(Key.parse(cpython("3.12.4")), target=LINUX, allow_prereleases=True)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("3.9..3.13", ["3.9", "3.10", "3.11", "3.12", "3.13"]),
        ("3.9..3.9", ["3.9"]),
        ("3.12.8..3.12.10", ["3.12.8", "3.12.9", "3.12.10"]),
        ("3.13..3.14t", ["3.13t", "3.14t"]),
        ("3.13t..3.14t", ["3.13t", "3.14t"]),
        ("pypy3.9..3.11", ["pypy3.9", "pypy3.10", "pypy3.11"]),
        ("pypy3.9..pypy3.10", ["pypy3.9", "pypy3.10"]),
        ("pypy@3.9..3.10", ["pypy@3.9", "pypy@3.10"]),
        ("39..310", ["3.9", "3.10"]),
    ],
)
def test_a_range_contains_both_ends(text: str, members: list[str]) -> None:
    assert parsed(text) == members


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("3.13..3.9", "ends before it begins", "3.9..3.13"),
        ("2.7..3.9", "within one major version", "2.7,3.9"),
        ("3.12.0..3.13.1", "within one minor version", "3.12.0,3.13.1"),
        ("pypy3.9..3.999", "991 versions, more than 100", "pypy>=3.9"),
        ("3.9..3.13.2", "a range, such as 3.9..3.13", "3.9..3.13"),
        ("3.9..", "a PEP 440 specifier", ">=3.9"),
        ("3.13:3.9", "a range", "3.9..3.13"),
        ("..3.13", "a PEP 440 specifier", "<3.14"),
        ("3.9...3.13", "a range", "3.9..3.13"),
        ("3.9-3.13", "a range", "3.9..3.13"),
        ("3.9 to 3.13", "a range", "3.9..3.13"),
        ("3.9~3.13", "a range", "3.9..3.13"),
        ("3.9..13", "a range", "3.9..3.13"),
        ("3.9-13", "a range", "3.9..3.13"),
        ("3.9..py3.13", "a range", "3.9..3.13"),
        ("3.9t..3.13", "a range", "3.9..3.13t"),
        ("py39-py313", "a range", "py39..py313"),
        ("pypy3.9-3.11", "a range", "pypy3.9..3.11"),
        ("lowest..latest", "one of the words", "supported"),
        # The message says what a range is, even if something else is closer.
        ("3..9", "(a range has two versions: 3.9..3.13)", "3.9"),
        ("3.9..latest", "(a range has two versions: 3.9..3.13)", "3.9"),
        ("3.9..", "(a range has two versions: 3.9..3.13)", ">=3.9"),
    ],
)
def test_an_invalid_range_gets_a_correction(text: str, said: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parsed(text)

    assert said in caught.value.message
    assert caught.value.hint == hint


def test_a_range_of_several_pythons_is_not_one_request() -> None:
    assert Request.parse("3.9..3.9").text == "3.9"
    with pytest.raises(InvalidRequestError, match="names 5 Pythons, but only one is allowed here") as caught:
        Request.parse("3.9..3.13")
    assert caught.value.hint == "3.13"


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("3.9,3.13", ["3.9", "3.13"]),
        (" 3.9 , pypy3.11 ", ["3.9", "pypy3.11"]),
        (">=3.10,<3.13,3.9", [">=3.10,<3.13", "3.9"]),
        ("3.9,>=3.10,<3.13", ["3.9", ">=3.10,<3.13"]),
        (">=3.10, <3.13", [">=3.10, <3.13"]),
        ("!=3.12.1,>=3.12,3.9..3.10", ["!=3.12.1,>=3.12", "3.9", "3.10"]),
        ("pypy>=3.10,<3.12,>=3.9t", ["pypy>=3.10,<3.12,>=3.9t"]),
        (">=3.10,pypy>=3.9", [">=3.10", "pypy>=3.9"]),
        (">=3.10,~/bin/python", [">=3.10", "~/bin/python"]),
        ("supported,3.6", ["supported", "3.6"]),
        ("\n  3.9\n  3.10, 3.11\n", ["3.9", "3.10", "3.11"]),
    ],
)
def test_a_comma_separates_requests_except_inside_a_specifier(text: str, requests: list[str]) -> None:
    assert parsed(text) == requests


def test_several_items_keep_their_order() -> None:
    assert parsed("3.13", "3.9..3.10", "3.13") == ["3.13", "3.9", "3.10", "3.13"]
    assert parsed() == []


def test_an_empty_text_is_not_a_request() -> None:
    with pytest.raises(InvalidRequestError, match="the request is empty"):
        Request.parse(" ")


def test_one_string_is_one_item() -> None:
    requests = parse_requests("3.12", directory=Path(), origin="--python")

    assert [request.text for request in requests] == ["3.12"]


@pytest.mark.parametrize(
    ("text", "hint"), [("", "3.12"), ("  ", "3.12"), ("3.9,", "3.9"), ("3.9,,3.10", "3.9,3.10"), (",", "3.12")]
)
def test_an_empty_request_is_an_error(text: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^--python: (there is no request|the request is empty)") as caught:
        parsed("3.9", text)

    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "row", "hint"),
    [
        ("3.x", "a version", "3"),
        ("3.12.x", "a version", "3.12"),
        ("3.12.*", "a version", "3.12"),
        ("v3.12", "a version", "3.12"),
        ("python-3.12", "a version, such as python3.12", "python3.12"),
        ("python 3.12", "a version", "python3.12"),
        ("python3.12.exe", "a version", "python3.12"),
        ("3.14-dev", "a version", "3.14"),
        ("3.12-slim", "a version", "3.12"),
        ("3.12.3.4", "a version", "3.12.3"),
        ("cp312-cp312", "a version", "cp312"),
        ("pyhton3.12", "a version, such as python3.12", "python3.12"),
        ("'3.12'", "a version", "3.12"),
        ("3,12", "a version", "3.12"),
        ("py@3..12", "a version", "py@3.12"),
        ("3..9", "a version", "3.9"),
        ("pypy3..11", "an implementation", "pypy3.11"),
        ("3.9<=", "a version", "3.9"),
        ("https://example.org/python-3.12.tar.gz", "a version", "3.12"),
        ("py3.13-t", "a variant", "py3.13t"),
        ("3.13-freethreaded", "a variant", "3.13t"),
        ("3.13 nogil", "a variant", "3.13t"),
        ("3.13.0-rc1", "a pre-release", "3.13.0rc1"),
        ("3.13.0-beta2", "a pre-release", "3.13.0b2"),
        ("3.13.0alpha1", "a pre-release", "3.13.0a1"),
        ("py315rc1", "a pre-release", "py3.15.0rc1"),
        ("pypi3.11", "an implementation", "pypy3.11"),
        ("cpyton", "a version", "cpython"),
        ("^3.10", "a PEP 440 specifier", ">=3.10,<4"),
        ("~3.10", "a PEP 440 specifier", "~=3.10.0"),
        ("~=3", "a PEP 440 specifier", "~=3.0"),
        ("py3_12", "a version", "py3.12"),
        ("=>3.12", "a PEP 440 specifier", ">=3.12"),
        (">=3.12.x", "a PEP 440 specifier", ">=3.12"),
        (">=3.9 <3.12", "a PEP 440 specifier", ">=3.9,<3.12"),
        (">3.9<3.12", "a PEP 440 specifier", ">3.9,<3.12"),
        (">=3.9,<=", "a PEP 440 specifier", ">=3.9"),
        ("3.9+", "a PEP 440 specifier", ">=3.9"),
        (">=3.13t,<3.15d", "a version", "3.13"),
        ("=3.12", "a version", "3.12"),
        ("cpython-3.12-linuks-x86_64-gnu", "a key", "cpython-3.12-linux-x86_64-gnu"),
        ("cpython-3.12.3-linux-x86-64-gnu", "a key", "cpython-3.12.3-linux-x86_64-gnu"),
        ("3.10 3.11", "several requests", "3.10,3.11"),
        ("lts", "one of the words", "latest"),
        ("lates", "one of the words", "latest"),
        ("all", "one of the words", "supported"),
        ("py", "one of the words", "current"),
        ("foo", "the path of an executable", "./foo"),
        ("python.exe", "the path of an executable", "./python.exe"),
        ("!!!", "a version", "3.12"),
        ("@3.12", "a version", "3.12"),
        ("3." + "9" * 5000, "a version", "3.999"),
        ("3.9post" + "9" * 390, "a version", "3.9"),
    ],
)
def test_the_error_for_a_mistyped_request_names_the_closest_form(text: str, row: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parsed(text)

    assert caught.value.message.startswith("--python: ")
    assert f"is not a valid request; the closest form is {row}" in caught.value.message
    assert caught.value.hint == hint
    assert "9" * 100 not in caught.value.message


@pytest.mark.parametrize(
    ("item", "said", "hint"),
    [
        (3.1, "3.1 is a float, not a string (unquoted, 3.10 is the number 3.1)", '"3.10"'),
        (3.11, "3.11 is a float, not a string", '"3.11"'),
        (3, "3 is a int, not a string", '"3"'),
        (1.5, "1.5 is a float", '"1.5"'),
        (float("nan"), "nan is a float", '"3.12"'),
        (True, "True is a bool", '"3.12"'),
        (None, "None is a NoneType", '"3.12"'),
        (["3.9"], "['3.9'] is a list", '"3.12"'),
        (b"3.9", "b'3.9' is a bytes", '"3.12"'),
    ],
)
def test_an_ini_item_that_is_not_a_string_is_rejected(item: object, said: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_requests(["3.9", item], directory=Path(), origin="pyinstall_python")

    assert caught.value.message.startswith(f"pyinstall_python: {said}")
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["3.12", "3", "312", ">=3.12", "any", "cpython-3.12-linux", "~=3.12.0", "==3.12.*"])
def test_a_stable_build_matches(text: str) -> None:
    assert fits(text, cpython("3.12.4"))


@pytest.mark.parametrize("text", ["3.1", "3.13", "3.12.3", "<3.12", "2", "pypy3.12", "3.12t", "3.12d", ">=3.13,<3.14"])
def test_another_build_does_not_match(text: str) -> None:
    assert not fits(text, cpython("3.12.4"))


def test_a_variant_matches_only_if_it_is_requested() -> None:
    threaded = cpython("3.13.1+freethreaded")

    assert fits("3.13t", threaded)
    assert not fits("3.13", threaded)
    assert not fits("3.13td", threaded)
    assert not fits(">=3.13", threaded)
    assert fits(">=3.13t", threaded)
    assert fits("3.13+gil", cpython("3.13.1"))
    assert not fits("3.13+gil", threaded)


def test_a_prerelease_matches_only_if_one_is_requested() -> None:
    candidate = cpython("3.15.0rc1")

    assert fits("3.15.0rc1", candidate)
    assert fits("3.15rc1", candidate)
    assert fits(">=3.15.0a1", candidate)
    assert not fits("3.15", candidate)
    assert not fits("!=3.15.0a1,>=3.14", candidate)
    assert fits("3.15", candidate, allow_prereleases=True)
    assert not fits("3.15.0rc2", candidate, allow_prereleases=True)
    assert not fits("<3.15", candidate, allow_prereleases=True)


def test_parts_that_a_request_omits_are_those_of_the_target() -> None:
    assert not fits("3.12", "cpython-3.12.4-linux-x86_64-musl")
    assert not fits("3.12", "cpython-3.12.4-linux-x86_64_v3-gnu")
    assert not fits("3.12", "cpython-3.12.4-macos-x86_64-none", target=MAC)
    assert fits("cpython-3.12-linux-x86_64-musl", "cpython-3.12.4-linux-x86_64-musl")
    assert fits("cpython-3.12-linux-x86_64_v3", "cpython-3.12.4-linux-x86_64_v3-gnu")
    assert fits("cpython-3.12-macos-x86_64", "cpython-3.12.4-macos-x86_64-none", target=MAC)


def test_another_system_has_its_own_libc() -> None:
    assert fits("cpython-3.12-windows", "cpython-3.12.4-windows-x86_64-none")
    assert fits("cpython-3.12-linux", "cpython-3.12.4-linux-aarch64-gnu", target=MAC)


def test_no_build_matches_a_path() -> None:
    assert not fits("/opt/python3.12", cpython("3.12.4"), allow_prereleases=True)


def test_any_matches_each_implementation() -> None:
    assert fits("any-3.11", "pypy-3.11.13-linux-x86_64-gnu")
    assert fits("any-3.11", cpython("3.11.9"))


def test_a_request_survives_pickle_and_equals_a_parsed_copy() -> None:
    request = Request.parse("pypy>=3.10,<3.12")

    assert pickle.loads(pickle.dumps(request)) == request
    assert str(request) == "pypy>=3.10,<3.12"
    assert len({request, Request.parse("pypy>=3.10,<3.12")}) == 1


FRAGMENTS = ["3", "3.12", "12", ".", "..", ",", "-", "+", "@", "t", "d", "rc1", ">=", "<", "==", "~=", "!", "*", "x"]
FRAGMENTS += ["py", "pypy", "cpython", "any", "linux", "x86_64", "gnu", "freethreaded", "v", "latest", "/", "~", "\\"]
FRAGMENTS += [" ", "\n", "\0", "://", "é"]


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)))
def test_any_text_is_a_request_or_an_error_whose_hint_is_a_request(text: str) -> None:
    try:
        requests = parse_requests([text], directory=Path("/d"), origin="--python")
    except InvalidRequestError as error:
        requests = parse_requests([error.hint], directory=Path("/d"), origin="hint")

    assert requests
    for request in requests:
        request.fits(Key.parse(cpython("3.12.4")), target=LINUX)
        assert Request.parse(request.text, directory=Path("/d")) == request


@given(
    st.sampled_from(["", "py", "python", "cpython@", "cpython-"]),
    st.integers(2, 3),
    st.integers(0, 99),
    st.integers(0, 99),
    st.sampled_from(["", "t", "d", "td"]),
)
def test_any_version_matches_its_own_request(name: str, major: int, minor: int, patch: int, suffix: str) -> None:
    variant = {"": "", "t": "+freethreaded", "d": "+debug", "td": "+freethreaded+debug"}[suffix]
    key = cpython(f"{major}.{minor}.{patch}{variant}")

    assert fits(f"{name}{major}.{minor}.{patch}{suffix}", key)
    assert fits(f"{name}{major}.{minor}{suffix}", key)
    assert fits(f"{name}{major}{suffix}", key)
    assert not fits(f"{name}{major}.{minor + 1}{suffix}", key)


@pytest.mark.parametrize("text", ["https://me:hunter2@host/3.12", "git+https://hunter2@host/3.12?token=hunter2"])
def test_p13_the_error_for_a_url_hides_its_secrets(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"://.*host/3.12.* is not a valid request") as caught:
        Request.parse(text)
    assert "hunter2" not in str(caught.value)


@given(
    st.sampled_from(
        ["3", "3.1", "3.12", "3.12.4", "3.13.0rc1", "==3.12.*", "===3.12.4", "!=3.12.*", "~=3.12.0", ">=3.12"]
    ),
    st.tuples(st.integers(2, 3), st.sampled_from([1, 12, 13]), st.integers(0, 9)),
    st.sampled_from(["", "a1", "rc1"]),
)
@example("==3.12", (3, 12, 0), "")
@example("==3.012.4", (3, 12, 4), "")
def test_any_version_matches_as_its_specifier_says(text: str, numbers: tuple[int, int, int], stage: str) -> None:
    # A series such as 3.12 is compared without packaging.specifiers.
    request = Request.parse(text)
    key = Key.parse(cpython(f"{'.'.join(map(str, numbers))}{stage}"))
    expected = request.specifier.contains(key.version, prereleases=True)

    assert request.fits(key, target=LINUX, allow_prereleases=True) == expected
    assert request.names_prerelease == bool(request.specifier.prereleases)
