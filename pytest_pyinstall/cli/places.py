"""`dir` and `cache`: the directories, the setting that decided each, and the content of the cache."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.cli.context import CommandContext, CommandResult, build_json, by_key, examples_text, table_lines
from pytest_pyinstall.errors import PyinstallError, StoreError, UsageError
from pytest_pyinstall.options import closest_names
from pytest_pyinstall.progress import size_text
from pytest_pyinstall.system.files import delete
from pytest_pyinstall.system.urls import redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_pyinstall.download.cache import CachedFile
    from pytest_pyinstall.suite.cache import Described
    from pytest_pyinstall.system.permissions import Place

__all__ = [
    "PLACES",
    "cache_clear",
    "cache_key",
    "cache_list",
    "cache_parser",
    "cache_prune",
    "dir_parser",
    "places",
    "python_of",
]


PLACES = ("store", "scratch", "cache", "archives", "environments")


_CACHE_KEY_FORM = 1  # increase it when the store's layout changes, so that CI caches start empty


def places(session: CommandContext, name: str | None) -> CommandResult:
    """Each directory, the setting that decided it, and its volume, and the configuration file that was read.

    With `name`, only the path of that directory.
    """
    from pytest_pyinstall.system.permissions import place

    paths = _places(session)
    if name is not None:
        return CommandResult(lines=(str(paths[name]),), document={"directories": {name: {"path": str(paths[name])}}})
    found = {each: place(path) for each, path in paths.items()}
    shared, note = _sharing(found)
    document = {
        "directories": {each: _place_json(found[each], _decided_by(session, each)) for each in PLACES},
        "one_volume": shared,
        "note": note,
        "catalogue": _catalogue_json(session),
        "configuration": None if (path := session.configuration.path) is None else str(path),
    }
    lines = [line for each in PLACES for line in _place_lines(each, found[each], _decided_by(session, each))]
    lines += _catalogue_lines(_catalogue_json(session))
    if path is not None:
        lines.append(f"{'configuration':<14}{path}")
    return CommandResult(lines=(*lines, note), document=document)


def _catalogue_json(session: CommandContext) -> dict[str, Any]:
    """The catalogues in use, and when the downloaded one was fetched."""
    from pytest_pyinstall.download.document_cache import kept_since
    from pytest_pyinstall.request.catalogue import document_place

    settings = session.provisioner.settings
    configured = settings.catalogue
    names = ["pbs", "uv"] if configured is None else [configured]
    place = document_place(settings.mirror) if "uv" in names else configured if configured != "pbs" else None
    fetched = kept_since(settings.cache, place) if place and "://" in place else None
    return {
        "sources": [name if "://" not in name else redacted(name) for name in names],
        "decided_by": settings.origins.get("catalogue", "default"),
        "document": place and redacted(place),
        "fetched": fetched and datetime.fromtimestamp(fetched, UTC).isoformat(timespec="seconds"),
    }


def _catalogue_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'catalogue':<14}{', then '.join(found['sources'])}"
    document = f"; {found['document']}" if found["document"] not in {None, *found["sources"]} else ""
    fetched = ""
    if found["document"] and "://" in found["document"]:
        fetched = f", fetched {found['fetched']}" if found["fetched"] else ", not fetched yet"
    yield f"{'':<14}{found['decided_by']}{document}{fetched}"


def cache_key(session: CommandContext, texts: Sequence[str]) -> CommandResult:
    """A key for the cache of a CI service, which changes exactly when other builds would be installed."""
    import hashlib

    provisioner = session.provisioner
    requests = session.requests(texts)
    wanted = [request for request in requests if request.path is None]
    builds = {provisioner.catalogues.resolve(request) for request in wanted}
    lines = sorted(f"{build.key} {build.sha256}" for build in builds)
    digest = hashlib.sha256("\n".join([str(_CACHE_KEY_FORM), str(provisioner.target), *lines]).encode()).hexdigest()
    key = f"pyinstall-{provisioner.target}-{digest[:16]}"
    document = {"cache_key": key, "builds": [build_json(build, provisioner) for build in sorted(builds, key=by_key)]}
    return CommandResult(lines=(key,), document=document)


def cache_list(session: CommandContext) -> CommandResult:
    """List the archives, least recently used first, their unpacked trees, and the environments by project."""
    from pytest_pyinstall.download.cache import cached_archives
    from pytest_pyinstall.store.tree_cache import cached_trees
    from pytest_pyinstall.suite.cache import describe, environments

    cache = session.provisioner.settings.cache
    archives = cached_archives(cache)
    names = {file.sha256: python_of(file.path.name) for file in archives}
    trees: list[tuple[Path, float, int]] = []
    found: list[tuple[Path, int, Described]] = []
    with session.display.busy("measuring the cache"):
        for path in cached_trees(cache):
            with suppress(OSError):  # another process was faster
                trees.append((path, path.stat().st_mtime, _size(path)))
        for path in environments(cache):
            with suppress(OSError):
                found.append((path, _size(path), describe(path)))
    found.sort(key=lambda each: (each[2].project, list(map(int, re.findall(r"\d+", each[2].python))), each[2].variant))
    rows = [("archive", file.size, file.used, names[file.sha256], "", "", "", file.path) for file in archives]
    rows += [("unpacked", size, used, names.get(path.name, ""), "", "", "", path) for path, used, size in trees]
    rows += [
        (each.kind, size, each.used, each.python, each.project, each.variant, each.why, path)
        for path, size, each in found
    ]
    unpacked = f" ({len(trees)} unpacked)" if trees else ""
    made = sum(each.kind == "environment" for *_, each in found)
    counts = f"{_counted(len(archives), 'archive')}{unpacked} and {_counted(made, 'environment')}"
    session.display.say(f"{counts}, {size_text(sum(size for _, size, *_ in rows))}")
    document = {
        "archives": [_file_json(file) for file in archives],
        "trees": [{"path": str(path), "size": size} for path, _, size in trees],
        "environments": [
            {"path": str(path), "size": size, **each._asdict(), "used": _time_text(each.used)}
            for path, size, each in found
        ],
    }
    table = _cache_table(rows)
    if session.is_verbose:
        paths = ["PATH", *(str(path) for *_, path in rows)]
        lines = table_lines([[*cells, path] for cells, path in zip(table, paths, strict=False)])
        return CommandResult(lines=lines, document=document)
    return CommandResult(lines=table_lines(table), short_lines=table_lines(_shortened(table)), document=document)


def python_of(name: str) -> str:
    """The Python in an archive, by its name: ``3.13.0t``. The name itself if it does not say."""
    match = re.match(r"(?:cpython-)?((?:pypy|graalpy-?)?\d+\.\d+[\w.]*)", name)
    variant = "t" if "freethreaded" in name else ""
    variant += "d" if "debug" in name else ""
    return f"{match[1]}{variant}" if match else name


def _cache_table(rows: Sequence[tuple[str, int, float, str, str, str, str, Path]]) -> list[tuple[str, ...]]:
    """A row of cells for each, under a heading."""
    if not rows:
        return []
    heading = ("KIND", "SIZE", "LAST USE", "PYTHON", "PROJECT", "VARIANT", "MADE BECAUSE")
    cells = [
        (kind, size_text(size), _time_text(used)[:10], python or "-", project or "-", variant or "-", why or "-")
        for kind, size, used, python, project, variant, why, _ in rows
    ]
    return [heading, *cells]


def _shortened(table: Sequence[Sequence[str]]) -> list[list[str]]:
    """`table` for a narrow terminal: only the name of a project's directory, and no empty column of variants."""
    has_variants = any(row[5] != "-" for row in table[1:])
    return [
        [*row[:4], Path(row[4]).name, *([row[5]] if has_variants else []), row[6].removeprefix("changed: ")]
        for row in table
    ]


def _time_text(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def cache_prune(session: CommandContext) -> CommandResult:
    """Delete abandoned partial downloads, damaged archives, unused environments, and trees without their archive."""
    from pytest_pyinstall.download.cache import prune
    from pytest_pyinstall.interpreter.path_commands import stale_commands
    from pytest_pyinstall.store.tree_cache import cached_trees, stale_trees
    from pytest_pyinstall.suite.cache import removable_environments

    cache = session.provisioner.settings.cache
    removed = prune(cache)
    session.provisioner.sweep()
    trees = [path for path in cached_trees(cache) if not (cache / "archives" / path.name).is_dir()]
    return _delete_all(
        session, removed, [*stale_trees(cache), *trees, *removable_environments(cache), *stale_commands(cache)]
    )


def cache_clear(session: CommandContext) -> CommandResult:
    """Delete all archives, unpacked trees, catalogues and environments, except those in use."""
    from pytest_pyinstall.download.cache import clear
    from pytest_pyinstall.interpreter.path_commands import stale_commands
    from pytest_pyinstall.store.tree_cache import cached_trees, stale_trees
    from pytest_pyinstall.suite.cache import environments

    cache = session.provisioner.settings.cache
    session.provisioner.sweep()
    commands = stale_commands(cache, everything=True)
    found = [*stale_trees(cache), *cached_trees(cache), *environments(cache), *commands]
    return _delete_all(session, clear(cache), found)


# dir


def _places(session: CommandContext) -> dict[str, Path]:
    settings, store = session.provisioner.settings, session.provisioner.store
    return {
        "store": settings.store,
        "scratch": store.private / "scratch",
        "cache": settings.cache,
        "archives": settings.cache / "archives",
        "environments": settings.cache / "environments",
    }


def _decided_by(session: CommandContext, name: str) -> str:
    parent = "store" if name in {"store", "scratch"} else "cache"
    if name != parent:
        return f"inside the {parent}"
    origin = session.provisioner.settings.origins.get(parent, "default")
    return f"{origin} in {session.configuration.path}" if origin.startswith("pyinstall_") else origin


def _place_json(found: Place, decided_by: str) -> dict[str, Any]:
    volume = found.volume
    return {
        "path": str(found.path),
        "decided_by": decided_by,
        "exists": found.exists,
        "writable": found.is_writable,
        "volume": volume
        and {
            "device": volume.device,
            "mount_point": str(volume.mount_point),
            "filesystem": volume.filesystem,
            "free": volume.free,
        },
    }


def _place_lines(name: str, found: Place, decided_by: str) -> Iterator[str]:
    yield f"{name:<14}{found.path}"
    exists = "exists" if found.exists else "not created yet"
    writable = "writable" if found.is_writable else "not writable"
    volume = f"{found.volume}, {size_text(found.volume.free)} free" if found.volume else "volume unknown"
    yield f"{'':<14}{decided_by}; {exists}; {writable}; {volume}"


def _sharing(found: Mapping[str, Place]) -> tuple[bool, str]:
    """Whether all directories are on one volume, and what it means if they are not."""
    device = {name: each.volume and each.volume.device for name, each in found.items()}
    if len(set(device.values())) == 1:
        return True, "store, scratch and cache share one volume"
    if device["store"] != device["scratch"]:
        return False, "scratch is on another volume than the store: installations cannot be published by renaming them"
    others = ", ".join(name for name in ("cache", "archives", "environments") if device[name] != device["store"])
    note = f"not on the volume of the store: {others}; files are copied instead of linked, everything else works"
    return False, note


# cache


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _size(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue
    return total


def _delete_all(session: CommandContext, archives: Sequence[CachedFile], directories: Sequence[Path]) -> CommandResult:
    from pytest_pyinstall.suite.cache import move_unused_aside

    freed = sum(file.size for file in archives)
    errors: list[PyinstallError] = []
    gone = [file.path for file in archives]
    for path in directories:
        size = _size(path)
        try:
            aside = move_unused_aside(path)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            errors.append(StoreError(f"cannot remove {path}: {error.strerror or error}"))
            continue
        if aside is None:
            session.display.say(f"{path} was not removed: another process is using it")
            continue
        delete(aside)
        freed += size
        gone.append(path)
    session.display.say(f"{len(gone)} removed, {size_text(freed)} freed")
    document = {"removed": [str(path) for path in gone], "freed": freed}
    return CommandResult(lines=tuple(map(str, gone)), is_log=True, document=document, errors=tuple(errors))


def _file_json(file: CachedFile) -> dict[str, Any]:
    return {"path": str(file.path), "sha256": file.sha256, "size": file.size, "used": _time_text(file.used)}


def dir_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show each directory, the setting that decided it, its volume, and whether they\n"
        "share one, and the configuration file that was read. With a NAME, print only\n"
        "that path."
    )
    parser.epilog = examples_text("dir", "dir store", "dir --cache-key --python 3.12")
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(PLACES))
    parser.add_argument("--cache-key", action="store_true", help="print a key for a CI cache of the store")
    parser.add_argument(
        "--python",
        action="extend",
        nargs="+",
        default=[],
        metavar="REQUEST",
        help="Pythons in the key (default: the project's)",
    )

    def run(session: CommandContext, args: argparse.Namespace) -> CommandResult:
        if args.cache_key and args.name:
            hint = f"pytest-pyinstall dir --cache-key --python {shlex.join([args.name, *args.python])}"
            raise UsageError(f"dir: {args.name!r}: the Pythons of a cache key come after --python", hint=hint)
        if args.cache_key:
            return cache_key(session, args.python)
        if args.name not in {None, *PLACES}:
            message = f"dir: {args.name!r} is not one of {', '.join(PLACES)}"
            raise UsageError(message, hint=_meant(args.name))
        if args.python:
            hint = f"pytest-pyinstall dir --cache-key --python {shlex.join(args.python)}"
            raise UsageError("dir: --python goes with --cache-key", hint=hint)
        return places(session, args.name)

    parser.set_defaults(run=run)


def _meant(name: str) -> str:
    """The hint for an unknown name. If it is a request, `find` prints the path of that Python."""
    from pytest_pyinstall.request.request import parse_requests

    try:
        parse_requests([name], directory=Path(), origin="dir")
    except PyinstallError:
        return " ".join(["pytest-pyinstall dir", *closest_names([name], PLACES)[:1]])
    return f"pytest-pyinstall find {shlex.quote(name)}"


def cache_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "list: show archives and environments: size, last use, Python, project, and why\n"
        "each environment was made; -v adds the paths. prune: delete incomplete\n"
        "downloads, damaged archives, and environments that are unused or whose Python\n"
        "is gone. clear: delete everything. All of it can be downloaded or made again."
    )
    parser.epilog = examples_text("cache list", "cache prune")
    actions = {"list": cache_list, "prune": cache_prune, "clear": cache_clear}
    parser.add_argument("action", choices=actions, metavar="|".join(actions))
    parser.set_defaults(run=lambda session, args: actions[args.action](session))
