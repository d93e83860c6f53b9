"""The parent of a suite's worker on Linux. It ends all processes that the worker started, if the controller ends.

A worker imports it as `_pyinstall_guard`, before anything else. It needs only the standard library, and runs on
Python 3.6.

The process that the controller starts forks. The child becomes the worker, and the parent stays as its guard. So the
worker has no child that the tests did not start, and `os.wait()` in a test waits only for the test's own children.

The guard is a "child subreaper": if a process below it ends, the guard becomes the parent of that process's children,
even if they called `setsid`. So the guard finds everything that descends from the worker.

The controller writes a letter: `i` interrupts the worker, `k` kills everything, `q` lets the guard end. If the pipe is
closed, the controller has ended, and the guard kills everything too. The guard writes ``worker PID``, and ``ended
CODE`` when the worker has ended.
"""

import os
import signal

_PR_SET_CHILD_SUBREAPER = 36
_BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)
_PATIENCE = 2
"""Seconds after which the guard gives up. It cannot kill a process of another user."""


def fork(commands, answers):
    """Return in a child, the worker. This process becomes its guard, and does not return.

    `commands` and `answers` are descriptors of pipes. If no child can be started, this process returns as the worker,
    and the pipes are closed. Pass what is returned to `wait`.
    """
    first = os.getpid()
    mask = None
    pipe = ()
    try:
        pipe = os.pipe()
        # Block signals until the guard can handle them. If the guard ended, its worker would have no guard.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        worker = os.fork()
    except Exception:  # no memory, too many processes, a Python that cannot do it
        worker = 0
    if worker:
        _become_guard(worker, commands, answers, mask, pipe)
    if os.getpid() != first and os.getpgrp() == first:
        # Like a shell's child: a new process group, but no new session. If the worker led a session, a terminal that a
        # test opens would become its controlling terminal.
        os.setpgid(0, 0)
    os.close(commands)
    os.close(answers)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pipe


def wait(pipe):
    """Wait until the guard adopts orphans. Call it before the first test, which may start a daemon."""
    if pipe:
        reading, writing = pipe
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)


def _become_guard(worker, commands, answers, mask, pipe):
    code = 1
    try:
        guard = _Guard(worker, commands, answers)
        for descriptor in pipe:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        guard.run()
        code = 0
    finally:
        os._exit(code)


class _Guard:
    def __init__(self, worker, commands, answers):
        self._worker = worker
        self._commands = commands
        self._answers = answers
        self._woken, waking = os.pipe()
        os.set_blocking(waking, False)
        signal.set_wakeup_fd(waking)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        # A terminal sends these to the worker too.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        self._answer("worker %d" % worker)
        # Keep none of the worker's files and directories open.
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        _adopt_orphans()

    def run(self):
        import select

        poll = select.poll()
        poll.register(self._commands, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while self._reap():
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._woken in ready and signal.SIGTERM in os.read(self._woken, 4096):
                return self._kill_all()
            if self._commands not in ready:
                continue
            command = os.read(self._commands, 1)
            if command == b"q":
                return None
            if command != b"i":
                return self._kill_all()
            if self._worker is not None:
                os.kill(self._worker, signal.SIGINT)
        return None

    def _reap(self):
        """Collect the processes that have ended. Returns whether any are left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except OSError:
                return False
            if pid == 0:
                return True
            if pid == self._worker:
                self._worker = None
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self._answer("ended %d" % code)

    def _answer(self, text):
        try:
            os.write(self._answers, text.encode("ascii") + b"\n")
        except OSError:  # the controller has ended
            pass

    def _kill_all(self):
        import time

        deadline = time.monotonic() + _PATIENCE
        if self._worker is not None and os.getpgid(self._worker) == self._worker:
            _kill(-self._worker)  # at once, and without /proc
        while time.monotonic() < deadline:
            for pid in _descendants():
                _kill(pid)
            if not self._reap():
                return
            time.sleep(0.002)


def _adopt_orphans():
    # Without ctypes, the guard finds only processes whose parents still run.
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def _descendants():
    """The descendants of this process, from /proc."""
    children = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    # The program's name is in parentheses, and may contain parentheses.
                    fields = file.read().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
            except (OSError, IndexError):  # it has ended
                pass
    found = []
    parents = [os.getpid()]
    while parents:
        below = children.get(parents.pop(), [])
        found += below
        parents += below
    return found
