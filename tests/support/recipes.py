"""What tests of recipes need: a fake Python, and the parts of a recipe."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.suite.inputs import Inputs
from pytest_pyinstall.suite.recipe import Recipe

PROJECT = '[project]\nname = "demo"\nversion = "1"\n'


Write = Callable[..., Path]


def python(version: str = "3.9", implementation: str = "cpython") -> Interpreter:
    """An object with the attributes of a Python that a recipe reads."""
    info = tuple(map(int, version.split(".")))
    found = SimpleNamespace(version_info=info, implementation=implementation, free_threaded=False)
    return cast("Interpreter", found)


def described(recipe: Recipe, version: str = "3.9") -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    spec = recipe.spec(python(version))
    return recipe.description, spec.extras, spec.requirements


def parts(recipe: Recipe) -> dict[str, str]:
    return Inputs(recipe.spec(python()), environ={}).parts
