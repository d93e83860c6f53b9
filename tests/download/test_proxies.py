"""Downloads work through each kind of proxy, with our client and with a client of the caller."""

import hashlib
import logging
import ssl
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
from mirror import redirect, reset, serve, stall
from proxies import proxy

from pytest_pyinstall.download.client import Client, open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.request.identity import Build, Key

CONTENT = bytes(range(256)) * 1000
BUILD = Build(
    key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"),
    url="https://release.test/a.tar.gz",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
)


@pytest.fixture
def served_directory(tmp_path: Path) -> Path:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.tar.gz").write_bytes(CONTENT)
    return tmp_path / "mirror"


def fetched(client: Client, url: str, cache: Path) -> bytes:
    with fetch(BUILD, url=url, cache=cache, client=client).file as file:
        return file.read()


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_each_kind_of_proxy_reaches_the_server(
    kind: str, served_directory: Path, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    with (
        serve(served_directory, ca=authority, name="release.test") as secure,
        proxy(kind, to=secure.url, ca=authority if kind == "https" else None) as between,
        open_client(environ={"SSL_CERT_FILE": certificates, "HTTPS_PROXY": between.url}) as client,
    ):
        secure.script("/a.tar.gz", reset(after=1000))
        assert fetched(client, BUILD.url, tmp_path / "cache") == CONTENT
        assert between.asked == [("release.test:443", "peep:hunter2")] * 2


def test_the_error_for_socks_names_the_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with (
        open_client(environ={"HTTPS_PROXY": "socks5://127.0.0.1:1"}) as client,
        pytest.raises(FetchError, match="this proxy cannot be used") as caught,
    ):
        fetched(client, BUILD.url, tmp_path / "cache")
    assert 'pip install "httpcore2[socks]"' in caught.value.hint


def test_a_client_of_the_caller_uses_its_certificates_and_proxy(
    library: ModuleType, served_directory: Path, authority: trustme.CA, certificates: str, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=certificates)
    with (
        serve(served_directory, ca=authority, name="release.test") as secure,
        proxy("http", to=secure.url) as between,
        library.Client(verify=context, proxy=between.url) as http,
        open_client(environ={}, http=http) as client,
    ):
        assert fetched(client, BUILD.url, tmp_path / "cache") == CONTENT
        assert between.asked == [("release.test:443", "peep:hunter2")]


def test_a_client_of_the_caller_rejects_an_untrusted_server(
    library: ModuleType, served_directory: Path, authority: trustme.CA, tmp_path: Path
) -> None:
    with (
        serve(served_directory, ca=authority) as secure,
        library.Client() as http,
        open_client(environ={}, http=http) as client,
    ):
        with pytest.raises(FetchError, match="is not trusted"):
            fetched(client, f"{secure.url}/a.tar.gz", tmp_path / "cache")
        assert secure.requests == []


def test_p13_a_redirect_back_from_another_origin_gets_no_credentials(
    library: ModuleType, served_directory: Path, tmp_path: Path
) -> None:
    http = library.Client(headers={"Private-Token": "t0psecret"}, cookies={"session": "t0psecret"}, auth=("peep", "x"))
    with (
        serve(served_directory) as first,
        serve(served_directory) as other,
        http,
        open_client(environ={}, http=http) as client,
    ):
        first.script("/a.tar.gz", redirect(f"{other.url}/b"))
        other.always("/b", redirect(f"{first.url}/a.tar.gz"))
        assert fetched(client, f"{first.url}/a.tar.gz", tmp_path / "cache") == CONTENT
        for request in (*other.requests, first.requests[-1]):
            assert "t0psecret" not in str(request.headers)
            assert "authorization" not in request.headers


def test_p13_the_http_library_logs_only_requests_of_the_caller(
    library: ModuleType, served_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(served_directory) as site, library.Client() as http, open_client(environ={}, http=http) as client:
        fetched(client, f"{site.url}/a.tar.gz?sig=t0psecret", tmp_path / "cache")
        assert "t0psecret" not in caplog.text
        http.get(f"{site.url}/a.tar.gz?mine")
    assert "mine" in caplog.text


def test_p20_stop_ends_a_stalled_request_of_a_client_of_the_caller(
    library: ModuleType, served_directory: Path, tmp_path: Path
) -> None:
    stalled = stall(after=1000)
    raised: list[Any] = []
    with (
        serve(served_directory) as site,
        library.Client(timeout=None) as http,
        open_client(environ={}, http=http) as client,
    ):
        site.always("/a.tar.gz", stalled)

        def work() -> None:
            try:
                fetched(client, f"{site.url}/a.tar.gz", tmp_path / "cache")
            except FetchError as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert stalled.reached.wait(100)
        client.stop()
        thread.join(100)
        assert not thread.is_alive()
    assert "stopped" in str(raised[0])
