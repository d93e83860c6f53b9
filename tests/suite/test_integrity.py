"""Damage to an environment is found: with real files, and byte code of a real Python."""

import errno
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_pyinstall.suite import _integrity
from pytest_pyinstall.suite._integrity import find_damage, record_contents

SITE = "lib/python3/site-packages"
PYTHON = Path(sys.executable)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    environment = tmp_path / "environment"
    (environment / SITE / "demo-1.dist-info").mkdir(parents=True)
    (environment / SITE / "demo.py").write_text("one = 1\n")
    (environment / "bin").mkdir()
    (environment / "bin/tool").write_text("#!/bin/sh\n")
    (environment / "bin/python").symlink_to(PYTHON)
    record_contents(environment)
    return environment


def compiled(environment: Path) -> Path:
    return Path(py_compile.compile(str(environment / SITE / "demo.py"), doraise=True) or "")


def later(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_an_unchanged_environment_has_no_damage(environment: Path) -> None:
    assert find_damage(environment, PYTHON) is None
    compiled(environment)
    assert find_damage(environment, PYTHON) is None


def removes(environment: Path) -> None:
    (environment / SITE / "demo.py").unlink()


def shortens(environment: Path) -> None:
    (environment / SITE / "demo.py").write_text("one\n")


def rewrites(environment: Path) -> None:
    (environment / SITE / "demo.py").write_text("two = 2\n")
    later(environment / SITE / "demo.py")


def relinks(environment: Path) -> None:
    (environment / "bin/python").unlink()
    (environment / "bin/python").symlink_to("/usr/bin/other")


def unlinks(environment: Path) -> None:
    (environment / "bin/python").unlink()


def installs(environment: Path) -> None:
    (environment / SITE / "extra-1.dist-info").mkdir()


def adds_a_module(environment: Path) -> None:
    (environment / SITE / "sitecustomize.py").touch()


def cuts_byte_code(environment: Path) -> None:
    path = compiled(environment)
    path.write_bytes(path.read_bytes()[:-5])


def zeroes_byte_code(environment: Path) -> None:
    path = compiled(environment)
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (removes, f"{SITE}/demo.py is missing"),
        (shortens, f"{SITE}/demo.py has 4 bytes instead of 8"),
        (rewrites, f"{SITE}/demo.py was changed"),
        (relinks, "bin/python was changed"),
        (unlinks, "bin/python is missing"),
        (installs, "extra-1.dist-info was added to it"),
        (adds_a_module, "sitecustomize.py was added to it"),
        (cuts_byte_code, "is damaged"),
        (zeroes_byte_code, "is damaged"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_damaged_file_is_named(environment: Path, harm: Callable[[Path], None], expected: str) -> None:
    harm(environment)

    assert expected in (find_damage(environment, PYTHON) or "")


@pytest.mark.parametrize("name", ["__pycache__", ".nfs0001", "subcover_4711.pth"])
def test_files_that_no_session_imports_are_no_damage(environment: Path, name: str) -> None:
    (environment / SITE / name).mkdir()
    assert find_damage(environment, PYTHON) is None


def test_a_new_time_with_the_same_content_is_recorded_and_is_no_damage(environment: Path) -> None:
    later(environment / "bin/tool")

    assert find_damage(environment, PYTHON) is None
    rows = {row[0]: row[2] for row in json.loads((environment / "content.json").read_bytes())["files"]}
    assert rows["bin/tool"] == (environment / "bin/tool").stat().st_mtime_ns


def test_a_reboot_causes_a_comparison_of_content_even_if_size_and_time_are_equal(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = environment / SITE / "demo.py"
    time = path.stat().st_mtime_ns
    path.write_text("two = 2\n")
    os.utime(path, ns=(time, time))
    assert find_damage(environment, PYTHON) is None  # only a power cut changes content and keeps the time

    monkeypatch.setattr(_integrity, "current_boot", lambda: "another")
    assert find_damage(environment, PYTHON) == f"{SITE}/demo.py was changed"


def test_byte_code_is_loaded_only_once(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(environment)
    assert find_damage(environment, PYTHON) is None

    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was loaded again"))
    assert find_damage(environment, PYTHON) is None


def test_a_python_that_does_not_start_is_damage(environment: Path, tmp_path: Path) -> None:
    compiled(environment)
    broken = environment / "bin/broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)

    assert find_damage(environment, broken) == "bin/broken does not start"


@pytest.mark.parametrize("name", ["suite.json", ".lock", "bytecode.json", "pytest-pyinstall/plugin.py"])
def test_files_of_the_plugin_itself_may_be_removed(environment: Path, name: str) -> None:
    (environment / name).parent.mkdir(exist_ok=True)
    (environment / name).write_text("{}")
    record_contents(environment)
    (environment / name).unlink()

    assert find_damage(environment, PYTHON) is None


def test_an_unreadable_list_raises_an_error(environment: Path) -> None:
    (environment / "content.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        find_damage(environment, PYTHON)
    shutil.copy(environment / "bin/tool", environment / "content.json")
    with pytest.raises(ValueError, match="Expecting"):
        find_damage(environment, PYTHON)


def test_a_read_only_environment_can_be_checked(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(environment / "bin/tool")
    before = (environment / "content.json").read_bytes()

    def write_atomically(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(_integrity, "write_atomically", write_atomically)
    assert find_damage(environment, PYTHON) is None
    assert (environment / "content.json").read_bytes() == before
