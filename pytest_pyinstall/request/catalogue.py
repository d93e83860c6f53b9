"""The known builds, their source, and the URL of each of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from pytest_pyinstall.errors import CatalogueError
from pytest_pyinstall.request.identity import (
    ARCHITECTURE_WORDS,
    LIBC_WORDS,
    SYSTEM_WORDS,
    Build,
    Key,
    Target,
    normalized_number,
)
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.urls import redact_text
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "UV_DOCUMENT",
    "UV_NAME",
    "Catalogue",
    "default_catalogue",
    "document_place",
    "key_name",
    "mirrored",
    "parse_catalogue",
    "row_of",
    "triple_of",
]


_IMPLEMENTATIONS = {"cpython", "pypy", "graalpy"}


_VARIANTS = {"", "freethreaded", "debug", "freethreaded+debug", "gil"}


_RELEASE_PREFIXES = (
    "https://github.com/astral-sh/python-build-standalone/releases/download",
    "https://releases.astral.sh/github/python-build-standalone/releases/download",
    "https://github.com/oracle/graalpython/releases/download",
)


_PYPY_PREFIX = "https://downloads.python.org/pypy"


_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


_TAG = re.compile(r"/download/(?P<release>[^/]+)/[^/]*$|-v(?P<pypy>[0-9.]+)-[^/]*$")


_DEFAULT = "pbs-installer"

UV_DOCUMENT = "https://raw.githubusercontent.com/astral-sh/uv/main/crates/uv-python/download-metadata.json"
"""The document with uv's builds. A mirror has it under the same file name."""

UV_NAME = "of uv"
"""The name of that catalogue in messages."""


_DEFAULT_HINT = "--python-catalogue pbs"


_UPGRADE_HINT = "python -m pip install --upgrade pbs-installer"


class Catalogue(Value):
    """Builds of all targets, in no particular order.

    `origin` is their source for messages, without credentials. `without_digest` are the keys of rows that were skipped
    because they have no sha256.
    """

    builds: tuple[Build, ...]
    origin: str
    without_digest: tuple[Key, ...] = ()


@cache
def default_catalogue() -> Catalogue:
    """The catalogue inside ``pbs-installer``: CPython with free-threaded builds, and PyPy, for all targets.

    It is read once in a process. It uses the ``install_only`` archive of each Python; Linux means the GNU libc. The
    file is read without importing the package, whose import takes ten times as long and changes its URLs if an
    environment variable is set. Raises `CatalogueError` if the package has no such file.
    """
    from importlib.util import find_spec  # a configured catalogue does not need it

    spec = find_spec("pbs_installer")
    places = [Path(place) / "versions.json" for place in (spec and spec.submodule_search_locations) or ()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        message = "pbs-installer, which contains the default catalogue, is missing or too old: it has no versions.json"
        raise CatalogueError(message, hint=_UPGRADE_HINT)
    try:
        return _collect(_pbs_rows(parse_json(path.read_bytes())), origin=_DEFAULT)
    except (OSError, KeyError, TypeError, ValueError) as error:
        message = f"the catalogue of pbs-installer cannot be read: {error!r} in {path}"
        raise CatalogueError(message, hint=_UPGRADE_HINT) from error


def parse_catalogue(text: bytes | str, *, origin: str, base_url: str | None = None, name: str = "") -> Catalogue:
    """The builds of a document in the JSON schema of uv's ``--python-downloads-json-url``.

    Only entries for unknown systems, architectures, libcs, implementations and variants are skipped; a broken entry is
    an error. An entry with a null sha256 goes to `without_digest`. Messages call the catalogue `name`, or `origin`.
    Relative URLs start from `base_url`, or from `origin` if that is a URL or an absolute path. An entry can have a
    ``size`` in bytes, and an ``attestation``, the URL of its Sigstore bundle. Raises `CatalogueError`.

    Source: ``JsonPythonDownload`` in uv's ``crates/uv-python/src/downloads.rs``.
    """
    shown = name or _without_credentials(origin)
    try:
        document = parse_json(text)
    except ValueError as error:
        message = f"the catalogue {shown} is not JSON: {_trouble(text, error)}"
        raise CatalogueError(message, hint=_DEFAULT_HINT) from error
    if not isinstance(document, dict):
        message = f"the catalogue {shown} is not in uv's schema: it must be a JSON object, not a {_kind(document)}"
        raise CatalogueError(message, hint=_DEFAULT_HINT)
    if "version" in document:
        message = (
            f"the catalogue {shown} has an unknown, newer schema (version {redact_text(repr(document['version'])):.20})"
        )
        raise CatalogueError(message, hint="python -m pip install --upgrade pytest-pyinstall")
    base = base_url or origin
    try:
        return _collect(_uv_rows(document, lambda url: _absolute(url, base)), origin=shown)
    except _BrokenEntryError as error:
        message = f"the catalogue {shown} is broken: {error}"
        raise CatalogueError(message, hint=_DEFAULT_HINT) from error


def mirrored(build: Build, *, mirror: str | None, pypy_mirror: str | None) -> str:
    """The place to fetch `build` from: a URL, or an absolute path if the mirror is a directory.

    A mirror replaces the release host and keeps the rest of the path: ``MIRROR/20261021/cpython-….tar.gz`` for
    python-build-standalone and ``MIRROR/graal-24.2.2/…`` for GraalPy. `pypy_mirror` replaces
    ``https://downloads.python.org/pypy``; without it, PyPy comes from ``MIRROR/pypy/…``. In any other URL, the host is
    replaced. Files, and URLs below the mirror, do not change. In a directory, names are percent-decoded, like the
    names of downloaded files.
    """
    url = build.url
    if not url.startswith(("https://", "http://")):
        return url
    if pypy_mirror and url.startswith(f"{_PYPY_PREFIX}/"):
        return _below(pypy_mirror, url.removeprefix(_PYPY_PREFIX))
    if not mirror or url.startswith(f"{mirror.rstrip('/')}/"):
        return url
    prefix = next((prefix for prefix in _RELEASE_PREFIXES if url.startswith(f"{prefix}/")), None)
    return _below(mirror, url.removeprefix(prefix) if prefix else urlsplit(url).path)


def document_place(mirror: str | None) -> str:
    """The place of the document that uv publishes: the mirror if there is one, because a mirror replaces everything."""
    return _below(mirror, "/" + UV_DOCUMENT.rpartition("/")[2]) if mirror else UV_DOCUMENT


def _below(mirror: str, path: str) -> str:
    if "://" not in mirror:
        return str(Path(mirror, *unquote(path).split("/")[1:]))
    parts = urlsplit(mirror)
    # Not urljoin: the mirror can have a query, such as a token, that must follow the path.
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))


class _BrokenEntryError(Exception):
    """An entry cannot be read. The text names it."""


class _UnusableUrlError(ValueError):
    """A URL that is valid, but cannot be used. The text does not contain it."""


_CatalogueRow = tuple[Key, str, str | None, int | None, str, str | None]
"""Key, URL, sha256, size, tag, and the URL of the attestation."""


def _collect(rows: Iterable[_CatalogueRow], *, origin: str) -> Catalogue:
    builds: list[Build] = []
    without_digest: list[Key] = []
    for key, url, sha256, size, tag, attestation in rows:
        if sha256 is None:
            without_digest.append(key)
        else:
            builds.append(Build(key=key, url=url, sha256=sha256, size=size, tag=tag, attestation=attestation))
    return Catalogue(builds=tuple(builds), origin=origin, without_digest=tuple(without_digest))


def _trouble(text: bytes | str, error: ValueError) -> str:
    start = text[:200].decode("utf-8", "replace") if isinstance(text, bytes) else text[:200]
    if not start.strip():
        return "it is empty"
    if start.lstrip().startswith("<"):
        return "it is a web page (of a login, or of a proxy?)"
    return f"{error}".partition("; use sys.")[0]  # the limit of digits in a number


def _kind(value: object) -> str:
    return {dict: "object", list: "list", str: "string", type(None): "null", bool: "boolean"}.get(type(value), "number")


def _without_credentials(origin: str) -> str:
    """`origin` without user, password and query, which may be secret."""
    if "://" not in origin:
        return origin
    scheme, _, rest = origin.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{re.sub(r'[?#].*', '', path)}"


@cache
def _number(major: int, minor: int, patch: int, prerelease: str) -> str:
    return normalized_number(f"{major}.{minor}.{patch}{prerelease}")


@cache
def _target(system: str, family: str, level: str | None, libc: str) -> Target | None:
    """The target in our words, or None if it is unknown. `level` is uv's ``v3`` of ``x86_64_v3``."""
    arch = ARCHITECTURE_WORDS.get(f"{family}_{level}" if level else family)
    if system not in SYSTEM_WORDS or arch is None or libc not in LIBC_WORDS:
        return None
    return Target(os=SYSTEM_WORDS[system], arch=arch, libc=libc)


def _uv_rows(document: dict[str, Any], absolute: Callable[[str], str]) -> Iterator[_CatalogueRow]:
    for name, entry in document.items():
        try:
            if row := _uv_row(entry, absolute):
                yield row
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else f"{error}"
            what = f"{what[:200]}…" if len(what) > 200 else what
            message = f"{what} in the entry {redact_text(repr(name)):.100}"
            raise _BrokenEntryError(message) from error


def _uv_row(entry: Any, absolute: Callable[[str], str]) -> _CatalogueRow | None:
    """One entry, or None for an unknown kind. Raises `KeyError`, `TypeError` or `ValueError` if it is broken."""
    if type(entry) is not dict:
        message = f"it must be a JSON object, not a {_kind(entry)},"
        raise TypeError(message)
    arch = entry["arch"]
    if type(arch) is not dict:
        message = f"arch must be an object with family and variant, not a {_kind(arch)},"
        raise TypeError(message)
    name, system, libc, url = (_text(entry, field) for field in ("name", "os", "libc", "url"))
    variant, prerelease, sha256, tag, attestation = (_text_or_null(entry, field) for field in _NULLABLE)
    numbers = entry["major"], entry["minor"], entry["patch"]
    size = entry.get("size")
    for number, most in zip((*numbers, 0 if size is None else size), (*_MOST_OF_VERSION, _MOST_BYTES), strict=True):
        if type(number) is not int or not 0 <= number <= most:
            message = f"major, minor, patch and size are whole numbers, not {redact_text(repr(number)):.20},"
            raise TypeError(message)
    target = _target(system, _text(arch, "family"), _text_or_null(arch, "variant"), libc)
    if target is None or name not in _IMPLEMENTATIONS or (variant or "") not in _VARIANTS:
        return None
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        message = f"the sha256 {redact_text(repr(sha256)):.80} is not 64 hexadecimal digits"
        raise ValueError(message)
    key = Key(implementation=name, number=_number(*numbers, prerelease or ""), variant=variant or "", target=target)
    address = url if _PLAIN_URL.fullmatch(url) else _checked(url, "url", absolute)
    bundle = _checked(attestation, "attestation", absolute) if attestation else None
    return key, address, sha256.lower() if sha256 else None, size, tag or "", bundle


_MOST_OF_VERSION = (255, 255, 9999)
"""Larger numbers would not fit into the name of a directory."""


_MOST_BYTES = 2**53


_PLAIN_URL = re.compile(r"https://[A-Za-z0-9.-]+/(?:[A-Za-z0-9_.+~@=/-]|%2B)+")
"""URLs that need no further check, because that takes ten times as long."""


def _checked(url: str, field: str, absolute: Callable[[str], str]) -> str:
    """The absolute URL. Raises `ValueError`, without the URL, which may contain a password, if it is not valid."""
    try:
        joined = absolute(url)
        parts = urlsplit(joined)
        is_valid = parts.scheme == "file" or bool(parts.hostname)
        _ = parts.port  # raises ValueError
    except _UnusableUrlError as error:
        message = f"the {field} {error}"
        raise ValueError(message) from error
    except ValueError:
        is_valid = False
    if not is_valid or "\0" in unquote(url):
        message = f"the {field} is not a valid URL"
        raise ValueError(message) from None
    return joined


_NULLABLE = ("variant", "prerelease", "sha256", "build", "attestation")


def _text(entry: dict[str, Any], field: str) -> str:
    value = entry[field]
    if type(value) is not str:
        message = f"{field} must be a string, not a {_kind(value)},"
        raise TypeError(message)
    if not value.isprintable() and _UNWRITABLE.search(value):
        message = f"{field} contains control characters or half of a surrogate pair,"
        raise ValueError(message)
    return value


_UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
"""Control characters, which `urlsplit` removes in part, and surrogates, which JSON can contain and no file can."""


def _text_or_null(entry: dict[str, Any], field: str) -> str | None:
    return None if entry.get(field) is None else _text(entry, field)


def _absolute(url: str, base: str) -> str:
    """`url` as seen from `base`; files become ``file://`` URLs, which can hold any name."""
    if "://" not in url and "://" not in base:
        directory = Path(base) if base.endswith("/") else Path(base).parent
        path = directory / unquote(url)
        if not path.is_absolute():
            message = "is relative, but the catalogue has no place of its own,"
            raise _UnusableUrlError(message)
        return path.as_uri()
    joined = urljoin(base, url) if "://" in base else url
    if urlsplit(joined).scheme not in {"https", "http", "file"}:
        message = "is neither https, http nor file"
        raise _UnusableUrlError(message)
    return joined


def _pbs_rows(document: Any) -> Iterator[_CatalogueRow]:
    """The rows of ``versions.json`` of pbs-installer 2026: versions with their files, ``install_only`` or full.

    A full archive (zstd, debug symbols, four times the size) is used only if there is no other, as for the first
    free-threaded builds.
    """
    for entry in document:
        version = entry["python_version"]
        installable = {(file["platform"], file["arch"]) for file in entry["files"] if file["install_only"]}
        for file in entry["files"]:
            target = _target(file["platform"], file["arch"], None, "gnu" if file["platform"] == "linux" else "none")
            is_fallback = not file["install_only"]
            if target is None or (is_fallback and (file["platform"], file["arch"]) in installable):
                continue
            key = Key(
                implementation=version["implementation"],
                number=_number(version["major"], version["minor"], version["micro"], ""),
                variant="freethreaded" if version["freethreaded"] else "",
                target=target,
            )
            tag = _TAG.search(file["url"])
            yield key, file["url"], file["sha256"], None, (tag["release"] or tag["pypy"]) if tag else "", None


_TRIPLE_ARCHITECTURES = {"x86": "i686", "powerpc64le": "ppc64le", "riscv64gc": "riscv64"}


_TRIPLE_SYSTEMS = {"macos": "apple-darwin", "windows": "pc-windows-msvc"}


def triple_of(target: Target) -> str:
    arch = _TRIPLE_ARCHITECTURES.get(target.arch, target.arch)
    return f"{arch}-{_TRIPLE_SYSTEMS.get(target.os, f'unknown-{target.os}-{target.libc}')}"


# Words in uv's download-metadata.json that differ from those in its keys and ours.
_SYSTEMS = {"macos": "darwin"}


_ARCHITECTURES = {"x86": "i686", "riscv64gc": "riscv64"}


def key_name(key: Key) -> str:
    variant = f"+{key.variant}" if key.variant else ""
    row = _arch(key)
    arch = f"{row['family']}_{row['variant']}" if row["variant"] else row["family"]
    system = _SYSTEMS.get(key.target.os, key.target.os)
    return f"{key.implementation}-{key.number}{variant}-{system}-{arch}-{key.target.libc}"


def _arch(key: Key) -> dict[str, str | None]:
    match = re.fullmatch(r"(.+)_(v\d)", key.target.arch)
    family, variant = match.groups() if match else (key.target.arch, None)
    return {"family": _ARCHITECTURES.get(family, family), "variant": variant}


def row_of(build: Build) -> dict[str, object]:
    """A row in the schema of uv's ``download-metadata.json``, with the size, which uv ignores."""
    version = build.key.version
    return {
        "name": build.key.implementation,
        "arch": _arch(build.key),
        "os": _SYSTEMS.get(build.key.target.os, build.key.target.os),
        "libc": build.key.target.libc,
        "major": version.major,
        "minor": version.minor,
        "patch": version.micro,
        "prerelease": "".join(map(str, version.pre or ())),
        "url": build.url,
        "sha256": build.sha256,
        "size": build.size,
        "variant": build.key.variant or None,
        "build": build.tag or None,
    }
