"""A small library, and sessions that run its suite under real Pythons of this machine: fixtures of `test_suite*`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from archives import interpreters

__all__ = ["NEW", "OLD", "PYPROJECT", "Run", "asked", "marks"]

OLD, NEW = "3.9", "3.12"
PYPROJECT = """
[build-system]
requires = ["flit_core>=3.4,<4"]
build-backend = "flit_core.buildapi"
[project]
name = "demo"
version = "1"
description = "A library"
requires-python = ">=3.6"
"""
TESTS = """
import os, sys, warnings
import pytest
import demo

def test_fine():
    assert demo.one() == 1

def test_everywhere():
    assert demo.one() == 2

def test_old():
    assert sys.version_info >= (3, 10), "too old"

@pytest.mark.skipif(sys.version_info < (3, 10), reason="needs 3.10")
def test_skipped():
    os.write(1, b'["p", 0, 1, 2, 3, 4]\\n{garbage')
    sys.__stdout__.write("more garbage")
    warnings.warn("watch out")

@pytest.mark.xfail
def test_expected():
    assert False
"""

marks = [
    pytest.mark.skipif(
        any(version not in interpreters() for version in (OLD, NEW)), reason=f"needs Pythons {OLD} and {NEW}"
    ),
    pytest.mark.timeout(600),
]

Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of a worker: an environment costs a second."""
    return tmp_path_factory.mktemp("suite-home")


@pytest.fixture
def run(pytester: pytest.Pytester, shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PYTEST_PYINSTALL_HOME", str(shared_home))
    monkeypatch.setenv("PYTEST_PYINSTALL_PREFERENCE", "only-system")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("UV_CACHE_DIR", str(shared_home / "uv"))

    def run(*words: str, pythons: tuple[str, ...] = (OLD, NEW)) -> pytest.RunResult:
        return pytester.runpytest_subprocess(
            "-p", "no:randomly", "--python-suite", *asked(*pythons), *words, timeout=500
        )

    return run


def asked(*versions: str) -> list[str]:
    """The options that ask for these Pythons."""
    return [f"--python={interpreters()[version]}" for version in versions]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A library with a module, a test of each kind, and metadata."""
    (pytester.path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (pytester.path / "demo.py").write_text("def one():\n    return 1\n", encoding="utf-8")
    (pytester.path / "test_demo.py").write_text(TESTS, encoding="utf-8")
    return pytester.path
