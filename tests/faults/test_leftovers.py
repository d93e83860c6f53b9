"""P8: the next command that writes sweeps what killed commands left in store, cache and temporary directory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import archives
import mirror
import pytest
from fault_report import Tally
from fault_workshop import VERSION, Workshop
from waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX processes")


def name_of_dead_process(suffix: str) -> str:
    """A scratch name of a process that has ended."""
    script = f"from pytest_pyinstall.system.files import scratch_name; print(scratch_name({suffix!r}))"
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("words", [("install", VERSION), ("cache", "prune"), ("verify", "--repair")])
def test_p8_a_command_with_nothing_to_do_sweeps_what_killed_commands_left(
    workshop: Workshop, tally: Tally, words: tuple[str, ...]
) -> None:
    tally.attempt("leftovers of killed processes")
    digest = "c" * 24
    names = [
        f"cache/environments/.{digest}.1234abcd.gone",
        f"cache/environments/.{digest}-{'d' * 12}.1234abcd.gone",
        f"cache/trees/{name_of_dead_process('.new')}",
        f"cache/commands/{name_of_dead_process('.new')}",
        f"cache/catalogues/{name_of_dead_process('.part')}",
        f"store/.pytest-pyinstall/scratch/{workshop.key}/{name_of_dead_process('')}",
        f"store/.pytest-pyinstall/records/{name_of_dead_process('.part')}",
        f"tmp/pytest-pyinstall-{name_of_dead_process('').removeprefix('.')}",
    ]
    for name in names:
        path = workshop.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".part"):
            path.write_text("{}")
        else:
            path.mkdir()
            (path / "file").touch()
    ended = workshop.run(*words)
    assert ended.code == 0, ended.output
    assert [name for name in names if os.path.lexists(workshop.directory / name)] == []
    tally.survive()


def test_p8_files_of_running_processes_are_not_swept(workshop: Workshop, tally: Tally) -> None:
    """`cache clear`, `cache prune` and `--reinstall` in a session leave its Python on PATH."""
    tally.attempt("files of running processes")
    project = workshop.directory / "project"
    project.mkdir()
    run = f"subprocess.run([{sys.executable!r}, '-m', 'pytest_pyinstall', *words])"
    (project / "test_it.py").write_text(
        "import subprocess, os, shutil\n"
        "def test_it(python, tmp_path):\n"
        f"    for words in (['cache', 'clear'], ['cache', 'prune'], ['install', '--reinstall', {VERSION!r}]):\n"
        f"        assert {run}.returncode == 0\n"
        f"    name = 'python{VERSION.rpartition('.')[0]}'\n"
        "    assert subprocess.run([shutil.which(name), '-c', '']).returncode == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--python", VERSION, "test_it.py"],
        env=workshop.environ, cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tally.survive()


def test_p8_the_next_command_sweeps_what_killed_sessions_left(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("SIGKILL of a session")
    project = workshop.directory / "project"
    project.mkdir()
    (project / "test_it.py").write_text("import os\ndef test_it(python): os.kill(os.getpid(), 9)\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--python", VERSION, "test_it.py"]
    for _ in range(3):
        subprocess.run(command, env=workshop.environ, cwd=project, capture_output=True, check=False)
    assert workshop.run("install", VERSION).code == 0
    assert workshop.leftovers() == []
    tally.survive()


CALL = """\
import os

def end(pid):
    import os
    os.kill(pid, 9)

def test_it(python):
    python.call(end, os.getpid())
"""
SUITE = """\
import pathlib, time

def test_it():
    pathlib.Path("runs").touch()
    time.sleep(300)
"""
KILLS = {
    "a call": ("--python", VERSION, "test_it.py"),
    "a suite": ("--python", "current", "--python-suite", "test_it.py"),
}


@pytest.mark.parametrize("what", KILLS)
def test_p8_the_next_command_sweeps_the_temporary_directory_of_a_killed_session(
    workshop: Workshop, tally: Tally, what: str
) -> None:
    tally.attempt("SIGKILL of a session")
    project = workshop.directory / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "test_it.py").write_text(CALL if what == "a call" else SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *KILLS[what]]
    with subprocess.Popen(command, env={**os.environ, **workshop.environ}, cwd=project) as killed:
        wait_until(lambda: (project / "runs").exists() or killed.poll() is not None)
        killed.kill()
    assert killed.returncode == -9
    assert list(workshop.temporary.glob("pytest-pyinstall-*")) != []
    assert workshop.run("install", VERSION).code == 0
    assert list(workshop.temporary.glob("pytest-pyinstall-*")) == []
    tally.survive()


def test_p8_the_next_command_sweeps_the_temporary_directory_of_a_killed_mirror_pack(
    workshop: Workshop, tally: Tally, tmp_path: Path
) -> None:
    tally.attempt("SIGKILL of mirror pack")
    source = str(next(iter(archives.interpreters().values())).parents[1])
    command = [sys.executable, "-m", "pytest_pyinstall", "mirror", "pack", str(tmp_path / "packed"), source]
    with subprocess.Popen(command, env=workshop.environ, cwd=tmp_path) as process:
        while not list(workshop.temporary.glob("pytest-pyinstall-*/?*")):
            assert process.poll() is None, "it ended before the kill"
            time.sleep(0.01)
        process.kill()
    assert list(workshop.temporary.glob("pytest-pyinstall-*")) != []
    assert workshop.run("install", VERSION).code == 0
    assert list(workshop.temporary.glob("pytest-pyinstall-*")) == []
    tally.survive()


@pytest.mark.parametrize("etag", ['"caf\u00e9"', '"a\x7fb"', '"with space"', "nonsense"])
def test_p12_an_invalid_etag_does_not_prevent_later_downloads(workshop: Workshop, tally: Tally, etag: str) -> None:
    tally.attempt("an invalid ETag of a cut download")
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        workshop.reset()
        path = f"/20261122/{workshop.archive.name.replace('+', '%2B')}"
        broken = [mirror.Behaviour(validator=etag, stop="reset", after=300_000) for _ in range(9)]
        server.script(path, *broken)
        server.script("/catalogue.json", mirror.etag(etag), mirror.etag(etag))
        workshop.run("install", VERSION)
        server.script(path, *[mirror.etag(etag)] * 3)
        ended = workshop.run("install", VERSION)
        assert ended.code == 0, ended.output
        ended = workshop.run("list", "--all")
        assert ended.code == 0, ended.output
    assert workshop.is_whole()
    tally.survive()


def test_p8_cached_answers_of_earlier_versions_are_swept(workshop: Workshop, tally: Tally) -> None:
    """Those files contained values of environment variables."""
    tally.attempt("leftovers of killed processes")
    Path(workshop.cache, "answers").mkdir(parents=True, exist_ok=True)
    Path(workshop.cache, "answers", "0123456789abcdef").write_text("secret")
    assert workshop.run("install", VERSION).code == 0
    assert not (workshop.cache / "answers").exists()
    tally.survive()
