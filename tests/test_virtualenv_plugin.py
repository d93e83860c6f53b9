"""The real virtualenv, as a process, with no interpreter on ``PATH``."""

import os
from collections.abc import Iterator
from pathlib import Path

import archives
import mirror
import pytest
import tool_environments

pytestmark = pytest.mark.skipif(
    not {"3.9", "3.12"} <= set(archives.interpreters()), reason="needs CPython 3.9 and 3.12"
)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return tool_environments.environment(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base, "tox")


@pytest.fixture
def served(mirror_directory: Path) -> Iterator[mirror.Mirror]:
    with mirror.serve(mirror_directory) as server:
        yield server


def made_from(environment: Path) -> str:
    lines = (environment / "pyvenv.cfg").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)["base-executable"]


def test_what_is_missing_is_installed_and_found_again_offline(
    tools: Path, served: mirror.Mirror, tmp_path: Path
) -> None:
    env = tool_environments.environ(tmp_path, mirror=served.url)
    command = (tools / "virtualenv", "--without-pip")
    refused = tool_environments.run(*command, "-p", "3.9", "x", cwd=tmp_path, env=env, codes=[1]).stdout
    assert "3.9" in refused
    assert served.requests == []  # virtualenv's own discovery is what it always was

    tool_environments.run(*command, "--discovery", "pyinstall", "-p", "3.9", "x", cwd=tmp_path, env=env)
    assert "cpython-3.9." in made_from(tmp_path / "x")
    assert tool_environments.run(tmp_path / "x" / "bin" / "python", "-V", cwd=tmp_path, env=env).stdout.startswith(
        "Python 3.9."
    )

    served.close()
    tool_environments.run(*command, "--discovery", "pyinstall", "-p", "py39", "y", cwd=tmp_path, env=env)
    assert made_from(tmp_path / "y") == made_from(tmp_path / "x")


def test_where_attestations_are_required_the_machine_has_nothing_to_offer(
    tools: Path, served: mirror.Mirror, tmp_path: Path
) -> None:
    directory = archives.interpreters()["3.12"].parent
    env = tool_environments.environ(tmp_path, mirror=served.url, PYTEST_PYINSTALL_ATTESTATION="require")
    env["PATH"] = f"{directory}{os.pathsep}{env['PATH']}"
    command = (tools / "virtualenv", "--without-pip", "--discovery", "pyinstall", "-p", "3.12", "x")
    said = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "python -m pip install 'pytest-pyinstall[attest]'" in said
    assert not (tmp_path / "x").exists()

    env["PYTEST_PYINSTALL_ATTESTATION"] = "ignore"
    tool_environments.run(*command, cwd=tmp_path, env=env)


def test_the_variable_chooses_it_too(tools: Path, served: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(
        tmp_path, mirror=served.url, VIRTUALENV_DISCOVERY="pyinstall", VIRTUALENV_WITHOUT_PIP="1"
    )
    tool_environments.run(tools / "virtualenv", "-p", ">=3.12,<3.13", "x", cwd=tmp_path, env=env)
    assert "cpython-3.12." in made_from(tmp_path / "x")

    # Without a version it makes an environment of the Python that it runs in, and asks no one.
    served.reset_counts()
    tool_environments.run(tools / "virtualenv", "y", cwd=tmp_path, env=env)
    tool_environments.run(tools / "virtualenv", "-p", "python", "z", cwd=tmp_path, env=env)
    assert made_from(tmp_path / "y") == made_from(tmp_path / "z")
    assert served.requests == []


def test_the_other_options_of_discovery_keep_working(tools: Path, served: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=served.url, VIRTUALENV_WITHOUT_PIP="1")
    command = (tools / "virtualenv", "--discovery", "pyinstall")
    here = {version: str(path) for version, path in archives.interpreters().items()}

    # A path.
    tool_environments.run(*command, "-p", here["3.9"], "path", cwd=tmp_path, env=env)
    assert made_from(tmp_path / "path") == here["3.9"]
    # What is tried first goes before everything, if it fits.
    tried = ("--try-first-with", here["3.12"], "--try-first-with", here["3.9"])
    tool_environments.run(*command, *tried, "-p", "3.9", "first", cwd=tmp_path, env=env)
    assert made_from(tmp_path / "first") == here["3.9"]
    # Of several the first that is here wins, and nothing is downloaded for the others.
    tool_environments.run(*command, "-p", "3.12", "-p", here["3.9"], "several", cwd=tmp_path, env=env)
    assert made_from(tmp_path / "several") == here["3.9"]
    assert served.requests == []
    # If none is here, the first that can be had.
    tool_environments.run(*command, "-p", "3.99", "-p", "3.12", "-p", "3.9", "had", cwd=tmp_path, env=env)
    assert "cpython-3.12." in made_from(tmp_path / "had")


def test_it_says_why_it_found_nothing(tools: Path, served: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=served.url, PYTEST_PYINSTALL_DOWNLOADS="never")
    command = (tools / "virtualenv", "--discovery", "pyinstall", "--without-pip", "-p", "3.9", "x")
    said = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "PYTEST_PYINSTALL_DOWNLOADS: never" in said
    assert "failed to find interpreter for Pyinstall discover of python_spec='3.9'" in said
    assert "Traceback" not in said

    env["PYTEST_PYINSTALL_PREFERENCE"] = "mine"
    said = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "PYTEST_PYINSTALL_PREFERENCE: 'mine' is none of" in said
    assert "Traceback" not in said


def test_it_says_that_a_word_names_no_python(tools: Path, served: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=served.url)
    command = (tools / "virtualenv", "--discovery", "pyinstall", "--without-pip", "-p", "nonsense x", "x")
    said = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert said.count("'nonsense x' does not name a Python: it is neither a version nor an executable on PATH") == 1
    assert "Traceback" not in said
