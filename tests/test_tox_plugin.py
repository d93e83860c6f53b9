"""The real tox and tox-uv install missing Pythons, in a library whose Pythons are not on ``PATH``."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import archives
import mirror
import pytest
import tool_environments

needs_old_pythons = pytest.mark.skipif(
    not {"3.6", "3.8", "3.9", "3.12"} <= set(archives.interpreters()), reason="needs CPython 3.6, 3.8, 3.9 and 3.12"
)
pytestmark = [needs_old_pythons, pytest.mark.timeout(240)]

PACKAGED = """
package = "wheel"
wheel_build_env = ".pkg"
commands = [["python", "-I", "-c", "import sample"]]
"""

BARE = """
package = "skip"
commands = [["python", "-c", "import sample"]]
"""


@pytest.fixture(scope="session")
def plain(shared_directory: Path) -> Path:
    return tool_environments.environment(shared_directory, "tox")


@pytest.fixture(scope="session")
def with_uv(shared_directory: Path) -> Path:
    return tool_environments.environment(shared_directory, "tox", "tox-uv")


def downloads(server: mirror.Mirror) -> list[str]:
    """The minor versions that were downloaded, sorted, once for each download."""
    names = [request.path.rpartition("/")[2] for request in server.requests if request.path.endswith(".tar.gz")]
    return sorted(".".join(name.removeprefix("cpython-").split(".")[:2]) for name in names)


def library(tmp_path: Path, *names: str, base: str = BARE, more: str = "") -> Path:
    return tool_environments.library(tmp_path / "library", f"env_list = {list(names)}\n[env_run_base]{base}{more}")


def test_tox_installs_missing_pythons_and_finds_them_again(plain: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    project = library(tmp_path, "py36", "py39", "py312", base=PACKAGED, more="[env.py38]\n")
    env = tool_environments.environ(tmp_path, mirror=server.url)

    # Commands that only read the configuration install nothing.
    assert "py36" in tool_environments.run(plain / "tox", "list", cwd=project, env=env).stdout
    assert "py36" in tool_environments.run(plain / "tox", "-l", cwd=project, env=env).stdout
    # tox shows errors and fails for values that need an interpreter.
    tool_environments.run(plain / "tox", "config", cwd=project, env=env, codes=range(256))
    tool_environments.run(plain / "tox", "config", "-e", "py39", "-k", "base_python", cwd=project, env=env)
    tool_environments.run(plain / "tox", "--showconfig", cwd=project, env=env, codes=range(256))
    tool_environments.run(plain / "tox", "depends", cwd=project, env=env)
    assert server.requests == []
    assert not (tmp_path / "home" / "pyinstall").exists()

    first = tool_environments.run(plain / "tox", "run", cwd=project, env=env).stdout
    assert tool_environments.answers(first) == ["3.6", "3.9", "3.12"]
    assert downloads(server) == ["3.12", "3.6", "3.9"]  # not 3.8, whose environment did not run
    assert first.count("installed in") == 3

    asked = len(server.requests)
    parallel = tool_environments.run(
        plain / "tox", "run-parallel", "-r", "--parallel-live", cwd=project, env=env
    ).stdout
    assert sorted(tool_environments.answers(parallel)) == ["3.12", "3.6", "3.9"]
    assert len(server.requests) == asked
    assert "pyinstall:" not in parallel


def test_the_oldest_tox_and_virtualenv_of_the_page_work(
    shared_directory: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "howto" / "tox.md").read_text("utf-8")
    match = re.search(r"needs tox (\S+) or newer, and virtualenv (\S+) or newer", page)
    assert match
    assert set(re.findall(r"tox>=([\d.]+)", page)) == {match[1]}
    oldest = tool_environments.environment(shared_directory, f"tox=={match[1]}", f"virtualenv=={match[2]}")
    project = library(tmp_path, "py39", "3.12")
    env = tool_environments.environ(tmp_path, mirror=server.url)

    output = tool_environments.run(oldest / "tox", "run", cwd=project, env=env).stdout
    assert tool_environments.answers(output) == ["3.9", "3.12"]
    assert downloads(server) == ["3.12", "3.9"]

    command = (oldest / "virtualenv", "--without-pip", "--discovery", "pyinstall", "-p", "3.9", "made")
    tool_environments.run(*command, cwd=tmp_path, env=env)
    assert "version = 3.9." in (tmp_path / "made" / "pyvenv.cfg").read_text("utf-8")


def test_parallel_environments_share_one_download_of_a_python(
    plain: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    project = library(tmp_path, "py39-a", "py39-b", "3.12", "py3.12-c")
    env = tool_environments.environ(tmp_path, mirror=server.url, TOX_PARALLEL_ENV="py39-a")
    output = tool_environments.run(plain / "tox", "p", "--parallel-live", cwd=project, env=env).stdout
    assert sorted(tool_environments.answers(output)) == ["3.12", "3.12", "3.9", "3.9"]
    assert downloads(server) == ["3.12", "3.9"]


@pytest.mark.parametrize("runner", ["plain", "with_uv"])
def test_p21_a_python_that_tox_uses_is_not_removed(
    runner: str, request: pytest.FixtureRequest, server: mirror.Mirror, tmp_path: Path
) -> None:
    scripts = request.getfixturevalue(runner)
    remove = [str(scripts / "pytest-pyinstall"), "remove", "3.9"]
    base = f"""
package = "skip"
allowlist_externals = ["*"]
pass_env = ["PYTEST_PYINSTALL_*", "HOME"]
commands = [["!", *{remove}], ["python", "-c", "import sample"]]
"""
    project = library(tmp_path, "py39", base=base.replace(f"*{remove}", str(remove)[1:-1]))
    env = tool_environments.environ(tmp_path, mirror=server.url)
    output = tool_environments.run(scripts / "tox", "run", cwd=project, env=env).stdout
    assert "was not removed: process " in output
    assert tool_environments.answers(output) == ["3.9"]
    tool_environments.run(*remove, cwd=project, env=env)  # tox has ended


def test_tox_uv_installs_missing_pythons_and_finds_them_again(
    with_uv: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    project = library(tmp_path, "py38", "py39", "py312", base=PACKAGED)
    env = tool_environments.environ(tmp_path, mirror=server.url)
    tool_environments.run(with_uv / "tox", "list", cwd=project, env=env)
    assert server.requests == []

    first = tool_environments.run(with_uv / "tox", "run", cwd=project, env=env).stdout
    assert "uv venv" in first
    assert tool_environments.answers(first) == ["3.8", "3.9", "3.12"]
    assert downloads(server) == ["3.12", "3.8", "3.9"]

    asked = len(server.requests)
    parallel = tool_environments.run(
        with_uv / "tox", "run-parallel", "-r", "--parallel-live", cwd=project, env=env
    ).stdout
    assert sorted(tool_environments.answers(parallel)) == ["3.12", "3.8", "3.9"]
    assert len(server.requests) == asked


def test_a_provisioned_tox_installs_pythons_once(
    with_uv: Path, shared_directory: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    with zipfile.ZipFile(extra / "sample_extra-1.0-py3-none-any.whl", "w") as file:
        info = "sample_extra-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sample-extra\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    project = library(tmp_path, "py39", "py312")
    requires = 'requires = ["tox-uv", "pytest-pyinstall", "sample-extra"]\n'
    (project / "tox.toml").write_text(requires + (project / "tox.toml").read_text())
    env = tool_environments.environ(
        tmp_path, mirror=server.url, UV_FIND_LINKS=f"{tool_environments.wheel(shared_directory)},{extra}"
    )

    assert "sample-extra" in tool_environments.run(with_uv / "tox", "list", cwd=project, env=env).stdout
    assert server.requests == []
    output = tool_environments.run(with_uv / "tox", "run", cwd=project, env=env).stdout
    assert tool_environments.answers(output) == ["3.9", "3.12"]
    assert downloads(server) == ["3.12", "3.9"]


@pytest.mark.parametrize(
    ("requires", "is_warned"),
    [(["sample-extra"], True), (["sample-extra", "pytest_pyinstall"], False), (["tox>=4"], False)],
)
def test_a_tox_that_starts_again_without_the_plugin_says_so(
    plain: Path, tmp_path: Path, requires: list[str], is_warned: bool
) -> None:
    project = library(tmp_path, "py")
    (project / "tox.toml").write_text(f"requires = {requires}\n" + (project / "tox.toml").read_text())
    env = tool_environments.environ(tmp_path, mirror="", PIP_NO_INDEX="1")
    output = tool_environments.run(plain / "tox", "run", cwd=project, env=env, codes=range(256)).stdout
    assert ("pyinstall: tox starts again in an environment without this plugin" in output) == is_warned
    assert (
        "without this plugin"
        not in tool_environments.run(plain / "tox", "list", cwd=project, env=env, codes=range(256)).stdout
    )


def test_only_pythons_of_selected_environments_are_installed(
    with_uv: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    project = library(
        tmp_path,
        *("py38-unit", "py39-unit", "py312-slow"),
        more='[env.named]\nbase_python = ["python3.9"]\nlabels = ["odd"]\n',
    )
    env = tool_environments.environ(tmp_path, mirror=server.url)

    def run(*arguments: str, **more: str) -> list[str]:
        server.reset_counts()
        output = tool_environments.run(with_uv / "tox", *arguments, cwd=project, env={**env, **more}).stdout
        return [*tool_environments.answers(output), "|", *downloads(server)]

    assert run("run", "-m", "odd") == ["3.9", "|", "3.9"]
    assert run("run", "-f", "py39", "unit") == ["3.9", "|"]
    assert run("-e", "named") == ["3.9", "|"]
    assert run("run", "--skip-env", ".*(slow|8-unit)") == ["3.9", "|"]
    assert run("run", TOXENV="py38-unit") == ["3.8", "|", "3.8"]
    server.reset_counts()
    said = tool_environments.run(
        with_uv / "tox", "exec", "-e", "py312-slow", "--", "python", "-V", cwd=project, env=env
    ).stdout
    assert "Python 3.12" in said
    assert downloads(server) == ["3.12"]


def test_base_python_decides_what_is_installed(
    with_uv: Path, plain: Path, server: mirror.Mirror, tmp_path: Path
) -> None:
    here = archives.interpreters()["3.9"]
    project = library(
        tmp_path,
        more=f"""
[env.py39-own]
base_python = ["{here}"]
[env.first]
base_python = ["python3.7", "{sys.executable}"]
[env.second]
base_python = ["3.1", "python3.12"]
[env.wide]
base_python = [">=3.9,<3.10"]
""",
    )
    env = tool_environments.environ(tmp_path, mirror=server.url)
    # A path is used, even if the name of the environment has another version.
    output = tool_environments.run(plain / "tox", "run", "-e", "py39-own,first", cwd=project, env=env).stdout
    assert tool_environments.answers(output) == ["3.9", ".".join(map(str, sys.version_info[:2]))]
    assert server.requests == []

    output = tool_environments.run(plain / "tox", "run", "-e", "wide,second", "--notest", cwd=project, env=env).stdout
    assert downloads(server) == ["3.12", "3.9"]
    assert "wide: OK" in output
    assert "second: OK" in output


@pytest.mark.parametrize("skip", ["true", "false"])
def test_tox_skips_or_fails_environments_of_missing_pythons(
    plain: Path, server: mirror.Mirror, tmp_path: Path, skip: str
) -> None:
    project = library(tmp_path, "py39", "pypy311", "py313t", "py27")
    env = tool_environments.environ(tmp_path, mirror=server.url, PYTEST_PYINSTALL_DOWNLOADS="never")
    output = tool_environments.run(
        plain / "tox", "run", "--skip-missing-interpreters", skip, cwd=project, env=env, codes=[1, -1, 255]
    ).stdout
    for name, reason in [("py39", "3.9"), ("pypy311", "pypy3.11"), ("py313t", "3.13t"), ("py27", "2.7")]:
        lines = [line for line in output.splitlines() if line.startswith(f"{name}: ") and "Python" in line]
        [why] = [line for line in lines if "PYTEST_PYINSTALL_DOWNLOADS" in line]
        assert reason in why
        assert f"{name}: SKIP" in output if skip == "true" else f"{name}: FAIL" in output
    assert server.requests == []


def test_an_invalid_base_python_is_reported_in_one_line(plain: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    project = library(tmp_path, "odd", more="base_python = ['3.7-nonsense']\n")
    env = tool_environments.environ(tmp_path, mirror=server.url)
    output = tool_environments.run(plain / "tox", "run", "--notest", cwd=project, env=env, codes=[1, -1, 255]).stdout
    assert output.count("'3.7-nonsense' is not available: the architecture 'nonsense' is unknown") == 1
    assert "Traceback" not in output
    assert server.requests == []


def test_settings_come_from_the_project(plain: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    project = library(tmp_path, "py39")
    with (project / "pyproject.toml").open("a") as file:
        file.write(
            f'[tool.pytest]\npyinstall_mirror = "{server.url}"\npyinstall_catalogue = "{server.url}/catalogue.json"\n'
            'pyinstall_store = "pythons"\n'
        )
    env = tool_environments.environ(tmp_path, mirror=server.url)
    for name in ("PYTEST_PYINSTALL_MIRROR", "PYTEST_PYINSTALL_CATALOGUE", "PYTEST_PYINSTALL_HOME"):
        del env[name]
    tool_environments.run(plain / "tox", "run", "--notest", cwd=project, env=env)
    assert any(path.name.startswith("cpython-3.9.") for path in (project / "pythons").iterdir())

    wrong = tool_environments.run(
        *(plain / "tox", "run"), cwd=project, env={**env, "PYTEST_PYINSTALL_PREFERENCE": "mine"}, codes=[254, -2]
    )
    assert "PYTEST_PYINSTALL_PREFERENCE: 'mine' is not one of" in wrong.stdout
    assert "Traceback" not in wrong.stdout


def test_a_python_of_the_machine_is_not_downloaded(plain: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    project = library(tmp_path, "py39")
    home = archives.interpreters()["3.9"].parent.parent
    env = tool_environments.environ(tmp_path, mirror=server.url, PYENV_ROOT=str(home.parent.parent))
    output = tool_environments.run(plain / "tox", "run", cwd=project, env=env).stdout
    assert tool_environments.answers(output) == ["3.9"]
    assert server.requests == []
    assert str(home) in (project / ".tox" / "py39" / "pyvenv.cfg").read_text()


def test_loading_the_plugin_imports_only_itself(plain: Path, tmp_path: Path) -> None:
    code = """
import sys
import tox.run, tox.plugin.manager
before = set(sys.modules)
import pytest_pyinstall.tox_plugin
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [plain / "python", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=200
    )
    assert done.stdout.split() == ["pytest_pyinstall", "pytest_pyinstall.tox_plugin"]


def test_the_packaging_environment_has_its_own_python(with_uv: Path, server: mirror.Mirror, tmp_path: Path) -> None:
    more = '[env.".pkg"]\nbase_python = ["python3.12"]\n'
    project = library(tmp_path, "py39", "py38", base=PACKAGED, more=more)
    env = tool_environments.environ(tmp_path, mirror=server.url)
    output = tool_environments.run(with_uv / "tox", "run", "-e", "py39", cwd=project, env=env).stdout
    assert tool_environments.answers(output) == ["3.9"]
    assert downloads(server) == ["3.12", "3.9"]
