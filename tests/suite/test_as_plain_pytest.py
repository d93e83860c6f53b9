"""Tests in a suite see what they see under plain pytest, and cannot stop the reports by what they patch."""

import re
from pathlib import Path

from archives import interpreters
from suite_fixtures import NEW, OLD, Bench, Compare, Run, marks

pytestmark = marks

ROOT = Path(__file__).parents[2]

PATCHING = """
import builtins, json, os, sys, time
import pytest

@pytest.fixture(scope="module", autouse=True)
def patched():
    def fails(*args, **kwargs):
        raise AssertionError("patched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getppid", lambda: 1)
        patch.setattr(os, "write", fails)
        patch.setattr(os, "kill", fails)
        patch.setattr(os, "waitpid", fails)
        patch.setattr(json, "dumps", fails)
        patch.setattr(json, "loads", fails)
        patch.setattr(json.JSONEncoder, "encode", fails)
        patch.setattr(json.JSONEncoder, "default", fails)
        patch.setattr(time, "sleep", fails)
        yield

def test_passes():
    pass

def test_fails():
    assert 0

def test_is_skipped():
    pytest.skip("no")

def test_cycle(request):
    cycle = []
    cycle.append(cycle)
    request.node.user_properties.append(("cycle", cycle))
    request.node.user_properties.append(("keys", {(1, 2): {3}}))

def test_after():
    pass
"""

LIMITING = """
import resource
import pytest

before = resource.getrlimit(resource.RLIMIT_FSIZE)

def test_limits():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))

def test_fails():
    assert 0

def test_restores():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""

FAKING = """
import os

def test_fake(fs):
    fs.create_file("/there/is")
    assert os.listdir("/there") == ["is"]
    assert 0

def test_after(fs):
    os.chdir("/")
"""

FORKING = """
import os

def test_child_goes_on_with_the_session():
    child = os.fork()
    assert child
    os.waitpid(child, 0)

def test_child_ran_this_too():
    pass
"""

LOOKING = """
import inspect, os, subprocess, sys
import __main__
import pytest

def test_main():
    assert os.path.isfile(__main__.__file__)
    assert os.path.basename(__main__.__file__) in ("pytest", "__main__.py")
    assert __main__.__file__ == sys.argv[0]

def test_source():
    space = {}
    exec("def function(): pass", space)
    with pytest.raises((OSError, TypeError)):
        inspect.getsource(space["function"])

def test_modules():
    assert "_pyinstall_guard" not in sys.modules

def test_children():
    with pytest.raises(ChildProcessError):
        os.wait()
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert os.waitpid(-1, 0)[0] == child.pid
    child.returncode = 0

def test_group():
    os.kill(os.getppid(), 0)
    os.setpgid(0, 0)
    assert os.getpgrp() == os.getpid()
"""


def test_tests_that_patch_and_limit_their_process_end_as_under_plain_pytest(compare: Compare, bench: Bench) -> None:
    bench(
        "pyfakefs",
        files={
            "test_patching.py": PATCHING,
            "test_limiting.py": LIMITING,
            "test_faking.py": FAKING,
            "test_looking.py": LOOKING,
            "test_zz_forking.py": FORKING,
        },
    )
    # pytest 9 has no `cache_dir` without the plugin, and rejects the one that the controller passes.
    compared = compare("-p", "no:cacheprovider", "--strict-config", "--strict-markers")
    compared.suite.assert_outcomes(passed=26, failed=6, skipped=2)


OLD_INI = """
[tool.pytest]
addopts = ["-k", "not left_out"]
pythonpath = ["lib"]
strict_xfail = true
"""


def test_settings_of_pytest_9_apply_to_older_versions(run: Run, bench: Bench) -> None:
    bench(
        files={
            "pyproject.toml": OLD_INI,
            "lib/only_there.py": "",
            "test_it.py": "import only_there, pytest\ndef test_left_out(): assert 0\n"
            "@pytest.mark.xfail\ndef test_passes(): pass\ndef test_fine(): pass\n",
        }
    )
    oldest = "3.6" if "3.6" in interpreters() else OLD
    pythons = tuple(dict.fromkeys((oldest, OLD)))
    run(pythons=pythons).assert_outcomes(passed=len(pythons), failed=len(pythons), deselected=len(pythons))
    run("-o", "addopts=", "-o", "strict_xfail=false", pythons=(OLD,)).assert_outcomes(passed=1, failed=1, xpassed=1)


def test_our_fixtures_work_in_an_environment_with_the_plugin(run: Run, bench: Bench) -> None:
    bench(
        f"pytest-pyinstall @ {ROOT.as_uri()} ; python_version >= '3.11'",
        files={
            "test_it.py": "import sys\nimport pytest\n"
            "def test_python(python):\n    assert python.version_info[:2] == sys.version_info[:2]\n"
            "@pytest.mark.requires_python('>=3.10')\ndef test_marked(): pass\n"
        },
    )
    result = run("--strict-markers", "-rs")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *the fixture `python` needs pytest-pyinstall, which is for Python 3.11 *"])


def test_our_fixtures_fail_with_a_hint_in_an_environment_without_the_plugin(run: Run, bench: Bench) -> None:
    tests = "def test_python(python): pass\ndef test_again(python): pass\ndef test_env(python_env): pass\n"
    bench(files={"test_it.py": tests})
    # `-W error`: pytest must not warn about how these fixtures are defined.
    result = run("-W", "error", pythons=(NEW,))
    result.assert_outcomes(errors=3)
    # Once for each fixture, because the cause is the environment.
    headings = [line.strip("_ ") for line in result.outlines if line.startswith("___")]
    assert headings == [
        f"ERROR at setup of test_python — py{NEW} (and 1 more test)",
        f"ERROR at setup of test_env — py{NEW}",
    ]
    causes = [line for line in result.outlines if line.startswith("the fixture")]
    assert causes == [
        "the fixture `python` needs pytest-pyinstall in this environment (2 tests)",
        "the fixture `python_env` needs pytest-pyinstall in this environment",
    ]
    assert not [line for line in result.outlines if line.startswith("ERROR") and "Failed: " in line]


def test_the_progress_ends_at_100_percent_and_never_goes_beyond(run: Run, bench: Bench) -> None:
    bench(
        "pytest-rerunfailures",
        files={
            "test_it.py": "import sys\nimport pytest\n"
            "@pytest.mark.parametrize('i', range(3 if sys.version_info < (3, 10) else 40))\ndef test_it(i): pass\n"
            "@pytest.mark.flaky(reruns=3)\ndef test_flaky(): assert 0\n"
        },
    )
    result = run("-v", "--python-jobs=1")
    shown = [int(match[1]) for line in result.outlines if (match := re.match(r"\[py[\d.]+\] \[ *(\d+)%\] ", line))]
    assert max(shown) == shown[-1] == 100
