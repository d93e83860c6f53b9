"""The install directory: finds, claims, verifies and removes installations.

The layout is uv's, so that uv and pytest-pyinstall can share a directory. What belongs to pytest-pyinstall alone is
below ``.pytest-pyinstall``, a name that uv ignores.

    STORE/.lock                                  uv's lock, which we hold for the milliseconds of a publication
    STORE/cpython-3.12.4-linux-x86_64-gnu/       an installation
    STORE/cpython-3.12-linux-x86_64-gnu          link to the newest patch
    STORE/.pytest-pyinstall/locks/<key>.lock     held by the process that installs a key
    STORE/.pytest-pyinstall/locks/<key>.lease    readers hold it shared, `remove` holds it exclusively
    STORE/.pytest-pyinstall/scratch/<key>/<…>/   where a key is installed
    STORE/.pytest-pyinstall/records/<key>.json   what was published
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store._access import SETTING, Access
from pytest_pyinstall.store._distributions import Packages
from pytest_pyinstall.store._scratch import own_directory, stale_directories, sweep
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import (
    Difference,
    ForeignOwnerError,
    Record,
    build_of,
    find_differences,
    is_same_tree,
    unexpected,
)
from pytest_pyinstall.system.files import children, delete, is_abandoned, make_directory
from pytest_pyinstall.system.locks import hold, is_free, seize, share
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_pyinstall.store.claim import Claim

__all__ = ["Store"]


_OLD_LEFTOVER = r"\..+\.(?:json|seal)\.\d+\.[0-9a-f]{8}|.+\.seal"

_PAUSES = (0.005, 0.02)
"""Seconds between two checks of an installation that seems broken. It is broken only if all checks agree."""


_MOST_LOOKS = 200


_COMPARING = threading.Lock()
_MOST_WAIT = 0.5
"""Seconds that a thread waits for another one, which a filesystem may never answer."""


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let one thread after another compare sizes and modes.

    Each of the 1,700 system calls of a comparison lets another Python thread run. Four threads at once take twice as
    long as one after the other. The lock only saves time: a thread that has waited for `_MOST_WAIT` goes on without it.
    """
    is_ours = _COMPARING.acquire(timeout=_MOST_WAIT)
    try:
        yield
    finally:
        if is_ours:
            _COMPARING.release()


class Store(Value):
    """The directory of installations at `root`. Creating a `Store` reads and writes nothing.

    `lock_timeout` is in seconds. `boot` names the present run of the machine (`current_boot`). A store in `trusted` may
    be writable for others. `on_wait` is called with a sentence when another process holds a lock for more than a
    second.
    """

    root: Path
    lock_timeout: float = 300.0
    boot: str = ""
    trusted: frozenset[Path] = frozenset()
    on_wait: Callable[[str], None] | None = None

    def keys(self) -> list[Key]:
        """The keys that have a directory here, complete or broken, newest first. Empty if the store does not exist.

        Takes no lock. Raises `UnreadableStoreError` if the store cannot be read, or if others can write to it.
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
            raise self.access.unreadable(error) from error
        self.access.check_directories()
        keys = []
        for name in names:
            with contextlib.suppress(ValueError):
                keys.append(Key.parse(name))
        return sorted(keys, reverse=True)

    def look(self, key: Key, *, content: bool = False) -> Installation | BrokenInstallation | None:
        """The installation of `key`, or None if there is none. Takes no lock and uses no network.

        Compares each entry of the record with the tree by type, size and mode. Compares the content too if `content` is
        set, or if this tree was not compared by content since the machine started; that is then noted in the record, if
        the record can be written. Packages that the user changed in site-packages are not damage. Raises
        `UnreadableStoreError` for a file that cannot be read or belongs to another user.
        """
        found, steady = self._look(key, content=content), 0
        for _ in range(_MOST_LOOKS):
            # While another process publishes, the record is one system call ahead of the tree, and a tree may be about
            # to go away or to be replaced. Only what stays the same is broken.
            if not isinstance(found, BrokenInstallation) or steady == len(_PAUSES):
                break
            time.sleep(_PAUSES[steady])
            before, found = found, self._look(key, content=content)
            steady = steady + 1 if found == before else 0
        return found

    def installations(self) -> list[Installation | BrokenInstallation]:
        """All installations, newest first; see `look`."""
        return [found for key in self.keys() if (found := self.look(key)) is not None]

    def verify(self, key: Key) -> tuple[Difference, ...] | None:
        """Compare the content of every file with the record, and return the differences and what was added.

        The result is empty if everything is as published, or if there is no record to compare with. It is None if there
        is no installation. Takes no lock. Raises `StoreError`.
        """
        for _ in range(_MOST_LOOKS):
            before = self.tree_identity(key)
            found = self.look(key, content=True)
            if found is None:
                return None
            if found.record is None:
                return ()
            try:
                extra = unexpected(found.home, found.record.entries)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it went away in the middle
            except OSError as error:
                raise self.access.unreadable(error) from error
            if self.tree_identity(key) == before:  # otherwise the record and what was added may belong to two trees
                break
            time.sleep(_PAUSES[0])
        else:
            msg = f"cannot verify {key}: other processes repeatedly replace or remove it"
            raise StoreError(msg, hint="later: pytest-pyinstall verify")
        differences = found.differences if isinstance(found, BrokenInstallation) else ()
        return (*differences, *(Difference(name=name, what="added") for name in extra))

    def tree_identity(self, key: Key) -> object:
        """A value that stays equal as long as the same tree is at `home(key)`. None if there is no tree."""
        try:
            status = self.home(key).lstat()
        except OSError:
            return None
        # Not the inode alone: a filesystem may give it to the next tree.
        return (status.st_dev, status.st_ino, status.st_ctime_ns)

    @contextlib.contextmanager
    def claim(self, key: Key, *, content: bool = False, since: float | None = None) -> Iterator[Claim]:
        """Hold the right to install `key`. `content` is passed to `look`.

        Waits for the process that holds it. Inside the block an empty scratch directory exists, and what killed
        processes left is deleted. Afterwards the scratch directory is deleted, and what was published stays. Raises
        `LockTimeoutError` after `lock_timeout` seconds, counted from `since` (``time.monotonic()``, default: now), and
        `StoreError` if the store cannot be written.
        """
        from pytest_pyinstall.store.claim import Claim

        self._prepare()
        with self._hold(key, since), self._scratch(key) as scratch:
            yield Claim(store=self, key=key, scratch=scratch, installation=self.look(key, content=content))

    def wait(self, key: Key, *, since: float | None = None) -> bool:
        """Wait until no process holds the claim of `key`. False, at once, if none does.

        All processes that wait go on together, because each holds the lock only for an instant. With `claim`, each
        would wait until the one before it has looked. Raises what `claim` raises.
        """
        if is_free(self._lock_path(key)):
            return False
        self.access.check_directories()
        with self._hold(key, since):
            return True

    def _hold(self, key: Key, since: float | None) -> contextlib.AbstractContextManager[None]:
        path = self._lock_path(key)
        return hold(
            path,
            timeout=self.lock_timeout,
            purpose=f"for {key}",
            setting=SETTING,
            note=path.with_suffix(".holder"),
            on_wait=self.on_wait,
            since=since,
        )

    @contextlib.contextmanager
    def lease(self, prefix: Path) -> Iterator[bool]:
        """Prevent the removal of the installation at `prefix`. It can still be repaired or reinstalled, without a gap.

        Gives False, and no lease, if `prefix` is not in this store, or if the lease file does not exist and cannot be
        created. Waits at most a second. The lease ends with this process, however it ends.
        """
        key = self._key_of(prefix)
        if key is None:
            yield False
            return
        with share(self.lease_path(key)) as is_held:
            yield is_held

    def remove(self, key: Key) -> bool:
        """Remove the installation. False if there was none.

        It is moved aside in one step before anything in it is deleted, so that no process finds half of it. The minor
        link then leads to the newest patch that remains. Raises `LockTimeoutError`, and `InUseError` if another process
        has a `lease` of it.
        """
        if not os.path.lexists(self.home(key)):
            return False
        with self.claim(key) as claim:
            return claim.remove()

    def home(self, key: Key) -> Path:
        """The directory of the installation of `key`."""
        return self.root / str(key)

    @property
    def private(self) -> Path:
        """The directory of locks, scratch and records."""
        return self.root / ".pytest-pyinstall"

    def record_path(self, key: Key) -> Path:
        """The path of the record of `key`."""
        return self.private / "records" / f"{key}.json"

    @cached_property
    def access(self) -> Access:
        """Checks whether others can change this store."""
        return Access(root=self.root, private=self.private, trusted=self.trusted)

    def sweep(self) -> None:
        """Delete what killed processes left, if no other user can write to this store. Raises nothing."""
        if self._scratch_directory.is_symlink() or not self.private.is_dir():
            return
        with contextlib.suppress(OSError, StoreError):
            self.access.check_directories()
            sweep(self._scratch_directory)
            self._sweep_records()

    def leftovers(self) -> list[Path]:
        """The scratch directories that killed processes left. Takes no lock."""
        return stale_directories(self._scratch_directory)

    def _look(self, key: Key, *, content: bool) -> Installation | BrokenInstallation | None:  # noqa: C901  # one question after another
        home = self.home(key)
        record = self._record(key)
        try:
            status = home.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.access.unreadable(error) from error
        if not stat.S_ISDIR(status.st_mode):
            # A link leads to a tree outside of the store; uv ignores it as well.
            return None
        self.access.check_installation(home, status, has_record=record is not None)
        if record is None:
            return Installation(key=key, home=home, record=None)
        is_checked = record.boot == self.boot and record.inode == status.st_ino and record.distributions is not None
        content = content or not is_checked
        try:
            with contextlib.nullcontext() if content else _one_at_a_time():
                differences = find_differences(home, record.entries, content=content, owners=self.access.owners)
        except ForeignOwnerError as error:
            raise self.access.foreign(error) from error
        except OSError as error:
            raise self.access.unreadable(error) from error
        if differences and record.distributions:
            differences = Packages(home, record.distributions, differences, content=content).damage(differences)
        if not is_same_tree(record.home, home):
            differences.insert(0, Difference(name=".", what="changed", reason=f"it was made for {record.home}"))
        if not differences:
            if not is_checked:
                self._note_checked(record, inode=status.st_ino)
            return Installation(key=key, home=home, record=record)
        if status.st_ino not in {record.inode, record.replaces} and build_of(home) not in {"", record.build.tag}:
            # It is neither what we published nor what that replaced, and of another release. So it is another
            # program's, most likely uv's. The inode alone shows nothing, because a store that was restored or copied
            # has other ones.
            return Installation(key=key, home=home, record=None)
        return BrokenInstallation(key=key, home=home, record=record, differences=tuple(differences))

    def _record(self, key: Key) -> Record | None:
        """The record of `key`. A file that holds the record of another key does not count."""
        path = self.record_path(key)
        try:
            record = Record.read(path)
            owners = self.access.owners
            if record is not None and owners is not None and (uid := path.stat().st_uid) not in owners:
                raise self.access.foreign(ForeignOwnerError(str(path), uid))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.access.unreadable(error) from error
        return record if record is not None and record.build.key == key else None

    def _lock_path(self, key: Key) -> Path:
        return self.private / "locks" / f"{key}.lock"

    def lease_path(self, key: Key) -> Path:
        """The path of the file that readers of `key` hold shared."""
        return self.private / "locks" / f"{key}.lease"

    def _key_of(self, prefix: Path) -> Key | None:
        real = Path(os.path.realpath(prefix))
        if real.parent != Path(os.path.realpath(self.root)):
            return None
        with contextlib.suppress(ValueError):
            return Key.parse(real.name)
        return None

    def make_lease(self, key: Key) -> None:
        """Create the lease file, so that a user who can only read the store can have a lease too."""
        with share(self.lease_path(key)):
            pass

    def _note_checked(self, record: Record, *, inode: int) -> None:
        key = record.build.key
        path = self.record_path(key)
        # If another process publishes, its record is newer. If we cannot write, the next look compares again.
        with contextlib.suppress(OSError, StoreError):
            self.access.check_directories()
            with seize(self._lock_path(key)) as is_ours:
                if is_ours and Record.read(path) == record:
                    record.checked(self.home(key), inode=inode, boot=self.boot).write(path)

    def _prepare(self) -> None:
        self.access.check_directories()
        try:
            if self._scratch_directory.is_symlink():  # planted: nothing may be written through it
                self._scratch_directory.unlink()
            for name in ("locks", "scratch", "records"):
                make_directory(self.private / name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with contextlib.suppress(FileExistsError), open(os.open(self._ignore, flags, 0o644), "wb") as file:
                file.write(b"*")
        except OSError as error:
            raise self.access.unwritable(error) from error
        self.access.check_directories()

    @property
    def _ignore(self) -> Path:
        return self.root / ".gitignore"

    @property
    def _scratch_directory(self) -> Path:
        return self.private / "scratch"

    @contextlib.contextmanager
    def _scratch(self, key: Key) -> Iterator[Path]:
        """A new scratch directory; what killed processes left is deleted."""
        with contextlib.ExitStack() as stack:
            try:
                scratch = stack.enter_context(
                    own_directory(self._scratch_directory, str(key), timeout=self.lock_timeout, setting=SETTING)
                )
            except OSError as error:
                raise self.access.unwritable(error) from error
            self._sweep_records()
            yield scratch

    def _sweep_records(self) -> None:
        for path in children(self.private / "records"):
            # A process was killed in `_note_checked`, or the first version left it.
            if is_abandoned(path) or re.fullmatch(_OLD_LEFTOVER, path.name):
                delete(path)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock of the whole store. uv holds it for a whole download; we hold it only for renames."""
        with hold(
            self.root / ".lock",
            timeout=self.lock_timeout,
            purpose=f"to write to {self.root}",
            setting=SETTING,
            note=self.private / "locks" / "store.holder",
            on_wait=self.on_wait,
        ):
            yield

    def link_minor(self, key: Key, scratch: Path) -> None:
        """Point the minor link of `key` at the newest installed patch."""
        from pytest_pyinstall.store._minor_links import link_minor

        link_minor(self.root, key, installed=self.keys(), scratch=scratch)
