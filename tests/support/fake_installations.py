"""Installations that are published to a store, but never run."""

from pathlib import Path

from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.store.installation import Installation
from pytest_pyinstall.store.manifest import Record
from pytest_pyinstall.store.store import Store

LINUX = Target(os="linux", arch="x86_64", libc="gnu")


KEY = Key(implementation="cpython", number="3.12.4", target=LINUX)


OLDER = Key(implementation="cpython", number="3.12.3", target=LINUX)


VERSION_INFO = (3, 12, 4, "final", 0)


def build_of(key: Key) -> Build:
    return Build(key=key, url=f"https://host/20261101/{key}.tar.gz", sha256="ab" * 32, size=10, tag="20261101")


def tree_in(scratch: Path, text: str = "print()") -> Path:
    tree = scratch / "python"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python3.12").write_text(text)
    (tree / "bin/python3.12").chmod(0o755)
    (tree / "lib/python3.12").mkdir(parents=True)
    (tree / "lib/python3.12/os.py").write_text("import sys\n")
    return tree


def publish(store: Store, key: Key = KEY, text: str = "print()", *, keep_added: bool = False) -> Installation:
    with store.claim(key) as claim:
        return claim.publish(
            tree_in(claim.scratch, text), build=build_of(key), version_info=VERSION_INFO, keep_added=keep_added
        )


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def record_of(store: Store) -> Record | None:
    return Record.read(store.private / "records" / f"{KEY}.json")


def fingerprint(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_mode) for p in root.rglob("*"))
