"""Temporary directories are deleted after use, and a sweep deletes those of dead processes only."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.system.temporary import sweep_temporary, temporary_directory


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    return place


@pytest.fixture(name="environ")
def _environ(place: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return {"TMPDIR": str(place)}


def test_a_temporary_directory_is_deleted_after_its_block(place: Path, environ: Mapping[str, str]) -> None:
    def fail() -> None:
        with temporary_directory() as directory:
            (directory / "sub").mkdir()
            (directory / "sub" / "file").touch()
            assert directory.parent == place
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(place.iterdir()) == []


def test_a_sweep_keeps_the_directory_of_a_running_process(place: Path, environ: Mapping[str, str]) -> None:
    with temporary_directory() as directory:
        (directory / "file").touch()
        sweep_temporary(environ)
        assert (directory / "file").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_p8_a_sweep_deletes_the_directory_of_a_killed_process(place: Path, environ: Mapping[str, str]) -> None:
    script = (
        "import os, pathlib, signal, sys\n"
        "from pytest_pyinstall.system.temporary import temporary_directory\n"
        "with temporary_directory(pathlib.Path(sys.argv[1])) as directory:\n"
        "    (directory / 'file').write_text('x' * 9999)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(place)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(place.iterdir())) == 1

    sweep_temporary(environ)

    assert list(place.iterdir()) == []


def test_a_sweep_needs_no_lock(place: Path, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a filesystem without working locks, each lock looks free."""
    monkeypatch.setattr("pytest_pyinstall.system.locks.lock_descriptor", lambda _: True)
    with temporary_directory() as directory:
        sweep_temporary(environ)
        assert directory.exists()


def path_of_dead_process(place: Path) -> Path:
    """The name of a directory whose process has ended."""
    script = "from pytest_pyinstall.system.files import scratch_name; print(scratch_name('')[1:])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return place / f"pytest-pyinstall-{done.stdout.strip()}"


def test_a_sweep_deletes_an_empty_directory_of_a_dead_process(place: Path, environ: Mapping[str, str]) -> None:
    path_of_dead_process(place).mkdir()

    sweep_temporary(environ)

    assert list(place.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_p11_a_sweep_does_not_follow_links_and_keeps_other_names(
    place: Path, environ: Mapping[str, str], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    path_of_dead_process(place).symlink_to(precious)
    others = [
        place / "pytest-of-others",
        place / "pytest-pyinstall-notes",
        place / f"x{path_of_dead_process(place).name}",
    ]
    for other in others:
        other.mkdir()

    sweep_temporary(environ)

    assert (precious / "file").exists()
    assert all(other.exists() for other in others)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_sweep_keeps_directories_of_another_user(place: Path, environ: Mapping[str, str]) -> None:
    theirs = path_of_dead_process(place)
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)

    sweep_temporary(environ)

    assert theirs.exists()


def test_a_sweep_of_a_missing_temporary_directory_does_nothing(tmp_path: Path) -> None:
    sweep_temporary({"TMPDIR": str(tmp_path / "gone"), "TEMP": ""})


def test_a_directory_that_cannot_be_made_is_an_error_with_its_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}/gone/pytest-pyinstall-.*: No such file") as caught:
        temporary_directory(tmp_path / "gone").__enter__()
    assert caught.value.hint.endswith("TMPDIR=DIR")

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(StoreError, match="cannot make a temporary directory: No usable temporary directory found in"):
        temporary_directory().__enter__()
