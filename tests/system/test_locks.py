"""Locks are released when their process ends, waiting has a limit, and errors name the holder."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pytest_pyinstall.errors import LockTimeoutError, StoreError
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.locks import hold, holder, is_free, seize

_HOLDER = """
import sys
import threading
from pathlib import Path
from pytest_pyinstall.system.locks import hold
with hold(Path(sys.argv[1]), timeout=200, purpose="for it", setting="--python-store", note=Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), str(path.with_suffix(".holder"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def _hold(path: Path, *, timeout: float = 0.1) -> None:
    with hold(path, timeout=timeout, purpose="for it", setting="--python-store", note=path.with_suffix(".holder")):
        pass


def test_the_lock_file_is_kept_and_can_be_opened_by_everyone(tmp_path: Path) -> None:
    path = tmp_path / "locks/key.lock"
    _hold(path)

    assert path.stat().st_mode & 0o777 == 0o666
    assert path.stat().st_size == 0
    assert [child.name for child in path.parent.iterdir()] == ["key.lock"]


def test_p5_the_timeout_error_names_the_lock_the_process_and_its_age(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    with _held(path) as process, pytest.raises(LockTimeoutError) as caught:
        _hold(path)

    text = str(caught.value)
    assert str(path) in text
    assert f"process {process.pid} " in text
    assert "s ago)" in text
    assert "PYTEST_PYINSTALL_LOCK_TIMEOUT=" in text


def test_a_note_of_a_dead_process_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    with _held(path) as process:
        note = json.loads(path.with_suffix(".holder").read_text())
        path.with_suffix(".holder").write_text(json.dumps({**note, "pid": 1}))
        with pytest.raises(LockTimeoutError) as caught:
            _hold(path)

    assert f"process {process.pid} (" in str(caught.value)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b"3", b"\xff", b'{"since": 3}'])
def test_p11_a_damaged_note_is_ignored(tmp_path: Path, content: bytes) -> None:
    note = tmp_path / "key.holder"
    note.write_bytes(content)

    assert holder(tmp_path / "key.lock", note) == "another process"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    with _held(path) as process:
        process.kill()
        process.wait()
        assert is_free(path)
        _hold(path)


def test_a_waiting_process_reports_the_holder_once(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    messages: list[str] = []
    with (
        _held(path) as process,
        pytest.raises(LockTimeoutError),
        hold(path, timeout=1.2, purpose="for it", setting="X", on_wait=messages.append),
    ):
        pass

    assert len(messages) == 1
    assert messages[0].startswith(f"waiting for it: process {process.pid} (")


def test_p6_a_deleted_lock_file_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    with _held(path):
        path.unlink()
        _hold(path)
        assert path.exists()


def test_a_lock_file_of_another_user_is_opened_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.lock"
    path.touch()
    real_open = os.open

    def refuse_writing(name: object, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return real_open(name, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse_writing)
    with hold(path, timeout=0.1, purpose="for it", setting="--python-store"):
        monkeypatch.undo()
        assert not is_free(path)


def test_the_error_for_a_filesystem_without_locks_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "lock_descriptor", no_locks)
    with pytest.raises(StoreError, match="has no locks") as caught:
        _hold(tmp_path / "key.lock")
    assert caught.value.hint == "another directory: --python-store DIR"


@pytest.mark.parametrize("plant", [lambda path: path.symlink_to("/etc/passwd"), lambda path: path.mkdir()])
def test_p11_a_lock_that_is_not_a_regular_file_is_rejected(tmp_path: Path, plant: object) -> None:
    path = tmp_path / "key.lock"
    plant(path)  # type: ignore[operator]

    with pytest.raises(StoreError, match="cannot lock"):
        _hold(path)


def test_seizing_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    with seize(path) as is_ours:
        assert is_ours
        assert not path.exists()
    with _held(path), seize(path) as is_ours:
        assert not is_ours


def test_a_lock_directory_that_is_deleted_is_created_again(tmp_path: Path) -> None:
    directory = tmp_path / "scratch"
    is_over = threading.Event()

    def sweep() -> None:
        while not is_over.is_set():
            with suppress(OSError):
                directory.rmdir()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(300):
            path = directory / f"{number}.alive"
            _hold(path)
            path.unlink()
    finally:
        is_over.set()
        sweeper.join()
