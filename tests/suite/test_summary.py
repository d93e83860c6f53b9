"""The same failure under several Pythons is one report; the table, the coverage and the page at the end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_pyinstall.suite.report import Coverage, Matrix, Tally
from pytest_pyinstall.suite.summary import (
    merge_equal_failures,
    with_label,
    write_coverage,
    write_missing_modules,
    write_page,
    write_table,
)

ROOT = Path("/project")
LABELS = ["py39", "py310", "py312"]


class Reporter:
    """As much of pytest's terminal reporter as is written to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.colours: list[str] = []

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)
        self.colours.append(next((name for name, is_set in markup.items() if is_set), ""))

    def write_sep(self, _: str, title: str) -> None:
        self.lines.append(f"--- {title}")
        self.colours.append("")


def failure(label: str, test: str = "test_a.py::test_it", message: str = "assert 1 == 2", line: int = 3) -> Any:
    place = SimpleNamespace(path="test_a.py", lineno=line)
    return SimpleNamespace(
        nodeid=f"{test}[{label}]",
        when="call",
        node=SimpleNamespace(gateway=SimpleNamespace(id=label)),
        location=("test_a.py", 2, test.rpartition("::")[2]),
        longrepr=SimpleNamespace(
            reprcrash=SimpleNamespace(message=message),
            reprtraceback=SimpleNamespace(reprentries=[SimpleNamespace(reprfileloc=place)]),
        ),
    )


def merged(*reports: Any, ran: tuple[str, ...] = ("py39", "py310", "py312")) -> list[tuple[str, str]]:
    tests = {report.nodeid.partition("[")[0] for report in reports}
    found = merge_equal_failures(reports, LABELS, {test: set(ran) for test in tests}, ROOT)
    return [(report.nodeid.rpartition("[")[2].rstrip("]"), report.location[2]) for report in found]


def test_a_failure_of_every_python_is_one() -> None:
    assert merged(*map(failure, LABELS)) == [("py39,py310,py312", "test_it — every Python: py39, py310, py312")]


def test_a_failure_of_some_names_the_others() -> None:
    assert merged(failure("py310"), failure("py39")) == [("py39,py310", "test_it — on py39, py310; not on py312")]


def test_another_message_is_another_failure_and_says_where_it_is_otherwise() -> None:
    found = merged(failure("py39"), failure("py310", message="assert 1 == 3"))
    assert found == [
        ("py39", "test_it — on py39; otherwise on py310; not on py312"),
        ("py310", "test_it — on py310; otherwise on py39; not on py312"),
    ]


def test_another_line_is_another_failure() -> None:
    assert len(merged(failure("py39"), failure("py310", line=4))) == 2


def test_the_only_python_that_ran_a_test_is_named_alone() -> None:
    assert merged(failure("py39"), ran=("py39",)) == [("py39", "test_it — py39")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<A object at 0x7f01>", "<A object at 0xABCDEF>"),
        ("in /c/environments/" + "a" * 16 + "-a1/lib", "in /c/environments/" + "b" * 16 + "-b2/lib"),
        ("python3.9 is old", "python3.12 is old"),
        ("sys.version_info(major=3, minor=9)", "sys.version_info(major=3, minor=12)"),
        ("assert (3, 9) >= (3, 13)", "assert (3, 12, 1, 'final', 0) >= (3, 13)"),
        ("{'a',\n 'b'}", " 'b'}\n{'a',"),
    ],
    ids=["address", "environment", "name", "version_info", "tuple", "order"],
)
def test_what_differs_with_the_python_alone_is_the_same_failure(one: str, other: str) -> None:
    assert len(merged(failure("py39", message=one), failure("py312", message=other))) == 1


def test_places_outside_the_project_do_not_count() -> None:
    one, other = failure("py39"), failure("py312")
    for report, path in ((one, "/usr/lib/python3.9/json.py"), (other, "/usr/lib/python3.12/json.py")):
        place = SimpleNamespace(path=path, lineno=len(path))
        report.longrepr.reprtraceback.reprentries.append(SimpleNamespace(reprfileloc=place))
    assert len(merged(one, other)) == 1


def test_a_report_of_the_outer_session_stays_as_it_is() -> None:
    report = SimpleNamespace(nodeid="x", when="collect", longrepr="broken")
    assert merge_equal_failures([report], LABELS, {}, ROOT) == [report]
    assert with_label(report) is report


def test_a_label_is_put_on_a_copy() -> None:
    report = failure("py39")
    shown = with_label(report)
    assert shown.location == ("test_a.py", 2, "test_it — py39")
    assert report.location == ("test_a.py", 2, "test_it")


def test_the_table_is_red_where_something_failed_and_green_where_all_passed() -> None:
    tallies = [
        Tally(label="py39", python="3.9.1", counts={"passed": 2, "failed": 1}),
        Tally(label="py312", python="3.12.1", counts={"passed": 3}),
        Tally(label="py313", python="3.13.1", counts={"error": 1}),
        Tally(label="py314", python="", counts={}),
    ]
    reporter = Reporter()
    write_table(reporter, tallies)
    assert reporter.lines[0] == "--- Pythons"
    assert reporter.colours[2:] == ["red", "green", "red", ""]


def test_coverage_is_written_if_there_is_any() -> None:
    reporter = Reporter()
    write_coverage(reporter, None, count=2)
    assert reporter.lines == []
    write_coverage(reporter, Coverage(lines=("TOTAL 90%",), is_failed=False), count=2)
    assert reporter.lines == ["--- coverage: 2 Pythons combined", "TOTAL 90%"]


def test_missing_modules_come_with_the_way_to_name_them() -> None:
    reporter = Reporter()
    write_missing_modules(reporter, [])
    assert reporter.lines == []
    write_missing_modules(reporter, ["attr", "yaml"])
    assert "has the module attr, yaml: pyinstall_suite_install" in reporter.lines[0]


def test_a_page_is_written_and_its_directory_made(tmp_path: Path) -> None:
    reporter = Reporter()
    write_page(reporter, Matrix([]), tmp_path / "new" / "page.html", title="demo")
    assert "<title>demo" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert reporter.lines == [f"the matrix as a page: {tmp_path / 'new' / 'page.html'}"]


def test_a_page_that_cannot_be_written_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reporter = Reporter()
    write_page(reporter, Matrix([]), tmp_path / "file" / "page.html", title="demo")
    assert reporter.lines[0].startswith(f"cannot write {tmp_path / 'file' / 'page.html'}: ")
    assert reporter.colours == ["red"]
