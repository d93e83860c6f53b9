"""Loggers that use `logging` only if another module has imported it, and messages about slow steps."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Timer

__all__ = ["StepLogger", "said_if_slow", "start_message_timer"]


def start_message_timer(say: Callable[[str], object], sentence: str, *, patience: float) -> Timer:
    """A timer that calls `say` with `sentence` after `patience` seconds, unless it is cancelled.

    It does nothing if no thread can be started, because a message is not worth an error.
    """
    import threading

    timer = threading.Timer(patience, say, [sentence])
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # the limit of processes, which counts threads, is reached
        timer.start()
    return timer


@contextlib.contextmanager
def said_if_slow(say: Callable[[str], object] | None, sentence: str, *, patience: float = 1.0) -> Iterator[None]:
    """Call `say` with `sentence` if the ``with`` block takes longer than `patience` seconds."""
    if say is None:
        yield
        return
    timer = start_message_timer(say, sentence, patience=patience)
    try:
        yield
    finally:
        timer.cancel()


class StepLogger:
    """The logger `name`, for levels below a warning.

    In a process that has not imported `logging`, nothing can receive them. Only ``--verbose`` imports it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, message: str, *args: object) -> None:
        self._log("DEBUG", message, args)

    def info(self, message: str, *args: object) -> None:
        self._log("INFO", message, args)

    def _log(self, level: str, message: str, args: tuple[object, ...]) -> None:
        if (logging := sys.modules.get("logging")) is not None:
            logging.getLogger(self._name).log(getattr(logging, level), message, *args, stacklevel=3)

    @property
    def is_heard(self) -> bool:
        """Whether `logging` was imported, so that the arguments of a step are worth their time."""
        return "logging" in sys.modules
