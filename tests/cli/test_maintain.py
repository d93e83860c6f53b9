"""`remove` and `verify` treat whole, damaged and foreign installations differently."""

import errno
import os
from pathlib import Path

import pytest
from command_line import Cli, key, standard_library


def test_remove_prints_the_removed_keys(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    cli("install", minor)

    done = cli("remove", minor)

    assert (done.code, done.out) == (0, f"{key(versions[minor])}\n")
    assert not list(store.glob("cpython-*"))


def test_the_hint_for_a_store_that_is_read_only_is_not_another_directory(
    cli: Cli, minor: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("install", minor)

    def reject(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:  # root, who runs the tests in CI, can write everywhere
        patch.setattr(Path, "rename", reject)
        patch.setattr(os, "rename", reject)
        refused = cli("remove", minor)

    assert refused.code == 6
    assert f"error: cannot write to the store {store}: " in refused.err
    assert f"hint: as its owner: chmod -R u+w {store}\n" in refused.err


def test_quiet_hides_what_was_done_but_not_errors(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    cli("install", minor)
    whole = cli("verify", "-q")
    (standard_library(store, versions[minor]) / "os.py").unlink()
    broken = cli("verify", "-q")
    removed, pruned, cleared = cli("remove", "-q", minor), cli("cache", "prune", "-q"), cli("cache", "clear", "-q")

    assert {(done.code, done.out, done.err) for done in (whole, removed, pruned, cleared)} == {(0, "", "")}
    assert (broken.code, broken.out) == (5, "")
    assert broken.err.startswith(f"error: {key(versions[minor])}")
    assert not list(store.glob("cpython-*"))
    assert cli("cache", "clear", "-q", "--json").document["removed"] == []


@pytest.mark.parametrize("words", [["3.9"], ["--all"]])
def test_nothing_to_remove_is_an_error(cli: Cli, words: list[str]) -> None:
    done = cli("remove", *words)
    assert done.code == 3
    assert "\nhint: pytest-pyinstall " in done.err


def test_remove_all_without_dashes_is_corrected(cli: Cli) -> None:
    done = cli("remove", "all")
    assert done.code == 2
    assert done.err == "error: remove: 'all' is not a valid request\nhint: pytest-pyinstall remove --all\n"


def test_p22_remove_all_keeps_what_another_program_installed(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    cli("install", minor)
    (store / key("3.4.9")).mkdir()

    done = cli("remove", "--all")

    assert (done.code, done.lines) == (0, [key(versions[minor])])
    assert [path.name for path in store.glob("cpython-*")] == [key("3.4.9")]
    refused = cli("remove", "3.4")
    assert refused.code == 3
    assert f"hint: pytest-pyinstall remove {key('3.4.9')}" in refused.err
    assert cli("remove", key("3.4.9")).code == 0
    assert not list(store.glob("cpython-*"))


def test_verify_accepts_added_files_and_names_them(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    cli("install", minor)
    (standard_library(store, versions[minor]) / "site-packages" / "mine.py").touch()

    done = cli("verify")

    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == f"{key(versions[minor])}  whole"
    assert "added: " in done.lines[1]
    assert "mine.py" in done.lines[1]


def test_p2_verify_finds_a_changed_byte_and_repairs_it(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    cli("install", minor)
    library = standard_library(store, versions[minor])
    before = (library / "textwrap.py").read_bytes()
    (library / "textwrap.py").write_bytes(b"#" + before[1:])
    (library / "site-packages" / "mine.py").touch()

    found = cli("verify", minor)
    document = cli("verify", "--json").document
    repaired = cli("verify", "--repair", minor)

    assert found.code == 5
    assert "textwrap.py: has other content" in found.out
    assert f"hint: pytest-pyinstall verify --repair {versions[minor]}" in found.err
    assert document["exit_code"] == 5
    assert document["installations"][0]["state"] == "broken"
    assert document["installations"][0]["error"]["kind"] == "IntegrityError"
    assert (repaired.code, repaired.lines[0]) == (0, f"{key(versions[minor])}  repaired")
    assert (library / "textwrap.py").read_bytes() == before
    assert (library / "site-packages" / "mine.py").exists()
    assert cli("verify").code == 0


def test_verify_shows_a_few_differences_and_all_on_request(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    cli("install", minor)
    for path in (standard_library(store, versions[minor]) / "json").glob("*.py"):
        path.unlink()
    for path in (standard_library(store, versions[minor]) / "email").glob("*.py"):
        path.unlink()

    few = cli("verify")
    all_of_them = cli("verify", "-v")

    assert len(few.lines) == 12
    assert "-v shows all" in few.lines[-1]
    assert len(all_of_them.lines) > 12


def test_verify_runs_an_installation_without_a_record(cli: Cli, store: Path) -> None:
    foreign = store / key("3.4.9") / "bin"
    foreign.mkdir(parents=True)
    (foreign / "python3.4").write_text("#!/bin/sh\necho rubbish\n")
    (foreign / "python3.4").chmod(0o755)

    done = cli("verify")

    assert done.code == 7
    assert done.lines[0].startswith(f"{key('3.4.9')}  broken")


def test_verify_of_a_missing_python_is_an_error(cli: Cli) -> None:
    assert cli("verify", "3.9").code == 3
    assert cli("verify").code == 0
