import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archives
import mirror as server
import pytest
from packaging.version import Version

from pytest_pyinstall.cli.context import CommandResult
from pytest_pyinstall.cli.main import _finish, main
from pytest_pyinstall.errors import EnvironmentCreationError, SeveralFailedError, StoreError
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot

TARGET = Target.current()
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Done]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def mirrored(mirror_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(mirror_directory))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(mirror_directory / "catalogue.json"))
    return mirror_directory


@pytest.fixture
def versions(mirrored: Path) -> dict[str, str]:
    """The full version of each minor version in the mirror."""
    document = json.loads((mirrored / "catalogue.json").read_text())
    return {
        f"{row['major']}.{row['minor']}": f"{row['major']}.{row['minor']}.{row['patch']}" for row in document.values()
    }


@pytest.fixture
def minor(versions: dict[str, str]) -> str:
    return "3.9" if "3.9" in versions else next(iter(versions))


@pytest.fixture
def store(isolated_home: Path) -> Path:
    return isolated_home / "pyinstall" / "store"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


def start(*words: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest_pyinstall", *words]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **options)


def key(version: str) -> str:
    return f"cpython-{version}-{TARGET}"


def standard_library(store: Path, version: str) -> Path:
    return next((store / key(version)).rglob("os.py")).parent


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["find", "3.77"], 3)], ids=["talks", "fails"])
def test_closed_streams_change_no_exit_code(closed: str, words: list[str], code: int, mirrored: Path) -> None:
    command = [sys.executable, "-m", "pytest_pyinstall", *words]
    done = subprocess.run(["/bin/sh", "-c", f'"$@" {closed}', "sh", *command], check=False, capture_output=True)
    assert (done.returncode, b"Traceback" in done.stdout + done.stderr) == (code, False)


# install


def test_install_prints_the_executable_and_talks_on_standard_error(
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


def test_install_again_finds_it_there(cli: Cli, versions: dict[str, str], minor: str) -> None:
    before = cli("install", minor)

    after = cli("install", minor)

    assert (after.code, after.out) == (0, before.out)
    assert after.err == f"= {key(versions[minor])} was there\n"


def test_reinstall_makes_it_anew(cli: Cli, minor: str) -> None:
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


def test_install_as_json_is_one_document_with_results_and_errors(
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


def test_quiet_leaves_the_data(cli: Cli, minor: str) -> None:
    done = cli("-q", "install", minor)

    assert (done.code, done.err, len(done.lines)) == (0, "", 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest]\npyinstall_python = ['{}']\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\npyinstall_python = '{}'\n"),
        ("pytest.ini", "[pytest]\naddopts = -ra --python {}\n"),
        ("tox.ini", "[tox]\nenv_list = py\n[pytest]\npyinstall_python =\n    {}\n    current\n"),
    ],
)
def test_install_without_request_installs_what_the_project_asks_for(
    cli: Cli, project: Path, versions: dict[str, str], minor: str, name: str, text: str
) -> None:
    (project / name).write_text(text.format(minor))

    done = cli("install")

    assert (done.code, len(done.lines)) == (0, 1)
    assert key(versions[minor]) in done.out


def test_the_variable_goes_before_the_ini_value(
    cli: Cli, project: Path, minor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pytest.ini").write_text("[pytest]\npyinstall_python = 3.99\n")
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", minor)

    assert cli("install").code == 0


def test_install_with_nothing_configured_is_a_usage_error(cli: Cli) -> None:
    done = cli("install")

    assert (done.code, done.out) == (2, "")
    assert "hint: pytest-pyinstall install 3.13" in done.err


def test_a_number_in_toml_is_a_usage_error_that_names_the_file(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.pytest]\npyinstall_python = [3.10]\n")

    done = cli("install")

    assert done.code == 2
    assert str(project / "pyproject.toml") in done.err
    assert '"3.10"' in done.err


# What every command has


def test_options_stand_on_either_side_of_the_command(cli: Cli, mirror_directory: Path, minor: str) -> None:
    options = ["--python-mirror", str(mirror_directory), f"--python-catalogue={mirror_directory / 'catalogue.json'}"]

    before = cli(*options, "-q", "install", minor)
    after = cli("install", *options, minor, "-q", minor)

    assert (before.code, after.code) == (0, 0)
    assert before.out == after.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "pytest-pyinstall --help"),
        (["instal"], "pytest-pyinstall --help"),
        (["install", "--reinstal"], "pytest-pyinstall install --help"),
        (["install", "3.x.y"], ""),
        (["install", "--python-downloads", "often", "3.12"], "--python-downloads auto"),
        (["find"], "pytest-pyinstall find 3.12"),
        (["dir", "nowhere"], "pytest-pyinstall dir --help"),
        (["dir", "--python", "3.12"], "pytest-pyinstall dir --cache-key"),
        (["remove"], "pytest-pyinstall list"),
        (["remove", "3.12", "--all"], "pytest-pyinstall list"),
        (["cache", "burn"], "pytest-pyinstall cache --help"),
        (["mirror", "pull", "--tag", "20261122", "x", "3.12"], ""),
        (["exec", "--python", "3.12"], "pytest-pyinstall exec --python 3.12 -- COMMAND"),
    ],
)
def test_usage_errors_end_with_2_and_do_nothing(cli: Cli, store: Path, words: list[str], hint: str) -> None:
    done = cli(*words)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert f"hint: {hint}" in done.err or not hint
    assert not store.exists()


def test_a_misspelt_command_is_told_its_name(cli: Cli) -> None:
    assert "did you mean install?" in cli("instal").err


def test_usage_errors_are_in_the_document_too(cli: Cli) -> None:
    done = cli("find", "--json")

    assert done.code == 2
    assert done.document["error"]["kind"] == "UsageError"


def test_exec_has_no_json_of_its_own(cli: Cli) -> None:
    done = cli("exec", "--python", "3.12", "--json", "--", "true")

    assert done.code == 2
    assert "the output is the command's" in done.document["error"]["message"]
    assert done.document["command"] == "exec"


COMMANDS = (
    "install",
    "list",
    "find",
    "upgrade",
    "exec",
    "matrix",
    "remove",
    "verify",
    "dir",
    "cache",
    "mirror",
    "report",
)


def test_help_fits_a_screen_and_names_every_command(cli: Cli) -> None:
    done = cli("--help")

    assert done.code == 0
    assert len(done.lines) <= 24
    assert max(map(len, done.lines)) <= 80
    for command in COMMANDS:
        assert f"\n  {command} " in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_a_screen_and_shows_examples(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = cli(command, "--help")

    assert done.code == 0
    assert len(done.lines) <= 24
    assert max(map(len, done.lines)) <= 80
    assert f"\nexamples:\n  pytest-pyinstall {command}" in done.out


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"pytest-pyinstall \S+\n", cli("--version").out)


def test_a_catalogue_that_is_not_there_ends_with_4(cli: Cli, tmp_path: Path) -> None:
    assert cli("install", "3.12", "--python-catalogue", str(tmp_path / "none.json")).code == 4


@pytest.mark.usefixtures("mirrored")
def test_downloads_that_are_switched_off_end_with_4(cli: Cli, minor: str) -> None:
    done = cli("install", minor, "--python-downloads", "never", "--json")

    assert done.code == 4
    assert done.document["error"]["kind"] == "OfflineError"


def test_a_wrong_digest_ends_with_5_and_leaves_nothing(
    cli: Cli, mirrored: Path, minor: str, tmp_path: Path, store: Path
) -> None:
    text = (mirrored / "catalogue.json").read_text()
    wrong = tmp_path / "wrong.json"
    wrong.write_text(re.sub(r'"sha256": "....', '"sha256": "0000', text))

    done = cli("install", minor, "--python-catalogue", str(wrong))

    assert done.code == 5
    assert not list(store.glob("cpython-*"))


def test_a_store_that_cannot_be_written_ends_with_6(cli: Cli, minor: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = cli("install", minor, "--python-store", str(tmp_path / "file"))

    assert done.code == 6
    assert str(tmp_path / "file") in done.err


def test_an_executable_that_is_no_python_ends_with_7(cli: Cli, project: Path) -> None:
    (project / "python").write_text("#!/bin/sh\necho rubbish\n")
    (project / "python").chmod(0o755)

    done = cli("find", "./python")

    assert (done.code, done.out) == (7, "")


def test_everything_else_of_ours_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(CommandResult(errors=(EnvironmentCreationError("no"),)), command="x", is_json=False) == 1


def test_several_failures_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    several = SeveralFailedError("2 of 2", results=[StoreError("first", hint="one"), StoreError("second")])

    _finish(CommandResult(errors=(several,)), command="x", is_json=False)

    assert capsys.readouterr().err == "error: first\nhint: one\nerror: second\n"


def test_a_name_that_the_terminal_cannot_show_is_no_error(store: Path) -> None:
    place = store.with_name("störe")
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}

    with start("dir", "store", "--python-store", str(place), env=environ) as process:
        out, err = process.communicate()

    assert (process.returncode, err) == (0, "")
    assert out == f"{store.parent}/st\\xf6re\n"


@posix
def test_a_reader_that_has_seen_enough_is_no_error(mirrored: Path) -> None:
    with start("list", "--all") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()

    assert (process.wait(), err) == (141, "")


@posix
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")])
def test_a_signal_ends_a_download_and_leaves_nothing_half_made(
    mirrored: Path, minor: str, store: Path, number: int, code: int, said: str
) -> None:
    """P20"""
    with server.serve(mirrored) as mirror:
        stalled = server.stall(after=1000)
        mirror.always("*", stalled)
        with start("install", "-q", minor, "--python-mirror", mirror.url) as process:
            assert stalled.reached.wait(60)
            process.send_signal(number)
            out, err = process.communicate(timeout=200)

    assert (process.returncode, out, err) == (code, "", said)
    assert not list(store.glob("cpython-*"))
    assert not list(store.glob(".pytest-pyinstall/scratch/*"))


# list, find


def test_list_shows_what_is_whole_what_is_broken_and_what_is_not_ours(
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


def test_list_all_adds_what_the_catalogue_offers(cli: Cli, versions: dict[str, str], minor: str) -> None:
    cli("install", minor)

    done = cli("list", "--all")

    states = {row.split()[0]: row.split()[2] for row in done.lines if row.split()[2] in {"store", "available"}}
    assert states.pop(versions[minor]) == "store"
    assert states == {version: "available" for version in versions.values() if version != versions[minor]}
    assert len(cli("list", "--all", "--json").document["available"]) == len(versions) - 1


def test_list_all_without_catalogue_still_lists_what_is_installed(cli: Cli, minor: str, tmp_path: Path) -> None:
    cli("install", minor)

    done = cli("list", "--all", "--python-catalogue", str(tmp_path / "none.json"))

    assert done.code == 4
    assert [row.split()[2] for row in done.lines].count("store") == 1


def test_list_shows_what_else_the_machine_has(cli: Cli, store: Path, tmp_path: Path, monkeypatch: Any) -> None:
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
    assert str(broken) in row
    machine = cli("list", "--json").document["machine"]
    assert {each["executable"] for each in machine} == {row.split()[-1] for row in done.lines if " broken " not in row}


def test_list_with_requests_shows_what_fits_them(cli: Cli, versions: dict[str, str], minor: str) -> None:
    cli("install", minor)
    other = next(version for version in versions if version != minor)

    done = cli("list", "--all", minor, versions[other])

    names = [row.split()[1].split("-")[1] for row in done.lines]
    assert names
    assert all(name == versions[other] or name.startswith(f"{minor}.") for name in names)
    assert {versions[minor], versions[other]} <= set(names)


@pytest.mark.parametrize("words", [(), ("--all",)])
def test_a_list_of_what_nobody_has_says_so(cli: Cli, words: tuple[str, ...], mirrored: Path) -> None:
    done = cli("list", "3.77", *words)

    assert (done.code, done.out) == (0, "")
    assert "no Python that fits 3.77 is installed in" in done.err


def test_a_list_of_what_is_no_request_is_a_usage_error(cli: Cli) -> None:
    done = cli("list", "3,,9")

    assert done.code == 2
    assert "hint: pytest-pyinstall list" in done.err


# upgrade


def put_older(store: Path, version: str, *, variant: str = "") -> Key:
    """An installation of ours of another patch; it is never run, so an empty executable will do."""
    older = Key(implementation="cpython", version=Version(version), variant=variant, target=TARGET)
    build = Build(key=older, url=f"https://release.test/{version}.tar.gz", sha256="ab" * 32, size=None, tag="20200101")
    with Store(root=store, lock_timeout=10, boot=current_boot()).claim(older) as claim:
        executable = claim.scratch / "tree" / older.executable
        executable.parent.mkdir(parents=True)
        executable.touch()
        major, minor, patch = older.version.release
        info = (major, minor, patch, "final", 0)
        claim.publish(executable.parents[1], build=build, version_info=info, keep_added=False)
    return older


def kept_keys(store: Path) -> set[str]:
    return {path.name for path in store.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."}


@pytest.mark.parametrize("named", [True, False])
def test_upgrade_installs_the_newest_patch_and_removes_the_older(
    cli: Cli, versions: dict[str, str], minor: str, store: Path, named: bool
) -> None:
    older = put_older(store, f"{minor}.0")
    other = next(version for version in versions if version != minor)
    if named:
        put_older(store, "2.9.9")

    done = cli("upgrade", minor) if named else cli("upgrade")

    assert done.code == 0
    [line] = [line for line in done.lines if versions[minor] in line]
    assert Path(line).is_relative_to(store / key(versions[minor]))
    assert f"- {older} removed" in done.err
    others = {key("2.9.9")} if named else set()
    assert kept_keys(store) == {key(versions[minor]), *others}
    assert other not in done.out


def test_upgrade_again_does_nothing(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    put_older(store, f"{minor}.0")
    first = cli("upgrade", "--json")
    assert first.document["removed"] == [key(f"{minor}.0")]

    again = cli("upgrade", "--json")

    assert (again.code, again.document["removed"]) == (0, [])
    assert [row["how"] for row in again.document["pythons"]] == ["present"]
    assert "installed" not in again.err


def test_upgrade_keeps_the_older_ones_if_it_is_told_to(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    put_older(store, f"{minor}.0")
    assert cli("upgrade", "--keep").code == 0
    assert kept_keys(store) == {key(versions[minor]), key(f"{minor}.0")}


def test_upgrade_leaves_what_somebody_works_with(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    older = put_older(store, f"{minor}.0")
    with Store(root=store, lock_timeout=10, boot=current_boot()).lease(store / str(older)):
        done = cli("upgrade")
    assert done.code == 0
    assert f"{older} is in use, and stays" in done.err
    assert kept_keys(store) == {key(versions[minor]), str(older)}


def test_upgrade_keeps_variants_apart(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    threaded = put_older(store, f"{minor}.0", variant="freethreaded")
    put_older(store, f"{minor}.0")
    assert cli("upgrade", minor).code == 0
    assert kept_keys(store) == {key(versions[minor]), str(threaded)}


def test_upgrade_installs_what_is_named_and_not_there(cli: Cli, versions: dict[str, str], minor: str) -> None:
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
def test_what_cannot_be_upgraded_says_why(
    cli: Cli, mirrored: Path, words: tuple[str, ...], code: int, hint: str
) -> None:
    done = cli("upgrade", *words)
    assert done.code == code
    assert f"hint: {hint}" in done.err


def test_find_prints_what_is_installed(cli: Cli, minor: str) -> None:
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


# dir


def test_dir_says_for_each_directory_what_decided_it(cli: Cli, store: Path, tmp_path: Path, project: Path) -> None:
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
    assert done.lines[-1] == "store, scratch and cache share one volume"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second volume")
def test_dir_says_what_follows_from_two_volumes(cli: Cli, tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second volume")

    done = cli("dir", "--python-cache", "/dev/shm/pytest-pyinstall-cache")

    assert "another volume" in done.lines[-1]
    assert "copied" in done.lines[-1]
    assert not cli("dir", "--json", "--python-cache", "/dev/shm/none").document["one_volume"]


def test_dir_with_a_name_prints_that_path_alone(cli: Cli, store: Path) -> None:
    assert cli("dir", "store").out == f"{store}\n"


def test_the_cache_key_changes_with_the_builds_and_with_nothing_else(
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


# remove, verify


def test_remove_prints_what_is_gone(cli: Cli, versions: dict[str, str], minor: str, store: Path) -> None:
    cli("install", minor)

    done = cli("remove", minor)

    assert (done.code, done.out) == (0, f"{key(versions[minor])}\n")
    assert not list(store.glob("cpython-*"))


@pytest.mark.parametrize("words", [["3.9"], ["--all"]])
def test_nothing_to_remove_is_an_error(cli: Cli, words: list[str]) -> None:
    assert cli("remove", *words).code == 3


def test_remove_all_leaves_what_somebody_else_put_there(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    """P22"""
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


def test_verify_is_content_with_what_is_whole_and_names_what_was_added(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    cli("install", minor)
    (standard_library(store, versions[minor]) / "site-packages" / "mine.py").touch()

    done = cli("verify")

    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == f"{key(versions[minor])}  whole"
    assert "added: " in done.lines[1]
    assert "mine.py" in done.lines[1]


def test_verify_finds_a_changed_byte_and_repair_puts_it_back(
    cli: Cli, versions: dict[str, str], minor: str, store: Path
) -> None:
    """P2"""
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


def test_verify_runs_what_it_cannot_compare(cli: Cli, store: Path) -> None:
    foreign = store / key("3.4.9") / "bin"
    foreign.mkdir(parents=True)
    (foreign / "python3.4").write_text("#!/bin/sh\necho rubbish\n")
    (foreign / "python3.4").chmod(0o755)

    done = cli("verify")

    assert done.code == 7
    assert done.lines[0].startswith(f"{key('3.4.9')}  unusable")


def test_verify_of_what_is_not_installed_is_an_error(cli: Cli) -> None:
    assert cli("verify", "3.9").code == 3
    assert cli("verify").code == 0


# cache, mirror


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

    assert len(listed.lines) == 3
    assert listed.err.startswith("1 archive and 2 environments, ")
    assert pruned.lines == [str(dead)]
    assert len(cleared.lines) == 2
    assert str(living) in cleared.lines
    assert cli("cache", "list").out == ""
    assert [code.code for code in (listed, pruned, cleared)] == [0, 0, 0]


def test_an_interpreter_packed_out_of_its_prefix_can_be_installed_from_the_mirror(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    version, executable = [*archives.interpreters().items()][-1]

    packed = cli("mirror", "pack", str(place), str(executable.parents[1]), "--tag", "20260101")
    options = ["--python-mirror", str(place), "--python-catalogue", str(place / "catalogue.json")]
    installed = cli("install", version, *options)

    assert packed.code == 0, packed.err
    assert Path(packed.lines[0]).parent == place / "20260101"
    assert installed.code == 0, installed.err


def test_pulled_archives_can_be_installed_without_the_source(
    cli: Cli, minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mirror"

    pulled = cli("mirror", "pull", str(place), minor, "3.99")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(place))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(place / "catalogue.json"))
    cli("cache", "clear")
    installed = cli("install", minor)

    assert (pulled.code, len(pulled.lines)) == (3, 1)
    assert installed.code == 0, installed.err


def test_nothing_is_pulled_where_downloads_are_switched_off(cli: Cli, minor: str, tmp_path: Path) -> None:
    assert cli("mirror", "pull", str(tmp_path / "m"), minor, "--python-downloads", "never").code == 4


# matrix

CLASSIFIERS = """\
[project]
name = "x"
version = "1"
classifiers = [
  "Programming Language :: Python :: 3.13",
  "Programming Language :: Python :: 3.12",
]
"""


def test_the_matrix_of_a_project_is_what_it_supports(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text(CLASSIFIERS)

    github = cli("matrix")
    lines = cli("matrix", "--format", "lines")
    rows = cli("matrix", "--format", "json")

    include = [
        {"python-version": "3.12", "experimental": False},
        {"python-version": "3.13", "experimental": False},
    ]
    assert github.document == {"include": include}
    assert len(github.lines) == 1
    assert lines.lines == ["3.12", "3.13"]
    assert rows.document == include


def test_free_threading_that_the_project_declares_has_rows_of_its_own(cli: Cli, project: Path) -> None:
    declared = [
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Free Threading :: 2 - Beta",
    ]
    (project / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "1"\nclassifiers = {declared}\n')

    assert cli("matrix", "--format", "lines").lines == ["3.14", "3.14t"]
    assert cli("matrix", "supported,pypy3.11", "--format", "lines").lines == ["3.14", "pypy3.11", "3.14t"]
    assert cli("matrix", "3.14", "--format", "lines").lines == ["3.14"]


def test_free_threaded_rows_are_experimental(cli: Cli) -> None:
    rows = cli("matrix", "3.13", "3.13t", "pypy3.11", "py312", "3.12", "--format", "json").document

    assert [(row["python-version"], row["experimental"]) for row in rows] == [
        ("3.13", False),
        ("3.13t", True),
        ("pypy3.11", False),
        ("3.12", False),
    ]


def test_a_version_that_nobody_builds_any_more_stays_in_the_matrix(cli: Cli, mirrored: Path) -> None:
    assert cli("matrix", "3.5", "--format", "lines").out == "3.5\n"


@pytest.mark.parametrize(("request_text", "code"), [("3.99", 3), ("./python", 2), ("supported", 2)])
def test_what_cannot_be_a_row_is_an_error(cli: Cli, mirrored: Path, request_text: str, code: int) -> None:
    assert cli("matrix", request_text).code == code


# exec


@pytest.fixture
def python_test(minor: str) -> str:
    return f"python{minor}"


@posix
def test_exec_puts_the_pythons_on_path_and_returns_the_exit_code(
    versions: dict[str, str], minor: str, mirrored: Path
) -> None:
    script = f"python{minor} -c 'import sys; print(sys.version_info[:3], sys.prefix)'; exit 7"

    with start("exec", "-q", "--python", minor, "--", "sh", "-c", script) as process:
        out, err = process.communicate()

    assert (process.returncode, err) == (7, "")
    assert out.startswith(f"({', '.join(versions[minor].split('.'))})")
    assert key(versions[minor]) in out


@posix
def test_environments_made_under_exec_outlive_it(minor: str, mirrored: Path, tmp_path: Path) -> None:
    command = [f"python{minor}", "-m", "venv", "--without-pip", str(tmp_path / "env")]

    with start("exec", "--python", minor, "--", *command) as process:
        process.communicate()
    said = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "print(1)"], check=True, capture_output=True, text=True
    )

    assert process.returncode == 0
    assert said.stdout == "1\n"


@posix
def test_exec_leaves_no_temporary_directory_behind(minor: str, mirrored: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()

    with start("exec", "-q", "--python", minor, "--", "sh", "-c", f"command -v python{minor}", env=environ) as process:
        out, _ = process.communicate()

    assert out.startswith(str(tmp_path / "home" / "pyinstall" / "cache" / "commands"))
    assert not list((tmp_path / "tmp").iterdir())


@posix
@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126), ("./project", 126)])
def test_a_command_that_cannot_be_started_gives_the_code_of_a_shell(
    cli: Cli, minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)

    done = cli("exec", "-q", "--python", minor, "--", command)

    assert done.code == code
    assert command in done.err


@posix
def test_a_command_that_a_signal_ended_gives_128_and_its_number(cli: Cli, minor: str) -> None:
    assert cli("exec", "--python", minor, "--", "sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_exec_passes_signals_on_and_waits(minor: str, mirrored: Path, number: int) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )

    # In a session of its own: a signal from a terminal would reach both.
    options = {"start_new_session": True}
    with start("exec", "-q", "--python", minor, "--", sys.executable, "-c", script, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == 5


NOXFILE = """
import nox


@nox.session(python={versions!r})
def tests(session):
    session.run("python", "-c", "import sys; print('base', sys.base_prefix)")
"""


@posix
@pytest.mark.parametrize("backend", ["virtualenv", "uv"])
def test_nox_finds_its_pythons_under_exec(
    project: Path, versions: dict[str, str], mirrored: Path, store: Path, backend: str
) -> None:
    pytest.importorskip("nox")
    # virtualenv makes no environments for 3.8 and older any more.
    oldest = 9 if backend == "virtualenv" else 8
    # nox takes the Python that it runs on itself, wherever else there is one of its version.
    others = [version for version in versions if version != "{}.{}".format(*sys.version_info)]
    chosen = [version for version in others if int(version.partition(".")[2]) >= oldest][:2]
    (project / "noxfile.py").write_text(NOXFILE.format(versions=chosen))
    command = [sys.executable, "-m", "nox", "--default-venv-backend", backend]

    options = ["--python-preference", "only-managed", "--python", *chosen]
    with start("exec", "-q", *options, "--", *command) as process:
        out, err = process.communicate()

    assert process.returncode == 0, err
    assert sorted(re.findall("base (.*)", out)) == sorted(str(store / key(versions[version])) for version in chosen)


@pytest.mark.usefixtures("mirrored")
def test_exec_does_not_run_without_all_its_pythons(cli: Cli, minor: str, project: Path) -> None:
    done = cli("exec", "--python", minor, "3.99", "--", "touch", "ran")

    assert done.code == 3
    assert not (project / "ran").exists()


@posix
@pytest.mark.usefixtures("mirrored")
def test_exec_runs_with_what_there_is_where_missing_ones_are_skipped(cli: Cli, minor: str, project: Path) -> None:
    done = cli("exec", "--python-missing", "skip", "--python", minor, "3.99", "--", "touch", "ran")

    assert done.code == 0
    assert "left out: no build of Python 3.99" in done.err
    assert (project / "ran").exists()


# A terminal


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    try:
        yield leader, follower
    finally:
        os.close(leader)


def _everything_from(descriptor: int) -> str:
    seen = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other side was closed
            chunk = b""
        if not chunk:
            return seen.decode()
        seen += chunk


@posix
def test_a_terminal_of_80_columns_shows_bars_and_then_only_results(
    terminal: tuple[int, int], mirrored: Path, versions: dict[str, str], minor: str
) -> None:
    leader, follower = terminal
    other = next(version for version in versions if version != minor)
    environ = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR"}}
    environ |= {"TERM": "xterm-256color", "COLUMNS": "80"}

    with start("install", minor, other, stderr=follower, env=environ) as process:
        os.close(follower)
        seen = _everything_from(leader)

    assert process.wait() == 0, seen
    assert "\x1b[?25l" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert any(versions[minor] in line and "MiB" in line for line in lines)
    assert any(line.startswith("total") for line in lines)
    assert sum(line.startswith("+ ") for line in lines) == 2
    assert all(len(line) <= 80 for line in lines)


@posix
@pytest.mark.parametrize("plain", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_dumb_terminal_and_a_ci_log_get_plain_lines(
    terminal: tuple[int, int], mirrored: Path, minor: str, plain: dict[str, str]
) -> None:
    leader, follower = terminal
    environ = {"TERM": "xterm", **os.environ, **plain}

    with start("install", minor, stderr=follower, env=environ) as process:
        os.close(follower)
        seen = _everything_from(leader)

    assert process.wait() == 0, seen
    assert "\x1b" not in seen
    assert [line[0] for line in seen.splitlines()] == ["D", "+"]


def test_an_interruption_in_the_middle_of_cleaning_up_is_one(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def interrupted(words: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError(words)

    monkeypatch.setattr("pytest_pyinstall.cli.main._run", interrupted)

    assert cli("list").code == 130
