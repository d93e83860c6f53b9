"""P9, P11, P12, P16, P20: an archive is unpacked while it comes, and counts for nothing until its digest matches."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from mirror import Behaviour, Mirror, cut, etag, fin, flip, long, nolength, norange, reset, serve, short, stall, trail

from pytest_pyinstall.archive.streaming import StreamedUnpack
from pytest_pyinstall.download._response import RetryPolicy
from pytest_pyinstall.download.cache import archive_path
from pytest_pyinstall.download.client import Client, open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import DigestMismatchError, FetchError, IntegrityError, StoreError, UnsafeArchiveError
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.system import locks

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")
NAME = "cpython-3.12.4+20261122-install_only.tar.gz"
PATH = f"/20261122/{quote(NAME)}"


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.12"
        tar.addfile(link)
    return buffer.getvalue()


def files_of(seed: int) -> dict[str, bytes]:
    chance = random.Random(seed)
    files = {f"python/lib/module{number}.py": chance.randbytes(9000) for number in range(60)}
    return {"python/bin/python3.12": b"#!/bin/sh\n", **files}


FILES = files_of(1)
CONTENT = tar_of(FILES)
OTHER = tar_of(files_of(2))
BUILD = Build(
    key=KEY,
    url=f"https://release.test{PATH}",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    tag="20261122",
)


class Line:
    """From a server to a tree in scratch, with everything at hand."""

    def __init__(self, mirror: Mirror, root: Path) -> None:
        self.mirror = mirror
        self.cache = root / "cache"
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.path = archive_path(self.cache, BUILD)
        self.warnings: list[str] = []
        self.client: Client | None = None
        self.limits = RetryPolicy(sleep=lambda _: None, jitter=lambda: 1.0, read=5, abandoned=20)

    def __call__(self, build: Build = BUILD, *, url: str | None = None) -> dict[str, bytes]:
        """The files of the tree that comes out."""
        with ExitStack() as stack:
            self.client = stack.enter_context(open_client(environ={}, limits=self.limits, warn=self.warnings.append))
            stream = stack.enter_context(StreamedUnpack(build, into=self.scratch, known={}))
            archive = fetch(build, url=url or self.mirror.url + PATH, cache=self.cache, client=self.client, sink=stream)
            with archive.file:
                tree = stream.tree(archive)
        assert (tree / "bin/python3").is_symlink()
        return self.files

    @property
    def files(self) -> dict[str, bytes]:
        paths = [path for path in self.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
        return {path.relative_to(self.scratch).as_posix(): path.read_bytes() for path in paths}

    @property
    def links(self) -> list[Path]:
        return [path for path in self.scratch.rglob("*") if path.is_symlink()]

    @property
    def cached(self) -> list[str]:
        return sorted(path.name for path in self.cache.rglob("*") if path.is_file() and path.name != ".lock")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    place = tmp_path / "mirror" / "20261122" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    with serve(tmp_path / "mirror") as mirror:
        yield Line(mirror, tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unpack")]


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_tree_is_what_is_in_the_archive_from_the_network_and_from_the_cache(line: Line, tmp_path: Path) -> None:
    assert line() == FILES
    assert line.cached == [NAME]

    line.scratch = tmp_path / "again"
    line.scratch.mkdir()
    assert line() == FILES
    assert len(line.mirror.gets(PATH)) == 1


def test_it_is_unpacked_while_it_comes(line: Line) -> None:
    half = stall(after=len(CONTENT) // 2)
    line.mirror.script(PATH, half)
    came: list[dict[str, bytes]] = []
    thread = threading.Thread(target=lambda: came.append(line()))
    thread.start()
    wait_until(lambda: len(line.files) > 20)
    assert line.links == []
    assert thread.is_alive()
    half.release()
    thread.join(60)
    assert came == [FILES]


@pytest.mark.parametrize("has_size", [True, False])
@pytest.mark.parametrize("at", [0, 5000, len(CONTENT) - 1], ids=["first byte", "in the middle", "last byte"])
def test_p9_a_wrong_digest_gives_nothing_and_leaves_nothing_in_the_cache(line: Line, at: int, has_size: bool) -> None:
    line.mirror.always(PATH, flip(at=at))
    with pytest.raises(DigestMismatchError):
        line(BUILD if has_size else replace(BUILD, size=None))
    assert line.links == []
    assert line.cached == []
    assert len(line.mirror.gets(PATH)) == 2


def test_p9_another_archive_that_unpacks_well_gives_nothing(line: Line) -> None:
    line.mirror.files[PATH] = OTHER
    with pytest.raises(IntegrityError):
        line(replace(BUILD, size=None))
    assert line.links == []
    assert line.cached == []


FAULTS: dict[str, list[Behaviour]] = {
    "a wrong last byte, once": [flip(at=len(CONTENT) - 1)],
    "a wrong first byte, once": [flip(at=0)],
    "a wrong byte in the middle, once": [flip(at=100_000)],
    "truncated, then resumed": [fin(after=200_000)],
    "truncated in chunks": [cut(after=200_000)],
    "truncated without a length": [nolength(after=200_000)],
    "shorter, consistently, once": [short(by=100)],
    "longer than it is": [long(by=1000)],
    "with more behind it, once": [trail(b"and more")],
    "reset three times": [reset(after=100_000)] * 3,
    "resumed, but the server ignores ranges": [reset(after=200_000), norange()],
    "resumed, but the server has another file": [reset(after=200_000), etag('"another"')],
}


@pytest.mark.parametrize("has_size", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_p12_the_tree_is_right_whatever_the_network_does(line: Line, fault: str, has_size: bool) -> None:
    line.mirror.script(PATH, *[replace(each) for each in FAULTS[fault]])
    assert line(BUILD if has_size else replace(BUILD, size=None)) == FILES
    assert line.cached == [NAME]


def test_p12_a_server_that_changes_its_file_between_two_ranges(line: Line, tmp_path: Path) -> None:
    """The same validator, other bytes: the digest is wrong, all is thrown away and fetched anew."""
    place = tmp_path / "mirror" / "20261122" / NAME
    place.write_bytes(OTHER[: len(CONTENT)].ljust(len(CONTENT), b"\0"))
    line.mirror.script(PATH, replace(reset(after=200_000), validator='"same"'), etag('"same"'))
    line.limits = replace(line.limits, sleep=lambda _: place.write_bytes(CONTENT))

    assert line() == FILES
    assert ["range" in request.headers for request in line.mirror.gets(PATH)] == [False, True, False]


def test_p12_what_a_killed_process_left_is_unpacked_from_the_part(line: Line) -> None:
    line.mirror.script(PATH, reset(after=300_000), *[reset(after=0)] * 4)
    with pytest.raises(FetchError):
        line()
    kept = sum(path.stat().st_size for path in line.cache.rglob("*.part"))
    assert kept > 100_000
    subprocess.run(["rm", "-r", *line.scratch.iterdir()], check=True)  # as the store does with a claim's scratch

    assert line() == FILES
    assert line.mirror.gets(PATH)[-1].headers["range"] == f"bytes={kept}-"


@pytest.mark.parametrize("at", [0, len(CONTENT) // 2, len(CONTENT) - 1], ids=["first", "middle", "last"])
def test_p11_a_cached_archive_that_is_damaged_is_fetched_anew(line: Line, at: int, tmp_path: Path) -> None:
    line()
    damaged = bytearray(CONTENT)
    damaged[at] ^= 0xFF
    line.path.chmod(0o644)
    line.path.write_bytes(damaged)
    line.scratch = tmp_path / "again"
    line.scratch.mkdir()

    assert line() == FILES
    assert line.path.read_bytes() == CONTENT
    assert len(line.warnings) == 1
    assert len(line.mirror.gets(PATH)) == 2


def test_p11_a_damaged_part_does_no_harm(line: Line) -> None:
    line.mirror.script(PATH, reset(after=300_000), *[reset(after=0)] * 4)
    with pytest.raises(FetchError):
        line()
    [part] = line.cache.rglob("*.part")
    content = bytearray(part.read_bytes())
    content[50_000] ^= 0xFF
    part.write_bytes(content)
    subprocess.run(["rm", "-r", *line.scratch.iterdir()], check=True)

    assert line() == FILES


def test_p10_a_bomb_is_stopped_while_it_comes(line: Line) -> None:
    """Its digest is right; nothing more of it is written than what came may unpack to."""
    bomb = tar_of({"python/bin/python3.12": b"#!", "python/bomb": bytes(400 << 20)})
    build = replace(BUILD, sha256=hashlib.sha256(bomb).hexdigest(), size=None)
    half = stall(after=len(bomb) // 2)
    line.mirror.files[PATH] = bomb
    line.mirror.script(PATH, half)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            line(build)
        except UnsafeArchiveError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert half.reached.wait(60)
    wait_until((line.scratch / "python/bomb").exists)
    wait_until(lambda: not any(each.name == "unpack-stream" for each in threading.enumerate()))
    written = sum(path.stat().st_size for path in line.scratch.rglob("*") if path.is_file())
    assert written <= (64 << 20) + 100 * len(bomb) // 2 < 400 << 20
    half.release()
    thread.join(60)
    assert len(failed) == 1
    assert sum(path.stat().st_size for path in line.scratch.rglob("*") if path.is_file()) == written


def test_p16_a_full_disk_below_the_tree_keeps_the_archive_that_came(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The store's disk is full, the cache's is not: the download goes on, and the next run needs no network."""
    real = os.write
    scratch = {path.name for path in line.scratch.parent.iterdir()}
    assert "scratch" in scratch

    def full(descriptor: int, data: bytes) -> int:
        if "/scratch/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            line()
    assert line.cached == [NAME]
    line.scratch = tmp_path / "again"
    line.scratch.mkdir()
    assert line() == FILES
    assert len(line.mirror.gets(PATH)) == 1


def test_p16_a_full_disk_below_the_download_ends_both(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        line()
    assert line.cached == []


def test_p20_stop_ends_the_download_and_the_unpacking(line: Line) -> None:
    line.mirror.always(PATH, stall(after=300_000))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            line()
        except FetchError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(line.files) > 5)
    assert line.client is not None
    line.client.stop()
    thread.join(30)
    assert len(failed) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_p20_a_signal_ends_a_process_that_unpacks_what_comes(line: Line, tmp_path: Path, number: int) -> None:
    half = stall(after=300_000)
    line.mirror.script(PATH, half)
    program = f"""
import signal, sys
from pathlib import Path
from pytest_pyinstall.archive.streaming import StreamedUnpack
from pytest_pyinstall.download.client import open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.request.identity import Build, Key
build = Build(key=Key.parse("{KEY}"), url="{BUILD.url}", sha256="{BUILD.sha256}", size={BUILD.size})
def end(*_):
    raise KeyboardInterrupt
signal.signal({int(number)}, end)
try:
    into = Path({str(line.scratch)!r})
    with open_client(environ={{}}) as client, StreamedUnpack(build, into=into, known={{}}) as sink:
        fetch(build, url="{line.mirror.url}{PATH}", cache=Path({str(line.cache)!r}), client=client, sink=sink)
except KeyboardInterrupt:
    sys.exit(77)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: len(line.files) > 5)
    process.send_signal(number)
    assert process.wait(30) == 77
    assert line.links == []


def test_p6_without_locks_each_unpacks_what_it_fetched(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_descriptor", lambda _: False)
    line.limits = replace(line.limits, abandoned=0.1)

    assert line() == FILES
    assert line.cached == [NAME]


def test_a_mirror_directory_is_unpacked_while_it_is_copied(line: Line, tmp_path: Path) -> None:
    assert line(url=str(tmp_path / "mirror" / "20261122" / NAME)) == FILES
    assert line.mirror.requests == []
