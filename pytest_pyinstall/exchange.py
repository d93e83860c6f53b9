"""Puts a directory under a name that is taken, without an instant at which the name leads nowhere."""

import ctypes
import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["put"]


def put(source: Path, destination: Path) -> bool:
    """Rename `source` to `destination`; whatever stood there then stands at `source`.

    True if something stood there. Both lie on one filesystem. On Linux and macOS the two change places in one system
    call; where the kernel or the filesystem cannot, the old one is moved aside first, and there is an instant at
    which `destination` is absent. Raises `OSError`. Safe beside readers; writers hold the store's lock.
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
        try:
            if _exchange(source, destination):
                return True
        except FileNotFoundError:
            continue  # what stood there went away between the look and the exchange
        aside = source.with_name(f"{source.name}.{os.urandom(4).hex()}")
        _rename(destination, aside)
        _rename(source, destination)
        _rename(aside, source)
        return True
    msg = "it appears and vanishes again and again"
    raise OSError(errno.EBUSY, msg, str(destination))


def _rename(source: Path, destination: Path) -> None:
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


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2); macOS: RENAME_SWAP of renamex_np(2) has the same value
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV}


def _exchange(source: Path, destination: Path) -> bool:
    """False where this system or filesystem has no such call."""
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(source), os.fsencode(destination)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(destination))


@functools.cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    try:
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
    except (OSError, AttributeError, TypeError):
        pass  # no libc to load by name, an old one (musl before 1.2.6 has no renameat2), or Windows
    return None
