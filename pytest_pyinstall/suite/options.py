"""What the outer session of a suite keeps of its options, and what it hands on to the inner ones."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.errors import InvalidSettingError, UsageError
from pytest_pyinstall.project import directory_of_project
from pytest_pyinstall.suite.words import Words, read_words
from pytest_pyinstall.system.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "adapt_arguments",
    "adapt_options",
    "is_interactive",
    "jobs_of",
    "project_directory",
    "reporters_options",
    "seed",
    "translate_ini",
    "usable_cores",
    "words_of",
    "worker_arguments",
]


_WORDS = pytest.StashKey[Words]()


_WORKER_PLUGINS = (
    "django",
    "randomly",
    "benchmark",
    "hypothesispytest",
    "asyncio",
    "anyio",
    "timeout",
    "env",
    "dotenv",
    "syrupy",
)
"""Entry points of plugins that work on the tests themselves. In the controller they would import the project's
settings, or print a heading about something that does not happen."""


_RUNNING_HOOKS = {
    "pytest_runtest_protocol", "pytest_runtest_call", "pytest_pyfunc_call", "pytest_collect_file",
    "pytest_generate_tests", "pytest_runtestloop",
}  # fmt: skip


_REPORTING_HOOKS = ("pytest_runtest_logreport", "pytest_terminal_summary", "pytest_report_teststatus")


def adapt_arguments(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Keep from the controller what belongs to the workers: conftests, their options, plugins that act on tests.

    For `pytest_load_initial_conftests`. What this session's plugins do not know is taken out of `args`.
    """
    config.stash[_WORDS] = Words.of(config, parser, environ=os.environ)
    namespace = config.known_args_namespace
    namespace.noconftest = True
    namespace.pythonwarnings = []
    if hasattr(namespace, "cov_source"):
        namespace.cov_source = []
    kept: list[str] = []
    for piece in read_words(args, parser):
        if piece.action is not None and isinstance(piece.action.type, argparse.FileType):
            _delete_empty_output(getattr(namespace, piece.action.dest, None))
        elif not piece.is_unknown:
            kept += piece.words
    args[:] = kept
    found = getattr(config, "_inicfg", None) or config.inicfg
    # Categories of warnings would be imported, out of the project.
    found.pop("filterwarnings", None)
    for name in list(found):
        with contextlib.suppress(ValueError, AssertionError):
            if name not in parser._inidict and name not in getattr(parser, "_ini_aliases", ()):  # noqa: SLF001  # no other way to ask
                parser.addini(name, help="for the workers")
    _leave_out_plugins(config)


def _delete_empty_output(file: Any) -> None:
    """Remove the empty file that the parser has opened for a worker to write."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        file.close()
        if "w" in file.mode and Path(file.name).stat().st_size == 0:
            Path(file.name).unlink()


def _leave_out_plugins(config: pytest.Config) -> None:
    names = [name for name in _WORKER_PLUGINS if config.pluginmanager.has_plugin(name)]
    for implementation in config.hook.pytest_load_initial_conftests.get_hookimpls():
        if implementation.plugin_name in names:
            # This hook is being called right now, with a list of its own.
            implementation.function = lambda: None  # type: ignore[misc]  # pluggy has no way to skip one
            implementation.argnames = ()  # type: ignore[misc]  # as above
    for name in names:
        config.pluginmanager.unregister(name=name)


def words_of(config: pytest.Config) -> Words:
    return config.stash[_WORDS]


def reporters_options(config: pytest.Config) -> set[str]:
    """Of the options that were used, those of plugins that only report, and so do their work in the controller."""
    found = set()
    known = words_of(config).known()
    for plugin in config.pluginmanager.get_plugins():
        code = getattr(getattr(plugin, "pytest_addoption", None), "__code__", None)
        if code is None or not isinstance(plugin, ModuleType) or plugin.__name__.startswith("_pytest."):
            continue
        options = known.intersection(_constants(code))
        if options and _only_reports(config, plugin.__name__.partition(".")[0]):
            found |= options
    return found


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (each for each in constant if isinstance(each, str))


def _only_reports(config: pytest.Config, package: str) -> bool:
    """Whether the plugins of `package` hear of reports, and change neither which tests there are nor how they run."""
    hooks: set[str] = set()
    for plugin in config.pluginmanager.get_plugins():
        module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
        if module.partition(".")[0] == package:
            hooks.update(_own_hooks(config, plugin))
    return not hooks & _RUNNING_HOOKS and any(name in hooks for name in _REPORTING_HOOKS)


def _own_hooks(config: pytest.Config, plugin: object) -> Iterator[str]:
    for caller in config.pluginmanager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            # A wrapper looks on. What a reporter inherits from pytest's own does what pytest does.
            looks_on = caller.name in _RUNNING_HOOKS and (implementation.hookwrapper or implementation.wrapper)
            is_inherited = implementation.function.__module__.startswith("_pytest.")
            if implementation.plugin is plugin and not looks_on and not is_inherited:
                yield caller.name


def seed() -> int:
    """One for pytest-randomly in all workers of a session."""
    return random.SystemRandom().getrandbits(32)


def adapt_options(config: pytest.Config) -> None:
    """Take from the outer session the options that the inner sessions obey, each for itself."""
    option = config.option
    values: dict[str, Any] = {
        "numprocesses": None, "dist": "no", "tx": [], "looponfail": False, "distload": False,
        "cov_source": [], "no_cov": True,
        "stepwise": False, "stepwise_skip": False, "lf": False, "failedfirst": False, "newfirst": False,
        "usepdb": False, "trace": False, "show_fixtures_per_test": False,
    }  # fmt: skip
    for name, value in values.items():
        if hasattr(option, name):
            setattr(option, name, value)


def worker_arguments(
    config: pytest.Config, *, name: str, cache: Path, any_failed: bool, ours: Iterable[Path]
) -> list[str]:
    """What follows the user's own options in the worker called `name`, and so wins.

    `any_failed` is whether the last session of any Python had failures. In `ours` is nothing to collect.
    """
    arguments = [f"--rootdir={config.rootpath}"]
    if config.pluginmanager.hasplugin("cacheprovider"):
        arguments += ["-o", f"cache_dir={cache}"]
    # Pythons and environments have test suites of their own, and the workers may not have our plugin.
    marks = (mark for pattern in ("*", "*/*") for mark in config.rootpath.glob(f"{pattern}/.pytest-pyinstall"))
    ignored = (*ours, *(mark.parent for mark in marks))  # also a store that is not the one of this call
    arguments += [f"--ignore={path}" for path in dict.fromkeys(ignored) if path.is_relative_to(config.rootpath)]
    if basetemp := config.getoption("basetemp", None):
        arguments.append(f"--basetemp={Path(basetemp) / name}")
        Path(basetemp).mkdir(parents=True, exist_ok=True)
    words = words_of(config)
    is_decided = words.has_option("--lfnf", "--last-failed-no-failures")
    # With failures on one Python, the others have nothing to run again.
    if any_failed and words.has_option("--lf", "--last-failed") and not is_decided:
        arguments.append("--lfnf=none")
    return arguments


def translate_ini(path: Path | None, version: str, target: Path) -> list[str]:
    """Write `target` with the settings of a file that this version of pytest cannot read, and return their names.

    Native TOML came with pytest 9. Without such settings nothing is written.
    """
    if path is None or path.suffix != ".toml" or int(version.partition(".")[0]) >= 9:
        return []
    document = read_toml(path)
    native = document.get("tool", {}).get("pytest") if path.name == "pyproject.toml" else document.get("pytest")
    if not isinstance(native, dict) or "ini_options" in native:
        return []
    lines = ["[tool.pytest.ini_options]"]
    for name, value in native.items():
        if name.startswith("pyinstall_") or name in {"minversion", "cache_dir"} or isinstance(value, dict):
            continue
        items = ", ".join(map(_toml_string, value)) if isinstance(value, list) else ""
        lines.append(f"{_toml_string(name)} = {f'[{items}]' if isinstance(value, list) else _toml_string(value)}")
    target.write_text("\n".join(lines), encoding="utf-8")
    return [name for name, value in native.items() if not isinstance(value, dict)]


def _toml_string(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def jobs_of(config: pytest.Config) -> int:
    text = config.getoption("pyinstall_jobs") or config.getini("pyinstall_jobs")
    if not text:
        return usable_cores()
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < 1:
        raise InvalidSettingError(f"--python-jobs: {text!r} is no number of Pythons", hint="--python-jobs 2")
    return jobs


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """As many cores as this process may use: its affinity, and the quota of its control group and of those above."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return max(1, cores)
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        root = cgroups if number == "0" else cgroups / "cpu"
        directory = root / place.lstrip("/")
        # In a container the group that we see as our own may be the root of what is mounted.
        for group in (root, directory, *directory.parents):
            if group.is_relative_to(root) and (quota := _quota(group)):
                cores = min(cores, math.ceil(quota))
    return max(1, cores)


def _quota(group: Path) -> float:
    """The cores that a control group may use at once; 0 without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota_us, period_us = (
            int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return max(0.0, quota_us / period_us)
    return 0.0


_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "tox.toml", "Pipfile", "noxfile.py")


def project_directory(config: pytest.Config) -> Path:
    """The directory of the project that is meant: the nearest one above what was named, or above where we are.

    The root directory has pytest's configuration, which in a monorepo is that of many projects.
    """
    start = _common_directory(config) or config.invocation_params.dir
    if found := directory_of_project(start):
        return found
    for directory in (config.rootpath, start, *start.parents):
        if any((directory / name).is_file() for name in _PROJECT_FILES) or any(directory.glob("requirements*.txt")):
            return directory
    return config.rootpath


def _common_directory(config: pytest.Config) -> Path | None:
    """The directory that has everything that was named on the command line."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return None
    paths = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    if not paths or not all(path.exists() for path in paths):
        return None
    common = Path(os.path.commonpath(os.path.abspath(path) for path in paths))  # noqa: PTH100  # not resolved
    return common if common.is_dir() else common.parent


def is_interactive(config: pytest.Config, pythons: Sequence[tuple[str, str]]) -> bool:
    """Whether the worker needs the terminal.

    `pythons` are labels and requests. Raises `UsageError` if several need it.
    """
    asked = words_of(config).has_option("--pdb", "--trace")
    needs = asked or config.getoption("capture", "fd") == "no"
    if needs and len(pythons) > 1:
        names = ", ".join(label for label, _ in pythons)
        message = f"--pdb, --trace and -s show one Python at a time, and these are {len(pythons)}: {names}"
        raise UsageError(message, hint=f"--python {pythons[-1][1]}")
    return needs
