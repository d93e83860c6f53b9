"""Runs the steps from a build to a published installation:

    build ─fetch═unpack→ tree ─finish, probe, publish→ installation → interpreter

`Installer.install` runs these steps; they do not call each other. It is the only way into the store.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Literal

from pytest_pyinstall.errors import OfflineError, ProbeError, PyinstallError, StoreError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.store.installation import BrokenInstallation, Installation
from pytest_pyinstall.store.manifest import Difference
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.permissions import is_noexec
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_pyinstall.catalogues import Catalogues
    from pytest_pyinstall.download.client import Client
    from pytest_pyinstall.download.fetch import DownloadProgress
    from pytest_pyinstall.request.identity import Attestation, Build, Key, Target
    from pytest_pyinstall.settings import Settings
    from pytest_pyinstall.store.store import Store
    from pytest_pyinstall.system.files import FileDigests

__all__ = ["How", "Installer"]


How = Literal["installed", "repaired", "present", "found"]


_LOGGER = StepLogger(__name__)


class Installer(Value):
    """Installs builds into `store`. Its methods can be called from several threads.

    `client` is called when something has to be downloaded. `say` is called with each sentence that the user should see,
    `progress` with the downloads.
    """

    settings: Settings
    environ: Mapping[str, str]
    target: Target
    store: Store
    catalogues: Catalogues
    client: Callable[[], Client]
    progress: DownloadProgress | None
    say: Callable[[str], None]

    def install(self, build: Build, *, reinstall: bool = False, keep_added: bool = False) -> tuple[Interpreter, How]:
        """Install `build`: claim its key, fetch, unpack, finish, probe, publish. Returns the interpreter, and how.

        If another process has installed it in the meantime, nothing is done, unless `reinstall`. With `keep_added`, a
        broken installation is repaired: from its own files if none has lost its content, and with what the user added
        to it. Afterwards the installation is complete, or nothing has changed. Raises `PyinstallError`.
        """
        since = time.monotonic()
        if (
            not (reinstall or keep_added)
            and self.store.wait(build.key, since=since)
            # Without the claim: of many processes that waited, all look at once.
            and (interpreter := self._installed_meanwhile(self.store.look(build.key)))
        ):
            return interpreter, "present"
        # Only a comparison of the content shows every kind of damage.
        with self.store.claim(build.key, content=keep_added, since=since) as claim:
            if not reinstall and (interpreter := self._installed_meanwhile(claim.installation)):
                return interpreter, "present"
            _LOGGER.debug("%s: claimed; the work is done in %s", build.key, claim.scratch)
            was_broken = claim.installation is not None and self._is_attested(claim.installation)
            rebuilt = claim.rebuild() if keep_added and was_broken else None
            if rebuilt is None:
                attestation = self._attestation(build)
                tree, known = self._unpacked(build, claim.scratch)
                _LOGGER.debug("%s: unpacked", build.key)
            else:
                attestation, tree, known = rebuilt.record.attestation, rebuilt.tree, rebuilt.known
                _LOGGER.info("%s: rebuilt from its own files; no content is lost", build.key)
            from pytest_pyinstall.archive.finish import finish

            prefixes = {rebuilt.record.home} if rebuilt else set()
            finish(tree, key=build.key, home=claim.home, tag=build.tag, prefixes=prefixes)
            proven = self._prove(tree, build)
            _LOGGER.debug("%s: it runs here, and is the Python that its key says", build.key)
            published = claim.publish(
                tree,
                build=build,
                version_info=proven.version_info,
                keep_added=keep_added,
                known=known,
                attestation=attestation,
                left_out=rebuilt.left_out if rebuilt else (),
                prove=partial(self._prove_with_added, key=build.key),
            )
            _LOGGER.info("%s: published as %s", build.key, published.home)
        return _ours(
            published.key, published.home, proven.version_info
        ), "repaired" if was_broken and not reinstall else "installed"

    def _installed_meanwhile(self, found: Installation | BrokenInstallation | None) -> Interpreter | None:
        interpreter = self._interpreter(found)
        if not isinstance(interpreter, Interpreter):
            return None
        _LOGGER.info("%s: another process installed it meanwhile", interpreter.key)
        return interpreter

    def _attestation(self, build: Build) -> Attestation | None:
        """The attestation of the archive, or None if the settings require none. Downloaded before the archive."""
        settings = self.settings
        if settings.attestation != "require":
            return None
        from pytest_pyinstall.download.attestations import attest

        with self._naming_who_forbids_downloads():
            attestation = attest(
                build,
                mirror=settings.mirror,
                pypy_mirror=settings.pypy_mirror,
                signer=settings.signer,
                client=self.client(),
                cache=settings.cache,
                offline=settings.offline or settings.downloads == "never",
            ).attestation
        _LOGGER.info("%s: built by %s", build.key, attestation.identity)
        return attestation

    def _unpacked(self, build: Build, scratch: Path) -> tuple[Path, FileDigests]:
        """The tree of `build` in `scratch` and the digests of its files, from the cache or from a download."""
        from pytest_pyinstall.download.cache import archive_path
        from pytest_pyinstall.request.catalogue import mirrored
        from pytest_pyinstall.store.tree_cache import add_tree, link_tree, trees_directory

        settings = self.settings
        try:
            laid = link_tree(settings.cache, build, into=scratch)
        except OSError as error:
            raise self.store.access.unwritable(error) from error
        if laid is not None:
            place = trees_directory(settings.cache) / build.sha256
            _LOGGER.info(
                "%s: the unpacked archive is in the cache; each file has the right sha256: %s", build.key, place
            )
            return laid
        if not archive_path(settings.cache, build).exists():
            build = self._downloadable(build)
        url = mirrored(build, mirror=settings.mirror, pypy_mirror=settings.pypy_mirror)
        is_again = archive_path(settings.cache, build).exists()
        offline = settings.offline or settings.downloads == "never"  # a repair may find everything in the cache
        if not is_again and not offline:
            self.client().warm_up(url)  # while we import the rest
        from pytest_pyinstall.archive.streaming import StreamedUnpack
        from pytest_pyinstall.catalogues import naming_the_mirror
        from pytest_pyinstall.download.fetch import fetch

        client = self.client()
        known: FileDigests = {}
        busy = self._busy(f"installing {build.key}") if is_again else contextlib.nullcontext()
        with busy, StreamedUnpack(build, into=scratch, known=known, is_stopped=lambda: client.is_stopped) as stream:
            with self._naming_who_forbids_downloads(), naming_the_mirror(settings, url):
                archive = fetch(
                    build,
                    url=url,
                    cache=settings.cache,
                    client=client,
                    offline=offline,
                    progress=self.progress,
                    sink=stream,
                )
            with archive.file:
                tree = stream.tree(archive)
        if is_again:
            add_tree(settings.cache, build, tree, known)
        return tree, known

    def _busy(self, sentence: str) -> contextlib.AbstractContextManager[None]:
        """A block that a terminal announces if it takes long: for a cached archive there is no progress bar."""
        busy = getattr(self.progress, "busy", None)
        return contextlib.nullcontext() if busy is None else busy(sentence)

    def _downloadable(self, build: Build) -> Build:
        """`build` with its URL in the catalogue: the URL in a record has no user, password or query."""
        if self.settings.catalogue is not None:
            with contextlib.suppress(PyinstallError):
                return next((each for each in self.catalogues.configured.builds if each.sha256 == build.sha256), build)
        return build

    def _prove(self, tree: Path, build: Build) -> Interpreter:
        """Run the Python in `tree`. Raises an error if it does not start here, or is not what its key says.

        The archives contain no byte code, and compiling what a start imports takes longer than the start itself.
        """
        from pytest_pyinstall.interpreter.probe import probe

        try:
            return probe(tree / build.key.executable, environ=self.environ, expected=build.key, write_byte_code=True)
        except ProbeError as error:
            if is_noexec(tree):
                msg = f"nothing can be started from the store {self.settings.store}: its volume is mounted noexec"
                raise StoreError(msg, hint="a store on another volume: --python-store DIR") from error
            if build.key.target != self.target:
                msg = f"{build.key} is built for {build.key.target} and does not start here, on {self.target}: "
                raise ProbeError(
                    msg + error.message, hint=f"pytest-pyinstall install {build.key.display_name}"
                ) from error
            msg = f"{build.file_name} does not contain a {build.key.display_name} that works here: {error.message}"
            origin = self.catalogues.origin_of(build)
            hint = f"pytest-pyinstall list --all  # is the catalogue right about it? ({origin})"
            raise ProbeError(msg, hint=hint) from error

    def _prove_with_added(self, tree: Path, names: Sequence[str], *, key: Key) -> None:
        """Run the Python in `tree`, to which `names` were added. Raises `ProbeError` if they prevent its start."""
        from pytest_pyinstall.interpreter.probe import probe

        try:
            probe(tree / key.executable, environ=self.environ, expected=key)
        except ProbeError as error:
            # The files that Python runs at every start come first: most likely one of them is the cause.
            names = sorted(names, key=lambda name: not name.endswith((".pth", "customize.py")))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            msg = f"{key} starts as published, but not with the files that were added ({', '.join(names[:3])}{more})"
            hint = f"to remove the added files: pytest-pyinstall install --reinstall {key}"
            raise ProbeError(f"{msg}: {error.message}", hint=hint) from error

    def examine(self, key: Key) -> Interpreter | BrokenInstallation | None:
        """Compare the installation of `key` with its record, then run it. None if it cannot be used here.

        If it does not start, its content is compared too. It is broken even if the content is right, because the record
        does not list byte code.
        """
        found = self.store.look(key)
        if found is None or isinstance(found, BrokenInstallation):
            return found if found is None or self._is_attested(found) else None
        answer = self._interpreter(found)
        if not isinstance(answer, ProbeError):
            return answer
        found = self.store.look(key, content=True)
        if isinstance(found, Installation) and found.record is not None:
            reason = Difference(name=key.executable, what="changed", reason=f"does not start: {answer.message}")
            return BrokenInstallation(key=key, home=found.home, record=found.record, differences=(reason,))
        return found if isinstance(found, BrokenInstallation) else None

    def _interpreter(self, found: Installation | BrokenInstallation | None) -> Interpreter | ProbeError | None:
        """Run the Python of an installation. Returns the error if we published it and it does not start."""
        if not isinstance(found, Installation):
            return None
        if not self._is_attested(found):
            _LOGGER.info("%s: skipped: when it was installed, its archive had no attestation", found.key)
            return None
        from pytest_pyinstall.interpreter.probe import probe

        source = "uv" if found.record is None else "store"
        try:
            answered = probe(found.executable, source=source, environ=self.environ, expected=found.key)
        except ProbeError as error:
            if not self.store.tree_identity(found.key):  # another process removed it
                return None
            if found.record is not None:
                return error
            self.say(f"skipping {found.home}, which another program installed: {error.message}")
            return None
        return answered if found.record is None else _ours(found.key, found.home, answered.version_info)

    def _is_attested(self, found: Installation | BrokenInstallation) -> bool:
        """Whether its archive has an attestation of the signer in the settings, if they require one."""
        if self.settings.attestation != "require":
            return True
        attestation = found.record.attestation if found.record else None
        return attestation is not None and attestation.is_by(self.settings.signer)

    @contextlib.contextmanager
    def _naming_who_forbids_downloads(self) -> Iterator[None]:
        """Add to an `OfflineError` the setting that caused it, and the value that allows downloads."""
        try:
            yield
        except OfflineError as error:
            origins = self.settings.origins
            name, value = ("downloads", "auto") if self.settings.downloads != "auto" else ("offline", "0")
            if (origin := origins.get(name)) is None:
                raise  # a command that never downloads
            raise OfflineError(f"{error.message} ({origin})", hint=self.settings.example(name, value)) from error


def _ours(key: Key, home: Path, version_info: tuple[int, int, int, str, int]) -> Interpreter:
    """The interpreter of an installation, from its record: it was probed when it was published."""
    executable = home / key.executable
    return Interpreter(
        executable=executable,
        key=key,
        version_info=version_info,
        prefix=home,
        base_prefix=home,
        base_executable=executable,
        source="store",
    )
