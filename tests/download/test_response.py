"""Responses with a wrong type, status, speed, date or validator are recognized."""

import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from downloads import BUILD, CONTENT, KEY, PATH, Fetcher
from mirror import (
    Behaviour,
    etag,
    html,
    noetag,
    status,
    trickle,
)

from pytest_pyinstall.errors import (
    DigestMismatchError,
    FetchError,
    SizeMismatchError,
)


def test_an_html_page_without_a_content_type_is_recognized(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, status(200, body=b"\n<!DOCTYPE HTML><p>Sign in"))

    with pytest.raises(DigestMismatchError, match="HTML page") as caught:
        fetcher(replace(BUILD, size=None))
    # The errors of several Pythons are shown as one if they have the same hint.
    assert fetcher.mirror.url in caught.value.message
    assert fetcher.mirror.url not in caught.value.hint


def test_an_html_page_without_a_length_is_recognized(fetcher: Fetcher) -> None:
    fetcher.mirror.always(PATH, replace(html(), has_length=False))

    with pytest.raises(SizeMismatchError, match="HTML page"):
        fetcher()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 407, 410, 416, 451, 204])
def test_p12_a_permanent_status_is_not_retried(fetcher: Fetcher, code: int) -> None:
    fetcher.mirror.always(PATH, status(code))

    with pytest.raises(FetchError) as caught:
        fetcher()

    assert fetcher.gets == 1
    assert fetcher.pauses == []
    assert str(code) in str(caught.value)
    assert KEY.display_name in caught.value.message.splitlines()[0]
    assert caught.value.hint
    assert fetcher.files == []


def test_p12_a_body_that_arrives_too_slowly_is_retried(fetcher: Fetcher) -> None:
    fetcher.limit(slow_time=0.2, slow_bytes=10_000)
    fetcher.mirror.script(PATH, trickle(step=10, pause=0.02))

    assert fetcher() == CONTENT
    assert fetcher.gets == 2


def test_a_body_that_is_slow_but_not_too_slow_arrives(fetcher: Fetcher) -> None:
    fetcher.limit(slow_time=0.05, slow_bytes=10)
    fetcher.mirror.script(PATH, trickle(step=10_000, pause=0.01))

    assert fetcher() == CONTENT
    assert fetcher.gets == 1


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
def test_p12_retry_after_is_respected_up_to_a_limit(fetcher: Fetcher, value: str, pause: float) -> None:
    fetcher.mirror.script(PATH, status(429, {"Retry-After": value}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [pause]


def test_a_date_in_retry_after_is_compared_with_our_clock_without_a_date_header(fetcher: Fetcher) -> None:
    fetcher.limit(wall_clock=lambda: 1_000_000_000.0)
    then = formatdate(1_000_000_030, usegmt=True)
    fetcher.mirror.script(PATH, status(503, {"Retry-After": then, "Date": ""}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [30]


def test_a_date_in_retry_after_is_compared_with_the_date_header(fetcher: Fetcher) -> None:
    now = time.time() - 86400
    date, then = formatdate(now, usegmt=True), formatdate(now + 20, usegmt=True)
    fetcher.mirror.script(PATH, status(503, {"Retry-After": then, "Date": date}))

    assert fetcher() == CONTENT
    assert fetcher.pauses == [20]


@pytest.mark.parametrize("behaviour", [noetag(), etag('W/"weak"')], ids=["none", "weak"])
def test_no_range_is_requested_without_a_strong_validator(fetcher: Fetcher, behaviour: Behaviour) -> None:
    fetcher.mirror.script(PATH, replace(behaviour, stop="fin", after=100_000))

    assert fetcher() == CONTENT
    assert "range" not in fetcher.mirror.gets(PATH)[1].headers


def test_without_an_etag_the_date_is_the_validator(fetcher: Fetcher) -> None:
    modified = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    fetcher.mirror.script(PATH, replace(noetag(), stop="fin", after=100_000, headers=modified))

    assert fetcher() == CONTENT
    assert fetcher.mirror.gets(PATH)[1].headers["if-range"] == modified["Last-Modified"]
