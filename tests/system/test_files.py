import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_pyinstall.system import files
from pytest_pyinstall.system.files import replace_directory


@pytest.fixture(params=["system call", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "renames":
        monkeypatch.setattr(files, "_system_call", lambda: None)
    return str(request.param)


def _directory(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_free_name_is_taken(tmp_path: Path, way: str) -> None:
    new = _directory(tmp_path / "new", "new")

    assert replace_directory(new, tmp_path / "final") is False
    assert (tmp_path / "final/file").read_text() == "new"
    assert not new.exists()


@pytest.mark.parametrize(
    "occupy",
    [
        lambda path: _directory(path, "old"),
        lambda path: path.touch(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
    ],
    ids=["directory", "file", "dangling link", "empty directory"],
)
def test_what_stood_there_changes_places(tmp_path: Path, way: str, occupy: Callable[[Path], None]) -> None:
    new, final = _directory(tmp_path / "new", "new"), tmp_path / "final"
    occupy(final)

    assert replace_directory(new, final) is True
    assert (final / "file").read_text() == "new"
    assert os.path.lexists(new)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["final", "new"]


def test_p1_a_reader_never_misses_the_name(tmp_path: Path) -> None:
    if files._system_call() is None:
        pytest.skip("needs a system call that exchanges two names")
    final = _directory(tmp_path / "final", "0")
    script = "import os, sys\nprint('ready', flush=True)\nwhile not os.path.exists(sys.argv[2]): os.stat(sys.argv[1])"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(final / "file"), str(tmp_path / "stop")], stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for number in range(2000):
            new = _directory(tmp_path / f"new{number}", str(number))
            replace_directory(new, final)
        (tmp_path / "stop").touch()
        assert reader.wait(30) == 0


def test_writers_without_a_lock_leave_one_whole_tree(tmp_path: Path, way: str) -> None:
    final = tmp_path / "final"
    trees = [_directory(tmp_path / f"new{number}", str(number)) for number in range(8)]
    threads = [threading.Thread(target=replace_directory, args=(tree, final)) for tree in trees]
    if way == "renames":
        threads = threads[:1]  # without the system call only the store's lock keeps writers apart
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (final / "file").read_text().isdigit()


def test_another_error_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_directory(tmp_path / "missing", tmp_path / "final")
