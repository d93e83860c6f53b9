"""Files and directories that several processes make, replace and delete at the same time.

A `scratch_name` belongs to the process that made it, and `is_abandoned` says if that process is dead. Nothing here
follows a link that another program planted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from pytest_pyinstall.errors import InvalidSettingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

__all__ = [
    "OPEN_FLAGS",
    "TEMPORARY_PREFIX",
    "FileDigests",
    "children",
    "current_boot",
    "delete",
    "discard",
    "host_name",
    "is_abandoned",
    "is_plain_file",
    "limit_hint",
    "make_cache_directory",
    "make_directory",
    "matching",
    "move_aside",
    "move_or_delete",
    "new_file",
    "open_regular",
    "permission_hint",
    "read_toml",
    "refusing_directory",
    "remove",
    "replace_directory",
    "scratch_name",
    "storage_error",
    "sweep_cache",
    "write_atomically",
]


def make_directory(path: Path) -> None:
    """Make the directory `path` and the missing ones above it, with mode 0755 less the umask.

    Other processes may create or remove it at the same time. Raises `OSError`.
    """
    missing = []
    for directory in (path, *path.parents):
        if directory.is_dir():
            break
        missing.append(directory)
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o755, exist_ok=True)
        except FileExistsError as error:
            if os.path.lexists(directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from error
            raise  # another process created and removed it


def children(directory: Path) -> list[Path]:
    """The entries of `directory`, by name. Empty if it does not exist or cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def matching(directory: Path, pattern: str) -> list[Path]:
    """The paths below `directory` that match `pattern`, such as ``lib/*/Makefile``, by name.

    Raises `OSError` for a directory that cannot be read; `Path.glob` would pass over it.
    """
    from fnmatch import fnmatchcase

    first, _, rest = pattern.partition("/")
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  # most of a thousand names match nothing
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [directory / name for name in names if fnmatchcase(name, first)]
    return [path for each in found for path in matching(each, rest)] if rest else found


def is_plain_file(path: Path) -> bool:
    """Whether it is a file and not a link. Raises `OSError` if that cannot be found out, unlike `Path.is_file`."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o644, ignore_umask: bool = False, scratch_directory: Path | None = None
) -> None:
    """Put a file with `content` at `path`, as `new_file` does. Raises `OSError`."""
    with new_file(path, mode=mode, ignore_umask=ignore_umask, scratch_directory=scratch_directory) as file:
        file.write(content)


@contextlib.contextmanager
def new_file(
    path: Path,
    *,
    mode: int = 0o644,
    ignore_umask: bool = False,
    sync: bool = False,
    scratch_directory: Path | None = None,
) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends. If it ends with an error, `path` does not change.

    A reader sees the old file or the complete new one, and a link at `path` is replaced, not followed. The umask
    applies to `mode`, unless `ignore_umask` is set. With `sync`, a power failure cannot leave an empty file.
    Until the block ends, the file has a `scratch_name` in `scratch_directory`, which is on the same volume, or beside
    `path`. Of several writers at once, the last one wins. Raises `OSError`.
    """
    scratch = (scratch_directory or path.parent) / scratch_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS
    try:
        with open(os.open(scratch, flags, mode), "wb") as file:
            if ignore_umask and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def move_aside(path: Path) -> Path:
    """Rename `path` to a private name beside it, which is returned, so that no process finds it half deleted.

    Raises `OSError`. `sweep_cache` deletes what has such a name if this process is killed before it does.
    """
    aside = path.with_name(scratch_name(".gone"))
    path.rename(aside)
    return aside


def discard(path: Path) -> None:
    """Move `path` aside, then delete it, as far as that is possible. Raises nothing."""
    try:
        path = move_aside(path)
    except FileNotFoundError:
        return
    except OSError:
        pass  # a directory that we cannot write to: delete what is in it
    delete(path)


def delete(path: Path) -> None:
    """Delete `path`, whatever it is, as far as that is possible. Raises no `Exception`."""
    with contextlib.suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return
        _rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            with contextlib.suppress(OSError):
                remove(path)  # a directory in it is read-only
        if os.path.lexists(path):
            _delete_with_one_descriptor(path)


def _rmtree(path: Path, *, ignore_errors: bool) -> None:
    """As `shutil.rmtree`, which hides an interruption that arrives just after it has closed a directory.

    It then closes the directory again, and the `OSError` of that replaces the `KeyboardInterrupt`.
    """
    import shutil

    handled = sys.exc_info()[1]
    try:
        shutil.rmtree(path, ignore_errors=ignore_errors)
    except OSError as error:
        hidden = error.__context__
        while hidden is not None and hidden is not handled:
            if not isinstance(hidden, Exception):
                raise hidden from None
            hidden = hidden.__context__
        raise


def _delete_with_one_descriptor(directory: Path) -> None:
    """Delete it even if too many files are open: `shutil.rmtree` needs a descriptor for each level."""
    for parent, folders, names in os.walk(directory, topdown=False):
        for name in (*names, *folders):
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
    directory.rmdir()


# O_NOFOLLOW: a planted link is not an archive. O_NONBLOCK: opening a planted fifo must not wait for a writer.
OPEN_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path, flags: int) -> BufferedReader:
    """Open a regular file for reading. Raises `OSError`, also for anything that is not a regular file."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file")
    return os.fdopen(descriptor, "rb")


def make_cache_directory(directory: Path) -> None:
    """As `make_directory`; others can read a cache, but not write to it. Raises `StoreError`."""
    try:
        make_directory(directory)
    except OSError as error:
        raise storage_error(Path(error.filename or directory), error) from error


def remove(path: Path) -> None:
    """Remove `path` if it exists: a file, a link, or a directory with its content. Raises `OSError`."""
    try:
        is_directory = stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not is_directory:
        path.unlink(missing_ok=True)
        return
    for parent, folders, _ in os.walk(_writable(path)):
        for name in folders:
            if not (folder := Path(parent, name)).is_symlink():
                _writable(folder)
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):  # another process deletes it too
            _rmtree(path, ignore_errors=False)


def _writable(directory: Path) -> Path:
    with contextlib.suppress(OSError):  # another user's: then removing it fails with the reason
        directory.chmod(0o700)
    return directory


def storage_error(path: Path, error: OSError) -> StoreError:
    """The error for a failed read or write in the cache, with a way out."""
    reason = error.strerror or type(error).__name__
    hint = limit_hint(error) or permission_hint(path, error) or "another directory: --python-cache DIR"
    return StoreError(f"cannot use the cache: {path}: {reason}", hint=hint)


def refusing_directory(path: Path, error: OSError) -> Path | None:
    """The directory whose permissions caused `error` at `path`: the nearest that exists. None for another cause."""
    if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return None
    # Not `Path.is_dir`, which raises if a directory above may not be searched.
    nearest = next((each for each in (path, *path.parents) if os.path.isdir(each)), None)  # noqa: PTH112
    return None if nearest is None or os.access(nearest, os.W_OK | os.X_OK) else nearest


def permission_hint(path: Path, error: OSError) -> str:
    """The command that makes the directory of `path` writable, if that caused `error` and the directory is ours."""
    import shlex  # only for this error

    nearest = refusing_directory(path, error)
    if nearest is None or error.errno == errno.EROFS or sys.platform == "win32":
        return ""
    highest = nearest
    while highest.parent != highest and highest.parent.stat().st_uid == os.geteuid():
        if os.access(highest.parent, os.W_OK | os.X_OK):
            break
        highest = highest.parent  # `chmod -R a-w` took the permission from each of them
    if nearest.stat().st_uid != os.geteuid():
        return ""
    return f"chmod {'' if highest == nearest else '-R '}u+w {shlex.quote(str(highest))}"


def limit_hint(error: OSError) -> str:
    """How to raise the limit that caused `error`. Empty if it has another cause, and another directory can help."""
    return {
        errno.EFBIG: "raise the limit for file sizes: ulimit -f unlimited",
        errno.EMFILE: "raise the limit for open files: ulimit -n 4096",
        errno.ENFILE: "the whole machine has too many files open; try again with: --python-jobs 1",
    }.get(error.errno or 0, "")


def replace_directory(source: Path, destination: Path) -> bool:
    """Rename `source` to `destination`. True if `destination` existed; it is at `source` afterwards.

    Both are on one filesystem. On Linux and macOS the two change places in one system call. If the kernel or the
    filesystem has no such call, the old one is moved aside first, and `destination` is missing for an instant. If the
    old one cannot be renamed at all, as in a layer of a container's image, its entries are replaced one after another.
    Readers may run at the same time, other writers may not. Raises `OSError`.
    """
    for _ in range(10):
        if not os.path.lexists(destination):  # `source` is a directory: rename would replace only an empty directory
            try:
                _rename(source, destination)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    continue  # another writer, without a lock, was faster
                raise
            return False
        _let_it_move(destination)
        try:
            if _exchange(source, destination):
                return True
        except FileNotFoundError:
            continue  # another process removed it in the meantime
        aside = source.with_name(f"{source.name}.{os.urandom(4).hex()}")
        try:
            _rename(destination, aside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _replace_entries(source, destination)
            return True
        _rename(source, destination)
        _rename(aside, source)
        return True
    msg = "it repeatedly appears and disappears"
    raise OSError(errno.EBUSY, msg, str(destination))


def move_or_delete(directory: Path, aside: Path) -> None:
    """Rename `directory` to `aside`; delete it if it cannot be renamed. Raises `OSError`.

    overlayfs renames no directory of a lower layer, such as one that is part of a container's image.
    """
    try:
        _rename(directory, aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove(directory)


def _replace_entries(source: Path, destination: Path) -> None:
    """Move what is in `source` over what is in `destination`. A reader finds the old or the new file of each name."""
    for parent, folders, names in os.walk(source, onerror=_raise):
        here = destination / Path(parent).relative_to(source)
        if here.is_symlink() or not here.is_dir():
            remove(here)
            here.mkdir()
        here.chmod(stat.S_IMODE(Path(parent).stat().st_mode) | stat.S_IWUSR)
        for entry in sorted(here.iterdir()):
            if entry.name not in {*folders, *names}:
                remove(entry)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = [name for name in folders if name not in links]
        for name in (*names, *links):
            if (here / name).is_dir() and not (here / name).is_symlink():
                remove(here / name)
            Path(parent, name).replace(here / name)


def _raise(error: OSError) -> NoReturn:
    raise error


def _rename(source: Path, destination: Path) -> None:
    _let_it_move(source)
    # Windows cannot rename a directory while antivirus has a file in it open: try again for a moment.
    for pause in (0.01, 0.05, 0.2, 0.5, 1.0):
        try:
            source.rename(destination)
        except PermissionError:
            if sys.platform != "win32":
                raise
            time.sleep(pause)
        else:
            return
    source.rename(destination)


def _let_it_move(directory: Path) -> None:
    """Give its owner the right to write to `directory`, without which it cannot be moved to another parent."""
    with contextlib.suppress(OSError):
        mode = directory.lstat().st_mode
        if stat.S_ISDIR(mode) and not mode & stat.S_IWUSR:
            directory.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)


_AT_FDCWD = -100


_RENAME_EXCHANGE = 2  # renameat2(2); macOS: RENAME_SWAP of renamex_np(2) has the same value


_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV}


def _exchange(source: Path, destination: Path) -> bool:
    """Exchange the two. False if this system or filesystem has no such call."""
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(source), os.fsencode(destination)) == 0:
        return True
    import ctypes

    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(destination))


@functools.cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            renameat2 = library.renameat2
            renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
            return lambda source, destination: int(
                renameat2(_AT_FDCWD, source, _AT_FDCWD, destination, _RENAME_EXCHANGE)
            )
        if sys.platform == "darwin":
            renamex_np = library.renamex_np
            renamex_np.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda source, destination: int(renamex_np(source, destination, _RENAME_EXCHANGE))
    except (ImportError, OSError, AttributeError, TypeError):
        # A Python built without libffi, no libc to load by name, an old one (musl before 1.2.6 has no renameat2), or
        # Windows.
        pass
    return None


TEMPORARY_PREFIX = "pytest-pyinstall-"
"""Begins the names of directories in the system's temporary directory, in place of the dot of scratch."""

_SCRATCH_NAME = r"(?:\.|pytest-pyinstall-)(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{8}(?:\.|$)"
_A_DAY = 86400.0


def scratch_name(suffix: str = ".new") -> str:
    """A new name for something that only this process makes; `is_abandoned` says if that process is gone."""
    return f".{_place()}-{os.getpid()}-{_started(os.getpid())}-{os.urandom(4).hex()}{suffix}"


_GONE = r"\.[0-9a-z-]{8,}(\..*)?\.gone"


def sweep_cache(cache: Path) -> None:
    """Delete what killed processes left below `cache`: their scratch, and what they were about to delete.

    Also deletes the directory ``answers`` of earlier versions, which contained values of environment variables.
    """
    for parent in children(cache):
        if parent.name == "answers" and parent.is_dir() and not parent.is_symlink():
            delete(parent)
        elif parent.name in {"environments", "trees", "catalogues", "commands"}:
            for path in children(parent):
                if re.fullmatch(_GONE, path.name) or is_abandoned(path):
                    delete(path)


def is_abandoned(path: Path) -> bool | None:
    """Whether the process that gave `path` its `scratch_name` is dead. False for any other name: never delete that.

    If it was in the same run of this machine or container, the table of processes decides. The result is None if it ran
    elsewhere and `path` changed within the last day; then only a lock can show it.
    """
    match = re.match(_SCRATCH_NAME, path.name)
    if match is None:
        return False
    if match["place"] == _place():
        return _started(int(match["pid"])) != int(match["started"])
    try:
        return True if time.time() - path.lstat().st_mtime > _A_DAY else None
    except OSError:
        return False


@functools.cache
def _place() -> str:
    """Identifies where a process id is unique: this boot of this machine, and this namespace of process ids."""
    import zlib

    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")  # a text, not a path
    return f"{zlib.crc32(f'{host_name()} {current_boot()} {namespace}'.encode()):08x}"


def host_name() -> str:
    """As `socket.gethostname`, whose import takes 2 ms, and only Windows needs it."""
    if sys.platform == "win32":
        import socket

        return socket.gethostname()
    return os.uname().nodename


def _started(pid: int) -> int:
    """When the process started, in the unit of the system; 0 if there is no such process, or if that is unknown.

    A process id may belong to another process soon after the first one died.
    """
    try:
        # proc_pid_stat(5): field 22; the second one may contain spaces and parentheses.
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
    except OSError:
        return 0 if sys.platform == "win32" or not _lives(pid) else 1
    return 0 if state in {"Z", "X"} else int(fields[18])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no system has such a number
        return False
    except OSError:
        return True  # another user's
    return True


def current_boot() -> str:
    """A name for the present run of the machine, the same for every process of it."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # When the machine started, to ten minutes, so that a small change of the clock does not look like a new run.
    return f"around {round((time.time() - time.monotonic()) / 600)}"


FileDigests = dict[int, tuple[int, int, str]]
"""Size, time in nanoseconds and sha256 of files that this process has just read or written, by inode."""


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises `InvalidSettingError`, which names the file, if it cannot be read."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise InvalidSettingError(message) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = f"{path} is not valid TOML: {error}"
        raise InvalidSettingError(message) from error
