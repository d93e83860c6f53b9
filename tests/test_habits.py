"""Workflows, issue templates, changelog fragments and pre-commit hooks follow their rules."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_with_a_version_comment(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))

    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_declares_its_permissions_and_a_timeout(path: Path) -> None:
    workflow = read(path)

    assert workflow["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in workflow["jobs"].values())


def test_the_tests_run_on_three_systems_and_each_python() -> None:
    matrix = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"]["tests"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    declared = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert declared <= set(matrix["python-version"])


def test_each_check_of_tox_runs_in_the_workflow() -> None:
    checks = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"]["checks"]["strategy"]["matrix"]["check"]
    env_list = re.search(r"^env_list = (.*)$", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)

    assert env_list
    assert set(checks) == {name.strip() for name in env_list[1].split(", ") if not name.startswith("py")}


def test_only_the_release_workflow_can_publish() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]

    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["publish"]
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_templates_are_valid(path: Path) -> None:
    template = read(path)

    assert path.name == "config.yml" or {"name", "description", "body"} <= set(template)


def test_changelog_fragments_have_a_known_type() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    names = [path.name for path in (ROOT / settings["directory"]).iterdir() if path.name != "README.md"]

    assert all(re.fullmatch(rf"(\d+|\+\w+)\.({'|'.join(kinds)})(\.\d+)?\.md", name) for name in names), names
    assert settings["start_string"].strip() in (ROOT / settings["filename"]).read_text(encoding="utf-8")


def test_pre_commit_hooks_come_only_from_the_package_index() -> None:
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]

    assert [repository["repo"] for repository in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        program = hook["entry"].split()[0]
        assert any(name.startswith(program) for name in hook["additional_dependencies"])
