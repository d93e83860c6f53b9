"""The entry point of ``pytest-pyinstall``: answers at once where there is nothing to do, else the command line does."""

import os
import sys

from pytest_pyinstall.recall import recall

__all__ = ["main"]


def main() -> int:
    """As `cli.main`, with the words of this process."""
    # On a terminal there are colours, and somebody who does not count milliseconds.
    answer = None if sys.stderr is None or sys.stderr.isatty() else recall(sys.argv[1:], os.environ)
    if answer is not None:
        try:
            sys.stderr.write(f"{answer[1]}\n")
            sys.stdout.write(f"{answer[0]}\n")
            sys.stdout.flush()
            return 0
        except OSError:
            pass  # the command line knows what to do about it
    from pytest_pyinstall.cli.main import main as command_line

    return command_line()
