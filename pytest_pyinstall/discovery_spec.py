"""Reads what tox and virtualenv call a Python (``py39``, ``python3.9-64``, ``>=3.10``) as a request.

Both take the grammar of python-discovery, in which ``cpython-3.12`` is a CPython for the machine "3.12", and everything
that it does not know is the name of a file. So its own reading decides, and ours only says it in other words.
"""

import platform
import shutil
from dataclasses import replace
from difflib import SequenceMatcher

from python_discovery import PythonSpec

from pytest_pyinstall.errors import InvalidRequestError
from pytest_pyinstall.request import Request
from pytest_pyinstall.target import ARCHITECTURE_WORDS, Target

__all__ = ["request_of", "why_not"]

_IMPLEMENTATIONS = {"cpython", "pypy", "graalpy"}
_ALIKE = 0.5
_HALVED = {"x86_64": "x86", "aarch64": "armv7"}
_DOUBLED = {half: whole for whole, half in _HALVED.items()}


def request_of(spec: str, *, target: Target) -> Request | None:
    """The request that `spec` comes to, None for what is not ours to provide.

    That is a path, a word that python-discovery takes for one, an implementation of which there are no builds, and
    whatever the Python that asks already is: ``py``, ``python``, ``python3``. `target` is where the Python has to run,
    as far as `spec` leaves that open.
    """
    try:
        parsed = PythonSpec.from_string_spec(spec)
    except ValueError:
        return None
    implementation = (parsed.implementation or "cpython").lower()
    architecture = _architecture(parsed, target)
    if parsed.path is not None or implementation not in _IMPLEMENTATIONS or architecture == "":
        return None
    variant = ("t" if parsed.free_threaded else "") + ("d" if parsed.debug else "")
    if parsed.version_specifier is not None:
        version = ",".join(f"{clause}{variant}" for clause in str(parsed.version_specifier).split(","))
    else:
        numbers = (parsed.major, parsed.minor, parsed.micro)
        version = ".".join(str(number) for number in numbers if number is not None) + variant
    if implementation == "cpython" and version in {"", "3"}:
        return None
    try:
        request = Request.parse(version if implementation == "cpython" else f"{implementation}{version}")
    except InvalidRequestError:
        return None
    return replace(request, arch=architecture)


def why_not(spec: str, *, path: str) -> str | None:
    """One line that says why there is no such Python, None where the words of `spec` alone do not show it.

    `path` is the ``PATH`` along which executables are looked for.
    """
    try:
        parsed = PythonSpec.from_string_spec(spec)
    except ValueError as error:
        return f"{spec!r} names no Python: {error}{_meant(spec)}"
    if parsed.path is not None and shutil.which(spec, path=path) is None:
        return f"{spec!r} names no Python: it is neither a version nor an executable on PATH{_meant(spec)}"
    implementation = (parsed.implementation or "cpython").lower()
    if implementation not in _IMPLEMENTATIONS and _meant(spec) and shutil.which(implementation, path=path) is None:
        return f"{spec!r} names no Python: {implementation!r} is no implementation that we know{_meant(spec)}"
    machine = (parsed.machine or "").lower()
    if machine and machine not in ARCHITECTURE_WORDS and machine != platform.machine().lower():
        return f"{spec!r} cannot be had: {parsed.machine!r} is no architecture that we know"
    return None


def _meant(spec: str) -> str:
    """What may have been meant by `spec`, which is no request, as the end of a sentence; empty where nobody knows."""
    try:
        Request.parse(spec)
    except InvalidRequestError as error:
        is_alike = SequenceMatcher(None, spec.lower(), error.hint).ratio() > _ALIKE
        return f"; did you mean {error.hint}?" if is_alike and "/" not in error.hint else ""
    return ""


def _architecture(parsed: PythonSpec, target: Target) -> str | None:
    """In the words of keys; None where it is open, empty for one that we do not know."""
    if parsed.machine is not None:
        return ARCHITECTURE_WORDS.get(parsed.machine.lower(), "")
    if parsed.architecture is None:
        return None
    return (_HALVED if parsed.architecture == 32 else _DOUBLED).get(target.arch)
