"""Tries again, for as long as a failure may pass by itself."""

import logging
from collections.abc import Callable
from typing import TypeVar

from pytest_pyinstall.client import Client
from pytest_pyinstall.fault import OTHERWISE, PassingError, UnreachableError

__all__ = ["persist"]

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)


def persist(
    attempt: Callable[[], T],
    *,
    client: Client,
    until: float,
    attempts: int,
    what: str,
    waiting: Callable[[str], None],
    reached: Callable[[], int] = lambda: 0,
) -> T:
    """The result of `attempt`, which is repeated for as long as its failures may pass by themselves."""
    limits = client.limits
    failures, tries, furthest = 0, 0, reached()
    while True:
        tries += 1
        try:
            return attempt()
        except PassingError as error:
            fault = error
        failures += 1
        if reached() >= furthest + limits.worth:
            failures, furthest = 1, reached()
        pause = min(limits.backoff * 2 ** (failures - 1), limits.longest_backoff) * (0.5 + limits.jitter() / 2)
        if fault.retry_after is not None:
            pause = max(pause, min(fault.retry_after, limits.longest_retry_after))
        if failures >= min(attempts, fault.attempts or attempts):
            break
        if limits.clock() + pause >= until:
            fault.reason += f"; gave up after {limits.total:g} s in all"
            break
        waiting(f"{fault.reason}; trying again in {pause:.1f} s")
        _LOGGER.info("%s: %s; attempt %d follows in %.1f s", what, fault.reason, tries + 1, pause)
        client.pause(pause)
    msg = f"{what}: {fault.reason}" + (f" ({tries} attempts)" if tries > 1 else "")
    raise UnreachableError(msg, hint=fault.hint or OTHERWISE) from fault.__cause__
