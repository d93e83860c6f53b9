"""``install``, ``find``, ``list``: Pythons into the store, and what is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pytest_pyinstall.cli.context import (
    REQUEST_HELP,
    Outcome,
    Session,
    build_json,
    by_key,
    difference_json,
    each_request,
    error_json,
    error_lines,
    examples_text,
    interpreter_json,
    key_json,
    name_of,
    table_lines,
    while_it_stands,
)
from pytest_pyinstall.errors import NoMatchError, PyinstallError
from pytest_pyinstall.progress import size_text
from pytest_pyinstall.provisioner import Provided, Provisioner
from pytest_pyinstall.store.manifest import Difference
from pytest_pyinstall.store.store import Broken, Installation, Store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_pyinstall.request.identity import Build, Key
    from pytest_pyinstall.request.request import Request

__all__ = [
    "MOST_SHOWN",
    "add_require_attestation",
    "find",
    "find_parser",
    "install",
    "install_parser",
    "list_parser",
    "list_pythons",
]


MOST_SHOWN = 10  # differences of one installation, without --verbose


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
    return _pythons(requests, list(each_request(partial(_found, session.provisioner), requests)))


def _found(provisioner: Provisioner, request: Request) -> Provided:
    """Where there is none here, the error says whether there is a build of it, as far as no connection is needed."""
    from pytest_pyinstall.request.resolve import resolve

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
        document["available"] = [build_json(build, provisioner) for build in available]
        rows += [_available_row(build, provisioner) for build in available]
    if not rows and not errors:
        session.display.say(f"nothing is installed in {provisioner.store.root}")
    return Outcome(lines=table_lines(rows), document=document, errors=errors)


def _pythons(requests: Sequence[Request], results: Sequence[Provided | PyinstallError]) -> Outcome:
    lines = [str(result.interpreter.executable) for result in results if isinstance(result, Provided)]
    rows = [_result_json(request, result) for request, result in zip(requests, results, strict=True)]
    return Outcome(lines=tuple(dict.fromkeys(lines)), document={"pythons": rows}, errors=error_lines(results))


def _result_json(request: Request, result: Provided | PyinstallError) -> dict[str, Any]:
    if isinstance(result, PyinstallError):
        return {"request": request.text, "error": error_json(result)}
    return {"request": request.text, "how": result.how, **interpreter_json(result.interpreter), "error": None}


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
        if (each := while_it_stands(store, key, lambda key: _look(store, key), lambda each: not each.differences))
    ]


def _look(store: Store, key: Key) -> _Installed | None:
    found = store.look(key)
    if found is None:
        return None
    if isinstance(found, Broken):
        return _Installed(found=found, differences=found.differences)
    is_there = (found.home / key.executable).exists()
    return _Installed(found=found, differences=() if is_there else (Difference(key.executable, "missing"),))


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
        "url": record.build.url if record else None,
        "sha256": record.build.sha256 if record else None,
        "published": record.published if record else None,
        "attestation": record.attestation.to_json() if record and record.attestation else None,
    }


def _available(provisioner: Provisioner, installed: set[Key]) -> list[Build]:
    """The newest build of each key for this target that is not installed, newest first."""
    builds: dict[Key, Build] = {}
    for build in sorted(provisioner.catalogue.builds, key=lambda build: build.tag):
        if build.key.target == provisioner.target and build.key not in installed:
            builds[build.key] = build
    return sorted(builds.values(), key=by_key, reverse=True)


def _available_row(build: Build, provisioner: Provisioner) -> tuple[str, str, str, str]:
    size = size_text(build.size) if build.size is not None else ""
    return name_of(build.key, provisioner), str(build.key), "available", size


def install_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Install into the store what it lacks, whatever else the machine has, and print\n"
        "the executables. Without a request: what PYTEST_PYINSTALL_PYTHON or the\n"
        "project's pytest configuration asks for."
    )
    parser.epilog = examples_text("install 3.12 pypy3.11", "install supported", "install --reinstall 3.13")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=REQUEST_HELP)
    parser.add_argument("--reinstall", action="store_true", help="also what is there, without a gap for who uses it")
    add_require_attestation(parser)
    parser.set_defaults(run=lambda session, args: install(session, args.requests, reinstall=args.reinstall))


def add_require_attestation(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--require-attestation",
        dest="pyinstall_attestation",
        action="store_const",
        const="require",
        help=f"{more}only what has a verified build attestation; as --python-attestation require",
    )


def list_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "What is installed, newest first: its name, its key, its state, its executable.\n"
        "States: store (ours), uv (put there by somebody else), broken (with what\n"
        "differs), available."
    )
    parser.epilog = examples_text("list", "list --all | grep 3.13", "list --json")
    parser.add_argument("--all", action="store_true", help="also every build of the catalogue for this machine")
    parser.set_defaults(run=lambda session, args: list_pythons(session, with_available=args.all))


def find_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the executable that answers a request, in the store or on the machine.\n"
        "No network; -v says what was passed by, and why."
    )
    parser.epilog = examples_text("find 3.12", "find -v 3.9", "find supported --json")
    parser.add_argument("requests", nargs="+", metavar="REQUEST", help=REQUEST_HELP)
    parser.set_defaults(run=lambda session, args: find(session, args.requests))
