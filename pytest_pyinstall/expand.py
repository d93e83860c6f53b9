"""Replaces the words of a request (supported, lowest, latest, current) by what they mean for a project."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError, NoMatchError
from pytest_pyinstall.project import Project
from pytest_pyinstall.request import Request

__all__ = ["END_OF_LIFE", "expand"]

END_OF_LIFE: Mapping[str, date] = {
    "2.7": date(2020, 1, 1),
    "3.0": date(2009, 6, 27),
    "3.1": date(2012, 4, 9),
    "3.2": date(2016, 2, 20),
    "3.3": date(2017, 9, 29),
    "3.4": date(2019, 3, 18),
    "3.5": date(2020, 9, 30),
    "3.6": date(2021, 12, 23),
    "3.7": date(2023, 6, 27),
    "3.8": date(2024, 10, 7),
    "3.9": date(2025, 10, 31),
    "3.10": date(2026, 10, 31),
    "3.11": date(2027, 10, 31),
    "3.12": date(2028, 10, 31),
    "3.13": date(2029, 10, 31),
    "3.14": date(2030, 10, 31),
    "3.15": date(2031, 10, 31),
}
"""The last day on which each minor version is maintained; a month known only as such counts to its end.

Source: https://devguide.python.org/versions/. A version that is not here is too new to have ended.
"""

_DECLARE_HINT = 'requires-python = ">=3.11"  # below [project] in pyproject.toml'


def expand(
    requests: Iterable[Request],
    *,
    project: Project | None,
    executable: Path,
    released: Callable[[], Iterable[Version]],
    today: date,
) -> tuple[Request, ...]:
    """The requests, each word among them replaced by what it means for `project`.

    ``supported`` are the minor versions of the classifiers, whatever ``requires-python`` says; where there are none,
    those that `released` has, that ``requires-python`` admits, and that are maintained `today`. ``lowest`` and
    ``latest`` are its first and last; where nothing is declared, ``latest`` is the newest of `released`. ``current`` is
    `executable`. `released` is called only where it is needed. Raises `InvalidRequestError` where nothing says what a
    word means, `NoMatchError` where it means nothing.
    """
    expanded: list[Request] = []
    for request in requests:
        match request.word:
            case None:
                expanded.append(request)
            case "current":
                expanded.append(replace(request, implementation=None, path=executable, word=None))
            case "latest" if project is None or not _declares_versions(project):
                expanded.append(_newest(released()))
            case "supported":
                expanded += _supported(request, project, released, today)
            case "lowest":
                expanded.append(_supported(request, project, released, today)[0])
            case _:
                expanded.append(_supported(request, project, released, today)[-1])
    return tuple(expanded)


def _declares_versions(project: Project) -> bool:
    return bool(project.minor_versions) or project.requires_python is not None


def _newest(released: Iterable[Version]) -> Request:
    newest = max((version for version in released if not version.is_prerelease), default=None)
    if newest is None:
        message = "'latest': the catalogue has no stable CPython for this machine"
        raise NoMatchError(message, hint="current")
    return Request.parse(f"{newest.major}.{newest.minor}")


def _supported(
    request: Request, project: Project | None, released: Callable[[], Iterable[Version]], today: date
) -> list[Request]:
    if project is None:
        message = f"{request.text!r} needs a project: there is no pyproject.toml, setup.cfg or setup.py here or above"
        raise InvalidRequestError(message, hint="latest")
    if minors := project.minor_versions:
        return [Request.parse(str(minor)) for minor in minors]
    if project.requires_python is None:
        message = f"{request.text!r}: {project.path} declares neither requires-python nor classifiers with a version"
        raise InvalidRequestError(message, hint=_DECLARE_HINT)
    if supported := list(_admitted(project.requires_python, released(), today)):
        return supported
    message = (
        f"{request.text!r}: no released version that is still maintained fits"
        f" requires-python = {str(project.requires_python)!r} of {project.path}"
    )
    raise NoMatchError(message, hint=str(project.requires_python) or "latest")


def _admitted(requires_python: SpecifierSet, released: Iterable[Version], today: date) -> Iterator[Request]:
    """The maintained minor versions of which at least one release fits."""
    patches: dict[Version, list[Version]] = {}
    for version in sorted(released):
        if not version.is_prerelease:
            patches.setdefault(Version(f"{version.major}.{version.minor}"), []).append(version)
    for minor, versions in patches.items():
        if END_OF_LIFE.get(str(minor), date.max) < today or not any(map(requires_python.contains, versions)):
            continue
        request = Request.parse(str(minor))
        if not requires_python.contains(versions[-1]):
            # ``<=3.12`` admits 3.12.0 alone, and ``!=3.12.4`` not the newest: then the patch is not free either.
            request = replace(request, specifier=request.specifier & requires_python)
        yield request
