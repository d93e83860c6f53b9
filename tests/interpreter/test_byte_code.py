"""Byte code that an interpreter cannot read is found, whatever its version."""

import marshal
import os
import shutil
import subprocess
from pathlib import Path

import archives
import pytest

from pytest_pyinstall.interpreter.byte_code import damaged_byte_code

VERSIONS = [version for version in ("3.6", "3.13") if version in archives.interpreters()]


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    return archives.interpreters()[request.param]


@pytest.fixture
def home(tmp_path: Path, python: Path) -> Path:
    """A directory of modules with the byte code of `python`."""
    home = tmp_path / "a home \u00e9"
    (home / "package").mkdir(parents=True)
    for number in range(6):
        (home / f"package/module{number}.py").write_text(f"def f(x={number}):\n    return [x, 'text', 1.5]\n")
    subprocess.run([python, "-m", "compileall", "-q", home], check=True)
    assert len(list(home.glob("package/__pycache__/*.pyc"))) == 6
    return home


def _byte_code(home: Path) -> list[Path]:
    return sorted(home.glob("package/__pycache__/*.pyc"))


def test_what_is_whole_or_not_used_is_no_damage(python: Path, home: Path, tmp_path: Path) -> None:
    first, second, third, *_ = _byte_code(home)
    first.write_bytes(b"byte code of another version")
    second.write_bytes(b"")
    third.with_suffix(".txt").write_bytes(third.read_bytes()[:40])
    shutil.copytree(home / "package", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").glob("__pycache__/*.pyc"):
        os.truncate(path, 30)
    (home / "link").symlink_to(tmp_path / "elsewhere")
    assert damaged_byte_code(python, home, environ=os.environ) == ()


def test_what_was_cut_off_or_is_no_code_is_named(python: Path, home: Path) -> None:
    first, second, third, fourth, *_ = _byte_code(home)
    os.truncate(first, first.stat().st_size - 1)
    os.truncate(second, 20)
    third.write_bytes(third.read_bytes()[:16] + bytes(200))
    start = fourth.read_bytes()[: 12 if python == archives.interpreters().get("3.6") else 16]
    fourth.write_bytes(start + marshal.dumps(12))
    expected = tuple(path.relative_to(home).as_posix() for path in (first, second, third, fourth))
    assert damaged_byte_code(python, home, environ=os.environ) == expected


def test_byte_code_at_which_the_interpreter_crashes_hides_no_other(python: Path, home: Path, tmp_path: Path) -> None:
    first, second, *_ = _byte_code(home)
    crash, cut = (path.relative_to(home).as_posix() for path in (first, second))
    os.truncate(second, 20)
    crashing = tmp_path / "python"
    crashing.write_text(
        "#!/bin/sh\n"
        "read -r first\n"
        f'if [ "$first" = {os.fsencode(crash).hex()} ]; then printf "%s " "$first"; kill -s SEGV $$; fi\n'
        f'{{ echo "$first"; cat; }} | {python} "$@"\n'
    )
    crashing.chmod(0o755)
    assert damaged_byte_code(crashing, home, environ=os.environ) == (crash, cut)


def test_an_interpreter_that_cannot_tell_names_nothing(home: Path, tmp_path: Path) -> None:
    os.truncate(_byte_code(home)[0], 20)
    assert damaged_byte_code(tmp_path / "missing", home, environ=os.environ) == ()
