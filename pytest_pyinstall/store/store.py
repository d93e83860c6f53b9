"""Owns the install directory: look, claim, publish, list, verify, remove.

The layout is uv's, so that one directory can serve uv and us at once; what is ours alone is below
``.pytest-pyinstall``, a name that uv passes by.

    STORE/.lock                                  uv's lock and ours, for the milliseconds of a publication
    STORE/cpython-3.12.4-linux-x86_64-gnu/       an installation
    STORE/cpython-3.12-linux-x86_64-gnu          link to the newest patch
    STORE/.pytest-pyinstall/locks/<key>.lock     the right to fill a key
    STORE/.pytest-pyinstall/locks/<key>.lease    shared by those who use it; who removes it needs it alone
    STORE/.pytest-pyinstall/scratch/<key>/<…>/   where it is filled
    STORE/.pytest-pyinstall/records/<key>.json   what was published
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import InUseError, StoreError, UnreadableStoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store._distributions import Packages, read_distributions
from pytest_pyinstall.store._scratch import link_minor, own_directory, stale_directories
from pytest_pyinstall.store.manifest import (
    Difference,
    Entry,
    ForeignOwnerError,
    Record,
    build_of,
    check_owners,
    find_differences,
    is_same_tree,
    take_manifest,
    unexpected,
)
from pytest_pyinstall.system.files import FileDigests, children, delete, is_abandoned, make_directory
from pytest_pyinstall.system.locks import hold, holder, seize, share
from pytest_pyinstall.system.permissions import user_name, who_else_can_write
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_pyinstall.request.identity import Attestation, Build
    from pytest_pyinstall.store._distributions import Distribution

__all__ = ["BrokenInstallation", "Claim", "Installation", "Rebuilt", "Store"]


_SETTING = "--python-store"


_LOGGER = logging.getLogger(__name__)


_OLD_LEFTOVER = re.compile(r"\..+\.(?:json|seal)\.\d+\.[0-9a-f]{8}|.+\.seal")

_PAUSES = (0.005, 0.02)
"""Seconds between the looks at what seems broken, all of which have to find the same."""


_MOST_LOOKS = 200


class Installation(Value):
    """A directory in the store that holds a Python.

    With a `record` it is one of ours and as it was published. Without one it is another program's, most likely uv's,
    and only running it can tell what it is.
    """

    key: Key
    home: Path
    record: Record | None

    @property
    def executable(self) -> Path:
        return self.home / self.key.executable


class BrokenInstallation(Value):
    """An installation of ours that is not as it was published any more, with what differs."""

    key: Key
    home: Path
    record: Record
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        first, *others = self.differences
        more = f" and {len(others)} more" if others else ""
        return f"{self.key} {'is broken' if self.lacks_content else 'was moved or restored'}: {first}{more}"

    @property
    def lacks_content(self) -> bool:
        """Whether more is lost than a restored copy loses: its place, modes, links and empty directories."""
        files = {entry.name for entry in self.record.entries if entry.kind == "file"}
        lost = (each for each in self.differences if each.name in files)
        return any(each.what == "missing" or not each.reason.startswith("has mode ") for each in lost)


class Store(Value):
    """The directory of installations at `root`. Making one of these touches nothing on disk.

    `boot` names the present run of the machine (`current_boot`). `on_wait` hears a sentence when a lock is held by
    another process for more than a second.
    """

    root: Path
    lock_timeout: float = 300.0
    boot: str = ""
    trusted: frozenset[Path] = frozenset()
    on_wait: Callable[[str], None] | None = None

    def keys(self) -> list[Key]:
        """What has a directory here, whole or not, newest first. No lock; an absent store has nothing.

        Raises `UnreadableStoreError` if the store cannot be read, or where others can write to it.
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

    def look(self, key: Key, *, content: bool = False) -> Installation | BrokenInstallation | None:
        """What is under the name of `key`. No lock, no write, no network.

        Every entry of the record's list is compared by type, size and mode; with `content`, and if the content of this
        very tree was not compared since the machine started, by content, which is then noted in the record, if that can
        be written. What the user made of the packages in site-packages is no damage. Raises `UnreadableStoreError` for
        what cannot be read, or belongs to another user.
        """
        found, steady = self._look(key, content=content), 0
        for _ in range(_MOST_LOOKS):
            # Between two system calls of another program's publication the record is a step ahead of the tree; and a
            # tree may be going away, or another taking its place. Broken is only what stays the same.
            if not isinstance(found, BrokenInstallation) or steady == len(_PAUSES):
                break
            time.sleep(_PAUSES[steady])
            before, found = found, self._look(key, content=content)
            steady = steady + 1 if found == before else 0
        return found

    def installations(self) -> list[Installation | BrokenInstallation]:
        """Everything that stands here, newest first; see `look`."""
        return [found for key in self.keys() if (found := self.look(key)) is not None]

    def verify(self, key: Key) -> tuple[Difference, ...] | None:
        """Compare the content of every file with the record, and name what was added. No lock, no write.

        Empty if all is as published, and for an installation without record, of which nothing is known. None if
        nothing is there, or not any more.
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
                raise self._unreadable(error) from error
            if self.tree_identity(key) == before:  # else the record and what was added may be of two trees
                break
            time.sleep(_PAUSES[0])
        else:
            msg = f"cannot tell how {key} is: it is replaced or removed again and again"
            raise StoreError(msg, hint="when that has ended: pytest-pyinstall verify")
        differences = found.differences if isinstance(found, BrokenInstallation) else ()
        return (*differences, *(Difference(name, "added") for name in extra))

    def tree_identity(self, key: Key) -> object:
        """Something that is equal as long as the same tree is under the name of `key`; None if there is none."""
        try:
            status = self.home(key).lstat()
        except OSError:
            return None
        # Not the inode alone: a filesystem may give it to the next tree.
        return (status.st_dev, status.st_ino, status.st_ctime_ns)

    @contextlib.contextmanager
    def claim(self, key: Key, *, content: bool = False) -> Iterator[Claim]:
        """Hold the right to fill `key`. `content` is that of `look`, for who wants to know whether it has to be filled.

        Waits for the process that holds it now. On entry an empty scratch directory of our own exists, and what the
        dead left is gone; on exit it is gone too, and what was published stays. Raises `LockTimeoutError` after
        `lock_timeout` seconds, `StoreError` if the store cannot be written.
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

        False, and no lease, where `prefix` is not in this store, or where the store is not ours to write and anyone who
        filled it left no file to hold. Never waits for longer than a second. However the holder ends, the lease
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

        It is moved aside in one step before anything in it is deleted, so that no one meets half of it. The minor link
        then leads to the next patch. Raises `LockTimeoutError`, and `StoreError` if another process has a `lease` of
        it.
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
        """The directories that no one else may write to: anyone who can write there, or rename one above, decides what
        we run."""
        real = Path(os.path.realpath(self.root))
        return tuple(dict.fromkeys((self.private, self.root, *self.root.parents, *real.parents)))

    def leftovers(self) -> list[Path]:
        """The scratch directories that the dead left behind. No lock."""
        return stale_directories(self._scratch_directory)

    # The private part, in the order of use.

    def _look(self, key: Key, *, content: bool) -> Installation | BrokenInstallation | None:  # noqa: C901  # one question after another
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
        self._refuse_what_others_decide(home, status, has_record=record is not None)
        if record is None:
            return Installation(key=key, home=home, record=None)
        is_checked = record.boot == self.boot and record.inode == status.st_ino and record.distributions is not None
        content = content or not is_checked
        try:
            differences = find_differences(home, record.entries, content=content, owners=self._owners)
        except ForeignOwnerError as error:
            raise self._foreign(error) from error
        except OSError as error:
            raise self._unreadable(error) from error
        if differences and record.distributions:
            differences = Packages(home, record.distributions, differences, content=content).damage(differences)
        if not is_same_tree(record.home, home):
            differences.insert(0, Difference(".", "changed", f"was made for {record.home}"))
        if not differences:
            if not is_checked:
                self._note_checked(record, inode=status.st_ino)
            return Installation(key=key, home=home, record=record)
        if status.st_ino not in {record.inode, record.replaces} and build_of(home) not in {"", record.build.tag}:
            # Neither what we published nor what that took the place of, and of another release: another program's, most
            # likely uv's. The inode alone tells nothing, for a store that was restored or copied has other ones.
            return Installation(key=key, home=home, record=None)
        return BrokenInstallation(key=key, home=home, record=record, differences=tuple(differences))

    def _refuse_what_others_decide(self, home: Path, status: os.stat_result, *, has_record: bool) -> None:
        """What has a record is looked at entry by entry when it is compared."""
        if self._owners is None:
            return
        if status.st_mode & 0o022 and (who := who_else_can_write(status, is_parent=False, path=home)) and who.flag:
            msg = f"{who.name} can write to {home}, and could change what you run"
            raise UnreadableStoreError(msg, hint=f"chmod {who.flag}-w {home}")
        try:
            if status.st_uid not in self._owners:
                raise ForeignOwnerError(str(home), status.st_uid)  # one message for both
            if not has_record:
                check_owners(home, self._owners)
        except ForeignOwnerError as error:
            raise self._foreign(error) from error
        except FileNotFoundError:
            pass  # it is being removed
        except OSError as error:
            raise self._unreadable(error) from error

    def _record(self, key: Key) -> Record | None:
        """What is written down about `key`. A record of another key says nothing."""
        path = self.record_path(key)
        try:
            record = Record.read(path)
            if record is not None and self._owners is not None and (uid := path.stat().st_uid) not in self._owners:
                raise self._foreign(ForeignOwnerError(str(path), uid))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        return record if record is not None and record.build.key == key else None

    @property
    def _owners(self) -> frozenset[int] | None:
        """Who may own what is used from here; None for everybody."""
        if sys.platform == "win32" or self.root in self.trusted:
            return None
        return frozenset({0, os.geteuid()})

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

    def _note_checked(self, record: Record, *, inode: int) -> None:
        key = record.build.key
        path = self.record_path(key)
        # If another process publishes, theirs is newer. If we cannot write, the next look compares again.
        with contextlib.suppress(OSError, StoreError):
            self._refuse_what_others_can_write()
            with seize(self._lock_path(key)) as is_ours:
                if is_ours and Record.read(path) == record:
                    record.checked(self.home(key), inode=inode, boot=self.boot).write(path)

    def _prepare(self) -> None:
        self._refuse_what_others_can_write()
        try:
            if self._scratch_directory.is_symlink():  # anyone may delete it, and nothing of ours follows it
                self._scratch_directory.unlink()
            for name in ("locks", "scratch", "records"):
                make_directory(self.private / name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with contextlib.suppress(FileExistsError), open(os.open(self._ignore, flags, 0o644), "wb") as file:
                file.write(b"*")
        except OSError as error:
            raise self.unwritable(error) from error
        self._refuse_what_others_can_write()

    def _refuse_what_others_can_write(self) -> None:
        """Anyone who can write here, or rename a directory above, decides what we run.

        That is also who owns the store: root does, and we do. Who owns a directory above could put another store in
        place of this one, but not one that is ours.
        """
        if sys.platform == "win32" or self.root in self.trusted:
            return
        own = {self.root, self.private, *(self.private / name for name in ("locks", "scratch", "records"))}
        for directory in (*self.guarded(), *own):
            try:
                status = directory.stat()
            except OSError:
                continue
            who = who_else_can_write(status, is_parent=directory not in own, path=directory)
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
    def _ignore(self) -> Path:
        return self.root / ".gitignore"

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
            for path in children(self.private / "records"):
                # Of who died in `_note_checked`; and what the first version left.
                if is_abandoned(path) or _OLD_LEFTOVER.fullmatch(path.name):
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

    def _foreign(self, error: ForeignOwnerError) -> UnreadableStoreError:
        who = user_name(error.uid)
        msg = (
            f"{error.path} belongs to user {who}, who is neither you nor root, and could change the Python that you run"
        )
        hint = f"chown -R it, remove it, or, if you trust {who}: PYTEST_PYINSTALL_TRUSTED_STORE={self.root}"
        return UnreadableStoreError(msg, hint=hint)

    def unwritable(self, error: OSError) -> StoreError:
        """What to say of a write below the store that failed."""
        where = error.filename2 or error.filename or self.root
        msg = f"cannot write to the store {self.root}: {where}: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreError(msg, hint=f"make room there, or use another disk: {_SETTING} DIR")
        return StoreError(msg, hint=f"another directory: {_SETTING} DIR, or PYTEST_PYINSTALL_STORE=DIR")


class Rebuilt(Value):
    """A tree made by `Claim.rebuild`, with the digests of its files and what of `record` the user has replaced."""

    tree: Path
    known: FileDigests
    left_out: tuple[Entry, ...]
    record: Record


class Claim(Value):
    """The right to fill one key, held. `scratch` is an empty directory on the store's own filesystem."""

    store: Store
    key: Key
    scratch: Path
    installation: Installation | BrokenInstallation | None

    @property
    def home(self) -> Path:
        """The final name of what is made here."""
        return self.store.home(self.key)

    def rebuild(self) -> Rebuilt | None:
        """A tree in `scratch` made of what is there now; None if the content of a file is lost.

        Raises `StoreError`.
        """
        from pytest_pyinstall.store._rebuild import rebuild

        old = self.installation
        if old is None or old.record is None or old.record.distributions is None:
            return None
        entries = old.record.entries
        try:
            differences = find_differences(old.home, entries, content=True)
            packages = Packages(old.home, old.record.distributions, differences, content=True)
            names = packages.claimed.union(*(each.files for each in packages.gone))
            left_out = tuple(entry for entry in entries if entry.name in names)
            tree = self.scratch / "rebuilt"
            known = rebuild(old.home, (entry for entry in entries if entry.name not in names), tree)
        except OSError as error:
            raise self.store.unwritable(error) from error
        return None if known is None else Rebuilt(tree=tree, known=known, left_out=left_out, record=old.record)

    def publish(
        self,
        tree: Path,
        *,
        build: Build,
        version_info: tuple[int, int, int, str, int],
        keep_added: bool,
        known: FileDigests | None = None,
        attestation: Attestation | None = None,
        left_out: tuple[Entry, ...] = (),
        prove: Callable[[Path, tuple[str, ...]], object] | None = None,
    ) -> Installation:
        """Put `tree`, a finished directory in `scratch`, under its final name.

        At no instant is there half a tree, and if one was there before, there is at no instant none (but see
        `files.put`). The old one is deleted afterwards. With `keep_added`, what its user added is brought along first,
        and if there was anything, `prove` is called with the tree and the names of that. The digests of files in
        `known` are taken from there. `left_out` are entries that `rebuild` left out of the tree. Record and minor link
        are written under the store's lock. Raises `LockTimeoutError`, `StoreError`, and what `prove` raises.
        """
        from importlib.metadata import version as version_of

        from pytest_pyinstall.system.files import replace_directory

        store, old = self.store, self.installation
        try:
            entries = tuple(sorted((*take_manifest(tree, known), *left_out), key=lambda entry: entry.name))
            published = read_distributions(tree, entries)
            if keep_added and old is not None and old.record is not None:
                if left_out:
                    published = old.record.distributions or published
                brought = self._bring_along(old.home, old.record, tree, published)
                if brought and prove is not None:
                    prove(tree, brought)
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
                    distributions=published,
                    published=datetime.now(UTC).isoformat(timespec="seconds"),
                    by=f"pytest-pyinstall {version_of('pytest-pyinstall')}",
                    attestation=attestation,
                )
                # The record goes first: a tree without record would pass for another program's.
                record.write(store.record_path(self.key), scratch_directory=self.scratch)
                replace_directory(tree, self.home)
                store._link_minor(self.key, self.scratch)  # noqa: SLF001
                store._make_lease(self.key)  # noqa: SLF001
        except OSError as error:
            raise store.unwritable(error) from error
        return Installation(key=self.key, home=self.home, record=record)

    def _bring_along(
        self, home: Path, record: Record, tree: Path, published: tuple[Distribution, ...]
    ) -> tuple[str, ...]:
        from pytest_pyinstall.archive.relocate import relocate_text
        from pytest_pyinstall.store._rebuild import bring_along

        def relocate(name: str, content: bytes) -> bytes:
            new, python = str(self.home), self.key.executable
            return relocate_text(name, content, prefixes={record.home}, home=new, python=python)

        return bring_along(
            home,
            tree,
            entries=record.entries,
            published=published,
            differences=find_differences(home, record.entries, content=True),
            relocate=relocate,
        )

    def remove(self) -> bool:
        """Move the installation into scratch, from where it is deleted when the claim ends; False if there is none.

        Raises `StoreError` if another process has a `Store.lease` of it.
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
                store._link_minor(self.key, self.scratch)  # noqa: SLF001
        except OSError as error:
            raise store.unwritable(error) from error
        return True


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0
