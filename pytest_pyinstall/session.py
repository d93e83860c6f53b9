"""The Pythons of one test session: provided, probed if necessary, and named for the ids of the tests."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pytest_pyinstall.configuration import corrected_at_origin, with_origin
from pytest_pyinstall.errors import (
    DigestMismatchError,
    FetchError,
    InvalidRequestError,
    NoMatchError,
    OfflineError,
    ProbeError,
    PyinstallError,
    SeveralFailedError,
    SizeMismatchError,
    StoreError,
    texts_of,
)
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.progress import Display
from pytest_pyinstall.provisioner import Provisioner, ProvisionResult, open_provisioner
from pytest_pyinstall.request.identity import Key, suffix_of
from pytest_pyinstall.request.request import Request, as_ranges, parse_requests
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.system.processes import signal_name, thread_limit
from pytest_pyinstall.system.signals import Terminated, end_by, raising_at_termination
from pytest_pyinstall.system.values import Value, replace

__all__ = [
    "PlannedPython",
    "PythonProvider",
    "SessionPython",
    "admits",
    "detailed_header",
    "failure_of",
    "header",
    "parse_specifier",
    "reason",
    "reasons_of_missing",
]


_NAMES = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalPy"}


_MOST_AT_ONCE = 8


class SessionPython(Value):
    """One of the Pythons that tests run with, or the reason why it is missing.

    `id` is its name in test ids, and `requests` are the requests for it. Without an `interpreter`, `error` says why. If
    both are None, the Python was not provided because no test will run. `how` is that of `ProvisionResult`, or
    ``missing``. `seconds` is how long the installation took.
    """

    id: str
    requests: tuple[str, ...]
    how: str
    interpreter: Interpreter | None = None
    seconds: float = 0.0
    error: PyinstallError | None = None
    is_missing: bool = False
    """Whether the error says that there is no such Python, and not that one is broken."""
    versions: tuple[str, ...] = ()
    """Without an interpreter: the lowest and the highest version that was requested, if the request says so."""

    def to_json(self) -> dict[str, Any]:
        """All fields, for xdist's ``workerinput``. Of an error, its message and hint."""
        return {
            "id": self.id,
            "requests": list(self.requests),
            "how": self.how,
            "interpreter": None if self.interpreter is None else self.interpreter.to_json(),
            "seconds": self.seconds,
            "error": None if self.error is None else [self.error.message, self.error.hint],
            "is_missing": self.is_missing,
            "versions": list(self.versions),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "SessionPython":
        """The object from the result of `to_json`."""
        interpreter, error = document["interpreter"], document["error"]
        return cls(
            id=document["id"],
            requests=tuple(document["requests"]),
            how=document["how"],
            interpreter=None if interpreter is None else Interpreter.from_json(interpreter),
            seconds=document["seconds"],
            error=None if error is None else NoMatchError(*error),
            is_missing=document["is_missing"],
            versions=tuple(document["versions"]),
        )


class PlannedPython(Value):
    """A Python that a session may need, by the `id` that it has if it is provided, and the requests for it."""

    id: str
    requests: tuple[Request, ...]


class _Outcome(Value):
    """The result of one request. `key` is that of the build that would be installed, if the request is only planned."""

    request: Request
    key: Key | None = None
    provided: ProvisionResult | None = None
    seconds: float = 0.0
    error: PyinstallError | None = None
    is_missing: bool = False


class PythonProvider:
    """Provides the Pythons for requests. A request that was made before costs nothing.

    With `looks_only`, nothing is installed, and a missing Python has neither interpreter nor error: that is enough to
    name the tests, but not to run them. Thread-safe.
    """

    def __init__(self, provisioner: Provisioner, *, looks_only: bool = False, display: Display | None = None) -> None:
        self.provisioner = provisioner
        self._display = display
        self._looks_only = looks_only
        self._outcomes: dict[Request, _Outcome] = {}
        self._seconds: dict[Request, float] = {}
        self._running: Interpreter | None = None
        provisioner.on_result = self._heard

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        directory: Path,
        looks_only: bool = False,
        say: Callable[[str], None] | None = None,
        display: Display | None = None,
    ) -> "PythonProvider":
        """For the project in `directory`. `say` gets each message, and `display` the downloads."""
        provisioner = open_provisioner(settings, directory=directory, progress=display, warn=say)
        return cls(provisioner, looks_only=looks_only, display=display)

    def close(self) -> None:
        """Stop running downloads, and close connections."""
        self.provisioner.__exit__()
        if self._display is not None:
            self._display.__exit__(None, None, None)

    @property
    def skips_missing(self) -> bool:
        return self.provisioner.settings.missing == "skip"

    def choose(self, texts: Iterable[object], *, origin: str, directory: Path) -> tuple[SessionPython, ...]:
        """The Pythons for the requests `texts`, in their order, each interpreter once. Failed ones are among them.

        Relative paths start from `directory`. Raises `PyinstallError` for an invalid request, and for a word
        (``supported``) that means nothing in this project.
        """
        requests = self._parse(texts, origin=origin, directory=directory)
        self._provide(requests)
        return _named([self._outcomes[request] for request in requests])

    def plan(self, texts: Iterable[object], *, origin: str, directory: Path) -> tuple[PlannedPython, ...]:
        """The Pythons that `choose` would return, by their ids. Installs nothing. Raises what `choose` raises."""
        outcomes = map(self._foreseen, self._parse(texts, origin=origin, directory=directory))
        return tuple(
            PlannedPython(id=name, requests=tuple(outcome.request for outcome in group))
            for name, group in _groups(outcomes)
        )

    def provide(self, planned: Iterable[PlannedPython]) -> tuple[SessionPython, ...]:
        """Provide some Pythons of a `plan`, with the ids that they have there. Failed ones are among them."""
        planned = list(planned)
        self._provide([request for each in planned for request in each.requests])
        return tuple(_choice([self._outcomes[request] for request in each.requests], each.id) for each in planned)

    def _parse(self, texts: Iterable[object], *, origin: str, directory: Path) -> tuple[Request, ...]:
        texts = list(texts)
        try:
            return self.provisioner.parse(parse_requests(texts, directory=directory, origin=origin))
        except (InvalidRequestError, NoMatchError) as error:
            raise corrected_at_origin(error, texts, origin=origin) from None

    def _foreseen(self, request: Request) -> _Outcome:
        try:
            found = self.provisioner.foresee(request)
        except PyinstallError as error:
            return _Outcome(request=request, error=error)
        if isinstance(found, Key):
            return _Outcome(request=request, key=found)
        return _Outcome(request=request, provided=ProvisionResult(request=request, interpreter=found, how="found"))

    def choose_all(self, texts: Iterable[object], *, origin: str, directory: Path) -> tuple[SessionPython, ...]:
        """Like `choose`, for a session that needs all of them.

        Raises one `PyinstallError` with all failures, except those for which tests are skipped.
        """
        choices = self.choose(texts, origin=origin, directory=directory)
        if failed := [choice for choice in choices if choice.error and not self.skips(choice)]:
            raise failure_of(failed, count=len(choices), origin=origin)
        return choices

    def choose_configured(self, texts: Iterable[object], *, origin: str, directory: Path) -> tuple[SessionPython, ...]:
        """Like `choose`, for configured requests that perhaps no test uses.

        If a word such as ``supported`` needs a catalogue that cannot be downloaded, it counts as a missing Python.
        """
        texts = list(texts)
        try:
            return self.choose(texts, origin=origin, directory=directory)
        except FetchError:
            requests = parse_requests(texts, directory=directory, origin=origin)
        known: dict[Request, None] = {}
        for request in requests:
            try:
                known.update(dict.fromkeys(self.provisioner.parse([request])))
            except FetchError as error:
                self._outcomes[request] = _Outcome(request=request, error=error, is_missing=True)
                known[request] = None
        self._provide(list(known))
        return _named([self._outcomes[request] for request in known])

    def skips(self, choice: SessionPython) -> bool:
        """Whether tests are skipped because `choice` is missing."""
        return self.skips_missing and choice.is_missing

    def notes_on_supported(
        self, choices: Iterable[SessionPython], texts: Iterable[object], *, origin: str, directory: Path
    ) -> list[str]:
        """Sentences on the versions that ``supported`` leaves out of `texts`, except those of `choices`."""
        requests = parse_requests(list(texts), directory=directory, origin=origin)
        here = {text for choice in choices for text in choice.requests}
        here |= {choice.interpreter.key.minor_version for choice in choices if choice.interpreter}
        return self.provisioner.notes_on_supported(requests, here)

    def one(self, wanted: object, *, directory: Path) -> SessionPython:
        """The one Python for the request `wanted`. Raises `InvalidRequestError` if it means several."""
        origin = "install_python"
        try:
            requests = self.provisioner.parse(
                [wanted]
                if isinstance(wanted, Request)
                else parse_requests([wanted], directory=directory, origin=origin)
            )
            if len(requests) != 1:
                message = f"{str(wanted)!r} means {len(requests)} Pythons, but only one is allowed here"
                raise InvalidRequestError(message, hint=requests[-1].text if requests else "3.12")
        except (InvalidRequestError, NoMatchError) as error:
            raise corrected_at_origin(error, [wanted], origin=origin) from None
        self._provide(requests)
        return _named([self._outcomes[requests[0]]])[0]

    def running(self) -> Interpreter:
        """The interpreter that runs pytest, probed like any other. Raises `ProbeError`."""
        if self._running is None:
            provisioner = self.provisioner
            self._running = probe(provisioner.executable, source="current", environ=provisioner.environ)
        return self._running

    def _provide(self, requests: Sequence[Request]) -> None:
        new = [request for request in dict.fromkeys(requests) if request not in self._outcomes]
        if not new:
            return
        try:
            with raising_at_termination():
                self._provide_new(new)
        except Terminated as end:
            # pytest does not handle the signal: the cursor would stay hidden, and unfinished work in the store.
            self.close()
            if self.provisioner.warn is not None:
                with suppress(OSError, ValueError):  # after SIGHUP, the terminal is gone
                    self.provisioner.warn(f"ended by {signal_name(end.number)}")
            end_by(end.number)

    def _provide_new(self, new: Sequence[Request]) -> None:
        outcomes = list(self._look(new) if self._looks_only else self._install(new))
        workers = min(_MOST_AT_ONCE, len(new))
        with thread_limit(), ThreadPoolExecutor(workers, thread_name_prefix="pyinstall-prove") as executor:
            for outcome in executor.map(self._proven, outcomes):
                self._outcomes[outcome.request] = outcome

    def _install(self, requests: Sequence[Request]) -> Iterator[_Outcome]:
        for request, result in zip(requests, self.provisioner.provide(requests), strict=True):
            if isinstance(result, ProvisionResult):
                has_worked = result.how in {"installed", "repaired"}
                seconds = self._seconds.get(request, 0.0) if has_worked else 0.0
                yield _Outcome(request=request, provided=result, seconds=seconds)
            else:
                is_missing = _is_missing(result) or _is_gone(request)
                yield _Outcome(request=request, error=result, is_missing=is_missing)

    def _heard(self, request: Request, _: object, seconds: float) -> None:
        self._seconds[request] = seconds

    def _look(self, requests: Iterable[Request]) -> Iterator[_Outcome]:
        for request in requests:
            try:
                yield _Outcome(request=request, provided=self.provisioner.find(request))
            except NoMatchError:
                yield _Outcome(request=request, is_missing=True)
            except PyinstallError as error:
                yield _Outcome(request=request, error=error, is_missing=_is_gone(request))

    def _proven(self, outcome: _Outcome) -> _Outcome:
        """`outcome` with a lease of its interpreter, which is probed if it was repaired.

        Interpreters that were found or installed have just been probed.
        """
        provided = outcome.provided
        if provided is None:
            return outcome
        if not self._looks_only:
            # Before the probe, so that the interpreter that was probed stays until the session ends.
            held = self.provisioner.lease_or_reprovide(provided)
            if isinstance(held, PyinstallError):
                return replace(outcome, provided=None, error=held, is_missing=_is_missing(held))
            outcome, provided = replace(outcome, provided=held), held
        claimed = provided.interpreter
        if provided.how != "repaired":
            return outcome
        try:
            answered = probe(
                claimed.executable,
                source=claimed.source,
                environ=self.provisioner.environ,
                expected=claimed.key,
            )
        except ProbeError as error:
            return replace(outcome, provided=None, error=error)
        return replace(outcome, provided=replace(provided, interpreter=answered))


def _is_missing(error: PyinstallError) -> bool:
    return isinstance(error, NoMatchError | FetchError)


def parse_specifier(texts: Sequence[object], *, origin: str) -> SpecifierSet:
    """The specifier of ``requires_python(">=3.10")``. Raises `InvalidRequestError` for anything else."""
    if not texts:
        message = f"{origin} has no version specifier"
        raise InvalidRequestError(message, hint='@pytest.mark.requires_python(">=3.10")')
    specifier = SpecifierSet()
    for text in texts:
        try:
            if not isinstance(text, str) or not text.strip():
                raise InvalidSpecifier
            specifier &= SpecifierSet(text)
        except InvalidSpecifier:
            from pytest_pyinstall.project import probable_specifier

            message = f"{origin}: {text!r:.60} is not a version specifier"
            hint = f'@pytest.mark.requires_python("{probable_specifier(str(text)) or ">=3.10"}")'
            raise InvalidRequestError(message, hint=hint) from None
    return specifier


def admits(specifier: SpecifierSet, choice: SessionPython) -> bool:
    """Whether `specifier` allows `choice`. As for ``requires-python``, a pre-release counts as its release."""
    versions = choice.versions if choice.interpreter is None else [_release(choice.interpreter.version_info)]
    return not versions or any(specifier.contains(Version(version)) for version in versions)


def reason(choice: SessionPython) -> str:
    """Why tests are skipped, in one line."""
    first = choice.error.message.splitlines()[0] if choice.error else "not installed"
    names = ", ".join(choice.requests)
    is_named = re.search(rf"(?<![\w.]){re.escape(names)}(?![\w.])", first)
    return first if is_named else f"Python {names}: {first}"


def reasons_of_missing(choices: Iterable[SessionPython]) -> dict[str, str]:
    """Why each of `choices` without an interpreter is missing, with the hint, by its id.

    If only the versions in them differ, several have one text: that of the first, which names the other requests.
    """
    groups: dict[tuple[str, str], dict[str, SessionPython]] = {}
    for choice in choices:
        if choice.interpreter is None and choice.error is not None:
            alike = _VERSION.sub("", choice.error.message.splitlines()[0]), choice.error.hint
            groups.setdefault(alike, {})[choice.id] = choice
        elif choice.interpreter is None:
            groups[choice.id, ""] = {choice.id: choice}
    texts: dict[str, str] = {}
    for (_, hint), group in groups.items():
        first, *more = group.values()
        lines = [first.error.message if first.error else reason(first)]
        others = [each for each in more if each.error and first.error and each.error.message != first.error.message]
        if others:
            lines.append(f"the same for Python {', '.join(request for each in others for request in each.requests)}")
        if hint:
            lines.append(f"hint: {hint}")
        texts |= dict.fromkeys(group, "\n".join(lines))
    return texts


_VERSION = re.compile(r"(?<![\d.])\d+\.\d+(?:\.\d+)?(?:(?:a|b|rc)\d+)?(?![\w.])")


def failure_of(failed: Sequence[SessionPython], *, count: int, origin: str) -> PyinstallError:
    """One error with all failures among the `count` Pythons that were requested at `origin`."""
    errors = [(choice.requests[0], choice.error) for choice in failed if choice.error]
    if len(errors) == 1 and count == 1:
        return with_origin(errors[0][1], origin=origin)
    names: dict[tuple[str, str], list[str]] = {}
    for name, error in errors:
        names.setdefault((error.message, error.hint), []).append(name)
    texts = texts_of(
        (
            message if len(each) == 1 and each[0] in message else f"{', '.join(each)}: {message}"
            for (message, _), each in names.items()
        ),
        (hint for _, hint in names),
    )
    message = f"{origin}: {len(errors)} of {count} Pythons cannot be used:\n" + "\n".join(texts)
    return SeveralFailedError(message, results=[error for _, error in errors])


def header(
    choices: Sequence[SessionPython],
    *,
    width: int,
    skips: bool = False,
    looks_only: bool = False,
    has_errors: bool = False,
) -> list[str]:
    """The lines of pytest's header: one for the Pythons that are used, and one for those that are missing.

    Each fits into `width`. With `skips`, tests of missing Pythons are skipped. With `has_errors`, the session shows an
    error for each, with a hint of its own.
    """
    lines = []
    if here := [choice for choice in choices if choice.interpreter is not None]:
        groups: dict[str, list[SessionPython]] = {}
        for choice in here:
            groups.setdefault(_how(replace(choice, seconds=0.0)), []).append(choice)
        full = " ".join(
            f"{' '.join(_version_names(group, here))} ({_how(max(group, key=lambda choice: choice.seconds), ', ')})"
            for group in groups.values()
        )
        untimed = " ".join(f"{' '.join(_version_names(group, here))} ({how})" for how, group in groups.items())
        names = " ".join(_version_names(here, here))
        texts = [full, untimed, names, " ".join(choice.id for choice in here)]
        lines.append(_first_that_fits("pythons: ", texts, "", width))
    if missing := [choice for choice in choices if choice.interpreter is None]:
        reasons: dict[str, list[str]] = {}
        for choice in missing:
            reasons.setdefault(_short_reason(choice), []).append(choice.id)
        full = " ".join(f"{' '.join(as_ranges(ids))} ({why})" for why, ids in reasons.items())
        names = " ".join(as_ranges([choice.id for choice in missing]))
        advice = "; --python-missing skip or --python current"
        if looks_only or not any(choice.is_missing for choice in missing):
            advice = ""
        elif skips:
            advice = "; their tests are skipped"
        elif has_errors:
            advice = ""
        lines.append(_first_that_fits("missing: ", [full, names], advice, width))
    return lines


def _first_that_fits(start: str, texts: Sequence[str], end: str, width: int) -> str:
    room = width - len(start) - len(end)
    text = next((text for text in texts if len(text) <= room), texts[-1])
    if len(text) > room:
        text = f"{text[: max(0, room - 2)].rpartition(' ')[0]} …"
    return f"{start}{text}{end}"


def _version_names(choices: Iterable[SessionPython], among: Iterable[SessionPython]) -> Iterator[str]:
    """The full version of each, ``3.13.0t``, or its id if `among` has that version twice."""
    versions = [choice.interpreter.key.display_name for choice in among if choice.interpreter]
    for choice in choices:
        if choice.interpreter:
            name = choice.interpreter.key.display_name
            yield name if versions.count(name) == 1 else choice.id


def _short_reason(choice: SessionPython) -> str:
    if choice.error is None:
        return "not installed"
    short = {
        OfflineError: "offline",
        FetchError: "cannot be downloaded",
        SizeMismatchError: "wrong archive",
        DigestMismatchError: "wrong archive",
        NoMatchError: "not found",
        StoreError: "cannot be installed",
    }
    default = "not found" if choice.is_missing else "broken"
    return next((text for kind, text in short.items() if isinstance(choice.error, kind)), default)


def detailed_header(choice: SessionPython) -> str:
    """The request, the interpreter, how it was provided, and its path."""
    names = ", ".join(choice.requests)
    interpreter = choice.interpreter
    if interpreter is None:
        why = choice.error.message.splitlines()[0] if choice.error else "running the tests would install it"
        return f"python {names} -> missing: {why}"
    variant = f" {interpreter.key.variant}" if interpreter.key.variant else ""
    name = _NAMES.get(interpreter.implementation, interpreter.implementation)
    return f"python {names} -> {name} {interpreter.version}{variant} ({_how(choice)}) {interpreter.executable}"


def _how(choice: SessionPython, before_time: str = " in ") -> str:
    took = f"{before_time}{choice.seconds:.1f} s" if choice.seconds else ""
    source = choice.interpreter.source if choice.interpreter else ""
    if choice.requests == ("current",):
        return "current"
    return {"installed": f"installed now{took}", "repaired": f"repaired now{took}", "found": f"found: {source}"}.get(
        choice.how, "already installed"
    )


def _is_gone(request: Request) -> bool:
    return request.path is not None and not os.path.lexists(request.path)


def _release(version_info: tuple[int, int, int, str, int]) -> str:
    return ".".join(map(str, version_info[:3]))


def _named(outcomes: Iterable[_Outcome]) -> tuple[SessionPython, ...]:
    """A `SessionPython` for each interpreter, and for each request without an interpreter."""
    return tuple(_choice(group, name) for name, group in _groups(outcomes))


def _groups(outcomes: Iterable[_Outcome]) -> Iterator[tuple[str, list[_Outcome]]]:
    """The outcomes of each interpreter, and of each request without an interpreter, with its id."""
    together: dict[object, list[_Outcome]] = {}
    for outcome in outcomes:
        together.setdefault(_identity(outcome), []).append(outcome)
    groups = list(together.values())
    return zip(_ids([_names(group[0]) for group in groups]), groups, strict=True)


def _identity(outcome: _Outcome) -> object:
    if outcome.provided is None:
        return outcome.key or outcome.request
    # The prefix too: the Python of a virtual environment is a link to the interpreter that it was created from.
    interpreter = outcome.provided.interpreter
    return os.path.realpath(interpreter.executable), os.path.realpath(interpreter.prefix)


def _choice(group: Sequence[_Outcome], name: str) -> SessionPython:
    first = group[0]
    provided = first.provided
    # Of two requests for the same Python, one installed it, and the other found it in the store.
    did = next((outcome for outcome in group if outcome.provided and outcome.provided.how != "present"), first)
    return SessionPython(
        id=name,
        requests=tuple(dict.fromkeys(outcome.request.text for outcome in group)),
        how=did.provided.how if did.provided else "missing",
        interpreter=provided.interpreter if provided else None,
        seconds=did.seconds,
        error=first.error,
        is_missing=first.is_missing,
        versions=() if provided else _asked_versions(first.request),
    )


def _names(outcome: _Outcome) -> list[str]:
    """Its possible names, from the shortest to one that is unique."""
    if outcome.provided is None:
        names = _names_of_request(outcome.request)
        return [*map(_plain, _names_of_key(outcome.key, source="store")), *names] if outcome.key else names
    interpreter = outcome.provided.interpreter
    key = interpreter.key
    parts = [*interpreter.prefix.parts[1:], interpreter.executable.name]
    places = ["-".join(parts[start:-1]) for start in reversed(range(len(parts) - 1))]
    # The request "current" was replaced by the path of the running interpreter, so its source is "path".
    source = "current" if outcome.request.text == "current" else interpreter.source
    names = [
        *_names_of_key(key, source=source),
        *(f"{key.display_name}-{place}" for place in (*places, "-".join(parts))),
    ]
    return list(map(_plain, names))


def _names_of_key(key: Key, *, source: str) -> list[str]:
    minor = key.display_name.replace(key.number, key.minor_version, 1)
    return [minor, key.display_name, str(key), f"{key.display_name}-{source}"]


def _names_of_request(request: Request) -> list[str]:
    if request.path is not None:
        parts = request.path.parts[1:]
        return [_plain("-".join(parts[start:])) for start in reversed(range(len(parts)))] or [_plain(request.text)]
    names = [request.text, f"{request.text}-missing"]
    if match := _exact(request):
        name = "" if request.implementation in {"cpython", None} else request.implementation
        suffix = suffix_of(request.variant)
        patch = [] if match[2] in {None, ".*"} else [f"{name}{match[1]}{match[2]}{suffix}"]
        names = [f"{name}{match[1]}{suffix}", *patch, *names]
    return list(map(_plain, names))


def _asked_versions(request: Request) -> tuple[str, ...]:
    match = _exact(request)
    if match is None:
        return ()
    if match[2] in {None, ".*"}:
        return (f"{match[1]}.0", f"{match[1]}.99")
    return (_release((*map(int, re.findall(r"\d+", f"{match[1]}{match[2]}")[:3]), "", 0)),)  # type: ignore[arg-type]  # three


def _exact(request: Request) -> re.Match[str] | None:
    return re.fullmatch(r"==(\d+\.\d+)(\.\*|\.\d+\S*)?", request.versions)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).strip("-") or "python"


def _ids(names: Sequence[Sequence[str]]) -> list[str]:
    """For each of `names`, the first that is unique. If several are equal, all of them try their next name."""
    chosen = [0] * len(names)
    while True:
        ids = [these[at] for these, at in zip(names, chosen, strict=True)]
        clashing = [i for i, name in enumerate(ids) if ids.count(name) > 1 and chosen[i] < len(names[i]) - 1]
        if not clashing:
            break
        for i in clashing:
            chosen[i] += 1
    return [name if ids.count(name) == 1 else f"{name}-{ids[: i + 1].count(name)}" for i, name in enumerate(ids)]
