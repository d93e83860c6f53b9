"""A link such as ``cpython-3.12-…`` leads to the newest patch in the store."""

import os
from dataclasses import replace

from fake_installations import KEY, OLDER, names_in, publish

from pytest_pyinstall.store.store import Store


def test_the_minor_link_leads_to_the_newest_patch(store: Store) -> None:
    link = store.root / "cpython-3.12-linux-x86_64-gnu"
    publish(store)
    publish(store, OLDER)
    assert link.readlink() == store.home(KEY)

    store.remove(KEY)
    assert link.readlink() == store.home(OLDER)

    store.remove(OLDER)
    assert not os.path.lexists(link)


def test_the_minor_link_leads_to_a_prerelease_only_without_a_stable_version(store: Store) -> None:
    early = replace(KEY, number="3.13.0rc1")
    stable = replace(KEY, number="3.13.0")
    link = store.root / "cpython-3.13-linux-x86_64-gnu"
    publish(store, early)
    assert link.readlink() == store.home(early)
    publish(store, stable)
    assert link.readlink() == store.home(stable)


def test_only_cpython_has_a_minor_link(store: Store) -> None:
    publish(store, replace(KEY, implementation="pypy"))

    assert "pypy-3.12-linux-x86_64-gnu" not in names_in(store.root)


def test_a_directory_with_the_name_of_a_minor_link_is_not_replaced(store: Store) -> None:
    (store.root / KEY.minor_link).mkdir(parents=True)
    publish(store)

    assert (store.root / KEY.minor_link).is_dir()
    assert not (store.root / KEY.minor_link).is_symlink()
