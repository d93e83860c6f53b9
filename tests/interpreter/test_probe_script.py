"""What a Python says about itself: the script runs in each Python of this machine."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from archives import OLDEST, interpreters
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyinstall.interpreter import _probe_script
from pytest_pyinstall.interpreter._probe_script import encode

SCRIPT = Path(_probe_script.__file__).read_text(encoding="utf-8")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)


def answer(executable: Path, *, env: dict[str, str] | None = None) -> dict[str, object]:
    done = subprocess.run(
        [executable, "-c", SCRIPT, "<<<", ">>>"], capture_output=True, check=True, env=env or dict(os.environ)
    )
    assert done.stderr == b""
    before, _, rest = done.stdout.decode("ascii").partition("<<<")
    text, _, after = rest.partition(">>>")
    assert before.strip() == after.strip() == ""
    document: dict[str, object] = json.loads(text)
    return document


@pytest.mark.parametrize("minor", interpreters())
def test_each_python_says_who_it_is(minor: str) -> None:
    executable = interpreters()[minor]
    said = answer(executable)

    code = "import sys; print(list(sys.version_info), sys.prefix, sys.platform, sep='|')"
    truth = subprocess.run([executable, "-c", code], capture_output=True, check=True, text=True).stdout
    numbers, prefix, system = truth.strip().split("|")
    assert str(said["version_info"]) == numbers
    assert (said["prefix"], said["base_prefix"], said["system"]) == (prefix, prefix, system)
    assert (said["implementation"], said["free_threaded"], said["debug"]) == ("cpython", False, False)
    assert said["pypy_version_info"] == []


def test_standard_output_of_another_encoding_changes_nothing() -> None:
    executable = interpreters()[OLDEST]
    assert answer(executable, env={**os.environ, "PYTHONIOENCODING": "utf-16"}) == answer(executable)


@pytest.mark.parametrize("minor", interpreters())
def test_an_environment_names_the_python_that_it_was_made_from(minor: str, tmp_path: Path) -> None:
    executable = interpreters()[minor]
    subprocess.run([executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)

    said = answer(tmp_path / "env" / "bin" / "python")

    assert said["prefix"] == str(tmp_path / "env")
    base = Path(str(said["base_executable"]))
    assert not base.is_relative_to(tmp_path)
    assert base.resolve() == executable.resolve()


def test_an_environment_whose_configuration_names_no_home_falls_back_to_its_link(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    said = answer(tmp_path / "env" / "bin" / "python")
    assert Path(str(said["base_executable"])).resolve() == Path(sys.executable).resolve()


@given(json_values)
def test_what_is_encoded_is_json_in_ascii(value: object) -> None:
    text = encode(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_undecodable_bytes_of_a_path_survive() -> None:
    path = os.fsdecode(b"/caf\xe9/python")
    assert os.fsencode(json.loads(encode(path))) == b"/caf\xe9/python"
