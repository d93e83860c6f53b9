"""The store finds what it published, recognizes damage, and does not remove an installation in use."""

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fake_installations import KEY, OLDER, fingerprint, names_in, publish, record_of, tree_in

from pytest_pyinstall.errors import StoreError, UnreadableStoreError
from pytest_pyinstall.store import store as store_module
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import Record
from pytest_pyinstall.store.store import Store


def test_a_missing_store_is_empty_and_is_not_created(store: Store) -> None:
    assert store.keys() == []
    assert store.look(KEY) is None
    assert store.installations() == []
    assert not store.root.exists()


def test_a_published_installation_is_found(store: Store) -> None:
    published = publish(store)

    assert store.look(KEY) == published
    assert published.executable.read_text() == "print()"
    assert store.keys() == [KEY]
    assert store.verify(KEY) == ()


def test_the_store_has_the_layout_of_uv(store: Store) -> None:
    publish(store)

    assert names_in(store.root) == [
        ".gitignore",
        ".lock",
        ".pytest-pyinstall",
        "cpython-3.12-linux-x86_64-gnu",
        "cpython-3.12.4-linux-x86_64-gnu",
    ]
    assert (store.root / ".gitignore").read_text() == "*"
    assert (store.root / ".lock").stat().st_size == 0
    assert (store.root / ".lock").stat().st_mode & 0o777 == 0o666
    assert names_in(store.private) == ["locks", "records", "scratch"]
    assert names_in(store.private / "records") == [f"{KEY}.json"]
    assert names_in(store.private / "scratch") == []


def test_p2_an_empty_directory_is_not_an_installation_of_ours(store: Store) -> None:
    store.home(KEY).mkdir(parents=True)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


def test_p3_the_first_look_after_a_boot_reads_the_content(store: Store) -> None:
    home = publish(store).home
    os.utime(home / "lib/python3.12/os.py")
    (home / "lib/python3.12/os.py").write_text("IMPORT SYS\n")
    assert isinstance(store.look(KEY), Installation)

    assert isinstance(replace(store, boot="another").look(KEY), BrokenInstallation)


def test_p3_a_check_is_valid_for_one_boot_and_one_directory(store: Store, tmp_path: Path) -> None:
    home = publish(store).home
    later = replace(store, boot="another")
    assert isinstance(later.look(KEY), Installation)
    record = record_of(store)
    assert record is not None
    assert (record.boot, record.inode) == ("another", home.lstat().st_ino)

    home.rename(tmp_path / "original")
    subprocess.run(["cp", "-a", tmp_path / "original", home], check=True)
    (home / "lib/python3.12/os.py").write_text("IMPORT SYS\n")
    assert isinstance(later.look(KEY), BrokenInstallation)


def test_p2_a_record_of_another_key_is_ignored(store: Store) -> None:
    publish(store)
    record = record_of(store)
    assert record is not None
    other = replace(record, build=replace(record.build, key=OLDER))
    other.write(store.record_path(KEY))
    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_a_record_that_is_not_a_regular_file_is_an_error(store: Store) -> None:
    publish(store)
    path = store.record_path(KEY)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableStoreError, match="cannot read the store"):
        store.look(KEY)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableStoreError, match="cannot read the store"):
        store.look(KEY)


def test_p22_our_record_is_ignored_if_uv_replaced_the_installation(store: Store) -> None:
    home = publish(store).home
    replaced = store.root / "uv"
    tree_in(replaced, "another build")
    (replaced / "python/BUILD").write_text("20990101")
    home.rename(store.root / "old")
    (replaced / "python").rename(home)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is None


def test_records_of_a_store_copied_to_the_same_path_are_valid(store: Store, tmp_path: Path) -> None:
    publish(store)
    subprocess.run(["cp", "-a", store.root, tmp_path / "copy"], check=True)
    store.root.rename(tmp_path / "original")
    (tmp_path / "copy").rename(store.root)

    found = store.look(KEY)
    assert isinstance(found, Installation)
    assert found.record is not None


def test_p2_damage_of_a_restored_store_is_found(store: Store, tmp_path: Path) -> None:
    home = publish(store).home
    subprocess.run(["cp", "-a", store.root, tmp_path / "restored"], check=True)
    store.root.rename(tmp_path / "original")
    (tmp_path / "restored").rename(store.root)
    (home / "lib/python3.12/os.py").unlink()

    assert isinstance(store.look(KEY), BrokenInstallation)
    assert [str(difference) for difference in store.verify(KEY) or ()] == ["lib/python3.12/os.py: missing"]


def test_p17_a_store_can_be_used_through_a_link(store: Store, tmp_path: Path) -> None:
    publish(store)
    (tmp_path / "link").symlink_to(store.root)

    found = replace(store, root=tmp_path / "link").look(KEY)
    assert isinstance(found, Installation)
    assert found.record is not None


def test_installations_of_a_store_copied_elsewhere_are_broken(store: Store, tmp_path: Path) -> None:
    publish(store)
    subprocess.run(["cp", "-a", store.root, tmp_path / "copy"], check=True)

    found = replace(store, root=tmp_path / "copy").look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert str(found).startswith(f"{KEY} was moved or restored: it was made for {store.home(KEY)}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, None) for name in ("key", "home", "url", "sha256", "inode", "replaces", "boot", "published", "tree")],
        *[(name, 3) for name in ("key", "home", "url", "tag", "boot", "by", "tree", "distributions")],
        ("sha256", "../../elsewhere"),
        ("size", "9"),
        ("inode", "1"),
        ("version_info", [3, 12]),
        ("version_info", [3, 12, math.inf, "final", 0]),
        ("inode", math.nan),
        ("size", 1e999),
        ("tree", [["../outside", "file", 0o644, 1, "ab"]]),
        ("tree", [["/outside", "file", 0o644, 1, "ab"]]),
        ("tree", [["lib", "file", "0644", 1, "ab"]]),
        ("distributions", [["demo", "lib/x.dist-info", ["../../outside"]]]),
        ("distributions", [["demo"]]),
    ],
)
def test_p11_a_record_with_a_value_that_we_never_write_is_ignored(store: Store, name: str, value: object) -> None:
    """A restored store may have anything in it."""
    publish(store)
    path = store.record_path(KEY)
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, name: value}), "utf-8")

    assert store.look(KEY) == Installation(key=KEY, home=store.home(KEY), record=None)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"null", b"3"])
def test_p11_a_record_that_is_damaged_is_ignored(store: Store, content: bytes) -> None:
    publish(store)
    store.record_path(KEY).write_bytes(content)

    assert store.look(KEY) == Installation(key=KEY, home=store.home(KEY), record=None)


@pytest.mark.parametrize("name", ["locks", "records"])
def test_an_unreadable_record_is_ignored(store: Store, name: str) -> None:
    publish(store)
    path = store.private / "records" / f"{KEY}.json"
    for text in ["", "{}", "[]", "null", '{"format": 1}', '{"format": 99}', "\0"]:
        path.write_text(text)
        assert Record.read(path) is None
        found = store.look(KEY)
        assert isinstance(found, Installation)
        assert found.record is None


def test_p5_looking_does_not_wait_for_a_lock(store: Store) -> None:
    published = publish(store)
    with store.claim(KEY):
        assert replace(store, lock_timeout=0).look(KEY) == published


def test_p5_looking_does_not_wait_for_a_thread_whose_filesystem_does_not_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(store)
    monkeypatch.setattr(store_module, "_MOST_WAIT", 0.01)
    with store_module._COMPARING:
        assert store.look(KEY) == published


def test_threads_compare_one_after_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, they take twice as long, because each system call lets another thread run."""
    published = publish(store)
    running: list[int] = []
    most: list[int] = []

    def compare(*_: object, **__: object) -> list[object]:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return []

    monkeypatch.setattr(store_module, "find_differences", compare)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(store.look, [KEY] * 4)) == [published] * 4
    assert most == [1] * 4


def test_p7_reading_a_read_only_store_tries_no_write(store: Store) -> None:
    published = publish(store)
    subprocess.run(["chmod", "-R", "a-w", store.root], check=True)
    before = fingerprint(store.root)
    try:
        # Root may write anywhere, so the test checks that nothing was written.
        assert store.look(KEY) == replace(published, record=record_of(store))
        assert fingerprint(store.root) == before
    finally:
        subprocess.run(["chmod", "-R", "u+w", store.root], check=True)


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
def test_p21_an_installation_in_use_is_not_removed(store: Store) -> None:
    home = publish(store).home
    command = [sys.executable, "-c", _LEASE, str(store.root), str(home)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second,
    ):
        assert first.stdout is not None
        assert second.stdout is not None
        assert (first.stdout.readline(), second.stdout.readline()) == ("True\n", "True\n")
        with pytest.raises(StoreError, match=rf"was not removed: process ({first.pid}|{second.pid}) "):
            store.remove(KEY)
        first.communicate("\n")
        with pytest.raises(StoreError, match=rf"was not removed: process {second.pid} "):
            store.remove(KEY)
        assert isinstance(store.look(KEY), Installation)
        publish(store)  # replaces it atomically, which does not disturb the process that uses it
        second.kill()
        second.wait()
        assert store.remove(KEY) is True
    assert store.look(KEY) is None


@posix_locks
def test_p21_no_lease_is_granted_during_a_removal(store: Store) -> None:
    from pytest_pyinstall.system.locks import seize

    home = publish(store).home
    with seize(store.private / "locks" / f"{KEY}.lease") as is_ours, store.lease(home) as is_held:
        assert is_ours
        assert not is_held


@posix_locks
def test_p21_a_lease_needs_no_write_permission(store: Store) -> None:
    home = publish(store).home
    before = fingerprint(store.root)
    with store.lease(home) as is_held:
        assert is_held
    assert fingerprint(store.root) == before


@posix_locks
def test_an_error_inside_a_lease_is_raised(store: Store) -> None:
    home = publish(store).home
    with pytest.raises(OSError, match="theirs"), store.lease(home):
        raise OSError("theirs")


def test_only_installations_of_the_store_are_leased(store: Store, tmp_path: Path) -> None:
    for prefix in (tmp_path, store.root, store.root / "cpython-3.12.4-linux-x86_64-gnu/bin", store.root / "other"):
        with store.lease(prefix) as is_held:
            assert not is_held
