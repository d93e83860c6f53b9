"""Leases on environments, and the environments that can be deleted."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from pytest_pyinstall.suite.cache import (
    environments,
    environments_directory,
    lease,
    move_unused_aside,
    note_use,
    orphans,
    removable_environments,
)
from pytest_pyinstall.system import locks

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def made(cache: Path, name: str, *, project: Path, days: float = 0) -> Path:
    path = environments_directory(cache) / f"{name.encode().hex():0<16}-{0:016}"
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    marker = path / "suite.json"
    marker.write_text(json.dumps({"project": str(project)}), "utf-8")
    os.utime(marker, (time.time() - days * DAY,) * 2)
    return path


def test_an_environment_is_removable_after_a_month_without_use(cache: Path, tmp_path: Path) -> None:
    made(cache, "new", project=tmp_path)
    old = made(cache, "old", project=tmp_path, days=31)
    assert removable_environments(cache) == [old]
    assert len(removable_environments(cache, now=time.time() + 31 * DAY)) == 2


def test_a_use_is_recorded_once_a_day(cache: Path, tmp_path: Path) -> None:
    today = made(cache, "today", project=tmp_path, days=0.5)
    before = (today / "suite.json").stat().st_mtime_ns
    note_use(today)
    assert (today / "suite.json").stat().st_mtime_ns == before
    old = made(cache, "old", project=tmp_path, days=31)
    note_use(old)
    assert removable_environments(cache) == []
    note_use(cache / "nothing")


def test_an_environment_is_removable_if_its_project_or_its_python_is_deleted(cache: Path, tmp_path: Path) -> None:
    gone = made(cache, "gone", project=tmp_path / "gone")
    headless = made(cache, "headless", project=tmp_path)
    (headless / "bin" / "python").unlink()
    made(cache, "whole", project=tmp_path)
    assert removable_environments(cache) == [gone, headless]


def test_orphans_are_environments_of_the_project_without_a_python(cache: Path, tmp_path: Path) -> None:
    made(cache, "whole", project=tmp_path)
    other = made(cache, "other", project=tmp_path / "other")
    orphan = made(cache, "orphan", project=tmp_path)
    for path in (other, orphan):
        (path / "bin" / "python").unlink()
    assert orphans(environments_directory(cache), tmp_path) == [orphan]


def test_scratch_is_removable_unless_a_process_holds_its_lock(cache: Path) -> None:
    directory = environments_directory(cache)
    scratch, gone = directory / ".abcdef0123456789.new", directory / ".abcdef0123456789.1.gone"
    scratch.mkdir(parents=True)
    gone.mkdir()
    assert removable_environments(cache) == [gone, scratch]
    (directory / "notes").mkdir()  # not ours
    assert removable_environments(cache) == [gone, scratch]
    with locks.hold(directory / ".abcdef0123456789.lock", timeout=9, purpose="", setting=""):
        assert removable_environments(cache) == [gone]
        assert move_unused_aside(scratch) is None
    assert move_unused_aside(scratch) is not None
    assert not scratch.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs shared locks")
def test_an_environment_stays_until_the_last_lease_ends(cache: Path, tmp_path: Path) -> None:
    path = made(cache, "used", project=tmp_path)
    with lease(path) as first:
        with lease(path) as second:
            assert first
            assert second
            assert move_unused_aside(path) is None
        assert move_unused_aside(path) is None
    aside = move_unused_aside(path)
    assert aside is not None
    assert aside.is_dir()
    assert environments(cache) == [aside]


def test_a_missing_cache_has_no_environments(cache: Path) -> None:
    assert environments(cache) == []
    assert removable_environments(cache) == []
