"""The outcomes of a suite under each Python: as a table, as an HTML page, and as Markdown for the summary of a CI job.

Also reads the outcomes from JUnit files, and combines the coverage of several Pythons.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

from pytest_pyinstall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "FILES",
    "LABELS",
    "NOT_STARTED",
    "OF_A_PYTHON",
    "STOPPED",
    "UNRUN",
    "Cell",
    "Coverage",
    "Matrix",
    "Tally",
    "append_summary",
    "combine",
    "failures_of",
    "files_in",
    "markdown",
    "nodeid_of",
    "page",
    "read_junit",
    "table",
    "title_of",
    "unrun_of",
    "where_failed",
    "without_python",
]


LABELS = "pytest-pyinstall"
"""The property of a suite's JUnit file with the labels of its Pythons, separated by spaces."""
FILES = "pytest-pyinstall-files"
"""The property of a suite's JUnit file with the paths of its test files. With them, class names become node ids."""
UNRUN = "pytest-pyinstall-not-run"
"""The property with the number of tests that did not run under each Python, as JSON. It is null if not known."""
STOPPED = "stopped"
"""The note of a Python whose session was ended by the controller, for example after ``-x`` or Ctrl-C."""
NOT_STARTED = "not started"
OF_A_PYTHON = re.compile(r"[/\\\\](?:site-packages|lib[/\\\\](?:python|pypy)3\.\d+t?)[/\\\\]")
"""A path in the standard library or in the packages of some Python."""
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


_COLUMNS = (
    ("passed", "passed"), ("failed", "failed"), ("skipped", "skipped"), ("error", "errors"),
    ("xfailed", "xfailed"), ("xpassed", "xpassed"), ("not run", "not run"),
)  # fmt: skip


_MOST_OF_A_NOTE = 80
"""The maximal length of a row with a note. The full note is in the error above the table."""


class Tally:
    """One row of the table. `note` is the reason if there are no numbers, or `STOPPED`."""

    def __init__(
        self,
        *,
        label: str,
        python: str = "",
        pytest: str = "",
        counts: Mapping[str, int] | None = None,
        seconds: float = 0.0,
        note: str = "",
    ) -> None:
        self.label = label
        self.python = python
        self.pytest = pytest
        self.counts = dict(counts or {})
        self.seconds = seconds
        self.note = note

    def count(self, outcome: str) -> None:
        """Add one test with this outcome."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1


class Cell(NamedTuple):
    """The outcome of one test under one Python. `text` is the failure, or the reason of a skip."""

    outcome: str
    seconds: float = 0.0
    text: str = ""


class Matrix:
    """The outcomes of tests (rows, in the order in which they were first seen) under Pythons (columns)."""

    def __init__(self, tallies: Iterable[Tally], *, when: Sequence[datetime] = ()) -> None:
        self.tallies = list(tallies)
        self.when = list(when)
        """The times at which the sessions started."""
        self.rows: dict[str, dict[str, Cell]] = {}
        self.time_title = "time"
        """The heading of `Tally.seconds`: the time of each Python's session, unless it says otherwise."""
        self.shard = ""
        """``1/3`` if these are the results of a shard. Then a Python without a test says nothing."""

    def put(self, test: str, label: str, cell: Cell) -> None:
        """Record an outcome. A worse one replaces a better one: an error in teardown replaces the passed test."""
        row = self.rows.setdefault(test, {})
        if label not in row or _weight(cell) >= _weight(row[label]):
            row[label] = cell


def _weight(cell: Cell) -> int:
    return {"failed": 2, "error": 2}.get(cell.outcome, 1)


SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""GitHub sets this variable in each step to the path of a Markdown file, which it shows on the page of the run."""

_BAD = {"failed", "error"}
_MOST_TESTS = 100
_MOST_LINES = 60
_MOST_CHARACTERS = 400_000
"""GitHub does not show a summary that is longer than 1 MiB."""


def table(tallies: Sequence[Tally], *, time_title: str = "time", width: int = 0) -> list[str]:
    """The lines of the table, with a heading. Columns for rare outcomes are left out if they are empty.

    If the table is wider than `width`, its columns are closer together, and all empty columns are left out. A `width`
    below that of the longest note is no limit.
    """
    usual = _shown_columns(tallies)
    used = [each for each in usual if any(tally.counts.get(each[0]) for tally in tallies)]
    lines = _table(tallies, usual, time_title, gap="  ")
    for columns in (usual, used):
        if width >= _MOST_OF_A_NOTE and max(map(len, lines)) > width:
            lines = _table(tallies, columns, time_title, gap=" ")
    return lines


def _table(tallies: Sequence[Tally], shown: Sequence[tuple[str, str]], time_title: str, *, gap: str) -> list[str]:
    with_pytest = any(tally.pytest for tally in tallies)
    heading = ["Python", *(["pytest"] if with_pytest else []), *(title for _, title in shown), time_title]
    rows: list[list[str]] = []
    ends: list[str] = []
    for tally, name in zip(tallies, _names_of(tallies), strict=True):
        numbers = [str(tally.counts.get(key, 0)) for key, _ in shown]
        row = [name, *([tally.pytest or "-"] if with_pytest else [])]
        if tally.note and not tally.counts:
            rows.append([*row, tally.note])
            ends.append("")
        else:
            rows.append([*row, *numbers, f"{tally.seconds:.2f} s"])
            ends.append(f"{gap}{STOPPED}" if tally.note == STOPPED else "")
    wide = [row for row in rows if len(row) == len(heading)]
    widths = [max(len(row[column]) for row in (heading, *wide)) for column in range(len(heading))]
    for row in rows:
        for column in range(min(2 if with_pytest else 1, len(row))):
            widths[column] = max(widths[column], len(row[column]))
    left = 2 if with_pytest else 1
    return [_aligned(row, widths, left, gap) + end for row, end in zip((heading, *rows), ["", *ends], strict=True)]


def _names_of(tallies: Sequence[Tally]) -> list[str]:
    """The names of the rows. Their labels distinguish two Pythons of the same version."""
    names = [tally.python or tally.label for tally in tallies]
    return [
        f"{name} ({tally.label})" if names.count(name) > 1 else name for name, tally in zip(names, tallies, strict=True)
    ]


def _shown_columns(tallies: Sequence[Tally]) -> list[tuple[str, str]]:
    always = {"passed", "failed", "skipped", "error"}
    return [(key, title) for key, title in _COLUMNS if key in always or any(tally.counts.get(key) for tally in tallies)]


def _aligned(row: Sequence[str], widths: Sequence[int], left: int, gap: str) -> str:
    if len(row) < len(widths):  # a note in place of the numbers
        cells = [cell.ljust(widths[column]) for column, cell in enumerate(row[:left])]
        line = gap.join([*cells, *row[left:]])
        return line if len(line) <= _MOST_OF_A_NOTE else f"{line[: _MOST_OF_A_NOTE - 1].rstrip()}…"
    cells = [
        cell.ljust(widths[column]) if column < left else cell.rjust(widths[column]) for column, cell in enumerate(row)
    ]
    return gap.join(cells).rstrip()


def unrun_of(tallies: Iterable[Tally]) -> dict[str, int | None]:
    """The Pythons that did not run all tests, each with the number of the others; None if it is not known."""
    found: dict[str, int | None] = {tally.label: tally.counts.get("not run") for tally in tallies}
    unknown = {tally.label for tally in tallies if tally.note in {STOPPED, NOT_STARTED}}
    return {label: count for label, count in found.items() if count or label in unknown}


def read_junit(directory: Path, *, project: Path | None = None) -> Matrix:
    """Merge the JUnit files of several jobs below `directory`.

    In a file of a suite, the property `LABELS` names the Pythons, and the end of each test's id is one of them
    (``[py3.9]``). In any other file, such an ending is a parameter. There the Python is in the name of the file or of a
    directory (``junit-py39.xml``, ``3.9/junit.xml``); if it is not, the whole name is the label.

    JUnit files name classes, ``tests.test_a.TestIt``. They become node ids if a file says which test files there are,
    or if the test file is in the directory `project`.

    Raises `UsageError` if there is no file, or if one cannot be read.
    """
    if not directory.is_dir():
        if not directory.exists():
            raise UsageError(f"there is no directory {directory}", hint="pytest --junitxml junit-py39.xml")
        hint = f"pytest-pyinstall report {shlex.quote(str(directory.parent))}"
        raise UsageError(f"{directory} is a file, but report reads all JUnit files of a directory", hint=hint)
    paths = sorted(directory.rglob("*.xml"))
    matrix = Matrix([])
    matrix.time_title = "test time"  # JUnit files have only the times of the tests
    tallies: dict[str, Tally] = {}
    bad: dict[Path, Exception] = {}
    roots: list[tuple[Path, ET.Element]] = []
    files: dict[str, str] = {}
    for path in paths:
        try:
            root = ET.parse(path).getroot()  # noqa: S314  # files of the user's own jobs; no entities resolved
        except (ET.ParseError, OSError, ValueError) as error:
            bad[path] = error
            continue
        if root.tag in {"testsuites", "testsuite"}:
            roots.append((path, root))
            files |= files_in(root, project)
    for path, root in roots:
        named, labels = _label_of(path, directory), _labels_in(root)
        matrix.when += _starts(root)
        for case in root.iter("testcase"):
            test, label, cell = _case(case, named, labels, files)
            tally = _tally_in(tallies, label, labels)
            tally.count(cell.outcome)
            tally.seconds += cell.seconds
            matrix.put(test, label, cell)
        _add_unrun(tallies, root, labels)
    if bad:
        reasons = "\n".join(f"{path}: {error}" for path, error in bad.items())
        hint = f"write it again: pytest --junitxml {shlex.quote(str(next(iter(bad))))}"
        raise UsageError(f"these JUnit files cannot be read:\n{reasons}", hint=hint)
    if not tallies:
        raise UsageError(f"{directory}: no JUnit files there", hint="pytest --junitxml junit-py39.xml")
    matrix.tallies = sorted(tallies.values(), key=lambda tally: _natural(tally.label))
    return matrix


def _starts(root: ET.Element) -> Iterator[datetime]:
    for suite in root.iter("testsuite"):
        with contextlib.suppress(ValueError):
            yield datetime.fromisoformat(suite.get("timestamp", ""))


def _shown_time(times: Iterable[datetime]) -> str:
    """Format the first time, as in ``2026-11-28 06:00 UTC``, and the last time if it differs.

    Old versions of pytest write the local time without a zone. It is shown without a zone, too.
    """
    shown = sorted(
        f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else f"{time:%Y-%m-%d %H:%M}" for time in times
    )
    return " to ".join(dict.fromkeys([*shown[:1], *shown[-1:]]))


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _label_of(path: Path, directory: Path) -> str:
    relative = path.relative_to(directory)
    for part in (path.stem, *reversed(relative.parts[:-1])):
        if match := re.search(r"(pypy|graalpy|py|cp|python)?-?(3)[._]?(\d{1,2})(t?)(?![\d])", part):
            name = match[1] if match[1] in {"pypy", "graalpy"} else "py"
            return f"{name}{match[2]}.{match[3]}{match[4]}"
    return str(relative.with_suffix(""))


def _tally_in(tallies: dict[str, Tally], label: str, labels: Container[str]) -> Tally:
    """The tally of the Python `label`, which gets the name of the suite's table if it is one of its `labels`."""
    if label not in tallies:
        shown = label.removeprefix("py") if label[2:3].isdigit() else label
        # As in the table of a suite: ``3.9 django4.2``.
        tallies[label] = Tally(label=label, python=shown.replace("-", " ", 1) if label in labels else shown)
    return tallies[label]


def _add_unrun(tallies: dict[str, Tally], root: ET.Element, labels: Container[str]) -> None:
    """Add the tests that did not run, according to the property `UNRUN`."""
    for text in _properties(root, UNRUN):
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            for label, count in found.items() if isinstance(found, dict) else ():
                tally = _tally_in(tallies, label, labels)
                if isinstance(count, int):
                    tally.counts["not run"] = tally.counts.get("not run", 0) + count
                else:
                    tally.note = STOPPED


def _labels_in(root: ET.Element) -> frozenset[str]:
    return frozenset(label for text in _properties(root, LABELS) for label in text.split())


def _properties(root: ET.Element, name: str) -> list[str]:
    found = (one for suite in root.iter("testsuite") for one in suite.iterfind("properties/property"))
    return [one.get("value", "") for one in found if one.get("name") == name]


def files_in(root: ET.Element, project: Path | None = None) -> dict[str, str]:
    """The test files that a JUnit file names or that are in `project`, by the class name that pytest writes for it."""
    files = [case.get("file", "") for case in root.iter("testcase")]  # with junit_family=xunit1
    for text in _properties(root, FILES):
        with contextlib.suppress(ValueError, TypeError):
            files += json.loads(text)
    if project is not None:
        names = {case.get("classname", "") for case in root.iter("testcase")}
        places = {
            name.rsplit(".", count)[0].replace(".", "/") for name in names for count in range(name.count(".") + 1)
        }
        files += [f"{place}.py" for place in places if (project / f"{place}.py").is_file()]
    return {file.replace("/", ".").removesuffix(".py"): file for file in files if file}


def nodeid_of(class_name: str, name: str, files: Mapping[str, str]) -> str:
    """The node id of a test in a JUnit file; empty if its file is not one of `files`, which is from `files_in`."""
    prefix, rest = class_name, ""
    while prefix not in files:
        prefix, dot, last = prefix.rpartition(".")
        if not dot:
            return ""
        rest = f"{last}.{rest}" if rest else last
    return "::".join([files[prefix], *filter(None, rest.split(".")), name])


def _case(case: ET.Element, named: str, labels: frozenset[str], files: Mapping[str, str]) -> tuple[str, str, Cell]:
    name = case.get("name", "")
    label = named
    test, bracket, last = name.removesuffix("]").rpartition("[")
    if bracket and name.endswith("]") and last in labels:
        name, label = test, last
    class_name = case.get("classname", "")
    dotted = "::".join(filter(None, (class_name, name))) or "collection"  # of a whole Python
    test = nodeid_of(class_name, name, files) or dotted
    outcome, text = _outcome_of(case)
    try:
        seconds = float(case.get("time") or 0)
    except ValueError:
        seconds = 0.0
    return test, label, Cell(outcome=outcome, seconds=seconds, text=text)


def _outcome_of(case: ET.Element) -> tuple[str, str]:
    """The outcome of a test, and its text. Subtests add elements of their own to the element of their test."""
    bad = [child for child in case if child.tag in {"failure", "error"}]
    skipped = [child for child in case if child.tag == "skipped"]
    if bad:
        return "failed" if bad[0].tag == "failure" else "error", "\n\n".join(filter(None, map(_text_of, bad)))
    if len(skipped) == 1:  # the test, or its only skipped subtest: their elements are equal
        return "xfailed" if "xfail" in skipped[0].get("type", "") else "skipped", _text_of(skipped[0])
    return "passed", ""  # pytest counts a test as passed if only subtests were skipped


def _text_of(element: ET.Element) -> str:
    return element.text or element.get("message") or ""


def title_of(name: str, tallies: Sequence[Tally]) -> str:
    """The title of a page or summary of the project `name`."""
    if len(tallies) == 1:
        return f"{name} on {tallies[0].python or tallies[0].label}"
    names = [(tally.python or tally.label).partition(" ") for tally in tallies]
    pythons, variants = {python for python, _, _ in names}, {variant for *_, variant in names if variant}
    if len(variants) < 2:
        return f"{name} on {len(tallies)} Pythons"
    return f"{name} on {len(pythons)} Python{'s' * (len(pythons) > 1)} with {len(variants)} variants"


def page(matrix: Matrix, *, title: str) -> str:
    """The matrix as one HTML page, which needs no other file and no network. Test names and output are escaped."""
    labels = [tally.label for tally in matrix.tallies]
    texts: dict[str, int] = {}
    rows = []
    for test, cells in matrix.rows.items():
        row: list[object] = [test]
        for label in labels:
            cell = cells.get(label)
            if cell is None:
                row.append(0)
                continue
            code = OUTCOMES.index(cell.outcome) + 1
            text = texts.setdefault(cell.text, len(texts)) if cell.text else -1
            row.append([code, round(cell.seconds, 3), text])
        rows.append(row)
    document = {
        "labels": _names_of(matrix.tallies),
        "outcomes": ["none", *OUTCOMES],
        "when": _shown_time(matrix.when),
        "tallies": [
            {"pytest": tally.pytest, "counts": tally.counts, "seconds": round(tally.seconds, 2), "note": tally.note}
            for tally in matrix.tallies
        ],
        "rows": rows,
        "texts": list(texts),
    }
    # A "</script>" in a test's output must not end our script.
    data = json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", html.escape(title)).replace("{{data}}", data)


def markdown(matrix: Matrix, *, title: str) -> str:
    """The matrix as Markdown: a table of the Pythons, each failure once with its Pythons, and other differences."""
    failed = {
        test: cells for test, cells in matrix.rows.items() if any(cell.outcome in _BAD for cell in cells.values())
    }
    title += f", shard {matrix.shard}" if matrix.shard else ""
    parts = [f"### {_plain(title)}", "", *_markdown_table(matrix.tallies, matrix.time_title), ""]
    labels = [tally.label for tally in matrix.tallies]
    if failed:
        parts += [f"#### {_counted(len(failed), 'test')} failed", ""]
    length = 0
    for number, (test, cells) in enumerate(failed.items()):
        lines = list(_markdown_failure(test, cells, labels))
        length += sum(map(len, lines))
        if number == _MOST_TESTS or length > _MOST_CHARACTERS:
            parts += [f"… and {_counted(len(failed) - number, 'test')} more", ""]
            break
        parts += lines
    if not matrix.shard:
        parts += _differences({test: cells for test, cells in matrix.rows.items() if test not in failed}, labels)
    return "\n".join(parts).rstrip() + "\n"


def append_summary(matrix: Matrix, environ: Mapping[str, str], *, title: str) -> str:
    """Append `markdown` to the summary of the CI job, if there is one. Returns a warning if that fails, else nothing.

    The tests must not fail because of another program's variable.
    """
    if not (name := environ.get(SUMMARY_VARIABLE)):
        return ""
    try:
        with Path(name).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{markdown(matrix, title=title)}\n")
    except OSError as error:
        return f"{SUMMARY_VARIABLE}: cannot write {name}: {error.strerror or error}"
    return ""


def _markdown_table(tallies: Sequence[Tally], time_title: str) -> Iterator[str]:
    columns = _shown_columns(tallies)
    shown = [key for key, _ in columns]
    yield f"| Python | {' | '.join(title for _, title in columns)} | {time_title} |"
    yield f"|---|{'---:|' * (len(shown) + 1)}"
    for tally, shown_name in zip(tallies, _names_of(tallies), strict=True):
        name = _plain(shown_name)
        if tally.note and not tally.counts:
            yield f"| ❌ {name} | {_plain(tally.note)} |{' |' * len(shown)}"
            continue
        is_whole = tally.note != STOPPED and not any(tally.counts.get(key) for key in (*_BAD, "not run"))
        mark = "✅" if is_whole else "❌"
        name += f" ({STOPPED})" if tally.note == STOPPED else ""
        numbers = " | ".join(str(tally.counts.get(key, 0)) for key in shown)
        yield f"| {mark} {name} | {numbers} | {tally.seconds:.2f} s |"


def _markdown_failure(test: str, cells: Mapping[str, Cell], labels: Sequence[str]) -> Iterator[str]:
    for own, where in failures_of(cells, labels):
        place = f"on {where}" if where == own[0] else where
        yield f"<details><summary><code>{html.escape(_one_line(test))}</code> {html.escape(place)}</summary>"
        yield ""
        # Of the newest Python, which has the most detailed tracebacks.
        text = next((cells[label].text for label in reversed(own) if cells[label].text), "")
        if text:
            lines = text.rstrip().splitlines()
            if len(lines) > _MOST_LINES:
                lines = [f"… {len(lines) - _MOST_LINES} lines", *lines[-_MOST_LINES:]]
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            yield from (f"{fence}text", *lines, fence, "")
        yield "</details>"
        yield ""


def failures_of(cells: Mapping[str, Cell], labels: Sequence[str]) -> list[tuple[list[str], str]]:
    """The different failures of one test: for each, the Pythons of `labels` that have it, and `where_failed`."""
    groups: dict[tuple[str, ...], list[str]] = {}
    bad = [label for label in labels if label in cells and cells[label].outcome in _BAD]
    for label in bad:
        groups.setdefault(_failure_in(cells[label].text), []).append(label)
    fine = [label for label in labels if label in cells and label not in bad]
    return [
        (own, where_failed(own, [label for label in bad if label not in own], fine, labels)) for own in groups.values()
    ]


def where_failed(
    own: Sequence[str],
    elsewhere: Sequence[str],
    fine: Sequence[str],
    labels: Sequence[str],
    *,
    joined: Callable[[Sequence[str]], str] = ", ".join,
) -> str:
    """For a heading: on which of `labels` a test failed, on which it failed differently, and where it did not fail."""
    if not (elsewhere or fine):
        everywhere = len(own) == len(labels)
        return own[0] if len(own) == 1 else f"{'every Python:' if everywhere else 'on'} {joined(own)}"
    where = f"on {joined(own)}"
    where += f"; differs on {joined(elsewhere)}" if elsewhere else ""
    return where + (f"; not on {joined(fine)}" if fine else "")


_PLACE = re.compile(r"(\S.*?):\d+: ")


def _failure_in(text: str) -> tuple[str, ...]:
    """A value that is equal for equal failures in the output of pytest: the error, and the places in the project."""
    shown = re.split(r"^-+ Captured ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in shown.splitlines() if line.startswith("E  ") or _is_place(line)]
    return without_python("\n".join(lines or [shown]))


def _is_place(line: str) -> bool:
    match = _PLACE.match(line)
    return match is not None and not OF_A_PYTHON.search(match[1])


def without_python(message: str) -> tuple[str, ...]:
    """The lines of `message`, sorted, without what differs in equal failures of two Pythons, or of two runs."""
    message = re.sub(r"0x[0-9a-fA-F]+", "0x…", message)
    message = re.sub(r"\S*/environments/[0-9a-f]{16}-[0-9a-f-]+/", "", message)
    message = re.sub(r"^hint: .*$", "", message, flags=re.MULTILINE)  # a hint names one Python
    version = r"python\d\.\d+|sys\.version_info\([^)]*\)|\(3, \d+(?:, \d+)?(?:, '\w+', \d+)?\)"
    message, count = re.subn(version, "python", message)
    if count:  # pytest compares two tuples part by part
        message = re.sub(r"^(E? *)At index \d+ diff: .*$", r"\1", message, flags=re.MULTILINE)
    # Sorted, because the order of a set in a message differs between Pythons, and between runs.
    return tuple(sorted(message.splitlines()))


def _differences(rows: Mapping[str, Mapping[str, Cell]], labels: Sequence[str]) -> list[str]:
    """Count the tests that ran under some Pythons, and were skipped or are missing under others."""
    groups: dict[tuple[str, ...], int] = {}
    for cells in rows.values():
        ran = tuple(label for label in labels if label in cells and cells[label].outcome != "skipped")
        if ran and len(ran) < len(labels):
            groups[ran] = groups.get(ran, 0) + 1
    if not groups:
        return []
    lines = ["#### What differs", ""]
    for ran, count in sorted(groups.items(), key=lambda group: -group[1])[:20]:
        others = ", ".join(label for label in labels if label not in ran)
        lines.append(f"- {_counted(count, 'test')} ran on {', '.join(map(_plain, ran))} and not on {_plain(others)}")
    return [*lines, ""]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """`text` on one line, with the syntax of Markdown and HTML escaped."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(_one_line(text), quote=False))


class Coverage(NamedTuple):
    """The result of `combine`: the lines of its reports, and whether one failed, for example ``--cov-fail-under``."""

    lines: tuple[str, ...]
    is_failed: bool


def combine(
    fields: Sequence[Any], parts: Sequence[str], *, python: Path, directory: Path, environ: Mapping[str, str]
) -> Coverage:
    """Combine the data files `parts` into ``.coverage`` in `directory`, and write the reports that the user requested.

    Uses the coverage package of `python`. `fields` are the values of ``--cov-report``, ``--cov-fail-under``,
    ``--cov-config`` and ``--cov-append`` in a worker. All reports are written even if the coverage is below the limit.
    """
    reports, fail_under, config_file, appends = fields
    data_file = Path(environ.get("COVERAGE_FILE") or directory / ".coverage")
    rc = [f"--rcfile={config_file}"] if isinstance(config_file, str) and Path(config_file).is_file() else []

    def coverage(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "coverage", *words],
            cwd=directory,
            env={**environ, "COVERAGE_FILE": str(data_file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )

    done = coverage("combine", "--keep", *(["--append"] if appends else []), *rc, *parts)
    lines = done.stdout.splitlines() if done.returncode else []
    is_failed = bool(done.returncode)
    for kind, value in (dict(reports) or {"term": None}).items():
        words = [] if is_failed else _report(kind, value)
        if words:
            done = coverage(words[0], *rc, *words[1:])
            lines += done.stdout.rstrip().splitlines()
            is_failed = bool(done.returncode)
    if not is_failed:
        # Without the option, coverage uses the limit in its own configuration.
        limit = [] if fail_under is None else [f"--fail-under={fail_under}"]
        done = coverage("report", *rc, *limit)
        if done.returncode:
            lines += done.stdout.rstrip().splitlines()[-1:]
            is_failed = True
    return Coverage(lines=tuple(lines), is_failed=is_failed)


def _report(kind: str, value: object) -> list[str]:
    """The arguments of coverage for one value of ``--cov-report``; empty for an unknown kind."""
    if kind in {"term", "term-missing"}:
        more = ["--show-missing"] if kind == "term-missing" else []
        return ["report", "--fail-under=0", *more, *(["--skip-covered"] if value == "skip-covered" else [])]
    if kind in {"html", "xml", "json", "lcov", "annotate"}:
        more = [] if kind == "annotate" else ["--fail-under=0"]
        return [kind, *more, *(["-d" if kind in {"html", "annotate"} else "-o", str(value)] if value else [])]
    return []
