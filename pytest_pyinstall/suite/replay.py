"""What goes into the outer session's junit file beside reports.

The cache directories of pytest, one for each Python: what ``--lf`` and its like know from the last time.

Tells the outer session's reporters what the inner sessions tell, and how each of them ended.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.junitxml import xml_key

from pytest_pyinstall.suite.report import Cell, Matrix
from pytest_pyinstall.suite.run import Inner, Row, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "Retelling",
    "add_attribute",
    "add_property",
    "correct_names",
    "has_curious_reporters",
    "last_failed",
    "remember_failures",
]


def add_property(config: pytest.Config, name: str, value: str) -> None:
    """Of ``record_testsuite_property``; what several Pythons say alike is there once."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None and (name, value) not in [tuple(pair) for pair in xml.global_properties]:
        xml.add_global_property(name, value)


def add_attribute(config: pytest.Config, row: Row, nodeid: str, name: str, value: str) -> None:
    """Of ``record_xml_attribute``."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None:
        # As much of a report as says whose attribute it is.
        report = pytest.TestReport(named(nodeid, row.label), ("", None, ""), {}, "passed", None, "call")
        report.__dict__["node"] = row.node
        xml.node_reporter(report).add_attribute(name, value)


def correct_names(config: pytest.Config) -> None:
    """Name a module that was skipped, or could not be imported, as pytest does: without its ending."""
    xml: Any = config.stash.get(xml_key, None)
    for reporter in getattr(xml, "node_reporters_ordered", ()):
        attributes = getattr(reporter, "attrs", {})
        if attributes.get("classname") == "":
            attributes["name"] = re.sub(r"\.py(\[[^\[\]]+\])$", r"\1", attributes["name"])


def last_failed(directory: Path) -> dict[str, bool]:
    """What pytest has written below `directory` about tests that failed; empty where there is nothing."""
    try:
        found = json.loads((directory / "v" / "cache" / "lastfailed").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember_failures(directory: Path, nodeids: Iterable[str]) -> None:
    """For a session that died, and did not write down itself what had failed."""
    path = directory / "v" / "cache" / "lastfailed"
    failed = {**last_failed(directory), **dict.fromkeys(nodeids, True)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(failed, indent=2), encoding="utf-8")


_CORE = {
    *("terminalreporter", "lfplugin", "nfplugin", "session", "stepwiseplugin", "terminalprogress", "faulthandler"),
    *("terminalprogress-plugin", "pyinstall", "pyinstall-suite", "github", "unraisableexception", "threadexception"),
}
"""Plugins that have no use for the setup and teardown of a test that simply passed."""


def has_curious_reporters(config: pytest.Config) -> bool:
    """Whether anybody here has a use for the setup and teardown of a test that simply passed."""
    if config.getoption("durations", None) is not None or config.getoption("xmlpath", None):
        return True
    implementations = config.hook.pytest_runtest_logreport.get_hookimpls()
    return any(implementation.plugin_name not in _CORE for implementation in implementations)


class _Deselected:
    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


class Retelling:
    """Sends what each of `rows` tells through the hooks of `session`, and puts it into `matrix`.

    With `emits_all` the setup and teardown of a test that simply passed are told too.
    """

    def __init__(self, session: pytest.Session, rows: Sequence[Row], matrix: Matrix, *, emits_all: bool) -> None:
        self.session = session
        self.config = session.config
        self.rows = rows
        self.matrix = matrix
        self._emits_all = emits_all

    def hear(self, row: Row, event: list[Any]) -> None:  # noqa: C901, PLR0912  # one case for each kind of line
        """Tell one line of `Inner.events`."""
        match event:
            case ["s", index]:
                row.running[row.items[index][0] if isinstance(index, int) else index] = time.monotonic()
            case ["p", index, start, setup, call, teardown]:
                self._passed(row, index, start, (setup, call, teardown))
            case ["r", data]:
                self._reported(row, data)
            case ["c", data]:
                self._collect_report(row, data)
            case ["collected", found, deselected]:
                self._collected(row, found, deselected)
            case ["w", *fields]:
                self._warned(row, fields)
            case ["start", _, python, _] if row.choice.interpreter and python != row.version:
                row.internal_error = f"it should be Python {row.version}, and says that it is {python}"
            case ["internal", text]:
                row.internal_error = text
            case ["stopping", text]:
                row.stopping = text
            case ["property", name, value]:
                add_property(self.config, name, value)
            case ["attribute", nodeid, name, value]:
                add_attribute(self.config, row, nodeid, name, value)
            case ["coverage", *fields]:
                row.coverage = fields
            case ["end", code]:
                row.exit_code = code

    def _collected(self, row: Row, found: list[Any], deselected: int) -> None:
        row.collected = len(found)
        row.items = [(nodeid, _location(nodeid, location)) for nodeid, location in found]
        if deselected:
            self.config.hook.pytest_deselected(items=[_Deselected(row.label)] * deselected)
        self._count_collected()

    def _count_collected(self) -> None:
        """One total over all Pythons; those that have not collected yet are taken to have as many as the others."""
        known = [row.collected for row in self.rows if row.collected is not None]
        waiting = sum(row.collected is None and not row.is_over for row in self.rows)
        self.session.testscollected = sum(known) + waiting * (max(known) if known else 0)

    def _passed(self, row: Row, index: int, start: float, durations: Sequence[float]) -> None:
        nodeid, location = row.items[index]
        row.running.pop(nodeid, None)
        row.tally.count("passed")
        self.matrix.put(nodeid, row.label, Cell(outcome="passed", seconds=sum(durations)))
        for when, duration in zip(("setup", "call", "teardown"), durations, strict=True):
            if when == "call" or self._emits_all:
                report = pytest.TestReport(
                    nodeid=named(nodeid, row.label),
                    location=location,
                    keywords={},
                    outcome="passed",
                    longrepr=None,
                    when=when,  # type: ignore[arg-type]  # one of the three
                    duration=duration,
                    start=start,
                    stop=start + duration,
                )
                report.__dict__["node"] = row.node
                self.config.hook.pytest_runtest_logreport(report=report)
            start += duration

    def _reported(self, row: Row, data: dict[str, Any]) -> None:
        nodeid = data["nodeid"]
        report = self._report(row, data)
        if data["when"] == "teardown":
            row.running.pop(nodeid, None)
        category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        if category in {"passed", "failed", "error", "skipped", "xfailed", "xpassed"}:
            row.tally.count(category)
            text = _text_of(report) if category != "passed" else ""
            seconds = float(data.get("duration") or 0)
            self.matrix.put(nodeid, row.label, Cell(outcome=category, seconds=seconds, text=text))
        if report.failed and not hasattr(report, "wasxfail"):
            row.failures += 1
            row.failed_ids.append(nodeid)
        self.config.hook.pytest_runtest_logreport(report=report)

    def _collect_report(self, row: Row, data: dict[str, Any]) -> None:
        report = self._report(row, data)
        outcome = "error" if report.failed else "skipped"
        row.has_collect_error |= report.failed
        row.failures += report.failed
        row.tally.count(outcome)
        self.matrix.put(data["nodeid"] or "collection", row.label, Cell(outcome=outcome, text=_text_of(report)))
        self.config.hook.pytest_collectreport(report=report)

    def _report(self, row: Row, data: dict[str, Any]) -> Any:
        nodeid = data["nodeid"]
        data = _tuples(data)
        data["nodeid"] = named(nodeid, row.label)
        data.setdefault("start", 0)
        data.setdefault("stop", 0)
        if data["$report_type"] == "CollectReport":
            data["result"] = []
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        report.node = row.node
        return report

    def _warned(self, row: Row, fields: list[Any]) -> None:
        message, module, name, filename, lineno, nodeid, when = fields
        category = type(name, (Warning,), {"__module__": module})
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warnings.WarningMessage(category(message), category, filename, lineno),
                "nodeid": named(nodeid, row.label) if nodeid else "",
                "when": when,
                "location": None,
            }
        )

    def ended(self, row: Row, inner: Inner, code: int, *, cache: Path) -> None:
        """Tell an end that is no ordinary one. `cache` is the directory of its pytest's cache."""
        row.is_over = True
        row.tally.seconds = inner.seconds
        inner.close()
        row.collected = row.collected or 0
        self._count_collected()
        tail = inner.tail()
        if row.exit_code is None:
            self._crashed(row, code, tail, cache)
        elif row.exit_code == pytest.ExitCode.USAGE_ERROR:
            self._broken(row, tail or "pytest ended with a usage error", note="did not start")
        elif row.internal_error:
            self._broken(row, row.internal_error, note="internal error of pytest")
        elif row.exit_code == pytest.ExitCode.INTERRUPTED and not row.has_collect_error and not row.stopping:
            self._broken(row, f"the session was interrupted\n\n{tail}", note="interrupted")
        elif row.exit_code not in {0, 2, 5} and not row.failures:
            self._broken(
                row, f"pytest ended with exit code {row.exit_code}\n\n{tail}", note=f"exit code {row.exit_code}"
            )

    def _crashed(self, row: Row, code: int, tail: str, cache: Path) -> None:
        how = f"ended with exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        said = f"\n\nThe end of what it printed:\n{tail}" if tail else ""
        if not row.running:
            self._broken(row, f"the interpreter {how}{said}", note=how)
            return
        remember_failures(cache, [*row.failed_ids, *row.running])
        for nodeid in row.running:
            location = next((location for name, location in row.items if name == nodeid), _location(nodeid, None))
            data = {
                "$report_type": "TestReport", "nodeid": nodeid, "location": location, "keywords": {},
                "outcome": "failed", "when": "call", "sections": [], "user_properties": [], "duration": 0.0,
                "longrepr": f"the interpreter {how} while it ran this test{said}",
            }  # fmt: skip
            self._reported(row, data)
        row.running.clear()
        row.tally.note = how

    def missing(self, row: Row, why: str, *, skips: bool) -> None:
        """No interpreter, no environment, or a project that is not for this Python: as --python-missing says."""
        row.is_over = True
        row.collected = 0
        row.tally.note = why.splitlines()[0]
        if skips:
            longrepr: Any = (str(self.config.rootpath), 0, f"Skipped: {why.splitlines()[0]}")
            self._collect_report(row, _collect_data("skipped", longrepr))
            row.tally.counts.clear()
            return
        self._broken(row, why, note=row.tally.note)
        row.tally.counts.clear()

    def _broken(self, row: Row, text: str, *, note: str) -> None:
        row.tally.note = note
        self._collect_report(row, _collect_data("failed", text))


def _location(nodeid: str, location: Sequence[Any] | None) -> tuple[str, int | None, str]:
    if location:
        return (location[0], location[1], location[2])
    path, _, rest = nodeid.partition("::")
    return (path, None, rest.replace("::", "."))


def _collect_data(outcome: str, longrepr: object) -> dict[str, Any]:
    return {"$report_type": "CollectReport", "nodeid": "", "outcome": outcome, "longrepr": longrepr, "sections": []}


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """JSON made lists of what pytest tests for being a tuple."""
    longrepr = data.get("longrepr")
    data = dict(data)
    if isinstance(longrepr, list):
        data["longrepr"] = tuple(longrepr)
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) if isinstance(pair, list) else pair for pair in data.get(name) or ()]
    if isinstance(data.get("location"), list):
        data["location"] = tuple(data["location"])
    return data


def _text_of(report: Any) -> str:
    longrepr = report.longrepr
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        return f"{longrepr[0]}:{longrepr[1]}: {longrepr[2]}"
    sections = [f"\n--- {title} ---\n{content}" for title, content in report.sections if report.failed]
    return f"{report.longreprtext}{''.join(sections)}" or str(getattr(report, "wasxfail", "") or "")
