"""Archives that must be rejected, each made by hand, with the expected error.

`HOSTILE` is the table. Except for one fault, each archive is a valid Python, so that a reader gets as far as the fault.
Some try to write to ``outside``, an absolute path that the test watches. Those that climb look for a folder of that
name up to three folders above the scratch directory.
"""

import bz2
import gzip
import io
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pytest_pyinstall.errors import IntegrityError, UnsafeArchiveError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["COMPRESSORS", "END", "HOSTILE", "PYTHON", "Hostile", "entry", "gz", "header", "pax"]

_USTAR, _GNU, _V7 = b"ustar\x0000", b"ustar  \0", bytes(8)

END = bytes(1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """An archive, the error that it must cause, and a part of its message.

    `build` takes the absolute path of a directory that must not change. `member` is the name of the member in the
    message, or empty if the whole archive is wrong.
    """

    name: str
    reason: str
    build: Callable[[str], bytes]
    member: str = ""
    file_name: str = "cpython-3.12.4-hostile.tar.gz"
    error: type[IntegrityError] = UnsafeArchiveError

    def __str__(self) -> str:
        return self.name


def header(
    name: bytes | str,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    link: bytes | str = b"",
    magic: bytes = _USTAR,
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One block of a tar. If `size`, `mode` or `checksum` are bytes, they are used unchanged."""
    raw_name = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    raw_link = link.encode("utf-8", "surrogateescape") if isinstance(link, str) else link
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        raw_name,
        mode if isinstance(mode, bytes) else b"%07o\0" % mode,
        b"0001750\0",
        b"0001750\0",
        size if isinstance(size, bytes) else b"%011o\0" % size,
        b"14000000000\0",
        b" " * 8,
        kind,
        raw_link,
        magic,
        b"mallory",
        b"mallory",
        b"0000000\0",
        b"0000000\0",
        prefix,
    )
    return block[:148] + (checksum if checksum is not None else b"%06o\0 " % sum(block)) + block[156:]


def entry(name: bytes | str, content: bytes = b"", **fields: Any) -> bytes:
    """A header and its content, both padded to whole blocks."""
    return header(name, **{"size": len(content), **fields}) + content + bytes(-len(content) % 512)


def pax(*records: tuple[str, str | bytes], kind: bytes = b"x") -> bytes:
    """A pax extension header for the next member."""
    return entry("./PaxHeaders/0", b"".join(_record(key, value) for key, value in records), kind=kind)


def gz(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts), compresslevel=1, mtime=0)


def _record(key: str, value: str | bytes) -> bytes:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    body = b" %s=%s\n" % (key.encode(), raw)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _directory(name: str) -> bytes:
    return header(name, kind=b"5", mode=0o755)


def _symlink(name: str, target: str | bytes, **fields: Any) -> bytes:
    return header(name, kind=b"2", link=target, mode=0o777, **fields)


def _hardlink(name: str, target: str, **fields: Any) -> bytes:
    return header(name, kind=b"1", link=target, **fields)


def _gnu(kind: bytes, text: bytes) -> bytes:
    return entry("././@LongLink", text + b"\0", kind=kind, magic=_GNU)


PYTHON = (
    _directory("python/")
    + _directory("python/bin/")
    + entry("python/bin/python3.12", b"#!/bin/sh\necho 3.12.4\n", mode=0o755)
    + _symlink("python/bin/python3", "python3.12")
    + entry("python/lib/python3.12/os.py", b"# os\n")
)

_EVIL = b"this must not be written\n"
_LONG = "d" * 200
_TEN_MEBIBYTES_OF_ZEROS = gz(bytes(10 << 20))


def _tar(name: str, reason: str, *members: bytes, member: str = "", broken: bool = False) -> Hostile:
    """A gzip-compressed tar: a complete Python, then `members`, then a valid end."""
    return Hostile(
        name=name,
        reason=reason,
        build=lambda _outside: gz(PYTHON, *members, END),
        member=member,
        error=IntegrityError if broken else UnsafeArchiveError,
    )


def _aimed(name: str, reason: str, members: Callable[[str], bytes], *, member: str = "") -> Hostile:
    """Like `_tar`, with members that need the path of the watched directory."""
    return Hostile(name=name, reason=reason, build=lambda outside: gz(PYTHON, members(outside), END), member=member)


def _raw(name: str, reason: str, content: Callable[[], bytes], *, file_name: str, broken: bool = True) -> Hostile:
    """A file with exactly these bytes."""
    return Hostile(
        name=name,
        reason=reason,
        build=lambda _outside: content(),
        file_name=file_name,
        error=IntegrityError if broken else UnsafeArchiveError,
    )


def _names() -> Iterable[Hostile]:
    evil = _EVIL
    yield _tar("climbs first", "`..` in its name", entry("../evil", evil), member="../evil")
    yield _tar("climbs far", "`..` in its name", entry("../../../outside/evil", evil), member="../../../outside/evil")
    yield _tar("climbs in the middle", "`..` in its name", entry("python/../../outside/evil", evil))
    yield _tar("climbs and stays", "`..` in its name", entry("python/lib/../evil", evil), member="python/lib/../evil")
    yield _tar("climbs at the end", "`..` in its name", _directory("python/lib/.."), member="python/lib/..")
    yield _tar("climbs in a directory", "`..` in its name", _directory("../outside/evil/"))
    yield _tar("climbs in a long GNU name", "`..` in its name", _gnu(b"L", b"python/../../evil"), entry("x", evil))
    yield _tar("climbs in a pax path", "`..` in its name", pax(("path", "python/../../evil")), entry("x", evil))
    yield _tar("climbs in a prefix", "`..` in its name", entry("evil", evil, prefix=b"python/../.."))
    yield _aimed("absolute", "an absolute name", lambda outside: pax(("path", f"{outside}/evil")) + entry("x", evil))
    yield _aimed(
        "absolute twice", "an absolute name", lambda outside: pax(("path", f"/{outside}/e")) + entry("x", evil)
    )
    yield _aimed("absolute directory", "an absolute name", lambda outside: pax(("path", outside)) + _directory("x"))
    yield _tar("absolute prefix", "an absolute name", entry("evil", evil, prefix=b"/tmp"), member="/tmp/evil")
    yield _tar("backslashes", "character", entry("python\\..\\..\\evil", evil))
    yield _tar("drive", "a second top folder", entry("C:/evil", evil), member="C:/evil")
    for what, character in {
        "newline": "\n",
        "escape sequence": "\x1b[2J",
        "delete": "\x7f",
        "C1 control": "\x9b",
        "right to left": "\u202e",
        "line separator": "\u2028",
        "NUL": "\0",
    }.items():
        name = f"python/e{character}vil"
        yield _tar(f"name with {what}", "an invalid character in", pax(("path", name)), entry("x", evil))
    yield _tar(
        "name with a surrogate",
        "not UTF-8",
        pax(("path", "python/\udc80evil")),
        entry("x", evil),
        member="./PaxHeaders/0",
    )
    yield _tar("name in latin-1", "not UTF-8", entry(b"python/\xe9vil", evil), member="python/\\xe9vil")
    yield _tar("long component", "a part of 300 bytes", pax(("path", f"python/{'c' * 300}")), entry("x", evil))
    yield _tar("long component in UTF-8", "a part of 300 bytes", pax(("path", f"python/{'é' * 150}")), entry("x", evil))
    yield _tar("long name", "bytes, more than 1024", pax(("path", f"python/{_LONG}/" * 6)), _directory("x"))
    yield _tar("65 deep", "more than 64 folders deep", pax(("path", "python" + "/d" * 64)), entry("x", evil))
    yield _tar("1500 deep", "more than 64 folders deep", pax(("path", "python" + "/d" * 1500)), entry("x", evil))
    yield _tar("no name", "beside the top folder", entry("", evil))
    yield _tar("a file called .", "beside the top folder", entry(".", evil), member=".")
    yield _tar("a file for the top folder", "beside the top folder", entry("python", evil), member="python")
    yield _tar("a link for the top folder", "beside the top folder", _symlink("python", "/"), member="python")
    yield _tar("a file beside the top", "a file beside the top folder", entry("setup.py", evil), member="setup.py")
    yield _tar("a second top", "a second top folder", entry("evil/bin/python3", evil), member="evil/bin/python3")
    yield _tar("a second top directory", "a second top folder", _directory("evil/"), member="evil/")
    yield _tar("a file with a folder's name", "a folder's name", entry("python/evil/", evil), member="python/evil/")


def _types() -> Iterable[Hostile]:
    for what, kind in {
        "a character device": b"3",
        "a block device": b"4",
        "a fifo": b"6",
        "a sparse file": b"S",
    }.items():
        yield _tar(what, what, header("python/evil", kind=kind), member="python/evil")
    for what, kind in {
        "contiguous file": b"7",
        "GNU directory dump": b"D",
        "GNU continuation": b"M",
        "GNU volume label": b"V",
        "Solaris extension": b"X",
        "unknown type": b"Z",
        "type outside ASCII": b"\xff",
    }.items():
        yield _tar(
            what, f"of the unknown type {ascii(kind)[1:]}", header("python/evil", kind=kind), member="python/evil"
        )
    yield _tar(
        "pax sparse file of 1 TiB",
        "a sparse file",
        pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", str(1 << 40))),
        entry("python/evil", b"0\n"),
        member="python/evil",
    )
    yield _tar("symlink with content", "a symlink with 5 bytes", entry("python/l", b"hello", kind=b"2", link="bin"))
    yield _tar(
        "hardlink with content", "a hardlink with 5 bytes", entry("python/l", b"hello", kind=b"1", link="python/bin")
    )
    yield _tar("directory with content", "a directory with 5 bytes", entry("python/d/", b"hello", kind=b"5"))


def _symlinks() -> Iterable[Hostile]:
    leaves = "leaves the top folder"
    yield _tar("symlink to /", "a symlink to the absolute", _symlink("python/l", "/"), member="python/l")
    yield _aimed(
        "symlink to outside", "the absolute", lambda outside: _symlink("python/l", outside[:100]), member="python/l"
    )
    yield _tar("symlink to ..", leaves, _symlink("python/l", ".."), member="python/l")
    yield _tar("symlink to a neighbour", leaves, _symlink("python/bin/l", "../../outside"), member="python/bin/l")
    yield _tar("symlink out and in again", leaves, _symlink("python/l", "../python/bin"), member="python/l")
    yield _tar("symlink that climbs late", leaves, _symlink("python/l", "bin/../../outside"), member="python/l")
    yield _tar("long symlink that climbs", leaves, _gnu(b"K", b"./" * 100 + b"../outside"), _symlink("python/l", "x"))
    yield _tar("pax symlink that climbs", leaves, pax(("linkpath", "../outside")), _symlink("python/l", "x"))
    # The kernel stays inside the directory, but code that shortens the target first, like os.path.normpath, does not.
    yield _tar(
        "symlink that leaves only as written",
        leaves,
        _symlink("python/down", "a/b/c"),
        _directory("python/a/b/c/"),
        _symlink("python/l", "down/../../outside"),
        member="python/l",
    )
    yield _tar(
        "symlink over a symlink",
        "leaves the top folder through a link",
        _directory("python/a/b/c/"),
        _symlink("python/a/b/c/up", "../../.."),
        _symlink("python/out", "a/b/c/up/../../outside"),
        member="python/out",
    )
    yield _tar(
        "symlink over a later symlink",
        "leaves the top folder through a link",
        _symlink("python/a/b/c/out", "up/../../outside"),
        _symlink("python/a/b/c/up", "../../.."),
        member="python/a/b/c/out",
    )
    yield _tar(
        "symlink over a symlink to the top",
        "leaves the top folder through a link",
        _symlink("python/a/b/top", "../.."),
        _symlink("python/out", "a/b/top/../outside/victim"),
        member="python/out",
    )
    yield _tar(
        "symlink to where case folds",
        "goes through something that is not a folder",
        _symlink("python/a/b/c/up", "../../.."),
        _symlink("python/out", "a/b/c/UP/../../outside"),
        member="python/out",
    )
    yield _tar(
        "symlink out of a file", "not a folder", _symlink("python/l", "bin/python3.12/../../bin"), member="python/l"
    )
    yield _tar("symlink to itself", "in a circle", _symlink("python/l", "l"), member="python/l")
    yield _tar("symlinks to each other", "in a circle", _symlink("python/a", "b"), _symlink("python/b", "./a"))
    yield _tar("symlink below itself", "in a circle", _symlink("python/l", "l/x"), member="python/l")
    yield _tar(
        "symlinks without end",
        "over more than 40 links",
        *(_symlink(f"python/l{number}", f"l{number + 1}") for number in range(50)),
        _directory("python/l50/"),
    )
    yield _tar(
        "symlinks that double",
        "over more than 40 links",
        _symlink("python/l0", "."),
        *(_symlink(f"python/l{number + 1}", f"l{number}/l{number}") for number in range(30)),
    )
    yield _tar("symlink to nothing", "a symlink with an empty target", _symlink("python/l", ""), member="python/l")
    yield _tar("symlink to a newline", "an invalid character in", _symlink("python/l", "a\nb"), member="python/l")
    yield _tar("symlink to latin-1", "not UTF-8", _symlink("python/l", b"\xe9"), member="python/l")
    yield _tar(
        "symlink to a backslash", "an invalid character", _symlink("python/l", "..\\..\\outside"), member="python/l"
    )
    yield _tar("symlink to a long part", "a part of 300 bytes", pax(("linkpath", "t" * 300)), _symlink("python/l", "x"))
    yield _tar("symlink to a long name", "more than 1024", pax(("linkpath", "t/" * 600)), _symlink("python/l", "x"))
    yield _tar("realpath overflow", "bytes, more than 1024", *_realpath_overflow(parts=16, length=247))
    short = tuple(_realpath_overflow(parts=20, length=40))
    yield _tar(
        "realpath overflow in short names", "leaves the top folder through a link", *short, member="python/escape"
    )
    written_over = (_hardlink("python/hard", "python/escape/victim"), entry("python/hard", _EVIL))
    yield _tar("realpath overflow and a hardlink", "not an earlier file of this archive", *short, *written_over)


def _realpath_overflow(*, parts: int, length: int) -> Iterable[bytes]:
    """CVE-2025-4517: links whose expansion is too long for ``realpath``, which then does not check the rest."""
    where, letters = "python", "abcdefghijklmnopqrst"[:parts]
    for letter in letters:
        component = letter * length
        yield pax(("path", f"{where}/{component}/")) + _directory("x")
        yield pax(("path", f"{where}/{letter}")) + _symlink("x", component)
        where += f"/{component}"
    yield pax(("path", f"{where}/up"), ("linkpath", "../" * parts)) + _symlink("x", "x")
    yield pax(("linkpath", f"{'/'.join(letters)}/up/../outside")) + _symlink("python/escape", "x")


def _written_through() -> Iterable[Hostile]:
    below = "and cannot be replaced or contain other members"
    yield _aimed(
        "file through a symlink to outside",
        below,
        lambda outside: (
            pax(("path", "python/l"), ("linkpath", outside)) + _symlink("x", "x") + entry("python/l/evil", _EVIL)
        ),
        member="python/l/evil",
    )
    yield _tar("file through a symlink inside", below, _symlink("python/l", "bin"), entry("python/l/evil", _EVIL))
    yield _tar("directory through a symlink", below, _symlink("python/l", "../.."), _directory("python/l/evil"))
    yield _tar("symlink through a symlink", below, _symlink("python/l", ".."), _symlink("python/l/evil", "victim"))
    yield _tar("hardlink through a symlink", below, _symlink("python/l", ".."), _hardlink("python/l/e", "python/lib"))
    yield _tar("directory over a symlink", below, _symlink("python/l", ".."), _directory("python/l"), member="python/l")
    yield _tar("file over a symlink", "first as a symlink", _symlink("python/l", ".."), entry("python/l", _EVIL))
    yield _tar("symlink over a directory", "first as a directory", _symlink("python/bin", ".."), member="python/bin")
    yield _tar("symlink over a file", "first as a file", _symlink("python/bin/python3.12", "../.."))
    yield _tar("two symlinks of a name", "first as a symlink", _symlink("python/bin/python3", "python3.11"))
    yield _tar("two files of a name", "first as a file", entry("python/bin/python3.12", _EVIL))
    yield _tar("two files of a name, spelt differently", "first as a file", entry("./python//bin/./python3.12", _EVIL))
    yield _tar("file over a directory", "first as a directory", entry("python/bin", _EVIL), member="python/bin")
    yield _tar("directory over a file", below, _directory("python/bin/python3.12/"))
    yield _tar("file below a file", below, entry("python/bin/python3.12/evil", _EVIL))


def _hardlinks() -> Iterable[Hostile]:
    unknown = "which is not an earlier file of this archive"
    yield _aimed(
        "hardlink to outside",
        "an absolute name",
        lambda outside: pax(("linkpath", f"{outside}/victim")) + _hardlink("python/h", "x"),
    )
    yield _tar(
        "hardlink that climbs", "`..` in the name", _hardlink("python/h", "../outside/victim"), member="python/h"
    )
    yield _tar(
        "hardlink that climbs and stays", "`..` in the name", _hardlink("python/h", "python/bin/../bin/python3.12")
    )
    yield _tar("hardlink to nothing", unknown, _hardlink("python/h", "python/nothing"), member="python/h")
    yield _tar("hardlink without a target", unknown, _hardlink("python/h", ""), member="python/h")
    yield _tar("hardlink as a symlink would have it", unknown, _hardlink("python/bin/h", "python3.12"))
    yield _tar("hardlink to itself", unknown, _hardlink("python/h", "python/h"), member="python/h")
    yield _tar("hardlink to a directory", unknown, _hardlink("python/h", "python/bin"), member="python/h")
    yield _tar("hardlink to a symlink", unknown, _hardlink("python/h", "python/bin/python3"), member="python/h")
    yield _tar("hardlink to a later file", unknown, _hardlink("python/h", "python/f"), entry("python/f", _EVIL))
    yield _tar(
        "hardlink over a symlink",
        unknown,
        _symlink("python/l", "../.."),
        _hardlink("python/h", "python/l/outside/victim"),
    )
    yield _tar(
        "file over a hardlink",
        "first as a file",
        _hardlink("python/h", "python/bin/python3.12"),
        entry("python/h", _EVIL),
    )
    yield _tar(
        "hardlink over a file",
        "first as a file",
        _hardlink("python/lib/python3.12/os.py", "python/bin/python3.12"),
    )
    yield _tar(
        "hardlink target with a newline", "an invalid character", _hardlink("python/h", "python/\n"), member="python/h"
    )


def _numbers() -> Iterable[Hostile]:
    too_much = "too much for an archive of its size"
    yield _tar("negative size", "a negative size", header("python/evil", size=b"\xff" * 12), member="python/evil")
    yield _tar("negative octal size", "a size that is not a number", header("python/evil", size=b"-0000000001\0"))
    yield _tar("size in hexadecimal", "a size that is not a number", header("python/evil", size=b"0x10\0"))
    yield _tar("size with 8", "a size that is not a number", header("python/evil", size=b"00000000018\0"))
    yield _tar("size with underscores", "a size that is not a number", header("python/evil", size=b"0000_0000_1\0"))
    yield _tar(
        "size of an extension that is no number", "a size that is not a number", header("x", kind=b"x", size=b"ten\0")
    )
    yield _tar("negative size of an extension", "a negative size", header("x", kind=b"L", size=b"\xff" * 12))
    yield _tar("mode that is not a number", "a mode that is not a number", header("python/evil", mode=b"rwxr-xr\0"))
    yield _tar(
        "size of 1 TiB", too_much, header("python/evil", size=b"\x80" + (1 << 40).to_bytes(11)), member="python/evil"
    )
    yield _tar("size of 8 GiB", too_much, header("python/evil", size=b"77777777777\0"), member="python/evil")
    yield _tar("size of 300 MiB in 1 kB", too_much, header("python/evil", size=300 << 20), member="python/evil")
    yield Hostile(
        name="one large file",
        reason=too_much,
        build=lambda _: gz(PYTHON, header("python/evil", size=120 << 20)) + _TEN_MEBIBYTES_OF_ZEROS * 12 + gz(END),
        member="python/evil",
    )
    yield Hostile(
        name="many files that together are large",
        reason=too_much,
        build=lambda _: gz(PYTHON) + b"".join(_ten_mebibytes(f"python/{number}") for number in range(20)) + gz(END),
    )
    yield Hostile(
        name="zeros without end behind the end",
        reason=too_much,
        build=lambda _: gz(PYTHON, END) + _TEN_MEBIBYTES_OF_ZEROS * 12,
    )
    yield Hostile(
        name="too many members",
        reason="more than 100000 members",
        build=lambda _: gz(PYTHON) + gz(_directory("python/many/") * 1000) * 101 + gz(END),
        member="python/many/",
    )
    yield Hostile(
        name="too many extensions",
        reason="more than 100000 members",
        build=lambda _: gz(PYTHON) + gz(pax(("comment", "x"), kind=b"g") * 1000) * 101 + gz(END),
    )


def _ten_mebibytes(name: str) -> bytes:
    return gz(header(name, size=10 << 20)) + _TEN_MEBIBYTES_OF_ZEROS


def _extensions() -> Iterable[Hostile]:
    hidden = entry("python/hidden", _EVIL)
    yield _tar("pax size that hides a member", "two sizes", pax(("size", str(len(hidden)))), header("python/a"), hidden)
    yield _tar(
        "pax size that shows a member", "two sizes", pax(("size", "0")), entry("python/a", hidden), member="python/a"
    )
    yield _tar("negative pax size", "two sizes", pax(("size", "-1")), entry("python/a"), member="python/a")
    yield _tar("huge pax size", "two sizes", pax(("size", "9" * 30)), entry("python/a"), member="python/a")
    yield _tar(
        "pax path twice", "its path is given twice", pax(("path", "python/a"), ("path", "../a")), entry("x", _EVIL)
    )
    yield _tar(
        "pax path in two headers",
        "its path is given twice",
        pax(("path", "python/a")),
        pax(("path", "python/b")),
        entry("x"),
    )
    yield _tar(
        "GNU name and pax path", "its path is given twice", _gnu(b"L", b"python/a"), pax(("path", "../a")), entry("x")
    )
    yield _tar("two GNU names", "its path is given twice", _gnu(b"L", b"python/a"), _gnu(b"L", b"python/b"), entry("x"))
    yield _tar(
        "two GNU targets", "its linkpath is given twice", _gnu(b"K", b"a"), _gnu(b"K", b".."), _symlink("python/l", "x")
    )
    yield _tar("empty pax path", "its path is empty", pax(("path", "")), entry("python/x"))
    yield _tar("empty GNU name", "its path is empty", _gnu(b"L", b""), entry("python/x"))
    yield _tar("NUL in a GNU name", "an invalid character in", _gnu(b"L", b"python/a\0../../b"), entry("x"))
    for key in ("path", "linkpath", "size"):
        yield _tar(
            f"global {key}", f"gives all members one {key}", pax((key, "python/a"), kind=b"g"), entry("python/x")
        )
    for what, records in {
        "without a length": b"path=python/a\n",
        "with a length of zero": b"0 path=a\n",
        "with a short length": b"10 path=python/a\n",
        "with a long length": b"99 path=python/a\n",
        "with a negative length": b"-9 path=python/a\n",
        "with an endless length": b"9" * 600 + b" path=a\n",
        "without an end of line": b"16 path=python/a",
        "without a key": b"5 =a\n",
        "without a value": b"7 path\n",
        "of zeros": bytes(20),
    }.items():
        yield _tar(
            f"pax record {what}",
            "a pax header cannot be read",
            entry("p", records, kind=b"x"),
            entry("python/x"),
            broken=True,
        )
    yield _tar("large extension", "an extension header of 2097152 bytes", entry("x", bytes(2 << 20), kind=b"x"))
    yield _tar(
        "extension of 1 TiB", "an extension header of", header("x", kind=b"L", size=b"\x80" + (1 << 40).to_bytes(11))
    )
    yield _tar("extension for nobody", "ends after an extension", pax(("path", "python/a")), broken=True)


def _structure() -> Iterable[Hostile]:
    name = "cpython-3.12.4-hostile.tar.gz"
    tail = entry("python/late", _EVIL)
    yield _raw("nothing", "it is empty", lambda: gz(END), file_name=name, broken=False)
    yield _raw("nothing but .", "it is empty", lambda: gz(_directory("./"), END), file_name=name, broken=False)
    yield _raw(
        "full without install",
        "no such folder",
        lambda: gz(entry("python/PYTHON.json"), END),
        file_name=name,
        broken=False,
    )
    yield _tar(
        "wrong checksum", "checksum of a tar header is wrong", entry("python/x", checksum=b"000000\0 "), broken=True
    )
    yield _tar(
        "checksum that is no number", "checksum of a tar header", entry("python/x", checksum=b"checksum"), broken=True
    )
    yield _tar("unknown magic", "neither POSIX's nor GNU's", entry("python/x", magic=b"uztar\x0000"), broken=True)
    yield _tar("member after the end", "there is data after its end", END, tail)
    yield _tar("bytes after the end", "there is data after its end", END, b"\1")
    yield _tar("one block of zeros", "one block of zeros instead of two", bytes(512), tail, broken=True)
    yield _raw("no end", "it is cut off", lambda: gz(PYTHON), file_name=name)
    yield _raw("half an end", "it is cut off", lambda: gz(PYTHON, bytes(512)), file_name=name)
    yield _raw("ends in a header", "it is cut off", lambda: gz(PYTHON, tail[:300]), file_name=name)
    yield _raw(
        "ends in content",
        "it is cut off",
        lambda: gz(PYTHON, header("python/x", size=2000), b"x" * 900),
        file_name=name,
    )
    yield _raw("ends in an extension", "it is cut off", lambda: gz(PYTHON, pax(("path", "x"))[:700]), file_name=name)
    yield _raw(
        "another tar in a second stream",
        "there is data after",
        lambda: gz(PYTHON, END) + gz(tail, END),
        file_name=name,
        broken=False,
    )


def _compression() -> Iterable[Hostile]:
    whole = PYTHON + entry("python/noise", bytes(range(256)) * 40) + END
    for suffix, compress in COMPRESSORS.items():
        name = f"cpython-3.12.4-hostile.tar.{suffix}"

        def cut(compress: Callable[[bytes], bytes] = compress) -> bytes:
            packed = compress(whole)
            return packed[: len(packed) // 2]

        def cut_late(compress: Callable[[bytes], bytes] = compress) -> bytes:
            return compress(whole)[:-1]

        def trailing(compress: Callable[[bytes], bytes] = compress) -> bytes:
            return compress(whole) + b"trailing garbage"

        def cut_second(compress: Callable[[bytes], bytes] = compress) -> bytes:
            return compress(whole) + compress(bytes(512))[:-1]

        yield _raw(f"{suffix} cut in half", "it is cut off", cut, file_name=name)
        yield _raw(f"{suffix} without its last byte", "it is cut off", cut_late, file_name=name)
        yield _raw(f"{suffix} with garbage behind it", "cannot be decompressed", trailing, file_name=name)
        yield _raw(f"{suffix} with half a second stream", "it is cut off", cut_second, file_name=name)
        yield _raw(f"{suffix} of nothing", "it is cut off", lambda: b"", file_name=name)
        yield _raw(
            f"{suffix} that is a web page", "cannot be decompressed", lambda: b"<!doctype html>" * 9, file_name=name
        )
    for suffix, flip in {"gz": -6, "bz2": -6, "xz": -40}.items():
        name = f"cpython-3.12.4-hostile.tar.{suffix}"

        def flipped(compress: Callable[[bytes], bytes] = COMPRESSORS[suffix], flip: int = flip) -> bytes:
            packed = bytearray(compress(whole))
            packed[flip] ^= 0xFF
            return bytes(packed)

        yield _raw(f"{suffix} with a wrong checksum", "cannot be decompressed", flipped, file_name=name)
    yield _raw("zeros behind the gzip", "cannot be decompressed", lambda: gz(whole) + bytes(512), file_name="a.tgz")
    yield _raw("a tar that says it is a gzip", "cannot be decompressed", lambda: whole, file_name="a.tar.gz")
    yield _raw("a cut tar", "it is cut off", lambda: whole[:-700], file_name="a.tar")
    yield _raw("an unknown format", "its name ends in none of", lambda: whole, file_name="a.7z", broken=False)
    yield _raw("no format", "its name ends in none of", lambda: whole, file_name="gz", broken=False)


def _zip(*members: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as Unix writes it, from names, contents and modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content, mode in (("python/python.exe", b"MZ", 0o100755), *members):
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor cuts off names at a NUL
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, method
            archive.writestr(info, content)
    return buffer.getvalue()


def _zips() -> Iterable[Hostile]:
    def hostile(name: str, reason: str, *members: tuple[str, bytes, int], member: str = "") -> Hostile:
        return Hostile(
            name=f"zip: {name}",
            reason=reason,
            build=lambda _: _zip(*members),
            member=member,
            file_name="pypy3.11-hostile.zip",
        )

    def damaged(name: str, reason: str, damage: Callable[[], bytes], *, broken: bool = True) -> Hostile:
        return _raw(f"zip: {name}", reason, damage, file_name="pypy3.11-hostile.zip", broken=broken)

    file, link, folder = 0o100644, 0o120777, 0o040755
    yield hostile("climbs", "`..` in its name", ("../evil", _EVIL, file), member="../evil")
    yield hostile("climbs inside", "`..` in its name", ("python/../../evil", _EVIL, file))
    yield hostile("climbs in a directory", "`..` in its name", ("../evil/", b"", folder))
    yield Hostile(
        name="zip: absolute",
        reason="an absolute name",
        build=lambda outside: _zip((f"{outside}/evil", _EVIL, file)),
        file_name="pypy3.11-hostile.zip",
    )
    yield hostile("backslashes", "an invalid character", ("python\\..\\..\\evil", _EVIL, file))
    yield hostile("NUL in a name", "an invalid character", ("python/evil\0.txt", _EVIL, file))
    yield hostile("two tops", "a second top folder", ("evil/evil", _EVIL, file), member="evil/evil")
    yield hostile("file beside the top", "beside the top folder", ("evil", _EVIL, file), member="evil")
    yield hostile("symlink to /", "the absolute", ("python/l", b"/", link), member="python/l")
    yield hostile("symlink that climbs", "leaves the top folder", ("python/l", b"../outside", link), member="python/l")
    yield hostile("symlink to latin-1", "not UTF-8", ("python/l", b"\xe9", link), member="python/l")
    yield hostile(
        "symlink to a book", "a symlink with a target of", ("python/l", b"x/" * 3000, link), member="python/l"
    )
    yield hostile(
        "symlink written through", "cannot be replaced", ("python/l", b"..", link), ("python/l/evil", _EVIL, file)
    )
    yield hostile("fifo", "are not those of a file", ("python/f", b"", 0o010644), member="python/f")
    yield hostile("device", "are not those of a file", ("python/d", b"", 0o020644), member="python/d")
    yield hostile("file with a folder's name", "are not those of a file", ("python/d/", b"", file), member="python/d/")
    yield hostile("file with a folder's type", "are not those of a file", ("python/d", b"", folder), member="python/d")
    yield hostile("directory with content", "a directory with", ("python/d/", _EVIL, folder), member="python/d/")
    yield hostile("two of a name", "first as a file", ("python/a", b"", file), ("python/./a", b"", file))
    yield hostile("bomb", "too much for an archive", ("python/bomb", bytes(90 << 20), file), member="python/bomb")
    yield damaged("no zip", "it cannot be read", lambda: b"<!doctype html>" * 99)
    yield damaged("nothing", "it cannot be read", lambda: b"")
    yield damaged("empty", "it is empty", lambda: b"PK\5\6" + bytes(18), broken=False)
    yield damaged("cut", "it cannot be read", lambda: _zip()[:-30])
    yield damaged("something in front", "there is data before", lambda: b"#!/bin/sh\n" + _zip(), broken=False)
    yield damaged("something behind", "it cannot be read", lambda: _zip() + bytes(1 << 17))
    yield damaged("wrong CRC", "it cannot be read", lambda: _crc_of_zip(0))
    yield damaged(
        "encrypted",
        "encrypted",
        lambda: _zip().replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
        broken=False,
    )
    yield damaged(
        "compressed by bzip2", "not compressed with deflate", lambda: _zip(method=zipfile.ZIP_BZIP2), broken=False
    )
    yield damaged("two names for one member", "it cannot be read", lambda: _zip().replace(b"python/", b"../../x", 1))


def _crc_of_zip(crc: int) -> bytes:
    return _zip().replace(struct.pack("<L", zlib.crc32(b"MZ")), struct.pack("<L", crc))


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gz,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


HOSTILE: tuple[Hostile, ...] = (
    *_names(),
    *_types(),
    *_symlinks(),
    *_written_through(),
    *_hardlinks(),
    *_numbers(),
    *_extensions(),
    *_structure(),
    *_compression(),
    *_zips(),
)
