"""The cells of a suite: each is a Python with a dependency variant, and a session runs all of them or some."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_pyinstall.suite.options import words_of
from pytest_pyinstall.suite.shard import DURATIONS, CellPart, Shard, cut, parse_shard, read_durations
from pytest_pyinstall.suite.variants import Variant, parse_variants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pytest

__all__ = ["Cell", "Cells", "read_cells"]


class Cell(NamedTuple):
    """One Python with one variant. `python` is the id of a `SessionPython`; `variant` is None without variants."""

    python: str
    variant: Variant | None

    @property
    def label(self) -> str:
        """The label at the end of node ids: ``py3.9``, ``py3.13t``, ``pypy3.11``, ``py3.9-django4.2``."""
        name = self.python if self.python.startswith(("py", "graalpy")) else f"py{self.python}"
        return f"{name}-{self.variant.name}" if self.variant else name


class Cells(NamedTuple):
    """All cells of a suite by their labels, and those that this session runs.

    `named` are the labels that the node ids on the command line name, or all labels. `selected` are those of them that
    this session runs. With a `shard`, `parts` has its part of each selected cell.
    """

    all: Mapping[str, Cell]
    named: Sequence[str]
    selected: Sequence[str]
    variants: tuple[Variant | None, ...]
    shard: Shard | None
    parts: Mapping[str, CellPart]

    @property
    def pythons(self) -> set[str]:
        """The ids of the Pythons that this session needs."""
        return {self.all[label].python for label in self.selected}


def read_cells(config: pytest.Config, pythons: Iterable[str]) -> Cells:
    """Make the cells of the Pythons with the ids `pythons`, and select some by the options. Raises `UsageError`."""
    texts = config.getoption("pyinstall_with") or config.getini("pyinstall_suite_with")
    variants: tuple[Variant | None, ...] = parse_variants(map(str, texts)) or (None,)
    cells = [Cell(python, variant) for python in pythons for variant in variants]
    labels = [cell.label for cell in cells]
    named = words_of(config).selected_labels(labels)
    shard = parse_shard(text) if (text := config.getoption("pyinstall_shard")) else None
    parts = {} if shard is None else cut(named, read_durations(config.rootpath / DURATIONS), shard)
    selected = named if shard is None else list(parts)
    return Cells(dict(zip(labels, cells, strict=True)), named, selected, variants, shard, parts)
