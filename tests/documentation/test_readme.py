"""The two commands of the README work in a fresh clone."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = "python3 -m venv .venv && .venv/bin/pip install --quiet tox && .venv/bin/tox run -e py"

_ENVIRON = dict(os.environ)
"""The variables before a fixture hides the home directory, including those of package indexes."""


def commands() -> list[str]:
    blocks = re.findall(
        r"^```shell\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line for block in blocks for line in block.splitlines()]


def fresh_clone(tmp_path: Path) -> Path:
    """A copy of the files of the next commit, with the changes of the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("needs a clone")
    for name in os.fsdecode(listed.stdout).split("\0"):
        if name and (ROOT / name).is_file():
            target = tmp_path / "clone" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    return tmp_path / "clone"


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    assert TESTS in commands()
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.timeout(600)  # a package index may be slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_the_first_command_shows_the_examples_in_a_fresh_clone(tmp_path: Path, isolated_home: Path) -> None:
    make, install, show = next(line for line in commands() if "examples" in line).split(" && ")
    clone = fresh_clone(tmp_path)
    subprocess.run([sys.executable, *shlex.split(make)[1:]], cwd=clone, env=_ENVIRON, check=True, timeout=200)
    installed = subprocess.run(
        shlex.split(install), cwd=clone, env=_ENVIRON, capture_output=True, text=True, timeout=500, check=False
    )
    if "No matching distribution" in installed.stderr:
        pytest.skip(f"needs a package index: {installed.stderr.splitlines()[-1]}")
    assert not installed.returncode, installed.stderr

    # A machine with only the running Python, on which nothing is downloaded.
    environ = {**os.environ, "PATH": os.defpath, "PYTEST_PYINSTALL_DOWNLOADS": "never"}
    shown = subprocess.run(
        shlex.split(show), cwd=clone, env=environ, capture_output=True, text=True, timeout=200, check=False
    )

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert re.search(r"^pythons: 3\.\d+\.\d+\S* \(", shown.stdout, re.MULTILINE)
    assert re.search(r" passed", shown.stdout)
    assert "failed" not in shown.stdout
