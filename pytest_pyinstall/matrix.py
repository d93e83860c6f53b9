"""Turns requests into the rows of a CI matrix."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from packaging.version import Version

from pytest_pyinstall.catalogue import Catalogue
from pytest_pyinstall.errors import NoMatchError, UsageError
from pytest_pyinstall.project import Project
from pytest_pyinstall.request import Request
from pytest_pyinstall.resolve import resolve
from pytest_pyinstall.target import Target

__all__ = ["FORMATS", "Format", "Row", "free_threaded", "matrix_rows", "matrix_text"]

Format = Literal["github", "json", "lines"]

FORMATS: tuple[str, ...] = get_args(Format)

_FREE_THREADED = (3, 14)

_PLAIN = re.compile(r"==([0-9]+\.[0-9]+(?:\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)?)(?:\.\*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job. `name` is a request, and at the same time what ``actions/setup-python`` understands: ``3.13t``."""

    name: str
    is_experimental: bool

    def to_json(self) -> dict[str, str | bool]:
        return {"python-version": self.name, "experimental": self.is_experimental}


def matrix_rows(requests: Iterable[Request], *, catalogue: Catalogue, target: Target) -> tuple[Row, ...]:
    """A row for each Python that `requests` come to, in their order, each once.

    Experimental is what is free-threaded, or built for debugging, and what is not released yet. A minor or full version
    stays as it was asked for, also where `catalogue` has no build for `target`: the jobs may run elsewhere. Anything
    wider is narrowed to the newest version that fits. Raises `NoMatchError` for what nothing fits and for a version
    that nobody works on yet, `UsageError` for a path.
    """
    rows = {row.name: row for row in (_row(request, catalogue, target) for request in requests)}
    return tuple(rows.values())


def free_threaded(requests: Iterable[Request], *, project: Project | None) -> tuple[Request, ...]:
    """The free-threaded builds of `requests`, where a classifier of `project` speaks of free threading, else none.

    From 3.14 on, in which they became a supported build of CPython (PEP 779).
    """
    if project is None or not project.free_threaded:
        return ()
    written = [_PLAIN.fullmatch(str(request.specifier)) for request in requests if request.implementation == "cpython"]
    return tuple(Request.parse(f"{match[1]}t") for match in written if match and _minor(match[1]) >= _FREE_THREADED)


def matrix_text(rows: Sequence[Row], form: Format) -> str:
    """``github``: what ``fromJSON`` makes a ``strategy.matrix`` of; ``json``: its rows; ``lines``: their names."""
    match form:
        case "github":
            return json.dumps({"include": [row.to_json() for row in rows]})
        case "json":
            return json.dumps([row.to_json() for row in rows])
        case "lines":
            return "\n".join(row.name for row in rows)


def _row(request: Request, catalogue: Catalogue, target: Target) -> Row:
    if request.path is not None:
        message = f"{request.text} is a path, and stands for no row of a matrix"
        raise UsageError(message, hint="pytest-pyinstall matrix supported")
    written = _PLAIN.fullmatch(str(request.specifier))
    try:
        key = resolve(request, catalogue, target).key
    except NoMatchError:
        if written is None or _is_unheard_of(written[1], catalogue):
            raise
        is_experimental = (
            _is_special(request.variant)
            or request.names_prerelease
            or _minor(written[1]) > _newest(catalogue, is_released=True)
        )
        name = _name(request.implementation or "cpython", written[1], request.variant)
        return Row(name=name, is_experimental=is_experimental)
    version = written[1] if written else str(key.version)
    is_experimental = _is_special(key.variant) or key.version.is_prerelease
    return Row(name=_name(key.implementation, version, key.variant), is_experimental=is_experimental)


def _is_unheard_of(version: str, catalogue: Catalogue) -> bool:
    """Whether it is a typing error. What is older was there once, and the next one is in the making, each year."""
    major, minor = _newest(catalogue)
    return _minor(version) > (major, minor + 1) or _minor(version) < (2, 6)


def _newest(catalogue: Catalogue, *, is_released: bool = False) -> tuple[int, int]:
    versions = (build.key.version for build in catalogue.builds)
    minors = ((version.major, version.minor) for version in versions if not (is_released and version.is_prerelease))
    return max(minors, default=(0, 0))


def _minor(version: str) -> tuple[int, int]:
    parsed = Version(version)
    return parsed.major, parsed.minor


def _is_special(variant: str) -> bool:
    return variant not in {"", "gil"}


def _name(implementation: str, version: str, variant: str) -> str:
    name = "" if implementation == "cpython" else implementation
    suffix = ("t" if "freethreaded" in variant else "") + ("d" if "debug" in variant else "")
    return f"{name}{version}{suffix}"
