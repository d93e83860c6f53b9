"""Reads from a project's files what to install into the environments of its suite."""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.options import closest_names
from pytest_pyinstall.project import read_project
from pytest_pyinstall.suite import _tools
from pytest_pyinstall.suite._tools import Dependencies, as_list, as_table, normalized, read_ini, read_toml
from pytest_pyinstall.suite._tox import Tox, ToxEnvironment, read_tox
from pytest_pyinstall.suite.variants import Variant
from pytest_pyinstall.system.documents import parse_python
from pytest_pyinstall.system.values import Value, replace

__all__ = ["EnvironmentSpec", "LocalTarget", "Recipe", "can_be_installed", "local_target", "read_recipe"]

_TEST_NAMES = ("test", "tests", "testing")
_DEV_NAMES = ("dev",)
"""Names of groups and extras. Those for tests are tried before all other sources, those for development after them."""
_PLUGIN = "pytest-pyinstall"
_OLDEST_WITH_PLUGIN = (3, 11)


class EnvironmentSpec(Value):
    """What to install for one Python besides pytest.

    `project` is the directory of the project to install, None if it is not installed. `requirements` are lines for pip,
    with paths relative to `directory`.
    """

    directory: Path
    project: Path | None = None
    name: str | None = None
    editable: bool = True
    extras: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    """The versions in a lock file, as lines of a constraints file."""
    resolution: str = ""
    """A value for uv's ``--resolution``; empty for the newest versions."""


class Recipe(Value):
    """What to install into the environments of a project. `spec` returns the part for one Python.

    `description` is a phrase for the session's header. `left_out` are the lines that we do not understand.
    """

    description: str
    directory: Path
    project: Path | None = None
    name: str | None = None
    requires_python: str | None = None
    editable: bool = True
    extras: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    tox: Tox | None = None
    """The tox configuration, whose environment for a Python adds requirements and extras."""
    only_extras_of_tox: bool = False
    document: Mapping[str, Any] = MappingProxyType({})

    def spec(self, interpreter: Interpreter, variant: Variant | None = None) -> EnvironmentSpec:
        """What to install for `interpreter` with `variant`.

        Raises `InvalidSettingError` if tox names a dependency group that does not exist.
        """
        extras, requirements = self.extras, self.requirements
        if found := self._of_tox(interpreter):
            extras += found.extras if self.project else ()
            if not self.only_extras_of_tox:
                path = self.directory / "pyproject.toml"
                grouped = (line for name in found.groups for line in _group(self.document, name, path))
                requirements += (*grouped, *found.requirements)
        if self.project:
            # `deps = .[x]` in tox: the project is installed already, editable; only the extra is new.
            targets = {line: local_target(line, self.directory) for line in requirements}
            own = {line: target for line, target in targets.items() if target and target.path == self.directory}
            own = {line: target for line, target in own.items() if not target.marker}
            extras += tuple(extra for target in own.values() for extra in target.extras)
            requirements = tuple(line for line in requirements if line not in own)
        if interpreter.version_info[:2] < _OLDEST_WITH_PLUGIN:
            # Our plugin does not support this Python. The worker skips tests that use our fixtures, with the reason.
            requirements = tuple(line for line in requirements if _name_of(line) != _PLUGIN)
        requirements += variant.requirements if variant else ()
        # The versions of a variant would conflict with those in a lock file.
        locks = [] if variant else self._locks(found)
        return EnvironmentSpec(
            directory=self.directory,
            project=self.project,
            name=self.name,
            editable=self.editable,
            extras=tuple(dict.fromkeys(extras)),
            requirements=tuple(dict.fromkeys(requirements)),
            constraints=tuple(dict.fromkeys(line for path in locks for line in _tools.constraints_of(path))),
            resolution=variant.resolution if variant else "",
        )

    def describe(self, interpreters: Iterable[Interpreter]) -> list[str]:
        """Lines for the session's header: what is installed, then what is left out."""
        found = [each for each in map(self._of_tox, interpreters) if each is not None]
        # `py39` for 3.9 is obvious. `py39-django52` is named, because tox may have `py39-django42` too.
        chosen = [each.name for each in found if "-" in each.name or not re.search(r"\d", each.name)]
        as_in = f", as in {', '.join(dict.fromkeys(chosen))}" if chosen else ""
        left_out = dict.fromkeys((*self.left_out, *(line for each in found for line in each.left_out)))
        tools = dict.fromkeys(tool for each in found if each.tools for tool in each.tools.split(", "))
        locks = dict.fromkeys(path.name for each in found for path in self._locks(each))
        with_tools = f", with {', '.join([*(f'`{tool}`' for tool in tools), *locks])}" if tools else ""
        lines = [f"{self.description}{as_in}{with_tools}"]
        if left_out:
            names = "; ".join(left_out)
            lines.append(
                f"left out, because it was not understood: {names} (set pyinstall_suite_install to what tests need)"
            )
        return lines

    def _locks(self, found: ToxEnvironment | None) -> list[Path]:
        return _tools.lock_files(self.directory, found.tools.split(", ")) if found else []

    def _of_tox(self, interpreter: Interpreter) -> ToxEnvironment | None:
        found = self.tox.environment(_names_in_tox(interpreter)) if self.tox else None
        if found is None or not found.commands:
            return found
        extras = sorted(_extras(self.directory, self.document))
        more = _tools.installed_by(found.commands, directory=self.directory, document=self.document, extras=extras)
        return found._replace(
            requirements=(*_tools.without_tools(found.requirements, more.where), *more.requirements),
            extras=(*found.extras, *more.extras),
            groups=(*found.groups, *more.groups),
            left_out=(*found.left_out, *more.left_out),
            tools=more.where,
        )


def _names_in_tox(interpreter: Interpreter) -> tuple[str, ...]:
    """The names that a tox environment for `interpreter` can have, the usual one first."""
    major, minor = interpreter.version_info[:2]
    suffix = "t" if interpreter.free_threaded else ""
    if interpreter.implementation != "cpython":
        name = interpreter.implementation
        return f"{name}{major}{minor}", f"{name}{major}.{minor}", f"{name}{major}", name
    names = (
        f"py{major}{minor}",
        f"py{major}.{minor}",
        f"{major}.{minor}",
        f"python{major}.{minor}",
        f"cpython{major}{minor}",
    )
    return (*(f"{name}{suffix}" for name in names), f"py{major}", "py")


def read_recipe(directory: Path, configured: Sequence[str] = ()) -> Recipe:
    """Read what to install for the tests of the project in `directory`.

    `configured` are the lines of ``pyinstall_suite_install``. If there are none, the files of the project decide.
    Raises `InvalidSettingError`, which names the file, if one cannot be read.
    """
    document = read_toml(directory / "pyproject.toml")
    project = read_project(directory)
    is_project = project is not None and project.path is not None and project.path.parent == directory
    # A project whose pyproject.toml has no [project] is installed if it has a setup.py or setup.cfg.
    installs = is_project and _is_installable(directory, document)
    base = Recipe(
        description="",
        directory=directory,
        project=directory if installs else None,
        name=project.name if project and is_project else None,
        requires_python=str(project.requires_python) if project and is_project and project.requires_python else None,
        editable=not _needs_its_build_environment(document),
        document=document,
    )
    if configured:
        return _configured(base, configured)
    return _detected(base)


def _is_installable(directory: Path, document: Mapping[str, Any]) -> bool:
    tool = as_table(document, "tool")
    if as_table(tool, "uv").get("package") is False or as_table(tool, "poetry").get("package-mode") is False:
        return False
    if "project" in document or "poetry" in tool:
        return True
    return any((directory / name).is_file() for name in ("setup.py", "setup.cfg"))


def _needs_its_build_environment(document: Mapping[str, Any]) -> bool:
    """Whether an editable installation builds the project when it is imported.

    The tools for that are only present in the isolated environment of the first build.
    """
    return as_table(document, "build-system").get("build-backend") == "mesonpy"


# What the user configures


def _configured(base: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe for lines as pip accepts them. The project itself and ``--group NAME`` are resolved here."""
    requirements: list[str] = []
    extras: list[str] = []
    own: list[LocalTarget] = []
    for line in filter(None, map(str.strip, words)):
        target = local_target(line, base.directory)
        group = re.fullmatch(r"--group(?:\s+|=)(?:(.+):)?([^:\s]+)", line)
        if target and target.path == base.directory and not target.marker:
            own.append(target)
            extras += target.extras
            _reject_unknown(target.extras, base)
        elif group:
            path = base.directory / (group[1] or "pyproject.toml")
            requirements += _group(read_toml(path) if group[1] else base.document, group[2], path)
        elif re.fullmatch(r"[^-\s]\S*\.txt", line) and not (requirements and requirements[-1].startswith("-")):
            message = f"pyinstall_suite_install: {line} is a file of requirements, not a requirement"
            raise InvalidSettingError(message, hint=f'pyinstall_suite_install = ["-r {line}"]')
        else:
            requirements.append(line)
    return replace(
        base,
        description=" ".join(filter(None, map(str.strip, words))),
        project=base.directory if own else None,
        editable=any(target.editable for target in own) or not own,
        extras=tuple(extras),
        requirements=tuple(requirements),
    )


def _reject_unknown(extras: Sequence[str], base: Recipe) -> None:
    """Raise `InvalidSettingError` if the project has no extra with one of these names: pip and uv only warn.

    The backend can add extras only if ``dynamic`` says so.
    """
    metadata = as_table(base.document, "project")
    if not metadata or "optional-dependencies" in as_list(metadata.get("dynamic")):
        return
    known = sorted(_extras(base.directory, base.document))
    for extra in extras:
        if normalized(extra) not in map(normalized, known):
            message = f"{base.directory / 'pyproject.toml'}: there is no extra {extra!r}{_among(known)}"
            raise InvalidSettingError(message, hint=_install_line("-e .[{}]", extra, known))


def _among(known: Sequence[str]) -> str:
    return f", only {', '.join(known)}" if known else ""


def _install_line(form: str, name: str, known: Sequence[str]) -> str:
    """The setting with the closest of the `known` extras or groups."""
    near = closest_names([name], known, cutoff=0)
    return f'pyinstall_suite_install = ["{form.format(near[0]) if near else "-e ."}"]'


class LocalTarget(Value):
    """A local directory or file that a requirement names."""

    path: Path
    editable: bool
    name: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""


_LOCAL = re.compile(
    r"(?P<flag>(?:-e|--editable)[\s=]*)?"
    r"(?:(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<before>\[[^\]]*\])?\s*@\s*)?"
    r"(?P<place>[^\s;\[\]]+?)(?P<after>\[[^\]]*\])?(?:\s*;\s*(?P<marker>.+))?"
)


def local_target(line: str, base: Path, beside: Path | None = None) -> LocalTarget | None:
    """The local directory or file that a line of requirements names; None if it names none.

    A relative path starts at `base`, in which pip is started. If nothing can be installed there, it starts at `beside`,
    the directory of the requirement file, or at the nearest parent of `beside` in which something can be installed.
    """
    match = (
        _LOCAL.fullmatch(line.strip().replace("'", "").replace('"', ""))
        if ";" not in line
        else _LOCAL.fullmatch(line.strip())
    )
    if match is None:
        return None
    place = match["place"]
    if place.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        place = unquote(urlsplit(place).path).partition("#")[0]
    elif "://" in place or not (
        match["flag"] or place.startswith((".", "/", "~")) or "/" in place or place.endswith(".whl")
    ):
        return None
    if not place or place.startswith("-"):
        return None
    extras = re.findall(r"[^,\s\[\]]+", f"{match['before'] or ''},{match['after'] or ''}")
    try:
        path = (base / os.path.expanduser(place)).resolve()  # noqa: PTH111  # to pathlib, ./~name is ~name
        if beside is not None and not can_be_installed(path):
            # tox starts pip in its own directory, which can be the root of a monorepo.
            others = ((parent / place).resolve() for parent in (beside, *beside.parents))
            path = next(filter(can_be_installed, others), path)
    except (OSError, RuntimeError, ValueError):
        return None
    return LocalTarget(
        path=base if path == base.resolve() else path,
        editable=bool(match["flag"]),
        name=match["name"] or "",
        extras=tuple(extras),
        marker=match["marker"] or "",
    )


def can_be_installed(path: Path) -> bool:
    """Whether `path` is a file, or a directory with a project."""
    return path.is_file() or any((path / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))


# What the project's files contain


def _detected(base: Recipe) -> Recipe:
    directory, document = base.directory, base.document
    base, own = _with_runtime(base)
    tox = read_tox(directory)
    of_tox = replace(base, tox=tox, description=f"{own} and what {tox.where} installs") if tox else None
    for found in (
        _of_standard_tables(base, own, tox, _TEST_NAMES),
        _of_tools(base, own, (*_TEST_NAMES, "hatch-test")),
        of_tox if tox and tox.installs_something() else None,
        _of_tool(base, own, _tools.nox(directory, document, sorted(_extras(directory, document)))),
        _of_files(base, own, _TEST_NAMES),
        _of_tool(base, own, _tools.uv_default_groups(directory, document)),
        _of_standard_tables(base, own, tox, _DEV_NAMES),
        _of_tools(base, own, ("dev", "default"), _tools.uv(directory, document), _tools.pipenv(directory)),
        _of_files(base, own, _DEV_NAMES),
    ):
        if found:
            return found
    if base.project and (directory / "requirements.txt").is_file():
        return replace(base, requirements=("-r requirements.txt",), description=f"{own} and requirements.txt")
    return replace(base, description=own)


def _with_runtime(base: Recipe) -> tuple[Recipe, str]:
    """`base` with the dependencies of a project that is not installed itself, and a phrase that describes them."""
    if base.project:
        return base, "the project"
    own = "the project in place (it has no metadata to install it)"
    tool = as_table(base.document, "tool")
    if lines := as_list(as_table(base.document, "project").get("dependencies")):
        sources = _tools.uv_sources(base.directory, base.document)
        requirements = (found for line in lines for found in _tools.with_uv_sources(str(line), sources))
        return replace(base, requirements=tuple(requirements)), "the project's dependencies"
    if as_table(tool, "poetry").get("package-mode") is False:
        runtime = _tools.poetry_runtime(base.document)
    elif (base.directory / "requirements.txt").is_file():
        return replace(base, requirements=("-r requirements.txt",)), f"{own}, requirements.txt"
    else:
        runtime = _tools.pipenv_runtime(base.directory)
    if not runtime.requirements:
        return base, own
    return replace(base, requirements=runtime.requirements, left_out=runtime.left_out), f"{own}, {runtime.where}"


def _of_standard_tables(base: Recipe, own: str, tox: Tox | None, names: Sequence[str]) -> Recipe | None:
    """The dependency group and the extra with one of `names`. Tests with a group may need an extra too."""
    groups = {normalized(key) for key in as_table(base.document, "dependency-groups")}
    group = next((name for name in names if name in groups), None)
    extras = {normalized(name): name for name in _extras(base.directory, base.document)} if base.project else {}
    extra = next((extras[name] for name in names if name in extras), None)
    if group is None and extra is None:
        return None
    with_extra = f"{own} with its extra {extra!r}" if extra else own
    recipe = replace(base, extras=(extra,) if extra else (), description=with_extra)
    if group is None:
        return recipe
    lines = _group(base.document, group, base.directory / "pyproject.toml")
    description = f"{with_extra} and its dependency group {group!r}"
    recipe = replace(recipe, requirements=(*base.requirements, *lines), description=description)
    in_tox = tox.environment(("py3", "py")) if tox and base.project else None
    if tox and in_tox and in_tox.extras and group in map(normalized, in_tox.groups):
        return replace(
            recipe, tox=tox, only_extras_of_tox=True, description=f"{description}, with the extras in {tox.where}"
        )
    return recipe


def _of_tools(base: Recipe, own: str, names: Sequence[str], *more: Dependencies | None) -> Recipe | None:
    document = base.document
    candidates = (
        _tools.poetry(document, names),
        _tools.pdm(document, names),
        _tools.hatch(base.directory, document, [name for name in (*names[-1:], *names) if name]),
        *more,
    )
    return _of_tool(base, own, next(filter(None, candidates), None))


def _of_tool(base: Recipe, own: str, found: Dependencies | None) -> Recipe | None:
    if found is None:
        return None
    document = base.document
    path = base.directory / "pyproject.toml"
    grouped = [line for name in found.groups for line in _group(document, name, path)]
    return replace(
        base,
        extras=found.extras if base.project else (),
        requirements=(*base.requirements, *found.requirements, *grouped),
        left_out=(*base.left_out, *found.left_out),
        description=f"{own} and {found.where}",
    )


def _of_files(base: Recipe, own: str, names: Sequence[str]) -> Recipe | None:
    for name in _requirement_files(base.directory, names):
        return replace(base, requirements=(*base.requirements, f"-r {name}"), description=f"{own} and {name}")
    return None


def _requirement_files(directory: Path, words: Sequence[str]) -> Iterator[str]:
    for word in words:
        for name in (
            f"{word}/requirements.txt",
            f"requirements/{word}.txt",
            f"requirements-{word}.txt",
            f"requirements_{word}.txt",
            f"{word}-requirements.txt",
            f"{word}_requirements.txt",
            f"requirements.{word}.txt",
            f"requirements/{word}.in",
            f"requirements-{word}.in",
            f"{word}-requirements.in",
        ):
            if (directory / name).is_file():
                yield name


def _group(document: Mapping[str, Any], name: str, path: Path, seen: tuple[str, ...] = ()) -> list[str]:
    """The requirements of a dependency group. Source: https://packaging.python.org/specifications/dependency-groups"""
    by_name = {normalized(key): value for key, value in as_table(document, "dependency-groups").items()}
    items = by_name.get(normalized(name))
    if normalized(name) in seen:
        raise InvalidSettingError(f"{path}: the dependency group {name!r} includes itself")
    if not isinstance(items, list):
        message = f"{path}: there is no dependency group {name!r}{_among([*by_name])}"
        raise InvalidSettingError(message, hint=_install_line("--group {}", name, [*by_name]))
    lines: list[str] = []
    sources = _tools.uv_sources(path.parent, document)
    for item in items:
        included = item.get("include-group") if isinstance(item, dict) else None
        if isinstance(item, str):
            lines += _tools.with_uv_sources(item, sources)
        elif isinstance(included, str):
            lines += _group(document, included, path, (*seen, normalized(name)))
        else:
            raise InvalidSettingError(f"{path}: the dependency group {name!r} contains {item!r:.60}")
    return lines


def _name_of(line: str) -> str:
    match = re.match(r"[A-Za-z0-9][\w.-]*", line)
    return normalized(match[0]) if match else ""


def _extras(directory: Path, document: Mapping[str, Any]) -> set[str]:
    names = set(as_table(as_table(document, "project"), "optional-dependencies"))
    names |= set(as_table(as_table(as_table(document, "tool"), "poetry"), "extras"))
    names |= set(
        as_table(as_table(as_table(as_table(document, "tool"), "setuptools"), "dynamic"), "optional-dependencies")
    )
    if parser := read_ini(directory / "setup.cfg"):
        names |= set(parser["options.extras_require"]) if parser.has_section("options.extras_require") else set()
    setup = directory / "setup.py"
    if setup.is_file():
        names |= set(_extras_of_setup(setup.read_text(encoding="utf-8", errors="replace")))
    return names


def _extras_of_setup(source: str) -> Iterator[str]:
    """The extras that a ``setup.py`` names: in a dictionary in the call, or in a variable that the call gets."""
    try:
        nodes = list(ast.walk(parse_python(source)))
    except (SyntaxError, ValueError, RecursionError):
        return
    values = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "extras_require"]
    for node in nodes:
        if isinstance(node, ast.Dict):  # setup(**{"extras_require": ...})
            pairs = zip(node.keys, node.values, strict=True)
            values += [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "extras_require"]
    variables = {value.id for value in values if isinstance(value, ast.Name)}
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            match target:
                case ast.Name(id=name) if name in variables and isinstance(node, ast.Assign):
                    values.append(node.value)
                case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name in variables:
                    yield key
    for value in values:
        yield from _keys(value)


def _keys(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Dict(keys=keys):
            yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        case ast.Call(func=ast.Name(id="dict"), keywords=words):
            yield from (word.arg for word in words if word.arg)
