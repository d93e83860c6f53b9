"""The same failure of one test under several Pythons, as one report that names them.

What a person sees of a suite at the end: failures once, coverage, the table, the page, or the list of tests.
"""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.suite.replay import rows_by_text
from pytest_pyinstall.suite.report import Coverage, Matrix, Tally, page, table
from pytest_pyinstall.suite.run import InterpreterRun, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pytest

__all__ = [
    "grouping",
    "list_collected",
    "merge_equal_failures",
    "with_label",
    "write_coverage",
    "write_missing_modules",
    "write_page",
    "write_summaries",
    "write_table",
]


def merge_equal_failures(
    reports: Sequence[Any], labels: Sequence[str], ran: Mapping[str, set[str]], root: Path
) -> list[Any]:
    """The same failure of one test under several Pythons as one report, which names them."""
    groups: dict[tuple[object, ...], list[Any]] = {}
    for report in reports:
        groups.setdefault(_signature(report, root), []).append(report)
    failing: dict[str, set[str]] = {}
    for report in reports:
        if test := _own_nodeid(report):
            failing.setdefault(test, set()).add(report.node.gateway.id)
    grouped = []
    for group in groups.values():
        test = _own_nodeid(group[0])
        own = sorted({report.node.gateway.id for report in group}, key=labels.index) if test is not None else []
        if test is None:
            grouped += group
            continue
        shown = copy.copy(group[-1])  # of the newest Python, whose tracebacks say most
        others = [label for label in labels if label in ran.get(test, ()) and label not in own]
        if len(own) == 1 and not others:
            where = own[0]
        elif not others:
            where = f"every Python: {', '.join(own)}" if len(own) > 1 else own[0]
        else:
            elsewhere = [label for label in others if label in failing.get(test, ())]
            fine = [label for label in others if label not in elsewhere]
            where = f"on {', '.join(own)}"
            where += f"; otherwise on {', '.join(elsewhere)}" if elsewhere else ""
            where += f"; not on {', '.join(fine)}" if fine else ""
        _rename(shown, f"{test}[{','.join(own)}]", where)
        grouped.append(shown)
    return grouped


def with_label(report: Any) -> Any:
    """A copy of `report` whose heading says which Python it is of."""
    node = getattr(report, "node", None)
    if node is None:
        return report
    shown = copy.copy(report)
    _rename(shown, report.nodeid, node.gateway.id)
    return shown


def _rename(report: Any, nodeid: str, where: str) -> None:
    if hasattr(type(report), "nodeid") and "_id" in report.__dict__:
        report.__dict__["_id"] = type(report.__dict__["_id"]).parse(nodeid)
    else:
        report.nodeid = nodeid
    if "location" in report.__dict__:
        path, line, domain = report.location
        report.location = (path, line, f"{domain} — {where}")


def _own_nodeid(report: Any) -> str | None:
    """The test's own id; None for a report that is not one of ours."""
    node = getattr(report, "node", None)
    if node is None:
        return None
    return str(report.nodeid).removesuffix(f"[{node.gateway.id}]")


def _signature(report: Any, root: Path) -> tuple[object, ...]:
    """What is equal for what a person would call the same failure: message and places in the project."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    places: list[tuple[str, int]] = []
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
    for entry in entries:
        where = getattr(entry, "reprfileloc", None)
        if where is not None and "site-packages" not in where.path and not _is_outside(where.path, root):
            places.append((where.path, where.lineno))
    message = str(getattr(crash, "message", longrepr))
    if crash is None and re.search(r"^E  ", message, re.MULTILINE):
        # Of a collector's error there is the text alone: again what went wrong, and where in the project.
        message = "\n".join(re.findall(r"^E  .*|^(?!\.\.|[/\\\\]|\w:)\S+:\d+: in .*", message, re.MULTILINE))
    message = re.sub(r"0x[0-9a-fA-F]+", "0x…", message)
    message = re.sub(r"\S*/environments/[0-9a-f]{16}-[0-9a-f-]+/", "", message)
    message = re.sub(r"^hint: .*$", "", message, flags=re.MULTILINE)  # it names the one Python that it is about
    message = re.sub(
        r"python\d\.\d+|sys\.version_info\([^)]*\)|\(3, \d+(?:, \d+)?(?:, '\w+', \d+)?\)", "python", message
    )
    # In no order: what a set or an equal dictionary is shown as differs from one Python, and one run, to the next.
    return (_own_nodeid(report), report.when, tuple(sorted(message.splitlines())), tuple(places))


def _is_outside(path: str, root: Path) -> bool:
    return os.path.isabs(path) and not path.startswith(f"{root}{os.sep}")  # noqa: PTH117  # text of another Python


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
            stats[name] = merge_equal_failures(reports, labels, ran, root)
        elif reporter.hasopt("P"):  # what passed is shown of each Python, because it may have printed something else
            stats[name] = [with_label(report) for report in sorted(reports, key=place)]
    try:
        yield
    finally:
        stats.update(before)


def write_summaries(reporter: Any, rows: Sequence[InterpreterRun], headings: Sequence[str]) -> None:
    """What plugins and conftests of the workers say at the end; once if all say the same."""
    texts = {text: [row.label for row in found] for text, found in rows_by_text(rows, "summaries").items()}
    ran = sum(row.worker is not None for row in rows)
    for text, labels in texts.items():
        if len(labels) < ran:
            reporter.write_sep("-", ", ".join(labels))
        reporter.write(text.strip("\n") + "\n")
    files = [f"each Python writes a file of its own: {name}" for name in rows_by_text(rows, "files")]
    if reporter.verbosity >= 0:
        for line in (*headings, *files):
            reporter.write_line(line)


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


def write_missing_modules(reporter: Any, modules: Iterable[str]) -> None:
    """Say how to name what the tests need, if a test module lacks a module."""
    if names := ", ".join(modules):
        reporter.write_line(f"hint: nothing in the environments has the module {names}: pyinstall_suite_install names")
        reporter.write_line("what the tests need, in lines as pip takes them: -e .[extra], --group NAME, a package")


def write_page(reporter: Any, matrix: Matrix, path: Path, *, title: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(matrix, title=title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reporter.write_line(f"cannot write {path}: {error.strerror or error}", red=True)
        return
    reporter.write_line(f"the matrix as a page: {path}")


def list_collected(config: pytest.Config, rows: Sequence[InterpreterRun]) -> None:
    """What ``--co -q`` lists, and with one more ``-q`` only how many tests a file has."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    for row in rows:
        if config.option.verbose < -1:
            counts = Counter(nodeid.partition("::")[0] for nodeid, _ in row.items)
            for name, count in sorted(counts.items()):
                reporter.write_line(f"{name}[{row.label}]: {count}")
            continue
        for nodeid, _ in row.items:
            reporter.write_line(named(nodeid, row.label))
    deselected = len(reporter.stats.get("deselected", []))
    reporter._numcollected = sum(len(row.items) for row in rows) + deselected  # noqa: SLF001  # its last line
