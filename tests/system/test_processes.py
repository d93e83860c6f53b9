"""Programs run, are killed with their children, and end with this process: with real processes and signals."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from waiting import is_running, wait_until

from pytest_pyinstall.errors import EnvironmentCreationError, StoreError
from pytest_pyinstall.system import processes
from pytest_pyinstall.system.processes import (
    CANNOT_RUN,
    NOT_FOUND,
    end_with_us,
    ending_of,
    execute,
    forget,
    kill,
    own_group,
    run,
    run_into,
    run_tool,
    signal_name,
    tail,
    thread_limit,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
SLEEP = "import time; time.sleep(600)"


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def test_run_returns_the_exit_code_and_both_streams() -> None:
    code = "import sys; print(sys.stdin.read()); print('err', file=sys.stderr); sys.exit(3)"
    done = run(python(code), input="given", env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (3, "given\n", "err\n")


def test_run_escapes_bytes_that_are_not_utf_8_and_has_an_empty_standard_input() -> None:
    code = "import os, sys; os.write(1, b'\\xff\\xfe'); assert sys.stdin.read() == ''"
    assert run(python(code), input=None, env=os.environ).stdout == "\\xff\\xfe"


def test_run_uses_the_given_variables_and_directory(tmp_path: Path) -> None:
    code = "import os; print(os.environ['A'], 'HOME' in os.environ, os.getcwd())"
    done = run(python(code), input=None, env={"A": "1"}, cwd=tmp_path)
    assert done.stdout.split() == ["1", "False", str(tmp_path)]


def test_run_has_a_time_limit() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(python(SLEEP), input=None, env=os.environ, timeout=0.5)


PARENT = """
import os, sys
from pathlib import Path
from pytest_pyinstall.system.processes import run, run_into
command = [sys.executable, "-c", sys.argv[1]]
if sys.argv[2] == "run":
    run(command, input=None, env=os.environ, cwd=sys.argv[3])
else:
    os.chdir(sys.argv[3])
    run_into(Path(sys.argv[3]), command, input="", env=os.environ)
"""
FAMILY = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
if os.fork() == 0:
    if os.fork() == 0:  # a daemon
        os.setsid()
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists("daemon") or not os.path.getsize("daemon"):
    time.sleep(0.01)
open("pids.new", "w").write(f"{{os.getpid()}} {{child.pid}} {{open('daemon').read()}}")
os.rename("pids.new", "pids")
time.sleep(600)
"""


def only_the_daemon_goes_on(directory: Path) -> None:
    child, grandchild, daemon = map(int, (directory / "pids").read_text().split())
    try:
        wait_until(lambda: not is_running(child) and not is_running(grandchild))
        assert is_running(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's list of children")
@pytest.mark.parametrize("how", ["run", "run_into"])
def test_p20_what_is_run_ends_with_a_killed_parent_and_a_daemon_goes_on(how: str, tmp_path: Path) -> None:
    with subprocess.Popen(python(PARENT, FAMILY, how, str(tmp_path))) as parent:
        wait_until((tmp_path / "pids").exists)
        parent.kill()
    only_the_daemon_goes_on(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's list of children")
def test_a_timeout_ends_what_the_command_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    communicate = subprocess.Popen.communicate

    def later(process: subprocess.Popen[str], text: str, timeout: float) -> tuple[str, str]:
        wait_until((tmp_path / "pids").exists)
        return communicate(process, text, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", later)
    with pytest.raises(subprocess.TimeoutExpired):
        run(python(FAMILY), input=None, env=os.environ, cwd=tmp_path, timeout=0.01)
    only_the_daemon_goes_on(tmp_path)


LEAVING = """
import os, sys
from pathlib import Path
from pytest_pyinstall.system.processes import run_into
code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid)"
print(run_into(Path(sys.argv[1]), [sys.executable, "-c", code, sys.argv[2]], input="", env=os.environ).stdout)
"""


@posix
def test_what_a_command_leaves_running_goes_on_after_this_process(tmp_path: Path) -> None:
    command = python(LEAVING, str(tmp_path), SLEEP)
    left = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    try:
        assert is_running(left)
    finally:
        os.kill(left, signal.SIGKILL)


@posix
def test_run_into_files_does_not_wait_for_processes_that_are_left_running(tmp_path: Path) -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid)"

    done = run_into(tmp_path, python(code), input="", env=os.environ)

    left = int(done.stdout)
    try:
        assert is_running(left)
    finally:
        os.kill(left, signal.SIGKILL)


def test_p16_a_thread_that_cannot_be_started_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: str) -> None:
        with thread_limit():
            raise RuntimeError(message)

    with pytest.raises(StoreError, match="cannot start another thread") as caught:
        fail("can't start new thread")
    assert caught.value.hint == "ulimit -u 4096"
    if sys.platform != "win32":
        import resource

        monkeypatch.setattr(resource, "getrlimit", lambda _: (60 << 20, resource.RLIM_INFINITY))
        with pytest.raises(StoreError) as caught:
            fail("can't start new thread")
        assert caught.value.hint == "ulimit -v unlimited"
    with pytest.raises(RuntimeError, match="something else"):
        fail("something else")


def test_tail_returns_the_end_of_a_text() -> None:
    assert tail("short\n\n") == "short"
    assert tail("x" * 10 + "end", 3) == "…end"
    assert tail("abc", 3) == "abc"


@posix
def test_a_signal_is_shown_by_its_name_or_its_number() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(1000) == "signal 1000"


def test_how_a_process_has_ended() -> None:
    assert ending_of(3) == "ended with exit code 3"
    assert ending_of(-9) == "was ended by SIGKILL"
    assert ending_of(-1000) == "was ended by signal 1000"


def test_p13_the_error_of_a_failing_tool_has_the_end_of_its_output_without_passwords() -> None:
    code = "print(*range(100), sep='\\n'); print('https://user:hunter2@host/simple'); raise SystemExit(4)"

    with pytest.raises(EnvironmentCreationError) as caught:
        run_tool(python(code, "https://u:hunter2@h/"), environ=os.environ, what="cannot install x")

    lines = caught.value.message.splitlines()
    assert lines[0] == "cannot install x, exit code 4"
    assert (lines[1], lines[-2], len(lines)) == ("81", "99", 21)
    assert "hunter2" not in str(caught.value)
    assert sys.executable in caught.value.hint


def test_the_error_for_a_missing_tool_names_it(tmp_path: Path) -> None:
    missing = tmp_path / "no such tool"
    with pytest.raises(EnvironmentCreationError, match="cannot be started: No such file") as caught:
        run_tool([str(missing)], environ={}, what="cannot build")
    assert caught.value.hint == f"ls -l '{missing}'"


def test_a_successful_tool_raises_nothing() -> None:
    run_tool(python("print('fine')"), environ=os.environ, what="x")


@posix
def test_p20_an_interrupted_tool_ends_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    code = f"import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); "
    code += "new = sys.argv[1] + '.new'; open(new, 'w').write(str(p.pid)); os.rename(new, sys.argv[1]); p.wait()"

    def interrupted(*_: object, **__: object) -> None:
        wait_until(note.exists)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tool(python(code, str(note)), environ=os.environ, what="x")
    wait_until(lambda: not is_running(int(note.read_text())))


@posix
def test_kill_ends_the_whole_group_and_ignores_an_ended_one() -> None:
    code = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True)\n{SLEEP}"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, **own_group()) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        kill(process)
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: not is_running(child))
        kill(process)  # it has ended, so no process gets the signal


ENDING = """
import os, signal, subprocess, sys, time
from pytest_pyinstall.system.processes import end_with_us, forget, own_group
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
watched = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, **own_group())
end_with_us(watched, group=True)
alone = subprocess.Popen(sleep, stdout=subprocess.DEVNULL)
end_with_us(alone, group=False)
forgotten = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, **own_group())
end_with_us(forgotten, group=True)
forget(forgotten, group=True)
print(watched.pid, alone.pid, forgotten.pid, flush=True)
{end}
"""


@posix
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)"])
def test_p20_registered_processes_end_with_this_one_however_it_ends(end: str) -> None:
    done = subprocess.run(python(ENDING.format(end=end)), stdout=subprocess.PIPE, check=False)
    watched, alone, forgotten = map(int, done.stdout.split())
    try:
        wait_until(lambda: not is_running(watched) and not is_running(alone))
        assert is_running(forgotten)
    finally:
        os.kill(forgotten, signal.SIGKILL)


LEAVING_ITS_GROUP = """
import os, subprocess, sys
from pytest_pyinstall.system.processes import end_with_us, kill, own_group
code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
code += "start_new_session=True).pid, flush=True); import time; time.sleep(600)"
builder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **own_group())
end_with_us(builder, group=True)
print(builder.stdout.readline().decode(), flush=True)
{end}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists the children of a process")
@pytest.mark.parametrize("end", ["os._exit(0)", "kill(builder)"])
def test_p20_a_process_that_has_left_the_group_ends_too(end: str) -> None:
    done = subprocess.run(python(LEAVING_ITS_GROUP.format(end=end)), stdout=subprocess.PIPE, check=True)
    left = int(done.stdout)
    wait_until(lambda: not is_running(left))


@posix
def test_a_killed_watchdog_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = processes._Watchdog()
    monkeypatch.setattr(processes, "_watchdog", watchdog)
    with subprocess.Popen(python(SLEEP), **own_group()) as process:
        reading, writing = os.pipe()
        os.close(reading)  # like a watchdog that has ended: writing to it raises BrokenPipeError
        watchdog._pipe = writing
        end_with_us(process, group=True)
        assert watchdog._pipe is not None
        os.close(watchdog._pipe)  # simulates the end of this process
        assert process.wait(100) == -signal.SIGTERM
        watchdog._pipe = None
        forget(process, group=True)


@posix
@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("pass", 0)]
)
def test_execute_returns_the_exit_code_of_a_shell(code: str, expected: int) -> None:
    assert execute(python(code), environ=os.environ) == (expected, "")


@posix
def test_execute_finds_programs_on_the_path_of_the_command(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "CODE": "5"}
    assert execute(["tool"], environ=environ) == (NOT_FOUND, "tool: command not found")
    (tmp_path / "tool").write_text('#!/bin/sh\nexit "$CODE"\n')
    assert execute(["tool"], environ=environ) == (CANNOT_RUN, "tool: Permission denied")
    (tmp_path / "tool").chmod(0o755)
    assert execute(["tool"], environ=environ) == (5, "")


@posix
def test_execute_says_why_a_command_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert execute([str(tmp_path)], environ={}) == (CANNOT_RUN, f"{tmp_path}: Permission denied")
    assert execute([str(tmp_path / "file")], environ={}) == (CANNOT_RUN, f"{tmp_path / 'file'}: Permission denied")
    code, reason = execute(["with\0nul"], environ={})
    assert code == CANNOT_RUN
    assert "null byte" in reason


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_execute_forwards_signals_and_restores_the_handlers(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    ready = tmp_path / "ready"
    code = f"import signal, sys, time; signal.signal({int(number)}, lambda *_: sys.exit(42)); "
    code += f"open({str(ready)!r}, 'w').close(); time.sleep(600)"

    def send() -> None:
        wait_until(ready.exists)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    assert execute(python(code), environ=os.environ) == (42, "")
    sender.join()
    assert signal.getsignal(number) is before


@posix
def test_execute_works_in_a_thread_that_cannot_set_handlers() -> None:
    found: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: found.append(execute(python("raise SystemExit(6)"), environ=os.environ)))
    thread.start()
    thread.join()
    assert found == [(6, "")]
