"""The table, the HTML page, and the matrix that is read from JUnit files."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.suite.report import (
    STOPPED,
    UNRUN,
    Cell,
    Matrix,
    Tally,
    markdown,
    page,
    read_junit,
    table,
    title_of,
    unrun_of,
)

JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_one" time="0.5"/>
<testcase classname="tests.test_a" name="test_two" time="0.1">{inner}</testcase>
</testsuite></testsuites>"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_table_leaves_out_empty_columns() -> None:
    tallies = [
        Tally(label="py3.9", python="3.9.18", pytest="8.4.2", counts={"passed": 12, "failed": 1}, seconds=1.5),
        Tally(label="py3.8", python="3.8.18", note="no build of it"),
    ]
    assert table(tallies) == [
        "Python  pytest  passed  failed  skipped  errors    time",
        "3.9.18  8.4.2       12       1        0       0  1.50 s",
        "3.8.18  -       no build of it",
    ]


def test_the_report_of_a_suite_that_was_stopped_is_not_complete(tmp_path: Path) -> None:
    """The JUnit file has only the tests that ran. A property has the number of the others."""
    tallies = [
        Tally(label="py3.9", python="3.9", counts={"passed": 1, "not run": 2}, note=STOPPED),
        Tally(label="py3.10", python="3.10", note=STOPPED),
        Tally(label="py3.11", python="3.11", counts={"skipped": 1}, note=STOPPED),
        Tally(label="py3.12", python="3.12", counts={"passed": 3}),
        Tally(label="py3.13", python="3.13", note="cannot install: no x"),
    ]
    rows = table(tallies)
    assert rows[0].endswith("  not run    time")
    assert [bool(re.search(r"  stopped$", row)) for row in rows[1:]] == [True, True, True, False, False]
    assert [line[2] for line in markdown(Matrix(tallies), title="demo").splitlines()[4:9]] == [
        "❌",
        "❌",
        "❌",
        "✅",
        "❌",
    ]
    unrun = {"py3.9": 2, "py3.10": None, "py3.11": None}
    assert unrun_of(tallies) == unrun

    value = json.dumps(unrun).replace('"', "&quot;")
    properties = f'<property name="pytest-pyinstall" value="py3.9"/><property name="{UNRUN}" value="{value}"/>'
    text = JUNIT.format(inner="").replace("test_one", "test_one[py3.9]").replace("test_two", "test_two[py3.9]")
    text = text.replace('name="pytest">', f'name="pytest"><properties>{properties}</properties>')
    (tmp_path / "all.xml").write_text(text, "utf-8")
    found = {tally.label: (tally.counts, tally.note) for tally in read_junit(tmp_path).tallies}
    assert found == {"py3.9": ({"passed": 2, "not run": 2}, ""), "py3.10": ({}, STOPPED), "py3.11": ({}, STOPPED)}


def test_a_table_that_is_too_wide_gets_narrower() -> None:
    tally = Tally(label="py3.12-v", python="3.12.1 variant", pytest="9.2.0", counts={"passed": 1, "xfailed": 2})
    wide = ["Python          pytest  passed  failed  skipped  errors  xfailed    time",
            "3.12.1 variant  9.2.0        1       0        0       0        2  0.00 s"]  # fmt: skip
    assert table([tally], width=80) == table([tally]) == wide
    more = Tally(label="x", python="a" * 29, pytest="9.2.0", counts={"passed": 1, "xfailed": 2})
    assert max(map(len, table([more], width=80))) == 80
    assert table([more], width=80)[0] == f"Python{' ' * 24}pytest passed failed skipped errors xfailed   time"
    more.python = "a" * 30
    assert table([more], width=80)[0] == f"Python{' ' * 25}pytest passed xfailed   time"


def test_pythons_of_the_same_version_are_told_apart_by_their_labels() -> None:
    tallies = [
        Tally(label="py3.11.2-usr", python="3.11.2"),
        Tally(label="py3.11.2-v", python="3.11.2"),
        Tally(label="py3.12", python="3.12.1"),
    ]
    names = ["3.11.2 (py3.11.2-usr)", "3.11.2 (py3.11.2-v)", "3.12.1"]
    assert [line.split("  ")[0] for line in table(tallies)[1:]] == names
    assert f'"labels":{json.dumps(names, separators=(",", ":"))}' in page(Matrix(tallies), title="demo")
    assert all(f" {name} |" in markdown(Matrix(tallies), title="demo") for name in names)


def test_junit_files_of_several_jobs_become_one_matrix(tmp_path: Path) -> None:
    failure = '<failure message="boom">the text</failure>'
    (tmp_path / "junit-py39.xml").write_text(JUNIT.format(inner=failure), "utf-8")
    (tmp_path / "3.10").mkdir()
    (tmp_path / "3.10" / "junit.xml").write_text(JUNIT.format(inner='<skipped message="why"/>'), "utf-8")
    (tmp_path / "windows.xml").write_text(JUNIT.format(inner=""), "utf-8")
    matrix = read_junit(tmp_path)
    assert [tally.label for tally in matrix.tallies] == ["py3.9", "py3.10", "windows"]
    row = matrix.rows["tests.test_a::test_two"]
    assert {label: (cell.outcome, cell.text) for label, cell in row.items()} == {
        "py3.9": ("failed", "the text"),
        "py3.10": ("skipped", "why"),
        "windows": ("passed", ""),
    }
    # The summary of a job shows the time of its session, but a JUnit file has only the times of its tests.
    assert table(matrix.tallies, time_title=matrix.time_title)[0].endswith("  test time")
    assert "| test time |" in markdown(matrix, title="demo").splitlines()[2]


def test_a_file_or_a_missing_directory_gets_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "junit-py39.xml"
    with pytest.raises(UsageError, match="there is no directory"):
        read_junit(tmp_path / "none")
    file.write_text("<testsuites>", "utf-8")
    with pytest.raises(UsageError, match="is a file") as given:
        read_junit(file)
    assert given.value.hint == f"pytest-pyinstall report {tmp_path}"
    with pytest.raises(UsageError, match="cannot be read") as broken:
        read_junit(tmp_path)
    assert broken.value.hint == f"write it again: pytest --junitxml {file}"


SKIPPED = '<skipped type="pytest.skip" message="why"/>'


@pytest.mark.parametrize(
    ("inner", "outcome", "text"),
    [
        (f"<failure>one</failure>{SKIPPED}", "failed", "one"),
        (f"{SKIPPED}<failure>one</failure><failure>two</failure>{SKIPPED}", "failed", "one\n\ntwo"),
        (f"<error>fixture</error>{SKIPPED}", "error", "fixture"),
        (SKIPPED * 2, "passed", ""),
        ('<skipped type="pytest.xfail" message="bug"/>', "xfailed", "bug"),
    ],
)
def test_a_skipped_subtest_hides_neither_a_failure_nor_a_passed_test(
    tmp_path: Path, inner: str, outcome: str, text: str
) -> None:
    (tmp_path / "junit-py39.xml").write_text(JUNIT.format(inner=inner), "utf-8")
    matrix = read_junit(tmp_path)
    assert matrix.rows["tests.test_a::test_two"]["py3.9"][::2] == (outcome, text)
    assert matrix.tallies[0].counts[outcome] == (2 if outcome == "passed" else 1)


def test_the_end_of_an_id_names_the_python_in_a_file_of_a_suite(tmp_path: Path) -> None:
    properties = '<properties><property name="pytest-pyinstall" value="py3.9 py3.10-django4.2"/></properties>'
    text = (
        JUNIT.format(inner="")
        .replace("test_one", "test_one[a][py3.9]")
        .replace("test_two", "test_two[py3.10-django4.2]")
    )
    text = text.replace('name="pytest">', f'name="pytest">{properties}')
    (tmp_path / "all.xml").write_text(text, "utf-8")
    matrix = read_junit(tmp_path)
    assert [tally.label for tally in matrix.tallies] == ["py3.9", "py3.10-django4.2"]
    assert list(matrix.rows) == ["tests.test_a::test_one[a]", "tests.test_a::test_two"]


def test_class_names_become_node_ids(tmp_path: Path) -> None:
    cases = JUNIT.format(inner="").replace(
        'classname="tests.test_a" name="test_two"', 'classname="tests.test_a.TestB" name="t"'
    )
    ids = ["tests/test_a.py::test_one", "tests/test_a.py::TestB::t"]

    def rows(text: str, project: Path | None = None) -> list[str]:
        (tmp_path / "py39.xml").write_text(text, "utf-8")
        return [*read_junit(tmp_path, project=project).rows]

    property_ = (
        '<properties><property name="pytest-pyinstall-files" value="[&quot;tests/test_a.py&quot;]"/></properties>'
    )
    assert rows(cases.replace('name="pytest">', f'name="pytest">{property_}')) == ids
    assert rows(cases.replace("<testcase ", '<testcase file="tests/test_a.py" ')) == ids
    project = tmp_path / "project"
    assert rows(cases, project) == ["tests.test_a::test_one", "tests.test_a.TestB::t"]
    (project / "tests").mkdir(parents=True)
    (project / "tests" / "test_a.py").touch()
    assert rows(cases, project) == ids


def test_the_page_shows_the_dates_of_the_junit_files(tmp_path: Path) -> None:
    for name, when in (("py39", "2026-11-28T07:30:00.1+01:00"), ("py310", "2026-11-28T06:45:10+00:00"), ("x", "?")):
        text = JUNIT.format(inner="").replace('name="pytest"', f'name="pytest" timestamp="{when}"')
        (tmp_path / f"junit-{name}.xml").write_text(text, "utf-8")
    assert '"when":"2026-11-28 06:30 UTC to 2026-11-28 06:45 UTC"' in page(read_junit(tmp_path), title="demo")


def test_a_variant_has_the_same_name_as_in_the_table_of_the_suite(tmp_path: Path) -> None:
    properties = '<properties><property name="pytest-pyinstall" value="py3.9-django4.2 py3.9-django5.2"/></properties>'
    text = (
        JUNIT.format(inner="")
        .replace("test_one", "test_one[py3.9-django4.2]")
        .replace("test_two", "t[py3.9-django5.2]")
    )
    (tmp_path / "all.xml").write_text(text.replace('name="pytest">', f'name="pytest">{properties}'), "utf-8")
    assert [tally.python for tally in read_junit(tmp_path).tallies] == ["3.9 django4.2", "3.9 django5.2"]


@pytest.mark.parametrize("parameter", ["py39", "py3.9", "pypy311", "3.9", "graalpy3.12", "py3.9-x"])
def test_the_end_of_an_id_is_a_parameter_in_any_other_file(tmp_path: Path, parameter: str) -> None:
    (tmp_path / "junit-py312.xml").write_text(JUNIT.format(inner="").replace("_one", f"_one[{parameter}]"), "utf-8")
    matrix = read_junit(tmp_path)
    assert [tally.label for tally in matrix.tallies] == ["py3.12"]
    assert list(matrix.rows) == [f"tests.test_a::test_one[{parameter}]", "tests.test_a::test_two"]


def test_the_command_reports_a_failure_for_the_python_of_its_file(tmp_path: Path) -> None:
    text = JUNIT.format(inner="<failure/>").replace("test_two", "test_two[pypy311]").replace("_one", "_one[py39]")
    (tmp_path / "junit-py312.xml").write_text(text, "utf-8")
    (tmp_path / "junit-py313.xml").write_text(text.replace("<failure/>", ""), "utf-8")
    command = [sys.executable, "-m", "pytest_pyinstall", "report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.findall(r"^3\.\d+ ", done.stdout, re.MULTILINE) == ["3.12 ", "3.13 "]
    assert done.stdout.splitlines()[-1] == "FAILED tests.test_a::test_two[pypy311][py3.12]; not on py3.13"


def test_the_command_names_the_pythons_of_a_failure_in_the_order_of_the_table(tmp_path: Path) -> None:
    for name in ("py310", "py39"):
        (tmp_path / f"junit-{name}.xml").write_text(JUNIT.format(inner="<failure/>"), "utf-8")
    command = [sys.executable, "-m", "pytest_pyinstall", "report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "FAILED tests.test_a::test_two[py3.9,py3.10]"


def test_a_directory_without_junit_files_and_a_broken_file_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no JUnit files"):
        read_junit(tmp_path)
    (tmp_path / "x.xml").write_text("<testsuite", "utf-8")
    with pytest.raises(UsageError, match=r"x\.xml"):
        read_junit(tmp_path)


def big_matrix(rows: int) -> Matrix:
    labels = ["py3.9", "py3.10", "py3.11", "py3.12", "py3.13"]
    tallies = [Tally(label=label, python=label[2:], pytest="9", counts={"passed": rows}, seconds=2) for label in labels]
    tallies[0].counts = {"passed": rows - 1, "failed": 1}
    tallies[1].counts["error"] = 2
    tallies[-1].python = "3.13 django5.2"
    matrix = Matrix(tallies, when=[datetime(2026, 11, 28, 6, 30, tzinfo=UTC)])
    for number in range(rows):
        for label in labels:
            failed = number == 777 and label == "py3.9"
            text = "</script><script>alert(1)</script> the failure's text" if failed else ""
            matrix.put(
                f"tests/test_{number // 100}.py::test_{number}",
                label,
                Cell(outcome="failed" if failed else "passed", seconds=0.01, text=text),
            )
    return matrix


def test_the_page_loads_no_other_file(tmp_path: Path) -> None:
    text = page(big_matrix(10), title="<demo> & co")
    assert "<title>&lt;demo&gt; &amp; co</title>" in text
    assert not re.search(r"(?:src|href)\s*=|url\(|https?:", text)


def test_the_title_counts_pythons_and_variants_separately() -> None:
    def title(*names: str) -> str:
        return title_of("demo", [Tally(label=f"py{name.replace(' ', '-')}", python=name) for name in names])

    assert title("3.9") == "demo on 3.9"
    assert title("3.9", "3.13t") == "demo on 2 Pythons"
    assert title("3.9 new", "3.9 old", "3.13 new", "3.13 old") == "demo on 2 Pythons with 2 variants"
    assert title("3.9 new", "3.9 old") == "demo on 1 Python with 2 variants"


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_the_matrix_filters_it_and_opens_a_failure(tmp_path: Path, width: int) -> None:
    script = """
<script>
addEventListener("load", () => setTimeout(() => {
  const out = {}, start = performance.now();
  const $ = s => document.querySelector(s);
  out.first = $("#count").textContent;
  $("[data-filter=all]").click(); out.all = $("#count").textContent;
  out.nodes = document.querySelectorAll(".row").length;
  $("[data-filter=differs]").click(); out.differs = $("#count").textContent;
  $(".cell.failed").click(); out.text = $("aside pre").textContent; out.heading = $("aside h2 span").textContent;
  out.open = getComputedStyle($("aside")).display;
  $("#text").value = "nothing like it"; $("#text").oninput(); out.none = $(".empty").textContent;
  out.summary = $("#summary").textContent;
  out.last = [...document.querySelectorAll("#columns div:last-child > *")].map(e => e.textContent);
  out.wide = document.documentElement.scrollWidth <= innerWidth;
  out.ms = performance.now() - start;
  document.title = "RESULT" + JSON.stringify(out) + "END";
}, 10));
</script>"""
    path = tmp_path / "matrix.html"
    path.write_text(page(big_matrix(8000), title="demo").replace("</body>", script + "</body>"), "utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--window-size={width},800",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    for _ in range(3):  # on a busy machine the browser may print the page before it ran the script
        dom = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
        if match := re.search(r"RESULT(\{.*?\})END", dom):
            break
    assert match, dom[:2000]
    out = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert out["first"] == "1 of 8000 tests"
    assert out["all"] == "8000 of 8000 tests"
    assert out["nodes"] < 100
    assert out["differs"] == "1 of 8000 tests"
    assert out["text"] == "</script><script>alert(1)</script> the failure's text"
    assert out["heading"] == "tests/test_7.py::test_777 — failed on 3.9"
    assert out["open"] == "flex"
    assert out["none"] == "No such tests."
    counted = "39999 passed · 1 failed · 2 errors · 10.0 s · 2 of 5 columns with failures"
    assert out["summary"] == f"2026-11-28 06:30 UTC · {counted}"
    assert out["last"] == ["3.13", "django5.2", "8000 passed"]
    assert out["wide"] is True
    assert out["ms"] < 3000


def test_an_error_of_a_whole_python_has_the_name_of_the_job_summary(tmp_path: Path) -> None:
    case = '<testcase classname="" name="[py3.14]"><error message="no build of it">text</error></testcase>'
    labels = '<properties><property name="pytest-pyinstall" value="py3.14"/></properties>'
    (tmp_path / "a.xml").write_text(f"<testsuites><testsuite>{labels}{case}</testsuite></testsuites>", "utf-8")
    assert [*read_junit(tmp_path).rows] == ["collection"]
