"""What the words of a request mean for a project."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
from pytest_pyinstall.project import END_OF_LIFE, Project, read_pinned, resolve_keywords
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
        for request in resolve_keywords(
            requests, project=project, executable=EXECUTABLE, pinned=tuple, released=lambda: released, today=today
        )
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
    requests = resolve_keywords(
        [word], project=demo, executable=EXECUTABLE, released=lambda: RELEASED, pinned=tuple, today=TODAY
    )

    assert [request.text for request in requests] == ["3.11", "3.12"]
    assert requests[0].specifier == SpecifierSet("==3.11.*")
    assert not requests[1].specifier.contains("3.12.15")
    assert requests[1].specifier.contains("3.12.4")


def test_latest_without_declared_versions_is_the_newest_stable() -> None:
    assert expanded("latest", None) == ["3.15"]
    assert expanded("latest", classified()) == ["3.15"]


def test_current_is_the_running_executable() -> None:
    request = Request.parse("current")
    (current,) = resolve_keywords(
        [request], project=None, executable=EXECUTABLE, released=lambda: (), pinned=tuple, today=TODAY
    )

    assert current.path == EXECUTABLE
    assert current.word is None
    assert current.text == "current"


def test_the_catalogue_is_asked_only_where_it_is_needed() -> None:
    def released() -> Iterable[Version]:
        raise AssertionError

    requests = parse_requests(["3.9,current,supported"], directory=Path(), origin="--python")
    plain = resolve_keywords(
        requests, project=classified("3.12"), executable=EXECUTABLE, released=released, pinned=tuple, today=TODAY
    )

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


# pinned


def pinned(directory: Path) -> list[str]:
    return [request.text for request in read_pinned(directory)]


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("3.12\n", ["3.12"]),
        ("3.12", ["3.12"]),
        ("\ufeff3.12\r\n3.13\r\n", ["3.12", "3.13"]),
        ("# for the CI\n\n  3.12  # the main one\n#3.11\npypy3.11\n", ["3.12", "pypy3.11"]),
        ("3.12.4 3.13t\t3.9\n", ["3.12.4", "3.13t", "3.9"]),
        (">=3.10, <3.13\n", [">=3.10, <3.13"]),
        ("3.9..3.11\n", ["3.9", "3.10", "3.11"]),
        ("cpython-3.12.3-linux-x86_64-gnu\n", ["cpython-3.12.3-linux-x86_64-gnu"]),
        ("supported\n", ["supported"]),
    ],
)
@pytest.mark.parametrize("name", [".python-version", ".python-versions"])
def test_each_line_of_a_version_file_is_a_python(tmp_path: Path, name: str, text: str, texts: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert pinned(tmp_path) == texts


def test_a_path_in_a_version_file_starts_from_it(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("./build/python\n")
    (tmp_path / "tests").mkdir()
    [request] = read_pinned(tmp_path / "tests")
    assert request.path == tmp_path / "build" / "python"


def test_the_nearest_version_file_counts_and_several_versions_go_before_one(tmp_path: Path) -> None:
    inner = tmp_path / "packages" / "a"
    inner.mkdir(parents=True)
    (tmp_path / ".python-version").write_text("3.11\n")
    (tmp_path / ".git").mkdir()
    assert pinned(inner) == ["3.11"]
    (tmp_path / ".python-versions").write_text("3.12\n3.13\n")
    assert pinned(inner) == ["3.12", "3.13"]
    (inner / ".python-version").write_text("3.10\n")
    assert pinned(inner) == ["3.10"]


def test_a_version_file_above_the_repository_is_not_the_project_s(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.11\n")
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match=r"no \.python-versions and no \.python-version in this project"):
        read_pinned(tmp_path / "repository")


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("3.12\nminiconda3-4.7\n", 2, None),
        ("pypy3.10-7.3.12\n", 1, "pypy3.10"),
        ("# here\n3.13-dev\n", 2, "3.13"),
        ("system\n", 1, "current"),
        ("3.12 stackless-3.7\n", 1, None),
        ("pinned\n", 1, "latest"),
    ],
)
def test_a_line_that_is_no_python_is_named_with_its_file(
    tmp_path: Path, text: str, line: int, hint: str | None
) -> None:
    (tmp_path / ".python-version").write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        read_pinned(tmp_path)
    assert f"{tmp_path / '.python-version'}, line {line}: " in caught.value.message
    assert parse_requests([caught.value.hint], directory=tmp_path, origin="hint")
    assert hint in {None, caught.value.hint}


@pytest.mark.parametrize("text", ["", "\n \n", "# 3.12\n"])
def test_a_version_file_that_names_nothing_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / ".python-version").write_text(text)
    with pytest.raises(InvalidRequestError, match="names no Python"):
        read_pinned(tmp_path)


def test_pinned_is_replaced_where_it_stands_and_its_words_too() -> None:
    requests = parse_requests(["3.9", "pinned", "3.14"], directory=Path(), origin="test")
    found = resolve_keywords(
        requests,
        project=classified("3.12", "3.13"),
        executable=EXECUTABLE,
        released=lambda: RELEASED,
        pinned=lambda: parse_requests(["3.11", "supported"], directory=Path(), origin="file"),
        today=TODAY,
    )
    assert [request.text for request in found] == ["3.9", "3.11", "3.12", "3.13", "3.14"]
