"""Which environments may go, and which stay."""

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


def test_what_was_not_used_for_a_month_may_go(cache: Path, tmp_path: Path) -> None:
    made(cache, "new", project=tmp_path)
    old = made(cache, "old", project=tmp_path, days=31)
    assert removable_environments(cache) == [old]
    assert len(removable_environments(cache, now=time.time() + 31 * DAY)) == 2


def test_use_is_noted_once_a_day(cache: Path, tmp_path: Path) -> None:
    today = made(cache, "today", project=tmp_path, days=0.5)
    before = (today / "suite.json").stat().st_mtime_ns
    note_use(today)
    assert (today / "suite.json").stat().st_mtime_ns == before
    old = made(cache, "old", project=tmp_path, days=31)
    note_use(old)
    assert removable_environments(cache) == []
    note_use(cache / "nothing")


def test_environments_of_a_project_or_a_python_that_is_gone_may_go(cache: Path, tmp_path: Path) -> None:
    gone = made(cache, "gone", project=tmp_path / "gone")
    headless = made(cache, "headless", project=tmp_path)
    (headless / "bin" / "python").unlink()
    made(cache, "whole", project=tmp_path)
    assert removable_environments(cache) == [gone, headless]


def test_scratch_may_go_unless_somebody_is_at_it(cache: Path) -> None:
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
def test_what_is_leased_stays_as_long_as_anybody_has_it(cache: Path, tmp_path: Path) -> None:
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


def test_without_a_cache_there_is_nothing(cache: Path) -> None:
    assert environments(cache) == []
    assert removable_environments(cache) == []
