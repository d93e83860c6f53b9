"""A cached catalogue is verified, its URL is not written, and its age is known."""

import re
import time

import pytest
from downloads import Fetcher

from pytest_pyinstall.download.document_cache import kept_since
from pytest_pyinstall.errors import OfflineError


@pytest.mark.parametrize("content", [b"{}", b"[" * 100_000, b'{"since": 1e999}', None])
@pytest.mark.parametrize("damaged", [".json", ".meta"])
def test_p11_a_damaged_cached_catalogue_is_not_used(fetcher: Fetcher, damaged: str, content: bytes | None) -> None:
    fetcher.mirror.files["/c.json"] = b'{"a": 1}'
    fetcher.text()
    path = next((fetcher.cache / "catalogues").glob(f"*{damaged}"))
    if content is None:  # a number that no float can hold
        content = re.sub(rb"(since.*: ?)[0-9.]+", rb"\g<1>1" + b"0" * 400, path.read_bytes())
        if damaged == ".json":
            content = b""
    path.write_bytes(content)

    with pytest.raises(OfflineError):
        fetcher.text(offline=True)
    assert fetcher.text() == b'{"a": 1}'
    assert fetcher.text(offline=True) == b'{"a": 1}'


def test_a_catalogue_can_be_used_without_a_writable_cache(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.cache.write_text("in the way")

    assert fetcher.text() == b"{}"


def test_p13_the_url_of_a_cached_catalogue_is_not_written(fetcher: Fetcher) -> None:
    fetcher.mirror.files["/c.json"] = b"{}"
    fetcher.text(fetcher.mirror.url.replace("http://", "http://peep:hunter2@") + "/c.json?t0psecret")

    everything = "".join(str(path) + path.read_text() for path in fetcher.cache.rglob("*") if path.is_file())
    assert "hunter2" not in everything
    assert "t0psecret" not in everything


def test_the_age_of_a_copy_counts_from_the_last_check_with_the_server(fetcher: Fetcher) -> None:
    url = f"{fetcher.mirror.url}/c.json"
    fetcher.mirror.files["/c.json"] = b"{}"
    assert kept_since(fetcher.cache, url) is None

    before = time.time()
    fetcher.text()

    since = kept_since(fetcher.cache, url)
    assert since is not None
    assert before <= since <= time.time()
    next((fetcher.cache / "catalogues").glob("*.json")).write_bytes(b"damaged")
    assert kept_since(fetcher.cache, url) is None
