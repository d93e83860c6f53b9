"""Provides an interpreter for a request: from the store, from this machine, or from a download.

    request ─resolve→ build ─install→ installation → interpreter
       └────── discover (already on this machine) ──────┘

`catalogues` resolves, and `installing` has the steps of ``install``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_pyinstall.catalogues import Catalogues
from pytest_pyinstall.errors import (
    FetchError,
    InvalidRequestError,
    NoMatchError,
    OfflineError,
    ProbeError,
    PyinstallError,
    SeveralFailedError,
    UsageError,
    printable,
    texts_of,
)
from pytest_pyinstall.installing import How, Installer
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.options import SETTINGS
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import ANY, Request, parse_requests
from pytest_pyinstall.settings import Settings, home_directory
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot, sweep_cache
from pytest_pyinstall.system.log import StepLogger
from pytest_pyinstall.system.permissions import other_writer
from pytest_pyinstall.system.processes import thread_limit
from pytest_pyinstall.system.signals import Terminated
from pytest_pyinstall.system.urls import redacted
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from pytest_pyinstall.download.client import Client, HttpClient
    from pytest_pyinstall.download.fetch import DownloadProgress
    from pytest_pyinstall.project import Project
    from pytest_pyinstall.request.identity import Key
    from pytest_pyinstall.store.installation import BrokenInstallation

__all__ = ["ProvisionResult", "Provisioner", "open_provisioner", "provision", "provision_all"]


_TRIES = 3
"""How often a Python is provided again that another process removed before it was leased."""


_LOGGER = StepLogger(__name__)


def provision(
    request: str | Request,
    settings: Settings | None = None,
    client: HttpClient | None = None,
) -> Interpreter:
    """Return the interpreter for `request`, and install it into the store if it is missing.

    Without `settings`, the environment variables apply. If you pass a `client`, an ``httpx.Client`` or
    ``httpx2.Client``, it makes the downloads, with its own authentication, proxies and certificates.

    Several threads and processes can call this at once. A Python that several of them need is downloaded once. Raises a
    `PyinstallError`: `InvalidRequestError`, `NoMatchError`, `FetchError`, `IntegrityError`, `StoreError` or
    `ProbeError`.
    """
    with open_provisioner(settings, client=client) as provisioner:
        return provisioner.provide_one(request).interpreter


def provision_all(
    requests: str | Iterable[str | Request],
    settings: Settings | None = None,
    client: HttpClient | None = None,
) -> list[Interpreter]:
    """Return the interpreters for `requests`, in their order, and install missing ones in parallel.

    A range or ``supported`` gives several interpreters. If one fails, the others are installed, and then
    `SeveralFailedError` is raised, whose ``results`` has them all. A single request raises its own error.
    """
    with open_provisioner(settings, client=client) as provisioner:
        results = provisioner.provide(provisioner.parse(requests))
    return [provided.interpreter for provided in unwrap(results)]


def open_provisioner(
    settings: Settings | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    client: HttpClient | None = None,
    progress: DownloadProgress | None = None,
    warn: Callable[[str], None] | None = None,
    on_result: Callable[[Request, ProvisionResult | PyinstallError, float], None] | None = None,
) -> Provisioner:
    """A `Provisioner` for this process, with its home directory and its interpreter.

    The defaults of `environ` and `directory` are those of this process. Without `settings`, the environment variables
    decide.
    """
    environ = os.environ if environ is None else environ
    directory = directory or Path.cwd()
    return Provisioner(
        settings=settings or Settings.from_environ(environ, directory=directory),
        environ=environ,
        user_home=home_directory(),
        directory=directory,
        executable=Path(sys.executable),
        http=client,
        progress=progress,
        warn=warn,
        on_result=on_result,
    )


class ProvisionResult(Value):
    """The interpreter for a request, and how it was provided.

    `how` is ``installed`` or ``repaired`` (now), ``present`` (in the store) or ``found`` (on the machine).
    """

    request: Request
    interpreter: Interpreter
    how: How


def unwrap(results: Sequence[ProvisionResult | PyinstallError]) -> list[ProvisionResult]:
    """`results`, if none is an error. Otherwise raises the error of the only result, or `SeveralFailedError`."""
    errors = [result for result in results if isinstance(result, PyinstallError)]
    if not errors:
        return [result for result in results if isinstance(result, ProvisionResult)]
    if len(results) == 1:
        raise errors[0]
    # If the catalogue cannot be reached, each of them has the same error: show it once.
    texts = texts_of((error.message for error in errors), (error.hint for error in errors))
    raise SeveralFailedError(
        f"{len(errors)} of {len(results)} Pythons could not be provided:\n\n" + "\n".join(texts),
        results=[result.interpreter if isinstance(result, ProvisionResult) else result for result in results],
    )


class Provisioner:
    """Provides interpreters for requests that share catalogues, connections and a store. Use it as a context manager.

    The project is the one around `directory`. Discovery and the network use `environ` and `user_home`. `warn` is called
    with each sentence that the user should see, `progress` with the downloads, and `on_result` with each request, its
    result and the seconds it took, in the order of the requests. Its methods can be called from several threads.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        environ: Mapping[str, str],
        user_home: Path,
        directory: Path,
        executable: Path,
        target: Target | None = None,
        http: HttpClient | None = None,
        progress: DownloadProgress | None = None,
        warn: Callable[[str], None] | None = None,
        on_result: Callable[[Request, ProvisionResult | PyinstallError, float], None] | None = None,
    ) -> None:
        self.settings = settings
        self.environ = environ
        self.user_home = user_home
        self.directory = directory
        self.executable = executable
        self.target = target or Target.current()
        self.http = http
        self.progress = progress
        self.warn = warn
        self.on_result = on_result
        self._stack = contextlib.ExitStack()
        self._lock = threading.RLock()
        self._opened: Client | None = None
        self._pinned: set[Request] = set()
        self.catalogues = Catalogues(
            settings=self.settings, target=self.target, client=lambda: self._client, say=self._say
        )
        for option in SETTINGS if _LOGGER.is_heard else ():
            if (value := getattr(self.settings, option.field)) is not None:
                origin = self.settings.origins.get(option.name, "default")
                _LOGGER.debug("setting %s: %s (%s)", option.name, redacted(str(value)), origin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._stack.close()

    def parse(self, requests: str | Iterable[str | Request], *, origin: str = "request") -> tuple[Request, ...]:
        """The requests that `requests` mean, in order, without duplicates.

        Raises `InvalidRequestError`, `NoMatchError`.
        """
        plain: list[Request] = []
        for request in [requests] if isinstance(requests, str) else requests:
            if isinstance(request, Request):
                plain.append(request)
            else:
                plain.extend(parse_requests([request], directory=self.directory, origin=origin))
        return tuple(dict.fromkeys(self.expand(plain)))

    def expand(self, requests: Iterable[Request]) -> tuple[Request, ...]:
        """`requests` with keywords (``supported``, ``pinned``) replaced by what they mean for this project."""
        requests = tuple(requests)
        if not any(request.word for request in requests):
            return requests

        from pytest_pyinstall.project import read_pinned, resolve_keywords

        def pinned() -> tuple[Request, ...]:
            found = read_pinned(self.directory)
            self._pinned.update(found)
            return found

        return resolve_keywords(
            requests,
            pinned=pinned,
            project=self.project,
            executable=self.executable,
            released=self.catalogues.released,
            today=self.today,
        )

    def notes_on_supported(self, requests: Iterable[Request], here: Container[str]) -> list[str]:
        """Sentences on the versions that ``supported`` or ``lowest`` leaves out, if it is one of `requests`."""
        words = {request.word for request in requests}
        if words.isdisjoint({"supported", "lowest"}) or self.project is None:
            return []
        from pytest_pyinstall.project import notes_on_supported

        return notes_on_supported(self.project, self.today, here)

    def provide_one(self, request: str | Request) -> ProvisionResult:
        """Provide `request`, as `provision` does. Raises `InvalidRequestError` if it means several Pythons."""
        requests = self.parse([request])
        if len(requests) != 1:
            text = request if isinstance(request, str) else request.text
            msg = f"{text!r} means {len(requests)} Pythons, but only one is allowed here"
            raise InvalidRequestError(msg, hint=requests[-1].text if requests else "3.13")
        return self._provide(requests[0])

    def provide(self, requests: Sequence[Request]) -> list[ProvisionResult | PyinstallError]:
        """Provide `requests` in parallel. Returns a result or a `PyinstallError` for each, in their order."""
        return self._each(self._provide, requests)

    def sweep(self) -> None:
        """Delete what killed processes left in store, cache and temporary directory. Raises nothing."""
        from pytest_pyinstall.system.temporary import sweep_temporary

        cache = self.settings.cache
        if other_writer(cache) is None:
            sweep_cache(cache)
        self.store.sweep()
        sweep_temporary(self.environ)

    def install(
        self, requests: Sequence[Request], *, reinstall: bool = False
    ) -> list[ProvisionResult | PyinstallError]:
        """Like `provide`, but only from the store. With `reinstall`, Pythons are installed even if they are present."""
        self.sweep()
        return self._each(lambda request: self._install(request, reinstall=reinstall, is_explicit=True), requests)

    def find(self, request: Request) -> ProvisionResult:
        """The interpreter for `request` in the store or on this machine. Installs, repairs and downloads nothing.

        Raises `NoMatchError`, and `ProbeError` for a path that is not a Python.
        """
        with self._naming_the_pin(request):
            return self._find(request)

    def _find(self, request: Request) -> ProvisionResult:
        broken: list[BrokenInstallation] = []
        dead: list[str] = []
        for look in self._looks(request, repair=False, broken=broken, dead=dead):
            if provided := look(request):
                return provided
        if broken:
            raise NoMatchError(str(broken[0]), hint=f"pytest-pyinstall verify --repair {broken[0].key}")
        msg = f"no Python {request.text} found"
        if dead:
            more = f", and so are {len(dead) - 1} more" if len(dead) > 1 else ""
            msg = f"{msg} that works; {dead[0]}{more}"
        raise NoMatchError(msg, hint=f"pytest-pyinstall install {shlex.quote(request.text)}")

    def foresee(self, request: Request) -> Interpreter | Key:
        """The interpreter for `request` if it is present, otherwise the key of the build that `provide` would install.

        Installs and repairs nothing. May read a catalogue from the network. Raises `NoMatchError`, `CatalogueError`,
        `FetchError`, and `ProbeError` for a path that is not a Python.
        """
        try:
            return self.find(request).interpreter
        except NoMatchError:
            if request.path is not None or self.settings.preference == "only-system":
                raise
        return self.catalogues.resolve(request).key

    @cached_property
    def cached_catalogues(self) -> Catalogues:
        """`catalogues` without a connection: files, and copies in the cache."""
        if self.settings.offline:
            return self.catalogues
        settings = self.settings._replace(offline=True)
        return Catalogues(settings=settings, target=self.target, client=lambda: self._client)

    def machine(
        self, requests: Sequence[Request] = (), *, on_broken: Callable[[Path, ProbeError], None] | None = None
    ) -> list[Interpreter]:
        """The interpreters outside of the store, newest first: all, or those that fit one of `requests`."""
        from pytest_pyinstall.interpreter.discover import discover

        found = {
            each.executable: each
            # A file whose name belongs to another Python is not run, and so is never reported as broken.
            for request in ([ANY] if any(each.path for each in requests) else requests or [ANY])
            for each in discover(
                request,
                environ=self.environ,
                home=self.user_home,
                target=self.target,
                current=self.executable,
                allow_prereleases=True,
                on_skip=on_broken,
                at_once=2 * (os.cpu_count() or 1),
            )
        }.values()
        root = Path(os.path.realpath(self.store.root))
        others = [each for each in found if not Path(os.path.realpath(each.base_prefix)).is_relative_to(root)]
        wanted = [
            each
            for each in others
            if not requests
            or any(request.fits(each.key, target=self.target, allow_prereleases=True) for request in requests)
        ]
        return sorted(wanted, key=lambda each: each.key, reverse=True)

    def repair(self, broken: BrokenInstallation) -> Interpreter:
        """Replace a broken installation by what was published, and keep the files that the user added.

        Processes that use it are not disturbed. Raises the error of the failed repair.
        """
        try:
            return self.installer.install(broken.record.build, keep_added=True)[0]
        except PyinstallError as error:
            raise type(error)(f"{broken}, and it could not be repaired: {error.message}", hint=error.hint) from error

    @property
    def today(self) -> date:
        """The day that decides which versions are maintained."""
        from datetime import UTC, datetime

        return datetime.now(UTC).date()

    def lease(self, interpreter: Interpreter) -> bool:
        """Prevent the removal of `interpreter` while this provisioner is open. False if it is not from the store."""
        return self._stack.enter_context(self.store.lease(interpreter.base_prefix))

    def lease_or_reprovide(self, result: ProvisionResult | PyinstallError) -> ProvisionResult | PyinstallError:
        """`result`, with a `lease` of its interpreter. If another process has just removed it, provide it again."""
        for _ in range(_TRIES):
            if isinstance(result, PyinstallError):
                break
            self.lease(result.interpreter)
            if result.interpreter.executable.exists():
                break  # from now on it cannot be removed
            _LOGGER.info("%s: another process removed it before it was leased", result.interpreter.key)
            try:
                result = self._provide(result.request)
            except PyinstallError as error:
                result = error
        return result

    @cached_property
    def store(self) -> Store:
        return Store(
            root=self.settings.store,
            lock_timeout=self.settings.lock_timeout,
            boot=current_boot(),
            trusted=self.settings.trusted_stores,
            on_wait=self._say,
        )

    @cached_property
    def installer(self) -> Installer:
        """Installs builds into `store`."""
        return Installer(
            settings=self.settings,
            environ=self.environ,
            target=self.target,
            store=self.store,
            catalogues=self.catalogues,
            client=lambda: self._client,
            progress=self.progress,
            say=self._say,
        )

    @cached_property
    def project(self) -> Project | None:
        """The project around `directory`, read when a request first needs it."""
        from pytest_pyinstall.project import read_project

        return read_project(self.directory)

    @property
    def _client(self) -> Client:
        with self._lock:
            if self._opened is None:
                from pytest_pyinstall.download.client import open_client

                self._opened = self._stack.enter_context(
                    open_client(
                        environ=self.environ,
                        insecure_hosts=self.settings.insecure_hosts,
                        warn=self._say,
                        http=self.http,
                    )
                )
            return self._opened

    def _provide(self, request: Request) -> ProvisionResult:
        preference = self.settings.preference
        _LOGGER.debug("%s: requested; preference %s", request.text, preference)
        for look in self._looks(request, repair=True):
            if provided := look(request):
                return provided
        if preference == "only-system":
            decided = self.settings.decided("preference")
            msg = f"no Python {request.text} is on this machine, and none may be installed ({decided})"
            raise NoMatchError(msg, hint=self.settings.example("preference", "system"))
        return self._add(request)

    def _looks(
        self,
        request: Request,
        *,
        repair: bool,
        broken: list[BrokenInstallation] | None = None,
        dead: list[str] | None = None,
    ) -> list[Callable[[Request], ProvisionResult | None]]:
        """The places to look for an interpreter before anything is installed, in order."""
        present = partial(self._present, repair=repair, broken=broken)
        found = partial(self._found, dead=dead)
        if request.path is not None:
            return [found]
        if self.settings.attestation == "require":
            # Only installations in the store have attestations.
            if self.settings.preference == "only-system":
                required, used = self.settings.decided("attestation"), self.settings.decided("preference")
                msg = f"attestations are required ({required}), but only Pythons without one may be used ({used})"
                raise UsageError(msg, hint=self.settings.example("preference", "only-managed"))
            return [present]
        match self.settings.preference:
            case "managed":
                return [present, found]
            case "only-managed":
                return [present]
            case "system":
                return [found, present]
            case "only-system":
                return [found]

    def _found(self, request: Request, *, dead: list[str] | None = None) -> ProvisionResult | None:
        """A Python of the machine, outside our store. Those that do not start are reported, or added to `dead`."""
        from pytest_pyinstall.interpreter.discover import discover

        interpreters = discover(
            request,
            environ=self.environ,
            home=self.user_home,
            target=self.target,
            current=self.executable,
            on_skip=lambda _, error: self._say(error.message) if dead is None else dead.append(error.message),
        )
        interpreter = next(interpreters, None)
        if interpreter is None:
            _LOGGER.debug("%s: nothing on this machine outside the store fits", request.text)
            return None
        _LOGGER.debug(
            "%s: selected: %s, found by %s, is %s",
            request.text,
            interpreter.executable,
            interpreter.source,
            interpreter.key,
        )
        return ProvisionResult(request=request, interpreter=interpreter, how="found")

    def _present(
        self,
        request: Request,
        *,
        repair: bool,
        allow_prereleases: bool = False,
        broken: list[BrokenInstallation] | None = None,
    ) -> ProvisionResult | None:
        """An installation in the store that is complete and starts, or None.

        With `repair`, a damaged one is repaired. Without, it is skipped and added to `broken`.
        """
        for key in self.store.keys():  # noqa: SIM118  # no dict
            if not request.fits(key, target=self.target, allow_prereleases=allow_prereleases):
                _LOGGER.debug("%s: skipped: %s in the store is another Python", request.text, key)
                continue
            found = self.installer.examine(key)
            if isinstance(found, Interpreter):
                _LOGGER.debug("%s: selected: %s in the store, complete", request.text, key)
                return ProvisionResult(request=request, interpreter=found, how="present")
            if found is not None and repair:
                self._say(f"{found}; {'repairing it' if found.lacks_content else 'rebuilding it from its own files'}")
                return ProvisionResult(request=request, interpreter=self.repair(found), how="repaired")
            if found is not None and broken is not None:
                broken.append(found)
            _LOGGER.debug("%s: skipped: %s in the store cannot be used", request.text, key)
        _LOGGER.debug("%s: nothing in the store %s fits", request.text, self.store.root)
        return None

    def _install(self, request: Request, *, reinstall: bool = False, is_explicit: bool = False) -> ProvisionResult:
        if not reinstall and (provided := self._present(request, repair=True)):
            return provided
        return self._add(request, reinstall=reinstall, is_explicit=is_explicit)

    def _add(self, request: Request, *, reinstall: bool = False, is_explicit: bool = False) -> ProvisionResult:
        """Install the best build for `request`."""
        try:
            if request.path is not None:
                what = "the running interpreter" if request.text == "current" else "a path"
                msg = f"{request.text} is {what}: it can be used, but not installed"
                raise NoMatchError(msg, hint="pytest-pyinstall install 3.12")
            self._refuse_downloads(request.text, is_explicit=is_explicit)
            build = self.catalogues.resolve(request)
            _LOGGER.info(
                "%s: the best build for it is %s of release %s, by the catalogue %s",
                request.text,
                build.key,
                build.tag,
                self.catalogues.origin_of(build),
            )
        except (NoMatchError, FetchError):
            if not reinstall and (provided := self._present(request, repair=True, allow_prereleases=True)):
                return provided
            raise
        interpreter, how = self.installer.install(build, reinstall=reinstall)
        return ProvisionResult(request=request, interpreter=interpreter, how=how)

    def _refuse_downloads(self, what: str, *, is_explicit: bool) -> None:
        downloads = self.settings.downloads
        if downloads == "auto" or (downloads == "manual" and is_explicit):
            return
        # Perhaps there is one on the machine that may not be used.
        settings = self.settings
        only_store = is_explicit or settings.preference == "only-managed" or settings.attestation == "require"
        place = "in the store" if only_store else "installed"
        msg = f"Python {what} is not {place}, and downloads are switched off ({settings.decided('downloads')})"
        allowing = self.settings.example("downloads", "auto")
        hint = f"pytest-pyinstall install {what}" if downloads == "manual" else allowing
        raise OfflineError(msg, hint=hint)

    def _each(
        self, function: Callable[[Request], ProvisionResult], requests: Sequence[Request]
    ) -> list[ProvisionResult | PyinstallError]:
        def outcome(request: Request) -> tuple[ProvisionResult | PyinstallError, float]:
            start = time.monotonic()
            result: ProvisionResult | PyinstallError
            try:
                with self._naming_the_pin(request):
                    result = function(request)
            except PyinstallError as error:
                result = error
            return result, time.monotonic() - start

        def reported(
            request: Request, result: ProvisionResult | PyinstallError, seconds: float
        ) -> ProvisionResult | PyinstallError:
            if self.on_result is not None:
                self.on_result(request, result, seconds)
            return result

        try:
            if len(requests) < 2:
                return [reported(request, *outcome(request)) for request in requests]
            return self._in_parallel(outcome, reported, requests)
        except (KeyboardInterrupt, Terminated):
            if self._opened is not None and self._opened.has_partial:
                self._say("partial downloads are kept; the next run resumes them")
            raise

    def _in_parallel(
        self,
        outcome: Callable[[Request], tuple[ProvisionResult | PyinstallError, float]],
        reported: Callable[[Request, ProvisionResult | PyinstallError, float], ProvisionResult | PyinstallError],
        requests: Sequence[Request],
    ) -> list[ProvisionResult | PyinstallError]:
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor(max_workers=min(4, len(requests)), thread_name_prefix="pyinstall")
        try:
            with thread_limit():
                outcomes = executor.map(outcome, requests)
                return [reported(request, *each) for request, each in zip(requests, outcomes, strict=True)]
        except BaseException:
            self._stop()  # Ctrl-C: stop the other downloads
            raise
        finally:
            executor.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def _naming_the_pin(self, request: Request) -> Iterator[None]:
        """If nothing matches a request that ``pinned`` found in a file, add the file to the message."""
        try:
            yield
        except NoMatchError as error:
            from pytest_pyinstall.project import pin_file

            if request not in self._pinned or (file := pin_file(self.directory)) is None:
                raise
            place = file.name if file.parent == self.directory else file
            raise NoMatchError(f"{place}: {error.message}", hint=error.hint) from error

    def _stop(self) -> None:
        if self._opened is not None:  # otherwise nothing was downloaded
            self._opened.stop()

    def _say(self, sentence: str) -> None:
        if self.warn is not None:
            self.warn(printable(sentence))
