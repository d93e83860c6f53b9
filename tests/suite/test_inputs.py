"""The digests that decide whether an environment is made again."""

import subprocess
from pathlib import Path

import pytest
from recipes import PROJECT, Write, parts, python

from pytest_pyinstall.suite.inputs import Inputs, changes
from pytest_pyinstall.suite.recipe import read_recipe


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"more_DOT_txt": "a>1\n"}, {"more.txt"}),
        ({"uv_DOT_lock": "x"}, {"uv.lock"}),
        ({"pylock_DOT_toml": "y"}, {"pylock.toml"}),
        ({"pyproject_DOT_toml": f"{PROJECT}dependencies = ['x']\n"}, {"pyproject.toml [project]"}),
        (
            {"pyproject_DOT_toml": f"{PROJECT}[tool.setuptools]\nzip-safe = true\n"},
            {"pyproject.toml [tool.setuptools]"},
        ),
        ({"pyproject_DOT_toml": f"{PROJECT}# changed\n[tool.pytest]\nx = 1\n[tool.ruff]\n[tool.black]\n"}, set()),
        ({"src__demo_DOT_py": "x = 22\n", "README_DOT_md": "new"}, set()),
    ],
)
def test_only_changes_that_reach_an_environment_change_its_digests(
    write: Write, change: dict[str, str], named: set[str]
) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n", requirements_DASH_test_DOT_txt="-rmore.txt\n",
        more_DOT_txt="a\n",
    )  # fmt: skip
    before = parts(read_recipe(directory))
    write(**change)
    assert set(changes(before, parts(read_recipe(directory)))) == named


def test_compiled_sources_have_a_digest(write: Write) -> None:
    setup = "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('demo', ['demo.c'])])\n"
    directory = write(setup_DOT_py=setup, demo_DOT_c="int x;\n")
    before = parts(read_recipe(directory))
    write(demo_DOT_c="int y;\n")
    assert changes(before, parts(read_recipe(directory))) == ["demo.c", "sources that are compiled"]


@pytest.mark.parametrize(
    "code", ["open(f'reqs/{name}.txt')", "open('reqs/' + name + '.txt')", "open(os.path.join('reqs', name + '.txt'))"]
)
def test_a_file_whose_name_setup_py_computes_has_a_digest(write: Write, code: str) -> None:
    setup = f"import os\nfrom setuptools import setup\nsetup(install_requires=[{code} for name in ['base']])\n"
    directory = write(setup_DOT_py=setup, reqs__base_DOT_txt="a\n")
    before = parts(read_recipe(directory))
    write(reqs__base_DOT_txt="b\n")
    assert changes(before, parts(read_recipe(directory))) == ["reqs/base.txt"]


def test_a_member_of_the_workspace_that_the_project_needs_has_a_digest(write: Write) -> None:
    other = '[project]\nname = "other"\nversion = "1"\n'
    workspace = '[tool.uv.workspace]\nmembers = ["libs/*"]\n[tool.uv.sources]\nother = {workspace = true}\n'
    directory = write(
        pyproject_DOT_toml=f'{PROJECT}dependencies = ["other"]\n{workspace}', libs__other__pyproject_DOT_toml=other
    )
    before = parts(read_recipe(directory))
    write(libs__other__pyproject_DOT_toml=f'{other}dependencies = ["a"]\n')
    assert changes(before, parts(read_recipe(directory))) == ["libs/other/pyproject.toml [project]"]


def test_the_digest_of_a_copied_project_ignores_builds_tests_and_our_directories(write: Write, tmp_path: Path) -> None:
    directory = write(pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n", name__space__deep_DOT_py="")
    spec = read_recipe(directory, ["."]).spec(python())

    def sources() -> dict[str, str]:
        return Inputs(spec, environ={}, excluded=[tmp_path / "pyinstall"]).parts

    before = sources()
    write(build__demo_DOT_py="y", _DOT_tox__a_DOT_py="z", src__demo_DOT_egg_DASH_info__x="a", pyinstall__x_DOT_py="")
    write(tests__test_it_DOT_py="", out__report_DOT_txt="", _DOT_coverage="")
    assert sources() == before
    for change in ({"src__demo_DOT_py": "x = 2\n"}, {"name__space__deep_DOT_py": "y"}, {"src__data_DOT_json": "{}"}):
        write(**change)
        assert changes(before, sources()) == ["the sources of the project"]
        before = sources()


@pytest.mark.parametrize(
    "name", ["one_DOT_c", "native__one_DOT_f90", "data_DOT_json", "share__a_DOT_json", "meson_DOT_options"]
)
def test_a_file_that_the_build_of_a_copied_project_reads_changes_its_digest(write: Write, name: str) -> None:
    build = '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
    meson = "install_data('data.json')\ninstall_subdir('share', install_dir: 'x')\n"
    directory = write(pyproject_DOT_toml=build + PROJECT, meson_DOT_build=meson, **{name: "1"})
    (directory / "README.md").write_text("1")
    before = parts(read_recipe(directory))
    write(**{name: "2"}, out__report_DOT_json="{}", log_DOT_json="{}", README_DOT_md="2")
    assert changes(before, parts(read_recipe(directory))) == ["the sources of the project"]


@pytest.mark.parametrize(
    ("variable", "value", "other", "counts"),
    [
        ("UV_INDEX_URL", "https://me:one@host/simple", "https://me:two@host/simple", False),
        ("PIP_EXTRA_INDEX_URL", "https://host/a", "https://host/b", True),
        ("UV_RESOLUTION", "lowest", "highest", True),
        ("UV_HTTP_TIMEOUT", "1", "2", False),
    ],
)
def test_variables_have_a_digest_if_they_change_what_is_installed(
    write: Write, variable: str, value: str, other: str, counts: bool
) -> None:
    spec = read_recipe(write(pyproject_DOT_toml=PROJECT)).spec(python())
    found = [Inputs(spec, environ={variable: text}).parts for text in (value, other)]
    assert (found[0] != found[1]) is counts


def test_a_new_tag_changes_the_digest_of_a_version_from_git(write: Write) -> None:
    build = '[build-system]\nrequires = ["setuptools", "setuptools_scm"]\nbuild-backend = "setuptools.build_meta"\n'
    directory = write(pyproject_DOT_toml=build + '[project]\nname = "demo"\ndynamic = ["version"]\n')
    subprocess.run(["git", "init", "-q", str(directory)], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    git = ["git", "-C", str(directory), *identity]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    before = parts(read_recipe(directory))
    subprocess.run([*git, "tag", "v1"], check=True)
    assert changes(before, parts(read_recipe(directory))) == ["tags of git"]
