"""What a project's files come to: what goes into the environments of its suite, and when they are made again."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.suite.inputs import Inputs, changes
from pytest_pyinstall.suite.recipe import Recipe, read_recipe

PROJECT = '[project]\nname = "demo"\nversion = "1"\n'

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


def python(version: str = "3.9", implementation: str = "cpython") -> Interpreter:
    """As much of a Python as a recipe asks for."""
    info = tuple(map(int, version.split(".")))
    found = SimpleNamespace(version_info=info, implementation=implementation, free_threaded=False)
    return cast("Interpreter", found)


def told(recipe: Recipe, version: str = "3.9") -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    spec = recipe.spec(python(version))
    return recipe.description, spec.extras, spec.requirements


def parts(recipe: Recipe) -> dict[str, str]:
    return Inputs(recipe.spec(python()), environ={}).parts


def test_a_group_and_an_extra_come_before_tox(write: Write) -> None:
    extra = '[project.optional-dependencies]\ntest = ["a"]\n'
    group = '[dependency-groups]\nbase = ["c"]\ntests = ["b", {include-group = "base"}]\n'
    tox = "[testenv]\ndeps = d\n"
    directory = write(pyproject_DOT_toml=PROJECT + extra + group, tox_DOT_ini=tox)
    both = "the project with its extra 'test' and its dependency group 'tests'"
    assert told(read_recipe(directory)) == (both, ("test",), ("b", "c"))
    write(pyproject_DOT_toml=PROJECT + group)
    assert told(read_recipe(directory)) == ("the project and its dependency group 'tests'", (), ("b", "c"))
    write(pyproject_DOT_toml=PROJECT + extra)
    assert told(read_recipe(directory)) == ("the project with its extra 'test'", ("test",), ())
    write(pyproject_DOT_toml=PROJECT)
    assert told(read_recipe(directory)) == ("the project and what tox.ini [testenv] installs", (), ("d",))


@pytest.mark.parametrize(
    "dev", ['[dependency-groups]\ndev = ["z"]\n', '[project.optional-dependencies]\ndev = ["z"]\n']
)
def test_what_is_for_development_comes_after_all_that_is_for_tests(write: Write, dev: str) -> None:
    directory = write(pyproject_DOT_toml=PROJECT + dev, tox_DOT_ini="[testenv]\ndeps = d\n")
    assert told(read_recipe(directory)) == ("the project and what tox.ini [testenv] installs", (), ("d",))
    write(tox_DOT_ini="", requirements_DASH_test_DOT_txt="t\n")
    assert told(read_recipe(directory))[2] == ("-r requirements-test.txt",)
    (directory / "requirements-test.txt").unlink()
    assert "'dev'" in told(read_recipe(directory))[0]


def test_a_testenv_that_installs_nothing_is_passed_by(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[dependency-groups]\ndev = ["z"]\n', tox_DOT_ini="[testenv]\ncommands = pytest\n"
    )
    assert told(read_recipe(directory)) == ("the project and its dependency group 'dev'", (), ("z",))


def test_a_group_for_tests_brings_the_extras_that_tox_installs_with_it(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[project.optional-dependencies]\nfast = []\n[dependency-groups]\ntest = ["b"]\n',
        tox_DOT_ini="[testenv]\nextras = fast\ndependency_groups = test\ndeps = d\n",
    )
    assert told(read_recipe(directory))[1:] == (("fast",), ("b",))


def test_factors_of_a_tox_ini_hold_for_their_python(write: Write) -> None:
    deps = (
        "[base]\ndeps =\n    first\n    py39: second\n"
        "[testenv]\nextras =\n    fast\n    py39: old\ndeps =\n    always\n    py39: nine\n    py{38,39}: both\n"
        "    py{310-313}: new\n    py38,pypy: neither\n    -r{toxinidir}/needs.txt\n    {[base]deps}\n    # a comment\n"
        "    !py39: not-nine\n    !py38: not-eight\n    py39:close\n    {env:SOME:given}\n    trio  # why\n"
    )
    directory = write(setup_DOT_py="from setuptools import setup\nsetup(name='demo')\n", tox_DOT_ini=deps)
    recipe = read_recipe(directory)
    needs = f"-r{directory}/needs.txt"
    assert told(recipe)[1:] == (
        ("fast", "old"),
        ("always", "nine", "both", needs, "first", "second", "not-eight", "close", "given", "trio"),
    )
    assert told(recipe, "3.11")[2] == ("always", "new", needs, "first", "not-nine", "not-eight", "given", "trio")
    assert len(recipe.describe([python("3.11")])) == 1


def test_what_is_not_understood_of_tox_is_named(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT,
        tox_DOT_ini="[testenv]\ndeps =\n    a\n    {[no]such}\n    {env:DEP}\n    django42: Django<5\n",
    )
    recipe = read_recipe(directory)
    assert told(recipe)[2] == ("a",)
    (first, left_out) = recipe.describe([python()])
    assert first == "the project and what tox.ini [testenv] installs"
    for words in ("{[no]such}", "{env:DEP}", "django42: Django<5", "pyinstall_suite_install"):
        assert words in left_out


@pytest.mark.parametrize(
    ("envlist", "version", "expected", "name"),
    [
        ("py{39,312}-django{42,52}", "3.12", ("Django~=5.2",), "py312-django52"),
        ("py39-django42\n    py312-django{42,52}", "3.9", ("Django~=4.2",), "py39-django42"),
        ("lint, test", "3.9", ("for-test",), "test"),
        ("py39, lint", "3.9", ("for-39",), None),
    ],
)
def test_the_environment_of_tox_is_chosen_for_each_python_and_named(
    write: Write, envlist: str, version: str, expected: tuple[str, ...], name: str | None
) -> None:
    text = (
        f"[tox]\nenvlist =\n    {envlist}\n[testenv]\ndeps =\n    django42: Django~=4.2\n    django52: Django~=5.2\n"
        "[testenv:test]\ndeps = for-test\n[testenv:lint]\ndeps = ruff\ncommands = ruff check\n"
    )
    if "py39, lint" in envlist:
        text += "[testenv:py{38,39}]\ndeps = for-39\n"
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, tox_DOT_ini=text))
    assert told(recipe, version)[2] == expected
    assert (", as in " in recipe.describe([python(version)])[0]) is (name is not None)
    assert name is None or recipe.describe([python(version)])[0].endswith(f", as in {name}")


def test_toml_tables_of_tox(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT,
        tox_DOT_toml='[env_run_base]\ndeps = "a\\nb"\n[env."3.9"]\ndeps = [{replace = "ref", '
        'of = ["env_run_base", "deps"], extend = true}, "nine"]\n[env.py310]\ndeps = ["ten", {replace = "no"}]\n',
    )
    recipe = read_recipe(directory)
    assert told(recipe)[2] == ("a", "b", "nine")
    assert told(recipe, "3.10")[2] == ("ten",)
    assert 'replace = "no"' in recipe.describe([python("3.10")])[1]
    assert told(recipe, "3.11")[2] == ("a", "b")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject_DOT_toml": '[tool.poetry]\nname = "demo"\nversion = "1"\n[tool.poetry.group.test.dependencies]\n'
          'a = "^1.2"\nb = {version = "~0.3", extras = ["x"], python = "<3.12"}\nc = "*"\nd = {path = "../d"}\n'},
         ("a>=1.2,<2", 'b[x]>=0.3,<0.4 ; python_version < "3.12"', "c", "d @ file:../d")),
        ({"pyproject_DOT_toml": '[tool.poetry]\nname = "demo"\n'
          '[tool.poetry.dev-dependencies]\na = "^0.2.3"\nb = "1.0"\n'},
         ("a>=0.2.3,<0.3", "b==1.0")),
        ({"pyproject_DOT_toml": PROJECT + '[tool.uv]\ndev-dependencies = ["a>1"]\n'}, ("a>1",)),
        ({"pyproject_DOT_toml": PROJECT + '[tool.pdm.dev-dependencies]\ntest = ["a"]\nlint = ["b"]\n'}, ("a",)),
        ({"pyproject_DOT_toml": PROJECT + '[tool.hatch.envs.test]\ndependencies = ["a"]\nextra-dependencies = ["b"]\n'},
         ("a", "b")),
        ({"pyproject_DOT_toml": PROJECT + '[tool.hatch.envs.hatch-test]\nextra-dependencies = ["a"]\n'},
         ("pytest-mock", "pytest-rerunfailures", "pytest-xdist[psutil]", "coverage[toml]", "a")),
        ({"pyproject_DOT_toml": PROJECT, "Pipfile": '[dev-packages]\na = "*"\nb = {version = "==2", extras = ["x"]}\n'},
         ("a", "b[x]==2")),
        ({"pyproject_DOT_toml": PROJECT, "requirements_dev_DOT_txt": "a\n"}, ("-r requirements_dev.txt",)),
        ({"pyproject_DOT_toml": PROJECT, "requirements_DOT_txt": "a\n"}, ("-r requirements.txt",)),
        ({"requirements_DOT_txt": "a\n", "test_DASH_requirements_DOT_txt": "b\n"},
         ("-r requirements.txt", "-r test-requirements.txt")),
        ({"pyproject_DOT_toml": PROJECT + 'dependencies = ["r"]\n[tool.uv]\npackage = false\n'
          '[dependency-groups]\ntest = ["t"]\n'}, ("r", "t")),
        ({"noxfile_DOT_py": "import nox\n@nox.session\ndef lint(session):\n    session.install('ruff')\n"
          "@nox.session(python=['3.9'])\ndef tests(session):\n    session.install('-r', 'x.txt', 'a>1')\n"},
         ("-r x.txt", "a>1")),
        ({"pyproject_DOT_toml": PROJECT, "tox_DOT_ini": "[testenv]\ndeps =\n    .[x]\n    a\n"}, ("a",)),
        ({"Pipfile": '[packages]\nr = ">=1"\n[dev-packages]\nt = "*"\n'}, ("r>=1", "t")),
    ],
)  # fmt: skip
def test_places_where_other_tools_keep_what_tests_need(
    write: Write, files: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert told(read_recipe(write(**files)))[2] == expected


def test_what_pip_has_no_words_for_is_named(write: Write) -> None:
    table = '[tool.poetry]\nname = "demo"\n[tool.poetry.group.test.dependencies]\na = "^1 || ^3"\nb = "1"\n'
    recipe = read_recipe(write(pyproject_DOT_toml=table))
    assert told(recipe)[2] == ("b==1",)
    assert "a = '^1 || ^3'" in recipe.describe([])[1]


def test_our_own_plugin_is_left_out_where_it_cannot_be_had(write: Write) -> None:
    group = '[dependency-groups]\ntest = ["pytest_pyinstall>=1", "b"]\n'
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + group))
    assert told(recipe, "3.10")[2] == ("b",)
    assert told(recipe, "3.11")[2] == ("pytest_pyinstall>=1", "b")


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
def test_the_project_itself_is_recognised(
    write: Write, lines: list[str], editable: bool, extras: tuple[str, ...]
) -> None:
    directory = write(pyproject_DOT_toml=PROJECT)
    spec = read_recipe(directory, lines).spec(python())
    assert (spec.project, spec.editable, spec.extras, spec.requirements) == (directory, editable, extras, ())


def test_what_builds_when_it_is_imported_is_installed_as_a_copy(write: Write) -> None:
    build = '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
    assert not read_recipe(write(pyproject_DOT_toml=build + PROJECT)).spec(python()).editable


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
    assert told(recipe) == ("-e .[a, b] --group test-it more>=1", ("a", "b"), ("g", "more>=1"))
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
def test_the_parts_change_with_what_decides_and_with_nothing_else(
    write: Write, change: dict[str, str], named: set[str]
) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n", requirements_DASH_test_DOT_txt="-rmore.txt\n",
        more_DOT_txt="a\n",
    )  # fmt: skip
    before = parts(read_recipe(directory))
    write(**change)
    assert set(changes(before, parts(read_recipe(directory)))) == named


def test_sources_that_are_compiled_count(write: Write) -> None:
    setup = "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('demo', ['demo.c'])])\n"
    directory = write(setup_DOT_py=setup, demo_DOT_c="int x;\n")
    before = parts(read_recipe(directory))
    write(demo_DOT_c="int y;\n")
    assert changes(before, parts(read_recipe(directory))) == ["demo.c", "sources that are compiled"]


def test_the_sources_of_a_copy_count_and_what_is_built_and_what_is_ours_does_not(write: Write, tmp_path: Path) -> None:
    directory = write(pyproject_DOT_toml=PROJECT, src__demo_DOT_py="x = 1\n", name__space__deep_DOT_py="")
    spec = read_recipe(directory, ["."]).spec(python())

    def sources() -> dict[str, str]:
        return Inputs(spec, environ={}, left_alone=[tmp_path / "pyinstall"]).parts

    before = sources()
    write(build__demo_DOT_py="y", _DOT_tox__a_DOT_py="z", src__demo_DOT_egg_DASH_info__x="a", pyinstall__x_DOT_py="")
    write(tests__test_it_DOT_py="", out__report_DOT_txt="", _DOT_coverage="")
    assert sources() == before
    for change in ({"src__demo_DOT_py": "x = 2\n"}, {"name__space__deep_DOT_py": "y"}, {"src__data_DOT_json": "{}"}):
        write(**change)
        assert changes(before, sources()) == ["the sources of the project"]
        before = sources()


@pytest.mark.parametrize(
    ("variable", "value", "other", "counts"),
    [
        ("UV_INDEX_URL", "https://me:one@host/simple", "https://me:two@host/simple", False),
        ("PIP_EXTRA_INDEX_URL", "https://host/a", "https://host/b", True),
        ("UV_RESOLUTION", "lowest", "highest", True),
        ("UV_HTTP_TIMEOUT", "1", "2", False),
    ],
)
def test_variables_of_the_installers_count_where_they_decide(
    write: Write, variable: str, value: str, other: str, counts: bool
) -> None:
    spec = read_recipe(write(pyproject_DOT_toml=PROJECT)).spec(python())
    found = [Inputs(spec, environ={variable: text}).parts for text in (value, other)]
    assert (found[0] != found[1]) is counts


def test_a_new_tag_is_a_new_version(write: Write) -> None:
    build = '[build-system]\nrequires = ["setuptools", "setuptools_scm"]\nbuild-backend = "setuptools.build_meta"\n'
    directory = write(pyproject_DOT_toml=build + '[project]\nname = "demo"\ndynamic = ["version"]\n')
    subprocess.run(["git", "init", "-q", str(directory)], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    git = ["git", "-C", str(directory), *identity]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    before = parts(read_recipe(directory))
    subprocess.run([*git, "tag", "v1"], check=True)
    assert changes(before, parts(read_recipe(directory))) == ["tags of git"]
