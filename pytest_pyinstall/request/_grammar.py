"""The parts of requests: words, names of implementations and variants, versions, and ranges such as ``3.9..3.13``."""

from __future__ import annotations

import re

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.system.values import Value

__all__ = [
    "IMPLEMENTATIONS",
    "LONGEST_TEXT",
    "NAME",
    "OPERATOR",
    "TAGS",
    "VARIANT",
    "VARIANTS",
    "WORDS",
    "WrittenVersion",
    "range_members",
    "written_version",
]


WORDS = ("supported", "lowest", "latest", "current", "pinned")
"""Requests that mean other requests; `project.resolve_keywords` expands them."""


IMPLEMENTATIONS = {
    "python": "cpython",
    "cpython": "cpython",
    "py": "cpython",
    "cp": "cpython",
    "pypy": "pypy",
    "pp": "pypy",
    "graalpy": "graalpy",
    "gp": "graalpy",
}


TAGS = {"py", "cp", "pp", "gp"}  # these need a version: ``py`` alone means something else to tox and to Windows


VARIANTS = {
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


LONGEST_TEXT = 400
"""No request needs more characters."""


NAME = "|".join(sorted(IMPLEMENTATIONS, key=len, reverse=True))


VARIANT = "|".join(re.escape(variant) for variant in sorted(VARIANTS, key=len, reverse=True))


OPERATOR = "===|~=|==|!=|<=|>=|<|>"


_VERSION_FORM = re.compile(
    rf"([0-9]{{1,4}})(?:\.([0-9]{{1,4}}))?(?:\.([0-9]{{1,4}}))?((?:a|b|rc)[0-9]{{1,4}})?({VARIANT})"
)


class WrittenVersion(Value):
    """The parts of a version in a request, with the numbers that it names."""

    numbers: tuple[int, ...]
    prerelease: str
    variant: str

    @property
    def specifier(self) -> str:
        """The equivalent PEP 440 specifier, such as ``==3.12.*``."""
        _, *patch = self.numbers[1:] or (0,)
        dotted = ".".join(map(str, self.numbers))
        return f"=={dotted}{self.prerelease}" if self.prerelease or patch else f"=={dotted}.*"


def written_version(text: str) -> WrittenVersion | None:
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
    return WrittenVersion(numbers=numbers, prerelease=prerelease or "", variant=VARIANTS[variant])


_LONGEST_RANGE = 100


_RANGE_FORM = rf"({NAME})?(@?)([0-9][^@]*?)\.\.({NAME})?@?([0-9].*)"  # compiled when a request needs it


def range_members(text: str) -> tuple[str, ...] | None:
    """The members of ``3.9..3.13``. None if it is not a range. Raises `InvalidRequestError` for an impossible one."""
    match = re.fullmatch(_RANGE_FORM, text.lower()) if len(text) <= LONGEST_TEXT else None
    if not match:
        return None
    name, at, first, other_name, last = match.groups()
    low, high = written_version(first), written_version(last)
    if not low or not high or low.prerelease or high.prerelease or low.variant not in {"", high.variant}:
        return None
    parts = len(low.numbers)
    if parts == 1 or parts != len(high.numbers) or (at and not name) or other_name not in {name, None}:
        return None
    prefix = f"{name or ''}{at}"
    suffix = next(suffix for suffix, variant in VARIANTS.items() if variant == high.variant)
    ends = [f"{prefix}{'.'.join(map(str, end.numbers))}{suffix}" for end in (low, high)]
    *series, start = low.numbers
    stop = high.numbers[-1]
    if list(high.numbers[:-1]) != series:
        message = f"{text!r}: a range must stay within one {'minor' if series[1:] else 'major'} version"
        raise InvalidRequestError(message, hint=",".join(ends))
    if start > stop:
        message = f"{text!r}: the range ends before it begins"
        raise InvalidRequestError(message, hint="..".join(reversed(ends)))
    if stop - start >= _LONGEST_RANGE:
        message = f"{text!r}: the range has {stop - start + 1} versions, more than {_LONGEST_RANGE}"
        raise InvalidRequestError(message, hint=f"{prefix}>={'.'.join(map(str, low.numbers))}{suffix}")
    return tuple(f"{prefix}{'.'.join(map(str, [*series, number]))}{suffix}" for number in range(start, stop + 1))
