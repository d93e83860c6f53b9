"""An `httpx.Client` or `httpx2.Client` of the caller sends the requests; redirects, limits and digests stay ours."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mirror as server
import pytest

from pytest_pyinstall import provision, provision_all
from pytest_pyinstall.download.client import open_client
from pytest_pyinstall.download.fetch import fetch
from pytest_pyinstall.errors import DigestMismatchError, FetchError, PyinstallError
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.settings import Settings

CONTENT = random.Random(7).randbytes(200_000)
PATH = "/20261122/a.tar.gz"
BUILD = Build(
    key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"),
    url=f"https://release.test{PATH}",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    tag="20261122",
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[server.Mirror]:
    with server.serve(tmp_path) as mirror:
        mirror.files[PATH] = CONTENT
        yield mirror


def fetched(site: server.Mirror, http: Any, tmp_path: Path, *, url: str = "") -> bytes:
    with (
        open_client(environ={"http_proxy": "http://127.0.0.1:1"}, http=http) as client,
        fetch(BUILD, url=url or site.url + PATH, cache=tmp_path / "cache", client=client).file as file,
    ):
        return file.read()


def test_requests_have_the_headers_and_credentials_of_the_client(
    site: server.Mirror, library: ModuleType, tmp_path: Path
) -> None:
    with library.Client(trust_env=False, headers={"X-Token": "t"}, auth=("peep", "hunter2")) as http:
        assert fetched(site, http, tmp_path) == CONTENT
        assert not http.is_closed, "only the caller closes the client"
    [request] = site.requests
    assert request.headers["x-token"] == "t"
    assert request.headers["authorization"] == "Basic cGVlcDpodW50ZXIy"
    assert request.headers["accept-encoding"] == "identity"


def test_p13_another_origin_gets_no_headers_cookies_or_credentials(
    site: server.Mirror, library: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with server.serve(tmp_path / "other") as other:
        other.files[PATH] = CONTENT
        site.always("/start", server.redirect(other.url + PATH))
        cookies = {"session": "secret"}
        with library.Client(
            trust_env=False, headers={"X-Token": "t"}, auth=("peep", "hunter2"), cookies=cookies, follow_redirects=True
        ) as http:
            assert fetched(site, http, tmp_path, url=f"{site.url}/start") == CONTENT
        [request] = other.requests
    assert {"x-token", "authorization", "cookie"}.isdisjoint(request.headers)
    assert "x-token" in site.requests[0].headers


@pytest.mark.parametrize("behaviour", [server.status(503), server.reset(after=1000), server.fin(after=1000)])
def test_p12_a_temporary_failure_is_retried_and_resumed(
    site: server.Mirror, library: ModuleType, tmp_path: Path, behaviour: server.Behaviour
) -> None:
    site.script(PATH, behaviour)
    with library.Client(trust_env=False) as http:
        assert fetched(site, http, tmp_path) == CONTENT
    assert len(site.gets(PATH)) == 2


def test_p9_a_wrong_digest_is_rejected(site: server.Mirror, library: ModuleType, tmp_path: Path) -> None:
    site.always(PATH, server.flip(at=100))
    with library.Client(trust_env=False) as http, pytest.raises(DigestMismatchError):
        fetched(site, http, tmp_path)


def test_p13_an_exception_in_a_hook_is_a_fetch_error_without_secrets(
    site: server.Mirror, library: ModuleType, tmp_path: Path
) -> None:
    def broken(request: Any) -> Any:
        message = f"hook: {request.headers}"
        raise RuntimeError(message)

    with (
        library.Client(trust_env=False, event_hooks={"request": [broken]}, headers={"X-Token": "hunter2"}) as http,
        pytest.raises(FetchError) as caught,
    ):
        fetched(site, http, tmp_path)
    assert "RuntimeError" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_closed_client_is_a_pyinstall_error(site: server.Mirror, library: ModuleType, tmp_path: Path) -> None:
    http = library.Client(trust_env=False)
    http.close()
    with pytest.raises(PyinstallError):
        fetched(site, http, tmp_path)


def test_provision_uses_the_client(library: ModuleType, mirror_directory: Path, settings: Settings) -> None:
    version = "3.9" if any(mirror_directory.rglob("cpython-3.9.*")) else "3.13"
    with server.serve(mirror_directory) as mirror:
        remote = settings._replace(mirror=mirror.url, catalogue=f"{mirror.url}/catalogue.json")
        with library.Client(trust_env=False, headers={"X-Token": "t"}) as http:
            assert provision(version, remote, client=http).run("-c", "print(1)").stdout == "1\n"
            assert len(provision_all([version], remote, client=http)) == 1
        assert {request.headers.get("x-token") for request in mirror.requests} == {"t"}
