"""`--python-suite` in small projects, with real interpreters and real workers."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from archives import interpreters
from suite_fixtures import NEW, OLD, PYPROJECT, Run, asked, marks

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.progress import Notices
from pytest_pyinstall.suite.controller import Suite
from pytest_pyinstall.suite.report import Cell, Matrix
from pytest_pyinstall.suite.run import InterpreterRun

pytestmark = marks


def test_one_session_reports_every_python(run: Run, project: Path) -> None:
    result = run()
    result.assert_outcomes(passed=4, failed=3, skipped=1, xfailed=2, warnings=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "suite: the project, under 2 Pythons, * at once",
            "*100%*",
            "*= FAILURES =*",
            "*test_everywhere — every Python: py3.9, py3.12*",
            "*test_old — on py3.9; not on py3.12*",
            "test_demo.py::test_skipped[[]py3.12[]]",
            "FAILED test_demo.py::test_everywhere[[]py3.9,py3.12[]]*",
            "FAILED test_demo.py::test_old[[]py3.9[]]*",
            "Python *pytest *passed *failed *skipped *errors *xfailed *time",
            "3.9.*  *1 * 2 * 1 * 0 * 1 * s",
            "3.12.* *3 * 1 * 0 * 0 * 1 * s",
            "=*3 failed, 4 passed, 1 skipped, 2 xfailed, 1 warning in *",
        ]
    )
    text = result.stdout.str()
    assert text.count("E       assert 1 == 2") == 1
    assert "garbage" not in text


def test_failures_that_differ_only_in_the_order_of_lines_are_merged(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import sys\ndef test_it():\n    number = range(sys.version_info[1])\n"
        "    raise ValueError('\\n'.join(['found', *sorted('abc', reverse=len(number) > 9)]))\n",
        "utf-8",
    )
    run().stdout.fnmatch_lines(["*test_it — every Python: py3.9, py3.12*"])


def test_verbose_lines_and_the_junit_file_name_the_pythons(run: Run, project: Path) -> None:
    result = run("-v", "--junitxml=out.xml", "-k", "fine or old")
    result.stdout.fnmatch_lines_random(
        ["[[]py3.9[]]*PASSED test_demo.py::test_fine[[]py3.9[]]*", "[[]py3.12[]]*PASSED test_demo.py::test_old*"]
    )
    cases = ET.parse(project / "out.xml").getroot().iter("testcase")
    names = {case.get("name"): [child.tag for child in case] for case in cases}
    assert names == {
        "test_fine[py3.9]": [], "test_old[py3.9]": ["failure"],
        "test_fine[py3.12]": [], "test_old[py3.12]": [],
    }  # fmt: skip


def test_the_junit_file_contains_what_plain_pytest_writes_for_each_python(
    run: Run, project: Path, shared_home: Path
) -> None:
    (project / "pytest.ini").write_text(
        "[pytest]\njunit_family = xunit1\naddopts = --continue-on-collection-errors\n", "utf-8"
    )
    (project / "sub").mkdir()
    (project / "sub" / "test_skipped.py").write_text(
        "import pytest\npytest.skip('all', allow_module_level=True)\n", "utf-8"
    )
    (project / "sub" / "test_broken.py").write_text("import no_such_thing\n", "utf-8")
    (project / "test_more.py").write_text(
        "import pytest\n"
        "class TestIt:\n"
        "    def test_method(self, record_property): record_property('key', 7)\n"
        "    @pytest.mark.parametrize('x', ['a::b', 'c[d]', 'e/f.py'])\n"
        "    def test_params(self, x): pass\n"
        "def test_attribute(record_xml_attribute): record_xml_attribute('assertions', 'REQ-1')\n"
        "def test_of_all(record_testsuite_property): record_testsuite_property('ARCH', 'PPC')\n"
        "@pytest.fixture\n"
        "def bad(): raise ValueError('no')\n"
        "def test_setup(bad): pass\n",
        "utf-8",
    )
    result = run("--junitxml=ours.xml")
    result.stdout.fnmatch_lines(["ERROR sub/test_broken.py[[]py3.9,py3.12[]]*"])
    ours = ET.parse(project / "ours.xml").getroot()
    assert [pair.attrib for pair in ours.iter("property") if pair.get("name") == "ARCH"] == [
        {"name": "ARCH", "value": "PPC"}
    ]
    compared = 0
    for record in (shared_home / "cache" / "environments").glob("*/suite.json"):
        document = json.loads(record.read_text("utf-8"))
        if document["project"] == str(project):
            version = document["python"].split("-")[1].rpartition(".")[0]
            command = [str(record.parent / "bin" / "pytest"), f"--junitxml={version}.xml"]
            subprocess.run(command, cwd=project, capture_output=True, check=False)
            plain = ET.parse(project / f"{version}.xml").getroot()
            assert _cases(ours, f"[py{version}]") == _cases(plain, "")
            compared += 1
    assert compared == 2


def _cases(root: ET.Element, ending: str) -> list[Any]:
    """The test cases whose names end in `ending`, without that ending, without times and without output."""
    return sorted(
        (
            sorted((key, value.removesuffix(ending)) for key, value in case.attrib.items() if key != "time"),
            [
                (
                    child.tag,
                    child.get("type"),
                    re.sub("0x[0-9a-f]+", "0x", child.get("message") or ""),
                    [sorted(each.items()) for each in child],
                )
                for child in case
                if not child.tag.startswith("system-")
            ],
        )
        for case in root.iter("testcase")
        if case.attrib["name"].endswith(ending)
    )


def test_a_node_id_from_the_report_selects_that_test_on_those_pythons(run: Run, project: Path) -> None:
    result = run("test_demo.py::test_old[py3.9]")
    result.assert_outcomes(failed=1)
    result = run("test_demo.py::test_everywhere[py3.9,py3.12]")
    result.assert_outcomes(failed=2)
    result = run("test_demo.py::test_fine")
    result.assert_outcomes(passed=2)


def test_last_failed_runs_the_failed_tests_of_each_python(run: Run, project: Path) -> None:
    run("-k", "old or fine").assert_outcomes(passed=3, failed=1, deselected=6)
    again = run("--lf")
    again.assert_outcomes(failed=1, deselected=5)  # deselected: all of 3.12, where no test failed
    heading = sorted(line for line in again.outlines if "run-last-failure: " in line)
    assert [line.partition(": ")[0] for line in heading] == ["py3.12", "py3.9"]
    first = run("--ff", "-v", "-k", "old or fine")
    lines = [line for line in first.outlines if line.startswith("[py3.9]")]
    assert "test_old" in lines[0]


def test_stepwise_continues_each_python_at_its_failure(run: Run, project: Path) -> None:
    result = run("--sw")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["FAILED test_demo.py::test_everywhere[[]py3.9,py3.12[]]*"])


def test_collect_only_lists_the_tests_of_every_python(run: Run, project: Path) -> None:
    result = run("--co", "-q", "-k", "fine")
    assert [line for line in result.outlines if "::" in line] == [
        "test_demo.py::test_fine[py3.9]",
        "test_demo.py::test_fine[py3.12]",
    ]
    result.stdout.fnmatch_lines(["*2/10 tests collected (8 deselected)*"])


def test_a_session_without_tests_has_the_exit_code_of_pytest(run: Run, project: Path) -> None:
    assert run("-k", "nothing_is_called_so").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_python_without_tests_is_named(run: Run, project: Path) -> None:
    code = "import sys\ncollect_ignore = ['test_demo.py'] if sys.version_info < (3, 10) else []\n"
    (project / "conftest.py").write_text(code, "utf-8")
    result = run("-k", "fine")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["py3.9: no test was found or selected"])


def test_a_syntax_error_on_one_python_is_an_error_of_that_python_alone(run: Run, project: Path) -> None:
    (project / "test_new.py").write_text("def test_it():\n    match 1:\n        case 1: pass\n", "utf-8")
    (project / "test_also.py").write_text("def test_it(): pass\n", "utf-8")
    result = run("test_new.py", "test_also.py")
    result.assert_outcomes(passed=2, errors=1)
    # As plain pytest says.
    result.stdout.fnmatch_lines(
        [
            "*SyntaxError*",
            "ERROR test_new.py[[]py3.9[]] - SyntaxError: *",
            "py3.9: 1 test did not run: Interrupted: 1 error during collection",
        ]
    )


def test_a_conftest_that_fails_on_one_python_is_one_error(run: Run, project: Path) -> None:
    (project / "conftest.py").write_text("import sys\nassert sys.version_info >= (3, 10), 'not here'\n", "utf-8")
    result = run("-k", "fine")
    result.assert_outcomes(passed=1, errors=1, deselected=4)
    result.stdout.fnmatch_lines(["*not here*", "ERROR [[]py3.9[]]*"])


def test_options_of_a_conftest_reach_the_conftest(run: Run, project: Path) -> None:
    (project / "conftest.py").write_text(
        "import demo\ndef pytest_addoption(parser):\n"
        "    parser.addoption('--colour')\n    parser.addini('shade', 'x')\n",
        "utf-8",
    )
    (project / "test_demo.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.getoption('--colour') == 'blue'\n"
        "    assert pytestconfig.getini('shade') == 'dark'\n",
        "utf-8",
    )
    (project / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-config --colour=blue\nshade = dark\n"
        "filterwarnings =\n    error\n    ignore::demo.NoSuchThing\n",
        "utf-8",
    )
    (project / "demo.py").write_text("class NoSuchThing(Warning): pass\n", "utf-8")
    run().assert_outcomes(passed=2)


def test_the_ini_file_can_start_a_suite_without_options(
    run: Run, project: Path, pytester: pytest.Pytester, shared_home: Path
) -> None:
    (project / "pytest.ini").write_text(
        f"[pytest]\naddopts = --strict-config\npyinstall_suite = true\npyinstall_jobs = 1\n"
        f"pyinstall_python =\n    {interpreters()[OLD]}\n    {interpreters()[NEW]}\n",
        "utf-8",
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-k", "fine")
    result.assert_outcomes(passed=2, deselected=8)
    result.stdout.fnmatch_lines(["suite: *2 Pythons, 1 at once"])


@pytest.mark.parametrize("word", ["-s", "--pdb"])
def test_interactive_options_are_an_error_with_several_pythons(run: Run, project: Path, word: str) -> None:
    result = run(word)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *one Python at a time*", "hint: --python *"])


def test_output_is_shown_with_s_and_one_python(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text("def test_it(): print('seen by all')\n", "utf-8")
    result = run("-s", pythons=(NEW,))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*seen by all*"])


@pytest.mark.parametrize("missing", ["fail", "skip"])
def test_a_python_that_the_project_does_not_support_is_reported_in_one_line(
    run: Run, project: Path, missing: str
) -> None:
    (project / "pyproject.toml").write_text(PYPROJECT.replace(">=3.6", ">=3.10"), "utf-8")
    result = run(f"--python-missing={missing}", "-k", "fine", "-rs")
    result.assert_outcomes(**{"passed": 1, "deselected": 4, ("errors" if missing == "fail" else "skipped"): 1})
    result.stdout.fnmatch_lines(["3.9.* the project needs Python >=3.10, but this is 3.9.*"])
    assert result.ret == (1 if missing == "fail" else 0)


def test_a_python_that_is_not_missing_but_broken_is_never_skipped(run: Run, project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python3.10"
    broken.write_text("#!/bin/sh\nexit 3\n", "utf-8")
    broken.chmod(0o755)
    result = run(f"--python={broken}", "-k", "fine", "--python-missing=skip")
    result.assert_outcomes(passed=2, errors=1, deselected=8)
    assert result.ret == 1


def test_a_missing_python_does_not_stop_the_others(run: Run, project: Path) -> None:
    result = run("--python=3.6.0", "-k", "fine")
    result.assert_outcomes(passed=2, errors=1, deselected=8)
    result.stdout.fnmatch_lines(["missing: 3.6 (not found)", "*no Python 3.6.0*", "hint: *"])


def test_many_pythons_that_do_not_exist_are_one_error_instead_of_one_each(run: Run, project: Path) -> None:
    result = run("--python=3.90..3.99", "-k", "fine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --python: 10 of 12 Pythons cannot be used:", "*3.90, 3.91 … 3.99*", "hint: *"])
    result = run("--python=3.90..3.99", "-k", "fine", "--python-missing=skip")
    result.assert_outcomes(passed=2, skipped=10, deselected=8)


def test_a_dependency_that_cannot_be_installed_is_an_error_of_that_python_alone(run: Run, project: Path) -> None:
    group = """
[dependency-groups]
test = ["there-is-no-such-thing-as-this-package==1; python_version < '3.10'"]
"""
    (project / "pyproject.toml").write_text(PYPROJECT + group, "utf-8")
    result = run("-k", "fine")
    result.assert_outcomes(passed=1, errors=1, deselected=4)
    result.stdout.fnmatch_lines(["suite: the project and its dependency group 'test', *", "*there-is-no-such-thing*"])


def test_a_project_without_metadata_runs_from_its_directory(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_it(): pass")
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["suite: the project in place (it has no metadata to install it),*"])


def test_a_suite_runs_in_a_path_with_spaces_and_non_ascii_letters(
    run: Run, project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = project.parent / f"{project.name} ünï cödé 猫"
    shutil.copytree(project, place)
    monkeypatch.chdir(place)
    run("-k", "fine", "--rootdir", str(place)).assert_outcomes(passed=2, deselected=8)


def test_two_projects_with_the_same_name_do_not_share_environments(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("-k", "fine").assert_outcomes(passed=2, deselected=8)
    other = project.parent / f"{project.name}-other"
    shutil.copytree(project, other)
    (other / "demo.py").write_text("def one():\n    return 2\n", "utf-8")
    monkeypatch.chdir(other)
    run("-k", "everywhere").assert_outcomes(passed=2, deselected=8)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions")
def test_a_suite_runs_in_a_directory_without_write_permission(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.path.chmod(0o555)
    try:
        result = run()
    finally:
        pytester.path.chmod(0o755)
    assert result.parseoutcomes()["passed"] == 2


def test_a_second_session_makes_no_environment(run: Run, project: Path) -> None:
    run("-k", "fine")
    result = run("-k", "fine")
    result.stdout.no_fnmatch_line("*making an environment*")


def test_plugins_in_the_environments_do_not_change_the_report(
    run: Run, project: Path, pytester: pytest.Pytester
) -> None:
    group = '\n[dependency-groups]\ntests = ["pytest-xdist", "pytest-timeout", "pytest-randomly", "pytest-cov"]\n'
    (project / "pyproject.toml").write_text(PYPROJECT + group, "utf-8")

    def outcome(*words: str) -> object:
        result = run(*words, "--timeout=300", "--junitxml=out.xml", "-p", "no:randomly")
        result.assert_outcomes(passed=4, failed=3, skipped=1, xfailed=2, warnings=1)
        lines = [line for line in result.outlines if line.startswith(("FAILED", "3."))]
        lines = [re.sub(r" +[\d.]+ s$", "", line) for line in lines]
        return sorted(lines), _cases(ET.parse(project / "out.xml").getroot(), "")

    alone = outcome()
    for words in (("-n2",), ("-n", "auto"), ("-n2", "--dist=loadfile", "--cov=demo")):
        assert outcome(*words) == alone
    shuffled = pytester.runpytest_subprocess("--python-suite", *asked(OLD, NEW), "-n2", timeout=500)
    shuffled.assert_outcomes(passed=4, failed=3, skipped=1, xfailed=2, warnings=1)


def test_coverage_of_all_pythons_is_combined_into_one_report(run: Run, project: Path) -> None:
    extra = '\n[project.optional-dependencies]\ntest = ["pytest-cov"]\n'
    (project / "pyproject.toml").write_text(PYPROJECT + extra, "utf-8")
    (project / "demo.py").write_text(
        "import sys\ndef one():\n    if sys.version_info < (3, 10):\n        x = 1\n"
        "    else:\n        x = 1\n    return x\n",
        "utf-8",
    )
    result = run("--cov=demo", "--cov-report=term-missing", "--cov-report=xml", "-k", "fine")
    result.assert_outcomes(passed=2, deselected=8)
    result.stdout.fnmatch_lines(
        ["suite: the project with its extra 'test', *", "*2 Pythons combined*", "demo.py * 100%*"]
    )
    assert (project / "coverage.xml").exists()
    assert (project / ".coverage").exists()


def test_errors_in_teardown_are_reported(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import pytest\n@pytest.fixture\ndef bad():\n    yield\n    raise ValueError('after')\n"
        "def test_it(bad): pass\n",
        "utf-8",
    )
    result = run()
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it — every Python*", "*ValueError: after*"])


def test_configured_requirements_are_installed_into_the_environments(run: Run, project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\npyinstall_suite_install =\n    -e .\n    iniconfig\n", "utf-8")
    result = run("-k", "fine")
    result.assert_outcomes(passed=2, deselected=8)
    result.stdout.fnmatch_lines(["suite: -e . iniconfig,*"])


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_a_suite_runs_on_pythons_after_their_end_of_life(run: Run, project: Path, version: str) -> None:
    if version not in interpreters():
        pytest.skip(f"needs Python {version}")
    result = run(pythons=(version,))
    result.assert_outcomes(passed=1, failed=2, skipped=1, xfailed=1)


@pytest.mark.skipif("3.6" not in interpreters(), reason="needs Python 3.6")
def test_a_suite_runs_with_the_oldest_supported_pytest(run: Run, project: Path) -> None:
    group = "\n[dependency-groups]\ntest = [\"pytest<7; python_version<'3.7'\"]\n"
    (project / "pyproject.toml").write_text(PYPROJECT + group, "utf-8")
    result = run("--junitxml=out.xml", pythons=("3.6", NEW))
    result.assert_outcomes(passed=4, failed=3, skipped=1, xfailed=2, warnings=1)
    result.stdout.fnmatch_lines(["*test_old — on py3.6; not on py3.12*", "3.6.* 6.2.* 1 * 2 * 1 * 0 * 1 * s"])
    assert len(list(ET.parse(project / "out.xml").getroot().iter("testcase"))) == 10
    run("--lf", pythons=("3.6",)).assert_outcomes(failed=2)


def test_a_python_without_a_pytest_that_the_project_allows_is_an_error(run: Run, project: Path) -> None:
    group = '\n[dependency-groups]\ntest = ["pytest>=9"]\n'  # needs Python 3.10
    (project / "pyproject.toml").write_text(PYPROJECT + group, "utf-8")
    result = run("-k", "fine")
    result.assert_outcomes(passed=1, errors=1, deselected=4)
    result.stdout.fnmatch_lines(["*pytest>=9*", "3.9.* - *", "3.12.* 1 *"])
    skipped = run("-k", "fine", "--python-missing=skip")
    skipped.assert_outcomes(passed=1, skipped=1, deselected=4)
    assert skipped.ret == 0


def test_native_toml_settings_reach_a_pytest_that_cannot_read_them(run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text(
        PYPROJECT + '\n[tool.pytest]\naddopts = ["-k", "fine"]\nmarkers = ["slow: x", "fast: y"]\n', "utf-8"
    )
    run().assert_outcomes(passed=2, deselected=8)


def test_a_suite_without_a_python_is_a_usage_error_with_a_hint(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--python-suite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no Python was requested*", "hint: --python supported --python-suite"])
    result = pytester.runpytest_subprocess("--python=3.9", "--python-with=attrs~=25.1 lowest")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    option = "--python-with 'attrs~=25.1 lowest'"
    result.stderr.fnmatch_lines([f"ERROR: {option} needs --python-suite", f"hint: --python-suite {option}"])
    (project / "pyproject.toml").rename(project / "not-a-project.toml")
    result = pytester.runpytest_subprocess("--python-shard=1/4")
    result.stderr.fnmatch_lines(["hint: --python 3.13 --python-suite --python-shard 1/4"])
    result = pytester.runpytest_subprocess("--python-suite", "3.9..3.13")
    result.stderr.fnmatch_lines(["*file or directory not found: 3.9..3.13", "hint: --python 3.9..3.13 --python-suite"])
    result = pytester.runpytest_subprocess("--python-bisect=test_demo.py::test_fails")
    hint = "hint: --python 3.9..3.13 --python-bisect test_demo.py::test_fails"
    result.stderr.fnmatch_lines(["*--python-bisect: no Python was requested", hint])


def test_a_mistyped_file_is_an_error_before_anything_is_installed(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--python-suite", "--python=3.99", "test_dem.py::test_fine[py3.99]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: file or directory not found: test_dem.py::test_fine[[]py3.99[]]", "hint: test_demo.py"]
    )
    assert "3.99 " not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-k", "fine and"), "Wrong expression passed to '-k': fine and: at column 9: expected *"),
        (("-m", "{python} or ("), "Wrong expression passed to '-m': *: at column *"),
        (("--python-bisect=test_dem.py::test_fine",), "file or directory not found: test_dem.py::test_fine"),
    ],
)
def test_a_word_that_is_wrong_everywhere_is_an_error_before_anything_is_installed(
    project: Path, pytester: pytest.Pytester, words: tuple[str, ...], message: str
) -> None:
    result = pytester.runpytest_subprocess("--python-suite", "--python=3.98..3.99", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "3.99 " not in result.stdout.str() + result.stderr.str()


class _Ended:
    """A worker that has ended with a usage error."""

    exit_code = 4

    def events(self) -> list[Any]:
        return []


def test_an_error_of_one_python_is_shown_while_environments_of_others_are_made() -> None:
    """An option that no plugin has was shown only after the last of all environments was made."""
    lines: list[str] = []
    suite = Suite.__new__(Suite)
    suite.jobs = 2
    suite.say = lines.append
    suite._said_errors = set()
    suite.pythons = SimpleNamespace(skips_missing=False)  # type: ignore[assignment]  # what it needs
    suite.__dict__["_caches"] = Path("caches")
    texts = {
        "py3.8": "ERROR: unrecognized arguments: --nope",
        "py3.9": "cannot install: no connection\nmore\nhint: uv venv env-3.9",
        "py3.10": "ERROR: unrecognized arguments: --nope\nhint: --no",
        "py3.11": "cannot install: no connection\nmore\nhint: uv venv env-3.11",
    }
    suite.rows = [_row(label) for label in (*texts, "py3.12")]

    def end(row: InterpreterRun, *_: object, **__: object) -> None:
        row.is_over, row.error = True, texts[row.label]

    session = SimpleNamespace(shouldfail=False, shouldstop=False)
    replayer: Any = SimpleNamespace(session=session, report_end=end, report_missing=end)
    suite.rows[0].worker = suite.rows[2].worker = _Ended()  # type: ignore[assignment]  # what it needs
    failure = EnvironmentCreationError("it fails")
    failure.output = "Processing x\nno connection\n"
    for row in (suite.rows[1], suite.rows[3]):
        row.preparing = Future()
        row.preparing.set_exception(failure)
    suite.rows[4].preparing = Future()
    verbose = {"verbose": 0}
    suite.config = SimpleNamespace(getoption=verbose.get)  # type: ignore[assignment]  # what it needs

    assert suite._step(replayer)

    assert lines == [
        "ERROR [py3.8] - unrecognized arguments: --nope",
        "ERROR [py3.10] - unrecognized arguments: --nope\nhint: --no",
        "ERROR [py3.9] - cannot install: no connection",
    ]
    # With -v, everything that the installer printed is shown.
    verbose["verbose"] = 1
    suite.rows[1].is_over = False
    suite._step(replayer)
    assert lines[3:] == ["the output of the installer for py3.9:\nProcessing x\nno connection"]
    # If all environments are there, the summary shows the errors soon.
    suite.rows[4].preparing.set_result(None)  # type: ignore[arg-type]  # any value
    suite.rows[0].error = "another error"
    suite._say_error(suite.rows[0])
    assert len(lines) == 4


def _row(label: str) -> InterpreterRun:
    choice: Any = SimpleNamespace(interpreter=None, requests=("3.9",))
    return InterpreterRun(label=label, choice=choice)


def test_a_suite_without_tests_says_how_k_spells_a_python_and_warns_about_a_summary_that_cannot_be_written(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "none" / "summary.md"))
    result = run("-k", "old and 3.9")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        [
            "hint: in -k, the Pythons are called py3.9, py3.12: -k 'old and py3.9'",
            f"GITHUB_STEP_SUMMARY: cannot write {project / 'none' / 'summary.md'}: *",
        ]
    )


def test_the_page_is_written_to_the_given_path(run: Run, project: Path) -> None:
    run("--python-report=out/matrix.html", "-k", "old").stdout.fnmatch_lines(["the matrix as a page: *matrix.html"])
    text = (project / "out" / "matrix.html").read_text("utf-8")
    assert "test_demo.py::test_old" in text
    assert "demo on 2 Pythons" in text


def test_the_command_report_reads_the_junit_file_of_a_suite(run: Run, project: Path) -> None:
    run("--junitxml=jobs/all.xml", "-k", "old or fine")
    command = [sys.executable, "-m", "pytest_pyinstall", "report", "jobs", "--html", "page.html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "Python  passed  failed  skipped  errors  test time",
        *(line for line in done.stdout.splitlines() if line.startswith(("3.9 ", "3.12 "))),
        "FAILED test_demo.py::test_old[py3.9]; not on py3.12",
    ]
    assert "1 of 2 tests failed" in done.stderr
    assert "test_demo.py::test_fine" in (project / "page.html").read_text("utf-8")


def test_requires_python_skips_tests_that_do_not_use_our_fixture(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import sys\nimport pytest\npytestmark = pytest.mark.requires_python('>=3.12')\n"
        "def test_new():\n    assert sys.version_info >= (3, 12)\nclass TestIt:\n"
        "    @pytest.mark.requires_python('!=3.12.*')\n    def test_none(self):\n        raise AssertionError\n",
        "utf-8",
    )
    result = run("-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED * test_demo.py:*: Python 3.9.* does not fit >=3.12"])


def test_a_missing_module_is_reported_with_the_setting_to_install_it(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text("import no_such_module.part\n", "utf-8")
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ['hint: * has the module no_such_module: pyinstall_suite_install = [[]"-e .", "PACKAGE"[]]']
    )


def test_an_option_of_a_plugin_that_no_environment_has_is_one_error_that_names_the_plugin(
    run: Run, project: Path
) -> None:
    """pytest 8 and 9 name themselves differently in the message, and pytest 8 reads a translation of this table."""
    (project / "pyproject.toml").write_text(PYPROJECT + "\n[tool.pytest]\naddopts = ['--cov=demo']\n", "utf-8")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        [
            "*ERROR at session of [[]py3.9,py3.12[]]*",
            "pytest: error: unrecognized arguments: --cov=demo",
            "*inifile: *pyproject.toml",
            "ERROR [[]py3.9,py3.12[]] - *",
            'hint: no environment has pytest-cov (--cov): pyinstall_suite_install = [[]"-e .", "pytest-cov"[]]',
        ]
    )


def test_a_plugin_that_only_some_environments_have_is_missing_only_there(run: Run, project: Path) -> None:
    """An error that holds for one Python ends no other one. The hint said that no environment has the plugin."""
    extra = "\n[project.optional-dependencies]\ntest = [\"pytest-timeout; python_version >= '3.12'\"]\n"
    (project / "pyproject.toml").write_text(PYPROJECT + extra, "utf-8")
    result = run("--timeout-method=thread", "-k", "fine")
    result.assert_outcomes(passed=1, errors=1, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at session of [[]py3.9[]]*",
            "pytest: error: unrecognized arguments: --timeout-method=thread",
            "hint: the environment of py3.9 lacks pytest-timeout (--timeout-method): add *",
        ]
    )


def test_subtests_are_reported_as_in_plain_pytest(run: Run, project: Path) -> None:
    """The reports of subtests cannot be hashed, which caused an internal error."""
    (project / "test_demo.py").write_text(
        "def test_it(subtests):\n"
        "    for number in range(3):\n"
        "        with subtests.test(number=number):\n"
        "            assert False\n",
        "utf-8",
    )
    result = run(pythons=(NEW,))
    result.stdout.fnmatch_lines(["*subtest*"])
    for number in range(3):
        result.stdout.fnmatch_lines([f"SUBFAIL*number=*{number}*test_it*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert result.ret == 1


@pytest.mark.parametrize(
    ("verbose", "has_dots", "is_idle", "said"),
    [
        (0, False, False, "made"),
        (0, True, False, ""),  # between the dots only what takes long
        (0, True, True, "made"),
        (1, True, False, "made"),
        (-1, False, False, ""),
        (-1, True, True, "made"),
    ],
)
def test_environments_are_announced_but_not_between_dots(
    verbose: int, has_dots: bool, is_idle: bool, said: str
) -> None:
    lines: list[str] = []
    suite = Suite.__new__(Suite)
    suite.config = SimpleNamespace(getoption=lambda *_: verbose)  # type: ignore[assignment]  # what it needs
    suite.matrix = Matrix([])
    if has_dots:
        suite.matrix.put("test_it", "py3.9", Cell(outcome="passed"))
    suite._notices = Notices(lines.append, patience=0 if is_idle else 3600)
    suite._waits = Notices(lines.append)
    suite._notices.add("made", is_over=lambda: False)

    suite._explain_silence(happened=False)

    assert "".join(lines) == said
