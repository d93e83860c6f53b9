"""Versions and ranges are parsed into their parts, and other texts are neither."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request._grammar import (
    IMPLEMENTATIONS,
    LONGEST_TEXT,
    NAME,
    VARIANT,
    VARIANTS,
    WrittenVersion,
    range_members,
    written_version,
)
from pytest_pyinstall.request.request import Request


@pytest.mark.parametrize(
    ("text", "numbers", "prerelease", "variant"),
    [
        ("3", (3,), "", ""),
        ("3.12", (3, 12), "", ""),
        ("312", (3, 12), "", ""),
        ("39", (3, 9), "", ""),
        ("27", (2, 7), "", ""),
        ("3.12.4", (3, 12, 4), "", ""),
        ("3.15.0rc1", (3, 15, 0), "rc1", ""),
        ("3.15a2", (3, 15), "a2", ""),
        ("3.13t", (3, 13), "", "freethreaded"),
        ("313t", (3, 13), "", "freethreaded"),
        ("3.13.1td", (3, 13, 1), "", "freethreaded+debug"),
        ("3.13+debug+freethreaded", (3, 13), "", "freethreaded+debug"),
        ("3.14+gil", (3, 14), "", "gil"),
        ("3.15.0b1t", (3, 15, 0), "b1", "freethreaded"),
    ],
)
def test_a_version_is_parsed_into_its_parts(text: str, numbers: tuple[int, ...], prerelease: str, variant: str) -> None:
    assert written_version(text) == WrittenVersion(numbers=numbers, prerelease=prerelease, variant=variant)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "12",
        "3a1",
        "3rc1",
        "3.",
        "3.12.",
        ".3",
        "3.12.4.5",
        "3.x",
        "3.12x",
        "3.12.4rc",
        "v3.12",
        "3133t3",
        "31234",
        "3.12345",
        "٣.12",
        " 3.12",
        "3.12 ",
        "3.12\n",
        "-3",
        "3.13dt",
        "3.13+",
        "3.13+nogil",
        "t",
    ],
)
def test_another_text_is_not_a_version(text: str) -> None:
    assert written_version(text) is None


@pytest.mark.parametrize(
    ("text", "specifier", "inside", "outside"),
    [
        ("3", "==3.*", "3.9.1", "2.7.18"),
        ("3.1", "==3.1.*", "3.1.5", "3.12.1"),
        ("3.12.4", "==3.12.4", "3.12.4", "3.12.5"),
        ("3.15.0rc1", "==3.15.0rc1", "3.15.0rc1", "3.15.0"),
    ],
)
def test_the_specifier_of_a_version_contains_what_it_names(
    text: str, specifier: str, inside: str, outside: str
) -> None:
    written = written_version(text)
    assert written
    assert written.specifier == specifier
    assert SpecifierSet(written.specifier).contains(Version(inside), prereleases=True)
    assert not SpecifierSet(written.specifier).contains(Version(outside), prereleases=True)


numbers = st.tuples(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))


@given(numbers, st.sampled_from(["", "a1", "b20", "rc3"]), st.sampled_from(sorted(VARIANTS)))
def test_any_valid_version_is_parsed_into_its_parts(
    release: tuple[int, int, int], prerelease: str, suffix: str
) -> None:
    text = f"{'.'.join(map(str, release))}{prerelease}{suffix}"
    assert written_version(text) == WrittenVersion(numbers=release, prerelease=prerelease, variant=VARIANTS[suffix])


@given(st.text(st.sampled_from("0123456789.abrctd+<=>@gil*x"), max_size=30))
def test_any_parsed_text_has_valid_parts(text: str) -> None:
    written = written_version(text)
    if written is not None:
        assert 1 <= len(written.numbers) <= 3
        assert written.variant in VARIANTS.values()
        assert re.match(r"[0-9]", text)
        assert Request.parse(text).variant == written.variant


def test_longer_names_and_variants_match_before_their_prefixes() -> None:
    assert re.match(NAME, "pypy3.11") is not None
    for name in IMPLEMENTATIONS:
        match = re.match(f"({NAME})(?=3)", f"{name}3")
        assert match
        assert match[1] == name
    for variant in VARIANTS:
        assert re.fullmatch(f"3({VARIANT})", f"3{variant}")


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("3.9..3.11", ("3.9", "3.10", "3.11")),
        ("3.12.0..3.12.2", ("3.12.0", "3.12.1", "3.12.2")),
        ("pypy3.10..3.11", ("pypy3.10", "pypy3.11")),
        ("pypy@3.10..pypy3.11", ("pypy@3.10", "pypy@3.11")),
        ("3.13..3.14t", ("3.13t", "3.14t")),
        ("3.13t..3.14t", ("3.13t", "3.14t")),
        ("PyPy3.10..3.10", ("pypy3.10",)),
        ("39..311", ("3.9", "3.10", "3.11")),
    ],
)
def test_a_range_has_its_members(text: str, members: tuple[str, ...]) -> None:
    assert range_members(text) == members
    for member in members:
        assert Request.parse(member)


@pytest.mark.parametrize(
    "text",
    [
        "3.9",
        "3.9...3.11",
        "3..3",
        "3..3.9",
        "3.9..3.11.2",
        "3.9t..3.10",
        "3.9..cpython3.10",
        "pypy3.9..cpython3.10",
        "@3.9..3.10",
        "3.9..3.10rc1",
        "..3.9",
        "3.9..",
        "x3.9..3.10",
        "",
        "3.9..3.1" + "0" * LONGEST_TEXT,
    ],
)
def test_another_text_is_not_a_range(text: str) -> None:
    assert range_members(text) is None


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("2.7..3.9", "within one major version", "2.7,3.9"),
        ("3.11.0..3.12.4", "within one minor version", "3.11.0,3.12.4"),
        ("3.12..3.9", "ends before it begins", "3.9..3.12"),
        ("3.0..3.100", "has 101 versions, more than 100", ">=3.0"),
        ("pypy3.11..3.9", "ends before it begins", "pypy3.9..pypy3.11"),
    ],
)
def test_the_error_for_an_impossible_range_has_a_reason_and_a_correction(text: str, words: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        range_members(text)
    assert caught.value.hint == hint


@given(st.integers(0, 200), st.integers(0, 99), st.sampled_from(["", "t", "td"]))
def test_any_range_contains_both_ends_in_order(start: int, length: int, suffix: str) -> None:
    members = range_members(f"3.{start}..3.{start + length}{suffix}")
    assert members == tuple(f"3.{minor}{suffix}" for minor in range(start, start + length + 1))


@given(st.text(st.sampled_from("0123456789.abrctdpy@<="), max_size=24))
def test_any_text_is_a_range_or_not_or_an_invalid_request_error(text: str) -> None:
    with contextlib.suppress(InvalidRequestError):
        members = range_members(text)
        assert members is None or all(Request.parse(member) for member in members)
