"""Marks choose among the Pythons of a session, PATH has their commands, and xdist workers get them."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from plugin_fixtures import RUNNING, VERSIONS, ids, installed, marks

from pytest_pyinstall.pytest_state import unused_sentence

pytestmark = marks


# Markers
def test_a_mark_gives_a_test_its_own_pythons(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_function="""
        import pytest
        @pytest.mark.python("3.9", "3.10")
        def test_it(python): pass
        def test_plain(python): pass
        """,
        test_module="""
        import pytest
        pytestmark = pytest.mark.python("3.9..3.10")
        def test_it(python): pass
        @pytest.mark.python("3.9")
        class TestIn:
            def test_it(self, python): pass
            @pytest.mark.python("3.10")
            def test_own(self, python): pass
        """,
    )
    result = pytester.runpytest_inprocess("-v", "--strict-markers")
    result.assert_outcomes(passed=7)
    assert sorted(ids(result)) == [
        *("TestIn::test_it[3.9]", "TestIn::test_own[3.10]"),
        *("test_it[3.10]", "test_it[3.9]", "test_plain"),
    ]
    assert len(installed()) == 2


def test_requires_python_excludes_versions_that_do_not_match(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.requires_python(">=3.10")
        def test_it(python): pass
        @pytest.mark.requires_python("<3.11")
        def test_both(python): pass
        @pytest.mark.requires_python(">=3.50")
        def test_none(python): pass
        @pytest.mark.python("3.9", "3.11")
        def test_own(python): pass
        def test_without(): pass
        """
    )
    result = pytester.runpytest_inprocess("-v", "-rs", "--python=3.9..3.11")
    result.assert_outcomes(passed=5, skipped=1)
    assert set(ids(result)) == {
        *("test_it[3.10]", "test_it[3.11]", "test_both[3.10]", "test_none[none-fits]", "test_own[3.11]"),
        "test_without",
    }
    result.stdout.fnmatch_lines(["SKIPPED*none of the Pythons 3.9, 3.10, 3.11 fits *3.50*"])


def test_requires_python_applies_to_the_running_interpreter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.requires_python("=={RUNNING}.*")
        def test_fits(python): pass
        @pytest.mark.requires_python("<3.0")
        def test_does_not(python): pass
        """
    )
    result = pytester.runpytest_inprocess("-v", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    assert ids(result) == ["test_fits", "test_does_not"]


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("python()", "has no request"),
        ("python(3.10)", "*3.1 is a float, not a string*"),
        ("python(version='3.10')", "*does not accept the keyword version*"),
        ("python('three')", "*three*"),
        ("python('3.9,,3.10')", "*there is no request between two commas*"),
        ("python(['3.9'])", "*is a list, not a string*"),
        ("requires_python()", "has no version specifier"),
        ("requires_python('3.10')", "*'3.10' is not a version specifier*"),
        ("requires_python(3)", "*3 is not a version specifier*"),
        ("requires_python(minimum='3.10')", "*does not accept the keyword minimum*"),
    ],
)
def test_an_invalid_mark_is_a_collection_error_with_a_hint(
    pytester: pytest.Pytester, full: Path, mark: str, said: str
) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(python): pass")
    result = pytester.runpytest_inprocess("--python=3.9")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*::test_it: @pytest.mark.*{said}*", "hint: *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*_plugin.py*")


def test_indirect_parametrization_of_python_provides_the_requested_pythons(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("python", ["3.9", ">=3.10,<3.11"], indirect=True)
        @pytest.mark.parametrize("number", [1, 2])
        def test_it(python, number, request):
            assert python.version_info[:2] == {"3.9": (3, 9)}.get(request.node.callspec.params["python"], (3, 10))
        @pytest.mark.parametrize(("python",), [("3.1",), (3,)], indirect=["python"])
        def test_wrong(python): pass
        """
    )
    result = pytester.runpytest_inprocess("-v", "--python=3.11")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines_random(["*no *3.1*", "*3 is a int, not a string*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


def test_a_hook_that_parametrizes_python_gets_the_requested_pythons(pytester: pytest.Pytester, full: Path) -> None:
    hook = """
        def pytest_generate_tests(metafunc):
            if "python" in metafunc.fixturenames:
                metafunc.parametrize("python", {}, indirect=True)
        """
    pytester.makeconftest(hook.format(["3.9", "3.10"]))
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.requires_python("<3.11")
        def test_it(python): assert python.version_info[1] in (9, 10)
        """
    )
    pytester.runpytest_inprocess("--python=3.11").assert_outcomes(passed=2)
    pytester.runpytest_inprocess().assert_outcomes(passed=2)
    pytester.makeconftest("")
    pytester.makepyfile(hook.format(["3.9"]) + "\n        def test_it(python): assert python.version_info[1] == 9")
    pytester.runpytest_inprocess("--python=3.11").assert_outcomes(passed=1)


def test_a_missing_python_of_a_mark_ends_the_session_unless_its_test_is_deselected(
    pytester: pytest.Pytester, full: Path
) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.python("3.1", "3.9")
        def test_old(python): pass
        def test_it(): pass
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *3.1*", "hint: *"])
    pytester.runpytest_inprocess("-k", "test_it").assert_outcomes(passed=1, deselected=2)
    skipped = pytester.runpytest_inprocess("-v", "--python-missing=skip")
    skipped.assert_outcomes(passed=2, skipped=1)
    assert ids(skipped) == ["test_old[3.1]", "test_old[3.9]", "test_it"]


# PATH
DOCUMENTED = '''
"""Serialize with one Python and load with another; both are found on PATH."""
import shutil
import subprocess
import pytest

NAMES = ["python3.9", "python3.10", "python3.11"]

@pytest.fixture(params=NAMES)
def writer(request, tmp_path):
    return Runner(request.param, tmp_path / "data.pickle")

@pytest.fixture(params=NAMES)
def reader(request, writer):
    return Runner(request.param, writer.file)

class Runner:
    def __init__(self, name, file):
        self.path = shutil.which(name)
        if not self.path:
            pytest.skip(f"{name!r} not found")
        self.file = file

    def run(self, code):
        return subprocess.check_output([self.path, "-c", code, str(self.file)], text=True)

@pytest.mark.parametrize("value", [42, {}, {1: 3}])
def test_objects_travel(writer, reader, value):
    writer.run(f"import pickle, sys; pickle.dump({value!r}, open(sys.argv[1], 'wb'), protocol=2)")
    assert reader.run("import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')))").strip() == repr(value)
'''


def test_the_example_of_the_pytest_documentation_finds_each_python_on_path(
    pytester: pytest.Pytester, full: Path
) -> None:
    pytester.makepyfile(DOCUMENTED)
    if not any(shutil.which(f"python{version}") for version in VERSIONS):
        pytester.runpytest_inprocess().assert_outcomes(skipped=27)
    result = pytester.runpytest_subprocess("--python", "3.9..3.11")
    result.assert_outcomes(passed=27)
    result.stdout.fnmatch_lines(
        ["pyinstall: python3.9, python3.10 and python3.11 were on PATH, but no test used the fixture `python`; *"]
    )


def test_a_failure_shows_the_line_of_the_test_and_none_of_ours(pytester: pytest.Pytester) -> None:
    # `current`, so that the program that fails is quick to start.
    pytester.makepyfile(
        """
        def test_not_sent(python): python.call(lambda: 3)
        def test_no_such_argument(python): python.call(test_not_sent, wrong=1)
        def test_failing(python): python.run("-c", "raise SystemExit(3)")
        def test_endless(python): python.run("-c", "print('hello', flush=True); [0 for _ in iter(int, 1)]", timeout=1)
        def test_nowhere(python): python.run("-c", "", cwd="nowhere")
        def test_no_program(python_env): python_env.run("no-such-program")
        def test_no_package(python_env): python_env.install("./no-such-directory")
        """
    )
    result = pytester.runpytest("--python=current")
    result.assert_outcomes(failed=7)
    lines = result.stdout.lines
    assert not [line for line in lines if re.search(r"(?:pytest_pyinstall/|subprocess|inspect)\w*\.py:\d+", line)]
    assert sum(bool(re.match(r"test_\w+\.py:\d+: \w+", line)) for line in lines) == 7
    result.stdout.fnmatch_lines(["E   --- standard output ---", "E   hello"])


def test_path_is_restored_after_the_session(pytester: pytest.Pytester, full: Path) -> None:
    before = os.environ["PATH"]
    pytester.makepyfile(
        """
        import os, shutil
        def test_it(python):
            first = os.environ["PATH"].split(os.pathsep)[0]
            assert os.path.dirname(shutil.which("python3.9")) == first
        """
    )
    result = pytester.runpytest_inprocess("-s", "--python=3.9")
    result.assert_outcomes(passed=1)
    assert os.environ["PATH"] == before


def test_path_is_not_changed_if_that_is_configured(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makeini("[pytest]\npyinstall_path = false")
    pytester.makepyfile(
        f"""
        import os
        def test_it(python):
            assert os.environ["PATH"] == {os.environ["PATH"]!r}
        def test_without(): pass
        """
    )
    pytester.runpytest_inprocess("--python=3.9").assert_outcomes(passed=2)
    result = pytester.runpytest_inprocess("--python=3.9", "-k", "without")
    result.stdout.fnmatch_lines(["pyinstall: no test used the fixture `python`; to run *"])


def test_unused_pythons_of_the_command_line_are_mentioned_with_q_too(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(): pass")
    sentence = ["pyinstall: *no test used the fixture `python`; to run *"]
    pytester.runpytest_inprocess("-q", "--python=3.9").stdout.fnmatch_lines(sentence)
    pytester.runpytest_inprocess("-qq", "--python=3.9").stdout.no_fnmatch_line(sentence[0])
    pytester.makeini("[pytest]\npyinstall_python = 3.9")
    pytester.runpytest_inprocess("--python-store=store").stdout.fnmatch_lines(sentence)
    pytester.runpytest_inprocess("-q").stdout.no_fnmatch_line(sentence[0])


def test_unused_pythons_are_mentioned_in_one_sentence() -> None:
    unused, way_out = "no test used the fixture `python`; to run the whole suite with", "add --python-suite"
    assert unused_sentence([], 1) == f"{unused} this Python, {way_out}"
    assert unused_sentence(["python3.8"], 1) == f"python3.8 was on PATH, but {unused} this Python, {way_out}"
    both = "python3.8 and python3.9 were on PATH, but"
    assert unused_sentence(["python3.8", "python3.9"], 2) == f"{both} {unused} each of these Pythons, {way_out}"


# xdist
@pytest.mark.usefixtures("xdist")
def test_xdist_workers_get_the_pythons_from_the_controller(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import subprocess
        import pytest
        def pytest_configure(config):
            if hasattr(config, "workerinput"):
                class Refused(subprocess.Popen):
                    def __init__(self, command, *args, **kwargs):
                        assert "python" not in str(command), "a worker probed a Python"
                        super().__init__(command, *args, **kwargs)
                subprocess.Popen = Refused
        """
    )
    pytester.makepyfile(
        """
        import os, shutil
        def test_it(python, pythons, worker_id):
            assert worker_id != "master"
            assert python in pythons and len(pythons) == 2
            assert shutil.which("python%d.%d" % python.version_info[:2])
            names = os.environ["PATH"].split(os.pathsep)
            assert len(set(names)) == len(names)
        """
    )
    result = pytester.runpytest_subprocess("-v", "-n2", "--python=3.9,3.6", "--python=3.10", "--python-missing=skip")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["python 3.9 -> CPython 3.9*installed now*"])
    result.stdout.fnmatch_lines_random(["*PASSED*test_it[[]3.9[]]*", "*SKIPPED*test_it[[]3.6[]]*"])
    result.stdout.no_fnmatch_line("pyinstall: no test used*")
    assert len(installed()) == 2


@pytest.mark.usefixtures("xdist")
def test_marks_select_the_same_pythons_in_each_xdist_worker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.python("3.9", "3.10")
        def test_it(python): pass
        @pytest.mark.python("3.1")
        def test_none(python): pass
        def test_plain(python): pass
        """
    )
    result = pytester.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*no *3.1*"])
    assert len(installed()) == 2


# A terminal
def at_terminal(*words: str) -> tuple[int, str, list[str]]:
    """Run pytest at a terminal: its exit code, its output, and the lines of the output without control sequences."""
    environ = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR"}}
    environ |= {"TERM": "xterm-256color", "COLUMNS": "80"}
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "pytest", *words]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environ) as process:
        os.close(follower)
        seen = b""
        with suppress(OSError):  # the other side was closed
            while chunk := os.read(leader, 65536):
                seen += chunk
    os.close(leader)
    text = seen.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return process.returncode, text, [line.strip() for line in re.split(r"[\r\n]+", plain)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_steps_are_written_above_the_bars_of_a_terminal(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(python): pass")

    code, _, lines = at_terminal("-v", "--python=3.9,3.10")

    assert code == 0, lines
    assert any("published as" in line for line in lines)
    assert any("MiB" in line for line in lines)
    assert [line for line in lines if "MiB" in line and "cpython-" in line] == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_bars_on_separate_lines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_dot(python): pass
        def test_more(install_python):
            install_python("3.10")
            assert 0
        """
    )
    code, text, lines = at_terminal("-q", "--python=3.9")

    assert code == 1, lines
    bars = [line for line in lines if "MiB" in line]
    assert {line.partition(" ")[0].rpartition(".")[0] for line in bars} == {"3.9", "3.10"}, lines
    assert all(len(line) <= 80 for line in bars)
    assert "Downloading" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "Captured stdout" not in text
    assert len(installed()) == 2


MISTYPED = """
import pytest
def test_it(python): pass
@pytest.mark.parametrize("n", [1, 2])
def test_number(n, python): pass
@pytest.mark.parametrize("x", ["a b"])
def test_other(x): pass
"""


def _hints(result: pytest.RunResult) -> list[str]:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return [line.removeprefix("hint: ") for line in result.errlines if line.startswith("hint: ")]


def test_a_mistyped_id_of_a_test_with_python_suggests_the_closest(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(test_ids=MISTYPED)
    typed = {
        "test_it[py3.9]": "'test_ids.py::test_it[3.9]'",
        "test_it[3.10.18]": "'test_ids.py::test_it[3.10]'",
        "test_it[3.8]": "--python 3.8 'test_ids.py::test_it[3.8]'",
        "test_number[3.10-2]": "'test_ids.py::test_number[2-3.10]'",
        "test_number[1]": "'test_ids.py::test_number[1-3.9]'",
        "test_other[a b][py3.10]": "--python 3.9,3.10 --python-suite 'test_ids.py::test_other[a b][py3.10]'",
        "test_other[py3.8]": "--python 3.8 --python-suite 'test_ids.py::test_other[py3.8]'",
    }
    result = pytester.runpytest_inprocess("--python=3.9,3.10", *(f"test_ids.py::{each}" for each in typed))
    assert _hints(result) == list(typed.values())
    result.stderr.fnmatch_lines(
        ["ERROR: not found: test_ids.py::test_it[[]py3.9[]]", "(the test exists, but not with [[]py3.9[]])"]
    )
    result.stderr.fnmatch_lines(["(the Pythons of this session are 3.9, 3.10)"])
    result.stderr.fnmatch_lines(["([[]py3.10[]] is for --python-suite)"])

    again = pytester.runpytest_inprocess("--python=3.9,3.10", *typed["test_it[py3.9]"].split("'")[1:2])
    again.assert_outcomes(passed=1)


def test_an_id_with_a_python_that_is_not_requested_has_a_hint_that_requests_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_ids=MISTYPED)
    typed = ["test_it[3.9]", "test_number[1-py3.9]", "test_other[a b][py3.9]", "test_other[ab]"]
    result = pytester.runpytest_inprocess(*(f"test_ids.py::{each}" for each in typed))
    assert _hints(result) == [
        "--python 3.9 'test_ids.py::test_it[3.9]'",
        "--python 3.9 'test_ids.py::test_number[1-3.9]'",
        "--python 3.9 --python-suite 'test_ids.py::test_other[a b][py3.9]'",
    ]
    result.stderr.fnmatch_lines(["ERROR: not found: *test_ids.py::test_other*", "(no * in any of *)"])
    if pytest.version_tuple >= (9,):  # before, pytest ignores the brackets after a file
        of_file = pytester.runpytest_inprocess("test_ids.py[py3.9,py3.10]")
        assert _hints(of_file) == ["--python 3.9,3.10 --python-suite 'test_ids.py[py3.9,py3.10]'"]
