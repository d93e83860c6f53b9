"""What a person sees of a suite at the end: failures once, coverage, the table, the page, or the list of tests."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_pyinstall.suite_coverage import Coverage
from pytest_pyinstall.suite_groups import grouped, headed
from pytest_pyinstall.suite_report import Matrix, Tally, page, table
from pytest_pyinstall.suite_row import Row, named

__all__ = ["grouping", "list_collected", "write_coverage", "write_page", "write_table"]


@contextmanager
def grouping(reporter: Any, matrix: Matrix, labels: Sequence[str], root: Path) -> Iterator[None]:
    """While it lasts, `reporter` knows the same failure of several Pythons as one."""

    def place(report: Any) -> int:
        node = getattr(report, "node", None)
        return labels.index(node.gateway.id) if node is not None else -1

    stats = reporter.stats
    before = {name: stats[name] for name in ("failed", "error", "xfailed", "xpassed", "passed") if name in stats}
    ran = {test: set(cells) for test, cells in matrix.rows.items()}
    for name, reports in before.items():
        if name != "passed":
            stats[name] = grouped(reports, labels, ran, root)
        elif reporter.hasopt("P"):  # what passed is shown of each Python, because it may have printed something else
            stats[name] = [headed(report) for report in sorted(reports, key=place)]
    try:
        yield
    finally:
        stats.update(before)


def write_coverage(reporter: Any, coverage: Coverage | None, *, count: int) -> None:
    if coverage is None or not coverage.lines:
        return
    reporter.write_sep("-", f"coverage: {count} Pythons combined")
    for line in coverage.lines:
        reporter.write_line(line)


def write_table(reporter: Any, tallies: Sequence[Tally]) -> None:
    reporter.write_sep("-", "Pythons")
    for line, tally in zip(table(tallies), [None, *tallies], strict=True):
        bad = tally is not None and (tally.counts.get("failed") or tally.counts.get("error"))
        good = tally is not None and tally.counts.get("passed") and not bad
        reporter.write_line(line, red=bool(bad), green=bool(good))


def write_page(reporter: Any, matrix: Matrix, path: Path, *, title: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(matrix, title=title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reporter.write_line(f"cannot write {path}: {error.strerror or error}", red=True)
        return
    reporter.write_line(f"the matrix as a page: {path}")


def list_collected(config: pytest.Config, rows: Sequence[Row]) -> None:
    """What ``--co -q`` lists, and with one more ``-q`` only how many tests a file has."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    for row in rows:
        if config.get_verbosity() < -1:
            counts = Counter(nodeid.partition("::")[0] for nodeid, _ in row.items)
            for name, count in sorted(counts.items()):
                reporter.write_line(f"{name}[{row.label}]: {count}")
            continue
        for nodeid, _ in row.items:
            reporter.write_line(named(nodeid, row.label))
    deselected = len(reporter.stats.get("deselected", []))
    reporter._numcollected = sum(len(row.items) for row in rows) + deselected  # noqa: SLF001  # its last line
