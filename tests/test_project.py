"""What projects declare."""

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.project import Project, read_project


def project(directory: Path, **files: str) -> Project:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text, encoding="utf-8")
    found = read_project(directory)
    assert found is not None
    return found


def test_classifiers_and_requires_python_of_pyproject(tmp_path: Path) -> None:
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


def test_the_nearest_project_upward_counts(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("setup(name='outer')")
    inner = tmp_path / "packages" / "inner"
    (inner / "tests").mkdir(parents=True)
    (inner / "pyproject.toml").write_text('[project]\nname = "inner"')

    assert (found := read_project(inner / "tests")) is not None
    assert found.name == "inner"
    assert (found := read_project(tmp_path / "packages")) is not None
    assert found.name == "outer"


def test_a_file_without_metadata_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "real"')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "tests" / "setup.cfg").write_text("[flake8]\nmax-line-length = 120\n")

    assert (found := read_project(tmp_path / "tests")) is not None
    assert found.name == "real"


def test_no_project_at_all(tmp_path: Path) -> None:
    assert read_project(tmp_path) is None


def test_a_directory_that_cannot_be_looked_into_holds_no_project(tmp_path: Path) -> None:
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


def test_fields_that_are_not_dynamic_come_from_nowhere_else(tmp_path: Path) -> None:
    found = project(tmp_path, pyproject_toml='[project]\nname = "demo"\n', setup_py="setup(python_requires='>=3.12')")

    assert found.requires_python is None


def test_poetry_fills_what_project_leaves_dynamic(tmp_path: Path) -> None:
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
def test_the_notation_of_poetry(tmp_path: Path, text: str, specifier: str | None) -> None:
    found = project(tmp_path, pyproject_toml=f'[tool.poetry.dependencies]\npython = "{text}"')

    assert found.requires_python == (None if specifier is None else SpecifierSet(specifier))


def test_classifiers_of_setup_cfg_from_a_file(tmp_path: Path) -> None:
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
def test_a_setup_py_that_tells_nothing_declares_nothing(tmp_path: Path, text: str) -> None:
    assert project(tmp_path, setup_py=text) == Project(path=tmp_path / "setup.py")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pyproject.toml", "[project\n", "is not valid TOML"),
        ("pyproject.toml", '[project]\nrequires-python = "3.x"', "no version specifier: '3.x'"),
        ("pyproject.toml", "[project]\nrequires-python = 3.11", "no version specifier: 3.11"),
        ("pyproject.toml", "[project]\nclassifiers = [3.11]", "must be a list of strings"),
        ("setup.cfg", "classifiers = 1\n", "cannot be read"),
        ("setup.cfg", "[metadata]\nclassifiers = file: missing.txt\n", "missing.txt cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(InvalidSettingError) as caught:
        read_project(tmp_path)

    assert said in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidSettingError, match=r"pyproject\.toml cannot be read"):
        read_project(tmp_path)


@pytest.mark.parametrize("text", ["project = 1\ntool = 2", '[project]\nname = 1\ndynamic = 3\n[tool]\npoetry = "x"'])
def test_tables_that_are_none_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert read_project(tmp_path) in (None, Project(path=tmp_path / "pyproject.toml"))
