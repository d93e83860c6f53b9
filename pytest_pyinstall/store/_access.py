"""Checks whether other users can change what runs from the store, and describes failures to read or write it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from pytest_pyinstall.errors import StoreError, UnreadableStoreError
from pytest_pyinstall.store.manifest import ForeignOwnerError, check_access
from pytest_pyinstall.system.files import limit_hint, permission_hint, refusing_directory
from pytest_pyinstall.system.permissions import Other, user_name, who_else_can_write
from pytest_pyinstall.system.values import Value

__all__ = ["SETTING", "Access"]


SETTING = "--python-store"


class Access(Value):
    """The checks of the store at `root`. A store in `trusted` passes them all."""

    root: Path
    private: Path
    trusted: frozenset[Path]

    def guarded(self) -> tuple[Path, ...]:
        """The directories that no other user may write to, because that user could decide what we run."""
        real = Path(os.path.realpath(self.root))
        return tuple(dict.fromkeys((self.private, self.root, *self.root.parents, *real.parents)))

    @property
    def owners(self) -> frozenset[int] | None:
        """The users who may own the files of the store. None if any user may."""
        if sys.platform == "win32" or self.root in self.trusted:
            return None
        return frozenset({0, os.geteuid()})

    def check_directories(self) -> None:
        """Raise `UnreadableStoreError` if another user can write here, or can rename a directory above.

        Such a user could plant a Python that we run. The store itself must belong to us or to root. A directory above
        may belong to another user, who could replace this store, but only by one that does not belong to us.
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
                trust = f"PYTEST_PYINSTALL_TRUSTED_STORE={_quoted(self.root)}"
                if who.flag:
                    msg = f"{who.name} can write to {directory}, {plant}"
                    hint = f"chmod {who.flag}-w {_quoted(directory)}, or, if that is intended: {trust}"
                else:
                    msg = f"{directory} belongs to {who.name}, who is neither you nor root, {plant}"
                    hint = f"a store of your own: {SETTING} DIR, or, if you trust them: {trust}"
                raise UnreadableStoreError(msg, hint=hint)

    def check_installation(self, home: Path, status: os.stat_result, *, has_record: bool) -> None:
        """Raise `UnreadableStoreError` if another user could change the installation at `home`.

        Without a record, each of its entries is checked. With one, that is done when it is compared.
        """
        if self.owners is None:
            return
        if status.st_mode & 0o022 and (who := who_else_can_write(status, is_parent=False, path=home)) and who.flag:
            raise self._open(str(home), who, home)
        try:
            if status.st_uid not in self.owners:
                raise ForeignOwnerError(str(home), status.st_uid)  # one message for both
            if not has_record and (found := check_access(home, self.owners)):
                raise self._open(*found, home)
        except ForeignOwnerError as error:
            raise self.foreign(error) from error
        except FileNotFoundError:
            pass  # it is being removed
        except OSError as error:
            raise self.unreadable(error) from error

    def _open(self, path: str, who: Other, home: Path) -> UnreadableStoreError:
        msg = f"{who.name} can write to {path}, and could change what you run"
        flags = f"{who.flag}-w" if path == str(home) else f"-R {who.flag}-w"
        return UnreadableStoreError(msg, hint=f"chmod {flags} {_quoted(home)}")

    def foreign(self, error: ForeignOwnerError) -> UnreadableStoreError:
        """The error for a file that belongs to another user."""
        who = user_name(error.uid)
        msg = (
            f"{error.path} belongs to user {who}, who is neither you nor root, and could change the Python that you run"
        )
        hint = f"chown -R it, remove it, or, if you trust {who}: PYTEST_PYINSTALL_TRUSTED_STORE={_quoted(self.root)}"
        return UnreadableStoreError(msg, hint=hint)

    def unreadable(self, error: OSError) -> UnreadableStoreError:
        """The error for a failed read below the store."""
        msg = f"cannot read the store {self.root}: {error.filename or ''}: {error.strerror or error}"
        hint = f"another directory: {SETTING} DIR, or PYTEST_PYINSTALL_STORE=DIR"
        return UnreadableStoreError(msg, hint=limit_hint(error) or hint)

    def unwritable(self, error: OSError) -> StoreError:
        """The error for a failed write below the store."""
        where = str(error.filename2 or error.filename or self.root)
        # The path of a scratch directory is long, and means nothing to the user.
        is_known = where == str(self.root) or Path(where).is_relative_to(self.private)
        refusing = refusing_directory(Path(where), error)
        if refusing is not None and not refusing.is_relative_to(self.root):
            where, is_known = str(refusing), False
        shown = "" if is_known else f" {where}:"
        msg = f"cannot write to the store {self.root}:{shown} {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreError(msg, hint=f"make room there, or use another disk: {SETTING} DIR")
        path = Path(error.filename2 or error.filename or self.root)
        hint = limit_hint(error) or permission_hint(path, error) or f"another directory: {SETTING} DIR"
        return StoreError(msg, hint=hint)


def _quoted(path: Path) -> str:
    import shlex  # only for errors

    return shlex.quote(str(path))
