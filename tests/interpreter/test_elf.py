"""The ELF reader finds the needed libraries and the search paths of an executable."""

import struct
import sys
from pathlib import Path

import archives
import pytest

from pytest_pyinstall.interpreter._elf import Dynamic, has_debug_sections, is_elf, read_dynamic

needs_elf = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ELF executables")


def elf_file(*, is_64_bit: bool, order: str, entries: list[tuple[int, int]], strings: bytes) -> bytes:
    """A small ELF file with a header, two segments, a dynamic section and its strings, loaded at 0x1000."""
    word = "Q" if is_64_bit else "I"
    header_size, segment_size = (64, 56) if is_64_bit else (52, 32)
    dynamic = b"".join(struct.pack(f"{order}{'qQ' if is_64_bit else 'iI'}", *entry) for entry in entries)
    dynamic_at = header_size + 2 * segment_size
    total = dynamic_at + len(dynamic) + len(strings)

    def segment(kind: int, offset: int, length: int) -> bytes:
        if is_64_bit:
            return struct.pack(f"{order}IIQQQQQQ", kind, 0, offset, 0x1000 + offset, 0, length, length, 0)
        return struct.pack(f"{order}IIIIIIII", kind, offset, 0x1000 + offset, 0, length, length, 0, 0)

    identity = b"\x7fELF" + bytes([2 if is_64_bit else 1, 1 if order == "<" else 2]) + bytes(10)
    header = identity + struct.pack(
        f"{order}HHI{word * 3}IHHHHHH", 3, 0, 1, 0, header_size, 0, 0, header_size, segment_size, 2, 0, 0, 0
    )
    return header + segment(1, 0, total) + segment(2, dynamic_at, len(dynamic)) + dynamic + strings


STRINGS = b"\0libpython3.12.so.1.0\0/opt/lib:$ORIGIN\0/old\0"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_64_bit", [True, False])
def test_needed_libraries_and_search_paths_are_read(is_64_bit: bool, order: str) -> None:
    size = (64 + 2 * 56 + 5 * 16) if is_64_bit else (52 + 2 * 32 + 5 * 8)
    entries = [(1, 1), (5, 0x1000 + size), (29, 22), (15, 39), (0, 0)]

    found = read_dynamic(elf_file(is_64_bit=is_64_bit, order=order, entries=entries, strings=STRINGS))

    assert found == Dynamic(needed=("libpython3.12.so.1.0",), search=("/opt/lib", "$ORIGIN"))


def test_an_rpath_is_used_if_there_is_no_runpath() -> None:
    entries = [(5, 0x1000 + 64 + 2 * 56 + 3 * 16), (15, 39), (0, 0)]

    assert read_dynamic(elf_file(is_64_bit=True, order="<", entries=entries, strings=STRINGS)).search == ("/old",)


@pytest.mark.parametrize("entries", [[(0, 0)], [(1, 1), (0, 0)], [(1, 1), (5, 0x99999), (0, 0)], []])
def test_a_file_without_strings_needs_no_library(entries: list[tuple[int, int]]) -> None:
    assert read_dynamic(elf_file(is_64_bit=True, order="<", entries=entries, strings=b"")) == Dynamic()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\2\1" + b"\xff" * 80])
def test_a_damaged_file_needs_no_library(content: bytes) -> None:
    assert read_dynamic(content) == Dynamic()
    assert not has_debug_sections(content)


@needs_elf
def test_the_running_interpreter_needs_libc() -> None:
    content = Path(archives.interpreters()[f"{sys.version_info[0]}.{sys.version_info[1]}"]).read_bytes()

    assert is_elf(content)
    assert any("libc" in name or "python" in name for name in read_dynamic(content).needed)
