"""The fixture of the store tests: an empty store whose path has a space and an accent."""

from pathlib import Path

import pytest

from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "a store é", lock_timeout=200, boot=current_boot())
