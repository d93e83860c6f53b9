"""A cached archive is verified at each use, downloaded by one process at a time, and can be listed and deleted."""

import errno
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from downloads import BUILD, CONTENT, NAME, PATH, Fetcher, Waits, build_of, deny_writing, in_process
from mirror import (
    reset,
    stall,
)

from pytest_pyinstall.download.cache import archive_path, cached_archives, clear, prune
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import (
    StoreError,
)
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.locks import lock_now


def test_cached_files_have_our_modes_with_any_umask(fetcher: Fetcher) -> None:
    for umask in (0, 0o077):
        before = os.umask(umask)
        try:
            fetcher()
        finally:
            os.umask(before)
        assert stat.S_IMODE(fetcher.path.stat().st_mode) == 0o644
        assert stat.S_IMODE(fetcher.cache.stat().st_mode) == 0o755 & ~umask
        assert stat.S_IMODE((fetcher.path.parent / ".lock").stat().st_mode) == 0o666
        fetcher.path.unlink()
        fetcher.cache = fetcher.cache / "another"
        fetcher.path = archive_path(fetcher.cache, BUILD)


def test_a_cached_archive_can_be_used_from_a_read_only_cache(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher()
    deny_writing(monkeypatch)

    assert fetcher() == CONTENT


def test_the_returned_file_is_the_one_that_was_verified(fetcher: Fetcher) -> None:
    with fetcher.client() as client:
        archive = fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        fetcher.path.unlink()
        fetcher.path.write_bytes(b"swapped")

        with archive.file as file:
            assert file.read() == CONTENT


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "page", "symlink", "fifo"])
def test_p11_a_damaged_cached_archive_is_deleted_and_downloaded_again(fetcher: Fetcher, damage: str) -> None:
    fetcher()
    fetcher.path.unlink()
    match damage:
        case "flipped":
            fetcher.path.write_bytes(CONTENT[:-1] + b"?")
        case "cut":
            fetcher.path.write_bytes(CONTENT[:1000])
        case "empty":
            fetcher.path.write_bytes(b"")
        case "page":
            fetcher.path.write_bytes(b"<html>")
        case "symlink":
            victim = fetcher.cache / "victim"
            victim.write_bytes(CONTENT)
            fetcher.path.symlink_to(victim)
        case "fifo":
            os.mkfifo(fetcher.path)

    assert fetcher() == CONTENT
    assert not fetcher.path.is_symlink()
    assert fetcher.path.read_bytes() == CONTENT
    assert fetcher.gets == 2
    assert len(fetcher.warnings) == 1


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", ".lock", "a%5cb", "a%00b", "a%0ab", "x" * 300, "", "C:evil", "x.part", "%2e%2e%2f%2e%2e%2fx"],
)
def test_p11_a_hostile_file_name_stays_in_the_directory_of_its_digest(fetcher: Fetcher, name: str) -> None:
    build = replace(BUILD, url=f"https://release.test/a/{name}")

    assert archive_path(fetcher.cache, build).parent == fetcher.cache / "archives" / BUILD.sha256
    assert fetcher(build) == CONTENT


def test_p4_threads_that_need_one_archive_make_one_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(fetcher) for _ in range(8)]
        assert stalled.reached.wait(100)
        stalled.release()

        assert all(result.result() == CONTENT for result in results)
    assert fetcher.gets == 1


def test_p4_processes_that_need_one_archive_make_one_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with in_process(fetcher) as one, in_process(fetcher) as two, in_process(fetcher) as three:
        assert stalled.reached.wait(100)
        stalled.release()

    assert [one.returncode, two.returncode, three.returncode] == [0, 0, 0]
    assert fetcher.gets == 1


def test_p5_a_stopped_process_that_holds_the_lock_does_not_block_a_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    waits = Waits()
    with in_process(fetcher) as holder:
        assert stalled.reached.wait(100)
        holder.send_signal(signal.SIGSTOP)
        fetcher.limit(abandoned=0.1)

        assert fetcher(progress=waits) == CONTENT

        holder.send_signal(signal.SIGCONT)
        stalled.release()
    assert holder.returncode == 0
    assert fetcher.files == [NAME]
    assert waits.reasons == ["another process is downloading it"]


@pytest.mark.parametrize("obstacle", ["no locks here", "no locks for downloads", "the lock file cannot be opened"])
def test_p6_downloads_succeed_without_locks(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
    if obstacle.startswith("no locks"):
        real = locks.lock_descriptor

        def refuse(descriptor: int) -> bool:
            is_lock_file = os.path.samestat(os.fstat(descriptor), (fetcher.path.parent / ".lock").stat())
            if is_lock_file and obstacle == "no locks for downloads":
                return real(descriptor)
            raise OSError(37, "No locks available")

        monkeypatch.setattr(locks, "lock_descriptor", refuse)
    else:
        (fetcher.path.parent / ".lock").mkdir(parents=True)
    fetcher.mirror.script(PATH, reset(after=100_000))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: fetcher(), range(4))) == [CONTENT] * 4

    assert fetcher.files == [NAME]
    assert fetcher.mirror.bytes_served <= 4 * len(CONTENT)


@pytest.mark.parametrize("part_too", [False, True])
def test_p6_downloads_succeed_if_the_lock_file_is_deleted(fetcher: Fetcher, part_too: bool) -> None:
    stalled = stall(after=100_000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetcher)
        assert stalled.reached.wait(100)
        (fetcher.path.parent / ".lock").unlink()
        if part_too:
            fetcher.path.with_name(NAME + ".part").unlink()

        assert fetcher() == CONTENT
        stalled.release()
        assert first.result() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT


# For `cache list`, `cache prune` and `cache clear`


def test_a_missing_cache_can_be_listed_pruned_and_cleared(tmp_path: Path) -> None:
    assert cached_archives(tmp_path / "none") == prune(tmp_path / "none") == clear(tmp_path / "none") == []


def test_cached_archives_are_listed_by_their_last_use(fetcher: Fetcher) -> None:
    other = build_of(b"other", url="https://release.test/other.tar.gz")
    fetcher.mirror.files["/other"] = b"other"
    fetcher(other, url=fetcher.mirror.url + "/other")
    fetcher()
    for build, seconds in ((BUILD, 1000), (other, 2000)):
        os.utime(archive_path(fetcher.cache, build), (seconds, seconds))
    assert [file.path.name for file in cached_archives(fetcher.cache)] == [NAME, "other.tar.gz"]

    fetcher()

    last = cached_archives(fetcher.cache)[-1]
    assert (last.path, last.sha256, last.size) == (fetcher.path, BUILD.sha256, len(CONTENT))
    assert last.used > 2000


def test_prune_deletes_only_damaged_and_abandoned_files(fetcher: Fetcher) -> None:
    fetcher()
    damaged, dead = build_of(b"damaged"), build_of(b"dead")
    archive_path(fetcher.cache, damaged).parent.mkdir()
    archive_path(fetcher.cache, damaged).write_bytes(b"something else")
    archive_path(fetcher.cache, dead).parent.mkdir()
    for name in (f"{NAME}.part", f"{NAME}.part.json", ".0123456789abcdef.part"):
        archive_path(fetcher.cache, dead).with_name(name).write_bytes(b"x")
    foreign = fetcher.cache / "archives" / "foreign"
    foreign.mkdir()

    assert {file.path.name for file in prune(fetcher.cache)} == {NAME, f"{NAME}.part"}
    assert {file.path.name for file in prune(fetcher.cache, now=time.time() + 4000)} == {".0123456789abcdef.part"}

    assert [file.path for file in cached_archives(fetcher.cache)] == [fetcher.path]
    assert {path.name for path in (fetcher.cache / "archives").iterdir()} == {BUILD.sha256, "foreign"}


def test_prune_deletes_abandoned_catalogues(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    (fetcher.cache / "catalogues" / ".0123.part").write_text("")

    assert prune(fetcher.cache) == []
    assert [file.path.name for file in prune(fetcher.cache, now=time.time() + 4000)] == [".0123.part"]
    assert fetcher.text(offline=True) == b"{}"


def test_prune_deletes_a_symlink_and_not_its_target(fetcher: Fetcher) -> None:
    fetcher.path.parent.mkdir(parents=True)
    fetcher.path.symlink_to(fetcher.cache)

    assert [file.path for file in prune(fetcher.cache)] == [fetcher.path]
    assert fetcher.cache.is_dir()


def make_full_directory(path: Path) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(b"x")
    (path / "deep").chmod(0o500)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part", f"{NAME}.part.json", ".lock"])
def test_p11_a_directory_in_place_of_a_file_does_not_prevent_the_download(fetcher: Fetcher, name: str) -> None:
    make_full_directory(fetcher.path.with_name(name))

    assert fetcher() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part", f"{NAME}.part.json", ".lock"])
@pytest.mark.parametrize("sweep", [prune, clear])
def test_p11_a_directory_in_place_of_a_file_is_deleted(
    fetcher: Fetcher, name: str, sweep: Callable[[Path], list[object]]
) -> None:
    make_full_directory(fetcher.path.with_name(name))

    sweep(fetcher.cache)

    assert list((fetcher.cache / "archives").iterdir()) == []


def test_an_error_while_closing_a_lock_is_ignored(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    fetcher.path.parent.mkdir(parents=True)
    with monkeypatch.context() as failing:
        failing.setattr(os, "close", fail)
        with lock_now(fetcher.path.parent) as ours:
            assert ours
        with lock_now(fetcher.path.parent) as ours_again:
            assert ours_again


def test_prune_of_a_read_only_cache_is_a_store_error(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.path.parent.mkdir(parents=True)
    fetcher.path.write_bytes(b"damaged")
    deny_writing(monkeypatch)

    with pytest.raises(StoreError, match="Read-only"):
        prune(fetcher.cache)


def test_a_cache_that_cannot_be_listed_is_a_store_error(fetcher: Fetcher) -> None:
    fetcher.cache.mkdir()
    (fetcher.cache / "archives").symlink_to("archives")

    with pytest.raises(StoreError, match="archives"):
        cached_archives(fetcher.cache)


def test_clear_deletes_everything(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher()

    assert len(clear(fetcher.cache)) == 3
    assert fetcher.files == []
    assert list((fetcher.cache / "archives").iterdir()) == []
    assert fetcher() == CONTENT


@pytest.mark.parametrize("sweep", [prune, clear])
def test_prune_and_clear_keep_a_running_download(fetcher: Fetcher, sweep: Callable[[Path], list[object]]) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetcher)
        assert stalled.reached.wait(100)

        assert sweep(fetcher.cache) == []
        stalled.release()
        assert result.result() == CONTENT
    assert fetcher.gets == 1


def test_downloads_succeed_while_the_cache_is_cleared(fetcher: Fetcher) -> None:
    over = threading.Event()

    def keep_clearing() -> None:
        while not over.is_set():
            clear(fetcher.cache)

    with ThreadPoolExecutor(3) as pool:
        clearing = pool.submit(keep_clearing)
        try:
            for _ in range(10):
                assert list(pool.map(lambda _: fetcher(), range(2))) == [CONTENT] * 2
        finally:
            over.set()
        clearing.result()
