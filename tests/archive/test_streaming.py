"""P9, P10: an archive that is unpacked during its download obeys the same rules for each byte."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile_archives import END, HOSTILE, PYTHON, Hostile, entry, gz
from unpacking import WHOLE, archive, build_of, snapshot
from waiting import wait_until

from pytest_pyinstall.archive import _tree_writer, streaming
from pytest_pyinstall.archive.streaming import StreamedUnpack
from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.errors import IntegrityError, StoreError, UnsafeArchiveError

if TYPE_CHECKING:
    from pytest_pyinstall.system.files import FileDigests


def write(stream: StreamedUnpack, content: bytes, *, size: int) -> None:
    for at in range(0, len(content), size):
        stream.write(content[at : at + size])


def is_file_of(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def is_over() -> bool:
    return not any(thread.name.startswith("unpack") for thread in threading.enumerate())


@pytest.fixture
def into(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


@pytest.fixture(autouse=True)
def _unpacking_threads_end() -> Iterator[None]:
    yield
    assert is_over()


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("has_size", [True, False])
def test_streaming_gives_the_same_tree_as_unpack(into: Path, tmp_path: Path, size: int, has_size: bool) -> None:
    known: FileDigests = {}
    with StreamedUnpack(build_of(WHOLE, has_size=has_size), into=into, known=known) as stream:
        write(stream, WHOLE, size=size)
        tree = stream.tree(archive(WHOLE))

    (tmp_path / "other").mkdir()
    theirs: FileDigests = {}
    unpack(archive(WHOLE), into=tmp_path / "other", known=theirs)
    assert tree == into / "python"
    assert snapshot(into) == snapshot(tmp_path / "other")
    assert sorted(row[2] for row in known.values()) == sorted(row[2] for row in theirs.values())
    assert {path.stat().st_ino for path in into.rglob("*") if path.is_file() and not path.is_symlink()} == {*known}


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_plain_tar_and_zip_can_be_streamed(into: Path, suffix: str) -> None:
    import zipfile

    if suffix == "tar":
        content = PYTHON + END
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("python/bin/python3.12", b"#!")
        content = buffer.getvalue()
    name = f"cpython-3.12.4.{suffix}"
    with StreamedUnpack(build_of(content, name), into=into, known={}) as stream:
        write(stream, content, size=700)
        written = snapshot(into)
        assert (stream.tree(archive(content, name)) / "bin/python3.12").is_file()
    assert suffix == "tar" or not written  # a zip has its directory at the end


def test_p9_no_link_is_made_and_no_tree_is_given_before_the_digest_is_checked(into: Path) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE)
        wait_until(lambda: is_file_of(into / "python/data", 3000))
        assert not any(path.is_symlink() for path in into.rglob("*"))
        # `tree` needs an `Archive`, which only `fetch` makes.
        assert stream.tree(archive(WHOLE)) == into / "python"
        assert (into / "python/bin/python3").is_symlink()


def test_p9_a_restarted_download_leaves_no_earlier_files(into: Path) -> None:
    other = gz(entry("other/evil", b"1" * 100), END)
    known: FileDigests = {}
    with StreamedUnpack(build_of(WHOLE, has_size=False), into=into, known=known) as stream:
        stream.write(other)
        wait_until((into / "other/evil").exists)
        stream.restart()
        assert snapshot(into) == {}
        assert known == {}
        stream.write(WHOLE)
        stream.tree(archive(WHOLE))
    assert {path.parts[0] for path in (each.relative_to(into) for each in into.rglob("*"))} == {"python"}


def test_p9_an_unpacking_error_is_forgotten_after_a_restart(into: Path) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(b"<html>" * 1000)
        wait_until(is_over)
        stream.restart()
        write(stream, WHOLE, size=50)
        assert (stream.tree(archive(WHOLE)) / "data").stat().st_size == 3000


def test_p9_a_tree_of_unchecked_bytes_is_not_returned(into: Path) -> None:
    other = gz(PYTHON, entry("python/evil", b"1"), END)
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(other)
        tree = stream.tree(archive(WHOLE))
    assert not (tree / "evil").exists()
    assert (tree / "data").exists()


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
@pytest.mark.parametrize("has_size", [True, False])
def test_p10_a_hostile_archive_is_rejected_during_the_download(
    hostile: Hostile, into: Path, tmp_path: Path, has_size: bool
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("untouched")
    content = hostile.build(str(tmp_path / "outside"))
    build = build_of(content, hostile.file_name, has_size=has_size)
    with StreamedUnpack(build, into=into, known={}) as stream:
        write(stream, content, size=max(1, len(content) // 7))
        with pytest.raises(IntegrityError) as caught:
            stream.tree(archive(content, hostile.file_name))
    assert hostile.file_name in caught.value.message
    if has_size or "in 1 kB" not in hostile.name:  # without a size, only the end of this one shows that it is too short
        assert type(caught.value) is hostile.error
        assert hostile.reason in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} - {"home"} == {"outside", "scratch"}
    assert (tmp_path / "outside" / "victim").read_text() == "untouched"


@pytest.mark.parametrize("has_size", [True, False])
def test_p10_unpacking_a_bomb_stops_before_its_end(into: Path, has_size: bool) -> None:
    bomb = gz(PYTHON, entry("python/bomb", bytes(300 << 20)), END)
    noise = bytes(range(256)) * 16
    build = build_of(bomb + noise, has_size=has_size)
    with StreamedUnpack(build, into=into, known={}) as stream:
        stream.write(bomb[: len(bomb) // 2])
        wait_until(is_over)
        written = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
        assert written <= (64 << 20) + 100 * len(bomb) // 2
        assert written < 200 << 20
        write(stream, bomb[len(bomb) // 2 :], size=1000)  # the download continues and does not wait for the unpacking
        assert sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) == written
        with pytest.raises(UnsafeArchiveError, match="too much for an archive of its size"):
            stream.tree(archive(bomb))


def test_p16_a_full_disk_is_reported_after_the_download(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        write(stream, WHOLE, size=10)
        with pytest.raises(StoreError, match="No space left on device"):
            stream.tree(archive(WHOLE))


def test_closing_an_incomplete_stream_does_not_wait_for_its_end(into: Path) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE[:-5])
        wait_until((into / "python/bin/python3.12").exists)
    assert not (into / "python/bin/python3").is_symlink()


def test_p20_ctrl_c_ends_the_unpacking_thread(into: Path) -> None:
    def interrupted() -> None:
        with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
            stream.write(WHOLE[:200])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_slow_disk_slows_the_download(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the archive if the disk is slower than the network."""
    gate = threading.Event()
    monkeypatch.setattr(_tree_writer.TreeWriter, "add", lambda *_: gate.wait(60))
    monkeypatch.setattr(streaming, "_MOST", 1000)
    noise = gz(PYTHON, entry("python/noise", b"".join(bytes([n % 251]) * 3 for n in range(3 << 20))), END)
    with StreamedUnpack(build_of(noise), into=into, known={}) as stream:
        writer = threading.Thread(target=lambda: write(stream, noise, size=500), daemon=True)
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        gate.set()
        writer.join(60)
        assert not writer.is_alive()


@pytest.mark.parametrize("module", ["isal", "zlib"])
def test_each_decompressor_accepts_bytes_in_pieces(into: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    if module == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
        monkeypatch.setitem(sys.modules, "isal.igzip_lib", None)
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        write(stream, WHOLE, size=7)
        assert stream.tree(archive(WHOLE)) == into / "python"
