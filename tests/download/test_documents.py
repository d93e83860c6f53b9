"""A catalogue is cached, revalidated, limited in size, and used from the cache if the server cannot be reached."""

from pathlib import Path

import pytest
from downloads import Fetcher
from mirror import (
    cut,
    endless,
    html,
    status,
    trickle,
)

from pytest_pyinstall.errors import (
    CatalogueError,
    FetchError,
    OfflineError,
)


def test_a_catalogue_is_revalidated_with_its_etag(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b'{"a": 1}'
    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.mirror.bytes_served == 8

    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.mirror.bytes_served == 8

    fetcher.mirror.files["/c.json"] = b'{"a": 2}'
    assert fetcher.text() == b'{"a": 2}'
    assert fetcher.text(offline=True) == b'{"a": 2}'
    assert len(fetcher.mirror.requests) == 3


def test_a_catalogue_without_an_etag_is_revalidated_with_its_date(fetcher: Fetcher) -> None:
    date = "Sat, 21 Nov 2026 10:00:00 GMT"
    fetcher.mirror.script("/c.json", status(200, {"Last-Modified": date}, b"{}"), status(304))

    assert [fetcher.text(), fetcher.text()] == [b"{}", b"{}"]
    assert fetcher.mirror.requests[1].headers["if-modified-since"] == date


def test_the_cached_catalogue_is_used_if_the_server_fails(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher.mirror.always("*", status(503))

    assert fetcher.text() == b"{}"
    assert "503" in fetcher.warnings[-1]
    assert "0 hours ago" in fetcher.warnings[-1]
    assert len(fetcher.mirror.requests) == 3


def test_the_cached_catalogue_is_not_used_if_the_server_has_none(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text()
    fetcher.mirror.always("*", status(404))

    with pytest.raises(FetchError, match="404"):
        fetcher.text()


def test_a_failing_server_without_a_cached_catalogue_is_an_error(fetcher: Fetcher) -> None:
    fetcher.mirror.always("*", status(503))

    with pytest.raises(FetchError, match="cannot download the catalogue: HTTP 503"):
        fetcher.text()
    with pytest.raises(OfflineError, match=r"c\.json"):
        fetcher.text(offline=True)
    assert len(fetcher.mirror.requests) == 5


def test_a_catalogue_that_is_too_long_is_rejected(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.limit(catalogue_size=100_000)
    fetcher.mirror.always("/c.json", endless())
    (tmp_path / "c.json").write_bytes(bytes(100_001))

    for url in (None, str(tmp_path / "c.json")):
        with pytest.raises(CatalogueError, match="more than 100000 bytes"):
            fetcher.text(url)


def test_an_html_page_is_rejected(fetcher: Fetcher) -> None:
    fetcher.mirror.always("/c.json", html())

    with pytest.raises(CatalogueError, match="HTML page"):
        fetcher.text()


def test_a_catalogue_that_arrives_too_slowly_is_retried(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = bytes(10_000)
    fetcher.limit(slow_time=0.1, slow_bytes=10_000)
    fetcher.mirror.script("/c.json", trickle(step=10, pause=0.02), cut(after=100))

    assert fetcher.text() == bytes(10_000)
    assert len(fetcher.mirror.requests) == 3
