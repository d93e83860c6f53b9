"""Does what the tutorial and the how-to guides say, where a newcomer would: ``python tests/support/newcomer.py``.

Everything is new: an empty home, a virtual environment with this project as it was built, one Python on ``PATH``, and a
directory mirror, packed out of this machine's Pythons, in place of the release host. Pages may be named; without any it
is the tutorial and every guide that has something to run. Ends with 1 where a page does not end as it says.
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

import archives  # its directory is put on sys.path above
import fresh
from pages import DOCS, SHOWN, World, is_as_shown

__all__ = ["made_programs", "main"]

TOLD = ("pytest", "pytest-xdist", "tox", "tox-uv", "nox", "uv")
"""What the pages tell to install."""


def made_programs(root: Path) -> Path | None:
    """The commands of an environment below `root` with this project and `TOLD`, None if no index is in reach."""
    try:
        return fresh.environment(root, *TOLD)
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
        print(f"this machine has no Python {', '.join(missing)} to be packed")
        return 1
    for name in list(os.environ):
        if name.startswith(("PYTEST_", "PYENV_", "XDG_", "TOX_", "NOX_", "VIRTUAL")):
            del os.environ[name]
    scratch = Path(tempfile.mkdtemp(prefix="newcomer-"))
    try:
        told, mirror = made_programs(scratch), archives.packed(scratch)
        codes = []
        for number, page in enumerate(pages):
            programs = _installed_as_written(page, scratch / "venv") if told and page.stem == "tutorial" else told
            codes.append(_does_as_it_says(page, scratch / str(number), mirror, programs))
        return max(codes)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)


def _installed_as_written(page: Path, venv: Path) -> Path:
    """The commands of a new environment, after the first block of `page` that a shell runs; ours comes as a wheel."""
    match = re.search(r"^```shell\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert match
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environ = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.defpath}",
        "PIP_FIND_LINKS": str(fresh.wheel(venv.parent)),
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    subprocess.run(["/bin/sh", "-euc", match[1]], env=environ, check=True)
    print(f"ok  $ {match[1].strip()}")
    return venv / "bin"


def _does_as_it_says(page: Path, directory: Path, mirror: Path, programs: Path | None) -> int:
    home = directory / "home"
    home.mkdir(parents=True)
    os.environ["HOME"] = str(home)
    print(f"== {page}")
    for step, written in World(directory, home, mirror, programs).follow(page):
        is_right = is_as_shown(written, step.text)
        print(f"{'ok ' if is_right else 'NOT'} $ {step.name}")
        if not is_right:
            print(f"{written}\n--- and the page shows ---\n{step.text}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
