"""Suggests requests for a text that is not one."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

from packaging.version import InvalidVersion, Version

from pytest_pyinstall.request._grammar import IMPLEMENTATIONS, NAME, TAGS, WORDS, written_version
from pytest_pyinstall.request.identity import ARCHITECTURE_WORDS, LIBC_WORDS, SYSTEM_WORDS

__all__ = ["suggestions"]


def suggestions(text: str) -> Iterator[str]:
    """Suggestions for `text` (lower case), the likeliest first. Not all of them are valid."""
    if "://" not in text:
        text = text.strip("\"'`()[]{}; \t,")
        yield text
        yield _SYNONYMS.get(text, "")
        yield from _range_slips(text)
        if match := re.fullmatch(r"((?:pypy|graalpy)[0-9]+\.[0-9]+)-[0-9.a-z-]+", text):
            yield match[1]  # ``pypy3.10-7.3.12``, as pyenv names it
        yield re.sub(rf"^({NAME})\s+(?=[0-9])", r"\1", text)
        yield ",".join(re.split(r"[\s;,|]+", text))
        yield from _operator_slips(text)
        yield from _version_slips(text)
        yield re.sub(r"(?<=[0-9])\.?[0-9loi]+", lambda match: match[0].translate(_LOOKALIKES), text)
        yield from _typos(text)
        yield text.partition("-")[0]
    if match := re.search(r"(?:pypy|graalpy)?[23](?:\.[0-9]{1,3}){1,2}", text):
        yield match[0]
    if re.fullmatch(r"[a-z_][a-z0-9_.+-]*", text):
        yield f"./{text}"


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
    "lowest..latest": "supported",
    "system": "current",
    "this": "current",
    "running": "current",
    "self": "current",
    ".python-version": "pinned",
    ".python-versions": "pinned",
    "pin": "pinned",
    "py": "current",
}


_LOOKALIKES = str.maketrans("loi", "101")


_DASH = "[-\N{EN DASH}\N{EM DASH}]"


_END = r"(?:[a-z]+@?)?(?:[23](?:\.[0-9]+){1,2}|[23][0-9]{1,2})t?"


def _range_slips(text: str) -> Iterator[str]:
    """``3.9-3.13``, ``3.9...3.13``, ``3.9..13``, ``3.9..3.13.2``, ``3.9..``, ``3.9+``, ``..3.13``; ``3..9`` is 3.9."""
    yield re.sub(rf"^((?:{NAME})?@?[23])\.{{2,}}([0-9]{{1,2}}t?)$", r"\1.\2", text)
    separator = rf"\s*(?:{_DASH}|…|~|\.{{2,}}=?|:|to|through)\s*"
    if match := re.fullmatch(rf"({_END}){separator}({_END})", text):
        yield from _ranges(*match.groups())
    if match := re.fullmatch(rf"((?:{NAME})?@?[23]\.)([0-9]{{1,2}}){separator}([0-9]{{1,2}}t?)", text):
        yield f"{match[1]}{match[2]}..{match[1]}{match[3]}"
    if match := re.fullmatch(rf"({_END})(?:\.{{2,}}|…|\+|-)", text):
        yield f">={match[1]}"
    if match := re.fullmatch(r"(?:\.{2,}|…|-)([23])\.([0-9]{1,3})", text):
        yield f"<{match[1]}.{int(match[2]) + 1}"


def _ranges(first: str, last: str) -> Iterator[str]:
    """Ranges from `first` to `last`, the likeliest first."""
    if first == last:
        return  # ``cp312-cp312``, of a wheel
    yield f"{first}..{last}"
    yield f"{last}..{first}"
    yield f"{first.removesuffix('t')}..{last.removesuffix('t')}t"
    yield f"{first}..{re.sub(r'^(?:c?python|py|cp)@?', '', last)}"
    yield "..".join(re.sub(r"([0-9]+\.[0-9]+)\.[0-9]+", r"\1", end) for end in (first, last))


def _operator_slips(text: str) -> Iterator[str]:
    """``^3.10`` and ``~3.10`` of other tools, ``=3.12``, ``=>3.12``, ``>=3.12.x``, ``>3.9<3.13``."""
    if match := re.match(r"\^\s*([0-9]+)((?:\.[0-9]+)*)$", text):
        yield f">={match[1]}{match[2]},<{int(match[1][:4]) + 1}"
    if match := re.match(r"~=?\s*([0-9]+(?:\.[0-9]+)?)$", text):
        yield f"~={match[1]}.0"
    yield re.sub(r"^~\s*(?=[0-9])", "~=", text)
    swapped = text.replace("=>", ">=").replace("=<", "<=").replace("<>", "!=")
    yield swapped
    yield re.sub(r"\.(?:x|\*)(?=,|$)", "", swapped)
    yield re.sub(r"^[a-z]*\s*=+\s*", "", text)
    if re.match("[<>=!~]", text):
        yield re.sub(r"(?<=[0-9*])\s*(?=[<>=!~])", ",", text)
    yield text.rstrip("<>=!~, ")


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
    joined = re.sub(rf"^({NAME})?v(?=[0-9])", r"\1", joined)
    yield joined
    if re.fullmatch(r"[0-9]{1,2}", text):
        yield f"3.{int(text)}"
    if match := re.match(rf"({NAME})?([0-9].*)", joined):
        name, number = match[1] or "", re.sub(r"^([23])([0-9]{1,2})(?![0-9.])", r"\1.\2", match[2])
        yield f"{name}{normal}" if (normal := _normal(number)) else ""
    yield re.sub(rf"^({'|'.join(set(IMPLEMENTATIONS.values()))})(?=[0-9])", r"\1-", text)


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
    """Words, implementations and parts of keys that differ by one or two letters."""
    match = re.match(r"([a-z]+)(@?[0-9].*)?$", text)
    if match and not match[2]:
        yield from get_close_matches(text, [*WORDS, *(IMPLEMENTATIONS.keys() - TAGS)], n=1, cutoff=0.7)
    if match and match[2]:
        yield from (name + match[2] for name in get_close_matches(match[1], list(IMPLEMENTATIONS), n=2, cutoff=0.5))
    if "-" in text:
        text = text.replace("x86-64", "x86_64")
        known = [*IMPLEMENTATIONS.values(), *SYSTEM_WORDS, *ARCHITECTURE_WORDS, *LIBC_WORDS]
        parts = text.split("-")
        yield "-".join(
            part if written_version(part) else next(iter(get_close_matches(part, known, n=1, cutoff=0.6)), part)
            for part in parts
        )
