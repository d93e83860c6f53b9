"""Names that Windows would change are recognized."""

import pytest

from pytest_pyinstall.archive._members import windows_objection


@pytest.mark.parametrize(
    ("part", "objection"),
    [
        ("a:b", "another meaning"),
        ("what?", "another meaning"),
        ("dot.", "drops the dot or blank"),
        ("blank ", "drops the dot or blank"),
        ("NUL", "NUL is a device"),
        ("con.py", "CON is a device"),
        ("com1", "COM1 is a device"),
        ("lpt².txt", "LPT² is a device"),
        ("python.exe", ""),
        ("comx", ""),
        ("com10", ""),
        ("console", ""),
    ],
)
def test_names_that_windows_changes_are_recognized(part: str, objection: str) -> None:
    assert objection in windows_objection(part)
    assert bool(objection) == bool(windows_objection(part))
