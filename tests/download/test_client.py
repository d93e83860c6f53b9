"""The client retries what may pass, follows redirects safely, and can be stopped."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from downloads import BUILD, CONTENT, PATH, Fetcher, Waits, build_of, in_process, wait_for_part
from mirror import (
    redirect,
    reset,
    serve,
    stall,
    status,
)
from waiting import wait_until

from pytest_pyinstall.download._response import RetryPolicy
from pytest_pyinstall.download.client import open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import (
    FetchError,
)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_p12_a_temporary_status_is_retried(fetcher: Fetcher, code: int) -> None:
    fetcher.mirror.script(PATH, status(code), status(code))

    assert fetcher() == CONTENT
    assert fetcher.gets == 3
    assert fetcher.pauses == [0.5, 1.0]


def test_p12_a_download_fails_after_the_last_attempt(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(503))

    with pytest.raises(FetchError, match=r"503.*\(5 attempts\)"):
        fetcher()

    assert fetcher.gets == 5
    assert fetcher.pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_message_about_a_download_says_what_matters_in_its_first_line(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(503))
    host = fetcher.mirror.url.removeprefix("http://")

    with pytest.raises(FetchError) as caught:
        fetcher()

    assert caught.value.message.splitlines() == [
        f"cannot download Python 3.12.4: HTTP 503 from {host} (5 attempts)",
        f"  {fetcher.mirror.url}{PATH}",
    ]


def test_a_reason_that_several_downloads_wait_for_is_said_once() -> None:
    now = 0.0
    with open_client(environ={}, limits=RetryPolicy(clock=lambda: now)) as client:
        assert client.is_news("HTTP 503 from host", 2.0)
        assert not client.is_news("HTTP 503 from host", 2.5)
        assert client.is_news("HTTP 503 from another", 0.5)
        now = 2.0
        assert client.is_news("HTTP 503 from host", 4.0)


def test_p12_a_download_fails_after_its_total_time(fetcher: Fetcher) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    fetcher.limit(total=100, attempts=10**6, clock=lambda: now[0], sleep=sleep)
    fetcher.mirror.always(PATH, status(503, {"Retry-After": "30"}))

    with pytest.raises(FetchError, match="gave up after 100 s"):
        fetcher()

    assert fetcher.gets == 4


def test_p12_attempts_that_make_progress_are_not_counted(fetcher: Fetcher) -> None:
    fetcher.limit(attempts=2, worth=1000)
    fetcher.mirror.script(PATH, *[reset(after=50_000)] * 4)

    assert fetcher() == CONTENT
    assert fetcher.gets == 5


# Redirects and hosts


def test_p13_a_redirect_to_another_origin_is_followed_without_credentials(fetcher: Fetcher, tmp_path: Path) -> None:
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


def test_a_redirect_loop_is_an_error(fetcher: Fetcher) -> None:
    fetcher.mirror.always("/a", redirect("/b"))
    fetcher.mirror.always("/b", redirect("/a"))

    with pytest.raises(FetchError) as caught:
        fetcher(url=fetcher.mirror.url + "/a")

    host = fetcher.mirror.url.removeprefix("http://")
    assert caught.value.message == (
        f"cannot download Python {BUILD.key.display_name}: more than 5 redirects from {host}\n  {fetcher.mirror.url}/a"
    )
    assert len(fetcher.mirror.requests) == 6


def test_five_redirects_are_followed(fetcher: Fetcher) -> None:
    for number in range(5):
        fetcher.mirror.script(f"/{number}", redirect(f"/{number + 1}" if number < 4 else PATH))

    assert fetcher(url=fetcher.mirror.url + "/0") == CONTENT


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://other.test/x", "http://[broken/", "data:,x"],
)
def test_p13_a_redirect_to_another_scheme_or_to_http_is_rejected(fetcher: Fetcher, target: str) -> None:
    fetcher.mirror.always("/a", redirect(target))

    with pytest.raises(FetchError, match=r"redirects to") as caught:
        fetcher(url=fetcher.mirror.url + "/a")

    assert len(fetcher.mirror.requests) == 1
    assert caught.value.hint


def test_http_is_rejected_with_a_hint_how_to_allow_it(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="unencrypted http is not allowed") as caught:
        fetcher(url="http://mirror.test/x")

    assert "PYTEST_PYINSTALL_INSECURE_HOST=mirror.test" in caught.value.hint


@pytest.mark.parametrize("url", ["ftp://host/x", "https:///x", "https://host:99999999/x", "https://[x/"])
def test_an_invalid_url_is_rejected(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchError, match="not a URL to download from"):
        fetcher(url=url)


def test_p13_a_redirect_from_https_to_http_is_rejected(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    fetcher.environ["SSL_CERT_FILE"] = certificates
    with serve(tmp_path / "mirror", ca=authority) as secure:
        secure.always("/a", redirect(fetcher.mirror.url + PATH))

        with pytest.raises(FetchError, match="unencrypted http is not allowed"):
            fetcher(url=secure.url + "/a")
        assert fetcher.mirror.requests == []

        fetcher.insecure_hosts = frozenset({"127.0.0.1"})
        assert fetcher(url=secure.url + "/a") == CONTENT


def test_an_insecure_host_is_requested_through_the_proxy_with_a_warning(fetcher: Fetcher) -> None:
    fetcher.insecure_hosts = frozenset({"Mirror.test"})
    fetcher.environ["http_proxy"] = fetcher.mirror.url.replace("http://", "http://me:hunter2@")
    fetcher.mirror.script(PATH, status(503))

    assert fetcher(url=f"http://mirror.test{PATH}") == CONTENT

    assert fetcher.mirror.requests[0].headers["host"] == "mirror.test"
    assert fetcher.mirror.requests[0].headers["proxy-authorization"] == "Basic bWU6aHVudGVyMg=="
    assert fetcher.warnings == ["using unencrypted http for mirror.test (PYTEST_PYINSTALL_INSECURE_HOST)"]


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


def test_p20_stop_ends_a_running_download(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    fetcher.limit(read=60, sleep=None)
    with fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(fetch, BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client)
        wait_for_part(fetcher, 1000)
        client.stop()

        with pytest.raises(FetchError, match="stopped"):
            result.result(timeout=100)


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
            result.result(timeout=100)


def test_p20_stop_ends_a_wait_for_another_process(fetcher: Fetcher) -> None:
    stalled = stall(after=1000)
    fetcher.mirror.script(PATH, stalled)
    waits = Waits()
    with in_process(fetcher), fetcher.client() as client, ThreadPoolExecutor(1) as pool:
        assert stalled.reached.wait(100)
        url = fetcher.mirror.url + PATH
        result = pool.submit(fetch, BUILD, url=url, cache=fetcher.cache, client=client, progress=waits)
        wait_until(lambda: bool(waits.reasons))
        client.stop()

        with pytest.raises(FetchError, match="stopped"):
            result.result(timeout=100)
        stalled.release()


def test_warming_up_does_not_disturb_a_download(fetcher: Fetcher) -> None:
    with fetcher.client() as client:
        client.warm_up("/a/directory")
        client.warm_up(fetcher.mirror.url)
        with fetch(BUILD, url=fetcher.mirror.url + PATH, cache=fetcher.cache, client=client).file as file:
            assert file.read() == CONTENT
