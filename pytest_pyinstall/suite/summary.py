"""The summary at the end of a suite: failures, equal ones merged, coverage, the table, and the collected tests."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import sys
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.request.request import as_ranges
from pytest_pyinstall.suite.replay import rows_by_text
from pytest_pyinstall.suite.report import (
    OF_A_PYTHON,
    Coverage,
    Matrix,
    Tally,
    page,
    table,
    where_failed,
    without_python,
)
from pytest_pyinstall.suite.run import NOT_SELECTED, InterpreterRun, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pytest

    from pytest_pyinstall.suite.recipe import Recipe

__all__ = [
    "grouping",
    "install_hint",
    "list_collected",
    "merge_equal_failures",
    "project_files",
    "report_path",
    "with_label",
    "write_coverage",
    "write_missing",
    "write_page",
    "write_summaries",
    "write_table",
    "write_unfinished",
]


def merge_equal_failures(
    reports: Sequence[Any], labels: Sequence[str], ran: Mapping[str, set[str]], is_project: Callable[[str], bool]
) -> list[Any]:
    """Merge the reports of the same failure of one test under several Pythons into one report that names them.

    `labels` are all Pythons in order. `ran` has the Pythons that ran each test. `is_project` says whether the path in
    an entry of a traceback is a file of the project: see `project_files`.
    """
    groups: dict[tuple[object, ...], list[Any]] = {}
    counts: dict[tuple[object, ...], int] = {}
    for report in reports:
        # Two subtests can fail in the same way under one Python, and both are shown.
        node = getattr(report, "node", None)
        failure = _signature(report, is_project)
        under = (node and node.gateway.id, *failure)
        counts[under] = counts.get(under, 0) + 1
        groups.setdefault((counts[under], *failure), []).append(report)
    failing: dict[str, set[str]] = {}
    first: dict[str, int] = {}
    for index, report in enumerate(reports):
        if (test := _own_nodeid(report)) is not None:
            first.setdefault(test, index)
        if test:
            failing.setdefault(test, set()).add(report.node.gateway.id)
    grouped: list[tuple[int, int, Any]] = []
    for group in groups.values():
        test = _own_nodeid(group[0])
        own = sorted({report.node.gateway.id for report in group}, key=labels.index) if test is not None else []
        if test is None:
            grouped += [(next(i for i, each in enumerate(reports) if each is report), 0, report) for report in group]
            continue
        group.sort(key=lambda report: labels.index(report.node.gateway.id))
        # The newest Python has the most detailed tracebacks. The hint of a text is that of the first one.
        shown = copy.copy(group[0 if isinstance(group[0].longrepr, str) else -1])
        if isinstance(shown.longrepr, str) and (line := _error_in(shown.longrepr)):
            shown.longrepr = _ErrorText(shown.longrepr, line)
        others = [label for label in labels if label in ran.get(test, ()) and label not in own]
        elsewhere = [label for label in others if label in failing.get(test, ())]
        fine = [label for label in others if label not in elsewhere]
        where = where_failed(own, elsewhere, fine, labels)
        if len(where) > _LONG:
            where = where_failed(own, elsewhere, fine, labels, joined=lambda those: _short(those, labels))
        _rename(shown, f"{test}[{','.join(own)}]", where)
        grouped.append((first[test], labels.index(own[0]), shown))
    # The failures of one test are beside each other. With several Pythons at once, other reports come between them.
    return _merge_tests_without_plugin([shown for *_, shown in sorted(grouped, key=lambda each: each[:2])])


_LONG = 60


def _short(these: Sequence[str], labels: Sequence[str]) -> str:
    """`these` of `labels` in few words: ``py3.9..py3.12 with django4.2``. Without ``with``, all variants are meant."""
    variants: dict[str, list[str]] = {}
    for label in these:
        python, _, variant = label.partition("-")
        variants.setdefault(python, []).append(variant)
    groups: dict[tuple[str, ...], list[str]] = {}
    for python, found in variants.items():
        is_all = found == [variant for each, _, variant in (label.partition("-") for label in labels) if each == python]
        groups.setdefault(() if is_all else tuple(found), []).append(python)
    return " and ".join(
        ", ".join(as_ranges(pythons)) + (f" with {', '.join(found)}" if found else "")
        for found, pythons in groups.items()
    )


_WITHOUT_PLUGIN = re.compile(r"the fixture `\w+` needs pytest-pyinstall in this environment$", re.MULTILINE)
"""What `_worker_plugin` reports for each test with one of our fixtures. The cause is the environment, not the test."""


def _merge_tests_without_plugin(reports: Sequence[Any]) -> list[Any]:
    """Merge the reports of tests that cannot have a fixture of ours into one for each fixture and set of Pythons."""
    groups: dict[tuple[object, ...], list[Any]] = {}
    key: tuple[object, ...]
    for index, report in enumerate(reports):
        message = str(getattr(getattr(report.longrepr, "reprcrash", None), "message", report.longrepr))
        is_without = _WITHOUT_PLUGIN.match(message.removeprefix("Failed: "))
        key = (message, report.nodeid.rpartition("[")[2]) if is_without else (index,)
        groups.setdefault(key, []).append(report)
    merged = []
    for (cause, *_), (first, *more) in groups.items():
        if isinstance(cause, str):
            first = copy.copy(first)  # noqa: PLW2901
            path, line, domain = first.location
            tests = f" (and {len(more)} more test{'s' if len(more) > 1 else ''})" if more else ""
            first.location = (path, line, f"{domain}{tests}")
            # As text, whose first line is the line of the short summary, without ``Failed:``.
            text = str(first.longrepr).strip()
            first.longrepr = _WITHOUT_PLUGIN.sub(rf"\g<0> ({len(more) + 1} tests)", text, count=1) if more else text
        merged.append(first)
    return merged


class _ErrorText:
    """The text of an error, with the line for the short summary. Without it, pytest takes the first line of a text."""

    def __init__(self, text: str, line: str) -> None:
        self.text = text
        self.reprcrash = SimpleNamespace(message=line)

    def __str__(self) -> str:
        return self.text

    def toterminal(self, writer: Any) -> None:
        writer.line(self.text)


def _error_in(text: str) -> str:
    """The first line of the exception in which the traceback in `text` ends, or the usage error; empty for others."""
    lines = text.splitlines()
    if lines and lines[0].startswith("ERROR: "):  # pytest's usage error, after pytest's own ``ERROR`` of the summary
        return lines[0].removeprefix("ERROR: ")
    if marked := [index for index, line in enumerate(lines) if re.match(r"E( |$)", line)]:
        # pytest marks the lines of the exception. Those of a SyntaxError start with the place.
        start = next(index for index in reversed(marked) if index - 1 not in marked)
        block = lines[start : marked[-1] + 1]
        return next((line[1:].strip() for line in block if re.match(r"E   \S", line)), "")
    if "Traceback (most recent call last):" not in lines:
        return ""
    frames = [index for index, line in enumerate(lines) if re.match(r' +File ".*", line \d+', line)]
    rest = lines[frames[-1] + 1 :] if frames else []
    return next((line for line in rest if line and not line[0].isspace()), "")


def with_label(report: Any) -> Any:
    """A copy of `report` whose heading names its Python; the report itself if it is the controller's own."""
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
    if nodeid.startswith("["):  # an error of a whole Python: pytest's title would be "ERROR collecting [py3.9]"
        report.when = "session"
    if "location" in report.__dict__:
        path, line, domain = report.location
        report.location = (path, line, f"{domain} — {where}")


def _own_nodeid(report: Any) -> str | None:
    """The node id without the Python; None for a report of the controller's own."""
    node = getattr(report, "node", None)
    if node is None:
        return None
    return str(report.nodeid).removesuffix(f"[{node.gateway.id}]")


def _signature(report: Any, is_project: Callable[[str], bool]) -> tuple[object, ...]:
    """A value that is equal for equal failures: test, phase, message, and the lines of the project in the traceback."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    places: list[tuple[str, int]] = []
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
    for entry in entries:
        where = getattr(entry, "reprfileloc", None)
        if where is not None and is_project(where.path):
            places.append((where.path, where.lineno))
    message = str(getattr(crash, "message", longrepr))
    if crash is None and re.search(r"^E  ", message, re.MULTILINE):
        # A collection error is only a text. Keep the lines with the error and those with places in the project.
        lines = re.finditer(r"^(?:E  .*|(\S.*?):\d+: in .*)", message, re.MULTILINE)
        message = "\n".join(line[0] for line in lines if line[1] is None or is_project(line[1]))
    elif crash is None and "Traceback (most recent call last):" in message:
        message = _project_frames(message, is_project)
    return (_own_nodeid(report), report.when, without_python(message), tuple(places))


def _project_frames(text: str, is_project: Callable[[str], bool]) -> str:
    """`text` with Python's own traceback, but only with frames in files of the project, and without source lines."""
    kept = []
    is_in_frame = False
    for line in text.splitlines():
        frame = re.match(r' +File "(.*?)", line \d+', line)
        is_in_frame = frame is not None or (is_in_frame and line[:1].isspace())
        if not is_in_frame or (frame and is_project(frame[1])):
            kept.append(line)
    return "\n".join(kept)


def project_files(root: Path, *, directory: Path, excluded: Iterable[Path]) -> Callable[[str], bool]:
    """A function that says whether the path in an entry of a traceback is a file of the project in `root`.

    pytest writes paths relative to `directory`, in which it was started: the store in the home directory is
    ``../.local/share/…``. `excluded` are our own directories, which may be in the project, as in CI.
    """
    project = os.path.join(root, "")  # noqa: PTH118  # compared as text
    inside = (os.path.join(each, "") for each in excluded)  # noqa: PTH118
    ours = tuple(each for each in inside if each != project)
    start = len(project) - 1

    @functools.cache
    def is_project(path: str) -> bool:
        if path.startswith("<"):  # such as <frozen importlib._bootstrap>
            return False
        whole = os.path.normpath(os.path.join(directory, path))  # noqa: PTH118
        return whole.startswith(project) and not whole.startswith(ours) and not OF_A_PYTHON.search(whole, start)

    return is_project


@contextmanager
def grouping(reporter: Any, matrix: Matrix, labels: Sequence[str], is_project: Callable[[str], bool]) -> Iterator[None]:
    """Merge equal failures in the statistics of the terminal reporter `reporter` while the block runs."""

    def place(report: Any) -> int:
        node = getattr(report, "node", None)
        return labels.index(node.gateway.id) if node is not None else -1

    stats = reporter.stats
    before = {name: stats[name] for name in ("failed", "error", "xfailed", "xpassed", "passed") if name in stats}
    ran = {test: set(cells) for test, cells in matrix.rows.items()}
    for name, reports in before.items():
        if name != "passed":
            stats[name] = merge_equal_failures(reports, labels, ran, is_project)
        elif reporter.hasopt("P"):  # not merged, because the output may differ
            stats[name] = [with_label(report) for report in sorted(reports, key=place)]
    try:
        yield
    finally:
        stats.update(before)


def write_summaries(reporter: Any, rows: Sequence[InterpreterRun], headings: Sequence[str]) -> None:
    """Write the summaries of the workers' plugins, equal ones once, and the names of the files that workers wrote."""
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
    """Write the coverage reports of `count` Pythons, if there are any."""
    if coverage is None or not coverage.lines:
        return
    reporter.write_sep("-", f"coverage: {count} Pythons combined" if count > 1 else "coverage")
    for line in coverage.lines:
        reporter.write_line(line)


def write_table(reporter: Any, tallies: Sequence[Tally]) -> None:
    """Write the table of outcomes: a row is red if a test failed, and green if all passed."""
    reporter.write_sep("-", "Pythons")
    lines = table(tallies, width=reporter._tw.fullwidth)  # noqa: SLF001  # no other way to ask
    for line, tally in zip(lines, [None, *tallies], strict=True):
        bad = tally is not None and any(tally.counts.get(key) for key in ("failed", "error", "not run"))
        good = tally is not None and tally.counts.get("passed") and not bad
        reporter.write_line(line, red=bool(bad), green=bool(good))


def write_unfinished(reporter: Any, rows: Sequence[InterpreterRun]) -> None:
    """Write which Pythons ran no test or not all of them, and the tests that were running when they were stopped."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if not (count := row.tally.counts.get("not run")):
            continue
        why = row.tally.note or row.interrupted
        text = f"{count} test{'s' * (count > 1)} did not run" + (f": {why}" if why else "")
        running = [f"{nodeid} ({seconds:.1f} s)" for nodeid, seconds in row.stopped_in.items()]
        groups.setdefault(f"{text} in {', '.join(running)}" if running else text, []).append(row.label)
    for text, labels in groups.items():
        reporter.write_line(f"{', '.join(labels)}: {text}", red=True)
    idle = [row.label for row in rows if row.exit_code == 5 and row.tally.note != NOT_SELECTED]
    if 0 < len(idle) < len(rows):
        reporter.write_line(f"{', '.join(idle)}: no test was found or selected", yellow=True)


def write_missing(
    reporter: Any,
    missing: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    *,
    installs: Callable[[Sequence[str]], str],
) -> None:
    """Write how to install what the tests need.

    These are the keys of `missing`, each with the Pythons whose environments lack it. `labels` are all Pythons.
    `installs` is how to install more packages: see `install_hint`. The package of a module may have another name.
    """
    groups: dict[tuple[str, bool], list[str]] = {}
    for what, lacking in missing.items():
        without = [label for label in labels if label in lacking]
        names = ", ".join(without)
        module = what.removeprefix("the module ")
        is_module = module != what
        if is_module and module.partition(".")[0] in sys.stdlib_module_names:
            hint = "import it only where it exists, or a backport of it"
            reporter.write_line(f"hint: the standard library of {names} has no module {module}: {hint}")
            continue
        if len(without) == len(labels):
            start = "no environment has"
        elif len(without) == 1:
            start = f"the environment of {names} lacks"
        else:
            start = f"the environments of {names} lack"
        groups.setdefault((start, is_module), []).append(what)
    for (start, are_modules), found in groups.items():
        packages = ["PACKAGE"] if are_modules else [what.partition(" ")[0] for what in found]
        reporter.write_line(f"hint: {start} {' or '.join(found)}: {installs(packages)}")


def install_hint(recipe: Recipe, configured: Sequence[str], inipath: Path | None) -> Callable[[Sequence[str]], str]:
    """A function that says how to install more packages into the environments of `recipe`.

    `configured` is the value of ``pyinstall_suite_install`` in the file `inipath`.
    """

    def hint(packages: Sequence[str]) -> str:
        if not configured and (recipe.extras or recipe.requirements or recipe.tox):
            # The setting would replace what was found.
            names = ", ".join(packages)
            return f"add {names} to what the suite installs ({recipe.description}), or set pyinstall_suite_install"
        lines = [*(configured or (["-e ."] if recipe.project else [])), *packages]
        if inipath is None or inipath.suffix == ".toml":
            return f"pyinstall_suite_install = {json.dumps(lines, ensure_ascii=False)}"
        return "\n    ".join(["pyinstall_suite_install =", *lines])

    return hint


def report_path(config: pytest.Config) -> Path:
    """The path of the page for ``--python-report``, which must be given."""
    target: str = config.option.pyinstall_report
    return config.invocation_params.dir / os.path.expanduser(target)  # noqa: PTH111  # raises nothing


def write_page(reporter: Any, matrix: Matrix, path: Path, *, title: str) -> None:
    """Write the HTML page to `path`, with its directory, and its path to `reporter`; an error is a line, too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(matrix, title=title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reporter.write_line(f"cannot write {path}: {error.strerror or error}", red=True)
        return
    reporter.write_line(f"the matrix as a page: {path}")


def list_collected(config: pytest.Config, rows: Sequence[InterpreterRun]) -> None:
    """List the collected tests as ``--co -q`` does, or with another ``-q`` only their number in each file."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    for row in rows:
        if config.getoption("verbose", 0) < -1:
            counts = Counter(nodeid.partition("::")[0] for nodeid, _ in row.items)
            for name, count in sorted(counts.items()):
                reporter.write_line(f"{name}[{row.label}]: {count}")
            continue
        for nodeid, _ in row.items:
            reporter.write_line(named(nodeid, row.label))
    deselected = len(reporter.stats.get("deselected", []))
    reporter._numcollected = sum(len(row.items) for row in rows) + deselected  # noqa: SLF001  # for the reporter's last line
