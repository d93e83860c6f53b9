"""The guard ends what a worker's tests have started, and the tests do not see it, on the oldest and newest Python."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from archives import NEWEST, OLDEST, interpreters
from waiting import is_running, wait_until

from pytest_pyinstall.system import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux")

START = f"""
import sys
sys.path.insert(0, {str(Path(processes.__file__).parent)!r})
import _guard
pipe = _guard.fork(int(sys.argv[1]), int(sys.argv[2]))
_guard.wait(pipe)
import json, os, signal, time
def note(name, value):
    with open("." + name, "w") as file:
        json.dump(value, file)
    os.rename("." + name, name)
"""

# A process that has left the group, the session and the parent, and does not listen to anyone.
DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        note("daemon", os.getpid())
        time.sleep(600)
    os._exit(0)
os.wait()
"""

SLEEP = """
note("worker", os.getpid())
time.sleep(600)
"""


@dataclass
class Guarded:
    """A guard and its worker."""

    process: "subprocess.Popen[bytes]"
    commands: int
    answers: int
    directory: Path

    def noted(self, name: str) -> int:
        wait_until((self.directory / name).exists)
        return int((self.directory / name).read_text())

    def tell(self, command: bytes) -> None:
        os.write(self.commands, command)

    def said(self) -> str:
        """Everything that the guard has said, when it has ended."""
        self.process.wait(60)
        return os.read(self.answers, 4096).decode()


Start = Callable[..., Guarded]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory, in which the processes leave their notes."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture(params=sorted({OLDEST, NEWEST}))
def start(request: pytest.FixtureRequest, place: Path) -> Iterator[Start]:
    """Start a worker, which runs the given code, under a guard."""
    with contextlib.ExitStack() as stack:

        def start(*code: str, before: str = "", is_leader: bool = True) -> Guarded:
            reading, commands = os.pipe()
            answers, writing = os.pipe()
            text = START.replace("pipe =", f"{before}\npipe =") + "".join(code)
            command = [str(interpreters()[request.param]), "-c", text, str(reading), str(writing)]
            process = subprocess.Popen(command, pass_fds=(reading, writing), cwd=place, start_new_session=is_leader)
            os.close(reading)
            os.close(writing)
            guarded = Guarded(process, commands, answers, place)
            stack.callback(_end, guarded)
            return guarded

        yield start


def _end(guarded: Guarded) -> None:
    for descriptor in (guarded.commands, guarded.answers):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    guarded.process.wait(60)
    for path in guarded.directory.iterdir():
        if path.name != "group":  # its leader may be the process that runs the tests
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)


def test_the_processes_and_files_of_a_guarded_worker_are_as_for_a_command_in_a_shell(start: Start, place: Path) -> None:
    guarded = start("""
open_before = [int(name) for name in os.listdir("/proc/self/fd")][3:-1]
try:
    os.wait()
except ChildProcessError:
    children = False
os.kill(os.getppid(), 0)
os.setpgid(0, 0)  # which the leader of a session may not
primary, secondary = os.openpty()
terminal = os.ttyname(secondary)
os.close(secondary)
os.open(terminal, os.O_RDWR)
try:
    open("/dev/tty")
    has_terminal = True
except OSError:
    has_terminal = False
pending = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
note("found", [children, os.getpgrp() == os.getpid(), has_terminal, pending, open_before])
note("parent", os.getppid())
note("session", os.getsid(0))
""")
    assert guarded.said().splitlines()[1:] == ["ended 0"]
    assert json.loads((place / "found").read_text()) == [False, True, False, [], []]
    assert guarded.noted("parent") == guarded.noted("session") == guarded.process.pid


@pytest.mark.parametrize(
    ("code", "expected"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV), ("os._exit(0)", 0)],
)
def test_the_guard_says_how_the_worker_has_ended(start: Start, code: str, expected: int) -> None:
    words = start(code).said().split()
    assert words[0] == "worker"
    assert words[2:] == ["ended", str(int(expected))]


def kill(guarded: Guarded) -> None:
    guarded.tell(b"k")


def leave(guarded: Guarded) -> None:
    os.close(guarded.commands)


def terminate(guarded: Guarded) -> None:
    guarded.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("how", [kill, leave, terminate])
def test_the_guard_ends_what_the_tests_have_started_and_what_has_left_its_session(
    start: Start, how: Callable[[Guarded], None]
) -> None:
    guarded = start(DAEMON, SLEEP)
    daemon, worker = guarded.noted("daemon"), guarded.noted("worker")
    assert is_running(daemon)
    how(guarded)
    assert guarded.said().splitlines() == [f"worker {worker}", "ended -9"]
    assert not is_running(daemon)
    assert not is_running(worker)


def test_the_guard_ends_what_is_left_when_the_worker_is_gone(start: Start) -> None:
    guarded = start(DAEMON)
    daemon = guarded.noted("daemon")
    wait_until(lambda: b"ended" in os.read(guarded.answers, 4096))
    assert is_running(daemon)
    guarded.tell(b"k")
    guarded.process.wait(60)
    assert not is_running(daemon)


def test_a_daemon_is_ended_if_it_starts_before_the_guard_is_ready(start: Start) -> None:
    slow = "adopt = _guard._adopt_orphans; _guard._adopt_orphans = lambda: (__import__('time').sleep(0.5), adopt())"
    guarded = start(DAEMON, SLEEP, before=slow)
    daemon = guarded.noted("daemon")
    guarded.noted("worker")
    guarded.tell(b"k")
    guarded.process.wait(60)
    assert not is_running(daemon)


def test_a_guard_that_is_told_to_quit_leaves_running_what_is_left(start: Start) -> None:
    guarded = start(DAEMON)
    daemon = guarded.noted("daemon")
    guarded.tell(b"q")
    guarded.process.wait(60)
    assert is_running(daemon)


def test_an_interrupt_reaches_only_the_worker(start: Start) -> None:
    guarded = start("try:", SLEEP.replace("\n", "\n    "), "\nexcept KeyboardInterrupt:\n    sys.exit(5)")
    guarded.noted("worker")
    guarded.process.send_signal(signal.SIGINT)  # as a terminal, which sends it to the worker too
    guarded.tell(b"i")
    assert guarded.said().endswith("ended 5\n")


def test_a_guard_without_its_own_process_group_leaves_the_worker_in_the_controllers(start: Start) -> None:
    guarded = start('note("group", os.getpgrp())', is_leader=False)
    assert guarded.noted("group") == os.getpgrp()


def test_a_worker_that_cannot_have_a_guard_runs_without_one(start: Start) -> None:
    guarded = start('note("worker", os.getpid())', before="_guard.os.fork = None")
    assert guarded.said() == ""
    assert guarded.noted("worker") == guarded.process.pid
