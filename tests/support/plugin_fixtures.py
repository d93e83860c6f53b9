"""Fixtures of ``test_pytest_*``: sessions with the plugin, and three Pythons to install."""

import os
import sys
from pathlib import Path

import pytest
from archives import interpreters, packed

from pytest_pyinstall.provisioner import Provisioner
from pytest_pyinstall.settings import Settings

VERSIONS = ("3.9", "3.10", "3.11")
OTHERS = ("randomly", "cacheprovider", "hypothesispytest", "anyio", "timeout")
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


marks = [
    pytest.mark.skipif(
        any(version not in interpreters() for version in VERSIONS),
        reason=f"needs real interpreters to pack: {', '.join(VERSIONS)}",
    ),
    pytest.mark.usefixtures("only_the_mirror"),
]


USES_PYTHON = """
def test_it(python):
    answered = python.run("-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
    assert answered == "%d.%d" % python.version_info[:2]
"""


@pytest.fixture(scope="session")
def packed_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("mirror"), [interpreters()[version] for version in VERSIONS])


@pytest.fixture(scope="session")
def full_home(packed_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared home whose store has all `VERSIONS`. Tests only read it."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        store=home / "store",
        cache=home / "cache",
        mirror=str(packed_mirror),
        catalogue=str(packed_mirror / "catalogue.json"),
        preference="only-managed",
    )
    provisioner = Provisioner(
        settings=settings, environ={}, user_home=home, directory=home, executable=Path(sys.executable)
    )
    with provisioner:
        results = provisioner.provide(provisioner.parse(VERSIONS))
    assert not [result for result in results if isinstance(result, Exception)]
    return home


@pytest.fixture
def only_the_mirror(pytester: pytest.Pytester, packed_mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the Pythons of the mirror and the running one can be found, and no plugin shuffles or slows the sessions."""
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(packed_mirror))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(packed_mirror / "catalogue.json"))
    monkeypatch.setenv("PYTEST_PYINSTALL_PREFERENCE", "only-managed")
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(f"-p no:{name}" for name in OTHERS))
    monkeypatch.setenv("PATH", "/usr/bin" if Path("/usr/bin").is_dir() else "")


@pytest.fixture
def xdist() -> None:
    """Skips the test without pytest-xdist."""
    pytest.importorskip("xdist")


@pytest.fixture
def full(full_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_PYINSTALL_HOME", str(full_home))
    monkeypatch.setenv("PYTEST_PYINSTALL_DOWNLOADS", "never")
    return full_home


def store() -> Path:
    return Path(os.environ["PYTEST_PYINSTALL_HOME"], "store")


def installed() -> list[str]:
    return sorted(path.name for path in store().glob("cpython-*.*.*-*")) if store().is_dir() else []


def ids(result: pytest.RunResult) -> list[str]:
    """The names of the tests in the output of ``--collect-only -q`` or ``-v``."""
    lines = (line.split(" ")[0] for line in result.outlines if ".py::" in line)
    return list(dict.fromkeys(line.partition("::")[2] for line in lines))
