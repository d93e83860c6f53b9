"""Follows the tutorial and the how-to guides as a newcomer would: ``python tests/support/newcomer.py [PAGE ...]``.

It uses an empty home, a virtual environment with a wheel of this project, one Python on ``PATH``, and a directory
mirror of this machine's Pythons in place of the release host. Without a page it follows the tutorial and each guide
that runs a command. It exits with 1 if the output differs from a page.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import archives  # needs the directory that is added to sys.path above
import tool_environments
from pages import DOCS, SHOWN, World, is_as_shown

__all__ = ["install_programs", "main"]

INSTALLED = ("pytest", "pytest-xdist", "tox", "tox-uv", "nox", "uv")
"""The packages that the pages install."""


def install_programs(root: Path) -> Path | None:
    """The programs of an environment with this project and `INSTALLED`; None if no package index can be reached."""
    try:
        return tool_environments.environment(root, *INSTALLED)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        if "No solution found" in str(error) or "Failed to fetch" in str(error) or "error sending" in str(error):
            return None
        raise


def main(names: Sequence[str]) -> int:
    pages = [Path(name) for name in names] or [
        page
        for page in (DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md")))
        if "```console" in page.read_text(encoding="utf-8")
    ]
    if missing := [version for version in SHOWN if version not in archives.interpreters()]:
        print(f"this machine has no Python {', '.join(missing)}")
        return 1
    for name in list(os.environ):
        if name.startswith(("PYTEST_", "PYENV_", "XDG_", "TOX_", "NOX_", "VIRTUAL")):
            del os.environ[name]
    scratch = Path(tempfile.mkdtemp(prefix="newcomer-"))
    try:
        programs, mirror = install_programs(scratch), archives.packed(scratch)
        codes = []
        for number, page in enumerate(pages):
            own = _install_as_written(page, scratch / "venv") if programs and page.stem == "tutorial" else programs
            codes.append(_follow(page, scratch / str(number), mirror, own))
        return max(codes)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)


def _install_as_written(page: Path, venv: Path) -> Path:
    """The commands of a new environment after running the first shell block of `page`, with a wheel of this project."""
    match = re.search(r"^```shell\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert match
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environ = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.defpath}",
        "PIP_FIND_LINKS": str(tool_environments.wheel(venv.parent)),
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    subprocess.run(["/bin/sh", "-euc", match[1]], env=environ, check=True)
    print(f"ok  $ {match[1].strip()}")
    return venv / "bin"


def _follow(page: Path, directory: Path, mirror: Path, programs: Path | None) -> int:
    home = directory / "home"
    home.mkdir(parents=True)
    os.environ["HOME"] = str(home)
    print(f"== {page}")
    for step, written in World(directory, home, mirror, programs).follow(page):
        is_right = is_as_shown(written, step.text)
        print(f"{'ok ' if is_right else 'NOT'} $ {step.name}")
        if not is_right:
            print(f"{written}\n--- but the page shows ---\n{step.text}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
