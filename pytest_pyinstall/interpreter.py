"""A Python that answered, and the virtual environments made from it. (skeleton)"""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_pyinstall.key import Key

__all__ = ["Environment", "Interpreter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    executable: Path
    key: Key
    version_info: tuple[int, int, int, str, int]
    prefix: Path
    base_prefix: Path
    base_executable: Path
    source: str
