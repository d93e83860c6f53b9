"""``--python-report`` writes the results of tests with the fixture `python` as an HTML page."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from archives import interpreters

pytestmark = pytest.mark.skipif("3.9" not in interpreters(), reason="needs a real Python 3.9")

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
TESTS = """
    import pytest
    @pytest.mark.parametrize("flag", ["-B", "-I"])
    def test_each(python, flag): assert flag == "-B" or python.version_info[:2] != (3, 9)
    @pytest.mark.skip(reason="not today")
    def test_skipped(python): pass
    def test_plain(): pass
"""


def document(path: Path) -> dict[str, Any]:
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_the_page_shows_the_pythons_of_the_fixture(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider")
    pytester.makepyfile(test_it=TESTS)
    pythons = f"current,{interpreters()['3.9']}"

    result = pytester.runpytest_subprocess("--python", pythons, "--python-report=out/page.html", *options)

    result.assert_outcomes(passed=4, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["the matrix as a page: *page.html"])
    page = document(pytester.path / "out" / "page.html")
    assert len(page["labels"]) == 2
    assert sorted(row[0] for row in page["rows"]) == [
        "test_it.py::test_each[-B]",
        "test_it.py::test_each[-I]",
        "test_it.py::test_skipped",
    ]
    counts = [tally["counts"] for tally in page["tallies"]]
    assert counts == [{"passed": 2, "skipped": 1}, {"passed": 1, "failed": 1, "skipped": 1}]


def test_without_a_test_of_the_fixture_a_line_replaces_the_page(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")

    result = pytester.runpytest_subprocess("--python-report=page.html", "--python=current")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["--python-report: no test used the fixture `python`; --python-suite runs *"])
    assert not (pytester.path / "page.html").exists()


def test_the_running_python_is_a_column_of_the_page(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(python): pass")

    pytester.runpytest_subprocess("--python-report=page.html").assert_outcomes(passed=1)

    assert document(pytester.path / "page.html")["labels"] == [RUNNING]


@pytest.mark.parametrize("target", ["here", "file/page.html"])
def test_a_page_that_cannot_be_written_is_an_error_before_the_tests(pytester: pytest.Pytester, target: str) -> None:
    pytester.makepyfile("def test_it(python): raise SystemExit('ran')")
    (pytester.path / "here").mkdir()
    (pytester.path / "file").touch()

    result = pytester.runpytest_subprocess(f"--python-report={target}", "--python=current")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --python-report: cannot write *: *", "hint: --python-report matrix.html"])
    assert "ran" not in result.stdout.str()
