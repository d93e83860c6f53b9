"""A suite without a network: the commands of ``docs/howto/air-gapped.md``, with real pip and real uv."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from archives import interpreters
from pages import DOCS, fenced
from suite_fixtures import NEW, OLD, PYPROJECT, marks

pytestmark = marks
NOWHERE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def commands(start: str) -> str:
    """The code block of the page that begins with `start`, with the Pythons of this machine."""
    [text] = [text for _, text in fenced(DOCS / "howto" / "air-gapped.md") if text.startswith(start)]
    for words in (f"{OLD} {NEW}", f"{OLD},{NEW}"):
        paths = words.replace(OLD, str(interpreters()[OLD])).replace(NEW, str(interpreters()[NEW]))
        text = text.replace(f"--python {words}", f"--python {paths}")
    return text


def shell(text: str, directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/sh", "-euc", text],
        cwd=directory,
        env={**os.environ, "PATH": path, "PYTEST_PYINSTALL_PREFERENCE": "only-system", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(name="packages", scope="module")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of packages that the page's first command downloads, with the network."""
    directory = tmp_path_factory.mktemp("online")
    _project(directory)
    done = shell(commands("pytest-pyinstall exec"), directory)
    assert not done.returncode, done.stderr
    return directory / "packages"


def _project(directory: Path) -> None:
    (directory / "pyproject.toml").write_text(f'{PYPROJECT}dependencies = ["wcwidth"]\n', "utf-8")
    (directory / "demo.py").write_text("def one():\n    return 1\n", "utf-8")
    (directory / "requirements-test.txt").write_text("toml\n", "utf-8")
    (directory / "test_demo.py").write_text("import demo, toml, wcwidth\ndef test_it(): pass\n", "utf-8")


def _supports_old(wheel: Path) -> bool:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return ">=3.10" not in archive.read(name).decode()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_suite_installs_packages_from_a_directory(
    installer: str, packages: Path, tmp_path: Path, isolated_home: Path
) -> None:
    _project(tmp_path)
    shutil.copytree(packages, tmp_path / "packages")
    environ = {**NOWHERE, "PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(tmp_path / "uv-cache")}
    if installer == "pip":
        (tmp_path / "no-uv").mkdir()
        (tmp_path / "no-uv" / "uv.py").write_text("def find_uv_bin(): raise FileNotFoundError\n", "utf-8")
        environ["PYTHONPATH"] = str(tmp_path / "no-uv")
        found = shutil.which("uv")
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent.parent / "none"), "/usr/bin", "/bin"])
        assert not found or Path(found).parent not in {Path("/usr/bin"), Path("/bin")}
    text = commands("export PIP_NO_INDEX").replace("pytest --", f"{sys.executable} -m pytest -p no:randomly --")
    done = shell(text, tmp_path, **environ)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert len(re.findall(rf"\({installer}\b", done.stdout)) == 2

    # No package for the old Python that pytest needs there, but one for the new Python.
    [path] = [path for path in (tmp_path / "packages").glob("iniconfig-*") if _supports_old(path)]
    path.unlink()
    shutil.rmtree(isolated_home / "pyinstall")
    shutil.rmtree(tmp_path / "uv-cache", ignore_errors=True)
    done = shell(text.replace(f",{interpreters()[NEW]}", ""), tmp_path, **environ)
    assert done.returncode == 1
    assert "1 error" in done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.startswith("cannot install: ")]
    assert "iniconfig" in line
    assert "pytest" in line
