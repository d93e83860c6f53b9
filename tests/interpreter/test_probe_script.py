"""The probe script runs in each Python of this machine and prints correct JSON."""

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


def report_of(executable: Path, *, env: dict[str, str] | None = None) -> dict[str, object]:
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
def test_each_python_reports_its_version_and_prefix(minor: str) -> None:
    executable = interpreters()[minor]
    report = report_of(executable)

    code = "import sys; print(list(sys.version_info), sys.prefix, sys.platform, sep='|')"
    expected = subprocess.run([executable, "-c", code], capture_output=True, check=True, text=True).stdout
    numbers, prefix, system = expected.strip().split("|")
    assert str(report["version_info"]) == numbers
    assert (report["prefix"], report["base_prefix"], report["system"]) == (prefix, prefix, system)
    assert (report["implementation"], report["free_threaded"], report["debug"]) == ("cpython", False, False)
    assert report["pypy_version_info"] == []


def test_the_encoding_of_standard_output_does_not_matter() -> None:
    executable = interpreters()[OLDEST]
    assert report_of(executable, env={**os.environ, "PYTHONIOENCODING": "utf-16"}) == report_of(executable)


@pytest.mark.parametrize("minor", interpreters())
def test_an_environment_reports_its_base(minor: str, tmp_path: Path) -> None:
    executable = interpreters()[minor]
    subprocess.run([executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)

    report = report_of(tmp_path / "env" / "bin" / "python")

    assert report["prefix"] == str(tmp_path / "env")
    base = Path(str(report["base_executable"]))
    assert not base.is_relative_to(tmp_path)
    assert base.resolve() == executable.resolve()


def test_an_environment_without_a_home_in_its_configuration_reports_the_target_of_its_link(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    report = report_of(tmp_path / "env" / "bin" / "python")
    assert Path(str(report["base_executable"])).resolve() == Path(sys.executable).resolve()


@given(json_values)
def test_values_are_encoded_as_ascii_json(value: object) -> None:
    text = encode(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_undecodable_bytes_of_a_path_are_kept() -> None:
    path = os.fsdecode(b"/caf\xe9/python")
    assert os.fsencode(json.loads(encode(path))) == b"/caf\xe9/python"
