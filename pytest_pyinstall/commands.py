"""What each command of the command line does: takes requests, gives back what is to be printed.

Nothing here prints. An `Outcome` carries lines for a person or a pipe, a document for ``--json``, and the errors that
did not keep the rest from being done; `cli` chooses between them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pytest_pyinstall.directory import delete
from pytest_pyinstall.errors import (
    IntegrityError,
    InvalidRequestError,
    NoMatchError,
    OfflineError,
    ProbeError,
    PyinstallError,
    StoreError,
    UsageError,
)
from pytest_pyinstall.progress import Display, size_text
from pytest_pyinstall.provisioner import Provided, Provisioner
from pytest_pyinstall.request import Request, parse_requests
from pytest_pyinstall.retype import blamed, retyped
from pytest_pyinstall.store import Broken, Installation, Store
from pytest_pyinstall.tree import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_pyinstall.archive_cache import CachedFile
    from pytest_pyinstall.build import Build
    from pytest_pyinstall.configuration import Configuration
    from pytest_pyinstall.interpreter import Interpreter
    from pytest_pyinstall.key import Key
    from pytest_pyinstall.matrix import Format
    from pytest_pyinstall.volume import Place

__all__ = [
    "PLACES",
    "Outcome",
    "Session",
    "cache_clear",
    "cache_key",
    "cache_list",
    "cache_prune",
    "error_json",
    "find",
    "install",
    "list_pythons",
    "matrix",
    "mirror_pack",
    "mirror_pull",
    "places",
    "remove",
    "report",
    "run_command",
    "verify",
]

PLACES = ("store", "scratch", "cache", "archives", "environments")

T = TypeVar("T")

_OF_REQUESTS = {"install", "find", "remove", "verify", "matrix"}
_GOING = 0.05  # seconds after which a tree that is being removed is gone, or another than it was
_MOST_LOOKS = 100
_SHOWN = 10  # differences of one installation, without --verbose
_CACHE_KEY_FORM = 1  # to be counted up when the store's layout changes, so that CI caches start anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command came to. `errors` has what failed; the first decides the exit code."""

    lines: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[PyinstallError, ...] = ()

    @property
    def exit_code(self) -> int:
        return self.errors[0].exit_code if self.errors else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of the command line: the line, what the project configures, and who listens."""

    provisioner: Provisioner
    configuration: Configuration
    display: Display
    command: str
    is_verbose: bool = False

    def requests(self, texts: Sequence[str]) -> tuple[Request, ...]:
        """What `texts` ask for; without any, what is configured for the project.

        Raises `InvalidRequestError`, `NoMatchError`, and `UsageError` where nothing is configured.
        """
        asked, directory, origin = self._asked(texts)
        if not asked:
            message = f"{self.command}: no Python is named, and the project's pytest configuration asks for none"
            hint = f'pytest-pyinstall {self.command} 3.13, or pyinstall_python = ["3.9..3.13"] in [tool.pytest]'
            if self.command == "exec":
                hint = "pytest-pyinstall exec --python 3.13 -- COMMAND"
            raise UsageError(message, hint=hint)
        try:
            return self.provisioner.parse(parse_requests(asked, directory=directory, origin=origin))
        except (InvalidRequestError, NoMatchError) as error:
            raise retyped(error, asked, origin=origin) from error

    def blamed(self, texts: Sequence[str], result: Provided | PyinstallError) -> Provided | PyinstallError:
        """An error says who asked for what it is about, where that is not in `texts`, which one sees."""
        if texts or not isinstance(result, PyinstallError):
            return result
        return blamed(result, origin=self._asked(texts)[2])

    def _asked(self, texts: Sequence[str]) -> tuple[Sequence[object], Path, str]:
        """With the precedence of all settings, option, variable, ini value; with the directory, and who says so."""
        configuration, provisioner = self.configuration, self.provisioner
        variable = "PYTEST_PYINSTALL_PYTHON"
        if texts:
            return texts, provisioner.directory, self.command
        if configuration.option_requests:
            return configuration.option_requests, provisioner.directory, f"--python in addopts of {configuration.path}"
        if text := provisioner.environ.get(variable):
            return [text], provisioner.directory, variable
        return configuration.requests, configuration.directory, configuration.origin


def install(session: Session, texts: Sequence[str], *, reinstall: bool) -> Outcome:
    """Everything that was asked for stands in the store; one failure hides no other result. The lines are paths."""
    requests = session.requests(texts)
    if not texts:
        # Configured for pytest, where a path is fine: there is nothing to install about it.
        requests = tuple(request for request in requests if request.path is None)
    results = session.provisioner.install(requests, reinstall=reinstall)
    return _pythons(requests, [session.blamed(texts, result) for result in results])


def find(session: Session, texts: Sequence[str]) -> Outcome:
    """The executables that are here already. Nothing is written, and nothing opens a connection."""
    requests = session.requests(texts)
    return _pythons(requests, list(_each(partial(_found, session.provisioner), requests)))


def _found(provisioner: Provisioner, request: Request) -> Provided:
    """Where there is none here, the error says whether there is a build of it, as far as no connection is needed."""
    from pytest_pyinstall.resolve import resolve

    try:
        return provisioner.find(request)
    except NoMatchError as error:
        if urlsplit(provisioner.settings.catalogue or "").scheme in {"http", "https"}:
            raise
        try:
            resolve(request, provisioner.catalogue, provisioner.target)
        except NoMatchError as none:
            raise NoMatchError(f"{error.message}, and {none.message}", hint=none.hint) from error
        except PyinstallError:  # a catalogue that cannot be read is another question
            pass
        raise


def list_pythons(session: Session, *, with_available: bool) -> Outcome:
    """The store's installations, and with `with_available` the other builds of the catalogue for this target."""
    provisioner = session.provisioner
    installed = _installed(provisioner)
    rows = [_installed_row(each, provisioner) for each in installed]
    document: dict[str, Any] = {"installed": [_installed_json(each) for each in installed]}
    errors: tuple[PyinstallError, ...] = ()
    if with_available:
        try:
            available = _available(provisioner, {each.found.key for each in installed})
        except PyinstallError as error:
            available, errors = [], (error,)
        document["available"] = [_build_json(build, provisioner) for build in available]
        rows += [_available_row(build, provisioner) for build in available]
    if not rows and not errors:
        session.display.say(f"nothing is installed in {provisioner.store.root}")
    return Outcome(lines=_table(rows), document=document, errors=errors)


def places(session: Session, name: str | None) -> Outcome:
    """Each directory, which setting decided it, and its volume; with `name`, the path of that one alone."""
    from pytest_pyinstall.volume import place

    paths = _places(session)
    if name is not None:
        return Outcome(lines=(str(paths[name]),), document={"directories": {name: {"path": str(paths[name])}}})
    found = {each: place(path) for each, path in paths.items()}
    shared, note = _sharing(found)
    document = {
        "directories": {each: _place_json(found[each], _decided_by(session, each)) for each in PLACES},
        "one_volume": shared,
        "note": note,
    }
    lines = [line for each in PLACES for line in _place_lines(each, found[each], _decided_by(session, each))]
    return Outcome(lines=(*lines, note), document=document)


def cache_key(session: Session, texts: Sequence[str]) -> Outcome:
    """One line that changes exactly when other builds would be installed: for the cache of a CI service."""
    import hashlib

    from pytest_pyinstall.resolve import resolve

    provisioner = session.provisioner
    requests = session.requests(texts)
    wanted = [request for request in requests if request.path is None]
    builds = {resolve(request, provisioner.catalogue, provisioner.target) for request in wanted}
    lines = sorted(f"{build.key} {build.sha256}" for build in builds)
    digest = hashlib.sha256("\n".join([str(_CACHE_KEY_FORM), str(provisioner.target), *lines]).encode()).hexdigest()
    key = f"pyinstall-{provisioner.target}-{digest[:16]}"
    document = {"cache_key": key, "builds": [_build_json(build, provisioner) for build in sorted(builds, key=_by_key)]}
    return Outcome(lines=(key,), document=document)


def remove(session: Session, texts: Sequence[str], *, everything: bool) -> Outcome:
    """What fits one of the requests is gone. What somebody else put into the store stays, unless it is named by key."""
    store = session.provisioner.store
    keys: list[Key] = []
    errors: list[PyinstallError] = []
    if everything:
        keys = [found.key for found in store.installations() if found.record is not None]
        if not keys:
            errors.append(NoMatchError(f"nothing of ours is installed in {store.root}"))
    for request in session.requests(texts) if texts else ():
        found, error = _removable(session, request)
        keys += found
        errors += [error] if error else []
    removed = []
    for key in dict.fromkeys(keys):
        try:
            if store.remove(key):
                removed.append(key)
        except PyinstallError as error:
            errors.append(error)
    return Outcome(
        lines=tuple(map(str, removed)), document={"removed": [str(key) for key in removed]}, errors=tuple(errors)
    )


def verify(session: Session, texts: Sequence[str], *, repair: bool) -> Outcome:
    """Each installation compared with what was published, by content, and run once; with `repair`, put in order.

    What was added is named, and is no damage. What is removed meanwhile is as if it had never been there.
    """
    provisioner = session.provisioner
    errors: list[PyinstallError] = []
    keys = provisioner.store.keys()
    fitting: dict[Request, list[Key]] = {}
    if texts:
        requests = session.requests(texts)
        fitting = {request: [key for key in keys if _fits(request, key, provisioner)] for request in requests}
        keys = list(dict.fromkeys(key for found in fitting.values() for key in found))
    elif not keys:
        session.display.say(f"nothing is installed in {provisioner.store.root}")
    checks = [check for key in keys if (check := _check(session, key, repair=repair)) is not None]
    there = {check.key for check in checks}
    errors += [_not_installed(session, request) for request, found in fitting.items() if there.isdisjoint(found)]
    errors += [check.error for check in checks if check.error is not None]
    return Outcome(
        lines=tuple(line for check in checks for line in check.lines(is_verbose=session.is_verbose)),
        document={"installations": [check.to_json() for check in checks]},
        errors=tuple(errors),
    )


def cache_list(session: Session) -> Outcome:
    """The archives, least recently used first, what of them is kept unpacked, and the environments."""
    from pytest_pyinstall.archive_cache import cached_archives
    from pytest_pyinstall.environment_cache import environments
    from pytest_pyinstall.kept_tree import kept_trees

    archives = cached_archives(session.provisioner.settings.cache)
    found = [(path, _size(path)) for path in environments(session.provisioner.settings.cache)]
    trees = [(path, _size(path)) for path in kept_trees(session.provisioner.settings.cache)]
    rows = [(size_text(file.size), str(file.path)) for file in archives]
    rows += [(size_text(size), str(path)) for path, size in trees]
    rows += [(size_text(size), str(path)) for path, size in found]
    total = sum(file.size for file in archives) + sum(size for _, size in (*trees, *found))
    unpacked = f" ({len(trees)} unpacked)" if trees else ""
    counts = f"{_counted(len(archives), 'archive')}{unpacked} and {_counted(len(found), 'environment')}"
    session.display.say(f"{counts}, {size_text(total)}")
    document = {
        "archives": [_file_json(file) for file in archives],
        "trees": [{"path": str(path), "size": size} for path, size in trees],
        "environments": [{"path": str(path), "size": size} for path, size in found],
    }
    return Outcome(lines=_table(rows), document=document)


def cache_prune(session: Session) -> Outcome:
    """Gone: partial downloads that nobody is at, archives that fail their check, environments that nobody will miss.

    What is kept unpacked goes where its archive is gone.
    """
    from pytest_pyinstall.archive_cache import prune
    from pytest_pyinstall.environment_cache import unwanted
    from pytest_pyinstall.kept_tree import kept_trees, left_over_trees

    cache = session.provisioner.settings.cache
    removed = prune(cache)
    delete(cache / "answers")
    trees = [path for path in kept_trees(cache) if not (cache / "archives" / path.name).is_dir()]
    return _thrown_away(session, removed, [*left_over_trees(cache), *trees, *unwanted(cache)])


def cache_clear(session: Session) -> Outcome:
    """Gone: every archive, packed and unpacked, catalogue and environment that nobody is writing or using."""
    from pytest_pyinstall.archive_cache import clear
    from pytest_pyinstall.environment_cache import environments
    from pytest_pyinstall.kept_tree import kept_trees, left_over_trees

    cache = session.provisioner.settings.cache
    delete(cache / "answers")
    return _thrown_away(session, clear(cache), [*left_over_trees(cache), *kept_trees(cache), *environments(cache)])


def report(session: Session, directory: Path, *, page: Path | None) -> Outcome:
    """The junit files below `directory` as one table, and, with `page`, as a page there."""
    from pytest_pyinstall import suite_report

    matrix = suite_report.read_junit(directory)
    lines = suite_report.table(matrix.tallies)
    failed = {
        test: {label: cell.outcome for label, cell in cells.items()}
        for test, cells in matrix.rows.items()
        if any(cell.outcome in {"failed", "error"} for cell in cells.values())
    }
    for test, outcomes in failed.items():
        bad = [label for label, outcome in outcomes.items() if outcome in {"failed", "error"}]
        fine = [label for label in outcomes if label not in bad]
        lines.append(f"FAILED {test}[{','.join(bad)}]" + (f"; not on {', '.join(fine)}" if fine else ""))
    if page is not None:
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            text = suite_report.page(matrix, title=f"{directory.name} on {len(matrix.tallies)} Pythons")
            page.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"cannot write {page}: {error.strerror or error}") from error
        session.display.say(f"the matrix as a page: {page}")
    document = {
        "pythons": [
            {"name": tally.label, "counts": tally.counts, "seconds": round(tally.seconds, 3)}
            for tally in matrix.tallies
        ],
        "failed": failed,
    }
    errors = (PyinstallError(f"{len(failed)} of {len(matrix.rows)} tests failed"),) if failed else ()
    return Outcome(lines=tuple(lines), document=document, errors=errors)


def mirror_pack(session: Session, directory: Path, texts: Sequence[str], *, tag: str | None) -> Outcome:
    """An archive in the mirror `directory` for each interpreter: a path, or what a request finds on this machine."""
    from pytest_pyinstall import mirror

    provisioner = session.provisioner
    tag = tag or datetime.now(UTC).strftime("%Y%m%d")

    def packed(request: Request) -> list[mirror.Packed]:
        executable = provisioner.find(request).interpreter.executable
        return mirror.pack(directory, [executable], tag=tag, environ=provisioner.environ, progress=session.display.say)

    results = list(_each(packed, session.requests(texts)))
    done = [each for result in results if not isinstance(result, PyinstallError) for each in result]
    if session.is_verbose:
        for each in done:
            for title, names in (("left out", each.left_out), ("needs from the machine", each.needs)):
                session.display.say(f"{each.build.key}: {title}: {', '.join(names) or 'nothing'}")
    document = {"archives": [{"key": str(each.build.key), "path": str(each.path)} for each in done]}
    return Outcome(lines=tuple(str(each.path) for each in done), document=document, errors=_errors(results))


def mirror_pull(session: Session, directory: Path, texts: Sequence[str]) -> Outcome:
    """The archive of each request, and a catalogue of them, in the mirror `directory`; where attestations are required,
    only what has one, with its bundle."""
    from pytest_pyinstall import mirror
    from pytest_pyinstall.client import open_client
    from pytest_pyinstall.resolve import resolve

    provisioner, settings = session.provisioner, session.provisioner.settings
    if settings.downloads == "never":
        message = f"mirror pull downloads, and downloads are switched off ({settings.origins.get('downloads')})"
        raise OfflineError(message, hint="--python-downloads auto")
    requests = session.requests(texts)
    with open_client(
        environ=provisioner.environ, insecure_hosts=settings.insecure_hosts, warn=session.display.say
    ) as client:

        def pulled(request: Request) -> list[mirror.Pulled]:
            return mirror.pull(
                directory,
                [resolve(request, provisioner.catalogue, provisioner.target)],
                client=client,
                cache=settings.cache,
                mirror=settings.mirror,
                pypy_mirror=settings.pypy_mirror,
                signer=settings.signer if settings.attestation == "require" else None,
                offline=settings.offline,
                progress=session.display,
            )

        results = list(_each(pulled, requests))
    done = [each for result in results if not isinstance(result, PyinstallError) for each in result]
    document = {
        "archives": [
            {
                "key": str(each.build.key),
                "path": str(each.path),
                "was_there": each.was_there,
                "attestation": each.attestation.to_json() if each.attestation else None,
            }
            for each in done
        ]
    }
    return Outcome(lines=tuple(str(each.path) for each in done), document=document, errors=_errors(results))


def matrix(session: Session, texts: Sequence[str], *, form: Format) -> Outcome:
    """The rows of a CI matrix, for the requests or for ``supported``."""
    from pytest_pyinstall.matrix import free_threaded, matrix_rows, matrix_text

    provisioner = session.provisioner
    requests = session.requests(texts or ["supported"])
    if not texts or any("supported" in text.lower() for text in texts):
        requests += free_threaded(session.requests(["supported"]), project=provisioner.project)
    rows = matrix_rows(requests, catalogue=provisioner.catalogue, target=provisioner.target)
    text = matrix_text(rows, form)
    return Outcome(lines=(text,), document={"include": [row.to_json() for row in rows]})


def run_command(session: Session, texts: Sequence[str], command: Sequence[str]) -> tuple[int, Outcome]:
    """The exit code of `command`, which ran with the Pythons on its PATH; it does not run when one of them failed.

    Where the project says ``missing = skip``, it runs with those that could be had.
    """
    from pytest_pyinstall.execute import execute, on_path

    provisioner = session.provisioner
    requests = session.requests(texts)
    with session.display:  # afterwards the terminal is the command's
        results = [session.blamed(texts, provisioner.held(result)) for result in provisioner.provide(requests)]
        interpreters = [result.interpreter for result in results if isinstance(result, Provided)]
    errors = _errors(results)
    if errors and (provisioner.settings.missing == "fail" or not interpreters):
        return errors[0].exit_code, Outcome(errors=errors)
    for error in errors:
        session.display.say(f"left out: {error.message}")
    with on_path(interpreters, environ=provisioner.environ, cache=provisioner.settings.cache) as environ:
        code, trouble = execute(command, environ=environ)
    if trouble:
        # Not one of our exit codes: a shell's.
        return code, Outcome(errors=(UsageError(trouble),))
    return code, Outcome()


def error_json(error: PyinstallError) -> dict[str, Any]:
    """How every document carries an error, by the name of a class that users can look up."""
    return {
        "kind": next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == PyinstallError.__module__),
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


# Several results at once.


def _each(function: Callable[[Request], T], requests: Iterable[Request]) -> Iterator[T | PyinstallError]:
    for request in requests:
        try:
            yield function(request)
        except PyinstallError as error:
            yield error


def _errors(results: Iterable[object]) -> tuple[PyinstallError, ...]:
    return tuple(result for result in results if isinstance(result, PyinstallError))


def _pythons(requests: Sequence[Request], results: Sequence[Provided | PyinstallError]) -> Outcome:
    lines = [str(result.interpreter.executable) for result in results if isinstance(result, Provided)]
    rows = [_result_json(request, result) for request, result in zip(requests, results, strict=True)]
    return Outcome(lines=tuple(dict.fromkeys(lines)), document={"pythons": rows}, errors=_errors(results))


def _result_json(request: Request, result: Provided | PyinstallError) -> dict[str, Any]:
    if isinstance(result, PyinstallError):
        return {"request": request.text, "error": error_json(result)}
    return {"request": request.text, "how": result.how, **_interpreter_json(result.interpreter), "error": None}


def _interpreter_json(interpreter: Interpreter) -> dict[str, Any]:
    return {
        **_key_json(interpreter.key),
        "executable": str(interpreter.executable),
        "prefix": str(interpreter.prefix),
        "source": interpreter.source,
    }


def _key_json(key: Key) -> dict[str, Any]:
    return {
        "key": str(key),
        "version": str(key.version),
        "implementation": key.implementation,
        "variant": key.variant,
        "target": str(key.target),
    }


def _table(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return tuple(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) for row in rows
    )


# list


@dataclass(frozen=True, slots=True, kw_only=True)
class _Installed:
    """What `list` tells of one installation, all of it found in one look."""

    found: Installation | Broken
    differences: tuple[Difference, ...]

    @property
    def state(self) -> Literal["store", "uv", "broken"]:
        if self.differences:
            return "broken"
        return "store" if self.found.record is not None else "uv"


def _installed(provisioner: Provisioner) -> list[_Installed]:
    store = provisioner.store
    return [
        each
        for key in store.keys()  # noqa: SIM118  # no dict
        if (each := _while_it_stands(store, key, lambda key: _look(store, key), lambda each: not each.differences))
    ]


def _look(store: Store, key: Key) -> _Installed | None:
    found = store.look(key)
    if found is None:
        return None
    if isinstance(found, Broken):
        return _Installed(found=found, differences=found.differences)
    is_there = (found.home / key.executable).exists()
    return _Installed(found=found, differences=() if is_there else (Difference(key.executable, "missing"),))


def _while_it_stands(store: Store, key: Key, look: Callable[[Key], T | None], is_fine: Callable[[T], bool]) -> T | None:
    """What `look` finds of the tree of `key`; None where it is gone.

    What is not fine is told only of a tree that stays: one that is removed or replaced meanwhile is looked at again.
    """
    result = None
    for _ in range(_MOST_LOOKS):
        before = store.standing(key)
        result = look(key)
        if result is None or is_fine(result):
            break
        time.sleep(_GOING)
        after = store.standing(key)
        if after is None:
            return None
        if after == before:
            break
    return result


def _installed_row(each: _Installed, provisioner: Provisioner) -> tuple[str, str, str, str]:
    found = each.found
    path = str(found.home / found.key.executable)
    if reasons := each.differences:
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        path = f"{found.home} ({reasons[0]}{more})"
    return _name(found.key, provisioner), str(found.key), each.state, path


def _installed_json(each: _Installed) -> dict[str, Any]:
    found, record = each.found, each.found.record
    return {
        **_key_json(found.key),
        "home": str(found.home),
        "executable": str(found.home / found.key.executable),
        "state": "broken" if each.state == "broken" else "whole",
        "source": "uv" if record is None else "store",
        "differences": [_difference_json(difference) for difference in each.differences],
        "url": record.build.url if record else None,
        "sha256": record.build.sha256 if record else None,
        "published": record.published if record else None,
        "attestation": record.attestation.to_json() if record and record.attestation else None,
    }


def _difference_json(difference: Difference) -> dict[str, str]:
    return {"name": difference.name, "what": difference.what, "reason": difference.reason}


def _name(key: Key, provisioner: Provisioner) -> str:
    """What to write to get exactly this one."""
    return key.short if key.target == provisioner.target and key.variant != "gil" else str(key)


def _available(provisioner: Provisioner, installed: set[Key]) -> list[Build]:
    """The newest build of each key for this target that is not installed, newest first."""
    builds: dict[Key, Build] = {}
    for build in sorted(provisioner.catalogue.builds, key=lambda build: build.tag):
        if build.key.target == provisioner.target and build.key not in installed:
            builds[build.key] = build
    return sorted(builds.values(), key=_by_key, reverse=True)


def _by_key(build: Build) -> Key:
    return build.key


def _available_row(build: Build, provisioner: Provisioner) -> tuple[str, str, str, str]:
    size = size_text(build.size) if build.size is not None else ""
    return _name(build.key, provisioner), str(build.key), "available", size


def _build_json(build: Build, provisioner: Provisioner) -> dict[str, Any]:
    request = _name(build.key, provisioner)
    return {"request": request, **_key_json(build.key), "url": build.url, "sha256": build.sha256, "size": build.size}


# dir


def _places(session: Session) -> dict[str, Path]:
    settings, store = session.provisioner.settings, session.provisioner.store
    return {
        "store": settings.store,
        "scratch": store.private / "scratch",
        "cache": settings.cache,
        "archives": settings.cache / "archives",
        "environments": settings.cache / "environments",
    }


def _decided_by(session: Session, name: str) -> str:
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
    exists = "exists" if found.exists else "not there yet"
    writable = "writable" if found.is_writable else "not writable"
    volume = f"{found.volume}, {size_text(found.volume.free)} free" if found.volume else "volume unknown"
    yield f"{'':<14}{decided_by}; {exists}; {writable}; {volume}"


def _sharing(found: Mapping[str, Place]) -> tuple[bool, str]:
    """Whether all lie on one volume, and what follows where they do not."""
    device = {name: each.volume and each.volume.device for name, each in found.items()}
    if len(set(device.values())) == 1:
        return True, "store, scratch and cache share one volume"
    if device["store"] != device["scratch"]:
        return False, "scratch is on another volume than the store: nothing can be renamed into place there"
    others = " and ".join(name for name in ("cache", "archives", "environments") if device[name] != device["store"])
    note = (
        f"{others} on another volume than the store: files are copied where they could be linked; nothing else changes"
    )
    return False, note


# remove, verify


def _fits(request: Request, key: Key, provisioner: Provisioner) -> bool:
    return request.fits(key, target=provisioner.target, allow_prereleases=True)


def _not_installed(session: Session, request: Request) -> NoMatchError:
    message = f"no Python {request.text} is installed in {session.provisioner.store.root}"
    return NoMatchError(message, hint="pytest-pyinstall list")


def _removable(session: Session, request: Request) -> tuple[list[Key], PyinstallError | None]:
    provisioner = session.provisioner
    if request.path is not None:
        message = f"{request.text} is a path, and only what is in the store can be removed"
        return [], InvalidRequestError(message, hint="pytest-pyinstall list")
    keys = provisioner.store.keys()
    fitting = [key for key in keys if _fits(request, key, provisioner)]
    found = (provisioner.store.look(key) for key in fitting)
    ours = [each.key for each in found if each and (each.record or str(each.key) == request.text)]
    if ours:
        return ours, None
    if fitting:
        message = f"{fitting[0]} was put into the store by somebody else, most likely uv"
        return [], NoMatchError(message, hint=f"pytest-pyinstall remove {fitting[0]}")
    return [], _not_installed(session, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """What `verify` found out about one installation."""

    key: Key
    home: Path
    state: Literal["whole", "damaged", "repaired", "unusable"]
    is_ours: bool
    differences: tuple[Difference, ...] = ()
    error: PyinstallError | None = None

    def lines(self, *, is_verbose: bool) -> Iterator[str]:
        damage = [each for each in self.differences if each.what != "added"]
        added = [each for each in self.differences if each.what == "added"]
        note = "" if self.is_ours else " (not ours: only run, not compared)"
        yield f"{self.key}  {self.state}{note}"
        for title, found in (("", damage), ("added: ", added)):
            shown = found if is_verbose else found[:_SHOWN]
            yield from (f"  {title}{each.name if title else each}" for each in shown)
            if len(shown) < len(found):
                yield f"  … and {len(found) - len(shown)} more{' added' if title else ''} (-v shows all)"

    def to_json(self) -> dict[str, Any]:
        return {
            **_key_json(self.key),
            "home": str(self.home),
            "state": self.state,
            "source": "store" if self.is_ours else "uv",
            "differences": [_difference_json(difference) for difference in self.differences],
            "error": self.error and error_json(self.error),
        }


def _check(session: Session, key: Key, *, repair: bool) -> _Check | None:
    def checked(key: Key) -> _Check | None:
        return _checked(session, key, repair=repair)

    return _while_it_stands(session.provisioner.store, key, checked, lambda check: check.error is None)


def _checked(session: Session, key: Key, *, repair: bool) -> _Check | None:
    from pytest_pyinstall.probe import probe

    provisioner = session.provisioner
    found = provisioner.store.look(key)
    differences = provisioner.store.verify(key)
    if found is None or differences is None:
        return None
    names = {difference.name for difference in differences}
    if isinstance(found, Broken):
        differences = (*(each for each in found.differences if each.name not in names), *differences)
    damage = tuple(difference for difference in differences if difference.what != "added")
    facts: dict[str, Any] = {
        "key": key,
        "home": found.home,
        "is_ours": found.record is not None,
        "differences": differences,
    }
    if damage and found.record is not None:
        if not repair:
            more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
            message = f"{key} is damaged: {damage[0]}{more}"
            error = IntegrityError(message, hint=f"pytest-pyinstall verify --repair {_name(key, provisioner)}")
            return _Check(state="damaged", error=error, **facts)
        try:
            provisioner.repair(Broken(key=key, home=found.home, record=found.record, differences=damage))
        except PyinstallError as error:
            return _Check(state="damaged", error=error, **facts)
        return _Check(state="repaired", **facts)
    try:
        probe(found.home / key.executable, environ=provisioner.environ, expected=key)
    except ProbeError as error:
        return _Check(state="unusable", error=error, **facts)
    return _Check(state="whole", **facts)


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


def _thrown_away(session: Session, archives: Sequence[CachedFile], directories: Sequence[Path]) -> Outcome:
    from pytest_pyinstall.environment_cache import throw_away

    freed = sum(file.size for file in archives)
    errors: list[PyinstallError] = []
    gone = [file.path for file in archives]
    for path in directories:
        size = _size(path)
        try:
            aside = throw_away(path)
        except FileNotFoundError:
            continue  # somebody was faster
        except OSError as error:
            errors.append(StoreError(f"cannot remove {path}: {error.strerror or error}"))
            continue
        if aside is None:
            session.display.say(f"{path} stays: somebody is at it")
            continue
        delete(aside)
        freed += size
        gone.append(path)
    session.display.say(f"{len(gone)} removed, {size_text(freed)} freed")
    document = {"removed": [str(path) for path in gone], "freed": freed}
    return Outcome(lines=tuple(map(str, gone)), document=document, errors=tuple(errors))


def _file_json(file: CachedFile) -> dict[str, Any]:
    used = datetime.fromtimestamp(file.used, UTC).isoformat(timespec="seconds")
    return {"path": str(file.path), "sha256": file.sha256, "size": file.size, "used": used}
