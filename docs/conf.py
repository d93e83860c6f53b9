"""Sphinx: ``tox run -e docs``."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pytest-pyinstall"
author = "The pytest-pyinstall developers"
project_copyright = f"2026, {author}"
version = release = version_of("pytest-pyinstall")

extensions = ["myst_parser", "redirects"]
redirects = {"mirrors": "howto/air-gapped", "tox": "howto/tox", "ci": "howto/ci"}
myst_heading_anchors = 3
smartquotes = False  # `--python` keeps its hyphens
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "pytest-pyinstall"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
