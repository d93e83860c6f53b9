"""Tar and zip archives unpack as tarfile would unpack them, or fail with an error."""

import errno
import io
import os
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import archives
import pytest
from hostile_archives import END, PYTHON, entry, gz, header, pax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unpacking import archive, assert_harmless, snapshot, with_our_modes

from pytest_pyinstall.archive import _readers
from pytest_pyinstall.archive._members import ArchiveLimits
from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.errors import PyinstallError, StoreError, UnsafeArchiveError


def test_a_zip_unpacks_with_its_links_and_modes(into: Path) -> None:
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
    "a name cut inside a character, complete in pax": (
        [entry(b"./PaxHeaders/\xc3", b"19 path=python/f\xc3\xa9\n", kind=b"x"), entry(b"python/f\xc3", b"1")],
        {"fé"},
    ),
    "more zeros at the end": ([entry("python/f", b"1"), bytes(20_000 // 512 * 512), bytes(100)], {"f"}),
}


@pytest.mark.parametrize("name", BENIGN)
def test_an_unusual_archive_unpacks(name: str, into: Path) -> None:
    members, expected = BENIGN[name]

    tree = unpack(archive(gz(*members, END)), into=into)

    assert tree == into / "python"
    assert set(snapshot(tree)) == expected
    assert_harmless(into)


def test_p10_a_zip_with_too_many_members_is_rejected(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "LIMITS", ArchiveLimits(members=3))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for number in range(4):
            written.writestr(f"python/{number}", b"")

    with pytest.raises(UnsafeArchiveError, match="'python/3': more than 3 members"):
        unpack(archive(buffer.getvalue(), "x.zip"), into=into)


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
def test_p16_an_unreadable_archive_is_a_store_error(name: str, seeks: int, into: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("python/noise", os.urandom(10_000))
    raw = PYTHON + entry("python/noise", os.urandom(10_000)) + END
    content = {"x.tar.gz": gz(raw), "x.tar": raw, "x.zip": buffer.getvalue()}[name]

    with pytest.raises(StoreError, match=r"cannot read /cache/archive.tar.gz: Input/output error"):
        unpack(archive(_Failing(content, seeks=seeks), name), into=into)


# Names that are different on every volume. Some are too long for a plain header.
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
    """A tar of those `entries` that do not contradict each other."""
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
def test_random_archives_unpack_as_tarfile_unpacks_them(
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
def test_p10_a_damaged_tar_unpacks_harmlessly_or_raises_a_pyinstall_error(
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

    with suppress(PyinstallError):  # the table of hostile archives tests which one
        unpack(archive(bytes(content), "x.tar"), into=into)

    assert_harmless(into)
    assert [path.name for path in watched.iterdir()] == ["a"]
    assert [path.name for path in into.parent.iterdir()] == ["into"]
