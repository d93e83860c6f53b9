"""Parses requests."""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request._grammar import (
    IMPLEMENTATIONS,
    LONGEST_TEXT,
    NAME,
    OPERATOR,
    TAGS,
    VARIANT,
    VARIANTS,
    WORDS,
    WrittenVersion,
    range_members,
    written_version,
)
from pytest_pyinstall.request.identity import ARCHITECTURE_WORDS, LIBC_WORDS, SYSTEM_WORDS, Target
from pytest_pyinstall.system.urls import redacted
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.specifiers import SpecifierSet

    from pytest_pyinstall.request.identity import Key

__all__ = ["ANY", "WORDS", "Request", "as_ranges", "parse_requests"]


_ROWS = {
    "version": "a version, such as 3.12",
    "pre-release": "a pre-release, such as 3.15.0rc1",
    "variant": "a variant, such as 3.13t",
    "implementation": "an implementation and its version, such as pypy3.11",
    "specifier": "a PEP 440 specifier, such as >=3.10,<3.13",
    "key": "a key, such as cpython-3.12.3-linux-x86_64-gnu",
    "path": "the path of an executable, such as ./build/python",
    "range": "a range, such as 3.9..3.13",
    "word": "one of the words supported, lowest, latest, current, pinned",
    "list": "several requests with a comma between them, such as 3.9,3.13",
}


_EMPTY = "the request is empty"


_SHOWN = 60  # characters of a faulty text in a message


_SEPARATORS = "/\\" if sys.platform == "win32" else "/"


_NAMED_FORM = re.compile(rf"({NAME})?(@?)([0-9].*)?")


# Compiled when a request needs them: most are versions.
_SPECIFIER_FORM = rf"({NAME})?@?\s*((?:{OPERATOR}).*)"


_CLAUSE_FORM = rf"\s*({OPERATOR})\s*(\S*[0-9*])({VARIANT})\s*"


class Request(Value):
    """A request for a Python.

    >>> Request.parse("pypy3.11").implementation
    'pypy'

    `implementation` is None if any is accepted. `variant` is empty for the usual build, otherwise ``freethreaded``,
    ``debug``, ``freethreaded+debug``, or ``any``. `versions` is a PEP 440 specifier, empty if any version is accepted.
    `os`, `arch` and `libc` are None if the request does not name them. If `path` is set, the request means that
    executable, and the other fields do not matter. If `word` is set, such as ``supported``, it stands for other
    requests.
    """

    text: str
    implementation: str | None = "cpython"
    versions: str = ""
    variant: str = ""
    os: str | None = None
    arch: str | None = None
    libc: str | None = None
    path: Path | None = None
    word: str | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, *, directory: Path = Path()) -> Request:
        """Parse a single request. A relative path in it starts from `directory`.

        This does not check whether such a Python exists. Raises `InvalidRequestError` if `text` is not one request.
        """
        requests = _requests(text.strip(), directory)
        if len(requests) > 1:
            message = f"{text!r} names {len(requests)} Pythons, but only one is allowed here"
            raise InvalidRequestError(message, hint=requests[-1].text)
        return requests[0]

    @cached_property
    def specifier(self) -> SpecifierSet:
        """`versions`, parsed."""
        # Imported here, because that takes 5 ms, and a request such as 3.12 does not need it.
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(self.versions)

    @property
    def names_prerelease(self) -> bool:
        """Whether the request names a pre-release: ``3.15.0rc1``, ``>=3.15.0a1``."""
        return bool(self.versions) and not self._is_plain and bool(self.specifier.prereleases)

    def fits(self, key: Key, *, target: Target, allow_prereleases: bool = False) -> bool:
        """Whether `key` matches the request, on `target` unless the request names another one.

        A variant fits only a request for exactly that variant. A pre-release fits only a request that names one, unless
        `allow_prereleases`. Nothing fits a path or a word.
        """
        return (
            self.path is None
            and self.word is None
            and self.implementation in {key.implementation, None}
            and self._fits_variant(key.variant)
            and key.target == self.target(target)
            and (allow_prereleases or self.names_prerelease or not key.is_prerelease)
            and self._contains(key)
        )

    def _contains(self, key: Key) -> bool:
        if not self.versions:
            return True
        if not self._is_plain:
            return self.specifier.contains(key.version, prereleases=True)
        numbers = tuple(map(int, self.versions[2:].removesuffix(".*").split(".")))
        if self.versions.endswith(".*"):
            return (*key.release, 0, 0)[: len(numbers)] == numbers
        length = max(len(numbers), 3)  # 3.12 is the same version as 3.12.0
        return not key.is_prerelease and _padded(numbers, length) == _padded(key.release, length)

    @property
    def _is_plain(self) -> bool:
        """Whether `versions` is of the kind ``==3.12.*`` or ``==3.12.4``."""
        numbers = self.versions.removeprefix("==").removesuffix(".*").split(".")
        return self.versions.startswith("==") and all(map(str.isdecimal, numbers))

    def target(self, target: Target) -> Target:
        """The target of the Python: the parts that the request names, and those of `target` for the rest."""
        if self.os is None and self.arch is None and self.libc is None:
            return target
        system = self.os or target.os
        libc = target.libc if system == target.os else "gnu" if system == "linux" else "none"
        return Target(os=system, arch=self.arch or target.arch, libc=self.libc or libc)

    def _fits_variant(self, variant: str) -> bool:
        if self.variant == "any":
            return True
        return variant in {"", "gil"} if self.variant == "gil" else variant == self.variant


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


ANY = Request(text="any", implementation=None, variant="any")
"""Every Python of this target. In a key, ``any`` does not include the variants."""


def parse_requests(texts: Iterable[object], *, directory: Path, origin: str) -> tuple[Request, ...]:
    """Parse every request in `texts`, in order. Commas and line ends separate requests; ranges become their members.

    `origin` names the option, variable or ini value of the texts; relative paths start from `directory`. Words
    (`WORDS`) stay requests, which `project.resolve_keywords` expands. Raises `InvalidRequestError`, which names
    `origin`, for the first item that is not a request, empty, or not a string: TOML reads ``[3.10]`` as the number 3.1.
    """
    requests: list[Request] = []
    for item in [texts] if isinstance(texts, str) else texts:
        if not isinstance(item, str):
            raise _no_string(item, origin)
        pieces = [piece for line in item.splitlines() if line.strip() for piece in _pieces(line)]
        if not all(pieces):
            message = f"{origin}: there is no request between two commas, or after the last one: {item!r:.60}"
            raise InvalidRequestError(message, hint=",".join(filter(_is_request, pieces)) or "3.12")
        if not pieces:
            message = f"{origin}: {_EMPTY}"
            raise InvalidRequestError(message, hint="3.12")
        try:
            for piece in pieces:
                requests += _requests(piece, directory)
        except InvalidRequestError as error:
            message = f"{origin}: {error.message}"
            raise InvalidRequestError(message, hint=error.hint) from None
    return tuple(requests)


def _no_string(item: object, origin: str) -> InvalidRequestError:
    kind = type(item).__name__
    if isinstance(item, float) and str(item) in {"3.1", "3.2"}:
        message = f"{origin}: {item!r} is a {kind}, not a string (unquoted, 3.{str(item)[2:]}0 is the number {item!r})"
        return InvalidRequestError(message, hint=f'"{item}0"')
    if isinstance(item, int | float) and not isinstance(item, bool) and _is_request(str(item)):
        return InvalidRequestError(f"{origin}: {item!r} is a {kind}, not a string", hint=f'"{item}"')
    return InvalidRequestError(f"{origin}: {item!r:.60} is a {kind}, not a string", hint='"3.12"')


def _pieces(line: str) -> Iterator[str]:
    """The requests of a line. A comma before a clause belongs to the specifier and does not separate requests."""
    piece, *parts = line.split(",")
    for part in parts:
        if re.match(rf"\s*(?:{OPERATOR})", part) and re.fullmatch(_SPECIFIER_FORM, piece.strip().lower()):
            piece += f",{part}"
        else:
            yield piece.strip()
            piece = part
    yield piece.strip()


def _requests(text: str, directory: Path) -> tuple[Request, ...]:
    """The request in `text`, or the members of a range."""
    if request := _request(text, directory):
        return (request,)
    if members := range_members(text):
        return tuple(request for member in members if (request := _request(member, directory)))
    raise _refusal(text)


def _request(text: str, directory: Path) -> Request | None:
    """The request in `text`, or None if it is not exactly one."""
    if any(separator in text for separator in _SEPARATORS):
        return _path(text, directory)
    if not text or len(text) > LONGEST_TEXT:
        return None
    lowered = text.lower()
    if lowered in WORDS:
        return Request(text=text, word=lowered)
    return _named(text, lowered) or _specified(text, lowered) or _keyed(text, lowered)


def _path(text: str, directory: Path) -> Request | None:
    if "://" in text or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    # Not Path.expanduser: to pathlib, ./~name is ~name.
    place = os.path.expanduser(text)  # noqa: PTH111
    if place == text and text.startswith("~"):
        user = re.split(r"[/\\]", text[1:], maxsplit=1)[0]
        reason = f"there is no user {user!r}" if user else "there is no home directory for ~"
        raise InvalidRequestError(f"{text!r}: {reason}", hint="/usr/bin/python3")
    return Request(text=text, implementation=None, path=directory / place)


def _named(text: str, lowered: str) -> Request | None:
    """``3.12``, ``py312``, ``pypy@3.11``, ``pypy``."""
    match = _NAMED_FORM.fullmatch(lowered)
    if not match:
        return None
    name, at, digits = match.groups()
    if digits is None:
        alone = bool(name) and name not in TAGS and not at
        return Request(text=text, implementation=IMPLEMENTATIONS[name]) if alone else None
    version = written_version(digits)
    if version is None or (at and not name):
        return None
    implementation = IMPLEMENTATIONS[name or "python"]
    return Request(text=text, implementation=implementation, versions=version.specifier, variant=version.variant)


def _specified(text: str, lowered: str) -> Request | None:
    """``>=3.10,<3.13``, ``pypy>=3.10``, ``>=3.14t``."""
    match = re.fullmatch(_SPECIFIER_FORM, lowered)
    if not match:
        return None
    clauses = [re.fullmatch(_CLAUSE_FORM, clause) for clause in match[2].split(",")]
    variants = {clause[3] for clause in clauses if clause and clause[3]}
    if not all(clauses) or len(variants) > 1:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        specifier = SpecifierSet(",".join(f"{clause[1]}{clause[2]}" for clause in clauses if clause))
    except InvalidSpecifier:
        return None
    implementation = IMPLEMENTATIONS[match[1] or "python"]
    variant = VARIANTS["".join(variants)]
    return Request(text=text, implementation=implementation, versions=str(specifier), variant=variant)


def _keyed(text: str, lowered: str) -> Request | None:
    """``cpython-3.12``, ``cpython-3.12.3-linux-x86_64-gnu``, ``any-3.12-any-any-any``: any part can be left out.

    Source: uv's ``PythonDownloadRequest::from_str``.
    """
    parts = lowered.split("-")
    implementation: str | None = "cpython"
    version: WrittenVersion | None = None
    if parts[0] in {"any", *IMPLEMENTATIONS.values()}:
        implementation = None if parts[0] == "any" else parts[0]
        del parts[0]
    elif written_version(parts[0]) is None:
        return None
    if parts and (parts[0] == "any" or (version := written_version(parts[0]))):
        del parts[0]
    target: list[str | None] = []
    for words in (SYSTEM_WORDS, ARCHITECTURE_WORDS, {libc: libc for libc in LIBC_WORDS}):
        known = bool(parts) and (parts[0] == "any" or parts[0] in words)
        target.append(words.get(parts.pop(0)) if known else None)
    if parts:
        return None
    return Request(
        text=text,
        implementation=implementation,
        versions=version.specifier if version else "",
        variant=version.variant if version else "",
        os=target[0],
        arch=target[1],
        libc=target[2],
    )


def _is_request(text: str) -> bool:
    try:
        return all(_request(piece, Path()) or range_members(piece) for piece in _pieces(text))
    except InvalidRequestError:
        return False


def _refusal(text: str) -> InvalidRequestError:
    """The error for a text that is not a request, with the closest kind of request and a suggestion."""
    if not text:
        return InvalidRequestError(_EMPTY, hint="3.12")
    from pytest_pyinstall.request.suggestions import suggestions

    lowered = text[:LONGEST_TEXT].lower()
    suggestion = next((slip for slip in suggestions(lowered) if _is_request(slip)), "3.12")
    safe = redacted(text)
    shown = f"{safe[:_SHOWN]!r}{'…' if safe[_SHOWN:] else ''}"
    row = _row(suggestion)
    form = _ROWS[row]
    if row == "version" and re.fullmatch(r"[a-z]+@?[0-9._]+", suggestion):  # python3.12, cp312
        form = form.replace("3.12", suggestion)
    message = f"{shown} is not a valid request; the closest form is {form}"
    if ".." in text and row != "range":
        message += " (a range has two versions: 3.9..3.13)"
    return InvalidRequestError(message, hint=suggestion)


def _row(text: str) -> str:
    """The name in `_ROWS` for a valid `text`."""
    if (parsed := _request(text, Path())) is None:
        return "range" if ".." in text else "list"
    if parsed.path or parsed.word:
        return "path" if parsed.path else "word"
    kinds = {
        "specifier": re.search(OPERATOR, text),
        "key": text.count("-") > 1,
        "variant": parsed.variant,
        "pre-release": parsed.names_prerelease,
        "implementation": parsed.implementation != "cpython",
    }
    return next((row for row, belongs in kinds.items() if belongs), "version")


def as_ranges(ids: Sequence[str]) -> Iterator[str]:
    """The ids, with three or more consecutive minor versions as a range: ``3.9..3.13``."""
    at = 0
    while at < len(ids):
        end = at
        while end + 1 < len(ids) and ids[end + 1] == _next_minor(ids[end]):
            end += 1
        if end - at < 2:
            end = at
        yield ids[at] if end == at else f"{ids[at]}..{ids[end]}"
        at = end + 1


def _next_minor(name: str) -> str:
    match = re.fullmatch(r"((?:py)?3\.)(\d+)", name)
    return f"{match[1]}{int(match[2]) + 1}" if match else ""
