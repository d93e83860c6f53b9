"""Fixtures of the archive tests: a directory to unpack into, and a watched directory outside it."""

from pathlib import Path

import pytest
from unpacking import KEY


@pytest.fixture
def into(tmp_path: Path) -> Path:
    scratch = tmp_path / "watched" / "store" / "scratch" / str(KEY)
    scratch.mkdir(parents=True)
    return scratch


@pytest.fixture
def outside(tmp_path: Path, into: Path) -> Path:
    """A directory that must not change; each member of `HOSTILE` whose name climbs would write into it."""
    for directory in (into.parent, into.parent.parent, tmp_path / "watched"):
        (directory / "outside").mkdir()
        (directory / "outside" / "victim").write_text("untouched")
    return tmp_path / "watched" / "outside"
