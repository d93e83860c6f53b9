"""``python -m pytest_pyinstall``: the command line."""

import sys

from pytest_pyinstall.cli.main import main

sys.exit(main())
