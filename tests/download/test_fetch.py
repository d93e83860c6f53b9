"""Downloads, caches and mirrors, against a real server that misbehaves on purpose."""

import contextlib
import errno
import hashlib
import logging
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from mirror import (
    Behaviour,
    Mirror,
    cut,
    endless,
    etag,
    fin,
    flip,
    headers,
    html,
    long,
    noetag,
    nolength,
    norange,
    redirect,
    reset,
    serve,
    short,
    stall,
    status,
    trail,
    trickle,
)

from pytest_pyinstall.download._partial import _open_part
from pytest_pyinstall.download._response import RetryPolicy
from pytest_pyinstall.download.cache import archive_path, cached_archives, clear, prune
from pytest_pyinstall.download.client import Client, open_client
from pytest_pyinstall.download.documents import fetch_text
from pytest_pyinstall.download.fetch import DownloadProgress, fetch
from pytest_pyinstall.errors import (
    CatalogueError,
    DigestMismatchError,
    FetchError,
    IntegrityError,
    OfflineError,
    PyinstallError,
    SizeMismatchError,
    StoreError,
)
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.locks import lock_now
from pytest_pyinstall.system.urls import proxy_for, redacted

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
    """`fetch` with everything at hand, fast, and with the pauses written down instead of waited for."""

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
        """What is below the cache, but for the locks."""
        paths = self.cache.rglob("*")
        return sorted(path.name for path in paths if not path.is_dir() and path.name != ".lock")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    (tmp_path / "mirror" / "20261122").mkdir(parents=True)
    (tmp_path / "mirror" / "20261122" / NAME).write_bytes(CONTENT)
    with serve(tmp_path / "mirror") as mirror:
        yield mirror


@pytest.fixture
def fetcher(mirror: Mirror, tmp_path: Path) -> Fetcher:
    return Fetcher(mirror, tmp_path / "cache")


# ---- what it gives -------------------------------------------------------------------------------------------------


def test_the_archive_comes_and_is_cached(fetcher: Fetcher) -> None:
    assert fetcher() == CONTENT

    assert fetcher.path == fetcher.cache / "archives" / BUILD.sha256 / NAME
    assert fetcher.path.read_bytes() == CONTENT
    assert fetcher.files == [NAME]
    assert fetcher.gets == 1
    assert fetcher.mirror.requests[0].headers["accept-encoding"] == "identity"


def test_modes_are_ours_whatever_the_umask(fetcher: Fetcher) -> None:
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


def test_a_cached_archive_needs_no_server(fetcher: Fetcher) -> None:
    fetcher()

    assert fetcher() == CONTENT
    assert fetcher(offline=True) == CONTENT
    assert fetcher.gets == 1


def test_a_cached_archive_is_given_although_nothing_can_be_written(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher()
    deny_writing(monkeypatch)

    assert fetcher() == CONTENT


def test_the_descriptor_that_was_checked_is_the_one_that_is_given(fetcher: Fetcher) -> None:
    with fetcher.client() as client:
        archive = fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        fetcher.path.unlink()
        fetcher.path.write_bytes(b"swapped")

        with archive.file as file:
            assert file.read() == CONTENT


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "page", "symlink", "fifo"])
def test_p11_a_damaged_cache_entry_is_thrown_away_and_fetched_anew(fetcher: Fetcher, damage: str) -> None:
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


def test_p9_a_build_without_digest_is_refused(fetcher: Fetcher) -> None:
    for digest in ("", "abc", "../../x", BUILD.sha256.upper()):
        with pytest.raises(IntegrityError, match="no sha256"):
            fetcher(replace(BUILD, sha256=digest))
    assert fetcher.gets == 0


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", ".lock", "a%5cb", "a%00b", "a%0ab", "x" * 300, "", "C:evil", "x.part", "%2e%2e%2f%2e%2e%2fx"],
)
def test_a_hostile_file_name_stays_in_its_directory(fetcher: Fetcher, name: str) -> None:
    build = replace(BUILD, url=f"https://release.test/a/{name}")

    assert archive_path(fetcher.cache, build).parent == fetcher.cache / "archives" / BUILD.sha256
    assert fetcher(build) == CONTENT


# ---- wrong bytes ---------------------------------------------------------------------------------------------------


def test_p12_one_wrong_digest_is_fetched_anew(fetcher: Fetcher) -> None:
    fetcher.mirror.script(PATH, flip(at=70_000))

    assert fetcher() == CONTENT
    assert fetcher.gets == 2
    assert "range" not in fetcher.mirror.gets(PATH)[1].headers


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (flip(at=5), DigestMismatchError),
        (trail(b"tail"), SizeMismatchError),
        (short(by=10), SizeMismatchError),
        (html(), SizeMismatchError),
    ],
    ids=["flip", "trail", "short", "html"],
)
def test_p9_wrong_bytes_are_never_given(
    fetcher: Fetcher, behaviour: Behaviour, expected: type[Exception], size: int | None
) -> None:
    fetcher.mirror.always(PATH, behaviour)

    with pytest.raises(expected if size else DigestMismatchError) as caught:
        fetcher(replace(BUILD, size=size))

    assert fetcher.gets == 2
    assert fetcher.files == []
    assert fetcher.mirror.url in str(caught.value)
    assert "hint: " in str(caught.value)
    assert ("HTML page" in str(caught.value)) == (behaviour.code == 200)
    if caught.type is DigestMismatchError:
        assert BUILD.sha256 in str(caught.value)


def test_a_page_without_its_content_type_is_recognised(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(200, body=b"\n<!DOCTYPE HTML><p>Sign in"))

    with pytest.raises(DigestMismatchError, match="HTML page"):
        fetcher(replace(BUILD, size=None))


def test_a_page_without_a_length_is_recognised(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, replace(html(), has_length=False))

    with pytest.raises(SizeMismatchError, match="HTML page"):
        fetcher()


def test_p12_an_endless_body_ends_at_the_size_of_the_build(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, endless())

    with pytest.raises(SizeMismatchError):
        fetcher()

    assert fetcher.files == []
    assert fetcher.gets == 2


def test_p12_an_endless_body_ends_at_the_cap_where_no_size_is_known(fetcher: Fetcher) -> None:
    fetcher.limit(archive_size=1_000_000)
    fetcher.mirror.always(PATH, endless())

    with pytest.raises(SizeMismatchError):
        fetcher(replace(BUILD, size=None))


def test_a_body_that_is_announced_too_long_is_not_read(fetcher: Fetcher) -> None:
    fetcher.limit(archive_size=1000)

    with pytest.raises(SizeMismatchError, match="300000 bytes, expected at most 1000"):
        fetcher(replace(BUILD, size=None))


# ---- faults that pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_p12_these_statuses_are_tried_again(fetcher: Fetcher, code: int) -> None:
    fetcher.mirror.script(PATH, status(code), status(code))

    assert fetcher() == CONTENT
    assert fetcher.gets == 3
    assert fetcher.pauses == [0.5, 1.0]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 407, 410, 416, 451, 204])
def test_p12_these_statuses_are_not_tried_again(fetcher: Fetcher, code: int) -> None:
    fetcher.mirror.always(PATH, status(code))

    with pytest.raises(FetchError) as caught:
        fetcher()

    assert fetcher.gets == 1
    assert fetcher.pauses == []
    assert str(code) in str(caught.value)
    assert str(KEY) in str(caught.value)
    assert caught.value.hint
    assert fetcher.files == []


@pytest.mark.parametrize(
    "behaviour",
    [
        reset(after=None),
        reset(after=100_000),
        fin(after=100_000),
        cut(after=100_000),
        nolength(after=100_000),
        long(by=9),
    ],
    ids=["reset at once", "reset", "early end", "chunks cut", "early end without length", "longer than announced"],
)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_p12_a_broken_connection_is_tried_again(fetcher: Fetcher, behaviour: Behaviour, size: int | None) -> None:
    fetcher.mirror.script(PATH, behaviour)

    assert fetcher(replace(BUILD, size=size)) == CONTENT
    assert fetcher.gets == 2 - (behaviour.length_off_by > 0 and size is None)  # then it is complete all the same


def test_p12_a_stall_is_tried_again(fetcher: Fetcher) -> None:
    fetcher.limit(read=0.1)
    fetcher.mirror.script(PATH, stall(after=None), stall(after=100_000))

    assert fetcher() == CONTENT
    assert fetcher.gets == 3
    assert fetcher.mirror.bytes_served == len(CONTENT)


def test_p12_a_trickle_of_headers_ends(fetcher: Fetcher) -> None:
    fetcher.limit(headers=0.2)
    fetcher.mirror.script(PATH, trickle(step=1, pause=0.02, headers=True))

    assert fetcher() == CONTENT
    assert fetcher.gets == 2


def test_p12_a_trickle_of_the_body_ends(fetcher: Fetcher) -> None:
    fetcher.limit(slow_time=0.2, slow_bytes=10_000)
    fetcher.mirror.script(PATH, trickle(step=10, pause=0.02))

    assert fetcher() == CONTENT
    assert fetcher.gets == 2


def test_a_body_that_is_slow_but_not_too_slow_arrives(fetcher: Fetcher) -> None:
    fetcher.limit(slow_time=0.05, slow_bytes=10)
    fetcher.mirror.script(PATH, trickle(step=10_000, pause=0.01))

    assert fetcher() == CONTENT
    assert fetcher.gets == 1


def test_p12_it_gives_up_after_so_many_attempts(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(503))

    with pytest.raises(FetchError, match=r"503.*\(5 attempts\)"):
        fetcher()

    assert fetcher.gets == 5
    assert fetcher.pauses == [0.5, 1.0, 2.0, 4.0]


def test_p12_it_gives_up_when_the_time_is_over(fetcher: Fetcher) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    fetcher.limit(total=100, attempts=10**6, clock=lambda: now[0], sleep=sleep)
    fetcher.mirror.always(PATH, status(503, {"Retry-After": "30"}))

    with pytest.raises(FetchError, match="gave up after 100 s"):
        fetcher()

    assert fetcher.gets == 4


def test_p12_it_gives_up_in_the_middle_of_a_body_when_the_time_is_over(fetcher: Fetcher) -> None:
    fetcher.limit(total=0.3)
    fetcher.mirror.always(PATH, trickle(step=1000, pause=0.02))

    with pytest.raises(FetchError, match=r"not complete in time.*gave up after 0\.3 s"):
        fetcher()


def test_a_host_that_nobody_knows_is_given_up_soon(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="2 attempts"):
        fetcher(url="https://nowhere.invalid/a.tar.gz")

    assert len(fetcher.pauses) == 1


def test_p12_a_host_that_does_not_answer_is_left(fetcher: Fetcher) -> None:
    fetcher.limit(connect=0.05, attempts=2)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full then
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())

        with pytest.raises(FetchError, match=r"no connection within 0\.05 s"):
            fetcher(url=f"http://127.0.0.1:{listener.getsockname()[1]}/x")


def test_a_server_that_speaks_no_tls(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="no connection: TLS: "):
        fetcher(url=fetcher.mirror.url.replace("http:", "https:") + PATH)


def test_attempts_that_get_further_do_not_count(fetcher: Fetcher) -> None:
    fetcher.limit(attempts=2, worth=1000)
    fetcher.mirror.script(PATH, *[reset(after=50_000)] * 4)

    assert fetcher() == CONTENT
    assert fetcher.gets == 5


def test_nobody_listens(fetcher: Fetcher) -> None:
    with serve(fetcher.cache.parent) as gone:
        url = gone.url

    with pytest.raises(FetchError, match="no connection: Connection refused"):
        fetcher(url=url + PATH)

    assert len(fetcher.pauses) == 4
    assert fetcher.files == []


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7),
        ("0", 0.5),
        ("100000", 60),
        ("soon", 0.5),
        ("-5", 0.5),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 60),
    ],
)
def test_p12_retry_after_is_honoured_and_capped(fetcher: Fetcher, value: str, pause: float) -> None:
    fetcher.mirror.script(PATH, status(429, {"Retry-After": value}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [pause]


def test_a_date_in_retry_after_is_told_by_our_clock_where_the_server_has_none(fetcher: Fetcher) -> None:
    fetcher.limit(wall_clock=lambda: 1_000_000_000.0)
    then = formatdate(1_000_000_030, usegmt=True)
    fetcher.mirror.script(PATH, status(503, {"Retry-After": then, "Date": ""}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [30]


def test_a_date_in_retry_after_is_told_by_the_clock_of_the_server(fetcher: Fetcher) -> None:
    now = time.time() - 86400
    date, then = formatdate(now, usegmt=True), formatdate(now + 20, usegmt=True)
    fetcher.mirror.script(PATH, status(503, {"Retry-After": then, "Date": date}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [20]


# ---- resuming ------------------------------------------------------------------------------------------------------


def test_p12_a_download_is_resumed_where_it_broke(fetcher: Fetcher) -> None:
    fetcher.mirror.script(PATH, reset(after=100_000), fin(after=100_000))

    assert fetcher() == CONTENT

    assert fetcher.mirror.bytes_served == len(CONTENT)
    first, second, third = fetcher.mirror.gets(PATH)
    assert "range" not in first.headers
    assert (second.headers["range"], third.headers["range"]) == ("bytes=100000-", "bytes=200000-")
    assert second.headers["if-range"].startswith('"')


def test_p12_a_download_of_a_killed_process_is_resumed(fetcher: Fetcher) -> None:
    stalled = stall(after=200_000)
    fetcher.mirror.script(PATH, stalled)
    with in_process(fetcher) as process:
        wait_for_part(fetcher, 200_000)
        process.send_signal(signal.SIGKILL)

    assert fetcher() == CONTENT
    assert fetcher.mirror.bytes_served == len(CONTENT)
    assert fetcher.files == [NAME]


def test_a_download_that_was_killed_before_its_rename_is_used(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(CONTENT)

    assert fetcher() == CONTENT
    assert fetcher.gets == 1


@pytest.mark.parametrize("behaviour", [norange(), etag('"another"')], ids=["no ranges", "another ETag"])
def test_what_cannot_be_resumed_starts_over(fetcher: Fetcher, behaviour: Behaviour) -> None:
    fetcher.mirror.script(PATH, reset(after=100_000), behaviour)

    assert fetcher() == CONTENT
    assert fetcher.mirror.bytes_served == 100_000 + len(CONTENT)


@pytest.mark.parametrize("behaviour", [noetag(), etag('W/"weak"')], ids=["none", "weak"])
def test_without_a_strong_validator_no_range_is_asked_for(fetcher: Fetcher, behaviour: Behaviour) -> None:
    fetcher.mirror.script(PATH, replace(behaviour, stop="fin", after=100_000))

    assert fetcher() == CONTENT
    assert "range" not in fetcher.mirror.gets(PATH)[1].headers


def test_without_an_etag_the_date_is_the_validator(fetcher: Fetcher) -> None:
    modified = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    fetcher.mirror.script(PATH, replace(noetag(), stop="fin", after=100_000, headers=modified))

    assert fetcher() == CONTENT
    assert fetcher.mirror.gets(PATH)[1].headers["if-range"] == modified["Last-Modified"]


def test_a_range_that_is_not_there_any_more_starts_over(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(bytes(len(CONTENT) + 5))

    assert fetcher(replace(BUILD, size=None)) == CONTENT
    assert [one.headers.get("range") for one in fetcher.mirror.gets(PATH)] == [None, "bytes=300005-", None]
    assert fetcher.pauses == []


def test_another_range_than_asked_for_starts_over(fetcher: Fetcher) -> None:
    fetcher.mirror.script(
        PATH, reset(after=100_000), status(206, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}, b"x" * 10)
    )

    assert fetcher() == CONTENT
    assert fetcher.gets == 3


def test_p11_a_partial_download_that_was_damaged_does_no_harm(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(bytes(100_000))

    assert fetcher() == CONTENT
    assert fetcher.files == [NAME]


def test_a_partial_download_without_its_note_is_not_trusted(fetcher: Fetcher) -> None:
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
def test_a_planted_partial_download_is_not_written_through(fetcher: Fetcher, kind: str) -> None:
    victim = fetcher.cache.parent / "victim"
    victim.write_text("precious")
    fetcher.path.parent.mkdir(parents=True)
    part = fetcher.path.with_name(NAME + ".part")
    part.symlink_to(victim) if kind == "symlink" else part.hardlink_to(victim)

    assert fetcher() == CONTENT
    assert victim.read_text() == "precious"


# ---- where it goes -------------------------------------------------------------------------------------------------


def test_a_redirect_to_another_origin_is_followed_without_credentials(fetcher: Fetcher, tmp_path: Path) -> None:
    """P13."""
    with serve(tmp_path / "mirror") as other:
        fetcher.mirror.script("/a", redirect("/b"))
        fetcher.mirror.script("/b", redirect(other.url + "/c"))
        other.script("/c", redirect(fetcher.mirror.url + PATH))
        url = fetcher.mirror.url.replace("http://", "http://user:hunter2@")

        assert fetcher(url=url + "/a") == CONTENT

        assert [("authorization" in one.headers) for one in fetcher.mirror.requests] == [True, True, False]
        assert "authorization" not in other.requests[0].headers
        assert fetcher.mirror.requests[0].headers["authorization"] == "Basic dXNlcjpodW50ZXIy"


def test_credentials_in_a_redirect_are_not_used(fetcher: Fetcher) -> None:
    fetcher.mirror.script("/a", redirect(fetcher.mirror.url.replace("http://", "http://user:hunter2@") + PATH))

    assert fetcher(url=fetcher.mirror.url + "/a") == CONTENT
    assert "authorization" not in fetcher.mirror.requests[1].headers


def test_redirects_end(fetcher: Fetcher) -> None:
    fetcher.mirror.always("/a", redirect("/b"))
    fetcher.mirror.always("/b", redirect("/a"))

    with pytest.raises(FetchError, match="more than 5 redirects"):
        fetcher(url=fetcher.mirror.url + "/a")

    assert len(fetcher.mirror.requests) == 6


def test_five_redirects_are_followed(fetcher: Fetcher) -> None:
    for number in range(5):
        fetcher.mirror.script(f"/{number}", redirect(f"/{number + 1}" if number < 4 else PATH))

    assert fetcher(url=fetcher.mirror.url + "/0") == CONTENT


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://other.test/x", "http://[broken/", "data:,x"],
)
def test_p13_a_redirect_leads_nowhere_else(fetcher: Fetcher, target: str) -> None:
    fetcher.mirror.always("/a", redirect(target))

    with pytest.raises(FetchError, match=r"redirects to") as caught:
        fetcher(url=fetcher.mirror.url + "/a")

    assert len(fetcher.mirror.requests) == 1
    assert caught.value.hint


def test_http_to_other_hosts_is_refused_with_the_way_to_allow_it(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="unencrypted http is refused") as caught:
        fetcher(url="http://mirror.test/x")

    assert "PYTEST_PYINSTALL_INSECURE_HOST=mirror.test" in caught.value.hint


@pytest.mark.parametrize("url", ["ftp://host/x", "https:///x", "https://host:99999999/x", "https://[x/"])
def test_what_is_no_https_url_is_refused(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchError, match="no place to download from"):
        fetcher(url=url)


@pytest.mark.parametrize("url", ["https://host/\x7f"])
def test_what_the_library_cannot_ask_is_refused_at_once(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchError, match="cannot ask"):
        fetcher(url=url)
    assert fetcher.pauses == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_https_with_named_certificates(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    fetcher.environ["SSL_CERT_FILE"] = certificates
    with serve(tmp_path / "mirror", ca=authority) as secure:
        secure.script(PATH, reset(after=100_000), stall(after=10))
        fetcher.limit(read=0.3)
        assert fetcher(url=secure.url + PATH) == CONTENT
        assert secure.bytes_served == len(CONTENT)


def test_an_unknown_certificate_is_refused_at_once(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates)  # the process's own environment does not count
    with serve(tmp_path / "mirror", ca=authority) as secure:
        with pytest.raises(FetchError, match=r"certificate of .* is not trusted") as caught:
            fetcher(url=secure.url + PATH)
        assert secure.requests == []

    assert "SSL_CERT_FILE" in caught.value.hint
    assert fetcher.pauses == []


def test_certificates_that_cannot_be_loaded(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.environ["SSL_CERT_FILE"] = str(tmp_path / "missing.pem")

    with pytest.raises(FetchError, match=r"missing\.pem"):
        fetcher(url=BUILD.url)


def test_p13_https_never_becomes_http(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    fetcher.environ["SSL_CERT_FILE"] = certificates
    with serve(tmp_path / "mirror", ca=authority) as secure:
        secure.always("/a", redirect(fetcher.mirror.url + PATH))

        with pytest.raises(FetchError, match="unencrypted http is refused"):
            fetcher(url=secure.url + "/a")
        assert fetcher.mirror.requests == []

        fetcher.insecure_hosts = frozenset({"127.0.0.1"})
        assert fetcher(url=secure.url + "/a") == CONTENT


def test_a_host_that_is_named_insecure_is_asked_through_the_proxy_and_said_aloud(fetcher: Fetcher) -> None:
    fetcher.insecure_hosts = frozenset({"Mirror.test"})
    fetcher.environ["http_proxy"] = fetcher.mirror.url.replace("http://", "http://me:hunter2@")
    fetcher.mirror.script(PATH, status(503))

    assert fetcher(url=f"http://mirror.test{PATH}") == CONTENT

    assert fetcher.mirror.requests[0].headers["host"] == "mirror.test"
    assert fetcher.mirror.requests[0].headers["proxy-authorization"] == "Basic bWU6aHVudGVyMg=="
    assert fetcher.warnings == ["mirror.test is asked over unencrypted http (PYTEST_PYINSTALL_INSECURE_HOST)"]


def test_loopback_is_not_asked_through_a_proxy(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.environ["ALL_PROXY"] = "http://127.0.0.1:9"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert fetcher() == CONTENT


def test_the_proxies_of_the_process_do_not_count(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", fetcher.mirror.url)
    fetcher.limit(attempts=1)

    with pytest.raises(FetchError):
        fetcher(url="https://mirror.invalid/x")

    assert fetcher.mirror.requests == []


@pytest.mark.parametrize(
    ("code", "gets", "words"), [(407, 1, "wants a user"), (403, 1, "refuses it"), (503, 5, r"fails \(503\)")]
)
def test_a_proxy_that_does_not_want(fetcher: Fetcher, code: int, gets: int, words: str) -> None:
    fetcher.environ["HTTPS_PROXY"] = fetcher.mirror.url.replace("http://", "me:hunter2@")
    fetcher.mirror.always("release.test:443", status(code))

    with pytest.raises(FetchError, match=words) as caught:
        fetcher(url=BUILD.url)

    assert len(fetcher.mirror.requests) == gets
    assert "hunter2" not in everything_about(caught.value)


@pytest.mark.parametrize("proxy", ["gopher://x", "http://x:y:z"])
def test_a_proxy_that_cannot_be_used(fetcher: Fetcher, proxy: str) -> None:
    fetcher.environ["HTTPS_PROXY"] = proxy
    with pytest.raises(FetchError, match="this proxy cannot be used"):
        fetcher(url=BUILD.url)


def test_a_proxy_that_is_no_url(fetcher: Fetcher) -> None:
    fetcher.environ["HTTPS_PROXY"] = "http://["
    fetcher.limit(attempts=1)

    with pytest.raises(FetchError):
        fetcher(url=BUILD.url)


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.test/", {}, None),
        ("https://a.test/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.test/", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://a.test/", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://q:1"),
        ("https://a.test/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.test/", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.test/", {"HTTPS_PROXY": "", "ALL_PROXY": ""}, None),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ("https://127.8.8.8/", {"ALL_PROXY": "http://p:1"}, None),
        ("https://[::1]/", {"ALL_PROXY": "http://p:1"}, None),
        ("https://[::ffff:127.0.0.1]/", {"ALL_PROXY": "http://p:1"}, None),
        ("https://x.localhost/", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_which_proxy(url: str, environ: dict[str, str], proxy: str | None) -> None:
    from urllib.parse import urlsplit

    assert proxy_for(urlsplit(url), environ) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "bypassed"),
    [
        ("", False),
        ("*", True),
        ("a.test", True),
        (".a.test", True),
        ("*.a.test", True),
        ("b.test, a.test", True),
        ("x.a.test", False),
        ("test", True),
        ("est", False),
        ("a.test:443", True),
        ("a.test:8443", False),
        ("10.0.0.0/8", False),
    ],
)
def test_who_is_asked_without_the_proxy(no_proxy: str, bypassed: bool) -> None:
    from urllib.parse import urlsplit

    environ = {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy}
    assert (proxy_for(urlsplit("https://w.a.test/"), environ) is None) == bypassed
    networks = {"ALL_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8,[fd00::1]"}
    assert proxy_for(urlsplit("https://10.1.2.3/"), networks) is None
    assert proxy_for(urlsplit("https://11.1.2.3/"), networks) is not None
    assert proxy_for(urlsplit("https://[fd00::1]/"), networks) is None


# ---- secrets -------------------------------------------------------------------------------------------------------

SECRETS = ("hunter2", "hunt%65r2", "t0psecret", "cGVlcDpodW50ZXIy", "ghp_token")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://u:p@h:1/p", "https://u:***@h:1/p"),
        ("https://token@h/p", "https://***@h/p"),
        ("https://h/p?X-Sig=abc&e=1", "https://h/p?***"),
        ("https://h?x#y", "https://h?***"),
        ("https://h/p#frag", "https://h/p"),
        ("https://u:a@b@h/p", "https://u:***@h/p"),
        ("https://u:pa/ss@h/p", "https://***"),
        ("https://u:pa?ss@h/p", "https://***"),
        ("https://[::1]:80/p", "https://[::1]:80/p"),
        ("HTTPS://U:P@H/", "HTTPS://U:***@H/"),
        ("/a/path?x", "/a/path?x"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_p13_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


def everything_about(error: BaseException) -> str:
    return f"{error}{error!r}{error.args}{''.join(traceback.format_exception(error))}"


@pytest.mark.parametrize(
    "behaviour",
    [
        None,
        status(404),
        status(503),
        html(),
        flip(at=3),
        reset(after=None),
        reset(after=10),
        redirect("https://peep:hunter2@[/?t0psecret"),
        redirect("file:///x?t0psecret"),
        redirect("http://signed.test/x?sig=t0psecret"),
        redirect("/elsewhere?sig=t0psecret"),
        redirect("http://127.0.0.1:9/x?sig=t0psecret"),
        headers({"Bad\x01Header": "t0psecret"}),
    ],
    ids=[
        "no fault",
        "404",
        "503",
        "page",
        "flip",
        "reset at once",
        "reset",
        "redirect to no url",
        "redirect to a file",
        "redirect to http",
        "redirect to itself",
        "redirect to nobody",
        "bad header",
    ],
)
def test_p13_no_secret_in_any_message_or_log_or_file(
    fetcher: Fetcher,
    behaviour: Behaviour | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    isolated_home: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    for variable in ("GITHUB_TOKEN", "GH_TOKEN", "UV_PUBLISH_TOKEN"):
        monkeypatch.setenv(variable, "ghp_token")
        fetcher.environ[variable] = "ghp_token"
    (isolated_home / ".netrc").write_text("machine 127.0.0.1 login peep password ghp_token\n")
    waits = Waits()
    if behaviour:
        fetcher.mirror.always("*", behaviour)
    url = fetcher.mirror.url.replace("http://", "http://peep:hunt%65r2@") + PATH + "?sig=t0psecret#t0psecret"

    told = ""
    if behaviour is None:
        fetcher(url=url, progress=waits)
    else:
        with pytest.raises(PyinstallError) as caught:
            fetcher(url=url, progress=waits)
        told = everything_about(caught.value)

    files = "".join(str(path) + path.read_text("latin-1") for path in fetcher.cache.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in told
        assert secret not in caplog.text
        assert secret not in files
        assert secret not in "".join([*fetcher.warnings, *waits.reasons])
    for request in fetcher.mirror.requests:
        assert "ghp_token" not in str(request)
    assert fetcher.mirror.requests[0].headers["authorization"] == "Basic cGVlcDpodW50ZXIy"


def test_the_log_of_others_who_use_the_library_is_theirs(fetcher: Fetcher, caplog: pytest.LogCaptureFixture) -> None:
    import httpx2

    caplog.set_level(logging.DEBUG)
    fetcher()
    assert [record for record in caplog.records if not record.name.startswith("pytest_pyinstall")] == []

    with httpx2.Client(trust_env=False) as client:
        client.get(fetcher.mirror.url + PATH)
    assert caplog.records


def test_no_cookie_is_sent_back(fetcher: Fetcher) -> None:
    fetcher.mirror.script(PATH, status(503, {"Set-Cookie": "a=b; Path=/"}))

    fetcher()
    assert "cookie" not in fetcher.mirror.requests[1].headers


# ---- mirror directories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        *((form, "decoded") for form in ("path", "quoted path", "url", "quoted url", "localhost url")),
        *((form, "encoded") for form in ("quoted path", "quoted url", "localhost url")),
    ],
)
def test_a_mirror_may_be_a_directory(fetcher: Fetcher, tmp_path: Path, form: str, stored: str) -> None:
    directory = tmp_path / "a mirror ü"
    directory.mkdir()
    (directory / (NAME if stored == "decoded" else quote(NAME))).write_bytes(CONTENT)
    url = {
        "path": str(directory / NAME),
        "quoted path": str(directory / quote(NAME)),
        "url": f"file://{quote(str(directory))}/{NAME}",
        "quoted url": f"file://{quote(str(directory))}/{quote(NAME)}",
        "localhost url": f"file://localhost{quote(str(directory))}/{quote(NAME)}",
    }[form]
    assert fetcher(url=url, offline=True) == CONTENT
    assert fetcher.files == [NAME]


def test_what_a_server_began_a_directory_does_not_continue(fetcher: Fetcher, tmp_path: Path) -> None:
    break_at(fetcher, 100_000)
    (tmp_path / NAME).write_bytes(CONTENT)

    assert fetcher(url=str(tmp_path / NAME)) == CONTENT


def test_an_archive_of_a_mirror_directory_survives_the_directory(fetcher: Fetcher, tmp_path: Path) -> None:
    source = tmp_path / NAME
    source.write_bytes(CONTENT)
    fetcher(url=str(source))
    source.unlink()

    assert fetcher(url=str(source)) == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"?", CONTENT[:-1] + b"?"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_p9_a_mirror_directory_with_another_file(
    fetcher: Fetcher, tmp_path: Path, content: bytes, size: int | None
) -> None:
    (tmp_path / NAME).write_bytes(content)

    with pytest.raises(IntegrityError):
        fetcher(replace(BUILD, size=size), url=str(tmp_path / NAME))
    assert fetcher.files == []


@pytest.mark.parametrize("url", ["/no/such/file.tar.gz", "file:///no/such/file.tar.gz", "file:/no/such/file.tar.gz"])
def test_a_file_that_is_missing_is_named(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchError, match=r"cannot read /no/such/file\.tar\.gz: no such file") as caught:
        fetcher(url=url)
    assert "mirror pull" in caught.value.hint


def test_a_directory_or_another_host_is_no_file(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a file"):
        fetcher(url=str(tmp_path))
    with pytest.raises(FetchError, match="another host"):
        fetcher(url="file://server/share/x")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_file_that_cannot_be_read_or_has_no_end(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match=r"cannot read /proc/self/mem: Input/output error"):
        fetcher(replace(BUILD, size=None), url="/proc/self/mem")
    with pytest.raises(FetchError, match=r"cannot read /proc/self/mem: Input/output error"):
        fetcher.text("/proc/self/mem")
    fetcher.limit(archive_size=10)
    with pytest.raises(SizeMismatchError, match="more than 10 bytes"):
        fetcher(replace(BUILD, size=None), url="/proc/version")


def test_local_files_and_the_cache_do_not_load_the_http_library(fetcher: Fetcher, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    script = script_of(fetcher, str(tmp_path / NAME)) + "import sys; assert 'httpcore2' not in sys.modules"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True)


def test_offline_names_what_is_missing_and_the_way_out(fetcher: Fetcher) -> None:
    with pytest.raises(OfflineError) as caught:
        fetcher(offline=True)

    assert str(KEY) in caught.value.message
    assert str(fetcher.path) in caught.value.hint
    assert fetcher.gets == 0
    assert not fetcher.cache.exists()


# ---- the disk ------------------------------------------------------------------------------------------------------


def deny_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only filesystem: root, who runs many containers, may write everywhere else."""
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


@pytest.mark.parametrize("state", ["absent", "empty", "damaged"])
def test_p16_a_cache_that_cannot_be_written(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    if state != "absent":
        fetcher.path.parent.mkdir(parents=True)
    if state == "damaged":
        fetcher.path.write_bytes(b"x")
    deny_writing(monkeypatch)

    with pytest.raises(StoreError, match="Read-only file system") as caught:
        fetcher()

    assert str(fetcher.cache) in caught.value.message
    assert "--python-cache" in caught.value.hint
    assert "PYTEST_PYINSTALL_CACHE" in caught.value.hint
    assert fetcher.gets == 0


def test_p16_a_file_in_the_place_of_the_cache(fetcher: Fetcher) -> None:
    fetcher.cache.mkdir(parents=True)
    fetcher.cache = fetcher.cache / "file"
    fetcher.cache.write_text("")
    with pytest.raises(StoreError, match=r"cache/file.*: (Not a directory|File exists)"):
        fetcher()


@pytest.mark.parametrize("local", [True, False])
def test_p16_a_full_disk_leaves_nothing_and_the_next_run_works(fetcher: Fetcher, tmp_path: Path, local: bool) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    script = limit + script_of(fetcher, str(tmp_path / NAME) if local else None)

    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)

    assert f"StoreError: cannot use the cache: {fetcher.path}.part: File too large" in ended.stderr
    assert fetcher.files == []
    assert fetcher() == CONTENT


def test_p16_too_many_open_files(fetcher: Fetcher) -> None:
    limit = "import resource, httpcore2, filelock, ssl, encodings.idna\n"
    script = limit + script_of(fetcher).replace(
        "fetch(build", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); fetch(build"
    )

    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)

    assert "StoreError: cannot use the cache" in ended.stderr
    assert "Too many open files" in ended.stderr
    assert fetcher.files == []


def test_p16_a_failing_disk_is_no_wrong_archive(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert fetcher() == CONTENT
    assert "Input/output error" in fetcher.warnings[0]


def test_p16_no_file_can_be_opened_any_more(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher()

    def fail(path: str, *_: object, **__: object) -> int:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError, match="Too many open files"):
        fetcher()
    assert fetcher.path.exists()


def test_a_download_that_somebody_else_truncates_is_not_published(fetcher: Fetcher) -> None:
    stalled = stall(after=200_000)
    fetcher.mirror.script(PATH, stalled)
    part = fetcher.path.with_name(NAME + ".part")
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetcher)
        wait_for_part(fetcher, 200_000)
        with part.open("ab") as file:
            file.write(bytes(200_000))
        stalled.release()
        with pytest.raises(StoreError, match="another process writes it"):
            result.result()
    assert fetcher.files == []
    assert fetcher() == CONTENT


@pytest.mark.parametrize("is_swapped", [False, True])
def test_where_open_files_cannot_be_renamed(
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


def test_a_partial_download_makes_its_directory(tmp_path: Path) -> None:
    os.close(_open_part(tmp_path / "a" / "b.part"))
    (tmp_path / "c.part").hardlink_to(tmp_path / "a" / "b.part")
    os.close(_open_part(tmp_path / "c.part"))
    assert (tmp_path / "a" / "b.part").stat().st_nlink == 1


def test_a_partial_download_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.part").write_text("")
    (tmp_path / "b.part").hardlink_to(tmp_path / "a.part")
    monkeypatch.setattr(Path, "unlink", lambda *_: None)
    with pytest.raises(StoreError, match="another process keeps changing it"):
        _open_part(tmp_path / "b.part")


# ---- several at once -----------------------------------------------------------------------------------------------


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
    """`fetch` in a process of its own, which is gone when the block ends."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.script = script_of(fetcher)

    def __enter__(self) -> "subprocess.Popen[bytes]":
        self.process = subprocess.Popen([sys.executable, "-c", self.script])
        return self.process

    def __exit__(self, *_: object) -> None:
        if sys.exc_info()[0] is not None:
            self.process.kill()
        self.process.wait(30)


def wait_until(is_so: Callable[[], bool]) -> None:
    patience = threading.Event()
    for _ in range(3000):
        if is_so():
            return
        patience.wait(0.01)
    pytest.fail("it never came to that")


def wait_for_part(fetcher: Fetcher, size: int) -> None:
    part = fetcher.path.with_name(NAME + ".part")
    wait_until(lambda: part.exists() and part.stat().st_size == size)


def break_at(fetcher: Fetcher, size: int) -> None:
    """Leave a partial download of `size` bytes, as a server that broke off and stayed away does."""
    before = fetcher.limits
    fetcher.limit(attempts=1)
    fetcher.mirror.script(PATH, reset(after=size))
    with pytest.raises(FetchError):
        fetcher()
    fetcher.limits = before
    assert fetcher.files == [NAME + ".part", NAME + ".part.json"]


def test_p4_threads_that_want_one_archive_make_one_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(fetcher) for _ in range(8)]
        assert stalled.reached.wait(30)
        stalled.release()

        assert all(result.result() == CONTENT for result in results)
    assert fetcher.gets == 1


def test_p4_processes_that_want_one_archive_make_one_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with in_process(fetcher) as one, in_process(fetcher) as two, in_process(fetcher) as three:
        assert stalled.reached.wait(30)
        stalled.release()

    assert [one.returncode, two.returncode, three.returncode] == [0, 0, 0]
    assert fetcher.gets == 1


def test_one_client_serves_several_threads_and_builds(fetcher: Fetcher, tmp_path: Path) -> None:
    contents = [random.Random(number).randbytes(50_000) for number in range(6)]
    for number, content in enumerate(contents):
        fetcher.mirror.files[f"/{number}"] = content
    with fetcher.client() as client, ThreadPoolExecutor(6) as pool:

        def one(number: int) -> bytes:
            url = f"{fetcher.mirror.url}/{number}"
            with fetch(build_of(contents[number]), url=url, cache=fetcher.cache, client=client).file as file:
                return file.read()

        assert list(pool.map(one, range(6))) == contents


def test_p5_a_holder_that_stands_still_keeps_nobody(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    waits = Waits()
    with in_process(fetcher) as holder:
        assert stalled.reached.wait(30)
        holder.send_signal(signal.SIGSTOP)
        fetcher.limit(abandoned=0.1)

        assert fetcher(progress=waits) == CONTENT

        holder.send_signal(signal.SIGCONT)
        stalled.release()
    assert holder.returncode == 0
    assert fetcher.files == [NAME]
    assert waits.reasons == ["another process is downloading it"]


@pytest.mark.parametrize("obstacle", ["no locks here", "no locks for downloads", "the lock file cannot be opened"])
def test_p6_it_is_correct_without_locks(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
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
def test_p6_a_lock_file_that_is_deleted_under_its_holder(fetcher: Fetcher, part_too: bool) -> None:
    stalled = stall(after=100_000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetcher)
        assert stalled.reached.wait(30)
        (fetcher.path.parent / ".lock").unlink()
        if part_too:
            fetcher.path.with_name(NAME + ".part").unlink()

        assert fetcher() == CONTENT
        stalled.release()
        assert first.result() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT


def test_p6_two_who_both_think_they_hold_the_lock_do_not_fill_one_file(fetcher: Fetcher) -> None:
    stalled, again = replace(stall(after=100_000), flip_at=200_000), stall(after=10)
    fetcher.mirror.script(PATH, stalled, norange(), again)
    with fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetcher)
        wait_for_part(fetcher, 100_000)
        (fetcher.path.parent / ".lock").unlink()
        second = fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        stalled.release()
        assert again.reached.wait(30)

        with second.file as file:
            assert file.read() == CONTENT
        again.release()
        assert first.result() == CONTENT


def test_p6_who_lost_the_name_does_not_publish_what_has_it_now(fetcher: Fetcher) -> None:
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


def test_p20_stop_ends_what_is_under_way(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    fetcher.limit(read=60, sleep=None)
    with fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetch, BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        wait_for_part(fetcher, 1000)
        client.stop()

        with pytest.raises(FetchError, match="stopped"):
            result.result(timeout=20)


def test_p20_stop_ends_a_pause(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(503, {"Retry-After": "50"}))
    fetcher.limit(sleep=None)
    waits = Waits()
    with fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        url = fetcher.mirror.url + PATH
        result = pool.submit(fetch, BUILD, url=url, cache=fetcher.cache, client=client, progress=waits)
        wait_until(lambda: bool(waits.reasons))
        client.stop()

        with pytest.raises(FetchError, match="stopped"):
            result.result(timeout=20)


def test_p20_stop_ends_a_wait_for_another_process(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    waits = Waits()
    with in_process(fetcher), fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        assert stalled.reached.wait(30)
        url = fetcher.mirror.url + PATH
        result = pool.submit(fetch, BUILD, url=url, cache=fetcher.cache, client=client, progress=waits)
        wait_until(lambda: bool(waits.reasons))
        client.stop()

        with pytest.raises(FetchError, match="stopped"):
            result.result(timeout=20)
        stalled.release()


def test_warming_up_does_no_harm(fetcher: Fetcher) -> None:
    with fetcher.client() as client:
        client.warm_up("/a/directory")
        client.warm_up(fetcher.mirror.url)
        with fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client).file as file:
            assert file.read() == CONTENT


# ---- progress ------------------------------------------------------------------------------------------------------


class Steps:
    """Writes down what it hears."""

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
    """The same, for one who also wants to know why nothing comes."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def started(self, build: Build, total: int | None) -> None:  # noqa: ARG002  # the protocol's
        self.heard.append(("started", total))

    def waiting(self, _: Build, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize("behaviour", [None, reset(after=100_000), replace(noetag(), stop="fin", after=100_000)])
def test_progress_ends_at_the_size_of_the_archive(fetcher: Fetcher, behaviour: Behaviour | None) -> None:
    steps = Steps()
    if behaviour:
        fetcher.mirror.script(PATH, behaviour)

    fetcher(progress=steps)

    assert steps.bytes == len(CONTENT)
    assert steps.heard[0] == ("started", len(CONTENT))
    assert steps.heard[-1] == ("finished", NAME)
    assert [word for word, _ in steps.heard].count("started") == 1


def test_progress_hears_of_the_end_of_a_failure_and_of_retries(fetcher: Fetcher) -> None:
    waits = Waits()
    fetcher.mirror.script(PATH, fin(after=1000), status(503))
    fetcher.mirror.always(PATH, status(404))

    with pytest.raises(FetchError):
        fetcher(progress=waits)

    assert waits.words == {"started", "advanced", "finished"}
    assert "ended early" in waits.reasons[0]
    assert "503" in waits.reasons[1]
    assert "trying again in 1.0 s" in waits.reasons[1]


def test_progress_hears_nothing_of_cached_archives(fetcher: Fetcher) -> None:
    steps = Steps()
    fetcher()

    fetcher(progress=steps)
    assert steps.heard == []


def test_an_exception_out_of_progress_ends_the_download_and_keeps_what_came(fetcher: Fetcher) -> None:
    class Cancelled(Exception):  # noqa: N818  # not ours to name
        pass

    class Impatient(Steps):
        def advanced(self, build: Build, count: int) -> None:
            super().advanced(build, count)
            if self.bytes >= 100_000:
                raise Cancelled

    with pytest.raises(Cancelled):
        fetcher(progress=Impatient())

    assert fetcher() == CONTENT
    assert fetcher.mirror.gets(PATH)[1].headers["range"].startswith("bytes=1")


# ---- catalogues ----------------------------------------------------------------------------------------------------


def test_a_catalogue_is_asked_for_again_with_its_etag(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b'{"a": 1}'
    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.mirror.bytes_served == 8

    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.mirror.bytes_served == 8

    fetcher.mirror.files["/c.json"] = b'{"a": 2}'
    assert fetcher.text() == b'{"a": 2}'
    assert fetcher.text(offline=True) == b'{"a": 2}'
    assert len(fetcher.mirror.requests) == 3


def test_without_an_etag_a_catalogue_is_asked_for_with_its_date(fetcher: Fetcher) -> None:
    date = "Sat, 21 Nov 2026 10:00:00 GMT"
    fetcher.mirror.script("/c.json", status(200, {"Last-Modified": date}, b"{}"), status(304))

    assert [fetcher.text(), fetcher.text()] == [b"{}", b"{}"]
    assert fetcher.mirror.requests[1].headers["if-modified-since"] == date


def test_a_server_out_of_reach_leaves_the_kept_catalogue(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher.mirror.always("*", status(503))

    assert fetcher.text() == b"{}"
    assert "503" in fetcher.warnings[-1]
    assert "0 hours ago" in fetcher.warnings[-1]
    assert len(fetcher.mirror.requests) == 3


def test_a_server_that_says_no_is_believed(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher.mirror.always("*", status(404))

    with pytest.raises(FetchError, match="404"):
        fetcher.text()


def test_a_server_out_of_reach_and_nothing_kept(fetcher: Fetcher) -> None:
    fetcher.mirror.always("*", status(503))

    with pytest.raises(FetchError, match="cannot download the catalogue: HTTP 503"):
        fetcher.text()
    with pytest.raises(OfflineError, match=r"c\.json"):
        fetcher.text(offline=True)
    assert len(fetcher.mirror.requests) == 5


@pytest.mark.parametrize("damaged", [".json", ".meta"])
def test_a_kept_catalogue_that_was_damaged_is_not_used(fetcher: Fetcher, damaged: str) -> None:
    fetcher.mirror.files["/c.json"] = b'{"a": 1}'
    fetcher.text()
    next((fetcher.cache / "catalogues").glob(f"*{damaged}")).write_bytes(b"{}")

    with pytest.raises(OfflineError):
        fetcher.text(offline=True)
    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.text(offline=True) == b'{"a": 1}'


def test_a_catalogue_that_is_too_long(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.limit(catalogue_size=100_000)
    fetcher.mirror.always("/c.json", endless())
    (tmp_path / "c.json").write_bytes(bytes(100_001))

    for url in (None, str(tmp_path / "c.json")):
        with pytest.raises(CatalogueError, match="more than 100000 bytes"):
            fetcher.text(url)


def test_a_page_is_no_catalogue(fetcher: Fetcher) -> None:
    fetcher.mirror.always("/c.json", html())

    with pytest.raises(CatalogueError, match="HTML page"):
        fetcher.text()


def test_a_catalogue_may_trickle_only_so_long(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = bytes(10_000)
    fetcher.limit(slow_time=0.1, slow_bytes=10_000)
    fetcher.mirror.script("/c.json", trickle(step=10, pause=0.02), cut(after=100))

    assert fetcher.text() == bytes(10_000)
    assert len(fetcher.mirror.requests) == 3


def test_a_catalogue_needs_no_writable_cache(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.cache.write_text("in the way")

    assert fetcher.text() == b"{}"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_catalogue_may_be_a_file(fetcher: Fetcher, tmp_path: Path, form: str) -> None:
    (tmp_path / "c.json").write_bytes(b"{}")

    assert fetcher.text(form.format(tmp_path / "c.json"), offline=True) == b"{}"
    with pytest.raises(FetchError, match="no such file"):
        fetcher.text(form.format(tmp_path / "d.json"))


def test_p13_the_url_of_a_kept_catalogue_is_no_file_name(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text(fetcher.mirror.url.replace("http://", "http://peep:hunter2@") + "/c.json?t0psecret")

    everything = "".join(str(path) + path.read_text() for path in fetcher.cache.rglob("*") if path.is_file())
    assert "hunter2" not in everything
    assert "t0psecret" not in everything


# ---- the cache command ---------------------------------------------------------------------------------------------


def test_an_empty_cache(tmp_path: Path) -> None:
    assert cached_archives(tmp_path / "none") == prune(tmp_path / "none") == clear(tmp_path / "none") == []


def test_what_the_cache_holds_is_listed_by_its_last_use(fetcher: Fetcher) -> None:
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


def test_prune_removes_what_is_dead_or_damaged_and_nothing_else(fetcher: Fetcher) -> None:
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


def test_prune_removes_dead_catalogues(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    (fetcher.cache / "catalogues" / ".0123.part").write_text("")

    assert prune(fetcher.cache) == []
    assert [file.path.name for file in prune(fetcher.cache, now=time.time() + 4000)] == [".0123.part"]
    assert fetcher.text(offline=True) == b"{}"


def test_prune_removes_what_is_no_file(fetcher: Fetcher) -> None:
    fetcher.path.parent.mkdir(parents=True)
    fetcher.path.symlink_to(fetcher.cache)

    assert [file.path for file in prune(fetcher.cache)] == [fetcher.path]
    assert fetcher.cache.is_dir()


def hide_a_directory(path: Path) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(b"x")
    (path / "deep").chmod(0o500)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part", f"{NAME}.part.json", ".lock"])
def test_p11_a_directory_in_the_place_of_a_file_keeps_nobody_from_the_archive(fetcher: Fetcher, name: str) -> None:
    hide_a_directory(fetcher.path.with_name(name))

    assert fetcher() == CONTENT
    assert fetcher.path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part", f"{NAME}.part.json", ".lock"])
@pytest.mark.parametrize("sweep", [prune, clear])
def test_p11_a_directory_in_the_place_of_a_file_is_swept_away(
    fetcher: Fetcher, name: str, sweep: Callable[[Path], list[object]]
) -> None:
    hide_a_directory(fetcher.path.with_name(name))

    sweep(fetcher.cache)

    assert list((fetcher.cache / "archives").iterdir()) == []


def test_a_lock_that_cannot_be_closed_costs_nothing(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    fetcher.path.parent.mkdir(parents=True)
    monkeypatch.setattr(os, "close", fail)
    with lock_now(fetcher.path.parent) as ours:
        assert ours
    with lock_now(fetcher.path.parent) as ours_again:
        assert ours_again


def test_prune_of_a_cache_that_cannot_be_written(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.path.parent.mkdir(parents=True)
    fetcher.path.write_bytes(b"damaged")
    deny_writing(monkeypatch)

    with pytest.raises(StoreError, match="Read-only"):
        prune(fetcher.cache)


def test_a_cache_that_cannot_be_listed(fetcher: Fetcher) -> None:
    fetcher.cache.mkdir()
    (fetcher.cache / "archives").symlink_to("archives")

    with pytest.raises(StoreError, match="archives"):
        cached_archives(fetcher.cache)


def test_clear_removes_everything(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher()

    assert len(clear(fetcher.cache)) == 3
    assert fetcher.files == []
    assert list((fetcher.cache / "archives").iterdir()) == []
    assert fetcher() == CONTENT


@pytest.mark.parametrize("sweep", [prune, clear])
def test_a_running_download_is_left_alone(fetcher: Fetcher, sweep: Callable[[Path], list[object]]) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetcher)
        assert stalled.reached.wait(30)

        assert sweep(fetcher.cache) == []
        stalled.release()
        assert result.result() == CONTENT
    assert fetcher.gets == 1


def test_downloads_while_somebody_clears(fetcher: Fetcher) -> None:
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
