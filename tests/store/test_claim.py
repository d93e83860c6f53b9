"""A claim publishes, repairs and removes one installation, and no writer disturbs another."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fake_installations import KEY, OLDER, VERSION_INFO, build_of, names_in, publish, tree_in
from waiting import wait_until

from pytest_pyinstall.errors import LockTimeoutError
from pytest_pyinstall.store import store as store_module
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.locks import is_free


def test_the_record_describes_the_published_installation(store: Store) -> None:
    publish(store)
    document = json.loads((store.private / "records" / f"{KEY}.json").read_text())

    assert document["sha256"] == "ab" * 32
    assert document["key"] == str(KEY)
    assert document["by"].startswith("pytest-pyinstall ")
    assert ["lib/python3.12/os.py", "file", 0o644, 11] in [row[:4] for row in document["tree"]]


@pytest.mark.parametrize(
    "occupy", [lambda home: home.touch(), lambda home: home.symlink_to("nowhere"), lambda home: home.mkdir()]
)
def test_publishing_replaces_whatever_has_the_final_name(store: Store, occupy: Callable[[Path], None]) -> None:
    store.root.mkdir()
    occupy(store.home(KEY))

    assert publish(store) == store.look(KEY)


def test_publishing_does_not_write_through_a_link_with_the_final_name(store: Store, tmp_path: Path) -> None:
    other_directory = tmp_path / "other"
    other_directory.mkdir()
    store.root.mkdir()
    store.home(KEY).symlink_to(other_directory)
    publish(store)

    assert names_in(other_directory) == []
    assert not store.home(KEY).is_symlink()


def test_repair_keeps_added_files(store: Store) -> None:
    home = publish(store).home
    package = home / "lib/python3.12/site-packages/package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("mine")
    (home / "bin/tool").write_text("mine too")
    (home / "lib/python3.12/os.py").unlink()
    publish(store, keep_added=True)

    assert isinstance(store.look(KEY), Installation)
    assert (package / "__init__.py").read_text() == "mine"
    assert (home / "bin/tool").read_text() == "mine too"
    assert sorted(str(difference) for difference in store.verify(KEY) or ()) == [
        "bin/tool: added",
        "lib/python3.12/site-packages: added",
    ]


def test_installations_of_a_moved_store_are_broken(store: Store, tmp_path: Path) -> None:
    publish(store)
    moved = replace(store, root=tmp_path / "moved")
    store.root.rename(moved.root)

    found = moved.look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert "was made for" in str(found)


def test_removing_an_installation_removes_its_record_and_link(store: Store) -> None:
    publish(store)

    assert store.remove(KEY) is True
    assert store.remove(KEY) is False
    assert names_in(store.root) == [".gitignore", ".lock", ".pytest-pyinstall"]
    assert names_in(store.private / "records") == []
    assert names_in(store.private / "scratch") == []


def test_p5_a_claim_does_not_wait_for_another_key(store: Store) -> None:
    with store.claim(KEY):
        publish(replace(store, lock_timeout=0), OLDER)


def test_p4_all_processes_that_wait_for_a_claim_go_on_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.wait(KEY) is False
    asked: list[bool] = []

    def ask(path: Path) -> bool:
        asked.append(is_free(path))
        return asked[-1]

    monkeypatch.setattr(store_module, "is_free", ask)
    others = 4
    together = threading.Barrier(others, timeout=60)

    def wait() -> bool:
        has_waited = store.wait(KEY)
        together.wait()  # fails if one of them had to wait until another one has finished
        return has_waited

    with ThreadPoolExecutor(others) as threads:
        with store.claim(KEY):
            waiting = [threads.submit(wait) for _ in range(others)]
            wait_until(lambda: len(asked) == others)
        assert [each.result() for each in waiting] == [True] * others
    with store.claim(KEY), pytest.raises(LockTimeoutError):
        replace(store, lock_timeout=0.05).wait(KEY)


def test_p6_two_writers_of_one_key_succeed_without_a_lock(store: Store) -> None:
    with store.claim(KEY) as first:
        (store.private / "locks" / f"{KEY}.lock").unlink()
        with store.claim(KEY) as second:
            assert first.scratch != second.scratch
            mine = tree_in(first.scratch, "first")
            theirs = tree_in(second.scratch, "second")
            second.publish(theirs, build=build_of(KEY), version_info=VERSION_INFO, keep_added=False)
        first.publish(mine, build=build_of(KEY), version_info=VERSION_INFO, keep_added=False)

    assert isinstance(store.look(KEY), Installation)
    assert (store.home(KEY) / "bin/python3.12").read_text() == "first"


def test_p22_a_claim_waits_for_the_lock_of_uv(store: Store) -> None:
    publish(store)
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    pytest.importorskip("fcntl", reason="needs flock")
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(store.root / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockTimeoutError, match=f"process {holder.pid} "):
            publish(replace(store, lock_timeout=0.1), OLDER)
        holder.kill()
