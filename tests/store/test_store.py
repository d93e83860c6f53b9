import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_pyinstall.errors import LockTimeoutError, StoreError, UnreadableStoreError
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import Record
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot

LINUX = Target(os="linux", arch="x86_64", libc="gnu")
KEY = Key(implementation="cpython", version=Version("3.12.4"), target=LINUX)
OLDER = Key(implementation="cpython", version=Version("3.12.3"), target=LINUX)
VERSION_INFO = (3, 12, 4, "final", 0)


def _build(key: Key) -> Build:
    return Build(key=key, url=f"https://host/20261101/{key}.tar.gz", sha256="ab" * 32, size=10, tag="20261101")


def _tree(scratch: Path, text: str = "print()") -> Path:
    tree = scratch / "python"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python3.12").write_text(text)
    (tree / "bin/python3.12").chmod(0o755)
    (tree / "lib/python3.12").mkdir(parents=True)
    (tree / "lib/python3.12/os.py").write_text("import sys\n")
    return tree


def _publish(store: Store, key: Key = KEY, text: str = "print()", *, keep_added: bool = False) -> Installation:
    with store.claim(key) as claim:
        return claim.publish(
            _tree(claim.scratch, text), build=_build(key), version_info=VERSION_INFO, keep_added=keep_added
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "a store é", lock_timeout=200, boot=current_boot())


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_store_that_is_not_there_has_nothing_and_stays_away(store: Store) -> None:
    assert store.keys() == []
    assert store.look(KEY) is None
    assert store.installations() == []
    assert not store.root.exists()


def test_what_was_published_is_found_whole(store: Store) -> None:
    published = _publish(store)

    assert store.look(KEY) == published
    assert published.executable.read_text() == "print()"
    assert store.keys() == [KEY]
    assert store.verify(KEY) == ()


def test_the_layout_is_uvs(store: Store) -> None:
    _publish(store)

    assert _names(store.root) == [
        ".gitignore",
        ".lock",
        ".pytest-pyinstall",
        "cpython-3.12-linux-x86_64-gnu",
        "cpython-3.12.4-linux-x86_64-gnu",
    ]
    assert (store.root / ".gitignore").read_text() == "*"
    assert (store.root / ".lock").stat().st_size == 0
    assert (store.root / ".lock").stat().st_mode & 0o777 == 0o666
    assert _names(store.private) == ["locks", "records", "scratch"]
    assert _names(store.private / "records") == [f"{KEY}.json"]
    assert _names(store.private / "scratch") == []


def test_the_record_says_what_was_published(store: Store) -> None:
    _publish(store)
    document = json.loads((store.private / "records" / f"{KEY}.json").read_text())

    assert document["sha256"] == "ab" * 32
    assert document["key"] == str(KEY)
    assert document["by"].startswith("pytest-pyinstall ")
    assert ["lib/python3.12/os.py", "file", 0o644, 11] in [row[:4] for row in document["tree"]]


def test_the_minor_link_leads_to_the_highest_patch(store: Store) -> None:
    link = store.root / "cpython-3.12-linux-x86_64-gnu"
    _publish(store)
    _publish(store, OLDER)
    assert link.readlink() == store.home(KEY)

    store.remove(KEY)
    assert link.readlink() == store.home(OLDER)

    store.remove(OLDER)
    assert not os.path.lexists(link)


def test_a_prerelease_takes_the_minor_link_only_where_nothing_is_stable(store: Store) -> None:
    early = replace(KEY, version=Version("3.13.0rc1"))
    stable = replace(KEY, version=Version("3.13.0"))
    link = store.root / "cpython-3.13-linux-x86_64-gnu"
    _publish(store, early)
    assert link.readlink() == store.home(early)
    _publish(store, stable)
    assert link.readlink() == store.home(stable)


def test_only_cpython_has_a_minor_link(store: Store) -> None:
    _publish(store, replace(KEY, implementation="pypy"))

    assert "pypy-3.12-linux-x86_64-gnu" not in _names(store.root)


def test_a_minor_link_that_is_somebodys_directory_stays(store: Store) -> None:
    (store.root / KEY.minor_link).mkdir(parents=True)
    _publish(store)

    assert (store.root / KEY.minor_link).is_dir()
    assert not (store.root / KEY.minor_link).is_symlink()


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: (home / "lib/python3.12/os.py").unlink(),
        lambda home: (home / "bin/python3.12").write_bytes(b""),
        lambda home: (home / "bin/python3.12").chmod(0o600),
        lambda home: (home / "lib").rename(home / "lib64"),
    ],
    ids=["deleted", "emptied", "mode", "renamed"],
)
def test_p2_damage_is_seen_without_reading_content(store: Store, damage: Callable[[Path], None]) -> None:
    home = _publish(store).home
    damage(home)

    found = store.look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert str(found).startswith((f"{KEY} is broken: ", f"{KEY} was moved or restored: bin/python3.12: has mode"))


def test_p2_an_empty_directory_is_no_installation_of_ours(store: Store) -> None:
    store.home(KEY).mkdir(parents=True)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


@pytest.mark.parametrize(
    "occupy", [lambda home: home.touch(), lambda home: home.symlink_to("nowhere"), lambda home: home.mkdir()]
)
def test_whatever_stands_under_the_final_name_gives_way(store: Store, occupy: Callable[[Path], None]) -> None:
    store.root.mkdir()
    occupy(store.home(KEY))

    assert _publish(store) == store.look(KEY)


def test_a_link_under_the_final_name_is_never_written_through(store: Store, tmp_path: Path) -> None:
    somebodys = tmp_path / "somebodys"
    somebodys.mkdir()
    store.root.mkdir()
    store.home(KEY).symlink_to(somebodys)
    _publish(store)

    assert _names(somebodys) == []
    assert not store.home(KEY).is_symlink()


def test_p3_the_first_look_after_a_boot_reads_the_content(store: Store) -> None:
    home = _publish(store).home
    os.utime(home / "lib/python3.12/os.py")
    (home / "lib/python3.12/os.py").write_text("IMPORT SYS\n")
    assert isinstance(store.look(KEY), Installation)

    assert isinstance(replace(store, boot="another").look(KEY), BrokenInstallation)


def test_p3_what_one_boot_compared_is_noted_for_this_tree_and_this_boot(store: Store, tmp_path: Path) -> None:
    home = _publish(store).home
    later = replace(store, boot="another")
    assert isinstance(later.look(KEY), Installation)
    record = _record(store)
    assert record is not None
    assert (record.boot, record.inode) == ("another", home.lstat().st_ino)

    home.rename(tmp_path / "original")
    subprocess.run(["cp", "-a", tmp_path / "original", home], check=True)
    (home / "lib/python3.12/os.py").write_text("IMPORT SYS\n")
    assert isinstance(later.look(KEY), BrokenInstallation)


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o711 | 0o044, 0o555, 0o500])
def test_p23_modes_that_take_nothing_from_us_are_no_damage(store: Store, mode: int) -> None:
    home = _publish(store).home
    for directory, folders, names in os.walk(home, topdown=False):
        for name in (*folders, *names):
            path = Path(directory, name)
            if not path.is_symlink():
                is_file = path.is_file() and not path.stat().st_mode & 0o111
                path.chmod(mode & ~0o111 if is_file else mode)
    assert isinstance(store.look(KEY), Installation)
    assert store.verify(KEY) == ()


@pytest.mark.parametrize("mode", [0o757, 0o4755, 0o644])
def test_p23_modes_that_give_others_or_take_from_us_are_damage(store: Store, mode: int) -> None:
    home = _publish(store).home
    (home / "bin/python3.12").chmod(mode)
    assert isinstance(store.look(KEY), BrokenInstallation)


def test_p2_a_record_of_another_key_says_nothing(store: Store) -> None:
    _publish(store)
    record = _record(store)
    assert record is not None
    other = replace(record, build=replace(record.build, key=OLDER))
    other.write(store.record_path(KEY))
    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs symlinks")
@pytest.mark.parametrize("where", ["scratch", "scratch/{key}", "scratch/{key}/{name}"])
def test_p11_scratch_that_is_a_link_empties_nothing(store: Store, tmp_path: Path, where: str) -> None:
    _publish(store)
    precious = tmp_path / "precious"
    (precious / str(OLDER) / "12-0123abcd").mkdir(parents=True)
    (precious / "12-0123abcd").mkdir()
    (precious / "12-0123abcd.alive").touch()
    (precious / "file").touch()
    link = store.private / where.format(key=KEY, name="12-0123abcd")
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rmdir()
    link.symlink_to(precious)
    before = sorted(precious.rglob("*"))

    store.leftovers()
    _publish(store, OLDER)
    assert sorted(precious.rglob("*")) == before


def test_p11_what_has_no_name_of_ours_in_scratch_stays(store: Store) -> None:
    _publish(store)
    for name in ("notes", "12-abc", ".hidden", "12-0123abcd.d"):
        (store.private / "scratch" / str(KEY) / name).mkdir(parents=True)
    _publish(store, OLDER)
    assert _names(store.private / "scratch" / str(KEY)) == sorted(("notes", "12-abc", ".hidden", "12-0123abcd.d"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("name", [".", "lib", "lib/python3.12/os.py", "bin/python3.12"])
@pytest.mark.parametrize("has_record", [True, False])
def test_p15_a_tree_of_somebody_else_is_refused(store: Store, name: str, has_record: bool) -> None:
    home = _publish(store).home
    if not has_record:
        store.record_path(KEY).unlink()
    os.chown(home / name, 4242, 4242)

    with pytest.raises(UnreadableStoreError, match="belongs to user 4242, who is neither you nor root"):
        store.look(KEY)
    assert isinstance(replace(store, trusted=frozenset({store.root})).look(KEY), Installation)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("name", ["locks", "scratch", "records", "records/{key}.json"])
def test_p15_what_is_ours_alone_and_belongs_to_somebody_else_is_refused(store: Store, name: str) -> None:
    _publish(store)
    os.chown(store.private / name.format(key=KEY), 4242, 4242)

    look = store.look if name.endswith(".json") else lambda _: store.keys()
    with pytest.raises(UnreadableStoreError, match="belongs to user 4242"):
        look(KEY)


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs access control lists")
@pytest.mark.parametrize("name", [".", "lib", "lib/python3.12/os.py"])
def test_p15_an_access_control_list_in_a_tree_is_damage(store: Store, name: str) -> None:
    home = _publish(store).home
    done = subprocess.run(["setfacl", "-m", "u:4242:rwx", home / name], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this filesystem has no access control lists")
    if name == ".":  # anyone who can write here can put another `lib` in its place
        with pytest.raises(UnreadableStoreError, match="user 4242 can write to"):
            store.look(KEY)
    else:
        assert isinstance(store.look(KEY), BrokenInstallation)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_a_record_that_is_no_file_stops_nobody(store: Store) -> None:
    _publish(store)
    path = store.record_path(KEY)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableStoreError, match="cannot read the store"):
        store.look(KEY)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableStoreError, match="cannot read the store"):
        store.look(KEY)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_p15_a_refused_store_is_not_written_to(store: Store, mode: int) -> None:
    store.root.mkdir()
    store.root.chmod(mode)

    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    assert _names(store.root) == []


def test_repair_keeps_what_somebody_added(store: Store) -> None:
    home = _publish(store).home
    package = home / "lib/python3.12/site-packages/package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("mine")
    (home / "bin/tool").write_text("mine too")
    (home / "lib/python3.12/os.py").unlink()
    _publish(store, keep_added=True)

    assert isinstance(store.look(KEY), Installation)
    assert (package / "__init__.py").read_text() == "mine"
    assert (home / "bin/tool").read_text() == "mine too"
    assert sorted(str(difference) for difference in store.verify(KEY) or ()) == [
        "bin/tool: added",
        "lib/python3.12/site-packages: added",
    ]


def test_p22_a_tree_that_uv_put_there_is_not_judged_by_our_record(store: Store) -> None:
    home = _publish(store).home
    replaced = store.root / "uv"
    _tree(replaced, "another build")
    (replaced / "python/BUILD").write_text("20990101")
    home.rename(store.root / "old")
    (replaced / "python").rename(home)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


def test_a_store_that_moved_is_published_anew(store: Store, tmp_path: Path) -> None:
    _publish(store)
    moved = replace(store, root=tmp_path / "moved")
    store.root.rename(moved.root)

    found = moved.look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert "was made for" in str(found)


def test_a_store_copied_to_the_same_place_is_still_ours(store: Store, tmp_path: Path) -> None:
    _publish(store)
    subprocess.run(["cp", "-a", store.root, tmp_path / "copy"], check=True)
    store.root.rename(tmp_path / "original")
    (tmp_path / "copy").rename(store.root)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is not None


def test_p2_a_restored_store_is_judged_as_strictly_as_before(store: Store, tmp_path: Path) -> None:
    home = _publish(store).home
    subprocess.run(["cp", "-a", store.root, tmp_path / "restored"], check=True)
    store.root.rename(tmp_path / "original")
    (tmp_path / "restored").rename(store.root)
    (home / "lib/python3.12/os.py").unlink()

    assert isinstance(store.look(KEY), BrokenInstallation)
    assert [str(difference) for difference in store.verify(KEY) or ()] == ["lib/python3.12/os.py: missing"]


def test_p17_a_store_has_as_many_names_as_lead_to_it(store: Store, tmp_path: Path) -> None:
    _publish(store)
    (tmp_path / "link").symlink_to(store.root)

    found = replace(store, root=tmp_path / "link").look(KEY)
    assert isinstance(found, Installation)
    assert found.record is not None


def test_a_copied_store_is_no_home_for_what_it_holds(store: Store, tmp_path: Path) -> None:
    _publish(store)
    subprocess.run(["cp", "-a", store.root, tmp_path / "copy"], check=True)

    found = replace(store, root=tmp_path / "copy").look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert "was made for" in str(found)


def test_removing_takes_record_and_link_along(store: Store) -> None:
    _publish(store)

    assert store.remove(KEY) is True
    assert store.remove(KEY) is False
    assert _names(store.root) == [".gitignore", ".lock", ".pytest-pyinstall"]
    assert _names(store.private / "records") == []
    assert _names(store.private / "scratch") == []


@pytest.mark.parametrize("name", ["locks", "records"])
def test_a_record_that_cannot_be_understood_is_no_record(store: Store, name: str) -> None:
    _publish(store)
    path = store.private / "records" / f"{KEY}.json"
    for text in ["", "{}", "[]", "null", '{"format": 1}', '{"format": 99}', "\0"]:
        path.write_text(text)
        assert Record.read(path) is None
        found = store.look(KEY)
        assert isinstance(found, Installation)
        assert found.record is None


def test_p8_the_next_writer_sweeps_what_the_dead_left(store: Store) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store.store import Store
with Store(root=Path(sys.argv[1])).claim(Key.parse(sys.argv[2])) as claim:
    (claim.scratch / "half").write_text("x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for key in (KEY, OLDER, KEY):
        subprocess.run([sys.executable, "-c", script, str(store.root), str(key)], check=False)
    assert len(store.leftovers()) == 1

    with store.claim(replace(KEY, version=Version("3.13.0"))):
        assert store.leftovers() == []
    assert _names(store.private / "scratch") == []


def test_p5_another_key_is_not_waited_for(store: Store) -> None:
    with store.claim(KEY):
        _publish(replace(store, lock_timeout=0), OLDER)


def test_p5_a_look_waits_for_nobody(store: Store) -> None:
    published = _publish(store)
    with store.claim(KEY):
        assert replace(store, lock_timeout=0).look(KEY) == published


def test_p6_two_writers_of_one_key_without_lock_both_end_well(store: Store) -> None:
    with store.claim(KEY) as first:
        (store.private / "locks" / f"{KEY}.lock").unlink()
        with store.claim(KEY) as second:
            assert first.scratch != second.scratch
            mine = _tree(first.scratch, "first")
            theirs = _tree(second.scratch, "second")
            second.publish(theirs, build=_build(KEY), version_info=VERSION_INFO, keep_added=False)
        first.publish(mine, build=_build(KEY), version_info=VERSION_INFO, keep_added=False)

    assert isinstance(store.look(KEY), Installation)
    assert (store.home(KEY) / "bin/python3.12").read_text() == "first"


def test_p7_a_read_only_store_is_read(store: Store) -> None:
    published = _publish(store)
    subprocess.run(["chmod", "-R", "a-w", store.root], check=True)
    before = _fingerprint(store.root)
    try:
        # Root may write anywhere, so what counts is that nothing was tried.
        assert store.look(KEY) == replace(published, record=_record(store))
        assert _fingerprint(store.root) == before
    finally:
        subprocess.run(["chmod", "-R", "u+w", store.root], check=True)


def _record(store: Store) -> Record | None:
    return Record.read(store.private / "records" / f"{KEY}.json")


def _fingerprint(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_mode) for p in root.rglob("*"))


def test_p15_a_store_that_everyone_can_write_is_refused(store: Store) -> None:
    _publish(store)
    store.root.chmod(0o777)

    with pytest.raises(UnreadableStoreError, match="everyone can write to") as caught:
        store.keys()
    assert "chmod o-w" in caught.value.hint
    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    assert replace(store, trusted=frozenset({store.root})).keys() == [KEY]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX owners and modes")
@pytest.mark.parametrize("where", ["store", "parent"])
def test_p15_a_store_that_a_group_with_others_in_it_can_write_is_refused(
    store: Store, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store)
    directory = store.root if where == "store" else store.root.parent
    directory.chmod(0o775)
    assert store.keys() == [KEY]  # a group of our own

    monkeypatch.setattr("pytest_pyinstall.system.permissions._is_ours_alone", lambda *_: False)
    with pytest.raises(UnreadableStoreError, match=r"^group .* can write to") as caught:
        store.keys()
    assert f"chmod g-w {directory}" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
def test_p15_a_store_that_belongs_to_somebody_else_is_refused_unless_it_is_trusted(store: Store) -> None:
    _publish(store)
    os.chown(store.root, 1000, 1000)

    with pytest.raises(UnreadableStoreError, match=r"belongs to user .*, who is neither you nor root") as caught:
        store.keys()
    assert f"PYTEST_PYINSTALL_TRUSTED_STORE={store.root}" in caught.value.hint
    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    assert replace(store, trusted=frozenset({store.root})).keys() == [KEY]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
def test_p15_what_is_behind_a_link_is_judged_too(store: Store, tmp_path: Path) -> None:
    _publish(store)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    store.root.rename(place / "store")
    store.root.symlink_to(place / "store")

    with pytest.raises(UnreadableStoreError, match="everyone can write to"):
        store.keys()


posix_locks = pytest.mark.skipif(sys.platform == "win32", reason="needs shared flocks")

_LEASE = """
import sys
from pathlib import Path
from pytest_pyinstall.store.store import Store
with Store(root=Path(sys.argv[1])).lease(Path(sys.argv[2])) as is_held:
    print(is_held, flush=True)
    sys.stdin.readline()
"""


@posix_locks
def test_p21_what_somebody_uses_is_not_removed(store: Store) -> None:
    home = _publish(store).home
    command = [sys.executable, "-c", _LEASE, str(store.root), str(home)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second,
    ):
        assert first.stdout is not None
        assert second.stdout is not None
        assert (first.stdout.readline(), second.stdout.readline()) == ("True\n", "True\n")
        with pytest.raises(StoreError, match=rf"in use, and stays: process ({first.pid}|{second.pid}) "):
            store.remove(KEY)
        first.communicate("\n")
        with pytest.raises(StoreError, match=rf"in use, and stays: process {second.pid} "):
            store.remove(KEY)
        assert isinstance(store.look(KEY), Installation)
        _publish(store)  # in place of it, without a gap: that harms no one
        second.kill()
        second.wait()
        assert store.remove(KEY) is True
    assert store.look(KEY) is None


@posix_locks
def test_p21_who_comes_while_it_is_removed_has_no_lease(store: Store) -> None:
    from pytest_pyinstall.system.locks import seize

    home = _publish(store).home
    with seize(store.private / "locks" / f"{KEY}.lease") as is_ours, store.lease(home) as is_held:
        assert is_ours
        assert not is_held


@posix_locks
def test_p21_a_lease_needs_no_right_to_write(store: Store) -> None:
    home = _publish(store).home
    before = _fingerprint(store.root)
    with store.lease(home) as is_held:
        assert is_held
    assert _fingerprint(store.root) == before


@posix_locks
def test_an_error_of_who_has_a_lease_is_not_ours_to_swallow(store: Store) -> None:
    home = _publish(store).home
    with pytest.raises(OSError, match="theirs"), store.lease(home):
        raise OSError("theirs")


def test_nothing_outside_the_store_is_leased(store: Store, tmp_path: Path) -> None:
    for prefix in (tmp_path, store.root, store.root / "cpython-3.12.4-linux-x86_64-gnu/bin", store.root / "other"):
        with store.lease(prefix) as is_held:
            assert not is_held


def test_a_file_in_place_of_the_store_is_a_clear_error(store: Store) -> None:
    store.root.touch()

    with pytest.raises(UnreadableStoreError, match="Not a directory"):
        store.keys()
    with pytest.raises(StoreError, match="Not a directory"), store.claim(KEY):
        pass


def test_uvs_lock_is_waited_for(store: Store) -> None:
    _publish(store)
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    pytest.importorskip("fcntl", reason="needs flock")
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(store.root / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockTimeoutError, match=f"process {holder.pid} "):
            _publish(replace(store, lock_timeout=0.1), OLDER)
        holder.kill()
