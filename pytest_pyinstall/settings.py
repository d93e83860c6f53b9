"""What was configured, and which option, variable or file decided it.

The order of precedence is: option, environment variable of pytest-pyinstall, ini value, environment variable of uv with
the same meaning, default. An empty variable is unset.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.options import BY_NAME, OPTIONS, Option, closest_names, probable_truth
from pytest_pyinstall.request.identity import RELEASE_WORKFLOW, Signer
from pytest_pyinstall.system.urls import redacted
from pytest_pyinstall.system.values import Value, replace

__all__ = [
    "Attestations",
    "Downloads",
    "Missing",
    "Preference",
    "Settings",
    "example_at",
    "expand_user",
    "home_directory",
]

Missing = Literal["fail", "skip"]
Downloads = Literal["auto", "manual", "never"]
Attestations = Literal["ignore", "require"]
Preference = Literal["managed", "only-managed", "system", "only-system"]

_UV_DOWNLOADS = {"automatic": "auto", "auto": "auto", "true": "auto", "1": "auto", "false": "never", "0": "never"}
_TRUE = {"1", "true", "yes", "on", "y", "t"}
_FALSE = {"0", "false", "no", "off", "n", "f"}


class _GivenValue(Value):
    text: str
    origin: str
    directory: Path
    file: Path | None = None

    @property
    def place(self) -> str:
        return f"{self.origin} in {self.file}" if self.file else self.origin


class Settings(NamedTuple):
    """Everything that was configured, checked once.

    - `store` and `cache` are absolute directories, which need not exist.
    - `mirror`, `pypy_mirror` and `catalogue` are a URL, an absolute path, or None. `catalogue` may also be ``pbs`` or
      ``uv``.
    - `downloads` is ``manual`` only if uv's variable says so. Then only commands that install may download.
    - `lock_timeout` is in seconds.
    - If `offline`, no connection is opened, and cached archives are used.
    - `insecure_hosts` may be used over plain http.
    - `trusted_stores` are used even if other users can write to them.
    - If `attestation` is ``require``, only Pythons whose archive `signer` signed are installed or used.
    - `origins` has the option, variable or file that decided each setting.
    """

    store: Path
    cache: Path
    missing: Missing = "fail"
    downloads: Downloads = "auto"
    preference: Preference = "managed"
    mirror: str | None = None
    pypy_mirror: str | None = None
    catalogue: str | None = None
    offline: bool = False
    lock_timeout: float = 300.0
    insecure_hosts: frozenset[str] = frozenset()
    trusted_stores: frozenset[Path] = frozenset()
    attestation: Attestations = "ignore"
    signer: Signer = Signer()
    origins: Mapping[str, str] = MappingProxyType({})

    def decided(self, name: str) -> str:
        """The setting `name` for a message: what decided it, and its value."""
        return f"{self.origins.get(name) or BY_NAME[name].option}: {getattr(self, BY_NAME[name].field)}"

    def example(self, name: str, text: str) -> str:
        """`text` as the value of the setting `name` for a hint: in the form of what decided it, or as the option.

        The option, which takes precedence, is also the form for a value in a file.
        """
        origin = self.origins.get(name, "")
        is_typed = origin and not origin.startswith("pyinstall_")
        return example_at(origin if is_typed else BY_NAME[name].option, text)

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories of pytest-pyinstall, which are not part of a project even if they are inside of it."""
        mirrors = [value for value in (self.mirror, self.pypy_mirror) if value]
        if not mirrors:
            return (self.store, self.cache)
        from urllib.parse import urlsplit

        paths = (urlsplit(value).path if value.startswith("file:") else value for value in mirrors)
        local = (Path(path) for path in paths if path.startswith(os.sep) or "://" not in path)
        return (self.store, self.cache, *local)

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        *,
        directory: Path,
        options: Mapping[str, str | None] | None = None,
        ini: Mapping[str, str | None] | None = None,
        ini_directory: Path | None = None,
        ini_file: Path | None = None,
        ini_options: Iterable[str] = (),
    ) -> Self:
        """Settings from the options, the environment and the ini values, in this order of precedence.

        The keys of `options` and `ini` are the names in `options.OPTIONS`. Relative paths of options and variables
        start from `directory`, those of the ini file from `ini_directory`. `ini_options` are the names of the ini
        values that were given with ``-o``. Nothing is created on disk. Raises `InvalidSettingError`, which names
        ``-o`` or `ini_file`, for a value that cannot be used.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        given_with_o = frozenset(ini_options)
        for option in OPTIONS:
            if option.field:
                places = directory, ini_directory or directory, None if option.ini in given_with_o else ini_file
                given = _given(option, environ, options or {}, ini or {}, *places)
                if (value := next(given, None)) is not None:
                    if value.origin in given_with_o:
                        value = replace(value, origin=f"-o {value.origin}")
                    values[option.field] = _READERS[option.kind](option, value)
                    origins[option.name] = value.origin
        return cls(signer=_signer(environ, directory), origins=MappingProxyType(origins), **values)


def _given(
    option: Option,
    environ: Mapping[str, str],
    options: Mapping[str, str | None],
    ini: Mapping[str, str | None],
    directory: Path,
    ini_directory: Path,
    ini_file: Path | None,
) -> Iterator[_GivenValue]:
    """Every value that was given for `option`, in the order of precedence."""
    name, home = option.name, BY_NAME["home"].variable
    if text := options.get(name):
        yield _GivenValue(text=text, origin=option.option, directory=directory)
    if option.variable and (text := environ.get(option.variable)):
        yield _GivenValue(text=text, origin=option.variable, directory=directory)
    if option.kind == "directory" and (text := environ.get(home)):
        yield _GivenValue(text=os.path.join(text, name), origin=home, directory=directory)  # noqa: PTH118  # still text here
    if text := ini.get(name):
        yield _GivenValue(text=text, origin=option.ini, directory=ini_directory, file=ini_file)
    if option.uv and (text := environ.get(option.uv)):
        if name == "downloads":
            text = _UV_DOWNLOADS.get(text.lower(), text.lower())
        yield _GivenValue(text=text, origin=option.uv, directory=directory)
    if name in {"store", "cache"}:
        yield _default(name, directory)


def _default(name: str, directory: Path) -> _GivenValue:
    from platformdirs import user_cache_path, user_data_path

    try:
        if name == "store":
            path = user_data_path("pytest-pyinstall", appauthor=False) / "store"
        else:
            path = user_cache_path("pytest-pyinstall", appauthor=False)
    except RuntimeError:  # no home directory
        path = Path()
    if path.is_absolute():
        return _GivenValue(text=str(path), origin="default", directory=directory)
    import tempfile

    # A container that runs with an arbitrary uid has neither a home nor a passwd entry. Files that other users put into
    # the temporary directory are rejected, as everywhere.
    user = ""
    if sys.platform != "win32":  # its temporary directory belongs to the user
        user = f"-{os.geteuid()}"
    try:
        parent = tempfile.gettempdir()
    except OSError:  # nothing can be written; the first write reports it
        parent = os.sep
    temporary = Path(parent, f"pytest-pyinstall-home{user}", name)
    return _GivenValue(text=str(temporary), origin="default without a home directory", directory=directory)


def expand_user(text: str, *, origin: str) -> Path:
    """`text` with ``~`` and ``~user`` replaced. Raises `InvalidSettingError`, which names `origin`."""
    place = os.path.expanduser(text)  # noqa: PTH111  # to pathlib, ./~name is ~name
    if place == text and text.startswith("~"):
        user = text.partition("/")[0].removeprefix("~")
        reason = f"there is no user {user!r}" if user else "there is no home directory for ~"
        raise InvalidSettingError(f"{origin}: {text}: {reason}", hint="an absolute path")
    return Path(place)


def home_directory() -> Path:
    """The user's home directory. If there is none, a path below which nothing can exist."""
    home = os.path.expanduser("~")  # noqa: PTH111  # pathlib raises if there is none
    return Path(home) if os.path.isabs(home) else Path(os.devnull, "no-home")  # noqa: PTH117  # still text


def _word(option: Option, value: _GivenValue) -> str:
    if value.text in option.words or (value.origin == "UV_PYTHON_DOWNLOADS" and value.text == "manual"):
        return value.text
    words = ("automatic", "manual", "never") if value.origin == "UV_PYTHON_DOWNLOADS" else option.words  # uv's words
    msg = f"{value.place}: {value.text!r} is not one of {', '.join(words)}"
    near = closest_names([value.text], words) or words
    if "never" in words and value.text.lower() in {"no", "off", "none", "false", "0", "manual"}:
        near = ["never"]  # the first word would allow what this forbids
    raise InvalidSettingError(msg, hint=_example(value, near[0]))


def _example(value: _GivenValue, text: str) -> str:
    """`text` as the value of the same option, variable or ini value."""
    return example_at(value.origin, text, file=value.file)


def example_at(origin: str, text: str, *, file: Path | None = None) -> str:
    """`text` as the value of `origin`: an option, a variable, or an ini value, in `file` or with ``-o`` in front."""
    if origin.startswith("--"):
        return f"{origin} {text}"
    if origin.startswith("-o "):
        import shlex

        return f"-o {shlex.quote(f'{origin[3:]}={text}')}"
    if origin.startswith("pyinstall_"):
        is_ini = file is not None and file.suffix in {".ini", ".cfg"}
        return f"{origin} = {text}" if is_ini else f'{origin} = "{text}"'
    return f"{origin}={text}"


def _path(_: Option, value: _GivenValue) -> Path:
    text = value.text
    if "\0" in text:
        msg = f"{value.place}: a path cannot contain a NUL character: {text!r}"
        raise InvalidSettingError(msg)
    # Not resolved: a store that is reached through a symlink keeps that name.
    expanded = expand_user(text, origin=value.place)
    return Path(os.path.abspath(value.directory / expanded))  # noqa: PTH100  # no I/O, no resolving


def _paths(option: Option, value: _GivenValue) -> frozenset[Path]:
    return frozenset(_path(option, replace(value, text=text)) for text in value.text.split(os.pathsep) if text)


def _location(option: Option, value: _GivenValue) -> str:
    """A URL or a keyword as it is written, anything else as an absolute path."""
    if value.text in option.keywords:
        return value.text
    if ":" not in value.text:
        return _local(option, value)
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value.text)
        _ = parts.port
        if redacted(value.text) == f"{parts.scheme}://***":
            raise ValueError  # urlsplit raises it for an invalid URL
    except ValueError:
        msg = f"{value.place}: {redacted(value.text)} is not a URL: in a password, write / as %2F, @ as %40, [ as %5B"
        raise InvalidSettingError(msg, hint=_example(value, f"https://host/{option.name}")) from None
    if parts.scheme in {"https", "http"}:
        if parts.hostname:
            return value.text
        msg = f"{value.place}: no host in {redacted(value.text)}"
        raise InvalidSettingError(msg, hint=_example(value, f"https://host/{option.name}"))
    if parts.scheme == "file":
        return value.text
    if "://" in value.text:
        msg = f"{value.place}: {parts.scheme}:// is not supported, use https://, file:// or a directory"
        raise InvalidSettingError(msg, hint=_example(value, f"https://host/{option.name}"))
    return _local(option, value)


def _local(option: Option, value: _GivenValue) -> str:
    """An absolute path. Raises if there is no such file, and the value looks like a keyword or a host."""
    path = _path(option, value)
    if os.path.exists(path):  # noqa: PTH110  # of a directory that cannot be read, `Path.exists` raises
        return str(path)
    if near := closest_names([value.text], option.keywords, cutoff=0.6):
        msg = f"{value.place}: there is no file {path}; did you mean {near[0]}?"
        raise InvalidSettingError(msg, hint=_example(value, near[0]))
    if re.match(r"[\w.-]+:[0-9]+(/|$)", value.text):
        msg = f"{value.place}: {value.text} is neither a directory nor a URL, which begins with https:// or http://"
        raise InvalidSettingError(msg, hint=_example(value, f"http://{value.text}"))
    return str(path)


def _signer(environ: Mapping[str, str], directory: Path) -> Signer:
    rows = {name: BY_NAME[f"attestation_{name}"] for name in ("workflow", "issuer", "root")}
    given = {name: text for name, option in rows.items() if (text := environ.get(option.variable))}
    if "root" in given:
        root = _GivenValue(text=given["root"], origin=rows["root"].variable, directory=directory)
        given["root"] = str(_path(rows["root"], root))
    signer = Signer(**given)
    if signer.workflow != RELEASE_WORKFLOW and not re.fullmatch(
        r"(https://[^/@\s]+/)?[^/@\s]+/[^/@\s]+/\.github/workflows/[^/@\s]+(@refs/\S+)?", signer.workflow
    ):
        variable = rows["workflow"].variable
        msg = f"{variable}: {signer.workflow!r} is not OWNER/REPOSITORY/.github/workflows/FILE"
        raise InvalidSettingError(msg, hint=f"{variable}={RELEASE_WORKFLOW}")
    return signer


def _flag(option: Option, value: _GivenValue) -> bool:
    text = value.text.lower()
    if text in _FALSE:
        return False
    if text in _TRUE:
        return True
    msg = f"{value.place}: {text!r} is neither true nor false"
    meant = probable_truth(text, default=option.default)
    raise InvalidSettingError(msg, hint=_example(value, "1" if meant else "0"))


def _seconds(option: Option, value: _GivenValue) -> float:
    try:
        seconds = float(value.text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        msg = f"{value.place}: {value.text!r} is not a number of seconds"
        raise InvalidSettingError(msg, hint=_example(value, f"{option.default:g}"))
    return seconds


def _hosts(_: Option, value: _GivenValue) -> frozenset[str]:
    return frozenset(value.text.replace(",", " ").split())


_READERS: Mapping[str, Callable[[Option, _GivenValue], Any]] = {
    "word": _word,
    "flag": _flag,
    "directory": _path,
    "directories": _paths,
    "location": _location,
    "seconds": _seconds,
    "hosts": _hosts,
}
"""The function that reads the value of each kind of option."""
