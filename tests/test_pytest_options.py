"""An option that a conftest or plugin also defines keeps its meaning, and ``--pyinstall-python`` replaces ours."""

import os
import sys
from pathlib import Path

import pytest

from pytest_pyinstall.pytest_options import ignored_table

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"

USES = """
def test_it(request, python):
    print("theirs", request.config.getoption("python", None), "ours", python.version_info[:2])
"""

OPTION = 'addoption("--python", action="store", default="default", help="theirs")'

DEFINITIONS = {
    "on the parser": f"def pytest_addoption(parser):\n    parser.{OPTION}\n",
    "in a group": f"def pytest_addoption(parser):\n    parser.getgroup('mine').{OPTION}\n",
    "in a new group with more names": (
        "def pytest_addoption(parser):\n"
        "    group = parser.getgroup('new', 'description')\n"
        "    group.addoption('--py', '--python', action='store', default='default', dest='python')\n"
    ),
    "in our group": f"def pytest_addoption(parser):\n    parser.getgroup('pyinstall').{OPTION}\n",
}


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the running interpreter can be found, and nothing is installed."""
    monkeypatch.setenv("PYTEST_PYINSTALL_DOWNLOADS", "never")


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_a_conftest_that_defines_the_option_python_keeps_it(pytester: pytest.Pytester, definition: str) -> None:
    pytester.makeconftest(definition)
    pytester.makepyfile(USES)

    result = pytester.runpytest_subprocess("-s", "--python=theirs.exe", f"--pyinstall-python={sys.executable}")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*theirs theirs.exe ours {sys.version_info[:2]}*"])
    lines = [line for line in result.outlines if line.startswith("pyinstall: --python")]
    assert lines == ["pyinstall: --python is an option of conftest.py; use --pyinstall-python to request Pythons"]


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_the_ini_value_and_the_variable_work_beside_the_option_of_a_conftest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    pytester.makeconftest(definition)
    pytester.makepyfile(USES)
    pytester.makefile(".toml", pytest=f"[pytest]\npyinstall_python = [{sys.executable!r}]\n")
    pytester.runpytest_subprocess("-s").assert_outcomes(passed=1)
    (pytester.path / "pytest.toml").unlink()
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", sys.executable)
    result = pytester.runpytest_subprocess("-s", "--python=3.77")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*theirs 3.77 ours*"])


def test_a_plugin_that_defines_the_option_python_keeps_it_in_any_load_order(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(theirs=DEFINITIONS["on the parser"])
    pytester.makepyfile(USES)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    words = ("-s", "--python=theirs.exe", f"--pyinstall-python={sys.executable}")
    result = pytester.runpytest_subprocess("-p", "theirs", *words)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*use --pyinstall-python to request Pythons*", "*theirs theirs.exe ours*"])
    monkeypatch.setenv("PYTEST_PLUGINS", "theirs")
    pytester.runpytest_subprocess(*words).assert_outcomes(passed=1)


def test_two_other_definitions_of_one_option_still_conflict(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--mine')\n"
        "    parser.getgroup('other').addoption('--mine')\n"
    )
    result = pytester.runpytest_subprocess()
    assert result.ret != 0
    assert "--mine" in result.stderr.str() + result.stdout.str()


def test_without_another_definition_both_names_are_one_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES)
    for flag in ("--python", "--pyinstall-python"):
        result = pytester.runpytest_subprocess("-s", f"{flag}={sys.executable}")
        result.assert_outcomes(passed=1)
        assert "to request Pythons" not in result.stdout.str()


def test_a_hint_uses_the_option_name_that_was_typed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(DEFINITIONS["on the parser"])
    result = pytester.runpytest_subprocess("--pyinstall-python", "3,,9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--pyinstall-python: " in result.stderr.str()
    assert "hint: pytest --pyinstall-python" in result.stderr.str()


def test_help_shows_the_option_of_the_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(DEFINITIONS["on the parser"])
    help_text = pytester.runpytest_subprocess("--help").stdout.str()
    assert "--pyinstall-python" in help_text
    assert "theirs" in help_text
    assert Path(__file__).name not in help_text


def test_a_path_that_moves_the_rootdir_is_named(pytester: pytest.Pytester) -> None:
    project = pytester.path / "project"
    project.mkdir()
    (pytester.path / "cache").mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "test_it.py").write_text("def test_it(): pass\n")
    pytester.chdir()
    os.chdir(project)
    apart = pytester.runpytest_subprocess("--python-cache", "../cache")
    apart.stdout.fnmatch_lines(
        ["*because of the path after --python-cache: write --python-cache=DIR", "rootdir: " + str(pytester.path)]
    )
    (pytester.path / "cache" / "pytest.ini").write_text("[pytest]\n")
    elsewhere = pytester.runpytest_subprocess("--python-cache", "../cache")
    elsewhere.stdout.fnmatch_lines(
        ["*because of the path after --python-cache: write --python-cache=DIR", f"rootdir: {pytester.path / 'cache'}"]
    )
    named = pytester.runpytest_subprocess("--python-cache", "../cache", "../cache")
    named.stdout.no_fnmatch_line("*because of the path*")  # the tests are there
    together = pytester.runpytest_subprocess("--python-cache=../cache")
    together.stdout.fnmatch_lines(["rootdir: " + str(project)])
    together.stdout.no_fnmatch_line("*because of the path*")


def test_a_table_that_an_older_pytest_does_not_read_is_named(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    assert ignored_table(config, (8, 4)) == ""
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\npyinstall_suite = true\n")
    assert ignored_table(config, (8, 4)) == ""
    pytester.makepyprojecttoml("[tool.pytest]\npyinstall_suite = true\n")
    assert ignored_table(config, (8, 4)) == "[tool.pytest]"
    assert ignored_table(config, (9, 0)) == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--pyhton", "3.9"], "  did you mean: --python"),
        (["--python-sutie", "--python-download=never"], "  did you mean: --python-suite, --python-downloads"),
        (["--prefix", "x"], ""),
        (["--pythonpath-of-theirs", "--nope"], ""),
    ],
)
def test_the_error_for_a_misspelled_option_names_the_closest_one(
    pytester: pytest.Pytester, words: list[str], line: str
) -> None:
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--pythonpath-of-theirs', action='store_true')"
    )
    result = pytester.runpytest_subprocess(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [shown for shown in result.errlines if "did you mean" in shown] == ([line] if line else [])
