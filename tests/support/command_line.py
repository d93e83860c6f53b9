"""Runs the command line, in this process or in a separate one."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_pyinstall.request.identity import Target

TARGET = Target.current()


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Done]


def start(*words: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest_pyinstall", *words]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **options)


def key(version: str) -> str:
    return f"cpython-{version}-{TARGET}"


def standard_library(store: Path, version: str) -> Path:
    return next((store / key(version)).rglob("os.py")).parent
