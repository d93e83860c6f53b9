"""The identity of a Python (implementation, version, variant, target), its build, its archive and who signed that."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import cache, cached_property, total_ordering
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

__all__ = [
    "ARCHITECTURE_WORDS",
    "GITHUB_ISSUER",
    "LIBC_WORDS",
    "PREDICATE",
    "RELEASE_WORKFLOW",
    "ROOT_HINT",
    "SYSTEM_WORDS",
    "Archive",
    "Attestation",
    "Build",
    "Key",
    "Signer",
    "Target",
    "normalized_number",
    "suffix_of",
]


_PLATFORMS = {"darwin": "macos", "linux": "linux", "win32": "windows"}


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
"""The words for systems in keys and catalogues, and our word for each."""


ARCHITECTURE_WORDS: Mapping[str, str] = _ARCHITECTURES | {
    word: word
    for word in (
        *("x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4", "aarch64", "x86", "armv7"),
        *("powerpc64le", "powerpc64", "s390x", "riscv64gc", "loongarch64"),
    )
}
"""The words for architectures in keys and catalogues, and our word for each."""


LIBC_WORDS = frozenset({"gnu", "gnueabi", "gnueabihf", "musl", "musleabi", "musleabihf", "none"})
"""The C libraries; ``none`` if the system is not Linux."""


def suffix_of(variant: str) -> str:
    """What a variant adds to a version: ``t`` (free-threaded), ``d`` (debug), ``td``, or nothing."""
    variants = variant.split("+")
    return ("t" if "freethreaded" in variants else "") + ("d" if "debug" in variants else "")


@total_ordering
class Target(Value):
    """The system that a Python runs on, in the words of uv's keys.

    `os` is ``linux``, ``macos``, ``windows`` (or any other word that a catalogue uses); `arch` is ``x86_64``,
    ``aarch64``, ``x86_64_v3``, …; `libc` is ``gnu``, ``musl``, ``gnueabihf``, … and ``none`` if `os` is not ``linux``.
    """

    os: str
    arch: str
    libc: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}-{self.libc}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Target):
            return NotImplemented
        return (self.os, self.arch, self.libc) < (other.os, other.arch, other.libc)

    @staticmethod
    def current() -> Target:
        """The target of the running Python."""
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
    system = _PLATFORMS.get(sys.platform) or _system()
    machine = _machine().lower()
    arch = _ARCHITECTURES.get(machine, machine)
    if arch == "x86_64" and sys.maxsize < 2**32:
        arch = "x86"  # a 32-bit Python on a 64-bit Windows
    return Target(os=system, arch=arch, libc=_libc(system, arch))


def _system() -> str:
    if sys.platform != "win32":
        return os.uname().sysname.lower()
    return sys.platform


def _machine() -> str:
    if sys.platform != "win32":
        return os.uname().machine
    import platform

    return platform.machine()


def _libc(system: str, arch: str) -> str:
    if system != "linux":
        return "none"
    suffix = "eabihf" if arch == "armv7" else ""
    if not _is_glibc() and any(Path("/lib").glob("ld-musl-*.so.1")):
        return "musl" + suffix
    return "gnu" + suffix


def _is_glibc() -> bool:
    if sys.platform != "win32":
        with suppress(ValueError, OSError, AttributeError):
            if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
                return True
    import platform

    return platform.libc_ver()[0] == "glibc"


_NUMBER = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:(a|b|rc)(0|[1-9][0-9]{0,8}))?")
"""A normalized version of a Python. Source: PEP 440, and `sys.version_info`."""


def normalized_number(text: str) -> str:
    """`text`, a version such as ``3.14.0rc1``, as the `number` of a key. Raises `ValueError` for any other version."""
    if _NUMBER.fullmatch(text):
        return text
    from packaging.version import Version

    number = str(Version(text))
    if not _NUMBER.fullmatch(number):
        msg = f"{text!r} is not major.minor.patch"
        raise ValueError(msg)
    return number


@total_ordering
class Key(Value):
    """The identity of a Python. Its text form is that of uv; installations, locks and log messages use it.

    >>> Key.parse("cpython-3.13.1+freethreaded-linux-x86_64-gnu").number
    '3.13.1'

    `number` is the version as normalized text, such as ``3.14.0rc1``; for PyPy and GraalPy it is the version of the
    language, not of the product. `variant` is empty for the usual build, otherwise ``freethreaded``, ``debug``,
    ``freethreaded+debug`` or ``gil``.
    """

    implementation: str
    number: str
    variant: str = ""
    target: Target

    def __str__(self) -> str:
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.implementation}-{self.number}{variant}-{self.target}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return self._order < other._order

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form. Raises `ValueError` for any other text."""
        parts = text.split("-")
        if len(parts) != 5 or not all(parts):
            msg = f"not a key (implementation-version-os-arch-libc): {text!r}"
            raise ValueError(msg)
        implementation, version, system, arch, libc = parts
        number, _, variant = version.partition("+")
        if not _NUMBER.fullmatch(number):
            msg = f"not a key, {number!r} is not major.minor.patch: {text!r}"
            raise ValueError(msg)
        target = Target(os=system, arch=arch, libc=libc)
        return cls(implementation=implementation, number=number, variant=variant, target=target)

    @cached_property
    def version(self) -> Version:
        """`number` as a version that can be compared with others."""
        # Imported here, because on Python 3.13 that takes 11 ms, a tenth of a command that has nothing to do.
        from packaging.version import Version

        return Version(self.number)

    @cached_property
    def _numbers(self) -> tuple[int, int, int, str, int]:
        """Major, minor, patch, stage and serial. The stages ``a``, ``b`` and ``rc`` are less than ``~``, no stage."""
        match = _NUMBER.fullmatch(self.number)
        assert match  # noqa: S101  # see `normalized_number`
        major, minor, patch, stage, serial = match.groups()
        return int(major), int(minor), int(patch), stage or "~", int(serial or 0)

    @property
    def release(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self._numbers[:3]

    @property
    def is_prerelease(self) -> bool:
        return self._numbers[3] != "~"

    @property
    def is_free_threaded(self) -> bool:
        return "freethreaded" in self.variant.split("+")

    @property
    def is_debug(self) -> bool:
        return "debug" in self.variant.split("+")

    @property
    def minor_version(self) -> str:
        """The language's version without the patch: ``3.12``."""
        major, minor, _ = self.release
        return f"{major}.{minor}"

    @property
    def suffix(self) -> str:
        """What the variant adds to the version, see `suffix_of`."""
        return suffix_of(self.variant)

    @property
    def minor_link(self) -> str:
        """The name of uv's link to the newest patch of this minor version: ``cpython-3.12-linux-x86_64-gnu``."""
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.implementation}-{self.minor_version}{variant}-{self.target}"

    @property
    def executable(self) -> str:
        """The path of the interpreter below an installation, with ``/`` between the parts.

        Source: the layouts of python-build-standalone, PyPy and GraalPy, as uv's ``ManagedPythonInstallation`` reads
        them.
        """
        windows = self.target.os == "windows"
        if self.implementation == "cpython":
            return "python.exe" if windows else f"bin/python{self.minor_version}{self.suffix}"
        if self.implementation == "pypy":
            return f"pypy{self.minor_version}.exe" if windows else f"bin/pypy{self.minor_version}"
        return f"bin/{self.implementation}.exe" if windows else f"bin/{self.implementation}"

    @property
    def display_name(self) -> str:
        """Its name on the command line and in messages: ``3.12.4``, ``3.13.1t``, ``pypy3.11.13``."""
        name = "" if self.implementation == "cpython" else self.implementation
        return f"{name}{self.number}{self.suffix}"

    @property
    def _order(self) -> tuple[bool, str, tuple[int, int, int, str, int], str, Target]:
        # CPython last, so that the newest of a mixed list is a CPython.
        return (self.implementation == "cpython", self.implementation, self._numbers, self.variant, self.target)


RELEASE_WORKFLOW = "astral-sh/python-build-standalone/.github/workflows/release.yml"


GITHUB_ISSUER = "https://token.actions.githubusercontent.com"


PREDICATE = "https://slsa.dev/provenance/v1"
"""The kind of statement that is accepted."""


ROOT_HINT = "a trusted_root.json of Sigstore: PYTEST_PYINSTALL_ATTESTATION_ROOT=FILE"


class Signer(Value):
    """The signer that we trust. `workflow` is ``OWNER/REPOSITORY/.github/workflows/FILE``, on github.com unless it
    begins with ``https://``; ``@refs/heads/…`` restricts it to a branch or tag. `issuer` confirmed the identity of the
    workflow's run. `root` is the file of a trusted root, empty for that of the public Sigstore."""

    workflow: str = RELEASE_WORKFLOW
    issuer: str = GITHUB_ISSUER
    root: str = ""

    @property
    def repository(self) -> str:
        """The URL of the repository."""
        return self._url.partition("/.github/workflows/")[0]

    def fits(self, identity: str) -> bool:
        """Whether `identity`, the URL of a workflow with the ref of its run, belongs to this signer."""
        url, _, ref = identity.partition("@")
        wanted, _, wanted_ref = self._url.partition("@")
        return url == wanted and bool(ref) and ref == (wanted_ref or ref)

    def read_root(self) -> bytes:
        """The content of the trusted root's file now. Raises `UsageError`."""
        try:
            return Path(self.root).read_bytes()
        except OSError as error:
            msg = f"{self.root} cannot be used as a trusted root: {error.strerror or error}"
            raise UsageError(msg, hint=ROOT_HINT) from error

    def root_digest(self) -> str:
        """The sha256 of that file's content, empty for the root of the public Sigstore. Raises `UsageError`."""
        import hashlib

        return hashlib.sha256(self.read_root()).hexdigest() if self.root else ""

    @property
    def _url(self) -> str:
        return self.workflow if self.workflow.startswith("https://") else f"https://github.com/{self.workflow}"


class Attestation(Value):
    """What was verified about an archive before it was unpacked.

    `identity` is the URL of the workflow with its ref, `repository` the repository that it ran for, `predicate` the
    kind of statement, `root` the sha256 of the trusted root's file, `bundle` that of the document with the signature.
    For the public Sigstore, `root` is empty: each of its roots is signed by the keys of the one before, and two
    installations of `sigstore` that share a store can contain different ones.
    """

    identity: str
    issuer: str
    repository: str
    predicate: str
    root: str
    bundle: str

    def is_by(self, signer: Signer) -> bool:
        """Whether it is what `signer` requires now, with the present content of the root's file. Raises `UsageError`
        if the root cannot be read."""
        return (
            signer.fits(self.identity)
            and (self.issuer, self.repository, self.predicate) == (signer.issuer, signer.repository, PREDICATE)
            and self.root == signer.root_digest()
        )  # fmt: skip

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self._names}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` if `document` is not from `to_json`."""
        facts = {name: document[name] for name in cls._names}
        if not all(isinstance(fact, str) for fact in facts.values()):
            msg = "not an attestation"
            raise TypeError(msg)
        return cls(**facts)


_PLAIN_URL = r"[a-z]+://[A-Za-z0-9.:-]+(?:/[A-Za-z0-9_.+~@=-]+)+"


class Build(Value):
    """An archive that can be installed: its URL, and the digest that it must have.

    `size` is in bytes, or None if the catalogue does not have it. `attestation` is the URL of the archive's Sigstore
    bundle, if the catalogue has one. `tag` is the release (``20261021``), or empty. A build always has a digest.
    """

    key: Key
    url: str
    sha256: str
    size: int | None = None
    tag: str = ""
    attestation: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL's path, percent-decoded: ``cpython-3.12.4+20261021-….tar.gz``."""
        if re.fullmatch(_PLAIN_URL, self.url):
            return self.url.rpartition("/")[2]
        from urllib.parse import unquote, urlsplit

        return PurePosixPath(unquote(urlsplit(self.url).path)).name


class Archive(Value):
    """A file whose size and sha256 were checked. Only `fetch` makes one.

    `file` is open for reading, at offset 0. It is the descriptor that was hashed: if another file is renamed over the
    path after the check, the content of `file` stays the same.
    """

    build: Build
    file: BinaryIO
