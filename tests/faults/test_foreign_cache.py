"""P11, P15: files that others planted in the cache are not run, trusted, deleted, or written through."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mirror
import pytest
import tool_environments
from fault_report import Tally
from fault_workshop import VERSION, Workshop, digest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to give files to another user"
)

STRANGER = 4321


def give_to_stranger(path: Path) -> Path:
    """Make another user the owner of `path` and everything in it."""
    for each in (path, *path.rglob("*")) if path.is_dir() and not path.is_symlink() else (path,):
        os.lchown(each, STRANGER, STRANGER)
    return path


def plant(path: Path, mark: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ntouch {mark}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def run_suite(workshop: Workshop, project: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--python", "current", "--python-suite", "."],
        env={**os.environ, **workshop.environ}, cwd=project, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "test_it.py").write_text("def test_it(): pass\n")
    return project


@pytest.mark.parametrize("how", ["everyone", "acl", "parent"])
def test_p11_a_planted_environment_is_not_run(workshop: Workshop, tally: Tally, project: Path, how: str) -> None:
    tally.attempt("a cache that others can write to")
    done = run_suite(workshop, project)
    assert done.returncode == 0, done.stdout + done.stderr
    mark = workshop.directory / "ran"
    [python] = (workshop.cache / "environments").glob("*/bin/python")
    python.unlink()
    plant(python, mark)
    if how == "acl":
        if shutil.which("setfacl") is None:
            pytest.skip("needs setfacl")
        done = subprocess.run(
            ["setfacl", "-m", f"u:{STRANGER}:rwx", python.parent.parent.parent],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"needs a filesystem with ACLs: {done.stderr}")
    elif how == "everyone":
        (workshop.cache / "environments").chmod(0o777)
    else:
        workshop.cache.chmod(0o777)
    done = run_suite(workshop, project)
    assert not mark.exists(), "it ran"
    said = done.stdout + done.stderr
    assert str(workshop.cache) in said
    assert "can write to" in said
    assert "Traceback" not in said
    tally.survive()


def test_p11_an_environment_of_another_user_is_not_run(workshop: Workshop, tally: Tally, project: Path) -> None:
    tally.attempt("a cache that others can write to")
    assert run_suite(workshop, project).returncode == 0
    mark = workshop.directory / "ran"
    [python] = (workshop.cache / "environments").glob("*/bin/python")
    python.unlink()
    plant(python, mark)
    give_to_stranger(workshop.cache / "environments")
    workshop.cache.chmod(0o1777)
    done = run_suite(workshop, project)
    assert not mark.exists(), "it ran"
    assert "Traceback" not in done.stdout + done.stderr
    tally.survive()


def test_p11_a_public_cache_with_the_sticky_bit_works(workshop: Workshop, tally: Tally, project: Path) -> None:
    """As in /tmp, others can add files, but cannot change ours."""
    tally.attempt("a cache that others can write to")
    workshop.cache.chmod(0o1777)
    done = run_suite(workshop, project)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_suite(workshop, project)
    assert done.returncode == 0, done.stdout + done.stderr
    tally.survive()


def test_p11_a_planted_catalogue_is_not_used(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("a cache that others can write to")
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        assert workshop.run("list", "--all").code == 0
        [body] = (workshop.cache / "catalogues").glob("*.json")
        rows = json.loads(body.read_bytes())
        for row in rows.values():
            row["sha256"] = "f" * 64
        planted = json.dumps(rows).encode()
        body.write_bytes(planted)
        meta = body.with_suffix(".meta")
        document = json.loads(meta.read_bytes())
        document["sha256"] = hashlib.sha256(planted).hexdigest()
        meta.write_text(json.dumps(document))
        for path in (body, meta):
            give_to_stranger(path)
        workshop.cache.chmod(0o777)
        ended = workshop.run("list", "--all", "--json")
        assert ended.code == 0, ended.output
        assert "f" * 64 not in ended.output
        offline = workshop.run("list", "--all", "--json", environ={"UV_OFFLINE": "1"})
        assert "f" * 64 not in offline.output
    tally.survive()


def test_p11_archives_of_a_public_cache_are_used_after_verification(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("a cache that others can write to")
    workshop.cache.chmod(0o777)
    assert workshop.run("remove", "--all").code == 0
    assert workshop.run("install", VERSION, environ={"UV_OFFLINE": "1"}).code == 0
    assert workshop.is_whole()
    [archive] = (workshop.cache / "archives").glob("*/*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-9] + b"malicious")
    assert workshop.run("remove", "--all").code == 0
    ended = workshop.run("install", VERSION)
    assert ended.code == 0, ended.output
    assert workshop.is_whole()
    tally.survive()


@pytest.mark.parametrize("command", ["prune", "clear"])
def test_p11_pruning_does_not_follow_links_and_deletes_only_our_files(
    workshop: Workshop, tally: Tally, command: str
) -> None:
    tally.attempt("planted files in the cache")
    elsewhere = workshop.directory / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("diary.txt", "deep/diary.txt", "x.part", f".{'a' * 16}.part"):
        (elsewhere / name).write_text("dear diary")
    old = 1_000_000_000
    for path in (*elsewhere.rglob("*"), elsewhere):
        os.utime(path, (old, old))
    before = digest(elsewhere)
    for name in ("archives", "trees", "environments", "commands", "catalogues"):
        (workshop.cache / name).mkdir(exist_ok=True)
    links = {
        f"archives/{'a' * 64}", f"trees/{'b' * 64}", f"trees/.{'b' * 16}.new", f"environments/{'c' * 24}",
        f"environments/.{'c' * 24}.new", f"environments/.{'c' * 24}.1234abcd.gone", f"commands/{'d' * 16}",
        f"environments/.wheel-{'c' * 24}", f"catalogues/{'e' * 64}.json", "answers", "inner",
    }  # fmt: skip
    for name in links:
        path = workshop.cache / name
        if path.is_dir():
            shutil.rmtree(path)
        path.symlink_to(elsewhere)
    foreign = ["environments/notes", "trees/oak", "archives/mine", "commands/mine", "catalogues/mine", "notes"]
    for name in foreign:
        (workshop.cache / name).mkdir()
        (workshop.cache / name / "diary.txt").write_text("dear diary")
    (workshop.cache / "environments" / "notes.txt").write_text("dear diary")
    (workshop.cache / "catalogues" / "notes.txt").write_text("dear diary")
    ended = workshop.run("cache", command)
    assert "Traceback" not in ended.output, ended.output
    assert digest(elsewhere) == before
    for name in foreign:
        assert (workshop.cache / name / "diary.txt").read_text() == "dear diary", name
    assert (workshop.cache / "environments" / "notes.txt").exists()
    assert (workshop.cache / "catalogues" / "notes.txt").exists()
    tally.survive()


def test_p11_directories_of_the_cache_can_be_links_of_the_user(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("planted files in the cache")
    big = workshop.directory / "big disk"
    big.mkdir()
    (workshop.cache / "archives").rename(big / "archives")
    (workshop.cache / "archives").symlink_to(big / "archives")
    assert workshop.run("remove", "--all").code == 0
    assert workshop.run("install", VERSION, environ={"UV_OFFLINE": "1"}).code == 0
    assert workshop.run("cache", "clear").code == 0
    assert list((big / "archives").glob("*/*.tar.gz")) == []
    tally.survive()


def test_p11_the_mode_of_a_planted_lock_is_not_changed(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("planted files in the cache")
    secret = workshop.directory / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    assert workshop.run("remove", "--all").code == 0
    [archive] = (workshop.cache / "archives").glob("*/*.tar.gz")
    archive.unlink()
    for directory in (archive.parent, workshop.cache / "trees"):
        directory.mkdir(exist_ok=True)
        (directory / ".lock").unlink(missing_ok=True)
        os.link(secret, directory / ".lock")
    assert workshop.run("install", VERSION).code == 0
    assert workshop.run("install", "--reinstall", VERSION).code == 0
    assert secret.stat().st_mode & 0o777 == 0o600
    tally.survive()


@pytest.mark.parametrize("name", [".{archive}.new", ".catalogue.json.new", ".lock", "{archive}"])
def test_p11_mirror_pull_does_not_write_through_planted_links(workshop: Workshop, tally: Tally, name: str) -> None:
    tally.attempt("planted files in a mirror")
    victim = workshop.directory / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    site = workshop.directory / "site"
    (site / "20261122").mkdir(parents=True)
    place = site if "catalogue" in name or name == ".lock" else site / "20261122"
    (place / name.replace("{archive}", workshop.archive.name)).symlink_to(victim)
    ended = workshop.run("mirror", "pull", str(site), VERSION)
    assert victim.read_text() == "precious"
    assert victim.stat().st_mode & 0o777 == 0o600
    if name != ".lock":
        assert ended.code == 0, ended.output
        assert (site / "20261122" / workshop.archive.name).read_bytes() == workshop.archive.read_bytes()
    assert "Traceback" not in ended.output
    tally.survive()


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", None])
def test_p11_a_damaged_or_planted_command_for_tox_is_replaced(
    shared_directory: Path,
    mirror_directory: Path,
    tmp_path: Path,
    tally: Tally,
    content: bytes | None,
) -> None:
    """The command was emptied by a power cut, truncated, or planted."""
    tally.attempt("a damaged command on PATH")
    scripts = tool_environments.environment(shared_directory, "tox")
    project = tool_environments.library(
        tmp_path / "library",
        'env_list = ["py312"]\n[env_run_base]\npackage = "skip"\ncommands = [["python", "-c", "import sample"]]\n',
    )
    environ = tool_environments.environ(tmp_path, mirror=str(mirror_directory))
    assert tool_environments.answers(
        tool_environments.run(scripts / "tox", "run", cwd=project, env=environ).stdout
    ) == ["3.12"]
    [command] = (tmp_path / "home").rglob("commands/*/python3.12")
    mark = tmp_path / "ran"
    if content is None:
        command.unlink()
        plant(command, mark)
        give_to_stranger(command)
    else:
        command.write_bytes(content)
    done = tool_environments.run(scripts / "tox", "run", "-r", cwd=project, env=environ)
    assert tool_environments.answers(done.stdout) == ["3.12"]
    assert not mark.exists()
    tally.survive()
