"""P6: a volume grants every lock to every process, as NFS with ``local_lock`` does between two machines."""

import concurrent.futures
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import archives
import mirror
import pytest
from fault_report import Tally
from fault_workshop import RUNNING, TAG, VERSION, Workshop, digest, make_mirror

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

OTHER = next((path for minor, path in archives.interpreters().items() if path != RUNNING), RUNNING)


def _version(executable: Path) -> str:
    command = [str(executable), "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def started(workshop: Workshop, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process whose lock calls succeed without locking."""
    command = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:retval=0"]
    with subprocess.Popen(
        [*command, sys.executable, "-m", "pytest_pyinstall", *words],
        env=workshop.environ, cwd=workshop.directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _output_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    return output


@pytest.mark.skipif(OTHER == RUNNING, reason="needs two interpreters")
@pytest.mark.parametrize("words", [("install",), ("install", "--reinstall"), ("remove", "--all")])
def test_p6_the_scratch_of_a_running_process_is_not_swept_without_locks(
    tmp_path: Path, tally: Tally, words: tuple[str, ...]
) -> None:
    tally.attempt("no working locks")
    version = _version(OTHER)
    directory = make_mirror(tmp_path / "mirror", {VERSION: RUNNING, version: OTHER})
    with mirror.serve(directory) as server:
        workshop = Workshop(tmp_path / "workshop", directory, server.url)
        other = Workshop(tmp_path / "workshop", directory, server.url, version)
        if words[0] == "remove":
            assert other.run("install", version).code == 0
        stall = mirror.stall(after=1000)
        server.script(f"/{TAG}/{workshop.archive.name.replace('+', '%2B')}", stall)
        with started(workshop, "install", VERSION) as first:
            assert stall.reached.wait(60)
            scratch = workshop.store / ".pytest-pyinstall/scratch"
            before = sorted(path.name for path in scratch.glob("*/*"))
            assert len(before) == 2
            with started(other, *words, *(() if words[-1] == "--all" else (version,))) as second:
                _output_of(second)
            assert sorted(path.name for path in scratch.glob("*/*")) == before
            stall.release()
            _output_of(first)
        assert digest(workshop.home)
        assert workshop.run("verify", VERSION).code == 0
        assert list(scratch.glob("*/*")) == []
    tally.survive()


def test_p6_several_installers_of_one_key_succeed_without_locks(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("no working locks, one key")
    workshop.reset()
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(started(workshop, "install", VERSION)) for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(_output_of, processes))
    assert workshop.is_whole()
    assert workshop.run("verify").code == 0
    assert workshop.leftovers() == []
    tally.survive()


def test_p8_the_scratch_of_a_killed_process_is_swept_without_locks(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("no working locks, after a kill")
    workshop.reset()
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        stall = mirror.stall(after=1000)
        server.always(f"/{TAG}/{workshop.archive.name.replace('+', '%2B')}", stall)
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_pyinstall", "install", VERSION],
            env=workshop.environ, cwd=workshop.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with process:
            assert stall.reached.wait(60)
            process.kill()
        stall.release()
    workshop.url = ""
    assert any("scratch" in name for name in workshop.leftovers())
    with started(workshop, "install", VERSION) as again:
        _output_of(again)
    assert workshop.leftovers() == []
    tally.survive()
