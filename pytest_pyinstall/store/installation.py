"""The installation of a key in the store, as it was published or broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyinstall.request.identity import Key
    from pytest_pyinstall.store.manifest import Difference, Record

__all__ = ["BrokenInstallation", "Installation"]


class Installation(Value):
    """A directory in the store that holds a Python.

    With a `record`, pytest-pyinstall published it, and it is unchanged. Without one, another program did, most likely
    uv, and only running it shows what it is.
    """

    key: Key
    home: Path
    record: Record | None

    @property
    def executable(self) -> Path:
        return self.home / self.key.executable


class BrokenInstallation(Value):
    """An installation that pytest-pyinstall published and that has changed since, with the differences."""

    key: Key
    home: Path
    record: Record
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        first, *others = self.differences
        more = f" and {len(others)} more" if others else ""
        return f"{self.key} {'is broken' if self.lacks_content else 'was moved or restored'}: {first}{more}"

    @property
    def lacks_content(self) -> bool:
        """Whether content is lost. A restored copy may also lose its place, modes, links and empty directories."""
        files = {entry.name for entry in self.record.entries if entry.kind == "file"}
        lost = (each for each in self.differences if each.name in files or "__pycache__" in each.name.split("/"))
        return any(each.what == "missing" or not each.reason.startswith("has mode ") for each in lost)
