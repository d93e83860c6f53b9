"""A process of its own unpacks as a thread does: the same trees, the same errors, under the same rules."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import archives
import pytest
from hostile_archives import END, HOSTILE, PYTHON, Hostile, entry, gz
from unpacking import NAME, WHOLE, archive, build_of, snapshot
from waiting import is_running, wait_until

from pytest_pyinstall.archive import streaming, unpack_process
from pytest_pyinstall.archive.streaming import StreamedUnpack
from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.errors import FetchError, IntegrityError
from pytest_pyinstall.provisioner import ProvisionResult, open_provisioner
from pytest_pyinstall.settings import Settings

if TYPE_CHECKING:
    from pytest_pyinstall.system.files import FileDigests

LARGE = gz(PYTHON, *(entry(f"python/data-{number}", os.urandom(100_000)) for number in range(60)), END)

Started = list["subprocess.Popen[bytes]"]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture(autouse=True)
def busy() -> Iterator[None]:
    """The thread unpacks another archive, so that the next one gets a process."""
    with streaming._thread_turn:
        yield


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """The processes that were started. At the end of the test, all have ended."""
    found: Started = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            if "-I" in self.args:  # type: ignore[operator]  # not the shell that ends it with us
                found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    yield found
    assert all(process.returncode is not None for process in found)


def streamed(content: bytes, into: Path, name: str = NAME, known: "FileDigests | None" = None) -> Path:
    with StreamedUnpack(build_of(content, name), into=into, known={} if known is None else known) as stream:
        for at in range(0, len(content), 1000):
            stream.write(content[at : at + 1000])
        return stream.tree(archive(content, name))


def unpacked_here(content: bytes, tmp_path: Path, name: str = NAME, known: "FileDigests | None" = None) -> Path:
    (tmp_path / "here").mkdir()
    return unpack(archive(content, name), into=tmp_path / "here", known=known)


@pytest.fixture
def fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process must not unpack."""
    monkeypatch.setattr(streaming, "unpack", lambda *_, **__: pytest.fail("unpacked in this process"))


@pytest.mark.usefixtures("fails_here")
@pytest.mark.parametrize("content", [WHOLE, LARGE], ids=["small", "large"])
def test_the_tree_and_the_digests_are_the_same(into: Path, tmp_path: Path, started: Started, content: bytes) -> None:
    known: FileDigests = {}
    tree = streamed(content, into, known=known)
    assert len(started) == 1
    theirs: FileDigests = {}
    unpacked_here(content, tmp_path, known=theirs)
    assert tree == into / "python"
    assert snapshot(into) == snapshot(tmp_path / "here")
    assert sorted(row[2] for row in known.values()) == sorted(row[2] for row in theirs.values())
    for path in into.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert known[path.stat().st_ino][0] == path.stat().st_size


@pytest.mark.parametrize("hostile", [each for each in HOSTILE if each.file_name.endswith(".tar.gz")][::3], ids=str)
def test_p10_a_hostile_archive_is_rejected_in_the_same_words(
    into: Path, tmp_path: Path, started: Started, hostile: Hostile
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("untouched")
    content = hostile.build(str(tmp_path / "outside"))
    with pytest.raises(IntegrityError) as here:
        unpacked_here(content, tmp_path, hostile.file_name)
    with pytest.raises(IntegrityError) as caught:
        streamed(content, into, hostile.file_name)
    assert len(started) == bool(content)
    assert type(caught.value) is type(here.value)
    # While the bytes arrive, the ratio is compared with those that have arrived.
    assert "too much" in here.value.message or str(caught.value) == str(here.value)
    assert (tmp_path / "outside" / "victim").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} - {"home"} == {"outside", "scratch", "here"}


def test_p9_no_link_is_made_before_the_digest_is_checked(into: Path, started: Started) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE)
        wait_until(lambda: (into / "python/data").exists() and (into / "python/data").stat().st_size == 3000)
        assert not any(path.is_symlink() for path in into.rglob("*"))
        assert started[0].poll() is None
        assert (stream.tree(archive(WHOLE)) / "bin/python3").is_symlink()


def test_p9_a_restarted_download_leaves_no_earlier_files(into: Path, started: Started) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(gz(entry("other/evil", b"1" * 100), END))
        wait_until((into / "other/evil").exists)
        stream.restart()
        assert snapshot(into) == {}
        stream.write(WHOLE)
        stream.tree(archive(WHOLE))
    assert [path.name for path in into.iterdir()] == ["python"]
    assert len(started) == 2


def test_p9_a_tree_of_unchecked_bytes_is_not_returned(into: Path) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(gz(PYTHON, entry("python/evil", b"1"), END))
        tree = stream.tree(archive(WHOLE))
    assert not (tree / "evil").exists()
    assert (tree / "data").exists()


def test_after_an_error_the_download_goes_on(into: Path) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        for _ in range(100):
            stream.write(b"<html>" * 10_000)
        stream.restart()
        stream.write(WHOLE)
        assert (stream.tree(archive(WHOLE)) / "data").stat().st_size == 3000


def test_closing_an_incomplete_stream_ends_the_process(into: Path, started: Started) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE[:-5])
        wait_until((into / "python/bin/python3.12").exists)
    assert started[0].returncode is not None
    assert not (into / "python/bin/python3").is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGSTOP")
def test_p20_a_stopped_process_is_ended_too(into: Path, started: Started) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE[:-5])
        started[0].send_signal(signal.SIGSTOP)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGSTOP")
@pytest.mark.parametrize(
    "next_step",
    [
        pytest.param(lambda stream: stream.write(LARGE[1000:]), id="full pipe"),
        pytest.param(lambda stream: stream.tree(archive(LARGE[:1000])), id="answer"),
    ],
)
def test_p20_ctrl_c_does_not_wait_for_a_stopped_process(
    into: Path, started: Started, next_step: Callable[[StreamedUnpack], object]
) -> None:
    checks = iter([False, False])
    with StreamedUnpack(build_of(LARGE), into=into, known={}, is_stopped=lambda: next(checks, True)) as stream:
        stream.write(LARGE[:1000])
        started[0].send_signal(signal.SIGSTOP)
        with pytest.raises(FetchError, match="stopped"):
            next_step(stream)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="there are no process groups")
def test_p20_ctrl_c_does_not_reach_the_process(into: Path, started: Started) -> None:
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream:
        stream.write(WHOLE)
        assert os.getpgid(started[0].pid) != os.getpgrp()
        stream.tree(archive(WHOLE))


def test_p20_an_interrupt_during_the_start_ends_the_process(
    into: Path, monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unpack_process.UnpackProcess, "write", interrupt)
    with StreamedUnpack(build_of(WHOLE), into=into, known={}) as stream, pytest.raises(KeyboardInterrupt):
        stream.write(WHOLE)
    assert started[0].returncode is not None


@pytest.mark.skipif(sys.platform != "linux", reason="opens the pipe through /proc")
@pytest.mark.usefixtures("fails_here")
def test_a_copy_of_this_process_that_holds_the_pipes_delays_nothing(
    into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a plugin had forked while the pipes were made."""
    held = []
    complete = unpack_process.UnpackProcess.complete

    def hold(process: unpack_process.UnpackProcess) -> Path | None:
        held.append(os.open(f"/proc/{process._process.pid}/fd/1", os.O_WRONLY))
        return complete(process)

    monkeypatch.setattr(unpack_process.UnpackProcess, "complete", hold)
    try:
        assert (streamed(WHOLE, into) / "data").exists()
    finally:
        os.close(*held)


@pytest.mark.skipif(sys.platform != "linux", reason="opens the pipes through /proc")
def test_a_copy_of_this_process_does_not_hide_the_end_of_a_killed_one(
    into: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as held, StreamedUnpack(build_of(LARGE), into=into, known={}) as stream:
        stream.write(LARGE[:1000])
        for number, mode in enumerate(["rb", "wb"]):
            held.enter_context(open(f"/proc/{started[0].pid}/fd/{number}", mode))
        started[0].kill()
        stream.write(LARGE[1000:])
        assert (stream.tree(archive(LARGE)) / "data-59").exists()


PARENT = """\
import sys, time
from pathlib import Path
from pytest_pyinstall.archive import streaming
from pytest_pyinstall.request.identity import Build, Key
streaming._thread_turn.acquire()
build = Build(key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"), url="https://example.org/p.tar.gz", sha256="0" * 64)
with streaming.StreamedUnpack(build, into=Path(sys.argv[1]), known={}) as stream:
    stream.write(Path(sys.argv[2]).read_bytes()[:-100])
    print(stream._running._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="is_running reads /proc")
def test_the_process_ends_with_a_killed_parent(into: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(WHOLE)
    command = [sys.executable, "-c", PARENT, str(into), str(tmp_path / "archive")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(child))
    assert not (into / "python/bin/python3").is_symlink()


@pytest.mark.parametrize(
    "child",
    [
        "import os, sys; os.read(0, 50); sys.exit(1)",
        "import os; os.read(0, 50); os.kill(os.getpid(), 9)",
        "import sys; sys.stdin.buffer.read(2000); print('something else')",
        "import sys; sys.stdin.buffer.read(2000); print('[]')",
        "while True: print('a program that is no Python')",
        "this is no Python",
    ],
)
def test_if_the_process_gives_no_answer_this_one_unpacks(
    into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: Started, child: str
) -> None:
    monkeypatch.setattr(unpack_process, "_CHILD", child)
    (into / "half").write_text("left by the process")
    known: FileDigests = {}
    tree = streamed(LARGE, into, known=known)
    assert len(started) == 1
    unpacked_here(LARGE, tmp_path)
    assert tree == into / "python"
    assert snapshot(into) == snapshot(tmp_path / "here")
    assert len(known) == 62


@pytest.mark.skipif(os.name == "nt", reason="there are no limits")
def test_p16_if_only_the_process_cannot_write_this_one_unpacks(
    into: Path, monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    monkeypatch.setattr(unpack_process, "_CHILD", limit + unpack_process._CHILD)
    assert (streamed(LARGE, into) / "data-59").stat().st_size == 100_000
    assert started[0].returncode == 1


def set_executable(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr("sys.executable", name)


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.frozen", True, raising=False)


def remove_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)


def leave_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def set_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "iso8859-1")


def break_import(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if no file could be opened.
    monkeypatch.setattr(unpack_process, "_directories", lambda: __import__("pytest_pyinstall.no_such_module"))


@pytest.mark.parametrize(
    "here",
    [
        pytest.param(set_executable(""), id="no executable"),
        pytest.param(set_executable("/opt/editor/editor"), id="an editor"),
        pytest.param(freeze, id="frozen"),
        pytest.param(remove_lock, id="free-threaded"),
        pytest.param(leave_one_core, id="one core"),
        pytest.param(set_executable("/nowhere/python"), id="missing executable"),
        pytest.param(set_encoding, id="other encoding"),
        pytest.param(break_import, id="failing import"),
    ],
)
def test_p16_if_a_process_is_of_no_use_or_cannot_start_a_second_thread_unpacks(
    into: Path, monkeypatch: pytest.MonkeyPatch, started: Started, here: Callable[[pytest.MonkeyPatch], None]
) -> None:
    here(monkeypatch)
    assert (streamed(WHOLE, into) / "data").exists()
    assert not started


@pytest.mark.usefixtures("fails_here")
def test_p14_neither_the_environment_nor_the_directory_reaches_the_process(
    into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = f"open({str(tmp_path / 'planted')!r}, 'w').close()"
    for name in ("json", "gzip", "pytest_pyinstall", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(planted)
    for name in ("isal", "zlib_ng", "backports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(planted)
        for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "json.py"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    streamed(WHOLE, into)
    assert not (tmp_path / "planted").exists()


@pytest.mark.usefixtures("fails_here")
@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_directory_that_cannot_be_decoded(tmp_path: Path) -> None:
    into = tmp_path / os.fsdecode(b"scr\xe4tch \xff")
    into.mkdir()
    assert (streamed(WHOLE, into) / "data").exists()


@pytest.mark.usefixtures("fails_here")
def test_names_that_are_not_ascii_do_not_depend_on_the_locale(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    content = gz(PYTHON, entry("python/größe", b"1"), END)
    assert (streamed(content, into) / "größe").read_bytes() == b"1"


@pytest.mark.usefixtures("fails_here")
def test_what_is_isal_here_can_be_zlib_there(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_process, "_directories", lambda: [str(Path(streaming.__file__).parents[2])])
    assert (streamed(WHOLE, into) / "data").exists()


def test_the_second_of_two_installations_at_once_gets_a_process(
    settings: Settings, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = list(archives.interpreters())[-1]
    monkeypatch.setattr(streaming, "unpack", lambda *_, **__: pytest.fail("unpacked in this process"))
    with open_provisioner(settings) as provisioner:
        (provided,) = provisioner.provide(provisioner.parse([newest]))
        assert isinstance(provided, ProvisionResult)
        assert provisioner.store.verify(provided.interpreter.key) == ()
        assert provided.interpreter.run("-c", "print('runs')").stdout == "runs\n"
    assert any(unpack_process._CHILD in process.args for process in started)  # type: ignore[operator]
