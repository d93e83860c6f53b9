"""What comes out of an archive, and what does not: promise P10, and P16 as far as writing goes."""

import errno
import io
import os
import stat
import subprocess
import sys
import sysconfig
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import archives
import pytest
from hostile import COMPRESSORS, END, HOSTILE, PYTHON, Hostile, entry, gz, header, pax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyinstall.archive import _readers, _tree_writer
from pytest_pyinstall.archive._members import ArchiveLimits, windows_objection
from pytest_pyinstall.archive.unpack import ahead, unpack
from pytest_pyinstall.errors import IntegrityError, PyinstallError, StoreError, UnsafeArchiveError
from pytest_pyinstall.request.identity import Archive, Build, Key

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")
NAME = "cpython-3.12.4-x86_64-unknown-linux-gnu-install_only.tar.gz"


def archive(content: bytes | BinaryIO, name: str = NAME) -> Archive:
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return Archive(build=Build(key=KEY, url=f"https://example.org/{name}", sha256="0" * 64), file=file)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """All that is below `root`, and what each thing is."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(directory, name)
            state = path.lstat()
            mode = stat.S_IMODE(state.st_mode)
            what: tuple[object, ...]
            if stat.S_ISLNK(state.st_mode):
                what = ("symlink", path.readlink().as_posix())
            elif stat.S_ISREG(state.st_mode):
                what = ("file", mode, path.read_bytes())
            else:
                what = ("directory" if stat.S_ISDIR(state.st_mode) else "other", mode)
            found[path.relative_to(root).as_posix()] = what
    return found


@pytest.fixture
def into(tmp_path: Path) -> Path:
    scratch = tmp_path / "watched" / "store" / "scratch" / str(KEY)
    scratch.mkdir(parents=True)
    return scratch


@pytest.fixture
def outside(tmp_path: Path, into: Path) -> Path:
    """A directory that must stay as it is; every climbing member of `HOSTILE` would come by there."""
    for directory in (into.parent, into.parent.parent, tmp_path / "watched"):
        (directory / "outside").mkdir()
        (directory / "outside" / "victim").write_text("untouched")
    return tmp_path / "watched" / "outside"


@pytest.fixture(params=["zlib", "zlib_ng", "isal"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the modules that can read gzip, as if it were the only one."""
    chosen = str(request.param)
    if chosen != "zlib":
        pytest.importorskip(chosen)
    for other in {"zlib_ng", "isal"} - {chosen}:
        for name in (other, f"{other}.zlib_ng", f"{other}.igzip_lib"):
            monkeypatch.setitem(sys.modules, name, None)
    return chosen


def assert_harmless(into: Path) -> None:
    for path, what in snapshot(into).items():
        assert what[0] in {"file", "directory", "symlink"}, path
        if what[0] == "symlink":
            assert (into / path).resolve().is_relative_to(into.resolve()), path
        else:
            assert what[1] in {0o644, 0o755}, path


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_hostile_archive_is_refused_and_touches_nothing_p10(hostile: Hostile, into: Path, outside: Path) -> None:
    content = hostile.build(str(outside))
    before = snapshot(outside.parent)

    with pytest.raises(IntegrityError) as caught:
        unpack(archive(content, hostile.file_name), into=into)

    assert type(caught.value) is hostile.error
    assert hostile.file_name in caught.value.message
    assert hostile.reason in caught.value.message
    assert f"{hostile.member!r}:" in caught.value.message if hostile.member else True
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
    scratch = f"{into.relative_to(outside.parent).as_posix()}/"
    assert {path: what for path, what in snapshot(outside.parent).items() if not path.startswith(scratch)} == before
    assert_harmless(into)
    assert not any(thread.name == "unpack" for thread in threading.enumerate())


def test_names_in_the_table_of_hostile_archives_are_unique() -> None:
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 60


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a part of the running interpreter, as python-build-standalone lays it out."""
    path = tmp_path_factory.mktemp("real") / NAME
    library = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(Path(sys.executable).resolve(), f"python/bin/{version}")
        for folder in ("json", "encodings", "email", "importlib", "lib-dynload"):
            tar.add(library / folder, f"python/lib/{version}/{folder}")
        for link, target in {"bin/python3": version, "bin/python": "python3", "lib64": "lib"}.items():
            member = tarfile.TarInfo(f"python/{link}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def test_real_interpreter_comes_out_as_tarfile_would_have_it(real: Path, into: Path, tmp_path: Path) -> None:
    with tarfile.open(real) as tar:
        archives.extract(tar, tmp_path / "theirs")

    with real.open("rb") as file:
        tree = unpack(archive(file), into=into)

    assert tree == into / "python"
    assert snapshot(into) == with_our_modes(snapshot(tmp_path / "theirs"))


def with_our_modes(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    def ours(what: tuple[object, ...]) -> tuple[object, ...]:
        if what[0] == "directory":
            return ("directory", 0o755)
        if what[0] == "file":
            assert isinstance(what[1], int)
            return ("file", 0o755 if what[1] & 0o111 else 0o644, what[2])
        return what

    return {path: ours(what) for path, what in tree.items()}


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst", ""])
def test_every_format_gives_the_same_tree(layout: int, compression: str, into: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    deep = source / "lib" / "/".join("abcdefgh") / ("n" * 90)
    deep.mkdir(parents=True)
    (deep / ("f" * 80)).write_bytes(os.urandom(300_000))
    (deep / "link").symlink_to("f" * 80)
    (source / "lib" / "one").write_bytes(b"1")
    (source / "lib" / "two").hardlink_to(source / "lib" / "one")
    (source / "lib" / "größe 日本").write_bytes(b"")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as tar:
        tar.add(source, "python")

    tree = unpack(archive(compressed(buffer.getvalue(), compression), f"x.tar.{compression}".rstrip(".")), into=into)

    assert snapshot(tree) == with_our_modes(snapshot(source))
    assert (tree / "lib" / "one").samefile(tree / "lib" / "two")


def compressed(content: bytes, compression: str) -> bytes:
    return COMPRESSORS[compression](content) if compression else content


def test_gzip_is_read_with_whatever_is_installed(inflater: str, real: Path, into: Path, tmp_path: Path) -> None:
    with tarfile.open(real) as tar:
        archives.extract(tar, tmp_path / "theirs")

    with real.open("rb") as file:
        unpack(archive(file), into=into)

    assert snapshot(into) == with_our_modes(snapshot(tmp_path / "theirs"))


def test_gzip_cut_anywhere_is_refused_with_whatever_is_installed(inflater: str, tmp_path: Path) -> None:
    whole = gz(PYTHON, END)
    for length in range(0, len(whole), 9):
        (into := tmp_path / str(length)).mkdir()
        with pytest.raises(IntegrityError, match="it is cut off"):
            unpack(archive(whole[:length]), into=into)


def test_gzip_with_a_flipped_bit_in_its_end_is_refused_with_whatever_is_installed(
    inflater: str, tmp_path: Path
) -> None:
    whole = gz(PYTHON, END)
    for position in range(len(whole) - 8, len(whole)):
        (into := tmp_path / str(position)).mkdir()
        flipped = bytearray(whole)
        flipped[position] ^= 4
        with pytest.raises(IntegrityError, match="cannot be decompressed"):
            unpack(archive(bytes(flipped)), into=into)


def test_several_gzip_streams_are_one_with_whatever_is_installed(inflater: str, into: Path) -> None:
    whole = PYTHON + entry("python/zeros", bytes(3 << 20)) + END
    content = b"".join(gz(whole[at : at + 70_001]) for at in range(0, len(whole), 70_001))

    tree = unpack(archive(content), into=into)

    assert (tree / "zeros").read_bytes() == bytes(3 << 20)


def test_garbage_behind_a_gzip_is_refused_with_whatever_is_installed(inflater: str, into: Path) -> None:
    with pytest.raises(IntegrityError, match="cannot be decompressed"):
        unpack(archive(gz(PYTHON, END) + b"garbage" * 9), into=into)


def test_no_more_is_decompressed_than_a_few_chunks_ahead_p10() -> None:
    sixth = threading.Event()
    made: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(1000):
            made.append(number)
            if number == 5:
                sixth.set()
            yield b"1"

    with ahead(chunks()) as read:
        assert not sixth.wait(0.1)
        assert next(read) == b"1"
        assert sixth.wait(10)

    assert len(made) < 10


def test_zip_comes_out_with_its_links_and_modes(into: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content, system, mode in (
            ("pypy/", b"", 3, 0o040700),
            ("pypy/bin/pypy3.11", b"#!", 3, 0o104777),
            ("pypy/bin/pypy3", b"pypy3.11", 3, 0o120777),
            ("pypy/python.exe", b"MZ", 0, 0o100777),
            ("pypy/lib/empty/", b"", 0, 0),
            ("pypy/lib/os.py", b"# os" * 1_000_000, 3, 0o100600),
        ):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = system, mode << 16, zipfile.ZIP_DEFLATED
            written.writestr(info, content)

    tree = unpack(archive(buffer.getvalue(), "pypy3.11-v7.3.20-win64.zip"), into=into)

    assert tree == into / "pypy"
    assert snapshot(tree) == {
        "bin": ("directory", 0o755),
        "bin/pypy3.11": ("file", 0o755, b"#!"),
        "bin/pypy3": ("symlink", "pypy3.11"),
        "python.exe": ("file", 0o644, b"MZ"),
        "lib": ("directory", 0o755),
        "lib/empty": ("directory", 0o755),
        "lib/os.py": ("file", 0o644, b"# os" * 1_000_000),
    }


BENIGN = {
    "names that begin with ./": (
        [header("./", kind=b"5"), header("./python/", kind=b"5"), entry("./python//lib/./os.py", b"1")],
        {"lib", "lib/os.py"},
    ),
    "no directories at all": ([entry("python/a/b/c", b"1")], {"a", "a/b", "a/b/c"}),
    "directories twice and late": (
        [entry("python/a/b", b"1"), *[header("python/a/", kind=b"5")] * 2, header("python", kind=b"5")],
        {"a", "a/b"},
    ),
    "the same symlink twice, as armv7 builds have it": (
        [entry("python/a", b"1"), *[header("python/l", kind=b"2", link="a")] * 2],
        {"a", "l"},
    ),
    "symlinks to nothing, as terminfo has them": (
        [
            entry("python/a", b"1"),
            header("python/l", kind=b"2", link="not/there"),
            header("python/m", kind=b"2", link="l"),
        ],
        {"a", "l", "m"},
    ),
    "symlinks that go far and stay": (
        [
            entry("python/a/b/c", b"1"),
            header("python/a/here", kind=b"2", link="."),
            header("python/a/b/up", kind=b"2", link="../../a//b/"),
            header("python/c", kind=b"2", link="a/here/b/up/../b/c"),
        ],
        {"a", "a/b", "a/b/c", "a/here", "a/b/up", "c"},
    ),
    "a tar from before POSIX": (
        [
            header("python/", kind=b"\0", magic=bytes(8)),
            entry("python/f", b"1", kind=b"\0", magic=bytes(8), size=b"         1 \0", mode=b"   755 \0"),
        ],
        {"f"},
    ),
    "a size in base 256, an empty mode": (
        [entry("python/f", b"1", size=b"\x80" + (1).to_bytes(11), mode=bytes(8))],
        {"f"},
    ),
    "pax records that do not concern us": (
        [
            pax(("comment", "0123456789"), kind=b"g"),
            pax(("mtime", "1.5"), ("SCHILY.xattr.user.x", b"\0\xff\n"), ("size", "1")),
            entry("python/f", b"1"),
        ],
        {"f"},
    ),
    "a name cut inside a character, whole in pax": (
        [entry(b"./PaxHeaders/\xc3", b"19 path=python/f\xc3\xa9\n", kind=b"x"), entry(b"python/f\xc3", b"1")],
        {"fé"},
    ),
    "more zeros at the end": ([entry("python/f", b"1"), bytes(20_000 // 512 * 512), bytes(100)], {"f"}),
}


@pytest.mark.parametrize("name", BENIGN)
def test_unusual_archive_comes_out(name: str, into: Path) -> None:
    members, expected = BENIGN[name]

    tree = unpack(archive(gz(*members, END)), into=into)

    assert tree == into / "python"
    assert set(snapshot(tree)) == expected
    assert_harmless(into)


def test_modes_are_ours_p10(into: Path) -> None:
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


def in_a_process(prelude: str, content: bytes, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Unpack `content` into ``tmp_path/into`` in a process of its own, where `prelude` was run before."""
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
def test_modes_are_ours_whatever_the_umask_p10(umask: int, tmp_path: Path) -> None:
    content = gz(PYTHON, entry("python/world", b"1", mode=0o777), END)

    done = in_a_process(f"os.umask({umask})", content, tmp_path)

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


def test_of_a_full_build_only_install_is_written(into: Path) -> None:
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


def test_a_full_build_in_another_order_is_one_too(into: Path) -> None:
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


def test_links_of_a_full_build_stay_in_install_p10(into: Path) -> None:
    members = [
        entry("python/PYTHON.json", b"{}"),
        entry("python/install/a", b"1"),
        header("python/install/l", kind=b"2", link="../build/x"),
    ]

    with pytest.raises(UnsafeArchiveError, match="leaves the top folder"):
        unpack(archive(gz(*members, END)), into=into)


def test_folders_that_nobody_named_count_too_p10(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree_writer, "LIMITS", ArchiveLimits(members=100))

    with pytest.raises(UnsafeArchiveError, match="more than 100 files and folders"):
        unpack(archive(gz(*(entry(f"python/{n}" + "/d" * 40, b"") for n in range(5)), END)), into=into)

    assert len(snapshot(into)) == 100


def test_a_zip_with_too_many_members_is_refused_p10(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "LIMITS", ArchiveLimits(members=3))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for number in range(4):
            written.writestr(f"python/{number}", b"")

    with pytest.raises(UnsafeArchiveError, match="'python/3': more than 3 members"):
        unpack(archive(buffer.getvalue(), "x.zip"), into=into)


class _Planting(io.BytesIO):
    """A file during whose reading a name appears in the scratch directory.

    That is what we see of a volume that folds case, when an earlier member had the other spelling.
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
def test_what_the_volume_takes_for_the_same_name_is_refused_p10(member: bytes, into: Path) -> None:
    content = entry("python/lib", bytes(200_000)) + member + END
    planted = into / "python" / "late"

    with pytest.raises(UnsafeArchiveError, match=r"'python/late.*: this volume takes it for the same name"):
        unpack(archive(_Planting(content, planted), "x.tar"), into=into)

    assert planted.read_text() == "the other member's"


def test_scratch_that_is_not_empty_is_refused(into: Path) -> None:
    (into / "left over").touch()

    with pytest.raises(StoreError, match="not empty") as caught:
        unpack(archive(gz(PYTHON, END)), into=into)

    assert str(into) in str(caught.value)


def test_scratch_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        unpack(archive(gz(PYTHON, END)), into=tmp_path / "missing")


def test_where_there_is_no_fchmod_the_mode_of_opening_stays(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree_writer, "_fchmod", None)

    tree = unpack(archive(gz(PYTHON, END)), into=into)

    assert os.access(tree / "bin/python3.12", os.X_OK)


def test_hardlinks_become_copies_where_there_are_none(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    content = gz(PYTHON, header("python/bin/python", kind=b"1", link="python/bin/python3.12", mode=0o600), END)

    tree = unpack(archive(content), into=into)

    assert (tree / "bin/python").read_bytes() == (tree / "bin/python3.12").read_bytes()
    assert stat.S_IMODE((tree / "bin/python").stat().st_mode) == 0o755
    assert not (tree / "bin/python").samefile(tree / "bin/python3.12")


def test_short_writes_are_carried_on(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))

    tree = unpack(archive(gz(PYTHON, END)), into=into)

    assert (tree / "bin/python3.12").read_bytes() == b"#!/bin/sh\necho 3.12.4\n"


@pytest.mark.parametrize("call", ["open", "write", "close", "fchmod", "mkdir", "chmod", "link", "symlink"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_the_disk_refuses_is_said_with_path_and_reason_p16(
    call: str, number: int, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    content = gz(PYTHON, header("python/hard", kind=b"1", link="python/bin/python3.12"), END)
    given_archive = archive(content)
    monkeypatch.setattr(*((_tree_writer, "_fchmod") if call == "fchmod" else (os, call)), fail)

    with pytest.raises(StoreError) as caught:
        unpack(given_archive, into=into)

    monkeypatch.undo()
    assert str(into) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert caught.value.hint


def test_copies_that_cannot_be_read_are_said_p16(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))", "File too large\nhint: raise the limit"),
        (
            "resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1,) * 2)",
            "Too many open files\nhint: raise the limit",
        ),
    ],
    ids=["ulimit -f", "ulimit -n"],
)
def test_limits_of_the_process_are_said_p16(prelude: str, said: str, tmp_path: Path) -> None:
    done = in_a_process(prelude, gz(PYTHON, entry("python/large", os.urandom(1 << 20)), END), tmp_path)

    assert done.returncode == 1
    assert "StoreError: cannot write" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


class _Failing(io.BytesIO):
    """A file on a disk that fails after the first part."""

    name = "/cache/archive.tar.gz"

    def __init__(self, content: bytes, *, seeks: int = 9) -> None:
        super().__init__(content)
        self.seeks = seeks

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 1000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(min(size or 0, 100) if size and size > 0 else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if not self.seeks:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.seeks -= 1
        return super().seek(offset, whence)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar", "x.zip"])
@pytest.mark.parametrize("seeks", [0, 9])
def test_an_archive_that_cannot_be_read_is_said_p16(name: str, seeks: int, into: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("python/noise", os.urandom(10_000))
    raw = PYTHON + entry("python/noise", os.urandom(10_000)) + END
    content = {"x.tar.gz": gz(raw), "x.tar": raw, "x.zip": buffer.getvalue()}[name]

    with pytest.raises(StoreError, match=r"cannot read /cache/archive.tar.gz: Input/output error"):
        unpack(archive(_Failing(content, seeks=seeks), name), into=into)


@pytest.mark.parametrize(
    ("name", "modules", "hint"),
    [
        ("x.tar.zst", ("compression.zstd", "backports.zstd"), "-m pip install backports.zstd"),
        ("x.tar.bz2", ("bz2",), "a Python that has the module bz2"),
        ("x.tar.xz", ("lzma",), "a Python that has the module lzma"),
    ],
)
def test_a_missing_module_is_named(
    name: str, modules: tuple[str, ...], hint: str, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for absent in modules:
        monkeypatch.setitem(sys.modules, absent, None)

    with pytest.raises(StoreError, match=f"it has no {modules[0]}") as caught:
        unpack(archive(b"1", name), into=into)

    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("part", "objection"),
    [
        ("a:b", "another meaning"),
        ("what?", "another meaning"),
        ("dot.", "drops the dot or blank"),
        ("blank ", "drops the dot or blank"),
        ("NUL", "NUL is a device"),
        ("con.py", "CON is a device"),
        ("com1", "COM1 is a device"),
        ("lpt².txt", "LPT² is a device"),
        ("python.exe", ""),
        ("comx", ""),
        ("com10", ""),
        ("console", ""),
    ],
)
def test_names_that_windows_changes_are_known(part: str, objection: str) -> None:
    assert objection in windows_objection(part)
    assert bool(objection) == bool(windows_objection(part))


# Names that no volume takes for one another, among them some too long for a plain header.
_names = st.sampled_from(
    ["a", "b", "lib", "é", "日本語", "with blank", "d" * 60, "e" * 120, "dots..", "~", "-x", "%", "'"]
)
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_entries = st.lists(
    st.tuples(
        st.sampled_from(["file", "directory", "symlink", "hardlink", "dangling"]),
        _paths,
        st.binary(max_size=2000),
        st.sampled_from([0o644, 0o755, 0o600, 0o4711, 0]),
        st.integers(0, 20),
    ),
    max_size=12,
)


def packed(entries: list[tuple[str, str, bytes, int, int]], layout: int, mode: str) -> bytes:
    """A tar of as many of `entries` as can are beside each other."""
    kinds = {"python": "directory"}
    files: dict[str, int] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=layout) as tar:  # type: ignore[call-overload] # any mode
        top = tarfile.TarInfo("python")
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        for kind, path, content, bits, number in entries:
            name = f"python/{path}"
            ancestors = [name[:at] for at, character in enumerate(name) if character == "/"]
            if name in kinds or any(kinds.get(ancestor, "directory") != "directory" for ancestor in ancestors):
                continue
            member = tarfile.TarInfo(name)
            member.mode = bits
            if kind == "file":
                member.size = len(content)
                files[name] = bits
            elif kind == "directory":
                member.type = tarfile.DIRTYPE
            elif kind == "hardlink":
                if not files:
                    continue
                member.type, member.linkname = tarfile.LNKTYPE, sorted(files)[number % len(files)]
                member.mode = files[member.linkname]
            else:
                there = sorted(kinds)[number % len(kinds)] if kind == "symlink" else "python/nothing"
                member.type = tarfile.SYMTYPE
                member.linkname = os.path.relpath(there, Path(name).parent)
            kinds |= dict.fromkeys(ancestors, "directory")
            kinds[name] = "symlink" if member.issym() else "directory" if member.isdir() else "file"
            try:
                tar.addfile(member, io.BytesIO(content))
            except ValueError:  # too long for ustar
                del kinds[name]
                files.pop(name, None)
    return buffer.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    entries=_entries,
    layout=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    mode=st.sampled_from(["gz", ""]),
)
def test_random_archives_come_out_as_tarfile_would_have_them(
    entries: list[tuple[str, str, bytes, int, int]], layout: int, mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = packed(entries, layout, f"w:{mode}")
    base = tmp_path_factory.mktemp("random")
    (base / "ours").mkdir()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        archives.extract(tar, base / "theirs")

    unpack(archive(content, f"x.tar.{mode}".rstrip(".")), into=base / "ours")

    assert snapshot(base / "ours") == with_our_modes(snapshot(base / "theirs"))
    links = {path for path, what in snapshot(base / "ours").items() if what[0] == "file"}
    for path in links:
        assert (base / "ours" / path).stat().st_nlink == (base / "theirs" / path).stat().st_nlink


_PLAIN = (
    PYTHON
    + header("python/h", kind=b"1", link="python/bin/python3.12")
    + pax(("path", "python/p"))
    + entry("x", b"1")
    + END
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(_PLAIN) - 1),
            st.sampled_from(
                [b"/", b".", b"..", b"../", b"\0", b"1", b"2", b"5", b"L", b"x", b"7", b"\x80", b"\xff", b"python/l"]
            ),
        ),
        max_size=4,
    ),
    repaired=st.booleans(),
)
def test_damaged_tars_end_in_a_tree_or_in_an_error_of_ours_p10(
    changes: list[tuple[int, bytes]], repaired: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(_PLAIN)
    for position, change in changes:
        content[position : position + len(change)] = change
    del content[len(_PLAIN) :]
    if repaired:
        for at in range(0, len(content), 512):
            block = content[at : at + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                content[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    watched = tmp_path_factory.mktemp("damaged")
    into = watched / "a" / "into"
    into.mkdir(parents=True)

    with suppress(PyinstallError):  # which one, the table of hostile archives says
        unpack(archive(bytes(content), "x.tar"), into=into)

    assert_harmless(into)
    assert [path.name for path in watched.iterdir()] == ["a"]
    assert [path.name for path in into.parent.iterdir()] == ["into"]
