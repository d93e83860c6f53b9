"""The recipe that a project's files contain for the environments of its suite."""

import pytest
from recipes import PROJECT, Write, described, python

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.suite.recipe import read_recipe


def test_a_group_and_an_extra_take_precedence_over_tox(write: Write) -> None:
    extra = '[project.optional-dependencies]\ntest = ["a"]\n'
    group = '[dependency-groups]\nbase = ["c"]\ntests = ["b", {include-group = "base"}]\n'
    tox = "[testenv]\ndeps = d\n"
    directory = write(pyproject_DOT_toml=PROJECT + extra + group, tox_DOT_ini=tox)
    both = "the project with its extra 'test' and its dependency group 'tests'"
    assert described(read_recipe(directory)) == (both, ("test",), ("b", "c"))
    write(pyproject_DOT_toml=PROJECT + group)
    assert described(read_recipe(directory)) == ("the project and its dependency group 'tests'", (), ("b", "c"))
    write(pyproject_DOT_toml=PROJECT + extra)
    assert described(read_recipe(directory)) == ("the project with its extra 'test'", ("test",), ())
    write(pyproject_DOT_toml=PROJECT)
    assert described(read_recipe(directory)) == ("the project and what tox.ini [testenv] installs", (), ("d",))


@pytest.mark.parametrize(
    "dev", ['[dependency-groups]\ndev = ["z"]\n', '[project.optional-dependencies]\ndev = ["z"]\n']
)
def test_requirements_for_development_are_used_only_without_any_for_tests(write: Write, dev: str) -> None:
    directory = write(pyproject_DOT_toml=PROJECT + dev, tox_DOT_ini="[testenv]\ndeps = d\n")
    assert described(read_recipe(directory)) == ("the project and what tox.ini [testenv] installs", (), ("d",))
    write(tox_DOT_ini="", requirements_DASH_test_DOT_txt="t\n")
    assert described(read_recipe(directory))[2] == ("-r requirements-test.txt",)
    (directory / "requirements-test.txt").unlink()
    assert "'dev'" in described(read_recipe(directory))[0]


def test_a_test_group_is_installed_with_the_extras_that_tox_installs(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[project.optional-dependencies]\nfast = []\n[dependency-groups]\ntest = ["b"]\n',
        tox_DOT_ini="[testenv]\nextras = fast\ndependency_groups = test\ndeps = d\n",
    )
    assert described(read_recipe(directory))[1:] == (("fast",), ("b",))


def test_our_own_plugin_is_left_out_on_pythons_that_it_does_not_support(write: Write) -> None:
    group = '[dependency-groups]\ntest = ["pytest_pyinstall>=1", "b"]\n'
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + group))
    assert described(recipe, "3.10")[2] == ("b",)
    assert described(recipe, "3.11")[2] == ("pytest_pyinstall>=1", "b")


@pytest.mark.parametrize(
    ("lines", "editable", "extras"),
    [
        (["."], False, ()),
        (["./"], False, ()),
        ([".[a,b]"], False, ("a", "b")),
        (["demo[a] @ file:."], False, ("a",)),
        (["--editable=.[a]"], True, ("a",)),
        (["-e.", "-e .[b]"], True, ("b",)),
    ],
)
def test_the_project_itself_is_recognised_among_requirements(
    write: Write, lines: list[str], editable: bool, extras: tuple[str, ...]
) -> None:
    directory = write(pyproject_DOT_toml=PROJECT + "[project.optional-dependencies]\na = []\nb = []\n")
    spec = read_recipe(directory, lines).spec(python())
    assert (spec.project, spec.editable, spec.extras, spec.requirements) == (directory, editable, extras, ())


def test_a_project_that_builds_at_import_is_not_installed_editable(write: Write) -> None:
    build = '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
    assert not read_recipe(write(pyproject_DOT_toml=build + PROJECT)).spec(python()).editable


@pytest.mark.parametrize(
    "name", ["requirements__test_DOT_txt", "requirements_DASH_dev_DOT_txt", "test_DASH_requirements_DOT_txt"]
)
def test_requirement_files_are_used_without_other_sources(write: Write, name: str) -> None:
    directory = write(**{name: "a\n"})
    file = name.replace("__", "/").replace("_DOT_", ".").replace("_DASH_", "-")
    recipe = read_recipe(directory)
    assert recipe.project is None
    assert recipe.description == f"the project in place (it has no metadata to install it) and {file}"
    assert recipe.requirements == (f"-r {file}",)


def test_the_configured_lines_replace_those_of_the_project(write: Write) -> None:
    extras = "[project.optional-dependencies]\na = []\nB = []\n"
    groups = '[dependency-groups]\nTest_It = ["g"]\ntest = ["h"]\n'
    directory = write(pyproject_DOT_toml=PROJECT + extras + groups)
    recipe = read_recipe(directory, ["-e .[a, b]", "--group test-it", "more>=1", ""])
    assert described(recipe) == ("-e .[a, b] --group test-it more>=1", ("a", "b"), ("g", "more>=1"))
    assert recipe.project == directory
    assert read_recipe(directory, ["more"]).project is None


@pytest.mark.parametrize(
    "text",
    ["[tool.uv]\npackage = false\n" + PROJECT, '[tool.poetry]\npackage-mode = false\nname = "x"\n', "[tool.ruff]\n"],
)
def test_a_project_without_a_package_is_not_installed(write: Write, text: str) -> None:
    assert read_recipe(write(pyproject_DOT_toml=text)).project is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[dependency-groups]\ntest = [{include-group = "test"}]\n', "includes itself"),
        ('[dependency-groups]\ntest = [{include-group = "gone"}]\n', "no dependency group 'gone'"),
        ("[dependency-groups]\ntest = [1]\n", "contains 1"),
        ("[dependency-groups\n", "is not valid TOML"),
    ],
)
def test_an_error_in_a_file_names_the_file(write: Write, text: str, expected: str) -> None:
    with pytest.raises(InvalidSettingError, match=expected) as caught:
        read_recipe(write(pyproject_DOT_toml=PROJECT + text))
    assert "pyproject.toml" in str(caught.value)


def test_a_configured_file_of_requirements_needs_an_option(write: Write) -> None:
    directory = write(pyproject_DOT_toml=PROJECT)
    assert read_recipe(directory, ["-r base.txt"]).requirements == ("-r base.txt",)
    assert read_recipe(directory, ["-r", "base.txt"]).requirements == ("-r", "base.txt")
    with pytest.raises(InvalidSettingError, match="is a file of requirements, not a requirement") as caught:
        read_recipe(directory, ["base.txt"])
    assert caught.value.hint == 'pyinstall_suite_install = ["-r base.txt"]'


def test_a_configured_extra_that_the_project_does_not_have_is_an_error_because_installers_only_warn(
    write: Write,
) -> None:
    directory = write(pyproject_DOT_toml=PROJECT + "[project.optional-dependencies]\ntest = []\n")
    with pytest.raises(InvalidSettingError, match=r"pyproject\.toml: there is no extra 'tset', only test\n") as caught:
        read_recipe(directory, ["-e .[tset]"])
    assert caught.value.hint == 'pyinstall_suite_install = ["-e .[test]"]'
    # The backend may know more extras.
    dynamic = PROJECT.replace("[project]\n", '[project]\ndynamic = ["optional-dependencies"]\n')
    assert read_recipe(write(pyproject_DOT_toml=dynamic), ["-e .[tset]"]).extras == ("tset",)


def test_extras_in_setup_files_are_found(write: Write) -> None:
    setup = "from setuptools import setup\nsetup(extras_require={'docs': [], 'testing': ['a']})\n"
    assert read_recipe(write(setup_DOT_py=setup)).extras == ("testing",)
    write(setup_DOT_cfg="[options.extras_require]\ndev = a\ntest = b\n", setup_DOT_py="")
    assert read_recipe(write()).extras == ("test",)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{workspace = true}", "-e {0}/libs/other[x]"),
        ('{path = "libs/other"}', "other[x] @ file://{0}/libs/other"),
        ('{path = "libs/other", editable = true}', "-e {0}/libs/other[x]"),
        ('{git = "https://host/x", tag = "v1", subdirectory = "y"}', "other[x] @ git+https://host/x@v1#subdirectory=y"),
        ('{url = "https://host/x.whl"}', "other[x] @ https://host/x.whl"),
        ('[{path = "libs/other", marker = "os_name == \'posix\'"}]',
         "other[x] @ file://{0}/libs/other ; (os_name == 'posix')"),
        ('{index = "own"}', "other[x]>=1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_member", [False, True])
def test_a_dependency_group_is_installed_from_the_sources_that_uv_uses(
    write: Write, source: str, expected: str, is_member: bool
) -> None:
    workspace = f'[tool.uv.workspace]\nmembers = ["libs/*"]\n[tool.uv.sources]\nother = {source}\n'
    groups = '[dependency-groups]\ntest = ["other[x]>=1", "more"]\n'
    here = write(
        pyproject_DOT_toml=f"{PROJECT}{workspace}{'' if is_member else groups}",
        libs__other__pyproject_DOT_toml='[project]\nname = "Other"\nversion = "1"\n',
        libs__member__pyproject_DOT_toml=PROJECT.replace("demo", "member") + groups,
    )
    directory = here / "libs/member" if is_member else here
    assert described(read_recipe(directory))[2] == (expected.format(here), "more")


@pytest.mark.parametrize(
    "text",
    [
        "setup(extras_require={'test': ['a'], 'all': []})",
        "extras = {'test': ['a']}\nsetup(extras_require=extras)",
        "extras = {}\nextras['test'] = ['a']\nextras['all'] = sum(extras.values(), [])\nsetup(extras_require=extras)",
        "setup(extras_require=dict(test=['a']))",
        "how = {'extras_require': {'test': ['a']}}\nsetup(**how)",
    ],
)
def test_an_extra_is_found_however_setup_py_defines_it(write: Write, text: str) -> None:
    recipe = read_recipe(write(setup_DOT_py=f"from setuptools import setup\n{text}\n"))
    assert described(recipe)[1:] == (("test",), ())


@pytest.mark.parametrize("name", ["requirements__test", "requirements_DASH_tests", "test_DASH_requirements"])
def test_a_requirement_file_of_pip_tools_is_read_if_there_is_no_other(write: Write, name: str) -> None:
    directory = write(pyproject_DOT_toml=PROJECT, **{f"{name}_DOT_in": "a\n"})
    (line,) = described(read_recipe(directory))[2]
    assert line.endswith(".in")
    compiled = write(**{f"{name}_DOT_txt": "a==1\n"})
    (line,) = described(read_recipe(compiled))[2]
    assert line.endswith(".txt")
