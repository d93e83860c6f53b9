"""The ends of a suite's session: crashes, interrupts and kills, and what other sessions find after them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from suite_fixtures import NEW, OLD, PYPROJECT, Bench, Run, asked, marks
from waiting import wait_until

from pytest_pyinstall.suite import cache

pytestmark = [*marks, pytest.mark.skipif(sys.platform == "win32", reason="needs signals")]

LONG = 300
"""Seconds, longer than any step takes on a slow machine."""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return when `condition` is true; fail the test if `process` ends before."""

    def is_true() -> bool:
        if condition():
            return True
        assert process.poll() is None, "the session has ended"
        return False

    wait_until(is_true, LONG)


@contextlib.contextmanager
def suite(project: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A running session in `project`. It writes its output to a file, because a full pipe would block it."""
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", "--python-jobs=2", *words]
    with (project / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, text=True, cwd=project)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def output_of(project: Path) -> str:
    return (project / "output").read_text("utf-8", "replace")


@pytest.mark.parametrize(
    "how",
    [
        "os._exit(7)",
        "os.abort()",
        "import ctypes; ctypes.string_at(0)",
        "os.kill(os.getpid(), 9)",  # as the system does when memory runs out
    ],
)
def test_a_crash_is_one_failure_and_other_pythons_continue(run: Run, project: Path, how: str) -> None:
    (project / "test_demo.py").write_text(
        f"import os, sys\ndef test_before(): pass\n"
        f"def test_crash():\n    if sys.version_info < (3, 10):\n        {how}\ndef test_after(): pass\n",
        "utf-8",
    )
    result = run()
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the interpreter *ended *while it ran this test*",
            "FAILED test_demo.py::test_crash[[]py3.9[]]*",
            "Python * not run *",
            "py3.9: 1 test did not run: *ended *",
        ]
    )
    run("--lf").assert_outcomes(failed=1)


@pytest.mark.parametrize(("code", "shown"), [("0", "exit code 0"), ("'needs 3.10'", "exit code 1*needs 3.10")])
def test_p18_a_conftest_that_exits_is_an_error_of_its_python(run: Run, project: Path, code: str, shown: str) -> None:
    (project / "conftest.py").write_text(f"import sys\nif sys.version_info < (3, 10): sys.exit({code})\n", "utf-8")
    (project / "test_demo.py").write_text("def test_it(): pass\n", "utf-8")
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)
    assert re.search(f"the interpreter ended with {shown.replace('*', '.*')}", result.stdout.str(), re.DOTALL)


ENDS_WITHOUT_TESTS = """
import os, sys, pytest
label = os.environ["PYTEST_PYINSTALL_SUITE"]
if label == "py3.9":
    %s
else:
    %s
"""


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (
            "def pytest_configure(): pytest.exit('enough', returncode=0)",
            "def pytest_runtest_teardown(): pytest.exit('enough', returncode=0)",
            ["the interpreter ended with exit code 0", "the session was interrupted: Exit: enough"],
        ),
        (
            "def pytest_runtest_setup(item): item.session.shouldstop = 'enough'",
            "def pytest_collection_finish(): pytest.exit('not here', returncode=5)",
            ["the session was stopped: enough", "the session was interrupted: Exit: not here"],
        ),
        (
            "def pytest_cmdline_main(): return 0",
            "def pytest_runtestloop(): return True",
            [
                "the interpreter ended with exit code 0",
                "pytest ended with exit code 0, but none of the 2 collected tests has run",
            ],
        ),
    ],
    ids=["exit", "stop", "hooks"],
)
def test_a_session_that_ends_before_its_tests_is_an_error(
    run: Run, bench: Bench, first: str, second: str, shown: list[str]
) -> None:
    conftest = ENDS_WITHOUT_TESTS % (first, second)
    bench(files={"conftest.py": conftest, "test_it.py": "def test_one(): pass\ndef test_two(): pass\n"})
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["errors"] == 2
    for line in shown:
        assert line in result.outlines


def test_a_session_that_stops_early_under_one_python_is_an_error(run: Run, bench: Bench) -> None:
    stop = "def pytest_runtest_teardown(item): item.session.shouldstop = 'enough'"
    bench(
        files={
            "conftest.py": ENDS_WITHOUT_TESTS % (stop, "pass"),
            "test_it.py": "def test_one(): pass\ndef test_two(): pass\n",
        }
    )
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, errors=1)


def test_a_segmentation_fault_shows_only_the_frames_of_the_test(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text("import ctypes\ndef test_it(): ctypes.string_at(0)\n", "utf-8")
    result = run(pythons=(NEW,))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*was ended by SIGSEGV*", "*Fatal Python error*", "*test_demo.py*in test_it"])
    assert "pluggy/_callers.py" not in result.stdout.str()
    assert "_pyinstall_inner" not in result.stdout.str()


def test_a_test_that_runs_out_of_memory_fails(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import sys\ndef test_greedy():\n    if sys.version_info < (3, 10):\n"
        "        import resource\n        before = resource.getrlimit(resource.RLIMIT_AS)\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, before[1]))\n"
        "        try: bytearray(1 << 32)\n"
        "        finally: resource.setrlimit(resource.RLIMIT_AS, before)\n"
        "def test_after(): pass\n",
        "utf-8",
    )
    result = run()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*MemoryError*", "FAILED test_demo.py::test_greedy[[]py3.9[]]*"])


def test_the_output_of_a_crashed_interpreter_is_shown(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import os, sys\ndef test_crash():\n    os.write(2, b'the last words')\n"
        "    sys.__stderr__.flush()\n    os._exit(9)\n",
        "utf-8",
    )
    result = run("-p", "no:cacheprovider", "--capture=sys", pythons=(NEW,))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ended with exit code 9 while it ran this test*", "*the last words*"])


SLOW = """
import os, time
def test_quick(): pass
def test_slow():
    with open('new-%d' % os.getpid(), 'w'): pass
    os.rename('new-%d' % os.getpid(), 'pid-%d' % os.getpid())
    time.sleep(3600)
"""


def test_an_interrupt_ends_all_workers_and_keeps_their_reports(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(SLOW, "utf-8")
    run("-k", "quick").assert_outcomes(passed=2, deselected=2)
    with suite(project, *asked(OLD, NEW)) as process:
        wait_for(lambda: len(list(project.glob("pid-*"))) == 2, process)
        pids = [int(path.name.removeprefix("pid-")) for path in project.glob("pid-*")]
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == pytest.ExitCode.INTERRUPTED, output_of(project)
    assert "2 passed" in output_of(project)
    assert "KeyboardInterrupt" in output_of(project)
    assert "controller.py" not in output_of(project)
    slow = r"1 test did not run: stopped in test_demo\.py::test_slow \(\d+\.\d s\)"
    assert re.search(rf"^py3.9.*: {slow}$", output_of(project), re.MULTILINE)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_tests_that_ignore_an_interrupt_are_killed(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        SLOW.replace("import os, time\n", "import os, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"),
        "utf-8",
    )
    run("-k", "quick").assert_outcomes(passed=2, deselected=2)
    with suite(project, *asked(OLD, NEW)) as process:
        wait_for(lambda: len(list(project.glob("pid-*"))) == 2, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == pytest.ExitCode.INTERRUPTED, output_of(project)
    for path in project.glob("pid-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.removeprefix("pid-")), 0)


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a process that called setsid stays")


DAEMON = """
import os, signal, time
def note(name):
    with open('new-%s' % name, 'w'): pass
    os.rename('new-%s' % name, 'pid-%d-%s' % (os.getpid(), name))
def test_quick(): pass
def test_slow():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            os.environ.clear()
            note('daemon-%d' % os.getpid())
            time.sleep(3600)
        os._exit(0)
    os.wait()
    note('worker-%d' % os.getpid())
    time.sleep(3600)
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_session_and_all_processes_that_its_tests_started(
    run: Run, bench: Bench, number: signal.Signals
) -> None:
    place = bench(files={"test_it.py": DAEMON})
    run("-k", "quick").assert_outcomes(passed=2, deselected=2)  # its environments are there now
    with suite(place, *asked(OLD, NEW), "--junitxml=junit.xml") as process:
        wait_for(lambda: len(list(place.glob("pid-*"))) == 4, process)
        pids = [int(path.name.split("-")[1]) for path in place.glob("pid-*")]
        process.send_signal(number)
        assert process.wait(LONG) == -number, output_of(place)  # as plain pytest ends
    wait_until(lambda: not any(map(is_running, pids)))
    if number != signal.SIGKILL:
        assert f"Exit: ended by {number.name}" in output_of(place)
        assert "2 passed" in output_of(place)
        assert re.search(r"^3\.12\.\d+ .* stopped$", output_of(place), re.MULTILINE)
        properties = {one.get("name"): one.get("value") for one in ET.parse(place / "junit.xml").iter("property")}
        assert properties["pytest-pyinstall-not-run"] == '{"py3.9": 1, "py3.12": 1}'


@linux
def test_a_session_whose_terminal_is_closed_ends_by_sighup_and_leaves_nothing(run: Run, bench: Bench) -> None:
    place = bench(files={"test_it.py": DAEMON})
    run("-k", "quick").assert_outcomes(passed=2, deselected=2)
    ours, theirs = os.openpty()
    # The leader of a session gets the first terminal that it opens.
    words = [f'exec "$@" <>{os.ttyname(theirs)} >&0 2>&0', "sh", sys.executable, "-m", "pytest", "-q"]
    command = ["/bin/sh", "-c", *words, "-p", "no:randomly", "--python-suite", *asked(OLD, NEW)]
    with subprocess.Popen(command, cwd=place, start_new_session=True) as process:
        os.close(theirs)
        wait_until(lambda: len(list(place.glob("pid-*"))) == 4, LONG)
        os.close(ours)
        assert process.wait(LONG) == -signal.SIGHUP
    pids = [int(path.name.split("-")[1]) for path in place.glob("pid-*")]
    wait_until(lambda: not any(map(is_running, pids)))


def test_an_error_during_collection_leaves_the_progress_of_other_pythons_at_a_terminal(run: Run, bench: Bench) -> None:
    broken = "import sys\nassert sys.version_info >= (3, 10)\ndef test_it(): pass\n"
    place = bench(files={"test_it.py": broken})
    run(pythons=(NEW,))
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", *asked(OLD, NEW)]
    shown = b""
    with subprocess.Popen(command, cwd=place, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the process has closed its side
            while part := os.read(ours, 10000):
                shown += part
        process.wait(LONG)
    os.close(ours)
    assert b"1 passed" in shown
    assert b"1 error" in shown
    assert b"collecting 0 items" not in shown


def test_a_crash_after_the_last_test_is_an_error_as_under_plain_pytest(run: Run, bench: Bench) -> None:
    code = "import atexit, os\ndef test_it():\n    if os.environ['PYTEST_PYINSTALL_SUITE'] == 'py3.9':\n"
    bench(files={"test_it.py": f"{code}        atexit.register(os.kill, os.getpid(), 11)\n"})
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["the interpreter was ended by SIGSEGV after pytest had ended with exit code 0"])


def test_an_exit_in_a_test_shows_its_reason_and_what_did_not_run(run: Run, project: Path) -> None:
    (project / "test_demo.py").write_text(
        "import sys, pytest\ndef test_before(): pass\ndef test_exit():\n"
        "    pytest.exit('enough', **({} if sys.version_info < (3, 10) else {'returncode': 0}))\n"
        "def test_after(): pass\n",
        "utf-8",
    )
    result = run()
    result.assert_outcomes(passed=2, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR *py3.9*py3.12* - the session was interrupted: Exit: enough"])
    assert "the end of its output" not in result.stdout.str().lower()
    assert "no tests ran" not in result.stdout.str()
    text = "2 tests did not run: Exit: enough in test_demo.py::test_exit (*)"
    result.stdout.fnmatch_lines_random([f"*py{version}*: {text}" for version in (OLD, NEW)])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupt_does_not_wait_for_an_environment_that_another_session_makes(
    run: Run, project: Path, shared_home: Path
) -> None:
    run("-k", "fine", pythons=(NEW,)).assert_outcomes(passed=1, deselected=4)
    shelf = cache.environments_directory(shared_home / "cache")
    (made,) = (path for path in shelf.iterdir() if is_of(path, project))
    shutil.rmtree(made)
    fcntl = pytest.importorskip("fcntl")
    with (shelf / f".{made.name.partition('-')[0]}.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with suite(project, *asked(NEW)) as process:
            wait_for(lambda: "waiting for the environment" in output_of(project), process)
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == pytest.ExitCode.INTERRUPTED


def is_of(path: Path, project: Path) -> bool:
    try:
        return f'"{project}"' in (path / "suite.json").read_text("utf-8")
    except OSError:
        return False


@pytest.mark.parametrize("words", [("-x",), ("--maxfail=1",), ("--maxfail=2",)])
def test_maxfail_counts_the_failures_of_all_pythons(run: Run, project: Path, words: tuple[str, ...]) -> None:
    (project / "test_demo.py").write_text(
        "import sys, time, pytest\n"
        "def test_one(): assert sys.version_info > (3, 10)\n"
        "def test_two(): assert sys.version_info > (3, 10)\n"
        "@pytest.mark.parametrize('i', range(3600))\ndef test_slow(i): time.sleep(1)\n",
        "utf-8",
    )
    result = run(*words)
    most = int(words[0].partition("=")[2] or 1)
    result.stdout.fnmatch_lines([f"*stopping after {most} failures*"])
    assert result.parseoutcomes()["failed"] == most
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_python_that_was_not_started_is_listed_in_the_table(run: Run, project: Path) -> None:
    result = run("-x", "--python-jobs=1", "-k", "old")
    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(["3.12.* not started"])


def test_two_sessions_at_once_make_an_environment_once(run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text(PYPROJECT.replace('"1"', '"2"'), "utf-8")
    other = project / "other-output"
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", "-k", "fine", *asked(NEW)]
    with other.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=project)
    try:
        mine = run("-k", "fine", pythons=(NEW,))
        assert process.wait(LONG) == 0
    finally:
        process.kill()
        process.wait()
    mine.assert_outcomes(passed=1, deselected=4)
    texts = mine.stdout.str() + other.read_text("utf-8")
    assert texts.count("1 passed") == 2
    assert texts.count("making an environment") == 1


def test_an_incomplete_environment_of_a_killed_session_is_not_used(run: Run, project: Path, shared_home: Path) -> None:
    (project / "pyproject.toml").write_text(
        PYPROJECT.replace('["flit_core>=3.4,<4"]', '["flit_core>=3.4,<4"]\nbackend-path = ["."]').replace(
            "flit_core.buildapi", "waiting"
        ),
        "utf-8",
    )
    (project / "waiting.py").write_text(
        "import os, time\nfrom flit_core.buildapi import *\nfrom flit_core.buildapi import build_editable as build\n"
        "def build_editable(*args, **named):\n    open('building', 'w').close()\n"
        "    while not os.path.exists('go'): time.sleep(0.1)\n    return build(*args, **named)\n",
        "utf-8",
    )
    scratch = cache.environments_directory(shared_home / "cache")
    others = set(scratch.glob(".*.new"))  # of tests that share this home
    with suite(project, "-k", "fine", *asked(NEW)) as process:
        wait_for((project / "building").exists, process)
        process.kill()
        process.wait()
    (project / "go").touch()
    result = run("-k", "fine", pythons=(NEW,))
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.fnmatch_lines(["making an environment for *"])
    assert set(scratch.glob(".*.new")) <= others


def test_cache_clear_does_not_delete_an_environment_in_use(run: Run, project: Path, shared_home: Path) -> None:
    (project / "test_demo.py").write_text(
        "import os, time\ndef test_it():\n    open('running', 'w').close()\n"
        "    while not os.path.exists('go'): time.sleep(0.1)\n    import _pytest.pytester\n",
        "utf-8",
    )
    clear = [sys.executable, "-m", "pytest_pyinstall", "cache", "clear"]
    with suite(project, *asked(NEW)) as process:
        wait_for((project / "running").exists, process)
        first = subprocess.run(clear, capture_output=True, text=True, cwd=project, check=False)
        (project / "go").touch()
        assert process.wait(LONG) == 0, output_of(project)
    assert re.search(r"was not removed: another process is using it", first.stderr)
    after = subprocess.run(clear, capture_output=True, text=True, cwd=project, check=False)
    assert "stays" not in after.stderr
    run("-k", "it", pythons=(NEW,)).stdout.fnmatch_lines(["making an environment for *"])


@pytest.mark.parametrize(
    ("before", "after"), [("gc.enable()", "0 True False"), ("gc.disable(); gc.freeze()", "0 False True")]
)
def test_pytest_main_leaves_the_garbage_collector_as_it_was(run: Run, project: Path, before: str, after: str) -> None:
    words = ["-p", "no:randomly", "--python-suite", "-k", "fine", *asked(NEW)]
    script = f"import gc, pytest; {before}\ncode = int(pytest.main({words!r}))\n"
    script += "print(code, gc.isenabled(), gc.get_freeze_count() > 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=project)
    assert done.stdout.splitlines()[-1] == after
