"""A process can clean up before a signal ends it, unless the signal is ignored."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

_PROGRAM = """
import os, signal, sys
from pytest_pyinstall.system.signals import Terminated, end_by, raising_at_termination
number = int(sys.argv[1])
if sys.argv[2:]:
    signal.signal(number, signal.SIG_IGN)
try:
    with raising_at_termination():
        os.kill(os.getpid(), number)
        print("ignored", flush=True)
except Terminated as end:
    print("cleaned up", flush=True)
    end_by(end.number)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_process_cleans_up_and_ends_by_the_signal(name: str) -> None:
    number = getattr(signal, name)

    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(int(number))], capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (-number, b"cleaned up\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    command = [sys.executable, "-c", _PROGRAM, str(int(signal.SIGTERM)), "ignored"]
    done = subprocess.run(command, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, b"ignored\n")
