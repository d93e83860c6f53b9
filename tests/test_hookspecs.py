"""The hooks are called once for each Python and environment, in conftests and plugins."""

import sys

import pytest
from archives import interpreters

CONFTEST = """
def pytest_pyinstall_provided(interpreter, config):
    with open(config.rootpath / "log.txt", "a") as file:
        file.write(f"provided {interpreter.version_info[:2]} {interpreter.source}\\n")

def pytest_pyinstall_environment(environment, python, config):
    (environment.path / "warm.txt").write_text(str(python.executable))
"""


def logged(pytester: pytest.Pytester) -> list[str]:
    path = pytester.path / "log.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(autouse=True)
def conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)


THIS = f"provided {sys.version_info[:2]} path"


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_hook_is_called_once_for_each_python_of_the_session(
    pytester: pytest.Pytester, words: tuple[str, ...]
) -> None:
    pytester.makepyfile("def test_a(python): pass\ndef test_b(python): pass\n")
    result = pytester.runpytest_subprocess("-p", "no:randomly", *words, f"--python={sys.executable}")
    result.assert_outcomes(passed=2)
    assert logged(pytester) == [THIS]


def test_the_hook_is_called_for_pythons_of_marks_and_install_python(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.python({sys.executable!r})
        def test_mark(python): pass
        def test_install(install_python): install_python({sys.executable!r})
        """
    )
    pytester.runpytest_subprocess(f"{path}::test_install").assert_outcomes(passed=1)
    assert logged(pytester)[-1:] == [THIS]
    (pytester.path / "log.txt").unlink()
    pytester.runpytest_subprocess(f"{path}::test_mark").assert_outcomes(passed=1)
    assert logged(pytester) == [THIS]


def test_the_hook_is_not_called_without_a_test_or_a_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(python): pass\n")
    pytester.runpytest_subprocess("--collect-only", f"--python={sys.executable}")
    pytester.runpytest_subprocess()
    assert logged(pytester) == []


def test_a_hook_can_prepare_an_environment(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_a(python_env, python):
            assert (python_env.path / "warm.txt").read_text() == str(python.executable)
        """
    )
    pytester.runpytest_subprocess(f"--python={sys.executable}").assert_outcomes(passed=1)


HOOKS = """
import os, pytest

def pytest_pyinstall_provided(interpreter, config):
    with open(config.rootpath / "log.txt", "a") as file:
        file.write("provided\\n")

def pytest_pyinstall_environment(environment, python, config):
    with open(config.rootpath / "log.txt", "a") as file:
        places = environment.python.prefix, python.prefix
        file.write(f"environment {[place == environment.path for place in places]}\\n")
    if "FAIL" in os.environ:
        pytest.fail("no disk for it")
    environment.install("wcwidth")
    assert environment.run("-c", "import wcwidth").returncode == 0
"""
SUITE = ("-p", "my_hooks", f"--python={sys.executable}", "--python-suite", "-o", "pyinstall_suite_install=iniconfig")


def test_a_hook_prepares_each_environment_of_a_suite_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the worker session loads the conftest, and it does not call its hooks.
    pytester.makepyfile(my_hooks=HOOKS, test_it="def test_it():\n    import wcwidth\n")
    monkeypatch.setenv("FAIL", "1")
    failed = pytester.runpytest_subprocess(*SUITE)
    failed.assert_outcomes(errors=1)
    failed.stdout.fnmatch_lines(["*a plugin's pytest_pyinstall_environment failed: *no disk for it (*my_hooks.py:*"])
    monkeypatch.delenv("FAIL")
    made = "environment [True, False]"
    for expected in ([made, "provided", made, "provided"], ["provided"]):
        if len(expected) == 1:
            (pytester.path / "log.txt").unlink()
        result = pytester.runpytest_subprocess(*SUITE)
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*making an environment*")
        assert sorted(logged(pytester)) == sorted(expected)


def test_the_hook_is_called_for_each_python_of_a_bisection(pytester: pytest.Pytester) -> None:
    # Only the worker session loads the conftest, and it does not call its hooks.
    pytester.makepyfile(my_hooks=HOOKS, test_it="def test_it(): pass\n")
    words = ["--python-bisect=test_it.py::test_it", f"--python={interpreters()['3.12']}"]
    pytester.runpytest_subprocess(*SUITE, *words).stdout.fnmatch_lines(["*no change to look for"])
    assert logged(pytester).count("provided") == 2
