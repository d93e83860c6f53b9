"""`remove` and `verify`: what happens to installations after they are published."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyinstall.cli.context import (
    REQUEST_HELP,
    CommandContext,
    CommandResult,
    check_stable_tree,
    difference_json,
    error_json,
    examples_text,
    fits,
    key_json,
    name_of,
)
from pytest_pyinstall.cli.install import MOST_SHOWN
from pytest_pyinstall.errors import (
    IntegrityError,
    InvalidRequestError,
    NoMatchError,
    ProbeError,
    PyinstallError,
    StoreError,
    UnreadableStoreError,
    UsageError,
)
from pytest_pyinstall.store.installation import BrokenInstallation
from pytest_pyinstall.store.manifest import Difference

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_pyinstall.provisioner import Provisioner
    from pytest_pyinstall.request.identity import Key
    from pytest_pyinstall.request.request import Request
    from pytest_pyinstall.store.manifest import Record

__all__ = ["remove", "remove_parser", "verify", "verify_parser"]


def remove(session: CommandContext, texts: Sequence[str], *, everything: bool) -> CommandResult:
    """Remove the installations that fit one of the requests. One that another program installed is removed only if the
    request is its key."""
    store = session.provisioner.store
    keys: list[Key] = []
    errors: list[PyinstallError] = []
    if everything:
        keys = [found.key for found in store.installations() if found.record is not None]
        if not keys:
            message = f"pytest-pyinstall has installed nothing in {store.root}"
            errors.append(NoMatchError(message, hint="pytest-pyinstall dir"))
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
            if type(error) is StoreError and isinstance(error.__cause__, PermissionError):
                # The hint of an installation is another directory, which has not what is to be removed.
                error = StoreError(error.message, hint=f"as its owner: chmod -R u+w {shlex.quote(str(store.root))}")
            errors.append(error)
    return CommandResult(
        lines=tuple(map(str, removed)),
        is_log=True,
        document={"removed": [str(key) for key in removed]},
        errors=tuple(errors),
    )


def verify(session: CommandContext, texts: Sequence[str], *, repair: bool) -> CommandResult:
    """Compare the content of each installation with what was published, run it once, and with `repair`, repair it.

    Added files are reported, but are not damage. An installation that is removed meanwhile is ignored.
    """
    if repair:
        session.provisioner.sweep()
    provisioner = session.provisioner
    errors: list[PyinstallError] = []
    keys = provisioner.store.keys()
    fitting: dict[Request, list[Key]] = {}
    if texts:
        requests = session.requests(texts)
        fitting = {request: [key for key in keys if fits(request, key, provisioner)] for request in requests}
        keys = list(dict.fromkeys(key for found in fitting.values() for key in found))
    elif not keys:
        session.display.say(f"nothing is installed in {provisioner.store.root}")
    with session.display.busy(f"verifying {len(keys)} installation{'' if len(keys) == 1 else 's'}"):
        checks = [check for key in keys if (check := _check(session, key, repair=repair)) is not None]
    there = {check.key for check in checks}
    errors += [_not_installed(session, request) for request, found in fitting.items() if there.isdisjoint(found)]
    errors += [check.error for check in checks if check.error is not None]
    return CommandResult(
        lines=tuple(line for check in checks for line in check.lines(is_verbose=session.is_verbose)),
        is_log=True,
        document={"installations": [check.to_json() for check in checks]},
        errors=tuple(errors),
    )


# remove, verify


def _not_installed(session: CommandContext, request: Request) -> NoMatchError:
    message = f"no Python {request.text} is installed in {session.provisioner.store.root}"
    return NoMatchError(message, hint="pytest-pyinstall list")


def _removable(session: CommandContext, request: Request) -> tuple[list[Key], PyinstallError | None]:
    provisioner = session.provisioner
    if request.path is not None:
        message = f"{request.text} is a path, but only installations of the store can be removed"
        return [], InvalidRequestError(message, hint="pytest-pyinstall list")
    keys = provisioner.store.keys()
    fitting = [key for key in keys if fits(request, key, provisioner)]
    found = (provisioner.store.look(key) for key in fitting)
    ours = [each.key for each in found if each and (each.record or str(each.key) == request.text)]
    if ours:
        return ours, None
    if fitting:
        message = f"{fitting[0]} was installed by another program, probably uv"
        return [], NoMatchError(message, hint=f"pytest-pyinstall remove {fitting[0]}")
    return [], _not_installed(session, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """The result of `verify` for one installation."""

    key: Key
    home: Path
    state: Literal["whole", "broken", "repaired"]
    is_ours: bool
    differences: tuple[Difference, ...] = ()
    error: PyinstallError | None = None

    def lines(self, *, is_verbose: bool) -> Iterator[str]:
        damage = [each for each in self.differences if each.what != "added"]
        added = [each for each in self.differences if each.what == "added"]
        note = "" if self.is_ours else " (installed by another program: only run, not compared)"
        yield f"{self.key}  {self.state}{note}"
        for title, found in (("", damage), ("added: ", added)):
            shown = found if is_verbose else found[:MOST_SHOWN]
            yield from (f"  {title}{each.name if title else each}" for each in shown)
            if len(shown) < len(found):
                yield f"  … and {len(found) - len(shown)} more{' added' if title else ''} (-v shows all)"

    def to_json(self) -> dict[str, Any]:
        return {
            **key_json(self.key),
            "home": str(self.home),
            "state": self.state,
            "source": "store" if self.is_ours else "uv",
            "differences": [difference_json(difference) for difference in self.differences],
            "error": self.error and error_json(self.error),
        }


def _check(session: CommandContext, key: Key, *, repair: bool) -> _Check | None:
    def checked(key: Key) -> _Check | None:
        return _checked(session, key, repair=repair)

    return check_stable_tree(session.provisioner.store, key, checked, lambda check: check.error is None)


def _checked(session: CommandContext, key: Key, *, repair: bool) -> _Check | None:  # noqa: PLR0911  # one for each outcome
    from pytest_pyinstall.interpreter.probe import probe

    provisioner = session.provisioner
    try:
        found = provisioner.store.look(key)
        differences = provisioner.store.verify(key)
    except UnreadableStoreError as refusal:
        return _Check(key=key, home=provisioner.store.home(key), state="broken", is_ours=True, error=refusal)
    if found is None or differences is None:
        return None
    names = {difference.name for difference in differences}
    if isinstance(found, BrokenInstallation):
        differences = (*(each for each in found.differences if each.name not in names), *differences)
    damage = tuple(difference for difference in differences if difference.what != "added")
    facts: dict[str, Any] = {
        "key": key,
        "home": found.home,
        "is_ours": found.record is not None,
        "differences": differences,
    }
    if damage and found.record is not None:
        broken = BrokenInstallation(key=key, home=found.home, record=found.record, differences=damage)
        if repair:
            return _repaired(provisioner, broken, facts)
        error = IntegrityError(str(broken), hint=f"pytest-pyinstall verify --repair {name_of(key, provisioner)}")
        return _Check(state="broken", error=error, **facts)
    try:
        probe(found.home / key.executable, environ=provisioner.environ, expected=key)
    except ProbeError as dead:
        if found.record is None:
            return _Check(state="broken", error=dead, **facts)
        # Its files are as published, so byte code or an added file prevents its start.
        reason = Difference(name=key.executable, what="changed", reason=f"does not start: {dead.message}")
        broken = BrokenInstallation(key=key, home=found.home, record=found.record, differences=(reason,))
        if repair:
            return _repaired(provisioner, broken, facts)
        hint = f"pytest-pyinstall verify --repair {name_of(key, provisioner)}"
        return _Check(state="broken", error=ProbeError(str(broken), hint=hint), **facts)
    if found.record is None:
        return _Check(state="whole", **facts)
    return _checked_byte_code(session, found.record, facts, repair=repair)


def _checked_byte_code(session: CommandContext, record: Record, facts: dict[str, Any], *, repair: bool) -> _Check:
    """With `repair`, delete damaged byte code. Running processes do not need it, and the next one writes it again."""
    from pytest_pyinstall.interpreter.byte_code import damaged_byte_code

    provisioner, key, home = session.provisioner, facts["key"], facts["home"]
    names = damaged_byte_code(home / key.executable, home, environ=provisioner.environ)
    if not names:
        return _Check(state="whole", **facts)
    damage = tuple(Difference(name=name, what="changed", reason="byte code that cannot be read") for name in names)
    facts = {**facts, "differences": (*damage, *facts["differences"])}
    if not repair:
        broken = BrokenInstallation(key=key, home=home, record=record, differences=damage)
        error = IntegrityError(str(broken), hint=f"pytest-pyinstall verify --repair {name_of(key, provisioner)}")
        return _Check(state="broken", error=error, **facts)
    try:
        for name in names:
            (home / name).unlink(missing_ok=True)
    except OSError as error:
        return _Check(state="broken", error=provisioner.store.access.unwritable(error), **facts)
    return _Check(state="repaired", **facts)


def _repaired(provisioner: Provisioner, broken: BrokenInstallation, facts: dict[str, Any]) -> _Check:
    try:
        provisioner.repair(broken)
    except PyinstallError as error:
        return _Check(state="broken", error=error, **facts)
    return _Check(state="repaired", **facts)


def remove_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Remove every installation that matches, and print its key. A Python that uv\n"
        "installed in a shared store is removed only if you give its full key. A Python\n"
        "that a test session or `exec` is using is not removed."
    )
    parser.epilog = examples_text("remove 3.9", "remove 3.12.4", "remove --all")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=REQUEST_HELP)
    parser.add_argument("--all", action="store_true", help="remove all installations of pytest-pyinstall")

    def run(session: CommandContext, args: argparse.Namespace) -> CommandResult:
        if bool(args.requests) == args.all:
            raise UsageError("remove: either requests or --all", hint="pytest-pyinstall list")
        if args.requests == ["all"]:  # elsewhere it is taken for a misspelled ``supported``
            raise UsageError("remove: 'all' is not a valid request", hint="pytest-pyinstall remove --all")
        return remove(session, args.requests, everything=args.all)

    parser.set_defaults(run=run)


def verify_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare every file of the installations with what was published, and run each\n"
        "Python once. Added files are reported and do not count as damage."
    )
    parser.epilog = examples_text("verify", "verify --repair 3.12", "verify -v --json")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{REQUEST_HELP} (default: all)")
    parser.add_argument("--repair", action="store_true", help="restore files that differ; added files stay")
    parser.set_defaults(run=lambda session, args: verify(session, args.requests, repair=args.repair))
