"""The modules of a worker are written and repaired; workers are interrupted, killed and released."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.options import OPTIONS
from pytest_pyinstall.suite.run import WorkerSession, plugin_source, prepare_plugin

SOURCE = plugin_source()
NAME, GUARD = "_pyinstall_inner.py", "_pyinstall_guard.py"


@pytest.mark.parametrize("damaged", [b"", SOURCE[:1000], b"\0" * len(SOURCE)], ids=["empty", "cut off", "zeros"])
def test_a_damaged_plugin_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    place = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")
    (place / NAME).write_bytes(damaged)

    assert prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch") == place
    assert (place / NAME).read_bytes() == SOURCE
    assert sorted(path.name for path in place.iterdir()) == [GUARD, NAME]


def test_a_plugin_that_cannot_be_repaired_is_written_elsewhere(tmp_path: Path) -> None:
    place = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")
    (place / NAME).unlink()
    (place / NAME / "in the way").mkdir(parents=True)

    other = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")

    assert other.is_relative_to(tmp_path / "scratch")
    assert (other / NAME).read_bytes() == SOURCE
    assert sorted(path.name for path in place.iterdir()) == [GUARD, NAME]


def test_the_plugin_knows_all_options_that_take_a_value_and_all_ini_values() -> None:
    names: dict[str, tuple[str, ...]] = {}
    exec(SOURCE[SOURCE.rindex(b"_OPTIONS =") :], names)

    assert set(names["_INIS"]) == {option.ini for option in OPTIONS if option.ini}
    assert {*names["_OPTIONS"], "--python", "--python-suite"} == {option.option for option in OPTIONS if option.option}


WORKER = """
import os, signal, sys, time

def note(name):
    with open(f".{name}", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f".{name}", name)

def main(path):
    assert "_pyinstall_guard" not in sys.modules
    if os.fork() == 0:
        os.setsid()
        note("started")
        time.sleep(600)
    note("worker")
    CODE
"""

Begin = Callable[[str], WorkerSession]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """`begin(code)` starts a worker that starts a process with a session of its own, and then runs `code`."""
    session = WorkerSession(directory=tmp_path / "session")

    def begin(code: str) -> WorkerSession:
        plugin = prepare_plugin(tmp_path / "environment", otherwise=tmp_path)
        (plugin / NAME).write_text(WORKER.replace("CODE", code), encoding="utf-8")
        python = probe(Path(sys.executable), environ=os.environ)
        session.start(
            python.executable, {}, plugin=plugin, key=python.key, working_directory=tmp_path, environ=os.environ
        )
        wait_until(lambda: (tmp_path / "started").exists() and (tmp_path / "worker").exists())
        return session

    yield begin
    session.kill()
    session.close()
    for name in ("started", "worker"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), signal.SIGKILL)


def is_alive(path: Path) -> bool:
    try:
        return Path(f"/proc/{path.read_text()}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux")


@linux
def test_processes_that_a_worker_leaves_are_killed_or_released(begin: Begin, tmp_path: Path) -> None:
    session = begin("raise SystemExit(3)")
    wait_until(lambda: session.exit_code is not None)
    assert session.exit_code == 3
    assert session.seconds > 0
    assert is_alive(tmp_path / "started")
    session.interrupt()  # it has ended: nothing gets that
    session.kill()
    assert not is_alive(tmp_path / "started")


@linux
def test_a_session_that_ends_normally_keeps_the_processes_of_its_tests(begin: Begin, tmp_path: Path) -> None:
    session = begin("os._exit(0)")
    wait_until(lambda: session.exit_code is not None)
    session.release()
    assert session.exit_code == 0
    assert is_alive(tmp_path / "started")


@linux
def test_a_worker_is_interrupted_and_then_killed(begin: Begin, tmp_path: Path) -> None:
    code = (
        "signal.signal(signal.SIGINT, lambda *_: note('heard')); note('ready'); [time.sleep(0.1) for _ in range(9999)]"
    )
    session = begin(code)
    wait_until((tmp_path / "ready").exists)
    session.interrupt()
    wait_until((tmp_path / "heard").exists)
    assert session.exit_code is None
    session.kill()
    assert session.exit_code == -signal.SIGKILL
    assert not is_alive(tmp_path / "started")


@linux
def test_a_worker_does_not_outlive_its_guard(begin: Begin, tmp_path: Path) -> None:
    session = begin("time.sleep(600)")
    assert session._process
    session._process.kill()
    wait_until(lambda: session.exit_code is not None)
    assert session.exit_code == -signal.SIGKILL
    wait_until(lambda: not is_alive(tmp_path / "worker"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other locales")
@pytest.mark.parametrize(
    ("given", "is_coerced"),
    [
        ({}, True),
        ({"LANG": "C"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "C"}, False),
        ({"PYTHONCOERCECLOCALE": "0"}, False),
    ],
)
def test_only_a_locale_that_the_controller_has_set_itself_is_recognized(
    given: dict[str, str], is_coerced: bool
) -> None:
    """A worker must not inherit it: its Python would start with another encoding than under plain pytest."""
    code = "import os; from pytest_pyinstall.suite.run import is_locale_coerced; print(is_locale_coerced(os.environ))"
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout == f"{is_coerced}\n"
