"""A home directory in which tools have installed Pythons of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

from archives import NEWEST, interpreters

from pytest_pyinstall.errors import ProbeError  # noqa: TC001  # like the other imports
from pytest_pyinstall.interpreter.discover import discover
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import Request

OTHERS = interpreters()


VERSIONS = {minor: str(probe(path, environ=os.environ).version) for minor, path in OTHERS.items()}


class Machine:
    """An empty home directory and an empty PATH, to which a test adds Pythons."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"PATH": str(home / "path"), "HOME": str(home)}
        self.target = Target.current()
        self.skipped: list[tuple[Path, ProbeError]] = []

    def put(self, place: str, minor: str = NEWEST) -> Path:
        """A script at `place` that runs the Python of `minor`."""
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {OTHERS[minor]} "$@"\n')
        path.chmod(0o755)
        return path

    def link(self, place: str, minor: str = NEWEST) -> Path:
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(OTHERS[minor])
        return path

    def trap(self, place: str) -> Path:
        """A script at `place` that must not be run; `sprung` lists those that were."""
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho $0 >> {self.home}/sprung\nexit 1\n")
        path.chmod(0o755)
        return path

    @property
    def sprung(self) -> list[str]:
        mark = self.home / "sprung"
        return mark.read_text().splitlines() if mark.exists() else []

    def find(self, request: str, **more: object) -> list[Interpreter]:
        return list(self.lazily(request, **more))

    def lazily(self, request: str, **more: object) -> Iterator[Interpreter]:
        return discover(
            Request.parse(request, directory=self.home),
            environ=self.environ,
            home=self.home,
            target=self.target,
            on_skip=lambda path, error: self.skipped.append((path, error)),
            **more,  # type: ignore[arg-type]  # what a test varies
        )
