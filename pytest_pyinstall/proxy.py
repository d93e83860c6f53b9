"""Which proxy to ask, by the conventions of curl."""

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult

from pytest_pyinstall.url import is_loopback

__all__ = ["proxy_for"]


def proxy_for(parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    """The proxy to ask, by the conventions of curl; None for directly."""
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return None
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    for name in names:
        # Where we are started by a web server, HTTP_PROXY is a header of whoever asked it (https://httpoxy.org).
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
        if proxy := (environ.get(name) or upper).strip():
            port = parts.port or (443 if parts.scheme == "https" else 80)
            if _is_bypassed(host, port, environ.get("no_proxy") or environ.get("NO_PROXY", "")):
                return None
            return proxy if "://" in proxy else f"http://{proxy}"
    return None


def _is_bypassed(host: str, port: int, no_proxy: str) -> bool:
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
