"""The Pythons of this machine, each probed once."""

import functools
import os

from archives import interpreters

from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe

OTHERS = interpreters()


@functools.cache
def probed(minor: str) -> Interpreter:
    return probe(OTHERS[minor], environ=os.environ)
