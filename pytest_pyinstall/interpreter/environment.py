"""Makes a virtual environment from an interpreter.

The files are written directly, in about a millisecond: those of PEP 405 and of the standard library's `venv` without
pip. If the interpreter's own layout is unusual, its `venv` module is run instead.
"""

import contextlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system.processes import run_tool

__all__ = ["clean", "clean_for_tests", "create", "executable", "scripts"]

__tracebackhide__ = True  # a failed test shows its own line, and the message; all with --full-trace


# Variables that make an interpreter, or its loader, use the files of another one.
_REDIRECTING = frozenset(
    {
        *("PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "PYTHONPLATLIBDIR", "VIRTUAL_ENV"),
        *("_PYTHON_SYSCONFIGDATA_NAME", "_PYTHON_PROJECT_BASE", "_PYTHON_HOST_PLATFORM"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH"),
    }
)


def create(path: Path, *, key: Key, base_executable: Path, environ: Mapping[str, str]) -> Path:
    """Create a virtual environment at `path`, without pip, of `base_executable`, and return its executable.

    `base_executable` must not belong to an environment itself. `path` is absolute, and missing or an empty directory.
    Missing parents are created. If `path` is not empty, or after a failure, `EnvironmentCreationError` is raised, and
    nothing is left behind. The base is not written to, and only run if its layout is unusual. Two concurrent calls for
    one path are not safe; calls for different paths are.
    """
    try:
        existed = path.exists()
        if existed and any(path.iterdir()):
            msg = f"{path} is not empty: an environment can only be created in a new or empty directory"
            raise EnvironmentCreationError(msg, hint=f"ls -A {shlex.quote(str(path))}")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _write_venv(path, key=key, base_executable=base_executable, environ=environ)
    except BaseException as error:
        _empty(path, remove=not existed)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise
    return executable(path, key)


def clean(environ: Mapping[str, str], key: Key) -> dict[str, str]:
    """`environ` without the variables that make this interpreter use another one's files, or prevent its start."""
    kept = {name: value for name, value in environ.items() if name not in _REDIRECTING}
    if not key.is_free_threaded and kept.get("PYTHON_GIL") == "0":
        del kept["PYTHON_GIL"]  # a fatal error in a Python that cannot disable the GIL
    return kept


_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def clean_for_tests(environ: Mapping[str, str], key: Key) -> dict[str, str]:
    """`clean`, but with the library paths that tests may need: those without another Python's libpython."""
    kept = clean(environ, key)
    for name in _LIBRARY_PATHS:
        places = [place for place in environ.get(name, "").split(os.pathsep) if place]
        if places := [place for place in places if not any(Path(place).glob("libpython*"))]:
            kept[name] = os.pathsep.join(places)
    return kept


def scripts(path: Path, key: Key) -> Path:
    """The directory of executables of the environment at `path`: ``bin``, or ``Scripts`` on Windows."""
    return path / ("Scripts" if key.target.os == "windows" else "bin")


def executable(path: Path, key: Key) -> Path:
    """The Python of the environment at `path`."""
    return scripts(path, key) / _names(key)[0]


def _write_venv(path: Path, *, key: Key, base_executable: Path, environ: Mapping[str, str]) -> None:
    windows = key.target.os == "windows"
    made = False
    if key.implementation == "cpython":
        made = _fill_windows(path, key, base_executable) if windows else _fill_posix(path, key, base_executable)
    if not made:
        _run_venv(path, key=key, base_executable=base_executable, environ=environ)


def _fill_posix(path: Path, key: Key, base_executable: Path) -> bool:
    base = _with_library(base_executable, key)
    if base is None:
        return False
    (path / "include").mkdir()
    (path / _library(key) / "site-packages").mkdir(parents=True)
    if key.target.os != "macos" and key.target.arch not in {"x86", "armv7"}:
        (path / "lib64").symlink_to("lib")  # as venv does, for the Pythons whose platlibdir is lib64
    directory = path / "bin"
    directory.mkdir()
    first, *others = _names(key)
    (directory / first).symlink_to(base)
    for name in others:
        (directory / name).symlink_to(first)
    (directory / "activate").write_text(_ACTIVATE.format(path=shlex.quote(str(path))), "utf-8", "surrogateescape")
    _configure(path, key, base)
    return True


def _fill_windows(path: Path, key: Key, base_executable: Path) -> bool:
    """venv's layout on Windows, whose executables are small launchers that the interpreter contains."""
    import shutil

    templates = base_executable.parent / "Lib" / "venv" / "scripts" / "nt"
    threaded, debug = "t" if key.is_free_threaded else "", "_d" if key.is_debug else ""
    launchers = {}
    for name, launcher in (("python", "venvlauncher"), ("pythonw", "venvwlauncher")):
        # 3.13 renamed them. Before, a launcher had the name of its copy in the environment.
        for template in (f"{launcher}{threaded}{debug}.exe", f"{name}{debug}.exe"):
            if (templates / template).is_file():
                launchers[name] = templates / template
                break
    if "python" not in launchers:
        return False
    (path / "Include").mkdir()
    (path / "Lib" / "site-packages").mkdir(parents=True)
    directory = path / "Scripts"
    directory.mkdir()
    for name, template_path in launchers.items():
        shutil.copyfile(template_path, directory / f"{name}{debug}.exe")
        if debug:
            shutil.copyfile(template_path, directory / f"{name}.exe")
    for name in _names(key)[1:]:
        shutil.copyfile(launchers["python"], directory / name)
    (directory / "activate.bat").write_text(_ACTIVATE_BAT.format(path=path), encoding="utf-8", newline="\r\n")
    _configure(path, key, base_executable)
    return True


def _with_library(base_executable: Path, key: Key) -> Path | None:
    """`base_executable` or its links' target, whichever is in a prefix with a standard library. None if neither is."""
    for executable in (base_executable, base_executable.resolve()):
        for directory in ("lib", "lib64"):
            library = executable.parent.parent / directory / Path(_library(key)).name
            if (library / "os.py").is_file():
                return executable
    return None


def _library(key: Key) -> str:
    return f"lib/python{key.minor_version}{'t' if key.is_free_threaded else ''}"


def _names(key: Key) -> tuple[str, ...]:
    minor = key.minor_version
    suffix = "t" if key.is_free_threaded else ""
    if key.target.os == "windows":
        return ("python.exe", f"python{minor}t.exe") if suffix else ("python.exe",)
    return ("python", "python3", f"python{minor}", *((f"python{minor}{suffix}",) if suffix else ()))


def _configure(path: Path, key: Key, base: Path) -> None:
    (path / ".gitignore").write_text("*\n", encoding="utf-8")
    # Last: this file makes the directory an environment, so everything else must exist before.
    (path / "pyvenv.cfg").write_text(
        f"home = {base.parent}\n"
        "include-system-site-packages = false\n"
        f"version = {'.'.join(map(str, key.release))}\n"
        f"executable = {base}\n",
        encoding="utf-8",
        errors="surrogateescape",
    )


def _run_venv(path: Path, *, key: Key, base_executable: Path, environ: Mapping[str, str]) -> None:
    command = [str(base_executable), "-I", "-m", "venv", "--without-pip", str(path)]
    run_tool(command, environ=clean(environ, key), what=f"cannot create an environment of {key.display_name} at {path}")


def _unwritable(path: Path, error: OSError) -> EnvironmentCreationError:
    place = error.filename or path
    msg = f"cannot create an environment at {path}: {place}: {error.strerror or error}"
    return EnvironmentCreationError(msg, hint=f"ls -ld {shlex.quote(str(path.parent))}")


def _empty(path: Path, *, remove: bool) -> None:
    import shutil

    entries: list[Path] = []
    with contextlib.suppress(OSError):
        entries = list(path.iterdir())
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()
    if remove:
        with contextlib.suppress(OSError):
            path.rmdir()


_ACTIVATE = """\
# Use it with: . bin/activate
deactivate () {{
    PATH="$_OLD_VIRTUAL_PATH"
    export PATH
    unset VIRTUAL_ENV VIRTUAL_ENV_PROMPT _OLD_VIRTUAL_PATH
    unset -f deactivate
    hash -r 2>/dev/null
}}
VIRTUAL_ENV={path}
VIRTUAL_ENV_PROMPT="${{VIRTUAL_ENV##*/}}"
export VIRTUAL_ENV VIRTUAL_ENV_PROMPT
_OLD_VIRTUAL_PATH="$PATH"
PATH="$VIRTUAL_ENV/bin:$PATH"
export PATH
unset PYTHONHOME
hash -r 2>/dev/null
"""


_ACTIVATE_BAT = """\
@set "VIRTUAL_ENV={path}"
@set "PYTHONHOME="
@set "PATH=%VIRTUAL_ENV%\\Scripts;%PATH%"
"""
