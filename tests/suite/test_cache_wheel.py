"""An editable installation of a project becomes a wheel, which other environments install."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pytest_pyinstall.suite.cache import is_same_for_all_pythons, pack_editable


def installed(packages: Path, project: Path, *, files: dict[str, str], tag: str = "py3-none-any") -> None:
    """Write what an installer writes for an editable project."""
    info = "demo-1.dist-info"
    everything = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/direct_url.json": json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}}),
        f"{info}/INSTALLER": "uv",
        f"{info}/entry_points.txt": "[console_scripts]\nDemo = demo:main\n",
        "../../../bin/Demo": "#!/bin/python\n",
        **files,
    }
    for name, content in everything.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    record = "".join(f"{name},,\n" for name in (*everything, f"{info}/RECORD"))
    (packages / info / "RECORD").write_text(record, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "prö ject"
    place.mkdir()
    return place


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    place = tmp_path / "env" / "lib" / "python3.9" / "site-packages"
    place.mkdir(parents=True)
    return place


def test_the_wheel_contains_the_files_of_the_project_and_can_be_installed(
    packages: Path, project: Path, tmp_path: Path
) -> None:
    (project / "demo.py").write_text("def main(): print('it works')\n", encoding="utf-8")
    installed(packages, project, files={"demo.pth": f"{project}\n"})
    wheel = pack_editable(packages, project, into=tmp_path / "wheels")
    assert wheel == tmp_path / "wheels" / "demo-1-py3-none-any.whl"
    assert sorted(zipfile.ZipFile(wheel).namelist()) == [
        "demo-1.dist-info/METADATA",
        "demo-1.dist-info/RECORD",
        "demo-1.dist-info/WHEEL",
        "demo-1.dist-info/entry_points.txt",
        "demo.pth",
    ]
    uv = pytest.importorskip("uv").find_uv_bin()
    environment = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    scripts = next(path for path in (environment / "bin", environment / "Scripts") if path.is_dir())
    command = [uv, "pip", "install", "-q", "--offline", "--python", str(environment), f"demo @ {wheel.as_uri()}"]
    subprocess.run(command, check=True)
    assert subprocess.check_output([str(scripts / "Demo")], text=True) == "it works\n"


@pytest.mark.parametrize(
    "files",
    [
        {"demo.pth": "import __editable___demo_finder\n"},
        {"demo.pth": "../../src\n"},
        {"__editable___demo_finder.py": "", "demo.pth": "/x\n"},
        {"demo/_speed.so": ""},
        {"../../../share/demo.txt": ""},
        {"../../../bin/demo.sh": ""},
    ],
)
def test_an_installation_that_may_differ_elsewhere_does_not_become_a_wheel(
    packages: Path, project: Path, tmp_path: Path, files: dict[str, str]
) -> None:
    installed(packages, project, files=files)
    assert pack_editable(packages, project, into=tmp_path / "wheels") is None


def test_a_compiled_project_and_another_project_do_not_become_a_wheel(
    packages: Path, project: Path, tmp_path: Path
) -> None:
    assert pack_editable(packages, project, into=tmp_path / "wheels") is None
    installed(packages, project, files={"demo.pth": "/x\n"}, tag="cp39-cp39-linux_x86_64")
    assert pack_editable(packages, project, into=tmp_path / "wheels") is None
    installed(packages, tmp_path, files={"demo.pth": "/x\n"})
    assert pack_editable(packages, project, into=tmp_path / "wheels") is None
    assert not (tmp_path / "wheels").exists()


@pytest.mark.parametrize(
    ("setup", "document", "alike"),
    [
        (None, "[project]", True),
        ("setup()", "[project]", True),
        ("import sys\nsetup(install_requires=['x'] if sys.version_info < (3, 9) else [])", "", False),
        (None, "[tool.hatch.metadata.hooks.custom]", False),
        (None, '[build-system]\nbackend-path = ["."]', False),
        (None, '[tool.pdm.build]\ncustom-hook = "x.py"', False),
        ("from helper import NEEDS\nsetup(install_requires=NEEDS)", "", False),
        ("import os, helper as h\nsetup(install_requires=h.NEEDS)", "", False),
        ("import os; import helper\nsetup(install_requires=helper.NEEDS)", "", False),
        ("try:\n    import enum\nexcept ImportError:\n    setup(install_requires=['enum34'])\n", "", False),
        ("print 'Python 2'", "", False),
        ("import os\nfrom setuptools import setup\nsetup()", "", True),
        ("exec(open('helper.py').read())\nsetup(install_requires=NEEDS)", "", False),
    ],
)
def test_a_project_whose_build_looks_at_its_python_has_no_wheel_for_all_pythons(
    project: Path, setup: str | None, document: str, alike: bool
) -> None:
    if setup is not None:
        (project / "setup.py").write_text(setup, encoding="utf-8")
        (project / "helper.py").write_text(
            "import sys\nNEEDS = ['x'] if sys.version_info < (3, 9) else []", encoding="utf-8"
        )
    (project / "pyproject.toml").write_text(document, encoding="utf-8")
    assert is_same_for_all_pythons(project) is alike
