"""`--python-shard`: the jobs of a CI run together run each test of each Python once, and each takes as long."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite_fixtures import NEW, Run, marks

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.suite import _worker_plugin
from pytest_pyinstall.suite.shard import Cell, Cells, Shard, cut, durations_of_junit, parse_shard, read_durations
from pytest_pyinstall.suite.variants import Variant

parts_of: Any = _worker_plugin.parts_of  # it has no annotations, for Python 3.6
TESTS = st.lists(st.sampled_from([f"t.py::test_{number}" for number in range(30)]), unique=True)
CELLS = st.dictionaries(st.sampled_from(["py3.9", "py3.12", "pypy3.11", "py3.9-old", "py3.12-old"]), TESTS, min_size=1)
SECONDS = st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats(0, 1e-7))


OLD = Variant("old", "old: wcwidth<0.2.13")


@pytest.mark.parametrize(
    ("python", "variant", "label"),
    [
        ("3.9", None, "py3.9"),
        ("3.13t", None, "py3.13t"),
        ("pypy3.11", None, "pypy3.11"),
        ("graalpy3.12", None, "graalpy3.12"),
        ("3.9", OLD, "py3.9-old"),
    ],
)
def test_a_label_names_the_python_and_the_variant(python: str, variant: Variant | None, label: str) -> None:
    assert Cell(python, variant).label == label


def test_a_session_needs_the_pythons_of_its_cells() -> None:
    cells = {cell.label: cell for python in ("3.9", "3.12") for cell in (Cell(python, None), Cell(python, OLD))}
    assert Cells(cells, list(cells), ["py3.12", "py3.12-old"], (None, OLD), None, {}).pythons == {"3.12"}


def assigned(cells: dict[str, list[str]], durations: dict[str, float], count: int) -> list[list[str]]:
    """The tests of each shard, each computed independently."""
    shards = []
    for number in range(1, count + 1):
        found = []
        for label, part in cut(list(cells), durations, Shard(number, count)).items():
            weights, known, default = json.loads(json.dumps([part.weights, part.durations, part.default]))
            # Plugins such as pytest-randomly change the order of tests in each job.
            tests = sorted(cells[label], reverse=bool(number % 2))
            parts = parts_of(tests, weights, known, default)
            found += [f"{test}[{label}]" for test in tests if parts[test] == part.own]
        shards.append(found)
    return shards


@given(cells=CELLS, count=st.integers(1, 12), data=st.data())
def test_each_test_is_in_exactly_one_shard(cells: dict[str, list[str]], count: int, data: st.DataObject) -> None:
    ids = [f"{test}[{label}]" for label, tests in cells.items() for test in tests]
    plain = [test for tests in cells.values() for test in tests]
    keys = st.sampled_from([*ids, *plain, "t.py::test_gone[py3.9]", "t.py::test_gone[py3.7]"])
    durations = data.draw(st.dictionaries(keys, SECONDS))
    found = assigned(cells, durations, count)
    assert Counter(test for shard in found for test in shard) == Counter(ids)


@given(
    lengths=st.lists(st.lists(st.floats(0.001, 10), min_size=1, max_size=20), min_size=1, max_size=5),
    count=st.integers(1, 8),
)
def test_shards_take_as_long_as_each_other(lengths: list[list[float]], count: int) -> None:
    """They may differ by the longest test at each end of a shard, and by the move of a cut to the end of a cell."""
    cells = {f"py3.{n}": [f"t.py::test_{m}" for m in range(len(tests))] for n, tests in enumerate(lengths)}
    durations = {f"t.py::test_{m}[py3.{n}]": s for n, tests in enumerate(lengths) for m, s in enumerate(tests)}
    total, longest = sum(durations.values()), max(durations.values())
    for shard in assigned(cells, durations, count):
        assert sum(durations[test] for test in shard) <= 1.1 * total / count + 2 * longest + 0.001


def test_a_cell_is_divided_by_the_least_duration_rule() -> None:
    durations = {"a": 5, "b": 4, "c": 3, "d": 3, "e": 1}
    assert parts_of("edcbax", [1, 1], durations, 2) == {"a": 0, "b": 1, "c": 1, "d": 0, "x": 1, "e": 0}


def test_cells_stay_whole_if_they_divide_evenly() -> None:
    labels = ["py3.9", "py3.10", "py3.11", "py3.12"]
    durations = {f"t.py::test_a[{label}]": 1 + index / 100 for index, label in enumerate(labels)}
    for number, pair in enumerate((labels[:2], labels[2:]), 1):
        found = cut(labels, durations, Shard(number, 2))
        assert list(found) == pair
        assert all(part.is_whole for part in found.values())


def test_a_slow_python_gets_more_shards() -> None:
    durations = {"t.py::test_a[py3.9]": 1.0, "t.py::test_b[py3.9]": 1.0, "t.py::test_a[pypy3.11]": 6.0}
    found = [list(cut(["py3.9", "pypy3.11"], durations, Shard(number, 4))) for number in (1, 2, 3, 4)]
    assert found == [["py3.9"], ["pypy3.11"], ["pypy3.11"], ["pypy3.11"]]


def test_a_cell_without_durations_gets_the_average_of_the_others() -> None:
    durations = {"t.py::test_a[py3.9]": 3.0, "t.py::test_b[py3.9]": 1.0, "t.py::test_c": 2.0}
    (part,) = cut(["py3.9", "py3.14"], durations, Shard(2, 2)).values()
    assert dict(part.durations) == {"t.py::test_a": 3_000_000, "t.py::test_b": 1_000_000, "t.py::test_c": 2_000_000}


@pytest.mark.parametrize("text", ["x", "", " ", "5/4", "0/3", "1/0", "-1/3", "1/3/5", "1.5/3", "٢/٣", "1"])
def test_an_invalid_shard_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--python-shard: ") as caught:
        parse_shard(text)
    hint = {"5/4": "4/4", "0/3": "3/3", "1/0": "1/1"}.get(text, "1/3")  # as many shards as were typed
    assert caught.value.hint == f"--python-shard {hint}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'{"a": "x"}',
        b'{"a": -1}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"3",
        b"null",
        b"\xff",
        b"[" * 99999,
    ],
)
def test_a_damaged_file_of_durations_is_a_usage_error_with_a_hint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".test_durations"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"\.test_durations has no durations of tests") as caught:
        read_durations(path)
    assert caught.value.hint == "pytest-pyinstall report DIR --durations .test_durations"


@pytest.mark.parametrize("content", ['{"a.py::test": 1.5}', '[["a.py::test", 1.5]]'])
def test_both_formats_of_pytest_split_are_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".test_durations"
    path.write_text(content, "utf-8")
    assert read_durations(path) == {"a.py::test": 1.5}
    assert read_durations(tmp_path / "none") == {}


def test_durations_of_a_junit_file_that_no_suite_wrote_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text('<testsuite><testcase classname="a" name="b" time="1"/></testsuite>', "utf-8")
    with pytest.raises(UsageError, match="--python-suite"):
        durations_of_junit([tmp_path / "junit.xml"])


def test_a_label_in_a_file_of_pytest_split_is_a_parameter() -> None:
    plain = {"t.py::test_it[py3.9]": 9.0, "t.py::test_it[py3.12]": 1.0, "t.py::test_a": 5.0, "t.py::test_b": 5.0}
    parts = cut(["py3.9", "py3.12"], plain, Shard(1, 2))
    assert list(parts) == ["py3.9"]  # both take as long, so each has its shard
    assert parts["py3.9"].is_whole
    assert parts["py3.9"].durations["t.py::test_it[py3.12]"] == 1_000_000

    of_suites = {"t.py::test_it[py3.9]": 9.0, "t.py::test_it[py3.12]": 1.0}
    assert set(cut(["py3.9", "py3.12"], of_suites, Shard(2, 2))) == {"py3.9", "py3.12"}


class TestSessions:
    pytestmark = marks

    @pytest.fixture(autouse=True)
    def modules(self, project: Path) -> None:
        (project / "test_demo.py").write_text(
            "import pytest\n"
            "@pytest.mark.parametrize('text', ['a', 'b.c', 'd::e', 'x/y', 'f[g]'])\n"
            "def test_text(text): pass\n"
            "class TestIt:\n"
            "    class TestInner:\n"
            "        def test_deep(self): pass\n"
            "def test_fails(): assert 0\n",
            "utf-8",
        )
        (project / "pkg.dir").mkdir()
        (project / "pkg.dir" / "test_more.py").write_text("def test_more(): pass\n", "utf-8")

    def test_the_shards_run_each_test_once_and_their_junit_files_merge(
        self, run: Run, project: Path, pytester: pytest.Pytester
    ) -> None:
        for number, provided in ((1, "3.9.*"), (2, "3.9.* 3.12.*"), (3, "3.12.*")):
            printed = run(f"--python-shard={number}/3", f"--junitxml=junit/{number}.xml").stdout
            printed.fnmatch_lines([f"suite: shard {number}/3: *% of py3.*"])
            assert re.search(rf"^pythons: {provided.replace('*', '[0-9]+')} \(", printed.str(), re.MULTILINE)
        done = pytester.run(
            sys.executable, "-m", "pytest_pyinstall", "report", "junit", "--durations", ".test_durations"
        )
        assert done.ret == 1
        done.stdout.fnmatch_lines(
            ["3.9 * 7 * 1 * 0 *", "3.12 * 7 * 1 * 0 *", "FAILED test_demo.py::test_fails[[]py3.*,py3.*[]]"]
        )
        recorded = json.loads((project / ".test_durations").read_text("utf-8"))
        listed = run("--co", "-q").outlines
        assert sorted(recorded) == sorted(line for line in listed if "::" in line)

        # With durations: one test takes as long as all others together.
        recorded = {nodeid: 7.0 if nodeid.endswith("test_more[py3.12]") else 0.5 for nodeid in recorded}
        (project / ".test_durations").write_text(json.dumps(recorded), "utf-8")
        seen = []
        for number in (1, 2):
            lines = [line for line in run(f"--python-shard={number}/2", "--co", "-q").outlines if "::" in line]
            seen += lines
            assert sum(recorded[line] for line in lines) == pytest.approx(7.25, abs=0.6)
        assert sorted(seen) == sorted(recorded)

    def test_a_shard_without_tests_passes_but_a_mistyped_expression_does_not(self, run: Run) -> None:
        assert run("--python-shard=5/5", "pkg.dir", pythons=(NEW,)).ret == 0
        assert run("--python-shard=1/1", "-k", "nothing_like_it", pythons=(NEW,)).ret == 5
        assert run("--python-shard=2/2", "-k", "nothing_like_it", pythons=(NEW,)).ret == 5

    def test_an_id_that_ends_in_a_parameter_is_an_error(self, run: Run, project: Path) -> None:
        (project / "test_demo.py").write_text(
            "import pytest\n@pytest.mark.parametrize('p', ['py3.12', 'x'])\ndef test_it(p): pass\n", "utf-8"
        )
        result = run("--python-shard=1/1", "test_demo.py::test_it[py3.12]")
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*test_demo.py::test_it[[]py3.12[]] is a test with that parameter, but *"])
        result.stdout.fnmatch_lines(["*hint: 'test_demo.py::test_it[[]py3.12[]][[]py3.9,py3.12[]]'"])
        run("--python-shard=1/1", "test_demo.py::test_it[py3.12][py3.9,py3.12]").assert_outcomes(passed=2)

    def test_shards_work_with_xdist(self, run: Run, project: Path) -> None:
        text = (project / "pyproject.toml").read_text("utf-8")
        text += '[tool.pytest.ini_options]\npyinstall_suite_install = ["-e .", "pytest-xdist"]\n'
        (project / "pyproject.toml").write_text(text, "utf-8")
        passed = []
        for number in (1, 2):
            outcomes = run(f"--python-shard={number}/2", "-n2", pythons=(NEW,)).parseoutcomes()
            passed.append(outcomes["passed"])
        assert sum(passed) == 7
        assert all(passed)
        assert run("--python-shard=5/5", "-n2", "pkg.dir", pythons=(NEW,)).ret == 0

    def test_each_invalid_use_is_reported_in_one_message(
        self, run: Run, project: Path, pytester: pytest.Pytester
    ) -> None:
        result = run("--python-shard=5/4")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: --python-shard: there is no shard 5/4, they are 1/4 to 4/4", "hint: --python-shard 4/4"]
        )
        (project / ".test_durations").write_text('{"cut off', "utf-8")
        run("--python-shard=1/4").stderr.fnmatch_lines(["ERROR: --python-shard: *.test_durations has no durations *"])
        result = run("--python-shard=1/4", "--python-bisect=test_demo.py::test_fails")
        result.stderr.fnmatch_lines(["ERROR: --python-bisect runs one test, *"])
        alone = pytester.runpytest_subprocess("--python-shard=1/4")
        alone.stderr.fnmatch_lines(["ERROR: --python-shard 1/4 needs --python-suite", "hint: --python*"])
