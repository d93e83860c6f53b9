"""P9, P11, P12, P16, P20: an archive is unpacked during its download, and is used only if its digest matches."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from mirror import Behaviour, Mirror, cut, etag, fin, flip, long, nolength, norange, reset, serve, short, stall, trail
from waiting import wait_until

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


class Pipeline:
    """Fetches an archive from a server and unpacks it into a scratch directory."""

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
        """The files of the unpacked tree."""
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
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    place = tmp_path / "mirror" / "20261122" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    with serve(tmp_path / "mirror") as mirror:
        yield Pipeline(mirror, tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unpack")]


def test_an_archive_of_the_network_or_the_cache_is_unpacked(pipeline: Pipeline, tmp_path: Path) -> None:
    assert pipeline() == FILES
    assert pipeline.cached == [NAME]

    pipeline.scratch = tmp_path / "again"
    pipeline.scratch.mkdir()
    assert pipeline() == FILES
    assert len(pipeline.mirror.gets(PATH)) == 1


def test_an_archive_is_unpacked_during_its_download(pipeline: Pipeline) -> None:
    half = stall(after=len(CONTENT) // 2)
    pipeline.mirror.script(PATH, half)
    came: list[dict[str, bytes]] = []
    thread = threading.Thread(target=lambda: came.append(pipeline()))
    thread.start()
    wait_until(lambda: len(pipeline.files) > 20)
    assert pipeline.links == []
    assert thread.is_alive()
    half.release()
    thread.join(60)
    assert came == [FILES]


@pytest.mark.parametrize("has_size", [True, False])
@pytest.mark.parametrize("at", [0, 5000, len(CONTENT) - 1], ids=["first byte", "in the middle", "last byte"])
def test_p9_a_wrong_digest_leaves_no_tree_and_nothing_in_the_cache(pipeline: Pipeline, at: int, has_size: bool) -> None:
    pipeline.mirror.always(PATH, flip(at=at))
    with pytest.raises(DigestMismatchError):
        pipeline(BUILD if has_size else replace(BUILD, size=None))
    assert pipeline.links == []
    assert pipeline.cached == []
    assert len(pipeline.mirror.gets(PATH)) == 2


def test_p9_another_valid_archive_is_rejected(pipeline: Pipeline) -> None:
    pipeline.mirror.files[PATH] = OTHER
    with pytest.raises(IntegrityError):
        pipeline(replace(BUILD, size=None))
    assert pipeline.links == []
    assert pipeline.cached == []


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
def test_p12_the_tree_is_correct_after_each_network_fault(pipeline: Pipeline, fault: str, has_size: bool) -> None:
    pipeline.mirror.script(PATH, *[replace(each) for each in FAULTS[fault]])
    assert pipeline(BUILD if has_size else replace(BUILD, size=None)) == FILES
    assert pipeline.cached == [NAME]


def test_p12_an_archive_that_changes_between_two_ranges_is_downloaded_again(pipeline: Pipeline, tmp_path: Path) -> None:
    """The validator is the same, but the digest is wrong, so everything is downloaded again."""
    place = tmp_path / "mirror" / "20261122" / NAME
    place.write_bytes(OTHER[: len(CONTENT)].ljust(len(CONTENT), b"\0"))
    pipeline.mirror.script(PATH, replace(reset(after=200_000), validator='"same"'), etag('"same"'))
    pipeline.limits = replace(pipeline.limits, sleep=lambda _: place.write_bytes(CONTENT))

    assert pipeline() == FILES
    assert ["range" in request.headers for request in pipeline.mirror.gets(PATH)] == [False, True, False]


def test_p12_a_partial_download_of_a_killed_process_is_resumed_and_unpacked(pipeline: Pipeline) -> None:
    pipeline.mirror.script(PATH, reset(after=300_000), *[reset(after=0)] * 4)
    with pytest.raises(FetchError):
        pipeline()
    kept = sum(path.stat().st_size for path in pipeline.cache.rglob("*.part"))
    assert kept > 100_000
    subprocess.run(["rm", "-r", *pipeline.scratch.iterdir()], check=True)  # as a claim does with its scratch directory

    assert pipeline() == FILES
    assert pipeline.mirror.gets(PATH)[-1].headers["range"] == f"bytes={kept}-"


@pytest.mark.parametrize("at", [0, len(CONTENT) // 2, len(CONTENT) - 1], ids=["first", "middle", "last"])
def test_p11_a_damaged_cached_archive_is_downloaded_again(pipeline: Pipeline, at: int, tmp_path: Path) -> None:
    pipeline()
    damaged = bytearray(CONTENT)
    damaged[at] ^= 0xFF
    pipeline.path.chmod(0o644)
    pipeline.path.write_bytes(damaged)
    pipeline.scratch = tmp_path / "again"
    pipeline.scratch.mkdir()

    assert pipeline() == FILES
    assert pipeline.path.read_bytes() == CONTENT
    assert len(pipeline.warnings) == 1
    assert len(pipeline.mirror.gets(PATH)) == 2


def test_p11_a_damaged_partial_download_is_not_used(pipeline: Pipeline) -> None:
    pipeline.mirror.script(PATH, reset(after=300_000), *[reset(after=0)] * 4)
    with pytest.raises(FetchError):
        pipeline()
    [part] = pipeline.cache.rglob("*.part")
    content = bytearray(part.read_bytes())
    content[50_000] ^= 0xFF
    part.write_bytes(content)
    subprocess.run(["rm", "-r", *pipeline.scratch.iterdir()], check=True)

    assert pipeline() == FILES


def test_p10_unpacking_a_bomb_stops_during_the_download(pipeline: Pipeline) -> None:
    """Its digest is right, but only what the downloaded bytes may unpack to is written."""
    bomb = tar_of({"python/bin/python3.12": b"#!", "python/bomb": bytes(400 << 20)})
    build = replace(BUILD, sha256=hashlib.sha256(bomb).hexdigest(), size=None)
    half = stall(after=len(bomb) // 2)
    pipeline.mirror.files[PATH] = bomb
    pipeline.mirror.script(PATH, half)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pipeline(build)
        except UnsafeArchiveError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert half.reached.wait(60)
    wait_until((pipeline.scratch / "python/bomb").exists)
    wait_until(lambda: not any(each.name == "unpack-stream" for each in threading.enumerate()))
    written = sum(path.stat().st_size for path in pipeline.scratch.rglob("*") if path.is_file())
    assert written <= (64 << 20) + 100 * len(bomb) // 2 < 400 << 20
    half.release()
    thread.join(60)
    assert len(failed) == 1
    assert sum(path.stat().st_size for path in pipeline.scratch.rglob("*") if path.is_file()) == written


def test_p16_a_full_disk_of_the_store_keeps_the_downloaded_archive(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The download continues, and the next run needs no network."""
    real = os.write
    scratch = {path.name for path in pipeline.scratch.parent.iterdir()}
    assert "scratch" in scratch

    def full(descriptor: int, data: bytes) -> int:
        if "/scratch/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            pipeline()
    assert pipeline.cached == [NAME]
    pipeline.scratch = tmp_path / "again"
    pipeline.scratch.mkdir()
    assert pipeline() == FILES
    assert len(pipeline.mirror.gets(PATH)) == 1


def test_p16_a_full_disk_of_the_cache_ends_download_and_unpacking(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        pipeline()
    assert pipeline.cached == []


def test_p20_stop_ends_the_download_and_the_unpacking(pipeline: Pipeline) -> None:
    pipeline.mirror.always(PATH, stall(after=300_000))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pipeline()
        except FetchError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(pipeline.files) > 5)
    assert pipeline.client is not None
    pipeline.client.stop()
    thread.join(100)
    assert len(failed) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_p20_a_signal_ends_a_process_that_downloads_and_unpacks(
    pipeline: Pipeline, tmp_path: Path, number: int
) -> None:
    half = stall(after=300_000)
    pipeline.mirror.script(PATH, half)
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
    into = Path({str(pipeline.scratch)!r})
    with open_client(environ={{}}) as client, StreamedUnpack(build, into=into, known={{}}) as sink:
        fetch(build, url="{pipeline.mirror.url}{PATH}", cache=Path({str(pipeline.cache)!r}), client=client, sink=sink)
except KeyboardInterrupt:
    sys.exit(77)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: len(pipeline.files) > 5)
    process.send_signal(number)
    assert process.wait(100) == 77
    assert pipeline.links == []


def test_p6_an_archive_is_downloaded_and_unpacked_without_locks(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "lock_descriptor", lambda _: False)
    pipeline.limits = replace(pipeline.limits, abandoned=0.1)

    assert pipeline() == FILES
    assert pipeline.cached == [NAME]


def test_an_archive_of_a_mirror_directory_is_unpacked(pipeline: Pipeline, tmp_path: Path) -> None:
    assert pipeline(url=str(tmp_path / "mirror" / "20261122" / NAME)) == FILES
    assert pipeline.mirror.requests == []
