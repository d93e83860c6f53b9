"""Interpreters run programs, survive serialization, and make environments."""

# The function looks like one of a user, so mypy does not check it:
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-globals

import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from probed_pythons import OTHERS, probed
from wheels import wheel

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter.interpreter import Environment, Interpreter, RunError
from pytest_pyinstall.interpreter.probe import probe


# Another Python runs it.
def version():
    import sys

    return sys.version_info[:2]


def test_run_returns_the_output_and_the_exit_code(python: Interpreter) -> None:
    script = "import sys; print(sys.stdin.read() + sys.argv[1]); sys.stderr.write('talk'); sys.exit(3)"

    done = python.run("-c", script, Path("ü"), input="read ", check=False)

    assert (done.returncode, done.stdout, done.stderr) == (3, "read ü\n", "talk")


def test_run_escapes_undecodable_bytes(python: Interpreter) -> None:
    assert python.run("-c", r"import os; os.write(1, b'\xff\xc3\xbc')").stdout == "\\xffü"


def test_run_without_input_has_an_empty_standard_input(python: Interpreter) -> None:
    assert python.run("-c", "import sys; print(len(sys.stdin.read()))").stdout == "0\n"


def test_the_error_of_a_failed_run_contains_its_output(python: Interpreter) -> None:
    script = f"print('out'); raise ValueError('why it failed')  # {'x' * 500}"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        python.run("-c", script)

    text = str(caught.value)
    assert isinstance(caught.value, RunError)
    # pytest's summary shows it, and 80 columns leave room for little else.
    assert f"{RunError.__module__}.{RunError.__qualname__}" == "pytest_pyinstall.RunError"
    assert "ended with exit code 1\n--- standard output ---\nout\n--- standard error ---\nTraceback" in text
    assert text.endswith("ValueError: why it failed")
    assert "x" * 400 not in text.partition("\n")[0]
    assert str(pickle.loads(pickle.dumps(caught.value))) == text  # pickled by us


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_the_error_of_a_run_ended_by_a_signal_names_the_signal(python: Interpreter) -> None:
    with pytest.raises(RunError, match="was ended by SIGKILL"):
        python.run("-c", "import os; os.kill(os.getpid(), 9)")
    assert "signal 99" in str(RunError(-99, ["x"], None, None))


def test_a_run_has_a_time_limit(python: Interpreter) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        python.run("-c", "import time; time.sleep(600)", timeout=0.5)


def test_run_accepts_a_directory_and_variables(python: Interpreter, tmp_path: Path) -> None:
    script = "import os; print(os.getcwd()); print(os.environ.get('A'), 'HOME' in os.environ)"

    done = python.run("-c", script, cwd=tmp_path, env={"A": "b", "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")})

    assert done.stdout.splitlines() == [os.path.realpath(tmp_path), "b False"]


@pytest.mark.parametrize("minor", OTHERS)
def test_p14_poisoned_variables_do_not_redirect_run_and_call(
    minor: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PYTHONPATH of the user still applies."""
    names = ("PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "PYTHONPLATLIBDIR", "VIRTUAL_ENV")
    for name in (*names, "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "_PYTHON_SYSCONFIGDATA_NAME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "demo.py").touch()

    script = "import demo, sys, sysconfig; sysconfig.get_config_vars(); print(sys.prefix)"

    assert probed(minor).run("-c", script).stdout.strip() == str(probed(minor).prefix)
    assert probed(minor).call(version) == list(probed(minor).version_info[:2])


def test_an_interpreter_survives_json_and_pickle(python: Interpreter) -> None:
    assert Interpreter.from_json(json.loads(json.dumps(python.to_json()))) == python
    assert pickle.loads(pickle.dumps(python)) == python  # pickled by us
    assert all(isinstance(value, str) for value in python.to_json().values())


def test_an_interpreter_has_a_readable_string(python: Interpreter) -> None:
    assert str(python) == f"{python.version} ({python.executable})"
    assert os.fspath(python) == str(python.executable)
    assert (python.implementation, python.free_threaded, python.debug) == ("cpython", False, False)


@pytest.fixture
def env(python: Interpreter, tmp_path: Path) -> Environment:
    return python.environment(tmp_path / "env")


@pytest.mark.parametrize("minor", OTHERS)
def test_an_environment_has_its_own_interpreter(minor: str, tmp_path: Path) -> None:
    env = probed(minor).environment(tmp_path / "env")

    assert env.python == probe(env.python.executable, source="environment", environ=os.environ)
    assert env.python.call(version) == probed(minor).call(version)
    assert os.fspath(env) == str(tmp_path / "env")


def test_an_environment_of_an_environment_has_the_same_base(env: Environment, tmp_path: Path) -> None:
    second = env.python.environment(tmp_path / "second")

    assert probe(second.python.executable, source="environment", environ=os.environ) == second.python
    assert second.python.base_executable == env.python.base_executable


def test_programs_run_as_in_an_activated_environment(env: Environment) -> None:
    script = "import os, shutil, sys; print(os.environ['VIRTUAL_ENV'], sys.prefix, shutil.which('python'))"

    for words in (("python", "-c", script), ("-c", script)):
        assert env.run(*words).stdout.split() == [str(env.path), str(env.path), str(env.python.executable)]


def test_a_program_outside_the_environment_is_found_on_path(
    env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outside = tmp_path / ("outside.bat" if os.name == "nt" else "outside")
    outside.write_text("#!/bin/sh\ncommand -v python\n")
    outside.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert env.run("outside").stdout.strip() == str(env.python.executable)


def test_a_missing_program_is_an_error_with_a_hint(env: Environment) -> None:
    with pytest.raises(EnvironmentCreationError, match="there is no program 'no-such-program'") as caught:
        env.run("no-such-program")

    assert caught.value.hint == 'python_env.install("no-such-program")'


def test_variables_that_are_passed_are_used_unchanged(env: Environment) -> None:
    done = env.run("-c", "import os; print(os.environ.get('VIRTUAL_ENV'))", env={"PATH": "", "SYSTEMROOT": ""})

    assert done.stdout == "None\n"


def test_install_accepts_a_path(env: Environment, tmp_path: Path) -> None:
    env.install(wheel(tmp_path))

    assert env.run("demo_thing").stdout == "it runs\n"
