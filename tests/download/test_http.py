"""Connections have time limits, verify certificates, and use only the configured proxies."""

import contextlib
import errno
import gzip
import logging
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest
import trustme
from downloads import BUILD, CONTENT, PATH, Fetcher, everything_about
from mirror import (
    reset,
    serve,
    stall,
    status,
    trickle,
)

from pytest_pyinstall.errors import FetchError, SizeMismatchError, StoreError


def test_p12_headers_that_arrive_too_slowly_are_retried(fetcher: Fetcher) -> None:
    fetcher.limit(headers=0.2)
    fetcher.mirror.script(PATH, trickle(step=1, pause=0.02, headers=True))

    assert fetcher() == CONTENT
    assert fetcher.gets == 2


def test_an_unknown_host_is_tried_only_twice(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="2 attempts"):
        fetcher(url="https://nowhere.invalid/a.tar.gz")

    assert len(fetcher.pauses) == 1


def test_p12_a_connection_that_is_not_accepted_times_out(fetcher: Fetcher) -> None:
    fetcher.limit(connect=0.05, attempts=2)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # this fills its queue
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())

        with pytest.raises(FetchError, match=r"no connection within 0\.05 s"):
            fetcher(url=f"http://127.0.0.1:{listener.getsockname()[1]}/x")


def test_a_server_without_tls_is_an_error_with_a_hint(fetcher: Fetcher) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        with pytest.raises(FetchError, match="no connection: TLS: ") as caught:
            fetcher(url=f"https://127.0.0.1:{plain.server_address[1]}{PATH}")
        plain.shutdown()
    assert "is http:// meant?" in caught.value.hint
    assert len(fetcher.pauses) == 1  # another attempt does not help


def test_a_port_without_a_server_is_an_error(fetcher: Fetcher) -> None:
    with serve(fetcher.cache.parent) as gone:
        url = gone.url

    with pytest.raises(FetchError, match="no connection: Connection refused"):
        fetcher(url=url + PATH)

    assert len(fetcher.pauses) == 4
    assert fetcher.files == []


@pytest.mark.parametrize("url", ["https://host/\x7f"])
def test_a_url_that_cannot_be_requested_is_not_retried(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchError, match="cannot request"):
        fetcher(url=url)
    assert fetcher.pauses == []


def test_the_configured_certificates_are_trusted(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    fetcher.environ["SSL_CERT_FILE"] = certificates
    with serve(tmp_path / "mirror", ca=authority) as secure:
        secure.script(PATH, reset(after=100_000), stall(after=10))
        fetcher.limit(read=0.3)
        assert fetcher(url=secure.url + PATH) == CONTENT
        assert secure.bytes_served == len(CONTENT)


def test_an_untrusted_certificate_is_not_retried(
    fetcher: Fetcher, authority: trustme.CA, certificates: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates)  # the environment of the process is ignored
    with serve(tmp_path / "mirror", ca=authority) as secure:
        with pytest.raises(FetchError, match=r"certificate of .* is not trusted") as caught:
            fetcher(url=secure.url + PATH)
        assert secure.requests == []

    assert "SSL_CERT_FILE" in caught.value.hint
    assert fetcher.pauses == []


def test_missing_certificates_are_an_error(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.environ["SSL_CERT_FILE"] = str(tmp_path / "missing.pem")

    with pytest.raises(FetchError, match=r"missing\.pem"):
        fetcher(url=BUILD.url)


@contextlib.contextmanager
def raw_server(answer: bytes, *, count: int) -> Iterator[str]:
    """Sends `answer` to each of `count` connections, whatever is requested, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_all() -> None:
            for _ in range(count):
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    while not connection.recv(1 << 16).endswith(b"\r\n\r\n"):
                        pass
                    connection.sendall(answer)

        thread = threading.Thread(target=serve_all, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(CONTENT, id="HTTP/0.9"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 20", id="half a status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a header"),
        pytest.param(OK + b"X: " + b"a" * 300_000, id="an endless header"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\n" + CONTENT, id="a negative length"),
        pytest.param(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + CONTENT, id="two lengths"),
        pytest.param(CHUNKED + b"zz\r\n" + CONTENT, id="a chunk whose size is no number"),
        pytest.param(CHUNKED + b"f" * 20 + b"\r\n" + CONTENT[:100], id="a chunk that is too large"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, id="only interim responses"),
    ],
)
def test_p12_a_response_that_is_not_http_is_an_error(fetcher: Fetcher, answer: bytes) -> None:
    fetcher.limit(attempts=2)
    with raw_server(answer, count=2) as url, pytest.raises(FetchError, match="the connection broke") as caught:
        fetcher(url=url + PATH)

    assert caught.value.message.splitlines()[0].endswith("(2 attempts)")
    assert fetcher.files == []


def test_p9_a_compressed_response_is_not_decompressed(fetcher: Fetcher) -> None:
    """Such as a small response that would fill the memory. The digest is that of the bytes as they arrive."""
    body = gzip.compress(bytes(10_000_000))
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(answer, count=2) as url, pytest.raises(SizeMismatchError, match=f"{len(body)} bytes, expected"):
        fetcher(url=url + PATH)


def test_p16_unreadable_certificates_of_the_system_are_an_error(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> NoReturn:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("httpcore2.default_ssl_context", fail)

    with pytest.raises(FetchError, match="certificates of the system: Cannot allocate memory") as caught:
        fetcher(url=BUILD.url)
    assert "SSL_CERT_FILE" in caught.value.hint


def test_p16_a_download_without_another_thread_is_an_error(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> NoReturn:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr("threading.Timer.start", fail)

    with pytest.raises(StoreError, match="cannot start another thread"):
        fetcher()


def test_loopback_is_requested_without_a_proxy(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.environ["ALL_PROXY"] = "http://127.0.0.1:9"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert fetcher() == CONTENT


def test_the_proxies_of_the_process_environment_are_ignored(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", fetcher.mirror.url)
    fetcher.limit(attempts=1)

    with pytest.raises(FetchError):
        fetcher(url="https://mirror.invalid/x")

    assert fetcher.mirror.requests == []


@pytest.mark.parametrize(
    ("code", "gets", "words"), [(407, 1, "requires a user"), (403, 1, "rejected"), (503, 5, r"failed \(503\)")]
)
def test_an_error_of_the_proxy_is_reported(fetcher: Fetcher, code: int, gets: int, words: str) -> None:
    fetcher.environ["HTTPS_PROXY"] = fetcher.mirror.url.replace("http://", "me:hunter2@")
    fetcher.mirror.always("release.test:443", status(code))

    with pytest.raises(FetchError, match=words) as caught:
        fetcher(url=BUILD.url)

    assert len(fetcher.mirror.requests) == gets
    assert "hunter2" not in everything_about(caught.value)


@pytest.mark.parametrize("proxy", ["gopher://x", "http://x:y:z"])
def test_an_unsupported_proxy_is_an_error(fetcher: Fetcher, proxy: str) -> None:
    fetcher.environ["HTTPS_PROXY"] = proxy
    with pytest.raises(FetchError, match="this proxy cannot be used"):
        fetcher(url=BUILD.url)


def test_an_invalid_proxy_url_is_an_error(fetcher: Fetcher) -> None:
    fetcher.environ["HTTPS_PROXY"] = "http://["
    fetcher.limit(attempts=1)

    with pytest.raises(FetchError):
        fetcher(url=BUILD.url)


def test_the_http_library_logs_only_requests_of_others(fetcher: Fetcher, caplog: pytest.LogCaptureFixture) -> None:
    import httpx2

    caplog.set_level(logging.DEBUG)
    fetcher()
    assert [record for record in caplog.records if not record.name.startswith("pytest_pyinstall")] == []

    with httpx2.Client(trust_env=False) as client:
        client.get(fetcher.mirror.url + PATH)
    assert caplog.records


def test_cookies_are_not_sent_back(fetcher: Fetcher) -> None:
    fetcher.mirror.script(PATH, status(503, {"Set-Cookie": "a=b; Path=/"}))

    fetcher()
    assert "cookie" not in fetcher.mirror.requests[1].headers
