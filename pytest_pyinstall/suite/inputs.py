"""Digests of everything that decides what a new environment of a suite would contain, each with a readable name.

An environment is reused as long as no digest changes. Otherwise a new one is made, and the session prints the names of
the digests that changed. Settings of test runners and linters, comments and documentation cannot change an environment,
and are left out.
"""

import ast
import configparser
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.project import read_project
from pytest_pyinstall.suite._tools import as_list, as_table, read_ini, read_toml, uv_sources
from pytest_pyinstall.suite.recipe import EnvironmentSpec, can_be_installed, local_target
from pytest_pyinstall.system.documents import parse_python

__all__ = ["OPTION", "Inputs", "changes", "explicit_packages", "lines_of"]

_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")
_BUILD_FILES = (
    "MANIFEST.in",
    "Cargo.toml",
    "Cargo.lock",
    "meson.build",
    "meson_options.txt",
    "meson.options",
    "CMakeLists.txt",
)
_COMPILED = re.compile(
    r"ext_modules|Extension\(|cffi_modules|maturin|scikit[-_]build|meson[-_]?python|mesonpy|setuptools[-_]rust|cython"
    r"|mypyc",
    re.IGNORECASE,
)
_COMPILED_SUFFIXES = frozenset(
    {
        ".c",
        ".cc",
        ".cpp",
        ".cxx",
        ".h",
        ".hh",
        ".hpp",
        ".hxx",
        ".pyx",
        ".pxd",
        ".pxi",
        ".rs",
        ".f",
        ".f90",
        ".s",
        ".asm",
    }
    | {".cmake", ".in", ".build", ".inc", ".inl", ".ipp", ".tcc", ".def", ".cu", ".cuh", ".m", ".mm", ".i", ".y", ".l"}
    | {".f03", ".f08", ".f77", ".f95", ".for", ".pyf", ".proto"}
)
"""In lower case."""
_COMPILED_PYTHON = re.compile(
    r"mypyc|hatch[-_]cython|cython(?s:.*)(?<!setup)(?<!version)(?<!about__)(?<!init__)\.py[\"']", re.IGNORECASE
)
"""The text of a build that compiles ``.py`` files. Tests then import the compiled ones."""
_FROM_VERSION_CONTROL = re.compile(
    r"scm|\bvcs\b|hatch-vcs|versioneer|versioningit|\bpbr\b|dynamic-versioning|git-versioning|dunamai"
)
_DOCUMENTATION = re.compile(r"(README|LICEN[CS]E|COPYING|AUTHORS|NOTICE|CHANGE|HISTORY|NEWS)[^/]*", re.IGNORECASE)
"""Files that builds copy into the metadata, and that tests do not read."""
_UNRELATED_SECTIONS = re.compile(
    r"(tool:pytest|pytest|flake8|pycodestyle|pydocstyle|pep8|pylint|mypy|isort|coverage|tox|testenv|bumpversion|yapf"
    r"|doc8|check-manifest|zest.releaser|autopep8|codespell|black|build_sphinx|upload_docs|darglint|radon|pyright)\b.*"
)
_UNRELATED_TOOLS = frozenset(
    {"pytest", "ruff", "mypy", "black", "isort", "coverage", "pylint", "pyright", "basedpyright", "tox", "towncrier"}
    | {"cibuildwheel", "bumpversion", "commitizen", "codespell", "interrogate", "vulture", "deptry", "semantic_release"}
    | {"djlint", "bandit", "nox", "poe", "taskipy", "pydocstyle", "check-manifest", "repo-review", "typos", "ty"}
)
_BUILD_TABLES = {
    "hatch": ("metadata", "build", "version"),
    "pdm": ("version", "build", "resolution", "source"),
}
"""The tables of these tools that a build reads. Their other tables configure commands."""
_UNRELATED_KEYS = {
    "uv": {"dev-dependencies", "default-groups", "cache-dir", "required-version", "publish-url", "check-url"}
    | {"cache-keys", "compile-bytecode", "link-mode", "native-tls", "system-certs", "offline", "preview", "workspace"}
    | {"keyring-provider", "python-downloads", "python-preference", "concurrent-builds", "concurrent-downloads"},
    "poetry": {"group", "dev-dependencies", "urls", "readme"},
}
_VARIABLES = re.compile(
    r"(PIP|UV)_(CONSTRAINT|BUILD_CONSTRAINT|OVERRIDE|PRE|PRERELEASE|RESOLUTION|EXCLUDE_NEWER|NO_BINARY|ONLY_BINARY"
    r"|NO_BUILD|NO_SOURCES|INDEX|INDEX_URL|DEFAULT_INDEX|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|FORK_STRATEGY|INDEX_STRATEGY)"
    r"|SETUPTOOLS_SCM_PRETEND_VERSION.*|PBR_VERSION|PDM_BUILD_SCM_VERSION|POETRY_DYNAMIC_VERSIONING_BYPASS|HATCH_BUILD_\w+"
)
_COMPILER_VARIABLES = re.compile(
    r"CC|CXX|FC|(C|CPP|CXX|F|LD|RUST)FLAGS|CMAKE_(ARGS|GENERATOR|PREFIX_PATH)|SKBUILD_\w+|MATURIN_PEP517_ARGS|CARGO_BUILD_\w+"
)
_OF_EACH_SHELL = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "PWD", "OLDPWD", "SHELL", "SHLVL", "TERM", "LANG", "TMPDIR"}
)
"""Variables that a ``setup.py`` may read, and that differ between two shells of one user."""
_ROOTS = ("", "src", "lib", "python")
"""Directories in which projects have their packages."""
_NOT_PACKAGED = frozenset(
    {"test", "tests", "testing", "docs", "doc", "build", "dist", "target", "htmlcov", "node_modules", "examples"}
)
"""Directories beside the packages that build backends do not include by default."""
_GENERATED = frozenset({"__pycache__", "node_modules", ".git", ".hg", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_LONGEST = 500
"""Characters. A longer text is not the name of a file."""


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names of the digests that differ between `before` and `after`, in the order of `after`."""
    return [name for name in dict.fromkeys((*after, *before)) if before.get(name) != after.get(name)]


OPTION = re.compile(r"(-r|-c|-f|--requirements?|--constraints?|--find-links)(?:\s+|=|(?<=-[rcf])(?=\S))(.+)")
"""A line of requirements that names another file or a directory."""


def lines_of(text: str) -> list[str]:
    """The lines of a requirement file, without comments, and without options that belong to a single requirement."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in joined.splitlines()]
    return [line if line.startswith("-") else re.split(r"\s+--\w", line, maxsplit=1)[0] for line in lines if line]


class Inputs:
    """Everything that decides the contents of the environment for `spec`. `parts` are the digests by name.

    `excluded` are directories inside the project that are no part of it. `copied` are the projects that are installed
    as a copy and not editable: (directory, name). `named` are the local directories and files that requirements name.
    Raises `InvalidSettingError` if a file of the project cannot be read.
    """

    def __init__(self, spec: EnvironmentSpec, *, environ: Mapping[str, str], excluded: Sequence[Path] = ()) -> None:
        self.parts: dict[str, str] = {}
        self.copied: list[tuple[Path, str | None]] = []
        self._directory = spec.directory
        self._excluded = excluded
        self.named: set[Path] = set()
        self._seen: set[tuple[Path, bool]] = set()
        self._texts: dict[Path, str] = {}
        self._environ = environ
        self._is_compiled = False
        words = repr((spec.project and spec.editable, spec.project and spec.extras, spec.requirements, spec.resolution))
        self._put("the requirements", words + "\n".join(spec.constraints))
        self._requirements(spec.requirements)
        for name in sorted((*_LOCKS, *(path.name for path in spec.directory.glob("pylock*.toml")))):
            self._file(spec.directory / name)
        if spec.project:
            self._project(spec.project, editable=spec.editable)
        for name in sorted(environ):
            is_read = _VARIABLES.fullmatch(name) or (self._is_compiled and _COMPILER_VARIABLES.fullmatch(name))
            if is_read and environ[name]:
                self._variable(name, environ[name])
        self._settings_of_installers()

    def digest(self) -> str:
        """One digest of all parts."""
        return _digest(json.dumps(sorted(self.parts.items())))

    def sources(self, project: Path) -> str:
        """A digest of all files that a wheel of `project` could contain."""
        return tree_digest(project, excluded=self._excluded, named=self._texts.get(project, ""))

    # Requirements

    def _requirements(self, lines: Iterable[str], beside: Path | None = None) -> None:
        """Add the files and projects that `lines` name. `beside` is the directory of the file with these lines."""
        for line in lines:
            option = OPTION.match(line)
            if option and option[1] in {"-f", "--find-links"}:
                self._listing(self._directory / option[2].strip())
            elif option and "://" not in option[2]:
                self._requirements_file((beside or self._directory) / option[2].strip().strip("'\""))
            elif not option and (target := local_target(line, self._directory, beside)):
                self.named |= set() if target.marker else {target.path}
                self._local(target.path, editable=target.editable, name=target.name or None)

    def _requirements_file(self, path: Path) -> None:
        """Add a requirement file and what it names: files relative to it, and projects as `local_target` finds them."""
        text = self._file(path)
        if text is not None:
            self._requirements(lines_of(text.decode("utf-8", "replace")), beside=path.parent)

    def _local(self, path: Path, *, editable: bool, name: str | None = None) -> None:
        if path.is_dir():
            self._project(path, editable=editable, name=name)
        else:
            self._file(path)

    def _listing(self, directory: Path) -> None:
        with contextlib.suppress(OSError):
            rows = sorted(
                (entry.name, status.st_size, status.st_mtime_ns)
                for entry in os.scandir(directory)
                for status in [entry.stat()]
            )
            self._put(self._label(directory), repr(rows))

    def _settings_of_installers(self) -> None:
        """Add what configuration files of uv and pip change in an installation: constraints, indexes and others."""
        for path in _uv_files(self._directory, self._environ):
            with contextlib.suppress(InvalidSettingError):  # uv reports it
                document = read_toml(path)
                table = as_table(as_table(document, "tool"), "uv") if path.name == "pyproject.toml" else document
                if found := _relevant("uv", table):
                    text = json.dumps(found, sort_keys=True, default=str)
                    self._put(self._label(path), re.sub(r"//[^/@\s\"]*@", "//", text))
        for path in _pip_files(self._environ):
            with contextlib.suppress(InvalidSettingError):  # pip reports it
                if (parser := read_ini(path)) is None:
                    continue
                for section in filter(parser.has_section, ("global", "install")):
                    for key, value in parser.items(section):
                        name = f"PIP_{key.upper().replace('-', '_')}"
                        if _VARIABLES.fullmatch(name) and not self._environ.get(name):
                            self._variable(name, value, label=f"{path} {key}")

    def _variable(self, name: str, value: str, *, label: str = "") -> None:
        """Add a variable: files by their content, and URLs without user and password, which may change every hour."""
        from urllib.parse import unquote, urlsplit

        texts = []
        for word in value.split():
            parts = urlsplit(word)
            texts.append(word.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if parts.netloc else word)
            if name.endswith(("CONSTRAINT", "OVERRIDE")):
                self._requirements_file(self._directory / word)
            elif name.endswith("FIND_LINKS") and not parts.netloc:
                self._listing(self._directory / unquote(parts.path))
        self._put(label or name, repr(texts))

    # Projects

    def _project(self, project: Path, *, editable: bool, name: str | None = None) -> None:
        if (project, editable) in self._seen:
            return
        self._seen.add((project, editable))
        try:
            document, parser = read_toml(project / "pyproject.toml"), read_ini(project / "setup.cfg")
        except InvalidSettingError:
            if project == self._directory:
                raise
            document, parser = {}, None
        setup = _bytes(project / "setup.py")
        text = self._pyproject(project, document, setup) + self._setup_cfg(project, parser)
        if setup is not None:
            self._file(project / "setup.py")
            text += setup.decode("utf-8", "replace")
            self._python_that_builds(project, setup)
        contents = (_bytes(project / file) or b"" for file in _BUILD_FILES)
        self._texts[project] = text + "".join(content.decode("utf-8", "replace") for content in contents)
        self._is_compiled |= _COMPILED.search(text) is not None
        if not editable:
            with contextlib.suppress(InvalidSettingError):
                declared = read_project(project)
                name = name or (declared.name if declared else None)
            self.copied.append((project, name))
            self._put(f"the sources of {self._label(project)}", self.sources(project))
            return
        if _FROM_VERSION_CONTROL.search(text):
            self._put("tags of git", repr(_tags(project)))
        if _COMPILED.search(text):
            for file in _BUILD_FILES:
                self._file(project / file)
            suffixes = _COMPILED_SUFFIXES | ({".py"} if _COMPILED_PYTHON.search(text) else set())
            self._put("sources that are compiled", tree_digest(project, suffixes, excluded=self._excluded))
        found = list(_packages(project, self._excluded))
        if not self._is_setuptools(document, setup, parser):
            # Other backends look for one package, and write the path of its directory.
            tool = as_table(document, "tool")
            tables = (
                as_table(document, "project"),
                as_table(tool, "poetry"),
                as_table(as_table(tool, "flit"), "module"),
            )
            own = {re.sub(r"[-_.]+", "_", str(table.get("name", ""))).lower() for table in tables}
            found = [place for place in found if place.rpartition("/")[2].lower() in own]
        # An editable installation lists the packages that existed when it was made.
        self._put("packages", repr(found))

    @staticmethod
    def _is_setuptools(document: Mapping[str, Any], setup: bytes | None, parser: object) -> bool:
        backend = as_table(document, "build-system").get("build-backend")
        return "setuptools" in str(backend) if backend else bool(document.get("project") or setup or parser)

    def _pyproject(self, project: Path, document: Mapping[str, Any], setup: bytes | None) -> str:
        """Add the tables that a build reads and the files that they name. Returns the tables as text."""
        tables = {name: document[name] for name in ("build-system", "project") if name in document}
        build = as_table(document, "build-system")
        reads_all = bool(build.get("backend-path")) or bool(setup and re.search(rb"toml", setup))
        names = [str(build.get("build-backend", "setuptools")), *map(str, as_list(build.get("requires")))]
        for tool, value in as_table(document, "tool").items():
            if (reads_all and tool not in _UNRELATED_TOOLS) or _is_of_build(tool, names):
                tables[f"tool.{tool}"] = _relevant(tool, value)
        for name, value in tables.items():
            self._put(
                f"{self._label(project / 'pyproject.toml')} [{name}]", json.dumps(value, sort_keys=True, default=str)
            )
        self._dynamic(project, document)
        for name, value in tables.items():
            if name != "project":
                self._named_files(project, value)
        self._local_dependencies(project, document)
        for place in as_list(build.get("backend-path")):
            module = str(build.get("build-backend", "")).partition(":")[0].partition(".")[0]
            self._module(project / str(place), module, project)
        if "pdm" in str(build.get("build-backend")):
            self._python_that_builds(project, self._file(project / "pdm_build.py") or b"")
        hooks = json.dumps(as_table(as_table(document, "tool"), "hatch"))
        if '"custom"' in hooks:
            self._python_that_builds(project, self._file(project / "hatch_build.py") or b"")
        return json.dumps(tables, default=str)

    def _dynamic(self, project: Path, document: Mapping[str, Any]) -> None:
        """Add the modules whose attributes are dynamic values of `[project]`."""
        table = as_table(document, "project")
        dynamic = as_list(table.get("dynamic"))
        setuptools = as_table(as_table(document, "tool"), "setuptools")
        for value in as_table(setuptools, "dynamic").values():
            if isinstance(value, dict) and isinstance(value.get("attr"), str):
                self._attribute(project, value["attr"], as_table(setuptools, "package-dir").values())
        flit = as_table(as_table(document, "tool"), "flit")
        if dynamic and "flit" in str(as_table(document, "build-system")):
            module = as_table(flit, "module").get("name") or str(table.get("name", "")).replace("-", "_")
            self._attribute(project, f"{module}.__version__", ())

    def _setup_cfg(self, project: Path, parser: configparser.ConfigParser | None) -> str:
        if parser is None:
            return ""
        text = ""
        for section in parser.sections():
            if _UNRELATED_SECTIONS.fullmatch(section):
                continue
            values = dict(parser[section])
            text += json.dumps(values)
            self._put(f"{self._label(project / 'setup.cfg')} [{section}]", json.dumps(values, sort_keys=True))
            for value in values.values():
                directive, _, rest = value.strip().partition(":")
                if directive == "file":
                    self._named_files(project, [name.strip() for name in re.split(r"[,\n]", rest)])
                elif directive == "attr":
                    roots = re.findall(r"=\s*(\S+)", parser.get("options", "package_dir", fallback=""))
                    self._attribute(project, rest.strip(), roots)
        return text

    def _named_files(self, project: Path, value: object) -> None:
        """Add the files that strings in `value` name, and the files that these name as requirements."""
        for text in _strings(value):
            for path in _files_of(project, text):
                self._built_from(path)

    def _built_from(self, path: Path) -> None:
        if _DOCUMENTATION.fullmatch(path.name):
            return
        if path.suffix == ".py":
            content = _bytes(path)
            if content is not None:
                # In a package, a build reads a version and the like. Elsewhere the module may be a part of the build.
                is_of_package = path.with_name("__init__.py").exists()
                self._put(self._label(path), _declarations(content) if is_of_package else content)
        elif path.suffix in {".txt", ".in"}:
            self._requirements_file(path)
        else:
            self._file(path)

    def _local_dependencies(self, project: Path, document: Mapping[str, Any]) -> None:
        """Add the projects on this machine that this one depends on."""
        for table in _tables(as_table(document, "tool")):
            if isinstance(path := table.get("path"), str) and len(path) < _LONGEST:
                place = (project / path).resolve()
                if place != project and can_be_installed(place):
                    self._local(place, editable=bool(table.get("editable", table.get("develop", False))))
        for entry in (each for entries in uv_sources(project, document).values() for each in entries):
            # A path in this file is found above. A member of a workspace, or a source of its root, is not.
            source = Path(str(entry.get("path", project)))
            if source != project and can_be_installed(source):
                self._local(source, editable=bool(entry.get("editable")))
        for line in as_list(as_table(document, "project").get("dependencies")):
            if isinstance(line, str) and "@" in line and (target := local_target(line, project)):
                self._local(target.path, editable=False, name=target.name)

    # Python code that builds run or read

    def _python_that_builds(self, project: Path, source: bytes) -> None:
        """Add the files that `source`, a ``setup.py``, names, and the modules beside it that it imports."""
        try:
            tree = parse_python(source)
        except (SyntaxError, ValueError, RecursionError):
            return
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for name in sorted(texts & self._environ.keys() - _OF_EACH_SHELL):
            self._put(name, self._environ[name])
        places = [project, *(project / text for text in texts if _is_directory(project, text))]
        # `f"requirements/{name}.txt"` and `name + ".txt"` name any file with that ending.
        texts |= {
            f"*{text}" for text in texts if re.fullmatch(r"[\w.-]*\.(txt|in)", text) and not (project / text).exists()
        }
        for text in sorted(texts):
            for place in places:
                for path in _files_of(place, text):
                    if path.name != "setup.py":
                        self._built_from(path)
        for node in ast.walk(tree):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in filter(None, names):
                self._module(project, name.partition(".")[0], project)

    def _module(self, place: Path, name: str, project: Path) -> None:
        """Add a module in `place` that a build imports, and what it names and imports."""
        paths = [place / f"{name}.py", *sorted((place / name).glob("**/*.py"))] if name.isidentifier() else []
        for path in paths:
            shown = self._label(path)
            if shown not in self.parts and (content := self._file(path)) is not None and path.parent == place:
                self._python_that_builds(project, content)

    def _attribute(self, project: Path, attribute: str, roots: Iterable[object], depth: int = 0) -> None:
        """Add the module of ``package.module.attribute``, and the module that it imports the attribute from."""
        module, _, name = attribute.replace(":", ".").rpartition(".")
        relative = module.replace(".", "/")
        for root in dict.fromkeys((*map(str, roots), *_ROOTS)):
            for path in (project / root / f"{relative}.py", project / root / relative / "__init__.py"):
                content = _bytes(path)
                if content is None:
                    continue
                self._put(self._label(path), _declarations(content, name))
                source = _import_of(content, name)
                if source is not None and depth < 3:
                    level, target = source
                    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                    base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                    self._attribute(project, ".".join([*base, *filter(None, [target]), name]), roots, depth + 1)
                return

    # Parts

    def _file(self, path: Path) -> bytes | None:
        content = _bytes(path)
        if content is not None:
            self._put(self._label(path), content)
        return content

    def _put(self, name: str, value: str | bytes) -> None:
        self.parts[name] = _digest(value)

    def _label(self, path: Path) -> str:
        return os.path.relpath(path, self._directory) if path != self._directory else "the project"


_NO_PACKAGES = re.compile(
    r"ci|bin|debian|docs?|documentation|manpages|news|newsfragments|changelog|tests?|unit_tests?|examples?|scripts|tools"
    r"|utils?|python|build|benchmarks?|exercises?|htmlcov|conftest|setup|test_\w*|\w+_test|noxfile|toxfile|dodo|pavement"
    r"|tasks|fabfile|SConstruct|SConscript"
)
"""Directories that setuptools ignores when it discovers packages in a flat layout.

Source: https://setuptools.pypa.io/en/latest/userguide/package_discovery.html#flat-layout
"""


def explicit_packages(project: Path, excluded: Sequence[Path]) -> str:
    """The text of a setup.cfg with the packages that setuptools would discover without the directories `excluded`.

    setuptools takes each top-level directory for a package, and does not build a project with two of them. The text is
    empty if `excluded` causes no such error.
    """
    ours = {path.relative_to(project).parts[:1] for path in excluded if path.is_relative_to(project)}
    ours |= {(path.name,) for path in project.iterdir() if _looks_ours(path)}
    names = {parts[0] for parts in ours if parts and parts[0].isidentifier() and not _NO_PACKAGES.fullmatch(parts[0])}
    if not any((project / name).is_dir() for name in names) or _has_explicit_packages(project):
        return ""
    found = [path for path in sorted(project.iterdir()) if path.stem.isidentifier() and path.name not in names]
    found = [path for path in found if not _NO_PACKAGES.fullmatch(path.stem)]
    packages = [path.name for path in found if path.is_dir() and path.name.isidentifier()]
    modules = [path.stem for path in found if path.suffix == ".py" and path.is_file()]
    if len(packages) == 1:
        find = f"[options.packages.find]\ninclude =\n    {packages[0]}\n    {packages[0]}.*\n"
        return f"[options]\npackages = find_namespace:\n{find}"
    return f"[options]\npy_modules = {modules[0]}\n" if not packages and len(modules) == 1 else ""


def _looks_ours(path: Path) -> bool:
    """Whether `path` is a store, a cache, a directory with both, or a mirror, even if it is not configured now."""
    if not path.is_dir() or path.is_symlink():
        return False
    return (
        (path / ".pytest-pyinstall").is_dir()
        or ((path / "catalogue.json").is_file() and not any(path.glob("*.py")))
        or any(path.glob("environments/.*.lock"))
        or any(map(_looks_ours, (path / "store", path / "cache")))
    )


def _has_explicit_packages(project: Path) -> bool:
    """Whether setuptools does not search the top level of `project` for packages."""
    document, parser = read_toml(project / "pyproject.toml"), read_ini(project / "setup.cfg")
    backend = str(as_table(document, "build-system").get("build-backend", "setuptools"))
    setup = _bytes(project / "setup.py") or b""
    return (
        "setuptools" not in backend
        or (project / "src").is_dir()
        or not {"packages", "py-modules", "package-dir"}.isdisjoint(as_table(as_table(document, "tool"), "setuptools"))
        or any(parser is not None and parser.has_option("options", name) for name in ("packages", "py_modules"))
        or any(word in setup for word in (b"packages", b"py_modules"))
    )


def tree_digest(
    directory: Path,
    suffixes: frozenset[str] | set[str] | None = None,
    *,
    excluded: Sequence[Path] = (),
    named: str = "",
) -> str:
    """A digest of the source files below `directory`: their names and content.

    With `suffixes`, of files with one of them, and of `_BUILD_FILES`. Without, of all files that a wheel could contain,
    which excludes tests and what they write. `named` is the text of the files that describe a build: a file that it
    names may be in a wheel.
    """
    digest = hashlib.sha256()
    skipped = {os.path.realpath(path) for path in excluded}
    seen: set[str] = set()
    for parent, directories, files in os.walk(directory, followlinks=True):  # as builds do
        is_top = parent == str(directory)
        place = os.path.realpath(parent)
        is_link = os.path.islink(parent)  # noqa: PTH114  # text, in a hot loop
        is_again = is_link and place in seen
        seen.add(place)
        if is_link:
            digest.update(os.fsencode(f"{os.path.relpath(parent, directory)}\0{os.readlink(parent)}\0"))
        if "pyvenv.cfg" in files or place in skipped or is_again:
            directories.clear()
            continue
        directories[:] = sorted(
            name for name in directories if _is_of_sources(parent, name, suffixes, named, is_top=is_top)
        )
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # text, in a hot loop
            is_made = suffix in {".pyc", ".pyo"} or name.startswith(".coverage")
            if is_made or (is_top and suffixes is None and not _is_source_at_the_top(name, suffix, named)):
                continue
            if suffixes is None or suffix in suffixes or name in _BUILD_FILES:
                path = Path(parent, name)
                if (content := _bytes(path)) is not None:
                    row = f"{path.relative_to(directory)}\0{len(content)}\0".encode("utf-8", "surrogateescape")
                    digest.update(row + hashlib.sha256(content).digest())
    return digest.hexdigest()


_SOURCE_SUFFIXES = _COMPILED_SUFFIXES | {".py", ".pyi", ".so", ".pyd"}


def _is_source_at_the_top(name: str, suffix: str, named: str) -> bool:
    """Whether a file beside the packages may be a source, and not documentation or the output of a tool."""
    return (
        suffix in _SOURCE_SUFFIXES
        or suffix in {".toml", ".cfg"}
        or name in _BUILD_FILES
        or (_names(named, name) and not _DOCUMENTATION.fullmatch(name))
    )


def _names(text: str, name: str) -> bool:
    return name in text and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _is_of_sources(parent: str, name: str, suffixes: object, named: str, *, is_top: bool) -> bool:
    if name in _GENERATED or name.endswith(".egg-info"):
        return False
    if not is_top:
        return True
    if name.startswith(".") or (name in _NOT_PACKAGED and not _is_named_package(named, name)):
        return False
    if suffixes is not None or _names(named, name):
        return True
    return _has_sources(os.path.join(parent, name))  # noqa: PTH118  # text, in a hot loop


def _has_sources(directory: str) -> bool:
    """Whether a source file, or a link to a directory, is in `directory` or below it."""
    for place, directories, files in os.walk(directory):
        if any(os.path.splitext(found)[1].lower() in _SOURCE_SUFFIXES for found in files):  # noqa: PTH122  # as above
            return True
        if any(os.path.islink(os.path.join(place, found)) for found in directories):  # noqa: PTH114, PTH118  # as above
            return True
    return False


def _is_named_package(text: str, name: str) -> bool:
    """Whether the files that describe a build name the package `name`: as the project, or in a list of packages."""
    word = re.escape(name)
    own = rf"""\bname["']?\s*[:=]\s*["']{word}["']"""
    listed = rf"""\bpackages["']?\s*[:=]\s*["\[][^\]]*(?<![\w.-]){word}(?![\w*-])"""
    return re.search(f"{own}|{listed}", text) is not None


def _packages(project: Path, excluded: Sequence[Path]) -> Iterator[str]:
    """The top-level packages, as an editable installation by setuptools lists them."""
    skipped = {os.path.realpath(path) for path in excluded}
    for root in _ROOTS[:2]:
        with contextlib.suppress(OSError):
            for entry in sorted(os.scandir(project / root), key=lambda entry: entry.name):
                if entry.name in _NOT_PACKAGED or os.path.realpath(entry.path) in skipped:
                    continue
                if os.path.isfile(os.path.join(entry.path, "__init__.py")):  # noqa: PTH113, PTH118  # text
                    yield f"{root}/{entry.name}"


def _is_of_build(tool: str, names: Sequence[str]) -> bool:
    """Whether a build reads the table of `tool`: of uv, which installs, or of a build requirement in `names`.

    ``hatch`` is the tool of the requirement ``hatchling``.
    """
    word = tool.replace("_", "-").lower()
    starts = (re.match(r"[\w.-]*", name.replace("_", "-").lower())[0] for name in names)  # type: ignore[index]
    if word in _UNRELATED_TOOLS:
        return False
    return word == "uv" or any(start.startswith(word) or (start and word.startswith(start)) for start in starts)


def _relevant(tool: str, value: object) -> object:
    if isinstance(value, dict) and tool in _BUILD_TABLES:
        return {name: value[name] for name in _BUILD_TABLES[tool] if name in value}
    if isinstance(value, dict) and tool in _UNRELATED_KEYS:
        return {name: each for name, each in value.items() if name not in _UNRELATED_KEYS[tool]}
    return value


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _tables(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _tables(each)
    elif isinstance(value, list):
        for each in value:
            yield from _tables(each)


def _files_of(directory: Path, text: str) -> Iterator[Path]:
    """The existing file that `text` names in `directory`, or the files that match if it is a pattern."""
    if not text or len(text) > _LONGEST or "\n" in text or "\0" in text:
        return
    try:
        if re.search(r"[*?]", text):
            if "**" not in text and not text.startswith("/") and text.endswith((".txt", ".in", ".toml", ".cfg")):
                yield from sorted(directory.glob(text))
        elif (path := directory / text).is_file():
            yield path
    except (OSError, ValueError, NotImplementedError):
        return


def _is_directory(project: Path, text: str) -> bool:
    if not text or len(text) > _LONGEST or "\0" in text or text.startswith("/") or text in {".", "./"}:
        return False
    try:
        return (project / text).is_dir()
    except OSError:
        return False


_DECLARED = re.compile(
    r"_*(version|version_info|version_tuple|title|description|author\w*|license|url|release)_*", re.IGNORECASE
)


def _declarations(source: bytes, *names: str) -> bytes | str:
    """The parts of a module that a build reads: the docstring, and assignments of `names` and of versions.

    The whole module if it has no such assignment.
    """
    try:
        tree = parse_python(source)
    except (SyntaxError, ValueError, RecursionError):
        return source
    found = [
        ast.dump(node)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and (target.id in names or _DECLARED.fullmatch(target.id))
    ]
    if not found and not any(_import_of(source, name) for name in names):
        return source
    return repr((ast.get_docstring(tree), found))


def _import_of(source: bytes, name: str) -> tuple[int, str] | None:
    """The place that the module `source` imports `name` from: number of leading dots, module. None if it does not."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for node in parse_python(source).body:
            if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
                return node.level, node.module or ""
    return None


def _tags(project: Path) -> list[str]:
    """The tags of the git repository, which versions are made from."""
    for place in (project, *project.parents):
        git = place / ".git"
        if not git.exists():
            continue
        if git.is_file():
            text = (_bytes(git) or b"").decode("utf-8", "replace").removeprefix("gitdir:").strip()
            git = place / text
            git = git / (_bytes(git / "commondir") or b".").decode("utf-8", "replace").strip()
        packed = (_bytes(git / "packed-refs") or b"").decode("utf-8", "replace")
        names = set(re.findall(r"^(\S+ refs/tags/\S+)$", packed, re.MULTILINE))
        loose = (path for path in (git / "refs" / "tags").glob("**/*") if path.is_file())
        names |= {f"{(_bytes(path) or b'').decode('ascii', 'replace').strip()} {path.name}" for path in loose}
        return sorted(names)
    return []


def _uv_files(directory: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that uv reads its settings from, except the ``pyproject.toml`` of the project in `directory`."""
    if environ.get("UV_NO_CONFIG"):
        return
    yield from (path for place in directory.parents if (path := place / "pyproject.toml").is_file())
    if environ.get("UV_CONFIG_FILE"):
        yield directory / environ["UV_CONFIG_FILE"]
        return
    places = (directory, *directory.parents, *(place / "uv" for place in _configurations(environ)), Path("/etc/uv"))
    yield from (path for place in places if (path := place / "uv.toml").is_file())


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The configuration files that pip reads."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    places = [Path("/etc"), *(place / "pip" for place in _configurations(environ))]
    if environ.get("HOME"):
        places.append(Path(environ["HOME"], ".pip"))
    yield from (path for place in places if (path := place / name).is_file())
    if named and Path(named).is_file():
        yield Path(named)


def _configurations(environ: Mapping[str, str]) -> Iterator[Path]:
    """The directories for configuration files of this user."""
    if environ.get("APPDATA"):
        yield Path(environ["APPDATA"])
    if environ.get("XDG_CONFIG_HOME"):
        yield Path(environ["XDG_CONFIG_HOME"])
    elif environ.get("HOME"):
        yield Path(environ["HOME"], ".config")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _digest(value: str | bytes) -> str:
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return hashlib.sha256(data).hexdigest()[:24]
