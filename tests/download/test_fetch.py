"""P9, P12, P13, P16: an archive from a misbehaving server or a directory is fetched completely, or is an error."""

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from downloads import (
    BUILD,
    CONTENT,
    KEY,
    NAME,
    PATH,
    Fetcher,
    Steps,
    Waits,
    break_at,
    deny_writing,
    everything_about,
    script_of,
)
from mirror import (
    Behaviour,
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
    short,
    stall,
    status,
    trail,
    trickle,
)

from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import (
    DigestMismatchError,
    FetchError,
    IntegrityError,
    OfflineError,
    PyinstallError,
    SizeMismatchError,
    StoreError,
)
from pytest_pyinstall.request.identity import Build

# The returned archive


def test_an_archive_is_downloaded_and_cached(fetcher: Fetcher) -> None:
    assert fetcher() == CONTENT

    assert fetcher.path == fetcher.cache / "archives" / BUILD.sha256 / NAME
    assert fetcher.path.read_bytes() == CONTENT
    assert fetcher.files == [NAME]
    assert fetcher.gets == 1
    assert fetcher.mirror.requests[0].headers["accept-encoding"] == "identity"


def test_a_cached_archive_needs_no_server(fetcher: Fetcher) -> None:
    fetcher()

    assert fetcher() == CONTENT
    assert fetcher(offline=True) == CONTENT
    assert fetcher.gets == 1


def test_p9_a_build_without_a_digest_is_rejected(fetcher: Fetcher) -> None:
    for digest in ("", "abc", "../../x", BUILD.sha256.upper()):
        with pytest.raises(IntegrityError, match="no sha256"):
            fetcher(replace(BUILD, sha256=digest))
    assert fetcher.gets == 0


# Wrong bytes


def test_p12_an_archive_with_a_wrong_digest_is_downloaded_again(fetcher: Fetcher) -> None:
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
def test_p9_wrong_bytes_are_never_returned(
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


def test_that_a_wrong_file_is_downloaded_again_is_said_once_for_builds_at_the_same_time(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, html())
    waits = Waits()
    fetcher.limit(clock=lambda: 0.0)
    with fetcher.client() as client:
        for _ in range(2):
            with pytest.raises(SizeMismatchError):
                fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client, progress=waits)
    assert len(waits.reasons) == 1


def test_p12_an_endless_body_is_read_up_to_the_size_of_the_build(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, endless())

    with pytest.raises(SizeMismatchError):
        fetcher()

    assert fetcher.files == []
    assert fetcher.gets == 2


def test_p12_an_endless_body_without_a_known_size_is_read_up_to_the_limit(fetcher: Fetcher) -> None:
    fetcher.limit(archive_size=1_000_000)
    fetcher.mirror.always(PATH, endless())

    with pytest.raises(SizeMismatchError):
        fetcher(replace(BUILD, size=None))


def test_a_body_whose_announced_length_is_too_long_is_not_read(fetcher: Fetcher) -> None:
    fetcher.limit(archive_size=1000)

    with pytest.raises(SizeMismatchError, match="300000 bytes, expected at most 1000"):
        fetcher(replace(BUILD, size=None))


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
def test_p12_a_broken_connection_is_retried(fetcher: Fetcher, behaviour: Behaviour, size: int | None) -> None:
    fetcher.mirror.script(PATH, behaviour)

    assert fetcher(replace(BUILD, size=size)) == CONTENT
    assert fetcher.gets == 2 - (behaviour.length_off_by > 0 and size is None)  # the archive is complete nevertheless


def test_p12_a_stall_is_retried(fetcher: Fetcher) -> None:
    fetcher.limit(read=0.1)
    fetcher.mirror.script(PATH, stall(after=None), stall(after=100_000))

    assert fetcher() == CONTENT
    assert fetcher.gets == 3
    assert fetcher.mirror.bytes_served == len(CONTENT)


def test_p12_a_slow_body_fails_after_the_total_time(fetcher: Fetcher) -> None:
    fetcher.limit(total=0.3)
    fetcher.mirror.always(PATH, trickle(step=1000, pause=0.02))

    with pytest.raises(FetchError, match=r"not complete in time.*gave up after 0\.3 s"):
        fetcher()


# Resuming


def test_p12_a_download_is_resumed_where_it_broke_off(fetcher: Fetcher) -> None:
    fetcher.mirror.script(PATH, reset(after=100_000), fin(after=100_000))

    assert fetcher() == CONTENT

    assert fetcher.mirror.bytes_served == len(CONTENT)
    first, second, third = fetcher.mirror.gets(PATH)
    assert "range" not in first.headers
    assert (second.headers["range"], third.headers["range"]) == ("bytes=100000-", "bytes=200000-")
    assert second.headers["if-range"].startswith('"')


@pytest.mark.parametrize("behaviour", [norange(), etag('"another"')], ids=["no ranges", "another ETag"])
def test_p12_a_download_starts_over_if_it_cannot_be_resumed(fetcher: Fetcher, behaviour: Behaviour) -> None:
    fetcher.mirror.script(PATH, reset(after=100_000), behaviour)

    assert fetcher() == CONTENT
    assert fetcher.mirror.bytes_served == 100_000 + len(CONTENT)


def test_p12_a_download_starts_over_if_the_range_no_longer_exists(fetcher: Fetcher) -> None:
    break_at(fetcher, 100_000)
    fetcher.path.with_name(NAME + ".part").write_bytes(bytes(len(CONTENT) + 5))

    assert fetcher(replace(BUILD, size=None)) == CONTENT
    assert [one.headers.get("range") for one in fetcher.mirror.gets(PATH)] == [None, "bytes=300005-", None]
    assert fetcher.pauses == []


def test_p12_a_download_starts_over_if_the_server_sends_another_range(fetcher: Fetcher) -> None:
    fetcher.mirror.script(
        PATH, reset(after=100_000), status(206, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}, b"x" * 10)
    )

    assert fetcher() == CONTENT
    assert fetcher.gets == 3


# Secrets

SECRETS = ("hunter2", "hunt%65r2", "t0psecret", "cGVlcDpodW50ZXIy", "ghp_token")


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
        "redirect to a closed port",
        "bad header",
    ],
)
def test_p13_no_message_log_or_file_contains_a_secret(
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

    error_text = ""
    if behaviour is None:
        fetcher(url=url, progress=waits)
    else:
        with pytest.raises(PyinstallError) as caught:
            fetcher(url=url, progress=waits)
        error_text = everything_about(caught.value)

    files = "".join(str(path) + path.read_text("latin-1") for path in fetcher.cache.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in error_text
        assert secret not in caplog.text
        assert secret not in files
        assert secret not in "".join([*fetcher.warnings, *waits.reasons])
    for request in fetcher.mirror.requests:
        assert "ghp_token" not in str(request)
    assert fetcher.mirror.requests[0].headers["authorization"] == "Basic cGVlcDpodW50ZXIy"


# Mirror directories


def test_a_partial_download_is_not_continued_from_a_directory(fetcher: Fetcher, tmp_path: Path) -> None:
    break_at(fetcher, 100_000)
    (tmp_path / NAME).write_bytes(CONTENT)

    assert fetcher(url=str(tmp_path / NAME)) == CONTENT


def test_an_archive_of_a_mirror_directory_is_cached(fetcher: Fetcher, tmp_path: Path) -> None:
    source = tmp_path / NAME
    source.write_bytes(CONTENT)
    fetcher(url=str(source))
    source.unlink()

    assert fetcher(url=str(source)) == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"?", CONTENT[:-1] + b"?"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_p9_a_wrong_file_in_a_mirror_directory_is_rejected(
    fetcher: Fetcher, tmp_path: Path, content: bytes, size: int | None
) -> None:
    (tmp_path / NAME).write_bytes(content)

    with pytest.raises(IntegrityError):
        fetcher(replace(BUILD, size=size), url=str(tmp_path / NAME))
    assert fetcher.files == []


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_an_unreadable_or_endless_file_is_an_error(fetcher: Fetcher) -> None:
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


def test_offline_the_error_names_the_archive_and_where_to_put_it(fetcher: Fetcher) -> None:
    with pytest.raises(OfflineError) as caught:
        fetcher(offline=True)

    assert str(KEY) in caught.value.message
    assert str(fetcher.path) in caught.value.hint
    assert fetcher.gets == 0
    assert not fetcher.cache.exists()


@pytest.mark.parametrize("state", ["absent", "empty", "damaged"])
def test_p16_a_cache_that_cannot_be_written_is_a_store_error(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    if state != "absent":
        fetcher.path.parent.mkdir(parents=True)
    if state == "damaged":
        fetcher.path.write_bytes(b"x")
    deny_writing(monkeypatch)

    with pytest.raises(StoreError, match="Read-only file system") as caught:
        fetcher()

    assert str(fetcher.cache) in caught.value.message
    assert "--python-cache" in caught.value.hint
    assert fetcher.gets == 0


def test_p16_a_file_in_place_of_the_cache_is_a_store_error(fetcher: Fetcher) -> None:
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


def test_p16_too_many_open_files_are_a_store_error(fetcher: Fetcher) -> None:
    limit = "import resource, httpcore2, filelock, ssl, encodings.idna\n"
    script = limit + script_of(fetcher).replace(
        "fetch(build", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); fetch(build"
    )

    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)

    assert "StoreError: cannot use the cache" in ended.stderr
    assert "Too many open files" in ended.stderr
    assert fetcher.files == []


def test_p16_an_unreadable_cached_archive_is_downloaded_again(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert fetcher() == CONTENT
    assert "Input/output error" in fetcher.warnings[0]


def test_p16_a_cached_archive_that_cannot_be_opened_is_kept(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher()

    def fail(path: str, *_: object, **__: object) -> int:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError, match="Too many open files"):
        fetcher()
    assert fetcher.path.exists()


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


def test_progress_reports_retries_and_the_end_of_a_failed_download(fetcher: Fetcher) -> None:
    waits = Waits()
    fetcher.mirror.script(PATH, fin(after=1000), status(503))
    fetcher.mirror.always(PATH, status(404))

    with pytest.raises(FetchError):
        fetcher(progress=waits)

    assert waits.words == {"started", "advanced", "finished"}
    assert "ended early" in waits.reasons[0]
    assert "503" in waits.reasons[1]
    assert "trying again in 1.0 s" in waits.reasons[1]
    host = fetcher.mirror.url.removeprefix("http://")
    assert all(host in reason and PATH not in reason for reason in waits.reasons)  # one line for each attempt


def test_progress_does_not_report_cached_archives(fetcher: Fetcher) -> None:
    steps = Steps()
    fetcher()

    fetcher(progress=steps)
    assert steps.heard == []


def test_an_exception_in_progress_ends_the_download_and_keeps_the_partial_file(fetcher: Fetcher) -> None:
    class Cancelled(Exception):  # noqa: N818  # a name that a caller chose
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
