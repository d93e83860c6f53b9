"""The command line accepts options anywhere, corrects mistakes, and has help that fits a screen."""

from pathlib import Path

import pytest
from command_line import Cli

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.options import SETTINGS


def test_options_may_be_on_either_side_of_the_command(cli: Cli, mirror_directory: Path, minor: str) -> None:
    options = ["--python-mirror", str(mirror_directory), f"--python-catalogue={mirror_directory / 'catalogue.json'}"]

    before = cli(*options, "-q", "install", minor)
    after = cli("install", *options, minor, "-q", minor)

    assert (before.code, after.code) == (0, 0)
    assert before.out == after.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "pytest-pyinstall --help"),
        (["instal", "3.12"], "pytest-pyinstall install 3.12"),
        (["nothing-like-it"], "pytest-pyinstall --help"),
        (["install", "--reinstal", "3.9"], "pytest-pyinstall install --reinstall 3.9"),
        (["install", "3.x.y"], ""),
        (["install", "--python-downloads", "often", "3.12"], "--python-downloads auto"),
        (["find"], "pytest-pyinstall find 3.12"),
        (["dir", "nowhere"], "pytest-pyinstall dir"),
        (["dir", "stoer"], "pytest-pyinstall dir store"),
        (["dir", "--python", "3.12"], "pytest-pyinstall dir --cache-key --python 3.12"),
        (["list", "./x y"], "pytest-pyinstall find './x y'"),
        (["matrix", "./x"], "pytest-pyinstall matrix 3.13"),
        (["remove"], "pytest-pyinstall list"),
        (["remove", "3.12", "--all"], "pytest-pyinstall list"),
        (["cache", "burn"], "pytest-pyinstall cache --help"),
        (["mirror", "pull", "--tag", "20261122", "x", "3.12"], ""),
        (["exec", "--python", "3.12"], "pytest-pyinstall exec --python 3.12 -- COMMAND"),
        (["exec", "--python"], "pytest-pyinstall exec --python 3.13 -- COMMAND"),
        (["exec", "3.9"], "pytest-pyinstall exec --python 3.9 -- COMMAND"),
        (["exec", "3.9", "3.12", "nox"], "pytest-pyinstall exec --python 3.9 3.12 -- nox"),
        (["dir", "store", "cache"], "pytest-pyinstall dir store"),
        (["list", "--pyton", "3.9"], "pytest-pyinstall list --python 3.9"),
        (["remove", "3.9", "--python-stor=x"], "pytest-pyinstall remove 3.9 --python-store=x"),
        (["upgrade", "--python"], "pytest-pyinstall upgrade --help"),
        (["cache", "list", "--python", "3.9"], "pytest-pyinstall cache --help"),
        (["exec", "--", "nox", "-s", "a b"], "pytest-pyinstall exec --python 3.13 -- nox -s 'a b'"),
        (["exec", "3.9", "--", "nox"], "pytest-pyinstall exec --python 3.9 -- nox"),
        (["exec", "3.9", "nox", "--", "-s", "a b"], "pytest-pyinstall exec --python 3.9 -- nox -s 'a b'"),
        (["exec", "nox", "--", "-s", "x"], "pytest-pyinstall exec --python 3.13 -- nox -s x"),
        (["exec", "--python", "3.9", "3.12", "nox", "--", "-l"], "pytest-pyinstall exec --python 3.9 3.12 -- nox -l"),
        (
            ["exec", "--python", "3.9", "-v", "3.12", "--", "nox"],
            "pytest-pyinstall exec --python 3.9 -v --python 3.12 -- nox",
        ),
        (["exec", "--pythons", "3.9", "--", "nox"], "pytest-pyinstall exec --python 3.9 -- nox"),
        (["report", "junit", "--htm", "x.html"], "pytest-pyinstall report junit --html x.html"),
        (["dir", "--cache-kye", "--pyton", "3.9"], "pytest-pyinstall dir --cache-key --python 3.9"),
        (["dir", "--cache-key", "3.9"], "pytest-pyinstall dir --cache-key --python 3.9"),
        (["mirror"], "pytest-pyinstall mirror pull DIR 3.9..3.13"),
        (["mirror", "pull", "a b"], "pytest-pyinstall mirror pull 'a b' 3.9..3.13"),
        (["mirror", "pull", "3.9"], "pytest-pyinstall mirror pull DIR 3.9..3.13"),
        (["mirror", "pack"], "pytest-pyinstall mirror pack DIR 3.9 /opt/python/bin/python3.12"),
        (["mirror", "pack", "x"], "pytest-pyinstall mirror pack x 3.9 /opt/python/bin/python3.12"),
        (["mirror", "pack", "-q", "x"], "pytest-pyinstall mirror pack DIR 3.9 /opt/python/bin/python3.12"),
    ],
)
def test_usage_errors_exit_with_2_and_do_nothing(cli: Cli, store: Path, words: list[str], hint: str) -> None:
    done = cli(*words)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert f"hint: {hint}" in done.err or not hint
    assert not store.exists()


def test_exec_has_no_json(cli: Cli) -> None:
    assert "so there is no --json" in cli("exec", "--python", "3.9", "--json", "--", "nox").err


def test_the_error_for_a_misspelled_option_names_the_closest_one(cli: Cli) -> None:
    assert "unrecognized arguments: --pyhton; did you mean --python?" in cli("install", "--pyhton", "3.9").err
    assert (
        "--al --python-mirorr=x; did you mean --all, --python-mirror?" in cli("list", "--al", "--python-mirorr=x").err
    )


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--python-home=x", "; did you mean PYTEST_PYINSTALL_HOME?"),
        ("--offline", "; did you mean UV_OFFLINE?"),
        ("--python_stor=x", "; did you mean --python-store?"),
        ("--python-jobs=2", "; only pytest has --python-jobs"),
        ("--pyinstall-sutie", "; only pytest has --python-suite"),
        ("--python-nothing-like-it", ""),
    ],
)
def test_the_error_for_an_option_that_exists_elsewhere_names_it(cli: Cli, option: str, meant: str) -> None:
    assert cli("list", option).err.startswith(f"error: list: unrecognized arguments: {option}{meant}\n")


@pytest.mark.parametrize(
    ("words", "meant", "hint"),
    [
        (["instal"], "install", "install"),
        (["--python-store", "x", "instal", "3.12"], "install", "--python-store x install 3.12"),
        (["uninstall", "3.12"], "remove", "remove 3.12"),
        (["clean"], "cache prune", "cache prune"),
        (["INSTALL", "3.12"], "install", "install 3.12"),
        (["--list", "3.12"], "list", "list 3.12"),
        (["help", "instal"], "install", "help install"),
        (["exce", "--python", "3.12", "--", "nox"], "exec", "exec --python 3.12 -- nox"),
        (["run", "--python", "3.12", "nox", "-s", "tests"], "exec", "exec --python 3.12 -- nox -s tests"),
        (["run", "3.12", "--", "nox"], "exec", "exec --python 3.12 -- nox"),
    ],
)
def test_a_misspelt_command_is_corrected(cli: Cli, words: list[str], meant: str, hint: str) -> None:
    name = next(word for word in words if word not in {"--python-store", "x", "help"})
    expected = f"error: there is no command {name}; did you mean {meant}?\nhint: pytest-pyinstall {hint}\n"
    assert cli(*words).err == expected


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("cache", "clean"), "clear"), (("matrix", "--format", "line"), "lines"), (("mirror", "pul", "x", "3.9"), "pull")],
)
def test_the_error_for_an_invalid_choice_names_the_closest_one(cli: Cli, words: tuple[str, ...], meant: str) -> None:
    assert f"; did you mean {meant}?\n" in cli(*words).err


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("list", "--json=3"), "pytest-pyinstall: --json has no value", "list --json"),
        (("list", "3.12", "--all=yes"), "list: --all has no value", "list 3.12 --all"),
        (("install", "-q=1", "3.12"), "pytest-pyinstall: -q/--quiet has no value", "install -q 3.12"),
    ],
)
def test_a_value_of_an_option_without_one_is_left_out_of_the_hint(
    cli: Cli, words: tuple[str, ...], error: str, hint: str
) -> None:
    assert cli(*words).err == f"error: {error}\nhint: pytest-pyinstall {hint}\n"


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
    for option in SETTINGS:
        assert f"  {option.option} " in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_a_screen_and_shows_examples(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = cli(command, "--help")

    assert done.code == 0
    assert cli("help", command).out == done.out
    assert len(done.lines) <= 24
    assert max(map(len, done.lines)) <= 80
    assert f"\nexamples:\n  pytest-pyinstall {command}" in done.out


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("--python 3.9 3.12 nox", "--python 3.9 3.12 -- nox"),
        ("--python 3.9 3.12 nox -s tests", "--python 3.9 3.12 -- nox -s tests"),
        ("--python=3.9,3.12 make test", "--python=3.9,3.12 -- make test"),
        ("--python 3.9 python3.9 --version", "--python 3.9 -- python3.9 --version"),
        ("--python 3.9 pypy3.11 nox", "--python 3.9 pypy3.11 -- nox"),
        ("--python 3.9 -v --python-store /s nox", "--python 3.9 -v --python-store /s -- nox"),
        ("python3.9 --version", "--python 3.13 -- python3.9 --version"),
        ("nox", "--python 3.13 -- nox"),
        ("--python 3.9", "--python 3.9 -- COMMAND"),
        ("--python 3.9 3.13", "--python 3.9 3.13 -- COMMAND"),
        ("", "--python 3.13 -- COMMAND"),
        ("--python 3.9 --", "--python 3.9 -- COMMAND"),
    ],
)
def test_exec_without_dashes_suggests_the_correct_command(
    typed: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exec", *typed.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: exec: no command given; put it after --\nhint: pytest-pyinstall exec {hint}\n"


@pytest.mark.parametrize("words", [("exec", "--help"), ("exec", "-h"), ("--version",), ("list", "--version")])
def test_help_and_version_work_with_and_without_a_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out
