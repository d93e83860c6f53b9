"""The digests that decide whether an environment is made again."""

import os
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


COPIED = ["."]


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_the_digest_of_a_copied_project_includes_directories_behind_links(
    write: Write, tmp_path: Path, place: str
) -> None:
    target = "real" if place == "inside" else "project/../outside"
    project = tmp_path if place == "inside" else tmp_path / "project"
    write(**{f"{'project__' if place == 'outside' else ''}pyproject_DOT_toml": PROJECT})
    (tmp_path / target.rpartition("/")[2] / "part").mkdir(parents=True)
    source = tmp_path / target.rpartition("/")[2] / "part" / "a.py"
    source.write_text("x = 1\n")
    (project / "src" / "demo").mkdir(parents=True)
    (project / "src" / "demo" / "part").symlink_to(source.parent)
    (project / "src" / "demo" / "round").symlink_to("..")
    before = parts(read_recipe(project, COPIED))
    source.write_text("x = 2\n")
    assert changes(before, after := parts(read_recipe(project, COPIED))) == ["the sources of the project"]
    (project / "src" / "demo" / "part").unlink()
    (project / "src" / "demo" / "part").symlink_to("..")
    assert changes(after, parts(read_recipe(project, COPIED))) == ["the sources of the project"]


@pytest.mark.parametrize(
    "project",
    [
        PROJECT.replace('"demo"', '"testing"'),
        f'{PROJECT}[tool.setuptools]\npackages = ["demo", "testing"]\n',
        (
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "demo"\n'
            '[tool.hatch.build.targets.wheel]\npackages = ["src/demo", "testing"]\n'
        ),
    ],
)
def test_the_digest_of_a_copied_project_includes_a_package_with_the_name_of_tests(write: Write, project: str) -> None:
    directory = write(pyproject_DOT_toml=project, testing__code_DOT_py="x = 1\n")
    before = parts(read_recipe(directory, COPIED))
    write(testing__code_DOT_py="x = 2\n")
    assert changes(before, parts(read_recipe(directory, COPIED))) == ["the sources of the project"]


@pytest.mark.parametrize("name", ["one.inc", "one.S", "one.tcc", "kernel.cu", "CMakeLists.txt", "Cargo.toml"])
def test_each_kind_of_source_that_a_compiler_reads_has_a_digest(write: Write, name: str) -> None:
    setup = "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('demo', ['demo.c'])])\n"
    directory = write(setup_DOT_py=setup)
    (directory / "include").mkdir()
    (directory / "include" / name).write_text("1")
    before = parts(read_recipe(directory))
    (directory / "include" / name).write_text("2")
    assert changes(before, parts(read_recipe(directory))) == ["sources that are compiled"]


@pytest.mark.parametrize(
    ("setup", "is_compiled"),
    [
        ("setup(ext_modules=cythonize('src/demo/*.py'))", True),
        ("setup(ext_modules=cythonize([Extension('demo.core', ['src/demo/core.py'])]))", True),
        ("setup(ext_modules=mypycify(['src/demo/core.py']))  # mypyc", True),
        ("exec(open('src/demo/_version.py').read())\nsetup(ext_modules=cythonize('src/demo/*.pyx'))", False),
    ],
)
def test_modules_that_are_compiled_have_a_digest(write: Write, setup: str, is_compiled: bool) -> None:
    setup = f"from setuptools import setup\nfrom Cython.Build import cythonize\n{setup}\n"
    directory = write(setup_DOT_py=setup, src__demo____init___DOT_py="", src__demo__core_DOT_py="version = 1\nx = 1\n")
    before = parts(read_recipe(directory))
    write(src__demo__core_DOT_py="version = 1\nx = 2\n")
    assert ("sources that are compiled" in changes(before, parts(read_recipe(directory)))) is is_compiled


@pytest.mark.parametrize("word", ["--find-links wheels", "PIP_FIND_LINKS", "UV_FIND_LINKS"])
def test_a_wheel_that_was_built_again_has_another_digest(write: Write, word: str) -> None:
    directory = write(pyproject_DOT_toml=PROJECT, wheels__a_DASH_1_DASH_py3_DASH_none_DASH_any_DOT_whl="1")
    requirements, environ = ([], {word: "wheels"}) if word.isupper() else ([word, "a"], {})
    spec = read_recipe(directory, requirements).spec(python())
    before = Inputs(spec, environ=environ).parts
    wheel = next((directory / "wheels").iterdir())
    os.utime(wheel, ns=(1, 1))
    assert changes(before, Inputs(spec, environ=environ).parts) == ["wheels"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("uv.toml", "constraint-dependencies = ['a=={}']\n"),
        ("../uv.toml", "[pip]\nconstraint = ['a=={}']\n"),
        ("../pyproject.toml", "[tool.uv]\nconstraint-dependencies = ['a=={}']\n"),
        ("named.toml", "index-url = 'https://me:secret@host/{}'\n"),
        ("../home/.config/uv/uv.toml", "exclude-newer = '202{}-01-01'\n"),
        ("../home/.config/pip/pip.conf", "[global]\nindex-url = https://me:secret@host/{}\n"),
        ("../home/.pip/pip.conf", "[install]\nextra-index-url =\n    https://host/a\n    https://host/{}\n"),
        ("named.conf", "[global]\nconstraint = file{}.txt\n"),
    ],
)
def test_a_configuration_file_of_an_installer_has_a_digest(tmp_path: Path, file: str, text: str) -> None:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "pyproject.toml").write_text(PROJECT)
    spec = read_recipe(directory).spec(python())
    environ = {"HOME": str(tmp_path / "home")}
    if file == "named.toml":
        environ["UV_CONFIG_FILE"] = file
    if file == "named.conf":
        environ["PIP_CONFIG_FILE"] = str(directory / file)

    def with_value(value: str) -> dict[str, str]:
        path = directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        return Inputs(spec, environ=environ).parts

    before = with_value(text.format(1))
    assert len(changes(before, with_value(text.format(2)))) == 1
    assert not changes(before, with_value(text.format(1).replace("secret", "other")))
    more = (
        "\nlink-mode = 'copy'\n" if file.endswith("uv.toml") and "[" not in text.partition("=")[0] else "\n# comment\n"
    )
    assert not changes(before, with_value(text.format(1) + more))


@pytest.mark.parametrize(
    ("variable", "counts"),
    [("DEMO_PURE", True), ("OTHER", False), ("HOME", False), ("CFLAGS", True), ("UV_NO_CONFIG", False)],
)
def test_a_variable_that_setup_py_or_its_compiler_reads_has_a_digest(write: Write, variable: str, counts: bool) -> None:
    setup = "import os\nfrom setuptools import Extension, setup\nhere = os.environ['HOME']\n"
    setup += "setup(ext_modules=[] if os.environ.get('DEMO_PURE') else [Extension('demo', ['demo.c'])])\n"
    spec = read_recipe(write(setup_DOT_py=setup)).spec(python())
    found = changes(Inputs(spec, environ={}).parts, Inputs(spec, environ={variable: "/1"}).parts)
    assert found == ([variable] if counts else [])


@pytest.mark.parametrize("backend", ["hatchling", "flit_core", "pdm-backend", "poetry-core", "setuptools"])
def test_a_package_that_moved_to_src_changes_the_digest(write: Write, backend: str) -> None:
    build = f'[build-system]\nrequires = ["{backend}"]\nbuild-backend = "{backend.replace("-", ".")}"\n'
    directory = write(pyproject_DOT_toml=build + PROJECT)
    (directory / "demo").mkdir()
    (directory / "demo" / "__init__.py").touch()
    before = parts(read_recipe(directory))
    (directory / "src").mkdir()
    (directory / "demo").rename(directory / "src" / "demo")
    assert changes(before, parts(read_recipe(directory))) == ["packages"]


@pytest.mark.parametrize(
    ("backend", "hook", "table"),
    [
        ("pdm.backend", "pdm_build", ""),
        ("pdm.backend", "my_hook", '[tool.pdm.build]\ncustom-hook = "my_hook.py"\n'),
        ("hatchling.build", "my_hook", '[tool.hatch.build.hooks.custom]\npath = "my_hook.py"\n'),
    ],
)
def test_a_build_hook_has_a_digest_of_its_whole_code(write: Write, backend: str, hook: str, table: str) -> None:
    build = f'[build-system]\nrequires = ["{backend.partition(".")[0]}"]\nbuild-backend = "{backend}"\n'
    text = "title = 'a hook'\ndef hook():\n    return 1\n"
    directory = write(pyproject_DOT_toml=build + PROJECT + table)
    (directory / f"{hook}.py").write_text(text)
    before = parts(read_recipe(directory))
    (directory / f"{hook}.py").write_text(text.replace("1", "2"))
    assert changes(before, parts(read_recipe(directory))) == [f"{hook}.py"]
