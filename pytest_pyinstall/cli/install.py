"""`install`, `upgrade`, `find` and `list`: install Pythons into the store, and show them."""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyinstall.cli.context import (
    REQUEST_HELP,
    CommandContext,
    CommandResult,
    build_json,
    by_key,
    check_stable_tree,
    difference_json,
    each_request,
    error_json,
    examples_text,
    fits,
    interpreter_json,
    key_json,
    name_of,
    table_lines,
)
from pytest_pyinstall.errors import (
    InUseError,
    NoMatchError,
    OfflineError,
    PyinstallError,
    UnreadableStoreError,
    UsageError,
)
from pytest_pyinstall.progress import size_text
from pytest_pyinstall.provisioner import Provisioner, ProvisionResult
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import Difference
from pytest_pyinstall.system.urls import without_secrets
from pytest_pyinstall.system.values import Value, replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.request.identity import Build, Key
    from pytest_pyinstall.store.store import Store

__all__ = [
    "MOST_SHOWN",
    "add_require_attestation",
    "find",
    "find_parser",
    "found",
    "install",
    "install_parser",
    "list_parser",
    "list_pythons",
    "upgrade",
    "upgrade_parser",
]


MOST_SHOWN = 10  # differences of one installation, without --verbose


def install(session: CommandContext, texts: Sequence[str], *, reinstall: bool) -> CommandResult:
    """Install the requests into the store. A failure does not stop the others. The lines are the executables."""
    requests = session.requests(texts)
    if not texts:
        # The requests are configured for pytest, so they can be paths. A path needs no installation.
        requests = tuple(request for request in requests if request.path is None)
    results = session.provisioner.install(requests, reinstall=reinstall)
    return _pythons(session, requests, [session.add_origin(texts, result) for result in results])


def find(session: CommandContext, texts: Sequence[str]) -> CommandResult:
    """Find the executables that exist already. Writes nothing, and opens no connection."""
    requests = session.requests(texts)
    return _pythons(session, requests, list(each_request(partial(found, session.provisioner), requests)))


def found(provisioner: Provisioner, request: Request) -> ProvisionResult:
    """Find one. If it is not installed, the error says if there is no build of it, by a catalogue on this machine."""
    try:
        return provisioner.find(request)
    except NoMatchError as error:
        try:
            provisioner.cached_catalogues.resolve(request)
        except NoMatchError as none:
            if isinstance(none.__cause__, OfflineError):  # uv's document, which is not in the cache, can have a build
                raise error from None
            raise NoMatchError(f"{error.message}, and {none.message}", hint=none.hint) from error
        except PyinstallError:  # a catalogue that cannot be read does not matter for `find`
            pass
        raise


def list_pythons(session: CommandContext, texts: Sequence[str], *, with_available: bool) -> CommandResult:
    """List the Pythons of the store and of the machine, and with `with_available` the builds for this target (glibc or
    musl, architecture) that can be installed.

    With `texts`, only those that fit one of these requests.
    """
    provisioner = session.provisioner
    requests = session.requests(texts) if texts else ()
    for request in requests:
        if request.path is not None:
            message = f"list: {request.text} is a path; find shows whether it is a Python that works"
            raise UsageError(message, hint=f"pytest-pyinstall find {shlex.quote(request.text)}")

    def is_wanted(key: Key) -> bool:
        return not requests or any(fits(request, key, provisioner) for request in requests)

    installed = [each for each in _installed(provisioner) if is_wanted(each.found.key)]
    broken: dict[Path, str] = {}
    machine = provisioner.machine(requests, on_broken=lambda path, error: broken.update({path: error.message}))
    rows = [_installed_row(each, provisioner) for each in installed]
    rows += [_machine_row(each, provisioner) for each in machine]
    rows += [
        ("-", "-", "broken", f"{path} ({reason.removeprefix(f'{path} ').removeprefix('is broken: ')})")
        for path, reason in broken.items()
    ]
    document: dict[str, Any] = {
        "installed": [_installed_json(each) for each in installed],
        "machine": [interpreter_json(each) for each in machine],
    }
    errors: tuple[PyinstallError, ...] = ()
    if with_available:
        try:
            here = {each.found.key for each in installed}
            available = [build for build in _available(session, here) if is_wanted(build.key)]
        except PyinstallError as error:
            available, errors = [], (error,)
        document["available"] = [build_json(build, provisioner) for build in available]
        rows += [_available_row(build, provisioner) for build in available]
    if not rows and not errors:
        wanted = f" that fits {', '.join(request.text for request in requests)}" if requests else ""
        nor = ", and none is in the catalogue" if with_available else ""
        session.display.say(f"no Python{wanted} is installed in {provisioner.store.root} or on this machine{nor}")
    short = table_lines([_shortened(row, provisioner) for row in rows])
    return CommandResult(lines=table_lines(rows), short_lines=short, document=document, errors=errors)


def _shortened(row: tuple[str, str, str, str], provisioner: Provisioner) -> tuple[str, str, str]:
    """A row of `list` for a narrow terminal: without the key, which is the directory in the store, and with the path
    relative to the store or the home directory. ``list | cat`` and ``find`` print the whole path."""
    name, _, state, path = row
    home = provisioner.environ.get("HOME", "")
    for directory, short in ((str(provisioner.store.root), "…"), (home.rstrip("/"), "~")):
        if directory and path.startswith(f"{directory}/"):
            return name, state, short + path.removeprefix(directory)
    return name, state, path


def upgrade(session: CommandContext, texts: Sequence[str], *, keep: bool) -> CommandResult:
    """Install the newest patch of each minor version that is installed, or that is in `texts`.

    Then remove our older patches of it, except those in use. With `keep`, none are removed.
    """
    provisioner = session.provisioner
    ours = [found.key for found in provisioner.store.installations() if found.record is not None]
    wanted = _to_upgrade(session, texts, ours)
    results = provisioner.install([_newest(request, ours, provisioner) for request in wanted])
    outcome = _pythons(session, wanted, results)
    newest = [result.interpreter.key for result in results if isinstance(result, ProvisionResult)]
    removed, errors = ([], []) if keep else _remove_older(session, ours, newest)
    document = {**outcome.document, "removed": [str(key) for key in removed]}
    return replace(outcome, document=document, errors=(*outcome.errors, *errors))


def _to_upgrade(session: CommandContext, texts: Sequence[str], ours: Sequence[Key]) -> list[Request]:
    """A request for each minor version, with implementation, variant and target."""
    provisioner = session.provisioner
    if not texts:
        if not ours:
            message = f"upgrade: pytest-pyinstall has installed nothing in {provisioner.store.root}"
            raise NoMatchError(message, hint="pytest-pyinstall install 3.13")
        return [Request.parse(minor) for minor in dict.fromkeys(key.minor_link for key in ours)]
    wanted: dict[str, Request] = {}
    for request in session.requests(texts):
        if request.path is not None or _names_a_patch(request):
            what = "a path" if request.path is not None else "one patch release"
            minor = ".".join(re.findall(r"\d+", request.versions)[:2]) or "3.13"
            message = f"upgrade: {request.text} is {what}, but only a minor version can be upgraded"
            raise UsageError(message, hint=f"pytest-pyinstall upgrade {minor}")
        minors = [key.minor_link for key in ours if fits(request, key, provisioner)]
        wanted |= {minor: Request.parse(minor) for minor in minors} or {request.text: request}
    return list(wanted.values())


def _remove_older(
    session: CommandContext, ours: Sequence[Key], newest: Sequence[Key]
) -> tuple[list[Key], list[PyinstallError]]:
    removed: list[Key] = []
    errors: list[PyinstallError] = []
    for key in ours:
        if not any(key.minor_link == other.minor_link and key < other for other in newest):
            continue
        try:
            if session.provisioner.store.remove(key):
                removed.append(key)
                session.display.say(f"- {key} removed")
        except InUseError as error:
            session.display.say(error.message)
        except PyinstallError as error:
            errors.append(error)
    return removed, errors


def _names_a_patch(request: Request) -> bool:
    return any(
        clause.operator in {"==", "==="} and not clause.version.endswith(".*") and clause.version.count(".") > 1
        for clause in request.specifier
    )


def _newest(request: Request, ours: Sequence[Key], provisioner: Provisioner) -> Request:
    """A request for the exact Python to install: the newest in the catalogue, or the installed one if it is newer."""
    here = max((key for key in ours if fits(request, key, provisioner)), default=None)
    try:
        best = provisioner.catalogues.resolve(request).key
    except NoMatchError:
        if here is None:
            return request  # `install` reports why there is none
        best = here
    return Request.parse(str(best if here is None or here < best else here))


def _pythons(
    session: CommandContext, requests: Sequence[Request], results: Sequence[ProvisionResult | PyinstallError]
) -> CommandResult:
    lines = [str(result.interpreter.executable) for result in results if isinstance(result, ProvisionResult)]
    rows = [_result_json(request, result) for request, result in zip(requests, results, strict=True)]
    return CommandResult(
        lines=tuple(dict.fromkeys(lines)), document={"pythons": rows}, errors=session.errors_of(results)
    )


def _result_json(request: Request, result: ProvisionResult | PyinstallError) -> dict[str, Any]:
    if isinstance(result, PyinstallError):
        return {"request": request.text, "error": error_json(result)}
    return {"request": request.text, "how": result.how, **interpreter_json(result.interpreter), "error": None}


# list


class _Installed(Value):
    """What `list` shows of one installation."""

    found: Installation | BrokenInstallation
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
        if (each := check_stable_tree(store, key, lambda key: _look(store, key), lambda each: not each.differences))
    ]


def _look(store: Store, key: Key) -> _Installed | None:
    try:
        found = store.look(key)
    except UnreadableStoreError as error:
        foreign = Installation(key=key, home=store.home(key), record=None)
        return _Installed(found=foreign, differences=(Difference(name=".", what="changed", reason=error.message),))
    if found is None:
        return None
    if isinstance(found, BrokenInstallation):
        return _Installed(found=found, differences=found.differences)
    is_there = (found.home / key.executable).exists()
    return _Installed(found=found, differences=() if is_there else (Difference(name=key.executable, what="missing"),))


def _installed_row(each: _Installed, provisioner: Provisioner) -> tuple[str, str, str, str]:
    found = each.found
    path = str(found.home / found.key.executable)
    if reasons := each.differences:
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        path = f"{found.home} ({reasons[0]}{more})"
    return name_of(found.key, provisioner), str(found.key), each.state, path


def _installed_json(each: _Installed) -> dict[str, Any]:
    found, record = each.found, each.found.record
    return {
        **key_json(found.key),
        "home": str(found.home),
        "executable": str(found.home / found.key.executable),
        "state": "broken" if each.state == "broken" else "whole",
        "source": "uv" if record is None else "store",
        "differences": [difference_json(difference) for difference in each.differences],
        "url": without_secrets(record.build.url) if record else None,
        "sha256": record.build.sha256 if record else None,
        "published": record.published if record else None,
        "attestation": record.attestation.to_json() if record and record.attestation else None,
    }


def _machine_row(each: Interpreter, provisioner: Provisioner) -> tuple[str, str, str, str]:
    return name_of(each.key, provisioner), str(each.key), each.source, str(each.executable)


def _available(session: CommandContext, installed: set[Key]) -> list[Build]:
    """The newest build of each key that is not installed, newest first: only for this system, architecture and libc."""
    provisioner = session.provisioner
    known = list(provisioner.catalogues.configured.builds)
    if provisioner.settings.catalogue is None:
        try:
            known = [*provisioner.catalogues.uv.builds, *known]
        except PyinstallError as error:
            session.display.say(f"without pre-releases, debug and musl builds, and GraalPy: {error}")
    builds: dict[Key, Build] = {}
    for build in sorted(known, key=lambda build: build.tag):
        if build.key.target == provisioner.target and build.key not in installed:
            builds[build.key] = build
    return sorted(builds.values(), key=by_key, reverse=True)


def _available_row(build: Build, provisioner: Provisioner) -> tuple[str, str, str, str]:
    size = size_text(build.size) if build.size is not None else ""
    return name_of(build.key, provisioner), str(build.key), "available", size


def install_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Install Pythons into the store, even if the machine has them elsewhere, and\n"
        "print their executables. Default: PYTEST_PYINSTALL_PYTHON, or the Pythons in\n"
        "the project's pytest configuration."
    )
    parser.epilog = examples_text("install 3.12 pypy3.11", "install supported", "install --reinstall 3.13")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=REQUEST_HELP)
    parser.add_argument(
        "--reinstall", action="store_true", help="reinstall even if present; running sessions are not disturbed"
    )
    add_require_attestation(parser)
    parser.set_defaults(run=lambda session, args: install(session, args.requests, reinstall=args.reinstall))


def add_require_attestation(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--require-attestation",
        dest="pyinstall_attestation",
        action="store_const",
        const="require",
        help=f"{more}accept only builds with a verified attestation (--python-attestation require)",
    )


def list_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "List the Pythons of the store and of the machine, newest first: name, key,\n"
        "state, executable. With requests, only those that match. States: store (ours),\n"
        "broken (with the differences), available, or the place where it was found (uv,\n"
        "pyenv, path, ...)."
    )
    parser.epilog = examples_text("list", "list 3.12 pypy", "list --all '>=3.14'", "list --json")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{REQUEST_HELP} (default: all)")
    parser.add_argument("--all", action="store_true", help="also the builds in the catalogue for this machine")
    parser.set_defaults(run=lambda session, args: list_pythons(session, args.requests, with_available=args.all))


def upgrade_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Install the newest patch release of each installed (or named) minor version,\n"
        "and remove the older ones that are not in use. Pythons that uv installed in a\n"
        "shared store do not change."
    )
    parser.epilog = examples_text("upgrade", "upgrade 3.12 3.13t", "upgrade --keep")
    parser.add_argument(
        "requests", nargs="*", metavar="REQUEST", help="3.12, 3.13t, pypy3.11, supported, … (default: all)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the older patch releases")
    parser.set_defaults(run=lambda session, args: upgrade(session, args.requests, keep=args.keep))


def find_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the executable for a request, from the store or the machine. Uses no\n"
        "network. -v shows the candidates and why they were rejected."
    )
    parser.epilog = examples_text("find 3.12", "find -v 3.9", "find supported --json")
    parser.add_argument("requests", nargs="+", metavar="REQUEST", help=REQUEST_HELP)
    parser.set_defaults(run=lambda session, args: find(session, args.requests))
