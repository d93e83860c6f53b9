"""The fixture of the documentation tests: the programs that the pages use."""

from pathlib import Path

import pytest
from newcomer import install_programs


@pytest.fixture(scope="session")
def programs(shared_directory: Path) -> Path | None:
    """The commands of an environment with the packages of the pages; None if no package index can be reached."""
    return install_programs(shared_directory)
