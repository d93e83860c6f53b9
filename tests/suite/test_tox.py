"""A suite installs what tox would install for each Python."""

import re

import pytest
from recipes import PROJECT, Write, described, python

from pytest_pyinstall.suite.recipe import read_recipe


def test_a_testenv_that_installs_nothing_is_ignored(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[dependency-groups]\ndev = ["z"]\n', tox_DOT_ini="[testenv]\ncommands = pytest\n"
    )
    assert described(read_recipe(directory)) == ("the project and its dependency group 'dev'", (), ("z",))


def test_factors_in_tox_ini_apply_to_their_python(write: Write) -> None:
    deps = (
        "[base]\ndeps =\n    first\n    py39: second\n"
        "[testenv]\nextras =\n    fast\n    py39: old\ndeps =\n    always\n    py39: nine\n    py{38,39}: both\n"
        "    py{310-313}: new\n    py38,pypy: neither\n    -r{toxinidir}/needs.txt\n    {[base]deps}\n    # a comment\n"
        "    !py39: not-nine\n    !py38: not-eight\n    py39:close\n    {env:SOME:given}\n    trio  # why\n"
    )
    directory = write(setup_DOT_py="from setuptools import setup\nsetup(name='demo')\n", tox_DOT_ini=deps)
    recipe = read_recipe(directory)
    needs = f"-r{directory}/needs.txt"
    assert described(recipe)[1:] == (
        ("fast", "old"),
        ("always", "nine", "both", needs, "first", "second", "not-eight", "close", "given", "trio"),
    )
    assert described(recipe, "3.11")[2] == ("always", "new", needs, "first", "not-nine", "not-eight", "given", "trio")
    assert len(recipe.describe([python("3.11")])) == 1


def test_lines_of_tox_ini_that_are_not_understood_are_named(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT,
        tox_DOT_ini="[testenv]\ndeps =\n    a\n    {[no]such}\n    {env:DEP}\n    django42: Django<5\n",
    )
    recipe = read_recipe(directory)
    assert described(recipe)[2] == ("a",)
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
def test_a_tox_environment_is_chosen_for_each_python_and_named(
    write: Write, envlist: str, version: str, expected: tuple[str, ...], name: str | None
) -> None:
    text = (
        f"[tox]\nenvlist =\n    {envlist}\n[testenv]\ndeps =\n    django42: Django~=4.2\n    django52: Django~=5.2\n"
        "[testenv:test]\ndeps = for-test\n[testenv:lint]\ndeps = ruff\ncommands = ruff check\n"
    )
    if "py39, lint" in envlist:
        text += "[testenv:py{38,39}]\ndeps = for-39\n"
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, tox_DOT_ini=text))
    assert described(recipe, version)[2] == expected
    assert (", as in " in recipe.describe([python(version)])[0]) is (name is not None)
    assert name is None or recipe.describe([python(version)])[0].endswith(f", as in {name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[testenv]\ndeps = {posargs:a}\n", ("a",)),
        ("[tox]\nenv_list = py3.9\n[testenv]\ndeps =\n    py3.9: a\n    py39: b\n", ("a",)),
        ("[testenv]\ndeps = b\n[common]\ndeps = a\n[testenv:py39]\nbase = common\n", ("a",)),
        ("[testenv]\ndeps =\n    a\n    win32: b\n    !linux: c\n", ("a",)),
        ("[tox]\nenv_list = py39, py312-cov\n[testenv]\ndeps =\n    a\n    cov: b\n", ("a",)),
    ],
)
def test_a_suite_installs_what_tox_itself_says(write: Write, text: str, expected: tuple[str, ...]) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, tox_DOT_ini=text))
    assert described(recipe)[2] == expected
    assert len(recipe.describe([python()])) == 1  # nothing is left out


def test_defaults_in_tox_toml_are_read(write: Write) -> None:
    text = (
        'deps = [{replace = "env", name = "NO", default = "a"}, {replace = "posargs", default = ["b"], extend = true}]'
    )
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, tox_DOT_toml=f"[env_run_base]\n{text}\n"))
    assert described(recipe)[2] == ("a", "b")


def test_tox_toml_is_read(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT,
        tox_DOT_toml='[env_run_base]\ndeps = "a\\nb"\n[env."3.9"]\ndeps = [{replace = "ref", '
        'of = ["env_run_base", "deps"], extend = true}, "nine"]\n[env.py310]\ndeps = ["ten", {replace = "no"}]\n',
    )
    recipe = read_recipe(directory)
    assert described(recipe)[2] == ("a", "b", "nine")
    assert described(recipe, "3.10")[2] == ("ten",)
    assert 'replace = "no"' in recipe.describe([python("3.10")])[1]
    assert described(recipe, "3.11")[2] == ("a", "b")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tox_DOT_toml", '[env_run_base]\ndeps = ["d"]\nextras = ["e"]\n'),
        ("setup_DOT_cfg", "[metadata]\nname = demo\n[tox:testenv]\ndeps = d\nextras = e\n"),
    ],
)
def test_each_configuration_file_of_tox_is_read(write: Write, name: str, text: str) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT, **{name: text}))
    assert described(recipe)[1:] == (("e",), ("d",))


def test_tox_tables_in_pyproject_toml_are_read(write: Write) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + '[tool.tox.env_run_base]\ndeps = ["d"]\n'))
    assert described(recipe) == ("the project and what pyproject.toml [tool.tox] installs", (), ("d",))
    legacy = "[tool.tox]\nlegacy_tox_ini = '''\n[testenv]\ndeps = x\n'''\n"
    assert described(read_recipe(write(pyproject_DOT_toml=PROJECT + legacy)))[2] == ("x",)


def test_dependency_groups_that_tox_names_are_read_from_the_project(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[dependency-groups]\nown = ["g"]\n',
        tox_DOT_ini="[testenv]\ndependency_groups = own\ndeps = d\n",
    )
    assert described(read_recipe(directory))[2] == ("g", "d")


POETRY = '[tool.poetry]\nname = "demo"\nversion = "1"\n[tool.poetry.dev-dependencies]\npytest = "^8"\nattrs = "*"\n'


@pytest.mark.parametrize(
    ("tox", "expected"),
    [
        # rich's
        ("deps =\n    poetry\ncommands =\n    poetry install\n    pytest --cov=rich tests/ {posargs}\n",
         ("pytest>=8,<9", "attrs")),
        ("commands_pre = - poetry install {env:HOW:--no-root}\ncommands = poetry run pytest\n",
         ("pytest>=8,<9", "attrs")),
        ("deps = a\ncommands =\n    py38: poetry install\n    py39: {envpython} -m pip install -e .[x] b\n    pytest\n",
         ("a", "b")),
        ("deps = a\ncommands =\n    {[base]commands}\n[base]\ncommands =\n    {envbindir}/pip install \\\n    b\n",
         ("a", "b")),
    ],
)  # fmt: skip
def test_a_suite_installs_what_a_command_in_tox_installs(write: Write, tox: str, expected: tuple[str, ...]) -> None:
    recipe = read_recipe(write(pyproject_DOT_toml=POETRY, tox_DOT_ini=f"[testenv]\n{tox}"))
    assert described(recipe)[2] == expected
    (line,) = recipe.describe([python()])
    assert re.search(r"and what tox.ini \[testenv\] installs, with `(poetry|pip) install`$", line)


def test_a_command_in_tox_toml_may_refer_to_another(write: Write) -> None:
    text = (
        '[env_run_base]\ncommands_pre = [["pip", "install", "a", "{env:B}"]]\n'
        'commands = [["pytest", {replace = "posargs"}]]\n'
        '[env."3.9"]\ncommands_pre = [{replace = "ref", of = ["env_run_base", "commands_pre"], extend = true}, '
        '["uv", "sync"]]\n'
    )
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + '[dependency-groups]\ndev = ["d"]\n', tox_DOT_toml=text))
    assert described(recipe)[2] == ("d", "a")
    first, left_out = recipe.describe([python()])
    assert first.endswith("installs, with `pip install`, `uv sync`")
    assert "{env:B}" in left_out
    assert described(recipe, "3.10")[2] == ("a",)


@pytest.mark.parametrize(
    ("tox", "expected"),
    [
        ("runner = uv-venv-lock-runner\n", ((), ("d",))),
        ("runner = uv-venv-lock-runner\ndependency_groups = own\nextras = fast\ndeps = x\n", (("fast",), ("o",))),
        ("runner = uv-venv-lock-runner\nuv_sync_flags = --all-extras, --no-dev\n", (("fast",), ())),
        ("groups =\n    check\n    fast\ncommands = pytest\n", (("fast",), ("c",))),
    ],
)
def test_environments_that_plugins_of_tox_make(
    write: Write, tox: str, expected: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    tables = (
        '[project.optional-dependencies]\nfast = ["f"]\n[dependency-groups]\ndev = ["d"]\nown = ["o"]\n'
        '[tool.pdm.dev-dependencies]\ncheck = ["c"]\nother = ["x"]\n'
    )
    recipe = read_recipe(write(pyproject_DOT_toml=PROJECT + tables, tox_DOT_ini=f"[testenv]\n{tox}"))
    assert described(recipe)[1:] == expected
