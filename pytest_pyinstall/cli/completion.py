"""Shell completion, if argcomplete is installed: ``pytest-pyinstall[completion]``."""

from __future__ import annotations

import argparse
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.cli.parser import completed_parser
from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.request.request import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["complete"]


def complete() -> None:
    """Print the completions for the shell, and end the process. Does nothing if argcomplete is not installed."""
    try:
        import argcomplete
        from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter
    except ImportError:
        return
    completers: dict[object, Any] = {
        "REQUEST": _requests,
        "PYTHON": _requests,
        "DIR": DirectoriesCompleter(),
        "URL": FilesCompleter(),
        "FILE": FilesCompleter(),
    }
    parser = completed_parser()
    for action in _actions(parser):
        if action.metavar in completers:
            action.completer = completers[action.metavar]  # type: ignore[attr-defined]  # read by argcomplete
        elif isinstance(action.metavar, str) and "|" in action.metavar and not action.choices:
            action.choices = action.metavar.split("|")
    argcomplete.autocomplete(parser, default_completer=SuppressCompleter())


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no public attribute for it
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from chain.from_iterable(map(_actions, action.choices.values()))
        else:
            yield action


def _requests(prefix: str, **_: object) -> list[str]:
    """The installed Pythons, the minor versions in the catalogue, and words such as `supported`. Uses no network."""
    directory = Path.cwd()
    names = set(WORDS)
    try:
        configuration = read_configuration(directory)
        settings = configuration.make_settings(os.environ, directory=directory)
        provisioner = open_provisioner(settings, directory=directory)
        names |= {key.display_name for key in provisioner.store.keys() if key.target == provisioner.target}  # noqa: SIM118  # no dict
        if settings.catalogue is None or Path(settings.catalogue).is_file():
            keys = (
                build.key
                for build in provisioner.catalogues.configured.builds
                if build.key.target == provisioner.target
            )
            names |= {key.display_name.replace(key.number, key.minor_version) for key in keys}
    except PyinstallError:
        pass  # completion must not print messages
    return sorted(name for name in names if name.startswith(prefix))
