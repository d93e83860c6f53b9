"""Digests of what in a project decides about the environments of its suite.

Reads from a project what goes into the environments that its suite runs in.
"""

from __future__ import annotations

import configparser
import hashlib
import itertools
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.project import read_project
from pytest_pyinstall.system.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Recipe", "metadata_digest", "read_recipe", "tree_digest"]


_BUILD_FILES = (
    *("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "tox.toml", "uv.lock", "poetry.lock", "pdm.lock"),
    *("Pipfile.lock", "Cargo.toml", "Cargo.lock", "meson.build", "CMakeLists.txt"),
)


_COMPILED = re.compile(
    r"ext_modules|Extension\(|cffi_modules|maturin|scikit[-_]build|meson[-_]?python|mesonpy|setuptools[-_]rust|cython",
    re.IGNORECASE,
)


_SOURCES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".pxi", ".rs", ".f", ".f90"}


_AT_THE_TOP = {".py", ".pyi", ".toml", ".cfg", ".in"}


_ROOTS = {"src", "lib", "python"}
"""Directories in which packages are."""


_NAMES_OF_TESTS = {"test", "tests", "testing"}


_NO_SOURCES = {"build", "dist", "node_modules", "__pycache__", "target", "docs"}


def metadata_digest(directory: Path, lines: Sequence[str], *, project: Path | None) -> str:
    """Changes with what decides about an environment: metadata, lock files, files that the requirements `lines` name.

    And with the sources of an extension of `project`: what is compiled when it is installed is not seen by an editable
    installation when it changes.
    """
    digest = hashlib.sha256()
    text = ""
    for name in (*_BUILD_FILES, *_locks(directory), *_referenced(directory, lines)):
        try:
            content = (directory / name).read_bytes()
        except OSError:
            continue
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
        if name in {"pyproject.toml", "setup.py", "setup.cfg"}:
            text += content.decode("utf-8", "replace")
    if project and _COMPILED.search(text):
        digest.update(tree_digest(project, _SOURCES).encode())
    return digest.hexdigest()


def _locks(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("pylock*.toml"))


def _referenced(directory: Path, requirements: Sequence[str]) -> list[str]:
    """Files that the requirements name, and those that these name."""
    found: list[str] = []
    waiting = list(requirements)
    while waiting:
        match = re.match(r"(?:-r|-c|--requirements?|--constraints?)[ =]*(\S+)", waiting.pop())
        if match is None or match[1] in found:
            continue
        found.append(match[1])
        path = directory / match[1]
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            inner = re.match(r"\s*(-r|-c|--requirement|--constraint)[ =]*(\S+)", line)
            waiting += [f"{inner[1]} {os.path.relpath(path.parent / inner[2], directory)}"] if inner else []
    return found


def tree_digest(directory: Path, suffixes: set[str] | None = None) -> str:
    """Changes with the size or the time of a file below `directory` that could be a source.

    With `suffixes`, of such a file alone; else of what a wheel could hold, which tests and what they write are not.
    """
    digest = hashlib.sha256()
    for parent, directories, files in os.walk(directory):
        is_top = parent == str(directory)
        directories[:] = sorted(name for name in directories if _is_of_sources(parent, name, suffixes, is_top=is_top))
        if "pyvenv.cfg" in files:
            directories.clear()
            continue
        wanted = _AT_THE_TOP if is_top and suffixes is None else suffixes
        for name in sorted(files):
            if wanted is None or os.path.splitext(name)[1] in wanted:  # noqa: PTH122  # text, in a hot loop
                path = os.path.join(parent, name)  # noqa: PTH118  # as above
                try:
                    state = os.stat(path)  # noqa: PTH116  # as above
                except OSError:
                    continue
                digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_of_sources(parent: str, name: str, suffixes: set[str] | None, *, is_top: bool) -> bool:
    if name.startswith(".") or name in _NO_SOURCES or "egg-info" in name:
        return False
    if suffixes is not None or not is_top or name in _ROOTS:
        return True
    try:
        return name not in _NAMES_OF_TESTS and any(
            found.endswith((".py", ".pyi"))
            for found in os.listdir(os.path.join(parent, name))  # noqa: PTH118, PTH208  # text
        )
    except OSError:
        return False


_NAMES = ("test", "tests", "testing", "dev")
"""Groups and extras, the one that is taken first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into an environment besides pytest.

    `description` says it to people. `project` is the directory that is installed, None where there is nothing to
    install; `requirements` may hold lines of pip's for it (``-e .``). `digest` covers everything that was read.
    """

    description: str
    directory: Path
    project: Path | None = None
    name: str | None = None
    extras: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    conditional: tuple[tuple[frozenset[str], str], ...] = ()
    """Lines of a tox.ini that hold for environments with one of these factors alone."""
    requires_python: str | None = None
    digest: str = ""

    def lines(self, *, factors: frozenset[str]) -> tuple[str, ...]:
        """The requirements, with those that hold for `factors` (``py39``, ``py3.9``) alone."""
        return (*self.requirements, *(line for wanted, line in self.conditional if not wanted.isdisjoint(factors)))

    def sources_digest(self) -> str:
        """Changes with any file that a wheel of the project could hold."""
        return tree_digest(self.project or self.directory)


def read_recipe(directory: Path, configured: Sequence[str] = ()) -> Recipe:
    """What `configured` says (``pyinstall_suite_install``), else what the project in `directory` has for its tests.

    That is the project itself, editable, and the first of: a dependency group named test, tests, testing or dev; the
    extra of that name; what tox's testenv installs. Only reads. Raises `InvalidSettingError`, which names the file, for
    one that cannot be understood.
    """
    document = _toml(directory / "pyproject.toml")
    project = read_project(directory)
    is_project = project is not None and project.path is not None and project.path.parent == directory
    # A pyproject.toml without [project] is installed by what setup.py or setup.cfg say, or not at all.
    installs = is_project and _is_installable(directory, document)
    base = Recipe(
        description="",
        directory=directory,
        project=directory if installs else None,
        name=project.name if project and is_project else None,
        requires_python=str(project.requires_python) if project and is_project and project.requires_python else None,
    )
    if configured:
        found = {"project": None, **_configured(base, configured, document)}
        recipe = replace(base, description=" ".join(configured), **found)
    else:
        recipe = _found(base, document)
    words = repr((recipe.project, recipe.extras, recipe.requirements, recipe.conditional))
    lines = [*recipe.requirements, *(line for _, line in recipe.conditional)]
    content = metadata_digest(directory, lines, project=recipe.project)
    return replace(recipe, digest=hashlib.sha256(f"{words}\0{content}".encode("utf-8", "surrogateescape")).hexdigest())


def _is_installable(directory: Path, document: Mapping[str, Any]) -> bool:
    tool = _table(document, "tool")
    if _table(tool, "uv").get("package") is False or _table(tool, "poetry").get("package-mode") is False:
        return False
    if "project" in document or "poetry" in tool:
        return True
    return any((directory / name).is_file() for name in ("setup.py", "setup.cfg"))


def _configured(base: Recipe, words: Sequence[str], document: Mapping[str, Any]) -> dict[str, Any]:
    """Lines as pip takes them; ``-e .[extra]`` of the project itself, and ``--group NAME``, are understood here."""
    requirements: list[str] = []
    found: dict[str, Any] = {}
    for word in words:
        line = word.strip()
        own = re.fullmatch(r"(?:-e|--editable)[ =]*\.(?:\[([^\]]*)\])?", line)
        group = re.fullmatch(r"--group[ =]+(\S+)", line)
        if own:
            found = {"project": base.directory, "extras": tuple(re.findall(r"[^,\s]+", own[1] or ""))}
        elif group:
            requirements += _group(document, group[1], base.directory / "pyproject.toml")
        elif line:
            requirements.append(line)
    return {**found, "requirements": tuple(requirements)}


def _found(base: Recipe, document: Mapping[str, Any]) -> Recipe:
    own = "the project" if base.project else "nothing of the project, which has no metadata to install it by"
    path = base.directory / "pyproject.toml"
    groups = document.get("dependency-groups")
    if isinstance(groups, dict) and (name := next((name for name in _NAMES if name in groups), None)):
        lines = tuple(_group(document, name, path))
        return replace(base, requirements=lines, description=f"{own} and its dependency group {name!r}")
    extras = _extras(base.directory, document)
    if base.project and (name := next((name for name in _NAMES if name in extras), None)):
        return replace(base, extras=(name,), description=f"{own} with its extra {name!r}")
    if tox := _tox(base.directory, document):
        where, fields = tox
        groups_of_tox = fields.pop("groups")
        lines = tuple(itertools.chain.from_iterable(_group(document, name, path) for name in groups_of_tox))
        fields["requirements"] = (*lines, *fields["requirements"])
        if not base.project:
            fields["extras"] = ()
        return replace(base, **fields, description=f"{own} and what {where} installs")
    for name in _requirement_files(base.directory):
        return replace(base, requirements=(f"-r {name}",), description=f"{own} and {name}")
    return replace(base, description=own)


def _requirement_files(directory: Path) -> Iterator[str]:
    words = ("test", "tests", "testing", "dev")
    for word in words:
        for name in (
            f"{word}/requirements.txt",
            f"requirements/{word}.txt",
            f"requirements-{word}.txt",
            f"{word}-requirements.txt",
        ):
            if (directory / name).is_file():
                yield name


def _group(document: Mapping[str, Any], name: str, path: Path, seen: tuple[str, ...] = ()) -> list[str]:
    """The requirements of a dependency group. Source: https://packaging.python.org/specifications/dependency-groups"""
    groups = document.get("dependency-groups")
    by_name = {_normal(key): value for key, value in groups.items()} if isinstance(groups, dict) else {}
    items = by_name.get(_normal(name))
    if _normal(name) in seen:
        raise InvalidSettingError(f"{path}: the dependency group {name!r} includes itself")
    if not isinstance(items, list):
        message = f"{path}: there is no dependency group {name!r}"
        raise InvalidSettingError(message, hint=", ".join(by_name) or "pyinstall_suite_install")
    lines: list[str] = []
    for item in items:
        included = item.get("include-group") if isinstance(item, dict) else None
        if isinstance(item, str):
            lines.append(item)
        elif isinstance(included, str):
            lines += _group(document, included, path, (*seen, _normal(name)))
        else:
            raise InvalidSettingError(f"{path}: the dependency group {name!r} holds {item!r:.60}")
    return lines


def _normal(name: object) -> str:
    return re.sub(r"[-_.]+", "-", str(name)).lower()


def _extras(directory: Path, document: Mapping[str, Any]) -> set[str]:
    names = set(_table(_table(document, "project"), "optional-dependencies"))
    names |= set(_table(_table(_table(document, "tool"), "poetry"), "extras"))
    if parser := _ini(directory / "setup.cfg"):
        names |= set(parser["options.extras_require"]) if parser.has_section("options.extras_require") else set()
    setup = directory / "setup.py"
    if setup.is_file():
        text = setup.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"extras_require\s*=\s*\{(.*?)\}", text, re.DOTALL):
            names |= set(re.findall(r"[\"']([\w.-]+)[\"']\s*:", match[1]))
    return names


def _tox(directory: Path, document: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    tool = _table(_table(document, "tool"), "tox")
    for name, section in (("tox.ini", "testenv"), ("setup.cfg", "tox:testenv"), ("setup.cfg", "testenv")):
        parser = _ini(directory / name)
        if parser and parser.has_section(section):
            return f"{name} [{section}]", _tox_ini(parser[section], directory)
    if isinstance(text := tool.get("legacy_tox_ini"), str):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise InvalidSettingError(f"{directory / 'pyproject.toml'}: legacy_tox_ini: {error}") from error
        if parser.has_section("testenv"):
            return "tox's legacy_tox_ini", _tox_ini(parser["testenv"], directory)
    for where, table in (("tox.toml", _toml(directory / "tox.toml")), ("pyproject.toml [tool.tox]", tool)):
        base = _table(table, "env_run_base")
        if base:
            return where, {
                "requirements": tuple(item for item in _list(base.get("deps")) if isinstance(item, str)),
                "extras": tuple(map(str, _list(base.get("extras")))),
                "groups": tuple(map(str, _list(base.get("dependency_groups")))),
            }
    return None


def _tox_ini(section: configparser.SectionProxy, directory: Path) -> dict[str, Any]:
    lines: list[str] = []
    conditional: list[tuple[frozenset[str], str]] = []
    for raw in section.get("deps", "").splitlines():
        line = raw.partition(" #")[0].strip()
        for name in ("{toxinidir}", "{tox_root}"):
            line = line.replace(name, str(directory))
        if not line or line.startswith("#") or "{" in line.partition(":")[2]:
            continue  # a substitution of tox's own, which means nothing here
        factors, colon, dependency = line.partition(": ")
        if colon and re.fullmatch(r"[\w.,!{}\- ]+", factors):
            conditional.append((frozenset(_expanded(factors)), dependency.strip()))
        elif "{" not in line:
            lines.append(line)
    words = {name: tuple(re.findall(r"[^\s,]+", section.get(name, ""))) for name in ("extras", "dependency_groups")}
    plain = {name: tuple(word for word in found if ":" not in word) for name, found in words.items()}
    return {
        "requirements": tuple(lines),
        "conditional": tuple(conditional),
        "extras": plain["extras"],
        "groups": plain["dependency_groups"],
    }


def _expanded(text: str) -> Iterator[str]:
    """``py{38,39},pypy`` as ``py38``, ``py39``, ``pypy``; ``py{8-10}`` counts."""
    for part in re.findall(r"(?:[^,{}]|\{[^}]*\})+", text):
        pieces = [
            list(_alternatives(piece)) if piece.startswith("{") else [piece]
            for piece in re.findall(r"\{[^}]*\}|[^{}]+", part.strip())
        ]
        yield from ("".join(product) for product in itertools.product(*pieces))


def _alternatives(braces: str) -> Iterator[str]:
    for word in braces.strip("{}").split(","):
        if match := re.fullmatch(r"\s*(\d+)-(\d+)\s*", word):
            yield from map(str, range(int(match[1]), int(match[2]) + 1))
        else:
            yield word.strip()


def _toml(path: Path) -> dict[str, Any]:
    return read_toml(path) if path.exists() else {}


def _ini(path: Path) -> configparser.ConfigParser | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=None)
    try:
        return parser if parser.read(path, encoding="utf-8") else None
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError(f"{path} cannot be read: {error}") from error


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else []
