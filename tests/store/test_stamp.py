"""A glance notices what keeps a Python from starting, and every change of a directory."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.store.store import Broken, Installation, Store
from pytest_pyinstall.system.files import current_boot

KEY = Key(implementation="cpython", version=Version("3.12.4"), target=Target(os="linux", arch="x86_64", libc="gnu"))
VERSION_INFO = (3, 12, 4, "final", 0)
LIBRARY = "lib/python3.12"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store", lock_timeout=60, boot=current_boot())


@pytest.fixture
def home(store: Store) -> Path:
    with store.claim(KEY) as claim:
        tree = claim.scratch / "python"
        for name in ("bin/python3.12", f"{LIBRARY}/os.py", f"{LIBRARY}/wave.py", f"{LIBRARY}/json/tool.py"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("print()\n")
        build = Build(key=KEY, url="https://host/20261101/a.tar.gz", sha256="ab" * 32, size=10, tag="20261101")
        claim.publish(tree, build=build, version_info=VERSION_INFO, keep_added=False)
    home = store.home(KEY)
    assert store.glance(KEY) == VERSION_INFO
    _age(home)
    (store.private / "records" / f"{KEY}.seal").unlink()
    return home


def _age(home: Path, seconds: float = 60) -> None:
    """As if nothing had happened for a while."""
    then = time.time() - seconds
    for directory, _, names in os.walk(home):
        for name in names:
            os.utime(Path(directory, name), (then, then), follow_symlinks=False)
        os.utime(directory, (then, then))


def _sealed(store: Store) -> None:
    found = store.look(KEY)
    assert isinstance(found, Installation)
    store.seal(found)


def _seal(store: Store) -> Path:
    return store.private / "records" / f"{KEY}.seal"


def test_what_was_found_whole_is_known_at_a_glance(store: Store, home: Path) -> None:
    assert store.glance(KEY) is None

    _sealed(store)

    assert store.glance(KEY) == VERSION_INFO
    assert isinstance(store.look(KEY), Installation)


def _as_link(home: Path) -> None:
    aside = home.with_name(".aside")
    home.rename(aside)
    home.symlink_to(aside)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a module is deleted": lambda home: (home / LIBRARY / "wave.py").unlink(),
    "a module below is deleted": lambda home: (home / LIBRARY / "json/tool.py").unlink(),
    "a module is replaced": lambda home: _replace(home / LIBRARY / "wave.py"),
    "the executable is emptied": lambda home: (home / "bin/python3.12").write_text(""),
    "the executable loses its right to run": lambda home: (home / "bin/python3.12").chmod(0o600),
    "a module that every start needs is emptied": lambda home: (home / LIBRARY / "os.py").write_text(""),
    "a directory cannot be read": lambda home: (home / LIBRARY / "json").chmod(0o300),
    "something is added": lambda home: (home / LIBRARY / "added.py").write_text(""),
    "it is gone": lambda home: home.rename(home.with_name("elsewhere")),
    "a link stands there": _as_link,
}


def _replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_text("other()\n")
    new.replace(path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_p2_damage_breaks_the_seal(store: Store, home: Path, damage: str) -> None:
    _sealed(store)

    DAMAGE[damage](home)

    assert store.glance(KEY) is None
    (home / LIBRARY / "json").chmod(0o755) if (home / LIBRARY / "json").exists() else None


def test_byte_code_breaks_the_seal_and_the_next_look_renews_it(store: Store, home: Path) -> None:
    _sealed(store)
    (home / LIBRARY / "__pycache__").mkdir()
    assert store.glance(KEY) is None
    _age(home)

    _sealed(store)

    assert store.glance(KEY) == VERSION_INFO


def test_what_changed_just_now_is_not_sealed(store: Store, home: Path) -> None:
    (home / LIBRARY / "__pycache__").mkdir()
    soon = time.time() + 60  # as a busy machine might take between the two calls
    os.utime(home / LIBRARY, (soon, soon))

    _sealed(store)

    assert not _seal(store).exists()


def test_what_is_damaged_is_not_sealed(store: Store, home: Path) -> None:
    found = store.look(KEY)
    assert isinstance(found, Installation)
    (home / LIBRARY / "wave.py").write_text("")
    _age(home)

    store.seal(found)

    assert not _seal(store).exists()
    assert isinstance(store.look(KEY), Broken)


def test_p3_a_seal_of_another_boot_says_nothing(store: Store, home: Path) -> None:
    _sealed(store)
    rebooted = replace(store, boot="another")

    assert rebooted.glance(KEY) is None

    _sealed(rebooted)  # which compared the content
    assert rebooted.glance(KEY) == VERSION_INFO
    _sealed(rebooted)  # the record says by now that it has survived one
    assert replace(store, boot="a third").glance(KEY) == VERSION_INFO


@pytest.mark.parametrize("change", [{"taken": 0}, {"taken": 9e9}, {"format": 99}, {"home": "/elsewhere"}, {"tree": 1}])
def test_an_old_or_strange_seal_says_nothing(store: Store, home: Path, change: dict[str, object]) -> None:
    _sealed(store)
    document = json.loads(_seal(store).read_text())

    _seal(store).write_text(json.dumps(document | change))

    assert store.glance(KEY) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "\0", '{"format": 1}'])
def test_a_seal_that_cannot_be_understood_says_nothing(store: Store, home: Path, content: str) -> None:
    _seal(store).write_text(content)

    assert store.glance(KEY) is None


def test_another_record_breaks_the_seal(store: Store, home: Path) -> None:
    _sealed(store)
    record = store.private / "records" / f"{KEY}.json"

    record.with_name("new").write_bytes(record.read_bytes())
    record.with_name("new").replace(record)

    assert store.glance(KEY) is None


def test_removing_takes_the_seal_along(store: Store, home: Path) -> None:
    _sealed(store)

    store.remove(KEY)

    assert list((store.private / "records").iterdir()) == []


def test_p7_a_store_that_cannot_be_written_is_used_without(store: Store, home: Path) -> None:
    _seal(store).mkdir()  # root may write anywhere

    _sealed(store)

    assert store.glance(KEY) is None
    assert [path.name for path in (store.private / "records").iterdir() if path.name.startswith(".")] == []


def test_p10_nobody_else_can_write_it_whatever_the_umask(store: Store, home: Path) -> None:
    before = os.umask(0)
    try:
        _sealed(store)
    finally:
        os.umask(before)

    assert _seal(store).stat().st_mode & 0o777 == 0o644
