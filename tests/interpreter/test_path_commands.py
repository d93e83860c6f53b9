"""A command such as ``python3.13`` on PATH starts its interpreter, with any characters in its path."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.path_commands import links, names
from pytest_pyinstall.request.identity import Key, Target

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def _interpreter(executable: Path, key: str | None = None) -> Interpreter:
    text = key or f"cpython-{VERSION}.0-{Target.current()}"
    return Interpreter(
        executable=executable,
        key=Key.parse(text),
        version_info=(3, 0, 0, "final", 0),
        prefix=executable.parent,
        base_prefix=executable.parent,
        base_executable=executable,
        source="path",
    )


def _evaluate(command: Path, expression: str) -> str:
    script = f"import sys; print({expression})"
    return subprocess.run([command, "-c", script], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cpython-3.13.1-linux-x86_64-gnu", "python3.13"),
        ("cpython-3.13.1+freethreaded-linux-x86_64-gnu", "python3.13t"),
        ("cpython-3.13.1+freethreaded+debug-linux-x86_64-gnu", "python3.13td"),
        ("pypy-3.11.13-linux-x86_64-gnu", "pypy3.11"),
        ("graalpy-3.12.0-linux-x86_64-gnu", "graalpy3.12"),
    ],
)
def test_command_names_have_a_version(key: str, name: str) -> None:
    assert names(Key.parse(key)) == (name,)


def test_a_command_starts_the_interpreter_under_its_own_name(tmp_path: Path) -> None:
    [command] = links([_interpreter(Path(sys.executable))], tmp_path / "bin")

    assert command.stem == f"python{VERSION}" or command.name == f"python{VERSION}"
    assert _evaluate(command, "sys.executable") == sys.executable
    assert _evaluate(command, "sys.prefix") == sys.prefix


def test_a_command_of_an_environment_runs_in_that_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=sys.platform != "win32")
    python = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    [command] = links([_interpreter(python)], tmp_path / "bin")

    assert Path(_evaluate(command, "sys.prefix")) == tmp_path / "env"


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not allow")
def test_a_path_can_have_characters_that_are_special_in_a_shell(tmp_path: Path) -> None:
    place = tmp_path / 'it\'s $HOME "and" `ö`\n; more'
    place.mkdir()
    (place / "python").symlink_to(sys.executable)

    [command] = links([_interpreter(place / "python")], tmp_path / "bin")

    assert _evaluate(command, "'a  b'") == "a  b"


def test_the_first_interpreter_gets_a_name_that_several_have(tmp_path: Path) -> None:
    here, there = _interpreter(Path(sys.executable)), _interpreter(tmp_path / "nothing")

    [command] = links([here, there], tmp_path / "bin")

    assert _evaluate(command, "1") == "1"
    assert list((tmp_path / "bin").iterdir()) == [command]


def test_an_existing_command_is_replaced(tmp_path: Path) -> None:
    links([_interpreter(tmp_path / "nothing")], tmp_path)

    [command] = links([_interpreter(Path(sys.executable))], tmp_path)

    assert _evaluate(command, "1") == "1"


def test_a_directory_that_cannot_be_created_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="file"):
        links([_interpreter(Path(sys.executable))], tmp_path / "file" / "bin")
