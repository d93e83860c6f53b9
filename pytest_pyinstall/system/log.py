"""Loggers that do not import `logging`. They use it if another module has imported it."""

from __future__ import annotations

import sys

__all__ = ["StepLogger"]


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
