"""Reads the blocks of documentation pages, and runs them.

In a ```` ```console ```` block, each line after ``$`` is a command, and the lines below it are its output. A block of
Python or TOML whose first line is a comment with a file name is that file. All steps of a page run in one directory, in
order. In output, ``…`` stands for any text, and ``…`` alone on a line stands for any lines.
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
"""The versions that the pages show."""

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block of `page`, including those in lists, except what is made from the code."""
    text = re.sub(r"<!-- from code: (.+) -->.*?<!-- end of \1 -->", "", page.read_text("utf-8"), flags=re.DOTALL)
    text = re.sub(r"^ +(?=```)", "", text, flags=re.MULTILINE)
    for block in BLOCK.finditer(text):
        yield block["language"], block["text"]


_SHELL = ("sh", "ls", "cat", "rm", "env", "dirname", "realpath", "uname", "chmod", "mkdir")
_PROGRAMS = ("pytest", "pytest-pyinstall", "tox", "nox", "uv")


class Step(NamedTuple):
    """A file to write, or a command with its expected output."""

    name: str
    text: str
    is_command: bool


class World:
    """The machine of a newcomer: an empty home with one project, one Python, and the programs that the pages use.

    `programs` is the ``bin`` directory of a virtual environment with a wheel of this project and the packages that the
    pages install. Without it (no package index can be reached), the running interpreter provides them. Archives come
    from the directory `mirror` and not from the release host. No other Python can be found, and the one that runs
    pytest is not used for a Python that a page requests.
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
            # In the temporary directory of the system, the sessions of the pages would sweep what other sessions left.
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
        """Run the steps of `page`, and yield each command with its output."""
        for step in steps(page.read_text(encoding="utf-8")):
            if step.is_command:
                yield step, self.run(step.name)
            else:
                path = self.project / step.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.text, encoding="utf-8")

    def run(self, command: str, *, keep_colors: bool = False) -> str:
        """The output of `command`. As in a shell, ``$?`` is the exit code of the previous command."""
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
        if re.search(r" -q\b", command):
            # With -q, only what takes longer than a second is announced, which depends on the machine.
            done.stdout = re.sub(r"^(Downloading|making an environment for) .*\n", "", done.stdout, flags=re.MULTILINE)
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
    """`text` without what differs between runs: patch versions, durations, sizes and padding."""
    text = re.sub(r"\b(3\.\d+)\.\d+\b", r"\1.P", text)
    text = re.sub(r"\b\d+\.\d+ ?s\b", "T s", text)
    text = text.replace(" in the catalogue of PYTEST_PYINSTALL_CATALOGUE", "")  # the pages show the default
    text = re.sub(r"\b\d+(\.\d+)? (KiB|MiB|GiB)", "SIZE", text)
    text = re.sub(r"([=_-])\1{3,}", r"\1\1\1\1", text)
    text = re.sub(r"(?<=\S)  +", "  ", text)
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def is_as_shown(written: str, shown: str) -> bool:
    pattern = re.escape(plain(shown))
    pattern = re.sub(r"^…\n", "(?:.*\n)*?", pattern.replace("\\\n", "\n"), flags=re.MULTILINE).replace("…", ".*?")
    return re.fullmatch(pattern, plain(written)) is not None
