"""The document that uv publishes, in its real format, made from the rows that the installed uv lists."""

import hashlib
import json
import re
import subprocess
from functools import cache
from typing import Any

from uv import find_uv_bin

__all__ = ["document", "listed"]


PRERELEASES = ("3.15.0rc1", "3.14.0rc2", "3.13.0b4")


@cache
def document() -> dict[str, dict[str, Any]]:
    """The rows of the document, with made-up digests, and with the debug rows that ``uv python list`` omits."""
    everywhere = ("--all-platforms", "--all-arches")
    # uv lists the pre-releases of released versions only on request.
    rows = [*_run(*everywhere), *(row for text in PRERELEASES for row in _run(*everywhere, text))]
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        for variant in ("", "debug") if row["libc"] == "gnu" and row["implementation"] == "cpython" else ("",):
            name, entry = _entry(row, variant)
            found[name] = entry
    return found


def listed(request: str, path: str) -> list[str]:
    """The keys that ``uv python list REQUEST`` prints for this machine and the document at `path`, in its order."""
    return [row["key"] for row in _run("--python-downloads-json-url", path, request)]


def _run(*words: str) -> list[dict[str, Any]]:
    command = [find_uv_bin(), "python", "list", "--only-downloads", "--all-versions", "--no-config", "--offline"]
    done = subprocess.run(
        [*command, "--output-format", "json", *words], capture_output=True, text=True, check=True, timeout=100
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _entry(row: dict[str, Any], debug: str) -> tuple[str, dict[str, Any]]:
    family, _, level = row["arch"].partition("_v")
    variant = "+".join(filter(None, [row["variant"].replace("default", ""), debug]))
    prerelease = re.sub(r"^[0-9.]+", "", row["version"])
    tag = re.search(r"/download/([0-9]{8})/", row["url"])
    numbers = row["version_parts"]
    written = f"{numbers['major']}.{numbers['minor']}.{numbers['patch']}{prerelease}{f'+{variant}' if variant else ''}"
    name = f"{row['implementation']}-{written}-{row['os']}-{row['arch']}-{row['libc']}"
    url = row["url"].replace("install_only_stripped.tar.gz", "debug-full.tar.zst") if debug else row["url"]
    return name, {
        "name": row["implementation"],
        "arch": {"family": family if level else row["arch"], "variant": f"v{level}" if level else None},
        "os": row["os"].replace("macos", "darwin"),
        "libc": row["libc"],
        **numbers,
        "prerelease": prerelease,
        "url": url,
        "sha256": hashlib.sha256(url.encode()).hexdigest(),
        "variant": variant or None,
        "build": tag[1] if tag else None,
    }
