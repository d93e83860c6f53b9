"""What was asked for, parsed once: the whole grammar of requests, and what to write instead of a slip."""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.key import Key
from pytest_pyinstall.target import ARCHITECTURE_WORDS, LIBC_WORDS, SYSTEM_WORDS, Target

__all__ = ["WORDS", "Request", "parse_requests"]

WORDS = ("supported", "lowest", "latest", "current")
"""The requests that stand for something else; `project.expand` says for what."""

_IMPLEMENTATIONS = {
    "python": "cpython",
    "cpython": "cpython",
    "py": "cpython",
    "cp": "cpython",
    "pypy": "pypy",
    "pp": "pypy",
    "graalpy": "graalpy",
    "gp": "graalpy",
}
_TAGS = {"py", "cp", "pp", "gp"}  # these need a version: ``py`` alone means something else to tox and to Windows
_VARIANTS = {
    "": "",
    "t": "freethreaded",
    "d": "debug",
    "td": "freethreaded+debug",
    "+freethreaded": "freethreaded",
    "+debug": "debug",
    "+freethreaded+debug": "freethreaded+debug",
    "+debug+freethreaded": "freethreaded+debug",
    "+gil": "gil",
}
_ROWS = {
    "version": "a version, such as 3.12",
    "pre-release": "a pre-release, such as 3.15.0rc1",
    "variant": "a variant, such as 3.13t",
    "implementation": "an implementation and its version, such as pypy3.11",
    "specifier": "a PEP 440 specifier, such as >=3.10,<3.13",
    "key": "a key, such as cpython-3.12.3-linux-x86_64-gnu",
    "path": "the path of an executable, such as ./build/python",
    "range": "a range, such as 3.9..3.13",
    "word": "one of the words supported, lowest, latest, current",
    "list": "several requests with a comma between them, such as 3.9,3.13",
}
_ANY_VERSION = SpecifierSet()
_LONGEST_TEXT = 400
_LONGEST_RANGE = 100
_EMPTY = "an empty request names no Python"
_SHOWN = 60  # characters of a faulty text in a message
_SEPARATORS = "/\\" if sys.platform == "win32" else "/"

_NAME = "|".join(sorted(_IMPLEMENTATIONS, key=len, reverse=True))
_VARIANT = "|".join(re.escape(variant) for variant in sorted(_VARIANTS, key=len, reverse=True))
_OPERATOR = "===|~=|==|!=|<=|>=|<|>"
_VERSION_FORM = re.compile(
    rf"([0-9]{{1,4}})(?:\.([0-9]{{1,4}}))?(?:\.([0-9]{{1,4}}))?((?:a|b|rc)[0-9]{{1,4}})?({_VARIANT})"
)
_NAMED_FORM = re.compile(rf"({_NAME})?(@?)([0-9].*)?")
_SPECIFIER_FORM = re.compile(rf"({_NAME})?@?\s*((?:{_OPERATOR}).*)")
_CLAUSE_FORM = re.compile(rf"\s*({_OPERATOR})\s*(\S*[0-9*])({_VARIANT})\s*")
_RANGE_FORM = re.compile(rf"({_NAME})?(@?)([0-9][^@]*?)\.\.({_NAME})?@?([0-9].*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which Python was asked for.

    >>> Request.parse("pypy3.11").implementation
    'pypy'

    `text` is what was written. `implementation` is None where any will do. `variant` is empty for the usual build,
    else as in `Key`. `os`, `arch` and `libc` are None where the request leaves them open. With a `path`, that
    executable was asked for and nothing else counts; with a `word`, the request still has to be expanded.
    """

    text: str
    implementation: str | None = "cpython"
    specifier: SpecifierSet = _ANY_VERSION
    variant: str = ""
    os: str | None = None
    arch: str | None = None
    libc: str | None = None
    path: Path | None = None
    word: str | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, *, directory: Path = Path()) -> "Request":
        """The one request that `text` is; a relative path in it starts from `directory`.

        Nothing is looked up: whether such a Python exists shows later. Raises `InvalidRequestError` for a text that
        is no request, or that is several.
        """
        requests = _requests(text.strip(), directory)
        if len(requests) > 1:
            message = f"{text!r} asks for {len(requests)} Pythons where one is needed"
            raise InvalidRequestError(message, hint=requests[-1].text)
        return requests[0]

    @property
    def names_prerelease(self) -> bool:
        """Whether the request itself speaks of a pre-release: ``3.15.0rc1``, ``>=3.15.0a1``."""
        return bool(self.specifier.prereleases)

    def fits(self, key: Key, *, target: Target, allow_prereleases: bool = False) -> bool:
        """Whether `key` is what was asked for, on `target` where the request does not name another one.

        A variant fits only a request for exactly that variant, and a pre-release only one that names a pre-release,
        unless `allow_prereleases`. Nothing fits a path or a word.
        """
        return (
            self.path is None
            and self.word is None
            and self.implementation in {key.implementation, None}
            and self._fits_variant(key.variant)
            and key.target == self.target(target)
            and (allow_prereleases or self.names_prerelease or not key.version.is_prerelease)
            and self.specifier.contains(key.version, prereleases=True)
        )

    def target(self, target: Target) -> Target:
        """Where the Python has to run: the parts that the request names, and those of `target` for the rest."""
        if self.os is None and self.arch is None and self.libc is None:
            return target
        system = self.os or target.os
        libc = target.libc if system == target.os else "gnu" if system == "linux" else "none"
        return Target(os=system, arch=self.arch or target.arch, libc=self.libc or libc)

    def _fits_variant(self, variant: str) -> bool:
        return variant in {"", "gil"} if self.variant == "gil" else variant == self.variant


def parse_requests(texts: Iterable[object], *, directory: Path, origin: str) -> tuple[Request, ...]:
    """Every request in `texts`, in order: commas and line ends separate requests, ranges become their members.

    `origin` names the option, variable or ini value that the texts came from; relative paths start from `directory`.
    Words (`WORDS`) stay requests for `project.expand`. Raises `InvalidRequestError`, which names `origin`, for the
    first item that is no request, that is empty, or that is no string: TOML reads ``[3.10]`` as the number 3.1.
    """
    requests: list[Request] = []
    for item in [texts] if isinstance(texts, str) else texts:
        if not isinstance(item, str):
            raise _no_string(item, origin)
        pieces = [piece for line in item.splitlines() if line.strip() for piece in _pieces(line)]
        if not all(pieces):
            message = f"{origin}: nothing stands between two commas, or after the last one: {item!r:.60}"
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
    """The requests of a line. The commas of a specifier stay: a clause after one belongs to the one before it."""
    piece, *parts = line.split(",")
    for part in parts:
        if re.match(rf"\s*(?:{_OPERATOR})", part) and _SPECIFIER_FORM.fullmatch(piece.strip().lower()):
            piece += f",{part}"
        else:
            yield piece.strip()
            piece = part
    yield piece.strip()


def _requests(text: str, directory: Path) -> tuple[Request, ...]:
    """The one request that `text` is, or the members of the range."""
    if request := _request(text, directory):
        return (request,)
    if members := _range(text):
        return tuple(request for member in members if (request := _request(member, directory)))
    raise _refusal(text)


def _request(text: str, directory: Path) -> Request | None:
    """The request that `text` is, None if it is none or several."""
    if any(separator in text for separator in _SEPARATORS):
        return _path(text, directory)
    if not text or len(text) > _LONGEST_TEXT:
        return None
    lowered = text.lower()
    if lowered in WORDS:
        return Request(text=text, word=lowered)
    return _named(text, lowered) or _specified(text, lowered) or _keyed(text, lowered)


def _path(text: str, directory: Path) -> Request | None:
    if "://" in text or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    try:
        return Request(text=text, implementation=None, path=directory / Path(text).expanduser())
    except RuntimeError:  # ``~name/python`` where nobody is called so
        return None


def _named(text: str, lowered: str) -> Request | None:
    """``3.12``, ``py312``, ``pypy@3.11``, ``pypy``."""
    match = _NAMED_FORM.fullmatch(lowered)
    if not match:
        return None
    name, at, digits = match.groups()
    if digits is None:
        alone = bool(name) and name not in _TAGS and not at
        return Request(text=text, implementation=_IMPLEMENTATIONS[name]) if alone else None
    version = _version(digits)
    if version is None or (at and not name):
        return None
    implementation = _IMPLEMENTATIONS[name or "python"]
    return Request(text=text, implementation=implementation, specifier=version.specifier, variant=version.variant)


class _Version(NamedTuple):
    numbers: tuple[int, ...]
    prerelease: str
    variant: str

    @property
    def specifier(self) -> SpecifierSet:
        _, *patch = self.numbers[1:] or (0,)
        dotted = ".".join(map(str, self.numbers))
        return SpecifierSet(f"=={dotted}{self.prerelease}" if self.prerelease or patch else f"=={dotted}.*")


def _version(text: str) -> _Version | None:
    """``3``, ``3.12``, ``312``, ``3.12.4``, ``3.15.0rc1``, each with its variant."""
    match = _VERSION_FORM.fullmatch(text)
    if not match:
        return None
    *digits, prerelease, variant = match.groups()
    numbers = tuple(int(number) for number in digits if number is not None)
    if len(numbers) == 1:
        compact = re.fullmatch(r"([23])([0-9]{0,2})", digits[0])
        if not compact or prerelease:
            return None
        numbers = tuple(int(number) for number in compact.groups() if number)
    return _Version(numbers, prerelease or "", _VARIANTS[variant])


def _specified(text: str, lowered: str) -> Request | None:
    """``>=3.10,<3.13``, ``pypy>=3.10``, ``>=3.14t``."""
    match = _SPECIFIER_FORM.fullmatch(lowered)
    if not match:
        return None
    clauses = [_CLAUSE_FORM.fullmatch(clause) for clause in match[2].split(",")]
    variants = {clause[3] for clause in clauses if clause and clause[3]}
    if not all(clauses) or len(variants) > 1:
        return None
    try:
        specifier = SpecifierSet(",".join(f"{clause[1]}{clause[2]}" for clause in clauses if clause))
    except InvalidSpecifier:
        return None
    implementation = _IMPLEMENTATIONS[match[1] or "python"]
    variant = _VARIANTS["".join(variants)]
    return Request(text=text, implementation=implementation, specifier=specifier, variant=variant)


def _keyed(text: str, lowered: str) -> Request | None:
    """``cpython-3.12``, ``cpython-3.12.3-linux-x86_64-gnu``, ``any-3.12-any-any-any``: any part may be left out.

    Source: uv's ``PythonDownloadRequest::from_str``.
    """
    parts = lowered.split("-")
    implementation: str | None = "cpython"
    version: _Version | None = None
    if parts[0] in {"any", *_IMPLEMENTATIONS.values()}:
        implementation = None if parts[0] == "any" else parts[0]
        del parts[0]
    elif _version(parts[0]) is None:
        return None
    if parts and (parts[0] == "any" or (version := _version(parts[0]))):
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
        specifier=version.specifier if version else SpecifierSet(),
        variant=version.variant if version else "",
        os=target[0],
        arch=target[1],
        libc=target[2],
    )


def _range(text: str) -> tuple[str, ...] | None:
    """The members of ``3.9..3.13``, None if `text` is no range. Raises `InvalidRequestError` for an impossible one."""
    match = _RANGE_FORM.fullmatch(text.lower()) if len(text) <= _LONGEST_TEXT else None
    if not match:
        return None
    name, at, first, other_name, last = match.groups()
    low, high = _version(first), _version(last)
    if not low or not high or low.prerelease or high.prerelease or low.variant not in {"", high.variant}:
        return None
    parts = len(low.numbers)
    if parts == 1 or parts != len(high.numbers) or (at and not name) or other_name not in {name, None}:
        return None
    prefix = f"{name or ''}{at}"
    suffix = next(suffix for suffix, variant in _VARIANTS.items() if variant == high.variant)
    ends = [f"{prefix}{'.'.join(map(str, end.numbers))}{suffix}" for end in (low, high)]
    *series, start = low.numbers
    stop = high.numbers[-1]
    if list(high.numbers[:-1]) != series:
        message = f"{text!r}: a range stays within one {'minor' if series[1:] else 'major'} version"
        raise InvalidRequestError(message, hint=",".join(ends))
    if start > stop:
        message = f"{text!r}: the range ends before it begins"
        raise InvalidRequestError(message, hint="..".join(reversed(ends)))
    if stop - start >= _LONGEST_RANGE:
        message = f"{text!r}: the range holds {stop - start + 1} versions, more than {_LONGEST_RANGE}"
        raise InvalidRequestError(message, hint=f"{prefix}>={'.'.join(map(str, low.numbers))}{suffix}")
    return tuple(f"{prefix}{'.'.join(map(str, [*series, number]))}{suffix}" for number in range(start, stop + 1))


def _is_request(text: str) -> bool:
    try:
        return all(_request(piece, Path()) or _range(piece) for piece in _pieces(text))
    except InvalidRequestError:
        return False


def _refusal(text: str) -> InvalidRequestError:
    """The error for a text that fits no row: the row it comes closest to, and what to write there."""
    if not text:
        return InvalidRequestError(_EMPTY, hint="3.12")
    lowered = text[:_LONGEST_TEXT].lower()
    suggestion = next((slip for slip in _suggestions(lowered) if _is_request(slip)), "3.12")
    shown = f"{text[:_SHOWN]!r}{'…' if text[_SHOWN:] else ''}"
    message = f"{shown} names no Python; it comes closest to {_ROWS[_row(suggestion)]}"
    return InvalidRequestError(message, hint=suggestion)


def _row(text: str) -> str:
    """The name of the row that a valid `text` belongs to."""
    if (parsed := _request(text, Path())) is None:
        return "range" if ".." in text else "list"
    if parsed.path or parsed.word:
        return "path" if parsed.path else "word"
    kinds = {
        "specifier": re.search(_OPERATOR, text),
        "key": text.count("-") > 1,
        "variant": parsed.variant,
        "pre-release": parsed.names_prerelease,
        "implementation": parsed.implementation != "cpython",
    }
    return next((row for row, belongs in kinds.items() if belongs), "version")


_SYNONYMS = {
    "lts": "latest",
    "stable": "latest",
    "newest": "latest",
    "default": "latest",
    "highest": "latest",
    "max": "latest",
    "oldest": "lowest",
    "minimum": "lowest",
    "min": "lowest",
    "all": "supported",
    "*": "supported",
    "project": "supported",
    "system": "current",
    "this": "current",
    "running": "current",
    "self": "current",
    "py": "current",
}
_DASH = "[-\N{EN DASH}\N{EM DASH}]"
_DOTTED = r"(?:[a-z]+@?)?[23](?:\.[0-9]+){1,2}t?"


def _suggestions(text: str) -> Iterator[str]:
    """What may have been meant by `text` (lower case), the likeliest first. Not all of it is valid."""
    if "://" not in text:
        text = text.strip("\"'`()[]{}; \t,")
        yield text
        yield _SYNONYMS.get(text, "")
        yield from _range_slips(text)
        yield re.sub(rf"^({_NAME})\s+(?=[0-9])", r"\1", text)
        yield ",".join(re.split(r"[\s;,|]+", text))
        yield from _operator_slips(text)
        yield from _version_slips(text)
        yield from _typos(text)
        yield text.partition("-")[0]
    if match := re.search(r"(?:pypy|graalpy)?[23](?:\.[0-9]{1,3}){1,2}", text):
        yield match[0]
    if re.fullmatch(r"[a-z_][a-z0-9_.+-]*", text):
        yield f"./{text}"


def _range_slips(text: str) -> Iterator[str]:
    """``3.9-3.13``, ``3.9...3.13``, ``3.9..3.13.2``, ``3.9..``, ``3.9+``, ``..3.13``."""
    if match := re.fullmatch(rf"({_DOTTED})\s*(?:{_DASH}|…|\.{{2,}}=?|:|to|through)\s*({_DOTTED})", text):
        yield f"{match[1]}..{match[2]}"
        yield f"{match[2]}..{match[1]}"
        yield "..".join(re.sub(r"([0-9]+\.[0-9]+)\.[0-9]+", r"\1", end) for end in match.groups())
    if match := re.fullmatch(rf"({_DOTTED})(?:\.{{2,}}|…|\+|-)", text):
        yield f">={match[1]}"
    if match := re.fullmatch(r"(?:\.{2,}|…|-)([23])\.([0-9]{1,3})", text):
        yield f"<{match[1]}.{int(match[2]) + 1}"


def _operator_slips(text: str) -> Iterator[str]:
    """``^3.10`` and ``~3.10`` of other tools, ``=3.12``, ``=>3.12``, ``>=3.12.x``."""
    if match := re.match(r"\^\s*([0-9]+)((?:\.[0-9]+)*)$", text):
        yield f">={match[1]}{match[2]},<{int(match[1][:4]) + 1}"
    if match := re.match(r"~=?\s*([0-9]+(?:\.[0-9]+)?)$", text):
        yield f"~={match[1]}.0"
    yield re.sub(r"^~\s*(?=[0-9])", "~=", text)
    swapped = text.replace("=>", ">=").replace("=<", "<=").replace("<>", "!=")
    yield swapped
    yield re.sub(r"\.(?:x|\*)(?=,|$)", "", swapped)
    yield re.sub(r"^[a-z]*\s*=+\s*", "", text)


def _version_slips(text: str) -> Iterator[str]:
    """``3.12.x``, ``v3.12``, ``python-3.12``, ``3.13-nogil``, ``cp312-cp312``, ``3.14-dev``, ``3.13.0-rc1``, ``12``."""
    if re.fullmatch(r"[a-z_-]+\.exe", text):
        yield f"./{text}"
    plain = re.sub(r"(?:\.(?:x|\*)|-dev|\+|\.exe)+$", "", text)
    yield plain
    joined = re.sub(r"[-_+ ]?(?:free-?threaded|free-?threading|no-?gil|ft)$", "t", plain)
    joined = re.sub(r"(?<![0-9])[-_\s]+|[-_\s]+(?![0-9])", "", joined)
    yield joined
    yield re.sub(r"(?<=[0-9])[-_:](?=[0-9])", ".", joined)
    joined = re.sub(rf"^({_NAME})?v(?=[0-9])", r"\1", joined)
    yield joined
    if re.fullmatch(r"[0-9]{1,2}", text):
        yield f"3.{int(text)}"
    if match := re.match(rf"({_NAME})?([0-9].*)", joined):
        name, number = match[1] or "", re.sub(r"^([23])([0-9]{1,2})(?![0-9.])", r"\1.\2", match[2])
        yield f"{name}{normal}" if (normal := _normal(number)) else ""
    yield re.sub(rf"^({'|'.join(set(_IMPLEMENTATIONS.values()))})(?=[0-9])", r"\1-", text)


def _normal(number: str) -> str:
    """``3.13.0alpha1``, ``3.12.3.4``: as PEP 440 reads them, shortened to what we can ask for."""
    try:
        version = Version(number)
    except (InvalidVersion, ValueError):  # an integer of thousands of digits is a plain ValueError
        return ""
    prerelease = "".join(map(str, version.pre or ()))
    release = (*version.release, 0, 0)[:3] if prerelease else version.release[:3]
    return f"{'.'.join(map(str, release))}{prerelease}"


def _typos(text: str) -> Iterator[str]:
    """Words, implementations and the parts of keys that are a letter or two away."""
    match = re.match(r"([a-z]+)(@?[0-9].*)?$", text)
    if match and not match[2]:
        yield from get_close_matches(text, [*WORDS, *(_IMPLEMENTATIONS.keys() - _TAGS)], n=1, cutoff=0.7)
    if match and match[2]:
        yield from (name + match[2] for name in get_close_matches(match[1], list(_IMPLEMENTATIONS), n=2, cutoff=0.5))
    if "-" in text:
        text = text.replace("x86-64", "x86_64")
        known = [*_IMPLEMENTATIONS.values(), *SYSTEM_WORDS, *ARCHITECTURE_WORDS, *LIBC_WORDS]
        parts = text.split("-")
        yield "-".join(
            part if _version(part) else next(iter(get_close_matches(part, known, n=1, cutoff=0.6)), part)
            for part in parts
        )
