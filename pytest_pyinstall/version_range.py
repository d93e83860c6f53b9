"""Takes a range of versions apart (``3.9..3.13``, ``pypy3.10..3.11``, ``3.12.0..3.12.9``)."""

import re

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.grammar import LONGEST_TEXT, NAME, VARIANTS, written_version

__all__ = ["range_members"]

_LONGEST_RANGE = 100
_RANGE_FORM = re.compile(rf"({NAME})?(@?)([0-9][^@]*?)\.\.({NAME})?@?([0-9].*)")


def range_members(text: str) -> tuple[str, ...] | None:
    """The members of ``3.9..3.13``, None if `text` is no range. Raises `InvalidRequestError` for an impossible one."""
    match = _RANGE_FORM.fullmatch(text.lower()) if len(text) <= LONGEST_TEXT else None
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
        message = f"{text!r}: a range stays within one {'minor' if series[1:] else 'major'} version"
        raise InvalidRequestError(message, hint=",".join(ends))
    if start > stop:
        message = f"{text!r}: the range ends before it begins"
        raise InvalidRequestError(message, hint="..".join(reversed(ends)))
    if stop - start >= _LONGEST_RANGE:
        message = f"{text!r}: the range holds {stop - start + 1} versions, more than {_LONGEST_RANGE}"
        raise InvalidRequestError(message, hint=f"{prefix}>={'.'.join(map(str, low.numbers))}{suffix}")
    return tuple(f"{prefix}{'.'.join(map(str, [*series, number]))}{suffix}" for number in range(start, stop + 1))
