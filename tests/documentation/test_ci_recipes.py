"""The shell recipe of ``docs/howto/ci.md`` uses its cache, and an audit accepts the workflows of the pages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import archives
import mirror
import pytest
import tool_environments
from pages import DOCS, fenced

pytestmark = pytest.mark.skipif(
    not {"3.9", "3.12"} <= set(archives.interpreters()), reason="needs CPython 3.9 and 3.12"
)

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "ci.md"


@pytest.fixture(scope="session")
def tools(shared_directory: Path) -> Path:
    return tool_environments.environment(shared_directory, "uv")


def test_a_warm_cache_downloads_nothing(tools: Path, mirror_directory: Path, tmp_path: Path) -> None:
    [recipe] = re.findall(r"^```shell\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    install = "python -m pip install pytest-pyinstall\n"
    assert install in recipe
    recipe = recipe.replace(install, "")  # `tools` has it
    project = tmp_path / "library"
    project.mkdir()
    (project / "test_it.py").write_text("def test_it(): pass\n")
    classifiers = [f"Programming Language :: Python :: {minor}" for minor in ("3.9", "3.12")]
    (project / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "1"\nclassifiers = {classifiers}\n')
    with mirror.serve(mirror_directory) as server:
        env = tool_environments.environ(tmp_path, mirror=server.url)
        for name in ("tar", "gzip"):
            if found := shutil.which(name):
                (tmp_path / "shell" / name).symlink_to(found)
        env["PATH"] = f"{tools}{os.pathsep}{env['PATH']}"

        cold = tool_environments.run("/bin/sh", "-c", recipe, cwd=project, env=env).stdout
        assert "2 passed" in cold
        assert "test_it[py3.12]" in (project / "junit.xml").read_text("utf-8")
        assert [path.suffix for path in (tmp_path / "home").glob("pyinstall-*")] == [".tar"]

        shutil.rmtree(project / ".pythons")
        shutil.rmtree(tmp_path / "home" / "pyinstall")  # the archives and the environments
        server.reset_counts()
        warm = tool_environments.run("/bin/sh", "-c", recipe, cwd=project, env=env).stdout
        assert "2 passed" in warm
        assert not [request for request in server.requests if request.path.endswith(".tar.gz")]


def test_a_command_that_fails_ends_the_recipe_without_a_cache(tmp_path: Path) -> None:
    """Without a key, the next job would restore the cache of any other."""
    [recipe] = re.findall(r"^```shell\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, code in (("python", 0), ("pytest-pyinstall", 3), ("tar", 0), ("pytest", 0)):
        (commands / name).write_text(f'#!/bin/sh\necho {name} >> "$HOME/called"\nexit {code}\n')
        (commands / name).chmod(0o755)
    env = {"HOME": str(tmp_path / "home"), "PATH": str(commands)}
    assert subprocess.run(["/bin/sh", "-c", recipe], env=env, cwd=tmp_path, check=False).returncode == 3
    assert (tmp_path / "home" / "called").read_text().split() == ["python", "pytest-pyinstall"]


@pytest.mark.parametrize("page", ["tutorial.md", "howto/ci.md"])
def test_an_audit_accepts_the_workflow(page: str, tmp_path: Path) -> None:
    [workflow] = [text for language, text in fenced(DOCS / page) if language == "yaml" and "\njobs:" in text]
    path = tmp_path / ".github" / "workflows" / "test.yml"
    path.parent.mkdir(parents=True)
    path.write_text(workflow)
    command = [str(Path(sys.executable).parent / "zizmor"), "--offline", "--no-progress", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_recipes_cache_every_python_and_fail_with_their_commands() -> None:
    recipes = [
        text
        for page in ("tutorial.md", "howto/ci.md")
        for language, text in fenced(DOCS / page)
        if language in {"yaml", "shell"} and "PYTEST_PYINSTALL_STORE" in text
    ]
    assert len(recipes) == 4  # two workflows for GitHub, one for GitLab, and a plain shell
    for text in recipes:
        # Otherwise a Python of the runner is used, and the cache lacks it.
        assert re.search(r"PYTEST_PYINSTALL_PREFERENCE(: |=)only-managed", text)
        # A shell ignores the exit code of `$(…)` in the arguments of a command, but not in an assignment.
        assert all(re.match(r'\s*\w+="\$\(', line) for line in text.splitlines() if "$(" in line)
