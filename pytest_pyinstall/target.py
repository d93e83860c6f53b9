"""Where a Python runs: operating system, architecture and C library."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["ARCHITECTURE_WORDS", "LIBC_WORDS", "SYSTEM_WORDS", "Target"]

_OPERATING_SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
_PLATFORMS = {"darwin": "macos", "win32": "windows"}
_ARCHITECTURES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "i386": "x86",
    "i686": "x86",
    "armv8l": "armv7",
    "armv7l": "armv7",
    "ppc64le": "powerpc64le",
    "riscv64": "riscv64gc",
}

SYSTEM_WORDS: Mapping[str, str] = {"linux": "linux", "macos": "macos", "darwin": "macos", "windows": "windows"}
"""Each word by which keys and catalogues name a system that we know, and ours for it."""

ARCHITECTURE_WORDS: Mapping[str, str] = _ARCHITECTURES | {
    word: word
    for word in (
        *("x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4", "aarch64", "x86", "armv7"),
        *("powerpc64le", "powerpc64", "s390x", "riscv64gc", "loongarch64"),
    )
}
"""Each word by which keys and catalogues name an architecture that we know, and ours for it."""

LIBC_WORDS = frozenset({"gnu", "gnueabi", "gnueabihf", "musl", "musleabi", "musleabihf", "none"})
"""The C libraries that we know; ``none`` off Linux."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Target:
    """Where a Python runs, in the words of uv's keys.

    `os` is ``linux``, ``macos``, ``windows`` (or any other word that a catalogue uses); `arch` is ``x86_64``,
    ``aarch64``, ``x86_64_v3``, …; `libc` is ``gnu``, ``musl``, ``gnueabihf``, … and ``none`` off Linux.
    """

    os: str
    arch: str
    libc: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}-{self.libc}"

    @staticmethod
    def current() -> "Target":
        """The machine, or rather the system and libc of the Python, that we run on."""
        return _current()

    @classmethod
    def of(cls, *, system: str, machine: str, bits: int, musl: bool) -> Self:
        """The target of a Python that reports `sys.platform`, its machine, its pointer size and its C library."""
        system = _PLATFORMS.get(system, system)
        arch = _ARCHITECTURES.get(machine.lower(), machine.lower())
        if bits == 32:  # under a 64-bit kernel
            arch = {"x86_64": "x86", "aarch64": "armv7"}.get(arch, arch)
        libc = "none"
        if system == "linux":
            libc = ("musl" if musl else "gnu") + ("eabihf" if arch == "armv7" else "")
        return cls(os=system, arch=arch, libc=libc)


@cache
def _current() -> Target:
    system = _OPERATING_SYSTEMS.get(platform.system(), platform.system().lower())
    machine = platform.machine().lower()
    arch = _ARCHITECTURES.get(machine, machine)
    if arch == "x86_64" and sys.maxsize < 2**32:
        arch = "x86"  # a 32-bit Python on a 64-bit Windows
    return Target(os=system, arch=arch, libc=_libc(system, arch))


def _libc(system: str, arch: str) -> str:
    if system != "linux":
        return "none"
    suffix = "eabihf" if arch == "armv7" else ""
    if platform.libc_ver()[0] != "glibc" and any(Path("/lib").glob("ld-musl-*.so.1")):
        return "musl" + suffix
    return "gnu" + suffix
