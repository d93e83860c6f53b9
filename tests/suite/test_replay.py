"""The reports of workers reach pytest's reporter and other plugins' reporters as pytest's own objects."""

import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from suite_fixtures import PYTHONS, Bench, Compare, Run, asked, marks

from pytest_pyinstall.suite import replay

pytestmark = marks

TESTS = """
import sys
import pytest

def test_fine(): pass

def test_new():
    assert sys.version_info < (3, 13)

@pytest.mark.skip(reason="later")
def test_later(): pass
"""


def test_no_plugin_of_pytest_itself_needs_the_reports_of_setup_and_teardown(pytester: pytest.Pytester) -> None:
    """Without such a plugin, a passed test costs the controller one report in place of three."""
    found = pytester.parseconfigure().hook.pytest_runtest_logreport.get_hookimpls()
    own = {each.plugin_name for each in found if each.function.__module__.startswith("_pytest.")}
    assert "logging-plugin" in own
    assert own <= replay._CORE


def test_a_usage_error_has_no_time_in_which_no_test_ran() -> None:
    """Equal errors are shown once, but this time differs."""
    for end in ("no tests ran in 0.01s", "======= no tests ran in 0.01s =======", "=== 1 error in 0.2s ==="):
        assert replay._usage_error(f"ERROR: not found: x\n\n{end}") == "ERROR: not found: x"


def test_hooks_of_other_plugins_get_pytest_nodes(run: Run, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(
        "import pytest\n"
        "def check(node, config):\n"
        "    assert isinstance(node, pytest.Item | pytest.Collector), node\n"
        "    assert node.config is config\n"
        "    assert node.session.config is config\n"
        "    assert node.nodeid in {'[py3.12]', '[py3.13]'}, node.nodeid\n"
        "    assert str(node.path) and node.listchain() and node.getparent(pytest.Session)\n"
        "    print('checked', node.name)\n"
        "class Plugin:\n"
        "    def __init__(self, config): self.config = config\n"
        "    def pytest_deselected(self, items):\n"
        "        for item in items: check(item, self.config)\n"
        "    def pytest_runtest_logreport(self, report): check(report.node, self.config)\n"
        "    def pytest_runtest_protocol(self, item): return None\n"
        "    def pytest_collectreport(self, report):\n"
        "        if report.nodeid.endswith(']'): check(report.node, self.config)\n"
        "def pytest_addoption(parser): parser.addoption('--curious', action='store_true')\n"
        "def pytest_configure(config): config.pluginmanager.register(Plugin(config))\n",
        "utf-8",
    )
    bench(files={"test_it.py": TESTS, "test_broken.py": "import no_such_module\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        result = run(
            "-p", "curious", "--curious", "-k", "not later", "--continue-on-collection-errors", "-s", "--capture=fd",
            pythons=PYTHONS,
        )  # fmt: skip

    result.assert_outcomes(passed=3, failed=1, errors=2, deselected=2)


@pytest.mark.parametrize("words", [(), ("-k", "new or fine"), ("-k", "nothing"), ("test_it.py::test_new",)])
def test_sugar_works_in_the_controller(run_outside: Run, bench: Bench, words: tuple[str, ...]) -> None:
    bench(files={"test_it.py": TESTS})

    result = run_outside("-psugar", "--force-sugar", *words)

    text = re.sub(r"\x1b\[[\d;?]*\w", "", result.stdout.str())
    assert "INTERNALERROR" not in text + result.stderr.str()
    if "nothing" in words:
        assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    else:
        assert "1 failed" in text
        assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_reporters_that_only_the_controller_has_write_one_report(run_outside: Run, bench: Bench) -> None:
    here = bench(files={"test_it.py": TESTS})

    result = run_outside(
        "--html=out.html", "--self-contained-html", "--report-log=out.jsonl", "--json-report",
        "--json-report-file=out.json", "--junitxml=out.xml",
    )  # fmt: skip

    result.assert_outcomes(passed=3, failed=1, skipped=2)
    assert "unrecognized arguments" not in result.stdout.str() + result.stderr.str()
    named = {f"test_{name}[py{version}]" for name in ("fine", "new", "later") for version in PYTHONS}
    html = (here / "out.html").read_text("utf-8")
    assert all(name in html for name in named)
    lines = [json.loads(line) for line in (here / "out.jsonl").read_text("utf-8").splitlines()]
    assert {line["nodeid"].partition("::")[2] for line in lines if line.get("when") == "setup"} == named
    document = json.loads((here / "out.json").read_bytes())
    assert document["summary"]["passed"] == 3
    assert document["summary"]["failed"] == 1
    assert {case.get("name") for case in ET.parse(here / "out.xml").getroot().iter("testcase")} == named


def test_reporters_on_both_sides_write_one_report(run_outside: Run, bench: Bench) -> None:
    here = bench("pytest-html", "pytest-json-report", files={"test_it.py": TESTS})

    result = run_outside("--html=out.html", "--json-report", "--json-report-file=out.json")

    result.assert_outcomes(passed=3, failed=1, skipped=2)
    assert json.loads((here / "out.json").read_bytes())["summary"]["total"] == 6
    assert [path.name for path in here.glob("out*.html")] == ["out.html"]


def test_reporters_that_only_the_workers_have_write_one_file_for_each_python(run: Run, bench: Bench) -> None:
    here = bench("pytest-html", "pytest-json-report", files={"test_it.py": TESTS})

    result = run("--html=out.html", "--json-report", "--json-report-file=out.json", pythons=PYTHONS)

    result.assert_outcomes(passed=3, failed=1, skipped=2)
    result.stdout.fnmatch_lines_random(
        ["*a file of its own: out-{python}.html", "*a file of its own: out-{python}.json"]
    )
    for version in PYTHONS:
        assert json.loads((here / f"out-py{version}.json").read_bytes())["summary"]["total"] == 3
        assert "test_new" in (here / f"out-py{version}.html").read_text("utf-8")


def test_benchmarks_are_written_for_each_python_and_shown(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark does not measure in a worker of xdist
    here = bench("pytest-benchmark", files={"test_it.py": "def test_it(benchmark): assert benchmark(lambda: 1) == 1\n"})

    result = run("--benchmark-json=out.json", pythons=PYTHONS)

    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("Name (time in") == 2
    for version in PYTHONS:
        document = json.loads((here / f"out-py{version}.json").read_bytes())
        assert document["machine_info"]["python_version"].startswith(version)
    assert not (here / "out.json").exists()


def test_every_python_uses_the_seed_in_the_header(run_outside: Run, bench: Bench) -> None:
    bench(
        "pytest-randomly",
        files={"test_it.py": "import random\ndef test_it(): print('drawn', random.random())\n"},
    )

    def drawn(result: pytest.RunResult) -> set[str]:
        result.assert_outcomes(passed=2)
        return {line for line in result.outlines if line.startswith("drawn")}

    result = run_outside("-prandomly", "-rP")
    [seed] = {line.rpartition("=")[2] for line in result.outlines if line.startswith("Using --randomly-seed=")}

    again = run_outside("-prandomly", "-rP", f"--randomly-seed={seed}")

    assert len(drawn(result)) == 1
    assert drawn(again) == drawn(result)


def test_the_workers_do_not_need_the_plugin_of_an_editor(
    run: Run, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vscode_pytest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--editor-port')\n"
        "def pytest_runtest_logreport(report): print('editor hears', report.nodeid, report.when)\n",
        "utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bench(files={"test_it.py": TESTS})

    run("-p", "vscode_pytest", "--editor-port=7", pythons=PYTHONS).assert_outcomes(passed=3, failed=1, skipped=2)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p vscode_pytest --editor-port 7")
    run(pythons=PYTHONS).assert_outcomes(passed=3, failed=1, skipped=2)


def test_pytest_django_in_the_controller_does_not_import_the_settings(run_outside: Run, bench: Bench) -> None:
    bench(
        files={
            "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = settings\n",
            "settings.py": "raise RuntimeError('imported outside')\n",
            "test_it.py": TESTS,
        }
    )
    result = run_outside()

    result.assert_outcomes(passed=3, failed=1, skipped=2)
    assert "imported outside" not in result.stdout.str() + result.stderr.str()


def test_the_workers_follow_disabled_plugin_autoload(pytester: pytest.Pytester, run: Run, bench: Bench) -> None:
    bench(
        "pytest-benchmark",
        files={"test_it.py": TESTS + "def test_none(request): request.getfixturevalue('benchmark')\n"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        result = pytester.runpytest_subprocess(
            "-p", "pyinstall", "--python-suite", *asked(*PYTHONS), "-k", "fine or none", timeout=500
        )

    result.assert_outcomes(passed=2, failed=2, deselected=4)


# Output of the workers

SAYING = """
import logging
import pytest

def pytest_report_header(): return "the database is sqlite"

def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("what the project says")
    terminalreporter.write_line("all is well")

@pytest.fixture
def thing():
    logging.getLogger("here").warning("a live line")
    return 1
"""


def test_headers_summaries_and_live_logs_of_workers_are_shown(run: Run, bench: Bench) -> None:
    bench(files={"conftest.py": SAYING, "test_it.py": "def test_it(thing): pass\n"})

    result = run("--log-cli-level=INFO", pythons=PYTHONS)

    text = result.stdout.str()
    result.assert_outcomes(passed=2)
    assert text.count("the database is sqlite") == 1
    assert text.count("what the project says") == 1
    assert text.count("all is well") == 1
    assert len(re.findall(r"WARNING +here:conftest\.py:\d+ a live line", text)) == 2


def test_a_summary_of_only_one_python_is_shown_with_its_name(run: Run, bench: Bench) -> None:
    bench(
        files={
            "conftest.py": SAYING.replace('"all is well"', "__import__('platform').python_version()"),
            "test_it.py": "def test_it(thing): pass\n",
        }
    )

    result = run(pythons=PYTHONS)

    result.stdout.fnmatch_lines(["*- py3.12 -*", "*what the project says*", "3.12.*"])
    result.stdout.fnmatch_lines(["*- py3.13 -*", "*what the project says*", "3.13.*"])


@pytest.mark.parametrize("word", ["--setup-show", "--setup-only", "--setup-plan", "--fixtures-per-test"])
def test_the_output_about_fixtures_is_shown(run: Run, bench: Bench, compare: Compare, word: str) -> None:
    bench(files={"conftest.py": SAYING, "test_it.py": "def test_it(thing): pass\n"})

    compared = compare(word)

    lines = [line.strip() for line in compared.plain["3.12"].stdout.splitlines() if "thing" in line]
    shown = [line.strip() for line in compared.suite.outlines]
    assert lines
    assert [line for line in lines if line not in shown and not line.endswith(".")] == []


def test_the_statistics_of_hypothesis_are_shown(run: Run, bench: Bench) -> None:
    bench(
        "hypothesis",
        files={
            "test_it.py": "from hypothesis import given, strategies\n"
            "@given(strategies.booleans())\ndef test_it(x): pass\n"
        },
    )
    result = run("--hypothesis-show-statistics", pythons=PYTHONS)

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*Hypothesis Statistics*", "*test_it.py::test_it*"])


# One cause, one message


def test_an_exception_before_the_session_ends_it_as_plain_pytest_and_is_shown_once(
    bench: Bench, compare: Compare
) -> None:
    bench(
        files={"conftest.py": "def pytest_addoption(parser): raise LookupError('no settings')\n", "test_it.py": TESTS}
    )

    result = compare().suite

    assert result.ret == 1
    text = result.stdout.str()
    assert "ERROR at session of [py3.12,py3.13]" in text
    assert text.count("LookupError: no settings") == 1
    assert 'File "' not in text


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"requirements-test.txt": "there-is-no-such-thing-as-this-package==1\n"},
            "there-is-no-such-thing-as-this-package",
        ),
        ({"setup.py": "raise RuntimeError('no compiler')\n"}, "RuntimeError: no compiler"),
        ({"setup.py": "import no_such_module\n"}, "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_failed_installation_is_reported_once_and_briefly(
    run: Run, pytester: pytest.Pytester, files: dict[str, str], line: str
) -> None:
    here = pytester.path
    (here / "test_it.py").write_text(TESTS, "utf-8")
    for name, text in files.items():
        (here / name).write_text(text, "utf-8")

    result = run(pythons=("3.9", *PYTHONS))

    lines = result.outlines
    headings = [each for each in lines if "ERROR at session of" in each]
    assert len(headings) == 1, result.stdout.str()
    assert all(label in headings[0] for label in ("py3.9", "py3.12", "py3.13"))
    block = lines[lines.index(headings[0]) + 1 :]
    block = block[: next(index for index, each in enumerate(block) if each.startswith("==="))]
    assert line in block[0]
    assert len(block) <= 4
    assert not any("no environment has" in each for each in lines)  # the hint for a module that the tests need
    rows = [each for each in lines if re.match(r"3\.\d+\.\d+ ", each)]
    assert len(rows) == 3
    assert all(len(row) <= 80 for row in rows)
    hint = next(each for each in block if each.startswith("hint: ")).removeprefix("hint: ")
    done = subprocess.run(hint, shell=True, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert line.rpartition(": ")[2] in re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_the_first_line_of_an_error_contains_the_reason(run: Run, bench: Bench) -> None:
    bench(files={"conftest.py": SAYING, "test_it.py": TESTS})

    result = run("test_it.py::test_nope", pythons=PYTHONS)

    [line] = [line for line in result.outlines if line.startswith("ERROR [")]
    # The rest of the path is cut off at the width of the terminal.
    assert line.startswith("ERROR [py3.12,py3.13] - not found: ")


@pytest.mark.parametrize(
    "last", ["no tests ran in 0.01s", "=== no tests ran in 0.02s ===", "2 errors in 62.00s (0:01:02)"]
)
def test_the_error_of_an_option_does_not_contain_the_duration(last: str) -> None:
    # Otherwise the errors of two Pythons would differ, and be shown twice.
    assert replay._usage_error(f"ERROR: not found: t.py::test_x\n\n{last}\n") == "ERROR: not found: t.py::test_x"
