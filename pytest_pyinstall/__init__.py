"""Runs tests under every Python version that you support, and installs the versions that you don't have.

This file runs in every pytest session that has the plugin installed, so it imports nothing: the names below are
loaded when they are first used.
"""

TYPE_CHECKING = False  # `typing` takes longer to import than all the rest of this
if TYPE_CHECKING:
    from pytest_pyinstall.errors import PyinstallError
    from pytest_pyinstall.interpreter.interpreter import Environment, Interpreter, RunError
    from pytest_pyinstall.provisioner import provision, provision_all
    from pytest_pyinstall.request.request import Request
    from pytest_pyinstall.settings import Settings

__all__ = [
    "Environment",
    "Interpreter",
    "PyinstallError",
    "Request",
    "RunError",
    "Settings",
    "provision",
    "provision_all",
]

_HOMES = {
    "Environment": "interpreter.interpreter",
    "Interpreter": "interpreter.interpreter",
    "PyinstallError": "errors",
    "Request": "request.request",
    "RunError": "interpreter.interpreter",
    "Settings": "settings",
    "provision": "provisioner",
    "provision_all": "provisioner",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
