"""The names of cells, and the Pythons that a session needs. `test_shard` runs sessions with some of the cells."""

import pytest

from pytest_pyinstall.suite.cells import Cell, Cells
from pytest_pyinstall.suite.variants import Variant

NEW = Variant("new", "new: wcwidth")


@pytest.mark.parametrize(
    ("python", "variant", "label"),
    [
        ("3.9", None, "py3.9"),
        ("3.13t", None, "py3.13t"),
        ("pypy3.11", None, "pypy3.11"),
        ("graalpy3.12", None, "graalpy3.12"),
        ("3.9", NEW, "py3.9-new"),
    ],
)
def test_a_label_names_the_python_and_the_variant(python: str, variant: Variant | None, label: str) -> None:
    assert Cell(python, variant).label == label


def test_a_session_needs_the_pythons_of_its_cells() -> None:
    cells = {cell.label: cell for python in ("3.9", "3.12") for cell in (Cell(python, None), Cell(python, NEW))}
    assert Cells(cells, list(cells), ["py3.12", "py3.12-new"], (None, NEW), None, {}).pythons == {"3.12"}
