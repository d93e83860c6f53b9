"""The test dependencies that poetry, PDM, uv, hatch, nox and pipenv keep in tables of their own."""

import tomllib
from pathlib import Path

import pytest
from recipes import PROJECT, Write, described, parts, python

from pytest_pyinstall.suite._tools import UNKNOWN, constraints_of, installed_by
from pytest_pyinstall.suite.inputs import changes
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
        ({"noxfile_DOT_py": "import nox\n@nox.session\ndef tests(session):\n    session.install('poetry', 'a')\n"
          "    session.run('poetry', 'install', external=True)\n    session.run('pytest', *session.posargs)\n",
          "pyproject_DOT_toml": '[tool.poetry]\nname = "demo"\n[tool.poetry.dev-dependencies]\nb = "*"\n'},
         ("a", "b")),
        ({"noxfile_DOT_py": "import nox\n@nox.session(venv_backend='uv')\ndef tests(session):\n"
          "    session.run_install('uv', 'sync', '--group=own', env={'A': session.virtualenv.location})\n",
          "pyproject_DOT_toml": PROJECT + '[dependency-groups]\nown = ["a"]\ndev = ["b"]\n'}, ("b", "a")),
        ({"noxfile_DOT_py": "import nox\nTABLES = nox.project.load_toml()\n@nox.session\ndef tests(session):\n"
          "    session.install('c', *nox.project.dependency_groups(TABLES, 'own', 'more'))\n",
          "pyproject_DOT_toml": PROJECT + '[dependency-groups]\nown = ["a"]\nmore = ["b"]\n'}, ("c", "a", "b")),
        ({"pyproject_DOT_toml": PROJECT + '[tool.uv]\ndefault-groups = ["dev", "check"]\n'
          '[dependency-groups]\ncheck = ["a"]\ndev = ["b"]\nno = ["c"]\n'}, ("b", "a")),
        ({"pyproject_DOT_toml": PROJECT + '[tool.uv]\ndefault-groups = "all"\n'
          '[dependency-groups]\ncheck = ["a"]\ndev = ["b"]\n'}, ("a", "b")),
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


TABLES = """
[project.optional-dependencies]
fast = ["fast"]
test-extra = ["more"]
[dependency-groups]
dev = ["d"]
lint = ["l"]
[tool.poetry.group.tools.dependencies]
t = "^1"
[tool.poetry.group.slow]
optional = true
[tool.poetry.group.slow.dependencies]
s = "*"
[tool.poetry.dev-dependencies]
o = "*"
[tool.pdm.dev-dependencies]
check = ["c", "-e file:///${PROJECT_ROOT}/other"]
[tool.uv]
dev-dependencies = ["u"]
[tool.hatch.envs.default]
dependencies = ["h"]
[tool.hatch.envs.check]
dependencies = ["k"]
"""


@pytest.mark.parametrize(
    ("command", "requirements", "extras", "groups"),
    [
        ("poetry install", ("t>=1,<2", "o"), (), ("dev", "lint")),
        ("poetry install -v --no-root --with slow --without lint,dev", ("t>=1,<2", "s"), (), ()),
        ("python -m poetry -q install --only tools -E fast", ("t>=1,<2",), ("fast",), ()),
        ("poetry install --no-dev --without=lint --all-extras", ("t>=1,<2",), ("fast", "test-extra"), ()),
        ("poetry install --only-root", (), (), ()),
        ("pdm install", ("c",), (), ("dev", "lint")),
        ("pdm sync -dG check", ("c",), (), ()),
        ("pdm sync --group check --clean", ("c",), (), ()),
        ("pdm install --prod -G fast", (), ("fast",), ()),
        ("pdm install -G :all --without lint", ("c",), ("fast", "test-extra"), ("dev",)),
        ("uv sync", ("u",), (), ("dev",)),
        ("uv --quiet sync --no-dev --group lint --extra fast", (), ("fast",), ("lint",)),
        ("uv sync --all-groups --no-group dev --all-extras", (), ("fast", "test-extra"), ("lint",)),
        ("uv run --only-group=lint --with z pytest", ("z",), (), ("lint",)),
        ("uv run --no-default-groups pytest", (), (), ()),
        ("uv pip install -e .[fast] -r needs.txt --index-url x", ("-e .[fast]", "-r needs.txt"), (), ()),
        ("uv pip sync needs.txt", ("-r needs.txt",), (), ()),
        ("/usr/bin/python3.9 -I -m pip install -U --group lint a", ("a",), (), ("lint",)),
        ("pip3.9 install a poetry", ("a",), (), ()),
        ("hatch run pytest", ("h",), (), ()),
        ("hatch run check:pytest", ("k",), (), ()),
        ("hatch -e check run pytest", ("k",), (), ()),
        ("flit install", (), ("fast", "test-extra"), ()),
        ("flit install --deps=production --extras fast", (), ("fast",), ()),
        ("pipenv install --dev", ("p",), (), ()),
        ("pipenv sync", (), (), ()),
        ("pytest install", (), (), ()),
        ("poetry run pytest", (), (), ()),
        ("make install", (), (), ()),
        ("", (), (), ()),
    ],
)  # fmt: skip
def test_commands_of_tools_install_what_the_tools_would(
    write: Write, command: str, requirements: tuple[str, ...], extras: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    directory = write(pyproject_DOT_toml=TABLES, Pipfile='[dev-packages]\np = "*"\n')
    found = installed_by(
        [command.split()], directory=directory, document=tomllib.loads(TABLES), extras=["fast", "test-extra"]
    )
    assert found[1:4] == (requirements, extras, groups)


def test_a_part_of_a_command_that_is_unknown_before_it_runs_is_named(write: Write) -> None:
    commands = [["pip", "install", "-r", f"{UNKNOWN}/needs.txt", "a"], ["pip", "install", "{env:MORE}"]]
    found = installed_by(commands, directory=write(), document={}, extras=())
    assert found.requirements == ("a",)
    assert found.left_out == (f"-r {UNKNOWN}/needs.txt", "{env:MORE}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poetry.lock", """
[[package]]
name = "a"
version = "1.2"
markers = 'extra == "x"'
[[package]]
name = "b"
version = "1"
markers = 'python_version < "3.9"'
[[package]]
name = "b"
version = "2"
markers = 'python_version >= "3.9"'
[[package]]
name = "c"
version = "1"
[[package]]
name = "c"
version = "2"
[[package]]
name = "d"
version = "1"
[package.source]
type = "git"
url = "https://host/d"
"""),
        ("uv.lock", """
[[package]]
name = "a"
version = "1.2"
source = { registry = "https://host/simple" }
[[package]]
name = "b"
version = "1"
source = { registry = "https://host/simple" }
resolution-markers = ['python_version < "3.9"']
[[package]]
name = "b"
version = "2"
source = { registry = "https://host/simple" }
resolution-markers = ['python_version >= "3.9"']
[[package]]
name = "demo"
version = "1"
source = { editable = "." }
"""),
        ("Pipfile.lock", """{"default": {"a": {"version": "==1.2"}}, "develop": {"d": {"git": "https://host/d"}}}"""),
    ],
)  # fmt: skip
def test_the_versions_of_a_lock_file_are_constraints(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    lines = [line.replace("(", "").replace(")", "") for line in constraints_of(tmp_path / name)]
    many = ['b==1 ; python_version < "3.9"', 'b==2 ; python_version >= "3.9"']
    assert lines == ["a==1.2", *(many if "Pipfile" not in name else [])]


def test_a_lock_file_decides_if_a_command_of_tox_obeys_it(write: Write) -> None:
    directory = write(
        pyproject_DOT_toml=PROJECT + '[dependency-groups]\ndev = ["a"]\n',
        uv_DOT_lock='[[package]]\nname = "a"\nversion = "1.2"\n',
        tox_DOT_ini="[testenv]\ncommands =\n    uv sync\n    pytest\n",
    )
    recipe = read_recipe(directory)
    assert recipe.spec(python()).constraints == ("a==1.2",)
    assert recipe.describe([python()])[0].endswith("installs, with `uv sync`, uv.lock")
    before = parts(recipe)
    write(uv_DOT_lock='[[package]]\nname = "a"\nversion = "1.3"\n')
    assert changes(before, parts(read_recipe(directory))) == ["the requirements", "uv.lock"]
    write(tox_DOT_ini="[testenv]\ncommands =\n    uv pip install a\n    pytest\n")
    assert read_recipe(directory).spec(python()).constraints == ()
