"""The metadata and version files of a project are read, and keywords such as ``supported`` resolve to its versions."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError, InvalidSettingError, NoMatchError
from pytest_pyinstall.project import (
    END_OF_LIFE,
    Project,
    probable_specifier,
    read_pinned,
    read_project,
    resolve_keywords,
)
from pytest_pyinstall.request.request import Request, parse_requests


def project(directory: Path, **files: str) -> Project:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text, encoding="utf-8")
    found = read_project(directory)
    assert found is not None
    return found


def test_classifiers_and_requires_python_are_read_from_pyproject(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        pyproject_toml="""
        [project]
        name = "demo"
        requires-python = ">=3.11"
        classifiers = [
          "Programming Language :: Python :: 3",
          "Programming Language :: Python :: 3 :: Only",
          "Programming Language :: Python :: 3.9",
          "Programming Language :: Python :: 3.10",
          "Programming Language :: Python :: Free Threading :: 2 - Beta",
          "Programming Language :: Python :: Implementation :: PyPy",
        ]
        """,
    )

    assert found.path == tmp_path / "pyproject.toml"
    assert found.name == "demo"
    assert found.requires_python == SpecifierSet(">=3.11")
    assert found.minor_versions == (Version("3.9"), Version("3.10"))
    assert found.free_threaded


def test_the_nearest_project_above_the_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("setup(name='outer')")
    inner = tmp_path / "packages" / "inner"
    (inner / "tests").mkdir(parents=True)
    (inner / "pyproject.toml").write_text('[project]\nname = "inner"')

    assert (found := read_project(inner / "tests")) is not None
    assert found.name == "inner"
    assert (found := read_project(tmp_path / "packages")) is not None
    assert found.name == "outer"


def test_a_file_without_metadata_is_not_a_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "real"')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "tests" / "setup.cfg").write_text("[flake8]\nmax-line-length = 120\n")

    assert (found := read_project(tmp_path / "tests")) is not None
    assert found.name == "real"


def test_a_directory_can_have_no_project(tmp_path: Path) -> None:
    assert read_project(tmp_path) is None


def test_a_directory_that_cannot_be_read_has_no_project(tmp_path: Path) -> None:
    (tmp_path / "setup.py").touch()

    assert read_project(tmp_path / ("too long" * 99)) == Project(path=tmp_path / "setup.py")


def test_dynamic_fields_come_from_setup_cfg_and_setup_py(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        pyproject_toml='[project]\nname = "demo"\ndynamic = ["classifiers", "requires-python"]\n',
        setup_cfg="[metadata]\nname = other\nclassifiers =\n  Programming Language :: Python :: 3.12\n",
        setup_py="from setuptools import setup\nsetup(python_requires='>=3.12')",
    )

    assert found.name == "demo"
    assert found.minor_versions == (Version("3.12"),)
    assert found.requires_python == SpecifierSet(">=3.12")


def test_fields_that_are_not_dynamic_are_not_read_from_other_files(tmp_path: Path) -> None:
    found = project(tmp_path, pyproject_toml='[project]\nname = "demo"\n', setup_py="setup(python_requires='>=3.12')")

    assert found.requires_python is None


def test_dynamic_fields_come_from_the_table_of_poetry(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        pyproject_toml="""
        [project]
        name = "demo"
        dynamic = ["requires-python", "classifiers"]
        [tool.poetry]
        classifiers = ["Programming Language :: Python :: 3.13"]
        [tool.poetry.dependencies]
        python = "^3.10"
        """,
    )

    assert found.requires_python == SpecifierSet(">=3.10,<4")
    assert found.minor_versions == (Version("3.13"),)


@pytest.mark.parametrize(
    ("text", "specifier"),
    [
        ("^3.10", ">=3.10,<4"),
        ("~3.10", ">=3.10,<3.11"),
        ("~3", ">=3,<4"),
        ("~=3.10", "~=3.10"),
        (">=3.9,<4.0", ">=3.9,<4.0"),
        ("3.10.*", "==3.10.*"),
        ("3.*", "==3.*"),
        ("3.10.4", "==3.10.4"),
        ("*", ""),
        ("^2.7 || ^3.6", None),
    ],
)
def test_version_constraints_of_poetry_become_specifiers(tmp_path: Path, text: str, specifier: str | None) -> None:
    found = project(tmp_path, pyproject_toml=f'[tool.poetry.dependencies]\npython = "{text}"')

    assert found.requires_python == (None if specifier is None else SpecifierSet(specifier))


def test_classifiers_of_setup_cfg_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "classifiers.txt").write_text("Programming Language :: Python :: 3.12\n")
    found = project(
        tmp_path, setup_cfg="[metadata]\nclassifiers = file: classifiers.txt\n[options]\npython_requires = >=3.12\n"
    )

    assert found.minor_versions == (Version("3.12"),)
    assert found.requires_python == SpecifierSet(">=3.12")


def test_setup_py_is_read_and_never_run(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        setup_py="""
import setuptools
CLASSIFIERS = ["Programming Language :: Python :: 3.12"]
open("ran", "w").close()
setuptools.setup(name="de" "mo", classifiers=CLASSIFIERS, python_requires=compute(), version=1)
""",
    )

    assert found == Project(
        path=tmp_path / "setup.py", name="demo", classifiers=("Programming Language :: Python :: 3.12",)
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["print 'Python 2'", "\0", "", "x = 1", "setup(**metadata)"])
def test_a_setup_py_without_literals_declares_nothing(tmp_path: Path, text: str) -> None:
    assert project(tmp_path, setup_py=text) == Project(path=tmp_path / "setup.py")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pyproject.toml", "[project\n", "is not valid TOML"),
        ("pyproject.toml", '[project]\nrequires-python = "3.x"', "not a version specifier: '3.x'"),
        ("pyproject.toml", "[project]\nrequires-python = 3.11", "not a version specifier: 3.11"),
        ("pyproject.toml", "[project]\nclassifiers = [3.11]", "must be a list of strings"),
        ("setup.cfg", "classifiers = 1\n", "cannot be read"),
        ("setup.cfg", "[metadata]\nclassifiers = file: missing.txt\n", "missing.txt cannot be read"),
    ],
)
def test_the_error_for_a_broken_project_file_names_it(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(InvalidSettingError) as caught:
        read_project(tmp_path)

    assert said in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_the_error_for_a_binary_project_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidSettingError, match=r"pyproject\.toml cannot be read"):
        read_project(tmp_path)


@pytest.mark.parametrize("text", ["project = 1\ntool = 2", '[project]\nname = 1\ndynamic = 3\n[tool]\npoetry = "x"'])
def test_values_that_are_not_tables_are_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert read_project(tmp_path) in (None, Project(path=tmp_path / "pyproject.toml"))


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


def test_without_classifiers_maintained_versions_that_meet_requires_python_are_supported() -> None:
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


def test_a_bound_within_a_minor_version_limits_its_request() -> None:
    demo = classified(requires_python=">=3.11,<=3.12.4")
    word = Request.parse("supported")
    requests = resolve_keywords(
        [word], project=demo, executable=EXECUTABLE, released=lambda: RELEASED, pinned=tuple, today=TODAY
    )

    assert [request.text for request in requests] == ["3.11", "3.12"]
    assert requests[0].specifier == SpecifierSet("==3.11.*")
    assert not requests[1].specifier.contains("3.12.15")
    assert requests[1].specifier.contains("3.12.4")


def test_latest_without_declared_versions_is_the_newest_stable_version() -> None:
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


def test_the_catalogue_is_read_only_if_it_is_needed() -> None:
    def released() -> Iterable[Version]:
        raise AssertionError

    requests = parse_requests(["3.9,current,supported"], directory=Path(), origin="--python")
    plain = resolve_keywords(
        requests, project=classified("3.12"), executable=EXECUTABLE, released=released, pinned=tuple, today=TODAY
    )

    assert [request.text for request in plain] == ["3.9", "current", "3.12"]


@pytest.mark.parametrize("word", ["supported", "lowest"])
def test_supported_and_lowest_need_a_project(word: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{word}' needs a project") as caught:
        expanded(word, None)
    assert expanded(caught.value.hint, None) == ["3.15"]


def test_the_error_for_a_project_without_versions_names_its_file() -> None:
    with pytest.raises(InvalidRequestError, match=r"pyproject\.toml declares neither requires-python nor"):
        expanded("supported", classified("3"))


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("pyproject.toml", '[project]\nname = "a"\n', 'requires-python = ">=3.9"  # below [project]'),
        ("setup.cfg", "[metadata]\nname = a\n[options]\n", "python_requires = >=3.9  # below [options]"),
        ("setup.py", 'from setuptools import setup\nsetup(name="a")\n', 'python_requires=">=3.9"  # in the call'),
    ],
)
def test_the_hint_for_a_project_without_versions_has_the_form_of_its_file(
    name: str, text: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        expanded("supported", read_project(tmp_path))
    assert caught.value.hint.startswith(hint)


def test_the_error_for_a_requirement_that_no_version_meets_contains_it() -> None:
    with pytest.raises(NoMatchError, match=r"no version .* fits requires-python = '<3.9'") as caught:
        expanded("supported", classified(requires_python="<3.9"))
    assert Request.parse(caught.value.hint).specifier == SpecifierSet("<3.9")


@pytest.mark.parametrize("requires_python", [">=3.14", ">=3.99"])
def test_a_catalogue_without_a_build_is_named_and_not_the_end_of_life(requires_python: str) -> None:
    released = [Version("3.8.20"), Version("3.13.0")]
    with pytest.raises(NoMatchError) as caught:
        expanded("supported", classified(requires_python=requires_python), released=released)
    assert "the catalogue (its newest: 3.13.0) has no build of a stable version that fits" in caught.value.message


SPECIFIERS = {
    "3.9+": ">=3.9",
    "3.9": ">=3.9",
    "v3.9": ">=3.9",
    "python 3.9+": ">=3.9",
    "=>3.9": ">=3.9",
    "> = 3.9": ">=3.9",
    ">=py3.9": ">=3.9",
    "≥3.9": ">=3.9",
    ">=3,9": ">=3.9",
    ">=3.9 <3.13": ">=3.9,<3.13",
    ">=3.9.*": ">=3.9",
    "3.9.x": "==3.9.*",
    "3.9 - 3.13": ">=3.9,<3.14",
    "3.9..3.13": ">=3.9,<3.14",
    "^3.9": ">=3.9,<4",
    "~3.9": ">=3.9,<3.10",
    "=3.9": "==3.9",
    "3.9, 3.10, 3.11": ">=3.9",
    "3.x": "==3.*",
    "three": "",
    "": "",
}


@pytest.mark.parametrize(("text", "meant"), SPECIFIERS.items())
def test_the_hint_for_an_invalid_specifier_is_made_of_what_was_typed(text: str, meant: str) -> None:
    assert probable_specifier(text) == meant


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({"pyproject_toml": '[project]\nrequires-python = "3.9+"'}, 'requires-python = ">=3.9"'),
        ({"pyproject_toml": "[project]\nrequires-python = 3.11"}, 'requires-python = ">=3.11"'),
        ({"setup_cfg": "[options]\npython_requires = 3.9+"}, "python_requires = >=3.9"),
        ({"setup_py": "setup(python_requires='3.9+')"}, 'python_requires=">=3.9"'),
    ],
)
def test_a_corrected_specifier_has_the_form_of_its_file(tmp_path: Path, files: dict[str, str], hint: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        project(tmp_path, **files)
    assert caught.value.hint == hint


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


def test_a_path_in_a_version_file_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("./build/python\n")
    (tmp_path / "tests").mkdir()
    [request] = read_pinned(tmp_path / "tests")
    assert request.path == tmp_path / "build" / "python"


def test_the_nearest_version_file_is_used_and_python_versions_has_precedence(tmp_path: Path) -> None:
    inner = tmp_path / "packages" / "a"
    inner.mkdir(parents=True)
    (tmp_path / ".python-version").write_text("3.11\n")
    (tmp_path / ".git").mkdir()
    assert pinned(inner) == ["3.11"]
    (tmp_path / ".python-versions").write_text("3.12\n3.13\n")
    assert pinned(inner) == ["3.12", "3.13"]
    (inner / ".python-version").write_text("3.10\n")
    assert pinned(inner) == ["3.10"]


def test_a_version_file_above_the_repository_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.11\n")
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match=r"no \.python-versions and no \.python-version in this project"):
        read_pinned(tmp_path / "repository")


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("3.12\nminiconda3-4.7\n", 2, "latest"),
        ("jython-2.7.3\n", 1, "latest"),
        ("pypy3.10-7.3.12\n", 1, "pypy3.10"),
        ("# here\n3.13-dev\n", 2, "3.13"),
        ("system\n", 1, "current"),
        ("3.12 stackless-3.7\n", 1, "latest"),
        ("pinned\n", 1, "latest"),
    ],
)
def test_the_error_for_an_invalid_line_names_the_file_and_the_line(
    tmp_path: Path, text: str, line: int, hint: str | None
) -> None:
    (tmp_path / ".python-version").write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        read_pinned(tmp_path)
    assert f"{tmp_path / '.python-version'}, line {line}: " in caught.value.message
    assert parse_requests([caught.value.hint], directory=tmp_path, origin="hint")
    assert hint in {None, caught.value.hint}


@pytest.mark.parametrize("text", ["", "\n \n", "# 3.12\n"])
def test_a_version_file_without_a_request_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / ".python-version").write_text(text)
    with pytest.raises(InvalidRequestError, match="has no request"):
        read_pinned(tmp_path)


def test_pinned_is_replaced_in_place_and_its_keywords_are_resolved() -> None:
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
