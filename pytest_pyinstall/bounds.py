"""What no Python needs more of: the bounds that every archive is held to."""

from dataclasses import dataclass

__all__ = ["BOUNDS", "CHUNK", "TOO_MUCH", "Bounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What no Python needs more of: the largest builds known, PBS's debug builds, stay below a third of each."""

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


BOUNDS = Bounds()
CHUNK = 1 << 20
"""How many bytes are held and written at once."""
TOO_MUCH = "and with them more than an archive of its size may unpack to"
