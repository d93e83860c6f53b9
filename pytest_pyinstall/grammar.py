"""What requests are made of: words, the names of implementations and variants, and how a version is written."""

import re
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

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
    "written_version",
]

WORDS = ("supported", "lowest", "latest", "current")
"""The requests that stand for something else; `expand.expand` says for what."""

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


class WrittenVersion(NamedTuple):
    """The parts of a version as it was written: as many numbers as were named."""

    numbers: tuple[int, ...]
    prerelease: str
    variant: str

    @property
    def specifier(self) -> SpecifierSet:
        _, *patch = self.numbers[1:] or (0,)
        dotted = ".".join(map(str, self.numbers))
        return SpecifierSet(f"=={dotted}{self.prerelease}" if self.prerelease or patch else f"=={dotted}.*")


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
    return WrittenVersion(numbers, prerelease or "", VARIANTS[variant])
