"""P18, P24: the PyPy and the debug build of Debian, which ``.ci/run`` installs, work like other Pythons."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_pyinstall import provision
from pytest_pyinstall.cli.mirror import pack
from pytest_pyinstall.interpreter._system_python import relocated
from pytest_pyinstall.interpreter.discover import discover
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.settings import Settings

PYTHONS = {
    "pypy": "/usr/bin/pypy3" if Path("/usr/bin/pypy3").exists() else "",
    "debug": next((str(path) for path in sorted(Path("/usr/bin").glob("python3.*-dbg"))), ""),
}

pytestmark = pytest.mark.skipif(not all(PYTHONS.values()), reason="needs Debian's pypy3, pypy3-venv and python3-dbg")


def found(kind: str, tmp_path: Path) -> Interpreter:
    request = "pypy" if kind == "pypy" else _debug_request()
    (interpreter, *_) = discover(
        Request.parse(request), environ={"PATH": "/usr/bin"}, home=tmp_path, target=Target.current()
    )
    return interpreter


def _debug_request() -> str:
    return Path(PYTHONS["debug"]).name.removeprefix("python").replace("-dbg", "d")


@pytest.mark.parametrize("kind", PYTHONS)
def test_each_is_found_on_path(kind: str, tmp_path: Path) -> None:
    interpreter = found(kind, tmp_path)
    assert interpreter.executable.resolve() == Path(PYTHONS[kind]).resolve()
    assert (interpreter.implementation, interpreter.debug) == (("pypy", False) if kind == "pypy" else ("cpython", True))


@pytest.mark.parametrize("name", ["python3.11-dbg", "python3.11d", "python3-dbg"])
def test_each_command_name_of_a_debug_build_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(PYTHONS["debug"])
    environ = {"PATH": str(tmp_path / "bin")}
    interpreters = list(
        discover(Request.parse(_debug_request()), environ=environ, home=tmp_path, target=Target.current())
    )
    assert [interpreter.debug for interpreter in interpreters] == [True]


def _implementation(answer: int) -> list[object]:
    import sys

    return [answer, sys.implementation.name, hasattr(sys, "gettotalrefcount")]


@pytest.mark.parametrize("kind", PYTHONS)
def test_each_runs_calls_and_environments(kind: str, tmp_path: Path) -> None:
    interpreter = found(kind, tmp_path)
    assert interpreter.call(_implementation, 42) == [42, interpreter.implementation, interpreter.debug]

    environment = interpreter.environment(tmp_path / "environment")
    script = (
        "import sys; print(sys.prefix != sys.base_prefix, sys.implementation.name, hasattr(sys, 'gettotalrefcount'))"
    )
    said = environment.run("-c", script).stdout.split()
    assert said == ["True", interpreter.implementation, str(interpreter.debug)]


def test_each_runs_fixtures_and_suites(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]))
    pytester.makepyfile(
        test_fixture="""
        def test_python(python, python_env):
            assert python.implementation == "pypy" or python.debug
            assert python_env.run("-c", "print(1)").stdout == "1\\n"
        """,
        test_suite="""
        import sys

        def test_this():
            assert sys.implementation.name == "pypy" or hasattr(sys, "gettotalrefcount")
        """,
    )
    pytester.makepyprojecttoml('[project]\nname = "demo"\nversion = "1"\n')
    options = ("--python", "pypy", "--python", _debug_request(), "-p", "no:cacheprovider")
    done = pytester.runpytest_subprocess(*options, "test_fixture.py")
    done.assert_outcomes(passed=2)
    done = pytester.runpytest_subprocess(
        *options, "--python-suite", "test_suite.py", "-o", "pyinstall_suite_install=iniconfig"
    )
    done.stdout.fnmatch_lines(["*2 passed*"])


HIDING = """
for place in /usr/lib/python3.11 /usr/lib/pypy3.9 /usr/share/python-wheels; do
  ! [ -d $place ] || mount -t tmpfs none $place
done
for place in /usr/bin/pypy3.9 /usr/bin/python3.11d /usr/bin/python3.11 /usr/lib/*/libpypy3.9-c.so; do
  ! [ -f $place ] || mount --bind /dev/null $place
done
exec "$0" "$@"
"""


def output_elsewhere(*words: str) -> str:
    """The output of a command on a machine without these Pythons, or on this one without permission to hide them."""
    hidden = ["unshare", "--mount", "/bin/sh", "-euc", HIDING]
    may_hide = subprocess.run([*hidden, "/bin/true"], check=False, capture_output=True).returncode == 0
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(
        [*(hidden if may_hide else ()), *words], check=False, capture_output=True, text=True, env=environ
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", [*PYTHONS, "release"])
def test_each_can_be_packed_and_runs_from_another_path(kind: str, tmp_path: Path) -> None:
    executable = Path(PYTHONS.get(kind, "/usr/bin/python3"))
    (packed,) = pack(tmp_path / "mirror", [executable], tag="20261122", environ=os.environ)
    original = probe(executable, environ=os.environ)
    assert packed.build.key == original.key

    settings = Settings(
        store=tmp_path / "store",
        cache=tmp_path / "cache",
        mirror=str(tmp_path / "mirror"),
        catalogue=str(tmp_path / "mirror" / "catalogue.json"),
        preference="only-managed",
    )
    python = provision(original.key.display_name, settings)
    assert python.key == original.key
    script = "import ssl, sqlite3, sys, sysconfig; print(sys.prefix, sysconfig.get_paths()['include'], sys.path)"
    prefix, include, *path = output_elsewhere(str(python.executable), "-I", "-c", script).split()
    assert Path(prefix) == python.prefix
    assert Path(include).is_relative_to(python.prefix)
    assert "/usr" not in " ".join(path)
    output_elsewhere(str(python.executable), "-m", "venv", str(tmp_path / "venv"))
    assert str(tmp_path) in output_elsewhere(str(tmp_path / "venv" / "bin" / "python"), "-m", "pip", "--version")

    assert python.call(_implementation, 1) == [1, original.implementation, original.debug]
    environment = python.environment(tmp_path / "environment")
    assert output_elsewhere(str(environment.python.executable), "-c", "print(7)") == "7\n"


def test_one_call_packs_all_three(tmp_path: Path) -> None:
    packed = pack(
        tmp_path, [Path("/usr/bin/python3"), *map(Path, PYTHONS.values())], tag="20261122", environ=os.environ
    )
    assert len({each.path for each in packed}) == 3


def test_paths_of_tools_of_the_machine_are_not_replaced() -> None:
    text = b"""
 'BINDIR': '/usr/bin', 'INSTALL': '/usr/bin/install -c', 'prefix': '/usr', 'TZPATH': '/usr/share/zoneinfo',
 'BINLIBDEST': '/usr/lib/x86_64-linux-gnu/python3.11', 'INCLUDEPY': '/usr/include/python3.11d',
 'DESTLIB': '/usr/lib/python3.11', 'WHEEL_PKG_DIR': '/usr/share/python-wheels/',
 'X': '/usr/lib/python3.12',
exec_prefix=/usr
"""
    expected = b"""
 'BINDIR': '/install/bin', 'INSTALL': '/usr/bin/install -c', 'prefix': '/install', 'TZPATH': '/usr/share/zoneinfo',
 'BINLIBDEST': '/install/lib/python3.11', 'INCLUDEPY': '/install/include/python3.11d',
 'DESTLIB': '/install/lib/python3.11', 'WHEEL_PKG_DIR': '/install/lib/python3.11/ensurepip/_bundled/',
 'X': '/usr/lib/python3.12',
exec_prefix=/install
"""
    assert relocated(text, "lib/python3.11") == expected
