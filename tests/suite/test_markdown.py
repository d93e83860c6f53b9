"""The summary of a CI job: its content, and that no name or text of a test can break it."""

from pathlib import Path

import pytest

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.suite.report import Cell, Matrix, Tally, append_summary, failures_of, markdown

LABELS = ("py3.9", "py3.13", "pypy3.11")


def matrix_of(rows: dict[str, dict[str, Cell]], **notes: str) -> Matrix:
    matrix = Matrix([])
    names = {"py3.9": "3.9", "py3.13": "3.13", "pypy3.11": "pypy3.11"}
    tallies = {label: Tally(label=label, python=names[label], note=notes.get(label, "")) for label in LABELS}
    for test, cells in rows.items():
        for label, cell in cells.items():
            matrix.put(test, label, cell)
            tallies[label].count(cell.outcome)
    matrix.tallies = list(tallies.values())
    return matrix


def all_of(outcome: str, text: str = "") -> dict[str, Cell]:
    return {label: Cell(outcome=outcome, text=text) for label in LABELS}


def test_the_summary_of_a_green_run_is_only_a_table() -> None:
    text = markdown(matrix_of({"t.py::test_a": all_of("passed")}), title="slug on 3 Pythons")
    assert text == (
        "### slug on 3 Pythons\n\n"
        "| Python | passed | failed | skipped | errors | time |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| ✅ 3.9 | 1 | 0 | 0 | 0 | 0.00 s |\n"
        "| ✅ 3.13 | 1 | 0 | 0 | 0 | 0.00 s |\n"
        "| ✅ pypy3.11 | 1 | 0 | 0 | 0 | 0.00 s |\n"
    )


def test_a_failure_is_shown_once_with_its_pythons() -> None:
    cells = {"py3.9": Cell(outcome="failed", text="E  old"), "py3.13": Cell(outcome="passed")}
    rows = {"t.py::test_a": cells, "t.py::test_b": all_of("failed", "E  everywhere")}
    text = markdown(matrix_of(rows), title="slug")
    assert "#### 2 tests failed" in text
    assert "<summary><code>t.py::test_a</code> on py3.9; not on py3.13</summary>" in text
    assert "<summary><code>t.py::test_b</code> every Python: py3.9, py3.13, pypy3.11</summary>" in text
    assert text.count("E  everywhere") == 1
    assert text.count("<details>") == text.count("</details>") == 2
    assert "| ❌ 3.9 |" in text
    assert "| ✅ 3.13 |" not in text


def test_failures_that_differ_between_pythons_are_all_shown() -> None:
    old, new = "def test_a():\n>  raise ValueError('old')\nE  ValueError: old", "E  KeyError: 'new'"
    cells = {"py3.9": Cell(outcome="failed", text=old), "py3.13": Cell(outcome="failed", text=new)}
    cells["pypy3.11"] = Cell(outcome="passed")
    lines = markdown(matrix_of({"t.py::test_a": cells}), title="slug").splitlines()
    assert "#### 1 test failed" in lines
    start = "<details><summary><code>t.py::test_a</code>"
    assert f"{start} on py3.9; differs on py3.13; not on pypy3.11</summary>" in lines
    assert f"{start} on py3.13; differs on py3.9; not on pypy3.11</summary>" in lines
    assert {"E  ValueError: old", "E  KeyError: 'new'"} <= {*lines}


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ("E  ValueError: at 0x7f01", "E  ValueError: at 0x8e02", True),
        ("    def f():\nE  KeyError: 1\n\nt.py:3: KeyError", "    def g():\nE  KeyError: 1\n\nt.py:3: KeyError", True),
        ("E  KeyError: 1\n\nt.py:3: KeyError", "E  KeyError: 1\n\nt.py:9: KeyError", False),
        ("E  x\n/usr/lib/python3.9/x.py:3: X", "E  x\n/usr/lib/python3.13/x.py:4: X", True),
        ("E  x\n---- Captured stdout call ----\nt.py:1: a", "E  x\n---- Captured stdout call ----\nt.py:2: b", True),
        ("line 63: exit code 1", "line 64: exit code 1", False),
    ],
)
def test_which_failures_are_the_same(one: str, other: str, is_equal: bool) -> None:
    cells = {"py3.9": Cell(outcome="failed", text=one), "py3.13": Cell(outcome="failed", text=other)}
    assert len(failures_of(cells, LABELS)) == (1 if is_equal else 2)


@pytest.mark.parametrize(("start", "is_equal"), [("3, ", True), ("", False)])
def test_a_comparison_with_the_version_of_python_is_the_same_failure_everywhere(start: str, is_equal: bool) -> None:
    def text(minor: int) -> str:
        return f"E  assert ({start}{minor},) == (3, 0)\nE    \nE    At index 1 diff: {minor} != 0".replace(",)", ")")

    cells = {label: Cell(outcome="failed", text=text(minor)) for label, minor in (("py3.9", 9), ("py3.13", 13))}
    assert len(failures_of(cells, LABELS)) == (1 if is_equal else 2)


def test_the_summary_of_a_shard_names_it_and_does_not_count_the_tests_of_the_others() -> None:
    matrix = matrix_of({"t.py::test_a": {"py3.9": Cell(outcome="passed")}, "t.py::test_b": all_of("failed", "E  x")})
    del matrix.rows["t.py::test_b"]["pypy3.11"]
    assert "What differs" in markdown(matrix, title="slug on 3 Pythons")
    matrix.shard = "1/3"
    text = markdown(matrix, title="slug on 3 Pythons")
    assert text.startswith("### slug on 3 Pythons, shard 1/3\n")
    assert "What differs" not in text
    assert "<code>t.py::test_b</code> on py3.9, py3.13</summary>" in text


def test_tests_that_only_some_pythons_ran_are_counted() -> None:
    only_new = {"py3.9": Cell(outcome="skipped"), "py3.13": Cell(outcome="passed"), "pypy3.11": Cell(outcome="passed")}
    rows = {f"t.py::test_{number}": only_new for number in range(3)} | {"t.py::test_same": all_of("passed")}
    text = markdown(matrix_of(rows), title="slug")
    assert "- 3 tests ran on py3.13, pypy3.11 and not on py3.9" in text


def test_a_python_without_numbers_shows_the_reason() -> None:
    text = markdown(
        matrix_of({"t::a": {"py3.13": Cell(outcome="passed")}}, **{"py3.9": "no build | at all"}), title="x"
    )
    [line] = [line for line in text.splitlines() if "❌ 3.9" in line]
    assert "no build \\| at all" in line


@pytest.mark.parametrize(
    ("test", "failure"),
    [
        ("t.py::test[a|b]", "x"),
        ("t.py::test[`code`]", "```\nnot the end\n```"),
        ("t.py::test[</summary></details><script>]", "</details>"),
        ("t.py::test[line\nend]", "`````"),
        ("t.py::test[*_~#]", ""),
    ],
)
def test_names_and_texts_of_tests_are_escaped(test: str, failure: str) -> None:
    text = markdown(matrix_of({test: all_of("failed", failure)}), title="<b>| title")
    assert text.splitlines()[0] == "### &lt;b&gt;\\| title"
    [summary] = [line for line in text.splitlines() if line.startswith("<details>")]
    assert summary.endswith("</summary>")
    assert summary.count("<") == 5, "details, summary, code, and two ends"
    if failure:
        lines = text.splitlines()
        fence = next(line for line in lines if line.startswith("```")).removesuffix("text")
        assert lines.count(fence) == 1
        assert len(fence) > max(len(line) for line in ["``", *failure.splitlines()] if set(line) <= {"`"})


def test_the_summary_of_a_long_run_is_short_enough_for_github() -> None:
    rows = {f"t.py::test_{number}": all_of("failed", f"line {number}\n" * 5000) for number in range(500)}
    text = markdown(matrix_of(rows), title="slug")
    assert len(text.encode()) < 1_000_000
    assert "… and 400 tests more" in text
    assert "… 4940 lines" in text


def test_the_summary_is_appended_to_the_file_of_the_job(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    matrix = matrix_of({"t::a": all_of("passed")})
    assert append_summary(matrix, {"GITHUB_STEP_SUMMARY": str(path)}, title="slug") == ""
    assert path.read_text().startswith("before\n### slug\n")
    assert append_summary(matrix, {}, title="slug") == ""


def test_a_summary_that_cannot_be_written_is_a_warning_that_names_the_variable(tmp_path: Path) -> None:
    missing, directory = str(tmp_path / "none" / "x"), str(tmp_path)
    for name in (missing, directory):
        warning = append_summary(matrix_of({"t::a": all_of("passed")}), {"GITHUB_STEP_SUMMARY": name}, title="slug")
        assert warning.startswith(f"GITHUB_STEP_SUMMARY: cannot write {name}: ")


def test_the_command_report_prints_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, failure in (("junit-py39.xml", "<failure>boom</failure>"), ("junit-py313.xml", "")):
        (tmp_path / name).write_text(f'<testsuite><testcase classname="t" name="a">{failure}</testcase></testsuite>')
    assert main(["report", str(tmp_path), "--markdown"]) == 1
    out = capsys.readouterr().out
    assert "<code>t::a</code> on py3.9; not on py3.13" in out
    assert out.startswith(f"### {tmp_path.name}".replace("_", "\\_"))
