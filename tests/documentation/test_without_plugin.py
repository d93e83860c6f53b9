"""The project of ``docs/howto/optional.md`` passes without the plugin, under plain pytest, tox and nox."""

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
"""The variables before a fixture hides the home directory, including those of package indexes."""


@pytest.fixture(name="bare", scope="module")
def _bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with pytest, tox and nox, but without this project."""
    directory = tmp_path_factory.mktemp("bare") / "venv"
    uv = Path(sys.executable).parent / "uv"
    python = directory / "bin" / "python"
    for words in (["venv", "--python", sys.executable, directory], _install(python, "pytest", "tox", "tox-uv", "nox")):
        done = subprocess.run([uv, *words], env=_ENVIRON, capture_output=True, text=True, check=False)
        if "No solution found" in done.stderr or "Failed to fetch" in done.stderr:
            pytest.skip("needs a package index")
        assert not done.returncode, done.stderr
    return python.parent


def _install(python: Path, *names: str) -> list[str | Path]:
    return ["pip", "install", "--python", python, *names]


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """A project with the last version of each file of the page."""
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

    words = ("pytest", "-q", "-W", "error", "--strict-config", "--strict-markers")
    assert is_as_shown(run(bare, project, *words).splitlines()[-1], shown)


def test_a_disabled_plugin_is_like_none(project: Path) -> None:
    words = ("pytest", "-q", "-p", "no:pyinstall", "-p", "no:randomly", "--strict-config", "--strict-markers")
    assert "1 passed, 1 skipped" in run(Path(sys.executable).parent, project, *words)


@pytest.mark.timeout(600)  # a package index may be slow
def test_the_tests_pass_under_tox_and_nox_without_a_warning(bare: Path, project: Path) -> None:
    (project / "tox.toml").write_text(TOX)
    (project / "noxfile.py").write_text(NOX)

    assert "1 passed, 1 skipped" in run(bare, project, "tox", "run", "-e", "py")
    assert "1 passed, 1 skipped" in run(bare, project, "nox")


def test_pytest_without_the_conftest_names_the_unknown_ini_value(bare: Path, project: Path) -> None:
    (project / "conftest.py").unlink()
    done = subprocess.run(
        [bare / "pytest", "-q", "--strict-config"],
        cwd=project,
        env=_ENVIRON,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Unknown config option: pyinstall_python" in done.stderr


def test_pytest_names_a_missing_required_plugin(bare: Path, project: Path) -> None:
    tables = [text for language, text in fenced(PAGE) if language == "toml"]
    (project / "pyproject.toml").write_text(next(text for text in tables if "required_plugins" in text))
    done = subprocess.run(
        [bare / "pytest", "-q"], cwd=project, env=_ENVIRON, capture_output=True, text=True, check=False
    )

    assert "Missing required plugins: pytest-pyinstall" in done.stderr


def test_the_tox_environment_of_the_page_uses_its_own_python() -> None:
    [ini] = [text for language, text in fenced(PAGE) if language == "ini"]

    assert "PYTEST_PYINSTALL_PYTHON = current" in ini
