"""Spares the outer session of a suite the search for garbage in what was imported, which is none."""

import gc

import pytest

__all__ = ["search_again", "spare_the_search"]

_SPARED = pytest.StashKey[bool]()


def spare_the_search(config: pytest.Config) -> None:
    """Search for no garbage from now on, until `search_again`, and at the latest until the session is over.

    Whoever called pytest and manages the collector himself is left alone, and finds it in the end as it was.
    """
    if gc.isenabled() and hasattr(gc, "freeze") and not gc.get_freeze_count():  # PyPy has none to freeze
        gc.disable()
        config.stash[_SPARED] = True
        config.add_cleanup(_as_before)


def search_again(config: pytest.Config) -> None:
    """Search again, but not in what is there by now: pytest does it five times at the end of a session."""
    if config.stash.get(_SPARED, False):
        gc.freeze()
        gc.enable()


def _as_before() -> None:
    gc.unfreeze()
    gc.enable()
