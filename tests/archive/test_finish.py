"""A finished tree contains only paths of its installation directory, and everything that uv adds."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import archives
import pytest
import uv
from archives import NEWEST

from pytest_pyinstall.archive.finish import EXTERNALLY_MANAGED, finish, run_tool
from pytest_pyinstall.archive.relocate import PACKED, STANDALONE, polyglot, read_variables
from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.request.identity import Key, Target
from pytest_pyinstall.store.manifest import may_change

VERSIONS = list(archives.interpreters())
TARGET = Target.current()

needs_compiler = pytest.mark.skipif(not shutil.which("cc") and not shutil.which("gcc"), reason="needs a C compiler")
needs_symlink = pytest.mark.skipif(
    os.name == "nt", reason="Windows installations have neither links nor sysconfig data"
)

Unpack = Callable[[str, Path], tuple[Path, Key]]
Published = Callable[[str], tuple[Path, Key]]


@pytest.fixture(scope="session")
def unpack(shared_directory: Path) -> Unpack:
    """Unpacks the packed interpreter of a minor version, and returns the tree and its key."""

    def unpacked(minor: str, into: Path) -> tuple[Path, Key]:
        mirror = archives.packed(shared_directory, [archives.interpreters()[minor]])
        (archive,) = (mirror / archives.TAG).iterdir()
        with tarfile.open(archive) as opened:
            archives.extract(opened, into)
        version = archive.name.removeprefix("cpython-").partition("+")[0]
        return into / "python", Key.parse(f"cpython-{version}-{TARGET}")

    return unpacked


@pytest.fixture(scope="session")
def publish(unpack: Unpack, tmp_path_factory: pytest.TempPathFactory) -> Unpack:
    """Finishes a tree in scratch and renames it into the given store, as an installation does."""

    def published(minor: str, store: Path) -> tuple[Path, Key]:
        store.mkdir(parents=True, exist_ok=True)
        tree, key = unpack(minor, tmp_path_factory.mktemp("scratch"))
        home = store / str(key)
        finish(tree, key=key, home=home, tag=archives.TAG)
        tree.rename(home)
        return home, key

    return published


@pytest.fixture(scope="session")
def published(publish: Unpack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Key]]:
    """A shared installation for tests that only read it, because unpacking takes seconds."""
    store = tmp_path_factory.mktemp("store")
    return cache(lambda minor: publish(minor, store))


def output_of(python: Path, code: str, *, cwd: Path | None = None) -> str:
    answer = subprocess.run([python, "-I", "-B", "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def snapshot(tree: Path) -> Mapping[str, tuple[int, int, bytes]]:
    """The inode, mode and content of each file below `tree`, and the target of each symlink."""
    found = {}
    for path in tree.rglob("*"):
        state = path.lstat()
        if path.is_symlink():
            found[path.relative_to(tree).as_posix()] = (state.st_ino, 0, os.fsencode(os.readlink(path)))
        elif path.is_file():
            found[path.relative_to(tree).as_posix()] = (state.st_ino, state.st_mode, path.read_bytes())
    return found


@needs_symlink
@pytest.mark.parametrize("minor", VERSIONS)
def test_sysconfig_names_only_the_installation_directory(minor: str, published: Published) -> None:
    home, key = published(minor)

    said = output_of(home / key.executable, "import sysconfig; print(repr(sysconfig.get_config_vars()))")

    assert f"'prefix': {str(home)!r}" in said
    assert f"-L{home}/lib" in said or "Py_ENABLE_SHARED': 0" in said
    assert not re.search(r"(?<![\w/])(?:-[LI])?/install\b", said.replace("/usr/bin/install", ""))
    assert str(archives.interpreters()[minor].parents[1]) not in said


@needs_symlink
@pytest.mark.parametrize("unreadable", ["lib", "lib/python3.12", "lib/pkgconfig", "bin"])
def test_p2_a_directory_that_cannot_be_read_is_an_error(
    unreadable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path.glob` passes over it, and the installation would keep the paths of the machine that built it."""
    tree = tmp_path / "tree"
    for name in ("bin/python3.12", "lib/pkgconfig/python.pc", "lib/python3.12/_sysconfigdata_x.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("#!/install/bin/python3.12\n")
    for function in ("listdir", "scandir"):
        monkeypatch.setattr(os, function, _failing(getattr(os, function), tree / unreadable))

    with pytest.raises(StoreError, match=f"cannot finish .*{os.strerror(errno.ESTALE)}"):
        finish(tree, key=Key.parse(f"cpython-3.12.1-{TARGET}"), home=tmp_path / "home", tag="")


def _failing(function: Callable[..., Any], unreadable: Path) -> Callable[..., Any]:
    def call(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path) == unreadable:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return function(path)

    return call


EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fact", "", -1, methods};
PyMODINIT_FUNC PyInit_fact(void) { return PyModule_Create(&module); }
"""

# What distutils and setuptools do. Python 3.12 and newer include neither of them.
BUILD = """
import shlex, subprocess, sys, sysconfig
variable = sysconfig.get_config_var
if sys.version_info < (3, 12):
    import warnings
    warnings.simplefilter("ignore")
    from distutils.core import Extension, setup
    setup(name="fact", ext_modules=[Extension("fact", ["fact.c"])], script_args=["-q", "build_ext", "--inplace"])
else:
    words = lambda *names: [word for name in names for word in shlex.split(variable(name) or "")]
    include = "-I" + sysconfig.get_path("include")
    subprocess.check_call(words("CC", "CFLAGS", "CPPFLAGS", "CCSHARED") + [include, "-c", "fact.c", "-o", "fact.o"])
    libraries = ["-L" + variable("LIBDIR"), "-lpython" + variable("LDVERSION")] if variable("Py_ENABLE_SHARED") else []
    subprocess.check_call(words("LDSHARED") + ["fact.o", "-o", "fact" + variable("EXT_SUFFIX")] + libraries)
sys.path.insert(0, ".")
import fact
print(fact.answer(), fact.__file__)
"""


def build_extension(home: Path, key: Key, project: Path) -> str:
    project.mkdir()
    (project / "fact.c").write_text(EXTENSION)
    return output_of(home / key.executable, BUILD, cwd=project)


@needs_symlink
@needs_compiler
@pytest.mark.parametrize("minor", VERSIONS)
def test_an_extension_module_builds_with_the_installed_headers(
    minor: str, published: Published, tmp_path: Path
) -> None:
    home, key = published(minor)

    assert "42 " in build_extension(home, key, tmp_path / "project")


@needs_symlink
@needs_compiler
@pytest.mark.parametrize("minor", sorted({VERSIONS[0], NEWEST}))
def test_p17_an_extension_module_builds_in_a_store_with_a_space_and_an_umlaut(
    minor: str, publish: Unpack, tmp_path: Path
) -> None:
    home, key = publish(minor, tmp_path / "a störe")

    assert "42 " in build_extension(home, key, tmp_path / "project")


@needs_symlink
@pytest.mark.parametrize("minor", VERSIONS)
def test_the_config_script_prints_the_installation_directory(minor: str, published: Published) -> None:
    home, _ = published(minor)

    said = subprocess.run(
        [home / "bin" / f"python{minor}-config", "--prefix", "--includes", "--ldflags"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said.startswith(f"{home}\n-I{home}/include")
    assert "/install" not in said
    assert str(archives.interpreters()[minor].parents[1]) not in said


@needs_symlink
def test_pydoc_runs_from_the_installation_directory(published: Published) -> None:
    home, _ = published(NEWEST)

    answer = subprocess.run([home / "bin" / "pydoc3", "sys"], capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
    assert "NAME\n    sys" in answer.stdout


@needs_symlink
@pytest.mark.parametrize("minor", VERSIONS)
def test_no_text_file_names_the_original_prefix(minor: str, published: Published) -> None:
    home, _ = published(minor)
    original = str(archives.interpreters()[minor].parents[1]).encode()

    naming = {name for name, (_, _, content) in snapshot(home).items() if original in content}

    assert not {name for name in naming if not re.search(r"\.so|/python\d\.\d+m?$", name)}
    pkgconfig = (home / "lib" / "pkgconfig" / f"python-{minor}.pc").read_text()
    assert "prefix=${pcfiledir}/../..\n" in pkgconfig
    assert "/install" not in pkgconfig
    (makefile,) = home.glob(f"lib/python{minor}*/config-*/Makefile")
    assert re.search(rf"^prefix=\s*{re.escape(str(home))}$", makefile.read_text(), re.MULTILINE)


@needs_symlink
def test_finishing_a_tree_twice_changes_nothing(unpack: Unpack, tmp_path: Path) -> None:
    tree, key = unpack(NEWEST, tmp_path)
    home = tmp_path / "home of" / "it"
    finish(tree, key=key, home=home, tag=archives.TAG)
    before = snapshot(tree)

    finish(tree, key=key, home=home, tag=archives.TAG)

    assert snapshot(tree) == before


@needs_symlink
def test_finishing_a_tree_of_hard_links_does_not_change_the_cache(unpack: Unpack, tmp_path: Path) -> None:
    cached, key = unpack(NEWEST, tmp_path / "cache")
    (cached / "BUILD").write_text("old")
    before = snapshot(cached)
    shutil.copytree(cached, tmp_path / "tree", symlinks=True, copy_function=os.link)

    finish(tmp_path / "tree", key=key, home=tmp_path / "home", tag=archives.TAG)

    assert snapshot(cached) == before
    assert (tmp_path / "tree" / "BUILD").read_text() == archives.TAG


@needs_symlink
def test_finishing_leaves_no_temporary_file(published: Published) -> None:
    home, _ = published(NEWEST)

    assert not [name for name in snapshot(home) if name.endswith(".new")]


@needs_symlink
def test_finishing_keeps_file_modes(unpack: Unpack, tmp_path: Path) -> None:
    tree, key = unpack(NEWEST, tmp_path)
    before = {name: mode for name, (_, mode, _) in snapshot(tree).items()}

    finish(tree, key=key, home=tmp_path / "home", tag=archives.TAG)

    after = {name: mode for name, (_, mode, _) in snapshot(tree).items()}
    assert {name: after[name] for name in before} == before


def run_uv(store: Path, mirror: Path, *arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")} | {
        "UV_PYTHON_INSTALL_DIR": str(store),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(mirror / "catalogue.json"),
        "UV_PYTHON_INSTALL_MIRROR": mirror.as_uri(),
        "UV_CACHE_DIR": str(store.parent / "uv-cache"),
        "UV_NO_CONFIG": "1",
    }
    answer = subprocess.run(
        [uv.find_uv_bin(), *arguments], capture_output=True, text=True, env=environ, check=False, cwd=store
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr


@needs_symlink
def test_p22_uv_finds_the_installation_and_changes_only_what_may_change(
    publish: Unpack, shared_directory: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    home, key = publish(NEWEST, store)
    mirror = archives.packed(shared_directory, [archives.interpreters()[NEWEST]])
    before = snapshot(home)

    assert "already installed" in run_uv(store, mirror, "python", "install", "--no-bin", NEWEST)
    found = run_uv(store, mirror, "python", "find", "--managed-python", NEWEST)

    after = snapshot(home)
    assert Path(found.strip()).resolve() == (home / key.executable).resolve()
    assert {name for name in {*after, *before} if after.get(name) != before.get(name)} <= set(
        filter(may_change, before)
    )
    assert after["BUILD"] == before["BUILD"]
    for name, (_, _, content) in before.items():
        if name.endswith("EXTERNALLY-MANAGED"):
            assert after[name][2] == content


@needs_symlink
def test_an_installation_has_all_files_that_uv_creates(
    published: Published, shared_directory: Path, tmp_path: Path
) -> None:
    mirror = archives.packed(shared_directory, [archives.interpreters()[NEWEST]])
    home, key = published(NEWEST)
    (tmp_path / "uvs").mkdir()
    run_uv(tmp_path / "uvs", mirror, "python", "install", "--no-bin", NEWEST)
    theirs, ours = snapshot(tmp_path / "uvs" / str(key)), snapshot(home)

    assert set(theirs) <= set(ours)
    assert ours["BUILD"][2] == theirs["BUILD"][2]
    managed = f"lib/python{NEWEST}/EXTERNALLY-MANAGED"
    assert ours[managed][2] == theirs[managed][2] == EXTERNALLY_MANAGED.encode()


def test_an_empty_tree_gets_only_a_build_file(tmp_path: Path) -> None:
    finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home"), tag="20261122")

    assert {name: content for name, (_, _, content) in snapshot(tmp_path).items()} == {"BUILD": b"20261122"}


def test_a_release_without_a_tag_gets_no_build_file(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()

    finish(tmp_path / "tree", key=Key.parse("graalpy-3.11.0-linux-x86_64-gnu"), home=Path("/home"), tag="")

    assert not list((tmp_path / "tree").iterdir())


@needs_symlink
@pytest.mark.parametrize(
    ("key", "executable", "library", "names"),
    [
        (
            "cpython-3.13.1+freethreaded-linux-x86_64-gnu",
            "bin/python3.13t",
            "lib/python3.13t",
            ("python", "python3.13"),
        ),
        ("pypy-3.10.14-linux-x86_64-gnu", "bin/pypy3.10", "lib/pypy3.10", ("python", "python3", "python3.10")),
        ("pypy-3.7.13-linux-x86_64-gnu", "bin/pypy3.7", "lib-python/3", ("python", "python3")),
        ("graalpy-3.11.0-linux-x86_64-gnu", "bin/graalpy", "lib/python3.11", ("python", "python3", "python3.11")),
    ],
)
def test_each_implementation_gets_its_marker_file_and_its_links(
    tmp_path: Path, key: str, executable: str, library: str, names: Sequence[str]
) -> None:
    (tmp_path / library).mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / executable).write_text("")

    finish(tmp_path, key=Key.parse(key), home=Path("/home"), tag="20261122")

    assert (tmp_path / library / "EXTERNALLY-MANAGED").read_text() == EXTERNALLY_MANAGED
    assert {os.readlink(tmp_path / "bin" / name) for name in names} == {Path(executable).name}


def test_text_files_of_a_windows_build_are_not_rewritten(tmp_path: Path) -> None:
    key = Key.parse("pypy-3.10.14-windows-x86_64-none")
    (tmp_path / "Lib").mkdir()
    (tmp_path / "pypy3.10.exe").write_bytes(b"MZ")

    finish(tmp_path, key=key, home=Path("C:/store/it"), tag="20261122")

    assert (tmp_path / "python.exe").read_bytes() == b"MZ"
    assert (tmp_path / "Lib" / "EXTERNALLY-MANAGED").read_text() == EXTERNALLY_MANAGED


def test_byte_code_of_a_rewritten_module_is_removed(tmp_path: Path) -> None:
    library = tmp_path / "lib" / "python3.12"
    (library / "__pycache__").mkdir(parents=True)
    (library / "_sysconfigdata__linux_x86_64-linux-gnu.py").write_text("build_time_vars = {'prefix': '/install'}\n")
    for name in ("_sysconfigdata__linux_x86_64-linux-gnu", "os"):
        (library / "__pycache__" / f"{name}.cpython-312.pyc").write_bytes(b"")

    finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="")

    assert [path.name for path in (library / "__pycache__").iterdir()] == ["os.cpython-312.pyc"]
    written = read_variables((library / "_sysconfigdata__linux_x86_64-linux-gnu.py").read_text())
    assert written == {"prefix": "/home/it", STANDALONE: 1}


@needs_symlink
def test_a_packed_interpreter_is_not_marked_as_python_build_standalone(published: Published) -> None:
    home, key = published(NEWEST)

    said = output_of(
        home / key.executable,
        f"import sysconfig as s; print([s.get_config_var(n) for n in ({PACKED!r}, {STANDALONE!r})])",
    )

    assert said.strip() == "[1, None]"


@needs_symlink
def test_finishing_does_not_follow_symlinks(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("#!/install/bin/python3.12\n")
    (tmp_path / "tree" / "bin").mkdir(parents=True)
    (tmp_path / "tree" / "bin" / "pip").symlink_to(outside)

    finish(tmp_path / "tree", key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="1")

    assert outside.read_text() == "#!/install/bin/python3.12\n"


def test_scripts_of_a_package_start_the_installed_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "pip"
    pip.write_text("#!/install/bin/python3.12\nprint()\n")
    pip.chmod(0o755)
    standalone = tmp_path / "bin" / "idle"
    standalone.write_text(polyglot("python3.12"))

    finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="")

    assert pip.read_text() == "#!/home/it/bin/python3.12\nprint()\n"
    assert pip.stat().st_mode & 0o111 or sys.platform == "win32"
    assert standalone.read_text() == polyglot("python3.12")


def test_an_os_error_becomes_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "BUILD").mkdir()

    with pytest.raises(StoreError, match="cannot finish cpython-3") as caught:
        finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="20261122")

    assert isinstance(caught.value.__cause__, OSError)


def macos_tree(path: Path) -> Path:
    (path / "lib").mkdir(parents=True)
    (path / "lib" / "libpython3.12.dylib").write_bytes(b"dylib")
    (path / "lib" / "libpython3.dylib").symlink_to("libpython3.12.dylib")
    return path


@needs_symlink
def test_a_dylib_gets_its_final_install_name(tmp_path: Path) -> None:
    tree = macos_tree(tmp_path / "tree")
    os.link(tree / "lib" / "libpython3.12.dylib", tmp_path / "cached")
    ran: list[Sequence[str]] = []

    def install_name_tool(command: Sequence[str]) -> None:
        ran.append(command)
        Path(command[-1]).write_bytes(b"patched")

    key = Key.parse("cpython-3.12.1-macos-aarch64-none")
    finish(tree, key=key, home=Path("/home/it"), tag="", run=install_name_tool)

    assert [list(command[:-1]) for command in ran] == [
        ["install_name_tool", "-id", str(Path("/home/it/lib/libpython3.12.dylib"))]
    ]
    assert (tree / "lib" / "libpython3.12.dylib").read_bytes() == b"patched"
    assert (tmp_path / "cached").read_bytes() == b"dylib"


@needs_symlink
def test_a_dylib_is_not_changed_without_install_name_tool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = macos_tree(tmp_path / "tree")

    def missing(command: Sequence[str]) -> None:
        raise FileNotFoundError(command[0])

    finish(tree, key=Key.parse("cpython-3.12.1-macos-aarch64-none"), home=Path("/home/it"), tag="", run=missing)

    assert {path.name for path in (tree / "lib").iterdir()} == {"libpython3.12.dylib", "libpython3.dylib"}
    assert "install name" in caplog.text


def test_a_failing_tool_raises_an_error() -> None:
    run_tool([sys.executable, "-c", "print()"])

    with pytest.raises(subprocess.CalledProcessError):
        run_tool([sys.executable, "-c", "raise SystemExit(1)"])


@pytest.mark.skipif(os.name == "nt", reason="needs limits on what a process may write")
def test_p16_a_full_disk_leaves_the_old_file_and_no_new_one(tmp_path: Path) -> None:
    import resource

    (tmp_path / "lib" / "python3.12").mkdir(parents=True)
    managed = tmp_path / "lib" / "python3.12" / "EXTERNALLY-MANAGED"
    managed.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(StoreError):
            finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="20261122")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert managed.read_text() == "old"
    assert [path.name for path in managed.parent.iterdir()] == ["EXTERNALLY-MANAGED"]


def test_a_recorded_prefix_of_slash_is_not_replaced(tmp_path: Path) -> None:
    data = tmp_path / "lib" / "python3.12" / "_sysconfigdata__linux_x86_64-linux-gnu.py"
    data.parent.mkdir(parents=True)
    data.write_text("build_time_vars = {'prefix': '/', 'CFLAGS': '-I/usr/include'}\n")

    finish(tmp_path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="")

    assert read_variables(data.read_text())["CFLAGS"] == "-I/usr/include"
