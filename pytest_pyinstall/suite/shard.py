"""The cells of a suite, and the part of them that one CI job runs with ``--python-shard 2/3``.

A cell is a Python with a dependency variant, and a session runs all of them or some.

All jobs compute the same cut independently. The cells are put on a line, each as long as its
tests took the last time, and the line is cut into pieces of equal length. This needs only the names of the cells and
the recorded durations, so a job makes only the environments that it needs. If a cut is inside a cell, the worker
divides the tests of that cell after it has collected them (`_worker_plugin.parts_of`).
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.options import ini_origin, ini_place
from pytest_pyinstall.settings import example_at
from pytest_pyinstall.suite.report import files_in, nodeid_of
from pytest_pyinstall.suite.variants import Variant, parse_variants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pytest

__all__ = [
    "DURATIONS",
    "Cell",
    "CellPart",
    "Cells",
    "Shard",
    "cut",
    "describe",
    "durations_of_junit",
    "parse_shard",
    "read_cells",
    "read_durations",
]

DURATIONS = ".test_durations"
"""The file of recorded durations in the root directory. Name and format are those of pytest-split."""

_OPTION = "--python-shard"
_HINT = f"{_OPTION} 1/3"
_LABELLED = re.compile(r"\[(?:py|graalpy)[^\[\]]*\]$")
_SLACK = 20
"""A cut is moved to the end of a cell if it is closer to it than 1/20 of a shard, because that saves an environment."""


class Shard(NamedTuple):
    """The shard with this `number`, counted from 1, of `total` shards."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


class CellPart(NamedTuple):
    """The part of a cell that one shard runs.

    `weights` are the shares of the shards that run parts of the cell, and `own` is the index of ours. `durations` are
    the microseconds of the cell's tests by node id, and `default` those of a test that is not recorded.
    """

    own: int
    weights: tuple[int, ...]
    durations: Mapping[str, int]
    default: int

    @property
    def is_whole(self) -> bool:
        return len(self.weights) == 1


def parse_shard(text: str) -> Shard:
    """Parse ``2/3``. Raises `UsageError`."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text, re.ASCII)
    if match is None:
        raise UsageError(f"{_OPTION}: {text!r} is not K/N (shard K of N)", hint=_HINT)
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        numbers = f"1/{count} to {count}/{count}" if count else "1/N to N/N"
        raise UsageError(
            f"{_OPTION}: there is no shard {text.strip()}, they are {numbers}",
            hint=f"{_OPTION} {max(count, 1)}/{max(count, 1)}",
        )
    return Shard(number, count)


def read_durations(path: Path) -> dict[str, float]:
    """Read the recorded seconds by node id; empty if `path` does not exist. Raises `UsageError` for a damaged file.

    It is not ignored, because another job may have a good copy and would compute another cut.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{_OPTION}: cannot read {path}: {error.strerror or error}") from error
    try:
        found = json.loads(content)
        if isinstance(found, list):  # the format of pytest-split before 0.7
            found = dict(found)
        durations = {str(nodeid): float(seconds) for nodeid, seconds in found.items()}
        if not all(0 <= seconds < float("inf") for seconds in durations.values()):
            raise ValueError("a duration is not a number of seconds")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        message = f"{_OPTION}: {path} has no durations of tests: {error}"
        raise UsageError(message, hint=f"pytest-pyinstall report DIR --durations {DURATIONS}") from error
    return durations


def cut(labels: Sequence[str], durations: Mapping[str, float], shard: Shard) -> dict[str, CellPart]:
    """The cells that `shard` runs, in order, with its part of each. All shards together run each test of `labels` once.

    `durations` are seconds by node id, with or without a label at its end.
    """
    cells = _durations_by_cell(labels, durations)
    known = [sum(found.values()) for found in cells.values() if found]
    typical = max(1, sum(known) // len(known)) if known else 1
    # In units of 1/total of a microsecond: all cuts are integers, so every machine computes the same ones.
    lengths = {label: shard.total * max(1, sum(found.values()) or typical) for label, found in cells.items()}
    share = sum(lengths.values()) // shard.total
    ends = [0]
    for length in lengths.values():
        ends.append(ends[-1] + length)
    cuts = [_snapped(number * share, ends, share) for number in range(shard.total + 1)]
    parts: dict[str, CellPart] = {}
    for (label, found), (start, end) in zip(cells.items(), pairwise(ends), strict=True):
        weights = {
            number: overlap
            for number, (left, right) in enumerate(pairwise(cuts), 1)
            if (overlap := min(right, end) - max(left, start)) > 0
        }
        if shard.number in weights:
            default = max(1, sum(found.values()) // len(found)) if found else 1
            own = list(weights).index(shard.number)
            parts[label] = CellPart(own, tuple(weights.values()), found, default)
    return parts


def describe(parts: Mapping[str, CellPart]) -> str:
    """Describe the parts for people: ``py3.9, 40 % of py3.10``."""
    return ", ".join(
        label if part.is_whole else f"{round(100 * part.weights[part.own] / sum(part.weights))} % of {label}"
        for label, part in parts.items()
    )


def _snapped(place: int, ends: Iterable[int], share: int) -> int:
    nearest = min(ends, key=lambda end: abs(end - place))
    return nearest if abs(nearest - place) * _SLACK <= share else place


def _durations_by_cell(labels: Sequence[str], durations: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """The microseconds of each cell's tests, at least 1 for each test.

    A cell without recorded durations gets the average of the other cells, and the durations without a label, which
    pytest-split writes.
    """
    own: dict[str, dict[str, int]] = {label: {} for label in labels}
    anywhere: dict[str, int] = {}
    # pytest-split writes ids without Pythons. In its file, `test_it[py3.9]` ends in a parameter.
    has_labels = 2 * sum(_LABELLED.search(nodeid) is not None for nodeid in durations) > len(durations)
    for nodeid, seconds in durations.items():
        duration = max(1, round(seconds * 1_000_000))
        test, _, label = nodeid.removesuffix("]").rpartition("[")
        if has_labels and label in own:
            own[label][test] = duration
        else:
            anywhere[nodeid] = duration
    together: dict[str, list[int]] = {}
    for found in own.values():
        for test, duration in found.items():
            together.setdefault(test, []).append(duration)
    others = {test: sum(found) // len(found) for test, found in together.items()} | anywhere
    return {label: found or others for label, found in own.items()}


def durations_of_junit(paths: Iterable[Path]) -> dict[str, float]:
    """Read the seconds of each test from the JUnit files of suites, by node id, which ends in the label.

    Raises `UsageError` if none of them is from a suite, and `OSError` or `ET.ParseError` if one cannot be read.
    """
    durations: dict[str, float] = {}
    for path in paths:
        root = ET.parse(path).getroot()  # noqa: S314  # files of the user's own jobs; no entities resolved
        files = files_in(root)
        for case in root.iter("testcase"):
            if nodeid := nodeid_of(case.get("classname", ""), case.get("name", ""), files):
                durations[nodeid] = round(durations.get(nodeid, 0.0) + float(case.get("time") or 0), 6)
    if not durations:
        message = "--durations: none of these JUnit files is from --python-suite, which records the test files"
        raise UsageError(message, hint="pytest --python supported --python-suite --junitxml junit.xml")
    return dict(sorted(durations.items()))


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


def _variants(config: pytest.Config) -> tuple[Variant, ...]:
    if texts := config.getoption("pyinstall_with"):
        return parse_variants(texts)
    origin, file = ini_origin(config, "pyinstall_suite_with")

    def example(text: str) -> str:
        if file is not None and file.suffix == ".toml":
            return f"{origin} = {json.dumps([text], ensure_ascii=False)}"
        return example_at(origin, text, file=file)

    place = ini_place(config, "pyinstall_suite_with")
    return parse_variants(map(str, config.getini("pyinstall_suite_with")), option=place, example=example)


def read_cells(config: pytest.Config, pythons: Iterable[str]) -> Cells:
    """Make the cells of the Pythons with the ids `pythons`, and select some by the options. Raises `UsageError`."""
    # Imported here, because `pytest-pyinstall report` reads durations without pytest.
    from pytest_pyinstall.suite.options import words_of

    variants: tuple[Variant | None, ...] = _variants(config) or (None,)
    cells = [Cell(python, variant) for python in pythons for variant in variants]
    labels = [cell.label for cell in cells]
    named = words_of(config).selected_labels(labels)
    shard = parse_shard(text) if (text := config.getoption("pyinstall_shard")) else None
    parts = {} if shard is None else cut(named, read_durations(config.rootpath / DURATIONS), shard)
    selected = named if shard is None else list(parts)
    return Cells(dict(zip(labels, cells, strict=True)), named, selected, variants, shard, parts)
