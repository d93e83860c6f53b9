"""Judges the names in an archive: which can be plain names inside a tree, on every system."""

import os

from pytest_pyinstall.bounds import BOUNDS
from pytest_pyinstall.refusal import refuse, shown

__all__ = ["check_characters", "check_for_windows", "check_length", "decoded", "parts_of", "windows_objection"]


def parts_of(name: str, *, of: str = "") -> list[str]:
    """The folders and the last name that `name` consists of; refuses what cannot be a plain name inside a tree."""
    member = of or name
    check_characters(name, member)
    if name.startswith("/"):
        refuse(f"an absolute name, {shown(name)}" if of else "an absolute name", member)
    parts = name.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in {"", "."}]
    if ".." in parts:
        refuse(f"`..` in the name {shown(name)}" if of else "`..` in its name", member)
    if len(parts) > BOUNDS.depth:
        refuse(f"more than {BOUNDS.depth} folders deep", member)
    check_length(name, member, limit=BOUNDS.name)
    check_for_windows(parts, member)
    return parts


def check_characters(name: str, member: str) -> None:
    """Refuse what a terminal would not show as it is, and what is a separator on some system."""
    # On Windows a backslash is a separator. No Python has one in a name, so nobody has to be asked where we run.
    if not name.isprintable() or "\\" in name:
        refuse(f"a character that no name should have, in {shown(name)}", member)


def check_length(name: str, member: str, *, limit: int) -> None:
    """Refuse a name of more than `limit` bytes, or with a part that no volume takes."""
    if len(name) <= BOUNDS.component and name.isascii():
        return
    encoded = name.encode()
    if len(encoded) > limit:
        refuse(f"a name of {len(encoded)} bytes, more than {limit}", member)
    longest = max(map(len, encoded.split(b"/")))
    if longest > BOUNDS.component:
        refuse(f"a name with a part of {longest} bytes, more than {BOUNDS.component}", member)


def check_for_windows(parts: list[str], member: str) -> None:
    """On Windows, refuse what it would make something else of."""
    if os.name == "nt":  # pragma: no cover (needs Windows' rules for names)
        for part in parts:
            if objection := windows_objection(part):
                refuse(objection, member)


def windows_objection(part: str) -> str:
    """Why Windows would make something else of `part`, or nothing.

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
    """The text of a name in an archive, which has to be UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        refuse(f"a name that is not UTF-8, {shown(raw.decode(errors='backslashreplace'))}", member)
