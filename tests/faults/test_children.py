"""P20: installers and builds end with the process that started them, however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_report import Tally
from fault_workshop import Workshop
from waiting import is_running, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals, and /proc")


@pytest.fixture(autouse=True)
def default_hangup() -> Iterator[None]:
    """Children inherit what nohup ignores."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def session(project: Path, workshop: Workshop, *words: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words], cwd=project,
        env={**os.environ, **workshop.environ, **environ}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end(process: "subprocess.Popen[bytes]", number: int, project: Path) -> None:
    """Send the signal when ``build.pid`` in `project` names a process. Both must end."""
    pid_file = project / "build.pid"
    wait_until(lambda: pid_file.exists() or process.poll() is not None)
    pid = int(pid_file.read_text())
    assert is_running(pid)
    process.send_signal(number)
    process.wait(100)
    wait_until(lambda: not is_running(pid), 20)


STUBBORN = """\
import os, pathlib, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
here = pathlib.Path({here!r})
def wait(name):
    new = here / f".{{name}}"
    new.write_text(str(os.getpid()))
    new.replace(here / name)
    time.sleep(300)
"""

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "demo"
version = "1"
"""

BUILD = (
    STUBBORN
    + """
def build_wheel(*args, **kwargs):
    wait("build.pid")
build_editable = build_sdist = prepare_metadata_for_build_wheel = prepare_metadata_for_build_editable = build_wheel
def get_requires_for_build_wheel(*args): return []
get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel
"""
)

RUNS = {
    "build": "def test_it(): pass\n",
    "worker": STUBBORN + "\ndef test_it():\n    wait('build.pid')\n",
    "started in a test": STUBBORN
    + "\ndef test_it():\n    subprocess.run([sys.executable, '-c', STUB + \"\\nwait('build.pid')\"])\n",
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("what", ["build", "worker"])
def test_p20_processes_of_a_suite_end_with_it(
    workshop: Workshop, tally: Tally, tmp_path: Path, what: str, number: int
) -> None:
    tally.attempt("a signal to a suite")
    project = tmp_path / "project"
    project.mkdir()
    text = RUNS[what].replace("{here!r}", repr(str(project)))
    (project / "test_it.py").write_text(text.replace("{{name}}", "{name}"))
    if what == "build":
        (project / "pyproject.toml").write_text(PROJECT)
        (project / "backend.py").write_text(BUILD.format(here=str(project)))
    else:
        (project / "pytest.ini").write_text("[pytest]\n")
    words = ("--python", "current", "--python-suite", "test_it.py")
    with session(project, workshop, *words) as process:
        end(process, number, project)
    tally.survive()


def test_p20_an_installer_of_an_environment_ends_with_the_session(
    workshop: Workshop, tally: Tally, tmp_path: Path
) -> None:
    tally.attempt("a signal to a session that installs")
    project = tmp_path / "project"
    (project / "demo").mkdir(parents=True)
    (project / "demo" / "pyproject.toml").write_text(PROJECT)
    (project / "demo" / "backend.py").write_text(BUILD.format(here=str(project)))
    (project / "test_it.py").write_text("def test_it(python_env):\n    python_env.install('./demo')\n")
    with session(project, workshop, "test_it.py") as process:
        end(process, signal.SIGKILL, project)
    tally.survive()


WAITS = """\
def waits(here):
    import subprocess, sys
    code = "import os, time; open('new', 'w').write(str(os.getpid())); os.rename('new', 'build.pid'); time.sleep(300)"
    subprocess.run([sys.executable, "-c", code], cwd=here)

"""
STARTERS = {
    "run": "def test_it(python): python.run('-c', WAITS + f'waits({here!r})')\n",
    "call": "def test_it(python): python.call(waits, here)\n",
    "environment": "def test_it(python_env): python_env.run('-c', WAITS + f'waits({here!r})')\n",
}


@pytest.mark.parametrize("how", STARTERS)
def test_p20_what_a_test_runs_in_a_python_ends_with_the_session(
    workshop: Workshop, tally: Tally, tmp_path: Path, how: str
) -> None:
    """Also what that has started."""
    tally.attempt("a signal to a session whose test runs a Python")
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_it.py").write_text(f"{WAITS}WAITS = {WAITS!r}\nhere = {str(project)!r}\n{STARTERS[how]}")
    with session(project, workshop, "test_it.py") as process:
        end(process, signal.SIGKILL, project)
    tally.survive()


def test_p20_the_command_of_a_killed_exec_ends(workshop: Workshop, tally: Tally, tmp_path: Path) -> None:
    tally.attempt("SIGKILL of exec")
    version = ".".join(map(str, sys.version_info[:3]))
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_pyinstall", "exec", "--python", version, "--", sys.executable, "-c", script],
        env=workshop.environ, cwd=workshop.directory,
    ) as process:  # fmt: skip
        pid_file = tmp_path / "pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        process.kill()
        process.wait()
    wait_until(lambda: not is_running(int(pid_file.read_text())), 20)
    tally.survive()


def test_p20_a_forked_process_does_not_keep_children_of_its_parent_alive(tmp_path: Path) -> None:
    """A forked child has a copy of every descriptor, but the children of its dead parent must end nevertheless."""
    script = (
        "import os, subprocess, sys, time\n"
        "from pytest_pyinstall.system.processes import end_with_us\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "end_with_us(child, group=True)\n"
        "if os.fork() == 0:\n"
        "    time.sleep(300)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        try:
            wait_until(lambda: not is_running(pid), 20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
