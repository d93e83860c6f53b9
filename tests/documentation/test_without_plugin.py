"""The project of ``docs/howto/optional.md`` passes without the plugin: under plain pytest, tox and nox."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, fenced, is_as_shown, steps

PAGE = DOCS / "howto" / "optional.md"
TOX = '[env_run_base]\npackage = "skip"\ndeps = ["pytest"]\ncommands = [["pytest", "-q", "-W", "error"]]\n'
NOX = """
import nox


@nox.session(venv_backend="uv")
def tests(session):
    session.install("pytest")
    session.run("pytest", "-q", "-W", "error")
"""
_ENVIRON = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
"""Before a fixture hides the home directory, with what it says about package indexes."""


@pytest.fixture(name="bare", scope="module")
def _bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has pytest, tox and nox, and not this project."""
    directory = tmp_path_factory.mktemp("bare") / "venv"
    uv = Path(sys.executable).parent / "uv"
    python = directory / "bin" / "python"
    for words in (["venv", "--python", sys.executable, directory], _install(python, "pytest", "tox", "tox-uv", "nox")):
        done = subprocess.run([uv, *words], env=_ENVIRON, capture_output=True, text=True, check=False)
        if "No solution found" in done.stderr or "Failed to fetch" in done.stderr:
            pytest.skip("no package index in reach")
        assert not done.returncode, done.stderr
    return python.parent


def _install(python: Path, *names: str) -> list[str | Path]:
    return ["pip", "install", "--python", python, *names]


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """The last version of each file of the page."""
    for step in steps(PAGE.read_text(encoding="utf-8")):
        if not step.is_command:
            (tmp_path / step.name).write_text(step.text, encoding="utf-8")
    return tmp_path


def run(bare: Path, project: Path, *words: str) -> str:
    environ = _ENVIRON | {"PATH": os.pathsep.join([str(bare), _ENVIRON["PATH"]]), "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(
        [bare / words[0], *words[1:]], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_plain_pytest_skips_what_needs_the_plugin(bare: Path, project: Path) -> None:
    shown = next(text for language, text in fenced(PAGE) if language == "text")

    assert is_as_shown(run(bare, project, "pytest", "-q", "-W", "error").splitlines()[-1], shown)


@pytest.mark.timeout(600)  # a package index answers as fast as it likes
def test_tox_and_nox_neither_warn_nor_fail(bare: Path, project: Path) -> None:
    (project / "tox.toml").write_text(TOX)
    (project / "noxfile.py").write_text(NOX)

    assert "1 passed, 1 skipped" in run(bare, project, "tox", "run", "-e", "py")
    assert "1 passed, 1 skipped" in run(bare, project, "nox")


def test_without_the_conftest_pytest_says_what_it_lacks(bare: Path, project: Path) -> None:
    (project / "conftest.py").unlink()
    done = subprocess.run(
        [bare / "pytest", "-q"], cwd=project, env=_ENVIRON, capture_output=True, text=True, check=False
    )

    assert "Unknown config option: pyinstall_python" in done.stderr


def test_a_required_plugin_is_named(bare: Path, project: Path) -> None:
    tables = [text for language, text in fenced(PAGE) if language == "toml"]
    (project / "pyproject.toml").write_text(next(text for text in tables if "required_plugins" in text))
    done = subprocess.run(
        [bare / "pytest", "-q"], cwd=project, env=_ENVIRON, capture_output=True, text=True, check=False
    )

    assert "Missing required plugins: pytest-pyinstall" in done.stderr


def test_the_environment_of_tox_can_choose_its_own_python() -> None:
    [ini] = [text for language, text in fenced(PAGE) if language == "ini"]

    assert "PYTEST_PYINSTALL_PYTHON = current" in ini
