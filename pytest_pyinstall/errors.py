"""The exceptions that pytest-pyinstall raises, each with its exit code.

There is one class for each kind of solution, not for each library that can fail. The exception of a library becomes the
``__cause__`` of one of these.
"""

from collections.abc import Iterable, Sequence

__all__ = [
    "AttestationError",
    "CallError",
    "CatalogueError",
    "DigestMismatchError",
    "EnvironmentCreationError",
    "FetchError",
    "InUseError",
    "IntegrityError",
    "InvalidRequestError",
    "InvalidSettingError",
    "LockTimeoutError",
    "NoMatchError",
    "OfflineError",
    "PackError",
    "ProbeError",
    "PyinstallError",
    "SeveralFailedError",
    "SizeMismatchError",
    "StoreError",
    "UnreadableStoreError",
    "UnsafeArchiveError",
    "UsageError",
]


def printable(text: str) -> str:
    """`text` with control characters escaped, because they could change the terminal. Newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    # Bytes of a path that could not be decoded stay; the code that prints them handles them.
    return char if char.isprintable() or char in "\n\t" or "\udc80" <= char <= "\udcff" else ascii(char)[1:-1]


def texts_of(messages: Iterable[str], hints: Iterable[str]) -> list[str]:
    """Each message with its hint, in ``hint: …``, on a line of its own. Neighbours with one hint share it.

    At least three neighbours that differ in one word, such as the version, become one message. If they have more than
    one line, the first lines decide, two are enough, and the other lines are those of the first one.
    """
    pairs = _merged(dict.fromkeys(zip(messages, hints, strict=True)))
    texts = []
    for index, (message, hint) in enumerate(pairs):
        is_shared = index + 1 < len(pairs) and pairs[index + 1][1] == hint
        texts.append(f"{message}\nhint: {hint}" if hint and not is_shared else message)
    return texts


_PLURAL = {"is": "are", "has": "have", "was": "were", "does": "do"}


def _merged(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    runs: list[tuple[list[str], str, int | None]] = []  # messages, their hint, and the index of the word that differs
    for message, hint in pairs:
        if runs and runs[-1][1] == hint:
            together, _, place = runs[-1]
            differing = _differing(_first_line(together[-1]), _first_line(message))
            if len(differing) == 1 and place in {None, differing[0]}:
                runs[-1] = ([*together, message], hint, differing[0])
                continue
        runs.append(([message], hint, None))
    merged: list[tuple[str, str]] = []
    for together, hint, place in runs:
        first, *more = together[0].split("\n")
        if place is None or (len(together) < 3 and not more):
            merged += [(message, hint) for message in together]
            continue
        words = first.split(" ")
        each = [_first_line(message).split(" ")[place] for message in together]
        if all(word.endswith(":") for word in each):
            each = [*(word.removesuffix(":") for word in each[:-1]), each[-1]]
        words[place + 1 : place + 2] = [_PLURAL.get(word, word) for word in words[place + 1 : place + 2]]
        words[place] = ", ".join(each) if len(each) < 5 else f"{each[0]}, {each[1]} … {each[-1]}"
        merged.append(("\n".join([" ".join(words), *more]), hint))
    return merged


def _first_line(message: str) -> str:
    return message.partition("\n")[0]


def _differing(first: str, second: str) -> list[int]:
    """The indexes of the words in which they differ. Empty if the numbers of words differ."""
    words = first.split(" "), second.split(" ")
    if len(words[0]) != len(words[1]):
        return []
    return [index for index, (one, other) in enumerate(zip(*words, strict=True)) if one != other]


class PyinstallError(Exception):
    """The base class: a message, and a hint that you can paste.

    ``str(error)`` is the message and, on a line of its own, the hint. Both are in ``args``, so that the error
    survives pickling between processes.
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        # Both may contain text from a server or a file name.
        self.message = printable(message)
        self.hint = printable(hint)
        super().__init__(self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(PyinstallError):
    """The command line or the configuration is invalid. Nothing was done."""

    exit_code = 2


class InvalidRequestError(UsageError, ValueError):
    """The text is not a valid request. The message names the closest form."""


class InvalidSettingError(UsageError, ValueError):
    """The value of an option, variable or ini value is invalid."""


class NoMatchError(PyinstallError):
    """No build and no interpreter matches the request. The message names the nearest ones."""

    exit_code = 3


class FetchError(PyinstallError):
    """The network or a server failed, or a file is missing. Trying again may help."""

    exit_code = 4


class OfflineError(FetchError):
    """A download is necessary, but downloads are turned off."""


class CatalogueError(FetchError):
    """A catalogue cannot be read, or is invalid."""


class IntegrityError(PyinstallError):
    """An archive or an installation does not have the expected content."""

    exit_code = 5


class SizeMismatchError(IntegrityError):
    """The archive is longer or shorter than the catalogue says."""


class DigestMismatchError(IntegrityError):
    """The sha256 of the archive is not the one in the catalogue."""


class AttestationError(IntegrityError):
    """An attestation is required, but there is no valid one. Nothing was unpacked."""


class UnsafeArchiveError(IntegrityError):
    """The archive contains something unsafe. The message names the member."""


class StoreError(PyinstallError):
    """The store, the cache or the disk has an error."""

    exit_code = 6


class LockTimeoutError(StoreError):
    """Another process held a lock for longer than ``lock_timeout``. The message names it."""


class InUseError(StoreError):
    """A test session, `exec` or tox is using the installation, so it is not removed."""


class UnreadableStoreError(StoreError):
    """The store cannot be read, or cannot be trusted."""


class ProbeError(PyinstallError):
    """An executable does not work as a Python."""

    exit_code = 7


class CallError(PyinstallError):
    """A function that `Interpreter.call` ran raised an exception, or its process died.

    `exception` is the name of the exception's class (``ValueError``), and `traceback` the text that the other Python
    printed. Both are empty if its process died.
    """

    def __init__(self, message: str, hint: str = "", exception: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.args = (message, hint, exception, traceback)
        self.exception = exception
        self.traceback = traceback


class PackError(PyinstallError):
    """An interpreter cannot be packed, because it would not work from another directory."""


class EnvironmentCreationError(PyinstallError):
    """A virtual environment could not be created, or a requirement could not be installed in it.

    ``output`` is all that the installer printed. ``message`` has only the end of it.
    """

    output: str = ""


class SeveralFailedError(PyinstallError):
    """Some of several requests failed. The others succeeded.

    ``results`` holds, in the order of the requests, an ``Interpreter`` or the ``PyinstallError`` of each. The exit
    code is the first failure's.
    """

    def __init__(self, message: str, hint: str = "", results: Sequence[object] = ()) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, tuple(results))
        self.results = tuple(results)
        if self.errors:
            self.exit_code = self.errors[0].exit_code

    @property
    def errors(self) -> tuple[PyinstallError, ...]:
        """The errors in ``results``, in the order of the requests."""
        return tuple(result for result in self.results if isinstance(result, PyinstallError))
