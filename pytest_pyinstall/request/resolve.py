"""Chooses the best build for a request, and explains it if there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import NoMatchError
from pytest_pyinstall.request.catalogue import UV_NAME, Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

    from pytest_pyinstall.request.identity import Build, Key, Target
    from pytest_pyinstall.request.request import Request

__all__ = ["candidates", "is_conceivable", "released", "resolve"]


_LIST_HINT = "pytest-pyinstall list --all"
_UV_HINT = "--python-catalogue uv"


def resolve(request: Request, catalogue: Catalogue, target: Target, *, within: str = "", has_uv: bool = True) -> Build:
    """The newest stable build that fits. A pre-release only if the request names one, or if nothing stable fits.

    Raises `NoMatchError`, which names the nearest builds, and says if the only match has no digest. `within` names a
    configured catalogue: ``the catalogue of --python-catalogue``. With `has_uv`, the catalogue of uv is available.
    """
    for build in candidates(request, catalogue, target):
        return build
    raise _no_match(request, catalogue, target, within=within, has_uv=has_uv)


def candidates(request: Request, catalogue: Catalogue, target: Target) -> tuple[Build, ...]:
    """Every build that fits `request`, the best first.

    Pre-releases are included only if the request names one, or if nothing stable fits. CPython comes before other
    implementations, and the latest release of a Python before its other builds.
    """
    fits = [build for build in catalogue.builds if request.fits(build.key, target=target)]
    if not fits and not request.names_prerelease:
        fits = [build for build in catalogue.builds if request.fits(build.key, target=target, allow_prereleases=True)]
    return tuple(sorted(fits, key=lambda build: (build.key, build.tag), reverse=True))


def is_conceivable(request: Request, catalogue: Catalogue) -> bool:
    """Whether another catalogue can have a build for it. None has 3.77 while `catalogue` ends with 3.15."""
    if request.path is not None or request.word is not None:
        return False
    newest = max((build.key.release[1] for build in catalogue.builds if build.key.release[0] == 3), default=99)
    for clause in request.specifier:
        if clause.operator in {"==", "===", "~=", ">", ">="}:
            match = re.match(r"([0-9]+)(?:\.([0-9]+))?", clause.version)
            if match and (int(match[1]) != 3 or int(match[2] or 0) > newest + 2):
                return False
    return True


def released(catalogue: Catalogue, target: Target) -> tuple[Version, ...]:
    """The stable versions of the usual CPython that `catalogue` has for `target`, ascending."""
    keys = (build.key for build in catalogue.builds)
    return tuple(
        sorted(
            {
                key.version
                for key in keys
                if key.implementation == "cpython"
                and not key.variant
                and key.target == target
                and not key.is_prerelease
            }
        )
    )


def _no_match(request: Request, catalogue: Catalogue, target: Target, *, within: str, has_uv: bool) -> NoMatchError:
    where = request.target(target)
    elsewhere = _UV_HINT if has_uv and catalogue.origin != UV_NAME else _LIST_HINT
    message = f"no build of {_named(request)} for {where}{f' in {within}' if within else ''}"
    refused = [key for key in catalogue.without_digest if request.fits(key, target=target, allow_prereleases=True)]
    if refused:
        message += f": {max(refused)} is in the catalogue, but is not used, because it has no sha256"
    alike = [build.key for build in catalogue.builds if _is_alike(build.key, request)]
    here = [key for key in alike if key.target == where]
    if here:
        return NoMatchError(f"{message} ({_nearest(request, here)})", hint=_LIST_HINT)
    fitting = [
        key for key in alike if not request.specifier or request.specifier.contains(key.version, prereleases=True)
    ]
    if targets := sorted({str(key.target) for key in fitting or alike}):
        near = [name for name in targets if name.startswith(f"{where.os}-{where.arch}-")]
        near += [name for name in targets if name.startswith(f"{where.os}-") and name not in near]
        return NoMatchError(f"{message} (there is one for {_listed(near or targets)})", hint=elsewhere)
    name = "it" if within else f"the catalogue {catalogue.origin}"
    return NoMatchError(f"{message} ({name} {_without(request, catalogue)})", hint=elsewhere)


def _without(request: Request, catalogue: Catalogue) -> str:
    """What `catalogue` has, if its implementations and variants are others than in `request`."""
    if not catalogue.builds:
        return "is empty"
    implementation = request.implementation or "cpython"
    if request.variant and any(build.key.implementation == implementation for build in catalogue.builds):
        words = ["free-threaded" if name == "freethreaded" else name for name in request.variant.split("+")]
        return f"has no {' '.join(words)} builds of {implementation}"
    return f"has only {_listed(sorted({_kind(build.key) for build in catalogue.builds}))}"


def _is_alike(key: Key, request: Request) -> bool:
    """Whether `key` fits except for its version and target."""
    return request.implementation in {key.implementation, None} and key.variant == request.variant.replace("gil", "")


def _named(request: Request) -> str:
    return f"Python {request.text}" if request.text[:1].isdigit() or request.text[:1] in "<>=!~" else request.text


def _kind(key: Key) -> str:
    return f"{key.implementation}+{key.variant}" if key.variant else key.implementation


def _listed(names: Iterable[str]) -> str:
    first, *rest = names
    shown = [first, *rest[:3]]
    return ", ".join([*shown, "…"] if len(rest) > 3 else shown)


def _nearest(request: Request, keys: list[Key]) -> str:
    """``newest: 3.15.1``, ``oldest: 3.8.12`` or ``nearest: 3.12.14``, of the keys that differ in the version only."""
    stable = [key for key in keys if request.names_prerelease or not key.is_prerelease]
    keys = sorted(stable or keys)
    wanted = _wanted(request)
    if wanted is None:
        return f"newest: {keys[-1].display_name}"
    below = [key for key in keys if key.version <= wanted]
    above = [key for key in keys if key.version > wanted]
    if not below:
        return f"oldest: {keys[0].display_name}"
    if not above:
        return f"newest: {keys[-1].display_name}"
    same = [key for key in keys if key.release[:2] == wanted.release[:2]]
    # Within the minor version, one on either side; else the newest of the minor versions around it.
    nearest = [key for key in (below[-1], above[0]) if key in same]
    if not nearest:
        minor = above[0].release[:2]
        nearest = [below[-1], [key for key in above if key.release[:2] == minor][-1]]
    return f"nearest: {', '.join(key.display_name for key in nearest)}"


def _wanted(request: Request) -> Version | None:
    """The version in the request, or the first of several."""
    from packaging.version import InvalidVersion, Version

    versions = []
    for clause in request.specifier:
        try:
            versions.append(Version(clause.version.removesuffix(".*")))
        except InvalidVersion:  # ``===`` takes any text
            continue
    return min(versions, default=None)
