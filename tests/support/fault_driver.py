"""Runs command lines in forked processes that have everything imported, so that 200 kills take half a minute.

It reads a JSON object with ``argv``, ``environ``, ``directory`` and ``output`` from each line of standard input. It
replies with ``{"pid": …}`` at once, and with ``{"code": …, "orphans": …}`` when the process has ended: its exit code,
negative for a signal, and the number of its children that still run. It reaps the process when the next line arrives,
so that no other process gets its number while a test may still send it a signal.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import httpcore2  # noqa: F401  # so that the forked processes have it

import pytest_pyinstall.archive.finish
import pytest_pyinstall.archive.unpack  # noqa: F401
from pytest_pyinstall.cli.main import main

_SUBREAPER = 36  # prctl(2)


def serve() -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(order)
        _send({"pid": pid})
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        # A probe of an interpreter ends by itself. P20 allows one second for that.
        deadline = time.monotonic() + 1
        while (orphans := [child for child in _children() if child != pid and not _is_dead(child)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.01)
        for child in orphans:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        _send({"code": code, "orphans": len(orphans)})
        sys.stdin.readline()  # from now on, the test sends no signal
        for child in (pid, *orphans):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _run(order: dict[str, Any]) -> NoReturn:
    code = 70
    try:
        descriptor = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (descriptor, 1), (descriptor, 2)):
            os.dup2(source, target)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(order["environ"])
        os.chdir(order["directory"])
        code = main(order["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001  # the test reads the traceback
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _send(reply: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
