"""Provides the Pythons that tox environments need, before tox looks for them.

The plugin puts them on ``PATH`` after tox has read its configuration. ``PATH`` is the only place that plain tox, the
old virtualenv for Python 3.8 and older, and tox-uv all search. tox loads this module for every command, so it imports
almost nothing.
"""

import logging
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tox.plugin import impl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from packaging.requirements import Requirement
    from tox.config.cli.parser import Parsed
    from tox.config.sets import ConfigSet, EnvConfigSet
    from tox.session.state import State

    from pytest_pyinstall.errors import PyinstallError
    from pytest_pyinstall.interpreter.interpreter import Interpreter
    from pytest_pyinstall.provisioner import Provisioner, ProvisionResult
    from pytest_pyinstall.request.request import Request
    from pytest_pyinstall.settings import Settings

__all__ = ["tox_add_core_config", "tox_add_env_config"]


_LOGGER = logging.getLogger(__name__)


_RUNNING = frozenset({"run", "r", "run-parallel", "p", "legacy", "le", "exec", "e", "devenv", "d"})
"""The commands that create environments. The others install nothing."""


_runs: "WeakKeyDictionary[State, _Run]" = WeakKeyDictionary()


@impl
def tox_add_core_config(core_conf: "ConfigSet", state: "State") -> None:
    """Warn if tox will start again in an environment that has what ``requires`` names, and so not this plugin."""
    options = state.conf.options
    if not _makes_environments(options) or getattr(options, "no_provision", False) or "requires" not in core_conf:
        return
    from packaging.utils import canonicalize_name

    requires = {canonicalize_name(requirement.name): requirement for requirement in core_conf["requires"]}
    if "pytest-pyinstall" not in requires and not all(map(_is_installed, requires.values())):
        with _speaking_as_ourselves():
            _LOGGER.warning("tox starts again in an environment without this plugin: add pytest-pyinstall to requires")


def _is_installed(requirement: "Requirement") -> bool:
    from importlib.metadata import PackageNotFoundError, version

    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


@impl(trylast=True)  # after plugins that set base_python, which is read here
def tox_add_env_config(env_conf: "EnvConfigSet", state: "State") -> None:
    """Put the Python of `env_conf` on ``PATH`` if this tox run will create that environment.

    Missing Pythons are installed first, for all selected environments at once. If a Python cannot be provided, one line
    says why, and tox decides whether the environment fails or is skipped.
    """
    if _makes_environments(state.conf.options):
        if state not in _runs:
            _runs[state] = _Run(state)
        _runs[state].prepare(env_conf)


def _makes_environments(options: "Parsed") -> bool:
    return options.command in _RUNNING and not any(
        getattr(options, only_looks, False) for only_looks in ("show_config", "list_envs", "list_envs_all")
    )


class _Run:
    """One tox run: the environments that it will create, and the results for their Pythons."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._selected = tuple(_selected(state))
        self._results: dict[Request, ProvisionResult | PyinstallError] = {}
        self._is_package_wanted = False
        self._commands = ExitStack()

    def prepare(self, env_conf: "EnvConfigSet") -> None:
        name = env_conf.env_name or ""
        if self._is_wanted(name, env_conf):
            chosen = self._choose(name, _base_pythons(env_conf))
            if chosen is not None:
                chosen = self._held(chosen)
                _put_on_path(chosen.interpreter, self._settings, self._commands)

    def _held(self, chosen: "ProvisionResult") -> "ProvisionResult":
        """`chosen`, leased until tox ends, so that `remove` does not delete it while it is used."""
        result = self._provisioner.lease_or_reprovide(chosen)
        self._results[chosen.request] = result
        return self._or_complaint(chosen.request) or chosen

    def _is_wanted(self, name: str, env_conf: "EnvConfigSet") -> bool:
        if "depends" not in env_conf:  # a packaging environment of the environment prepared last
            return self._is_package_wanted
        options = self._state.conf.options
        labels: set[str] = {*getattr(options, "labels", ())}
        is_labelled = bool(labels) and not labels.isdisjoint(env_conf["labels"]) and not _is_left_out(name, options)
        # tox builds its provisioning environment only if it will run in it.
        is_own = name == self._state.conf.core["provision_tox_env"]
        is_wanted = name in self._selected or is_labelled or is_own
        # With labels or factors, an environment that is not selected may come first and share the packaging.
        self._is_package_wanted = is_wanted or bool(labels or getattr(options, "factors", ()))
        return is_wanted

    def _choose(self, name: str, base_pythons: "Sequence[str]") -> "ProvisionResult | None":
        """The Python that tox will find for `base_pythons`; the first one found wins."""
        requests, has_alternative = self._requests(base_pythons)
        if len(requests) == 1 and not has_alternative:
            self._provide([*requests, *self._others(name)])
            return self._or_complaint(requests[0])
        for request in requests:
            if (found := self._find(request)) is not None:
                return found
        if has_alternative:
            _complain(base_pythons)
            return None
        for request in requests:
            self._provide([request])
            if (provided := self._or_complaint(request)) is not None:
                return provided
        return None

    def _requests(self, base_pythons: "Sequence[str]") -> "tuple[list[Request], bool]":
        """The requests in `base_pythons` up to the first spec that tox finds by itself, and whether there is one."""
        from pytest_pyinstall.interpreter.other_tools import request_from_spec
        from pytest_pyinstall.request.identity import Target

        requests: list[Request] = []
        for base_python in base_pythons:
            request = request_from_spec(base_python, target=Target.current())
            if request is not None:
                requests.append(request)
            elif not Path(base_python).is_absolute() or Path(base_python).exists():
                return requests, True
        return requests, False

    def _others(self, name: str) -> "Iterator[Request]":
        """The requests of the other selected environments whose names alone decide their Python."""
        for other in self._selected:
            if other == name or (spec := _named_python(other, self._state)) is None:
                continue
            requests, _ = self._requests([spec])
            yield from requests

    def _provide(self, requests: "Sequence[Request]") -> None:
        new = [request for request in dict.fromkeys(requests) if request not in self._results]
        if new:
            with _speaking_as_ourselves():
                self._results.update(zip(new, self._provisioner.provide(new), strict=True))

    def _find(self, request: "Request") -> "ProvisionResult | None":
        from pytest_pyinstall.errors import PyinstallError

        try:
            return self._provisioner.find(request)
        except PyinstallError:
            return None

    def _or_complaint(self, request: "Request") -> "ProvisionResult | None":
        from pytest_pyinstall.errors import PyinstallError

        result = self._results[request]
        if not isinstance(result, PyinstallError):
            return result
        hint = f" (hint: {result.hint})" if result.hint else ""
        _LOGGER.warning("%s%s", " ".join(result.message.split()), hint)
        return None

    @cached_property
    def _provisioner(self) -> "Provisioner":
        """The provisioner of the whole run, which keeps its leases until tox ends."""
        from pytest_pyinstall.progress import Lines, result_line
        from pytest_pyinstall.provisioner import ProvisionResult, open_provisioner

        def report(request: "Request", result: "ProvisionResult | PyinstallError", seconds: float) -> None:
            if isinstance(result, ProvisionResult) and result.how in {"installed", "repaired"}:
                _LOGGER.warning(result_line(request, result, seconds))

        return open_provisioner(
            self._settings,
            directory=self._state.conf.core["tox_root"],
            progress=Lines(_LOGGER.warning),
            warn=_LOGGER.warning,
            on_result=report,
        )

    @cached_property
    def _settings(self) -> "Settings":
        return _read_settings(self._state)


def _complain(base_pythons: "Sequence[str]") -> None:
    from pytest_pyinstall.interpreter.other_tools import explain

    for base_python in base_pythons:
        if reason := explain(base_python, path=os.environ.get("PATH", "")):
            _LOGGER.warning("%s", " ".join(reason.split()))


def _speaking_as_ourselves() -> "AbstractContextManager[None]":
    """Log as ``pyinstall``: an installation for all environments does not belong to the first one."""
    from contextlib import nullcontext

    from tox.report import ToxHandler

    handlers = (handler for handler in logging.getLogger().handlers if isinstance(handler, ToxHandler))
    handler = next(handlers, None)
    return nullcontext() if handler is None else handler.with_context("pyinstall")


def _read_settings(state: "State") -> "Settings":
    from tox.report import HandledError

    from pytest_pyinstall.configuration import read_configuration
    from pytest_pyinstall.errors import PyinstallError

    try:
        configuration = read_configuration(state.conf.core["tox_root"])
        return configuration.make_settings(os.environ, directory=Path.cwd())
    except PyinstallError as error:
        raise HandledError(str(error)) from error


def _selected(state: "State") -> "Iterator[str]":
    """The environments that this run will create, judged by their names. Those with a label are added later.

    Source: ``tox.session.env_select.EnvSelector``, which works only after all environments are defined.
    """
    conf, options = state.conf, state.conf.options
    env_list = list(conf.core["env_list"])
    selected = getattr(options, "env", None)
    labels, factors = getattr(options, "labels", ()), getattr(options, "factors", ())
    if labels or factors:
        sets = [{part for factor in group for part in factor.split("-")} for group in factors]
        known = dict.fromkeys([*env_list, *conf])
        names = [name for name in known if any(parts.issubset(name.split("-")) for parts in sets)]
        names += [name for label in labels for name in conf.core["labels"].get(label, ())]
    elif selected is None or selected.is_default_list:
        names = env_list or ["py"]
    else:
        names = [*env_list, *conf] if selected.is_all else list(selected)
    yield from (name for name in dict.fromkeys(names) if not _is_left_out(name, options))


def _is_left_out(name: str, options: "Parsed") -> bool:
    pattern = getattr(options, "skip_env", "").strip()
    return bool(pattern) and re.match(pattern, name) is not None


def _base_pythons(env_conf: "EnvConfigSet") -> "Sequence[str]":
    from tox.report import HandledError
    from tox.tox_env.errors import Fail, Skip

    try:
        base_pythons: list[str] = env_conf["base_python"]
    except (HandledError, Fail, Skip, ValueError):
        return ()  # tox reports it itself
    except KeyError:
        return ()  # another plugin's environment without Python
    return base_pythons


def _named_python(name: str, state: "State") -> str | None:
    """The Python in the name of an environment, None if its configuration sets one."""
    from tox.tox_env.python.api import Python

    for loader in state.conf.get_env(name).loaders:
        for key in ("base_python", "basepython"):
            if key in loader.overrides:
                return None
            try:
                loader.load_raw(key, state.conf, name)
            except KeyError:
                continue
            return None
    try:
        return Python.extract_base_python(name)
    except ValueError:
        return None


def _put_on_path(interpreter: "Interpreter", settings: "Settings", stack: ExitStack) -> None:
    """Put the versioned name of `interpreter` on ``PATH``, and no other new name."""
    paths = os.environ.get("PATH", "").split(os.pathsep)
    if sys.platform == "win32":
        # Discovery on Windows only looks for python.exe. At the end, so that `python` stays the same.
        directory = str(interpreter.base_executable.parent)
        if directory not in paths:
            os.environ["PATH"] = os.pathsep.join([*paths, directory])
        return
    from tox.report import HandledError

    from pytest_pyinstall.errors import PyinstallError
    from pytest_pyinstall.interpreter.path_commands import commands_on_path

    try:
        base = replace(interpreter, executable=interpreter.base_executable)
        commands = stack.enter_context(commands_on_path([base], environ=os.environ, cache=settings.cache))
    except PyinstallError as error:
        raise HandledError(str(error)) from error
    if not {*commands.directories} <= {*paths}:
        os.environ["PATH"] = commands.before(os.environ.get("PATH", ""))
