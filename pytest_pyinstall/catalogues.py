"""The catalogues that requests are resolved against.

If no catalogue is configured, these are the list in ``pbs-installer``, and the list that uv publishes, for the builds
that ``pbs-installer`` lacks.
"""

from __future__ import annotations

import contextlib
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_pyinstall.errors import CatalogueError, FetchError, IntegrityError, NoMatchError, OfflineError
from pytest_pyinstall.system.log import StepLogger, said_if_slow
from pytest_pyinstall.system.urls import is_local, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packaging.version import Version

    from pytest_pyinstall.download.client import Client
    from pytest_pyinstall.request.catalogue import Catalogue
    from pytest_pyinstall.request.identity import Build, Target
    from pytest_pyinstall.request.request import Request
    from pytest_pyinstall.settings import Settings

__all__ = ["Catalogues", "naming_the_mirror"]


_DAY = 86400.0


_NO_DOCUMENT = "cannot download the document that uv publishes"


_LOGGER = StepLogger(__name__)


@contextlib.contextmanager
def naming_the_mirror(settings: Settings, url: str) -> Iterator[None]:
    """If `url` is in a mirror, add to an error of its download the setting that has the mirror, and a hint for it.

    The error has one of the classes in `errors`, and not one that only this package knows.
    """
    try:
        yield
    except (FetchError, IntegrityError) as error:
        named = {name: getattr(settings, name) or "" for name in ("pypy_mirror", "mirror")}
        is_in = {name: mirror and url.startswith(mirror.partition("?")[0]) for name, mirror in named.items()}
        name = next((name for name in named if is_in[name]), "")
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == FetchError.__module__)
        if isinstance(error, OfflineError) or (origin := settings.origins.get(name)) is None:
            if kind is type(error):
                raise
            raise kind(error.message, error.hint) from error
        raise kind(f"{error.message} ({origin})", _mirror_hint(error, settings, named[name])) from error


def _mirror_hint(error: FetchError | IntegrityError, settings: Settings, mirror: str) -> str:
    from pytest_pyinstall.download.fetch import HINT_RETRY, MissingFileError

    # A mirror from `mirror pull` or `mirror pack` has its own builds, and the default catalogue has others.
    if isinstance(error, MissingFileError) and settings.catalogue in {None, "pbs", "uv"} and (own := _beside(mirror)):
        it_has = "the mirror has" if is_local(mirror) else "if the mirror has"
        return f"{it_has} a catalogue of its own: --python-catalogue {own}"
    if error.hint == HINT_RETRY:
        return "try again later; another mirror: --python-mirror URL or DIR; a proxy: HTTPS_PROXY=http://host:port"
    return error.hint


def _beside(mirror: str) -> str:
    """The catalogue of `mirror`, to be typed. Empty if the mirror is a directory without one."""
    import shlex

    place = mirror.rstrip("/") + "/catalogue.json"
    if "?" in place:
        return ""
    if is_local(place):
        from pytest_pyinstall.download.local import open_file_url

        try:
            open_file_url(place).close()
        except FetchError:
            return ""
    return shlex.quote(redacted(place))


class Catalogues:
    """Reads each catalogue once, when it is first needed, from any number of threads.

    `client` is called when a catalogue has to be downloaded, and `say` if that takes longer than a second.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        target: Target,
        client: Callable[[], Client],
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.target = target
        self.client = client
        self.say = say
        self._lock = threading.RLock()
        self._errors: dict[str, FetchError] = {}

    @property
    def configured(self) -> Catalogue:
        """The catalogue of the setting ``catalogue``, or that of ``pbs-installer``.

        Raises `CatalogueError`, `FetchError`.
        """
        with self._lock, self._failing_once("configured"):
            return self._configured

    @contextlib.contextmanager
    def _failing_once(self, name: str) -> Iterator[None]:
        """Raise the error of the first time again, without other attempts: there is a thread for each Python."""
        if error := self._errors.get(name):
            raise type(error)(error.message, hint=error.hint) from error
        try:
            yield
        except FetchError as error:
            self._errors[name] = error
            raise

    @cached_property
    def _configured(self) -> Catalogue:
        from pytest_pyinstall.request.catalogue import default_catalogue, parse_catalogue

        place = self.settings.catalogue
        if place == "uv":
            return self.uv
        if place in {None, "pbs"}:
            catalogue = default_catalogue()
        else:
            with self._naming_the_catalogue():
                with self._waiting(f"waiting for the catalogue {redacted(place)}") as on_retry:
                    text = self._text_of(place, on_retry)
                catalogue = parse_catalogue(text, origin=place)
        _LOGGER.debug(
            "catalogue %s: %d builds, and %d without a sha256, which are not used",
            catalogue.origin,
            len(catalogue.builds),
            len(catalogue.without_digest),
        )
        return catalogue

    @contextlib.contextmanager
    def _waiting(self, sentence: str) -> Iterator[Callable[[], object]]:
        """Say `sentence` if the ``with`` block is slow, unless its value was called: a retry has its own message."""
        retries: list[None] = []

        def say(sentence: str) -> None:
            if self.say is not None and not retries:
                self.say(sentence)

        with said_if_slow(say, sentence):
            yield lambda: retries.append(None)

    def _text_of(self, place: str, on_retry: Callable[[], object]) -> bytes:
        if is_local(place):  # without the HTTP library, because a process that only waits for another needs none
            from pytest_pyinstall.download.local import read_local

            return read_local(place)
        from pytest_pyinstall.download.documents import fetch_text

        settings = self.settings
        return fetch_text(
            place, client=self.client(), cache=settings.cache, offline=settings.offline, on_retry=on_retry
        )

    @contextlib.contextmanager
    def _naming_the_catalogue(self) -> Iterator[None]:
        """Add to an error the setting that has the catalogue."""
        try:
            yield
        except FetchError as error:
            origin = self.settings.origins.get("catalogue")
            if origin is None:
                raise
            place = self.settings.catalogue or ""
            inside = _beside(place) if is_local(place) else ""  # a mirror, instead of its catalogue
            hint = f"--python-catalogue {inside}" if inside else error.hint
            raise type(error)(f"{error.message} ({origin})", hint=hint) from error

    @property
    def uv(self) -> Catalogue:
        """The builds in `uv_document`. Raises `CatalogueError`, `FetchError`."""
        with self._lock, self._failing_once("uv"):
            return self._uv

    @cached_property
    def _uv(self) -> Catalogue:
        from pytest_pyinstall.request.catalogue import UV_NAME, document_place, parse_catalogue

        catalogue = parse_catalogue(self.uv_document, origin=document_place(self.settings.mirror), name=UV_NAME)
        _LOGGER.debug("catalogue %s: %d builds", catalogue.origin, len(catalogue.builds))
        return catalogue

    @cached_property
    def uv_document(self) -> bytes:
        """The document that uv publishes, from the mirror if there is one. A cached copy is used for a day.

        Raises `FetchError`.
        """
        from pytest_pyinstall.download.documents import fetch_text
        from pytest_pyinstall.request.catalogue import document_place

        settings = self.settings
        place = document_place(settings.mirror)
        _LOGGER.info("reading the document that uv publishes: %s", redacted(place))
        waiting = self._waiting(f"waiting for the catalogue that uv publishes: {redacted(place)}")
        with waiting as on_retry, naming_the_mirror(settings, place):
            return fetch_text(
                place,
                client=self.client(),
                cache=settings.cache,
                offline=settings.offline or settings.downloads == "never",
                what=_NO_DOCUMENT,
                max_age=_DAY,
                attempts=2,
                on_retry=on_retry,
            )

    @property
    def asked_uv(self) -> bool:
        """Whether `uv_document` was read."""
        return "uv_document" in self.__dict__

    def resolve(self, request: Request) -> Build:
        """The build that answers `request`.

        If no catalogue is configured, this also looks in `uv` for what ``pbs-installer`` lacks: pre-releases, debug and
        musl builds, GraalPy, CPU variants, builds without a digest. Raises `NoMatchError`, `CatalogueError`,
        `FetchError`.
        """
        from pytest_pyinstall.request.resolve import is_conceivable, resolve

        catalogue = self.configured
        # A mirror need not have the document that uv publishes.
        has_uv = self.settings.mirror is None
        try:
            build = resolve(request, catalogue, self.target, within=self._named, has_uv=has_uv)
        except NoMatchError as error:
            if self.settings.catalogue is not None or not is_conceivable(request, catalogue):
                raise
            return resolve(request, self._uv_after(error), self.target)
        if request.names_prerelease and self.settings.catalogue is None and not build.key.is_prerelease:
            # A range such as >=3.15.0a1: only uv's document lists pre-releases that are newer.
            with contextlib.suppress(FetchError, NoMatchError):
                return max(build, resolve(request, self.uv, self.target), key=lambda each: each.key)
        return build

    @property
    def _named(self) -> str:
        """``the catalogue of --python-catalogue``. Empty for the default, and for settings without an origin."""
        place, origin = self.settings.catalogue, self.settings.origins.get("catalogue")
        if place in {None, "pbs", "uv"} or origin is None:
            return ""
        is_copy = self.settings.offline and not is_local(place)
        return f"the {'cached ' if is_copy else ''}catalogue of {origin}"

    def released(self) -> tuple[Version, ...]:
        """The stable versions of CPython for this target, ascending."""
        from pytest_pyinstall.request.resolve import released

        versions = released(self.configured, self.target)
        if versions or self.settings.catalogue is not None:
            return versions
        with contextlib.suppress(FetchError):  # for example on musl; the keyword reports that it means nothing
            return released(self.uv, self.target)
        return versions

    def origin_of(self, build: Build) -> str:
        """The source of the catalogue that lists `build`, for messages."""
        other = self.__dict__.get("_uv")
        return other.origin if other is not None and build in other.builds else self.configured.origin

    def _uv_after(self, error: NoMatchError) -> Catalogue:
        """`uv`, in which to look for what caused `error`. Raises an error that names both causes."""
        try:
            return self.uv
        except OfflineError as offline:
            message = f"{error.message}, and the document that uv publishes, which lists more, is not in the cache"
            raise NoMatchError(message, hint=error.hint) from offline
        except FetchError as trouble:
            reason = trouble.message.removeprefix(f"{_NO_DOCUMENT}: ")
            message = f"{error.message}, and the document that uv publishes, which lists more, cannot be used: {reason}"
            raise CatalogueError(message, hint=trouble.hint) from trouble
