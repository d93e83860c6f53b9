"""Turns an archive into a tree; the only module that trusts nothing in a tar.

It has its own reader, because `tarfile` costs three times as much and its filters are no boundary: on CPython 3.11.7
the ``data`` filter lets a known archive write outside. Nothing here asks the disk where a name leads: what exists is
what we made, and we remember it.

Sources: POSIX.1-2024 ``pax`` (ustar and pax interchange formats), the GNU tar manual's "Basic Tar Format", RFC 1952
(gzip), PKWARE's APPNOTE 4.5 with Info-ZIP's external attributes.
"""

# ruff: noqa: PTH101, PTH102, PTH211, S103 (plain names cost a third of pathlib's; 0o755 is what we promise)

import errno
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, Protocol
from zlib import adler32

from pytest_pyinstall.build import Archive
from pytest_pyinstall.errors import IntegrityError, StoreError, UnsafeArchiveError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

__all__ = ["unpack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
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


_BOUNDS = _Bounds()
_BLOCK = 512
_READ = 128 << 10
_CHUNK = 1 << 20


def unpack(archive: Archive, *, into: Path) -> Path:
    """The top folder of the archive's tree, inside the empty directory `into`.

    The file is read to its end from where it stands. Of a "full" archive of python-build-standalone (one with a
    ``PYTHON.json``), only ``install`` is written and given back.

    Afterwards `into` holds regular files, directories and symlinks, and nothing outside it was touched. Files are
    0o755 where the archive lets anyone execute them and 0o644 otherwise, directories 0o755, whatever the umask; owners,
    times and extended attributes are not kept. Hardlinks are links, or copies where the volume has none.

    An archive may hold regular files, directories, symlinks and hardlinks below one top folder. Symlinks are relative
    and stay inside it, both as written and as followed through the other links; they may lead to nothing there, which
    terminfo's do. Directories may come twice, symlinks twice if they agree, anything else once; a hardlink names an
    earlier regular file. Names that the volume takes for one name are refused by the volume itself: whatever we make
    must not have been there. Compressed streams may be several, one after the other, but behind the tar's end there may
    be nothing but zeros. Size, ratio, count, depth and names are bounded.

    Raises `UnsafeArchiveError` for what must not be unpacked, `IntegrityError` for what is broken or cut off, and
    `StoreError` where the disk or the machine refuses. What was written until then stays in `into`: it is scratch, and
    its owner sweeps it. Not safe with two calls on one `into`; any number of others may run at once.
    """
    name = archive.build.file_name
    tree = _Tree(into)
    try:
        with closing(_members(archive.file, name)) as members:
            for member in members:
                tree.add(member)
        return tree.complete()
    except _RefusedError as refusal:
        msg = f"{name} was refused: {refusal}"
        raise UnsafeArchiveError(msg, _ANOTHER_BUILD) from refusal
    except _BrokenError as damage:
        msg = f"{name} is broken, although its digest is the expected one: {damage}"
        raise IntegrityError(msg, _ANOTHER_BUILD) from damage


_ANOTHER_BUILD = "nothing of it is used; choose another build: pytest-pyinstall list --all"


class _RefusedError(Exception):
    """What must not be unpacked; `unpack` adds the archive's name."""


class _BrokenError(Exception):
    """What cannot be understood to its end; `unpack` adds the archive's name."""


def _refuse(reason: str, member: str = "") -> NoReturn:
    msg = f"{_shown(member)}: {reason}" if member else reason
    raise _RefusedError(msg)


def _give_up(damage: str) -> NoReturn:
    raise _BrokenError(damage)


class _Kind(Enum):
    FILE = "a file"
    DIRECTORY = "a directory"
    SYMLINK = "a symlink"
    HARDLINK = "a hardlink"


class _Member(NamedTuple):
    """One thing that an archive wants to have made. `pieces` can be read once, before the next member is asked for."""

    name: str
    kind: _Kind
    executable: bool = False
    target: str = ""
    pieces: Iterator[bytes | memoryview] = iter(())


def _members(file: BinaryIO, name: str) -> Generator[_Member]:
    lower = name.lower()
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        if lower.endswith((f".tar{suffix}", f".t{suffix[1:]}")):
            budget = _budget(file)
            with _ahead(_unpacked(file, suffix)) as chunks:
                yield from _tar_members(_Stream(chunks, budget=budget))
            return
    if lower.endswith(".tar"):
        yield from _tar_members(_Stream(iter(lambda: _read(file), b""), budget=_budget(file)))
    elif lower.endswith(".zip"):
        yield from _zip_members(file)
    else:
        _refuse("its name ends in none of .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst, .tar, .zip")


@contextmanager
def _ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """`chunks`, made in a thread, up to four before they are asked for.

    Decompressing and writing both leave the interpreter to others: on two cores, this is a quarter of the time saved.
    The thread has ended when the block is left, however it is left.
    """
    made: SimpleQueue[bytes | BaseException] = SimpleQueue()
    room = Semaphore(4)
    left = Event()

    def make() -> None:
        try:
            for chunk in chunks:
                made.put(chunk)
                room.acquire()
                if left.is_set():
                    return
            made.put(b"")
        except BaseException as error:  # noqa: BLE001 (it is raised where the chunk is asked for)
            made.put(error)

    def ask() -> Iterator[bytes]:
        while chunk := made.get():
            if isinstance(chunk, BaseException):
                raise chunk
            room.release()
            yield chunk

    thread = Thread(target=make, name="unpack", daemon=True)
    thread.start()
    try:
        yield ask()
    finally:
        left.set()
        room.release()
        thread.join()


# --- What is made on disk ---------------------------------------------------------------------------------------------


class _Tree:
    """The tree below `root`, and the memory of all that was made in it.

    Nothing is ever opened that was there before (``O_EXCL``), nothing is made below anything but a directory that we
    made, and no symlink exists before the last file was written: there is nothing to be led astray by.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._made: dict[str, _Kind] = {}
        self._targets: dict[str, str] = {}
        self._led: dict[str, _Led] = {}
        self._top = ""
        self._is_full = False
        try:
            with os.scandir(root) as entries:
                left_over = next(entries, None)
        except OSError as error:
            raise _store_error(error, self._root) from error
        if left_over is not None:
            msg = f"cannot unpack into {self._root}: it is not empty"
            raise StoreError(msg, f"remove it and try again: {self._root}")

    def add(self, member: _Member) -> None:
        parts = _parts(member.name)
        if not self._wants(parts, member):
            return
        path = "/".join(parts)
        if member.kind is _Kind.DIRECTORY:
            self._make_directory(path, member.name)
            return
        self._make_directory("/".join(parts[:-1]), member.name)
        known = self._made.get(path)
        if known is not None and not (known is member.kind is _Kind.SYMLINK and self._targets[path] == member.target):
            _refuse(f"comes twice, and the first was {known.value}", member.name)
        if member.kind is _Kind.FILE:
            self._write(path, member)
        elif member.kind is _Kind.HARDLINK:
            self._link(path, member)
        else:
            self._targets[path] = member.target
        self._made[path] = _Kind.FILE if member.kind is _Kind.HARDLINK else member.kind

    def _wants(self, parts: list[str], member: _Member) -> bool:
        """Whether it is to be made; refuses what is not below the one top folder."""
        if len(parts) <= 1 and member.kind is not _Kind.DIRECTORY:
            _refuse(f"{member.kind.value} beside the top folder", member.name)
        if not parts:  # "./"
            return False
        self._top = self._top or parts[0]
        if parts[0] != self._top:
            _refuse(f"a second top folder, beside {_shown(self._top)}", member.name)
        if parts[1:] == ["PYTHON.json"]:
            # PBS writes it first, so that of its build objects, several times the size of the rest, none is written.
            self._is_full = True
        return not self._is_full or parts[1:2] == ["install"]

    def complete(self) -> Path:
        """The tree's home, after the symlinks were checked against everything else and made."""
        if not self._top:
            _refuse("it holds nothing")
        home = f"{self._top}/install" if self._is_full else self._top
        if self._made.get(home) is not _Kind.DIRECTORY:
            _refuse("there is no such folder", home)
        # Without PYTHON.json in front, things beside install are there already; links beside it are not needed.
        links = {path: target for path, target in self._targets.items() if path.startswith(f"{home}/")}
        depth = home.count("/") + 1
        for path in links:
            self._check_as_written(path, depth)
            self._follow(path, depth, 0)
        for path, target in links.items():
            where = f"{self._root}/{path}"
            try:
                os.symlink(target.replace("/", os.sep), where, target_is_directory=self._led[path].is_folder)
            except FileExistsError:
                _refuse(_SAME_NAME, path)
            except OSError as error:
                raise _store_error(error, where) from error
        return Path(self._root, home)

    def _make_directory(self, path: str, member: str) -> None:
        known = self._made.get(path)
        if known is _Kind.DIRECTORY:
            return
        if known is not None:
            _refuse(f"{_shown(path)} is {known.value}, nothing can be made in its place or below it", member)
        parent = path.rpartition("/")[0]
        if parent:
            self._make_directory(parent, member)
        if len(self._made) >= _BOUNDS.members:
            _refuse(f"with it there are more than {_BOUNDS.members} files and folders", member)
        where = f"{self._root}/{path}"
        try:
            os.mkdir(where, 0o755)
            os.chmod(where, 0o755)  # the umask, and a parent's setgid bit
        except FileExistsError:
            _refuse(_SAME_NAME, member)
        except OSError as error:
            raise _store_error(error, where) from error
        self._made[path] = _Kind.DIRECTORY

    def _write(self, path: str, member: _Member) -> None:
        where = f"{self._root}/{path}"
        mode = 0o755 if member.executable else 0o644
        descriptor = self._create(where, mode, member)
        try:
            for piece in member.pieces:
                _write_all(descriptor, piece, where)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        try:
            os.close(descriptor)  # NFS tells only here that the disk is full
        except OSError as error:
            raise _store_error(error, where) from error

    def _create(self, where: str, mode: int, member: _Member) -> int:
        try:
            descriptor = os.open(where, _CREATE, mode)
        except FileExistsError:
            _refuse(_SAME_NAME, member.name)
        except OSError as error:
            raise _store_error(error, where) from error
        if _fchmod is not None:
            try:
                _fchmod(descriptor, mode)  # the umask is the process's: we cannot set it aside, only overrule it
            except OSError as error:
                os.close(descriptor)
                raise _store_error(error, where) from error
        return descriptor

    def _link(self, path: str, member: _Member) -> None:
        source = "/".join(_parts(member.target, of=member.name))
        if self._made.get(source) is not _Kind.FILE:
            _refuse(f"a hardlink to {_shown(member.target)}, which is no earlier file of this archive", member.name)
        there, where = f"{self._root}/{source}", f"{self._root}/{path}"
        try:
            os.link(there, where)
        except FileExistsError:
            _refuse(_SAME_NAME, member.name)
        except OSError as error:
            if error.errno not in _NO_HARDLINKS:
                raise _store_error(error, where) from error
        else:
            return
        try:
            with open(there, "rb") as original:
                executable = bool(os.fstat(original.fileno()).st_mode & 0o100)
                self._write(
                    path, member._replace(executable=executable, pieces=iter(lambda: original.read(_CHUNK), b""))
                )
        except OSError as error:
            raise _store_error(error, there) from error

    def _check_as_written(self, path: str, home: int) -> None:
        """Refuse a target that leaves when `..` is taken literally, as ``os.path.normpath`` and installers do."""
        target = self._targets[path]
        if not target:
            _refuse("a symlink to nowhere", path)
        if target.startswith("/"):
            _refuse(f"a symlink to the absolute {_shown(target)}", path)
        _check_characters(target, path)
        _check_length(target, path, limit=_BOUNDS.target)
        parts = target.split("/")
        _check_for_windows([part for part in parts if part not in {"", ".", ".."}], path)
        here = path.count("/")
        for part in parts:
            if part == "..":
                here -= 1
            elif part not in {"", "."}:
                here += 1
            if here < home:
                _refuse(f"its target {_shown(target)} leaves the top folder", path)

    def _follow(self, path: str, home: int, depth: int) -> "_Led":
        """Where the symlink `path` leads: as the kernel goes, through the other links of the archive.

        In our memory of the tree and not on disk, so that no path can be too long to be judged; each link only once, so
        that no tangle of links can be too large.
        """
        if path in self._led:
            return self._led[path]
        if depth > _BOUNDS.links:
            _refuse(_CIRCLE, path)
        here, links, is_folder = path.split("/")[:-1], 1, True
        for part in self._targets[path].split("/"):
            if part in {"", "."}:
                continue
            if part == "..":
                # A volume that folds case may find what we miss, and then be elsewhere than we think.
                if not is_folder:
                    _refuse(f"its target {_shown(self._targets[path])} comes back out of what is no folder", path)
                here.pop()
                if len(here) < home:
                    _refuse(f"its target {_shown(self._targets[path])} leaves the top folder over a link", path)
                continue
            here.append(part)
            name = "/".join(here)
            if is_folder and name in self._targets:
                led = self._follow(name, home, depth + 1)
                here, links, is_folder = led.path.split("/"), links + led.links, led.is_folder
                if links > _BOUNDS.links:
                    _refuse(_CIRCLE, path)
            else:
                is_folder = is_folder and self._made.get(name) is _Kind.DIRECTORY
        self._led[path] = _Led("/".join(here), links, is_folder)
        return self._led[path]


class _Led(NamedTuple):
    """Where a symlink leads, how many links were followed on the way, and whether a folder is there."""

    path: str
    links: int
    is_folder: bool


_CIRCLE = f"leads in a circle, or over more than {_BOUNDS.links} links"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_fchmod = getattr(os, "fchmod", None)  # Windows has it from 3.13 on, and no umask that matters
_SAME_NAME = "this volume takes it for the same name as another member's"
_NO_HARDLINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def _write_all(descriptor: int, piece: bytes | memoryview, where: str) -> None:
    try:
        written = os.write(descriptor, piece)
        while written < len(piece):  # a signal, or a disk that has just become full: the next call tells
            written += os.write(descriptor, piece[written:])
    except OSError as error:
        raise _store_error(error, where) from error


def _store_error(error: OSError, path: str) -> StoreError:
    hint = {
        errno.ENOSPC: "make room, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/somewhere/with/room",
        errno.EDQUOT: "make room, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/somewhere/with/room",
        errno.EFBIG: "raise the limit for file sizes: ulimit -f unlimited",
        errno.EMFILE: "raise the limit for open files: ulimit -n 4096",
        errno.ENFILE: "the whole machine has too many files open; try again with: --python-jobs 1",
        errno.EACCES: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.EPERM: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.EROFS: "name a directory that is yours: export PYTEST_PYINSTALL_STORE=/somewhere/of/yours",
        errno.ENAMETOOLONG: "name a directory with a shorter path: export PYTEST_PYINSTALL_STORE=/short",
    }.get(error.errno or 0, "see what the disk says, or unpack elsewhere: export PYTEST_PYINSTALL_STORE=/another/disk")
    return StoreError(f"cannot write {path}: {error.strerror or error}", hint)


# --- Names ------------------------------------------------------------------------------------------------------------


def _parts(name: str, *, of: str = "") -> list[str]:
    """The folders and the last name that `name` consists of; refuses what cannot be a plain name inside a tree."""
    member = of or name
    _check_characters(name, member)
    if name.startswith("/"):
        _refuse(f"an absolute name, {_shown(name)}" if of else "an absolute name", member)
    parts = name.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in {"", "."}]
    if ".." in parts:
        _refuse(f"`..` in the name {_shown(name)}" if of else "`..` in its name", member)
    if len(parts) > _BOUNDS.depth:
        _refuse(f"more than {_BOUNDS.depth} folders deep", member)
    _check_length(name, member, limit=_BOUNDS.name)
    _check_for_windows(parts, member)
    return parts


def _check_characters(name: str, member: str) -> None:
    # On Windows a backslash is a separator. No Python has one in a name, so nobody has to be asked where we run.
    if not name.isprintable() or "\\" in name:
        _refuse(f"a character that no name should have, in {_shown(name)}", member)


def _check_length(name: str, member: str, *, limit: int) -> None:
    if len(name) <= _BOUNDS.component and name.isascii():
        return
    encoded = name.encode()
    if len(encoded) > limit:
        _refuse(f"a name of {len(encoded)} bytes, more than {limit}", member)
    longest = max(map(len, encoded.split(b"/")))
    if longest > _BOUNDS.component:
        _refuse(f"a name with a part of {longest} bytes, more than {_BOUNDS.component}", member)


def _check_for_windows(parts: list[str], member: str) -> None:
    if os.name == "nt":  # pragma: no cover (needs Windows' rules for names)
        for part in parts:
            if objection := _windows_objection(part):
                _refuse(objection, member)


def _windows_objection(part: str) -> str:
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


def _shown(name: str) -> str:
    """`name` in quotes, safe for any terminal, and short."""
    shown = ascii(name)
    return shown if len(shown) <= 160 else f"{shown[:120]}...{shown[-30:]}"


# --- tar --------------------------------------------------------------------------------------------------------------


def _tar_members(stream: "_Stream") -> Iterator[_Member]:
    said: dict[str, str] = {}  # what extension headers say about the next member
    headers = 0
    while (header := stream.read(_BLOCK)) != _ZEROS:
        headers += 1
        _check_header(header)
        kind = header[156:157]
        if headers > _BOUNDS.members:
            _refuse(f"more than {_BOUNDS.members} members", _near(header))
        if kind in _EXTENSIONS:
            _say(said, kind, _extension(stream, header), _near(header))
            continue
        yield _tar_member(header, kind, said, stream)
        stream.skip_content()
        said.clear()
    if said:
        _give_up("it ends after an extension header")
    if stream.read(_BLOCK) != _ZEROS:
        _give_up("its end is marked by one block of zeros instead of two")
    stream.expect_zeros()


def _tar_member(header: bytes, kind: bytes, said: dict[str, str], stream: "_Stream") -> _Member:
    name = said.get("path") or _header_name(header)
    size = _number(header[124:136], "size", name)
    if kind == b"S" or "sparse" in said:
        _refuse("a sparse file", name)
    if "size" in said and said["size"] != str(size):
        # A number that two readers take from two places: so a member hides inside another one (CVE-2025-62518). Only
        # files of 8 GiB and more need the second place, and those are too large anyway.
        _refuse(f"two sizes, {size} and {_shown(said['size'])}", name)
    if kind == b"\0":  # tars from before POSIX
        kind = b"5" if name.endswith("/") else b"0"
    if kind == b"0":
        if name.endswith("/"):
            _refuse("a file with a folder's name", name)
        stream.begin_content(size, name)
        executable = bool(_number(header[100:108], "mode", name) & 0o111)
        return _Member(name, _Kind.FILE, executable=executable, pieces=stream.content())
    if kind not in _KINDS:
        _refuse(_REFUSED_KINDS.get(kind, f"of the unknown type {ascii(kind)[1:]}"), name)
    if size:
        _refuse(f"{_KINDS[kind].value} with {size} bytes of content", name)
    target = "" if kind == b"5" else said.get("linkpath") or _text(_until_nul(header[157:257]), name)
    return _Member(name, _KINDS[kind], target=target)


_ZEROS = bytes(_BLOCK)
_USTAR, _GNU, _V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
_EXTENSIONS = {b"x": "pax", b"g": "global pax", b"L": "path", b"K": "linkpath"}
_KINDS = {b"1": _Kind.HARDLINK, b"2": _Kind.SYMLINK, b"5": _Kind.DIRECTORY}
_REFUSED_KINDS = {b"3": "a character device", b"4": "a block device", b"6": "a fifo"}


def _check_header(header: bytes) -> None:
    # adler32 over 256 bytes holds one more than their sum, and takes a tenth of sum()'s time.
    total = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
    field = header[148:156]
    if _octal(field) != total - sum(field) + 8 * ord(" "):
        _give_up(f"the checksum of a tar header is wrong, near {_shown(_near(header))}")
    if header[257:265] not in {_USTAR, _GNU, _V7}:
        _give_up(f"a tar header is neither POSIX's nor GNU's, near {_shown(_near(header))}")


def _header_name(header: bytes) -> str:
    name = _until_nul(header[:100])
    if header[257:265] == _USTAR and header[345]:
        name = _until_nul(header[345:500]) + b"/" + name
    return _text(name, _near(header))


def _near(header: bytes) -> str:
    """The name in the header, for messages only."""
    return _until_nul(header[:100]).decode(errors="backslashreplace")


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(raw: bytes, member: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        _refuse(f"a name that is not UTF-8, {_shown(raw.decode(errors='backslashreplace'))}", member)


def _octal(field: bytes) -> int | None:
    digits = _until_nul(field).strip(b" ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _number(field: bytes, what: str, member: str) -> int:
    """A tar header's number: octal digits, or GNU's base 256 where those do not suffice."""
    number = _octal(field)
    if number is not None:
        return number
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    if field[0] == 0xFF:
        _refuse(f"a negative {what}", member)
    if not field.strip(b" \0"):
        return 0
    _refuse(f"a {what} that is no number, {ascii(field)[1:]}", member)


def _extension(stream: "_Stream", header: bytes) -> bytes:
    size = _number(header[124:136], "size", _near(header))
    if size > _BOUNDS.header:
        _refuse(f"an extension header of {size} bytes, more than {_BOUNDS.header}", _near(header))
    return stream.read(size + -size % _BLOCK)[:size]


def _say(said: dict[str, str], kind: bytes, content: bytes, member: str) -> None:
    """Add to `said` what the extension header tells. Nothing may be said twice: readers differ in what they believe."""
    if kind in {b"L", b"K"}:
        records = [(_EXTENSIONS[kind], content.rstrip(b"\0"))]
    else:
        records = list(_pax_records(content, member))
    for key, value in records:
        if key.startswith("GNU.sparse."):
            said["sparse"] = key
        elif key in {"path", "linkpath", "size"}:
            if kind == b"g":
                _refuse(f"a global header that gives all members one {key}", member)
            if key in said:
                _refuse(f"its {key} is said twice", member)
            if not value:
                _refuse(f"its {key} is empty", member)
            said[key] = _text(value, member)


def _pax_records(content: bytes, member: str) -> Iterator[tuple[str, bytes]]:
    """The records of a pax header: ``<length> <key>=<value>\\n``, and each length is exactly right."""
    at = 0
    while at < len(content):
        digits = content[at : at + 20].partition(b" ")[0]
        end = at + int(digits) if digits.isdigit() else 0
        record = content[at + len(digits) + 1 : end]  # empty, where the length ends before it
        key, equals, value = record[:-1].partition(b"=")
        if not (key and equals and record.endswith(b"\n") and end <= len(content)):
            _give_up(f"a pax header cannot be read, near {_shown(member)}")
        yield key.decode(errors="backslashreplace"), value
        at = end


class _Stream:
    """The unpacked bytes of an archive, in their order and within a budget."""

    def __init__(self, chunks: Iterator[bytes], *, budget: int) -> None:
        self._chunks = chunks
        self._budget = budget
        self._chunk = memoryview(b"")
        self._at = 0
        self._unread = 0  # of the current member's content
        self._padding = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        piece = bytes(self._take(size)) if size else b""
        while len(piece) < size:
            piece += self._take(size - len(piece))
        return piece

    def begin_content(self, size: int, member: str) -> None:
        if size > self._budget + len(self._chunk) - self._at:
            _refuse(f"{size} bytes, {_TOO_MUCH}", member)
        self._unread, self._padding = size, -size % _BLOCK

    def content(self) -> Iterator[memoryview]:
        """The current member's content, or what of it nobody has read yet."""
        while self._unread:
            piece = self._take(self._unread)
            self._unread -= len(piece)
            yield piece

    def skip_content(self) -> None:
        """Go behind the current member, whether or not somebody read it."""
        for _ in self.content():
            pass
        self.read(self._padding)
        self._padding = 0

    def expect_zeros(self) -> None:
        """Read on to the end of the file, so that what follows the archive is judged, not passed over."""
        rest = bytes(self._chunk[self._at :]) or self._next()
        while rest:
            if rest.count(0) != len(rest):
                _refuse("something follows after its end")
            rest = self._next()

    def _take(self, limit: int) -> memoryview:
        """Some of the next bytes: at least one, at most `limit`."""
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._next()), 0
            if not self._chunk:
                _give_up("it is cut off")
        piece = self._chunk[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._budget -= len(chunk)
        if self._budget < 0:
            _refuse(f"{len(chunk)} bytes, {_TOO_MUCH}")
        return chunk


_TOO_MUCH = "and with them more than an archive of its size may unpack to"


# --- Compression ------------------------------------------------------------------------------------------------------


class _Decompressor(Protocol):
    """What `bz2`, `lzma`, `compression.zstd` and `isal` agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _unpacked(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """All streams of `file` as one. What is no stream is refused, and so is one that does not come to its end."""
    new, damage = _decompressor(suffix)
    decompressor, data = new(), _read(file)
    while True:
        try:
            chunk = decompressor.decompress(data, _CHUNK)
        except damage as error:
            _give_up(f"it cannot be decompressed: {error}")
        if chunk:
            yield chunk
        if decompressor.eof:
            data = decompressor.unused_data or _read(file)
            if not data:
                return
            decompressor = new()
        else:
            data = _read(file) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                _give_up("it is cut off")


def _decompressor(suffix: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    """What makes a decompressor for one stream, and the errors that mean that the stream is broken."""
    if suffix == ".bz2":
        return _module("bz2").BZ2Decompressor, (OSError, ValueError)
    if suffix == ".xz":
        lzma = _module("lzma")
        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _BOUNDS.window), (lzma.LZMAError, MemoryError)
    if suffix == ".zst":
        zstd = _module("compression.zstd", "backports.zstd")
        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    with suppress(ImportError):  # the extra `speed`: less than half of zlib's time
        igzip = import_module("isal.igzip_lib")
        return partial(igzip.IgzipDecompressor, flag=igzip.DECOMP_GZIP), (igzip.error, ValueError)
    zlib = _module("zlib_ng.zlib_ng", "zlib")
    return partial(_Inflater, zlib), (zlib.error,)


def _module(*names: str) -> Any:
    """The first of these modules that is here: a Python is not always built with all of its own."""
    for name in names:
        with suppress(ImportError):
            return import_module(name)
    msg = f"this Python cannot read such an archive: it has no {' and no '.join(names)}"
    needed = names[-1]
    hint = f"run pytest with a Python that has the module {needed}"
    raise StoreError(msg, f"{sys.executable} -m pip install {needed}" if "backports" in needed else hint)


class _Inflater:
    """zlib's decompressor for one gzip stream, in the shape of the others."""

    def __init__(self, zlib: Any) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return bytes(self._inflate.decompress(data or self._inflate.unconsumed_tail, max_length))


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_READ)
    except OSError as error:
        raise _read_error(error, file) from error


def _read_error(error: OSError, file: BinaryIO) -> StoreError:
    msg = f"cannot read {getattr(file, 'name', 'the archive')}: {error.strerror or error}"
    return StoreError(msg, "fetch it anew after: pytest-pyinstall cache clear")


def _budget(file: BinaryIO) -> int:
    """How many bytes an archive of this size may unpack to."""
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END) - here
        file.seek(here)
    except OSError as error:
        raise _read_error(error, file) from error
    return min(_BOUNDS.unpacked, _BOUNDS.ratio_free + _BOUNDS.ratio * size)


# --- zip --------------------------------------------------------------------------------------------------------------


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    from zipfile import ZipFile

    budget = _budget(file)
    with _zip_errors(file), ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if infos and infos[0].header_offset:
            _refuse("something stands before its first member")
        for count, info in enumerate(infos, 1):
            if count > _BOUNDS.members:
                _refuse(f"more than {_BOUNDS.members} members", info.orig_filename)
            budget -= info.file_size
            if budget < 0:
                _refuse(f"{info.file_size} bytes, {_TOO_MUCH}", info.orig_filename)
            yield _zip_member(file, archive, info)


def _zip_member(file: BinaryIO, archive: "ZipFile", info: "ZipInfo") -> _Member:
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = info.orig_filename  # `filename` has lost what stood after a NUL, and Windows' backslashes
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if info.flag_bits & 0x1 or info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        _refuse("encrypted, or compressed otherwise than by deflate", name)
    if name.endswith("/") and kind in {0, stat.S_IFDIR}:
        if info.file_size:
            _refuse(f"a directory with {info.file_size} bytes of content", name)
        return _Member(name, _Kind.DIRECTORY)
    if name.endswith("/") or kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
        _refuse(f"its name and its type {kind:#o} do not make a file, a directory or a symlink", name)
    if kind != stat.S_IFLNK:
        return _Member(name, _Kind.FILE, executable=bool(mode & 0o111), pieces=_zip_content(file, archive, info))
    if info.file_size > _BOUNDS.target:
        _refuse(f"a symlink with a target of {info.file_size} bytes", name)
    return _Member(name, _Kind.SYMLINK, target=_text(b"".join(_zip_content(file, archive, info)), name))


_UNIX = 3


def _zip_content(file: BinaryIO, archive: "ZipFile", info: "ZipInfo") -> Iterator[bytes]:
    with _zip_errors(file), archive.open(info) as content:
        while piece := content.read(_CHUNK):
            yield piece


@contextmanager
def _zip_errors(file: BinaryIO) -> Iterator[None]:
    from zipfile import BadZipFile
    from zlib import error as zlib_error

    try:
        yield
    except (OSError, BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib_error) as error:
        # zipfile hides some errors of the disk behind its own; and it goes to any offset that it is told (EINVAL).
        disk = error if isinstance(error, OSError) else error.__context__
        if isinstance(disk, OSError) and disk.errno != errno.EINVAL:
            raise _read_error(disk, file) from error
        _give_up(f"it cannot be read: {error}")
