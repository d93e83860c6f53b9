"""The layout of an installation, and how the files in it that contain its path are changed.

These are pure functions: `finish` applies them to a tree in scratch, `mirror pack` to the files that it packs.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath

from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system.documents import parse_json, parse_python

__all__ = [
    "BUILT_PREFIX",
    "FILES_WITH_PREFIX",
    "PACKED",
    "STANDALONE",
    "polyglot",
    "read_variables",
    "relocate_text",
    "standard_library",
    "variables_text",
]


BUILT_PREFIX = "/install"
"""The prefix that python-build-standalone configures with. `mirror pack` writes it too, so that every installer of the
archive recognises it and replaces it by the final path."""


STANDALONE = "PYTHON_BUILD_STANDALONE"
"""The variable by which packages recognise a build of python-build-standalone; uv writes it too."""


PACKED = "PYTEST_PYINSTALL_PACKED"
"""Marks an archive of `mirror pack`: its prefix is `BUILT_PREFIX`, but it is not a build of python-build-standalone."""


FILES_WITH_PREFIX = (
    "lib/pkgconfig/*.pc",
    "lib/*/config-*/Makefile",
    "lib/*/config-*/python-config.py",
    "lib/*/build-details.json",
    "lib/*/_sysconfig_vars_*.json",
    "lib/*/_sysconfigdata_*.py",
)
"""The text files that contain the path of an installation, besides the scripts in ``bin``.

The sysconfig data comes last: from its prefix, the next run sees whether an earlier one was interrupted.
"""


Relocate = Callable[[str], str]


def standard_library(key: Key) -> tuple[str, ...]:
    """Where the standard library can be below an installation, the usual place first.

    Source: uv's ``ManagedPythonInstallation::ensure_externally_managed``; the last ones are PyPy's before 3.8.
    """
    if key.target.os == "windows":
        return ("Lib", "lib-python/3") if key.implementation == "pypy" else ("Lib",)
    minor = key.minor_version
    if key.implementation == "pypy":
        return (f"lib/pypy{minor}", "lib-python/3")
    return (f"lib/python{minor}t", f"lib/python{minor}") if key.is_free_threaded else (f"lib/python{minor}",)


def relocate_text(relative_path: str, content: bytes, *, prefixes: Iterable[str], home: str, python: str) -> bytes:
    """The content of a tree's text file for its final place `home`.

    `prefixes` are the paths that the file can contain now, `python` is the path of the interpreter below `home`.
    Returns `content` itself if nothing has to change. Calling it twice changes nothing more.
    """
    path = PurePosixPath(relative_path)
    if path.name.endswith((".so", ".a", ".o", ".pyc")) or b"\0" in content[:1024]:
        return content
    text = content.decode("utf-8", "surrogateescape")
    if fnmatchcase(path.name, "_sysconfigdata_*.py"):
        text = _sysconfig_data(text, prefixes, home)
    elif path.suffix == ".json":
        text = _sysconfig_json(text, prefixes, home)
    elif path.name == "Makefile":
        text = _makefile(text, prefixes, home)
    elif path.parent.name == "pkgconfig":
        text = _pkgconfig(text, prefixes)
    else:
        text = _script(text, prefixes, home, python)
    return text.encode("utf-8", "surrogateescape")


def read_variables(text: str) -> dict[str, object]:
    """The ``build_time_vars`` of a ``_sysconfigdata_*.py``, without running it; empty if there are none.

    The file assigns one dictionary of literals in CPython 3.6 to 3.15, see ``sysconfig._generate_posix_vars``.
    """
    return dict(_parsed(text))


@lru_cache(maxsize=1)
def _parsed(text: str) -> Mapping[str, object]:
    """Cache the last text, because the prefix of a file is usually read right before the file is changed."""
    try:
        tree = parse_python(text)
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                return dict(ast.literal_eval(node.value))
    except (SyntaxError, ValueError, TypeError, RecursionError):
        pass
    return {}


def variables_text(variables: Mapping[str, object]) -> str:
    """`variables` as a ``_sysconfigdata_*.py``, exactly as uv writes it.

    uv reads, patches and writes this file in each installation that it looks at. With the same form, the two tools do
    not rewrite each other's file in a shared store.
    """
    lines = [
        f"    {_literal(name)}: {_literal(variables[name])}"
        for name in sorted(variables, key=lambda name: name.encode())
    ]
    head = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {\n"
    return head + ",\n".join(lines) + "\n}\n"


def polyglot(python: str) -> str:
    """The first lines of a Python script that finds `python` beside itself, wherever the tree is.

    For a shell they are a command, for Python a string. Source: the scripts of python-build-standalone. A plain
    ``#!`` line can hold neither a space nor more than 127 characters.
    """
    return f'#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")/{python}" "$0" "$@"\n\' \'\'\'\n'


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


# The names of the build host's compilers, and the names on every machine. uv has the same replacement as a
# list, generated from the targets of python-build-standalone.
_COMPILERS = (
    (re.compile(r"(?<![^\s=])(?:/\S*/)?(?:\w+-linux-(?:gnu|musl)\w*-)?(?:musl-)?clang(?:-\d+)?(?=\s|$)"), "cc"),
    (re.compile(r"(?<![^\s=])(?:/\S*/)?(?:\w+-linux-(?:gnu|musl)\w*-)?(?:musl-)?clang\+\+(?:-\d+)?(?=\s|$)"), "c++"),
    (re.compile(r"(?<![^\s=])(?:/\S*/)?\w+-linux-(?:gnu|musl)\w*-gcc(?:-\d+)?(?=\s|$)"), "cc"),
    (re.compile(r"(?<![^\s=])(?:/\S*/)?\w+-linux-(?:gnu|musl)\w*-g\+\+(?:-\d+)?(?=\s|$)"), "c++"),
)


_COMPILER_VARIABLES = frozenset({"BLDSHARED", "CC", "CXX", "LDCXXSHARED", "LDSHARED", "LINKCC", "MAINCC"})


_SYSROOT = re.compile(r"(?:^|(?<=\s))-isysroot\s+\S+\s*")


def _variable(name: str, value: str, relocate: Relocate) -> str:
    if name == "AR":
        return "ar"
    if "-isysroot" in value:
        # The SDK of the build host. On this machine it is in another place, or missing.
        value = _SYSROOT.sub("", value).rstrip()
    if name in _COMPILER_VARIABLES:
        for compiler, plain in _COMPILERS:
            value = compiler.sub(plain, value)
    if name.startswith("WASM_") and value.startswith("./"):
        # CPython's own Makefile says ".$(prefix)" here.
        return "." + relocate(value[1:])
    return relocate(value)


def _sysconfig_data(text: str, prefixes: Iterable[str], home: str) -> str:
    variables = read_variables(text)
    if not variables:
        return text
    relocate = _relocation(prefixes, home)
    changed = {
        name: _variable(name, value, relocate) if isinstance(value, str) else value for name, value in variables.items()
    }
    if STANDALONE not in changed and PACKED not in changed and variables.get("prefix") == BUILT_PREFIX != home:
        changed[STANDALONE] = 1
    return text if changed == variables else variables_text(changed)


def _sysconfig_json(text: str, prefixes: Iterable[str], home: str) -> str:
    """``build-details.json`` (PEP 739) and ``_sysconfig_vars_*.json``, both from CPython 3.14 on."""
    relocate = _relocation(prefixes, home)

    def walk(name: str, value: object) -> object:
        if isinstance(value, dict):
            return {inner: walk(inner, part) for inner, part in value.items()}
        if isinstance(value, list):
            return [walk(name, part) for part in value]
        return _variable(name, value, relocate) if isinstance(value, str) else value

    try:
        document = parse_json(text)
    except ValueError:
        return text
    changed = walk("", document)
    return text if changed == document else json.dumps(changed, indent=2, ensure_ascii=False) + "\n"


_ASSIGNMENT = re.compile(r"^(\w+)(\s*=[ \t]*)(.*)$", re.MULTILINE)


def _makefile(text: str, prefixes: Iterable[str], home: str) -> str:
    relocate = _relocation(prefixes, home)
    names = _COMPILER_VARIABLES | {"AR"}

    def assignment(match: re.Match[str]) -> str:
        name, equals, value = match.groups()
        if name not in names and "-isysroot" not in value:
            return match[0]
        return f"{name}{equals}{_variable(name, value, lambda unchanged: unchanged)}"

    return relocate(_ASSIGNMENT.sub(assignment, text))


def _pkgconfig(text: str, prefixes: Iterable[str]) -> str:
    """Make it relocatable: pkg-config knows where the file is, so it need not contain `home`. uv relies on this too."""
    relative = _relocation(prefixes, "${prefix}", escape=False)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        name, equals, value = line.partition("=")
        if name.strip() == "prefix" and equals:
            if relative(value) != value:
                lines[number] = "prefix=${pcfiledir}/../.."
        else:
            lines[number] = relative(line)
    return "\n".join(lines)


_LONGEST_SHEBANG = 127
"""BINPRM_BUF_SIZE of Linux before 5.1, less the final NUL."""


def _script(text: str, prefixes: Iterable[str], home: str, python: str) -> str:
    first, newline, rest = text.partition("\n")
    if not first.startswith("#!"):
        return text
    relocate = _relocation(prefixes, home, escape=False)
    command = first[2:].strip()
    interpreter = relocate(command)
    if interpreter == command:
        return text if "sh" not in command else first + newline + relocate(rest)
    if home == BUILT_PREFIX or " " in home or len(interpreter) + 2 > _LONGEST_SHEBANG:
        return polyglot(PurePosixPath(python).name) + relocate(rest)
    return f"#!{interpreter}{newline}{relocate(rest)}"


_PLAIN = re.compile(r"[^\w@%+=:,./~-]")


def _relocation(prefixes: Iterable[str], home: str, *, escape: bool = True) -> Relocate:
    """Replace each of `prefixes` if it is a whole path, unlike ``/install`` in ``/usr/bin/install`` or ``/install-sh``.

    If the value is only a path, `home` is inserted as it is. In longer values, such as command lines, its special
    characters are escaped for the shell (and for `shlex.split`), unless they are in quotes already.
    """
    escaped_home = _PLAIN.sub(r"\\\g<0>", home)
    names = {home, *prefixes} - {""}
    # `home` first: a path that was relocated before can be below one of the prefixes.
    forms = sorted({form for name in names for form in (name, _PLAIN.sub(r"\\\g<0>", name))}, key=len, reverse=True)
    place = re.compile(
        rf"(?=[{re.escape(''.join({form[0] for form in forms}))}])"  # nearly always false, so it comes first
        r"(?:^|(?<=[\s'\"=:,;(\[{`|<>&!@])|(?<=-[A-Z])|(?<=-isystem))"
        rf"(?:{'|'.join(map(re.escape, forms))})"
        r"(?=[/\s'\"=:,;)\]}`|<>&#]|$)",
        re.MULTILINE,
    )

    def relocate(text: str) -> str:
        if not any(form in text for form in forms):  # true for nearly all, and cheaper than a regular expression
            return text
        if not escape or escaped_home == home:
            return place.sub(lambda _: home, text)
        match = place.match(text)
        if match and (text[match.end() :] == "" or not re.search(r"\s", text[match.end() :])):
            return home + text[match.end() :]
        return place.sub(lambda found: home if _is_quoted(text, found.start()) else escaped_home, text)

    return relocate


def _is_quoted(text: str, position: int) -> bool:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line.count("'") % 2 == 1 or line.count('"') % 2 == 1
