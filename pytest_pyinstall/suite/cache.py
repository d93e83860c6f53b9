"""The environments in CACHE/environments: their leases, their removal, and the wheels that they share.

A slot is one project under one Python, with one variant. A state is a digest of what goes into the environment.

CACHE/environments/<slot>-<state>              an environment, always whole
                   <slot>-<state>/suite.json   what is in it; its modification time is the day of the last use
                   .<slot>-<state>.lease       locked (shared) by the sessions that run in it
                   .<slot>.lock                locked while an environment of the slot is made
                   .<private>.new              scratch of one session
                   .wheel-<project>-<state>/   the project as an editable wheel, for all Pythons
                   .<name>.gone                being deleted

The wheel is made from the first editable installation of a project, so that the project is built once and not for each
Python. A build with setuptools takes a second or two, and writes into the source tree, so builds must not overlap.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import csv
import email
import hashlib
import io
import json
import os
import re
import shutil
import time
import zipfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.documents import parse_json, parse_python
from pytest_pyinstall.system.files import move_or_delete, new_file, scratch_name, write_atomically

if TYPE_CHECKING:
    from pytest_pyinstall.suite.inputs import Inputs

__all__ = [
    "OF_PYTHON",
    "Described",
    "describe",
    "environments",
    "environments_directory",
    "install_as_editable",
    "is_same_for_all_pythons",
    "keep_wheel",
    "lease",
    "move_unused_aside",
    "note_use",
    "orphans",
    "pack_editable",
    "removable_environments",
    "wheel_directory",
]


OF_PYTHON = "the directory of the Python"
"""The part of an environment's inputs that does not change what a wheel contains, as the requirements do not."""


_SECONDS_PER_DAY = 86400


_MAX_AGE = 30 * _SECONDS_PER_DAY
"""Seconds without use after which `removable_environments` returns an environment."""


_OUR_NAMES = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}|[0-9a-f]{24}(-[0-9a-f]{12})?|\.(wheel-)?[0-9a-f]{8,}.*")
"""Our names, with those of older releases (24 digits). Anything else there belongs to the user and is never deleted."""


def environments_directory(cache: Path) -> Path:
    """The directory of the environments in `cache`. It may not exist."""
    return cache / "environments"


def lease(environment: Path) -> AbstractContextManager[bool]:
    """A context manager that keeps `environment` from being moved aside. It need not exist yet.

    Any number of sessions may hold a lease at the same time. The value is that of `locks.share`.
    """
    return locks.share(_lock_file(environment, "lease"))


def note_use(environment: Path) -> None:
    """Record the use of `environment`, at most once a day. Errors are ignored."""
    marker = environment / "suite.json"
    with contextlib.suppress(OSError):
        if time.time() - marker.stat().st_mtime > _SECONDS_PER_DAY:
            os.utime(marker)


def environments(cache: Path) -> list[Path]:
    """All directories of ours in `cache`, sorted, including scratch and wheels. Raises `StoreError`."""
    return _environments_in(environments_directory(cache))


def _environments_in(parent: Path) -> list[Path]:
    try:
        found = (path for path in parent.iterdir() if _OUR_NAMES.fullmatch(path.name))
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"cannot read the cache {parent}: {error.strerror or error}"
        raise StoreError(message, hint="another directory: --python-cache DIR") from error


class Described(NamedTuple):
    """What an environment is for. A text is empty if the environment's record lacks it.

    `kind` is ``environment``, ``wheel`` (a built project) or ``unfinished``. `python` is a version such as ``3.13.0t``.
    `why` is ``new``, or why an older environment was not used. `used` is in seconds since the epoch.
    """

    kind: str
    used: float
    project: str = ""
    python: str = ""
    variant: str = ""
    why: str = ""


def describe(path: Path) -> Described:
    """Describe `path`, one of `environments`, from its record. Raises `OSError` if it no longer exists."""
    if path.name.startswith("."):
        wheel = next(path.glob("*.whl"), None)
        name = wheel.name.partition("-")[0] if wheel else ""
        return Described("wheel" if wheel else "unfinished", path.stat().st_mtime, project=name)
    try:
        marker = path / "suite.json"
        document = parse_json(marker.read_bytes())
        words = {name: str(document.get(name, "")) for name in ("project", "python", "variant", "why")}
        with contextlib.suppress(ValueError):
            words["python"] = Key.parse(words["python"]).display_name
        return Described("environment", marker.stat().st_mtime, **words)
    except (OSError, ValueError, AttributeError):
        return Described("environment", path.stat().st_mtime)


def orphans(parent: Path, project: Path) -> list[Path]:
    """The environments of `project` in `parent` whose Python no longer exists, so that no session can use them."""
    found = []
    for path in _environments_in(parent):
        with contextlib.suppress(OSError):
            if not _has_python(path) and describe(path).project == str(project):
                found.append(path)
    return found


def removable_environments(cache: Path, *, now: float | None = None) -> list[Path]:
    """The directories that can be deleted: leftovers, and environments that are unused for 30 days or whose Python or
    project no longer exists. `now` is in seconds since the epoch. Raises `StoreError`."""
    horizon = (time.time() if now is None else now) - _MAX_AGE
    return [path for path in environments(cache) if _is_removable(path, horizon)]


def move_unused_aside(path: Path, *, is_locked: bool = False) -> Path | None:
    """Rename `path`, so that no session starts in a half-deleted environment, and return the new path to delete.

    Returns None if a session runs in it or makes it. Pass `is_locked` if you hold the lock of its slot. Raises
    `OSError`.
    """
    with ExitStack() as stack:
        lock_files = _lock_files(path)[:1] if is_locked else _lock_files(path)
        if not all(stack.enter_context(locks.seize(lock_file)) for lock_file in lock_files):
            return None
        aside = path.with_name(scratch_name(".gone"))
        move_or_delete(path, aside)
        return aside


def _lock_file(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _lock_files(path: Path) -> list[Path]:
    """The files that a process locks while it runs in the environment `path`, and while it makes it."""
    # `.<private>.new` has an ending, and `<slot>-<state>-<sources>` a third part, if the project is not editable in it.
    maker = path.name.lstrip(".").partition(".")[0].partition("-")[0]
    return [_lock_file(path, "lease"), path.with_name(f".{maker}.lock")]


def _is_removable(path: Path, horizon: float) -> bool:
    try:
        if path.name.startswith(".wheel-"):
            return path.stat().st_mtime < horizon
        if path.name.startswith("."):
            return path.name.endswith(".gone") or all(map(locks.is_free, _lock_files(path)))
        if not _has_python(path):
            return True
        marker = path / "suite.json"
        if marker.stat().st_mtime < horizon:
            return True
        project = parse_json(marker.read_bytes())["project"]
        return isinstance(project, str) and not Path(project).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_python(path: Path) -> bool:
    return any((path / name).exists() for name in ("bin/python", "Scripts/python.exe"))


_ADDED_BY_INSTALLER = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
"""Files in ``.dist-info`` that an installer adds and a wheel must not contain."""
_ORIGIN_FILES = ("direct_url.json", "uv_cache.json", "uv_build.json")
"""Those of them that name the source of the installation."""


_LOOKS_AT_PYTHON = re.compile(
    r"\b(sys|platform|sysconfig|version_info|six|runpy|__import__|import_module|exec_module)\b|\bexec\(|python_implementation"
    r"|\b(ImportError|ModuleNotFoundError|find_spec)\b"
)


def is_same_for_all_pythons(project: Path) -> bool:
    """Whether a build of `project` seems to have the same result under each Python.

    False if ``setup.py`` looks at the Python that runs it, or runs other code of the project, which may do so, or if
    the project has a build backend or hook of its own.
    """
    try:
        setup = (project / "setup.py").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        setup = ""
    except OSError:
        return False
    try:
        document = (project / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        document = ""
    try:
        own = [name for name in _imported(setup) if (project / f"{name}.py").exists() or (project / name).is_dir()]
    except (SyntaxError, ValueError, RecursionError):
        return False
    has_hook = re.search(r"hooks\.custom|backend-path|custom-hook", document) or (project / "pdm_build.py").exists()
    return not (_LOOKS_AT_PYTHON.search(setup) or own or has_hook)


def _imported(source: str) -> set[str]:
    """The first part of the names of the modules that `source` imports. Raises `SyntaxError`, `ValueError`."""
    import ast

    nodes = list(ast.walk(parse_python(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def pack_editable(packages: Path, project: Path, *, into: Path) -> Path | None:
    """Make a wheel in the directory `into` from the editable installation of `project` in the site-packages `packages`.

    Returns None if the installation could differ under another Python or in another environment: if it has a compiled
    file, a ``.pth`` with code, or a file outside of site-packages. Raises `OSError`. A wheel in `into` is always whole.
    """
    try:
        found = _metadata(packages, project)
        if found is None:
            return None
        tags = email.message_from_string((found / "WHEEL").read_text(encoding="utf-8"))
        names = _names(packages, found)
    except (ValueError, KeyError, csv.Error, configparser.Error):
        return None
    tagged = [tag.split("-") for tag in tags.get_all("Tag", [])]
    if names is None or tags["Root-Is-Purelib"] != "true" or any(tag[1:] != ["none", "any"] for tag in tagged):
        return None
    pythons = ".".join(dict.fromkeys(tag[0] for tag in tagged))
    into.mkdir(parents=True, exist_ok=True)
    wheel = into / f"{found.name.removesuffix('.dist-info')}-{pythons}-none-any.whl"
    for name in _ORIGIN_FILES:
        with contextlib.suppress(FileNotFoundError):
            (into / name).write_bytes((found / name).read_bytes())
    with new_file(wheel) as file:
        _write(file, packages, names, record=f"{found.name}/RECORD")
    return wheel


def install_as_editable(packages: Path, wheel: Path) -> None:
    """Make the installation of `wheel` in `packages` look like an editable installation of the project itself.

    pytest, ``pip list -e`` and `Distribution.origin` read ``direct_url.json``, which would name the wheel. Updates
    ``RECORD`` too. Raises `OSError`, `ValueError`.
    """
    name, version = wheel.name.split("-")[:2]
    metadata = packages / f"{name}-{version}.dist-info"
    rows = list(csv.reader((metadata / "RECORD").read_text(encoding="utf-8").splitlines()))
    rows = [row for row in rows if row and row[0] not in {f"{metadata.name}/{each}" for each in _ORIGIN_FILES}]
    for each in _ORIGIN_FILES:
        path = metadata / each
        path.unlink(missing_ok=True)
        try:
            content = (wheel.parent / each).read_bytes()
        except FileNotFoundError:
            continue
        path.write_bytes(content)
        rows.append([f"{metadata.name}/{each}", f"sha256={_record_digest(content)}", str(len(content))])
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows(rows)
    write_atomically(metadata / "RECORD", written.getvalue().encode())


def wheel_directory(shelf: Path, project: Path, inputs: Inputs) -> Path:
    """The directory in `shelf` for the wheel of `project` in the state that `inputs` describe. It may not exist."""
    parts = {name: value for name, value in inputs.parts.items() if name not in {"the requirements", OF_PYTHON}}
    words = (json.dumps(sorted(parts.items())), str(project))
    state, name = (hashlib.sha256(word.encode("utf-8", "surrogateescape")).hexdigest()[:16] for word in words)
    return shelf / f".wheel-{name}-{state}"


def keep_wheel(packages: Path, project: Path, *, into: Path) -> None:
    """Make a wheel from the editable installation of `project` in `packages`, and delete wheels of earlier states.

    Does nothing if the project cannot be one wheel for all Pythons. Ignores `OSError`.
    """
    with contextlib.suppress(OSError):
        if is_same_for_all_pythons(project) and pack_editable(packages, project, into=into):
            for path in into.parent.glob(f"{into.name.rpartition('-')[0]}-*"):
                if path != into:
                    shutil.rmtree(path, ignore_errors=True)


def _metadata(packages: Path, project: Path) -> Path | None:
    """The ``.dist-info`` of the editable installation of `project`; None if there is none."""
    from urllib.parse import unquote, urlsplit

    for path in packages.glob("*.dist-info/direct_url.json"):
        document = parse_json(path.read_bytes())
        place = unquote(urlsplit(document["url"]).path)
        if document.get("dir_info", {}).get("editable") and Path(place) == project:
            return path.parent
    return None


def _names(packages: Path, metadata: Path) -> list[str] | None:
    """The files for the wheel; None if one of them could differ between environments."""
    commands = _commands(metadata / "entry_points.txt")
    names = []
    with (metadata / "RECORD").open(encoding="utf-8", newline="") as record:
        for row in csv.reader(record):
            name = row[0].replace(os.sep, "/")
            if name.startswith(f"{metadata.name}/"):
                if name.rpartition("/")[2] not in _ADDED_BY_INSTALLER:
                    names.append(name)
            elif name.endswith(".pth") and "/" not in name and _is_plain(packages / name):
                names.append(name)
            elif not (name.startswith("../") and name.rpartition("/")[2].removesuffix(".exe") in commands):
                return None
    return names


def _commands(entry_points: Path) -> set[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of commands keep their case
    parser.read(entry_points, encoding="utf-8")
    sections = [name for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
    return {name for section in sections for name in parser[section]}


def _is_plain(path: Path) -> bool:
    """Whether each line of a ``.pth`` is an absolute path, and none is code."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return all(os.path.isabs(line) for line in lines if line.strip())  # noqa: PTH117  # text


def _write(target: BinaryIO, packages: Path, names: list[str], *, record: str) -> None:
    rows = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = (packages / name).read_bytes()
            archive.writestr(name, content)
            rows.append(f'"{name}",sha256={_record_digest(content)},{len(content)}\n')
        archive.writestr(record, "".join([*rows, f"{record},,\n"]))


def _record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
