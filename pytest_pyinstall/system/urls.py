"""Which part of a URL may be shown or stored, which parts are secret, and which proxy to use for it. No I/O."""

from __future__ import annotations

import contextlib
import re
from binascii import b2a_base64
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = [
    "basic_authorization",
    "is_local",
    "is_loopback",
    "origin",
    "proxy_for",
    "redact_text",
    "redacted",
    "resolve_redirect",
    "secrets_in",
    "without_secrets",
]


def redacted(url: str) -> str:
    """`url` with ``***`` for password and query, or for a user name without a password, and without fragment."""
    match = re.match(r"([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?(.*)", url, re.IGNORECASE | re.DOTALL)
    if not match:
        return printable(url)
    scheme, authority, path, query, fragment = match.groups()
    userinfo, _, host = authority.rpartition("@")
    rest = f"{path}{query or ''}{fragment}"
    if not re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host) or ("@" in rest and re.search("[@:]", authority)):
        # A / or ? or @ in the password that was not percent-encoded: the password may end at the last @.
        return f"{scheme}***"
    if userinfo:
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:***@" if colon else "***@"
    return printable(f"{scheme}{userinfo}{host}{path}{'?***' if query else ''}")


def redact_text(text: str) -> str:
    """`text`, such as the output of a program, with each URL in it `redacted`."""
    return re.sub(_URL, lambda match: redacted(match[0]), text, flags=re.IGNORECASE)


_URL = r"[a-z][a-z0-9+.-]{0,40}://[^\s'\"<>]+"  # compiled when a text is redacted, and not at each start
"""The length of the scheme is limited, because otherwise a long word takes quadratic time: 100 KB need 20 s."""


def without_secrets(url: str) -> str:
    """`url` without user, password, query and fragment, so that it can be stored. Downloads may need them."""
    if is_local(url):
        return url
    from urllib.parse import urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return redacted(url)


def is_local(url: str) -> bool:
    """Whether it is a file URL or a path."""
    return url.lower().startswith("file:") or "://" not in url


def is_loopback(host: str) -> bool:
    """Whether `host` is the name or an address of this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port. A password may only be sent to the same origin (RFC 6454)."""
    return (parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80))


def resolve_redirect(base: str, location: str) -> str:
    """The target of a redirect from `base`. A `location` that cannot be joined is returned unchanged."""
    from urllib.parse import urljoin

    try:
        return urljoin(base, location)
    except ValueError:
        return location


def basic_authorization(parts: SplitResult) -> str:
    """The Authorization header with the user and password of a URL. Empty if it has none."""
    if parts.username is None and parts.password is None:
        return ""
    from urllib.parse import unquote

    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {_base64(pair)}"


def secrets_in(*urls: str) -> frozenset[str]:
    """The secret parts of these URLs, in each form in which they may appear in a message."""
    from urllib.parse import unquote, urlsplit

    found = set()
    for url in urls:
        try:
            parts = urlsplit(url)
        except ValueError:  # an invalid URL, such as a proxy's: all of it may be secret
            found.add(url)
            continue
        userinfo = parts.netloc.rpartition("@")[0]
        for text in (userinfo, *userinfo.split(":", 1), parts.query, *parts.query.split("&"), parts.fragment):
            found |= {text, unquote(text), text.partition("=")[2]}
        if userinfo:
            found.add(_base64(unquote(userinfo)))
    return frozenset(text for text in found if text)


def _base64(text: str) -> str:
    return b2a_base64(text.encode(), newline=False).decode()


def proxy_for(parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    """The URL of the proxy to use, by the conventions of curl. None for a direct connection."""
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return None
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    for name in names:
        # If a web server started us, HTTP_PROXY may be a header of its client (https://httpoxy.org).
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
        if proxy := (environ.get(name) or upper).strip():
            port = parts.port or (443 if parts.scheme == "https" else 80)
            if _is_bypassed(host, port, environ.get("no_proxy") or environ.get("NO_PROXY", "")):
                return None
            return proxy if "://" in proxy else f"http://{proxy}"
    return None


def _is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    import ipaddress

    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
        name, _, number = entry.rpartition(":") if re.search(r":\d+$", entry) else (entry, "", "")
        name = name.strip("[]").removeprefix("*").lstrip(".")
        if name and number in {"", str(port)} and (host == name or host.endswith(f".{name}")):
            return True
    return False
