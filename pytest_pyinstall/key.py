"""The identity of a Python: implementation, version, variant and target, and its text form."""

from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from packaging.version import InvalidVersion, Version

from pytest_pyinstall.target import Target

__all__ = ["Key"]


@total_ordering
@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Which Python it is. The text form is uv's, and names the installation, its lock and every log line about it.

    >>> str(Key.parse("cpython-3.13.1+freethreaded-linux-x86_64-gnu").version)
    '3.13.1'

    `variant` is empty for the usual build, else ``freethreaded``, ``debug``, ``freethreaded+debug`` or ``gil``.
    For PyPy and GraalPy `version` is the version of the language, not of the product.
    """

    implementation: str
    version: Version
    variant: str = ""
    target: Target

    def __str__(self) -> str:
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.implementation}-{self.version}{variant}-{self.target}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return self._order < other._order

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises `ValueError` for anything that is not exactly one."""
        parts = text.split("-")
        if len(parts) != 5 or not all(parts):
            msg = f"not a key (implementation-version-os-arch-libc): {text!r}"
            raise ValueError(msg)
        implementation, version, system, arch, libc = parts
        number, _, variant = version.partition("+")
        try:
            parsed = Version(number)
        except InvalidVersion:
            msg = f"not a key, {number!r} is no version: {text!r}"
            raise ValueError(msg) from None
        if len(parsed.release) != 3 or str(parsed) != number:
            msg = f"not a key, {number!r} is not major.minor.patch: {text!r}"
            raise ValueError(msg)
        target = Target(os=system, arch=arch, libc=libc)
        return cls(implementation=implementation, version=parsed, variant=variant, target=target)

    @property
    def is_free_threaded(self) -> bool:
        return "freethreaded" in self.variant.split("+")

    @property
    def is_debug(self) -> bool:
        return "debug" in self.variant.split("+")

    @property
    def minor_link(self) -> str:
        """The name of uv's link to the newest patch of this minor version: ``cpython-3.12-linux-x86_64-gnu``."""
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.implementation}-{self.version.major}.{self.version.minor}{variant}-{self.target}"

    @property
    def executable(self) -> str:
        """Where the interpreter lies below an installation, with ``/`` between the parts.

        Source: the layouts of python-build-standalone, PyPy and GraalPy, as uv's ``ManagedPythonInstallation`` reads
        them.
        """
        windows = self.target.os == "windows"
        minor = f"{self.version.major}.{self.version.minor}"
        if self.implementation == "cpython":
            suffix = ("t" if self.is_free_threaded else "") + ("d" if self.is_debug else "")
            return "python.exe" if windows else f"bin/python{minor}{suffix}"
        if self.implementation == "pypy":
            return f"pypy{minor}.exe" if windows else f"bin/pypy{minor}"
        return f"bin/{self.implementation}.exe" if windows else f"bin/{self.implementation}"

    @property
    def short(self) -> str:
        """How the command line and messages name it: ``3.12.4``, ``3.13.1t``, ``pypy3.11.13``."""
        name = "" if self.implementation == "cpython" else self.implementation
        suffix = ("t" if self.is_free_threaded else "") + ("d" if self.is_debug else "")
        return f"{name}{self.version}{suffix}"

    @property
    def _order(self) -> tuple[bool, str, Version, str, Target]:
        # CPython last, so that the newest of a mixed list is a CPython.
        return (self.implementation == "cpython", self.implementation, self.version, self.variant, self.target)
