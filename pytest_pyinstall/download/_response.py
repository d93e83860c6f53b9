"""A response: what its headers say, when it is too slow, and whether a failed request can be retried."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import FetchError
from pytest_pyinstall.system.urls import redacted
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "HINT_OTHER_SERVER",
    "HINT_PAGE",
    "HINT_RETRY",
    "STOPPED",
    "Response",
    "RetryPolicy",
    "TransientError",
    "UnreachableError",
    "error_for_status",
    "in_short",
    "is_sendable",
    "looks_like_a_page",
    "proxy_refused",
    "with_hosts",
]


class RetryPolicy(Value):
    """When to give up. Times are in seconds, sizes in bytes; the last four are for tests.

    `total` limits one `fetch` with all its retries, `connect` one connection, `headers` the time from a request to the
    end of the response's headers, `read` a pause in the body. A response is given up if it brings less than
    `slow_bytes` in `slow_time`. After `attempts` failures in a row, `fetch` fails; an attempt that gets `worth` bytes
    further resets the count. If another process's download does not grow for `abandoned`, we start our own.
    """

    total: float = 1800.0
    connect: float = 10.0
    headers: float = 60.0
    read: float = 30.0
    slow_bytes: int = 60 * 1024
    slow_time: float = 60.0
    attempts: int = 5
    worth: int = 64 * 1024
    backoff: float = 0.5
    longest_backoff: float = 20.0
    longest_retry_after: float = 60.0
    redirects: int = 5
    abandoned: float = 90.0
    archive_size: int = 2 * 1024**3
    catalogue_size: int = 64 * 1024**2
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    jitter: Callable[[], float] | None = None
    sleep: Callable[[float], object] | None = None


HINT_RETRY = "try again later; behind a proxy: HTTPS_PROXY=http://host:port; from another server: --python-mirror URL"


HINT_OTHER_SERVER = "another server: --python-mirror URL or DIR"


STOPPED = "stopped while downloading"


class TransientError(Exception):
    """A failure after which a retry can help, at most `attempts` times in a row."""

    def __init__(
        self, reason: str, *, retry_after: float | None = None, hint: str = "", attempts: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.hint = hint
        self.attempts = attempts


class UnreachableError(FetchError):
    """All retries failed."""


class MissingFileError(FetchError):
    """The server or the mirror directory does not have the file."""


def proxy_refused(status: str, where: str, what: str) -> Exception:
    """The error if a proxy answers with `status` instead of the server."""
    if status == "407":
        hint = "HTTPS_PROXY=http://user:password@host:port"
        return FetchError(in_short(f"{what}: the proxy requires a user and a password (407): {where}"), hint=hint)
    if status.isdigit() and status.startswith("4") and status not in {"408", "425", "429"}:
        msg = in_short(f"{what}: the proxy rejected the request ({status}): {where}")
        return FetchError(msg, hint="without it: NO_PROXY=host")
    return TransientError(f"the proxy failed ({status if status.isdigit() else 'no response'}): {where}")


class Response(Value):
    """A response from `url`. The names of `headers` are in lower case; `chunks` is the body as it arrives."""

    url: str
    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    def iter_body(self, limits: RetryPolicy, deadline: float) -> Iterator[bytes]:
        """The body. Raises `TransientError` if it arrives too slowly, or after the deadline."""
        since, count = limits.clock(), 0
        for chunk in self.chunks:
            yield chunk
            count += len(chunk)
            now = limits.clock()
            if now >= deadline:
                msg = f"the download was not complete in time, {redacted(self.url)}"
                raise TransientError(msg)
            if now - since >= limits.slow_time:
                if count < limits.slow_bytes:
                    msg = f"only {count} bytes arrived in {now - since:.0f} s from {redacted(self.url)}"
                    raise TransientError(msg)
                since, count = now, 0

    @property
    def total(self) -> int | None:
        """The length of the whole file, if the server says it."""
        if self.status == 206:
            text = self.headers.get("content-range", "").rpartition("/")[2]
        else:
            text = self.headers.get("content-length", "")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    @property
    def range_start(self) -> int | None:
        match = re.match(r"bytes (\d{1,18})-", self.headers.get("content-range", ""))
        return int(match[1]) if match else None

    @property
    def validator(self) -> str:
        """The value for `If-Range`: a strong ETag or a date (RFC 9110, section 13.1.5). Empty if there is neither."""
        etag = self.headers.get("etag", "")
        if etag:
            return self.entity_tag if etag.startswith('"') else ""
        modified = self.headers.get("last-modified", "")
        return modified if is_sendable(modified) else ""

    @property
    def entity_tag(self) -> str:
        """The ETag. Empty if it is not visible ASCII, so that it cannot be sent (RFC 9110, section 8.8.3)."""
        etag = self.headers.get("etag", "")
        return etag if is_sendable(etag) else ""

    @property
    def is_page(self) -> bool:
        return self.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))


def is_sendable(text: str) -> bool:
    """Whether `text` can be the value of a request header."""
    return text.isascii() and text.isprintable()


def error_for_status(response: Response, what: str, limits: RetryPolicy) -> Exception:
    """The error for an unexpected status."""
    status, where = response.status, redacted(response.url)
    reason = f"HTTP {status} from {where}"
    short = in_short(f"{what}: {reason}")
    if status in {408, 425, 429} or status >= 500:
        return TransientError(reason, retry_after=_retry_after(response.headers, limits.wall_clock))
    if status in {404, 410}:
        return MissingFileError(short, hint=f"this server does not have it; {HINT_OTHER_SERVER}")
    if status in {401, 403}:
        hint = "put the mirror's user and password into its URL: --python-mirror https://user:password@host/path"
        return FetchError(short, hint=hint)
    if status == 407:
        return proxy_refused("407", where, what)
    return FetchError(in_short(f"{what}: unexpected response, {reason}"), hint=HINT_OTHER_SERVER)


def in_short(text: str) -> str:
    """`text` with the host of each URL in place of the URL, and below it the first URL.

    The first line of a message is shown on its own, too: beside the other Pythons, and in pytest's short summary.
    """
    url = re.search(_URL, text)
    return f"{with_hosts(text)}\n  {url[0]}" if url else text


def with_hosts(text: str) -> str:
    """`text` with the host of each URL in place of the URL."""
    return re.sub(_URL, r"\1", text)


_URL = r"https?://(?:[^\s/@;,)]*@)?([^\s/@;,)]+)[^\s;,)]*"


def looks_like_a_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is HTML, whatever its headers say."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


HINT_PAGE = "a login page or a proxy answered; open the URL in a browser"
"""For HTML instead of a file. The message has the URL, so that several Pythons share the hint."""


def _retry_after(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> float | None:
    """The seconds to wait, if the server says so, in seconds or as a date by its own clock."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = wall_clock()
    return max(0.0, then - now)
