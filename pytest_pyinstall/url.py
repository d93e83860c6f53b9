"""What may be shown of a URL, and what in it has to stay secret: pure functions."""

import re
from binascii import b2a_base64
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

__all__ = ["basic_authorization", "is_local", "is_loopback", "joined", "origin", "redacted", "secrets_in"]


def redacted(url: str) -> str:
    """`url` as it may be shown: password and query are ``***``, so is a lone user name, the fragment is gone."""
    match = re.match(r"([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?", url, re.IGNORECASE | re.DOTALL)
    if not match:
        return url
    scheme, authority, path, query = match.groups()
    userinfo, _, host = authority.rpartition("@")
    if not re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host):
        return f"{scheme}***"  # a password with an unescaped / or ? in it: nobody can tell where it ends
    if userinfo:
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:***@" if colon else "***@"
    return f"{scheme}{userinfo}{host}{path}{'?***' if query else ''}"


def is_local(url: str) -> bool:
    """Whether it is a file URL or a path."""
    return url.lower().startswith("file:") or "://" not in url


def is_loopback(host: str) -> bool:
    """Whether `host` is this very machine, by its name or as an address."""
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
    """Scheme, host and port: what has to be the same for a password to go along (RFC 6454)."""
    return (parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80))


def joined(base: str, location: str) -> str:
    """Where a redirect from `base` leads; a `location` that cannot be joined as it is."""
    try:
        return urljoin(base, location)
    except ValueError:
        return location


def basic_authorization(parts: SplitResult) -> str:
    """The header that says the user and password of a URL; empty where it has none."""
    if parts.username is None and parts.password is None:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {_base64(pair)}"


def secrets_in(*urls: str) -> frozenset[str]:
    """The parts of these URLs that must not be shown, in each form in which they might turn up."""
    found = set()
    for url in urls:
        try:
            parts = urlsplit(url)
        except ValueError:  # a proxy's; nothing can be told apart in it
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
