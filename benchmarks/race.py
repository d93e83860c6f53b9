"""Runs two commands in turn, A B A B …, and compares them."""

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Pairs", "alone", "at_a_terminal", "at_once", "plain_environ", "processor", "race", "run"]


@dataclass(frozen=True)
class Pairs:
    """Seconds, or megabytes, of ours and of the peer's; one pair for each turn."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.ours), statistics.median(self.peer)


def race(ours: Callable[[int], float], peer: Callable[[int], float], *, turns: int) -> Pairs:
    """`turns` pairs, after one that does not count. Each call gets its number, for its own directory.

    The variable ``PYTEST_PYINSTALL_BENCH_TURNS`` limits the number of turns.
    """
    turns = min(turns, int(os.environ.get("PYTEST_PYINSTALL_BENCH_TURNS", turns)))
    results = [(ours(turn), peer(turn)) for turn in range(turns + 1)][1:]
    return Pairs(tuple(mine for mine, _ in results), tuple(theirs for _, theirs in results))


def run(command: Sequence[str | Path], *, environ: Mapping[str, str], directory: Path) -> float:
    """The seconds that a process took. If it fails, raises `RuntimeError` with its output."""
    return at_once([command], environ=[environ], directory=directory)


def at_once(
    commands: Sequence[Sequence[str | Path]], *, environ: Sequence[Mapping[str, str]], directory: Path
) -> float:
    """The seconds until all of several processes, which start at once, have ended."""
    directory.mkdir(parents=True, exist_ok=True)
    logs = [(directory / f"log-{number}").open("w+b") for number, _ in enumerate(commands)]
    start = time.perf_counter()
    processes = [
        subprocess.Popen(
            list(map(str, command)),
            env=dict(variables),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        for command, variables, log in zip(commands, environ, logs, strict=True)
    ]
    codes = [process.wait() for process in processes]
    seconds = time.perf_counter() - start
    for command, code, log in zip(commands, codes, logs, strict=True):
        log.seek(0)
        said = log.read().decode(errors="replace")
        log.close()
        if code:
            message = f"exit code {code} of {' '.join(map(str, command))}\n{said[-3000:]}"
            raise RuntimeError(message)
    return seconds


def at_a_terminal(command: Sequence[str | Path], *, environ: Mapping[str, str], directory: Path) -> float:
    """Like `run`, with a terminal for standard output and error, so that progress is shown."""
    directory.mkdir(parents=True, exist_ok=True)
    master, terminal = os.openpty()
    said = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
            while more := os.read(master, 65536):
                said.extend(more)

    reader = threading.Thread(target=read)
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)),
        env={**environ, "TERM": "xterm-256color"},
        cwd=directory,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    reader.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    reader.join()
    os.close(master)
    if code:
        message = f"exit code {code} of {' '.join(map(str, command))}\n{said.decode(errors='replace')[-3000:]}"
        raise RuntimeError(message)
    return seconds


def processor(command: Sequence[str | Path], *, environ: Mapping[str, str], directory: Path) -> float:
    """The processor time, user and system, of a process and of the children that it waited for."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log-0").open("w+b") as log:
        process = subprocess.Popen(
            list(map(str, command)), env=dict(environ), cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            message = f"{' '.join(map(str, command))}\n{log.read().decode(errors='replace')[-3000:]}"
            raise RuntimeError(message)
    return used.ru_utime + used.ru_stime


_PEAK = """\
import os, sys, threading, time
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
peak = 0
def look():
    global peak
    while True:
        children, sizes = {}, {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/status") as file:
                    text = file.read()
                children.setdefault(int(text.split("PPid:")[1].split()[0]), []).append(int(name))
                sizes[int(name)] = int(text.split("VmHWM:")[1].split()[0])
            except (OSError, IndexError):
                pass
        total, below = 0, [pid]
        for process in below:
            total += sizes.get(process, 0)
            below += children.get(process, [])
        peak = max(peak, total)
        time.sleep(0.005)
threading.Thread(target=look, daemon=True).start()
_, status, used = os.wait4(pid, 0)
print(max(peak, used.ru_maxrss) / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def alone(command: Sequence[str | Path], *, environ: Mapping[str, str], directory: Path) -> float:
    """The peak memory of a process and its descendants in megabytes, as the sum of their own peaks. Linux only.

    Measured by a small process, because the memory of a parent at its fork counts as the child's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PEAK, *map(str, command)],
        env=dict(environ), cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        message = f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}"
        raise RuntimeError(message)
    return float(done.stdout.splitlines()[-1])


def plain_environ() -> dict[str, str]:
    """This process's variables, without those that configure one of the two sides, or disable Python's caches."""
    dropped = ("PYTHON", "PYTEST", "UV_PYTHON", "UV_CACHE", "VIRTUAL_ENV", "TOX", "COVERAGE", "XDG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
