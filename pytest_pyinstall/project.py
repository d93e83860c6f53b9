"""Reads which Pythons a project supports, from pyproject.toml, setup.cfg and setup.py.

Replaces the keywords of requests (supported, lowest, latest, current, pinned) by what they mean for the project.
"""

from __future__ import annotations

import ast
import configparser
import re
from datetime import date
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pytest_pyinstall.errors import InvalidRequestError, InvalidSettingError, NoMatchError
from pytest_pyinstall.request.request import Request, as_ranges, parse_requests
from pytest_pyinstall.system.documents import parse_python
from pytest_pyinstall.system.files import read_toml
from pytest_pyinstall.system.values import Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "END_OF_LIFE",
    "Project",
    "directory_of_project",
    "notes_on_supported",
    "pin_file",
    "probable_specifier",
    "read_pinned",
    "read_project",
    "resolve_keywords",
    "specifier_of_poetry",
]


_MINOR_CLASSIFIER = re.compile(r"Programming Language :: Python :: ([0-9]+)\.([0-9]+)")


_FREE_THREADING = "Programming Language :: Python :: Free Threading"


class Project(Value):
    """What a project declares. `path` is the file that decided it: pyproject.toml, setup.cfg or setup.py."""

    path: Path | None = None
    classifiers: tuple[str, ...] = ()
    requires_python: SpecifierSet | None = None
    name: str | None = None

    @property
    def free_threaded(self) -> bool:
        """Whether there is a classifier for free threading, of any level of support."""
        return any(classifier.startswith(_FREE_THREADING) for classifier in self.classifiers)

    @property
    def minor_versions(self) -> tuple[Version, ...]:
        """The minor versions that the classifiers name, ascending."""
        matches = (_MINOR_CLASSIFIER.fullmatch(classifier.strip()) for classifier in self.classifiers)
        return tuple(sorted({Version(f"{match[1]}.{match[2]}") for match in matches if match}))


def read_project(directory: Path) -> Project | None:
    """The project in `directory` or the nearest directory above it. None if there is none.

    A project has a pyproject.toml with a ``[project]`` or ``[tool.poetry]`` table, a setup.cfg with ``[metadata]`` or
    ``[options]``, or a setup.py. If there is a ``[project]`` table, only the fields that it declares as dynamic are
    taken from the other files, in this order. setup.py is read, but never run, so only its literals count. Raises
    `InvalidSettingError`, which names the file, if a file cannot be read or has an invalid value.
    """
    for place in (directory, *directory.parents):
        if sources := list(_sources(place)):
            return _project(sources)
    return None


def directory_of_project(start: Path) -> Path | None:
    """The nearest directory that declares a project, from `start` upward. Raises the errors of `read_project`."""
    return next((place for place in (start, *start.parents) if next(_sources(place), None)), None)


class _Source(Value):
    """What one file or table declares. `dynamic` are the fields that it leaves to others, None for all."""

    path: Path
    name: object = None
    classifiers: object = None
    requires_python: object = None
    dynamic: frozenset[str] | None = None


def _project(sources: list[_Source]) -> Project:
    """The fields of the first source, and what it leaves to the others."""
    first = sources[0]
    fields: dict[str, tuple[Path, Any]] = {}
    for field in ("name", "classifiers", "requires_python"):
        is_open = first.dynamic is None or field.replace("_", "-") in first.dynamic
        found = ((source.path, getattr(source, field)) for source in (sources if is_open else [first]))
        fields[field] = next(((path, value) for path, value in found if value is not None), (first.path, None))
    name = fields["name"][1]
    return Project(
        path=first.path,
        name=name if isinstance(name, str) else None,
        classifiers=_classifiers(*fields["classifiers"]),
        requires_python=_requires_python(*fields["requires_python"]),
    )


def _classifiers(path: Path, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [line for line in map(str.strip, value.splitlines()) if line]
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        message = f"{path}: classifiers must be a list of strings"
        raise InvalidSettingError(message, hint='classifiers = ["Programming Language :: Python :: 3.12"]')
    return tuple(value)


def _requires_python(path: Path, value: object) -> SpecifierSet | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return SpecifierSet(value)
        except InvalidSpecifier:
            pass
    message = f"{path}: requires-python is not a version specifier: {value!r:.80}"
    meant = probable_specifier(str(value)) or ">=3.11"
    form = {".cfg": "python_requires = {}", ".py": 'python_requires="{}"'}.get(path.suffix, 'requires-python = "{}"')
    raise InvalidSettingError(message, hint=form.format(meant))


_CLAUSE = re.compile(
    r"(===|[~=!<>]=|=>|=<|≥|≤|≠|[<>=^~])?\s*(?:py(?:thon)?|v)?\s*([0-9]+(?:\.[0-9]+)*)(\.[*x])?(?!\.?\w)", re.IGNORECASE
)
_OPERATORS = {"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "≠": "!=", "=": "=="}


def probable_specifier(text: str) -> str:
    """The PEP 440 specifier that the invalid specifier `text` probably means: ``>=3.9`` for ``3.9+``. Empty if none."""
    text = re.sub(r"\b(3),\s*([0-9]{1,2})\b(?!\.)", r"\1.\2", text)  # a decimal comma
    text = re.sub(r"([0-9]+)\.([0-9]+)(?:\.[0-9*x]+)?\s*(?:-|\.\.+|to)\s*([0-9]+)\.([0-9]+)", _as_bounds, text)
    text = re.sub(r"([<>=!~])\s+(?==)", r"\1", text)
    clauses: list[str] = []
    for typed, numbers, wildcard in _CLAUSE.findall(text):
        operator = _OPERATORS.get(typed, typed) or ("==" if wildcard else ">=")
        if operator in {"^", "~"}:
            clauses.append(_poetry_clause(f"{operator}{numbers}"))
        elif operator == "~=" and "." not in numbers:
            clauses.append(f">={numbers}")
        else:
            clauses.append(f"{operator}{numbers}{'.*' if wildcard and operator in {'==', '!='} else ''}")
    if len(clauses) > 1 and not re.search(r"[~=!<>≥≤≠^]", text):
        clauses = clauses[:1]  # a list of versions: the first is the lowest
    try:
        return ",".join(clauses) if SpecifierSet(",".join(clauses)) else ""
    except InvalidSpecifier:
        return ""


def _as_bounds(match: re.Match[str]) -> str:
    """``3.9-3.13`` as ``>=3.9,<3.14``."""
    return f">={match[1]}.{match[2]},<{match[3]}.{int(match[4]) + 1}"


def _sources(directory: Path) -> Iterator[_Source]:
    """The declarations in the files of `directory`, in the order of precedence."""
    if _is_file(path := directory / "pyproject.toml"):
        yield from _pyproject(path)
    if _is_file(path := directory / "setup.cfg"):
        yield from _setup_cfg(path)
    if _is_file(path := directory / "setup.py"):
        yield _setup_py(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # before 3.14: no permission to search a parent directory
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise InvalidSettingError(message) from error


def _pyproject(path: Path) -> Iterator[_Source]:
    document = read_toml(path)
    tool = document.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    project = document.get("project")
    if isinstance(project, dict):
        dynamic = project.get("dynamic")
        yield _Source(
            path=path,
            name=project.get("name"),
            classifiers=project.get("classifiers"),
            requires_python=project.get("requires-python"),
            dynamic=frozenset(map(str, dynamic if isinstance(dynamic, list) else ())),
        )
    if isinstance(poetry, dict):
        dependencies = poetry.get("dependencies")
        constraint = dependencies.get("python") if isinstance(dependencies, dict) else None
        yield _Source(
            path=path,
            name=poetry.get("name"),
            classifiers=poetry.get("classifiers"),
            requires_python=specifier_of_poetry(constraint) if isinstance(constraint, str) else None,
        )


def specifier_of_poetry(text: str) -> str | None:
    """Poetry's notation as a PEP 440 specifier. None for alternatives (``||``), which a specifier cannot express.

    Source: https://python-poetry.org/docs/dependency-specification/#version-constraints
    """
    if "|" in text:
        return None
    clauses = re.split(r"\s*,\s*|(?<=[\w*])\s+(?=[<>=!~^])", text.strip())
    return ",".join(filter(None, map(_poetry_clause, clauses)))


def _poetry_clause(clause: str) -> str:
    match = re.fullmatch(r"(\^|~(?!=)|==?)?\s*v?([0-9]+(?:\.[0-9]+)*)([-.\w+]*?)(\.\*)?", clause)
    if clause == "*" or not match:
        return "" if clause == "*" else clause
    operator, numbers, rest, wildcard = match.groups()
    parts = [int(number) for number in numbers.split(".")]
    if operator == "^":
        # The leftmost number that is not zero may not change: ^0.2.3 is >=0.2.3,<0.3.
        fixed = next((place for place, number in enumerate(parts) if number), len(parts) - 1)
        return f">={numbers}{rest},<{_next(parts[: fixed + 1])}"
    if operator == "~":
        return f">={numbers}{rest},<{_next(parts[:2])}"
    return f"=={numbers}{rest}{wildcard or ''}"


def _next(parts: list[int]) -> str:
    return ".".join(map(str, [*parts[:-1], parts[-1] + 1]))


def _setup_cfg(path: Path) -> Iterator[_Source]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(path))
    except configparser.Error as error:
        message = f"{path} cannot be read: {error}"
        raise InvalidSettingError(message) from error
    if parser.has_section("metadata") or parser.has_section("options"):
        yield _Source(
            path=path,
            name=parser.get("metadata", "name", fallback=None),
            classifiers=_listed(path.parent, parser.get("metadata", "classifiers", fallback=None)),
            requires_python=parser.get("options", "python_requires", fallback=None),
        )


def _listed(directory: Path, value: str | None) -> str | None:
    """The text of ``classifiers``, which can be in other files (``file: a.txt, b.txt``)."""
    if value is None or not value.startswith("file:"):
        return value
    return "\n".join(_text(directory / name.strip()) for name in value.removeprefix("file:").split(","))


def _setup_py(path: Path) -> _Source:
    """The literal arguments of ``setup(…)``, directly or through a name that the module assigns a literal to."""
    try:
        module = parse_python(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return _Source(path=path)  # Python 2, or a broken file: nothing in it can be read without running it
    names = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    call = next((call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == "setup"), None)
    values = {keyword.arg: _literal(keyword.value, names) for keyword in call.keywords} if call else {}
    return _Source(
        path=path,
        name=values.get("name"),
        classifiers=values.get("classifiers"),
        requires_python=values.get("python_requires"),
    )


def _literal(node: ast.expr, names: Mapping[str, ast.expr]) -> object:
    try:
        return ast.literal_eval(names.get(node.id, node) if isinstance(node, ast.Name) else node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


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
"""The last day on which each minor version is maintained. If only the month is known, it is its last day.

Source: https://devguide.python.org/versions/. A version that is not in the table is newer, and still maintained.
"""


_DECLARE_HINTS = {
    ".cfg": "python_requires = >=3.9  # below [options] in setup.cfg",
    ".py": 'python_requires=">=3.9"  # in the call of setup()',
    ".toml": 'requires-python = ">=3.9"  # below [project] in pyproject.toml',
}


def _ended_versions(project: Project, today: date) -> tuple[str, ...]:
    """The versions that ``supported`` leaves out of `project` because they are no longer maintained."""
    allowed = project.requires_python
    if project.minor_versions or allowed is None:
        return ()
    ended = (minor for minor, last in END_OF_LIFE.items() if last < today and not minor.startswith("2"))
    return tuple(minor for minor in ended if _allows(allowed, minor))


def notes_on_supported(project: Project, today: date, here: Container[str]) -> list[str]:
    """Sentences on what ``supported`` leaves out because of its age, and on what ``requires-python`` does not allow.

    Without the versions `here`, which are requested in another way.
    """
    notes = []
    if ended := [minor for minor in _ended_versions(project, today) if minor not in here]:
        text = ", ".join(as_ranges(ended))
        notes.append(f"supported leaves out versions after their end of life: {text}; classifiers keep them")
    allowed = project.requires_python
    minors = [] if allowed is None else [str(minor) for minor in project.minor_versions]
    if excluded := [minor for minor in minors if not _allows(allowed, minor)]:
        text = ", ".join(as_ranges(excluded))
        notes.append(f"the classifiers name {text}, but requires-python is {str(allowed)!r}")
    return notes


def _allows(allowed: SpecifierSet | None, minor: str) -> bool:
    return allowed is None or any(map(allowed.contains, (minor, f"{minor}.99")))


def resolve_keywords(
    requests: Iterable[Request],
    *,
    project: Project | None,
    executable: Path,
    released: Callable[[], Iterable[Version]],
    pinned: Callable[[], Iterable[Request]],
    today: date,
) -> tuple[Request, ...]:
    """The requests, with each keyword replaced by what it means for `project`.

    ``supported`` are the minor versions of the classifiers, regardless of ``requires-python``. Without classifiers, it
    is the versions in `released` that ``requires-python`` allows and that are maintained `today`. ``lowest`` and
    ``latest`` are the first and last of them. If nothing is declared, ``latest`` is the newest of `released`.
    ``current`` is `executable`, and ``pinned`` the result of `pinned`. `released` and `pinned` are called only if they
    are needed. Raises `InvalidRequestError` if the project does not define a keyword, `NoMatchError` if nothing fits.
    """
    expanded: list[Request] = []
    for request in requests:
        match request.word:
            case None:
                expanded.append(request)
            case "current":
                expanded.append(replace(request, implementation=None, path=executable, word=None))
            case "pinned":
                expanded += resolve_keywords(
                    pinned(), project=project, executable=executable, released=released, pinned=tuple, today=today
                )
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
        files = "pyproject.toml, setup.cfg or setup.py"
        message = f"{request.text!r} needs a project, but no {files} here or above describes one"
        raise InvalidRequestError(message, hint="latest")
    if minors := project.minor_versions:
        return [Request.parse(str(minor)) for minor in minors]
    if project.requires_python is None:
        message = f"{request.text!r}: {project.path} declares neither requires-python nor classifiers with a version"
        declare = _DECLARE_HINTS[project.path.suffix if project.path else ".toml"]
        raise InvalidRequestError(message, hint=f"{declare}; or name the versions, as in 3.9..3.13")
    versions = sorted(released())
    if supported := list(_admitted(project.requires_python, versions, today)):
        return supported
    why = "no version that is still maintained fits"
    if _is_maintained(project.requires_python, today) or not _ended_versions(project, today):
        newest = f" (its newest: {versions[-1]})" if versions else ""
        why = f"the catalogue{newest} has no build of a stable version that fits"
    declared = f"requires-python = {str(project.requires_python)!r} of {project.path}"
    raise NoMatchError(f"{request.text!r}: {why} {declared}", hint=str(project.requires_python) or "latest")


def _is_maintained(requires_python: SpecifierSet, today: date) -> bool:
    """Whether `requires_python` allows a version in our table that is maintained `today`."""
    maintained = (minor for minor, last in END_OF_LIFE.items() if last >= today)
    return any(requires_python.contains(version) for minor in maintained for version in (minor, f"{minor}.99"))


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
            # ``<=3.12`` allows only 3.12.0, and ``!=3.12.4`` may exclude the newest: keep the specifier for the patch.
            request = replace(request, versions=str(request.specifier & requires_python))
        yield request


_PIN_FILES = (".python-versions", ".python-version")
_OTHER_DISTRIBUTION = re.compile(
    r"(?:activepython|anaconda|cinder|ironpython|jython|mambaforge|micropython|miniconda|miniforge|nogil|pyston|stackless)\d*"
    r"(?:-|$)"
)
"""Names of pyenv for distributions that cannot be requested."""


def read_pinned(directory: Path) -> tuple[Request, ...]:
    """The requests in a file of uv or pyenv: ``.python-versions``, otherwise ``.python-version``.

    The file is searched from `directory` upward, to the root of the repository. Each line has a request, or several
    separated by spaces, as pyenv writes them. ``#`` starts a comment. Relative paths start from the file's directory.
    Raises `InvalidRequestError`, which names the file and the line.
    """
    if (path := pin_file(directory)) is not None:
        return _pinned(path)
    message = "'pinned': there is no .python-versions and no .python-version in this project"
    raise InvalidRequestError(message, hint="latest")


def pin_file(directory: Path) -> Path | None:
    """The file with the requests that ``pinned`` means."""
    for place in (directory, *directory.parents):
        for name in _PIN_FILES:
            if _is_file(path := place / name):
                return path
        if (place / ".git").exists():
            break
    return None


def _pinned(path: Path) -> tuple[Request, ...]:
    requests: list[Request] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if text:
            requests += _pinned_in(text, directory=path.parent, origin=f"{path}, line {number}")
    if not requests:
        message = f"'pinned': {path} has no request"
        raise InvalidRequestError(message, hint="latest")
    return tuple(requests)


def _pinned_in(text: str, *, directory: Path, origin: str) -> tuple[Request, ...]:
    try:
        requests = parse_requests([text], directory=directory, origin=origin)
    except InvalidRequestError:
        words = text.split()
        if other := next((word for word in words if _OTHER_DISTRIBUTION.match(word)), None):
            message = f"{origin}: {other!r} is pyenv's name for a distribution that cannot be requested"
            raise InvalidRequestError(message, hint="latest") from None
        if len(words) < 2:
            raise
        requests = parse_requests(words, directory=directory, origin=origin)
    if any(request.word == "pinned" for request in requests):
        message = f"{origin}: 'pinned' means this file, so it cannot be in it"
        raise InvalidRequestError(message, hint="latest")
    return requests
