"""``python -m pytest_pyinstall``: the command line."""

import sys

from pytest_pyinstall.start import main

sys.exit(main())
