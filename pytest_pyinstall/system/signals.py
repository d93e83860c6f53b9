"""Lets a process clean up before a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Terminated", "end_by", "raising_at_termination"]


class Terminated(BaseException):
    """A signal that ends the process has arrived. Not an `Exception`, so that no code handles it as an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raising_at_termination() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM and SIGHUP, so that child processes end and scratch is deleted, as at Ctrl-C."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise Terminated(number)

    numbers = [signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    # If one of them is ignored (nohup), it stays ignored.
    before = {}
    with suppress(ValueError):  # only the main thread can handle signals
        for number in numbers:
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_by(number: int) -> None:
    """End this process with the default action of the signal `number`."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
