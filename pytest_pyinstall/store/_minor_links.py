"""The links such as ``cpython-3.12-linux-x86_64-gnu`` to the newest patch, whose paths stay valid after an upgrade."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_pyinstall.request.identity import Key

__all__ = ["link_minor"]


def link_minor(root: Path, key: Key, *, installed: Sequence[Key], scratch: Path) -> None:
    """Point the minor link of `key` in `root` at the newest of `installed` with that minor version, or remove it.

    It leads to a pre-release only if there is nothing else. A file or directory in its place belongs to another program
    and stays. Readers may run at the same time, other writers may not. Raises `OSError`.
    """
    if key.implementation != "cpython":
        return
    link = root / key.minor_link
    peers = [peer for peer in installed if peer.minor_link == key.minor_link]
    stable = [peer for peer in peers if not peer.is_prerelease]
    best = max(stable or peers, default=None)
    if best is None:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        return
    target = root / str(best)
    if sys.platform == "win32":
        import _winapi  # a junction: a symlink needs a privilege that few users have

        if os.path.lexists(link):
            link.rmdir()
        _winapi.CreateJunction(str(target), str(link))
        return
    if os.path.lexists(link) and (not link.is_symlink() or link.readlink() == target):
        return  # right already, or another program's
    new = scratch / "link"
    new.symlink_to(target)
    try:
        new.replace(link)
    except OSError:
        new.unlink()
        raise
