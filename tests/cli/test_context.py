"""Commands take requests and settings from the project, and correct wrong ones."""

from pathlib import Path

import pytest
from command_line import Cli, key

from pytest_pyinstall.cli.main import main


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest]\npyinstall_python = ['{}']\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\npyinstall_python = '{}'\n"),
        ("pytest.ini", "[pytest]\naddopts = -ra --python {}\n"),
        ("tox.ini", "[tox]\nenv_list = py\n[pytest]\npyinstall_python =\n    {}\n    current\n"),
    ],
)
def test_install_without_a_request_installs_what_the_project_configures(
    cli: Cli, project: Path, versions: dict[str, str], minor: str, name: str, text: str
) -> None:
    (project / name).write_text(text.format(minor))

    done = cli("install")

    assert (done.code, len(done.lines)) == (0, 1)
    assert key(versions[minor]) in done.out


def test_the_variable_takes_precedence_over_the_ini_value(
    cli: Cli, project: Path, minor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pytest.ini").write_text("[pytest]\npyinstall_python = 3.99\n")
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", minor)

    assert cli("install").code == 0


def test_install_with_nothing_configured_is_a_usage_error(cli: Cli) -> None:
    done = cli("install")

    assert (done.code, done.out) == (2, "")
    assert "hint: pytest-pyinstall install 3.13" in done.err


def test_requests_in_a_file_that_pytest_does_not_read_are_named(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.pytest]\npyinstall_python = ['3.9', '3.12']\n")
    (project / "pytest.ini").touch()

    done = cli("install")

    why = f"pytest reads {project / 'pytest.ini'}, and not {project / 'pyproject.toml'}, which has pyinstall_python"
    lines = [f"error: install: no request given; {why}", "hint: pytest-pyinstall install 3.9 3.12"]
    assert (done.code, done.err.splitlines()) == (2, lines)


def test_a_number_in_toml_is_a_usage_error_that_names_the_file(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.pytest]\npyinstall_python = [3.10]\n")

    done = cli("install")

    assert done.code == 2
    assert str(project / "pyproject.toml") in done.err
    assert '"3.10"' in done.err


@pytest.mark.parametrize("command", ["install", "find", "verify", "upgrade", "matrix", "exec", "dir --cache-key"])
def test_a_hint_for_an_invalid_request_names_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The fixture `every_hint_can_be_typed` also passes each hint to the parser."""
    words = ["--python", "3,,9"] if command[0] in "ed" else ["3,,9"]
    assert main([*command.split(), *words, *(["--", "true"] if command == "exec" else [])]) == 2
    assert f"hint: pytest-pyinstall {command}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["install", "verify", "exec -- true", "dir --cache-key", "mirror pull DIR 3,,9"])
def test_a_hint_for_a_missing_request_can_be_typed(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    main(command.split())
    capsys.readouterr()
