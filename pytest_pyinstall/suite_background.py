"""Calls in the background that nobody has to wait for, and interrupts that come at a good moment."""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

__all__ = ["Background", "holding_interrupts"]

_T = TypeVar("_T")


class Background(Generic[_T]):
    """Runs calls, in order, in at most `count` threads. Whoever ends does not wait for them, as for an executor's."""

    def __init__(self, count: int) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[_T], Callable[[], _T]] | None] = queue.SimpleQueue()
        self._count = count
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        self._calls.put((future, call))
        if len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._work, name="pyinstall-suite", daemon=True))
            self._threads[-1].start()
        return future

    def close(self) -> None:
        """Begin nothing more."""
        while True:
            try:
                waiting = self._calls.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  # whoever asks for the result gets it
                future.set_exception(error)


@contextmanager
def holding_interrupts() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for who asks whether it came, so that nothing is lost half-way. The second one does not wait."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed: list[int] = []

    def hear(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
