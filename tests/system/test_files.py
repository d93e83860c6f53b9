"""Files and directories are replaced atomically, and deletion follows no link."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_workshop import digest

from pytest_pyinstall.system import files
from pytest_pyinstall.system.files import (
    delete,
    discard,
    host_name,
    is_abandoned,
    is_plain_file,
    matching,
    move_aside,
    move_or_delete,
    new_file,
    replace_directory,
    scratch_name,
    sweep_cache,
    write_atomically,
)

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX modes")


@pytest.fixture(params=["system call", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "renames":
        monkeypatch.setattr(files, "_system_call", lambda: None)
    return str(request.param)


def _directory(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_directory_is_moved_to_a_free_name(tmp_path: Path, way: str) -> None:
    new = _directory(tmp_path / "new", "new")

    assert replace_directory(new, tmp_path / "final") is False
    assert (tmp_path / "final/file").read_text() == "new"
    assert not new.exists()


def test_p24_a_python_without_libffi_replaces_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `ctypes` cannot be imported; pyenv builds such a Python if the headers are missing."""
    new, final = _directory(tmp_path / "new", "new"), _directory(tmp_path / "final", "old")
    monkeypatch.setitem(sys.modules, "ctypes", None)
    files._system_call.cache_clear()
    try:
        assert replace_directory(new, final) is True
    finally:
        files._system_call.cache_clear()
    assert ((new / "file").read_text(), (final / "file").read_text()) == ("old", "new")


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
def test_a_directory_is_exchanged_with_what_has_its_name(
    tmp_path: Path, way: str, occupy: Callable[[Path], None]
) -> None:
    new, final = _directory(tmp_path / "new", "new"), tmp_path / "final"
    occupy(final)

    assert replace_directory(new, final) is True
    assert (final / "file").read_text() == "new"
    assert os.path.lexists(new)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["final", "new"]


def test_p1_a_reader_always_finds_the_name(tmp_path: Path) -> None:
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
        assert reader.wait(100) == 0


def test_p6_writers_without_a_lock_leave_one_whole_directory(tmp_path: Path, way: str) -> None:
    final = tmp_path / "final"
    trees = [_directory(tmp_path / f"new{number}", str(number)) for number in range(8)]
    threads = [threading.Thread(target=replace_directory, args=(tree, final)) for tree in trees]
    if way == "renames":
        threads = threads[:1]  # without the system call, only the lock of the store separates writers
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (final / "file").read_text().isdigit()


def test_other_errors_are_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_directory(tmp_path / "missing", tmp_path / "final")


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "home")


def test_a_written_file_replaces_the_old_one_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["file"]


def test_p11_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "file"
    path.symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with new_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_renamed_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "directory", b"new")
    assert _names(tmp_path) == ["directory"]


def test_a_file_being_written_has_a_name_that_a_sweep_recognizes(tmp_path: Path) -> None:
    path, scratch = tmp_path / "file", tmp_path / "scratch"
    scratch.mkdir()
    for directory in (None, scratch):
        with new_file(path, scratch_directory=directory) as file:
            name = Path(os.readlink(f"/proc/self/fd/{file.fileno()}")) if sys.platform == "linux" else None
            (made,) = (each for each in (directory or tmp_path).iterdir() if each.name.startswith("."))
            assert name in {None, made}
            assert is_abandoned(made) is False  # this process is alive
        assert is_abandoned(made.with_name(made.name.replace(f"-{os.getpid()}-", "-1-"))) is True


def test_p11_a_planted_name_with_an_impossible_process_id_is_abandoned(tmp_path: Path) -> None:
    planted = tmp_path / scratch_name().replace(f"-{os.getpid()}-", f"-{10**30}-")
    assert is_abandoned(planted) is True


@posix
def test_a_directory_that_its_owner_cannot_write_to_is_moved(tmp_path: Path, way: str) -> None:
    """Root may move it anyway; others need the right to write to it."""
    final, new = _directory(tmp_path / "final", "old"), tmp_path / "scratch"
    new.mkdir()
    final.chmod(0o555)

    assert replace_directory(_directory(new / "new", "new"), final) is True
    assert (final / "file").read_text() == "new"
    assert (new / "new" / "file").read_text() == "old"
    assert (new / "new").stat().st_mode & 0o777 == 0o755
    final.chmod(0o500)
    move_or_delete(final, new / "removed")
    assert (new / "removed" / "file").read_text() == "new"


@posix
def test_what_cannot_be_renamed_is_replaced_entry_by_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """overlayfs renames no directory of a lower layer."""
    old, new = tmp_path / "final", tmp_path / "new"
    for place, text in ((old, "old"), (new, "new")):
        (place / "both" / "deep").mkdir(parents=True)
        (place / "both" / "deep" / "file").write_text(text)
        (place / f"only {text}").mkdir()
        (place / f"only {text}" / "file").write_text(text)
        (place / "link").symlink_to(f"only {text}")
    (old / "was directory").mkdir()
    (old / "was directory" / "file").touch()
    (new / "was directory").write_text("file")
    (old / "was file").touch()
    (new / "was file").mkdir(mode=0o700)
    (old / "was link").symlink_to(tmp_path / "elsewhere")
    (new / "was link").mkdir()
    (new / "was link" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (new / "only new" / "file").chmod(0o755)
    (old / "both").chmod(0o555)
    expected = digest(new)

    def rename(path: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path), None, str(target))

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename)
    assert replace_directory(new, old) is True
    assert digest(old) == expected
    assert list((tmp_path / "elsewhere").iterdir()) == []
    move_or_delete(old, tmp_path / "aside")
    assert not old.exists()


@posix
@pytest.mark.parametrize(
    ("mode", "ignore_umask", "expected"), [(0o644, False, 0o600), (0o755, True, 0o755), (0o666, False, 0o600)]
)
def test_the_umask_applies_unless_it_is_ignored(tmp_path: Path, mode: int, ignore_umask: bool, expected: int) -> None:
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        write_atomically(path, b"", mode=mode, ignore_umask=ignore_umask)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == expected


def test_sync_writes_to_the_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, path.exists())))
    with new_file(path, sync=True) as file:
        file.write(b"new")
    assert synced == [(3, False)]


def test_p11_discarding_deletes_links_but_not_their_targets(tmp_path: Path) -> None:
    victim = _directory(tmp_path / "victim", "precious")
    tree = _directory(tmp_path / "tree", "text")
    (tree / "link").symlink_to(victim)
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").write_text("text")
    for name in ("tree", "link", "dangling", "file", "absent"):
        discard(tmp_path / name)
    assert _names(tmp_path) == ["victim"]
    assert (victim / "file").read_text() == "precious"


def test_a_discarded_directory_is_renamed_before_its_files_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _directory(tmp_path / "tree", "text")
    seen = []

    def look(aside: Path) -> None:
        seen.append((path.exists(), (aside / "file").read_text()))
        delete(aside)

    monkeypatch.setattr(files, "delete", look)
    discard(path)
    assert seen == [(False, "text")]
    assert _names(tmp_path) == []


def test_p8_a_sweep_deletes_what_a_killed_process_moved_aside(tmp_path: Path) -> None:
    for parent in ("environments", "trees", "commands"):
        (tmp_path / parent).mkdir()
        move_aside(_directory(tmp_path / parent / "old", "text"))
    sweep_cache(tmp_path)
    assert [_names(tmp_path / parent) for parent in ("environments", "trees", "commands")] == [[], [], []]


@posix
@pytest.mark.parametrize("function", [files.delete, files.remove])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_p20_an_interruption_is_not_lost_while_a_directory_is_deleted(
    tmp_path: Path, function: Callable[[Path], None], count: int
) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    real, calls, this_thread = os.close, 0, threading.current_thread()

    def close(descriptor: int) -> None:
        nonlocal calls
        real(descriptor)
        if threading.current_thread() is this_thread:
            calls += 1
            if calls == count:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(KeyboardInterrupt):
            function(tmp_path / "tree")
    function(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_read_only_directory_can_be_deleted(tmp_path: Path) -> None:
    path = _directory(tmp_path / "tree", "text")
    path.chmod(0o555)
    delete(path)
    assert not path.exists()


def test_the_host_name_is_the_one_that_socket_reports() -> None:
    assert host_name() == socket.gethostname()


def test_matching_returns_the_paths_of_a_pattern_by_name(tmp_path: Path) -> None:
    for name in ("lib/b/Makefile", "lib/a/Makefile", "lib/a/Makefile.pre", "lib/c", "lib/.d/Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = [path.relative_to(tmp_path).as_posix() for path in matching(tmp_path, "lib/*/Makefile")]
    assert found == ["lib/.d/Makefile", "lib/a/Makefile", "lib/b/Makefile"]
    assert matching(tmp_path, "lib/[ab]") == [tmp_path / "lib" / "a", tmp_path / "lib" / "b"]
    assert matching(tmp_path / "missing", "*") == []


@posix
def test_a_link_is_not_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")

    assert is_plain_file(tmp_path / "file")
    assert not any(map(is_plain_file, (tmp_path / "link", tmp_path, tmp_path / "missing", tmp_path / "file" / "x")))
