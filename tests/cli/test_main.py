"""Exit codes, output streams, signals and terminals are the same for each command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import mirror as server
import pytest
from command_line import Cli, posix, start

from pytest_pyinstall.cli.context import CommandResult
from pytest_pyinstall.cli.main import _finish
from pytest_pyinstall.errors import EnvironmentCreationError, SeveralFailedError, StoreError


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["find", "3.77"], 3)], ids=["talks", "fails"])
def test_closed_streams_do_not_change_the_exit_code(closed: str, words: list[str], code: int, mirrored: Path) -> None:
    command = [sys.executable, "-m", "pytest_pyinstall", *words]
    done = subprocess.run(["/bin/sh", "-c", f'"$@" {closed}', "sh", *command], check=False, capture_output=True)
    assert (done.returncode, b"Traceback" in done.stdout + done.stderr) == (code, False)


def test_quiet_prints_only_data(cli: Cli, minor: str) -> None:
    done = cli("-q", "install", minor)

    assert (done.code, done.err, len(done.lines)) == (0, "", 1)


def test_a_usage_error_is_in_the_json_document(cli: Cli) -> None:
    done = cli("find", "--json")

    assert done.code == 2
    assert done.document["error"]["kind"] == "UsageError"


def test_exec_rejects_json(cli: Cli) -> None:
    done = cli("exec", "--python", "3.12", "--json", "--", "true")

    assert done.code == 2
    assert "the output is the command's" in done.document["error"]["message"]
    assert done.document["command"] == "exec"


def test_version_prints_name_and_version(cli: Cli) -> None:
    assert re.fullmatch(r"pytest-pyinstall \S+\n", cli("--version").out)


def test_a_missing_catalogue_exits_with_4(cli: Cli, tmp_path: Path) -> None:
    assert cli("install", "3.12", "--python-catalogue", str(tmp_path / "none.json")).code == 4


@pytest.mark.usefixtures("mirrored")
def test_disabled_downloads_exit_with_4(cli: Cli, minor: str) -> None:
    done = cli("install", minor, "--python-downloads", "never", "--json")

    assert done.code == 4
    assert done.document["error"]["kind"] == "OfflineError"


def test_a_wrong_digest_exits_with_5_and_installs_nothing(
    cli: Cli, mirrored: Path, minor: str, tmp_path: Path, store: Path
) -> None:
    text = (mirrored / "catalogue.json").read_text()
    wrong = tmp_path / "wrong.json"
    wrong.write_text(re.sub(r'"sha256": "....', '"sha256": "0000', text))

    done = cli("install", minor, "--python-catalogue", str(wrong))

    assert done.code == 5
    assert not list(store.glob("cpython-*"))


def test_a_store_that_cannot_be_written_exits_with_6(cli: Cli, minor: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = cli("install", minor, "--python-store", str(tmp_path / "file"))

    assert done.code == 6
    assert str(tmp_path / "file") in done.err


def test_an_executable_that_is_not_a_python_exits_with_7(cli: Cli, project: Path) -> None:
    (project / "python").write_text("#!/bin/sh\necho rubbish\n")
    (project / "python").chmod(0o755)

    done = cli("find", "./python")

    assert (done.code, done.out) == (7, "")


def test_other_errors_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(CommandResult(errors=(EnvironmentCreationError("no"),)), command="x", is_json=False) == 1


def test_several_failures_are_printed_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    several = SeveralFailedError("2 of 2", results=[StoreError("first", hint="one"), StoreError("second")])

    _finish(CommandResult(errors=(several,)), command="x", is_json=False)

    assert capsys.readouterr().err == "error: first\nhint: one\nerror: second\n"


def test_characters_that_the_terminal_cannot_show_are_escaped(store: Path) -> None:
    place = store.with_name("störe")
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}

    with start("dir", "store", "--python-store", str(place), env=environ) as process:
        out, err = process.communicate()

    assert (process.returncode, err) == (0, "")
    assert out == f"{store.parent}/st\\xf6re\n"


@posix
def test_a_closed_pipe_ends_the_command_quietly(mirrored: Path) -> None:
    with start("list", "--all") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()

    assert (process.wait(), err) == (141, "")


@posix
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")])
def test_p20_a_signal_ends_a_download_and_leaves_nothing(
    mirrored: Path, minor: str, store: Path, number: int, code: int, said: str
) -> None:
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


# A terminal
@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    try:
        yield leader, follower
    finally:
        os.close(leader)


def _read_all(descriptor: int) -> str:
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
        seen = _read_all(leader)

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
        seen = _read_all(leader)

    assert process.wait() == 0, seen
    assert "\x1b" not in seen
    assert [line[0] for line in seen.splitlines()] == ["D", "+"]


def test_p16_too_little_memory_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def fail(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr("pytest_pyinstall.provisioner.Provisioner.find", fail)

    done = cli("find", "3.13")

    assert (done.code, done.out) == (6, "")
    assert done.err.splitlines()[0] == "error: there is not enough memory"
    assert done.err.splitlines()[1].startswith("hint: ")


def test_an_interruption_during_clean_up_exits_with_130(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def interrupted(words: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError(words)

    monkeypatch.setattr("pytest_pyinstall.cli.main._run", interrupted)

    assert cli("list").code == 130


_SCRIPT = "import atexit, sys, threading; from pytest_pyinstall.cli.main import run_and_exit; "


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("atexit.register(print, 'at exit')", "at exit"),
        ("threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()", "thread"),
        ("threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "3.77"),
        ("sys.stdout = open(1, 'w', closefd=False, buffering=1 << 20)", "3.77"),
    ],
    ids=["atexit", "thread", "daemon", "buffer"],
)
def test_the_script_ends_at_once_and_loses_nothing(before: str, text: str, mirrored: Path) -> None:
    code = f"{_SCRIPT} import time; {before}; run_and_exit()"
    done = subprocess.run(
        [sys.executable, "-c", code, "find", "--json", "3.77"],
        check=False,
        capture_output=True,
        text=True,
        cwd=mirrored,
    )
    assert (done.returncode, text in done.stdout, "hint: pytest-pyinstall list" in done.stderr) == (3, True, True)


def test_the_script_does_not_take_python_apart() -> None:
    loud = "loud = type('Loud', (), {'__del__': lambda _: print('deleted')})()"
    code = f"{_SCRIPT} {loud}; run_and_exit()"
    done = subprocess.run([sys.executable, "-c", code, "--version"], check=True, capture_output=True, text=True)
    assert "deleted" not in done.stdout


def test_the_script_passes_on_an_exit_code_of_windows() -> None:
    code = f"{_SCRIPT} import pytest_pyinstall.cli.main as module; module.main = lambda: 0xC0000005; run_and_exit()"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (done.returncode & 0xFF, done.stderr) == (5, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("words", [["list"], ["find", "current", "--json"], ["--version"], ["--help"]])
def test_output_that_cannot_be_written_is_an_error_without_a_traceback(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pytest_pyinstall", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (6, "error: cannot write the output: No space left on device\n")
