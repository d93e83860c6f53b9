"""The matrix of a project against the jobs that it runs itself.

The five libraries are told by what their metadata said in August 2026, and by the versions in their own CI then.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from pytest_pyinstall.cli.ci import free_threaded, matrix_rows
from pytest_pyinstall.project import read_project, resolve_keywords
from pytest_pyinstall.request.catalogue import Catalogue
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.request.resolve import released

TARGET = Target(os="linux", arch="x86_64", libc="gnu")
AUGUST_2026 = date(2026, 8, 20)
MINORS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def catalogue(*versions: str) -> Catalogue:
    keys = [Key.parse(f"cpython-{version}-{TARGET}") for version in versions]
    return Catalogue(builds=tuple(Build(key=key, url="https://host/x", sha256="0" * 64) for key in keys), origin="here")


OF_AUGUST_2026 = catalogue(
    *("3.8.20", "3.9.25", "3.10.20", "3.11.15", "3.12.13", "3.13.14", "3.14.6"),
    *("3.13.14+freethreaded", "3.14.6+freethreaded", "3.15.0rc1", "3.15.0rc1+freethreaded"),
)


def rows(directory: Path, today: date = AUGUST_2026, known: Catalogue = OF_AUGUST_2026) -> list[str]:
    """The names of the matrix's rows, those of experimental ones with a question mark."""
    project = read_project(directory)
    supported = resolve_keywords(
        [Request.parse("supported")],
        project=project,
        executable=Path("python"),
        released=lambda: released(known, TARGET),
        pinned=tuple,
        today=today,
    )
    requests = [*supported, *free_threaded(supported, project=project)]
    made = matrix_rows(requests, catalogue=known, target=TARGET)
    return [row.name + "?" * row.is_experimental for row in made]


def pyproject(directory: Path, *, minors: Sequence[str] = (), requires: str = "", more: Sequence[str] = ()) -> Path:
    language = "Programming Language :: Python ::"
    classifiers = [f"{language} {part}" for part in ("3", "3 :: Only", *minors, *more)]
    lines = ["[project]", 'name = "sample"', 'version = "1"', f"classifiers = {classifiers}"]
    lines += [f'requires-python = "{requires}"'] if requires else []
    (directory / "pyproject.toml").write_text("\n".join(lines))
    return directory


def test_pluggy_runs_these(tmp_path: Path) -> None:
    # Beside them PyPy 3.10, of which its metadata says no version.
    implementations = ["Implementation :: CPython", "Implementation :: PyPy"]
    assert rows(pyproject(tmp_path, minors=MINORS, requires=">=3.10", more=implementations)) == MINORS


def test_attrs_runs_these(tmp_path: Path) -> None:
    # Beside them PyPy 3.11.
    assert rows(pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10")) == [*MINORS, "3.15?"]


def test_click_runs_these(tmp_path: Path) -> None:
    # It names no versions at all. Beside them 3.14t, which it names nowhere either, and PyPy 3.11.
    assert rows(pyproject(tmp_path, requires=">=3.10")) == MINORS


def test_requests_runs_these(tmp_path: Path) -> None:
    # It runs 3.14t, and not yet 3.15t. Beside them PyPy 3.11.
    project = pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10", more=["Free Threading :: 2 - Beta"])
    assert rows(project) == [*MINORS, "3.15?", "3.14t?", "3.15t?"]


def test_packaging_runs_these(tmp_path: Path) -> None:
    # It runs 3.13t as well, PyPy 3.10 and 3.11, and the first patch of each minor version.
    more = ["Free Threading :: 4 - Resilient"]
    project = pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10", more=more)
    assert rows(project) == [*MINORS, "3.15?", "3.14t?", "3.15t?"]


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (">=3.11,<3.14", ["3.11", "3.12", "3.13"]),
        (">=3.8", MINORS),  # 3.8 and 3.9 are not maintained any more
        ("~=3.12", ["3.12", "3.13", "3.14"]),
        (">=3.11,!=3.12.*,<4", ["3.11", "3.13", "3.14"]),
        (">=3.13,<=3.14", ["3.13"]),  # which 3.14.6 is not: such a bound means 3.14.0 alone
    ],
)
def test_only_requires_python(tmp_path: Path, requires: str, expected: list[str]) -> None:
    assert rows(pyproject(tmp_path, requires=requires)) == expected


def test_what_is_over_goes_from_one_day_to_the_next(tmp_path: Path) -> None:
    project = pyproject(tmp_path, requires=">=3.10")
    assert rows(project, date(2026, 10, 31))[0] == "3.10"
    assert rows(project, date(2026, 11, 1))[0] == "3.11"


def test_only_classifiers(tmp_path: Path) -> None:
    assert rows(pyproject(tmp_path, minors=["3.12", "3.9", "3.10"])) == ["3.9", "3.10", "3.12"]


def test_classifiers_that_run_ahead_of_every_release_are_experimental(tmp_path: Path) -> None:
    assert rows(pyproject(tmp_path, minors=["3.14", "3.15"]), known=catalogue("3.14.6")) == ["3.14", "3.15?"]


def test_free_threading_with_only_requires_python(tmp_path: Path) -> None:
    project = pyproject(tmp_path, requires=">=3.13", more=["Free Threading :: 1 - Unstable"])
    assert rows(project) == ["3.13", "3.14", "3.14t?"]


def test_dynamic_metadata_in_setup_cfg(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "sample"\ndynamic = ["version", "classifiers", "requires-python"]\n'
    )
    (tmp_path / "setup.cfg").write_text(
        "[metadata]\n"
        "classifiers =\n"
        "    Programming Language :: Python :: 3.13\n"
        "    Programming Language :: Python :: 3.12\n"
    )
    assert rows(tmp_path) == ["3.12", "3.13"]


def test_dynamic_metadata_in_setup_py(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("from setuptools import setup\nsetup(python_requires='>=3.12,<3.14')\n")
    assert rows(tmp_path) == ["3.12", "3.13"]
