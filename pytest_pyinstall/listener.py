"""Who hears how downloads go."""

from typing import Protocol

from pytest_pyinstall.build import Build

__all__ = ["Listener", "Progress"]


class Progress(Protocol):
    """Hears how downloads go, from the thread that downloads; an archive that was cached is not talked about.

    One that also has ``waiting(build, reason)`` hears why nothing comes for now: a retry, or another process that is
    downloading the same file. An exception out of `advanced` ends the download; what came is kept to be resumed.
    """

    def started(self, build: Build, total: int | None) -> None:
        """The first bytes are about to come; `total` in bytes, None where nobody knows. Once for each `fetch`."""

    def advanced(self, build: Build, count: int) -> None:
        """So many bytes more are there. What a resumed download already had counts; negative when it starts over."""

    def finished(self, build: Build) -> None:
        """Nothing more will come, for better or worse. Once after each `started`."""


class Listener:
    """Tells a `Progress`, if there is one, each thing once."""

    def __init__(self, build: Build, progress: Progress | None) -> None:
        self._build = build
        self._progress = progress
        self._is_started = False
        self._told = 0

    def at(self, size: int, total: int | None) -> None:
        """So many bytes are there now."""
        if self._progress is None:
            return
        if not self._is_started:
            self._is_started = True
            self._progress.started(self._build, total)
        if size != self._told:
            self._progress.advanced(self._build, size - self._told)
            self._told = size

    def waiting(self, reason: str) -> None:
        if (waiting := getattr(self._progress, "waiting", None)) is not None:
            waiting(self._build, reason)

    def finished(self) -> None:
        if self._is_started and self._progress is not None:
            self._progress.finished(self._build)
