"""Virtual environments with a wheel of this project and real tools such as tox, and a sample library.

All workers of a test run share an environment, so tests only run its programs. The tools run in separate processes
with a ``PATH`` that has no interpreter.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import uv
from filelock import FileLock

__all__ = ["answers", "environ", "environment", "library", "run", "wheel"]

PROJECT = Path(__file__).parents[2]

# Copied during collection, before a fixture hides the home directory, so that packages come from the usual cache.
_ENVIRON = dict(os.environ)
_CACHE = subprocess.run([uv.find_uv_bin(), "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
_SHELL = ("sh", "env", "dirname", "realpath")


def wheel(root: Path) -> Path:
    """A directory below `root` with a wheel of this project."""
    directory = root / "wheels"
    with FileLock(root / "wheels.lock"):
        if not directory.exists():
            _uv("build", "--quiet", "--wheel", "--out-dir", root / "wheels.new", PROJECT)
            (root / "wheels.new").rename(directory)
    return directory


def environment(root: Path, *tools: str) -> Path:
    """The ``bin`` directory of a virtual environment below `root` with this project and `tools`."""
    directory = root / "-".join(["with", *tools])
    made = [*wheel(root).glob("*.whl")]
    with FileLock(root / f"{directory.name}.lock"):
        if not (directory / "complete").exists():
            _uv("venv", "--quiet", "--clear", "--python", sys.executable, directory)
            python = directory / "bin" / "python"
            _uv("pip", "install", "--quiet", "--python", python, *made, *tools)
            (directory / "complete").touch()
    return directory / "bin"


def environ(tmp_path: Path, *, mirror: str, **more: str) -> dict[str, str]:
    """Variables with no interpreter on ``PATH``. pytest-pyinstall downloads from `mirror`, and uv downloads nothing."""
    shell = tmp_path / "shell"
    if not shell.exists():
        shell.mkdir()
        for name in _SHELL:
            found = shutil.which(name, path=_ENVIRON["PATH"])
            assert found
            (shell / name).symlink_to(found)
    # Without byte code, tools would take twice as long.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "PATH": str(shell),
        "PYTEST_PYINSTALL_CATALOGUE": f"{mirror}/catalogue.json",
        "PYTEST_PYINSTALL_MIRROR": mirror,
        # If uv finds no Python, it must fail and not download one.
        "PYTEST_PYINSTALL_DOWNLOADS": "auto",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": _CACHE,
        **more,
    }


def library(directory: Path, tox_toml: str) -> Path:
    """A library that builds without other packages, with `tox_toml` as its configuration of tox."""
    directory.mkdir()
    (directory / "sample.py").write_text("import sys\n\nprint('sample', '.'.join(map(str, sys.version_info[:2])))\n")
    (directory / "backend.py").write_text(_BACKEND)
    (directory / "pyproject.toml").write_text(_PYPROJECT)
    (directory / "tox.toml").write_text(tox_toml)
    return directory


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str], codes: Iterable[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run `command`, with standard error in its standard output."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110, check=False
    )
    assert done.returncode in codes, f"{words} ended with {done.returncode}:\n{done.stdout}"
    return done


def answers(output: str) -> list[str]:
    """The versions that imported the `library`, in the order of their output."""
    return [line.split()[1] for line in output.splitlines() if line.startswith("sample ")]


_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "sample"
version = "1.0"
"""

_BACKEND = """
import os
import zipfile

INFO = "sample-1.0.dist-info"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {
        "sample.py": open("sample.py").read(),
        INFO + "/METADATA": "Metadata-Version: 2.1\\nName: sample\\nVersion: 1.0\\n",
        INFO + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: sample\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[INFO + "/RECORD"] = "".join(name + ",,\\n" for name in [*files, INFO + "/RECORD"])
    with zipfile.ZipFile(os.path.join(wheel_directory, "sample-1.0-py3-none-any.whl"), "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "sample-1.0-py3-none-any.whl"
"""


def _uv(*words: str | Path) -> None:
    done = subprocess.run([uv.find_uv_bin(), *words], env=_ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
