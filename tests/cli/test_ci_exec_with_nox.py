"""The real nox and make find their Pythons under ``pytest-pyinstall exec``."""

import shutil
from pathlib import Path

import archives
import mirror
import pytest
import tool_environments

pytestmark = pytest.mark.skipif(
    not {"3.8", "3.12"} <= set(archives.interpreters()), reason="needs CPython 3.8 and 3.12"
)

NOXFILE = """
import nox

nox.options.error_on_missing_interpreters = True

@nox.session(python=["3.8", "3.12"], venv_backend="uv")
def tests(session):
    session.run("python", "-c", "import sys; print('sample', '%d.%d' % sys.version_info[:2])")
"""


@pytest.fixture(scope="session")
def tools(shared_directory: Path) -> Path:
    return tool_environments.environment(shared_directory, "nox", "uv")


def test_nox_finds_the_pythons_of_its_sessions(
    tools: Path, server: mirror.Mirror, tmp_path: Path, project: Path
) -> None:
    (project / "noxfile.py").write_text(NOXFILE)
    env = tool_environments.environ(tmp_path, mirror=server.url)
    missing = tool_environments.run(tools / "nox", cwd=project, env=env, codes=[1]).stdout
    assert tool_environments.answers(missing) == []

    command = (tools / "pytest-pyinstall", "exec", "--python", "3.8", "--python", "3.12", "--", tools / "nox")
    assert tool_environments.answers(tool_environments.run(*command, cwd=project, env=env).stdout) == ["3.8", "3.12"]
    asked = len(server.requests)
    assert tool_environments.answers(tool_environments.run(*command, cwd=project, env=env).stdout) == ["3.8", "3.12"]
    assert len(server.requests) == asked


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_finds_pythons_by_command_name(tools: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n\tpython3.8 -V\n\tpython3.12 -V\n")
    env = tool_environments.environ(tmp_path, mirror=server.url)
    make = shutil.which("make")
    assert make
    command = (tools / "pytest-pyinstall", "exec", "--python", "3.8,3.12", "--", make)
    said = tool_environments.run(*command, cwd=tmp_path, env=env).stdout
    assert "\nPython 3.8." in said
    assert "\nPython 3.12." in said
