"""A request resolves to the newest build that matches, or the error names the nearest ones."""

from dataclasses import replace

import pytest

from pytest_pyinstall.errors import NoMatchError
from pytest_pyinstall.request.catalogue import UV_NAME, Catalogue, default_catalogue
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.request.resolve import candidates, released, resolve

LINUX = Target(os="linux", arch="x86_64", libc="gnu")
MUSL = Target(os="linux", arch="x86_64", libc="musl")
MAC = Target(os="macos", arch="aarch64", libc="none")

NAMES = [
    *("cpython-3.8.12-linux-x86_64-gnu", "cpython-3.8.20-linux-x86_64-gnu", "cpython-3.10.22-linux-x86_64-gnu"),
    *("cpython-3.12.3-linux-x86_64-gnu", "cpython-3.12.12-linux-x86_64-gnu", "cpython-3.12.13-linux-x86_64-gnu"),
    *(
        "cpython-3.12.13-linux-x86_64_v3-gnu",
        "cpython-3.12.13+debug-linux-x86_64-gnu",
        "cpython-3.12.13-linux-aarch64-gnu",
    ),
    *(
        "cpython-3.13.1-linux-x86_64-gnu",
        "cpython-3.13.1+freethreaded-linux-x86_64-gnu",
        "cpython-3.13.2rc1-linux-x86_64-gnu",
    ),
    *("cpython-3.14.0-linux-x86_64-gnu", "cpython-3.15.0a2-linux-x86_64-gnu", "cpython-3.15.0rc1-linux-x86_64-gnu"),
    *("cpython-3.12.13-macos-x86_64-none", "cpython-3.13.1-macos-aarch64-none"),
    *("pypy-3.9.19-linux-x86_64-gnu", "pypy-3.11.13-linux-x86_64-gnu", "graalpy-3.14.2-linux-aarch64-gnu"),
]


def build(name: str, *, tag: str = "20261021") -> Build:
    return Build(key=Key.parse(name), url=f"https://host/{tag}/{name}.tar.gz", sha256="ab" * 32, tag=tag)


CATALOGUE = Catalogue(
    builds=tuple(map(build, NAMES)),
    origin="the test's catalogue",
    without_digest=(Key.parse("cpython-3.7.5-linux-x86_64-gnu"), Key.parse("cpython-3.7.9-linux-x86_64-gnu")),
)


def resolved(text: str, *, target: Target = LINUX, catalogue: Catalogue = CATALOGUE) -> str:
    return str(resolve(Request.parse(text), catalogue, target).key)


def no_match_error(text: str, *, target: Target = LINUX, catalogue: Catalogue = CATALOGUE) -> NoMatchError:
    with pytest.raises(NoMatchError) as caught:
        resolved(text, target=target, catalogue=catalogue)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("3", "cpython-3.14.0-linux-x86_64-gnu"),
        ("3.12", "cpython-3.12.13-linux-x86_64-gnu"),
        ("3.12.3", "cpython-3.12.3-linux-x86_64-gnu"),
        ("3.13", "cpython-3.13.1-linux-x86_64-gnu"),
        ("3.13t", "cpython-3.13.1+freethreaded-linux-x86_64-gnu"),
        ("3.12d", "cpython-3.12.13+debug-linux-x86_64-gnu"),
        (">=3.10,<3.13", "cpython-3.12.13-linux-x86_64-gnu"),
        ("!=3.12.13,==3.12.*", "cpython-3.12.12-linux-x86_64-gnu"),
        ("pypy", "pypy-3.11.13-linux-x86_64-gnu"),
        ("pypy<3.11", "pypy-3.9.19-linux-x86_64-gnu"),
        ("any", "cpython-3.14.0-linux-x86_64-gnu"),
        ("any-3.11", "pypy-3.11.13-linux-x86_64-gnu"),
        ("cpython-3.12-linux-x86_64_v3", "cpython-3.12.13-linux-x86_64_v3-gnu"),
        ("cpython-3.12-linux-aarch64", "cpython-3.12.13-linux-aarch64-gnu"),
    ],
)
def test_a_request_resolves_to_the_newest_match(text: str, name: str) -> None:
    assert resolved(text) == name


def test_a_prerelease_is_chosen_only_if_requested_or_if_nothing_stable_matches() -> None:
    assert resolved("3.15") == "cpython-3.15.0rc1-linux-x86_64-gnu"
    assert resolved("3.15.0a2") == "cpython-3.15.0a2-linux-x86_64-gnu"
    assert resolved("3.13.2rc1") == "cpython-3.13.2rc1-linux-x86_64-gnu"
    assert resolved(">=3.13.1") == "cpython-3.14.0-linux-x86_64-gnu"
    assert resolved(">=3.15.0a1") == "cpython-3.15.0rc1-linux-x86_64-gnu"


def test_a_build_for_another_architecture_is_chosen_only_if_requested() -> None:
    assert "for macos-aarch64-none (oldest: 3.13.1)" in no_match_error("3.12", target=MAC).message
    assert resolved("cpython-3.12-macos-x86_64", target=MAC) == "cpython-3.12.13-macos-x86_64-none"
    assert resolved("3", target=MAC) == "cpython-3.13.1-macos-aarch64-none"


def test_candidates_are_sorted_from_best_to_worst() -> None:
    versions = [str(build.key.version) for build in candidates(Request.parse("3.12"), CATALOGUE, LINUX)]

    assert versions == ["3.12.13", "3.12.12", "3.12.3"]


def test_the_latest_release_of_a_python_is_chosen() -> None:
    name = "cpython-3.12.13-linux-x86_64-gnu"
    catalogue = Catalogue(builds=(build(name, tag="20260101"), build(name), build(name, tag="")), origin="x")

    assert resolve(Request.parse(name), catalogue, LINUX).tag == "20261021"


def test_released_lists_the_stable_versions_of_a_target() -> None:
    assert [str(version) for version in released(CATALOGUE, MAC)] == ["3.13.1"]
    assert [str(version) for version in released(CATALOGUE, LINUX)] == [
        *("3.8.12", "3.8.20", "3.10.22", "3.12.3", "3.12.12", "3.12.13", "3.13.1", "3.14.0"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3.12.99", "no build of Python 3.12.99 for linux-x86_64-gnu (nearest: 3.12.13)"),
        ("3.12.5", "(nearest: 3.12.3, 3.12.12)"),
        ("3.12.0", "(nearest: 3.12.3)"),
        ("3.9", "(nearest: 3.8.20, 3.10.22)"),
        ("3.11", "(nearest: 3.10.22, 3.12.13)"),
        ("3.6", "(oldest: 3.8.12)"),
        ("4.1", "(newest: 3.14.0)"),
        ("3.15.0b4", "(nearest: 3.15.0a2, 3.15.0rc1)"),
        (">=3.16", "no build of Python >=3.16 for linux-x86_64-gnu (newest: 3.14.0)"),
        ("3.14t", "(newest: 3.13.1t)"),
        ("pypy3.10", "no build of pypy3.10 for linux-x86_64-gnu (nearest: pypy3.9.19, pypy3.11.13)"),
        ("===spam1", "(newest: 3.14.0)"),
        ("/opt/python", "no build of /opt/python"),
    ],
)
def test_the_error_names_the_nearest_versions(text: str, said: str) -> None:
    error = no_match_error(text)

    assert said in error.message
    assert error.hint == "pytest-pyinstall list --all"


def test_p9_the_error_says_that_a_build_has_no_digest() -> None:
    assert (
        "cpython-3.7.9-linux-x86_64-gnu is in the catalogue, but is not used, because it has no sha256 (oldest: 3.8.12)"
        in no_match_error("3.7").message
    )
    assert "sha256" not in no_match_error("3.7", target=MAC).message


def test_the_error_names_other_targets_that_have_a_build() -> None:
    assert "for linux-x86_64-musl (there is one for linux-x86_64-gnu, " in no_match_error("3.12", target=MUSL).message
    assert "(there is one for linux-aarch64-gnu)" in no_match_error("graalpy3.14").message
    assert "(there is one for linux-aarch64-gnu)" in no_match_error("graalpy3.14", target=MAC).message
    assert "(there is one for linux-aarch64-gnu)" in no_match_error("graalpy3.12").message


def test_the_hint_suggests_the_catalogue_of_uv_unless_it_is_in_use() -> None:
    assert no_match_error("3.12", target=MUSL).hint == "--python-catalogue uv"
    default = replace(CATALOGUE, origin="pbs-installer")
    assert no_match_error("3.12", target=MUSL, catalogue=default).hint == "--python-catalogue uv"
    of_uv = replace(CATALOGUE, origin=UV_NAME)
    assert no_match_error("3.12", target=MUSL, catalogue=of_uv).hint == "pytest-pyinstall list --all"


def test_the_error_lists_the_implementations_and_variants_of_the_catalogue() -> None:
    kinds = "cpython, cpython+debug, cpython+freethreaded, pypy"
    some = replace(CATALOGUE, builds=tuple(each for each in CATALOGUE.builds if each.key.implementation != "graalpy"))

    assert (
        f"(the catalogue the test's catalogue has only {kinds})"
        in no_match_error("graalpy3.12", catalogue=some).message
    )
    assert "has no free-threaded debug builds of cpython)" in no_match_error("3.13td").message
    assert (
        "(the catalogue nothing is empty)"
        in no_match_error("3.12", catalogue=Catalogue(builds=(), origin="nothing")).message
    )


def test_the_error_names_the_setting_in_the_sentence() -> None:
    def message(text: str) -> str:
        with pytest.raises(NoMatchError) as caught:
            resolve(
                Request.parse(text),
                CATALOGUE,
                LINUX,
                within="the catalogue of PYTEST_PYINSTALL_CATALOGUE",
                has_uv=False,
            )
        assert caught.value.hint == "pytest-pyinstall list --all"
        return caught.value.message

    start = "for linux-x86_64-gnu in the catalogue of PYTEST_PYINSTALL_CATALOGUE"
    assert message("4.1") == f"no build of Python 4.1 {start} (newest: 3.14.0)"
    assert message("3.13td") == f"no build of Python 3.13td {start} (it has no free-threaded debug builds of cpython)"


@pytest.mark.parametrize("target", [LINUX, MAC, Target(os="windows", arch="x86_64", libc="none")])
def test_the_default_catalogue_has_the_usual_requests(target: Target) -> None:
    for text in ("3", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t", "pypy3.10", "pypy3.11", ">=3.9"):
        build = resolve(Request.parse(text), default_catalogue(), target)
        assert build.key.target == target
    assert "oldest: 3.8" in no_match_error("3.6", target=LINUX, catalogue=default_catalogue()).message
    assert "it has no sha256" in no_match_error("3.7.9", target=LINUX, catalogue=default_catalogue()).message
