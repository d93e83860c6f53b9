"""P11: cached trees make installations faster, and a damaged or foreign one is never used."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from archives import NEWEST
from volumes import image, loop

from pytest_pyinstall import provision
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.store.manifest import take_manifest
from pytest_pyinstall.store.tree_cache import add_tree, cached_trees, link_tree, stale_trees, trees_directory
from pytest_pyinstall.system.files import scratch_name
from pytest_pyinstall.system.locks import lock_now

KEY = Key(implementation="cpython", number="3.12.4", target=Target(os="linux", arch="x86_64", libc="gnu"))
BUILD = Build(key=KEY, url="https://host/20261101/a.tar.gz", sha256="ab" * 32, size=10, tag="20261101")
MODULE = "lib/python3.12/wave.py"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX file owners")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "unpacked" / "python"
    for name in ("bin/python3.12", MODULE, "lib/python3.12/EXTERNALLY-MANAGED", "lib/empty.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(f"content of {name}\n" if name != "lib/empty.py" else "")
    (tree / "bin/python3.12").chmod(0o755)
    (tree / "bin/python3").symlink_to("python3.12")
    return tree


@pytest.fixture
def into(tmp_path: Path) -> Path:
    into = tmp_path / "scratch"
    into.mkdir()
    return into


@pytest.fixture
def hardlinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the volume look as if it could not share blocks."""
    monkeypatch.setattr("pytest_pyinstall.store.tree_cache._SHARES_BLOCKS", False)


@pytest.mark.usefixtures("hardlinks")
def test_a_linked_tree_equals_the_cached_tree(cache: Path, tree: Path, into: Path) -> None:
    assert add_tree(cache, BUILD, tree, {})

    linked = link_tree(cache, BUILD, into=into)

    assert linked is not None
    home, known = linked
    assert home == into / "python"
    assert take_manifest(home) == take_manifest(home, known) == take_manifest(tree)
    assert (home / MODULE).samefile(tree / MODULE)
    assert (home / "lib/python3.12/EXTERNALLY-MANAGED").stat().st_nlink == 1


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has clonefile, which Python does not reach")
def test_files_share_blocks_if_the_volume_supports_it(tmp_path: Path, tree: Path) -> None:
    with loop(image(tmp_path / "disk", "xfs", 320 << 20), tmp_path / "mounted") as volume:
        home = volume / "python"
        shutil.copytree(tree, home, symlinks=True)
        (home / "lib/large").write_bytes(os.urandom(20 << 20))
        into = volume / "scratch"
        into.mkdir()
        before = _free(volume)

        assert add_tree(volume / "cache", BUILD, home, {})
        linked = link_tree(volume / "cache", BUILD, into=into)

        assert linked is not None
        assert take_manifest(linked[0]) == take_manifest(linked[0], linked[1]) == take_manifest(home)
        assert {path.stat().st_nlink for path in linked[0].rglob("*") if path.is_file()} == {1}
        assert before - _free(volume) < 2 << 20
        (linked[0] / "lib/large").write_bytes(b"edited in place")
        shutil.rmtree(into)
        into.mkdir()
        assert link_tree(volume / "cache", BUILD, into=into) is not None  # the edit changed no cached file


def _free(volume: Path) -> int:
    os.sync()
    status = os.statvfs(volume)
    return status.f_bfree * status.f_frsize


def test_nothing_is_linked_from_an_empty_cache(cache: Path, into: Path) -> None:
    assert link_tree(cache, BUILD, into=into) is None
    assert not cache.exists()


def _cached_file(cache: Path, name: str = MODULE) -> Path:
    return trees_directory(cache) / BUILD.sha256 / "python" / name


def _rewrite_list(cache: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = trees_directory(cache) / BUILD.sha256 / "list.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _same_size_and_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_link(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file of another content": lambda cache: _same_size_and_time(_cached_file(cache)),
    "an empty file": lambda cache: _cached_file(cache).write_text(""),
    "a missing file": lambda cache: _cached_file(cache).unlink(),
    "a file that everyone can write": lambda cache: _cached_file(cache).chmod(0o666),
    "a link in place of a file": lambda cache: _as_link(_cached_file(cache)),
    "a directory in place of a file": lambda cache: _as_directory(_cached_file(cache)),
    "no list": lambda cache: (trees_directory(cache) / BUILD.sha256 / "list.json").unlink(),
    "an empty list": lambda cache: (trees_directory(cache) / BUILD.sha256 / "list.json").write_text(""),
    "a list of another form": lambda cache: _rewrite_list(cache, lambda document: document.update(format=99)),
    "a list that leads outside": lambda cache: _rewrite_list(
        cache,
        lambda document: document.update(tree=[["../outside", "directory", 0o755, 0, ""]]),
    ),
    "a top that leads outside": lambda cache: _rewrite_list(cache, lambda document: document.update(top="../..")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_p11_a_damaged_cached_tree_is_deleted_and_never_used(cache: Path, tree: Path, into: Path, damage: str) -> None:
    add_tree(cache, BUILD, tree, {})
    DAMAGE[damage](cache)

    assert link_tree(cache, BUILD, into=into) is None

    assert list(into.iterdir()) == []
    assert cached_trees(cache) == []
    assert stale_trees(cache) == []
    assert not (into.parent / "outside").exists()


def test_p15_a_cache_that_others_can_write_to_is_not_used(cache: Path, tree: Path, into: Path) -> None:
    add_tree(cache, BUILD, tree, {})
    trees_directory(cache).chmod(0o777)

    assert link_tree(cache, BUILD, into=into) is None
    assert add_tree(cache, replace(BUILD, sha256="cd" * 32), tree, {}) is False


def test_a_tree_is_added_once(cache: Path, tree: Path) -> None:
    assert add_tree(cache, BUILD, tree, {})
    assert add_tree(cache, BUILD, tree, {}) is False
    assert [path.name for path in cached_trees(cache)] == [BUILD.sha256]


def _name(pid: int) -> str:
    """A name that the process `pid` would choose."""
    place, _, started, rest = scratch_name().split("-")
    return f"{place}-{pid}-{started}-{rest}"


DEAD: dict[str, Callable[[], str]] = {
    "of a process that ended": lambda: _name(2**22 + 1),
    "of a process whose number another one has now": lambda: scratch_name().replace(f"-{os.getpid()}-", "-1-"),
    "of the first version": lambda: ".0123456789abcdef.new",
    "of another boot": lambda: f".00000000-{os.getpid()}-1-01234567.new",
}


@pytest.mark.parametrize("whose", DEAD)
def test_p8_adding_a_tree_sweeps_what_dead_processes_left(cache: Path, tree: Path, whose: str) -> None:
    left = trees_directory(cache) / DEAD[whose]()
    left.mkdir(parents=True)
    assert stale_trees(cache) == [left]

    assert add_tree(cache, BUILD, tree, {})

    assert not left.exists()


def test_p11_directories_with_other_names_are_neither_used_nor_swept(cache: Path, tree: Path, tmp_path: Path) -> None:
    directory = trees_directory(cache)
    directory.mkdir(parents=True)
    for name in ("oak", ".dead.new", "ab" * 31, ".hidden"):
        (directory / name).mkdir()
    (tmp_path / "precious").mkdir()
    (directory / ("ef" * 32)).symlink_to(tmp_path / "precious")
    assert cached_trees(cache) == []
    assert stale_trees(cache) == []

    assert add_tree(cache, BUILD, tree, {})
    assert [path.name for path in cached_trees(cache)] == [BUILD.sha256]
    assert sorted(path.name for path in directory.iterdir() if path.name not in {".lock", BUILD.sha256}) == sorted(
        ("oak", ".dead.new", "ab" * 31, ".hidden", "ef" * 32)
    )


@pytest.mark.skipif(sys.platform == "win32", reason="locks show nothing to their own process there")
def test_p6_a_tree_of_a_living_process_is_not_swept_without_the_lock(cache: Path, tree: Path) -> None:
    making = trees_directory(cache) / scratch_name()
    making.mkdir(parents=True)
    assert stale_trees(cache) == []
    assert add_tree(cache, BUILD, tree, {})
    assert making.exists()


def test_nothing_is_swept_or_added_while_another_process_holds_the_lock(cache: Path, tree: Path) -> None:
    making = trees_directory(cache) / ".00000000-1-1-01234567.new"
    making.mkdir(parents=True)

    with lock_now(trees_directory(cache)) as ours:
        assert ours
        assert stale_trees(cache) == []
        assert add_tree(cache, BUILD, tree, {}) is False

    assert making.exists()


def test_p10_only_we_can_write_to_the_cache_with_any_umask(cache: Path, tree: Path, into: Path) -> None:
    before = os.umask(0)
    try:
        assert add_tree(cache, BUILD, tree, {})
        linked = link_tree(cache, BUILD, into=into)
    finally:
        os.umask(before)

    assert linked is not None
    kept = trees_directory(cache) / BUILD.sha256
    found = [cache, *cache.rglob("*"), *into.rglob("*")]
    assert kept / "list.json" in found
    assert [
        path for path in found if not path.is_symlink() and path.name != ".lock" and path.stat().st_mode & 0o022
    ] == []


# Through the whole installation


@pytest.mark.usefixtures("hardlinks")
def test_the_second_installation_adds_the_tree_and_the_third_links_it(settings: Settings) -> None:
    first = provision(NEWEST, settings)
    assert cached_trees(settings.cache) == []
    second = provision(NEWEST, settings._replace(store=settings.store.with_name("second")))
    (kept,) = cached_trees(settings.cache)
    third = provision(NEWEST, settings._replace(store=settings.store.with_name("third")))

    same = "lib/python{}/wave.py" if NEWEST < "3.13" else "lib/python{}/weakref.py"
    name = same.format(NEWEST)
    inodes = [(python.prefix / name).stat().st_ino for python in (second, third)]
    assert (kept / "python" / name).stat().st_ino == inodes[0] == inodes[1]
    assert (first.prefix / name).stat().st_ino != inodes[0]
    assert (third.prefix / "BUILD").stat().st_nlink == 1
    assert third.run("-c", "import sysconfig; print(sysconfig.get_config_var('prefix'))").stdout.strip() == str(
        third.prefix
    )
    assert str(second.prefix) not in (third.prefix / f"lib/python{NEWEST}/os.py").read_text()


def test_p11_an_edited_installation_does_not_affect_the_next_one(settings: Settings) -> None:
    provision(NEWEST, settings)
    second = provision(NEWEST, settings._replace(store=settings.store.with_name("second")))
    (second.prefix / f"lib/python{NEWEST}/weakref.py").write_text("raise SystemExit('edited in place')\n")

    third = provision(NEWEST, settings._replace(store=settings.store.with_name("third")))

    assert third.run("-c", "import weakref; print('whole')").stdout.strip() == "whole"
    with open_provisioner(settings._replace(store=settings.store.with_name("third"))) as provisioner:
        assert provisioner.store.verify(third.key) == ()
