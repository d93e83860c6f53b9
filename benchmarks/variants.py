"""The suites of real libraries under dependency variants: two lines of Django, two of numpy, and the lowest versions.

    python -m benchmarks.variants DIR [--library NAME]

DIR keeps the source distributions and the environments. The Pythons are those of this machine. The tables of
docs/howto/variants.md are its output.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.libraries import Library, _source_distribution

__all__ = ["TRIALS", "main"]

_DJANGO_FILTER = "-e .\npytest-django\ndjangorestframework\ndjango-crispy-forms\npytz"

TRIALS: Mapping[tuple[str, str], Sequence[Sequence[str]]] = {
    ("django-filter", "25.1"): [
        [
            "--python=3.11,3.12",
            "--python-with=django~=4.2.0",
            "--python-with=django~=5.2.0",
            "--python-with=lowest-direct",
            "-o",
            f"pyinstall_suite_install={_DJANGO_FILTER}",
            "--ds=tests.settings",
        ]
    ],
    ("uncertainties", "3.2.3"): [
        [
            "--python=3.11,3.12",
            "--python-with=numpy~=1.26.0",
            "--python-with=numpy~=2.3.0",
            # It measures how long sums take.
            "--ignore=tests/test_performance.py",
        ]
    ],
    ("inflect", "7.5.0"): [
        ["--python=3.9,3.12", "--python-with=lowest-direct", "--python-with=highest"],
        [
            "--python=3.9,3.12",
            "--python-with=lowest-direct",
            "--python-with=highest",
            "-o",
            "pyinstall_suite_install=-e .\npygments>=2.10",
        ],
    ],
}
"""The options of each run, by library and version."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--library", metavar="NAME")
    options = parser.parse_args(arguments)
    kept = options.directory.absolute()
    environ = {**os.environ, "PYTEST_PYINSTALL_HOME": str(kept / "home")}
    for (name, version), runs in TRIALS.items():
        if options.library in {None, name}:
            source = _source_distribution(Library(name, version, ""), kept / "sources")
            for words in runs:
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--python-suite", *words]
                done = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, check=False)
                print(f"{name} {version}: {' '.join(words)}\n{_table(done.stdout)}\n")


def _table(text: str) -> str:
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if " Pythons " in line), 0)
    return "\n".join(lines[start:])


if __name__ == "__main__":
    main()
