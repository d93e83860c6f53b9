"""An archive unpacks to the tree that tarfile would make, or is rejected: P10, and P16 for what is written."""

import io
import os
import sys
import sysconfig
import tarfile
import threading
from pathlib import Path

import archives
import pytest
from hostile_archives import COMPRESSORS, END, HOSTILE, PYTHON, Hostile, entry, gz
from unpacking import NAME, archive, assert_harmless, snapshot, with_our_modes

from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.errors import IntegrityError, StoreError


@pytest.fixture(params=["zlib", "zlib_ng", "isal"])
def decompressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each module that can read gzip, as if no other were installed."""
    chosen = str(request.param)
    if chosen != "zlib":
        pytest.importorskip(chosen)
    for other in {"zlib_ng", "isal"} - {chosen}:
        for name in (other, f"{other}.zlib_ng", f"{other}.igzip_lib"):
            monkeypatch.setitem(sys.modules, name, None)
    return chosen


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_p10_a_hostile_archive_is_rejected_and_touches_nothing(hostile: Hostile, into: Path, outside: Path) -> None:
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


@pytest.mark.parametrize("code", ["raise RuntimeError('of the project')", ""])
def test_a_package_of_the_project_that_is_called_isal_breaks_nothing(
    into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "isal").mkdir()
    (tmp_path / "isal/__init__.py").touch()
    (tmp_path / "isal/igzip_lib.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [each for each in sys.modules if each.partition(".")[0] == "isal"]:
        monkeypatch.delitem(sys.modules, name)
    content = gz(PYTHON, entry("python/data", b"1"), END)
    try:
        assert (unpack(archive(content), into=into) / "data").read_bytes() == b"1"
    finally:
        for name in [each for each in sys.modules if each.partition(".")[0] == "isal"]:
            del sys.modules[name]


def test_names_of_hostile_archives_are_unique() -> None:
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 60


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a part of the running interpreter, with the layout of python-build-standalone."""
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


def test_a_real_interpreter_unpacks_as_tarfile_unpacks_it(real: Path, into: Path, tmp_path: Path) -> None:
    with tarfile.open(real) as tar:
        archives.extract(tar, tmp_path / "theirs")

    with real.open("rb") as file:
        tree = unpack(archive(file), into=into)

    assert tree == into / "python"
    assert snapshot(into) == with_our_modes(snapshot(tmp_path / "theirs"))


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


def test_each_decompressor_reads_gzip(decompressor: str, real: Path, into: Path, tmp_path: Path) -> None:
    with tarfile.open(real) as tar:
        archives.extract(tar, tmp_path / "theirs")

    with real.open("rb") as file:
        unpack(archive(file), into=into)

    assert snapshot(into) == with_our_modes(snapshot(tmp_path / "theirs"))


def test_each_decompressor_rejects_a_truncated_gzip(decompressor: str, tmp_path: Path) -> None:
    whole = gz(PYTHON, END)
    for length in range(0, len(whole), 9):
        (into := tmp_path / str(length)).mkdir()
        with pytest.raises(IntegrityError, match="it is cut off"):
            unpack(archive(whole[:length]), into=into)


def test_each_decompressor_rejects_a_gzip_with_a_wrong_checksum(decompressor: str, tmp_path: Path) -> None:
    whole = gz(PYTHON, END)
    for position in range(len(whole) - 8, len(whole)):
        (into := tmp_path / str(position)).mkdir()
        flipped = bytearray(whole)
        flipped[position] ^= 4
        with pytest.raises(IntegrityError, match="cannot be decompressed"):
            unpack(archive(bytes(flipped)), into=into)


def test_each_decompressor_joins_several_gzip_streams(decompressor: str, into: Path) -> None:
    whole = PYTHON + entry("python/zeros", bytes(3 << 20)) + END
    content = b"".join(gz(whole[at : at + 70_001]) for at in range(0, len(whole), 70_001))

    tree = unpack(archive(content), into=into)

    assert (tree / "zeros").read_bytes() == bytes(3 << 20)


def test_each_decompressor_rejects_garbage_after_a_gzip(decompressor: str, into: Path) -> None:
    with pytest.raises(IntegrityError, match="cannot be decompressed"):
        unpack(archive(gz(PYTHON, END) + b"garbage" * 9), into=into)


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
