"""The end of a suite's output: merged failures, the table, the coverage and the page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_pyinstall.suite.recipe import Recipe
from pytest_pyinstall.suite.report import Coverage, Matrix, Tally
from pytest_pyinstall.suite.summary import (
    install_hint,
    merge_equal_failures,
    project_files,
    with_label,
    write_coverage,
    write_missing,
    write_page,
    write_table,
)

ROOT = Path("/project")
LABELS = ["py39", "py310", "py312"]
IS_PROJECT = project_files(ROOT, directory=ROOT / "tests", excluded=[ROOT / ".pythons", ROOT / "cache"])


class Reporter:
    """The methods of pytest's terminal reporter that write a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._tw = SimpleNamespace(fullwidth=80)
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
    found = merge_equal_failures(reports, LABELS, {test: set(ran) for test in tests}, IS_PROJECT)
    return [(report.nodeid.rpartition("[")[2].rstrip("]"), report.location[2]) for report in found]


def test_the_same_failure_on_every_python_is_merged() -> None:
    assert merged(*map(failure, LABELS)) == [("py39,py310,py312", "test_it — every Python: py39, py310, py312")]


def test_a_failure_on_some_pythons_names_the_others() -> None:
    assert merged(failure("py310"), failure("py39")) == [("py39,py310", "test_it — on py39, py310; not on py312")]


def test_a_long_heading_names_ranges_of_pythons_and_their_variants() -> None:
    labels = [f"py3.{minor}-{variant}" for minor in range(9, 14) for variant in ("django4.2", "django5.2")]
    failed = [label for label in labels if label not in {"py3.9-django4.2", "py3.13-django4.2", "py3.13-django5.2"}]
    test = "test_a.py::test_it"
    [report] = merge_equal_failures([failure(label) for label in failed], labels, {test: set(labels)}, IS_PROJECT)
    assert report.nodeid == f"{test}[{','.join(failed)}]"
    assert report.location[2] == (
        "test_it — on py3.9 with django5.2 and py3.10..py3.12; not on py3.9 with django4.2 and py3.13"
    )


def test_failures_with_different_messages_are_not_merged_and_name_each_other() -> None:
    found = merged(failure("py39"), failure("py310", message="assert 1 == 3"))
    assert found == [
        ("py39", "test_it — on py39; differs on py310; not on py312"),
        ("py310", "test_it — on py310; differs on py39; not on py312"),
    ]


def test_the_failures_of_one_test_are_beside_each_other_in_the_order_of_the_pythons() -> None:
    """Other reports come between them if several Pythons run at the same time."""
    own = SimpleNamespace(nodeid="x", when="call", longrepr="broken")
    reports = [
        failure("py312", message="assert 1 == 3"),
        own,
        failure("py39", test="test_a.py::test_two"),
        failure("py39"),
    ]
    found = merge_equal_failures(reports, LABELS, {"test_a.py::test_it": {"py39", "py312"}}, IS_PROJECT)
    assert [report.nodeid.rpartition("::")[2] for report in found] == [
        "test_it[py39]",
        "test_it[py312]",
        "x",
        "test_two[py39]",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            (
                "../environments/1/lib/python3.9/site-packages/_pytest/python.py:507: in load\n    mod = x(\n"
                'E     File "/project/test_syn.py", line 3\nE       match x:\nE             ^\n'
                "E   SyntaxError: invalid syntax"
            ),
            "SyntaxError: invalid syntax",
        ),
        (
            (
                "ImportError while importing test module '/project/test_x.py'.\nTraceback:\ntest_x.py:1: in <module>\n"
                "E   KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n"
                "test_x.py:3: in <module>\n    import x\nE   ModuleNotFoundError: No module named 'x'\nE   more"
            ),
            "ModuleNotFoundError: No module named 'x'",
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in b\n    c()\nSystemExit: no 3.9',
            "SystemExit: no 3.9",
        ),
        ("cannot install: no x\nhint: uv venv env", "cannot install: no x"),
    ],
    ids=["SyntaxError", "chained", "SystemExit", "no traceback"],
)
def test_the_short_summary_of_a_collection_error_is_the_exception(text: str, line: str) -> None:
    report = failure("py39")
    report.longrepr = text
    [shown] = merge_equal_failures([report], LABELS, {}, IS_PROJECT)
    if isinstance(shown.longrepr, str):  # pytest takes the first line
        assert shown.longrepr.splitlines()[0] == line
    else:
        assert shown.longrepr.reprcrash.message == line
    assert str(shown.longrepr) == text


@pytest.mark.parametrize(("line", "error", "count"), [(2, "boom", 1), (3, "boom", 2), (2, "bang", 2)])
def test_tracebacks_of_python_are_merged_if_their_frames_in_the_project_are_equal(
    line: int, error: str, count: int
) -> None:
    def report(label: str, *, pluggy: int, line: int, error: str) -> Any:
        found = failure(label, test="")
        foreign = f'  File "/{label}/site-packages/pluggy.py", line {pluggy}, in __call__\n    call()\n    ~~~~^^\n'
        found.longrepr = (
            f"Traceback (most recent call last):\n{foreign * (pluggy // 100)}"
            f'  File "{ROOT}/conftest.py", line {line}, in hook\n    raise it\nRuntimeError: {error}'
        )
        return found

    reports = [report("py39", pluggy=100, line=2, error="boom"), report("py312", pluggy=200, line=line, error=error)]
    assert len(merge_equal_failures(reports, LABELS, {}, IS_PROJECT)) == count


def test_failures_in_different_lines_are_not_merged() -> None:
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
def test_failures_that_differ_only_by_their_python_are_merged(one: str, other: str) -> None:
    assert len(merged(failure("py39", message=one), failure("py312", message=other))) == 1


@pytest.mark.parametrize(
    "library",
    [
        "/usr/lib/python{}/json.py",
        "../../home/you/.local/share/pytest-pyinstall/store/cpython-{}-linux-x86_64-gnu/lib/python{}/json.py",
        "../.pythons/cpython-{}-linux-x86_64-gnu/Lib/json.py",
        "../.tox/py3/lib/python{}/json.py",
        "../cache/environments/{}/lib/python{}/site-packages/attr.py",
        "<frozen importlib._bootstrap{}>",
    ],
)
def test_failures_that_differ_only_outside_the_project_are_merged(library: str) -> None:
    one, other = failure("py39"), failure("py312")
    for report, version in ((one, "3.9"), (other, "3.12")):
        path = library.replace("{}", version)
        place = SimpleNamespace(path=path, lineno=len(path))
        report.longrepr.reprtraceback.reprentries.append(SimpleNamespace(reprfileloc=place))
    assert len(merged(one, other)) == 1


@pytest.mark.parametrize("directory", ["../.pythons", "../.local/share/store", "/elsewhere"])
@pytest.mark.parametrize(("line", "count"), [(1, 1), (2, 2)])
def test_errors_of_collection_that_differ_only_outside_the_project_are_merged(
    directory: str, line: int, count: int
) -> None:
    def report(label: str, library: int, line: int) -> Any:
        found = failure(label, test="test_a.py")
        found.longrepr = (
            "ImportError while importing test module '/project/tests/test a.py'.\nTraceback:\n"
            f"{directory}/lib/python3.{library % 20}/importlib/__init__.py:{library}: in import_module\n    return x\n"
            f"<frozen importlib._bootstrap>:{library}: in _gcd_import\n    ???\n"
            f"test a.py:{line}: in <module>\n    import x\nE   ModuleNotFoundError: No module named 'x'"
        )
        return found

    reports = [report("py39", 127, 1), report("py312", 90, line)]
    assert len(merge_equal_failures(reports, LABELS, {}, IS_PROJECT)) == count


def test_failures_in_different_lines_of_another_directory_of_the_project_are_not_merged() -> None:
    one, other = failure("py39"), failure("py312")
    for report, line in ((one, 5), (other, 6)):
        place = SimpleNamespace(path="../src/lib/python.py", lineno=line)
        report.longrepr.reprtraceback.reprentries.append(SimpleNamespace(reprfileloc=place))
    assert len(merged(one, other)) == 2


def test_of_equal_texts_the_hint_of_the_first_python_is_shown_and_of_equal_tracebacks_the_newest() -> None:
    """Reports come in the order in which the environments are made, which differs from run to run."""
    reports = []
    for label in ("py312", "py39"):
        report = failure(label, test="")
        report.longrepr = f"cannot install: no x\nhint: uv venv env-{label}"
        reports.append(report)
    [shown] = merge_equal_failures(reports, LABELS, {"": {"py39", "py312"}}, IS_PROJECT)
    assert shown.longrepr.endswith("env-py39")

    reports = [failure("py312"), failure("py39")]
    [shown] = merge_equal_failures(reports, LABELS, {}, IS_PROJECT)
    assert shown.longrepr is reports[0].longrepr


def test_a_report_of_the_controller_is_not_changed() -> None:
    report = SimpleNamespace(nodeid="x", when="collect", longrepr="broken")
    assert merge_equal_failures([report], LABELS, {}, IS_PROJECT) == [report]
    assert with_label(report) is report


def test_a_label_is_added_to_a_copy_of_the_report() -> None:
    report = failure("py39")
    shown = with_label(report)
    assert shown.location == ("test_a.py", 2, "test_it — py39")
    assert report.location == ("test_a.py", 2, "test_it")


def test_rows_of_the_table_are_red_after_a_failure_and_green_if_all_passed() -> None:
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


def test_a_hint_names_missing_modules_and_the_setting_to_install_them() -> None:
    reporter = Reporter()
    labels = ["py3.8", "py3.9", "py3.13"]
    recipe = Recipe(description="the project", directory=ROOT, project=ROOT)
    installs = install_hint(recipe, [], ROOT / "pyproject.toml")
    write_missing(reporter, {}, labels, installs=installs)
    assert reporter.lines == []
    missing = {
        "the module attr": ["py3.13", "py3.9", "py3.8"],
        "the module tomllib": ["py3.9", "py3.8"],
        "the module idna": ["py3.9", "py3.8"],
        "pytest-cov (--cov)": ["py3.8"],
        "the module yaml": labels,
    }
    write_missing(reporter, missing, labels, installs=installs)
    setting = "pyinstall_suite_install ="
    assert reporter.lines == [
        (
            "hint: the standard library of py3.8, py3.9 has no module tomllib: "
            "import it only where it exists, or a backport of it"
        ),
        f'hint: no environment has the module attr or the module yaml: {setting} ["-e .", "PACKAGE"]',
        f'hint: the environments of py3.8, py3.9 lack the module idna: {setting} ["-e .", "PACKAGE"]',
        f'hint: the environment of py3.8 lacks pytest-cov (--cov): {setting} ["-e .", "pytest-cov"]',
    ]


@pytest.mark.parametrize(
    ("extras", "configured", "file", "hint"),
    [
        ((), ["-e .[a]"], "pyproject.toml", 'pyinstall_suite_install = ["-e .[a]", "pytest-cov"]'),
        ((), [], "setup.cfg", "pyinstall_suite_install =\n    -e .\n    pytest-cov"),
        (
            ("test",),
            [],
            "tox.ini",
            "add pytest-cov to what the suite installs (the project), or set pyinstall_suite_install",
        ),
    ],
)
def test_the_hint_keeps_what_is_installed(extras: tuple[str, ...], configured: list[str], file: str, hint: str) -> None:
    recipe = Recipe(description="the project", directory=ROOT, project=ROOT, extras=extras)
    assert install_hint(recipe, configured, ROOT / file)(["pytest-cov"]) == hint


def test_the_page_and_its_directory_are_written(tmp_path: Path) -> None:
    reporter = Reporter()
    write_page(reporter, Matrix([]), tmp_path / "new" / "page.html", title="demo")
    assert "<title>demo" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert reporter.lines == [f"the matrix as a page: {tmp_path / 'new' / 'page.html'}"]


def test_a_page_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reporter = Reporter()
    write_page(reporter, Matrix([]), tmp_path / "file" / "page.html", title="demo")
    assert reporter.lines[0].startswith(f"cannot write {tmp_path / 'file' / 'page.html'}: ")
    assert reporter.colours == ["red"]
