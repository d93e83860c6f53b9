"""Fixtures of the command tests: a project to run in, and a mirror to install from."""

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def mirrored(mirror_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(mirror_directory))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(mirror_directory / "catalogue.json"))
    return mirror_directory


@pytest.fixture
def versions(mirrored: Path) -> dict[str, str]:
    """The full version of each minor version in the mirror."""
    document = json.loads((mirrored / "catalogue.json").read_text())
    return {
        f"{row['major']}.{row['minor']}": f"{row['major']}.{row['minor']}.{row['patch']}" for row in document.values()
    }


@pytest.fixture
def minor(versions: dict[str, str]) -> str:
    return "3.9" if "3.9" in versions else next(iter(versions))


@pytest.fixture
def store(isolated_home: Path) -> Path:
    return isolated_home / "pyinstall" / "store"
