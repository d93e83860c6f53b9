"""Damage of an installation is found without reading file contents, and harmless modes are not damage."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_installations import KEY, publish

from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.store import Store


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: (home / "lib/python3.12/os.py").unlink(),
        lambda home: (home / "bin/python3.12").write_bytes(b""),
        lambda home: (home / "bin/python3.12").chmod(0o600),
        lambda home: (home / "lib").rename(home / "lib64"),
    ],
    ids=["deleted", "emptied", "mode", "renamed"],
)
def test_p2_damage_is_found_without_reading_content(store: Store, damage: Callable[[Path], None]) -> None:
    home = publish(store).home
    damage(home)

    found = store.look(KEY)
    assert isinstance(found, BrokenInstallation)
    assert str(found).startswith((f"{KEY} is broken: ", f"{KEY} was moved or restored: bin/python3.12: has mode"))


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o711 | 0o044, 0o555, 0o500])
def test_p23_modes_that_we_can_use_are_not_damage(store: Store, mode: int) -> None:
    home = publish(store).home
    for directory, folders, names in os.walk(home, topdown=False):
        for name in (*folders, *names):
            path = Path(directory, name)
            if not path.is_symlink():
                is_file = path.is_file() and not path.stat().st_mode & 0o111
                path.chmod(mode & ~0o111 if is_file else mode)
    assert isinstance(store.look(KEY), Installation)
    assert store.verify(KEY) == ()


@pytest.mark.parametrize("mode", [0o757, 0o4755, 0o644])
def test_p23_modes_that_exclude_us_or_admit_others_are_damage(store: Store, mode: int) -> None:
    home = publish(store).home
    (home / "bin/python3.12").chmod(mode)
    assert isinstance(store.look(KEY), BrokenInstallation)
