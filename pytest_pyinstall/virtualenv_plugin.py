"""A virtualenv discovery that installs missing Pythons: ``virtualenv --discovery pyinstall -p 3.9 DIR``.

Source: ``virtualenv/discovery/builtin.py``; its options, rules and results still apply.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtualenv.discovery.builtin import Builtin, get_interpreter

if TYPE_CHECKING:
    from pytest_pyinstall.provisioner import Provisioner
    from pytest_pyinstall.request.request import Request

__all__ = ["Pyinstall"]


_LOGGER = logging.getLogger(__name__)


class Pyinstall(Builtin):
    """virtualenv's own discovery. If it finds nothing, a Python from the store, which is installed if necessary.

    With several ``-p``, the first Python that is present wins, otherwise the first that can be installed.
    ``--try-first-with`` takes precedence. A path, or a name without a version (``-p python``), is looked up as usual.
    If a Python cannot be installed, one line says why, and virtualenv reports that it found no interpreter.
    """

    def run(self) -> Any:
        """The ``PythonInfo`` of the interpreter, None if there is none."""
        from pytest_pyinstall.errors import PyinstallError
        from pytest_pyinstall.interpreter.other_tools import explain, request_from_spec
        from pytest_pyinstall.request.identity import Target

        specs = {spec: request_from_spec(spec, target=Target.current()) for spec in self.python_spec}
        if not any(specs.values()):
            found = super().run()
            for spec in () if found else specs:
                if reason := explain(spec, path=self._world().get("PATH", "")):
                    _LOGGER.warning("pyinstall: %s", " ".join(reason.split()))
            return found
        try:
            with _provisioner(self._world()) as provisioner:
                for spec, request in specs.items():
                    if found := self._find(spec, request, provisioner):
                        return found
                for request in filter(None, specs.values()):
                    if found := self._install(request, provisioner):
                        return found
        except PyinstallError as error:
            _tell(error)
        return None

    def _find(self, spec: str, request: "Request | None", provisioner: "Provisioner") -> Any:
        """An interpreter that is already present. Downloads nothing."""
        from pytest_pyinstall.errors import NoMatchError, ProbeError

        if request is None:
            return self._look(spec)
        if found := self._tried_first(spec):
            return found
        try:
            return self._look(str(provisioner.find(request).interpreter.executable))
        except (NoMatchError, ProbeError):
            # virtualenv searches places that we do not; nothing there has an attestation.
            settings = provisioner.settings
            is_ours_alone = settings.preference == "only-managed" or settings.attestation == "require"
            return None if is_ours_alone else self._look(spec)

    def _install(self, request: "Request", provisioner: "Provisioner") -> Any:
        from pytest_pyinstall.errors import PyinstallError

        try:
            return self._look(str(provisioner.provide_one(request).interpreter.executable))
        except PyinstallError as error:
            _tell(error)
            return None

    def _tried_first(self, spec: str) -> Any:
        from python_discovery import PythonSpec

        wanted = PythonSpec.from_string_spec(spec)
        for path in self.try_first_with:
            found = self._look(str(Path(path).absolute()))
            if found and found.satisfies(wanted, impl_must_match=True):
                return found
        return None

    def _look(self, spec: str) -> Any:
        return get_interpreter(spec, self.try_first_with, app_data=self.app_data, env=self._env)

    def _world(self) -> Mapping[str, str]:
        # tox passes only the variables of `pass_env`, without our settings.
        return {**os.environ, **self._env}


def _provisioner(environ: Mapping[str, str]) -> "Provisioner":
    from pytest_pyinstall.configuration import read_configuration
    from pytest_pyinstall.provisioner import open_provisioner

    directory = Path.cwd()
    settings = read_configuration(directory).make_settings(environ, directory=directory)
    return open_provisioner(settings, environ=environ, directory=directory, warn=_LOGGER.warning)


def _tell(error: Any) -> None:
    hint = f" (hint: {error.hint})" if error.hint else ""
    _LOGGER.warning("pyinstall: %s%s", " ".join(error.message.split()), hint)
