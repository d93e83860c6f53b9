"""When a download is given up."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop hoping. Times in seconds, sizes in bytes; the last four are seams for tests.

    `total` bounds one `fetch` with all its retries, `connect` one connection, `headers` the time from a request to
    the end of its answer's headers, `read` a silence in the body. An answer that brings less than `slow_bytes` in
    `slow_time` is given up. `attempts` failures in a row end it; one that brought `worth` bytes further begins the
    count anew. `abandoned`: how long another process's download may stand still before we download beside it.
    """

    total: float = 1800.0
    connect: float = 10.0
    headers: float = 60.0
    read: float = 30.0
    slow_bytes: int = 60 * 1024
    slow_time: float = 60.0
    attempts: int = 5
    worth: int = 64 * 1024
    backoff: float = 0.5
    longest_backoff: float = 20.0
    longest_retry_after: float = 60.0
    redirects: int = 5
    abandoned: float = 90.0
    archive_size: int = 2 * 1024**3
    catalogue_size: int = 64 * 1024**2
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], object] | None = None
