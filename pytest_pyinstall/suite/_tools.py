"""Reads the test dependencies that poetry, PDM, uv, hatch, nox and pipenv keep outside of the standard tables.

tox and nox can run one of these tools to install what the tests need, so this module also understands such commands.
"""

import ast
import configparser
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.project import specifier_of_poetry
from pytest_pyinstall.system import files
from pytest_pyinstall.system.documents import parse_json, parse_python

__all__ = [
    "UNKNOWN",
    "Dependencies",
    "as_list",
    "as_table",
    "constraints_of",
    "hatch",
    "installed_by",
    "installs",
    "lock_files",
    "normalized",
    "nox",
    "pdm",
    "pipenv",
    "pipenv_runtime",
    "poetry",
    "poetry_runtime",
    "read_ini",
    "read_toml",
    "uv",
    "uv_default_groups",
    "uv_sources",
    "with_uv_sources",
    "without_tools",
]

_HATCH_TEST = ("pytest-mock", "pytest-rerunfailures", "pytest-xdist[psutil]", "coverage[toml]")
"""What `hatch test` installs besides pytest if `dependencies` is not set."""


class Dependencies(NamedTuple):
    """What a tool installs for tests. `where` is its name in messages. pip has no syntax for the entries `left_out`."""

    where: str
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def poetry(document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of poetry's groups with one of `names`; None if there is none."""
    tool = as_table(as_table(document, "tool"), "poetry")
    for name in names:
        if table := as_table(as_table(as_table(tool, "group"), name), "dependencies"):
            return _poetry(f"poetry's group {name!r}", table)
        if name == "dev" and (table := as_table(tool, "dev-dependencies")):
            return _poetry("poetry's dev-dependencies", table)
    return None


def poetry_runtime(document: Mapping[str, Any]) -> Dependencies:
    """The dependencies of a project that poetry does not install as a package (``package-mode = false``)."""
    return _poetry("poetry", as_table(as_table(as_table(document, "tool"), "poetry"), "dependencies"))


def _poetry(where: str, table: Mapping[str, Any]) -> Dependencies:
    requirements: list[str] = []
    left_out: list[str] = []
    for name, value in table.items():
        if name.lower() == "python":
            continue
        for each in value if isinstance(value, list) else [value]:
            line = _requirement(name, each, specifier_of_poetry)
            (left_out if line is None else requirements).append(line if line is not None else f"{name} = {each!r}")
    return Dependencies(where, tuple(requirements), left_out=tuple(left_out))


def pdm(document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of PDM's development groups with one of `names`; None if there is none."""
    groups = as_table(as_table(as_table(document, "tool"), "pdm"), "dev-dependencies")
    for name in names:
        if lines := _strings(groups.get(name)):
            return Dependencies(f"PDM's dev-dependencies {name!r}", lines)
    return None


def uv(directory: Path, document: Mapping[str, Any]) -> Dependencies | None:
    """uv's own development dependencies, which are older than dependency groups; None if there are none."""
    lines = _strings(as_table(as_table(document, "tool"), "uv").get("dev-dependencies"))
    if not lines:
        return None
    sources = uv_sources(directory, document)
    found = tuple(each for line in lines for each in with_uv_sources(line, sources))
    return Dependencies("uv's dev-dependencies", found)


def uv_default_groups(directory: Path, document: Mapping[str, Any]) -> Dependencies | None:
    """The groups that ``uv run`` installs, if the project names them; None if it does not."""
    names = as_table(as_table(document, "tool"), "uv").get("default-groups")
    known = {normalized(name): name for name in as_table(document, "dependency-groups")}
    groups = tuple(known) if names == "all" else tuple(filter(known.__contains__, map(normalized, as_list(names))))
    own = uv(directory, document) if "dev" in map(normalized, as_list(names)) else None
    where = f"uv's default groups {', '.join(map(repr, groups))}"
    return Dependencies(where, own.requirements if own else (), groups=groups) if groups else None


def uv_sources(directory: Path, document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The sources of dependencies in ``[tool.uv.sources]`` of the project in `directory`, by normalized name.

    Those of the root of its workspace apply too. Paths are absolute, and a member of the workspace is an editable path.
    """
    root, of_root = _uv_workspace(directory, document)
    found: dict[str, list[dict[str, Any]]] = {}
    members: dict[str, Path] | None = None
    for place, each in ((root, of_root), (directory, document)):
        for name, value in as_table(as_table(as_table(each, "tool"), "uv"), "sources").items():
            entries = found[normalized(name)] = []
            for entry in value if isinstance(value, list) else [value]:
                if not isinstance(entry, dict):
                    continue
                path = entry.get("path")
                if entry.get("workspace") is True:
                    members = _uv_members(root, of_root) if members is None else members
                    member = members.get(normalized(name))
                    entries += [{**entry, "path": str(member), "editable": True}] if member else []
                else:
                    entries.append({**entry, "path": str((place / path).resolve())} if isinstance(path, str) else entry)
    return found


def with_uv_sources(line: str, sources: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The requirement `line` as uv would install it with these `sources`, as lines for pip.

    uv reads sources only from a project. Without them, an index may have another project with the name.
    """
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?([^;@]*)(?:;(.*))?", line.strip())
    if match is None or not (entries := sources.get(normalized(match[1]))):
        return [line]
    lines = []
    for entry in entries:
        target = _uv_target(entry)
        if not target or entry.get("extra"):
            return [line]
        markers = [f"({marker.strip()})" for marker in (match[4], entry.get("marker")) if isinstance(marker, str)]
        named = f"{match[1]}{match[2] or ''}"
        if entry.get("editable") and not markers:
            lines.append(f"-e {entry['path']}{match[2] or ''}")
        else:
            lines.append(" ; ".join([f"{named} @ {target}", *([" and ".join(markers)] if markers else [])]))
    return lines


def _uv_target(entry: Mapping[str, Any]) -> str:
    """The URL of a source; empty if it has none, as the name of an index."""
    subdirectory = f"#subdirectory={entry['subdirectory']}" if entry.get("subdirectory") else ""
    if path := entry.get("path"):
        return Path(path).as_uri()
    if git := entry.get("git"):
        revision = next((f"@{entry[key]}" for key in ("rev", "tag", "branch") if entry.get(key)), "")
        return f"git+{git}{revision}{subdirectory}"
    return f"{entry['url']}{subdirectory}" if entry.get("url") else ""


def _uv_workspace(directory: Path, document: Mapping[str, Any]) -> tuple[Path, Mapping[str, Any]]:
    """The root of the workspace that the project in `directory` belongs to, itself if there is none."""
    for parent in (directory, *directory.parents):
        try:
            each = document if parent == directory else read_toml(parent / "pyproject.toml")
        except InvalidSettingError:
            continue
        table = as_table(as_table(each, "tool"), "uv")
        if "workspace" in table:
            is_member = parent == directory or directory in _uv_members(parent, each).values()
            return (parent, each) if is_member else (directory, document)
    return directory, document


def _uv_members(root: Path, document: Mapping[str, Any]) -> dict[str, Path]:
    """The directories of the projects in the workspace with this root, by normalized name."""
    table = as_table(as_table(as_table(document, "tool"), "uv"), "workspace")
    found = {}
    left_out = {path for pattern in _strings(table.get("exclude")) for path in root.glob(pattern)}
    for path in (root, *(path for pattern in _strings(table.get("members")) for path in root.glob(pattern))):
        try:
            name = as_table(read_toml(path / "pyproject.toml"), "project").get("name")
        except InvalidSettingError:
            continue
        if isinstance(name, str) and path not in left_out:
            found[normalized(name)] = path
    return found


def normalized(name: object) -> str:
    """The name of a project, group or extra, as it is compared."""
    return re.sub(r"[-_.]+", "-", str(name)).lower()


def hatch(directory: Path, document: Mapping[str, Any], names: Iterable[str]) -> Dependencies | None:
    """The first of hatch's environments with one of `names` that installs something; None if there is none.

    Raises `InvalidSettingError` if ``hatch.toml`` cannot be read.
    """
    tool = as_table(as_table(document, "tool"), "hatch")
    environments = {**as_table(tool, "envs"), **as_table(read_toml(directory / "hatch.toml"), "envs")}
    for name in names:
        table = as_table(environments, name)
        if not table:
            continue
        template = as_table(environments, "default") if name not in {"default", "hatch-test"} else {}
        merged = {**template, **table}
        own = _strings(merged.get("dependencies")) or (_HATCH_TEST if name == "hatch-test" else ())
        found = Dependencies(
            f"hatch's environment {name!r}",
            (*own, *_strings(merged.get("extra-dependencies"))),
            _strings(merged.get("features")),
            _strings(merged.get("dependency-groups")),
        )
        if any(found[1:]):
            return found
    return None


def nox(directory: Path, document: Mapping[str, Any], extras: Iterable[str]) -> Dependencies | None:
    """What the test session in ``noxfile.py`` installs with literal arguments; None without such a session.

    The file is parsed and not run. `extras` are the extras of the project.
    """
    try:
        tree = parse_python((directory / "noxfile.py").read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.args.args]
    sessions = {_name_of_session(node): node for node in functions if _name_of_session(node)}
    name = next((name for name in ("tests", "test", "unit", "pytest", "unit_tests") if name in sessions), None)
    if name is None:
        return None
    commands: list[list[str]] = []
    left_out: list[str] = []
    session = sessions[name].args.args[0].arg
    for node in ast.walk(sessions[name]):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == session):
            continue
        words = [word for each in node.args for word in _nox_words(each)]
        if node.func.attr == "install" and UNKNOWN in words:
            left_out.append(ast.unparse(node))
        elif node.func.attr == "install":
            commands.append(["pip", "install", *words])
        elif node.func.attr in {"run", "run_install", "run_always"}:
            commands.append(words)
    found = installed_by(commands, directory=directory, document=document, extras=extras)
    named = found._replace(where=f"noxfile.py's session {name!r}", left_out=(*found.left_out, *left_out))
    return named if any(named[1:]) else None


def _nox_words(argument: ast.expr) -> list[str]:
    """The words of an argument of ``session.install``: a literal, or ``*nox.project.dependency_groups(table, "test")``.

    `UNKNOWN` if they are only known when the session runs.
    """
    match argument:
        case ast.Constant(value=str(word)):
            return [word]
        case ast.Starred(value=ast.Call(func=ast.Attribute(attr="dependency_groups"), args=[_, *names])):
            words = [_nox_words(name) for name in names]
            return [UNKNOWN] if [UNKNOWN] in words else [each for word in words for each in ("--group", *word)]
    return [UNKNOWN]


def _name_of_session(function: ast.FunctionDef) -> str:
    for decorator in function.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")) == "session":
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            named = [each.value for each in keywords if each.arg == "name"]
            return str(named[0].value) if named and isinstance(named[0], ast.Constant) else function.name
    return ""


def _lines_of_words(words: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the arguments of ``pip install`` into lines of requirements and names of dependency groups."""
    lines: list[str] = []
    groups: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--group":
            groups.append(next(rest, ""))
        elif word.startswith("--group="):
            groups.append(word.partition("=")[2])
        elif word in {"-e", "-r", "-c", "--editable", "--requirement", "--constraint"}:
            lines.append(f"{word} {next(rest, '')}")
        elif word in _WITH_VALUE:
            next(rest, "")
        elif not word.startswith("-") or word.startswith(("-e", "-r", "-c")):
            lines.append(word)
    return tuple(lines), tuple(groups)


_WITH_VALUE = {
    "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-p", "--python", "-t", "--target", "--prefix",
    "--upgrade-strategy", "--no-binary", "--only-binary", "--trusted-host", "--config-settings", "--progress-bar",
    "--resolution", "--cache-dir", "--timeout", "--retries", "--proxy", "--src",
}  # fmt: skip
"""Options of pip and uv whose value is the next word, and does not name what is installed."""


UNKNOWN = "…"
"""Replaces a part of a command that is only known when the command runs."""


def installed_by(
    commands: Iterable[Sequence[str]], *, directory: Path, document: Mapping[str, Any], extras: Iterable[str]
) -> Dependencies:
    """Find out what commands of pip, uv, poetry, PDM, hatch, flit and pipenv install. `where` names these commands.

    `extras` are the extras of the project. Commands of other tools are ignored.
    """
    project = _Project(directory, document, tuple(extras))
    found = [each for command in commands if (each := _installed_by(command, project)) is not None]
    fields = ([value for each in found for value in each[index]] for index in range(1, 5))
    requirements, *rest = (tuple(dict.fromkeys(values)) for values in fields)
    tools = dict.fromkeys(each.where for each in found)
    requirements = tuple(line for line in requirements if line.strip().lower() not in _TOOLS)
    return Dependencies(", ".join(tools), requirements, *rest)


def installs(command: Sequence[str]) -> bool:
    """Whether `command` is one that `installed_by` understands."""
    tool, verb, _ = _split(command)
    return tool in _TOOLS and verb in _TOOLS[tool]


def without_tools(lines: Iterable[str], where: str) -> tuple[str, ...]:
    """`lines` of requirements without the tools that `where` names, which the tests do not need."""
    tools = {word.partition(" ")[0] for word in where.split(", ")}
    return tuple(line for line in lines if re.match(r"[\w.-]*", line)[0].lower() not in tools)  # type: ignore[index]


_LOCKS = {"poetry": "poetry.lock", "pdm": "pdm.lock", "uv": "uv.lock", "pipenv": "Pipfile.lock"}


def lock_files(directory: Path, tools: Iterable[str]) -> list[Path]:
    """The lock files that these commands obey (``poetry install``), if they are there."""
    names = [_LOCKS[tool] for tool, _, verb in (word.partition(" ") for word in tools) if verb in _LOCKED.get(tool, ())]
    return [directory / name for name in dict.fromkeys(names) if (directory / name).is_file()]


_LOCKED = {tool: {"install", "sync", "run"} for tool in _LOCKS}
_NO_RELEASES = {"git", "url", "path", "directory", "file", "editable", "virtual"}


def constraints_of(path: Path) -> list[str]:
    """The versions in a lock file, as constraints for pip. Raises `InvalidSettingError`.

    A package with several versions has a marker for each. If pip cannot express them, the package is left out.
    """
    by_name: dict[str, dict[str, str]] = {}
    for package in _locked_packages(path):
        name, version, source = (package.get(key) for key in ("name", "version", "source"))
        kinds = {*package, *(source if isinstance(source, dict) else ())}
        kinds |= {str(source.get("type"))} if isinstance(source, dict) else set()
        if isinstance(name, str) and isinstance(version, str) and _NO_RELEASES.isdisjoint(kinds):
            by_name.setdefault(name, {})[version.removeprefix("==")] = _marker_of(package)
    lines = []
    for name, versions in by_name.items():
        if len(versions) == 1:
            lines += [f"{name}=={version}" for version in versions]
        elif all(marker and "extra" not in marker for marker in versions.values()):
            lines += [f"{name}=={version} ; {marker}" for version, marker in versions.items()]
    return lines


def _locked_packages(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".lock" and path.name != "Pipfile.lock":
        found = as_list(read_toml(path).get("package"))
    else:
        try:
            document = parse_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidSettingError(f"{path} cannot be read: {error}") from error
        tables = [as_table(document, name) for name in ("default", "develop")] if isinstance(document, dict) else []
        found = [
            {"name": name, **value} for table in tables for name, value in table.items() if isinstance(value, dict)
        ]
    yield from (package for package in found if isinstance(package, dict))


def _marker_of(package: Mapping[str, Any]) -> str:
    found = next((package[key] for key in ("markers", "marker", "resolution-markers") if key in package), "")
    return " or ".join(f"({each})" for each in _strings(found)) if isinstance(found, list) else str(found)


class _Project(NamedTuple):
    directory: Path
    document: Mapping[str, Any]
    extras: tuple[str, ...]

    def table(self, *names: str) -> dict[str, Any]:
        found = dict(self.document)
        for name in names:
            found = as_table(found, name)
        return found


_TOOLS = {
    "poetry": {"install", "sync"},
    "pdm": {"install", "sync"},
    "uv": {"sync", "run", "pip install", "pip sync"},
    "hatch": {"run", "test"},
    "flit": {"install"},
    "pipenv": {"install", "sync"},
    "pip": {"install"},
}


def _split(command: Sequence[str]) -> tuple[str, str, list[str]]:
    """The tool, its command, and the other words. ``python -m pip install x`` is ``pip``, ``install``, ``x``."""
    words = list(command)
    name = re.split(r"[/\\]", words[0])[-1] if words else ""
    if re.match(r"\{?(env_?)?(python|pypy|py\b)", name) and "-m" in words:
        words = words[words.index("-m") + 1 :]
        name = words[0] if words else ""
    tool = re.sub(r"(?<=^pip)[\d.]+$", "", name.removesuffix(".exe"))
    at = 1
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in {"-e", "--env", "-C", "--directory", "-P", "--project", "-p"} else 1
    if tool == "uv" and words[at : at + 1] == ["pip"]:
        return tool, " ".join(words[at : at + 2]), [*words[1:at], *words[at + 2 :]]
    return tool, "".join(words[at : at + 1]), [*words[1:at], *words[at + 1 :]]


def _installed_by(command: Sequence[str], project: _Project) -> Dependencies | None:
    if not installs(command):
        return None
    tool, verb, words = _split(command)
    where = f"{tool} {verb}"
    if verb in {"pip install", "pip sync"} or tool == "pip":
        return _by_pip(where, [*(["-r"] if verb == "pip sync" else []), *words])
    options = _Options(words)
    by_tool = {"poetry": _by_poetry, "pdm": _by_pdm, "uv": _by_uv, "flit": _by_flit, "pipenv": _by_pipenv}
    if tool == "hatch":
        return _by_hatch(where, verb, words, project)
    return by_tool[tool](where, options, project)


class _Options:
    """The options of a command. A value follows ``=`` or is the next word. It may be a list with commas or spaces."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def has(self, *names: str) -> bool:
        return any(word in names for word in self._words)

    def values(self, *names: str) -> list[str]:
        found = []
        for word, following in zip_longest(self._words, self._words[1:], fillvalue=""):
            name, equals, value = word.partition("=")
            if name in names:
                found.append(value if equals else following)
            elif word[:2] in names and word[1:2] != "-" and len(word) > 2:
                found.append(word[2:])
            elif re.fullmatch(r"-[A-Za-z]+", word) and f"-{word[-1]}" in names:  # -dG check
                found.append(following)
        return [name for text in found for name in re.split(r"[,\s]+", text) if name and UNKNOWN not in name]


def _by_pip(where: str, words: list[str]) -> Dependencies:
    lines, groups = _lines_of_words(words)
    left_out = tuple(line for line in lines if UNKNOWN in line or "{" in line)
    return Dependencies(where, tuple(line for line in lines if line not in left_out), groups=groups, left_out=left_out)


def _by_poetry(where: str, options: _Options, project: _Project) -> Dependencies:
    tables = project.table("tool", "poetry", "group")
    old = project.table("tool", "poetry", "dev-dependencies")
    standard = project.table("dependency-groups")
    names = [*tables, *(["dev"] if old else []), *standard]
    optional = {name for name in names if as_table(tables, name).get("optional") is True}
    chosen = options.values("--only") or [
        name
        for name in names
        if name not in optional or options.has("--all-groups") or name in options.values("--with")
    ]
    if options.has("--only-root"):
        chosen = []
    left = {*options.values("--without"), *(["dev"] if options.has("--no-dev") else [])}
    found = [_poetry_group(name, project) for name in dict.fromkeys(chosen) if name not in left]
    return Dependencies(
        where,
        tuple(line for each in found for line in each.requirements),
        _extras_of(options, project, "-E", "--extras"),
        tuple(name for name in dict.fromkeys(chosen) if name in standard and name not in left),
        tuple(line for each in found for line in each.left_out),
    )


def _poetry_group(name: str, project: _Project) -> Dependencies:
    tables = [project.table("tool", "poetry", "group", name, "dependencies")]
    tables += [project.table("tool", "poetry", "dev-dependencies")] if name == "dev" else []
    return _poetry(name, {key: value for table in reversed(tables) for key, value in table.items()})


def _by_pdm(where: str, options: _Options, project: _Project) -> Dependencies:
    own, standard = project.table("tool", "pdm", "dev-dependencies"), project.table("dependency-groups")
    development = list(dict.fromkeys([*standard, *own]))
    named = options.values("-G", "--group")
    chosen = [name for name in development if name in named or ":all" in named]
    if not chosen and not options.has("--prod", "--production", "--no-dev"):
        chosen = development
    chosen = [name for name in chosen if name not in options.values("--without")]
    lines = [line for name in chosen for line in _strings(own.get(name))]
    return Dependencies(
        where,
        tuple(line for line in lines if "${" not in line),
        tuple(name for name in project.extras if name in named or ":all" in named),
        tuple(name for name in chosen if name in standard),
        tuple(line for line in lines if "${" in line),  # -e file:///${PROJECT_ROOT}/other
    )


def _by_uv(where: str, options: _Options, project: _Project) -> Dependencies:
    own, standard = project.table("tool", "uv"), project.table("dependency-groups")
    default = own.get("default-groups", ["dev"])
    only = options.values("--only-group") + (["dev"] if options.has("--only-dev") else [])
    chosen = [
        *(standard if options.has("--all-groups") or default == "all" else _strings(default)),
        *options.values("--group"),
    ]
    if options.has("--no-default-groups"):
        chosen = options.values("--group")
    left = {*options.values("--no-group"), *(["dev"] if options.has("--no-dev") else [])}
    chosen = [name for name in dict.fromkeys(only or chosen) if name not in left]
    old = _strings(own.get("dev-dependencies")) if "dev" in chosen else ()
    return Dependencies(
        where,
        (*old, *options.values("--with")),
        _extras_of(options, project, "--extra"),
        tuple(name for name in chosen if name in standard),
    )


def _by_hatch(where: str, verb: str, words: Sequence[str], project: _Project) -> Dependencies | None:
    name = "hatch-test"
    if verb == "run":
        first = next((word for word in words if not word.startswith("-")), "")
        named = _Options(words).values("-e", "--env")
        name = named[0] if named else first.partition(":")[0].lstrip("+") if ":" in first else "default"
    found = hatch(project.directory, project.document, [name])
    return found and found._replace(where=where)


def _by_flit(where: str, options: _Options, project: _Project) -> Dependencies:
    how = options.values("--deps") or ["all"]
    extras = options.values("--extras")
    if how == ["all"] or "all" in extras:
        extras = list(project.extras)
    elif how == ["develop"]:
        extras += ["test", "doc", "dev"]
    return Dependencies(where, extras=tuple(name for name in project.extras if name in extras))


def _by_pipenv(where: str, options: _Options, project: _Project) -> Dependencies:
    found = pipenv(project.directory) if options.has("-d", "--dev") else None
    return Dependencies(where) if found is None else found._replace(where=where)


def _extras_of(options: _Options, project: _Project, *names: str) -> tuple[str, ...]:
    return project.extras if options.has("--all-extras") else tuple(options.values(*names))


def pipenv(directory: Path) -> Dependencies | None:
    """The development packages in ``Pipfile``; None if there are none. Raises `InvalidSettingError`."""
    table = as_table(read_toml(directory / "Pipfile"), "dev-packages")
    return _pipenv("Pipfile [dev-packages]", table) if table else None


def pipenv_runtime(directory: Path) -> Dependencies:
    """The packages in ``Pipfile``. Raises `InvalidSettingError`."""
    return _pipenv("Pipfile [packages]", as_table(read_toml(directory / "Pipfile"), "packages"))


def _pipenv(where: str, table: Mapping[str, Any]) -> Dependencies:
    lines = {name: _requirement(name, value, lambda text: "" if text == "*" else text) for name, value in table.items()}
    left_out = tuple(f"{name} = {table[name]!r}" for name, line in lines.items() if line is None)
    return Dependencies(where, tuple(line for line in lines.values() if line is not None), left_out=left_out)


def _requirement(name: str, value: object, specifier_of: Any) -> str | None:
    """An entry of a table of dependencies as a line for pip; None if pip has no syntax for it."""
    table = {"version": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        return None
    extras = f"[{','.join(map(str, as_list(table.get('extras'))))}]" if table.get("extras") else ""
    markers = list(_markers(table))
    marker = f" ; {' and '.join(markers)}" if markers else ""
    if isinstance(path := table.get("path"), str):
        if table.get("develop") is True or table.get("editable") is True:
            return f"-e {path}{extras}"
        return f"{name}{extras} @ file:{path}{marker}"
    if isinstance(git := table.get("git"), str):
        revision = next((table[key] for key in ("rev", "tag", "branch", "ref") if isinstance(table.get(key), str)), "")
        fragment = f"#subdirectory={table['subdirectory']}" if isinstance(table.get("subdirectory"), str) else ""
        url = f"https://{git.removeprefix('git@').replace(':', '/', 1)}" if git.startswith("git@") else git
        return f"{name}{extras} @ git+{url}{f'@{revision}' if revision else ''}{fragment}{marker}"
    if isinstance(place := table.get("url") or table.get("file"), str):
        return f"{name}{extras} @ {place}{marker}"
    version = table.get("version", "*")
    specifier = specifier_of(version) if isinstance(version, str) else None
    return None if specifier is None else f"{name}{extras}{specifier}{marker}"


def _markers(table: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(text := table.get("markers"), str):
        yield f"({text})"
    if isinstance(text := table.get("python"), str) and (specifier := specifier_of_poetry(text)):
        for clause in specifier.split(","):
            operator, version = re.fullmatch(r"([^\d]+)(.+)", clause.strip()).groups()  # type: ignore[union-attr]
            name = "python_full_version" if version.count(".") > 1 else "python_version"
            yield f'{name} {operator.strip()} "{version}"'
    if isinstance(text := table.get("platform"), str):
        yield f'sys_platform == "{text}"'


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in as_list(value) if isinstance(item, str))


def read_toml(path: Path) -> dict[str, Any]:
    """The document at `path`, empty if there is none. Raises `InvalidSettingError`."""
    return files.read_toml(path) if path.exists() else {}


def read_ini(path: Path) -> configparser.ConfigParser | None:
    """The sections of the file at `path`, None if there is none. Raises `InvalidSettingError`."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=None)
    try:
        return parser if parser.read(path, encoding="utf-8") else None
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError(f"{path} cannot be read: {error}") from error


def as_table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table `name` of `document`, empty if it is missing or something else."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
