"""What readers and writers of archives share: a member, the limits, the errors, and the check of names."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CHUNK",
    "LIMITS",
    "TOO_MUCH",
    "ArchiveLimits",
    "ArchiveMember",
    "BrokenError",
    "MemberKind",
    "RejectedError",
    "check_characters",
    "check_for_windows",
    "check_length",
    "corrupt",
    "decoded",
    "parts_of",
    "quoted",
    "read_error",
    "read_some",
    "reject",
    "unpack_limit_for",
    "unpack_limit_of",
    "windows_objection",
]


class MemberKind(Enum):
    FILE = "a file"
    DIRECTORY = "a directory"
    SYMLINK = "a symlink"
    HARDLINK = "a hardlink"


class ArchiveMember(NamedTuple):
    """A file, directory or link in an archive. `pieces` can be read once, before the next member is read."""

    name: str
    kind: MemberKind
    executable: bool = False
    target: str = ""
    pieces: Iterator[bytes | memoryview] = iter(())


class ArchiveLimits(Value):
    """The limits of an archive. The largest known builds, the debug builds of PBS, need less than a third of each."""

    unpacked: int = 4 << 30
    ratio: int = 100
    ratio_free: int = 64 << 20
    members: int = 100_000
    depth: int = 64
    component: int = 255
    name: int = 1024
    target: int = 1024
    header: int = 1 << 20
    links: int = 40
    window: int = 256 << 20


LIMITS = ArchiveLimits()


CHUNK = 256 << 10
"""How many bytes are held and written at once. With 1 MiB, each chunk is new memory, which takes a third longer."""


TOO_MUCH = "too much for an archive of its size"


class RejectedError(Exception):
    """The archive must not be unpacked. `unpack` adds its name."""


class BrokenError(Exception):
    """The archive cannot be read to its end. `unpack` adds its name."""


def reject(reason: str, member: str = "") -> NoReturn:
    """Raise `RejectedError` for the archive, or for one `member` of it."""
    msg = f"{quoted(member)}: {reason}" if member else reason
    raise RejectedError(msg)


def corrupt(damage: str) -> NoReturn:
    """Raise `BrokenError`."""
    raise BrokenError(damage)


def quoted(name: str) -> str:
    """`name` in quotes, safe for any terminal, and short."""
    text = ascii(name)
    return text if len(text) <= 160 else f"{text[:120]}...{text[-30:]}"


_READ = 128 << 10


def read_some(file: BinaryIO) -> bytes:
    """The next bytes of `file`, empty at its end. Raises `StoreError` if the disk fails."""
    try:
        return file.read(_READ)
    except OSError as error:
        raise read_error(error, file) from error


def read_error(error: OSError, file: BinaryIO) -> StoreError:
    """The error if `file` cannot be read."""
    msg = f"cannot read {getattr(file, 'name', 'the archive')}: {error.strerror or error}"
    return StoreError(msg, "to download it again: pytest-pyinstall cache clear")


def unpack_limit_for(file: BinaryIO) -> int:
    """How many bytes the rest of `file` may unpack to."""
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END) - here
        file.seek(here)
    except OSError as error:
        raise read_error(error, file) from error
    return unpack_limit_of(size)


def unpack_limit_of(size: int) -> int:
    """How many bytes an archive of `size` bytes may unpack to."""
    return min(LIMITS.unpacked, LIMITS.ratio_free + LIMITS.ratio * size)


def parts_of(name: str, *, of: str = "") -> list[str]:
    """The parts of the path `name`. Rejects a name that cannot be a plain path inside a tree."""
    member = of or name
    check_characters(name, member)
    if name.startswith("/"):
        reject(f"an absolute name, {quoted(name)}" if of else "an absolute name", member)
    parts = name.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in {"", "."}]
    if ".." in parts:
        reject(f"`..` in the name {quoted(name)}" if of else "`..` in its name", member)
    if len(parts) > LIMITS.depth:
        reject(f"more than {LIMITS.depth} folders deep", member)
    check_length(name, member, limit=LIMITS.name)
    check_for_windows(parts, member)
    return parts


def check_characters(name: str, member: str) -> None:
    """Reject characters that a terminal cannot show, or that are a separator on some system."""
    # A backslash is a separator on Windows. No Python has one in a name, so it is rejected everywhere.
    if not name.isprintable() or "\\" in name:
        reject(f"an invalid character in {quoted(name)}", member)


def check_length(name: str, member: str, *, limit: int) -> None:
    """Reject a name of more than `limit` bytes, or with a part that is too long for any volume."""
    if len(name) <= LIMITS.component and name.isascii():
        return
    encoded = name.encode()
    if len(encoded) > limit:
        reject(f"a name of {len(encoded)} bytes, more than {limit}", member)
    longest = max(map(len, encoded.split(b"/")))
    if longest > LIMITS.component:
        reject(f"a name with a part of {longest} bytes, more than {LIMITS.component}", member)


def check_for_windows(parts: list[str], member: str) -> None:
    """Reject, on Windows, a name that Windows changes."""
    if os.name == "nt":  # pragma: no cover (needs Windows' rules for names)
        for part in parts:
            if objection := windows_objection(part):
                reject(objection, member)


def windows_objection(part: str) -> str:
    """Why Windows would change the name `part`; empty if it does not.

    Source: Microsoft's "Naming Files, Paths, and Namespaces".
    """
    if set(part) & set('<>:"|?*'):
        return "a character that Windows gives another meaning"
    if part[-1] in ". ":
        return "Windows drops the dot or blank at the end of its name"
    device = part.partition(".")[0].rstrip(" ").upper()
    if device in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}:
        return f"{device} is a device on Windows"
    if device[:3] in {"COM", "LPT"} and len(device) == 4 and device[3] in "0123456789¹²³":
        return f"{device} is a device on Windows"
    return ""


def decoded(raw: bytes, member: str) -> str:
    """The text of a name in an archive, which must be UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        reject(f"a name that is not UTF-8, {quoted(raw.decode(errors='backslashreplace'))}", member)
