"""An installation is rebuilt from its own files, and keeps what the user added."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from pytest_pyinstall.store._distributions import Distribution
from pytest_pyinstall.store._rebuild import bring_along, rebuild
from pytest_pyinstall.store.manifest import Entry, find_differences, take_manifest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3.12").write_text("#!/bin/sh\n")
    (home / "bin/python3.12").chmod(0o755)
    (home / "bin/python3").symlink_to("python3.12")
    (home / "lib/empty").mkdir(parents=True)
    (home / "lib/os.py").write_text("import sys\n")
    return home


@pytest.fixture
def entries(home: Path) -> tuple[Entry, ...]:
    return tuple(take_manifest(home))


def test_a_rebuilt_tree_equals_the_published_one(home: Path, entries: tuple[Entry, ...], tmp_path: Path) -> None:
    known = rebuild(home, entries, tmp_path / "tree")

    assert tuple(take_manifest(tmp_path / "tree")) == entries
    assert known
    for inode, (size, time, _) in known.items():
        [path] = [path for path in (tmp_path / "tree").rglob("*") if path.lstat().st_ino == inode]
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, time)


def test_rebuilding_restores_modes_links_and_empty_directories(
    home: Path, entries: tuple[Entry, ...], tmp_path: Path
) -> None:
    (home / "bin/python3.12").chmod(0o600)
    (home / "bin/python3").unlink()
    (home / "lib/empty").rmdir()

    assert rebuild(home, entries, tmp_path / "tree") is not None
    assert tuple(take_manifest(tmp_path / "tree")) == entries
    assert (tmp_path / "tree/bin/python3").readlink() == Path("python3.12")


def test_rebuilt_files_are_copies_and_not_links(home: Path, entries: tuple[Entry, ...], tmp_path: Path) -> None:
    rebuild(home, entries, tmp_path / "tree")
    assert (tmp_path / "tree/lib/os.py").stat().st_nlink == 1


def delete_file(home: Path) -> None:
    (home / "lib/os.py").unlink()


def change_file(home: Path) -> None:
    (home / "lib/os.py").write_text("import xyz\n")


def empty_file(home: Path) -> None:
    (home / "lib/os.py").write_text("")


def replace_file_by_link(home: Path) -> None:
    (home / "lib/os.py").rename(home / "elsewhere")
    (home / "lib/os.py").symlink_to("../elsewhere")


def replace_file_by_pipe(home: Path) -> None:
    (home / "lib/os.py").unlink()
    os.mkfifo(home / "lib/os.py")


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")
@pytest.mark.parametrize("damage", [delete_file, change_file, empty_file, replace_file_by_link, replace_file_by_pipe])
def test_nothing_is_rebuilt_without_the_content_of_a_file(
    home: Path, entries: tuple[Entry, ...], tmp_path: Path, damage: object
) -> None:
    assert callable(damage)
    damage(home)

    assert rebuild(home, entries, tmp_path / "tree") is None
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a//b", "./x", "bin/../../x"])
def test_p10_nothing_is_rebuilt_from_a_manifest_that_climbs(home: Path, tmp_path: Path, name: str) -> None:
    entry = Entry(name=name, kind="file", mode=0o644, size=1, digest="0" * 64)
    assert rebuild(home, [entry], tmp_path / "tree") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def copy_added(
    home: Path, entries: tuple[Entry, ...], tree: Path, published: tuple[Distribution, ...] = ()
) -> tuple[str, ...]:
    rebuild(home, entries, tree) if not tree.exists() else None
    return bring_along(
        home,
        tree,
        entries=entries,
        published=published,
        differences=find_differences(home, entries, content=True),
        relocate=lambda _, content: content.replace(b"/old", b"/new"),
    )


def test_added_files_are_copied_without_byte_code(home: Path, entries: tuple[Entry, ...], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (home / "lib/mine/__pycache__").mkdir(parents=True)
    (home / "lib/mine/__pycache__/x.pyc").touch()
    (home / "lib/mine/x.py").write_text("x = 1\n")
    (home / "bin/tool").write_text("#!/old/bin/python\n")
    (home / "lib/link").symlink_to("os.py")

    names = copy_added(home, entries, tree)

    assert set(names) >= {"bin/tool", "lib/link"}
    assert (tree / "lib/mine/x.py").read_text() == "x = 1\n"
    assert not (tree / "lib/mine/__pycache__").exists()
    assert (tree / "bin/tool").read_text() == "#!/new/bin/python\n"
    assert (tree / "lib/link").readlink() == Path("os.py")


def test_p23_the_byte_code_of_an_uninstalled_package_goes_too(home: Path, tmp_path: Path) -> None:
    """The run that proves a new tree imports what a ``.pth`` file names. What is left would be a namespace package."""
    site, info = "lib/site-packages", "lib/site-packages/demo-1.0.dist-info"
    files = tuple(f"{site}/{name}" for name in ("demo/__init__.py", "demo-1.0.dist-info/METADATA"))
    for name in files:
        (home / name).parent.mkdir(parents=True)
        (home / name).touch()
    entries = take_manifest(home)
    tree = tmp_path / "tree"
    rebuild(home, entries, tree)
    (tree / site / "demo/__pycache__").mkdir()
    (tree / site / "demo/__pycache__/__init__.cpython-312.pyc").touch()
    shutil.rmtree(home / site / "demo")
    shutil.rmtree(home / info)

    copy_added(home, entries, tree, (Distribution(name="demo", info=info, files=files),))

    assert list((tree / site).iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_pipes_are_not_copied(home: Path, entries: tuple[Entry, ...], tmp_path: Path) -> None:
    (home / "lib/mine").mkdir()
    os.mkfifo(home / "lib/mine/pipe")
    os.mkfifo(home / "lib/pipe")
    (home / "lib/mine/x.py").touch()

    assert "lib/pipe" not in copy_added(home, entries, tmp_path / "tree")
    assert sorted(path.name for path in (tmp_path / "tree/lib/mine").iterdir()) == ["x.py"]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_p11_added_files_are_not_written_through_a_link_or_over_a_file(
    home: Path, entries: tuple[Entry, ...], tmp_path: Path
) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.mkdir()
    rebuild(home, entries, tree)
    (home / "lib/mine").mkdir()
    (home / "lib/mine/x.py").touch()
    (home / "lib/added.py").write_text("of the user")
    (tree / "lib/mine").symlink_to(outside, target_is_directory=True)
    (tree / "lib/added.py").write_text("was there")
    (home / "lib/empty/x.py").touch()
    (tree / "lib/empty").rmdir()
    (tree / "lib/empty").symlink_to(outside, target_is_directory=True)

    copy_added(home, entries, tree)

    assert list(outside.iterdir()) == []
    assert (tree / "lib/added.py").read_text() == "was there"
    assert stat.S_ISLNK((tree / "lib/mine").lstat().st_mode)
