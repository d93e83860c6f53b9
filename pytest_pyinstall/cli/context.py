"""The arguments and the result of every command: `CommandContext` and `CommandResult`.

Nothing here prints. A `CommandResult` has lines for the terminal or a pipe, a document for ``--json``, and the errors
of single requests, which do not stop the others. `main` prints one or the other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_pyinstall.errors import InvalidRequestError, NoMatchError, PyinstallError, UsageError
from pytest_pyinstall.system.urls import without_secrets
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_pyinstall.configuration import Configuration
    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.progress import Display
    from pytest_pyinstall.provisioner import Provisioner, ProvisionResult
    from pytest_pyinstall.request.identity import Build, Key
    from pytest_pyinstall.request.request import Request
    from pytest_pyinstall.store.manifest import Difference
    from pytest_pyinstall.store.store import Store

__all__ = [
    "REQUEST_HELP",
    "CommandContext",
    "CommandResult",
    "build_json",
    "by_key",
    "check_stable_tree",
    "difference_json",
    "each_request",
    "error_json",
    "error_lines",
    "examples_text",
    "fits",
    "interpreter_json",
    "key_json",
    "name_of",
    "table_lines",
]


T = TypeVar("T")


_REMOVAL = 0.05  # seconds in which a tree that is being removed disappears or is replaced


_MOST_LOOKS = 100


class CommandResult(Value):
    """The result of a command. The first of `errors` decides the exit code. `code` overrides it, with the exit code of
    the command that ``exec`` ran. A terminal that is too narrow for `lines` shows `short_lines`, if there are any. If
    `is_log`, the lines only say what was done or that all is well, and ``--quiet`` hides them."""

    lines: tuple[str, ...] = ()
    is_log: bool = False
    short_lines: tuple[str, ...] = ()
    document: Mapping[str, Any] = {}  # never changed
    errors: tuple[PyinstallError, ...] = ()
    code: int | None = None

    @property
    def exit_code(self) -> int:
        return self.errors[0].exit_code if self.errors else 0


class CommandContext(Value):
    """One call of the command line: its provisioner, what the project configures, and the display."""

    provisioner: Provisioner
    configuration: Configuration
    display: Display
    command: str
    is_verbose: bool = False

    def requests(self, texts: Sequence[str]) -> tuple[Request, ...]:
        """The requests in `texts`, or if it is empty, those in the project's configuration.

        Raises `InvalidRequestError`, `NoMatchError`, and `UsageError` if nothing is configured.
        """
        from pytest_pyinstall.configuration import corrected_at_origin
        from pytest_pyinstall.request.request import parse_requests

        words, directory, origin = self._requested(texts)
        if not words:
            raise self._no_request()
        try:
            parsed = parse_requests(words, directory=directory, origin=origin)
            requests = self.provisioner.parse(parsed)
        except (InvalidRequestError, NoMatchError) as error:
            raise corrected_at_origin(error, words, origin=origin) from error
        for note in self.provisioner.notes_on_supported(parsed, {request.text for request in requests}):
            self.display.say(note)
        return requests

    def errors_of(self, results: Sequence[ProvisionResult | PyinstallError]) -> tuple[PyinstallError, ...]:
        """The errors in `results`. With ``--python-missing skip``, they are only messages if there is a Python too."""
        errors = error_lines(results)
        if self.provisioner.settings.missing == "fail" or len(errors) == len(results):
            return errors
        for error in errors:
            self.display.say(f"left out: {error.message}")
        return ()

    def _no_request(self) -> UsageError:
        from pytest_pyinstall.configuration import (
            reason_without_requests,
            unread_configuration,
            unused_requests,
            written,
        )

        configuration, provisioner = self.configuration, self.provisioner
        unread = unread_configuration(configuration.path, provisioner.directory)
        why = reason_without_requests(configuration.path, unread)
        message = f"no request given{f'; {why}' if why else ', and no file here or above configures pytest'}"
        texts = unused_requests(configuration.ini, provisioner.environ, unread) or ["3.13"]
        return UsageError(f"{self.command}: {message}", hint=written(texts, self.command))

    def add_origin(
        self, texts: Sequence[str], result: ProvisionResult | PyinstallError
    ) -> ProvisionResult | PyinstallError:
        """`result`, or if it is an error about a configured request, the error with the place of that request."""
        if texts or not isinstance(result, PyinstallError):
            return result
        from pytest_pyinstall.configuration import with_origin

        return with_origin(result, origin=self._requested(texts)[2])

    def _requested(self, texts: Sequence[str]) -> tuple[Sequence[object], Path, str]:
        """The requests with the directory of their paths and their origin: from option, variable or ini value."""
        configuration, provisioner = self.configuration, self.provisioner
        variable = "PYTEST_PYINSTALL_PYTHON"
        if texts:
            return texts, provisioner.directory, self.command
        if configuration.option_requests:
            return configuration.option_requests, provisioner.directory, f"--python in addopts of {configuration.path}"
        if text := provisioner.environ.get(variable):
            return [text], provisioner.directory, variable
        return configuration.requests, configuration.directory, configuration.origin


def error_json(error: PyinstallError) -> dict[str, Any]:
    """An error in a JSON document. `kind` is the name of a public class."""
    return {
        "kind": next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == PyinstallError.__module__),
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


# Several results at once.


def each_request(function: Callable[[Request], T], requests: Iterable[Request]) -> Iterator[T | PyinstallError]:
    for request in requests:
        try:
            yield function(request)
        except PyinstallError as error:
            yield error


def error_lines(results: Iterable[object]) -> tuple[PyinstallError, ...]:
    return tuple(result for result in results if isinstance(result, PyinstallError))


def interpreter_json(interpreter: Interpreter) -> dict[str, Any]:
    return {
        **key_json(interpreter.key),
        "executable": str(interpreter.executable),
        "prefix": str(interpreter.prefix),
        "source": interpreter.source,
    }


def key_json(key: Key) -> dict[str, Any]:
    return {
        "key": str(key),
        "version": key.number,
        "implementation": key.implementation,
        "variant": key.variant,
        "target": str(key.target),
    }


def table_lines(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return tuple(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) for row in rows
    )


def check_stable_tree(
    store: Store, key: Key, look: Callable[[Key], T | None], is_fine: Callable[[T], bool]
) -> T | None:
    """The result of `look` for the tree of `key`. None if the tree does not exist.

    If the result is not fine because another process is removing or replacing the tree, `look` is called again.
    """
    result = None
    for _ in range(_MOST_LOOKS):
        before = store.tree_identity(key)
        result = look(key)
        if result is None or is_fine(result):
            break
        time.sleep(_REMOVAL)
        after = store.tree_identity(key)
        if after is None:
            return None
        if after == before:
            break
    return result


def difference_json(difference: Difference) -> dict[str, str]:
    return {"name": difference.name, "what": difference.what, "reason": difference.reason}


def name_of(key: Key, provisioner: Provisioner) -> str:
    """The shortest request for exactly this Python."""
    return key.display_name if key.target == provisioner.target and key.variant != "gil" else str(key)


def fits(request: Request, key: Key, provisioner: Provisioner) -> bool:
    """Whether `request` means `key`, if it is installed or listed: a pre-release fits too."""
    return request.fits(key, target=provisioner.target, allow_prereleases=True)


def by_key(build: Build) -> Key:
    return build.key


def build_json(build: Build, provisioner: Provisioner) -> dict[str, Any]:
    request = name_of(build.key, provisioner)
    url = without_secrets(build.url)
    return {"request": request, **key_json(build.key), "url": url, "sha256": build.sha256, "size": build.size}


# The commands.

REQUEST_HELP = "3.12, 3.13t, pypy3.11, '>=3.10,<3.13', 3.9..3.13, supported, …"


def examples_text(*examples: str) -> str:
    return "\n".join(["examples:", *(f"  pytest-pyinstall {example}" for example in examples)])
