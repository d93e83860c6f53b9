"""What hints say can be typed; `tests/conftest.py` asks this of each error that any test provokes."""

import hints
import pytest

from pytest_pyinstall.cli.main import main


@pytest.mark.parametrize(
    "hint",
    [
        "pytest-pyinstall dir 3.13",
        "pytest-pyinstall instal 3.13",
        "pytest-pyinstall list --al",
        "pytest-pyinstall exec --python 3.13 nox",
        "try again: pytest-pyinstall upgrade --kep",
        "--python-missing never",
        "--pyton 3.13; or --python-stroe DIR",
        "use --python-store",
        "PYTEST_PYINSTALL_MIROR=URL",
        'pyinstall_pythons = ["3.13"]',
        "pytest --python-missing",
    ],
)
def test_a_hint_that_cannot_be_typed_is_noticed(hint: str) -> None:
    assert hints.trouble_with(hint)


@pytest.mark.parametrize(
    "hint",
    [
        "",
        "3.12",
        "pytest-pyinstall verify --repair 3.13.0",
        "pytest-pyinstall list --all  # is the catalogue right about it?",
        "another directory: --python-store DIR, or PYTEST_PYINSTALL_STORE=DIR",
        "--python-missing skip",
        'pyinstall_python = ["3.9..3.13"]',
        '@pytest.mark.python("3.12", "pypy3.11")',
        "python -m pip install 'pytest-pyinstall[attest]'",
    ],
)
def test_a_hint_that_can_be_typed_is_fine(hint: str) -> None:
    assert hints.trouble_with(hint) == ""


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
        ("", "--python 3.13 -- COMMAND"),
        ("--python 3.9 --", "--python 3.9 -- COMMAND"),
    ],
)
def test_exec_without_dashes_says_what_was_meant(typed: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", *typed.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: exec: no command given; put it after --\nhint: pytest-pyinstall exec {hint}\n"


@pytest.mark.parametrize("words", [("exec", "--help"), ("exec", "-h"), ("--version",), ("list", "--version")])
def test_help_and_version_are_still_ours(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["install", "find", "verify", "upgrade", "matrix", "exec", "dir --cache-key"])
def test_what_is_no_request_is_corrected_with_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the hint of each goes through the parser, as every hint does."""
    words = ["--python", "3,,9"] if command[0] in "ed" else ["3,,9"]
    assert main([*command.split(), *words, *(["--", "true"] if command == "exec" else [])]) == 2
    assert f"hint: pytest-pyinstall {command}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["install", "verify", "exec -- true", "dir --cache-key", "mirror pull DIR 3,,9"])
def test_what_lacks_a_request_says_how_to_write_one(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    main(command.split())
    capsys.readouterr()


def test_install_takes_python_as_exec_does(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["3.77"], ["--python", "3.77"], ["--python=3.77"], ["3.77", "--python", "3.77"]):
        assert main(["install", *words]) == 3
        assert "no build of Python 3.77" in capsys.readouterr().err
