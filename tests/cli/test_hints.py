"""The check that ``tests/conftest.py`` applies to every hint finds the hints that cannot be typed."""

import hint_checker
import pytest


@pytest.mark.parametrize(
    "hint",
    [
        "pytest-pyinstall cache 3.13",
        "pytest-pyinstall instal 3.13",
        "pytest-pyinstall list --al",
        "pytest-pyinstall exec --python 3.13 nox",
        "try again: pytest-pyinstall upgrade --kep",
        "--python-missing never",
        "--pyton 3.13; or --python-stroe DIR",
        "use --python-store",
        "PYTEST_PYINSTALL_MIROR=URL",
        'pyinstall_pythons = ["3.13"]',
        "pytest --python-missing",
    ],
)
def test_a_hint_that_cannot_be_typed_is_found(hint: str) -> None:
    assert hint_checker.problem_with(hint)


@pytest.mark.parametrize(
    "hint",
    [
        "",
        "3.12",
        "pytest-pyinstall verify --repair 3.13.0",
        "pytest-pyinstall list --all  # is the catalogue right about it?",
        "another directory: --python-store DIR",
        "chmod -R u+w /home/you/store",
        "--python-missing skip",
        'pyinstall_python = ["3.9..3.13"]',
        '@pytest.mark.python("3.12", "pypy3.11")',
        "python -m pip install 'pytest-pyinstall[attest]'",
    ],
)
def test_a_hint_that_can_be_typed_is_accepted(hint: str) -> None:
    assert hint_checker.problem_with(hint) == ""
