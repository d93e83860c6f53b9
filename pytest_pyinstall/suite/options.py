"""Divides pytest's options between the controller of a suite and its workers."""

from __future__ import annotations

import argparse
import contextlib
import dis
import inspect
import itertools
import json
import math
import os
import random
import re
import shlex
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyinstall.errors import InvalidSettingError, UsageError
from pytest_pyinstall.options import ini_origin, ini_place
from pytest_pyinstall.project import directory_of_project
from pytest_pyinstall.settings import example_at
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
"""Entry points of plugins that act on the tests themselves. In the controller, which runs no tests, they would import
the project's settings or print a header that is wrong."""


_RUNNING_HOOKS = {
    "pytest_runtest_protocol", "pytest_runtest_call", "pytest_pyfunc_call", "pytest_collect_file",
    "pytest_generate_tests", "pytest_runtestloop",
}  # fmt: skip


_REPORTING_HOOKS = ("pytest_runtest_logreport", "pytest_terminal_summary", "pytest_report_teststatus")


def adapt_arguments(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Remove from the controller what only the workers use: conftests and their options, and plugins that act on tests.

    For `pytest_load_initial_conftests`. Removes from `args` the options that no plugin of the controller has.
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
    found = config._inicfg if hasattr(config, "_inicfg") else config.inicfg  # noqa: SLF001  # the second is deprecated since pytest 9
    # pytest would import the categories of warnings, which may be classes of the project.
    found.pop("filterwarnings", None)
    for name in list(found):
        with contextlib.suppress(ValueError, AssertionError):
            if name not in parser._inidict and name not in getattr(parser, "_ini_aliases", ()):  # noqa: SLF001  # no other way to ask
                parser.addini(name, help="for the workers")
    _leave_out_plugins(config)


def _delete_empty_output(file: Any) -> None:
    """Delete the empty file that the parser opened. The worker writes one of its own."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        file.close()
        if "w" in file.mode and Path(file.name).stat().st_size == 0:
            Path(file.name).unlink()


def _leave_out_plugins(config: pytest.Config) -> None:
    names = [name for name in _WORKER_PLUGINS if config.pluginmanager.has_plugin(name)]
    for implementation in config.hook.pytest_load_initial_conftests.get_hookimpls():
        if implementation.plugin_name in names:
            # pytest is calling this hook now, and has copied the list of implementations already.
            implementation.function = lambda: None  # type: ignore[misc]  # pluggy has no way to skip one
            implementation.argnames = ()  # type: ignore[misc]  # as above
    for name in names:
        config.pluginmanager.unregister(name=name)


def words_of(config: pytest.Config) -> Words:
    """The words of the session's command line, which `adapt_arguments` has read."""
    return config.stash[_WORDS]


def reporters_options(config: pytest.Config) -> set[str]:
    """The used options of plugins that only report. These plugins do their work in the controller."""
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
    """Whether the plugins of `package` use reports, and change neither which tests exist nor how they run."""
    hooks: set[str] = set()
    for plugin in config.pluginmanager.get_plugins():
        module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
        if module.partition(".")[0] == package:
            hooks.update(_own_hooks(config, plugin))
    return not hooks & _RUNNING_HOOKS and any(name in hooks for name in _REPORTING_HOOKS)


def _own_hooks(config: pytest.Config, plugin: object) -> Iterator[str]:
    for caller in config.pluginmanager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            # A wrapper does not run tests itself, and neither does a hook that leaves them to the next one. A reporter
            # that inherits from pytest's own has that one's hooks too.
            only_watches = caller.name in _RUNNING_HOOKS and (
                implementation.hookwrapper or implementation.wrapper or _returns_only_none(implementation.function)
            )
            is_inherited = implementation.function.__module__.startswith("_pytest.")
            if implementation.plugin is plugin and not only_watches and not is_inherited:
                yield caller.name


def _returns_only_none(function: object) -> bool:
    """Whether `function` has no other ``return`` than ``return None``, as in teamcity-messages."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_GENERATOR:
        return False
    instructions = list(dis.get_instructions(code))
    for before, each in itertools.pairwise([*instructions[:1], *instructions]):
        if each.opname == "RETURN_CONST" and each.argval is not None:
            return False
        if each.opname == "RETURN_VALUE" and (before.opname != "LOAD_CONST" or before.argval is not None):
            return False
    return True


def seed() -> int:
    """A random seed for pytest-randomly, which all workers of a session use."""
    return random.SystemRandom().getrandbits(32)


def adapt_options(config: pytest.Config) -> None:
    """Reset the options in the controller that each worker applies itself."""
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


_OWN_REQUIREMENT = re.compile(r"pytest[-_.]+pyinstall(?![\w.-])", re.IGNORECASE)


def worker_arguments(
    config: pytest.Config, *, name: str, cache: Path, any_failed: bool, ours: Iterable[Path]
) -> list[str]:
    """Arguments that the worker called `name` gets after those of the user, so that they take precedence.

    `cache` is the directory of its pytest cache. `any_failed` is whether any Python had failures in the last session.
    The directories `ours` contain no tests of the project. Creates the parent of ``--basetemp``.
    """
    arguments = [f"--rootdir={config.rootpath}"]
    if config.pluginmanager.hasplugin("cacheprovider"):
        arguments += ["-o", f"cache_dir={cache}"]
    required = [str(each) for each in config.getini("required_plugins")]
    # Environments do not need our plugin, and those of old Pythons cannot have it. The controller has it.
    others = [each for each in required if not _OWN_REQUIREMENT.match(each)]
    if others != required:
        arguments += ["-o", f"required_plugins={shlex.join(others)}"]
    # Installed Pythons and environments contain tests, and without our plugin a worker would collect them.
    marks = (mark for pattern in ("*", "*/*") for mark in config.rootpath.glob(f"{pattern}/.pytest-pyinstall"))
    ignored = (*ours, *(mark.parent for mark in marks))  # stores of other configurations too
    arguments += [f"--ignore={path}" for path in dict.fromkeys(ignored) if path.is_relative_to(config.rootpath)]
    if basetemp := config.getoption("basetemp", None):
        arguments.append(f"--basetemp={Path(basetemp) / name}")
        Path(basetemp).mkdir(parents=True, exist_ok=True)
    words = words_of(config)
    is_decided = words.has_option("--lfnf", "--last-failed-no-failures")
    # Without failures, plain `--lf` runs all tests: wrong for a Python if only another one had failures.
    if any_failed and words.has_option("--lf", "--last-failed") and not is_decided:
        arguments.append("--lfnf=none")
    return arguments


def translate_ini(path: Path | None, version: str, target: Path) -> list[str]:
    """Translate pytest's settings in the TOML file `path` to a format that pytest before 9 can read.

    Writes them to `target` and returns their names. Writes nothing and returns an empty list if pytest `version` can
    read the file itself. Raises `InvalidSettingError` for invalid TOML.
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
    """How many Pythons run at once: ``--python-jobs``, else the number of cores. Raises `InvalidSettingError`."""
    option = config.getoption("pyinstall_jobs")
    text = option or config.getini("pyinstall_jobs")
    if not text:
        return usable_cores()
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < 1:
        origin, file = ("--python-jobs", None) if option else ini_origin(config, "pyinstall_jobs")
        place = "--python-jobs" if option else ini_place(config, "pyinstall_jobs")
        message = f"{place}: {text!r} is not a number of Pythons"
        raise InvalidSettingError(message, hint=example_at(origin, "2", file=file))
    return jobs


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores that this process may use, at least 1.

    Limits are its CPU affinity, and the CPU quota of its control group and of the groups above it.
    """
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
        # In a container, the control group with our limit may be mounted as the root.
        for group in (root, directory, *directory.parents):
            if group.is_relative_to(root) and (quota := _quota(group)):
                cores = min(cores, math.ceil(quota))
    return max(1, cores)


def _quota(group: Path) -> float:
    """The number of cores that a control group may use; 0 if there is no limit."""
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
    """The directory of the project: the nearest one at or above the named tests, or the current directory.

    Not pytest's root directory, because in a monorepo several projects can share it. Raises `InvalidSettingError`.
    """
    start = _common_directory(config) or config.invocation_params.dir
    if found := directory_of_project(start):
        return found
    for directory in (config.rootpath, start, *start.parents):
        if any((directory / name).is_file() for name in _PROJECT_FILES) or any(directory.glob("requirements*.txt")):
            return directory
    return config.rootpath


def _common_directory(config: pytest.Config) -> Path | None:
    """The common directory of all paths on the command line; None without paths, or if one does not exist."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return None
    paths = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    if not paths or not all(path.exists() for path in paths):
        return None
    common = Path(os.path.commonpath(os.path.abspath(path) for path in paths))  # noqa: PTH100  # not resolved
    return common if common.is_dir() else common.parent


def is_interactive(config: pytest.Config, pythons: Sequence[tuple[str, str]]) -> bool:
    """Whether the worker needs the terminal, for the debugger or ``-s``.

    `pythons` are the labels and requests. Raises `UsageError` if there are several, which cannot share a terminal.
    """
    has_debugger = words_of(config).has_option("--pdb", "--trace")
    needs_terminal = has_debugger or config.getoption("capture", "fd") == "no"
    if needs_terminal and len(pythons) > 1:
        names = ", ".join(label for label, _ in pythons)
        message = f"--pdb, --trace and -s work with one Python at a time, not with {len(pythons)}: {names}"
        raise UsageError(message, hint=f"--python {pythons[-1][1]}")
    return needs_terminal
