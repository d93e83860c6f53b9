"""P15: a store or installation that another user can change is rejected."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_installations import KEY, names_in, publish

from pytest_pyinstall.errors import StoreError, UnreadableStoreError
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import storage_error
from pytest_pyinstall.system.locks import seize


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("name", [".", "lib", "lib/python3.12/os.py", "bin/python3.12"])
@pytest.mark.parametrize("has_record", [True, False])
def test_p15_an_installation_of_another_user_is_rejected(store: Store, name: str, has_record: bool) -> None:
    home = publish(store).home
    if not has_record:
        store.record_path(KEY).unlink()
    os.chown(home / name, 4242, 4242)

    with pytest.raises(UnreadableStoreError, match="belongs to user 4242, who is neither you nor root"):
        store.look(KEY)
    assert isinstance(replace(store, trusted=frozenset({store.root})).look(KEY), Installation)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("name", ["locks", "scratch", "records", "records/{key}.json"])
def test_p15_a_store_directory_of_another_user_is_rejected(store: Store, name: str) -> None:
    publish(store)
    os.chown(store.private / name.format(key=KEY), 4242, 4242)

    look = store.look if name.endswith(".json") else lambda _: store.keys()
    with pytest.raises(UnreadableStoreError, match="belongs to user 4242"):
        look(KEY)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
@pytest.mark.parametrize("name", ["lib", "lib/python3.12/os.py", "lib/python3.12/__pycache__"])
def test_p15_a_tree_of_uv_in_which_others_can_write_is_refused(store: Store, name: str) -> None:
    """As uv leaves it under umask 000."""
    home = publish(store).home
    store.record_path(KEY).unlink()
    (home / "lib/python3.12/__pycache__").mkdir()
    (home / name).chmod(0o777)

    with pytest.raises(UnreadableStoreError, match="everyone can write to") as caught:
        store.look(KEY)
    assert shlex.split(caught.value.hint) == ["chmod", "-R", "o-w", str(home)]
    (home / name).chmod(0o755)
    assert isinstance(store.look(KEY), Installation)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
def test_p15_byte_code_that_others_can_write_is_damage(store: Store) -> None:
    """An interpreter makes its directory with the umask of its process."""
    home = publish(store).home
    cache = home / "lib/python3.12/__pycache__"
    cache.mkdir()
    cache.chmod(0o777)

    found = store.look(KEY)

    assert isinstance(found, BrokenInstallation)
    assert str(found) == f"{KEY} is broken: lib/python3.12/__pycache__: everyone can write to it"
    assert isinstance(replace(store, trusted=frozenset({store.root})).look(KEY), Installation)
    cache.rmdir()
    cache.symlink_to("elsewhere")
    assert isinstance(store.look(KEY), BrokenInstallation)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("has_record", [True, False])
def test_p15_byte_code_of_another_user_is_refused(store: Store, has_record: bool) -> None:
    home = publish(store).home
    if not has_record:
        store.record_path(KEY).unlink()
    cache = home / "lib/python3.12/__pycache__"
    cache.mkdir()
    os.chown(cache, 4242, 4242)

    with pytest.raises(UnreadableStoreError, match="__pycache__ belongs to user 4242"):
        store.look(KEY)


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs access control lists")
@pytest.mark.parametrize("name", [".", "lib", "lib/python3.12/os.py"])
def test_p15_an_access_control_list_in_an_installation_is_damage(store: Store, name: str) -> None:
    home = publish(store).home
    done = subprocess.run(["setfacl", "-m", "u:4242:rwx", home / name], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this filesystem has no access control lists")
    if name == ".":  # anyone who can write here can put another `lib` in its place
        with pytest.raises(UnreadableStoreError, match="user 4242 can write to"):
            store.look(KEY)
    else:
        assert isinstance(store.look(KEY), BrokenInstallation)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_p15_nothing_is_written_to_a_rejected_store(store: Store, mode: int) -> None:
    store.root.mkdir()
    store.root.chmod(mode)

    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    assert names_in(store.root) == []


def test_p15_a_store_that_everyone_can_write_to_is_rejected(store: Store) -> None:
    publish(store)
    store.root.chmod(0o777)

    with pytest.raises(UnreadableStoreError, match="everyone can write to") as caught:
        store.keys()
    assert "chmod o-w" in caught.value.hint
    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    with seize(store.private / "locks" / f"{KEY}.lock"), pytest.raises(UnreadableStoreError):
        store.wait(KEY)
    assert replace(store, trusted=frozenset({store.root})).keys() == [KEY]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX owners and modes")
@pytest.mark.parametrize("where", ["store", "parent"])
def test_p15_a_store_that_a_shared_group_can_write_to_is_rejected(
    store: Store, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    directory = store.root if where == "store" else store.root.parent
    directory.chmod(0o775)
    assert store.keys() == [KEY]  # a group that has no other member

    monkeypatch.setattr("pytest_pyinstall.system.permissions._is_ours_alone", lambda *_: False)
    with pytest.raises(UnreadableStoreError, match=r"^group .* can write to") as caught:
        store.keys()
    assert f"chmod g-w {shlex.quote(str(directory))}, or" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
def test_p15_a_store_of_another_user_is_rejected_unless_it_is_trusted(store: Store) -> None:
    publish(store)
    os.chown(store.root, 1000, 1000)

    with pytest.raises(UnreadableStoreError, match=r"belongs to user .*, who is neither you nor root") as caught:
        store.keys()
    assert f"PYTEST_PYINSTALL_TRUSTED_STORE={shlex.quote(str(store.root))}" in caught.value.hint
    with pytest.raises(UnreadableStoreError), store.claim(KEY):
        pass
    with seize(store.private / "locks" / f"{KEY}.lock"), pytest.raises(UnreadableStoreError):
        store.wait(KEY)
    assert replace(store, trusted=frozenset({store.root})).keys() == [KEY]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give files away")
def test_p15_the_target_of_a_link_is_checked(store: Store, tmp_path: Path) -> None:
    publish(store)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    store.root.rename(place / "store")
    store.root.symlink_to(place / "store")

    with pytest.raises(UnreadableStoreError, match="everyone can write to"):
        store.keys()


def test_a_file_in_place_of_the_store_is_a_store_error(store: Store) -> None:
    store.root.touch()

    with pytest.raises(UnreadableStoreError, match="Not a directory"):
        store.keys()
    with pytest.raises(StoreError, match="Not a directory"), store.claim(KEY):
        pass


@pytest.fixture
def modes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write to each directory: answer by the mode, as for another user."""
    monkeypatch.setattr(os, "access", lambda path, _: bool(Path(path).stat().st_mode & 0o200))


@pytest.mark.usefixtures("modes_count")
@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
def test_the_directory_that_refuses_is_named_once_with_its_chmod(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "above" / "store"))
    (tmp_path / "above").mkdir(mode=0o500)
    access = Store(root=tmp_path / "above" / "store", boot="").access

    error = access.unwritable(denied)

    above = tmp_path / "above"
    assert error.message == f"cannot write to the store {above}/store: {above}: Permission denied"
    assert error.hint == f"chmod u+w {above}"


@pytest.mark.usefixtures("modes_count")
@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
def test_the_hint_for_a_store_that_was_made_read_only_covers_all_of_it(tmp_path: Path) -> None:
    locks = tmp_path / "store" / ".pytest-pyinstall" / "locks"
    locks.mkdir(parents=True)
    for directory in (locks, locks.parent, tmp_path / "store"):
        directory.chmod(0o500)
    denied = PermissionError(errno.EACCES, "Permission denied", str(locks / "x.lock"))
    access = Store(root=tmp_path / "store", boot="").access

    assert access.unwritable(denied).hint == f"chmod -R u+w {tmp_path}/store"
    assert storage_error(locks / "x", denied).hint == f"chmod -R u+w {tmp_path}/store"
    elsewhere = OSError(errno.EROFS, "Read-only file system", str(locks / "x.lock"))
    assert access.unwritable(elsewhere).hint == "another directory: --python-store DIR"


def test_an_error_at_the_store_itself_names_it_once(tmp_path: Path) -> None:
    access = Store(root=tmp_path, boot="").access
    error = access.unwritable(OSError(errno.EIO, "Input/output error", str(tmp_path)))

    assert error.message == f"cannot write to the store {tmp_path}: Input/output error"
