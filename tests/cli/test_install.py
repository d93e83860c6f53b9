"""`install`, `list`, `find` and `upgrade` print and install the Pythons that they are given."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import archives
import mirror as server
import pytest
from command_line import TARGET, Cli, key, standard_library

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot


def test_install_prints_the_executable_and_writes_progress_to_standard_error(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    done = cli("install", minor)

    assert done.code == 0
    [executable] = done.lines
    assert executable.startswith(str(store / key(versions[minor])))
    said = subprocess.run(
        [executable, "-c", "import ssl, sys; print(sys.version)"], check=True, capture_output=True, text=True
    )
    assert said.stdout.startswith(versions[minor])
    first, last = done.err.splitlines()
    assert re.fullmatch(rf"Downloading {re.escape(key(versions[minor]))} \([\d.]+ MiB\)", first)
    assert re.fullmatch(rf"\+ {re.escape(key(versions[minor]))} installed in [\d.]+ s", last)


def test_install_finds_an_installed_python(cli: Cli, versions: dict[str, str], minor: str) -> None:
    before = cli("install", minor)

    after = cli("install", minor)

    assert (after.code, after.out) == (0, before.out)
    assert after.err == f"= {key(versions[minor])} already installed\n"


def test_reinstall_replaces_the_installation(cli: Cli, minor: str) -> None:
    executable = Path(cli("install", minor).out.strip())
    before = executable.stat().st_ino

    done = cli("install", "--reinstall", minor)

    assert done.code == 0
    assert "installed in" in done.err
    assert executable.stat().st_ino != before


def test_one_failure_hides_no_other_result(cli: Cli, minor: str) -> None:
    done = cli("install", "3.99", minor)

    assert done.code == 3
    assert len(done.lines) == 1
    assert Path(done.lines[0]).exists()
    assert "error: no build of Python 3.99" in done.err
    assert "hint: pytest-pyinstall list --all" in done.err


def test_install_prints_one_json_document_with_results_and_errors(
    cli: Cli, versions: dict[str, str], minor: str
) -> None:
    done = cli("install", minor, "3.99", "--json")

    good, bad = done.document["pythons"]
    assert (good["request"], good["how"], good["version"], good["source"], good["error"]) == (
        minor,
        "installed",
        versions[minor],
        "store",
        None,
    )
    assert Path(good["executable"]).exists()
    assert bad["error"]["kind"] == "NoMatchError"
    assert done.document["error"] == bad["error"]
    assert done.document["exit_code"] == done.code == 3


# list, find
def test_list_shows_whole_broken_and_foreign_installations(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    other = "3.12" if minor != "3.12" else "3.13"
    cli("install", minor, other)
    (standard_library(store, versions[minor]) / "os.py").unlink()
    foreign = store / key("3.4.9") / "bin"
    foreign.mkdir(parents=True)
    (foreign / "python3.4").touch()

    done = cli("list")

    assert done.code == 0
    rows = {row.split()[0]: row.split(maxsplit=3)[1:] for row in done.lines}
    assert rows[versions[other]][:2] == [key(versions[other]), "store"]
    assert Path(rows[versions[other]][2]).exists()
    assert rows[versions[minor]][1] == "broken"
    assert "os.py: missing" in rows[versions[minor]][2]
    assert rows["3.4.9"][1] == "uv"
    document = {row["version"]: row for row in cli("list", "--json").document["installed"]}
    assert document[versions[minor]]["state"] == "broken"
    assert document[versions[minor]]["differences"][0]["what"] == "missing"
    assert (document["3.4.9"]["state"], document["3.4.9"]["source"]) == ("whole", "uv")
    assert len(document[versions[other]]["sha256"]) == 64


def test_list_shortens_paths_at_a_narrow_terminal(
    cli: Cli, minor: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("install", minor)
    whole = next(line for line in cli("list").lines if " store " in line)
    name, directory, _, path = whole.split()

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(len(whole) - 1))
    assert main(["list"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if " store " in line)
    assert row.split() == [name, "store", f"…/{directory}/{path.partition(f'/{directory}/')[2]}"]

    monkeypatch.setenv("COLUMNS", "10000")
    main(["list"])
    assert whole in capsys.readouterr().out.splitlines()


def test_list_all_adds_the_builds_of_the_catalogue(cli: Cli, versions: dict[str, str], minor: str) -> None:
    cli("install", minor)

    done = cli("list", "--all")

    states = {row.split()[0]: row.split()[2] for row in done.lines if row.split()[2] in {"store", "available"}}
    assert states.pop(versions[minor]) == "store"
    assert states == {version: "available" for version in versions.values() if version != versions[minor]}
    assert len(cli("list", "--all", "--json").document["available"]) == len(versions) - 1


def test_list_all_without_a_catalogue_shows_installed_pythons(cli: Cli, minor: str, tmp_path: Path) -> None:
    cli("install", minor)

    done = cli("list", "--all", "--python-catalogue", str(tmp_path / "none.json"))

    assert done.code == 4
    assert [row.split()[2] for row in done.lines].count("store") == 1


def test_list_shows_other_pythons_of_the_machine(cli: Cli, store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    broken, other = tmp_path / "bin" / "python3.99", archives.interpreters()
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(broken.parent), *(str(path.parent) for path in other.values())]))

    done = cli("list")

    assert (done.code, done.err, store.exists()) == (0, "", False)
    rows = {row.split()[-1]: row for row in done.lines}
    for executable in other.values():
        [row] = [row for path, row in rows.items() if os.path.realpath(path) == os.path.realpath(executable)]
        assert row.split()[1].startswith("cpython-")
    [row] = [row for row in done.lines if " broken " in row]
    assert row.endswith(f"  {broken} (it ended with exit code 3)")
    broken.write_text("#!/bin/sh\necho hello\n")
    [wordy] = [row for row in cli("list").lines if " broken " in row]
    assert wordy.endswith(f"  {broken} (does not behave like a Python; its output: hello)")
    broken.write_text("#!/bin/sh\nexit 3\n")
    assert [line.split() for line in cli("list", "3.99").lines] == [row.split()]
    assert not [row for row in cli("list", "3.9").lines if " broken " in row]
    found = cli("find", "3.99")
    assert found.code == 3
    assert f"no Python 3.99 found that works; {broken} is broken: it ended with exit code 3" in found.err
    machine = cli("list", "--json").document["machine"]
    assert {each["executable"] for each in machine} == {row.split()[-1] for row in done.lines if " broken " not in row}


def test_find_reads_a_catalogue_from_the_cache(cli: Cli, mirrored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.serve(mirrored) as web:
        monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", f"{web.url}/catalogue.json")
        before = cli("find", "3.99")
        assert not web.requests
        cli("install", "3.99")
        count = len(web.requests)

        after = cli("find", "3.99")

        assert len(web.requests) == count
    assert before.err == "error: no Python 3.99 found\nhint: pytest-pyinstall install 3.99\n"
    start = "error: no Python 3.99 found, and no build of Python 3.99 for "
    assert after.err.startswith(start)
    assert " in the cached catalogue of PYTEST_PYINSTALL_CATALOGUE (newest: 3." in after.err
    assert after.err.endswith("\nhint: pytest-pyinstall list --all\n")


def test_find_does_not_download_the_document_of_uv(cli: Cli, mirrored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.serve(mirrored) as web:
        monkeypatch.delenv("PYTEST_PYINSTALL_CATALOGUE", raising=False)
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", web.url)

        done = cli("find", "graalpy3.12")

        assert not web.requests
    assert done.err == "error: no Python graalpy3.12 found\nhint: pytest-pyinstall install graalpy3.12\n"


def test_list_with_requests_shows_only_matching_pythons(cli: Cli, versions: dict[str, str], minor: str) -> None:
    cli("install", minor)
    other = next(version for version in versions if version != minor)

    done = cli("list", "--all", minor, versions[other])

    names = [row.split()[1].split("-")[1] for row in done.lines]
    assert names
    assert all(name == versions[other] or name.startswith(f"{minor}.") for name in names)
    assert {versions[minor], versions[other]} <= set(names)


@pytest.mark.parametrize("words", [(), ("--all",)])
def test_list_says_that_no_python_matches(cli: Cli, words: tuple[str, ...], mirrored: Path) -> None:
    done = cli("list", "3.77", *words)

    assert (done.code, done.out) == (0, "")
    assert "no Python that fits 3.77 is installed in" in done.err
    assert ("none is in the catalogue" in done.err) == bool(words)


def test_list_with_an_invalid_request_is_a_usage_error(cli: Cli) -> None:
    done = cli("list", "3,,9")

    assert done.code == 2
    assert "hint: pytest-pyinstall list" in done.err


# upgrade
def publish_older(store: Path, version: str, *, variant: str = "") -> Key:
    """An installation of an older patch. It is never run, so its executable is empty."""
    older = Key(implementation="cpython", number=version, variant=variant, target=TARGET)
    build = Build(key=older, url=f"https://release.test/{version}.tar.gz", sha256="ab" * 32, size=None, tag="20200101")
    with Store(root=store, lock_timeout=10, boot=current_boot()).claim(older) as claim:
        executable = claim.scratch / "tree" / older.executable
        executable.parent.mkdir(parents=True)
        executable.touch()
        major, minor, patch = older.version.release
        info = (major, minor, patch, "final", 0)
        claim.publish(executable.parents[1], build=build, version_info=info, keep_added=False)
    return older


def keys_in(store: Path) -> set[str]:
    return {path.name for path in store.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."}


@pytest.mark.parametrize("named", [True, False])
def test_upgrade_installs_the_newest_patch_and_removes_the_older(
    cli: Cli, versions: dict[str, str], minor: str, store: Path, named: bool
) -> None:
    older = publish_older(store, f"{minor}.0")
    other = next(version for version in versions if version != minor)
    if named:
        publish_older(store, "2.9.9")

    done = cli("upgrade", minor) if named else cli("upgrade")

    assert done.code == 0
    [line] = [line for line in done.lines if versions[minor] in line]
    assert Path(line).is_relative_to(store / key(versions[minor]))
    assert f"- {older} removed" in done.err
    others = {key("2.9.9")} if named else set()
    assert keys_in(store) == {key(versions[minor]), *others}
    assert other not in done.out


def test_a_second_upgrade_does_nothing(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    publish_older(store, f"{minor}.0")
    first = cli("upgrade", "--json")
    assert first.document["removed"] == [key(f"{minor}.0")]

    again = cli("upgrade", "--json")

    assert (again.code, again.document["removed"]) == (0, [])
    assert [row["how"] for row in again.document["pythons"]] == ["present"]
    assert "installed in" not in again.err


def test_upgrade_with_keep_removes_nothing(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    publish_older(store, f"{minor}.0")
    assert cli("upgrade", "--keep").code == 0
    assert keys_in(store) == {key(versions[minor]), key(f"{minor}.0")}


def test_upgrade_keeps_installations_in_use(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    older = publish_older(store, f"{minor}.0")
    with Store(root=store, lock_timeout=10, boot=current_boot()).lease(store / str(older)):
        done = cli("upgrade")
    assert done.code == 0
    assert f"{older} was not removed" in done.err
    assert keys_in(store) == {key(versions[minor]), str(older)}


def test_upgrade_keeps_variants_apart(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    threaded = publish_older(store, f"{minor}.0", variant="freethreaded")
    publish_older(store, f"{minor}.0")
    assert cli("upgrade", minor).code == 0
    assert keys_in(store) == {key(versions[minor]), str(threaded)}


def test_upgrade_installs_a_missing_python_that_is_named(cli: Cli, versions: dict[str, str], minor: str) -> None:
    done = cli("upgrade", minor)
    assert (done.code, len(done.lines)) == (0, 1)
    assert versions[minor] in done.out


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        ((), 3, "pytest-pyinstall install 3.13"),
        (("3.9.1",), 2, "pytest-pyinstall upgrade 3.9"),
        (("==3.9.1",), 2, "pytest-pyinstall upgrade 3.9"),
        (("3.99",), 3, "pytest-pyinstall list --all"),
        (("./python",), 2, "pytest-pyinstall upgrade 3.13"),
    ],
)
def test_upgrade_gives_a_hint_if_it_cannot_upgrade(
    cli: Cli, mirrored: Path, words: tuple[str, ...], code: int, hint: str
) -> None:
    done = cli("upgrade", *words)
    assert done.code == code
    assert f"hint: {hint}" in done.err


def test_find_prints_the_installed_executable(cli: Cli, minor: str) -> None:
    installed = cli("install", minor)

    done = cli("find", minor)

    assert (done.code, done.out, done.err) == (0, installed.out, "")


@pytest.mark.usefixtures("mirrored")
def test_find_never_downloads(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    done = cli("find", "3.9..3.10", "--python-preference", "only-managed")

    assert (done.code, done.out) == (3, "")
    assert "hint: pytest-pyinstall install 3.9" in done.err
    assert not store.exists()


def test_install_accepts_the_option_python(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["3.77"], ["--python", "3.77"], ["--python=3.77"], ["3.77", "--python", "3.77"]):
        assert main(["install", *words]) == 3
        assert "no build of Python 3.77" in capsys.readouterr().err


def test_a_missing_python_is_left_out_if_the_user_says_so(cli: Cli, minor: str) -> None:
    done = cli("install", minor, "3.77", "--python-missing", "skip")
    assert done.code == 0
    assert "left out: no build of Python 3.77" in done.err
    alone = cli("find", "3.77", "--python-missing", "skip")
    assert (alone.code, alone.out) == (3, "")
