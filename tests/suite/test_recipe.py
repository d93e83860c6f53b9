"""What a project's files come to: what goes into the environments of its suite, and when they are made anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.suite.recipe import Recipe, read_recipe

PROJECT = '[project]\nname = "demo"\nversion = "1"\n'
PY39 = frozenset({"py39", "py3.9", "py", "tests"})

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".").replace("_DASH_", "-")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def told(recipe: Recipe) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return recipe.description, recipe.extras, recipe.lines(factors=PY39)


def test_a_group_comes_before_an_extra_and_that_before_tox(write: Write) -> None:
    extra = '[project.optional-dependencies]\ntest = ["a"]\n'
    group = '[dependency-groups]\nbase = ["c"]\ntests = ["b", {include-group = "base"}]\n'
    tox = "[testenv]\ndeps = d\n"
    directory = write(pyproject_DOT_toml=PROJECT + extra + group, tox_DOT_ini=tox)
    assert told(read_recipe(directory)) == ("the project and its dependency group 'tests'", (), ("b", "c"))
    write(pyproject_DOT_toml=PROJECT + extra)
    assert told(read_recipe(directory)) == ("the project with its extra 'test'", ("test",), ())
    write(pyproject_DOT_toml=PROJECT)
    assert told(read_recipe(directory)) == ("the project and what tox.ini [testenv] installs", (), ("d",))


def test_factors_of_a_tox_ini_hold_for_their_python(write: Write) -> None:
    deps = (
        "[testenv]\nextras =\n    fast\ndeps =\n    always\n    py39: nine\n    py{38,39}: both\n    py{310-313}: new\n"
        "    py38,pypy: neither\n    -r{toxinidir}/needs.txt\n    {[base]deps}\n    # a comment\n"
    )
    directory = write(setup_DOT_py="from setuptools import setup\nsetup(name='demo')\n", tox_DOT_ini=deps)
    recipe = read_recipe(directory)
    assert told(recipe)[1:] == (("fast",), ("always", f"-r{directory}/needs.txt", "nine", "both"))
    assert recipe.lines(factors=frozenset({"py311"})) == ("always", f"-r{directory}/needs.txt", "new")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tox_DOT_toml", '[env_run_base]\ndeps = ["d"]\nextras = ["e"]\n'),
        ("setup_DOT_cfg", "[metadata]\nname = demo\n[tox:testenv]\ndeps = d\nextras = e\n"),
    ],
)
def test_other_places_where_tox_is_configured(write: Write, name: str, text: str) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, **{name: text}))
    assert told(recipe)[1:] == (("e",), ("d",))


def test_tox_in_pyproject(write: Write) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + '[tool.tox.env_run_base]\ndeps = ["d"]\n'))
    assert told(recipe) == ("the project and what pyproject.toml [tool.tox] installs", (), ("d",))
    legacy = "[tool.tox]\nlegacy_tox_ini = '''\n[testenv]\ndeps = x\n'''\n"
    assert told(read_recipe(write(pyproject_DOT_toml=PROJECT + legacy)))[2] == ("x",)


def test_groups_of_tox_are_the_projects(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[dependency-groups]\nown = ["g"]\n',
        tox_DOT_ini="[testenv]\ndependency_groups = own\ndeps = d\n",
    )
    assert told(read_recipe(directory))[2] == ("g", "d")


@pytest.mark.parametrize(
    "name", ["requirements__test_DOT_txt", "requirements_DASH_dev_DOT_txt", "test_DASH_requirements_DOT_txt"]
)
def test_requirement_files_are_the_last_resort(write: Write, name: str) -> None:
    directory = write(**{name: "a\n"})
    file = name.replace("__", "/").replace("_DOT_", ".").replace("_DASH_", "-")
    recipe = read_recipe(directory)
    assert recipe.project is None
    assert recipe.description == f"nothing of the project, which has no metadata to install it by and {file}"
    assert recipe.requirements == (f"-r {file}",)


def test_what_is_configured_wins(write: Write) -> None:
    directory = write(pyproject_DOT_toml=PROJECT + '[dependency-groups]\nTest_It = ["g"]\ntest = ["h"]\n')
    recipe = read_recipe(directory, ["-e .[a, b]", "--group test-it", "more>=1", ""])
    assert told(recipe) == ("-e .[a, b] --group test-it more>=1 ", ("a", "b"), ("g", "more>=1"))
    assert recipe.project == directory
    assert read_recipe(directory, ["more"]).project is None


@pytest.mark.parametrize(
    "text",
    ["[tool.uv]\npackage = false\n" + PROJECT, '[tool.poetry]\npackage-mode = false\nname = "x"\n', "[tool.ruff]\n"],
)
def test_a_project_that_is_no_package_is_not_installed(write: Write, text: str) -> None:
    assert read_recipe(write(pyproject_DOT_toml=text)).project is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[dependency-groups]\ntest = [{include-group = "test"}]\n', "includes itself"),
        ('[dependency-groups]\ntest = [{include-group = "gone"}]\n', "no dependency group 'gone'"),
        ("[dependency-groups]\ntest = [1]\n", "holds 1"),
        ("[dependency-groups\n", "is not valid TOML"),
    ],
)
def test_what_cannot_be_understood_names_the_file(write: Write, text: str, said: str) -> None:
    with pytest.raises(InvalidSettingError, match=said) as caught:
        read_recipe(write(pyproject_DOT_toml=PROJECT + text))
    assert "pyproject.toml" in str(caught.value)


def test_extras_of_setup_files(write: Write) -> None:
    setup = "from setuptools import setup\nsetup(extras_require={'docs': [], 'testing': ['a']})\n"
    assert read_recipe(write(setup_DOT_py=setup)).extras == ("testing",)
    write(setup_DOT_cfg="[options.extras_require]\ndev = a\ntest = b\n", setup_DOT_py="")
    assert read_recipe(write()).extras == ("test",)


def test_the_digest_changes_with_what_decides_and_with_nothing_else(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n", requirements_DASH_test_DOT_txt="-r more.txt\n",
        more_DOT_txt="a\n",
    )  # fmt: skip
    digests = [read_recipe(directory).digest]
    write(src__demo_DOT_py="x = 22\n", README_DOT_md="new")
    assert read_recipe(directory).digest == digests[0]
    for change in (
        {"more_DOT_txt": "a>1\n"},
        {"uv_DOT_lock": "x"},
        {"pyproject_DOT_toml": f"{PROJECT}# changed\n"},
        {"pylock_DOT_toml": "y"},
    ):
        write(**change)
        digests.append(read_recipe(directory).digest)
    assert len(set(digests)) == len(digests)


def test_sources_that_are_compiled_count(write: Write) -> None:
    setup = "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('demo', ['demo.c'])])\n"
    directory = write(setup_DOT_py=setup, demo_DOT_c="int x;\n")
    before = read_recipe(directory).digest
    write(demo_DOT_c="long long x;\n")
    assert read_recipe(directory).digest != before


def test_the_digest_of_sources_changes_with_them_and_not_with_what_is_built(write: Write) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n"))
    before = recipe.sources_digest()
    write(build__demo_DOT_py="y", _DOT_tox__a_DOT_py="z", src__demo_DOT_egg_DASH_info__x="a")
    assert recipe.sources_digest() == before
    write(src__demo_DOT_py="x = 22\n")
    assert recipe.sources_digest() != before
