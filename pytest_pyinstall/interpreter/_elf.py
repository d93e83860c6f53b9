"""Reads the dynamic section of an ELF file: the libraries that it needs, and where they are searched."""

import os
import struct
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Dynamic", "has_debug_sections", "is_elf", "read_dynamic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The libraries that an ELF file needs, and its search path: RUNPATH, otherwise RPATH."""

    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def is_elf(start: bytes) -> bool:
    """Whether a file that begins with `start` is an ELF file."""
    return start[:4] == b"\x7fELF"


def read_dynamic(content: bytes) -> Dynamic:
    """The dynamic section of an ELF file, empty for a static or damaged file. Source: elf(5)."""
    try:
        return _read(content)
    except (struct.error, ValueError, IndexError, OverflowError):
        return Dynamic()


def has_debug_sections(content: bytes) -> bool:
    """Whether an ELF file contains debug symbols, which are most of an unstripped file."""
    return is_elf(content) and any(mark in content for mark in (b"\0.debug_info\0", b"\0.zdebug_info\0"))


_NEEDED, _STRING_TABLE, _RPATH, _RUNPATH = 1, 5, 15, 29


_LOAD, _DYNAMIC = 1, 2


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    length: int


def _read(content: bytes) -> Dynamic:
    is_64_bit, order = content[4] == 2, "<" if content[5] == 1 else ">"
    segments = list(_segments(content, is_64_bit, order))
    entry = struct.Struct(order + ("qQ" if is_64_bit else "iI"))
    entries = [
        pair
        for segment in segments
        if segment.kind == _DYNAMIC
        for pair in entry.iter_unpack(
            content[segment.offset : segment.offset + segment.length // entry.size * entry.size]
        )
    ]
    # -1: no segment begins before the first byte, so a file without a string table counts as damaged.
    strings = _file_offset(segments, next((value for tag, value in entries if tag == _STRING_TABLE), -1))

    def texts(wanted: int) -> tuple[str, ...]:
        starts = [strings + value for tag, value in entries if tag == wanted]
        return tuple(os.fsdecode(content[start : content.index(b"\0", start)]) for start in starts)

    search = (texts(_RUNPATH) or texts(_RPATH) or ("",))[0]
    return Dynamic(needed=texts(_NEEDED), search=tuple(part for part in search.split(":") if part))


def _segments(content: bytes, is_64_bit: bool, order: str) -> list[_Segment]:
    if is_64_bit:
        table = struct.unpack_from(f"{order}Q", content, 32)[0]
        size, count = struct.unpack_from(f"{order}HH", content, 54)
        layout, fields = f"{order}IIQQQQ", (0, 2, 3, 5)
    else:
        table = struct.unpack_from(f"{order}I", content, 28)[0]
        size, count = struct.unpack_from(f"{order}HH", content, 42)
        layout, fields = f"{order}IIIII", (0, 1, 2, 4)
    headers = (struct.unpack_from(layout, content, table + number * size) for number in range(count))
    return [_Segment(*(header[field] for field in fields)) for header in headers]


def _file_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _LOAD and segment.address <= address < segment.address + segment.length:
            return segment.offset + address - segment.address
    msg = f"no segment holds the address {address:#x}"
    raise ValueError(msg)
