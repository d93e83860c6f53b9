"""An archive that passed its check, and a snapshot of a tree."""

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from hostile_archives import END, PYTHON, entry, gz, header

from pytest_pyinstall.request.identity import Archive, Build, Key

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")


NAME = "cpython-3.12.4-x86_64-unknown-linux-gnu-install_only.tar.gz"


WHOLE = gz(PYTHON, header("python/bin/python3", kind=b"2", link="python3.12"), entry("python/data", b"1" * 3000), END)


def build_of(content: bytes, name: str = NAME, *, has_size: bool = True) -> Build:
    """The build whose archive is `content`, with its size if the catalogue `has_size`."""
    size = len(content) if has_size else None
    return Build(key=KEY, url=f"https://example.org/{name}", sha256="0" * 64, size=size)


def archive(content: bytes | BinaryIO, name: str = NAME) -> Archive:
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return Archive(build=Build(key=KEY, url=f"https://example.org/{name}", sha256="0" * 64), file=file)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Each entry below `root`, with its kind, its mode, and its content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(directory, name)
            state = path.lstat()
            mode = stat.S_IMODE(state.st_mode)
            what: tuple[object, ...]
            if stat.S_ISLNK(state.st_mode):
                what = ("symlink", path.readlink().as_posix())
            elif stat.S_ISREG(state.st_mode):
                what = ("file", mode, path.read_bytes())
            else:
                what = ("directory" if stat.S_ISDIR(state.st_mode) else "other", mode)
            found[path.relative_to(root).as_posix()] = what
    return found


def assert_harmless(into: Path) -> None:
    for path, what in snapshot(into).items():
        assert what[0] in {"file", "directory", "symlink"}, path
        if what[0] == "symlink":
            assert (into / path).resolve().is_relative_to(into.resolve()), path
        else:
            assert what[1] in {0o644, 0o755}, path


def with_our_modes(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    def ours(what: tuple[object, ...]) -> tuple[object, ...]:
        if what[0] == "directory":
            return ("directory", 0o755)
        if what[0] == "file":
            assert isinstance(what[1], int)
            return ("file", 0o755 if what[1] & 0o111 else 0o644, what[2])
        return what

    return {path: ours(what) for path, what in tree.items()}
