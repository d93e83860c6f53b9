"""Adds installations to two stores: to ours with their records, and to uv's."""

import os
import re
import shutil
from pathlib import Path

__all__ = ["fill"]


def fill(ours: Path, theirs: Path, count: int) -> None:
    """Add `count` hardlinked copies of the installation in each, as later patch releases."""
    for store in (ours, theirs):
        home = next(path for path in store.iterdir() if re.match(r"cpython-\d+\.\d+\.\d+", path.name))
        match = re.match(r"cpython-(\d+\.\d+)\.(\d+)(.*)", home.name)
        assert match
        for number in range(count):
            name = f"cpython-{match[1]}.{int(match[2]) + 1000 + number}{match[3]}"
            shutil.copytree(home, store / name, symlinks=True, copy_function=os.link)
            records = store / ".pytest-pyinstall" / "records"
            if records.is_dir():
                text = (records / f"{home.name}.json").read_text("utf-8").replace(home.name, name)
                (records / f"{name}.json").write_text(text, "utf-8")
