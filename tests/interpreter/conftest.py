"""Fixtures of the interpreter tests: the newest and the oldest Python of this machine, and an empty home."""

from pathlib import Path

import pytest
from archives import NEWEST, OLDEST
from probed_pythons import probed
from tool_homes import Machine

from pytest_pyinstall.interpreter.interpreter import Interpreter


@pytest.fixture
def python() -> Interpreter:
    return probed(NEWEST)


@pytest.fixture
def oldest() -> Interpreter:
    return probed(OLDEST)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    home = tmp_path / "machine"
    (home / "path").mkdir(parents=True)
    return Machine(home)
