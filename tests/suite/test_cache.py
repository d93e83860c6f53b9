"""Which environments may go, and which stay."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from pytest_pyinstall.suite.cache import directory_of, environments, lease, throw_away, touch, unwanted
from pytest_pyinstall.system import locks

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def made(cache: Path, name: str, *, project: Path, days: float = 0) -> Path:
    path = directory_of(cache) / f"{name.encode().hex():0<16}-{0:016}"
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    marker = path / "suite.json"
    marker.write_text(json.dumps({"project": str(project)}), "utf-8")
    os.utime(marker, (time.time() - days * DAY,) * 2)
    return path


def test_what_was_not_used_for_a_month_may_go(cache: Path, tmp_path: Path) -> None:
    made(cache, "new", project=tmp_path)
    old = made(cache, "old", project=tmp_path, days=31)
    assert unwanted(cache) == [old]
    assert len(unwanted(cache, now=time.time() + 31 * DAY)) == 2


def test_use_is_noted_once_a_day(cache: Path, tmp_path: Path) -> None:
    today = made(cache, "today", project=tmp_path, days=0.5)
    before = (today / "suite.json").stat().st_mtime_ns
    touch(today)
    assert (today / "suite.json").stat().st_mtime_ns == before
    old = made(cache, "old", project=tmp_path, days=31)
    touch(old)
    assert unwanted(cache) == []
    touch(cache / "nothing")


def test_environments_of_a_project_or_a_python_that_is_gone_may_go(cache: Path, tmp_path: Path) -> None:
    gone = made(cache, "gone", project=tmp_path / "gone")
    headless = made(cache, "headless", project=tmp_path)
    (headless / "bin" / "python").unlink()
    made(cache, "whole", project=tmp_path)
    assert unwanted(cache) == [gone, headless]


def test_scratch_may_go_unless_somebody_is_at_it(cache: Path) -> None:
    scratch, gone = directory_of(cache) / ".abcdef0123456789.new", directory_of(cache) / ".abcdef0123456789.1.gone"
    scratch.mkdir(parents=True)
    gone.mkdir()
    assert unwanted(cache) == [gone, scratch]
    (directory_of(cache) / "notes").mkdir()  # not ours
    assert unwanted(cache) == [gone, scratch]
    with locks.hold(directory_of(cache) / ".abcdef0123456789.lock", timeout=9, purpose="", setting=""):
        assert unwanted(cache) == [gone]
        assert throw_away(scratch) is None
    assert throw_away(scratch) is not None
    assert not scratch.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs shared locks")
def test_what_is_leased_stays_as_long_as_anybody_has_it(cache: Path, tmp_path: Path) -> None:
    path = made(cache, "used", project=tmp_path)
    with lease(path) as first:
        with lease(path) as second:
            assert first
            assert second
            assert throw_away(path) is None
        assert throw_away(path) is None
    aside = throw_away(path)
    assert aside is not None
    assert aside.is_dir()
    assert environments(cache) == [aside]


def test_without_a_cache_there_is_nothing(cache: Path) -> None:
    assert environments(cache) == []
    assert unwanted(cache) == []
