"""Lock files, whose holder is named if a wait takes too long.

The lock is a BSD ``flock``, or on Windows ``LockFileEx``, on a file that is never deleted. uv locks ``STORE/.lock`` in
the same way, so uv and pytest-pyinstall exclude each other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import LockTimeoutError, StoreError
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import host_name, limit_hint, make_directory, permission_hint
from pytest_pyinstall.system.log import StepLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LOCK", "has_shared_locks", "hold", "holder", "is_free", "lock_descriptor", "lock_now", "seize", "share"]


if sys.platform != "win32":
    import fcntl


_LOGGER = StepLogger(__name__)


_POLL = 0.01
"""Seconds between two tries: sixteen waiting processes use a few per cent of one core, and each loses 5 ms."""


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    timeout: float,
    purpose: str,
    setting: str,
    note: Path | None = None,
    on_wait: Callable[[str], None] | None = None,
    since: float | None = None,
) -> Iterator[None]:
    """Hold the lock file `path`, which is created with mode 0666 if it is missing, and never removed.

    `purpose` ends the sentence “gave up after 300 s waiting …”, and `setting` names the option for another directory.
    While the lock is held, the file `note` names the holder. `on_wait` is called once, with a sentence that names the
    other holder. The lock is free when the holder ends, however it ends. Raises `LockTimeoutError` after `timeout`
    seconds, counted from `since` (``time.monotonic()``, default: now), and `StoreError` if the file cannot be made or
    the filesystem has no such locks.
    """
    descriptor = _open(path, setting)
    try:
        start = time.monotonic() if since is None else since
        is_told = False
        while not _is_taken(path, descriptor, setting):
            if not _is_still(path, descriptor):
                # The file was deleted: no other process can see a lock on it.
                fresh = _open(path, setting)
                _close(descriptor)
                descriptor = fresh
                continue
            waited = time.monotonic() - start
            if waited >= timeout:
                msg = f"gave up after {timeout:g} s waiting {purpose}: {holder(path, note)} holds {path}"
                longer = max(timeout * 2, 600)
                hint = f"wait for it or end it; to wait longer: PYTEST_PYINSTALL_LOCK_TIMEOUT={longer:g}"
                raise LockTimeoutError(msg, hint=hint)
            if on_wait is not None and not is_told and waited > 1:
                on_wait(f"waiting {purpose}: {holder(path, note)} holds the lock")
                is_told = True
            time.sleep(min(_POLL, timeout - waited))
        if (waited := time.monotonic() - start) > 0.1:
            _LOGGER.info("waited %.2f s %s: another process held %s", waited, purpose, path)
        if note is not None:
            _write(note)
        try:
            yield
        finally:
            if note is not None:
                with contextlib.suppress(OSError):
                    note.unlink()
    finally:
        _close(descriptor)


def lock_descriptor(descriptor: int) -> bool:
    """Lock the open file without waiting. False if another process holds the lock. Raises `OSError`.

    `filelock` does this on Windows. Elsewhere we make the same call, because importing it takes 10 ms.
    """
    if sys.platform == "win32":
        from filelock import lock_descriptor as native

        return native(descriptor, blocking=False)
    else:  # noqa: RET505  # the type checker reads what runs on each system
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def seize(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` exclusively, without waiting. False if another process holds it.

    If there is no such file, no process holds it, and none is created."""
    try:
        descriptor = _open_existing(path)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = lock_descriptor(descriptor)
        yield is_ours
    finally:
        _close(descriptor)


def is_free(path: Path) -> bool:
    """Whether the lock file `path` is free now. True if there is no such file."""
    with seize(path) as is_ours:
        return is_ours


_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse", "virtiofs", "afs", "ceph", "lustre", "gluster", "vboxsf", "drvfs")


def has_shared_locks(directory: Path) -> bool:
    """Whether every process that can reach `directory` sees a lock in it.

    A network filesystem may be mounted so that locks stay on each machine (``local_lock`` of NFS).
    """
    from pytest_pyinstall.system.permissions import place

    volume = place(directory).volume
    return volume is not None and not volume.filesystem.startswith(_REMOTE)


@contextlib.contextmanager
def share(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` together with others that share it, so that no process can `seize` it.

    False if the file does not exist and cannot be created, if another process seizes it for longer than a second, or if
    there are no such locks. Windows needs none, because it does not move a directory from which a program runs.
    """
    descriptor = _shared(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _close(descriptor)


_PATIENCE = 1.0
"""Seconds. A shared lock is seized for the time of a rename, or for an instant to see whether it is free."""


def _shared(path: Path) -> int | None:
    if sys.platform == "win32":
        return None
    else:  # noqa: RET505  # the type checker reads what runs on each system
        try:
            descriptor = _open_or_make(path)
        except OSError:
            return None
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError) and time.monotonic() < deadline:
                    time.sleep(_POLL)
                    continue
                _close(descriptor)
                return None
            return descriptor


def holder(path: Path, note: Path | None = None) -> str:
    """The process that holds the lock file `path`, according to the file `note` or the system."""
    from datetime import UTC, datetime

    pids = _pids_from_proc(path)
    try:
        facts = parse_json(note.read_bytes()) if note else {}
        since = datetime.fromisoformat(facts["since"])
        age = max(0, round((datetime.now(UTC) - since).total_seconds()))
        where = "" if facts["host"] == host_name() else f" on {facts['host']}"
        if where or not pids or facts["pid"] in pids:
            return f"process {facts['pid']}{where} ({facts['command']}, since {since:%H:%M:%S} UTC, {age} s ago)"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if pids:
        return f"process {pids[0]} ({_name_of(pids[0])})"
    return "another process"


# Without O_NOFOLLOW, a planted link would make us open or create any file.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


_SWEPT = 2.0
"""Seconds to try again if other processes remove the directory before the lock file is made in it."""


def _open(path: Path, setting: str) -> int:
    start = time.monotonic()
    while True:
        try:
            return _open_or_make(path)
        except (FileNotFoundError, FileExistsError) as error:
            # Another process removes empty directories, and this one was empty for a moment.
            if time.monotonic() - start > _SWEPT:
                raise _unusable(path, error, setting) from error
        except OSError as error:
            raise _unusable(path, error, setting) from error


def _open_or_make(path: Path) -> int:
    try:
        make_directory(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
        except FileExistsError:
            return _open_existing(path)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o666)  # regardless of the umask: other users and uv open it for writing
        return descriptor
    except OSError as error:
        if error.errno in _REFUSED:
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    return os.open(path, os.O_RDONLY | _FLAGS)
        raise


def _open_existing(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | _FLAGS)
    except OSError as error:
        if error.errno in _REFUSED:
            return os.open(path, os.O_RDONLY | _FLAGS)  # enough for flock, except on NFS
        raise


_REFUSED = {errno.EACCES, errno.EROFS, errno.EPERM}


def _unusable(path: Path, error: OSError, setting: str) -> StoreError:
    reason = error.strerror or str(error)
    if error.errno in _NO_LOCKS:
        reason = f"this filesystem has no locks ({reason})"
    directory = f"{setting} DIR" if setting.startswith("-") else f"{setting}=DIR"
    hint = limit_hint(error) or permission_hint(path, error) or f"another directory: {directory}"
    return StoreError(f"cannot lock {path}: {reason}", hint=hint)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # nothing was written that could be lost
        os.close(descriptor)


def _is_taken(path: Path, descriptor: int, setting: str) -> bool:
    try:
        return lock_descriptor(descriptor) and _is_still(path, descriptor)
    except OSError as error:
        raise _unusable(path, error, setting) from error


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))  # noqa: PTH116  # one call
    except FileNotFoundError:
        return False


def _write(note: Path) -> None:
    """Write who holds the lock. Only the name of the program, because an argument may be a password."""
    from datetime import UTC, datetime

    text = json.dumps(
        {
            "pid": os.getpid(),
            "host": host_name(),
            "command": Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python",
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    with contextlib.suppress(OSError):
        note.unlink(missing_ok=True)  # a note of another user can be replaced, but not written to
        note.write_text(text, encoding="utf-8")


def _pids_from_proc(path: Path) -> list[int]:
    """Linux lists every lock with its holder and the file's inode (proc_locks(5)); waiters are marked with ``->``."""
    try:
        inode = path.stat().st_ino
        rows = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
    fields = [row.split() for row in rows]
    return [
        int(field[4])
        for field in fields
        if len(field) >= 6 and field[1] == "FLOCK" and field[5].rpartition(":")[2] == str(inode) and int(field[4]) > 0
    ]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return "name unknown"


LOCK = ".lock"


@contextlib.contextmanager
def lock_now(directory: Path) -> Iterator[bool | None]:
    """True while we hold the lock, False if another process does, None if locks do not work."""
    descriptor, ours = None, None
    try:
        with contextlib.suppress(OSError):
            descriptor = _open_or_make(directory / LOCK)
            ours = lock_descriptor(descriptor)
            # Without a name it excludes no process: `clear` removed it after we opened it and before we locked it.
            ours = ours and os.fstat(descriptor).st_nlink > 0
        yield ours
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # closing releases the lock, even if it fails
                os.close(descriptor)
