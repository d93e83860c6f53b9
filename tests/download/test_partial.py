"""A partial download is resumed if it is ours and from the same server, and is never written through a link."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from downloads import BUILD, CONTENT, NAME, PATH, Fetcher, break_at, in_process, wait_for_part
from mirror import (
    norange,
    serve,
    stall,
)

from pytest_pyinstall.download._partial import _open_part
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import (
    DigestMismatchError,
    StoreError,
)
from pytest_pyinstall.system.urls import redacted


def test_p12_a_download_of_a_killed_process_is_resumed(fetcher: Fetcher) -> None:
    stalled = stall(after=200_000)
    fetcher.mirror.script(PATH, stalled)
    with in_process(fetcher) as process:
        wait_for_part(fetcher, 200_000)
        process.send_signal(signal.SIGKILL)

    assert fetcher() == CONTENT
    assert fetcher.mirror.bytes_served == len(CONTENT)
    assert fetcher.files == [NAME]


def test_p12_a_complete_download_that_was_not_renamed_is_used(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(CONTENT)

    assert fetcher() == CONTENT
    assert fetcher.gets == 1


def test_p11_a_damaged_partial_download_is_not_used(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(bytes(100_000))

    assert fetcher() == CONTENT
    assert fetcher.files == [NAME]


def test_a_partial_download_without_metadata_is_not_resumed(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part.json").write_text("{}")

    assert fetcher() == CONTENT
    assert "range" not in fetcher.mirror.gets(PATH)[1].headers


def test_a_partial_download_of_another_server_is_not_resumed(fetcher: Fetcher, tmp_path: Path) -> None:
    break_at(fetcher, 100_000)
    with serve(tmp_path / "mirror") as other:
        assert fetcher(url=other.url + PATH) == CONTENT
        assert "range" not in other.requests[0].headers


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_p11_nothing_is_written_through_a_planted_partial_download(fetcher: Fetcher, kind: str) -> None:
    victim = fetcher.cache.parent / "victim"
    victim.write_text("precious")
    fetcher.path.parent.mkdir(parents=True)
    part = fetcher.path.with_name(NAME + ".part")
    part.symlink_to(victim) if kind == "symlink" else part.hardlink_to(victim)

    assert fetcher() == CONTENT
    assert victim.read_text() == "precious"


NOTES = {
    "nested": b"[" * 4000,
    "a header": json.dumps({"url": "URL", "validator": '"a"\r\nX-Planted: 1'}).encode(),
    "long": json.dumps({"url": "URL", "validator": '"' + "a" * 100_000 + '"'}).encode(),
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("note", NOTES)
def test_p11_a_planted_note_does_no_harm(fetcher: Fetcher, note: str) -> None:
    break_at(fetcher, 100_000)
    url = redacted(fetcher.mirror.url + PATH).encode()
    fetcher.path.with_name(NAME + ".part.json").write_bytes(NOTES[note].replace(b"URL", url))

    assert fetcher() == CONTENT
    assert "range" not in fetcher.mirror.gets(PATH)[1].headers


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["symlink", "hardlink", "pipe"])
def test_p11_a_planted_note_is_not_waited_for_or_written_through(fetcher: Fetcher, kind: str) -> None:
    victim = fetcher.cache.parent / "victim"
    victim.write_text("precious")
    fetcher.path.parent.mkdir(parents=True)
    note = fetcher.path.with_name(NAME + ".part.json")
    if kind == "pipe":
        os.mkfifo(note)
    else:
        note.symlink_to(victim) if kind == "symlink" else note.hardlink_to(victim)

    assert fetcher() == CONTENT
    assert victim.read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs symlinks and named pipes")
@pytest.mark.parametrize("kind", ["symlink", "file", "pipe"])
def test_p11_what_is_in_place_of_the_directory_of_an_archive_is_replaced(
    fetcher: Fetcher, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = fetcher.path.parent
    place.parent.mkdir(parents=True)
    if kind == "symlink":
        place.symlink_to(elsewhere)
    elif kind == "file":
        place.write_text("planted")
    else:
        os.mkfifo(place)

    assert fetcher() == CONTENT
    assert list(elsewhere.iterdir()) == []
    assert fetcher.files == [NAME]


def test_p6_a_download_that_another_process_changes_is_repeated_in_a_file_of_its_own(fetcher: Fetcher) -> None:
    stalled = stall(after=200_000)
    fetcher.mirror.script(PATH, stalled)
    part = fetcher.path.with_name(NAME + ".part")
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetcher)
        wait_for_part(fetcher, 200_000)
        with part.open("ab") as file:
            file.write(bytes(200_000))
        stalled.release()
        assert result.result() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT
    assert fetcher.files == [NAME]
    assert fetcher.gets == 2


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_download_is_verified_again_if_open_files_cannot_be_renamed(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, is_swapped: bool
) -> None:
    monkeypatch.setattr("pytest_pyinstall.download._partial._RENAMES_OPEN_FILES", False)
    if not is_swapped:
        assert fetcher() == CONTENT
        assert fetcher.path.read_bytes() == CONTENT
        return
    real = Path.replace

    def swap(self: Path, target: Path) -> Path:
        self.write_bytes(b"swapped")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", swap)
    with pytest.raises(DigestMismatchError):
        fetcher()


def test_opening_a_partial_download_makes_its_directory_and_breaks_hard_links(tmp_path: Path) -> None:
    os.close(_open_part(tmp_path / "a" / "b.part"))
    (tmp_path / "c.part").hardlink_to(tmp_path / "a" / "b.part")
    os.close(_open_part(tmp_path / "c.part"))
    assert (tmp_path / "a" / "b.part").stat().st_nlink == 1


def test_a_partial_download_that_keeps_changing_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.part").write_text("")
    (tmp_path / "b.part").hardlink_to(tmp_path / "a.part")
    monkeypatch.setattr(Path, "unlink", lambda *_: None)
    with pytest.raises(StoreError, match="another process keeps changing it"):
        _open_part(tmp_path / "b.part")


def test_p6_two_downloads_without_a_lock_do_not_write_one_file(fetcher: Fetcher) -> None:
    stalled, again = replace(stall(after=100_000), flip_at=200_000), stall(after=10)
    fetcher.mirror.script(PATH, stalled, norange(), again)
    with fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetcher)
        wait_for_part(fetcher, 100_000)
        (fetcher.path.parent / ".lock").unlink()
        second = fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        stalled.release()
        assert again.reached.wait(100)

        with second.file as file:
            assert file.read() == CONTENT
        again.release()
        assert first.result() == CONTENT


def test_p6_a_download_does_not_publish_the_partial_file_of_another(fetcher: Fetcher) -> None:
    one, two = stall(after=100_000), stall(after=50_000)
    fetcher.mirror.script(PATH, one, two)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetcher)
        wait_for_part(fetcher, 100_000)
        (fetcher.path.parent / ".lock").unlink()
        fetcher.path.with_name(NAME + ".part").unlink()
        fetcher.path.with_name(NAME + ".part.json").unlink()
        second = pool.submit(fetcher)
        wait_for_part(fetcher, 50_000)
        one.release()

        assert first.result() == CONTENT
        assert not fetcher.path.exists()
        two.release()
        assert second.result() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT
