"""A process of its own unpacks as this one does: the same tree, the same refusals, and never from another file."""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import archives
import pytest
from hostile import END, HOSTILE, Hostile, entry

from pytest_pyinstall.archive import unpack_apart as module
from pytest_pyinstall.archive.unpack import unpack
from pytest_pyinstall.archive.unpack_apart import unpack_apart
from pytest_pyinstall.errors import PyinstallError, StoreError
from pytest_pyinstall.provisioner import ProvisionResult, open_provisioner
from pytest_pyinstall.request.identity import Archive, Build, Key
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.store.manifest import take_manifest
from pytest_pyinstall.system.files import FileDigests

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")
FILES = {"python/bin/python3.12": b"a", "python/lib/os.py": b"pass\n" * 100_000, "python/lib/empty.py": b""}
CONTENT = gzip.compress(b"".join(entry(name, content) for name, content in FILES.items()) + END)

Made = Callable[..., Archive]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Made]:
    opened = []

    def archive(content: bytes = CONTENT, name: str = "python.tar.gz") -> Archive:
        path = tmp_path / name
        path.write_bytes(content)
        file = path.open("rb")
        opened.append(file)
        file.read(100)  # as who hashes it does: more is in the buffer, and the descriptor stands elsewhere
        file.seek(0)
        return Archive(build=Build(key=KEY, url=f"https://host/{name}", sha256="ab" * 32), file=file)

    yield archive
    for file in opened:
        file.close()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    into = tmp_path / "into"
    into.mkdir()
    return into


def _in_this_process(archive: Archive, tmp_path: Path) -> Path:
    there = tmp_path / "there"
    there.mkdir()
    return unpack(archive, into=there)


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process must not do it."""

    def unpack_file(*_: object, **__: object) -> Path:
        pytest.fail("unpacked in this process")

    monkeypatch.setattr(module, "unpack_file", unpack_file)


@pytest.mark.usefixtures("nothing_here")
def test_the_same_tree_with_the_same_digests(archive: Made, into: Path, tmp_path: Path) -> None:
    known: FileDigests = {}

    home = unpack_apart(archive(), into=into, known=known)

    assert home == into / "python"
    reference = _in_this_process(archive(), tmp_path)
    assert take_manifest(home) == take_manifest(reference)
    assert len(known) == len(FILES)
    assert {(path.stat().st_ino, path.stat().st_size) for path in home.rglob("*.*") if path.is_file()} == {
        (inode, size) for inode, (size, _, _) in known.items()
    }
    digests = {entry.digest for entry in take_manifest(home) if entry.kind == "file"}
    assert {digest for _, _, digest in known.values()} == digests


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize("hostile", HOSTILE[::8], ids=str)
def test_p10_what_is_refused_is_refused_in_the_same_words(
    archive: Made, into: Path, tmp_path: Path, hostile: Hostile
) -> None:
    content = hostile.build(str(tmp_path / "outside"))
    with pytest.raises(PyinstallError) as here:
        _in_this_process(archive(content, hostile.file_name), tmp_path)

    with pytest.raises(hostile.error) as apart:
        unpack_apart(archive(content, hostile.file_name), into=into, known={})

    assert str(apart.value) == str(here.value).replace(str(tmp_path / "there"), str(into))


@pytest.mark.usefixtures("nothing_here")
def test_what_the_disk_says_is_told(archive: Made, into: Path) -> None:
    (into / "python").mkdir()
    with pytest.raises(StoreError, match="is not empty") as told:
        unpack_apart(archive(), into=into, known={})
    assert told.value.hint


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
@pytest.mark.usefixtures("nothing_here")
def test_p9_it_gets_the_file_that_was_checked_and_not_its_name(archive: Made, into: Path, tmp_path: Path) -> None:
    checked = archive()
    (tmp_path / "planted").write_bytes(gzip.compress(entry("python/planted", b"") + END))
    (tmp_path / "planted").replace(tmp_path / "python.tar.gz")

    home = unpack_apart(checked, into=into, known={})

    assert not (home / "planted").exists()
    assert (home / "lib/os.py").read_bytes() == FILES["python/lib/os.py"]


@pytest.mark.parametrize(
    "child",
    [
        "import os, sys; os.read(0, 50); open(sys.argv[3] + '/half', 'w').close(); sys.exit(1)",
        "import os; os.read(0, 50); os.kill(os.getpid(), 9)",
        "print('something else')",
        "print('[]')",
        "this is no Python",
    ],
)
def test_where_the_child_gives_no_answer_this_process_does_it(
    archive: Made, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str
) -> None:
    monkeypatch.setattr(module, "_CHILD", child)
    known: FileDigests = {}

    home = unpack_apart(archive(), into=into, known=known)

    assert take_manifest(home) == take_manifest(_in_this_process(archive(), tmp_path))
    assert sorted(path.name for path in into.iterdir()) == ["python"]
    assert len(known) == len(FILES)


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_where_no_child_can_be_had_this_process_does_it(
    archive: Made, into: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    assert (unpack_apart(archive(), into=into, known={}) / "lib/os.py").exists()


@pytest.mark.usefixtures("nothing_here")
def test_p14_the_environment_does_not_reach_the_child(
    archive: Made, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "gzip", "queue", "pytest_pyinstall"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert (unpack_apart(archive(), into=into, known={}) / "lib/os.py").exists()


def test_a_provisioner_that_is_unpacking_one_has_the_next_unpacked_apart(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = list(archives.interpreters())[-1]
    asked = []

    def apart(archive: Archive, *, into: Path, known: FileDigests) -> Path:
        asked.append(archive.build.key)
        return unpack_apart(archive, into=into, known=known)

    monkeypatch.setattr(module, "unpack_apart", apart)
    with open_provisioner(settings) as provisioner:
        with provisioner._unpacking:
            (provided,) = provisioner.provide(provisioner.parse([newest]))
        assert isinstance(provided, ProvisionResult)
        assert asked == [provided.interpreter.key]
        assert provisioner.store.verify(provided.interpreter.key) == ()
        assert provided.interpreter.run("-c", "print('runs')").stdout == "runs\n"


def test_a_frozen_program_is_not_started_again(
    archive: Made, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n: > '{tmp_path}/started'\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr("sys.frozen", True, raising=False)

    assert unpack_apart(archive(), into=into, known={}) == into / "python"
    assert not (tmp_path / "started").exists()


def test_another_version_of_us_that_is_installed_does_nothing(
    archive: Made, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = []

    def unpack_file(*_: object, **__: object) -> Path:
        here.append(list(into.iterdir()))
        return into

    monkeypatch.setattr(module, "unpack_file", unpack_file)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "pytest_pyinstall" / "unpack_apart.py"))

    unpack_apart(archive(), into=into, known={})

    assert here == [[]]
