"""What was configured, and which setting decided it.

One precedence everywhere: an option, our environment variable, the ini value, uv's variable where it means the same,
the default. An empty variable is unset.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args
from urllib.parse import urlsplit

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.request.identity import RELEASE_WORKFLOW, Signer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["OPTIONS", "UV_VARIABLES", "VARIABLES", "Attestations", "Downloads", "Missing", "Preference", "Settings"]


Missing = Literal["fail", "skip"]


Downloads = Literal["auto", "manual", "never"]


Attestations = Literal["ignore", "require"]


Preference = Literal["managed", "only-managed", "system", "only-system"]


OPTIONS = ("missing", "downloads", "preference", "store", "cache", "mirror", "catalogue", "attestation")
"""The settings that have an option, a variable and an ini value, by the word that the three share."""


_WORDS: Mapping[str, tuple[str, ...]] = {
    "missing": get_args(Missing),
    "downloads": ("auto", "never"),
    "preference": get_args(Preference),
    "attestation": get_args(Attestations),
}


UV_VARIABLES: Mapping[str, str] = {
    "store": "UV_PYTHON_INSTALL_DIR",
    "cache": "UV_PYTHON_CACHE_DIR",
    "mirror": "UV_PYTHON_INSTALL_MIRROR",
    "pypy_mirror": "UV_PYPY_INSTALL_MIRROR",
    "catalogue": "UV_PYTHON_DOWNLOADS_JSON_URL",
    "downloads": "UV_PYTHON_DOWNLOADS",
}
"""Which variable of uv means the same as which setting."""


VARIABLES: Mapping[str, str] = {
    "PYTEST_PYINSTALL_HOME": "one directory for both store and cache: `HOME/store` and `HOME/cache`",
    "PYTEST_PYINSTALL_LOCK_TIMEOUT": "seconds to wait for somebody who is installing the same Python; default: 300",
    "PYTEST_PYINSTALL_INSECURE_HOST": "hosts, separated by commas or spaces, that may be asked over plain http",
    "PYTEST_PYINSTALL_TRUSTED_STORE": "stores, separated as in `PATH`, that are used although others can write to them",
    "PYTEST_PYINSTALL_ATTESTATION_WORKFLOW": "whose attestations are believed:"
    " `OWNER/REPOSITORY/.github/workflows/FILE`, with `@refs/heads/…` for one branch or tag alone;"
    " default: the release workflow of python-build-standalone",
    "PYTEST_PYINSTALL_ATTESTATION_ISSUER": "who vouches for that workflow's identity; default: GitHub Actions",
    "PYTEST_PYINSTALL_ATTESTATION_ROOT": "the `trusted_root.json` of a Sigstore of your own; default:"
    " that of the public one, as the package `sigstore` brings it along",
}
"""What has neither option nor ini value, and what it means; the reference has it from here."""


_UV_DOWNLOADS = {"automatic": "auto", "auto": "auto", "true": "auto", "1": "auto", "false": "never", "0": "never"}


_TRUE = {"1", "true", "yes", "on", "y", "t"}


_FALSE = {"0", "false", "no", "off", "n", "f"}


class _Value(NamedTuple):
    text: str
    origin: str
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that was configured, checked once.

    `store`, `cache`: absolute directories; they need not exist. `mirror`, `pypy_mirror`, `catalogue`: a URL or an
    absolute path, or None. `downloads` is ``manual`` only where uv's variable says so: then only a command that
    installs by its name downloads. `lock_timeout` in seconds. `offline`: no connection is opened, archives that are
    already here may be used. `insecure_hosts` may be asked over plain http. `trusted_stores` are used although
    others can write to them. Where `attestation` is ``require``, nothing is installed or handed out of which `signer`
    did not sign the archive. `origins` says for each setting which option, variable or file decided it.
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
    signer: Signer = field(default_factory=Signer)
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        *,
        directory: Path,
        options: Mapping[str, str | None] | None = None,
        ini: Mapping[str, str | None] | None = None,
        ini_directory: Path | None = None,
    ) -> Self:
        """Settings from the options, the environment and the ini values, in this order of precedence.

        The keys of `options` and `ini` are those of `OPTIONS`. Relative paths of options and variables are taken
        from `directory`, those of the ini file from `ini_directory`. Nothing is created on disk. Raises
        `InvalidSettingError` for a value that cannot be used.
        """
        chosen: dict[str, _Value] = {}
        for name in (*OPTIONS, "pypy_mirror"):
            candidates = _candidates(name, environ, options or {}, ini or {}, directory, ini_directory or directory)
            if (value := next(candidates, None)) is not None:
                chosen[name] = value
        words = {name: _word(name, chosen[name]) for name in _WORDS if name in chosen}
        locations = {name: _location(name, chosen[name]) for name in _LOCATIONS if name in chosen}
        origins = {name: value.origin for name, value in chosen.items()}
        return cls(
            store=_path(chosen["store"]),
            cache=_path(chosen["cache"]),
            offline=_flag(environ, "UV_OFFLINE"),
            lock_timeout=_seconds(environ, "PYTEST_PYINSTALL_LOCK_TIMEOUT", default=300.0),
            insecure_hosts=frozenset(environ.get("PYTEST_PYINSTALL_INSECURE_HOST", "").replace(",", " ").split()),
            trusted_stores=frozenset(
                _path(_Value(text, "", directory))
                for text in environ.get("PYTEST_PYINSTALL_TRUSTED_STORE", "").split(os.pathsep)
                if text
            ),
            signer=_signer(environ, directory),
            origins=MappingProxyType(origins),
            **words,  # type: ignore[arg-type]  # each was checked against the words of its Literal
            **locations,  # type: ignore[arg-type]  # the names are those of the three fields
        )


_LOCATIONS = ("mirror", "pypy_mirror", "catalogue")


def _candidates(
    name: str,
    environ: Mapping[str, str],
    options: Mapping[str, str | None],
    ini: Mapping[str, str | None],
    directory: Path,
    ini_directory: Path,
) -> Iterator[_Value]:
    """Every value that was given for `name`, the one that counts first."""
    if text := options.get(name):
        yield _Value(text, f"--python-{name}", directory)
    variable = f"PYTEST_PYINSTALL_{name.upper()}"
    if name in OPTIONS and (text := environ.get(variable)):
        yield _Value(text, variable, directory)
    if name in {"store", "cache"} and (text := environ.get("PYTEST_PYINSTALL_HOME")):
        yield _Value(os.path.join(text, name), "PYTEST_PYINSTALL_HOME", directory)  # noqa: PTH118  # still text here
    if text := ini.get(name):
        yield _Value(text, f"pyinstall_{name}", ini_directory)
    if name in UV_VARIABLES and (text := environ.get(UV_VARIABLES[name])):
        if name == "downloads":
            text = _UV_DOWNLOADS.get(text.lower(), text.lower())
        yield _Value(text, UV_VARIABLES[name], directory)
    if name == "store":
        from platformdirs import user_data_path

        data = user_data_path("pytest-pyinstall", appauthor=False)
        yield _Value(str(data / "store"), "default", directory)
    if name == "cache":
        from platformdirs import user_cache_path

        yield _Value(str(user_cache_path("pytest-pyinstall", appauthor=False)), "default", directory)


def _word(name: str, value: _Value) -> str:
    if value.text in _WORDS[name] or (value.origin == "UV_PYTHON_DOWNLOADS" and value.text == "manual"):
        return value.text
    words = ", ".join(_WORDS[name])
    msg = f"{value.origin}: {value.text!r} is none of {words}"
    raise InvalidSettingError(msg, hint=f"{_example(value.origin, _WORDS[name][0])}")


def _example(origin: str, text: str) -> str:
    return f"{origin} {text}" if origin.startswith("--") else f"{origin}={text}"


def _path(value: _Value) -> Path:
    text = value.text
    if "\0" in text:
        msg = f"{value.origin}: a path cannot hold a NUL character: {text!r}"
        raise InvalidSettingError(msg)
    # Not resolved: a symlinked store keeps the name that its user gave it.
    return Path(os.path.abspath(value.directory / Path(text).expanduser()))  # noqa: PTH100  # no I/O, no resolving


def _location(name: str, value: _Value) -> str:
    """A URL as it stands, anything else as an absolute path."""
    parts = urlsplit(value.text)
    if parts.scheme in {"https", "http"}:
        if parts.hostname:
            return value.text
        msg = f"{value.origin}: no host in {value.text!r}"
        raise InvalidSettingError(msg, hint=_example(value.origin, f"https://host/{name}"))
    if parts.scheme == "file":
        return value.text
    if "://" in value.text:
        msg = f"{value.origin}: {parts.scheme}:// is not supported, use https://, file:// or a directory"
        raise InvalidSettingError(msg, hint=_example(value.origin, f"https://host/{name}"))
    return str(_path(value))


def _signer(environ: Mapping[str, str], directory: Path) -> Signer:
    names = {name: f"PYTEST_PYINSTALL_ATTESTATION_{name.upper()}" for name in ("workflow", "issuer", "root")}
    given = {name: text for name, variable in names.items() if (text := environ.get(variable))}
    if "root" in given:
        given["root"] = str(_path(_Value(given["root"], names["root"], directory)))
    signer = Signer(**given)
    if not re.fullmatch(
        r"(https://[^/@\s]+/)?[^/@\s]+/[^/@\s]+/\.github/workflows/[^/@\s]+(@refs/\S+)?", signer.workflow
    ):
        msg = f"{names['workflow']}: {signer.workflow!r} is no OWNER/REPOSITORY/.github/workflows/FILE"
        raise InvalidSettingError(msg, hint=f"{names['workflow']}={RELEASE_WORKFLOW}")
    return signer


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    text = environ.get(variable, "").lower()
    if not text or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    msg = f"{variable}: {text!r} is neither true nor false"
    raise InvalidSettingError(msg, hint=f"{variable}=1")


def _seconds(environ: Mapping[str, str], variable: str, *, default: float) -> float:
    text = environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        msg = f"{variable}: {text!r} is not a number of seconds"
        raise InvalidSettingError(msg, hint=f"{variable}={default:g}")
    return seconds
