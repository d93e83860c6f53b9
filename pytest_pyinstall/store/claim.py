"""The right to install one key of the store: publish, rebuild, remove."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import InUseError
from pytest_pyinstall.store._distributions import Packages, read_distributions
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import Entry, Record, find_differences, take_manifest
from pytest_pyinstall.system.locks import holder, seize
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_pyinstall.request.identity import Attestation, Build, Key
    from pytest_pyinstall.store._distributions import Distribution
    from pytest_pyinstall.store.store import Store
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["Claim", "Rebuilt"]


_LOGGER = StepLogger(__name__)


class Rebuilt(Value):
    """A tree from `Claim.rebuild`, the digests of its files, and the entries of `record` that the user replaced."""

    tree: Path
    known: FileDigests
    left_out: tuple[Entry, ...]
    record: Record


class Claim(Value):
    """The right to install `key`, which is held. `scratch` is an empty directory on the filesystem of the store."""

    store: Store
    key: Key
    scratch: Path
    installation: Installation | BrokenInstallation | None

    @property
    def home(self) -> Path:
        """Where `publish` puts the tree."""
        return self.store.home(self.key)

    def rebuild(self) -> Rebuilt | None:
        """Build a tree in `scratch` from the broken installation. None if the content of a file is lost.

        The installation does not change. Raises `StoreError`.
        """
        from pytest_pyinstall.store._rebuild import rebuild

        old = self.installation
        if old is None or old.record is None or old.record.distributions is None:
            return None
        entries = old.record.entries
        try:
            differences = find_differences(old.home, entries, content=True)
            packages = Packages(old.home, old.record.distributions, differences, content=True)
            names = packages.claimed.union(*(each.files for each in packages.gone))
            left_out = tuple(entry for entry in entries if entry.name in names)
            tree = self.scratch / "rebuilt"
            known = rebuild(old.home, (entry for entry in entries if entry.name not in names), tree)
        except OSError as error:
            raise self.store.access.unwritable(error) from error
        return None if known is None else Rebuilt(tree=tree, known=known, left_out=left_out, record=old.record)

    def publish(
        self,
        tree: Path,
        *,
        build: Build,
        version_info: tuple[int, int, int, str, int],
        keep_added: bool,
        known: FileDigests | None = None,
        attestation: Attestation | None = None,
        left_out: tuple[Entry, ...] = (),
        prove: Callable[[Path, tuple[str, ...]], object] | None = None,
    ) -> Installation:
        """Rename `tree`, a finished directory in `scratch`, to `home`, and write its record and minor link.

        A reader finds the old tree or the new one, never half of one or none (see `files.replace_directory`). The old
        tree is deleted when the claim ends. With `keep_added`, what the user added to it is copied into `tree` first;
        if there was anything, `prove` is called with the tree and the added names. `known` has digests of files in
        `tree`, which are then not read again. `left_out` are entries that `rebuild` left out of `tree`. Raises
        `LockTimeoutError`, `StoreError`, and what `prove` raises.
        """
        from importlib.metadata import version as version_of

        from pytest_pyinstall.system.files import replace_directory

        store, old = self.store, self.installation
        try:
            entries = tuple(sorted((*take_manifest(tree, known), *left_out), key=lambda entry: entry.name))
            published = read_distributions(tree, entries)
            if keep_added and old is not None and old.record is not None:
                if left_out:
                    published = old.record.distributions or published
                brought = self._bring_along(old.home, old.record, tree, published)
                if brought and prove is not None:
                    prove(tree, brought)
            with store.publishing():
                before = _inode(self.home)
                record = Record(
                    build=build,
                    home=str(self.home),
                    version_info=version_info,
                    entries=entries,
                    inode=tree.stat().st_ino,
                    replaces=before,
                    boot=store.boot,
                    distributions=published,
                    published=datetime.now(UTC).isoformat(timespec="seconds"),
                    by=f"pytest-pyinstall {version_of('pytest-pyinstall')}",
                    attestation=attestation,
                )
                # The record goes first: a tree without a record would pass for another program's.
                record.write(store.record_path(self.key), scratch_directory=self.scratch)
                replace_directory(tree, self.home)
                store.link_minor(self.key, self.scratch)
                store.make_lease(self.key)
        except OSError as error:
            raise store.access.unwritable(error) from error
        return Installation(key=self.key, home=self.home, record=record)

    def _bring_along(
        self, home: Path, record: Record, tree: Path, published: tuple[Distribution, ...]
    ) -> tuple[str, ...]:
        from pytest_pyinstall.archive.relocate import relocate_text
        from pytest_pyinstall.store._rebuild import bring_along

        def relocate(name: str, content: bytes) -> bytes:
            new, python = str(self.home), self.key.executable
            return relocate_text(name, content, prefixes={record.home}, home=new, python=python)

        return bring_along(
            home,
            tree,
            entries=record.entries,
            published=published,
            differences=find_differences(home, record.entries, content=True),
            relocate=relocate,
        )

    def remove(self) -> bool:
        """Move the installation into `scratch`, where it is deleted when the claim ends. False if there is none.

        The record goes last: if this process is killed before, what is left of the installation is broken and ours.

        Raises `InUseError` if another process has a `Store.lease` of it, and `StoreError`.
        """
        from pytest_pyinstall.system.files import move_or_delete

        store = self.store
        lease = store.lease_path(self.key)
        store.make_lease(self.key)  # uv creates none
        try:
            with store.publishing(), seize(lease) as is_unused:
                if not os.path.lexists(self.home):
                    return False
                if not is_unused:
                    msg = f"{self.key} was not removed: {holder(lease)} is using it"
                    raise InUseError(msg, hint=f"pytest-pyinstall remove {self.key}")
                move_or_delete(self.home, self.scratch / "removed")
                _LOGGER.info("%s: moved aside, to be deleted: %s", self.key, self.home)
                store.record_path(self.key).unlink(missing_ok=True)
                store.link_minor(self.key, self.scratch)
        except OSError as error:
            raise store.access.unwritable(error) from error
        return True


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0
