"""The real virtualenv installs missing Pythons, with no interpreter on ``PATH``."""

import os
from pathlib import Path

import archives
import mirror
import pytest
import tool_environments

pytestmark = pytest.mark.skipif(
    not {"3.9", "3.12"} <= set(archives.interpreters()), reason="needs CPython 3.9 and 3.12"
)


@pytest.fixture(scope="session")
def tools(shared_directory: Path) -> Path:
    return tool_environments.environment(shared_directory, "tox")


def base_of(environment: Path) -> str:
    lines = (environment / "pyvenv.cfg").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)["base-executable"]


def test_a_missing_python_is_installed_and_found_again_offline(
    tools: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    env = tool_environments.environ(tmp_path, mirror=server.url)
    command = (tools / "virtualenv", "--without-pip")
    output = tool_environments.run(*command, "-p", "3.9", "x", cwd=tmp_path, env=env, codes=[1]).stdout
    assert "3.9" in output
    assert server.requests == []  # the default discovery of virtualenv is unchanged

    tool_environments.run(*command, "--discovery", "pyinstall", "-p", "3.9", "x", cwd=tmp_path, env=env)
    assert "cpython-3.9." in base_of(tmp_path / "x")
    assert tool_environments.run(tmp_path / "x" / "bin" / "python", "-V", cwd=tmp_path, env=env).stdout.startswith(
        "Python 3.9."
    )

    server.close()
    tool_environments.run(*command, "--discovery", "pyinstall", "-p", "py39", "y", cwd=tmp_path, env=env)
    assert base_of(tmp_path / "y") == base_of(tmp_path / "x")


def test_pythons_of_the_machine_are_not_used_if_attestations_are_required(
    tools: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    directory = archives.interpreters()["3.12"].parent
    env = tool_environments.environ(tmp_path, mirror=server.url, PYTEST_PYINSTALL_ATTESTATION="require")
    env["PATH"] = f"{directory}{os.pathsep}{env['PATH']}"
    command = (tools / "virtualenv", "--without-pip", "--discovery", "pyinstall", "-p", "3.12", "x")
    output = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "python -m pip install 'pytest-pyinstall[attest]'" in output
    assert not (tmp_path / "x").exists()

    env["PYTEST_PYINSTALL_ATTESTATION"] = "ignore"
    tool_environments.run(*command, cwd=tmp_path, env=env)


def test_the_variable_selects_the_plugin(tools: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(
        tmp_path, mirror=server.url, VIRTUALENV_DISCOVERY="pyinstall", VIRTUALENV_WITHOUT_PIP="1"
    )
    tool_environments.run(tools / "virtualenv", "-p", ">=3.12,<3.13", "x", cwd=tmp_path, env=env)
    assert "cpython-3.12." in base_of(tmp_path / "x")

    # Without a version it uses the Python that it runs on, and requests nothing.
    server.reset_counts()
    tool_environments.run(tools / "virtualenv", "y", cwd=tmp_path, env=env)
    tool_environments.run(tools / "virtualenv", "-p", "python", "z", cwd=tmp_path, env=env)
    assert base_of(tmp_path / "y") == base_of(tmp_path / "z")
    assert server.requests == []


def test_paths_try_first_with_and_several_requests_work(tools: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=server.url, VIRTUALENV_WITHOUT_PIP="1")
    command = (tools / "virtualenv", "--discovery", "pyinstall")
    here = {version: str(path) for version, path in archives.interpreters().items()}

    # A path.
    tool_environments.run(*command, "-p", here["3.9"], "path", cwd=tmp_path, env=env)
    assert base_of(tmp_path / "path") == here["3.9"]
    # --try-first-with has precedence if it matches.
    tried = ("--try-first-with", here["3.12"], "--try-first-with", here["3.9"])
    tool_environments.run(*command, *tried, "-p", "3.9", "first", cwd=tmp_path, env=env)
    assert base_of(tmp_path / "first") == here["3.9"]
    # The first of several requests that matches a local Python is used, and nothing is downloaded.
    tool_environments.run(*command, "-p", "3.12", "-p", here["3.9"], "several", cwd=tmp_path, env=env)
    assert base_of(tmp_path / "several") == here["3.9"]
    assert server.requests == []
    # Otherwise, the first that can be installed.
    tool_environments.run(*command, "-p", "3.99", "-p", "3.12", "-p", "3.9", "had", cwd=tmp_path, env=env)
    assert "cpython-3.12." in base_of(tmp_path / "had")


def test_the_output_has_the_reason_if_no_python_is_found(tools: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=server.url, PYTEST_PYINSTALL_DOWNLOADS="never")
    command = (tools / "virtualenv", "--discovery", "pyinstall", "--without-pip", "-p", "3.9", "x")
    output = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "PYTEST_PYINSTALL_DOWNLOADS: never" in output
    assert "failed to find interpreter for Pyinstall discover of python_spec='3.9'" in output
    assert "Traceback" not in output

    env["PYTEST_PYINSTALL_PREFERENCE"] = "mine"
    output = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert "PYTEST_PYINSTALL_PREFERENCE: 'mine' is not one of" in output
    assert "Traceback" not in output


def test_the_output_says_that_a_text_is_not_a_request(tools: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    env = tool_environments.environ(tmp_path, mirror=server.url)
    command = (tools / "virtualenv", "--discovery", "pyinstall", "--without-pip", "-p", "nonsense x", "x")
    output = tool_environments.run(*command, cwd=tmp_path, env=env, codes=[1]).stdout
    assert output.count("'nonsense x' does not name a Python: it is neither a version nor an executable on PATH") == 1
    assert "Traceback" not in output
