"""``--python-report`` without ``--python-suite``: a page of the tests that use the fixture `python`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.suite.replay import text_of
from pytest_pyinstall.suite.report import Cell, Matrix, Tally, title_of
from pytest_pyinstall.suite.summary import report_path, write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["FixtureReport"]

_OUTCOMES = {"passed", "failed", "error", "skipped", "xfailed", "xpassed"}


class FixtureReport:
    """A plugin of pytest and of xdist's workers. Workers add the Python to each report; the session writes the page.

    `label_of` returns the id of a test's Python, or None. `columns` returns the ids and versions of the session's
    Pythons.
    """

    def __init__(
        self,
        config: pytest.Config,
        *,
        label_of: Callable[[pytest.Item], str | None],
        columns: Callable[[], Iterable[tuple[str, str]]],
    ) -> None:
        self.config = config
        self.matrix = Matrix([], when=[datetime.now(UTC)])
        self._label_of = label_of
        self._columns = columns
        self._tallies: dict[str, Tally] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, None]:
        outcome = yield
        if (label := self._label_of(item)) is not None:
            # xdist sends the `__dict__` of a report to the controller.
            outcome.get_result().pyinstall_column = [_without(item.nodeid, label), label]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not hasattr(report, "pyinstall_column") or hasattr(self.config, "workerinput"):
            return
        test, label = report.pyinstall_column
        tally = self._tally(label)
        tally.seconds += report.duration
        status = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        category = status[0] if status else report.outcome
        if category in _OUTCOMES:
            tally.count(category)
            text = text_of(report) if category != "passed" else ""
            self.matrix.put(test, label, Cell(outcome=category, seconds=report.duration, text=text))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.matrix.rows:
            reason = "no test used the fixture `python`; --python-suite runs the whole suite with each Python"
            terminalreporter.write_line(f"--python-report: {reason}")
            return
        self.matrix.tallies = list(self._tallies.values())
        title = title_of(self.config.rootpath.name, self.matrix.tallies)
        write_page(terminalreporter, self.matrix, report_path(self.config), title=title)

    def _tally(self, label: str) -> Tally:
        if not self._tallies:
            for name, version in self._columns():
                self._tallies[name] = Tally(label=name, python=version)
        return self._tallies.setdefault(label, Tally(label=label, python=label))


def _without(nodeid: str, label: str) -> str:
    """The id of a test without its Python, so that it is equal for all: ``test_it[3.9-B]`` becomes ``test_it[B]``."""
    test, bracket, ids = nodeid.partition("[")
    if not bracket:
        return nodeid
    others = f"-{ids.removesuffix(']')}-".replace(f"-{label}-", "-", 1)[1:-1]
    return f"{test}[{others}]" if others else test
