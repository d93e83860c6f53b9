"""What was asked for, parsed once. (skeleton: the owner of this file writes the parser)"""

from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from pytest_pyinstall.key import Key

__all__ = ["Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    text: str
    implementation: str | None = "cpython"
    specifier: SpecifierSet = SpecifierSet()
    variant: str = ""
    os: str | None = None
    arch: str | None = None
    libc: str | None = None
    path: Path | None = None

    def fits(self, key: Key) -> bool:
        raise NotImplementedError
