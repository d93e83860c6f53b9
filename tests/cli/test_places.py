"""`dir` says where files are and why, and `cache` lists and deletes them."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import TARGET, Cli

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.cli.places import python_of


# dir
def test_dir_says_which_setting_decides_each_directory(cli: Cli, store: Path, tmp_path: Path, project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\npyinstall_cache = here\n")

    document = cli("dir", "--json").document

    directories = document["directories"]
    assert directories["store"]["path"] == str(store)
    assert directories["store"]["decided_by"] == "PYTEST_PYINSTALL_HOME"
    assert directories["scratch"]["path"].startswith(str(store))
    assert directories["archives"]["decided_by"] == "inside the cache"
    assert not directories["store"]["exists"]
    assert directories["store"]["writable"]
    assert directories["store"]["volume"]["free"] > 0
    assert document["one_volume"]


def test_dir_names_the_file_of_an_ini_value(cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_PYINSTALL_HOME")
    (project / "pytest.ini").write_text("[pytest]\npyinstall_cache = here\n")

    done = cli("dir")

    assert f"cache         {project / 'here'}\n" in done.out
    assert f"pyinstall_cache in {project / 'pytest.ini'};" in done.out
    assert f"configuration {project / 'pytest.ini'}\n" in done.out
    assert cli("dir", "--json").document["configuration"] == str(project / "pytest.ini")
    assert done.lines[-1] == "store, scratch and cache share one volume"


def test_dir_says_that_two_volumes_need_copies(cli: Cli, other_volume: Path) -> None:
    done = cli("dir", "--python-cache", str(other_volume / "pytest-pyinstall-cache"))

    assert "not on the volume of the store: " in done.lines[-1]
    assert "copied" in done.lines[-1]
    assert not cli("dir", "--json", "--python-cache", str(other_volume / "none")).document["one_volume"]


def test_dir_with_a_name_prints_only_that_path(cli: Cli, store: Path) -> None:
    assert cli("dir", "store").out == f"{store}\n"


@pytest.mark.parametrize(
    ("name", "hint"), [("3.13", "find 3.13"), (">=3.9", "find '>=3.9'"), ("stroe", "dir store"), ("--cahce-key", None)]
)
def test_dir_with_a_wrong_name_suggests_the_correct_command(cli: Cli, name: str, hint: str | None) -> None:
    done = cli("dir", name)

    assert done.code == 2
    assert name in done.err
    assert hint is None or done.err.endswith(f"hint: pytest-pyinstall {hint}\n")


def test_the_cache_key_depends_only_on_the_builds(
    cli: Cli, mirrored: Path, tmp_path: Path, minor: str, versions: dict[str, str]
) -> None:
    def cache_key(*words: str) -> str:
        done = cli("dir", "--cache-key", *words)
        assert done.code == 0
        return done.out

    other = next(version for version in versions if version != minor)
    changed = tmp_path / "changed.json"
    text = (mirrored / "catalogue.json").read_text()
    changed.write_text(re.sub(r'"sha256": "....', '"sha256": "0000', text))

    assert cache_key("--python", minor) == cache_key("--python", versions[minor])
    assert cache_key("--python", minor, "--python", other) == cache_key("--python", f"{other},{minor}")
    assert cache_key("--python", minor) != cache_key("--python", other)
    assert cache_key("--python", minor) != cache_key("--python", minor, "--python-catalogue", str(changed))
    assert re.fullmatch(rf"pyinstall-{TARGET}-[0-9a-f]{{16}}\n", cache_key("--python", minor))


# cache
def test_cache_lists_prunes_and_clears(cli: Cli, minor: str, isolated_home: Path) -> None:
    cli("install", minor)
    cache = isolated_home / "pyinstall" / "cache"
    living, dead = cache / "environments" / ("a" * 24), cache / "environments" / ("d" * 24)
    for environment in (living, dead):
        (environment / "bin").mkdir(parents=True)
    (living / "bin" / "python").symlink_to(sys.executable)
    (dead / "bin" / "python").symlink_to("/nowhere/python")

    listed = cli("cache", "list")
    pruned = cli("cache", "prune")
    cleared = cli("cache", "clear")

    assert len(listed.lines) == 1 + 3
    assert listed.err.startswith("1 archive and 2 environments, ")
    assert pruned.lines == [str(dead)]
    assert len(cleared.lines) == 2
    assert str(living) in cleared.lines
    assert cli("cache", "list").out == ""
    assert [code.code for code in (listed, pruned, cleared)] == [0, 0, 0]


def test_cache_list_shows_what_each_environment_is_for(cli: Cli, minor: str, isolated_home: Path) -> None:
    cli("install", minor)
    directory = isolated_home / "pyinstall" / "cache" / "environments"
    records = {
        f"{1:016x}-{1:016x}": ("3.10.13", "django4.2", "changed: pyproject.toml"),
        f"{2:016x}-{1:016x}": ("3.9.18", "", "new"),
    }
    for name, (version, variant, why) in records.items():
        (directory / name).mkdir(parents=True)
        record = {"project": "/home/you/slug", "python": f"cpython-{version}-{TARGET}", "variant": variant, "why": why}
        (directory / name / "suite.json").write_text(json.dumps(record))
    (directory / f".wheel-{3:016x}-{1:016x}").mkdir()
    (directory / f".wheel-{3:016x}-{1:016x}" / "slug-1.0-py3-none-any.whl").touch()

    listed = cli("cache", "list")
    rows = [re.split(r"  +", line) for line in listed.lines]
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    assert listed.err.startswith("1 archive and 2 environments, ")
    assert rows[0] == ["KIND", "SIZE", "LAST USE", "PYTHON", "PROJECT", "VARIANT", "MADE BECAUSE"]
    assert rows[1][0] == "archive"
    assert rows[1][3].startswith(f"{minor}.")
    assert [row[:1] + row[2:] for row in rows[2:]] == [
        ["environment", today, "3.9.18", "/home/you/slug", "-", "new"],
        ["environment", today, "3.10.13", "/home/you/slug", "django4.2", "changed: pyproject.toml"],
        ["wheel", today, "-", "slug", "-", "-"],
    ]
    assert all(str(isolated_home) in line for line in cli("cache", "list", "-v").lines[1:])
    described = cli("cache", "list", "--json").document["environments"][1]
    assert described["why"] == "changed: pyproject.toml"
    assert described["used"].startswith(today)


def test_cache_list_fits_a_narrow_terminal(
    cli: Cli, isolated_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = isolated_home / "pyinstall" / "cache" / "environments" / f"{1:016x}-{1:016x}"
    environment.mkdir(parents=True)
    project = f"/home/you/{'long/' * 9}slug"
    record = {"project": project, "python": f"cpython-3.10.13-{TARGET}", "why": "changed: pyproject.toml [project]"}
    (environment / "suite.json").write_text(json.dumps(record))
    assert project in cli("cache", "list").out

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["cache", "list"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.endswith("PYTHON   PROJECT  MADE BECAUSE")
    assert row.endswith("  3.10.13  slug     pyproject.toml [project]")
    assert len(row) <= 80


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("cpython-3.9.18+20261122-x86_64-unknown-linux-gnu-install_only.tar.gz", "3.9.18"),
        ("cpython-3.13.0+20261122-x86_64-unknown-linux-gnu-freethreaded+pgo+lto-full.tar.zst", "3.13.0t"),
        ("cpython-3.13.0+20261122-x86_64-unknown-linux-gnu-debug-full.tar.zst", "3.13.0d"),
        ("cpython-3.15.0a2+20261122-x86_64-unknown-linux-gnu-install_only.tar.gz", "3.15.0a2"),
        ("pypy3.11-v7.3.17-linux64.tar.bz2", "pypy3.11"),
        ("graalpy-24.2.1-linux-amd64.tar.gz", "graalpy-24.2.1"),
        ("archive", "archive"),
    ],
)
def test_cache_list_reads_the_python_from_the_name_of_an_archive(name: str, python: str) -> None:
    assert python_of(name) == python
