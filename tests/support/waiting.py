"""Waiting for a condition in another thread or process."""

import time
from collections.abc import Callable

import pytest


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return when `condition` is true; fail the test if it is still false after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"the condition was still false after {seconds} seconds")
        time.sleep(0.005)
