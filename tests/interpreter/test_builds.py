"""A build of setuptools starts in an empty directory, which is gone afterwards."""

import os
from pathlib import Path

import pytest
from archives import NEWEST
from tool_homes import OTHERS

from pytest_pyinstall.interpreter.builds import fresh_builds
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.system.files import scratch_name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "demo"\nversion = "1"\n[tool.setuptools]\npackages = ["demo"]\n'
    )
    return tmp_path


def configured(environ: dict[str, str]) -> str:
    return Path(environ["DIST_EXTRA_CONFIG"]).read_text()


def test_the_file_of_the_user_is_included(project: Path) -> None:
    (project / "extra.cfg").write_text("[build]\nbuild_base = elsewhere\n[metadata]\nName = x\n")
    with fresh_builds([project], {"DIST_EXTRA_CONFIG": "extra.cfg"}, directory=project, more="[other]\n") as environ:
        text = configured(environ)
    assert "Name = x" in text
    assert "elsewhere" not in text
    assert "other" not in text
    with fresh_builds([], {}, directory=project, more="[options]\npy_modules = x\n") as environ:
        assert "build_base" not in configured(environ)


@pytest.mark.parametrize("text", ["", "no section\n"])
def test_without_a_project_and_with_a_file_that_is_wrong_the_variables_stay(project: Path, text: str) -> None:
    (project / "extra.cfg").write_text(text)
    theirs = {"DIST_EXTRA_CONFIG": "extra.cfg"}
    with fresh_builds([project] if text else [], theirs, directory=project) as environ:
        assert environ == theirs


def test_only_what_the_build_has_made_is_deleted(project: Path) -> None:
    with fresh_builds([project], {}, directory=project) as environ:
        base = project / configured(environ).partition("build_base = ")[2].strip()
        (base / "lib").mkdir(parents=True)
    assert not (project / "build").exists()
    (project / "build" / "lib").mkdir(parents=True)
    with fresh_builds([project], {}, directory=project):
        pass
    assert (project / "build" / "lib").is_dir()


def test_what_a_killed_process_left_is_deleted(project: Path) -> None:
    left = project / "build" / scratch_name().replace(f"-{os.getpid()}-", "-999999999-")
    left.mkdir(parents=True)
    with fresh_builds([project], {}, directory=project):
        assert not left.exists()


@pytest.mark.parametrize("word", ["{}", "{}[extra]"])
def test_an_environment_gets_no_module_that_is_gone(project: Path, tmp_path: Path, word: str) -> None:
    stale = project / "build" / "lib" / "demo" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(tmp_path / "env")
    environment.install(word.format(project))
    assert environment.run("-c", "import demo; print(demo.__file__)").stdout.strip().startswith(str(tmp_path / "env"))
    assert environment.run("-c", "import demo.gone", check=False).returncode == 1
