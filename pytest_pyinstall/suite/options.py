"""What the outer session of a suite keeps of its options, and what it hands on to the inner ones.

Spares the outer session of a suite the search for garbage in what was imported, which is none.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.errors import InvalidSettingError, UsageError
from pytest_pyinstall.project import directory_of_project
from pytest_pyinstall.system.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "adapt_arguments",
    "adapt_options",
    "chosen",
    "inner_arguments",
    "is_interactive",
    "jobs_of",
    "project_directory",
    "search_again",
    "spare_the_search",
    "translated_ini",
    "without_ours",
]


def adapt_arguments(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Keep the outer session from everything that is the inner sessions': conftests, their options, their plugins'.

    For `pytest_load_initial_conftests`. What this session's plugins do not know is taken out of `args`.
    """
    namespace = config.known_args_namespace
    namespace.noconftest = True
    namespace.pythonwarnings = []
    if hasattr(namespace, "cov_source"):
        namespace.cov_source = []
    _, unknown = parser.parse_known_and_unknown_args(list(args), copy.copy(config.option))
    for word in unknown:
        if word in args:
            args.remove(word)
    found = getattr(config, "_inicfg", None) or config.inicfg
    # Categories of warnings would be imported, out of the project.
    found.pop("filterwarnings", None)
    for name in list(found):
        with contextlib.suppress(ValueError, AssertionError):
            if name not in parser._inidict and name not in getattr(parser, "_ini_aliases", ()):  # noqa: SLF001  # no other way to ask
                parser.addini(name, help="for the inner sessions")


def adapt_options(config: pytest.Config) -> None:
    """Take from the outer session the options that the inner sessions obey, each for itself."""
    option = config.option
    values: dict[str, Any] = {
        "numprocesses": None, "dist": "no", "tx": [], "looponfail": False, "distload": False,
        "cov_source": [], "no_cov": True,
        "stepwise": False, "stepwise_skip": False, "lf": False, "failedfirst": False, "newfirst": False,
        "usepdb": False, "trace": False,
    }  # fmt: skip
    for name, value in values.items():
        if hasattr(option, name):
            setattr(option, name, value)


def chosen(words: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """What each Python is asked for, of the user's `words`: ids that name Pythons are for these alone.

    Where there are such ids, Pythons that none of them names are left out.
    """
    common: list[str] = []
    own: dict[str, list[str]] = {}
    for word in words:
        match = re.fullmatch(r"(.+::.+)\[((?:py|graalpy)[^\[\]]*)\]", word)
        pythons = match[2].split(",") if match else []
        if match and set(pythons) <= set(labels):
            for label in pythons:
                own.setdefault(label, []).append(match[1])
        else:
            common.append(word)
    return {label: [*common, *own.get(label, ())] for label in labels if not own or label in own}


def inner_arguments(
    config: pytest.Config, *, name: str, cache: Path, any_failed: bool, ours: Iterable[Path]
) -> list[str]:
    """What stands behind the user's own words in the session called `name`, and so wins.

    `any_failed` is whether the last session of any Python had failures. In `ours` is nothing to collect.
    """
    words = [f"--rootdir={config.rootpath}", "-o", f"cache_dir={cache}"]
    # Pythons and environments have test suites of their own, and the inner sessions may not have our plugin.
    marks = (mark for pattern in ("*", "*/*") for mark in config.rootpath.glob(f"{pattern}/.pytest-pyinstall"))
    ignored = (*ours, *(mark.parent for mark in marks))  # also a store that is not the one of this call
    words += [f"--ignore={path}" for path in dict.fromkeys(ignored) if path.is_relative_to(config.rootpath)]
    if basetemp := config.getoption("basetemp", None):
        words.append(f"--basetemp={Path(basetemp) / name}")
        Path(basetemp).mkdir(parents=True, exist_ok=True)
    given = list(map(str, config.invocation_params.args))
    is_decided = _asks(given, "--lfnf", "--last-failed-no-failures")
    # With failures on one Python, the others have nothing to run again.
    if any_failed and _asks(given, "--lf", "--last-failed") and not is_decided:
        words.append("--lfnf=none")
    return words


def translated_ini(path: Path | None, version: str) -> list[str]:
    """The settings of a file that this version of pytest cannot read: native TOML came with pytest 9."""
    if path is None or path.suffix != ".toml" or int(version.partition(".")[0]) >= 9:
        return []
    document = read_toml(path)
    native = document.get("tool", {}).get("pytest") if path.name == "pyproject.toml" else document.get("pytest")
    if not isinstance(native, dict) or "ini_options" in native:
        return []
    words = []
    for name, value in native.items():
        if name.startswith("pyinstall_") or name in {"minversion", "cache_dir", "strict"} or isinstance(value, dict):
            continue
        text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        if name in {"addopts", "testpaths", "pythonpath", "norecursedirs"} and isinstance(value, list):
            text = shlex.join(map(str, value))
        words += ["-o", f"{name}={text.lower() if isinstance(value, bool) else text}"]
    return words


def jobs_of(config: pytest.Config) -> int:
    text = config.getoption("pyinstall_jobs") or config.getini("pyinstall_jobs")
    if not text:
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < 1:
        raise InvalidSettingError(f"--python-jobs: {text!r} is no number of Pythons", hint="--python-jobs 2")
    return jobs


_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "tox.toml", "Pipfile", "noxfile.py")


def project_directory(config: pytest.Config) -> Path:
    """The directory of the project that is meant: the nearest one above what was named, or above where we are.

    The root directory has pytest's configuration, which in a monorepo is that of many projects.
    """
    start = _named(config) or config.invocation_params.dir
    if found := directory_of_project(start):
        return found
    for directory in (config.rootpath, start, *start.parents):
        if any((directory / name).is_file() for name in _PROJECT_FILES) or any(directory.glob("requirements*.txt")):
            return directory
    return config.rootpath


def _named(config: pytest.Config) -> Path | None:
    """The directory that has everything that was named on the command line."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return None
    paths = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    if not paths or not all(path.exists() for path in paths):
        return None
    common = Path(os.path.commonpath(os.path.abspath(path) for path in paths))  # noqa: PTH100  # not resolved
    return common if common.is_dir() else common.parent


def is_interactive(config: pytest.Config, pythons: Sequence[tuple[str, str]]) -> bool:
    """Whether the inner session needs the terminal.

    `pythons` are labels and requests. Raises `UsageError` where it is needed by several.
    """
    asked = _asks(map(str, config.invocation_params.args), "--pdb", "--trace")
    needs = asked or config.getoption("capture", "fd") == "no"
    if needs and len(pythons) > 1:
        names = ", ".join(label for label, _ in pythons)
        message = f"--pdb, --trace and -s show one Python at a time, and these are {len(pythons)}: {names}"
        raise UsageError(message, hint=f"--python {pythons[-1][1]}")
    return needs


def _asks(words: Iterable[str], *options: str) -> bool:
    return any(word.partition("=")[0] in options for word in words)


def without_ours(words: Iterable[str]) -> list[str]:
    """The arguments less `--python…`: the inner sessions may have no plugin that knows them."""
    kept = []
    iterator: Iterator[str] = iter(words)
    for word in iterator:
        name, equals, _ = word.partition("=")
        if name == "--python-suite":
            continue
        if name == "--python" or name.startswith("--python-"):
            if not equals:
                next(iterator, None)
            continue
        kept.append(word)
    return kept


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
