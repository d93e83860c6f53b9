"""An archive on a server that misbehaves on purpose, and a client that fetches it."""

import hashlib
import os
import random
import subprocess
import sys
import traceback
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from mirror import (
    Mirror,
    reset,
)
from waiting import wait_until

from pytest_pyinstall.download._response import RetryPolicy
from pytest_pyinstall.download.cache import archive_path
from pytest_pyinstall.download.client import Client, open_client
from pytest_pyinstall.download.documents import fetch_text
from pytest_pyinstall.download.fetch import DownloadProgress, fetch
from pytest_pyinstall.errors import (
    FetchError,
)
from pytest_pyinstall.request.identity import Build, Key

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")


CONTENT = random.Random(4).randbytes(300_000)


NAME = "cpython-3.12.4+20261122-install_only.tar.gz"


PATH = f"/20261122/{quote(NAME)}"


def build_of(content: bytes, **changes: object) -> Build:
    build = Build(
        key=KEY,
        url=f"https://release.test{PATH}",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        tag="20261122",
    )
    return replace(build, **changes)  # type: ignore[arg-type]


BUILD = build_of(CONTENT)


class Fetcher:
    """`fetch` with all its arguments; it records pauses instead of waiting."""

    def __init__(self, mirror: Mirror, cache: Path) -> None:
        self.mirror = mirror
        self.cache = cache
        self.path = archive_path(cache, BUILD)
        self.pauses: list[float] = []
        self.warnings: list[str] = []
        self.environ: dict[str, str] = {}
        self.insecure_hosts: frozenset[str] = frozenset()
        self.limits = RetryPolicy(sleep=self.pauses.append, jitter=lambda: 1.0, read=5, abandoned=20)

    def limit(self, **changes: object) -> None:
        self.limits = replace(self.limits, **changes)  # type: ignore[arg-type]

    def client(self) -> AbstractContextManager[Client]:
        return open_client(
            environ=self.environ, insecure_hosts=self.insecure_hosts, limits=self.limits, warn=self.warnings.append
        )

    def __call__(
        self,
        build: Build = BUILD,
        *,
        url: str | None = None,
        offline: bool = False,
        progress: DownloadProgress | None = None,
    ) -> bytes:
        url = url or self.mirror.url + PATH
        with self.client() as client:
            archive = fetch(build, url=url, cache=self.cache, client=client, offline=offline, progress=progress)
            with archive.file as file:
                assert file.tell() == 0
                return file.read()

    def text(self, url: str | None = None, *, offline: bool = False) -> bytes:
        with self.client() as client:
            return fetch_text(url or self.mirror.url + "/c.json", client=client, cache=self.cache, offline=offline)

    @property
    def gets(self) -> int:
        return len(self.mirror.gets(PATH))

    @property
    def files(self) -> list[str]:
        """The names of the files in the cache, without locks."""
        paths = self.cache.rglob("*")
        return sorted(path.name for path in paths if not path.is_dir() and path.name != ".lock")


def everything_about(error: BaseException) -> str:
    return f"{error}{error!r}{error.args}{''.join(traceback.format_exception(error))}"


# Disk


def deny_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a read-only filesystem, because root may write anywhere else."""
    real = os.open

    def read_only(path: str, flags: int, *args: int, **options: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *args, **options)

    def refuse(path: object, *_args: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", read_only)
    for name in ("utime", "unlink", "mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, refuse)


# Several processes


def script_of(fetcher: Fetcher, url: str | None = None) -> str:
    return f"""
from pathlib import Path
from pytest_pyinstall.system.locks import lock_now
from pytest_pyinstall.request.identity import Build
from pytest_pyinstall.download.client import open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.request.identity import Key
build = Build(key=Key.parse({str(KEY)!r}), url={BUILD.url!r}, sha256={BUILD.sha256!r}, size={BUILD.size})
with open_client(environ={{}}) as client:
    archive = fetch(build, url={url or fetcher.mirror.url + PATH!r}, cache=Path({str(fetcher.cache)!r}), client=client)
    assert len(archive.file.read()) == build.size
    archive.file.close()
"""


class in_process:  # noqa: N801  # reads as a statement
    """`fetch` in a separate process, which has ended after the block."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.script = script_of(fetcher)

    def __enter__(self) -> "subprocess.Popen[bytes]":
        self.process = subprocess.Popen([sys.executable, "-c", self.script])
        return self.process

    def __exit__(self, *_: object) -> None:
        if sys.exc_info()[0] is not None:
            self.process.kill()
        self.process.wait(30)


def wait_for_part(fetcher: Fetcher, size: int) -> None:
    part = fetcher.path.with_name(NAME + ".part")
    wait_until(lambda: part.exists() and part.stat().st_size == size)


def break_at(fetcher: Fetcher, size: int) -> None:
    """Leave a partial download of `size` bytes, as after a connection that breaks off and cannot be repeated."""
    before = fetcher.limits
    fetcher.limit(attempts=1)
    fetcher.mirror.script(PATH, reset(after=size))
    with pytest.raises(FetchError):
        fetcher()
    fetcher.limits = before
    assert fetcher.files == [NAME + ".part", NAME + ".part.json"]


# Progress


class Steps:
    """A progress that records its calls."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def started(self, build: Build, total: int | None) -> None:
        assert build == BUILD
        self.heard.append(("started", total))

    def advanced(self, build: Build, count: int) -> None:
        assert build == BUILD
        self.heard.append(("advanced", count))

    def finished(self, build: Build) -> None:
        self.heard.append(("finished", build.file_name))

    @property
    def bytes(self) -> int:
        return sum(count for word, count in self.heard if word == "advanced" and isinstance(count, int))

    @property
    def words(self) -> set[str]:
        return {word for word, _ in self.heard}


class Waits(Steps):
    """A progress that also records the reasons for waits."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def started(self, build: Build, total: int | None) -> None:  # noqa: ARG002  # required by the protocol
        self.heard.append(("started", total))

    def waiting(self, _: Build, reason: str) -> None:
        self.reasons.append(reason)
