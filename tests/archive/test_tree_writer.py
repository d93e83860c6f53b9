"""Files are written with our modes, inside the scratch directory, and each disk error has a path and a reason."""

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_archives import END, PYTHON, entry, gz, header
from unpacking import KEY, NAME, archive, snapshot

from pytest_pyinstall.archive import _tree_writer
from pytest_pyinstall.archive._members import ArchiveLimits
from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.errors import StoreError, UnsafeArchiveError


def test_p10_we_set_the_modes(into: Path) -> None:
    members = [
        entry("python/setuid", b"1", mode=0o6755),
        entry("python/sticky", b"1", mode=0o1666),
        entry("python/nothing", b"1", mode=0),
        entry("python/group", b"1", mode=0o610),
        header("python/folder/", kind=b"5", mode=0),
        header("python/world/", kind=b"5", mode=0o7777),
    ]

    tree = unpack(archive(gz(*members, END)), into=into)

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tree.iterdir()} == {
        "setuid": 0o755,
        "sticky": 0o644,
        "nothing": 0o644,
        "group": 0o755,
        "folder": 0o755,
        "world": 0o755,
    }


def unpack_in_a_process(prelude: str, content: bytes, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Unpack `content` into ``tmp_path/into`` in a separate process, after running `prelude` there."""
    (tmp_path / "into").mkdir(exist_ok=True)
    (tmp_path / NAME).write_bytes(content)
    program = f"""
import os, resource, sys
from pathlib import Path
from pytest_pyinstall.request.identity import Archive, Build
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.archive.unpack import unpack
file = open({NAME!r}, "rb")
build = Build(key=Key.parse("{KEY}"), url="https://example.org/{NAME}", sha256="0" * 64)
{prelude}
try:
    unpack(Archive(build=build, file=file), into=Path("into"))
except PyinstallError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_p10_we_set_the_modes_with_any_umask(umask: int, tmp_path: Path) -> None:
    content = gz(PYTHON, entry("python/world", b"1", mode=0o777), END)

    done = unpack_in_a_process(f"os.umask({umask})", content, tmp_path)

    assert done.stderr == ""
    modes = {path: what[1] for path, what in snapshot(tmp_path / "into").items() if what[0] != "symlink"}
    assert modes == {
        "python": 0o755,
        "python/bin": 0o755,
        "python/bin/python3.12": 0o755,
        "python/lib": 0o755,
        "python/lib/python3.12": 0o755,
        "python/lib/python3.12/os.py": 0o644,
        "python/world": 0o755,
    }


def test_only_the_install_folder_of_a_full_build_is_written(into: Path) -> None:
    members = [
        entry("python/PYTHON.json", b"{}"),
        entry("python/build/core.o", b"1" * 5000),
        header("python/build/link", kind=b"2", link="/usr/lib"),
        entry("python/install/bin/python3.12", b"#!", mode=0o755),
        header("python/install/bin/python3", kind=b"2", link="python3.12"),
        entry("python/licenses/LICENSE", b"1"),
    ]

    tree = unpack(archive(gz(*members, END), "cpython-3.12.4-debug-full.tar.gz"), into=into)

    assert tree == into / "python" / "install"
    assert set(snapshot(into)) == {
        f"python{name}" for name in ("", "/install", "/install/bin", "/install/bin/python3", "/install/bin/python3.12")
    }


def test_a_full_build_may_have_its_members_in_any_order(into: Path) -> None:
    members = [
        entry("python/build/core.o", b"1"),
        header("python/build/link", kind=b"2", link="../install"),
        entry("python/install/bin/python3.12", b"#!", mode=0o755),
        entry("python/PYTHON.json", b"{}"),
    ]

    tree = unpack(archive(gz(*members, END)), into=into)

    assert tree == into / "python" / "install"
    assert set(snapshot(tree)) == {"bin", "bin/python3.12"}
    assert not (into / "python" / "build" / "link").is_symlink()


def test_p10_a_link_of_a_full_build_must_not_leave_the_install_folder(into: Path) -> None:
    members = [
        entry("python/PYTHON.json", b"{}"),
        entry("python/install/a", b"1"),
        header("python/install/l", kind=b"2", link="../build/x"),
    ]

    with pytest.raises(UnsafeArchiveError, match="leaves the top folder"):
        unpack(archive(gz(*members, END)), into=into)


def test_p10_implied_folders_count_as_members(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree_writer, "LIMITS", ArchiveLimits(members=100))

    with pytest.raises(UnsafeArchiveError, match="more than 100 files and folders"):
        unpack(archive(gz(*(entry(f"python/{n}" + "/d" * 40, b"") for n in range(5)), END)), into=into)

    assert len(snapshot(into)) == 100


class _Planting(io.BytesIO):
    """A file that creates a name in the scratch directory while it is read.

    A volume that folds case looks like this if an earlier member has the other spelling of the name.
    """

    def __init__(self, content: bytes, planted: Path) -> None:
        super().__init__(content)
        self.planted = planted

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            self.planted.write_text("the other member's")
        return super().read(size)


@pytest.mark.parametrize(
    "member",
    [
        entry("python/late/evil", b"1"),
        entry("python/late", b"1"),
        header("python/late", kind=b"2", link="lib"),
        header("python/late", kind=b"1", link="python/lib"),
    ],
    ids=["directory", "file", "symlink", "hardlink"],
)
def test_p10_a_name_that_exists_on_this_volume_is_rejected(member: bytes, into: Path) -> None:
    content = entry("python/lib", bytes(200_000)) + member + END
    planted = into / "python" / "late"

    with pytest.raises(UnsafeArchiveError, match=r"'python/late.*: this volume does not distinguish its name"):
        unpack(archive(_Planting(content, planted), "x.tar"), into=into)

    assert planted.read_text() == "the other member's"


def test_a_scratch_directory_that_is_not_empty_is_rejected(into: Path) -> None:
    (into / "left over").touch()

    with pytest.raises(StoreError, match="not empty") as caught:
        unpack(archive(gz(PYTHON, END)), into=into)

    assert str(into) in str(caught.value)


def test_a_missing_scratch_directory_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        unpack(archive(gz(PYTHON, END)), into=tmp_path / "missing")


def test_without_fchmod_files_get_their_mode_when_they_are_opened(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree_writer, "_fchmod", None)

    tree = unpack(archive(gz(PYTHON, END)), into=into)

    assert os.access(tree / "bin/python3.12", os.X_OK)


def test_hard_links_become_copies_if_the_volume_has_none(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    content = gz(PYTHON, header("python/bin/python", kind=b"1", link="python/bin/python3.12", mode=0o600), END)

    tree = unpack(archive(content), into=into)

    assert (tree / "bin/python").read_bytes() == (tree / "bin/python3.12").read_bytes()
    assert stat.S_IMODE((tree / "bin/python").stat().st_mode) == 0o755
    assert not (tree / "bin/python").samefile(tree / "bin/python3.12")


def test_short_writes_are_continued(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))

    tree = unpack(archive(gz(PYTHON, END)), into=into)

    assert (tree / "bin/python3.12").read_bytes() == b"#!/bin/sh\necho 3.12.4\n"


@pytest.mark.parametrize("call", ["open", "write", "close", "fchmod", "mkdir", "chmod", "link", "symlink", "fstat"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO, errno.EACCES])
def test_p16_a_disk_error_has_a_path_and_a_reason(
    call: str, number: int, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    content = gz(PYTHON, header("python/hard", kind=b"1", link="python/bin/python3.12"), END)
    given_archive = archive(content)
    monkeypatch.setattr(*((_tree_writer, "_fchmod") if call == "fchmod" else (os, call)), fail)

    umask = os.umask(0o077)  # otherwise no file needs another mode
    try:
        with pytest.raises(StoreError) as caught:
            unpack(given_archive, into=into, known={})
    finally:
        os.umask(umask)

    monkeypatch.undo()
    assert str(into) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert caught.value.hint


def test_p16_a_copy_that_cannot_be_read_is_a_store_error(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_error = OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def vanish(source: str, _target: str) -> None:
        Path(source).unlink()
        raise link_error

    monkeypatch.setattr(os, "link", vanish)
    content = gz(PYTHON, header("python/hard", kind=b"1", link="python/bin/python3.12"), END)

    with pytest.raises(StoreError, match="No such file"):
        unpack(archive(content), into=into)


@pytest.mark.parametrize(
    ("prelude", "said"),
    [
        (
            "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))",
            "File too large: cannot write into/python/large\nhint: raise the limit",
        ),
        (
            "resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1,) * 2)",
            "Too many open files: cannot write into\nhint: raise the limit",
        ),
    ],
    ids=["ulimit -f", "ulimit -n"],
)
def test_p16_a_process_limit_is_a_store_error(prelude: str, said: str, tmp_path: Path) -> None:
    done = unpack_in_a_process(prelude, gz(PYTHON, entry("python/large", os.urandom(1 << 20)), END), tmp_path)

    assert done.returncode == 1
    assert f"StoreError: {said}" in done.stderr
    assert "Traceback" not in done.stderr
