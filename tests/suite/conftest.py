"""Fixtures for tests of suites."""

from pathlib import Path

import pytest
from recipes import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files into a directory, which is returned: ``write(a__b_DASH_c_DOT_py="text")`` writes ``a/b-c.py``."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".").replace("_DASH_", "-")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write
