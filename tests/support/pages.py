"""What the pages of the documentation show, and a place in which to do it.

In a page, ```` ```console ```` is run: each line after ``$`` is a command, the lines below it are what it writes. A
block of Python or TOML whose first line is a comment with a file's name is that file. All of a page happens in one
directory, in order. In what is written ``…`` stands for any text, and alone on a line for any lines.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["BLOCK", "DOCS", "ROOT", "SHOWN", "Step", "World", "fenced", "is_as_shown", "plain", "steps"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHOWN = ("3.9", "3.10", "3.11", "3.12", "3.13")
"""The Pythons of the pages."""

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(page: Path) -> Iterator[tuple[str, str]]:
    """The language and the text of every block of `page`, those in lists too."""
    text = re.sub(r"^ +(?=```)", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for block in BLOCK.finditer(text):
        yield block["language"], block["text"]


_SHELL = ("sh", "ls", "cat", "rm", "env", "dirname", "realpath", "uname", "chmod", "mkdir")
_PROGRAMS = ("pytest", "pytest-pyinstall", "tox", "nox", "uv")


class Step(NamedTuple):
    """A file to be written, or a command with what it is to write."""

    name: str
    text: str
    is_command: bool


class World:
    """What a newcomer has: an empty home with one project in it, one Python, the programs that the pages use.

    `programs` is the directory of commands of a virtual environment that holds this project as it was built, and what
    the pages tell to install; without it (no package index is in reach) the running interpreter is in. Archives
    come from the directory `mirror` in place of the release host. No other Python is in sight, and the one that runs
    pytest is not to be taken for one of those that a page asks for.
    """

    def __init__(self, tmp_path: Path, home: Path, mirror: Path, programs: Path | None = None) -> None:
        self.project = home / "slug"
        self.project.mkdir()
        self.home = home
        self.code = 0
        shell = tmp_path / "shell"
        shell.mkdir()
        for name in _SHELL:
            if found := shutil.which(name):
                (shell / name).symlink_to(found)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))},
            "PATH": os.pathsep.join(map(str, [programs, shell] if programs else [shell])),
            # Else the sessions of the pages would tidy up what other sessions left in the system's.
            "TMPDIR": str(tmp_path),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "PYTEST_PYINSTALL_MIRROR": str(mirror),
            "PYTEST_PYINSTALL_CATALOGUE": f"{mirror}/catalogue.json",
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
        }
        if programs is None:
            for name in _PROGRAMS:
                (shell / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name.replace("-", "_")} "$@"\n')
                (shell / name).chmod(0o755)
            self.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            self.environ["PYTEST_PLUGINS"] = "pytest_pyinstall.pytest_plugin,xdist.plugin"

    def follow(self, page: Path) -> Iterator[tuple[Step, str]]:
        """Do what `page` says, step by step: each command, with what it wrote."""
        for step in steps(page.read_text(encoding="utf-8")):
            if step.is_command:
                yield step, self.run(step.name)
            else:
                path = self.project / step.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.text, encoding="utf-8")

    def run(self, command: str, *, keep_colors: bool = False) -> str:
        """What `command` writes. As in a shell, ``$?`` is the exit code of the one before."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"(exit {self.code}); {command.replace('/home/you', str(self.home))}"],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        self.code = done.returncode
        written = done.stdout.replace(str(self.home), "/home/you")
        return written if keep_colors else re.sub(r"\x1b\[[0-9;]*m", "", written)


def steps(page: str) -> Iterator[Step]:
    for block in BLOCK.finditer(page):
        language, text = block["language"], block["text"]
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, written = part.partition("\n")
                yield Step(command, written, is_command=True)
        elif language in {"python", "toml"} and (name := re.match(r"# ([\w./-]+\.(?:py|toml))\n", text)):
            yield Step(name[1], text, is_command=False)


def plain(text: str) -> str:
    """Without what differs from run to run: patch versions, durations, sizes, padding."""
    text = re.sub(r"\b(3\.\d+)\.\d+\b", r"\1.P", text)
    text = re.sub(r"\b\d+\.\d+ ?s\b", "T s", text)
    text = re.sub(r"\b\d+(\.\d+)? (KiB|MiB|GiB)", "SIZE", text)
    text = re.sub(r"([=_-])\1{3,}", r"\1\1\1\1", text)
    text = re.sub(r"(?<=\S)  +", "  ", text)
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def is_as_shown(written: str, shown: str) -> bool:
    pattern = re.escape(plain(shown))
    pattern = re.sub(r"^…\n", "(?:.*\n)*?", pattern.replace("\\\n", "\n"), flags=re.MULTILINE).replace("…", ".*?")
    return re.fullmatch(pattern, plain(written)) is not None
