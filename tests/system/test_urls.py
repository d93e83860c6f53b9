"""Proxies are chosen as curl chooses them, and URLs are shown without their secrets."""

import pytest

from pytest_pyinstall.system.urls import proxy_for, redact_text, redacted


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
def test_the_variables_choose_the_proxy(url: str, environ: dict[str, str], proxy: str | None) -> None:
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
def test_no_proxy_names_hosts_without_a_proxy(no_proxy: str, bypassed: bool) -> None:
    from urllib.parse import urlsplit

    environ = {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy}
    assert (proxy_for(urlsplit("https://w.a.test/"), environ) is None) == bypassed
    networks = {"ALL_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8,[fd00::1]"}
    assert proxy_for(urlsplit("https://10.1.2.3/"), networks) is None
    assert proxy_for(urlsplit("https://11.1.2.3/"), networks) is not None
    assert proxy_for(urlsplit("https://[fd00::1]/"), networks) is None


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
def test_p13_a_redacted_url_contains_no_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "see https://bob:hunter2@host/x?token=1 then ssh://bob@host",
            "see https://bob:***@host/x?*** then ssh://***@host",
        ),
        (f"{'a' * 100}://bob:hunter2@host/x", f"{'a' * 100}://bob:***@host/x"),
        ("a" * 200_000, "a" * 200_000),  # takes minutes if the time is quadratic
    ],
)
def test_p13_each_url_in_a_text_is_redacted(text: str, shown: str) -> None:
    assert redact_text(text) == shown
