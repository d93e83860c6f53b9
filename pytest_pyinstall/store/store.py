"""Owns the install directory: look, claim, publish, list, verify, remove.

The layout is uv's, so that one directory can serve uv and us at once; what is ours alone lies below
``.pytest-pyinstall``, a name that uv passes by.

    STORE/.lock                                  uv's lock and ours, for the milliseconds of a publication
    STORE/cpython-3.12.4-linux-x86_64-gnu/       an installation
    STORE/cpython-3.12-linux-x86_64-gnu          link to the newest patch
    STORE/.pytest-pyinstall/locks/<key>.lock     the right to fill a key
    STORE/.pytest-pyinstall/locks/<key>.lease    shared by those who use it; who removes it needs it alone
    STORE/.pytest-pyinstall/scratch/<key>/<…>/   where it is filled
    STORE/.pytest-pyinstall/records/<key>.json   what was published
    STORE/.pytest-pyinstall/records/<key>.seal   that it was whole a moment ago
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import InUseError, StoreError, UnreadableStoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store._scratch import left_over, link_minor, own_directory
from pytest_pyinstall.store._stamp import VersionInfo, read_seal, write_seal
from pytest_pyinstall.store.manifest import Difference, Record, added, build_of, compare, is_same_tree, listed
from pytest_pyinstall.system.files import Known, children, delete, make_directory
from pytest_pyinstall.system.locks import hold, holder, is_free, seize, share
from pytest_pyinstall.system.permissions import who_else_can_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_pyinstall.request.identity import Attestation, Build

__all__ = ["Broken", "Claim", "Installation", "Store", "VersionInfo"]


_SETTING = "--python-store"


_LOGGER = logging.getLogger(__name__)


_PAUSES = (0.005, 0.02)
"""Seconds between the looks at what seems broken, all of which have to find the same."""


_MOST_LOOKS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A directory in the store that holds a Python.

    With a `record` it is one of ours and as it was published. Without one it is somebody else's, most likely uv's, and
    only running it can tell what it is.
    """

    key: Key
    home: Path
    record: Record | None

    @property
    def executable(self) -> Path:
        return self.home / self.key.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An installation of ours that is not as it was published any more, with what differs."""

    key: Key
    home: Path
    record: Record
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        first, *others = self.differences
        more = f" and {len(others)} more" if others else ""
        return f"{self.key} is damaged: {first}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The directory of installations at `root`. Making one of these touches nothing on disk.

    `boot` names the present run of the machine (`current_boot`). `on_wait` hears a sentence when a lock is held by
    somebody else for more than a second.
    """

    root: Path
    lock_timeout: float = 300.0
    boot: str = ""
    trusted: frozenset[Path] = frozenset()
    on_wait: Callable[[str], None] | None = None

    def keys(self) -> list[Key]:
        """What has a directory here, whole or not, newest first. No lock; an absent store has nothing.

        Raises `UnreadableStoreError` where the store cannot be read, or where others can write to it.
        """
        try:
            with os.scandir(self.root) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        self._refuse_what_others_can_write()
        keys = []
        for name in names:
            with contextlib.suppress(ValueError):
                keys.append(Key.parse(name))
        return sorted(keys, reverse=True)

    def look(self, key: Key, *, content: bool = False) -> Installation | Broken | None:
        """What stands under the name of `key`. No lock, no write, no network.

        Every entry of the record's list is compared by type, size and mode; with `content`, and in the first look after
        another boot, by content, and then the record is marked as durable, if it can be written.
        """
        found, steady = self._look(key, content=content), 0
        for _ in range(_MOST_LOOKS):
            # Between two system calls of somebody's publication the record is a step ahead of the tree; and a tree may
            # be going away, or another taking its place. Broken is only what stays the same.
            if not isinstance(found, Broken) or steady == len(_PAUSES):
                break
            time.sleep(_PAUSES[steady])
            before, found = found, self._look(key, content=content)
            steady = steady + 1 if found == before else 0
        return found

    def glance(self, key: Key) -> VersionInfo | None:
        """The version of what stands under the name of `key`, where a look within the last hour found it whole and
        nothing has been deleted, added or replaced since; else None, and `look` tells. No lock, no write."""
        return read_seal(self._seal_path(key), home=self.home(key), record=self.record_path(key), boot=self.boot)

    def seal(self, installation: Installation, *, is_new: bool = False) -> None:
        """Let the next `glance` know that it is whole, where that can be written."""
        record, key = installation.record, installation.key
        if record is not None and record.home == str(installation.home):
            with contextlib.suppress(OSError):
                write_seal(
                    self._seal_path(key),
                    home=installation.home,
                    record=record,
                    record_path=self.record_path(key),
                    boot=self.boot,
                    is_new=is_new,
                )

    def installations(self) -> list[Installation | Broken]:
        """Everything that stands here, newest first; see `look`."""
        return [found for key in self.keys() if (found := self.look(key)) is not None]

    def verify(self, key: Key) -> tuple[Difference, ...] | None:
        """Compare the content of every file with the record, and name what was added. No lock, no write.

        Empty where all is as published, and for an installation without record, of which nothing is known. None where
        nothing stands there, or not any more.
        """
        for _ in range(_MOST_LOOKS):
            before = self.standing(key)
            found = self.look(key, content=True)
            if found is None:
                return None
            if found.record is None:
                return ()
            try:
                extra = added(found.home, found.record.entries)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it went away in the middle
            except OSError as error:
                raise self._unreadable(error) from error
            if self.standing(key) == before:  # else the record and what was added may be of two trees
                break
            time.sleep(_PAUSES[0])
        else:
            msg = f"cannot tell how {key} is: it is replaced or removed again and again"
            raise StoreError(msg, hint="when that has ended: pytest-pyinstall verify")
        differences = found.differences if isinstance(found, Broken) else ()
        return (*differences, *(Difference(name, "added") for name in extra))

    def standing(self, key: Key) -> object:
        """Something that is equal as long as the same tree stands under the name of `key`; None where there is none."""
        try:
            status = self.home(key).lstat()
        except OSError:
            return None
        # Not the inode alone: a filesystem may give it to the next tree.
        return (status.st_dev, status.st_ino, status.st_ctime_ns)

    @contextlib.contextmanager
    def claim(self, key: Key, *, content: bool = False) -> Iterator[Claim]:
        """Hold the right to fill `key`. `content` is that of `look`, for who wants to know whether it has to be filled.

        Waits for whoever holds it now. On entry an empty scratch directory of our own exists, and what the dead left
        is gone; on exit it is gone too, and what was published stays. Raises `LockTimeoutError` after `lock_timeout`
        seconds, `StoreError` where the store cannot be written.
        """
        self._prepare()
        with (
            hold(
                self._lock_path(key),
                timeout=self.lock_timeout,
                purpose=f"for {key}",
                setting=_SETTING,
                note=self._lock_path(key).with_suffix(".holder"),
                on_wait=self.on_wait,
            ),
            self._scratch(key) as scratch,
        ):
            yield Claim(store=self, key=key, scratch=scratch, installation=self.look(key, content=content))

    @contextlib.contextmanager
    def lease(self, prefix: Path) -> Iterator[bool]:
        """Keep the installation at `prefix` from being removed. Filling it anew needs no lease: that leaves no gap.

        False, and no lease, where `prefix` is not in this store, or where the store is not ours to write and whoever
        filled it left no file to hold. Never waits for longer than a second. Whatever way the holder ends, the lease
        does.
        """
        key = self._key_of(prefix)
        if key is None:
            yield False
            return
        with share(self._lease_path(key)) as is_held:
            yield is_held

    def remove(self, key: Key) -> bool:
        """Take the installation away; False if there was none.

        It is moved aside in one step before anything in it is deleted, so that nobody meets half of it. The minor link
        then leads to the next patch. Raises `LockTimeoutError`, and `StoreError` where somebody has a `lease` of it.
        """
        if not os.path.lexists(self.home(key)):
            return False
        with self.claim(key) as claim:
            return claim.remove()

    def home(self, key: Key) -> Path:
        """The final name of `key`."""
        return self.root / str(key)

    @property
    def private(self) -> Path:
        """What is ours alone: locks, scratch and records."""
        return self.root / ".pytest-pyinstall"

    def record_path(self, key: Key) -> Path:
        """Where the record of `key` lies, if there is one."""
        return self.private / "records" / f"{key}.json"

    def guarded(self) -> tuple[Path, ...]:
        """The directories that nobody else may write to: whoever can write there, or rename one above, decides what we
        run."""
        real = Path(os.path.realpath(self.root))
        return tuple(dict.fromkeys((self.private, self.root, *self.root.parents, *real.parents)))

    def leftovers(self) -> list[Path]:
        """The scratch directories that the dead left behind. No lock."""
        return left_over(self._scratch_directory)

    # The private part, in the order of use.

    def _look(self, key: Key, *, content: bool) -> Installation | Broken | None:
        home = self.home(key)
        record = self._record(key)
        try:
            status = home.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        if not stat.S_ISDIR(status.st_mode):
            # A link leads to a tree that is not the store's to judge; uv passes it by as well.
            return None
        if record is None:
            return Installation(key=key, home=home, record=None)
        is_new_boot = record.boot != self.boot and not record.is_durable
        try:
            differences = compare(home, record.entries, content=content or is_new_boot)
        except OSError as error:
            raise self._unreadable(error) from error
        if not is_same_tree(record.home, home):
            differences.insert(0, Difference(".", "changed", f"was made for {record.home}"))
        if not differences:
            if is_new_boot:
                self._note_durable(record)
            return Installation(key=key, home=home, record=record)
        if status.st_ino not in {record.inode, record.replaces} and build_of(home) not in {"", record.build.tag}:
            # Neither what we published nor what that took the place of, and of another release: somebody else's, most
            # likely uv's. The inode alone tells nothing, for a store that was restored or copied has other ones.
            return Installation(key=key, home=home, record=None)
        return Broken(key=key, home=home, record=record, differences=tuple(differences))

    def _record(self, key: Key) -> Record | None:
        try:
            return Record.read(self.record_path(key))
        except OSError as error:
            raise self._unreadable(error) from error

    def _seal_path(self, key: Key) -> Path:
        return self.private / "records" / f"{key}.seal"

    def _lock_path(self, key: Key) -> Path:
        return self.private / "locks" / f"{key}.lock"

    def _lease_path(self, key: Key) -> Path:
        return self.private / "locks" / f"{key}.lease"

    def _key_of(self, prefix: Path) -> Key | None:
        real = Path(os.path.realpath(prefix))
        if real.parent != Path(os.path.realpath(self.root)):
            return None
        with contextlib.suppress(ValueError):
            return Key.parse(real.name)
        return None

    def _make_lease(self, key: Key) -> None:
        """So that who may only read the store can have a lease too."""
        with share(self._lease_path(key)):
            pass

    def _note_durable(self, record: Record) -> None:
        path = self.record_path(record.build.key)
        # Not while somebody publishes: theirs is newer. Where we cannot write, the next one looks again.
        with contextlib.suppress(OSError):
            if is_free(self._lock_path(record.build.key)) and Record.read(path) == record:
                replace(record, is_durable=True).write(path)

    def _prepare(self) -> None:
        try:
            for name in ("locks", "scratch", "records"):
                make_directory(self.private / name)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                with open(os.open(ignore, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
                    file.write(b"*")
        except OSError as error:
            raise self.unwritable(error) from error
        self._refuse_what_others_can_write()

    def _refuse_what_others_can_write(self) -> None:
        """Whoever can write here, or rename a directory above, decides what we run.

        That is also who owns the store: root does, and we do. Who owns a directory above could put another store in
        place of this one, but not one that is ours.
        """
        if sys.platform == "win32" or self.root in self.trusted:
            return
        own = {self.private, self.root}
        for directory in self.guarded():
            try:
                status = directory.stat()
            except OSError:
                continue
            who = who_else_can_write(status, is_parent=directory not in own)
            if who:
                plant = f"and could plant a Python in the store {self.root}"
                trust = f"PYTEST_PYINSTALL_TRUSTED_STORE={self.root}"
                if who.flag:
                    msg = f"{who.name} can write to {directory}, {plant}"
                    hint = f"chmod {who.flag}-w {directory}, or, if that is meant: {trust}"
                else:
                    msg = f"{directory} belongs to {who.name}, who is neither you nor root, {plant}"
                    hint = f"a store of your own: {_SETTING} DIR, or, if you trust them: {trust}"
                raise UnreadableStoreError(msg, hint=hint)

    @property
    def _scratch_directory(self) -> Path:
        return self.private / "scratch"

    @contextlib.contextmanager
    def _scratch(self, key: Key) -> Iterator[Path]:
        """A directory of our own, and what the dead left is gone."""
        with contextlib.ExitStack() as stack:
            try:
                scratch = stack.enter_context(
                    own_directory(self._scratch_directory, str(key), timeout=self.lock_timeout, setting=_SETTING)
                )
            except OSError as error:
                raise self.unwritable(error) from error
            # Of who died in `_note_durable`. Who lives notes it the next time.
            for path in children(self.private / "records"):
                if path.name.startswith("."):
                    delete(path)
            yield scratch

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        """uv takes this lock for a whole download; we only for renames."""
        with hold(
            self.root / ".lock",
            timeout=self.lock_timeout,
            purpose=f"to write to {self.root}",
            setting=_SETTING,
            note=self.private / "locks" / "store.holder",
            on_wait=self.on_wait,
        ):
            yield

    def _link_minor(self, key: Key, scratch: Path) -> None:
        """Let the minor link lead to the newest patch that stands here."""
        link_minor(self.root, key, installed=self.keys(), scratch=scratch)

    def _unreadable(self, error: OSError) -> UnreadableStoreError:
        msg = f"cannot read the store {self.root}: {error.filename or ''}: {error.strerror or error}"
        return UnreadableStoreError(msg, hint=f"another directory: {_SETTING} DIR, or PYTEST_PYINSTALL_STORE=DIR")

    def unwritable(self, error: OSError) -> StoreError:
        """What to say of a write below the store that failed."""
        where = error.filename2 or error.filename or self.root
        msg = f"cannot write to the store {self.root}: {where}: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreError(msg, hint=f"make room there, or use another disk: {_SETTING} DIR")
        return StoreError(msg, hint=f"another directory: {_SETTING} DIR, or PYTEST_PYINSTALL_STORE=DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to fill one key, held. `scratch` is an empty directory on the store's own filesystem."""

    store: Store
    key: Key
    scratch: Path
    installation: Installation | Broken | None

    @property
    def home(self) -> Path:
        """The final name of what is made here."""
        return self.store.home(self.key)

    def publish(
        self,
        tree: Path,
        *,
        build: Build,
        version_info: tuple[int, int, int, str, int],
        keep_added: bool,
        known: Known | None = None,
        attestation: Attestation | None = None,
    ) -> Installation:
        """Put `tree`, a finished directory in `scratch`, under its final name.

        At no instant is there half a tree, and where one stood before there is at no instant none (but see
        `exchange.put`). The old one is deleted afterwards; with `keep_added`, what somebody had put into it is taken
        over first. The digests of files in `known` are taken from there.
        Record and minor link are written under the store's lock. Raises `LockTimeoutError`, `StoreError`.
        """
        from importlib.metadata import version as version_of

        from pytest_pyinstall.system.files import put

        store = self.store
        try:
            entries = listed(tree, known)
            if keep_added and isinstance(self.installation, Broken):
                _take_over(self.installation, tree)
            with store._publishing():  # noqa: SLF001  # a claim is the store's own hand
                before = _inode(self.home)
                record = Record(
                    build=build,
                    home=str(self.home),
                    version_info=version_info,
                    entries=entries,
                    inode=tree.stat().st_ino,
                    replaces=before,
                    boot=store.boot,
                    is_durable=False,
                    published=datetime.now(UTC).isoformat(timespec="seconds"),
                    by=f"pytest-pyinstall {version_of('pytest-pyinstall')}",
                    attestation=attestation,
                )
                # The record goes first: a tree without record would pass for somebody else's.
                record.write(store.record_path(self.key), scratch_directory=self.scratch)
                put(tree, self.home)
                store._link_minor(self.key, self.scratch)  # noqa: SLF001
                store._make_lease(self.key)  # noqa: SLF001
        except OSError as error:
            raise store.unwritable(error) from error
        published = Installation(key=self.key, home=self.home, record=record)
        store.seal(published, is_new=True)
        return published

    def remove(self) -> bool:
        """Move the installation into scratch, from where it is deleted when the claim ends; False if there is none.

        Raises `StoreError` where somebody has a `Store.lease` of it.
        """
        store = self.store
        lease = store._lease_path(self.key)  # noqa: SLF001
        store._make_lease(self.key)  # noqa: SLF001  # uv makes none
        try:
            with store._publishing(), seize(lease) as is_unused:  # noqa: SLF001
                if not os.path.lexists(self.home):
                    return False
                if not is_unused:
                    msg = f"{self.key} is in use, and stays: {holder(lease)} works with it"
                    raise InUseError(msg, hint=f"pytest-pyinstall remove {self.key}")
                self.home.rename(self.scratch / "removed")
                _LOGGER.info("%s: moved aside, to be deleted: %s", self.key, self.home)
                store.record_path(self.key).unlink(missing_ok=True)
                store._seal_path(self.key).unlink(missing_ok=True)  # noqa: SLF001
                store._link_minor(self.key, self.scratch)  # noqa: SLF001
        except OSError as error:
            raise store.unwritable(error) from error
        return True


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def _take_over(old: Broken, tree: Path) -> None:
    """Copy what was added to the old tree: somebody's packages are not ours to lose."""
    import shutil

    for name in added(old.home, old.record.entries):
        source, destination = old.home / name, tree / name
        if os.path.lexists(destination) or not destination.parent.is_dir():
            continue
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, destination, symlinks=True)
        else:
            shutil.copy2(source, destination, follow_symlinks=False)
