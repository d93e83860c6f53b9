"""Turns an archive down: what must not be unpacked, and what cannot be understood to its end."""

from typing import NoReturn

__all__ = ["BrokenError", "RefusedError", "give_up", "refuse", "shown"]


class RefusedError(Exception):
    """What must not be unpacked; `unpack` adds the archive's name."""


class BrokenError(Exception):
    """What cannot be understood to its end; `unpack` adds the archive's name."""


def refuse(reason: str, member: str = "") -> NoReturn:
    """Raise `RefusedError` for the archive, or for the one `member` of it."""
    msg = f"{shown(member)}: {reason}" if member else reason
    raise RefusedError(msg)


def give_up(damage: str) -> NoReturn:
    """Raise `BrokenError`."""
    raise BrokenError(damage)


def shown(name: str) -> str:
    """`name` in quotes, safe for any terminal, and short."""
    text = ascii(name)
    return text if len(text) <= 160 else f"{text[:120]}...{text[-30:]}"
