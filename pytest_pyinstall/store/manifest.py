"""The record of an installation: which archive it came from, and the list of its tree when it was published.

The list has the name, kind, size, mode and digest of each entry. Comparing a tree with it costs one ``lstat`` for each
entry, or one read of each file if the content is compared too. An installation that does not match its record is
broken. One without a record belongs to another program, such as uv in a shared store.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeVar

from pytest_pyinstall.request.identity import Attestation, Build, Key
from pytest_pyinstall.store._distributions import Distribution, read_distributions
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import OPEN_FLAGS, new_file, open_regular
from pytest_pyinstall.system.urls import without_secrets
from pytest_pyinstall.system.values import Value, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.version import Version

    from pytest_pyinstall.system.files import FileDigests
    from pytest_pyinstall.system.permissions import Other

__all__ = [
    "Difference",
    "Entry",
    "ForeignOwnerError",
    "Record",
    "build_of",
    "check_access",
    "find_differences",
    "is_same_tree",
    "may_change",
    "take_manifest",
    "unexpected",
]


T = TypeVar("T")


EntryKind = Literal["file", "directory", "link"]


_KINDS: dict[object, EntryKind] = {"file": "file", "directory": "directory", "link": "link"}


class Entry(NamedTuple):
    """One row of the list. `name` is relative, with ``/`` between its parts; `digest` is the sha256 of a file, the
    target of a link, and empty for a directory."""

    name: str
    kind: EntryKind
    mode: int
    size: int
    digest: str

    def to_json(self) -> list[str | int]:
        return [self.name, self.kind, self.mode, self.size, self.digest]

    @classmethod
    def from_json(cls, row: list[str | int]) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` for anything that `to_json` did not make."""
        name, kind, mode, size, digest = row
        if not (isinstance(name, str) and isinstance(mode, int) and isinstance(size, int) and isinstance(digest, str)):
            msg = f"not a row of a tree's list: {row!r}"
            raise TypeError(msg)
        _check_inside(name)
        return cls(name, _KINDS[kind], mode, size, digest)


def _check_inside(name: str) -> None:
    """Raise `ValueError` for a name that leads out of the tree."""
    if name.startswith("/") or (".." in name and ".." in name.split("/")):
        msg = f"{name!r} leads out of the tree"
        raise ValueError(msg)


class Difference(Value):
    """An entry that is not as it was published: ``missing``, ``changed`` (with a reason) or ``added``."""

    name: str
    what: Literal["missing", "changed", "added"]
    reason: str = ""

    def __str__(self) -> str:
        what = self.reason or self.what
        return what if self.name == "." else f"{self.name}: {what}"


def take_manifest(tree: Path, known: FileDigests | None = None) -> tuple[Entry, ...]:
    """The list of `tree`, sorted by name, without byte code. Reads each file once, unless its digest is `known`."""
    known = known or {}
    return tuple([_entry(name, path, known) for name, path in _walk(tree)])


class ForeignOwnerError(Exception):
    """`path` belongs to the user `uid`, who is neither root nor the user of this process."""

    def __init__(self, path: str, uid: int) -> None:
        super().__init__(path, uid)
        self.path, self.uid = path, uid


def find_differences(
    tree: Path, entries: tuple[Entry, ...], *, content: bool, owners: frozenset[int] | None = None
) -> list[Difference]:
    """The `entries` that are missing below `tree` or have changed; with `content`, every file is read.

    Files that an interpreter or uv may rewrite in place only need to exist and not be empty. What another process
    removes in the meantime counts as missing. With `owners`, a directory for byte code in which other users can write
    is a difference, because they could put their own code there. Raises `ForeignOwnerError` for what belongs to none of
    `owners`, and `OSError` if this process cannot look, for example because it has too many open files.
    """
    prefix = f"{tree}{os.sep}"
    differences = []
    for entry in entries:
        path = prefix + entry.name
        try:
            status = os.lstat(path)
            if owners is not None and status.st_uid not in owners:
                raise ForeignOwnerError(path, status.st_uid)
            reason = _changed(entry, path, status, content=content)
        except OSError as error:
            differences.append(_beyond_reach(entry, error))
            continue
        if reason:
            differences.append(Difference(name=entry.name, what="changed", reason=reason))
        if owners is not None and entry.kind == "directory" and (reason := _open_byte_code(path, owners)):
            differences.append(Difference(name=f"{entry.name}/__pycache__", what="changed", reason=reason))
    return differences


def _open_byte_code(directory: str, owners: frozenset[int]) -> str:
    """Why other users can change the byte code of the modules in `directory`. Empty if they cannot.

    An interpreter makes the directory with the umask of its process, and no record lists it.
    """
    path = f"{directory}/__pycache__"
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise
    if status.st_uid not in owners:
        raise ForeignOwnerError(path, status.st_uid)
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    from pytest_pyinstall.system.permissions import who_else_can_write

    who = status.st_mode & 0o022 and who_else_can_write(status, is_parent=False, path=Path(path))
    return f"{who.name} can write to it" if who else ""


_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _beyond_reach(entry: Entry, error: OSError) -> Difference:
    if error.errno in _NO_ROOM:  # says nothing about the tree
        raise error
    if error.errno in _GONE:
        return Difference(name=entry.name, what="missing")
    return Difference(name=entry.name, what="changed", reason=f"cannot be read ({error.strerror})")


def unexpected(tree: Path, entries: tuple[Entry, ...]) -> list[str]:
    """The names below `tree` that are not in `entries`, without byte code. For a new directory, only its own name."""
    known = {entry.name for entry in entries}
    names: list[str] = []
    below: set[str] = set()
    for name, _ in _walk(tree):
        if name.rpartition("/")[0] in below:
            below.add(name)
        elif name not in known:
            below.add(name)
            names.append(name)
    return names


def check_access(tree: Path, owners: frozenset[int]) -> tuple[str, Other] | None:
    """A path in `tree` to which another user can write, and that user; None if there is none.

    Raises `ForeignOwnerError` if anything in `tree` belongs to none of `owners`.
    """
    from pytest_pyinstall.system.permissions import who_else_can_write

    for path in (os.fspath(tree), *(path for _, path in _walk(tree, byte_code=True))):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if status.st_uid not in owners:
                raise ForeignOwnerError(path, status.st_uid)
            if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
                other = who_else_can_write(status, is_parent=False, path=Path(path))
                if other is not None:
                    return path, other
    return None


def _walk(tree: Path, *, byte_code: bool = False) -> Iterator[tuple[str, str]]:
    """Every entry below `tree` with its path, parents first, by name. No recursion: a hostile tree may be deep."""
    stack = [""]
    while stack:
        directory = stack.pop()
        with os.scandir(os.path.join(tree, directory)) as entries:  # noqa: PTH118  # hot: 1500 entries
            found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        below = []
        for entry in reversed(found):
            if entry.name == "__pycache__" and not byte_code:
                continue
            name = f"{directory}/{entry.name}" if directory else entry.name
            yield name, entry.path
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
        stack.extend(reversed(below))


def _entry(name: str, path: str, known: FileDigests) -> Entry:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, "directory", mode, 0, "")
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, "link", 0, 0, os.readlink(path))
    size, changed, digest = known.get(status.st_ino, (-1, 0, ""))
    if size != status.st_size or changed != status.st_mtime_ns:
        digest = _sha256(path)
    return Entry(name, "file", mode, status.st_size, digest)


def _changed(entry: Entry, path: str, status: os.stat_result, *, content: bool) -> str:  # noqa: PLR0911  # one for each reason
    mode = status.st_mode
    if entry.kind == "directory":
        if not stat.S_ISDIR(mode):
            return "is no longer a directory"
        return _changed_mode(entry, path, status)
    if entry.kind == "link":
        if not stat.S_ISLNK(mode):
            return "is no longer a link"
        target = os.readlink(path)
        return "" if target == entry.digest else f"leads to {target} instead of {entry.digest}"
    if not stat.S_ISREG(mode):
        return "is no longer a regular file"
    reason = _changed_content(entry, path, status, content=content) or _changed_mode(entry, path, status)
    if reason and may_change(entry.name):
        return "is empty" if entry.size and not status.st_size else ""
    return reason


def _changed_content(entry: Entry, path: str, status: os.stat_result, *, content: bool) -> str:
    if status.st_size != entry.size:
        return f"has {status.st_size} bytes instead of {entry.size}"
    if content and _sha256(path) != entry.digest:
        return "has other content"
    return ""


def _changed_mode(entry: Entry, path: str, status: os.stat_result) -> str:
    """How the mode changed, if that matters: a store may be read-only, or restored under another umask."""
    mode = stat.S_IMODE(status.st_mode)
    if mode == entry.mode or os.name == "nt":
        return ""
    is_file = entry.kind == "file"
    from pytest_pyinstall.system.permissions import who_else_can_write

    needed = os.R_OK | (os.X_OK if entry.mode & 0o111 else 0)
    has_lost = not os.access(path, needed, effective_ids=os.access in os.supports_effective_ids)
    gained = mode & ~entry.mode & (0o6022 if is_file else 0o022)
    has_gained = gained & 0o6000 or (
        # With an access control list, the bits of the group are its mask.
        gained and who_else_can_write(status, is_parent=False, path=Path(path)) is not None
    )
    return f"has mode {mode:o} instead of {entry.mode:o}" if has_lost or has_gained else ""


def _sha256(path: str) -> str:
    try:
        import hashlib

        with open(path, "rb", buffering=0) as file:  # hot: 1500 files
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        return "unreadable"


_FORMAT = 1
_MOST_BYTES = 64 << 20


class Record(Value):
    """One ``records/<key>.json``.

    `home` is the final path that the tree was finished for. `inode` is the top directory's, `boot` the run of the
    machine in which this tree was last written or compared by content; for a tree with another inode, or after another
    boot, it has to be compared again. `replaces` is the inode of the tree that it replaced, 0 if there was none: it
    distinguishes the new tree from the old one while a publication is under way. `distributions` are those in
    site-packages, None in records of the first version. `published` is UTC in ISO 8601, `by` the name and version of
    the writer. `attestation` is the verified attestation of the archive, if one was required.
    """

    build: Build
    home: str
    version_info: tuple[int, int, int, str, int]
    entries: tuple[Entry, ...]
    inode: int
    replaces: int
    boot: str
    distributions: tuple[Distribution, ...] | None
    published: str
    by: str
    attestation: Attestation | None = None

    def write(self, path: Path, *, scratch_directory: Path | None = None) -> None:
        """Write the record atomically. The temporary file is in `scratch_directory`, which is on the same filesystem
        (default: beside `path`). Raises `OSError`."""
        document = {
            "format": _FORMAT,
            "key": str(self.build.key),
            "url": without_secrets(self.build.url),
            "sha256": self.build.sha256,
            "size": self.build.size,
            "tag": self.build.tag,
            "bundle_url": self.build.attestation and without_secrets(self.build.attestation),
            "home": self.home,
            "version_info": list(self.version_info),
            "inode": self.inode,
            "replaces": self.replaces,
            "boot": self.boot,
            "distributions": None
            if self.distributions is None
            else [[each.name, each.info, list(each.files)] for each in self.distributions],
            "published": self.published,
            "by": self.by,
            "attestation": self.attestation and self.attestation.to_json(),
            "tree": [entry.to_json() for entry in self.entries],
        }
        # An empty record after a power cut would make a whole tree look like another program's: hence `sync`.
        with new_file(path, sync=True, scratch_directory=scratch_directory) as file:
            file.write(json.dumps(document, separators=(",", ":")).encode())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record at `path`. None if it is missing or invalid. Raises `OSError` if it cannot be read for another
        reason."""
        try:
            with open_regular(path, OPEN_FLAGS) as file:
                document: Any = parse_json(file.read(_MOST_BYTES))
        except (FileNotFoundError, ValueError):
            return None
        try:
            if document["format"] != _FORMAT:
                return None
            return cls(
                build=Build(
                    key=Key.parse(_of_kind(document["key"], str)),
                    url=_of_kind(document["url"], str),
                    sha256=_sha256_of(document["sha256"]),
                    size=document["size"] and _of_kind(document["size"], int),
                    tag=_of_kind(document["tag"], str),
                    attestation=(bundle := document.get("bundle_url")) and _of_kind(bundle, str),
                ),
                home=_of_kind(document["home"], str),
                version_info=_version_info(document["version_info"]),
                entries=tuple([Entry.from_json(row) for row in document["tree"]]),
                inode=_of_kind(document["inode"], int),
                replaces=_of_kind(document["replaces"], int),
                boot=_of_kind(document["boot"], str),
                distributions=_distributions(document.get("distributions")),
                published=_of_kind(document["published"], str),
                by=_of_kind(document["by"], str),
                attestation=_attestation(document.get("attestation")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def version(self) -> Version:
        return self.build.key.version

    def checked(self, home: Path, *, inode: int, boot: str) -> Self:
        """This record, for the tree at `home`, whose content was just compared."""
        distributions = self.distributions
        if distributions is None:
            distributions = read_distributions(home, self.entries)
        return replace(self, inode=inode, boot=boot, distributions=distributions)


def _of_kind(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        msg = f"it must be a {kind.__name__}, not {value!r:.80}"
        raise TypeError(msg)
    return value


def _sha256_of(value: Any) -> str:
    """Check a sha256, because it becomes the name of a directory in the cache."""
    if re.fullmatch(r"[0-9a-f]{64}", _of_kind(value, str)) is None:
        msg = f"it must be a sha256, not {value!r:.80}"
        raise ValueError(msg)
    return str(value)


def _distributions(rows: Any) -> tuple[Distribution, ...] | None:
    if rows is None:
        return None
    distributions = tuple(
        [Distribution(name=str(name), info=str(info), files=tuple(map(str, files))) for name, info, files in rows]
    )
    for distribution in distributions:
        for name in (distribution.info, *distribution.files):
            _check_inside(name)
    return distributions


def _attestation(document: Any) -> Attestation | None:
    """The attestation. None if it is invalid, for example from another version of pytest-pyinstall."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return Attestation.from_json(document)
    return None


def _version_info(parts: Any) -> tuple[int, int, int, str, int]:
    major, minor, micro, level, serial = parts
    numbers = [_of_kind(each, int) for each in (major, minor, micro, serial)]
    return (numbers[0], numbers[1], numbers[2], _of_kind(level, str), numbers[3])


def is_same_tree(name: str, home: Path) -> bool:
    """Whether both paths lead to one directory: a store may have several names, through links or ``..``."""
    # As bytes: a path that is not ASCII is another text under the C locale than under a UTF-8 one.
    if name.encode("utf-8", "surrogateescape") == str(home).encode("utf-8", "surrogateescape"):
        return True
    with contextlib.suppress(OSError, ValueError):
        return home.samefile(name)
    return False


def build_of(home: Path) -> str:
    """The release in the file BUILD of the tree, which uv and pytest-pyinstall write. Empty if there is none."""
    try:
        return (home / "BUILD").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def may_change(relative_path: str) -> bool:
    """Whether uv, or an interpreter, may rewrite this file of a published tree without harm.

    These files are never hardlinked to a cache (uv writes BUILD and EXTERNALLY-MANAGED in place), and their content
    does not show whether an installation is whole. `relative_path` has ``/`` between its parts.
    """
    # Text, because path objects would cost 10 ms: this is called a thousand times for each installation.
    *folders, name = relative_path.split("/")
    return (
        relative_path == "BUILD"
        or "__pycache__" in folders
        or name in {"EXTERNALLY-MANAGED", "__pycache__"}
        or (name.startswith("_sysconfigdata_") and name.endswith(".py"))
        or (folders[-1:] == ["pkgconfig"] and name.endswith(".pc"))
    )
