import json

import pytest

from pytest_pyinstall.cli.ci import MatrixRow, matrix_rows, matrix_text
from pytest_pyinstall.errors import NoMatchError, UsageError
from pytest_pyinstall.request.catalogue import Catalogue
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.request.request import Request

TARGET = Target(os="linux", arch="x86_64", libc="gnu")


def _catalogue(*keys: str) -> Catalogue:
    builds = [Build(key=Key.parse(f"{key}-{TARGET}"), url="https://host/x", sha256="0" * 64) for key in keys]
    return Catalogue(builds=tuple(builds), origin="here")


CATALOGUE = _catalogue(
    *("cpython-3.12.1", "cpython-3.12.4", "cpython-3.13.1", "cpython-3.13.1+freethreaded"),
    *("cpython-3.15.0rc1", "pypy-3.11.13"),
)


def _row(text: str) -> tuple[str, bool]:
    [row] = matrix_rows([Request.parse(text)], catalogue=CATALOGUE, target=TARGET)
    return row.name, row.is_experimental


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("3.12", ("3.12", False)),
        ("py312", ("3.12", False)),
        ("3.12.1", ("3.12.1", False)),
        ("3", ("3.13.1", False)),
        (">=3.10,<3.13", ("3.12.4", False)),
        ("3.13t", ("3.13t", True)),
        ("pypy3.11", ("pypy3.11", False)),
        ("3.15", ("3.15", True)),
        ("3.15.0rc1", ("3.15.0rc1", True)),
        ("3.15.0a1", ("3.15.0a1", True)),
        ("3.7", ("3.7", False)),
        ("pypy3.9", ("pypy3.9", False)),
    ],
)
def test_a_request_is_a_row(text: str, row: tuple[str, bool]) -> None:
    assert _row(text) == row


@pytest.mark.parametrize(("text", "kind"), [("3.99", NoMatchError), (">=3.50", NoMatchError), ("./x", UsageError)])
def test_what_is_no_row(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        _row(text)


def test_equal_rows_are_one() -> None:
    requests = [Request.parse(text) for text in ("3.12", "py312", "3.13")]

    rows = matrix_rows(requests, catalogue=CATALOGUE, target=TARGET)

    assert [row.name for row in rows] == ["3.12", "3.13"]


def test_formats() -> None:
    rows = [MatrixRow(name="3.12", is_experimental=False), MatrixRow(name="3.13t", is_experimental=True)]

    listed = [
        {"python-version": "3.12", "experimental": False},
        {"python-version": "3.13t", "experimental": True},
    ]
    assert json.loads(matrix_text(rows, "github")) == {"include": listed}
    assert json.loads(matrix_text(rows, "json")) == listed
    assert matrix_text(rows, "lines") == "3.12\n3.13t"


def test_a_variant_makes_a_job_for_each_python() -> None:
    rows = [MatrixRow(name="3.12", is_experimental=False, variant=variant) for variant in ("django~=4.2", "lowest")]
    listed = [
        {"python-version": "3.12", "with": "django~=4.2", "experimental": False},
        {"python-version": "3.12", "with": "lowest", "experimental": False},
    ]
    assert json.loads(matrix_text(rows, "json")) == listed
    assert matrix_text(rows, "lines") == "3.12 django~=4.2\n3.12 lowest"
