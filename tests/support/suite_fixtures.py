"""Fixtures of ``tests/suite``: a small library, and sessions that run its suite under real Pythons of this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from archives import interpreters

from pytest_pyinstall.interpreter.packages import find_uv

__all__ = [
    "NEW",
    "OLD",
    "PYPROJECT",
    "PYTHONS",
    "Bench",
    "Compare",
    "Compared",
    "Run",
    "asked",
    "environment_of",
    "marks",
    "outcomes_of",
    "run_plain",
]

OLD, NEW = "3.9", "3.12"
PYTHONS = ("3.12", "3.13")
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
Bench = Callable[..., Path]


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests of a worker, because an environment costs a second."""
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
    """The options that request these Pythons."""
    return [f"--python={interpreters()[version]}" for version in versions]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A library with a module, a test of each kind, and metadata."""
    (pytester.path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (pytester.path / "demo.py").write_text("def one():\n    return 1\n", encoding="utf-8")
    (pytester.path / "test_demo.py").write_text(TESTS, encoding="utf-8")
    return pytester.path


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benches")


@pytest.fixture
def bench(benches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """`bench(*requirements)` makes an empty directory and enters it. Its environments are made once for all tests.

    The directory is a project without metadata, so it is not installed. File names are relative to it:
    `bench("pytest-benchmark", files={"test_it.py": "def test_it(): pass"})`.
    """
    used: list[Path] = []

    def bench(*requirements: str, files: Mapping[str, str]) -> Path:
        name = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:8]
        place = benches / f"bench-{name}"
        place.mkdir(exist_ok=True)
        used.append(place)
        (place / "requirements-test.txt").write_text("\n".join(requirements), encoding="utf-8")
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, encoding="utf-8")
        monkeypatch.chdir(place)
        return place

    yield bench
    for place in used:
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


OUTER_PLUGINS = (
    "pytest-html", "pytest-sugar", "pytest-json-report", "pytest-reportlog", "pytest-randomly", "pytest-benchmark",
    "pytest-django",
)  # fmt: skip


@pytest.fixture(scope="session")
def outer_python(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    """A Python with pytest-pyinstall and popular plugins, for sessions that load them in the controller."""
    place = tmp_path_factory.mktemp("outer") / "environment"
    uv = find_uv(os.environ) or "uv"
    root = Path(__file__).parents[2]
    environ = {**os.environ, "UV_CACHE_DIR": str(shared_home / "uv")}
    python = place / "bin" / "python"
    for words in (
        ("venv", "-q", "-p", sys.executable, place),
        ("pip", "install", "-q", "-p", python, "-e", root, *OUTER_PLUGINS),
    ):
        subprocess.run([uv, *map(str, words)], check=True, env=environ)
    return python


@pytest.fixture
def run_outside(run: Run, outer_python: Path, pytester: pytest.Pytester) -> Run:
    """`run` in an environment with `OUTER_PLUGINS`. pytest-randomly and pytest-sugar are off if no word names them."""

    def run_outside(*words: str, pythons: tuple[str, ...] = PYTHONS) -> pytest.RunResult:
        off = [f"-pno:{name}" for name in ("randomly", "sugar") if not any(name in word for word in words)]
        command = [str(outer_python), "-mpytest", *off, "--python-suite", *asked(*pythons), *words]
        return pytester.run(*command, timeout=500)

    return run_outside


def environment_of(home: Path, project: Path, version: str) -> Path:
    """The environment that a suite made for `project` and a Python."""
    for record in (home / "cache" / "environments").glob("*/suite.json"):
        document = json.loads(record.read_text("utf-8"))
        if document["project"] == str(project) and document["python"].startswith(f"cpython-{version}."):
            return record.parent
    raise AssertionError(f"no environment of {project} for {version}")


Outcomes = dict[str, str]


def outcomes_of(junit: Path) -> Outcomes:
    """The outcome of each test in a JUnit file."""
    found = {}
    for case in ET.parse(junit).getroot().iter("testcase"):
        tags = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        found[f"{case.get('classname')}::{case.get('name')}"] = tags[0] if tags else "passed"
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """The results of plain pytest, one for each Python, and the result of the suite."""

    plain: dict[str, subprocess.CompletedProcess[str]]
    suite: pytest.RunResult


Compare = Callable[..., Compared]


@pytest.fixture
def compare(run: Run, shared_home: Path) -> Compare:
    """Assert that a suite and plain pytest in the same environments agree on each test and on the exit code."""

    def compare(*words: str, pythons: tuple[str, ...] = PYTHONS, environ: Mapping[str, str] = {}) -> Compared:
        place = Path.cwd()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            suite = run("--junitxml=suite.xml", *words, pythons=pythons)
        if suite.ret == pytest.ExitCode.USAGE_ERROR:
            run("--co", pythons=pythons)  # it may have ended before there were environments
        ours = outcomes_of(place / "suite.xml") if (place / "suite.xml").exists() else {}
        # If a session cannot start, the suite reports an error of its Python, and plain pytest only an exit code.
        ours = {name: outcome for name, outcome in ours.items() if not name.startswith("::[")}
        plain = {}
        theirs: Outcomes = {}
        for version in pythons:
            done = plain[version] = run_plain(
                environment_of(shared_home, place, version), f"--junitxml={version}.xml", *words, environ=environ
            )
            assert "INTERNALERROR" not in done.stdout + done.stderr
            if (place / f"{version}.xml").exists():
                found = outcomes_of(place / f"{version}.xml")
                theirs |= {f"{name}[py{version}]": outcome for name, outcome in found.items()}
        assert ours == theirs, suite.stdout.str()
        codes = {done.returncode for done in plain.values()}
        expected = codes.pop() if len(codes) == 1 else pytest.ExitCode.TESTS_FAILED
        assert suite.ret == expected, suite.stdout.str()
        return Compared(plain, suite)

    return compare


def run_plain(environment: Path, *words: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run plain pytest in `environment`."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    command = [str(environment / "bin" / "pytest"), "-p", "no:cacheprovider", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**variables, **environ})
