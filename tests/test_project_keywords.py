"""What the words of a request mean for a project."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
from pytest_pyinstall.project import END_OF_LIFE, Project, expand
from pytest_pyinstall.request.request import Request, parse_requests

TODAY = date(2026, 11, 22)
RELEASED = tuple(
    map(
        Version,
        [
            "3.8.20",
            "3.9.25",
            "3.10.22",
            "3.11.17",
            "3.12.0",
            "3.12.4",
            "3.12.15",
            "3.13.17",
            "3.14.9",
            "3.15.1",
            "3.16.0a2",
        ],
    )
)
EXECUTABLE = Path("/opt/python/bin/python")


def classified(*versions: str, requires_python: str | None = None) -> Project:
    return Project(
        path=Path("pyproject.toml"),
        classifiers=tuple(f"Programming Language :: Python :: {version}" for version in versions),
        requires_python=None if requires_python is None else SpecifierSet(requires_python),
    )


def expanded(
    text: str, project: Project | None, *, released: Iterable[Version] = RELEASED, today: date = TODAY
) -> list[str]:
    requests = parse_requests([text], directory=Path(), origin="--python")
    return [
        request.text
        for request in expand(requests, project=project, executable=EXECUTABLE, released=lambda: released, today=today)
    ]


def test_classifiers_decide_what_is_supported() -> None:
    demo = classified("3.10", "3.9", "3.13", requires_python=">=3.12")

    assert expanded("supported", demo) == ["3.9", "3.10", "3.13"]
    assert expanded("lowest", demo) == ["3.9"]
    assert expanded("latest", demo) == ["3.13"]
    assert expanded("3.6,lowest,latest", demo) == ["3.6", "3.9", "3.13"]


def test_without_classifiers_requires_python_met_by_maintained_versions() -> None:
    assert expanded("supported", classified("3", requires_python=">=3.9")) == ["3.11", "3.12", "3.13", "3.14", "3.15"]
    assert expanded("supported", classified(requires_python=">=3.9,<3.13")) == ["3.11", "3.12"]
    assert expanded("lowest", classified(requires_python=">=3.12.2")) == ["3.12"]
    assert expanded("latest", classified(requires_python="<3.14")) == ["3.13"]
    assert expanded("supported", classified(requires_python="!=3.13.*,>=3.12")) == ["3.12", "3.14", "3.15"]


def test_a_version_is_maintained_until_the_last_day() -> None:
    demo = classified(requires_python=">=3.9,<3.12")

    assert expanded("lowest", demo, today=END_OF_LIFE["3.10"]) == ["3.10"]
    assert expanded("lowest", demo, today=date(2026, 11, 1)) == ["3.11"]


def test_a_version_newer_than_the_table_is_maintained() -> None:
    assert expanded("latest", classified(requires_python=">=3.15"), released=[Version("3.17.0")]) == ["3.17"]


def test_a_bound_within_a_minor_version_binds_its_request() -> None:
    demo = classified(requires_python=">=3.11,<=3.12.4")
    word = Request.parse("supported")
    requests = expand([word], project=demo, executable=EXECUTABLE, released=lambda: RELEASED, today=TODAY)

    assert [request.text for request in requests] == ["3.11", "3.12"]
    assert requests[0].specifier == SpecifierSet("==3.11.*")
    assert not requests[1].specifier.contains("3.12.15")
    assert requests[1].specifier.contains("3.12.4")


def test_latest_without_declared_versions_is_the_newest_stable() -> None:
    assert expanded("latest", None) == ["3.15"]
    assert expanded("latest", classified()) == ["3.15"]


def test_current_is_the_running_executable() -> None:
    request = Request.parse("current")
    (current,) = expand([request], project=None, executable=EXECUTABLE, released=lambda: (), today=TODAY)

    assert current.path == EXECUTABLE
    assert current.word is None
    assert current.text == "current"


def test_the_catalogue_is_asked_only_where_it_is_needed() -> None:
    def released() -> Iterable[Version]:
        raise AssertionError

    requests = parse_requests(["3.9,current,supported"], directory=Path(), origin="--python")
    plain = expand(requests, project=classified("3.12"), executable=EXECUTABLE, released=released, today=TODAY)

    assert [request.text for request in plain] == ["3.9", "current", "3.12"]


@pytest.mark.parametrize("word", ["supported", "lowest"])
def test_without_a_project_nothing_is_supported(word: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{word}' needs a project") as caught:
        expanded(word, None)
    assert expanded(caught.value.hint, None) == ["3.15"]


def test_a_project_that_declares_nothing_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"pyproject\.toml declares neither requires-python nor"):
        expanded("supported", classified("3"))


def test_requirements_that_nothing_meets_are_named() -> None:
    with pytest.raises(NoMatchError, match=r"no released version .* requires-python = '<3.9'") as caught:
        expanded("supported", classified(requires_python="<3.9"))
    assert Request.parse(caught.value.hint).specifier == SpecifierSet("<3.9")


def test_an_empty_catalogue_has_no_latest() -> None:
    with pytest.raises(NoMatchError, match="no stable CPython"):
        expanded("latest", None, released=[Version("3.16.0a2")])
