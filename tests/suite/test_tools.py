"""The test dependencies that poetry, PDM, uv, hatch, nox and pipenv keep in tables of their own."""

import pytest
from recipes import PROJECT, Write, described

from pytest_pyinstall.suite.recipe import read_recipe


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
def test_test_dependencies_of_other_tools_are_read(
    write: Write, files: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert described(read_recipe(write(**files)))[2] == expected


def test_a_version_that_pip_cannot_express_is_left_out_and_named(write: Write) -> None:
    table = '[tool.poetry]\nname = "demo"\n[tool.poetry.group.test.dependencies]\na = "^1 || ^3"\nb = "1"\n'
    recipe = read_recipe(write(pyproject_DOT_toml=table))
    assert described(recipe)[2] == ("b==1",)
    assert "a = '^1 || ^3'" in recipe.describe([])[1]
